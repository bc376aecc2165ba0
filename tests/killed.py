"""What a killed training leaves, and whether going on from it comes to the same: no process has to die for it."""

import os
import shutil

import torch


class Killed:
    """The files of a training as a kill at the beginning of an epoch would leave them.

    Parameters
    ----------
    monkeypatch : pytest.MonkeyPatch
    out : pathlib.Path
        The training's folder.
    epoch : int
        From 0; of trainings in a row, of the last.
    """

    def __init__(self, monkeypatch, out, epoch=1):
        from stylematch.vision.learner import Learner

        self.out, self.left = out, out.with_name("left")
        monkeypatch.setattr("os.fsync", lambda _: None)  # no power fails here, and checkpoints are large
        step = Learner.training_step

        def watched(learner, batch, number):
            if learner.current_epoch == epoch and number == 0 and self.watching:
                learner.trainer.strategy.checkpoint_io.teardown()  # a large one is written beside the epoch
                shutil.rmtree(self.left, ignore_errors=True)
                shutil.copytree(out, self.left, copy_function=os.link)  # a checkpoint is replaced, never rewritten
            return step(learner, batch, number)

        self.watching = True
        monkeypatch.setattr(Learner, "training_step", watched)

    def put_back(self):
        """Put the files back where the training finds them; return where those of the whole training lie now."""
        self.watching = False
        whole = self.out.rename(self.out.with_name("whole"))
        self.left.rename(self.out)
        return whole


def assert_same_checkpoints(one, other):
    """Assert that two folders have the same checkpoints: weights, averages, optimisers, rates, what was best."""
    names = sorted(path.relative_to(one) for path in one.rglob("*.ckpt"))
    assert names
    assert names == sorted(path.relative_to(other) for path in other.rglob("*.ckpt"))
    for name in names:
        left, right = (torch.load(folder / name, weights_only=True) for folder in (one, other))
        assert left["epoch"] == right["epoch"], name
        for part in ("state_dict", "current_model_state", "optimizer_states", "lr_schedulers", "callbacks"):
            _assert_same(left.get(part), right.get(part), f"{name}: {part}")


def _assert_same(left, right, where):
    if isinstance(left, torch.Tensor):
        assert torch.equal(left, right), where
    elif isinstance(left, dict):
        assert left.keys() == right.keys(), where
        for key in left.keys() - {"current_score"}:  # of the epoch before, for a message only, and not read back
            _assert_same(left[key], right[key], f"{where}: {key}")
    elif isinstance(left, list | tuple):
        assert len(left) == len(right), where
        for place, (one, other) in enumerate(zip(left, right, strict=True)):
            _assert_same(one, other, f"{where}: {place}")
    else:
        assert left == right, where

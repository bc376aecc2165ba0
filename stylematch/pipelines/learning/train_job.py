"""A training's job before it trains: read, and its packages, networks and data looked at.

What can be known to be wrong is told here, before a picture is cut or a step is done.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from stylematch.errors import MissingExtraError, UserError
from stylematch.pipelines.learning.source import Source
from stylematch.pipelines.learning.sources import open_source
from stylematch.pipelines.learning.starting import check_networks, started_schema
from stylematch.pipelines.learning.training_groups import learnable
from stylematch.settings.load import load_job
from stylematch.settings.train import TrainJob
from stylematch.tables.cores import usable_cores
from stylematch.tables.disk import check_writable, explained
from stylematch.tables.lock import held
from stylematch.tables.shown import is_url, shown

LOCK = "lock"
TRAIN_PACKAGES = ("lightning", "onnx", "onnxscript", "torch", "torchmetrics", "torchvision")
"""What every training imports of the train extra; the rest of it draws plots and writes logs that a job may ask for."""


def read_train_job(
    job_file: Path,
    overrides: Sequence[str] = (),
    *,
    smoke: bool = False,
    celeba: Path | None = None,
    fashion_mnist: Path | None = None,
) -> TrainJob:
    """Read a job and what the command line changes in it.

    Parameters
    ----------
    job_file : pathlib.Path
        A TOML file, see ``stylematch.settings.train.TrainJob``.
    overrides : sequence of str
        ``key=value`` each.
    smoke : bool
        A try of a few steps instead of the training.
    celeba, fashion_mnist : pathlib.Path, optional
        The folder of the job's data set, in place of its ``data.root``.

    Raises
    ------
    UserError
        If something in it is wrong.
    """
    job = load_job(job_file, TrainJob, overrides)
    roots = {"celeba": celeba, "fashion-mnist": fashion_mnist}
    root = roots.pop(job.data.dataset, None)
    if any(other is not None for other in roots.values()):
        raise UserError(
            f"{shown(job_file)} learns from {job.data.dataset}; give that data set's folder, not another's."
        )
    if root is not None:
        job = job.model_copy(update={"data": job.data.model_copy(update={"root": str(root)})})
    return _tried(job) if smoke else job


def _tried(job: TrainJob) -> TrainJob:
    """Return the try of a job, on pictures of its own size where its backbone takes no smaller ones."""
    tried = job.smoke()
    if tried.model.input_px == job.model.input_px or any(importlib.util.find_spec(p) is None for p in TRAIN_PACKAGES):
        return tried
    try:
        check_networks(tried)
    except UserError:
        return tried.model_copy(update={"model": tried.model.model_copy(update={"input_px": job.model.input_px})})
    return tried


def begins_anew(job: TrainJob) -> bool:
    """Return whether a try begins anew: where one has ended, or another try's checkpoints lie."""
    try:
        begun_checkpoints(job)
    except UserError:
        return True
    return (Path(job.out) / "bundle").is_dir()


def begin_anew(job: TrainJob) -> None:
    """Remove the checkpoints that a try does not go on from: it is there to do its steps."""
    if begins_anew(job):
        for folder in {Path(job.out), *step_folders(job)}:
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def check_train_extra() -> None:
    """Refuse to train where a package that training imports is absent, before data are read or a line is printed.

    A look-up, not an import, which takes seconds; and of each package, for the gpu extra brings some of them.

    Raises
    ------
    MissingExtraError
        If one is absent.
    """
    if any(importlib.util.find_spec(package) is None for package in TRAIN_PACKAGES):
        raise MissingExtraError("Training a model", "train")


def check_devices(wanted: int) -> None:
    """Refuse to share a training among more GPUs than there are; without any, processes on the CPU share it.

    Raises
    ------
    UserError
        If there are fewer, but some.
    """
    import torch

    found = torch.cuda.device_count()
    if 0 < found < wanted:
        raise UserError(
            f"schedule.devices = {wanted}, and GPUs here: {found}; lower it, or hide them (CUDA_VISIBLE_DEVICES=) to "
            "train on the CPU."
        )
    if not found and wanted > max(2, usable_cores()):
        raise UserError(
            f"schedule.devices = {wanted}, and cores here: {usable_cores()}, of which each takes one; lower it."
        )


def cache_of(job: TrainJob) -> Path:
    """Return the folder of the pictures that were cut for trainings whose outs lie side by side."""
    return Path(job.out).parent / "cache"


def step_folders(job: TrainJob) -> list[Path]:
    """Return the folder of each training of a job, of its checkpoints and its log."""
    out, count = Path(job.out), len(job.in_steps())
    return [out] if count == 1 else [out / f"step-{number}" for number in range(1, count + 1)]


@contextmanager
def alone_in(out: Path) -> Iterator[None]:
    """Keep other trainings out of a training's folder while the block lasts: each would store the other's best epoch.

    Raises
    ------
    UserError
        Another one is under way there.
    StylematchError
        The folder cannot be written.
    """
    from lightning.pytorch.utilities import rank_zero_only

    if getattr(rank_zero_only, "rank", 0) != 0:  # it shares the training of the process that keeps the others out
        yield
        return
    with explained("write", out):
        out.mkdir(parents=True, exist_ok=True)
    with held(out / LOCK, f"another training into {shown(out)} is under way: wait for it, stop it or name another out"):
        yield


def begun_checkpoints(job: TrainJob) -> list[Path | None]:
    """Return the checkpoint that each training of a job would go on from; None where it begins.

    Raises
    ------
    UserError
        If one is of another job.
    """
    from stylematch.vision.begun import begun_checkpoint

    return [begun_checkpoint(step, folder) for step, folder in zip(job.in_steps(), step_folders(job), strict=True)]


def open_job(job: TrainJob, *, anew: bool = False) -> Source:
    """Open a job's data set, after looking at what it starts from and listens to: cutting pictures can take long.

    Parameters
    ----------
    job : TrainJob
        The job.
    anew : bool
        It will not go on from any checkpoint in its ``out``.

    Raises
    ------
    UserError
        If the backbone, its weights, a bundle or the data set are missing or do not fit, nothing can be learned of
        the data, or ``out`` is a URL.
    """
    if is_url(job.out):
        raise UserError(f"out: {shown(job.out)} is a URL: a training writes into a folder of this machine; name one.")
    out = Path(job.out)
    if out.exists() and not out.is_dir():
        raise UserError(f"out: {shown(out)} is a file: name the folder of the training.")
    try:
        check_writable(out)
    except UserError as error:
        raise UserError(f"out: {error}") from error
    check_networks(job)
    if not anew:
        begun_checkpoints(job)
    source = open_source(job.data, job.model.input_px, cache_of(job), margin=job.augment.moves)
    if not source.pictures or not len(source.val):
        which = "celeba/list_eval_partition.txt has to be there and say which are learned from (0) and watched (1)"
        advice = which if job.data.dataset == "celeba" else "add pictures, or raise data.limit or data.validation"
        lost = "".join(f"; {shown(name)}: {n:,}" for name, n in source.notes.items() if n and isinstance(n, int))
        raise UserError(
            f"data: {source.pictures:,} pictures to learn from and {len(source.val):,} to watch, and there has to be "
            f"one of each at least{lost}; {advice}."
        )
    started = started_schema(job)
    return learnable(source, started.groups if started else (), of_all=job.data.limit is None)

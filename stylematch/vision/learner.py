"""What Lightning needs to know of a training: the step, the validation, the optimiser.

Every augmentation depends on (seed, step) alone, so a run that was killed and started again ends with the weights of
one that was not. A loss that is not finite stops the training and says where.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import Metric
from torchmetrics.classification import (
    BinaryAccuracy,
    BinaryF1Score,
    MulticlassAccuracy,
    MulticlassF1Score,
    MultilabelAccuracy,
    MultilabelF1Score,
)

from stylematch.data.labels import LabelSchema
from stylematch.settings.train import TrainJob
from stylematch.vision.array_files import check_kept
from stylematch.vision.augment import augment_batch, mix_batch
from stylematch.vision.batches import Batch
from stylematch.vision.begun import CHECKPOINT_LABELS
from stylematch.vision.divergence import diverged, kept_checkpoint
from stylematch.vision.losses import SchemaLoss, instance_loss, mix_targets, soft_targets, teach_targets
from stylematch.vision.mirror import mirrors_of, seen_from_the_other_side
from stylematch.vision.networks import Network
from stylematch.vision.optimizer import optimizer_of
from stylematch.vision.resizing import as_input, resized
from stylematch.vision.storable import CALMER, check_storable

_STEP_STRIDE = 1_000_003
_UNKNOWN = -1


class Learner(lightning.LightningModule):
    """A network, what it learns from and how.

    Parameters
    ----------
    network : Network
        Trained in place.
    loss : SchemaLoss
        What is made small.
    job : TrainJob
        Augmentation and schedule.
    steps : int
        Optimiser steps of the whole training.
    teachers : sequence of Network
        Whose mean opinion the targets are drawn towards.
    """

    def __init__(
        self,
        network: Network,
        loss: SchemaLoss,
        job: TrainJob,
        steps: int,
        teachers: Sequence[Network] = (),
    ) -> None:
        super().__init__()
        self.network, self.loss, self.job, self.steps = network, loss, job, steps
        self.schema = loss.schema
        self.mirrors = mirrors_of(self.schema)
        self.metrics = nn.ModuleDict(_metrics(self.schema))
        # In a list, since teachers are no part of what is trained and stored.
        self.teachers = [teacher.eval().requires_grad_(False) for teacher in teachers]
        self._outputs = network.outputs
        self._learned: tuple[int, tuple[str, ...]] = (0, ())  # the batch that the weights have last learned from

    def setup(self, stage: str) -> None:  # noqa: ARG002 (Lightning's name)
        """Compile the network, if the job says so: here, since what is compiled cannot be copied to be averaged."""
        if self.job.schedule.compile:
            self._outputs = torch.compile(self.network.outputs)

    def on_fit_start(self) -> None:
        """Bring the teachers and the loss to where the network is: being no part of it, they did not come along."""
        self.loss = self.loss.to(self.device)
        for teacher in self.teachers:
            teacher.to(self.device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write down which labels the heads are of: weights of equal shapes may be of others.

        Raises
        ------
        UserError
            If these weights would be exported and no bundle could hold them; the last good checkpoint is kept.
        """
        checkpoint[CHECKPOINT_LABELS] = self.schema.to_json()
        best = getattr(self.trainer.checkpoint_callback, "best_model_score", None)
        if self.job.schedule.keep == "last" or best == self.trainer.callback_metrics["val_loss"]:
            state = {key: value for key, value in checkpoint["state_dict"].items() if key.startswith("network.")}
            learned = {f"network.{key}" for key, _ in self.network.named_parameters()}
            check_storable(state, learned, self.current_epoch + 1, lambda: f"{kept_checkpoint(self.trainer)}: {CALMER}")

    def training_step(self, batch: Batch, number: int) -> Tensor:
        """Return the loss of one augmented batch.

        Raises
        ------
        UserError
            If it is not finite.
        """
        seed = (self.job.schedule.seed * _STEP_STRIDE + self.global_step) * self.trainer.world_size + self.global_rank
        generator = torch.Generator().manual_seed(seed)
        augment, contrast = self.job.augment, self.job.loss.instance
        views = [self._view(batch, generator)]
        if contrast:
            again = math.ceil(self.job.loss.instance_pictures * len(batch.ids))
            views.append(self._view(batch.first(again), generator))
        pictures = torch.cat([pictures for pictures, _ in views])
        targets = {name: torch.cat([targets[name] for _, targets in views]) for name in views[0][1]}
        if augment.mixup > 0:
            pictures, partner, share = mix_batch(pictures, augment, generator)
            targets = mix_targets(self.schema, targets, partner, share)
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        if self.teachers:
            assert self.job.distill is not None
            opinions = [self._opinion(pictures, number) for number in range(len(self.teachers))]
            targets = teach_targets(self.schema, targets, opinions, self.job.distill.weight)
        # Dropout draws from the global generator: seeded by the step too, so that a resumed run repeats it.
        torch.manual_seed(seed)
        embedding, outputs = self._outputs(pictures)
        losses = self.loss(outputs, targets)
        if contrast:
            instance = embedding[:, -self.job.model.instance_dim :]  # all of an undivided embedding
            found = instance_loss(
                functional.normalize(instance, dim=1), len(batch.ids), self.job.loss.instance_temperature
            )
            losses["instance"] = contrast * found
        total = self._logged(losses, "train", len(pictures))
        self.log("loss", total, prog_bar=True, logger=False)
        self._learned = number, batch.ids
        if not torch.isfinite(total):
            raise diverged(self.trainer, "the loss", total, *self._learned)
        return total

    def _view(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Return an augmented view of a batch, and its targets."""
        targets = soft_targets(self.schema, batch.targets)
        pictures = batch.fields.permute(0, 3, 1, 2).float() / 255.0
        with torch.autocast(pictures.device.type, enabled=False):
            points = {name: targets[name] for name in self.mirrors}
            pictures, points = augment_batch(
                pictures, points, batch.crop_px, self.job.model.input_px, self.job.augment, generator, self.mirrors
            )
        return pictures, {**targets, **points}

    @torch.no_grad()
    def _opinion(self, pictures: Tensor, number: int) -> dict[str, Tensor]:
        """Return the outputs of one teacher, who is shown the pictures at its own size."""
        assert self.job.distill is not None
        teacher = self.teachers[number]
        pictures = resized(pictures, teacher.model.input_px)
        if not self.job.distill.mirror or number % 2 == 0:
            return teacher.answers(pictures)[1]
        return seen_from_the_other_side(teacher.answers(pictures.flip(3))[1], self.mirrors)

    def validation_step(self, batch: Batch) -> None:
        """Log loss, accuracy and F1 of one batch without augmentation.

        Raises
        ------
        UserError
            If the loss is not finite: what an epoch's last batch has spoilt must not replace the last good checkpoint.
        """
        pictures = as_input(batch.crops(), self.job.model.input_px)
        _, outputs = self.network.outputs(pictures)
        losses = self.loss(outputs, soft_targets(self.schema, batch.targets), training=False)
        total = self._logged(losses, "val", len(pictures))
        if not torch.isfinite(total):
            raise diverged(self.trainer, "the loss on the watched pictures", total, *self._learned)
        for key, metric in self.metrics.items():
            assert isinstance(metric, Metric)
            group = key.rpartition("_")[0]
            # Probabilities, since torchmetrics guesses by their range whether it is given logits.
            metric.update(outputs[group].float().sigmoid(), batch.targets[group].long())
            self.log(f"val_{key}", metric, logger=False, batch_size=len(pictures))

    def _logged(self, losses: dict[str, Tensor], stage: str, count: int) -> Tensor:
        """Keep the losses of a batch for the epoch's means, over all processes' pictures; return their sum."""
        total = torch.stack(list(losses.values())).sum()
        means = {f"{stage}_{name}": x for name, x in {**losses, "loss": total}.items()}
        # No logger: ``LogEpochs`` writes the means, as one row.
        options: dict[str, Any] = {"logger": False, "on_step": False, "on_epoch": True, "sync_dist": True}
        self.log_dict(means, batch_size=count, **options)
        return total

    def on_train_epoch_end(self) -> None:
        """Lower the rate where the validation loss has not fallen: before the checkpoint, which has to know of it.

        Raises
        ------
        StylematchError
            If the pictures could not be brought to the disk: what was learned may be of others, and is not kept.
        """
        check_kept()
        rate = self.lr_schedulers()
        if isinstance(rate, torch.optim.lr_scheduler.ReduceLROnPlateau):
            rate.step(float(self.trainer.callback_metrics["val_loss"]))

    def lr_scheduler_step(self, scheduler: Any, metric: Any | None) -> None:
        """Step every other rate; Lightning would step a plateau's after the checkpoint, so a resumed run lost it."""
        if metric is None:
            scheduler.step()

    def configure_optimizers(self) -> Any:
        """Return the optimiser and its learning rate over time; norms and biases are not decayed."""
        return optimizer_of(self.network, self.job.schedule, self.steps)


def _metrics(schema: LabelSchema) -> dict[str, Metric]:
    """Return what is watched while training, by ``GROUP_METRIC``; unknown labels are left out."""
    metrics: dict[str, Metric] = {}
    for group in schema.groups:
        if group.kind == "binary" and group.width == 1:  # torchmetrics calls two labels and more multilabel
            metrics[f"{group.name}_accuracy"] = BinaryAccuracy(ignore_index=_UNKNOWN)
            metrics[f"{group.name}_f1"] = BinaryF1Score(ignore_index=_UNKNOWN)
        elif group.kind == "binary":
            metrics[f"{group.name}_accuracy"] = MultilabelAccuracy(group.width, ignore_index=_UNKNOWN)
            metrics[f"{group.name}_f1"] = MultilabelF1Score(group.width, ignore_index=_UNKNOWN)
        elif group.kind == "categorical":
            options: dict[str, Any] = {"num_classes": group.width, "ignore_index": _UNKNOWN}
            metrics[f"{group.name}_accuracy"] = MulticlassAccuracy(average="micro", **options)
            metrics[f"{group.name}_f1"] = MulticlassF1Score(average="macro", **options)
    return metrics

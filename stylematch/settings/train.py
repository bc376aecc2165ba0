"""One training: its data, its model and its method in one job, which is checked as a whole.

A job says everything that decides its result; what is left out has a default that is written in its section and nowhere
else.
"""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import Field, model_validator

from stylematch.settings.base import NAME_PATTERN, Section
from stylematch.settings.idle import idle_settings
from stylematch.settings.train_data import FOLDERS, GROUPS, TABLE, TAGS, TrainData
from stylematch.settings.train_method import Augment, Distill, Loss, Schedule, Step
from stylematch.settings.train_model import Model

_WITHOUT_CLASSES = {"attributes", TAGS, "landmarks", "box"}
_GROUP = re.compile(r"[\w -]{1,60}")
# What figures, the training's log and the graph's outputs call something else.
_TAKEN = _WITHOUT_CLASSES | {"embedding", "instance", "loss", "pictures"}
_WATCHED = ("accuracy", "f1")
# Backbones that give pooled features alone, from which points are read, too (see ``stylematch.vision.backbones``).
_IN_ONE_PIECE = ("timm:", "vit_", "swin_", "googlenet", "inception_", "maxvit_")
_SMOKE_PICTURES, _SMOKE_BATCH, _SMOKE_PX, _SMOKE_EPOCHS = 24, 4, 64, 2


class TrainJob(Section):
    """One training: ``stylematch-batch train JOB.toml``.

    Attributes
    ----------
    name : str
        What the model is called.
    out : str
        The folder of the training: checkpoints, logs and the bundle.
    """

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    out: Annotated[str, Field(min_length=1)]
    data: TrainData
    model: Model
    augment: Augment = Augment()
    loss: Loss = Loss()
    schedule: Schedule
    steps: tuple[Step, ...] = ()
    distill: Distill | None = None

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        data, model = self.data, self.model
        if data.dataset in (TABLE, FOLDERS):
            _check_own(data)
        elif strange := [name for name in data.groups if name not in GROUPS[data.dataset]]:
            known = ", ".join(GROUPS[data.dataset])
            raise ValueError(f"data.groups: {data.dataset} has no '{strange[0]}'; it has {known}")
        wanted = {"fashion-mnist": "small_resnet", "garments": "small_resnet_rgb"}.get(data.dataset)
        if model.backbone != wanted and (wanted or model.backbone in ("small_resnet", "small_resnet_rgb")):
            raise ValueError(
                f"model.backbone: '{model.backbone}' does not fit {data.dataset}; small_resnet is for fashion-mnist's "
                "grey pictures, small_resnet_rgb for garments, and neither for another data set"
            )
        if wanted and model.input_px != 28:
            raise ValueError(f"model.input_px: {data.dataset}'s pictures need 28, not {model.input_px}")
        if model.instance_dim and (model.embedding_dim or not model.embedded):
            raise ValueError(
                "model.instance_dim: the length of a divided embedding follows from it and from the groups in "
                "model.embedded; leave model.embedding_dim out and name at least one group"
            )
        if model.embedding_layer and model.instance_dim:
            raise ValueError(
                "model.embedding_layer: a divided embedding has its own; set one of it and instance_dim to 0"
            )
        if model.embedding_layer and not set(data.label_groups) - {"landmarks", "box"}:
            raise ValueError("model.embedding_layer: points alone cannot tell an embedding what matters; set it to 0")
        if strange := [name for name in model.embedded if name not in data.label_groups]:
            raise ValueError(f"model.embedded: '{strange[0]}' is none of data.groups")
        if strange := [name for name in self.loss.group_weights if name not in data.label_groups]:
            raise ValueError(f"loss.group_weights: '{strange[0]}' is none of data.groups")
        if self.loss.instance and self.augment.mixup:
            raise ValueError("loss.instance: two views of a blend find each other by chance; set augment.mixup to 0")
        own: dict[str, tuple[str, ...]] = {
            "fashion-product": ("years", "stratified"),
            "flixstock": ("random",),
            "garments": ("stratified",),
            TABLE: ("column", "random", "stratified"),
            FOLDERS: ("folders", "random", "stratified"),
        }
        splits = own.get(data.dataset, ("official",))
        if data.split not in splits:
            raise ValueError(f"data.split: {data.dataset} is split by {' or '.join(splits)}, not '{data.split}'")
        if any(step.most_frequent for step in self.steps) and set(data.label_groups) <= _WITHOUT_CLASSES:
            raise ValueError(f"steps.most_frequent: {data.dataset} has no classes; leave it out")
        if {"landmarks", "box"} & set(data.label_groups) and self.augment.flip_vertical:
            raise ValueError("augment.flip_vertical: faces with points are not turned upside down; set it to 0")
        return self

    def without_effect(self) -> list[str]:
        """Return a sentence for each setting that was given and changes nothing, or less than one would think."""
        groups = set(self.data.label_groups)
        apart = not self.model.backbone.startswith(_IN_ONE_PIECE)
        alone = apart and groups and groups <= {"landmarks", "box"} and self.model.frozen == "none"
        said = (
            ["data.groups: has points alone, and from points the backbone does not learn; add attributes"]
            if alone
            else []
        )
        return said + idle_settings(
            data=self.data,
            model=self.model,
            augment=self.augment,
            loss=self.loss,
            schedule=self.schedule,
            distill=self.distill,
        )

    def in_steps(self) -> tuple[TrainJob, ...]:
        """Return one job a step, in order: the same job with the step's epochs, rate and frozen layers."""
        jobs = []
        for step in self.steps or (Step(),):
            schedule = {key: value for key in ("epochs", "learning_rate") if (value := getattr(step, key)) is not None}
            model = {} if step.frozen is None else {"frozen": step.frozen}
            jobs.append(
                self.model_copy(
                    update={
                        "schedule": self.schedule.model_copy(update=schedule),
                        "model": self.model.model_copy(update=model),
                        "steps": (step,),
                    }
                )
            )
        return tuple(jobs)

    def smoke(self) -> TrainJob:
        """Return the job as a try of a few steps: few and small pictures, nothing trained before, two short epochs."""
        data = self.data.model_copy(update={"limit": _SMOKE_PICTURES, "min_label_count": 1, "wild_repeat": 1})
        small = min(_SMOKE_PX, self.model.input_px)
        model = self.model.model_copy(update={"weights": "none", "start_from": None, "input_px": small})
        schedule = self.schedule.model_copy(
            update={
                "epochs": _SMOKE_EPOCHS,
                "batch_size": min(_SMOKE_BATCH, self.schedule.batch_size),
                "devices": 1,
                "workers": 0,
            }
        )
        steps = tuple(step.model_copy(update={"epochs": _SMOKE_EPOCHS}) for step in self.steps)
        taught = self.distill and self.distill.model_copy(update={"teachers": ("none",) * len(self.distill.teachers)})
        parts = {"data": data, "model": model, "schedule": schedule, "steps": steps, "distill": taught}
        return self.model_copy(update={**parts, "out": f"{self.out}-smoke"})


def _check_own(data: TrainData) -> None:
    """Refuse what pictures that somebody labelled cannot be; a ``ValueError`` names the key."""
    if data.root is None:
        what = "a table has no usual place; name its .csv or .parquet file"
        if data.dataset == FOLDERS:
            what = "name the folder that has one for each class"
        raise ValueError(f"data.root: {what}")
    if data.dataset == FOLDERS and len(data.groups) > 1:
        raise ValueError("data.groups: folders are the classes of one group; name one, or none")
    if not data.label_groups:
        raise ValueError("data.groups: name the table's columns to learn, here or, of yes and no, in data.tags")
    named = [*data.groups, *data.tags]
    if doubled := next((name for name in named if named.count(name) > 1), None):
        raise ValueError(f"data.groups: '{doubled}' is named twice, here or in data.tags")
    part = data.split_column if data.split == "column" else None
    for key, column in (("image_column", data.image_column), ("split_column", part)):
        if column in named:
            raise ValueError(f"data.{key}: '{column}' is a label in data.groups or data.tags, too; leave it out there")
    # A group's name is part of a file's name and of a weight's.
    if strange := [name for name in data.groups if not _GROUP.fullmatch(name)]:
        raise ValueError(
            f"data.groups: '{strange[0]}' is no name of 1 to 60 letters, digits, blanks, _, -; rename the column"
        )
    taken = _TAKEN | {f"{name}_{watched}" for name in data.label_groups for watched in _WATCHED}
    if strange := [name for name in data.groups if name in taken]:
        raise ValueError(f"data.groups: '{strange[0]}' is what a training calls something else; rename the column")
    if data.split == "stratified" and data.dataset == TABLE and not data.groups:
        raise ValueError('data.split: "stratified" is by the first of data.groups; write "random" where there is none')

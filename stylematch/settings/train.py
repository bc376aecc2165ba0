"""One training: data, network, augmentation, loss, schedule, steps.

A job says everything that decides its result; what is left out has a default that is written here and nowhere else.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from stylematch.settings.base import Count, Degrees, Fraction, Natural, NotNegative, Positive, Section, Seed
from stylematch.settings.idle import idle_settings

Dataset = Literal["celeba", "fashion-mnist", "fashion-product", "flixstock", "garments"]
GROUPS: dict[str, tuple[str, ...]] = {
    "celeba": ("attributes", "landmarks", "box"),
    "fashion-mnist": ("category",),
    "fashion-product": (
        "gender",
        "masterCategory",
        "subCategory",
        "articleType",
        "baseColour",
        "season",
        "usage",
    ),
    "flixstock": ("neck", "sleeve_length", "pattern"),
    "garments": ("category", "articleType", "gender", "baseColour", "season", "usage"),
}
"""The label groups that each data set knows."""
_USUAL_GROUPS = {**GROUPS, "celeba": ("attributes", "landmarks")}
_SMOKE_PICTURES, _SMOKE_BATCH, _SMOKE_PX, _SMOKE_EPOCHS = 24, 4, 64, 2


class TrainData(Section):
    """Which pictures and labels to learn from.

    Attributes
    ----------
    dataset : str
        ``celeba``, ``fashion-mnist``, ``fashion-product``, ``flixstock``, or ``garments``: Fashion-MNIST and Fashion
        Product together, in one look.
    root : str, optional
        Its folder; by default in ``$STYLEMATCH_DATA`` or ``../shared/data``, or as found (Fashion-MNIST). For
        ``garments``, Fashion Product's.
    fashion_mnist : str, optional
        Fashion-MNIST's folder (``garments``).
    product_repeat : int
        How often an epoch shows each picture of Fashion Product (``garments``).
    groups : list of str
        Label groups to learn; by default all (CelebA: attributes and landmarks, not the box).
    wild, wild_repeat : bool, int
        Also learn from ``celeba_wild``, cropped around what the face finder finds, and how often an epoch shows each
        of its pictures (CelebA).
    split : str
        Fashion Product: ``years`` (even years train, odd years test) or ``stratified`` (80/20). FlixStock: ``random``.
        The others have splits of their own: ``official``.
    validation : float
        Share of the training pictures that are watched instead of learned from, where there is no validation split.
    split_seed : int
        Of random splits.
    min_label_count : int
        Labels with fewer pictures become unknown (Fashion Product).
    missing : str
        ``#N/A`` is an answer of its own (``category``) or no answer (``unknown``) (FlixStock).
    resize : str
        Whole pictures are squashed to a square, padded (``pad``), or trimmed and negated (``garment``), as
        ``garments`` always are.
    balance : str
        Rare labels are compensated by nothing (``none``), ``weights`` in the loss, or a ``sampler``.
    limit : int, optional
        Only the first so many pictures of each part, for a quick try.
    """

    dataset: Dataset
    root: str | None = None
    fashion_mnist: str | None = None
    product_repeat: Count = 1
    groups: tuple[str, ...] = ()
    wild: bool = True
    wild_repeat: Count = 1
    split: Literal["official", "years", "stratified", "random"] = "official"
    validation: Annotated[float, Field(gt=0.0, lt=1.0, strict=True)] = 0.1
    split_seed: Seed = 0
    min_label_count: Count = 1
    missing: Literal["category", "unknown"] = "unknown"
    resize: Literal["squash", "pad", "garment"] = "squash"
    balance: Literal["none", "weights", "sampler"] = "none"
    limit: Count | None = None

    @property
    def label_groups(self) -> tuple[str, ...]:
        """The groups to learn, in the data set's order."""
        chosen = self.groups or _USUAL_GROUPS[self.dataset]
        return tuple(name for name in GROUPS[self.dataset] if name in chosen)


class Model(Section):
    """The network: a backbone, dense layers, an embedding, and one head per label group.

    Attributes
    ----------
    backbone : str
        ``small_resnet``, a classification model of torchvision by its name (``mobilenet_v2``, ``vgg16``, ...), or
        ``timm:NAME`` where timm is installed.
    weights : str
        What the backbone starts from: ``imagenet``, ``none`` or a file (safetensors, or torch's own without pickles).
    start_from : str, optional
        A model bundle of the same architecture whose weights the whole network starts from instead.
    input_px : int
        Side of the input.
    pool : str
        The backbone's last maps become features by their ``mean``, the means of a three by three ``grid`` (spatial
        pooling; He et al., ECCV 2014), or ``flatten``.
    hidden : list of int
        Widths of dense layers (ReLU, dropout) after the features.
    embedding_dim : int
        Length of the embedding, a linear layer; 0 takes what is there (the last dense layer, or the features).
    instance_dim : int
        0 is one embedding. Else the embedding is the probabilities of the classes of the groups in ``embedded``, then
        so many values that tell pictures of one class apart; its length follows from both, and ``embedding_dim`` is
        left out.
    instance_share : float
        What a divided embedding's second part counts in a cosine; the first counts the rest.
    embedded : list of str
        Groups that are read from the embedding, by default all; the others are read from the features. Of a divided
        embedding: categorical groups whose probabilities are its first part.
    dropout : float
        Share of the features dropped while training.
    grayscale : bool
        The network sees luminance only.
    frozen : str or int
        What keeps its first weights: ``none``, the whole ``backbone``, or its first so many children.
    """

    backbone: Annotated[str, Field(min_length=1)]
    weights: str = "none"
    start_from: str | None = None
    input_px: Annotated[int, Field(ge=16, le=1024, strict=True)]
    pool: Literal["mean", "grid", "flatten"] = "mean"
    hidden: tuple[Count, ...] = ()
    embedding_dim: Annotated[int, Field(ge=0, le=4096, strict=True)] = 0
    instance_dim: Natural = 0
    instance_share: Fraction = 0.25
    embedded: tuple[str, ...] = ()
    dropout: Fraction = 0.0
    grayscale: bool = False
    frozen: Literal["none", "backbone"] | Count = "none"


class Augment(Section):
    """Random changes of the training pictures; 0 is off.

    Attributes
    ----------
    flip, flip_vertical, grayscale, erase : float
        Shares of the pictures that are mirrored, turned upside down, made grey, or have a rectangle erased.
    shift : float
        Fraction of the crop's side, either way; rounded to whole pixels, which blurs nothing.
    zoom, rotate_degrees : float
        Largest change, for the share ``warp`` of the pictures: resampling blurs what others keep sharp.
    brightness, contrast, saturation : float
        Largest change.
    mixup : float
        Share of the pictures that are blended with another, labels included.
    """

    flip: Fraction = 0.5
    flip_vertical: Fraction = 0.0
    shift: Fraction = 0.0
    zoom: Fraction = 0.0
    rotate_degrees: Degrees = 0.0
    warp: Fraction = 1.0
    brightness: Fraction = 0.0
    contrast: Fraction = 0.0
    saturation: Fraction = 0.0
    grayscale: Fraction = 0.0
    erase: Fraction = 0.0
    mixup: Fraction = 0.0


class Loss(Section):
    """What is minimised, by kind of label group.

    Attributes
    ----------
    binary : str
        ``bce``, ``focal`` (Lin et al., ICCV 2017) or ``asymmetric`` (Ridnik et al., ICCV 2021).
    points : str
        ``smooth_l1`` in hundredths of the crop's side, or ``mse`` in units of the ranges of the training split.
    label_smoothing : float
        For categorical groups.
    group_weights : dict of str to float
        What a group's loss counts; 1 where it is left out.
    instance : float
        Weight of a contrastive loss (NT-Xent; Chen et al., ICML 2020): every picture is shown in two augmented views,
        each of which has to find the other by its embedding among all of the batch.
    instance_pictures : float
        The share of a batch that is shown in two views; with less, the time goes into more epochs.
    instance_temperature : float
        Of that loss.
    """

    binary: Literal["bce", "focal", "asymmetric"] = "bce"
    points: Literal["smooth_l1", "mse"] = "smooth_l1"
    label_smoothing: Fraction = 0.0
    group_weights: dict[str, NotNegative] = Field(default_factory=dict)
    instance: NotNegative = 0.0
    instance_pictures: Annotated[float, Field(gt=0.0, le=1.0, strict=True)] = 1.0
    instance_temperature: Positive = 0.1


class Schedule(Section):
    """The optimiser, its learning rate over time, and when to stop.

    Attributes
    ----------
    epochs, batch_size : int
        An epoch ends with its last whole batch.
    optimizer : str
        ``adamw``, ``adam`` or ``sgd`` (with ``momentum``).
    learning_rate, weight_decay : float
        The highest rate; decay spares norms and biases.
    rate : str
        ``one_cycle`` (Smith and Topin, 2018; ``warmup`` is the rising share), ``cosine``, ``plateau`` (a tenth
        whenever the validation loss has not fallen for ``rate_patience`` epochs) or ``constant``.
    patience : int
        Epochs without a lower validation loss after which training stops; 0 never does.
    keep : str
        The weights of the ``last`` epoch, or of the ``best`` by validation loss.
    average : float
        The network that is kept, watched and exported is the exponential moving average of the steps' weights with
        this decay (Polyak and Juditsky, 1992; as in Tarvainen and Valpola, NeurIPS 2017); 0 keeps the weights as
        they are.
    clip_norm : float
        Largest norm of a gradient; 0 is no limit.
    precision : str
        ``32-true``, ``bf16-mixed``, or ``auto``: bfloat16 where the hardware multiplies it.
    compile : bool
        Let ``torch.compile`` fuse the network.
    devices : int
        GPUs (or processes on a CPU) that share every batch, by DDP.
    workers : int
        Processes that fetch batches; 0 fetches between steps.
    log : str
        ``csv`` or ``tensorboard``.
    seed : int
        Of everything random.
    """

    epochs: Count
    batch_size: Count
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    learning_rate: Positive
    momentum: Fraction = 0.9
    weight_decay: NotNegative = 0.01
    rate: Literal["one_cycle", "cosine", "plateau", "constant"] = "one_cycle"
    warmup: Fraction = 0.2
    rate_patience: Count = 3
    patience: Natural = 0
    keep: Literal["last", "best"] = "last"
    average: Annotated[float, Field(ge=0.0, lt=1.0, strict=True)] = 0.0
    clip_norm: NotNegative = 0.0
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    compile: bool = False
    devices: Count = 1
    workers: Natural = 0
    log: Literal["csv", "tensorboard"] = "csv"
    seed: Seed = 0


class Step(Section):
    """One of several trainings in a row; what it leaves out is the job's.

    Attributes
    ----------
    epochs, learning_rate, frozen
        In place of the schedule's and the model's.
    most_frequent : int, optional
        Only pictures of the so many most frequent classes of the first group.
    """

    epochs: Count | None = None
    learning_rate: Positive | None = None
    frozen: Literal["none", "backbone"] | Count | None = None
    most_frequent: Count | None = None


class Distill(Section):
    """Soft targets from trained models.

    Attributes
    ----------
    teachers : list of str
        Model bundles that know the same labels; several are averaged. ``none`` is an untrained network like the one
        that learns, for a try.
    mirror : bool
        Every second teacher is shown the pictures' mirror images: what they agree on does not depend on the side.
    weight : float
        Their share of every target; the label has the rest.
    """

    teachers: Annotated[tuple[str, ...], Field(min_length=1)]
    mirror: bool = False
    weight: Fraction = 0.5


class TrainJob(Section):
    """One training: ``stylematch-batch train JOB.toml``.

    Attributes
    ----------
    name : str
        What the model is called.
    out : str
        The folder of the training: checkpoints, logs and the bundle.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")]
    out: str
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
        if strange := [name for name in data.groups if name not in GROUPS[data.dataset]]:
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
        if strange := [name for name in model.embedded if name not in data.label_groups]:
            raise ValueError(f"model.embedded: '{strange[0]}' is none of data.groups")
        if strange := [name for name in self.loss.group_weights if name not in data.label_groups]:
            raise ValueError(f"loss.group_weights: '{strange[0]}' is none of data.groups")
        if self.loss.instance and self.augment.mixup:
            raise ValueError("loss.instance: two views of a blend find each other by chance; set augment.mixup to 0")
        own = {"fashion-product": ("years", "stratified"), "flixstock": ("random",), "garments": ("stratified",)}
        splits = own.get(data.dataset, ("official",))
        if data.split not in splits:
            raise ValueError(f"data.split: {data.dataset} is split by {' or '.join(splits)}, not '{data.split}'")
        if data.dataset == "celeba" and any(step.most_frequent for step in self.steps):
            raise ValueError("steps.most_frequent: celeba has no classes; leave it out")
        if {"landmarks", "box"} & set(data.label_groups) and self.augment.flip_vertical:
            raise ValueError("augment.flip_vertical: faces with points are not turned upside down; set it to 0")
        return self

    def without_effect(self) -> list[str]:
        """Return a sentence for each setting that was given and changes nothing."""
        return idle_settings(self)

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

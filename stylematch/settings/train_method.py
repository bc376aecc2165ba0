"""How a training learns: augmentation, loss, schedule, steps in a row, teachers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from stylematch.settings.base import Count, Degrees, Fraction, Natural, NotNegative, Positive, Section, Seed, Switch


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

    @property
    def moves(self) -> bool:
        """Whether pictures are shown of which a part lies beyond their crops."""
        return self.shift > 0 or (self.warp > 0 and (self.zoom > 0 or self.rotate_degrees > 0))


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
        Processes that fetch batches, at most one a core; 0 fetches between steps.
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
    compile: Switch = False
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
        Model bundles that know the same labels; several are averaged, and each sees the pictures at its own size.
        ``none`` is an untrained network like the one that learns, for a try.
    mirror : bool
        Every second teacher is shown the pictures' mirror images: what they agree on does not depend on the side.
    weight : float
        Their share of every target; the label has the rest.
    """

    teachers: Annotated[tuple[str, ...], Field(min_length=1)]
    mirror: Switch = False
    weight: Fraction = 0.5

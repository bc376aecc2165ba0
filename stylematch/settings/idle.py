"""Settings of a training job that were given and change nothing: each with why, so that none is silently ignored."""

from __future__ import annotations

from collections.abc import Iterator

from stylematch.settings.base import Section
from stylematch.settings.train_data import TAGS, TrainData
from stylematch.settings.train_method import Augment, Distill, Loss, Schedule
from stylematch.settings.train_model import Model

# Settings of ``data`` by the data sets that know them.
_KNOWN_TO = {
    "fashion_mnist": ("garments",),
    "product_repeat": ("garments",),
    "wild": ("celeba",),
    "wild_repeat": ("celeba",),
    "validation": ("fashion-product", "flixstock", "garments", "table", "folders"),
    "split_seed": ("fashion-product", "flixstock", "garments", "table", "folders"),
    "min_label_count": ("fashion-product", "garments", "table", "folders"),
    "missing": ("flixstock",),
    "resize": ("fashion-product", "flixstock", "table", "folders"),
    "images": ("table",),
    "image_column": ("table",),
    "split_column": ("table",),
    "tags": ("table",),
}
_POINTS, _BINARY = {"landmarks", "box"}, {"attributes", TAGS}


def idle_settings(
    *, data: TrainData, model: Model, augment: Augment, loss: Loss, schedule: Schedule, distill: Distill | None
) -> list[str]:
    """Return one sentence, without its full stop, for each setting of a training that was given and has no effect.

    Parameters
    ----------
    data, model, augment, loss, schedule, distill : Section
        The job as it was read: what it was given is told from what it has by default.

    Returns
    -------
    list of str
        Each begins with the key and ends with what to do.
    """
    sections: dict[str, Section] = {
        "data": data,
        "model": model,
        "augment": augment,
        "loss": loss,
        "schedule": schedule,
    }
    if distill is not None:
        sections["distill"] = distill
    given = {f"{name}.{key}" for name, section in sections.items() for key in section.model_fields_set}
    idle = _idle(data, model, augment, loss, schedule, distill)
    return [f"{key}: has no effect {why}; remove it" for key, why in idle if key in given]


def _idle(
    data: TrainData, model: Model, augment: Augment, loss: Loss, schedule: Schedule, distill: Distill | None
) -> Iterator[tuple[str, str]]:
    """Give every setting that has no effect in a job, given or not, and why."""
    for key, datasets in _KNOWN_TO.items():
        if data.dataset not in datasets:
            yield f"data.{key}", f"on {data.dataset}, only on {' and '.join(datasets)}"
    groups = set(data.label_groups)
    no_points, no_binary, no_classes = (
        not groups & _POINTS,
        not groups & _BINARY,
        not groups - _POINTS - _BINARY,
    )
    grey = data.dataset == "fashion-mnist"
    for keys, idle, why in (
        (["data.wild_repeat"], data.dataset == "celeba" and not data.wild, "where data.wild is false"),
        (
            ["data.split_column"],
            data.dataset == "table" and data.split != "column",
            f'where data.split is "{data.split}"',
        ),
        (["data.balance", "data.balance_power"], groups <= _POINTS, "on points alone"),
        (["data.balance_power"], data.balance == "none", 'where data.balance is "none"'),
        (
            ["model.weights"],
            model.start_from is not None and model.weights != "none",
            "beside model.start_from, which has all weights",
        ),
        (["model.instance_share"], not model.instance_dim, "without model.instance_dim"),
        (["model.grayscale", "augment.grayscale", "augment.saturation"], grey, "on grey pictures"),
        (["augment.warp"], not (augment.zoom or augment.rotate_degrees), "without zoom or rotate_degrees"),
        (["loss.binary"], no_binary, "without a group of attributes"),
        (["loss.points"], no_points, "without a group of points"),
        (["loss.label_smoothing"], no_classes, "without a group of classes"),
        (["loss.instance_pictures", "loss.instance_temperature"], not loss.instance, "where loss.instance is 0"),
        (["schedule.momentum"], schedule.optimizer != "sgd", f"on {schedule.optimizer}, only on sgd"),
        (["schedule.warmup"], schedule.rate != "one_cycle", f'where schedule.rate is "{schedule.rate}"'),
        (["schedule.rate_patience"], schedule.rate != "plateau", f'where schedule.rate is "{schedule.rate}"'),
        (["distill.mirror"], distill is not None and len(distill.teachers) < 2, "on a single teacher"),
    ):
        if idle:
            yield from ((key, why) for key in keys)

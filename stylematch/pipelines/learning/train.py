"""``train``: a job file in, a model bundle with a card of measured figures out.

Examples are cut once (and kept in ``OUT/../cache``), the network is trained or gone on with, its temperatures are
fitted on the validation split, it is exported, and then measured as it will be used: the exported bundle, in the
runtime that scores, on splits that nothing was learned from.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stylematch.data.learned import digest_names
from stylematch.engines.progress import Progress
from stylematch.evaluate.calibration import calibration_figures, fit_temperatures, probabilities_of
from stylematch.evaluate.card import write_card
from stylematch.evaluate.headlines import headlines
from stylematch.evaluate.thresholds import choose_thresholds
from stylematch.pipelines.learning.evaluate import measure_examples
from stylematch.pipelines.learning.labelled import LEARNED_NAMES
from stylematch.pipelines.learning.source import Source
from stylematch.pipelines.learning.starting import first_network, load_teachers
from stylematch.pipelines.learning.train_job import (
    alone_in,
    check_devices,
    check_train_extra,
    open_job,
    step_folders,
)
from stylematch.pipelines.learning.training_faults import told_by_their_keys
from stylematch.settings.train import TrainJob
from stylematch.settings.train_method import Step
from stylematch.tables.cores import usable_cores
from stylematch.tables.disk import file_sha256, write_durably
from stylematch.tables.shown import shown
from stylematch.vision.bundle import FIGURES, Bundle
from stylematch.vision.examples import Examples
from stylematch.vision.runtime import CpuRuntime

if TYPE_CHECKING:
    from stylematch.vision.networks import Network


@dataclass(frozen=True)
class TrainSummary:
    """What ``train`` made: the bundle and its figures by data set."""

    bundle: Bundle
    figures: dict[str, Any]

    def lines(self) -> list[str]:
        """Return what a person is told at the end."""
        first = f"bundle: {shown(self.bundle.directory)} ({self.bundle.description['parameters']:,} parameters)"
        unmeasured = "not measured, for the data have no part to test on; evaluate BUNDLE DATA measures it on others"
        return [first, *(headlines(self.figures["measured"]) if self.figures["measured"] else [unmeasured])]


def train(job: TrainJob, job_file: Path) -> TrainSummary:
    """Train what a job describes.

    Parameters
    ----------
    job : TrainJob
        From ``read_train_job``.
    job_file : pathlib.Path
        Where it stands.

    Raises
    ------
    UserError
        If the job or its data are wrong, the train extra is missing, the training diverges, or another one is under
        way in the same folder.
    """
    check_train_extra()
    check_devices(job.schedule.devices)
    source = open_job(job)
    with alone_in(Path(job.out)):
        return _train(job, job_file, source)


def _train(job: TrainJob, job_file: Path, source: Source) -> TrainSummary:
    from lightning.pytorch.utilities import rank_zero_only

    from stylematch.vision.export import write_bundle
    from stylematch.vision.together import leave_alone

    with told_by_their_keys(job):
        network = learn(job, source)
    leave_alone()
    if getattr(rank_zero_only, "rank", 0) != 0:  # another process writes the bundle
        raise SystemExit(0)
    calibration, thresholds = finish(job, source, network)
    means, counts = source.mean_shapes(), source.trained_counts()
    said = {
        **source.description,
        "data": job.data.model_dump(mode="json", exclude={"root", "images", "limit"}),
        "trained": {
            "mean_points": {name: values.tolist() for name, values in means.items()},
            "class_counts": {name: values.tolist() for name, values in counts.items()},
        },
        "thresholds": thresholds,
    }
    if source.learned_names:
        said[LEARNED_NAMES] = digest_names(source.learned_names)
    bundle = write_bundle(network, Path(job.out) / "bundle", name=job.name, licence=source.licence, extra=said)
    runtime = CpuRuntime(bundle, threads=usable_cores())
    figures = {
        "job": {"name": job.name, "sha256": file_sha256(job_file), "settings": job.model_dump(mode="json")},
        "learned_from": source.pictures,
        "data": source.notes,
        "calibration": calibration,
        "measured": {
            title: measure_examples(runtime, test, means, counts) for title, test in source.tests() if len(test)
        },
    }
    write_durably(bundle.directory / FIGURES, (json.dumps(figures, indent=2) + "\n").encode())
    write_card(bundle, figures)
    return TrainSummary(bundle, figures)


def learn(job: TrainJob, source: Source) -> Network:
    """Return the network that a job trains, or goes on training, before it is calibrated."""
    from stylematch.vision.training import train_network

    network, teachers = first_network(job, source.schema), load_teachers(job, source.schema)
    for folder, step, parts, val in trainings(job, source, network):
        network = train_network(network, step, parts, val, folder, teachers)
    return network


def finish(job: TrainJob, source: Source, network: Network) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fit, in place, what is fitted to a trained network; return what calibration changed, and thresholds, by group."""
    from stylematch.vision.storable import round_to_stored
    from stylematch.vision.training import give_space

    with _on_gpu(network):
        round_to_stored(network)  # so that all is fitted to the network that ships
        if job.model.embedding_layer:
            with Progress(sum(len(part) for part, _ in source.parts), "pictures", "fit the embedding") as progress:
                give_space(network, source.parts, progress.update)
        return _calibrate(network, source.val)


def trainings(
    job: TrainJob, source: Source, network: Network
) -> Iterator[tuple[Path, TrainJob, list[tuple[Examples, int]], Examples]]:
    """Give each training of a job in its order, while the network is frozen as that one wants it.

    Yields
    ------
    folder : pathlib.Path
        Of its checkpoints and its log.
    step : TrainJob
        What it is.
    parts : list of (Examples, int)
        What it learns from, and how often an epoch shows each.
    val : Examples
        What it watches: of no class that it cannot learn.
    """
    for folder, step in zip(step_folders(job), job.in_steps(), strict=True):
        network.freeze(step.model.frozen)
        classes = _most_frequent(source, step.steps[0])
        parts = [(_only(part, classes), times) for part, times in source.parts]
        yield folder, step, parts, _only(source.val, classes)


def _most_frequent(source: Source, step: Step) -> tuple[str, NDArray[np.int64]] | None:
    """Return the first categorical group and the classes of it that a step learns; None for all."""
    if step.most_frequent is None:
        return None
    group = next(g for g in source.schema.groups if g.kind == "categorical")
    counts = source.trained_counts()[group.name]
    return group.name, np.argsort(-counts, kind="stable")[: step.most_frequent]


def _only(part: Examples, classes: tuple[str, NDArray[np.int64]] | None) -> Examples:
    return part if classes is None else part.subset(np.flatnonzero(np.isin(part.targets[classes[0]], classes[1])))


@contextmanager
def _on_gpu(network: Network) -> Iterator[None]:
    """Keep a trained network on the GPU, if there is one, for the block in which it looks at many pictures."""
    import torch

    if not torch.cuda.is_available():
        yield
        return
    network.cuda()
    # What it is calibrated for is a bundle on the CPU: a GPU's quickest convolutions would keep 10 bits of each number.
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        yield
    network.cpu()


def _calibrate(network: Network, val: Examples) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fold temperatures into the heads, in place; return them with their effect, and thresholds, by group.

    A threshold lies between two pictures of the validation split, which may change places where weights are rounded. So
    the network, which is rounded already, is asked again once its heads with the temperatures in them are, too.
    """
    from stylematch.vision.asking import logits_of
    from stylematch.vision.storable import round_to_stored

    calibration: dict[str, Any] = {}
    thresholds: dict[str, Any] = {}
    groups = [group for group in network.schema.groups if group.kind != "points"]
    pictures = val.crops()
    logits = logits_of(network, pictures)
    fitted = {group.name: fit_temperatures(logits[group.name], val.targets[group.name]) for group in groups}
    for name, temperatures in fitted.items():
        network.cool(name, temperatures)
    round_to_stored(network)
    cooled = logits_of(network, pictures)
    for group in groups:
        labels, temperatures, said = val.targets[group.name], fitted[group.name], cooled[group.name]
        names = group.labels if group.kind == "binary" else (group.name,)
        calibration[group.name] = calibration_figures(logits[group.name], said, labels, temperatures, names)
        if group.kind == "binary":
            chosen = choose_thresholds(probabilities_of(said, group.kind), labels)
            thresholds[group.name] = {name: float(t) for name, t in zip(names, chosen, strict=True)}
    return calibration, thresholds

"""``train``: a job file in, a model bundle with a card of measured figures out.

Examples are cut once (and kept in ``OUT/../cache``), the network is trained or gone on with, its temperatures are
fitted on the validation split, it is exported, and then measured as it will be used: the exported bundle, in the
runtime that scores, on splits that nothing was learned from.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stylematch.data.labels import LabelSchema
from stylematch.data.learned import digest_names
from stylematch.engines.progress import Progress
from stylematch.errors import MissingExtraError, UserError
from stylematch.evaluate.calibration import apply_temperatures, calibration_figures, choose_thresholds, fit_temperatures
from stylematch.evaluate.card import write_card
from stylematch.pipelines.learning.evaluate import headlines, measure_examples
from stylematch.pipelines.learning.labelled import LEARNED_NAMES
from stylematch.pipelines.learning.source import Source
from stylematch.pipelines.learning.sources import open_source
from stylematch.settings import Step, TrainJob, load_job
from stylematch.tables.disk import file_sha256, shown
from stylematch.vision.bundle import FIGURES, Bundle
from stylematch.vision.examples import Examples
from stylematch.vision.runtime import OnnxRuntime

if TYPE_CHECKING:
    from stylematch.vision.networks import Network

TRAIN_PACKAGES = ("lightning", "onnx", "onnxscript", "torch", "torchmetrics", "torchvision")
"""What every training imports of the train extra; the rest of it draws plots and writes logs that a job may ask for."""


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
        A TOML file, see ``stylematch.settings.TrainJob``.
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
    return job.smoke() if smoke else job


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
        If the job or its data are wrong, or the train extra is missing.
    StylematchError
        If the loss is no longer finite.
    """
    check_train_extra()
    import torch
    from lightning.pytorch.utilities import rank_zero_only

    from stylematch.vision.export import write_bundle
    from stylematch.vision.training import give_space

    out = Path(job.out)
    source = open_job(job)
    network = learn(job, source)
    if getattr(rank_zero_only, "rank", 0) != 0:  # another process writes the bundle
        raise SystemExit(0)
    if job.model.embedding_layer:
        with Progress(sum(len(part) for part, _ in source.parts), "pictures", "fit the embedding") as progress:
            give_space(network, source.parts, job.model.input_px, progress.update)
    calibration, thresholds = _calibrate(network, source.val, job.model.input_px)
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
    bundle = write_bundle(network, out / "bundle", name=job.name, licence=source.licence, extra=said)
    runtime = OnnxRuntime(bundle, threads=torch.get_num_threads())
    figures = {
        "job": {"name": job.name, "sha256": file_sha256(job_file), "settings": job.model_dump(mode="json")},
        "learned_from": source.pictures,
        "data": source.notes,
        "calibration": calibration,
        "measured": {title: measure_examples(runtime, test, means, counts) for title, test in source.tests()},
    }
    (bundle.directory / FIGURES).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    write_card(bundle, figures)
    return TrainSummary(bundle, figures)


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


def open_job(job: TrainJob) -> Source:
    """Open a job's data set, after looking at what it starts from and listens to: cutting pictures can take long.

    Raises
    ------
    UserError
        If the backbone, its weights, a bundle or the data set are missing or do not fit.
    """
    from stylematch.vision.networks import Network

    bare = Network(job.model.model_copy(update={"instance_dim": 0, "embedded": ()}), LabelSchema(()))
    for step in job.in_steps():
        bare.freeze(step.model.frozen)
    if job.model.embedding_layer:
        bare.give_space(1)
    if job.model.start_from is not None:
        _named_bundle("model.start_from", job.model.start_from)
    _teacher_bundles(job)
    source = open_source(job.data, job.model.input_px, Path(job.out).parent / "cache")
    if not source.pictures or not len(source.val):
        which = "list_eval_partition.txt says which of celeba's are learned from (0) and watched (1)"
        advice = which if job.data.dataset == "celeba" else "add pictures, or raise data.limit or data.validation"
        raise UserError(
            f"data: {source.pictures:,} pictures to learn from and {len(source.val):,} to watch, and there has to be "
            f"one of each at least; {advice}."
        )
    return source


def learn(job: TrainJob, source: Source) -> Network:
    """Return the network that a job trains, or goes on training, before it is calibrated."""
    from stylematch.vision.training import train_network

    network, teachers = first_network(job, source.schema), load_teachers(job, source.schema)
    for folder, step, parts in trainings(job, source, network):
        network = train_network(network, step, parts, source.val, folder, teachers)
    return network


def trainings(
    job: TrainJob, source: Source, network: Network
) -> Iterator[tuple[Path, TrainJob, list[tuple[Examples, int]]]]:
    """Give each training of a job in its order, while the network is frozen as that one wants it.

    Yields
    ------
    folder : pathlib.Path
        Of its checkpoints and its log.
    step : TrainJob
        What it is.
    parts : list of (Examples, int)
        What it learns from, and how often an epoch shows each.
    """
    out, steps = Path(job.out), job.in_steps()
    for number, step in enumerate(steps, start=1):
        network.freeze(step.model.frozen)
        parts = [(_most_frequent(part, source.schema, step.steps[0]), times) for part, times in source.parts]
        yield out if len(steps) == 1 else out / f"step-{number}", step, parts


def first_network(job: TrainJob, schema: LabelSchema) -> Network:
    """Return the network that a training starts from: it follows from the job's seed, its weights or its bundle."""
    import torch

    from stylematch.vision.begun import AFTERWARDS
    from stylematch.vision.networks import Network
    from stylematch.vision.stored_network import architecture, load_network

    torch.manual_seed(job.schedule.seed)
    network = Network(job.model, schema)
    if job.model.start_from is None:
        return network
    bundle = _named_bundle("model.start_from", job.model.start_from)
    started = load_network(bundle, job.model.dropout)
    started.space = None  # it follows from the layers, and is fitted again after the training
    found, wanted = (
        {key: value for key, value in architecture(one).items() if key not in AFTERWARDS} for one in (started, network)
    )
    if bundle.schema != schema or found != wanted:
        raise UserError(
            f"model.start_from: {shown(bundle.directory)} has another architecture or other labels than this job; name "
            "the bundle of a job with the same model and data set."
        )
    network.load_state_dict(started.state_dict())
    return network


def load_teachers(job: TrainJob, schema: LabelSchema) -> list[Network]:
    """Return the networks that a training listens to."""
    from stylematch.vision.networks import Network
    from stylematch.vision.stored_network import load_network

    teachers = []
    for bundle in _teacher_bundles(job):
        if bundle is None:
            teachers.append(Network(job.model.model_copy(update={"frozen": "none"}), schema))
            continue
        if bundle.schema != schema:
            raise UserError(
                f"distill.teachers: {shown(bundle.directory)} has other labels than this job; name bundles of jobs on "
                "the same data set."
            )
        teachers.append(load_network(bundle))
    return teachers


def _named_bundle(key: str, place: str) -> Bundle:
    """Open a bundle that a setting names; the setting is said where it cannot be."""
    path = Path(place)
    if not path.is_dir():
        raise UserError(f"{key}: there is no bundle at {shown(path)}; train the job that makes it, or name another.")
    try:
        return Bundle.open(path)
    except UserError as error:
        raise UserError(f"{key}: {error}") from error


def _teacher_bundles(job: TrainJob) -> list[Bundle | None]:
    """Return the bundles that a job listens to; None is an untrained network."""
    named = () if job.distill is None else job.distill.teachers
    bundles = [None if teacher == "none" else _named_bundle("distill.teachers", teacher) for teacher in named]
    for bundle in bundles:
        if bundle is not None and bundle.input_px != job.model.input_px:
            raise UserError(
                f"distill.teachers: {shown(bundle.directory)} has another model.input_px ({bundle.input_px}) than this "
                "job; name bundles of jobs on the same pictures."
            )
    return bundles


def _most_frequent(part: Examples, schema: LabelSchema, step: Step) -> Examples:
    """Return the pictures of a step: all, or those of the most frequent classes of the first categorical group."""
    if step.most_frequent is None:
        return part
    group = next(g for g in schema.groups if g.kind == "categorical")
    labels = part.targets[group.name]
    counts = np.bincount(labels[labels >= 0], minlength=group.width)
    kept = np.argsort(-counts, kind="stable")[: step.most_frequent]
    return part.subset(np.flatnonzero(np.isin(labels, kept)))


def _calibrate(network: Network, val: Examples, input_px: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fold temperatures into the heads, in place; return them with their effect, and thresholds, by group."""
    calibration: dict[str, Any] = {}
    thresholds: dict[str, Any] = {}
    logits = network.logits(val.crops(input_px))
    for group in network.schema.groups:
        labels = val.targets[group.name]
        if group.kind == "points":
            continue
        values = logits[group.name]
        temperatures = fit_temperatures(values, labels)
        network.cool(group.name, temperatures)
        names = group.labels if group.kind == "binary" else (group.name,)
        calibration[group.name] = calibration_figures(values, labels, temperatures, names)
        if group.kind == "binary":
            chosen = choose_thresholds(apply_temperatures(values, temperatures, group.kind), labels)
            thresholds[group.name] = {name: float(t) for name, t in zip(names, chosen, strict=True)}
    return calibration, thresholds

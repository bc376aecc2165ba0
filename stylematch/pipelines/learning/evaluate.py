"""Measure a model bundle as it is used: the exported graph, in the runtime that scores, on labelled pictures.

``measure_examples`` is what a training calls for its own test splits and ``evaluate`` for any data set, so that a
figure means the same in both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from stylematch.data.celeba import CelebaFolder, read_celeba
from stylematch.data.celeba_files import ATTRIBUTES_FILE, holds_celeba
from stylematch.engines.progress import Progress
from stylematch.errors import UserError
from stylematch.evaluate.headlines import PERHAPS_LEARNED, PICTURES, POINTS_SOURCE, headlines
from stylematch.evaluate.measure import measure
from stylematch.pipelines.learning.evaluation_files import EVALUATION, Measured, write_evaluation
from stylematch.pipelines.learning.labelled import labelled_garments
from stylematch.pipelines.learning.labelled_data import LabelledData, find_labelled
from stylematch.pipelines.learning.labelled_faces import count_learned, part_of, part_title, photo_faces
from stylematch.pipelines.learning.sources import celeba_tests
from stylematch.tables.cores import usable_cores
from stylematch.tables.shown import shown
from stylematch.vision.alignment import check_face_crops
from stylematch.vision.array_files import passing_folder
from stylematch.vision.bundle import Bundle
from stylematch.vision.examples import Examples, celeba_examples
from stylematch.vision.model_pictures import takes_faces
from stylematch.vision.runtime import Predictions, Runtime, load_runtime, resolve_device, run_in_batches

_BATCH = 64


def predict_examples(runtime: Runtime, examples: Examples) -> Predictions:
    """Run a model over examples, without augmentation."""
    pictures = examples.in_channels(runtime.bundle.channels).crops()
    with Progress(len(pictures), "pictures", "measure") as progress:
        return run_in_batches(runtime, pictures, _BATCH, progress.update)


def measure_examples(
    runtime: Runtime,
    examples: Examples,
    mean_shape: Mapping[str, npt.NDArray[np.floating]],
    trained_counts: Mapping[str, npt.NDArray[np.integer]],
) -> dict[str, Any]:
    """Return a model's figures on examples, by group.

    Parameters
    ----------
    runtime : Runtime
        The model.
    examples : Examples
        Pictures that it has not learned from, with their labels.
    mean_shape, trained_counts : mapping of str to ndarray
        Of its training split: baselines and classes that it has seen.
    """
    heads = predict_examples(runtime, examples).heads
    return _figures(runtime.bundle, heads, examples, mean_shape, trained_counts)


def _figures(
    bundle: Bundle,
    heads: Mapping[str, npt.NDArray[np.floating]],
    examples: Examples,
    mean_shape: Mapping[str, npt.NDArray[np.floating]],
    trained_counts: Mapping[str, npt.NDArray[np.integer]],
) -> dict[str, Any]:
    figures = measure(
        bundle.schema,
        heads,
        examples.targets,
        thresholds=thresholds_of(bundle),
        mean_shape=mean_shape,
        trained_counts=trained_counts,
    )
    for group in bundle.schema.groups:
        if group.name == "landmarks" and group.name in figures and examples.points_source:  # of boxes nobody knows
            figures[group.name][POINTS_SOURCE] = examples.points_source
    pictures: dict[str, Any] = {"measured": len(examples), "left_out": examples.dropped}
    if any(examples.unknown.values()):
        pictures["labels the model does not know"] = {name: n for name, n in examples.unknown.items() if n}
    return {**figures, PICTURES: pictures}


def thresholds_of(bundle: Bundle) -> dict[str, npt.NDArray[np.float64]]:
    """Return the thresholds that were chosen on validation pictures, by binary group."""
    chosen = bundle.description.get("thresholds", {})
    return {
        group.name: np.array([chosen[group.name][label] for label in group.labels])
        for group in bundle.schema.groups
        if group.name in chosen
    }


@dataclass(frozen=True)
class EvaluationSummary:
    """What ``evaluate`` measured, where it wrote it, and why there are no plots, if there are none."""

    out: Path
    measured: dict[str, Any]
    no_plots: str | None = None

    def lines(self) -> list[str]:
        """Return what a person is told at the end."""
        first = headlines(self.measured)
        if self.no_plots is not None:
            return [*first, f"plots left out: {self.no_plots}", f"figures and card: {shown(self.out)}"]
        return [*first, f"figures, card and plots: {shown(self.out)}"]


def evaluate(
    directory: Path,
    data: str,
    out: Path,
    *,
    split: Literal["train", "val", "test", "all"] = "test",
    faces: Literal["aligned", "find"] = "aligned",
    images: Path | None = None,
    image_column: str | None = None,
    limit: int | None = None,
    device: str = "cpu",
) -> EvaluationSummary:
    """Measure a bundle on a labelled data set; write figures, a model card and plots.

    Parameters
    ----------
    directory : pathlib.Path
        The bundle.
    data : str
        A folder in CelebA's layout, or of Fashion-MNIST, Fashion Product Images or FlixStock; or, where it is at its
        usual place, a data set's name; or a table of labelled pictures, its columns called as the bundle's labels.
    out : pathlib.Path
        Where ``figures.json``, ``MODEL_CARD.md`` and ``plots/`` go; an earlier evaluation there is replaced.
    split : {"train", "val", "test", "all"}
        Which part of a CelebA folder; of one without a test part, "test" is all. Where some of what is measured may
        have been learned from, the card counts that. Of garments, "test" is what the
        bundle did not learn from: the held-out part of its own folder, all of another.
    faces : {"aligned", "find"}
        Pictures are face crops already, or whole photos whose faces are found as scoring finds them (CelebA).
    images : pathlib.Path, optional
        The folder that the paths in a table are relative to; by default the table's.
    image_column : str, optional
        The table's column of these paths; by default the one that the bundle learned by, or ``image``.
    limit : int, optional
        Only the first so many pictures.
    device : {"auto", "cpu", "cpu-bf16", "cuda"}
        Where the model runs.

    Raises
    ------
    UserError
        If the bundle or the data set are wrong, or do not belong together, or whole photos are taken for face crops,
        or the device is not there, or OUT holds something else than an evaluation.
    """
    EVALUATION.check(out)
    bundle, device = Bundle.open(directory), resolve_device(device)
    root, people = Path(data), None
    if holds_celeba(root):
        if faces == "aligned":
            check_face_crops(root)
        folder = read_celeba(root)
        people = folder, part_of(folder, root, split)
    garments = find_labelled(data, bundle, images, image_column)
    runtime = load_runtime(bundle, device, threads=usable_cores())
    trained = bundle.description.get("trained", {})
    shapes = {name: np.array(values) for name, values in trained.get("mean_points", {}).items()}
    counts = {name: np.array(values) for name, values in trained.get("class_counts", {}).items()}
    measured: list[Measured] = []
    with passing_folder() as cache:
        for title, examples in _labelled(bundle, data, people, garments, cache, split, faces, limit):
            if not len(examples):
                raise UserError(f"{shown(title)}: none of its {examples.dropped:,} pictures is there and can be cut.")
            known = count_learned(bundle, examples.ids)
            heads = predict_examples(runtime, examples).heads
            figures = _figures(bundle, heads, examples, shapes, counts)
            if known:
                figures[PICTURES][PERHAPS_LEARNED] = known
            measured.append(Measured(title, heads, examples.targets, figures))
    no_plots = write_evaluation(out, bundle, measured, device)
    return EvaluationSummary(out, {part.title: part.figures for part in measured}, no_plots)


def _labelled(
    bundle: Bundle,
    data: str,
    people: tuple[CelebaFolder, int | None] | None,
    garments: LabelledData | None,
    cache: Path,
    split: str,
    faces: str,
    limit: int | None,
) -> Iterator[tuple[str, Examples]]:
    root = Path(data)
    if people is not None:
        if "attributes" not in [group.name for group in bundle.schema.groups]:
            raise UserError(f"{shown(bundle.directory)} knows no attributes; {shown(root)} labels nothing else.")
        folder, part = people
        if faces == "find":
            yield from photo_faces(root, bundle.input_px, limit, part=part, read=lambda _: folder)
            return
        yield (
            part_title(root, folder, part),
            celeba_examples(root, part, input_px=bundle.input_px, cache=cache, limit=limit, read=lambda _: folder),
        )
        return
    if faces == "find" and not takes_faces(bundle):
        raise UserError(f"--faces find has no meaning for {shown(bundle.name)}, which takes whole pictures.")
    if garments:
        yield from labelled_garments(bundle, garments, cache, split, limit)
        return
    if data != "celeba" or bundle.learned.get("dataset") != data:
        raise UserError(
            f"{shown(data)} is no labelled folder: no {ATTRIBUTES_FILE} or Kaggle's .csv of it (CelebA's layout), "
            "styles.csv (Fashion Product Images), attributes.csv (FlixStock) or IDX files (Fashion-MNIST). Name such a "
            "folder, a data set, or a table of labelled pictures (.csv, .parquet); a folder for each class, where the "
            "bundle learned from such."
        )
    if split != "test":
        raise UserError(f"--split {split}: name the folder of celeba; by its name, all its test pictures are measured.")
    yield from celeba_tests(bundle.input_px, cache, limit)

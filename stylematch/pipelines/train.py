"""``train``: a job file in, a model bundle with a card of measured figures out.

Examples are cut once (and kept in ``OUT/../cache``), the network is trained or gone on with, exported, and then
measured as it will be used: the exported bundle, in the runtime that scores, on splits that nothing was learned from.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from stylematch.data import celeba as celeba_data
from stylematch.data import fashion_mnist as fashion_mnist_data
from stylematch.data.labels import LabelSchema
from stylematch.engines.progress import Progress
from stylematch.errors import MissingExtraError, PhotoRejectedError, UserError
from stylematch.evaluate.card import write_card
from stylematch.evaluate.metrics import binary_figures, categorical_figures, landmark_figures
from stylematch.settings import Model, TrainJob, data_root, load_job
from stylematch.tables.disk import file_sha256, shown
from stylematch.vision import crops
from stylematch.vision.bundle import FIGURES, Bundle
from stylematch.vision.examples import Examples, celeba_examples, fashion_mnist_examples
from stylematch.vision.face_reader import FaceReader
from stylematch.vision.faces import FaceBox
from stylematch.vision.runtime import OnnxRuntime, Predictions, run_in_batches

if TYPE_CHECKING:
    from stylematch.vision.networks import Network

_EVALUATION_BATCH = 64
_FASHION_VALIDATION_SHARE = 20  # one twentieth of Fashion-MNIST's training split is watched, not learned from


@dataclass(frozen=True)
class TrainSummary:
    """What ``train`` made: the bundle and its figures by data set."""

    bundle: Bundle
    figures: dict[str, Any]

    def lines(self) -> list[str]:
        """Return what a person is told at the end."""
        lines = [f"bundle: {shown(self.bundle.directory)} ({self.bundle.description['parameters']:,} parameters)"]
        for data_set, groups in self.figures["measured"].items():
            for group, figures in groups.items():
                values = ", ".join(f"{k} {v}" for k, v in figures.items() if not isinstance(v, dict))
                lines.append(f"{data_set}, {group}: {values}")
        return lines


@dataclass(frozen=True)
class _Source:
    """What a data set gives a training."""

    schema: LabelSchema
    parts: list[tuple[Examples, int]]
    val: Examples
    licence: str
    extra: dict[str, Any]
    evaluate: Callable[[OnnxRuntime], dict[str, Any]]


def train(job_file: Path, *, celeba: Path | None = None, fashion_mnist: Path | None = None) -> TrainSummary:
    """Train what a job file describes.

    Parameters
    ----------
    job_file : pathlib.Path
        A TOML file, see ``stylematch.settings.TrainJob``.
    celeba, fashion_mnist : pathlib.Path, optional
        The folder of the job's data set, in place of its ``data.root``.

    Raises
    ------
    UserError
        If the job or its data are wrong, or the train extra is missing.
    """
    job = load_job(job_file, TrainJob)
    roots = {"celeba": celeba, "fashion-mnist": fashion_mnist}
    root = roots.pop(job.data.dataset)
    if any(other is not None for other in roots.values()):
        raise UserError(
            f"{shown(job_file)} learns from {job.data.dataset}; give that data set's folder, not another's."
        )
    if root is not None:
        job = job.model_copy(update={"data": job.data.model_copy(update={"root": str(root)})})
    try:
        import torch

        from stylematch.vision.export import write_bundle
        from stylematch.vision.training import train_network
    except ImportError as error:
        raise MissingExtraError("Training a model", "train") from error
    out = Path(job.out)
    source = _SOURCES[job.data.dataset](job, out.parent / "cache")
    torch.manual_seed(job.schedule.seed)
    network = _first_network(job.model, source.schema)
    teacher = None if job.distill is None else _teacher(job, source.schema)
    network = train_network(network, source.schema, job, source.parts, source.val, out, teacher)
    bundle = write_bundle(
        network,
        out / "bundle",
        name=job.name,
        architecture={"backbone": job.model.backbone, "embedding_dim": job.model.embedding_dim},
        input_px=job.model.input_px,
        licence=source.licence,
        extra=source.extra,
    )
    figures = {
        "job": {"name": job.name, "sha256": file_sha256(job_file), "settings": job.model_dump(mode="json")},
        "learned_from": sum(len(part) for part, _ in source.parts),
        "measured": source.evaluate(OnnxRuntime(bundle, threads=torch.get_num_threads())),
    }
    (bundle.directory / FIGURES).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    write_card(bundle, figures)
    return TrainSummary(bundle, figures)


def _first_network(model: Model, schema: LabelSchema) -> Network:
    """Return the network that a training starts from."""
    from stylematch.vision.networks import Network, load_network

    if model.start_from is None:
        return Network(model.backbone, schema, model.embedding_dim, model.dropout, model.weights)
    bundle = Bundle.open(Path(model.start_from))
    architecture = {"backbone": model.backbone, "embedding_dim": model.embedding_dim}
    if bundle.schema != schema or bundle.description["architecture"] != architecture:
        raise UserError(
            f"model.start_from: {shown(bundle.directory)} has another architecture or other labels than this job; name "
            "the bundle of a job with the same backbone, embedding_dim and data set."
        )
    return load_network(bundle, model.dropout)


def _teacher(job: TrainJob, schema: LabelSchema) -> Network:
    """Return the network that a training listens to."""
    from stylematch.vision.networks import load_network

    assert job.distill is not None
    bundle = Bundle.open(Path(job.distill.teacher))
    if bundle.schema != schema or bundle.input_px != job.model.input_px:
        raise UserError(
            f"distill.teacher: {shown(bundle.directory)} has other labels than this job, or another model.input_px "
            f"({bundle.input_px}); name the bundle of a job on the same data set and pictures."
        )
    return load_network(bundle)


def _celeba(job: TrainJob, cache: Path) -> _Source:
    root = Path(job.data.root) if job.data.root else data_root()
    size, limit = job.model.input_px, job.data.limit

    def cut(folder: str, split: int | None, *, wild: bool = False) -> Examples:
        with Progress(None, "pictures", f"cut {folder}") as progress:
            return celeba_examples(
                root / folder, split, input_px=size, cache=cache, wild=wild, limit=limit, progress=progress.update
            )

    parts = [(cut("celeba", 0), 1)]
    if job.data.wild:
        parts.append((cut("celeba_wild", None, wild=True), job.data.wild_repeat))
    mean_shape = np.nanmean(parts[0][0].targets["landmarks"], axis=0)

    def evaluate(runtime: OnnxRuntime) -> dict[str, Any]:
        named = [("celeba test (local split)", "celeba", 2), ("celeba_aligned_sample", "celeba_aligned_sample", None)]
        measured: dict[str, Any] = {}
        for title, folder, split in named:
            if (root / folder).is_dir():
                examples = cut(folder, split)
                predictions = _predict(runtime, examples.crops(size))
                measured[title] = _face_figures(predictions, examples.targets, mean_shape)
        if (root / "photos").is_dir():
            measured |= _evaluate_photos(runtime, root / "photos", mean_shape, limit)
        return measured

    geometry = {name: getattr(crops, name) for name in ("SIDE_PER_BOX", "EYE_IN_BOX", "EYE_LINE", "ALIGNED_TOP")}
    extra = {"crop": {name.lower(): value for name, value in geometry.items()}}
    return _Source(celeba_data.SCHEMA, parts, cut("celeba", 1), celeba_data.LICENCE, extra, evaluate)


def _fashion_mnist(job: TrainJob, cache: Path) -> _Source:
    del cache  # the whole data set is one file in memory
    root = Path(job.data.root) if job.data.root else None
    examples = fashion_mnist_examples(root, "train", limit=job.data.limit)
    watched = len(examples) // _FASHION_VALIDATION_SHARE
    if job.model.input_px != examples.crops(28).shape[1] or watched == 0:
        raise UserError("fashion-mnist needs model.input_px = 28 and at least 20 pictures (data.limit).")
    rows = np.arange(len(examples))

    def evaluate(runtime: OnnxRuntime) -> dict[str, Any]:
        test = fashion_mnist_examples(root, "test", limit=job.data.limit)
        predictions = _predict(runtime, test.crops(28))
        figures = categorical_figures(
            predictions.heads["category"], test.targets["category"], fashion_mnist_data.CLASSES
        )
        return {"fashion-mnist test": {"category": figures}}

    return _Source(
        fashion_mnist_data.SCHEMA,
        [(examples.subset(rows[:-watched]), 1)],
        examples.subset(rows[-watched:]),
        f"Learned from {fashion_mnist_data.LICENCE}",
        {},
        evaluate,
    )


_SOURCES: dict[str, Callable[[TrainJob, Path], _Source]] = {"celeba": _celeba, "fashion-mnist": _fashion_mnist}


def _predict(runtime: OnnxRuntime, pictures: npt.NDArray[np.uint8]) -> Predictions:
    with Progress(len(pictures), "pictures", "measure") as progress:
        return run_in_batches(runtime, pictures, _EVALUATION_BATCH, progress.update)


def _face_figures(
    predictions: Predictions, targets: dict[str, npt.NDArray[Any]], mean_shape: npt.NDArray[np.floating]
) -> dict[str, Any]:
    return {
        "attributes": binary_figures(predictions.heads["attributes"], targets["attributes"], celeba_data.ATTRIBUTES),
        "landmarks": landmark_figures(predictions.heads["landmarks"], targets["landmarks"], mean_shape),
    }


def _evaluate_photos(
    runtime: OnnxRuntime, root: Path, mean_shape: npt.NDArray[np.floating], limit: int | None
) -> dict[str, Any]:
    """Measure on whole photos through the face finder: the largest face, and the one that meets the labelled box."""
    folder = celeba_data.read_celeba(root)
    reader = FaceReader("find", runtime.bundle.input_px, min_face_px=24, max_megapixels=200)
    largest: list[int] = []
    met: list[int] = []
    crops_found: list[npt.NDArray[np.uint8]] = []
    rows: list[int] = []
    points: list[npt.NDArray[np.floating]] = []
    pictures = folder.image_ids[:limit]
    with Progress(len(pictures), "photos", "find faces") as progress:
        for row, name in enumerate(pictures):
            progress.update(1)
            try:
                faces = reader.read((folder.pictures / name).read_bytes())
            except PhotoRejectedError:
                continue
            x, y, width, height = (float(value) for value in folder.boxes_px[row])
            labelled = FaceBox(x, y, width, height, 1.0)
            overlaps = [box.overlap(labelled) for box in faces.boxes]
            for face, square in enumerate(faces.squares):
                is_met = overlaps[face] == max(overlaps) and overlaps[face] > 0.3
                if face > 0 and not is_met:
                    continue
                position = len(crops_found)
                crops_found.append(faces.crops[face])
                rows.append(row)
                truth = (folder.landmarks_px[row] - np.tile((square.x, square.y), 5)) / square.side
                points.append(truth.astype(np.float32))
                if face == 0:
                    largest.append(position)
                if is_met:
                    met.append(position)
    predictions = _predict(runtime, np.stack(crops_found))
    targets = {"attributes": folder.attributes[rows], "landmarks": np.stack(points)}
    measured = {}
    for title, chosen in (("photos, largest face found", largest), ("photos, face that meets the label", met)):
        part = replace(predictions, heads={name: values[chosen] for name, values in predictions.heads.items()})
        figures = _face_figures(part, {name: values[chosen] for name, values in targets.items()}, mean_shape)
        if chosen is largest:
            del figures["landmarks"]  # the labelled points are another person's where the largest face is
        measured[title] = {**figures, "photos": {"found": len(chosen), "photos": len(pictures)}}
    return measured

"""``rules fit``: fit how rules and neighbours are pooled on people held out of model and gallery, and measure it.

The faces of ``celeba/`` val are fitted to: the model has not learned from them and they are not in the gallery. Test
and ``photos/`` are only measured. ``style.json`` (``fit_place``) gets the fits; the report gets the figures of rules
alone, neighbours alone and the pool.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stylematch.engines.progress import Progress
from stylematch.errors import UserError
from stylematch.evaluate.style_figures import opinion_figures
from stylematch.evaluate.style_page import style_page
from stylematch.pipelines.assets import resolve_assets
from stylematch.pipelines.judging import gallery_labels
from stylematch.pipelines.learning.evaluate import predict_examples
from stylematch.pipelines.learning.fit_place import FitPlace
from stylematch.pipelines.learning.labelled_faces import photo_faces
from stylematch.pipelines.learning.merge import merged_table
from stylematch.pipelines.style_fit import gallery_sha256
from stylematch.search.directory import StoredIndex, load_index_directory
from stylematch.search.names import some
from stylematch.settings.load import data_root
from stylematch.style.fits import Fit
from stylematch.style.fitting import MOST_NEIGHBOURS, HeldOut, fit_neighbours, fit_pool, fit_rules
from stylematch.style.fusion import FLOOR
from stylematch.style.informed import GalleryAttributes
from stylematch.style.neighbours import VoteSettings, style_frequencies
from stylematch.style.rules import load_rules, shipped_rule_sets
from stylematch.style.ruleset import RuleSet
from stylematch.tables.cores import usable_cores
from stylematch.tables.disk import check_writable, write_durably
from stylematch.tables.shown import shown
from stylematch.vision.array_files import passing_folder
from stylematch.vision.examples import Examples, celeba_examples
from stylematch.vision.runtime import CpuRuntime

FIGURES_FILE, PAGE_FILE = "style-figures.json", "style-figures.md"
_FITTED_TO, _TEST = "celeba val (local split)", "celeba test (local split)"
_PHOTOS = "photos, face that meets the label"
_VAL_SPLIT, _TEST_SPLIT = 1, 2


@dataclass(frozen=True)
class LabelledFaces:
    """What the attribute model says of n labelled faces, and their neighbours.

    Attributes
    ----------
    probabilities : ndarray of float32, shape (n, a)
        Of the attributes.
    labels : ndarray of bool, shape (n, a)
        The truth.
    positions : ndarray of int64, shape (n, k)
        The nearest faces' rows of the gallery, nearest first.
    similarities : ndarray of float64, shape (n, k)
        Their cosine similarities.
    people : ndarray of int64, shape (n,)
        Whose face it is; where that is not known, every face is one person's.
    """

    probabilities: NDArray[np.float32]
    labels: NDArray[np.bool_]
    positions: NDArray[np.int64]
    similarities: NDArray[np.float64]
    people: NDArray[np.int64]


@dataclass(frozen=True)
class FitSummary:
    """What ``rules fit`` fitted and measured, and where it wrote it."""

    style: Path
    report: Path
    figures: dict[str, Any]

    def lines(self) -> list[str]:
        """Return what a person is told at the end."""
        told = []
        for name, of_set in self.figures["rule_sets"].items():
            for title, measured in of_set["measured"].items():
                losses = ", ".join(f"{key} {said['log_loss']}" for key, said in measured["opinions"].items())
                told.append(f"{name}, {title}: log loss {losses}")
        return [*told, f"fits: {shown(self.style)}", f"figures: {shown(self.report / PAGE_FILE)}, {FIGURES_FILE}"]


def fit_style(
    rule_sets: Sequence[str],
    report: Path,
    *,
    out: Path | None = None,
    indexes: Sequence[Path] = (),
    root: Path | None = None,
    cache: Path | None = None,
) -> FitSummary:
    """Fit rule sets' pools to a gallery and measure them.

    Parameters
    ----------
    rule_sets : sequence of str
        Names of shipped sets or files; all that are shipped where there is none.
    report : pathlib.Path
        Where the figures go.
    out : pathlib.Path, optional
        Where the fits go, with a copy of the gallery; by default beside the gallery (``fit_place``).
    indexes : sequence of pathlib.Path
        As for ``score``: which gallery and model.
    root : pathlib.Path, optional
        The folder that holds ``celeba/`` and ``photos/``.
    cache : pathlib.Path, optional
        Where cut faces are kept, as those of a training are.

    Raises
    ------
    UserError
        Data, indexes or rule sets are missing or wrong.
    """
    assets = resolve_assets(indexes)
    place = FitPlace(assets.faces.directory, rule_sets, out)
    check_writable(report.absolute())
    bundle, names, categories = assets.attributes, assets.attribute_names, assets.items.labels
    sets = [load_rules(name, attribute_names=names, categories=categories) for name in rule_sets or shipped_rule_sets()]
    if len({rules.name for rules in sets}) < len(sets):
        raise UserError(
            f"rule sets to fit: {', '.join(shown(rules.name) for rules in sets)}: two have one name; rename one"
        )
    gallery = load_index_directory(assets.faces.directory, threads=usable_cores())
    folder = root or data_root()
    if not (folder / "celeba").is_dir():
        raise UserError(f"{shown(folder)} has no folder 'celeba' with held-out people; name the folder with --root.")
    runtime = CpuRuntime(bundle, threads=usable_cores())
    by_title: dict[str, LabelledFaces] = {}
    with ExitStack() as stack:
        kept = cache or stack.enter_context(passing_folder())
        known = set(gallery.index.ids)
        for title, examples, people in _examples(folder, sets[0], bundle.input_px, kept):
            if among := [name for name in examples.ids if name in known]:
                raise UserError(
                    f"{shown(assets.faces.directory)} holds {len(among):,} of the faces of {title}, "
                    f"{shown(some(among))}: each would find itself, with its true style; fit to a gallery of the "
                    "training split alone ('embed celeba --split train')."
                )
            predictions = predict_examples(runtime, examples)
            found = gallery.index.search(predictions.embedding, min(MOST_NEIGHBOURS, len(gallery.index)))
            by_title[title] = LabelledFaces(
                predictions.heads["attributes"],
                examples.targets["attributes"] == 1,
                found.positions,
                found.scores,
                people,
            )
    figures: dict[str, Any] = {"sha256": gallery_sha256(assets), "fitted_to": _FITTED_TO, "rule_sets": {}}
    fits = {}
    for rules in sets:
        fit, figures["rule_sets"][rules.name] = fit_and_measure(rules, gallery, by_title)
        fits[rules.sha256] = (rules.name, fit)
    style = place.write(fits, gallery_sha256(assets), _FITTED_TO)
    report.mkdir(parents=True, exist_ok=True)
    write_durably(report / FIGURES_FILE, (json.dumps(figures, indent=2) + "\n").encode())
    write_durably(report / PAGE_FILE, style_page(figures).encode())
    return FitSummary(style, report, figures)


def fit_and_measure(
    rules: RuleSet, gallery: StoredIndex, by_title: dict[str, LabelledFaces]
) -> tuple[Fit, dict[str, Any]]:
    """Fit one rule set to the held-out people, and measure it on all the others.

    Parameters
    ----------
    rules : RuleSet
        The set.
    gallery : StoredIndex
        The face gallery.
    by_title : dict of str to LabelledFaces
        One of them is ``celeba val (local split)``.
    """
    labels = gallery_labels(gallery, rules)
    styles = rules.hard(labels)
    prior = style_frequencies(styles, len(rules.styles))
    attributes = GalleryAttributes(rules, labels)
    opinions = {
        title: HeldOut(
            rules.soft(faces.probabilities),
            styles[faces.positions],
            faces.similarities,
            prior,
            rules.hard(faces.labels),
            faces.people,
            attributes.known(faces.probabilities, faces.positions),
        )
        for title, faces in by_title.items()
    }
    val = opinions.pop(_FITTED_TO)
    with Progress(3, "fits", f"fit {rules.name}") as progress:
        fits = {}
        for name, fitted in (("pooled", fit_pool), ("rules_fitted", fit_rules), ("neighbours_fitted", fit_neighbours)):
            fits[name] = fitted(val)
            progress.update(1)
    measured = {}
    for title, held_out in opinions.items():
        said = {
            "rules": np.maximum(held_out.rules, FLOOR),
            "neighbours": held_out.votes(VoteSettings()),
            **{name: held_out.pooled(fit) for name, fit in fits.items()},
        }
        measured[title] = opinion_figures(said, held_out.truth, held_out.people, rules.styles, pooled="pooled")
    fit = fits["pooled"]
    described = {name: {"vote": asdict(one.vote), "weights": asdict(one.weights)} for name, one in fits.items()}
    return fit, {
        "rules_sha256": rules.sha256,
        "fit": described.pop("pooled"),
        "baselines": described,
        "measured": measured,
    }


def _examples(
    root: Path, rules: RuleSet, input_px: int, cache: Path
) -> Iterator[tuple[str, Examples, NDArray[np.int64]]]:
    table = merged_table(root / "celeba", rules)
    person = dict(zip(table["image_id"].to_pylist(), table["identity"].to_pylist(), strict=True))
    for title, split in ((_FITTED_TO, _VAL_SPLIT), (_TEST, _TEST_SPLIT)):
        with Progress(None, "pictures", f"cut {title}") as progress:
            examples = celeba_examples(root / "celeba", split, input_px=input_px, cache=cache, progress=progress.update)
        if not len(examples):
            raise UserError(
                f"{shown(root / 'celeba')} has no faces of split {split}, which {title} is measured on; "
                "list_eval_partition.txt has to name some."
            )
        yield title, examples, _people(examples, person)
    if (root / "photos").is_dir():
        for title, examples in photo_faces(root / "photos", input_px):
            if title == _PHOTOS:
                yield title, examples, _people(examples, {})


def _people(examples: Examples, person: dict[str, int | None]) -> NDArray[np.int64]:
    """Return whose each face is; a face without a name is told by a number of its own, below 0."""
    named = [person.get(image_id) for image_id in examples.ids]
    return np.array([-1 - row if number is None else number for row, number in enumerate(named)], np.int64)

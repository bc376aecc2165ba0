"""One report on whether recommendations can be trusted: retrieval beside baselines, and the lists of a run.

Each part stands by itself and is left out, with its reason, where its data are absent. Nothing here knows anybody's
taste: there is no interaction log, so what is measured is consistency.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stylematch.data.fashion_mnist import find_fashion_mnist
from stylematch.data.fashion_product import TABLE
from stylematch.engines.progress import Progress
from stylematch.errors import MissingExtraError, UserError
from stylematch.evaluate.intervals import RESAMPLES
from stylematch.evaluate.recs_report import PARTS, draw_report, headlines, plot_name, report_text
from stylematch.pipelines.assets import default_index
from stylematch.pipelines.recs.encoders import BundleEncoder, baselines
from stylematch.pipelines.recs.items import measure_items
from stylematch.pipelines.recs.lists import measure_lists, open_run
from stylematch.pipelines.recs.worn import measure_worn
from stylematch.settings.load import data_root
from stylematch.tables.disk import check_writable, explained, write_durably
from stylematch.tables.shown import is_url, shown, shown_url
from stylematch.vision.bundle import Bundle

REPORT, TEXT, PLOTS, CACHE = "report.json", "report.md", "plots", "cache"


@dataclass(frozen=True)
class RecsSummary:
    """What ``evaluate_recs`` measured, and where it wrote it."""

    out: Path
    report: dict[str, Any]

    def lines(self) -> list[str]:
        """Return what a person is told at the end."""
        left_out = [f"{part} left out: {why}" for part, why in self.report["left_out"].items()]
        return [*headlines(self.report), *left_out, f"report and plots: {shown(self.out)}/{TEXT}"]


def evaluate_recs(
    out: Path,
    *,
    garments: Path | None = None,
    fashion_mnist: Path | None = None,
    fashion_product: Path | None = None,
    run: Path | None = None,
    indexes: Sequence[Path] = (),
    limit: int | None = None,
) -> RecsSummary:
    """Measure a garment encoder, and the lists of a run, and write one report.

    Parameters
    ----------
    out : pathlib.Path
        Where ``report.json``, ``report.md``, ``plots/`` and ``cache/`` go; created. An earlier report there is
        replaced, all else stays.
    garments : pathlib.Path, optional
        The encoder's bundle; the default index's, if none is named.
    fashion_mnist, fashion_product : pathlib.Path, optional
        Folders of the data sets; where they usually are, if none is named.
    run : pathlib.Path, optional
        A run of ``score``, whose lists are measured.
    indexes : sequence of pathlib.Path
        What that run was given as ``--index``.
    limit : int, optional
        Only the first so many pictures of each part of a data set, for a quick try.

    Returns
    -------
    RecsSummary

    Raises
    ------
    UserError
        If what was named is not there, or nothing could be measured, or OUT is a file or holds somebody else's report.
    """
    # Everything that was named is looked at before minutes of work.
    _check_out(out)
    bundle = Bundle.open(garments or default_index() / "garments")
    encoder = BundleEncoder(bundle)
    if fashion_mnist is not None:
        find_fashion_mnist(fashion_mnist)
    products = fashion_product or data_root() / "fashion_product"
    if fashion_product is not None and not (products / TABLE).is_file():
        raise UserError(f"--fashion-product {shown(products)} has no {TABLE}: name Fashion Product's folder.")
    opened = None if run is None else open_run(run, indexes)
    with explained("write", out):
        out.mkdir(parents=True, exist_ok=True)
    cache = out / CACHE
    others, missing = baselines(cache)
    encoders = [encoder, *others]
    report: dict[str, Any] = {
        "encoder": {
            "name": bundle.name,
            "sha256": bundle.sha256,
            "embedding_dim": bundle.embedding_dim,
            "channels": bundle.channels,
        },
        "limit": limit,
        "resamples": RESAMPLES,
        "parts": {},
        "left_out": {},
    }
    measured: dict[tuple[str, ...], Callable[[], dict[str, Any]]] = {
        ("items", "instance"): lambda: measure_items(encoders, missing, fashion_mnist, limit),
        ("worn", "worn_held_out"): lambda: measure_worn(encoders, missing, bundle, products, cache, limit),
    }
    for names, measure in measured.items():
        try:
            report["parts"] |= measure()
        except UserError as error:
            report["left_out"] |= dict.fromkeys(names, shown(str(error)))
    if opened is None:
        report["left_out"]["lists"] = "no run was named (--run)"
    else:
        report["parts"]["lists"] = measure_lists(opened)
    if not report["parts"]:
        reasons = "; ".join(dict.fromkeys(report["left_out"].values()))
        raise UserError(f"There is nothing to measure: {reasons}")
    report["parts"] = {name: report["parts"][name] for name in PARTS if name in report["parts"]}
    _write(out, report)
    return RecsSummary(out, report)


def _check_out(out: Path) -> None:
    if is_url(out):
        raise UserError(f"--out {shown_url(out)} is a URL: a report goes into a folder of this machine; name one.")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {shown(out)} is a file; name a folder.")
    check_writable(out.absolute())
    there = [name for name in (REPORT, TEXT) if (out / name).exists()]
    if there and not _is_report(out / REPORT):
        raise UserError(
            f"--out {shown(out)} holds {there[0]}, which evaluate-recs did not write and would replace: move it away "
            "or name another folder."
        )


def _is_report(path: Path) -> bool:
    try:
        return {"encoder", "parts", "left_out"} <= set(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return False


def _write(out: Path, report: dict[str, Any]) -> None:
    folder = out / PLOTS
    with explained("write", folder):
        folder.mkdir(exist_ok=True)
    try:
        with Progress(len(report["parts"]), "plots", "draw") as progress:
            drawn = draw_report(folder, report, progress.update)
    except MissingExtraError as error:
        drawn, report["left_out"]["plots"] = {}, str(error)
    for part in PARTS:
        if part not in drawn:  # an earlier report's, of a part that this one leaves out
            (folder / plot_name(part)).unlink(missing_ok=True)
    # The first says whose the second is.
    write_durably(out / REPORT, (json.dumps(report, indent=2) + "\n").encode())
    write_durably(out / TEXT, report_text(report, {part: f"{PLOTS}/{name}" for part, name in drawn.items()}).encode())

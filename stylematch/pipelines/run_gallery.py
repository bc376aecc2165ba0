"""The gallery of a run: its tables, and what its models, rules and catalogue say of the faces and items in them."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from stylematch.engines.progress import Progress
from stylematch.pipelines.advice import Adviser
from stylematch.pipelines.score_partition import ScoreJob
from stylematch.report.gallery import write_gallery
from stylematch.report.item_pictures import picture_of_items
from stylematch.report.page_rows import ItemFacts, ItemPicture, LabelledFace, Nearest, NearestFaces
from stylematch.search.catalog import ItemCatalog, read_rows
from stylematch.search.directory import load_index_directory
from stylematch.tables.disk import explained, shown
from stylematch.tables.manifest import Counts, Stage, code_version, usable_cores
from stylematch.vision.bundle import Bundle

NEAREST_SHOWN = 5
SHARES_SHOWN = 3
_FACTS = ("title", "price", "url")


def write_run_gallery(job: ScoreJob, tables: Counts, stages: Mapping[str, Stage]) -> Stage:
    """Write the gallery of a staged run; return how long that took.

    Parameters
    ----------
    job : ScoreJob
        The run.
    tables : Counts
        What its tables hold.
    stages : mapping of str to Stage
        How long the steps before took, for the page.

    Raises
    ------
    StylematchError
        If a file cannot be written.
    """
    clock = time.perf_counter()
    item_picture, item_facts = _items(job)
    facts = {
        "Run": job.run_id,
        "Rules": shown(job.settings.rules),
        "Attribute model": Bundle.open(job.assets.attributes).name,
        "Code": code_version(),
    }
    if job.settings.without:
        facts["Switched off"] = shown(", ".join(job.settings.without))
    if tables.ignored:
        facts["Passed over"] = ", ".join(f"{why.replace('_', ' ')} {n:,}" for why, n in sorted(tables.ignored.items()))
    with explained("write", job.staged / "report"), Progress(tables.found, "photos", "report") as progress:
        write_gallery(
            job.staged,
            item_picture=item_picture,
            item_facts=item_facts,
            nearest=_nearest(job) if tables.faces else None,
            title=f"stylematch: {shown(job.root.resolve().name)}",
            summary=facts,
            stages=stages,
            advance=progress.update,
        )
    return Stage(time.perf_counter() - clock, tables.found, "photos")


def _items(job: ScoreJob) -> tuple[ItemPicture, ItemFacts]:
    catalog = ItemCatalog(load_index_directory(job.assets.items))
    position_of = {item_id: position for position, item_id in enumerate(catalog.item_ids)}

    def facts(item_id: str) -> dict[str, str]:
        values = ((name, catalog.value(name, position_of[item_id])) for name in _FACTS)
        return {name: value for name, value in values if value}

    return picture_of_items(catalog, job.assets.pictures), facts


def _nearest(job: ScoreJob) -> Nearest:
    """Return the vote as it was while the photos were scored, asked again: the tables keep only what it came to."""
    judge = Adviser(job.settings, job.assets, job.device, usable_cores(), job.allowed_items).judge
    rows = read_rows(job.assets.faces)
    hidden = job.settings.without
    names = [n for n in judge.rules.attribute_names if n in rows.column_names and n not in hidden]
    labels = np.stack([rows[name].to_numpy() for name in names], axis=1)
    ids, styles = rows["id"].to_pylist(), judge.rules.styles

    def labelled(position: int) -> LabelledFace:
        shows = tuple(names[number] for number in np.flatnonzero(labels[position]))
        return LabelledFace(ids[position], styles[judge.neighbours.gallery_styles[position]], shows)

    def nearest(embeddings: npt.NDArray[np.float32]) -> list[NearestFaces]:
        vote = judge.neighbours.vote(np.ascontiguousarray(embeddings, np.float32))
        best = np.argsort(-vote.distribution, axis=1, kind="stable")[:, :SHARES_SHOWN]
        return [
            NearestFaces(
                [(styles[style], float(shares[style])) for style in of],
                [
                    (labelled(int(position)), float(similarity))
                    for position, similarity in zip(positions[:NEAREST_SHOWN], similarities, strict=False)
                ],
            )
            for of, shares, positions, similarities in zip(
                best, vote.distribution, vote.positions, vote.similarities, strict=True
            )
        ]

    return nearest

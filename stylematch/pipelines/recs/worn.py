"""Worn clothes to the catalogue, a measurement of ``evaluate-recs`` on Fashion Product Images.

The query is the torso below the face in a product picture that shows a person; the gallery are the products' pictures
as ``catalog build`` cuts them; relevant is what has the query's article type and gender. Queries are of the products
that the garment encoder did not learn from: the fifth that its training held out, or all of another folder. What else
is in the catalogue was learned from, so the same is measured against those products alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stylematch.data.copies import contents_of, first_new, first_of_each
from stylematch.data.fashion_product import FashionProduct, mask_rare, read_fashion_product
from stylematch.engines.progress import Progress
from stylematch.errors import UserError
from stylematch.evaluate.retrieval import METRICS, count_relevant, find_by_label, mean_figures
from stylematch.pipelines.learning.garment_sources import split_as_trained
from stylematch.pipelines.learning.labelled import new_rows
from stylematch.pipelines.recs.crops import item_crops, worn_crops
from stylematch.pipelines.recs.encoders import Encoder
from stylematch.settings.train_data import TrainData
from stylematch.vision.bundle import Bundle

# What jobs/garments.toml says.
_USUAL = TrainData(dataset="garments", split="stratified", min_label_count=20)
Rows = npt.NDArray[np.int64]


def measure_worn(
    encoders: Sequence[Encoder],
    missing: Mapping[str, str],
    bundle: Bundle,
    root: Path,
    cache: Path,
    limit: int | None,
) -> dict[str, dict[str, Any]]:
    """Return two parts of the report: ``worn``, against the whole catalogue, and ``worn_held_out``.

    Parameters
    ----------
    encoders, missing, limit
        As ``stylematch.pipelines.recs.items.measure_items`` takes them; the limit holds for the products, those that
        were held out first.
    bundle : Bundle
        Says what was held out.
    root : pathlib.Path
        Fashion Product's folder.
    cache : pathlib.Path
        Folder for the cut pictures.

    Raises
    ------
    UserError
        If the data are not there, or no picture that is new to the bundle shows a person.
    """
    products = read_fashion_product(root)
    contents = contents_of(products.pictures, products.names)
    # A copy would be found without any knowledge of garments, whether among what was learned or among the queries.
    first = first_of_each(contents)
    new = new_rows(bundle, "fashion-product", products.names)
    learned = new is not None and not new.all()
    if new is not None:
        new = first_new(contents, ~new)
    else:
        # Of a bundle that learned from other pictures, the fifth is asked about that a training of ours would hold out.
        new = np.zeros(len(products), np.bool_)
        new[split_as_trained(mask_rare(products, _USUAL.min_label_count), _USUAL)[2]] = True
    held_out, others = (np.flatnonzero(rows & first)[:limit] for rows in (new, ~new))
    queries = worn_crops(products, held_out, cache)
    if not len(queries.rows):
        raise UserError(f"none of the {len(held_out):,} held-out pictures in {root} shows clothes below a face")
    catalogue = np.concatenate([held_out, others])
    # By id, as equally similar items stand.
    catalogue = np.array(sorted(catalogue.tolist(), key=products.ids.__getitem__), np.int64)
    gallery, gallery_rows = item_crops(products, catalogue, cache)
    query_rows = np.concatenate([queries.rows, queries.failed])
    there = {
        "worn": np.arange(len(gallery_rows)),
        "worn_held_out": np.flatnonzero(np.isin(gallery_rows, held_out)),
    }
    labels = _type_and_gender(products)
    parts: dict[str, dict[str, Any]] = {
        name: _about(labels, query_rows, gallery_rows[places])
        | {
            "pictures_held_out": len(held_out),
            "showing_a_person": len(query_rows),
            "unreadable_in_catalogue": len(catalogue) - len(gallery_rows),
            "learned_from_catalogue": learned,
        }
        for name, places in there.items()
    }
    for encoder in encoders:
        asked = encoder.embed(queries.pictures, "worn clothes")
        # A picture that shows a person but gave no crop is a query that nothing can answer.
        asked = np.concatenate([asked, np.full((len(queries.failed), asked.shape[1]), np.nan, np.float32)])
        items = encoder.embed(gallery, "the catalogue")
        for name, places in there.items():
            scores = _scores(encoder, asked, items[places], labels, query_rows, gallery_rows[places])
            parts[name]["rows"][encoder.name] = mean_figures(scores)
    for part in parts.values():
        part["rows"] |= {name: {"not_measured": why} for name, why in missing.items()}
    return parts


def _scores(
    encoder: Encoder,
    asked: npt.NDArray[np.float32],
    items: npt.NDArray[np.float32],
    labels: Rows,
    query_rows: Rows,
    gallery_rows: Rows,
) -> dict[str, npt.NDArray[np.float64]]:
    own = _places(query_rows, gallery_rows)
    answerable = count_relevant(labels[query_rows], labels[gallery_rows], own) > 0
    if not answerable.any():
        return {name: np.empty(0) for name in METRICS}
    with Progress(int(answerable.sum()), "queries", f"{encoder.name}: worn to catalogue") as progress:
        return find_by_label(
            asked[answerable],
            items,
            labels[query_rows[answerable]],
            labels[gallery_rows],
            own=own[answerable],
            advance=progress.update,
        )


def _about(labels: Rows, query_rows: Rows, gallery_rows: Rows) -> dict[str, Any]:
    total = count_relevant(labels[query_rows], labels[gallery_rows], _places(query_rows, gallery_rows))
    answerable = total > 0
    return {
        "queries": int(answerable.sum()),
        "without_relevant": int((~answerable).sum()),
        "gallery": len(gallery_rows),
        # What drawing items at random would give, for P@10 as for R@1.
        "relevant_share": round(float((total[answerable] / len(gallery_rows)).mean()), 6) if answerable.any() else None,
        "rows": {},
    }


def _places(rows: Rows, among: Rows) -> Rows:
    """Return where each row stands among others, -1 where it does not."""
    place = {row: number for number, row in enumerate(among.tolist())}
    return np.array([place.get(row, -1) for row in rows.tolist()], np.int64)


def _type_and_gender(products: FashionProduct) -> Rows:
    kind, gender = products.labels["articleType"], products.labels["gender"]
    return np.where((kind >= 0) & (gender >= 0), kind * (len(products.classes["gender"]) + 1) + gender, -1)

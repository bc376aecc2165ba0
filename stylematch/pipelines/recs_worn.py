"""Worn clothes to the catalogue, a measurement of ``evaluate-recs`` on Fashion Product Images.

The query is the torso below the face in a product picture that shows a person; the gallery are the products' pictures
as ``catalog build`` cuts them; relevant is what has the query's article type and gender. Queries are of the fifth of
the products that the garment encoder's training holds out. The catalogue was learned from but for that fifth, so the
same is measured against the fifth alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stylematch.data.decode import decode_photo
from stylematch.data.fashion_product import (
    FashionProduct,
    mask_rare,
    may_be_worn_on_torso,
    read_fashion_product,
)
from stylematch.engines.progress import Progress
from stylematch.errors import PhotoRejectedError, UserError
from stylematch.evaluate.retrieval import METRICS, count_relevant, find_by_label, mean_figures
from stylematch.pipelines.garment_sources import split_as_trained
from stylematch.pipelines.recs_encoders import SIDE_PX, Encoder
from stylematch.settings import TrainData
from stylematch.tables.manifest import usable_cores
from stylematch.vision.bundle import Bundle
from stylematch.vision.examples import Examples
from stylematch.vision.faces import YunetLocator
from stylematch.vision.whole_pictures import whole_picture_examples

# What jobs/garments.toml says; of a bundle that learned from other pictures, the same fifth is asked about.
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
        As ``stylematch.pipelines.recs_items.measure_items`` takes them; the limit holds for the products, those that
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
        If the data are not there, no picture of the fifth shows a person, or the bundle was trained on another split.
    """
    settings, learned = _split_of(bundle)
    products = read_fashion_product(root)
    train, watched, held_out = split_as_trained(mask_rare(products, settings.min_label_count), settings)
    held_out = held_out[:limit]
    others = np.sort(np.concatenate([train, watched]))[:limit]
    queries, shown, failed = _worn(products, held_out, cache)
    if not len(queries):
        raise UserError(f"none of the {len(held_out):,} held-out pictures in {root} shows clothes below a face")
    catalogue = sorted(np.concatenate([held_out, others]).tolist(), key=lambda row: products.ids[row])
    gallery = _as_catalogued(products, np.array(catalogue), cache)
    row_of = {product: row for row, product in enumerate(products.ids)}
    query_rows = np.array([row_of[name] for name in (*queries.ids, *failed)], np.int64)
    gallery_rows = np.array([row_of[name] for name in gallery.ids], np.int64)
    there = {
        "worn": np.arange(len(gallery_rows)),
        "worn_held_out": np.flatnonzero(np.isin(gallery_rows, held_out)),
    }
    labels = _type_and_gender(products)
    parts: dict[str, dict[str, Any]] = {
        name: _about(labels, query_rows, gallery_rows[places])
        | {
            "pictures_held_out": len(held_out),
            "showing_a_person": shown,
            "unreadable_in_catalogue": gallery.dropped,
            "learned_from_catalogue": learned,
        }
        for name, places in there.items()
    }
    for encoder in encoders:
        asked = encoder.embed(queries.crops(SIDE_PX), "worn clothes")
        # A picture that shows a person but gave no crop is a query that nothing can answer.
        asked = np.concatenate([asked, np.full((len(failed), asked.shape[1]), np.nan, np.float32)])
        items = encoder.embed(gallery.crops(SIDE_PX), "the catalogue")
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


def _worn(products: FashionProduct, rows: Rows, cache: Path) -> tuple[Examples, int, list[str]]:
    """Return the torso crops, how many pictures show a person, and the ids of those that gave no crop."""
    queries = _cut(products, rows, "worn", cache)
    cropped = set(queries.ids)
    without = [products.ids[row] for row in rows if products.ids[row] not in cropped]
    locator, failed = YunetLocator(), []
    with Progress(len(without), "pictures", "look for faces without a torso") as progress:
        for product in without:
            try:
                data = (products.pictures / f"{product}.jpg").read_bytes()
                photo = decode_photo(data, max_side_px=640, max_megapixels=100.0)
                if locator.locate(photo).boxes:
                    failed.append(product)
            except (OSError, PhotoRejectedError):
                pass  # nobody can say that it shows a person
            progress.update()
    return queries, len(queries) + len(failed), failed


def _as_catalogued(products: FashionProduct, rows: Rows, cache: Path) -> Examples:
    """Return the pictures as ``catalog build`` cuts them: the torso where a person wears the item, else the garment."""
    names = (*products.classes["articleType"], "")  # the last entry is where -1, unknown, points to
    worn = [row for row in rows if may_be_worn_on_torso(names[products.labels["articleType"][row]])]
    torsos = _cut(products, np.array(worn, np.int64), "worn", cache)
    shown = set(torsos.ids)
    garments = _cut(products, np.array([row for row in rows if products.ids[row] not in shown]), "garment", cache)
    ids = (*torsos.ids, *garments.ids)
    order = sorted(range(len(ids)), key=ids.__getitem__)
    fields = np.concatenate([torsos.fields, garments.fields])[order]
    return Examples(tuple(ids[place] for place in order), fields, {}, garments.dropped)


def _cut(products: FashionProduct, rows: Rows, mode: str, cache: Path) -> Examples:
    with Progress(len(rows), "pictures", f"cut {mode} pictures") as progress:
        return whole_picture_examples(
            products.pictures,
            [products.names[row] for row in rows],
            {},
            input_px=SIDE_PX,
            mode=mode,
            cache=cache,
            ids=[products.ids[row] for row in rows],
            workers=usable_cores(),
            progress=progress.update,
        )


def _places(rows: Rows, among: Rows) -> Rows:
    """Return where each row stands among others, -1 where it does not."""
    place = {row: number for number, row in enumerate(among.tolist())}
    return np.array([place.get(row, -1) for row in rows.tolist()], np.int64)


def _type_and_gender(products: FashionProduct) -> Rows:
    kind, gender = products.labels["articleType"], products.labels["gender"]
    return np.where((kind >= 0) & (gender >= 0), kind * (len(products.classes["gender"]) + 1) + gender, -1)


def _split_of(bundle: Bundle) -> tuple[TrainData, bool]:
    """Return the split that the bundle's training made, and whether it learned from the products at all."""
    learned = bundle.description.get("data")
    if not isinstance(learned, dict) or not str(learned.get("dataset", "")).startswith(("garments", "fashion-product")):
        return _USUAL, False
    settings = TrainData(**learned)
    if settings.dataset == "fashion-product" and settings.split != "stratified":
        raise UserError(f"{bundle.name} learned from other years' products, not from four fifths of them")
    return settings, True

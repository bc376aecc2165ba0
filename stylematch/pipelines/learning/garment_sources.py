"""Garment data sets as sources: Fashion-MNIST, Fashion Product Images, FlixStock, and the first two together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stylematch.data import fashion_mnist as fashion_mnist_data
from stylematch.data import fashion_product, flixstock
from stylematch.data.labels import LabelSchema
from stylematch.data.splits import Rows, split_random, split_stratified
from stylematch.errors import UserError
from stylematch.pipelines.learning.source import TO_TEST_ON, Source
from stylematch.pipelines.learning.whole_source import TEST_SHARE, CutRows, cut_whole, dropped_rows, undecodable
from stylematch.settings.load import usual_folder
from stylematch.settings.train_data import TrainData
from stylematch.vision.examples import Examples, fashion_mnist_examples, joined

_FASHION_VALIDATION_SHARE = 20  # one twentieth of Fashion-MNIST's training split is watched, not learned from


def fashion_mnist_source(data: TrainData, input_px: int, cache: Path, margin: bool) -> Source:
    """Open Fashion-MNIST; the last twentieth of its training split is watched.

    Raises
    ------
    UserError
        If it is not there, or too few pictures are wanted.
    """
    del input_px, cache  # the whole data set is one file in memory
    root = Path(data.root) if data.root else None
    examples = fashion_mnist_examples(root, "train", margin=margin, limit=data.limit)
    watched = len(examples) // _FASHION_VALIDATION_SHARE
    if watched == 0:
        raise UserError(
            f"data.limit: fashion-mnist needs at least {_FASHION_VALIDATION_SHARE} pictures, of which one is watched; "
            "raise it."
        )
    rows = np.arange(len(examples))

    def tests() -> Iterator[tuple[str, Examples]]:
        yield "fashion-mnist test", fashion_mnist_examples(root, "test", limit=data.limit)

    return Source(
        fashion_mnist_data.SCHEMA,
        [(examples.subset(rows[:-watched]), 1)],
        examples.subset(rows[-watched:]),
        tests,
        f"Learned from {fashion_mnist_data.LICENCE}",
    )


def fashion_product_source(data: TrainData, input_px: int, cache: Path, margin: bool) -> Source:
    """Open Fashion Product Images, split by years or stratified by article type."""
    root = Path(data.root) if data.root else usual_folder("fashion_product")
    products = fashion_product.without_copies(fashion_product.read_fashion_product(root))
    every = products.classes
    if data.min_label_count > 1:
        products = fashion_product.mask_rare(products, data.min_label_count)
    schema = fashion_product.schema(products, data.label_groups)  # before a picture is cut
    notes: dict[str, Any] = dict(dropped_rows(products.dropped))
    for group in data.label_groups:
        if rare := [name for name in every[group] if name not in products.classes[group]]:
            notes[f"{group} that fewer than {data.min_label_count:,} pictures have, masked"] = rare
    if data.split == "years":
        parts = fashion_product.split_by_year(products, data.validation, data.split_seed)
        train, val, test = parts.train, parts.validation, parts.test
        title = "fashion-product test (odd years)"
        if len(parts.left_out):
            notes["rows of no year, left out"] = len(parts.left_out)
    else:
        train, val, test = split_as_trained(products, data)
        title = "fashion-product test (stratified fifth)"
    for group in data.label_groups:
        if untrained := fashion_product.never_trained(products, train, test, group):
            notes[f"{group} that no training picture has"] = list(untrained)
    notes[TO_TEST_ON] = len(test[: data.limit])
    cut = _cut_for(data, input_px, cache, products.pictures, products.names, products.labels, data.resize)
    learned, watched = cut(train, margin), cut(val, margin)
    return Source(
        schema,
        [(learned, 1)],
        watched,
        lambda: iter([(title, cut(test))]),
        fashion_product.LICENCE,
        {"input": {"resize": data.resize}},
        notes | undecodable(learned, watched),
        _named(products.names, train, val),
    )


def split_as_trained(products: fashion_product.FashionProduct, data: TrainData) -> tuple[Rows, Rows, Rows]:
    """Return the rows to learn from, to watch and to test on, article types shared out alike."""
    labels = products.labels["articleType"]
    rest, test = split_stratified(labels, TEST_SHARE, data.split_seed)
    kept, held = split_stratified(labels[rest], data.validation, data.split_seed)
    return rest[kept], rest[held], test


def garments_source(data: TrainData, input_px: int, cache: Path, margin: bool) -> Source:
    """Open Fashion-MNIST and Fashion Product Images together, in Fashion-MNIST's look.

    Products are shown as a shop shows them and, where a person wears them, as the clothes below a face.
    """
    items = fashion_mnist_source(data.model_copy(update={"root": data.fashion_mnist}), input_px, cache, margin)
    root = Path(data.root) if data.root else usual_folder("fashion_product")
    products = fashion_product.without_copies(fashion_product.read_fashion_product(root))
    category = fashion_product.fashion_mnist_categories(products)
    products = fashion_product.mask_rare(products, data.min_label_count)
    train, val, test = split_as_trained(products, data)
    groups = [name for name in data.label_groups if name != "category"]
    schema = LabelSchema((*fashion_mnist_data.SCHEMA.groups, *fashion_product.schema(products, groups).groups))
    labels = {**products.labels, "category": category}
    shop, worn = (
        _cut_for(data, input_px, cache, products.pictures, products.names, labels, mode) for mode in ("garment", "worn")
    )

    def coloured(examples: Examples) -> Examples:
        unknown = {name: np.full(len(examples), fashion_product.UNKNOWN) for name in groups}
        return replace(examples.in_channels(3), targets={**examples.targets, **unknown})

    def tests() -> Iterator[tuple[str, Examples]]:
        for title, examples in items.tests():
            yield title, coloured(examples)
        yield "fashion-product test (stratified fifth), as a shop shows them", shop(test)
        if len(below := worn(test)):
            yield "fashion-product test (stratified fifth), below a face", below

    learned, watched = shop(train, margin), shop(val, margin)
    parts = [
        (coloured(items.parts[0][0]), 1),
        (learned, data.product_repeat),
        (worn(train, margin), data.product_repeat),
    ]
    return Source(
        schema,
        [(part, times) for part, times in parts if len(part)],
        joined([coloured(items.val), watched, worn(val, margin)]),
        tests,
        f"{items.licence} {fashion_product.LICENCE}",
        {"input": {"resize": "garment"}},
        dropped_rows(products.dropped) | undecodable(learned, watched),
        _named(products.names, train, val),
    )


def flixstock_source(data: TrainData, input_px: int, cache: Path, margin: bool) -> Source:
    """Open FlixStock, split at random."""
    root = Path(data.root) if data.root else usual_folder("flixstock")
    garments = flixstock.without_copies(flixstock.read_flixstock(root, data.missing))
    rest, test = split_random(len(garments), TEST_SHARE, data.split_seed)
    kept, held = split_random(len(rest), data.validation, data.split_seed)
    cut = _cut_for(data, input_px, cache, garments.pictures, garments.names, garments.labels, data.resize)
    learned, watched = cut(rest[kept], margin), cut(rest[held], margin)
    return Source(
        LabelSchema(tuple(g for g in garments.schema.groups if g.name in data.label_groups)),
        [(learned, 1)],
        watched,
        lambda: iter([("flixstock test (random fifth)", cut(test))]),
        flixstock.LICENCE,
        {"input": {"resize": data.resize}},
        dropped_rows(garments.dropped) | {TO_TEST_ON: len(test[: data.limit])} | undecodable(learned, watched),
        _named(garments.names, rest),
    )


def _cut_for(
    data: TrainData,
    input_px: int,
    cache: Path,
    pictures: Path,
    names: Sequence[str],
    labels: Mapping[str, npt.NDArray[np.int64]],
    mode: str,
) -> CutRows:
    return cut_whole(
        pictures, names, labels, data.label_groups, input_px, cache, mode, data.limit, pictures.parent.name
    )


def _named(names: Sequence[str], *parts: Rows) -> tuple[str, ...]:
    return tuple(names[row] for rows in parts for row in rows)

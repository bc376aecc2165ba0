"""Write docs/reference/shards.md from the schemas in the code; a test holds the page to it, and real files to the page.

Run ``make reference-pages`` after a change of a schema or of its meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pyarrow as pa

from stylematch.data.item_words import TAGS
from stylematch.evaluate.markdown import markdown_columns, markdown_table
from stylematch.pipelines.assets import default_index
from stylematch.pipelines.indexing.catalog_files import REJECTED_SCHEMA
from stylematch.pipelines.indexing.item_tags import ARTICLE_TYPE, category_fields, probability_of, tag_fields
from stylematch.pipelines.nights.feature_store import (
    MAX_SHARD_PHOTOS,
    ROW_GROUP_ROWS,
    FeatureStore,
    files_schema,
    photo_features_schema,
)
from stylematch.report.item_pictures import GROUP_ROWS, PICTURES_SCHEMA
from stylematch.search.rows_file import PICTURE_TYPE
from stylematch.tables.contract import COLUMN_MEANINGS
from stylematch.tables.place import Place
from stylematch.vision.bundle import Bundle

PAGE = Path(__file__).with_name("shards.md")
ATTRIBUTES = "Smiling ..."
FACE_DIM, ITEM_DIM = (Bundle.open(default_index() / name).embedding_dim for name in ("attributes", "garments"))
Meanings = Mapping[str, str]

PHOTO_FEATURES: Meanings = {
    "photo_id": "the SHA-256 of the file's bytes: one row for each contents, however many files have them",
    "shard": "the file's own name, so that a row that is found says where its faces are",
    "row": "the row's place in the file, from 0",
    "first_face": "the place of its first face in the file of that name in `faces/`; `faces` rows follow each other",
    "reason": "why, a code: [tables](tables.md#reason-in-photos)",
    "faces": "its faces, in the file of that name",
    "has_thumbnail": "whether `thumbnail` holds one, which is told without reading it",
    "thumbnail": "a JPEG for the gallery; null where none was asked for, or the photo could not be decoded",
}
FACE_FEATURES: Meanings = {
    "worn": "what the person wears, by the garment encoder; null where it cannot be seen",
}
FILES: Meanings = {
    "path": "of the file below the photos' folder, escaped as in `photos`",
    "bytes": "its size",
    "stamp": "its modification time in nanoseconds, or an object's ETag",
    "photo_id": "the SHA-256 of its bytes; null where it could not be read or is too large",
    "reason": "why it could not be read, a code of `photos`",
    "message": "the same as a sentence",
    "seen": "when, in nanoseconds since 1970",
}
ITEMS: Meanings = {
    "id": "the item's id, unique in all shards",
    "embedding": "by the garment encoder; any length but zero",
    "category": "the catalogue's own, or the predicted one where it has none",
    "category_predicted": "the model's category that the item looks like, or has by name; null where it is like none",
    "articleType": "the article type, predicted",
    **{name: f"the {name} as the catalogue gives it, else predicted; null where nothing is known" for name in TAGS},
    "image": "the path of its picture, as the catalogue gives it",
    "...": "any further column of the catalogue, such as `title`, `price`, `url`, in its own type",
    "picture": "28x28 grey, row by row, a byte a pixel: by it one tells which items look alike",
}
FACES: Meanings = {
    "id": "the face's id, unique in all shards",
    "embedding": "by the attribute model; any length but zero",
    ATTRIBUTES: "of labelled faces: whether it has each of the `attribute_names`",
    "...": "`split` of CelebA; `path`, `face` and `photo_id` of photos",
}
PICTURES: Meanings = {"item_id": "the item's id", "picture": "a JPEG of at most 128 px a side"}
REJECTED: Meanings = {
    "source": "the table or folder, by its name",
    "row": "of a CSV its line, else counted from 1",
    "item_id": "as the row has it",
    "image": "as the row has it",
    "reason": "a code: [items](../how-it-works/items.md#your-own-catalogue)",
    "message": "the same as a sentence",
}
DESCRIPTION: Meanings = {
    "kind": "`items` or `faces`",
    "dim": "numbers of an embedding",
    "count": "rows in all shards",
    "bundle_sha256": "the model that made them; an index takes only what its own model made",
    "source": "where the pictures come from",
    "licence": "on what terms",
    "categories": "of items: every category that a row may have",
    "attribute_names": "of faces: the columns that are labels, in order; none where there are no labels",
}
CATALOG: Meanings = {
    "sources": "the tables and folders that the items came from",
    "rows": "items and rejected rows",
    "items": "in the index now",
    "rejected": "rows of `rejected.parquet`, by reason",
    "given": "columns that any source had",
    "columns": "what the table that it was built of calls the columns that are known here, where `--column` said so",
    "values": "by tag and word of that table what it means, where `--value` said so",
    "predicted": "by tag, for how many items it was predicted",
    "bundle_sha256": "the model in `garments/`",
    "files": "bytes and sha256 of the index's files, as in `items/infos.json`",
}


def shards_page() -> str:
    """Return the page as Markdown."""
    lines = [
        "# Shards of features and catalogues",
        "",
        "What lies on disk between the steps: features that nights keep, embeddings that indexes are built of,",
        "and what a catalogue has beside its index. This page is made from the code by `make reference-pages`.",
        "All are Parquet files that any reader takes; an index's own files are described under [how search",
        "works](../how-it-works/search.md) and [items](../how-it-works/items.md#the-index-on-disk).",
        "",
        "## Features of a night's photos: `OUT/store/features-FINGERPRINT/`",
        "",
        "A shard is two files of one name, `faces/NAME.parquet` and `photos/NAME.parquet`; it counts when the",
        f"second is there. It holds at most {MAX_SHARD_PHOTOS:,} photos, in row groups of {ROW_GROUP_ROWS}. A name",
        "is used once and a shard never changes. The fingerprint is the digest of all that features follow from",
        "besides the bytes of a photo ([nights](../how-it-works/nightly.md)).",
        "",
        "### `photos/*.parquet`, key (photo_id)",
        "",
        *table(photo_features_schema(), {**COLUMN_MEANINGS["photos"], **PHOTO_FEATURES}),
        "### `faces/*.parquet`, in the order of the photos, the largest face of each first",
        "",
        *table(face_features(), {**COLUMN_MEANINGS["faces"], **FACE_FEATURES, ATTRIBUTES: "probability, 0 to 1"}),
        "### `OUT/store/files/*.parquet` and `OUT/store/pending/*.parquet`, key (path)",
        "",
        "Which file had which contents when the last snapshot was published; the same of what was read since.",
        "",
        *table(files_schema(), FILES),
        "## Embeddings: what `embed` writes and `index build` and `index add` take",
        "",
        "`embeddings.json`, and `part-00000.parquet`, `part-00001.parquet`, ... with equal columns. The rows in",
        "the order of the files' names become the index; `embedding` may be of half floats or floats, every other",
        "column is kept in `rows.parquet`. Directories of your own making are taken, too.",
        "",
        "### `embeddings.json`",
        "",
        *markdown_table(("key", "meaning"), ((f"`{key}`", meaning) for key, meaning in DESCRIPTION.items())),
        "### `part-*.parquet` of items",
        "",
        "`id`, `embedding` and `category` are needed. Behind every tag stands how sure the model is, null where",
        "the tag was given. Those of Fashion-MNIST have `split` and no `category_predicted`.",
        "",
        *table(item_schema(), ITEMS),
        "### `part-*.parquet` of faces",
        "",
        "`id` and `embedding` are needed, and a column for each of the `attribute_names`.",
        "",
        *table(embedded_faces(), FACES),
        "## A catalogue: what `catalog build`, `add`, `update` and `remove` write",
        "",
        "`items/` is an index, whose `rows.parquet` has the columns of the shards above but `embedding`;",
        "`garments/` is the model that made it.",
        "",
        f"### `pictures.parquet`, key (item_id), in row groups of {GROUP_ROWS}",
        "",
        *table(PICTURES_SCHEMA, PICTURES),
        "### `rejected.parquet`",
        "",
        *table(REJECTED_SCHEMA, REJECTED),
        "### `catalog.json`",
        "",
        *markdown_table(("key", "meaning"), ((f"`{key}`", meaning) for key, meaning in CATALOG.items())),
    ]
    return "\n".join(lines)


def face_features() -> pa.Schema:
    """Return the columns of a night's faces."""
    return FeatureStore(Place("."), "", (ATTRIBUTES,), FACE_DIM, ITEM_DIM).faces_schema()


def item_schema() -> pa.Schema:
    """Return the columns of a catalogue's shards; ``...`` stands for its own."""
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("embedding", pa.list_(pa.float16(), ITEM_DIM), nullable=False),
            *category_fields(),
            *tag_fields((ARTICLE_TYPE, *TAGS)),
            pa.field("image", pa.string()),
            pa.field("...", pa.null()),
            pa.field("picture", PICTURE_TYPE, nullable=False),
        ]
    )


def embedded_faces() -> pa.Schema:
    """Return the columns of embedded faces."""
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("embedding", pa.list_(pa.float16(), FACE_DIM), nullable=False),
            pa.field(ATTRIBUTES, pa.bool_(), nullable=False),
            pa.field("...", pa.null()),
        ]
    )


def table(schema: pa.Schema, meanings: Meanings) -> list[str]:
    """Return a schema's columns with their meanings; a column without one is an error."""
    return markdown_columns(schema, partial(_described, schema.names, meanings))


def _described(columns: list[str], meanings: Meanings, name: str) -> tuple[str, str]:
    meaning = meanings.get(name)
    if meaning is None and name.removesuffix("_probability") in columns:
        assert name == probability_of(name.removesuffix("_probability"))
        meaning = "how sure the model is, 0 to 1; null where it did not predict the value"
    if meaning is None:
        raise KeyError(f"the column {name} has no meaning in {__file__}")
    return "`Smiling`, ..." if name == ATTRIBUTES else name if name == "..." else f"`{name}`", meaning


if __name__ == "__main__":
    PAGE.write_text(shards_page(), encoding="utf-8")

"""Write docs/reference/tables.md from ``stylematch.tables.contract``; a test holds the page to it.

Run ``make tables-page`` after a change of the contract.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from stylematch.evaluate.markdown import markdown_columns, markdown_table
from stylematch.pipelines.assets import default_index
from stylematch.tables.contract import (
    COLUMN_MEANINGS,
    EXIT_MEANINGS,
    KEYS,
    REASON_MEANINGS,
    Reason,
    Status,
    faces_schema,
    photos_schema,
    recommendations_schema,
    similar_items_schema,
)
from stylematch.vision.bundle import Bundle

PAGE = Path(__file__).with_name("tables.md")

ATTRIBUTES = "Smiling ..."
EMBEDDING_DIM = Bundle.open(default_index() / "attributes").embedding_dim

MANIFEST_MEANINGS = {
    "tool": "always stylematch",
    "run_id": "the run's name, as in recommendations",
    "counts": "found = scored + no_face + rejected; rows of the other tables; reasons; files ignored, by why",
    "stages": "for each: seconds (summed over workers where per_worker), items, unit, items per second",
    "profile": "the stages side by side: busy seconds, rate, share of the limit; the limit, and how near the run came",
    "seconds": "from start to publication",
    "started": "time, UTC",
    "finished": "time, UTC",
    "code_version": "version and digest of the code",
    "sha256": "of the two models (bundle: attributes), the indexes, the rules, the settings and the inputs",
    "settings": "as they were asked for",
    "device": "cpu or cuda",
    "host": "the machine: system, processor and its widest vector instructions, cores, Python",
    "unreadable_directories": "the first folders that could not be listed, whose photos are in no table",
    "packages": "releases of the packages that results depend on",
    "outputs": "what lies beside the manifest",
}


def tables_page() -> str:
    """Return the page as Markdown."""
    lines = [
        "# Tables, codes and the manifest",
        "",
        "Names, types and meanings are fixed; columns may be added. This page is made from",
        "`stylematch/tables/contract.py` by `make tables-page`.",
        "",
    ]
    schemas = {
        "photos": photos_schema(),
        "faces": faces_schema([ATTRIBUTES], EMBEDDING_DIM),
        "recommendations": recommendations_schema(),
        "similar_items": similar_items_schema(),
    }
    for table, schema in schemas.items():
        lines += [f"## `{table}`, key ({', '.join(KEYS[table])})", ""]
        lines += markdown_columns(schema, partial(_described, table))
    lines += [
        "The attributes and the size of `embedding` are the model's; here they are the shipped one's. `score` and",
        "`export` write the first three tables, [`similar`](../how-it-works/similar.md) the last.",
    ]
    statuses = ", ".join(f"`{status}`" for status in Status)
    lines += ["", "## `reason` in `photos`", "", f"`status` is one of {statuses}.", ""]
    lines += markdown_table(("reason", "meaning"), ((f"`{key}`", REASON_MEANINGS[key]) for key in Reason))
    lines += ["## `manifest.json`", ""]
    lines += markdown_table(("key", "meaning"), ((f"`{key}`", text) for key, text in MANIFEST_MEANINGS.items()))
    lines += ["## Exit codes, of every command", ""]
    lines += markdown_table(("code", "meaning"), ((str(int(code)), text) for code, text in EXIT_MEANINGS.items()))
    return "\n".join(lines)


def _described(table: str, column: str) -> tuple[str, str]:
    if column == ATTRIBUTES:
        return "`Smiling`, ...", "probability of each attribute, under CelebA's name, 0 to 1"
    return f"`{column}`", COLUMN_MEANINGS[table][column]


if __name__ == "__main__":
    PAGE.write_text(tables_page(), encoding="utf-8")

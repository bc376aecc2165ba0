"""What the site needs beyond Markdown: a navigation of all pages, links out of the docs, the benchmarks' results."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
RESULTS = REPOSITORY / "benchmarks" / "results"
RESULTS_MARKER = "<!-- results -->"

SECTIONS = {
    "Tutorials": ("tutorials", ("photos", "query", "catalogue", "rules", "retrain", "own-labels", "nightly")),
    "How it works": (
        "how-it-works",
        (
            "finding",
            "decoding",
            "faces",
            "style",
            "own-rules",
            "items",
            "similar",
            "search",
            "tables",
            "gallery",
            "nightly",
        ),
    ),
    "Reference": ("reference", ("cli", "tables", "shards", "settings", "python")),
}
"""By title the folder and the pages that come first; whatever else is in the folder follows by name."""
TOP = ("index", "benchmarks", "responsible-use")
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)")


def navigation() -> list[Any]:
    """Return every page of the docs, in order."""
    entries: list[Any] = ["index.md"]
    for title, (folder, first) in SECTIONS.items():
        names = [path.stem for path in sorted((DOCS / folder).glob("*.md"))]
        ordered = [name for name in first if name in names] + [name for name in names if name not in first]
        entries.append({title: [f"{folder}/{name}.md" for name in ordered]})
    entries += ["benchmarks.md", "responsible-use.md"]
    rest = [path.name for path in sorted(DOCS.glob("*.md")) if path.stem not in TOP]
    return [*entries, {"Project": rest}]


def on_config(config: Any) -> Any:
    """Set the navigation."""
    config["nav"] = navigation()
    return config


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Put the benchmarks' results in, and make links to files outside of the docs plain text."""
    if RESULTS_MARKER in markdown:
        markdown = markdown.replace(RESULTS_MARKER, results())
    return unlink(markdown, page.file.src_uri)


def results() -> str:
    """Return the results that the benchmarks wrote, one after the other, their headings one level lower."""
    pages = sorted(RESULTS.glob("*.md")) if RESULTS.is_dir() else []
    if not pages:
        return "*No results are in this checkout; the scripts below write them.*"
    return "\n\n".join(_lowered(page.read_text(encoding="utf-8").strip()) for page in pages)


def _lowered(markdown: str) -> str:
    fenced, lines = False, []
    for line in markdown.splitlines():
        fenced ^= line.startswith("```")
        lines.append(f"#{line}" if line.startswith("#") and not fenced else line)
    return "\n".join(lines)


def unlink(markdown: str, src_uri: str) -> str:
    """Return the page with links to files that are not part of the site as text: ``LICENSE`` instead of a dead link."""

    def text_of(match: re.Match[str]) -> str:
        text, target, _ = match.groups()
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(src_uri), target))
        if path.startswith("docs/"):
            return match[0]
        return text if text.strip("`") in path else f"{text} (`{path}`)"

    return LINK.sub(text_of, markdown)

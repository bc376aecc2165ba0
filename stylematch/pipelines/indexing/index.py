"""``index build``, ``index info``: embedding shards -> an index directory; what such a directory holds.

The shards' rows, in the order of the files' names, become the index. The new index is written beside OUT and appears
by one rename.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from stylematch.errors import UserError
from stylematch.pipelines.indexing.shards import EMBEDDINGS_FILE as EMBEDDINGS_FILE
from stylematch.pipelines.indexing.shards import read_description, read_embeddings
from stylematch.search.base import SearchIndex
from stylematch.search.directory import Origin, save_index_directory
from stylematch.search.exact import VectorIndex
from stylematch.search.infos import INFOS_FILE, LABELS_KEY, SPEED_KEY, index_info
from stylematch.search.plan import GIB, make_plan
from stylematch.search.tuning import build_tuned, queries_per_s
from stylematch.search.units import unit_rows
from stylematch.settings.index import IndexSettings
from stylematch.tables.replace import DirectoryKind
from stylematch.tables.shown import shown
from stylematch.vision.bundle import Bundle

INDEX = DirectoryKind("an index", INFOS_FILE, lambda directory, name: name in index_info(directory)["files"])
_COLLECTION = (("attributes", "faces"), ("garments", "items"))  # a model bundle and the index that it made


def build_index(
    embeddings_dir: Path,
    out: Path,
    settings: IndexSettings | None = None,
    *,
    on_plan: Callable[[list[str]], None] | None = None,
) -> dict[str, Any]:
    """Build an index directory from embedding shards.

    Parameters
    ----------
    embeddings_dir : pathlib.Path
        What ``embed`` wrote; see ``pipelines/indexing/shards``.
    out : pathlib.Path
        The index directory to make. An index that is there is replaced; anything else is refused.
    settings : IndexSettings, optional
        Which kind, how good, how large. Without them the index is exact and nothing is measured.
    on_plan : callable, optional
        Is given lines about what is going to be built and what that will need, before it starts.

    Returns
    -------
    dict
        The contents of ``infos.json``. Equal embeddings give an equal directory, but for ``speed`` in it.

    Raises
    ------
    UserError
        If the shards are missing, damaged or do not fit ``embeddings.json``, an id occurs twice, an embedding
        has no direction, the memory or the recall is out of reach, or OUT holds something else.
    StylematchError
        If OUT cannot be written.
    """
    INDEX.check(out)
    plan = None
    if settings is not None:  # before anything is read: reading may already want more memory than there is
        stated = read_description(embeddings_dir)
        plan = make_plan(
            stated["count"],
            stated["dim"],
            max_memory_bytes=int(settings.max_memory_gb * GIB),
            kind=None if settings.kind == "auto" else settings.kind,
        )
        if on_plan is not None:
            on_plan(plan.lines())
    embeddings = read_embeddings(embeddings_dir)
    description, rows, ids = embeddings.description, embeddings.rows, embeddings.ids
    index: SearchIndex
    search, speed = None, None
    if plan is None or settings is None:
        index = VectorIndex.build(ids, embeddings.vectors)
    else:
        halves = unit_rows(ids, embeddings.vectors, "fp16", in_place=True)
        del embeddings  # where they are of another form, the vectors as they were read
        index, recall = build_tuned(plan, ids, halves, target_recall=settings.target_recall)
        search = {"target_recall": settings.target_recall, **recall.as_dict()}
        speed = queries_per_s(index)
    with INDEX.replaced(out) as staged:
        return save_index_directory(staged, index, rows, Origin.of(description), search=search, speed=speed)


def describe_index(path: Path) -> str:
    """Say in a few lines what an index directory holds, or each part of a collection.

    Parameters
    ----------
    path : pathlib.Path
        An index directory, or a directory with any of ``attributes/``, ``garments/`` (model bundles),
        ``faces/``, ``items/`` (indexes).

    Raises
    ------
    UserError
        If it is neither.
    """
    if (path / INFOS_FILE).is_file():
        return "\n".join(_describe_infos(index_info(path, with_speed=True)))
    lines: list[str] = []
    for model, index in _COLLECTION:
        made_by = None
        if (path / model).is_dir():
            bundle = Bundle.open(path / model)
            made_by = bundle.sha256
            lines += [
                f"{model}/: model {shown(bundle.name)}",
                f"  input: {bundle.input_px} px, {'grey' if bundle.channels == 1 else 'RGB'}",
                f"  embedding: {bundle.embedding_dim} dimensions",
                f"  sha256: {made_by}",
            ]
        if (path / index).is_dir():
            infos = index_info(path / index, with_speed=True)
            first, *rest = _describe_infos(infos)
            lines += [f"{index}/: {first}", *rest]
            if made_by not in (None, infos["bundle_sha256"]):
                lines.append(f"  WARNING: not made by the model in {model}/; embed and build it again")
    if not lines:
        raise UserError(
            f"{shown(path)} is no index ({INFOS_FILE} is missing) and no collection of any of "
            "attributes/, garments/, faces/, items/. Name one that 'stylematch-batch index build' wrote."
        )
    return "\n".join(lines)


# An item is also found by the category that it looks like, so these may be more than the items' own.
_LABELS_TOLD = {"attribute_names": "attribute names", "categories": "categories that rules can name"}


def _describe_infos(infos: dict[str, Any]) -> list[str]:
    labels = LABELS_KEY[infos["kind"]]
    return [
        f"{infos['count']:,} {infos['kind']}, {infos['dim']} dimensions, {infos['metric']}",
        f"  faiss: {infos['faiss']}, {infos['bytes_per_vector']} bytes per vector",
        *_describe_search(infos),
        *(f"  {name}: {file['bytes']:,} bytes" for name, file in infos["files"].items()),
        f"  {_LABELS_TOLD[labels]}: {shown(', '.join(infos[labels])) or 'none'}",
        f"  made by the model with sha256: {shown(infos['bundle_sha256'])}",
        f"  source: {shown(infos['source'])}",
        f"  licence: {shown(infos['licence'])}",
    ]


def _describe_search(infos: dict[str, Any]) -> list[str]:
    lines = []
    if search := infos.get("search"):
        asked = f", {search['recall_queries']:,} queries" if search["recall_queries"] else ""
        lines.append(
            f"  {search['kind']}: recall@10 {search['recall_at_10']:.4f}{asked}; "
            f"{search['memory_bytes_per_vector']} bytes per vector in memory, {search['disk_bytes_per_vector']} on disk"
        )
    if speed := infos.get(SPEED_KEY):
        lines.append(
            f"  {speed['queries_per_s']:,.0f} queries/s in batches of {speed['batch']}, measured with "
            f"{speed['threads']} threads"
        )
    return lines

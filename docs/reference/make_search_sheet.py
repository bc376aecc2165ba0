"""Write what indexes of up to a billion vectors need into docs/how-it-works/search.md, from ``search/plan.py``.

``make reference-pages`` runs this, and a test holds the page to it. Whether a plan's expectation is right is measured
by ``benchmarks/search_scale.py``, to whose figures another test holds the plan.
"""

from __future__ import annotations

from pathlib import Path

from stylematch.search.plan import GIB, Plan, make_plan

PAGE = Path(__file__).resolve().parents[1] / "how-it-works" / "search.md"
START, END = "<!-- sheet: made by make reference-pages -->", "<!-- sheet end -->"
DIM = 64
MILLION, BILLION = 10**6, 10**9
SHARD, SHARDS = 10 * MILLION, 100
ROWS = (
    (MILLION, "1 million", ("exact", "hnsw")),
    (10 * MILLION, "10 million", ("ivf", "ivfpq")),
    (100 * MILLION, "100 million", ("ivf", "ivfpq")),
    (BILLION, "1 billion", ("ivf", "ivfpq")),
)


def sheet() -> str:
    """Return the section as Markdown."""
    lines = [
        "| vectors | kind | lists | memory to build | memory to search | on disk |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for count, words, kinds in ROWS:
        for kind in kinds:
            plan = planned(count, kind)
            codes = f", {plan.parameters.code_bytes} bytes" if kind == "ivfpq" else ""
            lists = f"{plan.parameters.lists:,}" if plan.parameters.lists else ""
            sizes = (shown(size) for size in (plan.build_bytes, plan.search_bytes, plan.disk_bytes))
            lines.append(f"| {words} | {kind}{codes} | {lists} | {' | '.join(sizes)} |")
    shard = planned(SHARD, "ivfpq")
    # Of codes of 8 bytes in place of those of the plan everything else is the same.
    fewer = shard.search_bytes - (shard.parameters.code_bytes - 8) * SHARD
    lines += [
        "",
        f"**A billion in shards.** One build of a billion wants {shown(planned(BILLION, 'ivfpq').build_bytes)} GiB. "
        f"{SHARDS} shards of ten million want {shown(shard.build_bytes)} GiB each,",
        "one after another or on as many machines as there are: the build is linear in the vectors but for the",
        f"centroids (vectors times lists). Searching all of them holds {SHARDS} x {shown(shard.search_bytes)} = "
        f"{shown(SHARDS * shard.search_bytes)} GiB,",
        f"or {shown(SHARDS * fewer)} GiB with codes of 8 bytes, on one machine or spread over many, and reads",
        f"candidates from {shown(2 * DIM * BILLION)} GiB of half floats on fast disks.",
    ]
    return "\n".join(lines)


def planned(count: int, kind: str) -> Plan:
    """Return the plan of a kind, whatever memory it takes."""
    return make_plan(count, DIM, max_memory_bytes=2**50, kind=kind)  # type: ignore[arg-type]


def shown(size: float) -> str:
    """Return bytes as GiB, to two digits or whole."""
    return f"{size / GIB:.1f}" if size < 9.95 * GIB else f"{size / GIB:.0f}"


def filled(page: str) -> str:
    """Return the page with the sheet in its place."""
    before, rest = page.split(START)
    return f"{before}{START}\n\n{sheet()}\n\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")

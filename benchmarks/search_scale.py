"""Build, save, memory-map and search indexes of millions of vectors, and say what that took.

``python benchmarks/search_scale.py`` takes 1 and 10 million vectors of 64 dimensions; ``--count 100000`` tries it.
Every step is a process of its own, so that its peak memory (``ru_maxrss``, mapped pages included) is its own:

1. ``shards``: clustered vectors, a chunk at a time with a seed each, as embedding shards on disk.
2. ``build``: what ``stylematch-batch index build --kind KIND`` does, from the shards to the index directory.
3. ``search``: the index is memory-mapped; queries that it does not hold, in batches of 256, plain and filtered.

Writes ``search_scale.json`` and ``search_scale.md`` after every kind of every size. Stop it at will: the same command
goes on with what is missing, measured by the same code on the same machine (``--again`` measures everything anew); with
``--scratch DIR`` the vectors, too, are kept in between. Fails if a step's peak is above ``--limit-gib``.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from machine import RESULTS, facts, report

DIM = 64
SPREAD = 0.5
CLUSTER_SIZE = 1000
CHUNK_ROWS = 250_000
SEED = 4
QUERIES = 1024
BATCH = 256
K = 10
TARGET_RECALL = 0.95
KINDS = {"exact": 1_000_000, "ivfpq": 10**9, "ivf": 10**9, "hnsw": 2_000_000}
"""The most vectors with which a kind is tried, as the planner chooses; what takes longest to build comes last."""
FIXED = {"dim": DIM, "cluster_size": CLUSTER_SIZE, "spread": SPREAD, "seed": SEED, "target_recall": TARGET_RECALL}
SAME = ("code", "host", "packages", *FIXED)
"""What has to be equal for figures of an earlier call to stand beside those of this one."""
CATEGORIES = 100


def vectors(clusters: int, chunk: int, rows: int) -> np.ndarray:
    """Return clustered vectors (rows, 64) of float16; the same whatever else was generated."""
    centres = np.random.default_rng([SEED, 0]).standard_normal((clusters, DIM), dtype=np.float32)
    rng = np.random.default_rng([SEED, 1, chunk])
    member = rng.integers(clusters, size=rows)
    return (centres[member] + SPREAD * rng.standard_normal((rows, DIM), dtype=np.float32)).astype(np.float16)


def shards(count: int, out: Path) -> dict[str, Any]:
    """Write embedding shards; their description comes last and says that they are whole."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for chunk, start in enumerate(range(0, count, CHUNK_ROWS)):
        rows = min(CHUNK_ROWS, count - start)
        values = vectors(clusters_of(count), chunk, rows)
        table = pa.table(
            {
                "id": pa.array([f"v{number:010d}" for number in range(start, start + rows)]),
                "embedding": pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), DIM),
                "category": pa.array([f"c{number % CATEGORIES:02d}" for number in range(start, start + rows)]),
            }
        )
        pq.write_table(table, out / f"part-{chunk:05d}.parquet", compression="none", use_dictionary=["category"])
    description = {
        "kind": "items",
        "dim": DIM,
        "count": count,
        "bundle_sha256": "0" * 64,
        "source": "synthetic",
        "licence": "none",
        "categories": [f"c{number:02d}" for number in range(CATEGORIES)],
    }
    (out / "embeddings.json").write_text(json.dumps(description))
    return {}


def build(embeddings: Path, out: Path, kind: str) -> dict[str, Any]:
    """Build and save an index of one kind."""
    from stylematch.pipelines.indexing.index import build_index
    from stylematch.search.plan import GIB, make_plan
    from stylematch.settings.index import IndexSettings

    count = json.loads((embeddings / "embeddings.json").read_text())["count"]
    plan = make_plan(count, DIM, max_memory_bytes=8 * GIB, kind=kind)  # type: ignore[arg-type]
    settings = IndexSettings(kind=kind, target_recall=TARGET_RECALL)  # type: ignore[arg-type]
    started = time.perf_counter()
    infos = build_index(embeddings, out, settings, on_plan=lambda lines: print("\n".join(lines), file=sys.stderr))
    search = out / "search.json"
    return {
        "seconds": round(time.perf_counter() - started, 1),
        "expected_peak_gib": gib(plan.build_bytes),
        "faiss": infos["faiss"],
        "held_out_recall_at_10": infos["search"]["recall_at_10"],
        "memory_bytes_per_vector": infos["search"]["memory_bytes_per_vector"],
        "disk_bytes_per_vector": infos["search"]["disk_bytes_per_vector"],
        "parameters": json.loads(search.read_text()) if search.exists() else {},
        "queries_per_s_in_memory": infos["speed"]["queries_per_s"],
    }


def search(directory: Path) -> dict[str, Any]:
    """Memory-map an index and search it with fresh queries."""
    import faiss

    from stylematch.search.base import SearchIndex
    from stylematch.search.directory import load_index_directory
    from stylematch.search.where import positions_where

    started = time.perf_counter()
    stored = load_index_directory(directory, mapped=True)
    index: SearchIndex = stored.index
    loaded = time.perf_counter() - started
    queries = vectors(clusters_of(len(index)), 10**6, QUERIES).astype(np.float32)
    figures: dict[str, Any] = {"load_seconds": round(loaded, 2), "threads": faiss.omp_get_max_threads()}
    started = time.perf_counter()
    index.search(queries[:1], K)
    figures["first_query_ms"] = round(1000 * (time.perf_counter() - started), 1)
    conditions = {"all": None, "half": "CAST(category[2:] AS INT) < 50", "one_in_a_hundred": "category = 'c07'"}
    for name, where in conditions.items():
        allowed = None if where is None else positions_where(stored.rows, where)
        index.search(queries[:BATCH], K, allowed=allowed)  # what is paged in
        started = time.perf_counter()
        scores = [
            index.search(queries[start : start + BATCH], K, allowed=allowed).scores
            for start in range(0, QUERIES, BATCH)
        ]
        seconds = time.perf_counter() - started
        # The truth, by a scan of the stored rows.
        asked = queries[:BATCH].astype(np.float64)
        unit = asked / np.linalg.norm(asked, axis=1, keepdims=True)
        available = len(index) if allowed is None else len(allowed)
        truth = index._search_exactly(unit, K, available, index._scan(allowed))[1]
        figures[name] = {
            "queries_per_s": round(QUERIES / seconds, 1),
            "recall_at_10": round(float((scores[0] >= truth[:, -1:] - 1e-9).mean()), 4),
            "fewer_than_k": int(np.isneginf(np.concatenate(scores)).any(axis=1).sum()),
        }
    return figures


def clusters_of(count: int) -> int:
    """Return how many clusters there are among so many vectors."""
    return max(10, count // CLUSTER_SIZE)


def gib(size: float) -> float:
    """Return bytes as GiB, rounded."""
    return round(size / 2**30, 3)


def step(*arguments: str) -> dict[str, Any]:
    """Run one step in a process of its own and return its figures."""
    print(" ".join(arguments), file=sys.stderr, flush=True)
    done = subprocess.run(
        [sys.executable, __file__, "--step", *arguments], stdout=subprocess.PIPE, check=True, text=True
    )
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def run_step(name: str, *arguments: str) -> None:
    """Run a step here and print its figures, with this process's peak memory, as one line."""
    if name == "shards":
        figures = shards(int(arguments[0]), Path(arguments[1]))
    elif name == "build":
        figures = build(Path(arguments[0]), Path(arguments[1]), arguments[2])
    else:
        figures = search(Path(arguments[0]))
    used = resource.getrusage(resource.RUSAGE_SELF)
    figures["peak_gib"] = gib(used.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
    figures["processor_seconds"] = round(used.ru_utime + used.ru_stime, 1)
    print(json.dumps(figures))


def table(runs: list[dict[str, Any]]) -> list[list[object]]:
    """Return the figures as rows, the heading first."""
    rows: list[list[object]] = [
        [
            "vectors",
            "kind",
            "build, s",
            "peak, GiB (expected)",
            "memory, bytes/vector",
            "disk, bytes/vector",
            "recall@10",
            "queries/s",
            "mapped: peak, GiB",
            "recall@10",
            "queries/s",
            "half allowed",
            "1 % allowed",
        ]
    ]
    for run in runs:
        made, mapped = run["build"], run["search"]
        filtered = [
            f"{mapped[name]['queries_per_s']:,.0f}/s, recall {mapped[name]['recall_at_10']:.3f}"
            for name in ("half", "one_in_a_hundred")
        ]
        rows.append(
            [
                f"{run['count']:,}",
                f"{run['kind']} (`{made['faiss']}`)",
                f"{made['seconds']:,.0f}",
                f"{made['peak_gib']:.2f} ({made['expected_peak_gib']:.2f})",
                f"{made['memory_bytes_per_vector']:.0f}",
                f"{made['disk_bytes_per_vector']:.0f}",
                f"{made['held_out_recall_at_10']:.3f}",
                f"{made['queries_per_s_in_memory']:,.0f}",
                f"{mapped['peak_gib']:.2f}",
                f"{mapped['all']['recall_at_10']:.3f}",
                f"{mapped['all']['queries_per_s']:,.0f}",
                *filtered,
            ]
        )
    return rows


def runs_so_far(path: Path) -> list[dict[str, Any]]:
    """Return the runs that an earlier call has written, if it was of this code, on this machine."""
    try:
        written = json.loads(path.read_text())
    except (OSError, ValueError):
        return []
    here = {**facts(), **FIXED}
    return written["runs"] if all(written.get(key) == here[key] for key in SAME) else []


def measure(count: int, kinds: list[str], scratch: Path, out: Path, runs: list[dict[str, Any]]) -> None:
    """Measure some kinds on vectors of one size, and write the figures after each."""
    embeddings, directory = scratch / f"embeddings-{count}", scratch / f"index-{count}"
    if not (embeddings / "embeddings.json").is_file():
        step("shards", str(count), str(embeddings))
    for kind in kinds:
        made = step("build", str(embeddings), str(directory), kind)
        runs.append({"count": count, "kind": kind, "build": made, "search": step("search", str(directory))})
        runs.sort(key=lambda run: (run["count"], list(KINDS).index(run["kind"])))
        report({**FIXED, "k": K, "batch": BATCH, "runs": runs}, table(runs), out)
    shutil.rmtree(embeddings)
    shutil.rmtree(directory)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, action="append", help="vectors; repeatable; by default 1 and 10 million")
    parser.add_argument("--kind", choices=KINDS, action="append", help="repeatable; by default all that suit the count")
    parser.add_argument("--out", type=Path, default=RESULTS / "search_scale.json", help="the figures; .md beside it")
    parser.add_argument("--scratch", type=Path, help="where vectors and indexes go meanwhile (10 GiB); stays")
    parser.add_argument("--limit-gib", type=float, default=8.0, help="the most memory that a step may take")
    parser.add_argument("--again", action="store_true", help="measure what was measured, too")
    options = parser.parse_args()
    runs = [] if options.again else runs_so_far(options.out)
    done = {(run["count"], run["kind"]) for run in runs}
    with tempfile.TemporaryDirectory(prefix="search-scale-") as temporary:
        for count in options.count or [1_000_000, 10_000_000]:
            kinds = options.kind or [name for name, most in KINDS.items() if count <= most]
            if missing := [kind for kind in kinds if (count, kind) not in done]:
                measure(count, missing, options.scratch or Path(temporary), options.out, runs)
    peak = max(run[name]["peak_gib"] for run in runs for name in ("build", "search"))
    if peak > options.limit_gib:
        sys.exit(f"a step took {peak} GiB, more than {options.limit_gib} GiB")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--step"]:
        run_step(*sys.argv[2:])
    else:
        main()

"""Build an index so that its recall@10 reaches a target, measured on queries it does not hold.

- A sample of fixed seed, at most a thousand vectors, is left out while the rest is indexed. Its true neighbours come
  from an exact scan; ``effort`` (and ``candidates``) is the smallest step of a fixed ladder that reaches the target.
  Then the sample is added too. No clock takes part.
- A found vector counts if its score is at least that of the true tenth, so ties are fair.
- An exact index is measured, too: against a scan by float64 products, which shares nothing with its search.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stylematch.errors import UserError
from stylematch.search.approximate import ApproximateIndex
from stylematch.search.base import IndexKind, SearchIndex
from stylematch.search.exact import VectorIndex
from stylematch.search.kinds import APPROXIMATE
from stylematch.search.names import all_but
from stylematch.search.parameters import Parameters, left_out
from stylematch.search.plan import Plan, lists_for
from stylematch.search.units import normalise

AT = 10
SPEED_BATCH = 256
_SEED = 20_240_902
_CANDIDATES = (2, 4, 8, 16, 32, 64)
_WIDE_PROBES = 256
_SCAN_ROWS = 2**12
_NEXT_TO = 0.01
_ROUNDING = 1e-9  # two sums of one product in float64, in different orders, with room


@dataclass(frozen=True)
class Recall:
    """What was measured.

    Attributes
    ----------
    at_10 : float
        Share of the true ten nearest that were found, over all queries.
    queries : int
        How many were asked.
    held_out : bool
        Whether the index did not hold the queries; otherwise each was left out of its own answers.
    """

    at_10: float
    queries: int
    held_out: bool = True

    def as_dict(self) -> dict[str, Any]:
        """Return it for ``infos.json``."""
        return {"recall_at_10": round(self.at_10, 4), "recall_queries": self.queries, "held_out": self.held_out}


def build_tuned(
    plan: Plan, ids: pa.Array, rows: npt.NDArray[np.float16], *, target_recall: float
) -> tuple[SearchIndex, Recall]:
    """Build what was planned and tune it.

    Parameters
    ----------
    plan : Plan
        As ``make_plan`` returns it.
    ids : pyarrow.Array, length n
        Unique names.
    rows : ndarray of float16, shape (n, d)
        As ``unit_rows`` returns them.
    target_recall : float
        Of recall@10, in (0, 1].

    Raises
    ------
    UserError
        If no step of the ladder reaches the target.
    """
    return _built(plan.kind, plan.parameters, ids, rows, target_recall)


def refreshed(index: SearchIndex, *, target_recall: float, recall_before: float = 0.0) -> tuple[SearchIndex, Recall]:
    """Return an index that was changed as good as it was: built again where it is worn, else with more effort.

    Parameters
    ----------
    index : SearchIndex
        After ``add``, ``remove`` or ``update``, which leave the effort as it is.
    target_recall : float
        What its recall@10 has to be.
    recall_before : float
        What it was before the change; it is kept, built again or not, where any effort reaches it.

    Raises
    ------
    UserError
        If no effort reaches the target.
    """
    if isinstance(index, ApproximateIndex) and index.is_worn:
        fresh = Parameters(lists=lists_for(len(index)), code_bytes=index.parameters.code_bytes)
        return _built(index.kind, fresh, index.id_column, index.halves(), target_recall, recall_before)
    return index, retune(index, target_recall=target_recall, recall_before=recall_before)


def _built(
    kind: IndexKind,
    parameters: Parameters,
    ids: pa.Array,
    rows: npt.NDArray[np.float16],
    target_recall: float,
    recall_before: float = 0.0,
) -> tuple[SearchIndex, Recall]:
    if kind == "exact":
        exact = VectorIndex(ids, rows, "fp16")
        return exact, _recall_of_exact(exact)
    later = _sample(len(ids))
    index = APPROXIMATE[kind].begin(ids, rows, parameters=parameters, later=later)
    unit = rows[later].astype(np.float64)
    truth = np.empty((0, AT))
    if later.size:
        unit = normalise(unit)
        truth = index.exact(unit, AT, all_but(len(ids), later))[1]
    recall = _tuned_as_before(index, unit, truth, target_recall, recall_before)
    index.finish()
    return index, Recall(recall, len(later))


def retune(index: SearchIndex, *, target_recall: float, recall_before: float = 0.0) -> Recall:
    """Measure an index that was changed, and raise its effort where it fell below the target, or below what it was.

    The queries are vectors of the index, each left out of its own answers: a little kinder than held-out ones.
    ``recall_before`` is a wish: where no effort reaches it, nor nearly so, the target alone counts.
    """
    if not isinstance(index, ApproximateIndex):
        return _recall_of_exact(index)
    asked = _sample(len(index))
    if not asked.size:
        return Recall(1.0, 0, held_out=False)
    unit = normalise(index.vectors(asked).astype(np.float64))
    positions, scores = index.exact(unit, AT + 1, None)
    scores = _without_self(positions, scores, asked)
    recall = _recall(index, unit, scores, asked)
    if recall < max(recall_before, target_recall):
        recall = _tuned_as_before(index, unit, scores, target_recall, recall_before, asked)
    return Recall(recall, len(asked), held_out=False)


def _tuned_as_before(
    index: ApproximateIndex,
    unit: npt.NDArray[np.float64],
    truth: npt.NDArray[np.float64],
    target_recall: float,
    recall_before: float,
    asked: npt.NDArray[np.int64] | None = None,
) -> float:
    """Tune to what the recall was, else next to that, else to the target, and return what was reached."""
    for wished in (recall_before, recall_before - _NEXT_TO):
        if wished > target_recall:
            with suppress(UserError):
                return _tune(index, unit, truth, wished, asked)
    return _tune(index, unit, truth, target_recall, asked)


def _recall_of_exact(index: SearchIndex) -> Recall:
    asked = _sample(len(index))
    if not asked.size:
        return Recall(1.0, 0, held_out=False)
    unit = normalise(index.vectors(asked).astype(np.float64))
    hits = index.search(unit, min(AT + 1, len(index)))
    found = _without_self(hits.positions, hits.scores, asked)
    best = np.full((len(unit), AT), -np.inf)
    for start in range(0, len(index), _SCAN_ROWS):
        block = np.arange(start, min(start + _SCAN_ROWS, len(index)))
        scores = unit @ index.vectors(block).astype(np.float64).T
        scores[asked[:, None] == block] = -np.inf
        best = np.partition(np.concatenate([best, scores], axis=1), -AT, axis=1)[:, -AT:]
    tenth = best.min(axis=1, where=np.isfinite(best), initial=np.inf)  # of nine others the ninth
    return Recall(float((found >= tenth[:, None] - _ROUNDING).mean()), len(asked), held_out=False)


def queries_per_s(index: SearchIndex) -> dict[str, Any]:
    """Time searches for ten neighbours in batches of 256: a measurement of this machine, different every time."""
    queries = index.vectors(_sample(len(index)) if len(index) >= SPEED_BATCH else np.arange(len(index)))
    index.search(queries[:SPEED_BATCH], AT)  # what is made once, or paged in
    started = time.perf_counter()
    for start in range(0, len(queries), SPEED_BATCH):
        index.search(queries[start : start + SPEED_BATCH], AT)
    seconds = time.perf_counter() - started
    return {
        "queries_per_s": round(len(queries) / seconds, 1),
        "batch": SPEED_BATCH,
        "queries": len(queries),
        "threads": faiss.omp_get_max_threads(),
    }


def _sample(count: int) -> npt.NDArray[np.int64]:
    return np.sort(np.random.default_rng(_SEED).choice(count, left_out(count), replace=False)).astype(np.int64)


def _tune(
    index: ApproximateIndex,
    unit: npt.NDArray[np.float64],
    truth: npt.NDArray[np.float64],
    target: float,
    asked: npt.NDArray[np.int64] | None = None,
) -> float:
    if index.kind == "ivfpq" and len(unit):
        # First as many candidates as leave half of what may be lost to the lists, then as few lists as will do.
        for candidates in _CANDIDATES:
            index.tuned(candidates=candidates, effort=min(index.parameters.lists, _WIDE_PROBES))
            if _recall(index, unit, truth, asked) >= (1 + target) / 2:
                break
    if not len(unit):  # nine vectors or fewer are searched exactly by every kind
        index.tuned(effort=index.parameters.lists or 1)
        return 1.0
    best = 0.0
    for effort in _ladder(index):
        index.tuned(effort=effort)
        recall = _recall(index, unit, truth, asked)
        if recall >= target:
            return recall
        best = max(best, recall)
    raise UserError(
        f"A recall@10 of {target:g} is out of reach of {index.kind}: {best:.4f} at its greatest effort. Lower "
        "--target-recall, or name another --kind (ivf reaches any)."
    )


def _ladder(index: ApproximateIndex) -> Iterator[int]:
    """Yield 1, 2, 3, 4, 6, 8, 12, 16, ... up to all lists, or efSearch from 48 on to 3,072."""
    limit = 3072 if index.kind == "hnsw" else index.parameters.lists
    step = 48 if index.kind == "hnsw" else 1
    while step < limit:
        yield step
        step = step + 1 if step < 3 else step * 4 // 3 if step & (step - 1) else step * 3 // 2
    yield limit


def _recall(
    index: ApproximateIndex,
    unit: npt.NDArray[np.float64],
    truth: npt.NDArray[np.float64],
    asked: npt.NDArray[np.int64] | None,
) -> float:
    found = 0
    for start in range(0, len(unit), SPEED_BATCH):
        rows = slice(start, start + SPEED_BATCH)
        own = None if asked is None else asked[rows]
        scores = index.found_scores(unit[rows], AT if own is None else AT + 1, own)
        found += int((scores[:, :AT] >= truth[rows, -1:]).sum())
    return found / (len(unit) * min(AT, truth.shape[1]))


def _without_self(
    positions: npt.NDArray[np.int64], scores: npt.NDArray[np.float64], own: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Return the scores without that of the query itself, or without the last where it is not among them."""
    mine = positions == own[:, None]
    mine[~mine.any(axis=1), -1] = True
    return scores[~mine].reshape(len(scores), -1)

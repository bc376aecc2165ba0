import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stylematch.evaluate import retrieval
from stylematch.evaluate.retrieval import (
    count_relevant,
    find_by_label,
    find_own,
    mean_figures,
    ranked_positions,
    relevance_scores,
)


def unit(vectors):
    """Return unit rows; those without a direction, NaN."""
    wide = np.asarray(vectors, np.float64)
    length = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
    return np.where(length > 0, wide / np.where(length > 0, length, 1), np.nan).astype(np.float32)


# Few directions, so that many items are equally similar.
coarse = st.tuples(st.integers(1, 6), st.integers(1, 25)).flatmap(
    lambda size: st.tuples(
        hnp.arrays(np.int8, (size[0], 3), elements=st.integers(-1, 1)),
        hnp.arrays(np.int8, (size[1], 3), elements=st.integers(-1, 1)),
        hnp.arrays(np.int64, size[0], elements=st.integers(-1, 2)),
        hnp.arrays(np.int64, size[1], elements=st.integers(-1, 2)),
        hnp.arrays(np.int64, size[0], elements=st.integers(-1, size[1] - 1)),
    )
)


def slow_order(query, gallery, left_out):
    """Return positions by similarity, equal ones ascending, in plain Python."""

    def similarity(position):
        if np.isnan(gallery[position]).any():
            return -math.inf
        return round(sum(float(a) * float(b) for a, b in zip(query, gallery[position], strict=True)) * 2**22)

    places = [position for position in range(len(gallery)) if position != left_out]
    return sorted(places, key=lambda position: (-similarity(position), position))


def slow_scores(relevant, total):
    """Return the four figures of one ranking by their definitions."""
    hits, precisions = 0, 0.0
    for rank, is_relevant in enumerate(relevant[:total], start=1):
        hits += is_relevant
        precisions += is_relevant * hits / rank
    gain = sum(is_relevant / math.log2(rank + 1) for rank, is_relevant in enumerate(relevant[:10], start=1))
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(total, 10) + 1))
    return {
        "r_at_1": float(relevant[0]),
        "p_at_10": sum(relevant[:10]) / 10,
        "map_at_r": precisions / total,
        "ndcg_at_10": gain / ideal,
    }


@given(coarse)
def test_figures_are_those_of_the_definitions_with_ties_and_without_the_own_item(case):
    directions, items, query_labels, gallery_labels, own = case
    queries, gallery = unit(directions), unit(items)
    total = [
        sum(label >= 0 and label == other and place != mine for place, other in enumerate(gallery_labels))
        for label, mine in zip(query_labels, own, strict=True)
    ]
    np.testing.assert_array_equal(count_relevant(query_labels, gallery_labels, own), total)
    kept = np.flatnonzero(np.array(total) > 0)
    scores = find_by_label(queries[kept], gallery, query_labels[kept], gallery_labels, own=own[kept])
    for place, row in enumerate(kept):
        if np.isnan(queries[row]).any():
            assert all(np.isnan(values[place]) for values in scores.values())
            continue
        order = slow_order(queries[row], gallery, own[row])
        relevant = [
            bool(gallery_labels[position] == query_labels[row]) and not np.isnan(gallery[position]).any()
            for position in order
        ]
        for name, value in slow_scores(relevant, total[row]).items():
            assert scores[name][place] == pytest.approx(value), name


@given(coarse)
def test_the_own_item_is_found_at_its_rank_among_equals(case):
    directions, items, _, _, own = case
    queries, gallery, own = unit(directions), unit(items), np.maximum(own, 0)
    scores = find_own(queries, gallery, own)
    for row, query in enumerate(queries):
        if np.isnan(query).any():
            assert np.isnan(scores["r_at_1"][row])
            continue
        rank = slow_order(query, gallery, None).index(own[row])
        rank = math.inf if np.isnan(gallery[own[row]]).any() else rank
        assert (scores["r_at_1"][row], scores["r_at_10"][row]) == (rank < 1, rank < 10)


@given(hnp.arrays(np.float32, (3, 40), elements=st.sampled_from([-1, -0.0, 0.0, 0.25, 1])), st.integers(1, 50))
def test_ranks_do_not_depend_on_how_many_are_asked_for(similarities, depth):
    whole = np.argsort(-similarities, axis=1, kind="stable")
    np.testing.assert_array_equal(ranked_positions(similarities, depth), whole[:, :depth])


def test_blocks_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    queries, gallery = unit(rng.normal(size=(50, 8))), unit(rng.normal(size=(300, 8)))
    labels, items = rng.integers(0, 4, 50), rng.integers(0, 4, 300)
    told = []
    whole = find_by_label(queries, gallery, labels, items)
    monkeypatch.setattr(retrieval, "_BLOCK_VALUES", 2100)
    parts = find_by_label(queries, gallery, labels, items, advance=told.append)
    assert (sum(told), max(told)) == (50, 7)
    for name, values in whole.items():
        np.testing.assert_array_equal(values, parts[name])


def test_random_vectors_score_what_chance_gives_and_classes_apart_score_one():
    rng = np.random.default_rng(1)
    labels, items = rng.integers(0, 5, 400), rng.integers(0, 5, 2000)
    chance = find_by_label(unit(rng.normal(size=(400, 16))), unit(rng.normal(size=(2000, 16))), labels, items)
    assert chance["p_at_10"].mean() == pytest.approx(0.2, abs=0.03)
    assert chance["map_at_r"].mean() == pytest.approx(0.04, abs=0.015)
    apart = find_by_label(unit(np.eye(5)[labels]), unit(np.eye(5)[items]), labels, items)
    for values in apart.values():
        np.testing.assert_allclose(values, 1)
    # Collapsed classes find every class and no item again.
    again = find_own(unit(np.eye(5)[items]), unit(np.eye(5)[items]), np.arange(2000))
    assert again["r_at_1"].sum() == 5


def test_precision_is_over_ten_ranks_even_of_a_smaller_gallery():
    scores = relevance_scores(np.array([[True, False, True]]), np.array([2]))
    assert {name: round(values[0], 4) for name, values in scores.items()} == {
        "r_at_1": 1.0,
        "p_at_10": 0.2,
        "map_at_r": 0.5,
        "ndcg_at_10": round((1 + 0.5) / (1 + 1 / math.log2(3)), 4),
    }


def test_a_query_that_nothing_is_relevant_to_is_refused():
    with pytest.raises(ValueError, match="nothing relevant"):
        find_by_label(unit(np.eye(2)), unit(np.eye(2)), np.array([0, 7]), np.array([0, 0]))


def test_failed_queries_are_left_out_of_one_mean_and_zero_in_the_other():
    figures = mean_figures({"r_at_1": np.array([1.0, 0.0, 1.0, np.nan])})["r_at_1"]
    assert figures["mean"] == pytest.approx(2 / 3, abs=1e-6)
    assert figures["failed_as_zero"]["mean"] == 0.5
    assert figures["interval"][0] <= 2 / 3 <= figures["interval"][1]
    assert mean_figures({"r_at_1": np.array([np.nan])})["r_at_1"]["mean"] is None
    assert mean_figures({"r_at_1": np.empty(0)})["r_at_1"]["interval"] is None


def test_queries_of_one_group_are_drawn_together():
    values = np.repeat([0.0, 1.0], 200)
    alone = mean_figures({"x": values})["x"]
    together = mean_figures({"x": values}, np.repeat(np.arange(40), 10))["x"]
    assert alone["mean"] == together["mean"] == 0.5
    width = [ends[1] - ends[0] for ends in (alone["interval"], together["interval"])]
    assert width[0] == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(400), rel=0.1)
    assert width[1] == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(40), rel=0.1)

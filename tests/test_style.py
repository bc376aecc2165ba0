"""The neighbours' vote and the judge, over a real FAISS index."""

import dataclasses
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stylematch.data.celeba import ATTRIBUTES
from stylematch.data.fashion_mnist import CLASSES
from stylematch.errors import UserError
from stylematch.search.exact import VectorIndex
from stylematch.style.fusion import PoolWeights
from stylematch.style.judge import StyleJudge
from stylematch.style.neighbours import StyleVote, VoteSettings
from stylematch.style.rules import load_rules

RULES = load_rules("classic", attribute_names=ATTRIBUTES, categories=CLASSES)
STYLES = len(RULES.styles)
CASUAL, FORMAL = RULES.styles.index("Casual"), RULES.styles.index("Formal")
GLAMOROUS = RULES.styles.index("Glamorous Female")
DIM = 16
GALLERY = 400


def directions(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)


def index_of(vectors: np.ndarray) -> VectorIndex:
    return VectorIndex.build([f"{place:06d}" for place in range(len(vectors))], vectors)


@pytest.fixture(scope="module")
def gallery() -> VectorIndex:
    return index_of(directions(GALLERY, 1))


@pytest.fixture(scope="module")
def gallery_styles() -> np.ndarray:
    return np.random.default_rng(2).integers(0, STYLES, GALLERY)


@pytest.fixture(scope="module")
def vote(gallery, gallery_styles) -> StyleVote:
    return StyleVote(gallery, gallery_styles, STYLES)


def face(**present: float) -> np.ndarray:
    return np.array([[present.get(name, 0.0) for name in ATTRIBUTES]], dtype=np.float32)


def test_vote_by_hand():
    # Cosines with the query: 1, 0.8, 0.6, 0; the last is not among the nearest three.
    index = index_of(np.array([[0.6, 0.8], [1, 0], [0, 1], [0.8, 0.6]], dtype=np.float32))
    settings = VoteSettings(k=3, temperature=0.2, pseudo_count=0.5)
    one = StyleVote(index, np.array([2, 0, 2, 1]), 3, settings).vote(np.array([[5, 0]], dtype=np.float32))
    np.testing.assert_array_equal(one.positions, [[1, 3, 0]])
    np.testing.assert_array_equal(one.styles, [[0, 1, 2]])
    np.testing.assert_allclose(one.similarities, [[1, 0.8, 0.6]], atol=1e-3)
    # The gallery has 1, 1 and 2 faces of the styles, and one more of each is imagined.
    sums = np.exp([0, -1, -2]) + 0.5 * np.array([2, 2, 3]) / 7
    np.testing.assert_allclose(one.distribution, [sums / sums.sum()], atol=3e-3)


def test_vote_agrees_with_a_plain_loop(vote, gallery, gallery_styles):
    queries = directions(50, 3)
    found = vote.vote(queries)
    assert found.distribution.dtype == np.float64
    stored = gallery.vectors(np.arange(GALLERY)).astype(np.float64)
    frequency = (np.bincount(gallery_styles, minlength=STYLES) + 1) / (GALLERY + STYLES)
    for query, distribution, positions in zip(
        queries.astype(np.float64), found.distribution, found.positions, strict=True
    ):
        cosines = stored @ (query / np.linalg.norm(query))
        nearest = np.argsort(-cosines)[: vote.k]
        np.testing.assert_array_equal(positions, nearest)
        shares = vote.settings.pseudo_count * frequency
        for place in nearest:
            gap = cosines[nearest[0]] - cosines[place]
            shares[gallery_styles[place]] += np.exp(-gap / vote.settings.temperature)
        np.testing.assert_allclose(distribution, shares / shares.sum(), atol=1e-9)


@settings(max_examples=25)
@given(st.lists(st.integers(0, 99), min_size=1, max_size=40))
def test_a_faces_vote_does_not_depend_on_its_batch(vote, chosen):
    queries = directions(100, 4)
    whole = vote.vote(queries).distribution
    assert vote.vote(queries[chosen]).distribution.tobytes() == whole[chosen].tobytes()


def test_votes_are_distributions_without_zeros(gallery):
    # Ten of the twelve styles do not occur in this gallery.
    found = StyleVote(gallery, np.arange(GALLERY) % 2, STYLES).vote(directions(30, 5)).distribution
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)
    assert (found > 0).all()
    assert (found[:, :2].sum(axis=1) > 0.95).all()


def test_equal_neighbours_have_equal_votes():
    index = index_of(np.tile(np.array([[1, 2]], dtype=np.float32), (4, 1)))
    found = StyleVote(index, np.array([0, 0, 0, 1]), 2, VoteSettings(k=4, pseudo_count=1e-9)).vote(
        np.ones((1, 2), np.float32)
    )
    np.testing.assert_allclose(found.distribution, [[0.75, 0.25]], atol=1e-8)


def test_a_small_gallery_is_asked_whole():
    small = StyleVote(index_of(directions(3, 6)), np.array([0, 1, 1]), 2, VoteSettings(k=15))
    assert small.k == 3
    assert small.vote(directions(2, 7)).positions.shape == (2, 3)
    assert small.vote(directions(0, 7)).distribution.shape == (0, 2)


def test_wrong_votes_are_refused(gallery, gallery_styles):
    with pytest.raises(UserError, match="gallery is empty"):
        StyleVote(gallery, np.zeros(0, dtype=np.int64), STYLES)
    with pytest.raises(ValueError, match="400 rows, but 399 styles"):
        StyleVote(gallery, gallery_styles[1:], STYLES)
    with pytest.raises(ValueError, match="within 0 to 1"):
        StyleVote(gallery, gallery_styles, 2)
    for wrong in ({"k": 0}, {"temperature": 0.0}, {"pseudo_count": 0.0}, {"temperature": float("nan")}):
        with pytest.raises(ValueError, match=r"must be|above 0"):
            VoteSettings(**wrong)


@pytest.fixture(scope="module")
def two_sided() -> VectorIndex:
    """Ten faces to the east and five to the north."""
    east, north = np.eye(2, dtype=np.float32)
    return index_of(np.array([east] * 10 + [north] * 5))


EAST = np.array([[1, 0]], dtype=np.float32)


def judge_by(vote: StyleVote, weights: PoolWeights | None = None) -> StyleJudge:
    """A judge whose gallery's faces are young, and nothing else."""
    labels = np.zeros((len(vote.gallery_styles), len(ATTRIBUTES)), np.bool_)
    labels[:, ATTRIBUTES.index("Young")] = True
    return StyleJudge(RULES, vote, labels, weights)


RULES_ALONE, HALVES = PoolWeights(1.0, 0.0, 0.0), PoolWeights(0.5, 0.5, 0.0)
FIFTEEN = VoteSettings(k=15, temperature=0.1, pseudo_count=1.0)


def test_judge_where_both_agree(two_sided):
    styles = np.array([GLAMOROUS] * 10 + [CASUAL] * 5)
    probabilities = face(Big_Lips=0.92, Heavy_Makeup=0.97, Wearing_Lipstick=0.95, Male=0.01, Young=0.9)
    judged = judge_by(StyleVote(two_sided, styles, STYLES, FIFTEEN), HALVES).judge(probabilities, EAST)
    rule_p = float(np.prod(probabilities[0, [ATTRIBUTES.index(n) for n in RULES.rules[1].all]].astype(np.float64)))
    assert judged.style.tolist() == judged.rule_style.tolist() == judged.neighbour_style.tolist() == [GLAMOROUS]
    assert judged.rule_score[0] == pytest.approx(rule_p * 0.99, abs=1e-6)
    # Ten at similarity 1 weigh 1 each, five at 0 weigh exp(-10) each; the pseudo-count has 11 of 27 of this style.
    assert judged.neighbour_score[0] == pytest.approx((10 + 11 / 27) / (11 + 5 * np.exp(-10)), abs=1e-6)
    assert judged.style_score[0] > judged.rule_score[0]
    assert judged.rule == ["Big_Lips and Heavy_Makeup and Wearing_Lipstick and not Male"]
    assert judged.why[0].startswith(
        "Rules say Glamorous Female (0.84: Big Lips 0.92, Heavy Makeup 0.97, Wearing Lipstick 0.95, not Male 0.99); "
        "10 of the 15 nearest labelled faces are Glamorous Female, so it is Glamorous Female (0.9"
    )


def test_judge_where_the_two_differ(two_sided):
    vote = StyleVote(two_sided, np.array([CASUAL] * 10 + [FORMAL] * 5), STYLES, VoteSettings(k=1, pseudo_count=0.1))
    judged = judge_by(vote, HALVES).judge(face(Young=0.25), EAST)
    assert (judged.style[0], judged.rule_style[0], judged.neighbour_style[0]) == (CASUAL, FORMAL, CASUAL)
    assert judged.rule == ["Young"]
    assert re.fullmatch(
        r"Rules say Formal \(0\.75: not Young 0\.75\), but the nearest labelled face is Casual, "
        r"so it is Casual \(0\.\d\d\)\.",
        judged.why[0],
    )
    rules_alone = judge_by(vote, RULES_ALONE).judge(face(Young=0.25), EAST)
    assert rules_alone.style[0] == FORMAL
    assert rules_alone.style_score[0] == pytest.approx(0.75, abs=1e-4)
    assert rules_alone.style_margin[0] == pytest.approx(0.5, abs=1e-4)
    assert rules_alone.why[0].endswith(", but the nearest labelled face is Casual; pooled, it is Formal (0.75).")


def test_ties_go_to_the_first_style_in_rule_order(two_sided):
    judge = judge_by(StyleVote(two_sided, np.array([FORMAL] * 15), STYLES), RULES_ALONE)
    judged = judge.judge(face(Young=0.5), EAST)
    assert judged.style[0] == CASUAL
    assert judged.style_margin[0] == 0.0


def test_one_face_of_many_is_told_in_the_singular():
    index = index_of(directions(3, 8))
    judge = judge_by(StyleVote(index, np.array([0, 1, 2]), STYLES))
    assert re.search("1 of the 3 nearest labelled faces is ", judge.judge(face(), directions(1, 9)).why[0])


def test_a_faces_judgement_does_not_depend_on_its_batch(vote):
    judge = judge_by(vote)
    probabilities = np.random.default_rng(10).random((40, len(ATTRIBUTES)), dtype=np.float32)
    embeddings = directions(40, 11)
    whole = judge.judge(probabilities, embeddings)
    assert np.all(whole.style_margin >= 0)
    assert np.all(whole.style_score <= 1)
    for place in range(40):
        alone = judge.judge(probabilities[place : place + 1], embeddings[place : place + 1])
        for of_one, of_all in ((alone, whole), (alone.vote, whole.vote)):
            for field in dataclasses.fields(of_one):
                if field.name != "vote":
                    assert np.array_equal(getattr(of_one, field.name)[0], getattr(of_all, field.name)[place])
    none = judge.judge(probabilities[:0], embeddings[:0])
    assert none.style.shape == (0,)
    assert none.why == []


def test_judge_refuses_what_does_not_fit(gallery, vote):
    with pytest.raises(ValueError, match="the vote knows 13 styles, the rules 12"):
        judge_by(StyleVote(gallery, np.zeros(GALLERY, dtype=np.int64), 13))
    with pytest.raises(ValueError, match=f"{GALLERY} faces vote, 3 have labels"):
        StyleJudge(RULES, vote, np.zeros((3, len(ATTRIBUTES)), np.bool_))
    with pytest.raises(ValueError, match="2 rows of probabilities, 1 embeddings"):
        judge_by(vote).judge(np.zeros((2, 40)), directions(1, 1))

"""The pool of two opinions, what is fitted to it, its file, its figures, and ``rules fit`` as a command."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from program import DEFAULT_INDEX, EXAMPLES, call, manifest, score
from tiny import write_celeba

from stylematch.errors import UserError
from stylematch.evaluate.style_figures import opinion_figures
from stylematch.pipelines.assets import resolve_assets
from stylematch.pipelines.learning import fit_place, fit_style
from stylematch.pipelines.style_fit import fit_of, gallery_sha256
from stylematch.style import fitting
from stylematch.style.fits import STYLE_FILE, Fit, find_fit, fits_path, own_fits_path, write_fits
from stylematch.style.fitting import HeldOut, fit_neighbours, fit_pool, fit_rules, fit_weights, mean_log_loss
from stylematch.style.fusion import PoolWeights, fuse, log_opinions
from stylematch.style.informed import Known, informed_votes
from stylematch.style.neighbours import VoteSettings, count_votes
from stylematch.style.rules import load_rules

S = 4
PRIOR = np.array([0.4, 0.3, 0.2, 0.1])
distributions = hnp.arrays(np.float64, (5, S), elements=st.floats(0.01, 1)).map(
    lambda values: values / values.sum(axis=1, keepdims=True)
)
weights = st.builds(PoolWeights, st.floats(0.1, 2), st.floats(0, 2), st.floats(0, 1))


@given(distributions, distributions, weights)
def test_pool_is_the_weighted_product(rules, votes, chosen):
    pooled = fuse(rules, votes, PRIOR, chosen)
    product = rules**chosen.rules * votes**chosen.neighbours / PRIOR**chosen.prior
    np.testing.assert_allclose(pooled, product / product.sum(axis=1, keepdims=True), atol=1e-12)
    for row in range(len(rules)):
        one = slice(row, row + 1)
        assert fuse(rules[one], votes[one], PRIOR, chosen).tobytes() == pooled[one].tobytes()


@given(distributions, distributions)
def test_pool_of_one_opinion_is_that_opinion(rules, votes):
    np.testing.assert_allclose(fuse(rules, votes, PRIOR, PoolWeights(1, 0, 0)), rules, atol=1e-12)
    np.testing.assert_allclose(fuse(rules, votes, PRIOR, PoolWeights(0, 1, 0)), votes, atol=1e-12)


def test_neither_opinion_can_forbid_what_the_other_is_sure_of():
    sure, other = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    np.testing.assert_allclose(fuse(sure, other, np.array([0.5, 0.5]), PoolWeights(0.5, 0.5, 0)), [[0.5, 0.5]])


@pytest.mark.parametrize("wrong", [(-0.1, 1.0), (0.0, 0.0), (float("nan"), 1.0), (float("inf"), 1.0), (1.0, 0.0, -1.0)])
def test_wrong_weights_are_refused(wrong):
    with pytest.raises(ValueError, match="weights of opinions"):
        PoolWeights(*wrong)


def test_opinions_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="differ in shape"):
        fuse(np.full((2, 4), 0.25), np.full((2, 3), 1 / 3), PRIOR)


def drawn(count: int, seed: int, *, overconfident: float = 1.0, rules_see: float = 2.0, neighbours_see: float = 2.0):
    """Held-out people whose rules and neighbours each see the truth through noise of their own."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, S, count)
    # Unit noise and a shift of s of the true style: exp(s * value) is the likelihood, so this is calibrated.
    seen = rng.normal(size=(count, S))
    seen[np.arange(count), truth] += rules_see
    logits = overconfident * rules_see * seen
    rules = np.exp(logits - logits.max(axis=1, keepdims=True))
    keeps = rng.random((count, 200)) < neighbours_see / 4
    styles = np.where(keeps, truth[:, None], rng.integers(0, S, (count, 200)))
    similarities = -np.sort(rng.random((count, 200)) * 0.2, axis=1)
    prior = np.full(S, 1 / S)
    nothing = Known(np.empty((count, 0)), np.empty((0, 200, count), np.bool_), np.empty(0))
    people = np.arange(count) // 5
    return HeldOut(rules / rules.sum(axis=1, keepdims=True), styles, similarities, prior, truth, people, nothing)


SMALL_GRID = (VoteSettings(15, 0.1, 1.0), VoteSettings(100, 0.1, 1.0))


def test_two_independent_opinions_are_worth_more_than_each():
    held_out, others = drawn(600, 1, neighbours_see=0.6), drawn(600, 2, neighbours_see=0.6)
    fits = [fit_pool(held_out, SMALL_GRID), fit_rules(held_out), fit_neighbours(held_out, SMALL_GRID)]
    pooled, rules, neighbours = (mean_log_loss(others.pooled(fit), others.truth) for fit in fits)
    assert pooled < 0.9 * min(rules, neighbours)
    assert fits[0].weights.rules > 0.5
    assert fits[0].weights.neighbours > 0.1


def test_an_opinion_that_knows_nothing_is_not_heard():
    held_out = drawn(600, 3, neighbours_see=0.0)
    fit = fit_pool(held_out, SMALL_GRID)
    assert fit.weights.neighbours < 0.1
    assert fit.weights.rules == pytest.approx(1, abs=0.15)


def test_an_overconfident_opinion_is_softened():
    fit = fit_rules(drawn(2000, 4, overconfident=3.0))
    assert fit.weights.rules == pytest.approx(1 / 3, rel=0.15)
    assert fit.weights.neighbours == 0


def test_faces_of_one_person_share_a_fold(monkeypatch):
    """Or what is learned by heart about a person would look like skill."""
    persons, faces = 23, 4
    people = np.tile(np.arange(persons), faces)  # and so is everybody's true style, by which a fold's faces are known
    uniform, nobody = np.full((len(people), persons), 1 / persons), np.zeros((len(people), 1))
    nothing = Known(np.empty((len(people), 0)), np.empty((0, 1, len(people)), np.bool_), np.empty(0))
    held_out = HeldOut(uniform, nobody.astype(np.int64), nobody, uniform[0], people, people, nothing)
    fitted_to = []

    def spy(opinions, truth, start):
        fitted_to.append(np.bincount(truth, minlength=persons))
        return start

    monkeypatch.setattr(fitting, "fit_weights", spy)
    fit_rules(held_out)
    *folds, whole = np.array(fitted_to)
    assert (whole == faces).all()
    assert np.isin(folds, (0, faces)).all()
    left_out = np.equal(folds, 0)
    assert (left_out.sum(axis=0) == 1).all()  # everybody is judged once, by a fit that has not seen them
    assert set(left_out.sum(axis=1)) == {2, 3}


def test_fitting_is_deterministic():
    assert fit_pool(drawn(200, 5), SMALL_GRID) == fit_pool(drawn(200, 5), SMALL_GRID)


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.floats(1, 200))
def test_fitted_weights_are_a_minimum_among_those_not_negative(seed, penalty):
    held_out, start = drawn(60, seed, overconfident=2.0), np.array([1.0, 0.0])
    opinions = log_opinions(held_out.rules, held_out.votes(SMALL_GRID[0]))

    def cost(values):
        logits = values[0] * opinions[0] + values[1] * opinions[1]
        logits -= logits.max(axis=1, keepdims=True)
        shares = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return -shares[np.arange(60), held_out.truth].sum() + penalty / 2 * ((values - start) ** 2).sum()

    fitted = fit_weights(opinions, held_out.truth, start, penalty=penalty)
    assert (fitted >= 0).all()
    for step in np.array([[1, 0], [0, 1], [1, 1], [1, -1]]) * 1e-3:
        for other in (fitted + step, fitted - step):
            assert (other < 0).any() or cost(other) >= cost(fitted) - 1e-9


def test_vote_asks_only_the_first_k():
    held_out = drawn(20, 6)
    some = VoteSettings(7, 0.1, 1.0)
    cut = count_votes(held_out.neighbour_styles[:, :7], held_out.similarities[:, :7], held_out.prior, some)
    np.testing.assert_array_equal(held_out.votes(some), cut)


FIT = Fit(VoteSettings(60, 0.07, 0.3), PoolWeights(0.9, 0.2, 0.1), 0.5)
GALLERY = {"bundle": "b" * 64, "faces": "f" * 64}


def test_fits_are_found_by_rules_and_gallery_alone(tmp_path):
    path = tmp_path / STYLE_FILE
    assert find_fit(path, "r1", GALLERY) is None
    write_fits(path, {"r1": ("one", FIT)}, GALLERY, "people")
    write_fits(path, {"r2": ("two", FIT)}, GALLERY, "people")
    assert find_fit(path, "r1", GALLERY) == find_fit(path, "r2", GALLERY) == FIT
    assert find_fit(path, "r3", GALLERY) is None
    assert find_fit(path, "r1", {**GALLERY, "faces": "0" * 64}) is None
    written = path.read_bytes()
    write_fits(path, {"r2": ("two", FIT)}, GALLERY, "people")
    assert path.read_bytes() == written
    # Another gallery's fits say nothing of this one's.
    write_fits(path, {"r3": ("three", FIT)}, {**GALLERY, "faces": "0" * 64}, "people")
    assert find_fit(path, "r1", GALLERY) is None


def test_galleries_that_lie_side_by_side_have_fits_of_their_own(tmp_path):
    paths = [fits_path(tmp_path / name) for name in ("faces", "a", "b")]
    assert paths[0] == tmp_path / STYLE_FILE
    assert len({*paths}) == 3
    assert {path.parent for path in paths} == {tmp_path}


def test_fits_are_found_however_their_gallery_is_spelled(tmp_path, monkeypatch):
    faces = tmp_path / "faces"
    (faces / "inside").mkdir(parents=True)
    link = tmp_path / "current"
    link.symlink_to("faces")
    assert fits_path(link) == tmp_path / "current.style.json"
    (tmp_path / STYLE_FILE).touch()
    monkeypatch.chdir(faces / "inside")
    assert [fits_path(path).resolve() for path in (link, Path(".."), Path("../../faces"))] == [
        tmp_path / STYLE_FILE
    ] * 3
    monkeypatch.chdir(faces)
    assert fits_path(Path()) == tmp_path / STYLE_FILE
    assert own_fits_path(link) == tmp_path / "current.style.json"  # what it leads to is not written to
    (tmp_path / "current.style.json").touch()
    assert fits_path(link) == tmp_path / "current.style.json"  # its own is nearer


@pytest.mark.parametrize("broken", ["", "[]", "{}", '{"format": 3, "sha256": {}, "fits": {}}'])
def test_a_damaged_file_of_fits_is_named(tmp_path, broken):
    path = tmp_path / STYLE_FILE
    path.write_text(broken)
    with pytest.raises(UserError, match=r"style\.json is damaged"):
        find_fit(path, "r1", GALLERY)


def test_a_damaged_fit_is_named(tmp_path):
    path = tmp_path / STYLE_FILE
    write_fits(path, {"r1": ("one", FIT)}, GALLERY, "people")
    content = json.loads(path.read_text())
    content["fits"]["r1"]["weights"]["rules"] = -1
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"style\.json is damaged"):
        find_fit(path, "r1", GALLERY)


def test_figures_by_hand():
    truth = np.array([0] * 30 + [1] * 10)
    sure, unsure = np.eye(2)[truth] * 0.8 + 0.1, np.full((40, 2), 0.5)
    figures = opinion_figures({"pooled": sure, "rules": unsure}, truth, np.arange(40) // 4, ("a", "b"), pooled="pooled")
    assert (figures["faces"], figures["people"], figures["support"]) == (40, 10, {"a": 30, "b": 10})
    assert figures["opinions"]["pooled"]["log_loss"] == pytest.approx(-np.log(0.9), abs=1e-4)
    # Only style a has 30 faces; answered always, it has F1 2 * 30 / (40 + 30).
    assert figures["opinions"]["rules"]["macro_f1"] == pytest.approx(60 / 70, abs=1e-4)
    against = figures["against"]["rules"]["log_loss"]
    assert against["difference"] == pytest.approx(np.log(0.5) - np.log(0.9), abs=1e-4)
    # Every face gains as much, so that no resample differs.
    np.testing.assert_allclose(
        against["over_pictures"] + against["over_people"], [against["difference"]] * 4, atol=1e-4
    )


def test_intervals_over_people_are_wider_where_pictures_of_one_resemble():
    rng = np.random.default_rng(7)
    truth, people = np.zeros(400, np.int64), np.arange(400) // 20
    sure = np.repeat(rng.uniform(0.2, 0.9, 20), 20)
    said = {"pooled": np.stack([sure, 1 - sure], 1), "rules": np.full((400, 2), 0.5)}
    against = opinion_figures(said, truth, people, ("a", "b"), pooled="pooled")["against"]["rules"]["log_loss"]
    assert np.diff(against["over_people"])[0] > 2 * np.diff(against["over_pictures"])[0]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory) -> tuple[Path, Path]:
    """A collection with a gallery of its own place, to which two rule sets were fitted on a tiny CelebA."""
    folder = tmp_path_factory.mktemp("fit")
    write_celeba(folder / "data" / "celeba", ("Young", "Smiling"))
    collection = folder / "collection"
    collection.mkdir()
    for part in ("attributes", "faces"):
        (collection / part).symlink_to(DEFAULT_INDEX / part)
    arguments = ("--index", collection, "--root", folder / "data", "--report", folder / "report")
    done = call("rules", "fit", "classic", "wardrobe", *arguments)
    assert done.code == 0, done.err
    return collection, folder


def test_rules_fit_writes_fits_and_figures(fitted):
    collection, folder = fitted
    figures = json.loads((folder / "report" / "style-figures.json").read_text())
    assert set(figures["rule_sets"]) == {"classic", "wardrobe"}
    measured = figures["rule_sets"]["classic"]["measured"]
    assert [group["faces"] for group in measured.values()] == [1]
    page = (folder / "report" / "style-figures.md").read_text()
    assert "## wardrobe" in page
    assert "| **pooled** |" in page
    content = json.loads((collection / STYLE_FILE).read_text())
    assert sorted(entry["rules"] for entry in content["fits"].values()) == ["classic", "wardrobe"]


def world(count: int, seed: int, *, faces: int = 300, seen: float = 1.5):
    """Faces with three attributes of which the first two come together or not at all; the style is which one has.

    The model sees each attribute by itself through noise; the neighbours are people drawn by chance, so that their
    plain vote knows nothing of the face.
    """
    rng = np.random.default_rng(seed)

    def people(size):
        both = rng.random(size) < 0.5
        return np.stack([both, both, rng.random(size) < 0.3], -1)

    own, others = people(count), people((count, faces))
    signal = rng.normal(size=own.shape) + seen * own
    said = 1 / (1 + np.exp(-(seen * signal - seen**2 / 2)))
    p, q, r = said.T
    by_rules = np.stack([p * q, p * (1 - q) + (1 - p) * q, (1 - p) * (1 - q) * r, (1 - p) * (1 - q) * (1 - r)], 1)

    def style(labels):
        first, second, third = np.moveaxis(labels, -1, 0)
        return np.where(first & second, 0, np.where(first | second, 1, np.where(third, 2, 3)))

    known = Known(said, np.ascontiguousarray(others.T), np.array([0.5, 0.5, 0.3]))
    similarities = np.ones((count, faces))
    return HeldOut(by_rules, style(others), similarities, PRIOR, style(own), np.arange(count), known)


def test_neighbours_tell_which_attributes_come_together():
    """Rules take the attributes apart, so they give a style to half a pair that no person has."""
    faces, settings = world(500, 1), VoteSettings(300, 0.3, 1.0, 0.7)
    informed = faces.informed(settings)
    rules, plain, better = (mean_log_loss(said, faces.truth) for said in (faces.rules, faces.votes(settings), informed))
    assert better < 0.8 * rules
    assert better < 0.8 * plain
    assert informed[:, 1].max() < faces.rules[:, 1].mean() / 2
    np.testing.assert_allclose(informed.sum(axis=1), 1, atol=1e-12)


def test_informed_votes_by_hand():
    known = Known(np.array([[0.9]]), np.array([[[True], [False], [False]]]), np.array([0.5]))
    styles, similarities = np.array([[0, 1, 1]]), np.ones((1, 3))
    found = informed_votes(known, styles, similarities, np.array([[0.6, 0.4]]), VoteSettings(3, 0.3, 1.0, 1.0))
    there = (1 + 0.5) / (3 + 1)
    fits = (0.9 / 0.1) / (there / (1 - there))  # of the first, beside 1 of the others
    expected = np.array([1 + 0.6, 2 / fits + 0.4]) / (1 + 2 / fits + 1)
    np.testing.assert_allclose(found[0], expected, atol=1e-12)


def test_no_attribute_is_taken_for_more_certain_than_one_in_ten_thousand():
    def vote(said):
        known = Known(np.array([[said]]), np.array([[[True], [False], [False]]]), np.array([0.5]))
        rules = np.array([[0.6, 0.4]])
        return informed_votes(known, np.array([[0, 1, 1]]), np.ones((1, 3)), rules, VoteSettings(3, 0.3, 1.0, 1.0))[0]

    for certain, surest, less_sure in ((0.0, 1e-4, 2e-4), (1.0, 1 - 1e-4, 1 - 2e-4)):
        np.testing.assert_array_equal(vote(certain), vote(surest))
        assert (vote(surest) != vote(less_sure)).all()


def test_without_agreement_neighbours_vote_plainly_towards_the_rules():
    faces, settings = world(50, 2), VoteSettings(40, 0.3, 2.0, 0.0)
    informed = faces.informed(settings)
    for row in range(50):
        counted = np.bincount(faces.neighbour_styles[row, :40], minlength=4)
        np.testing.assert_allclose(informed[row], (counted + 2 * faces.rules[row]) / 42, atol=1e-12)


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.floats(0, 1.5))
def test_informed_votes_do_not_depend_on_the_batch(seed, agreement):
    faces, some = world(9, seed, faces=70), VoteSettings(60, 0.1, 0.5, agreement)
    whole = faces.informed(some)
    for row in range(9):
        one = slice(row, row + 1)
        known = Known(faces.known.said[one], faces.known.true[..., one], faces.known.usual)
        alone = informed_votes(known, faces.neighbour_styles[one], faces.similarities[one], faces.rules[one], some)
        assert alone.tobytes() == whole[one].tobytes()


def test_a_file_of_fits_to_another_pool_is_no_fit_and_is_replaced(tmp_path):
    path, gallery = tmp_path / STYLE_FILE, {"bundle": "a", "faces": "b"}
    path.write_text(json.dumps({"format": 1, "sha256": gallery, "fits": {"c": {"weights": {"rules": 1.0}}}}))
    assert find_fit(path, "c", gallery) is None
    write_fits(path, {"d": ("mine", FIT)}, gallery, "people")
    assert find_fit(path, "d", gallery) == FIT
    assert find_fit(path, "c", gallery) is None


def test_a_fit_of_ones_own_rules_has_a_folder_of_its_own(fitted, tmp_path):
    """Beside the shipped gallery it would be lost with the next release, or may not be written at all."""
    _, folder = fitted
    party, out = tmp_path / "party.toml", tmp_path / "indexes" / "party"
    party.write_text('name = "party"\n[[rules]]\nstyle = "Glad"\nall = ["Smiling"]\nitems = ["Dress"]\n'
                     '[[rules]]\nstyle = "Other"\nitems = ["Shirt"]\n')  # fmt: skip
    shipped = (DEFAULT_INDEX / STYLE_FILE).read_bytes()
    data = ("--root", folder / "data", "--report", tmp_path / "report")
    refused = call("rules", "fit", "classic", party, *data)
    assert refused.code == 2
    assert f"{party} does not ship" in refused.sentence
    assert "such as --out indexes/party" in refused.sentence
    assert not (tmp_path / "report").exists()
    assert call("rules", "fit", party, "--out", out, *data).code == 0
    done = call("rules", "fit", "classic", "--out", out, *data)
    assert done.code == 0, done.err
    assert f"fits: {out / STYLE_FILE}" in done.out
    assert (DEFAULT_INDEX / STYLE_FILE).read_bytes() == shipped
    assets = resolve_assets([out])
    assert assets.faces.directory == out / "faces"
    assert assets.sha256 == resolve_assets([]).sha256
    for rules in (party, "classic"):  # the first stays beside the second
        assert fit_of(assets, load_rules(rules, attribute_names=assets.attribute_names)) is not None
    assert fit_of(resolve_assets([]), load_rules(party, attribute_names=assets.attribute_names)) is None
    (out / "mine.txt").touch()
    refused = call("rules", "fit", party, "--out", out, *data)
    assert refused.code == 2
    assert "holds mine.txt beside fits of rules and their gallery" in refused.sentence


def test_where_a_fit_may_not_be_written_says_what_to_name(tmp_path, monkeypatch):
    def refuse(folder):
        raise UserError(f"cannot write to {folder}: name a folder that you may write to")

    monkeypatch.setattr(fit_place, "check_writable", refuse)  # root, as whom tests may run, may write anywhere
    done = call("rules", "fit", "--root", tmp_path, "--report", tmp_path / "report")
    assert done.code == 2
    assert f"cannot write to {DEFAULT_INDEX}: name a folder that you may write to, by --out" in done.sentence


def test_score_uses_what_was_fitted_and_says_so(fitted, tmp_path):
    collection, _ = fitted
    photos = EXAMPLES / "astronaut.jpg"
    assets = resolve_assets([collection])
    rules = load_rules("classic", attribute_names=assets.attribute_names)
    assert fit_of(assets, rules) is not None
    first = score(photos, tmp_path / "fitted", "--index", collection, "--rules", "classic")
    assert first.code == 0, first.err
    told = manifest(tmp_path / "fitted")
    assert told["settings"]["style_fusion"]["fitted"]
    # Another fit, another run; and rules that nothing was fitted to get the defaults.
    write_fits(collection / STYLE_FILE, {rules.sha256: (rules.name, FIT)}, gallery_sha256(assets), "people")
    assert score(photos, tmp_path / "other", "--index", collection, "--rules", "classic").code == 0
    other = manifest(tmp_path / "other")
    assert other["run_id"] != told["run_id"]
    assert other["settings"]["style_fusion"]["weights"] == {"rules": 0.9, "neighbours": 0.2, "prior": 0.1}
    assert score(photos, tmp_path / "own", "--index", collection, "--rules", "wardrobe-neutral").code == 0
    own = manifest(tmp_path / "own")["settings"]["style_fusion"]
    assert own["fitted"] is False
    assert own["vote"]["k"] == VoteSettings().k


def test_rules_fit_refuses_a_gallery_that_holds_what_it_fits_to(tmp_path, monkeypatch):
    """Each face would find itself first, with its true style."""
    write_celeba(tmp_path / "data" / "celeba", ("Young", "Smiling"))
    val = [row[0] for row in (line.split() for line in partition_lines(tmp_path / "data" / "celeba")) if row[1] == "1"]
    load = fit_style.load_index_directory

    def with_val(*arguments, **options):
        stored = load(*arguments, **options)
        ids = pa.array([*val[:2], *stored.index.ids[2:]])
        return replace(stored, index=SimpleNamespace(ids=ids.to_pylist()))

    monkeypatch.setattr(fit_style, "load_index_directory", with_val)
    arguments = ("--root", tmp_path / "data", "--report", tmp_path / "report", "--out", tmp_path / "fits")
    done = call("rules", "fit", "classic", *arguments)
    assert done.code == 2
    assert f"holds 1 of the faces of celeba val (local split), '{val[0]}'" in done.sentence


def partition_lines(folder: Path) -> list[str]:
    return (folder / "list_eval_partition.txt").read_text().splitlines()


def test_rules_fit_without_data_says_what_is_missing(tmp_path):
    done = call("rules", "fit", "classic", "--root", tmp_path, "--report", tmp_path / "report")
    assert done.code == 2
    assert "no folder 'celeba'" in done.sentence

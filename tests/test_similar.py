"""``similar``: items that look like items, against sums of its own, and what becomes of a run that is stopped."""

import json
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from program import DEFAULT_INDEX, EXAMPLES, call, digests, score, stored
from test_catalog_build import build, pictures, write_table  # noqa: F401 - a fixture

from stylematch import Stylematch
from stylematch.errors import UserError
from stylematch.pipelines.indexing import item_neighbours as neighbours
from stylematch.pipelines.indexing import similar as module
from stylematch.pipelines.indexing.item_neighbours import Neighbourhood, pair_columns
from stylematch.search.directory import Origin, load_index_directory, save_index_directory
from stylematch.search.hnsw import HnswIndex
from stylematch.search.parameters import Parameters
from stylematch.tables.contract import KEYS, similar_items_schema

ITEMS = 12
NOTHING = dict.fromkeys(("found", "scored", "no_face", "rejected", "faces", "recommendations"), 0)
NOT_A_RUN = {
    **{"run_id": "a" * 32, "tool": "stylematch", "settings": {}, "sha256": {}, "packages": {}},
    **{"outputs": ["manifest.json"], "counts": {**NOTHING, "reasons": {}, "ignored": {}}},
}


def similar(out, *options):
    return call("similar", "--out", out, "--device", "cpu", *options)


def written(out, *options):
    result = similar(out, *options)
    assert result.code == 0, result.err
    return out


def pairs(out):
    """Return for each item the others and their similarity, by rank."""
    found = {}
    for row in stored(out, "similar_items").to_pylist():
        found.setdefault(row["item_id"], []).append(row)
    for rows in found.values():
        assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    return {name: [(row["similar_item_id"], row["similarity"]) for row in rows] for name, rows in found.items()}


@pytest.fixture(scope="module")
def shop(pictures, tmp_path_factory):  # noqa: F811
    """Twelve items: eight robes, four coats; of six nobody knows for whom."""
    lines = [
        f"sku-{n},{n:03d}.png,{'Coats' if n % 3 == 2 else 'Robes'},{10 * n},{'Women' if n < 6 else ''}"
        for n in range(ITEMS)
    ]
    out = tmp_path_factory.mktemp("similar") / "shop"
    assert build(write_table(pictures / "similar.csv", lines), out, "--workers", 1).code == 0
    return out


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return written(tmp_path_factory.mktemp("whole") / "out")


def test_the_nearest_are_those_of_plain_sums(whole):
    index = load_index_directory(DEFAULT_INDEX / "items").index
    vectors = index.vectors(np.arange(len(index))).astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    table = pairs(whole)
    assert list(table) == list(index.ids)
    places = {name: place for place, name in enumerate(index.ids)}
    for place in range(0, len(index), 97):
        cosines = vectors @ vectors[place]
        cosines[place] = -np.inf
        found = table[index.ids[place]]
        assert len({name for name, _ in found}) == len(found) == 10
        others = np.array([places[name] for name, _ in found])
        assert place not in others
        np.testing.assert_allclose([score for _, score in found], cosines[others], atol=1e-3)  # stored as half floats
        np.testing.assert_allclose(cosines[others], np.sort(cosines)[::-1][:10], atol=1e-3)


def test_no_cosine_is_beyond_one(whole):
    assert np.abs(stored(whole, "similar_items")["similarity"].to_numpy()).max() <= 1
    index = load_index_directory(DEFAULT_INDEX / "items").index
    beyond = np.array([[1.00003, 0.5, -1.00003]])
    rows = pair_columns(index, np.array([0]), np.array([[1, 0, 2]]), beyond)
    assert rows["similarity"].tolist() == [1.0, -1.0]


def test_the_table_is_as_the_contract_says(whole):
    table = pq.read_table(whole / "similar_items" / "part-00000.parquet")
    assert table.schema.equals(similar_items_schema())
    everything = stored(whole, "similar_items")
    keys = everything.select(list(KEYS["similar_items"]))
    assert len(keys.group_by(keys.column_names).aggregate([])) == len(everything) == 100_000
    manifest = json.loads((whole / "manifest.json").read_text())
    assert manifest["counts"] == {"items": 10_000, "offered": 10_000, "pairs": 100_000, "short": 0}
    assert set(everything["run_id"].to_pylist()) == {manifest["run_id"]}


def test_a_second_run_has_nothing_to_do(whole):
    before = digests(whole)
    result = similar(whole)
    assert result.code == 0
    assert "Nothing to do" in result.out
    assert digests(whole) == before


def test_neither_batches_nor_a_stop_leave_a_trace(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(neighbours, "_QUERIES", 333)
    written_parts = []
    nearest = module.nearest_to

    def stopped(index, near, positions, k, progress):
        if len(written_parts) == 1:
            raise KeyboardInterrupt
        written_parts.append(positions[0])
        return nearest(index, near, positions, k, progress)

    with monkeypatch.context() as patched:
        patched.setattr(module, "nearest_to", stopped)
        result = similar(tmp_path / "out")
    assert result.code == 130
    assert "goes on where it stopped" in result.err
    assert not (tmp_path / "out").exists()
    searched = []
    monkeypatch.setattr(
        module,
        "nearest_to",
        lambda index, near, positions, k, progress: (
            searched.append(positions[0]) or nearest(index, near, positions, k, progress)
        ),
    )
    written(tmp_path / "out")
    assert searched == [module.PARTITION_ITEMS]  # the first partition was done
    assert digests(tmp_path / "out" / "similar_items") == digests(whole / "similar_items")


def test_equal_columns_and_a_condition(shop, tmp_path):
    out = written(tmp_path / "out", "--index", shop, "--same", "category, gender")
    rows = {row["id"]: row for row in pq.read_table(shop / "items" / "rows.parquet").to_pylist()}
    table = pairs(out)
    for name, found in table.items():
        mine = (rows[name]["category"], rows[name]["gender"])
        wanted = {other for other, row in rows.items() if (row["category"], row["gender"]) == mine} - {name}
        assert {other for other, _ in found} == wanted
    result = similar(out, "--index", shop, "--same", "category,gender")
    assert "items with fewer than 10 others that may be offered: 12" in result.out
    cheap = pairs(written(tmp_path / "cheap", "--index", shop, "--where", "price < 30", "--top-k", 2))
    assert len(cheap) == ITEMS  # the dear ones are asked about, too
    offered = {other for found in cheap.values() for other, _ in found}
    assert offered == {"sku-0", "sku-1", "sku-2"}
    assert {len(found) for found in cheap.values()} == {2}


def test_some_items_alone(shop, tmp_path):
    (tmp_path / "ids.txt").write_text("sku-7\n\nsku-2\nsku-7\n")
    some = pairs(written(tmp_path / "some", "--index", shop, "--ids", tmp_path / "ids.txt", "--top-k", 3))
    everything = pairs(written(tmp_path / "all", "--index", shop, "--top-k", 3))
    assert some == {name: everything[name] for name in ("sku-2", "sku-7")}
    (tmp_path / "ids.txt").write_text("sku-7\nno\x1bsuch\n")
    result = similar(tmp_path / "other", "--index", shop, "--ids", tmp_path / "ids.txt")
    assert result.code == 2
    assert "1 of 2 ids are not in" in result.sentence
    assert "\x1b" not in result.sentence


def test_approximate_kinds_find_k_of_what_is_allowed(tmp_path):
    exact = load_index_directory(DEFAULT_INDEX / "items")
    index = HnswIndex.build(
        exact.index.id_column,
        exact.index.vectors(np.arange(len(exact.index))),
        parameters=Parameters(links=16, build_effort=80, effort=64),
    )
    (tmp_path / "hnsw").mkdir()
    save_index_directory(tmp_path / "hnsw", index, exact.rows.drop(["picture"]), Origin.of(exact.infos))
    (tmp_path / "ids.txt").write_text("\n".join(index.ids[::50]))
    options = ("--same", "category", "--ids", tmp_path / "ids.txt")
    near = pairs(written(tmp_path / "near", "--index", tmp_path / "hnsw", *options))
    true = pairs(written(tmp_path / "true", *options))
    assert list(near) == list(true)
    assert {len(found) for found in near.values()} == {10}
    assert all(name not in dict(found) for name, found in near.items())
    hit = np.mean([len(dict(near[name]).keys() & dict(true[name]).keys()) for name in true]) / 10
    assert hit >= 0.9


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--index", DEFAULT_INDEX / "faces"], "has no index of items"),
        (["--index", "nowhere"], "has no index of items"),
        (["--same", "colour"], "--same colour: the items have no such column; they have id, category"),
        (["--same", "category,"], "--same: a name is empty"),
        (["--where", "price < 3"], "cannot be read as a condition on this index's items"),
        (["--where", "category = 'Hat'"], "holds for none of the items"),
        (["--ids", "nowhere"], "nowhere cannot be read"),
    ],
)
def test_mistakes_are_told(tmp_path, options, said):
    result = similar(tmp_path / "out", *options)
    assert result.code == 2
    assert said in result.sentence
    assert list(tmp_path.iterdir()) == []


def test_another_commands_run_is_not_replaced(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.json").write_text(json.dumps(NOT_A_RUN))
    result = similar(tmp_path / "out")
    assert result.code == 2
    assert "holds a run that similar did not write" in result.sentence


def test_score_does_not_replace_a_run_of_similar(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "out")
    result = score(EXAMPLES, tmp_path / "out")
    assert result.code == 2
    assert "holds a run that score did not write" in result.sentence
    assert (tmp_path / "out" / "similar_items").is_dir()


def test_an_index_that_is_replaced_meanwhile_changes_no_answer(shop, tmp_path, monkeypatch):
    """Rows, vectors and the digest that names the run are of one look."""
    index = tmp_path / "shop"
    shutil.copytree(shop, index)
    (tmp_path / "ids").write_text("sku-0\n")

    def loaded(*arguments, **options):
        found = load_index_directory(*arguments, **options)
        assert call("catalog", "remove", "--index", index, "--ids", tmp_path / "ids").code == 0
        return found

    options = ("--where", "price < 60", "--index")
    before = written(tmp_path / "before", *options, shop)
    monkeypatch.setattr(module, "load_index_directory", loaded)
    meanwhile = written(tmp_path / "meanwhile", *options, index)
    assert pairs(meanwhile) == pairs(before)
    assert stored(meanwhile, "similar_items").equals(stored(before, "similar_items"))
    monkeypatch.undo()
    after = written(tmp_path / "after", *options, index)
    assert len(pairs(after)) == ITEMS - 1
    assert stored(after, "similar_items")["run_id"][0] != stored(before, "similar_items")["run_id"][0]


def test_columns_of_categories_may_be_equal(shop):
    rows = load_index_directory(shop / "items").rows
    place = rows.column_names.index("category")
    coded = rows.set_column(place, "category", rows["category"].dictionary_encode())
    np.testing.assert_array_equal(
        Neighbourhood(coded, ("category",), None).group, Neighbourhood(rows, ("category",), None).group
    )


def test_an_approximate_index_is_searched_on_the_cpu(tmp_path, monkeypatch):
    """On a GPU it would be searched exactly, and the same run_id would name two tables."""
    asked = []

    def loaded(*arguments, **options):
        asked.append(options["device"])
        raise UserError("enough")

    monkeypatch.setattr(module, "load_index_directory", loaded)
    monkeypatch.setattr(module, "resolve_device", lambda _: "cuda")
    for name in ("exact", "approximate"):
        shutil.copytree(DEFAULT_INDEX / "items", tmp_path / name)
    (tmp_path / "approximate" / "search.json").write_text("{}")
    for name in ("exact", "approximate"):
        assert call("similar", "--out", tmp_path / "out", "--index", tmp_path / name).code == 2
    assert asked == ["cuda", "cpu"]


def test_a_notebook_has_the_commands_rows(shop, tmp_path):
    matcher = Stylematch.load(shop, device="cpu", threads=1)
    options = {"top_k": 3, "same": ["category"], "where": "price < 60"}
    out = written(tmp_path / "out", "--index", shop, "--top-k", 3, "--same", "category", "--where", "price < 60")
    wanted = stored(out, "similar_items").to_pandas().drop(columns="run_id")
    names = list(matcher._scorer.adviser.items.index.ids)
    pd.testing.assert_frame_equal(matcher.similar(names, **options), wanted, check_exact=True)
    one = matcher.similar(names[3], np.int64(3), same="category", where="price < 60")
    pd.testing.assert_frame_equal(one, wanted[wanted["item_id"] == names[3]].reset_index(drop=True))
    turned = matcher.similar(pd.Series([names[4], names[1], names[4]]), 2)  # in the order of the question
    assert turned["item_id"].tolist() == [names[4]] * 2 + [names[1]] * 2
    assert len(matcher.similar([])) == 0
    assert list(matcher.similar([]).columns) == list(wanted.columns)


def test_a_notebook_offers_what_it_was_loaded_with(shop):
    matcher = Stylematch.load(shop, device="cpu", threads=1, where="price < 30")
    assert set(matcher.similar("sku-7")["similar_item_id"]) == {"sku-0", "sku-1", "sku-2"}
    assert len(matcher.similar("sku-7", where="price >= 0")) == 10


@pytest.mark.parametrize(
    ("asked", "options", "said"),
    [
        (["sku-1", "sku-99"], {}, r"1 of 2 ids are not in this catalogue: 'sku-99'"),
        ("sku-1", {"top_k": 0}, r"Stylematch\.similar: top_k: has to be at least 1"),
        ("sku-1", {"top_k": "ten"}, "top_k has to be a whole number"),
        ("sku-1", {"same": "catgory"}, "the items have no such column; they have id, category"),
        ("sku-1", {"same": "Price"}, r"; did you mean price\? Capitals count\."),
        ("sku-1", {"where": "price < 0"}, "holds for none of the items"),
        ("sku-1", {"where": "prize < 0"}, "cannot be read as a condition"),
    ],
)
def test_a_notebook_is_told_what_is_wrong(shop, asked, options, said):
    with pytest.raises(UserError, match=said):
        Stylematch.load(shop, device="cpu", threads=1).similar(asked, **options)


def test_query_joins_the_items(shop, tmp_path):
    out = written(tmp_path / "out", "--index", shop, "--top-k", 1)
    sql = "SELECT count(*) AS n FROM similar_items JOIN items ON similar_item_id = items.id WHERE price >= 0"
    result = call("query", out, "--index", shop, "--format", "csv", sql)
    assert result.out.split() == ["n", str(ITEMS)]
    result = call("query", out, sql)
    assert result.code == 2
    assert "The run used another index for items: name it with --index." in result.sentence
    changed = tmp_path / "changed"
    shutil.copytree(shop, changed)
    (tmp_path / "prices.csv").write_text("item_id,price\nsku-0,1\n")
    assert call("catalog", "update", changed, tmp_path / "prices.csv").code == 0
    said = call("query", out, "--index", changed, sql).sentence
    assert "(as catalog add, update and remove change it): run 'similar' again" in said
    assert call("query", out, "SELECT * FROM similar_items LIMIT 1").code == 0  # as that sentence advises
    shutil.move(shop / "items" / "rows.parquet", tmp_path / "kept")
    try:
        assert "cannot be read" in call("query", out, "--index", shop, sql).sentence
    finally:
        shutil.move(tmp_path / "kept", shop / "items" / "rows.parquet")
    assert "is a run of similar" in call("compare", out, out).sentence


cells = st.sampled_from(["a", "b", None])


@given(st.lists(st.tuples(cells, cells, st.booleans()), min_size=1, max_size=30), st.data())
def test_whom_an_item_may_be_offered(drawn, data):
    rows = pa.table(
        {"x": [x for x, _, _ in drawn], "y": [y for _, y, _ in drawn]}, pa.schema({"x": pa.string(), "y": pa.string()})
    )
    same = data.draw(st.sampled_from([(), ("x",), ("x", "y")]))
    allowed = data.draw(st.sampled_from([None, np.flatnonzero([offered for _, _, offered in drawn])]))
    asked = np.array(sorted(data.draw(st.sets(st.integers(0, len(drawn) - 1), min_size=1))))
    near = Neighbourhood(rows, same, allowed)
    whole = range(len(drawn))

    def may(one, other):
        equal = all(rows[name][one].as_py() == rows[name][other].as_py() for name in same)
        return equal and (allowed is None or other in allowed)

    seen = {}
    for places, members in near.parts(asked):
        for place in places:
            seen[int(asked[place])] = set(whole) if members is None else set(members.tolist())
    assert seen == {int(one): {other for other in whole if may(one, other)} for one in asked}
    assert near.others(asked).tolist() == [len(seen[int(one)] - {int(one)}) for one in asked]

"""``index build`` with a kind, ``index add``, ``index remove``, conditions on columns: over files and commands."""

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_index import ATTRIBUTES, clustered, names, write_embeddings

from stylematch.cli.program import run
from stylematch.errors import UserError
from stylematch.pipelines.indexing.index import build_index, describe_index
from stylematch.pipelines.indexing.index_change import add_to_index, remove_from_index
from stylematch.pipelines.run_spec import rows_allowed
from stylematch.search.directory import load_index_directory
from stylematch.search.infos import index_info
from stylematch.search.kinds import load_index
from stylematch.search.plan import KINDS
from stylematch.search.where import positions_where, told_values
from stylematch.settings.index import IndexSettings

COUNT, DIM = 1200, 8


def built(tmp_path, kind="exact", count=COUNT):
    write_embeddings(tmp_path / "shards", clustered(2, count, DIM), names(count))
    build_index(tmp_path / "shards", tmp_path / "index", IndexSettings(kind=kind))
    return tmp_path / "index"


def contents(directory):
    files = {path.name: path.read_bytes() for path in directory.iterdir() if path.name != "infos.json"}
    return files | {"infos": index_info(directory)}


def more_embeddings(tmp_path, ids, seed=9, **changes):
    write_embeddings(tmp_path / "more", clustered(seed, len(ids), DIM), ids, **changes)
    return tmp_path / "more"


@pytest.mark.parametrize("kind", KINDS)
def test_build_says_what_it_needs_and_what_it_measured(tmp_path, kind, capsys):
    write_embeddings(tmp_path / "shards", clustered(2, COUNT, DIM), names(COUNT))
    arguments = [
        "index",
        "build",
        str(tmp_path / "shards"),
        "--kind",
        kind,
        "--target-recall",
        "0.9",
        "--max-memory-gb",
        "1",
    ]
    for out in ("one", "two"):
        assert run([*arguments, "--out", str(tmp_path / out)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"1,200 vectors of 8 dimensions: {kind}")
    assert said[1].startswith("expected: 0.")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    infos = json.loads((tmp_path / "one" / "infos.json").read_text())
    assert infos["search"]["kind"] == kind
    assert infos["search"]["recall_at_10"] >= infos["search"]["target_recall"] == 0.9
    assert infos["speed"]["batch"] == 256
    assert infos["speed"]["queries_per_s"] > 0
    disk = sum(f["bytes"] for name, f in infos["files"].items() if name != "rows.parquet")
    assert infos["search"]["disk_bytes_per_vector"] == round(disk / COUNT, 1)
    text = describe_index(tmp_path / "one")
    assert f"{kind}: recall@10" in text
    assert "queries/s in batches of 256" in text
    stored = load_index_directory(tmp_path / "one", mapped=True)
    assert stored.index.kind == kind
    assert stored.rows["id"].to_pylist() == list(stored.index.ids) == names(COUNT)


def test_it_says_what_it_expects_before_it_reads_a_shard(tmp_path, capsys):
    large = {"kind": "items", "dim": 64, "count": 10_000_000, "bundle_sha256": "0" * 64, "source": "none"}
    (tmp_path / "embeddings.json").write_text(json.dumps({**large, "licence": "none", "categories": []}))
    build = ["index", "build", str(tmp_path), "--out", str(tmp_path / "index")]
    assert run([*build, "--max-memory-gb", "1"]) == 2
    assert "do not fit --max-memory-gb 1" in capsys.readouterr().err
    assert run([*build, "--max-memory-gb", "4"]) == 2
    told = capsys.readouterr()
    assert "0 embeddings in 0 shards" in told.err  # so late
    assert "10,000,000 vectors of 64 dimensions: ivfpq" in told.out + told.err


def test_what_cannot_be_built(tmp_path, capsys):
    write_embeddings(tmp_path / "shards", clustered(2, COUNT, DIM), names(COUNT))
    arguments = ["index", "build", str(tmp_path / "shards"), "--out", str(tmp_path / "one")]
    assert run([*arguments, "--max-memory-gb", "0.01"]) == 2
    assert "--max-memory-gb 0.01" in capsys.readouterr().err
    assert run([*arguments, "--target-recall", "1.5"]) == 2
    assert "--target-recall" in capsys.readouterr().err
    assert not (tmp_path / "one").exists()


def test_adding_to_an_exact_index_is_building_it_of_both(tmp_path):
    index = built(tmp_path)
    change = add_to_index(index, more_embeddings(tmp_path, names(COUNT + 50)[COUNT:]))
    assert (change.count, change.added, change.updated, change.recall_at_10) == (COUNT + 50, 50, 0, 1.0)
    tables = [pq.read_table(p) for d in ("shards", "more") for p in sorted((tmp_path / d).glob("part-*.parquet"))]
    both = tmp_path / "both"
    both.mkdir()
    pq.write_table(pa.concat_tables(tables), both / "part-00000.parquet")
    description = json.loads((tmp_path / "shards" / "embeddings.json").read_text())
    (both / "embeddings.json").write_text(json.dumps(description | {"count": COUNT + 50}))
    build_index(both, tmp_path / "rebuilt", IndexSettings())
    again, infos = contents(tmp_path / "rebuilt"), contents(index)
    assert infos == again
    assert infos["infos"]["search"]["recall_queries"] == (COUNT + 50) // 10


def never_null(directory):
    """Write the shards again as ``embed`` does, whose columns hold no null by their type."""
    for path in directory.glob("part-*.parquet"):
        table = pq.read_table(path)
        schema = pa.schema([field.with_nullable(False) for field in table.schema])
        pq.write_table(table.cast(schema), path)


@pytest.mark.parametrize("ids", [["new"], ["item-00001"], ["item-00001", "new"]])
def test_the_shards_that_embed_writes_can_be_added(tmp_path, capsys, ids):
    write_embeddings(tmp_path / "shards", clustered(2, COUNT, DIM), [f"item-{n:05d}" for n in range(COUNT)])
    more = more_embeddings(tmp_path, ids)
    for directory in (tmp_path / "shards", more):
        never_null(directory)
    build_index(tmp_path / "shards", tmp_path / "index", IndexSettings())
    schema = load_index_directory(tmp_path / "index").rows.schema
    assert run(["index", "add", str(tmp_path / "index"), str(more), "--update"]) == 0, capsys.readouterr().err
    stored = load_index_directory(tmp_path / "index")
    assert stored.rows.schema == schema
    assert stored.index.ids[-1] == ("new" if "new" in ids else f"item-{COUNT - 1:05d}")


@pytest.mark.parametrize("kind", KINDS)
def test_update_and_remove_by_the_command_line(tmp_path, kind, capsys):
    index = built(tmp_path, kind)
    ids = [names(COUNT)[5], "fresh", names(COUNT)[700]]
    more = more_embeddings(tmp_path, ids, categories=["Shirt", "Coat", "Dress", "Hat"])
    before = contents(index)
    assert run(["index", "add", str(index), str(more)]) == 2
    error = capsys.readouterr().err
    assert "2 ids are in" in error
    assert "--update" in error
    assert contents(index) == before
    assert run(["index", "add", str(index), str(more), "--update"]) == 0
    assert f"1 added, 2 updated; {COUNT + 1:,} vectors now; recall@10" in capsys.readouterr().out
    assert index_info(index, with_speed=True)["speed"]["queries_per_s"] > 0
    assert "queries/s in batches of 256" in describe_index(index)
    stored = load_index_directory(index)
    assert stored.infos["categories"] == ["Coat", "Dress", "Shirt", "Hat"]
    assert list(stored.index.ids) == stored.rows["id"].to_pylist() == [*names(COUNT), "fresh"]
    new = pq.read_table(sorted(more.glob("part-*.parquet"))[0])
    np.testing.assert_array_equal(stored.rows["price_eur"].to_numpy()[[4, 5, 6, 700, 1200]], [4, 0, 6, 2, 1])
    vectors = clustered(9, 3, DIM)
    assert new["id"][0].as_py() == ids[0]
    hits = stored.index.search(vectors, 1)
    np.testing.assert_allclose(hits.scores[:, 0], 1, atol=2e-3)
    assert [stored.index.ids[p] for p in hits.positions[:, 0]] == ids

    (tmp_path / "gone.txt").write_text(f"\ufeff{ids[1]}\n{ids[0]}\n\n{ids[0]}\nnobody\n", encoding="utf-8")
    command = ["index", "remove", str(index), "--ids", str(tmp_path / "gone.txt")]
    assert run(command) == 2
    assert "1 of 3 ids are not in" in capsys.readouterr().err
    assert run([*command, "--missing-ok"]) == 0
    assert f"2 removed, 1 not there; {COUNT - 1:,} vectors now" in capsys.readouterr().out
    stored = load_index_directory(index)
    assert stored.rows["id"].to_pylist() == [name for name in names(COUNT) if name != ids[0]]
    assert stored.rows["price_eur"].to_numpy()[5] == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gone.txt", "index", "more", "shards"]
    assert run([*command, "--missing-ok"]) == 0
    assert "3 not there" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["ivf", "ivfpq"])
def test_lists_are_trained_again_when_a_fifth_is_new(tmp_path, kind):
    index = built(tmp_path, kind)
    add_to_index(index, more_embeddings(tmp_path, names(COUNT + 200)[COUNT:]))
    assert json.loads((index / "search.json").read_text())["built_of"] == COUNT
    change = add_to_index(index, more_embeddings(tmp_path, names(COUNT + 400)[COUNT + 200 :], seed=10))
    assert json.loads((index / "search.json").read_text())["built_of"] == COUNT + 400
    assert change.recall_at_10 >= 0.95
    stored = load_index_directory(index)
    assert stored.rows["id"].to_pylist() == list(stored.index.ids) == names(COUNT + 400)
    hits = stored.index.search(clustered(10, 200, DIM), 1)
    np.testing.assert_allclose(hits.scores[:, 0], 1, atol=2e-3)


def test_an_index_of_before_labels_were_counted_still_loads(tmp_path):
    index = built(tmp_path, "ivf")
    stored = load_index_directory(index).index
    document = json.loads((index / "search.json").read_text())
    del document["built_of"]
    (index / "search.json").write_text(json.dumps(document))
    old = load_index(index)
    assert old.parameters == dataclasses.replace(stored.parameters, built_of=0)
    assert not old.is_worn


def test_what_does_not_belong_together_is_refused(tmp_path):
    index = built(tmp_path)
    for changes, message in (
        ({"bundle_sha256": "cd" * 32}, "embed with the model"),
        ({"kind": "faces", "attribute_names": list(ATTRIBUTES)}, "has kind faces"),
    ):
        with pytest.raises(UserError, match=message):
            add_to_index(index, more_embeddings(tmp_path, ["x", "y"], **changes))
    more = more_embeddings(tmp_path, ["x", "y"])
    for path in more.glob("part-*.parquet"):
        pq.write_table(pq.read_table(path).drop_columns(["price_eur"]), path)
    with pytest.raises(UserError, match="'price_eur'"):
        add_to_index(index, more)
    (tmp_path / "none").write_text("\n\n")
    with pytest.raises(UserError, match="names no id"):
        remove_from_index(index, tmp_path / "none")
    with pytest.raises(UserError, match="cannot be read"):
        remove_from_index(index, tmp_path / "absent")


@pytest.mark.parametrize(
    "wrong",
    [
        "1=1) UNION ALL SELECT 999999 WHERE (1=1",
        "1=1) UNION ALL SELECT -1 WHERE (1=1",
        "1=1) UNION ALL SELECT NULL WHERE (1=1",
        "true) LIMIT 1 --",
        "true) OR (true",
        "true LIMIT 1",
        "true ORDER BY 1",
        "true, false",
        "true;",
    ],
)
def test_a_condition_is_one_and_stays_within_its_brackets(wrong):
    with pytest.raises(UserError, match="cannot be read as a condition"):
        positions_where(pa.table({"id": ["a", "b"]}), wrong)


def test_a_column_may_have_any_name():
    rows = pa.table({"id": ["a", "b"], "stylematch position": [7, 8], "Stylematch Position_": [9, 10]})
    assert positions_where(rows, '"stylematch position" = 8 AND "stylematch position_" = 10').tolist() == [1]


@pytest.mark.parametrize("empty", ["", " \n"])
def test_an_empty_condition_is_said_to_be_empty(empty):
    with pytest.raises(UserError, match="the condition is empty"):
        positions_where(pa.table({"id": ["a"]}), empty)


def test_a_column_of_a_type_that_duckdb_does_not_know_is_an_error_of_one_sentence():
    rows = pa.table({"id": ["a"], "half": pa.array(np.ones(1, np.float16))})
    with pytest.raises(UserError, match="Unsupported Internal Arrow Type"):
        positions_where(rows, "id = 'a'")


def test_a_column_item_id_of_the_table_s_own_is_the_one_that_is_asked():
    rows = pa.table({"id": ["a", "b"], "ITEM_ID": ["b", "c"]})
    np.testing.assert_array_equal(positions_where(rows, "item_id = 'b'"), [0])


def test_what_is_said_of_a_wrong_column_names_none_of_ours():
    rows = pa.table({"id": ["a"], "price": [1], "UVP": ["1,9"]})
    for wrong in ("prise < 5", "position > 1", "UVP < 25"):
        with pytest.raises(UserError) as caught:
            positions_where(rows, wrong)
        assert "stylematch" not in str(caught.value)
        assert "Their columns are id, price, UVP, item_id." in str(caught.value)
        assert "quotes" not in str(caught.value)


@pytest.mark.parametrize("name", ["select", "Left", "Liefer Datum", "2x", 'wide "W"'])
def test_a_column_that_needs_quotes_is_listed_as_a_condition_writes_it(name):
    rows = pa.table({"id": ["a", "b"], "größe": [1, 2], name: [3, 4]})
    with pytest.raises(UserError) as caught:
        positions_where(rows, f"{name} = 4")
    written = str(caught.value).split("Their columns are id, größe, ")[1].split(", item_id.")[0]
    assert positions_where(rows, f"{written} = 4").tolist() == [1]
    assert str(caught.value).endswith("need them; in a shell put the condition into single quotes.")


def test_a_value_that_nothing_has_brings_those_that_there_are(tmp_path):
    genders = ["Women"] * 3 + ["Men", "Kid's", None]
    rows = pa.table({"id": list("abcdef"), "gender": genders, "size": [f"s{n}" for n in range(6)], "n": range(6)})
    told = "gender is 'Women', \"Kid's\", 'Men' there"
    assert told_values(rows, "GENDER='M\u00e4dchen'") == told
    assert told_values(rows, """ "gender" = 'M\u00e4d''chen' AND n = '3' AND id = 'z'""") == told
    assert told_values(rows, "gender = 'Kid''s' AND n < 0") == ""
    many = pa.table({"id": map(str, range(20)), "size": [f"s{n % 10}" for n in range(20)]})
    assert told_values(many, "size = 'x' OR other = 'y'").endswith("'s6', 's7' or 2 other values there")
    with pytest.raises(
        UserError, match=r"none of the items of .*; ask for less \(capitals count\): gender is 'Women', "
    ):
        rows_allowed("gender = 'M\u00e4dchen'", rows, tmp_path)
    with pytest.raises(UserError, match=r"ask for less \(capitals count\)\.$"):
        rows_allowed("n > 9", rows, tmp_path)


def test_conditions_on_columns(tmp_path):
    stored = load_index_directory(built(tmp_path, count=40))
    np.testing.assert_array_equal(positions_where(stored.rows, "category = 'Coat' AND price_eur < 7"), [0, 2, 4, 6])
    np.testing.assert_array_equal(positions_where(stored.rows, "price_eur >= 38 -- the dear ones"), [38, 39])
    assert positions_where(stored.rows, "price_eur < 0").shape == (0,)
    assert positions_where(stored.rows, "NULL").dtype == np.int64
    for wrong in ("colour = 'red'", "price_eur <", "true; DROP TABLE items", "price_eur IN (SELECT * FROM 'a.csv')"):
        with pytest.raises(UserError, match="condition"):
            positions_where(stored.rows, wrong)
    np.testing.assert_array_equal(positions_where(stored.rows, f"Item_ID = '{stored.rows['id'][7].as_py()}'"), [7])
    cheapest = "/* one */ price_eur = (SELECT min(price_eur) FROM items)\n-- of all\nAND true"
    np.testing.assert_array_equal(positions_where(stored.rows, cheapest), [0])
    allowed = positions_where(stored.rows, "category = 'Dress'")
    hits = stored.index.search(clustered(4, 3, DIM), 25, allowed=allowed)
    assert (np.sort(hits.positions[:, :20], axis=1) == allowed).all()
    assert (hits.positions[:, 20:] == -1).all()

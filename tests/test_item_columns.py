"""``--item-columns``: what the catalogue says of an item stands beside it in recommendations, as it was that night."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from program import DEFAULT_INDEX, EXAMPLES, call, score, scored, stored, table
from service import JPEG, Service, example
from test_catalog_build import build, pictures  # noqa: F401 - a fixture

from stylematch import Stylematch
from stylematch.errors import UserError
from stylematch.pipelines.run_spec import item_fields
from stylematch.pipelines.scorer import Scorer
from stylematch.search.directory import load_index_directory
from stylematch.search.rows_file import write_rows
from stylematch.settings.score import ScoreSettings

ASTRONAUT = EXAMPLES / "astronaut.jpg"


@pytest.fixture(scope="module")
def shop(pictures, tmp_path_factory):  # noqa: F811
    path = pictures / "columns.csv"
    lines = [f'sku-{n},{n:03d}.png,Robes,"Robe, no. {n}",{10 * n}.5,{"" if n % 2 else n}' for n in range(12)]
    path.write_text("\n".join(["item_id,image,category,title,price,stock", *lines]) + "\n")
    out = tmp_path_factory.mktemp("columns") / "shop"
    assert build(path, out, "--workers", 1).code == 0
    return out


def told(shop):
    rows = pq.read_table(shop / "items" / "rows.parquet").to_pylist()
    return {row["id"]: (row["title"], row["price"], row["stock"]) for row in rows}


def test_they_are_the_catalogues_and_change_nothing_else(shop, tmp_path):
    plain = table(scored(ASTRONAUT, tmp_path / "plain", "--index", shop), "recommendations")
    options = ("--index", shop, "--item-columns", "title, price", "--item-columns", "stock")
    with_columns = table(scored(ASTRONAUT, tmp_path / "out", *options), "recommendations")
    assert with_columns.column_names == [*plain.column_names, "title", "price", "stock"]
    assert with_columns.schema.field("price").type == pa.float64()
    assert with_columns.schema.field("stock").type == pa.int64()
    of = told(shop)
    rows = with_columns.to_pylist()
    assert [(row["title"], row["price"], row["stock"]) for row in rows] == [of[row["item_id"]] for row in rows]
    assert any(row["stock"] is None for row in rows)
    drop = ("run_id",)
    assert with_columns.select(plain.column_names).drop_columns(drop).equals(plain.drop_columns(drop))
    asked = call(
        "query", tmp_path / "out", "SELECT title, price FROM recommendations WHERE rank = 1", "--format", "json"
    )
    assert json.loads(asked.out) == [{"title": rows[0]["title"], "price": rows[0]["price"]}]


def test_a_run_without_faces_has_them_too(shop, tmp_path):
    (tmp_path / "photos").mkdir()
    out = scored(tmp_path / "photos", tmp_path / "out", "--index", shop, "--item-columns", "title")
    assert stored(out, "recommendations").column_names[-1] == "title"


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("titel", "has no such column; it has category_predicted, "),
        ("Title", "; did you mean title? Capitals count."),
        ("style", "--item-columns style: recommendations have a column of that name already"),
        ("Rank", "--item-columns Rank: recommendations have a column of that name already"),
        ("snapshot_date", "have a column of that name already"),
        ("picture", "has no such column"),
        ("title,,price", "a name is empty"),
    ],
)
def test_what_cannot_stand_there_is_refused_before_a_photo_is_read(shop, tmp_path, names, said):
    result = score(ASTRONAUT, tmp_path / "out", "--index", shop, "--item-columns", names)
    assert (result.code, said in result.sentence) == (2, True), result.sentence


def test_times_that_python_sql_and_json_take_for_different_ones_are_refused(tmp_path):
    shutil.copytree(DEFAULT_INDEX / "items", tmp_path / "items")
    index = load_index_directory(tmp_path / "items")
    since = pa.array([1] * len(index.index), pa.timestamp("ns"))
    write_rows(index.index.id_column, index.rows.append_column("since", since), tmp_path / "items")
    said = r"--item-columns since: the catalogue's column is of timestamp\[ns\]; only .* by \.dt\.date\)"
    with pytest.raises(UserError, match=said):
        item_fields(["since"], tmp_path / "items")
    assert [field.name for field in item_fields(["articleType"], tmp_path / "items")] == ["articleType"]


def test_a_night_keeps_them_when_the_catalogue_moves_on(shop, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(ASTRONAUT.read_bytes())
    job = tmp_path / "job.toml"
    job.write_text(
        f'photos = "{tmp_path}/photos"\nout = "{tmp_path}/out"\nindex = ["{shop}"]\n'
        '[score]\ndevice = "cpu"\nworkers = 1\nphoto_timeout_s = 0\nitem_columns = ["title", "price"]\n'
    )
    for day in ("2025-01-01", "2025-01-02"):  # the second is taken over from the first
        assert call("export", job, "--date", day).code == 0
    for day in ("2025-01-01", "2025-01-02"):
        kept = table(tmp_path / "out" / "snapshots" / day, "recommendations")
        assert kept.column_names[-3:] == ["title", "price", "snapshot_date"]
        assert [(row["title"], row["price"]) for row in kept.to_pylist()] == [
            told(shop)[row["item_id"]][:2] for row in kept.to_pylist()
        ]


def test_the_service_and_python_give_them(shop):
    settings = ScoreSettings(device="cpu", item_columns="title,price")
    service = Service(Scorer(settings, [shop], threads=1))
    answer = service.ask("POST", "/score", content=example("astronaut.jpg"), headers=JPEG).json()
    items = answer["faces"][0]["items"]
    assert [item["columns"] for item in items] == [
        dict(zip(("title", "price"), told(shop)[item["item_id"]][:2], strict=True)) for item in items
    ]
    service.app.state.service.close()
    matcher = Stylematch.load(shop, device="cpu", item_columns=["title"], threads=1)
    matcher.score(ASTRONAUT)
    frame = matcher.recommend()
    assert frame["title"].tolist() == [told(shop)[item_id][0] for item_id in frame["item_id"]]

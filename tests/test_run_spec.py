"""What a run is made of is seen once: files that are replaced while it runs end it, or have no say in it."""

import pickle
import shutil
from pathlib import Path

from program import DEFAULT_INDEX, EXAMPLES, call, score, scored, table_digests

from stylematch.pipelines import run_spec, scored_tables
from stylematch.pipelines import score as scoring
from stylematch.pipelines.assets import resolve_assets
from stylematch.pipelines.on_engine import _absolute
from stylematch.pipelines.run_spec import allowed_items
from stylematch.search.directory import load_index_directory
from stylematch.style import rules
from stylematch.vision.bundle import DESCRIPTION

ASTRONAUT = EXAMPLES / "astronaut.jpg"
RULE_SETS = Path(rules.__file__).parent / "rulesets"


def after_naming(monkeypatch, change):
    """Do something between a run's naming and its work."""
    listed = scoring.list_inputs

    def list_inputs(*arguments):
        change()
        return listed(*arguments)

    monkeypatch.setattr(scoring, "list_inputs", list_inputs)


def test_what_a_worker_elsewhere_is_told_names_the_index_of_the_driver():
    assets = resolve_assets([])
    there = pickle.loads(pickle.dumps(_absolute(assets)))
    assert there.sha256 == assets.sha256
    assert all(len(digest) == 64 for digest in there.sha256.values())


def test_an_index_that_is_replaced_while_it_is_used_ends_the_run(tmp_path, monkeypatch):
    """Which items are allowed is asked of one index, and their vectors would be another's."""
    shutil.copytree(DEFAULT_INDEX / "items", tmp_path / "items")
    ids = load_index_directory(tmp_path / "items").index.ids[:5]
    (tmp_path / "ids").write_text("\n".join(ids))

    def asked(where, items):
        found = allowed_items(where, items)
        assert call("index", "remove", tmp_path / "items", "--ids", tmp_path / "ids").code == 0
        return found

    monkeypatch.setattr(run_spec, "allowed_items", asked)
    options = ("--index", tmp_path / "items", "--where", "category = 'Coat'")
    result = score(ASTRONAUT, tmp_path / "out", *options)
    assert result.code == 3
    assert "items was replaced while it was used; run the same command again" in result.sentence
    monkeypatch.undo()
    assert score(ASTRONAUT, tmp_path / "out", *options).code == 0


def test_a_model_that_is_replaced_while_it_is_used_ends_the_run(tmp_path, monkeypatch):
    """Else another model's answers stood under the name of a run with the first."""
    shutil.copytree(DEFAULT_INDEX, tmp_path / "index")
    described = tmp_path / "index" / "attributes" / DESCRIPTION
    before = described.read_bytes()
    after_naming(monkeypatch, lambda: described.write_bytes(before + b"\n"))
    result = score(ASTRONAUT, tmp_path / "out", "--index", tmp_path / "index")
    assert result.code == 3
    assert "attributes was replaced while it was used; run the same command again" in result.sentence
    assert not (tmp_path / "out" / "manifest.json").exists()
    monkeypatch.undo()
    described.write_bytes(before)
    assert score(ASTRONAUT, tmp_path / "out", "--index", tmp_path / "index").code == 0


def test_rules_that_are_rewritten_while_a_run_works_have_no_say_in_it(tmp_path, monkeypatch):
    mine = tmp_path / "mine.toml"
    shutil.copy(RULE_SETS / "classic.toml", mine)
    wanted = table_digests(scored(ASTRONAUT, tmp_path / "first", "--rules", mine))
    after_naming(monkeypatch, lambda: shutil.copy(RULE_SETS / "wardrobe.toml", mine))
    assert table_digests(scored(ASTRONAUT, tmp_path / "second", "--rules", mine)) == wanted
    monkeypatch.undo()
    assert table_digests(scored(ASTRONAUT, tmp_path / "third", "--rules", mine)) != wanted


def test_a_catalogue_that_is_replaced_before_the_gallery_is_done_ends_the_run(tmp_path, monkeypatch):
    """The gallery shows items by their ids, which another catalogue may have given to others."""
    shutil.copytree(DEFAULT_INDEX / "items", tmp_path / "items")
    (tmp_path / "ids").write_text("\n".join(load_index_directory(tmp_path / "items").index.ids[:5]))
    counted = scored_tables.count_tables

    def count(*arguments):
        assert call("index", "remove", tmp_path / "items", "--ids", tmp_path / "ids").code == 0
        return counted(*arguments)

    monkeypatch.setattr(scored_tables, "count_tables", count)
    result = score(ASTRONAUT, tmp_path / "out", "--index", tmp_path / "items", "--report")
    assert (result.code, "items was replaced while it was used" in result.sentence) == (3, True)

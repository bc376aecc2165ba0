"""The documentation: it builds without a warning, needs nothing from elsewhere, and its made pages are up to date."""

import inspect
import json
import os
import re
import runpy
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from conftest import REPOSITORY
from typer.main import get_command

from stylematch.cli.program import app
from stylematch.search.plan import GIB, KINDS, make_plan

DOCS = REPOSITORY / "docs"
REFERENCE = DOCS / "reference"
TUTORIALS = ("photos", "query", "catalogue", "rules", "retrain", "own-labels", "nightly")
ARROWS = ("finding", "decoding", "faces", "style", "items", "tables")


class Assets(HTMLParser):
    """Collects what a browser would fetch by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        loads = tag in ("script", "img", "iframe", "source") or (
            tag == "link" and values.get("rel") in ("stylesheet", "icon", "preconnect", "preload")
        )
        self.found += [values[name] for name in ("src", "href") if loads and values.get(name)]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    pytest.importorskip("mkdocs", reason="the docs extra is not installed")
    out = tmp_path_factory.mktemp("site") / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", out],
        cwd=REPOSITORY,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr, done.stderr
    assert 'not included in the "nav"' not in done.stderr, done.stderr
    return out


def test_the_site_has_every_page(site):
    pages = {path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md")}
    built = {path.relative_to(site).with_suffix("").as_posix() for path in site.rglob("*.html")} - {"404"}
    assert built == pages
    home = (site / "index.html").read_text()
    for page in pages:
        assert f'href="{page}.html"' in home or page == "index", page


def test_the_site_has_tutorials_and_a_page_for_each_arrow(site):
    for name in TUTORIALS:
        assert (site / "tutorials" / f"{name}.html").is_file()
    for name in ARROWS:
        assert (site / "how-it-works" / f"{name}.html").is_file()


def test_the_python_page_has_every_call_with_its_parameters(site):
    from stylematch import Stylematch

    page = (site / "reference" / "python.html").read_text()
    for name in vars(Stylematch):
        if not name.startswith("_"):
            assert f'id="stylematch.api.Stylematch.{name}"' in page, name
            call = getattr(Stylematch, name)
            for parameter in inspect.signature(call).parameters if callable(call) else ():
                assert parameter == "self" or f"<code>{parameter}</code>" in page, (name, parameter)


def test_nothing_is_fetched_from_elsewhere(site):
    for page in site.rglob("*.html"):
        assets = Assets()
        assets.feed(page.read_text())
        assert assets.found
        assert [url for url in assets.found if url.startswith(("http:", "https:", "//"))] == [], page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(\s*[\"']?(https?:)?//|@import", sheet.read_text()), sheet


def test_no_page_links_to_what_is_not_there(site):
    for page in site.rglob("*.html"):
        for target in re.findall(r'<a[^>]+href="([^"#:]+)(?:#[^"]*)?"', page.read_text()):
            if page.name != "404.html":
                assert (page.parent / target).resolve().exists(), (page, target)


@pytest.mark.parametrize(
    ("script", "function", "page"),
    [
        ("make_cli", "cli_page", "cli.md"),
        ("make_settings", "settings_page", "settings.md"),
        ("make_shards", "shards_page", "shards.md"),
    ],
)
def test_a_made_page_is_up_to_date(script, function, page):
    made = runpy.run_path(str(REFERENCE / f"{script}.py"))[function]()
    assert (REFERENCE / page).read_text(encoding="utf-8") == made, "run make reference-pages"


def test_the_subgroup_figures_are_the_shipped_cards():
    filled = runpy.run_path(str(REFERENCE / "make_subgroups.py"))["filled"]
    page = (DOCS / "responsible-use.md").read_text(encoding="utf-8")
    assert page == filled(page), "run make reference-pages"
    assert "| Male = 1 |" in page
    assert "| Young = 0 |" in page


def test_the_arithmetic_for_ten_million_photos_is_of_the_measured_rates(tmp_path):
    made = runpy.run_path(str(REFERENCE / "make_scaling.py"))
    page = (DOCS / "how-it-works" / "ray.md").read_text(encoding="utf-8")
    assert page == made["filled"](page), "run make reference-pages"
    wild = {"photos_per_s": 50.0, "run": {"photos": 600}}
    speed = {"host": {"cores": 2, "processor": "X"}, "wild": wild}
    (tmp_path / "score_speed.json").write_text(json.dumps(speed))
    by_hand = made["arithmetic"](tmp_path)  # 25 a core: 400,000 core seconds, 13.9 cores for a night of 8 hours
    assert "= 400,000 core seconds = 111 core hours" in by_hand
    assert "| 2 | the machine that was measured | 55.6 h | 5 MB/s |" in by_hand
    # 2,442 partitions of 163.8 core seconds: 175 rounds of 14, 10 rounds of 256.
    assert "| 14 | one machine, in a night of 8 hours | 8.0 h | 35 MB/s |" in by_hand
    assert "| 256 | sixteen nodes of 16 | 27 min | 640 MB/s |" in by_hand
    few, many = {"photos": 100, "local_wall_s": 4.0, "ray_wall_s": 9.0}, {"photos": 600, "local_wall_s": 14.0}
    overhead = {"workers": 2, "few": few, "many": many | {"ray_wall_s": 19.5}}
    (tmp_path / "ray_overhead.json").write_text(json.dumps(overhead))
    assert "4.9 s more to start and end a run" in made["arithmetic"](tmp_path)
    assert "21.00 ms of the clock for a further photo against 20.00 ms (+5.0%)" in made["arithmetic"](tmp_path)


def test_the_promises_of_speed_are_beside_what_was_measured(tmp_path):
    made = runpy.run_path(str(REFERENCE / "make_speed.py"))
    page = (DOCS / "test-matrix.md").read_text(encoding="utf-8")
    assert page == made["filled"](page), "run make reference-pages"
    for promise in made["PROMISES"]:
        assert (REPOSITORY / "benchmarks" / f"{promise.benchmark}.py").is_file(), promise
    results = {
        "beside_others": {"ratios": {"seed": 99.94, "dataloader": 5, "clip-retrieval": 8.5}},
        "memory": {"peak_ratio": 1.11, "time_ratio": 0.95},
        "gpu_embed": {"pictures_per_s": 12_000, "gpu_busy_share": None, "all_of_celeba_s": 16.88},
    }
    for name, content in results.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    rows = [line.strip("| ").split(" | ") for line in made["table"](tmp_path).splitlines()[2:]]
    assert len(rows) == len(made["PROMISES"])
    assert [row[2] for row in rows if "beside_others" in row[1]] == ["99.9 times: **missed**", "5.0 times", "8.5 times"]
    assert [row[2] for row in rows if "memory" in row[1]] == ["+11.0%: **missed**", "-5.0%"]
    assert [row[2] for row in rows if "gpu_embed" in row[1]] == ["12,000 a second", "not known", "16.9 s"]
    others = {row[2] for row in rows if not any(name in row[1] for name in results)}
    assert others == {"no result in this checkout"}


def test_the_sheet_of_a_billion_vectors_is_of_the_plan():
    page = (DOCS / "how-it-works" / "search.md").read_text(encoding="utf-8")
    assert page == runpy.run_path(str(REFERENCE / "make_search_sheet.py"))["filled"](page), "run make reference-pages"
    assert "| 1 billion | ivfpq, 32 bytes | 65,536 |" in page


def test_the_reference_has_every_command_and_option():
    page = (REFERENCE / "cli.md").read_text()

    def check(command, name):
        for child, of in getattr(command, "commands", {}).items():
            check(of, f"{name} {child}".strip())
        if not hasattr(command, "commands"):
            section = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
            for parameter in command.params:
                if parameter.param_type_name == "option" and parameter.name != "help":
                    assert f"`{parameter.opts[0]}" in section, (name, parameter.name)

    check(get_command(app), "")


def test_every_setting_of_the_reference_has_a_meaning():
    page = (REFERENCE / "settings.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|.*\| (.*?) \|$", page, re.MULTILINE)
    assert len(rows) > 80
    assert {name for name, meaning in rows if not meaning} == set()


def test_results_of_benchmarks_are_put_in(tmp_path, monkeypatch):
    hooks = runpy.run_path(str(DOCS / "site" / "hooks.py"))
    results = hooks["results"]
    monkeypatch.setitem(results.__globals__, "RESULTS", tmp_path)
    assert "No results" in results()
    (tmp_path / "b.md").write_text("# B\n\n```sh\n# a comment\n```\n")
    (tmp_path / "a.md").write_text("# A\n\n| x |\n| --- |\n")
    assert results() == "## A\n\n| x |\n| --- |\n\n## B\n\n```sh\n# a comment\n```"


def test_links_out_of_the_docs_become_text():
    unlink = runpy.run_path(str(DOCS / "site" / "hooks.py"))["unlink"]
    assert (
        unlink("[a](../LICENSE) [`LICENSE`](../LICENSE) [b](x.md#y)", "p.md") == "a (`LICENSE`) `LICENSE` [b](x.md#y)"
    )
    assert unlink("[c](../x.md) ![i](../../i.png) [d](https://e)", "f/p.md") == (
        "[c](../x.md) ![i](../../i.png) [d](https://e)"
    )


def test_the_citation_names_this_version():
    from stylematch import __version__

    yaml = pytest.importorskip("yaml")
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == __version__
    assert citation["title"] == "stylematch"
    assert citation["authors"]
    changes = (REPOSITORY / "CHANGELOG.md").read_text()
    assert f"## {__version__}" in changes


def test_the_sheet_of_a_billion_vectors_is_the_planners_own_arithmetic():
    text = (DOCS / "how-it-works" / "search.md").read_text()
    rows = re.findall(r"^\| (\d+) (million|billion) \| (\w+)[^|]*\| ([\d,]*) *\| (.+) \|$", text, re.MULTILINE)
    assert {kind for _, _, kind, _, _ in rows} == set(KINDS)
    for number, unit, kind, lists, sizes in rows:
        plan = make_plan(
            int(number) * {"million": 10**6, "billion": 10**9}[unit], 64, max_memory_bytes=2**60, kind=kind
        )
        assert lists == (f"{plan.parameters.lists:,}" if plan.parameters.lists else "")
        for told, size in zip(sizes.split(" | "), (plan.build_bytes, plan.search_bytes, plan.disk_bytes), strict=True):
            decimals = len(told.partition(".")[2])
            assert f"{size / GIB:.{decimals}f}" == told, (number, unit, kind)
    assert rows[-1][:2] == ("1", "billion")

"""What a newcomer meets: README, Makefile, dependencies, the wheel, a command line that starts at once."""

import os
import re
import resource
import runpy
import shutil
import subprocess
import sys
import tomllib
import zipfile
from datetime import UTC, datetime
from importlib import import_module

import pyarrow as pa
import pytest
from conftest import REPOSITORY
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from typer.main import get_command

import stylematch
from stylematch.cli.program import app
from stylematch.tables.contract import (
    COLUMN_MEANINGS,
    EXIT_MEANINGS,
    KEYS,
    REASON_MEANINGS,
    SIMILAR_TABLES,
    TABLES,
    ExitCode,
    Reason,
    faces_schema,
    photos_schema,
    recommendations_schema,
    similar_items_schema,
)
from stylematch.tables.counts import Counts
from stylematch.tables.manifest import Manifest, read_manifest, write_manifest

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DEFAULT_INDEX = REPOSITORY / "indexes" / "default"
MAKEFILE = REPOSITORY / "Makefile"


def direct_requirements() -> dict[str, Requirement]:
    """Every dependency of the package and of its extras, by name."""
    texts = [
        *PROJECT["dependencies"],
        *(t for extra in PROJECT["optional-dependencies"].values() for t in extra),
    ]
    parsed = [Requirement(text) for text in texts]
    return {canonicalize_name(r.name): r for r in parsed if r.name != PROJECT["name"]}


def tracked_files() -> list[str]:
    git = shutil.which("git")
    if git is None or not (REPOSITORY / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run([git, "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=True)
    return [name for name in listed.stdout.decode().split("\0") if name and (REPOSITORY / name).is_file()]


# README and documents


def test_every_make_command_of_the_documents_is_a_target():
    targets = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE.read_text(), re.MULTILINE))
    for page in [REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md")]:
        text = page.read_text(encoding="utf-8")
        named = set(re.findall(r"(?:^|`)\s*make ([a-z][a-z-]*)", text, re.MULTILINE))
        assert named <= targets, page
    assert {"demo", "test"} <= set(re.findall(r"^make ([a-z-]+)", README, re.MULTILINE))


def commands_of(command, prefix=""):
    """Yield the names of all commands, those of groups with the group's name before."""
    for name, child in getattr(command, "commands", {}).items():
        yield from commands_of(child, f"{prefix}{name} ") if hasattr(child, "commands") else [f"{prefix}{name}"]


def test_the_readme_names_every_command_and_no_other():
    table = README.split("## The command line")[1].split("Every option of every command")[0]
    documented = []
    for row in re.findall(r"^\| (`.*?) \| ", table, re.MULTILINE):
        for words in re.findall(r"`(?:stylematch-batch )?([^`]+)`", row):
            named = re.match(r"[a-z\\|-]+(?: [a-z\\|-]+)*", words).group().split()
            *group, last = named
            documented += [" ".join([*group, one]) for one in last.split("\\|")]
    assert sorted(documented) == sorted(commands_of(get_command(app)))


def test_every_option_that_the_readme_names_is_some_commands():
    def options(command):
        for child in getattr(command, "commands", {}).values():
            yield from options(child)
        for parameter in command.params:
            yield from (*parameter.opts, *parameter.secondary_opts)

    commands = re.sub(r"pip \S+.*|python \S+.*", "", README)  # of other programs
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", commands))
    assert named - {"--help"} - set(options(get_command(app))) == set()


def test_the_readmes_catalogue_of_products_allows_the_rows_without_a_picture():
    pictures, rows = (
        int(number.replace(",", "")) for number in re.search(r"\(([\d,]+) of the ([\d,]+) rows", README).groups()
    )
    command = re.search(r"^stylematch-batch catalog build \$STYLEMATCH_DATA(?:.*\\\n)*.*$", README, re.MULTILINE)
    assert 1 - pictures / rows < float(re.search(r"--max-reject-share (\S+)", command.group()).group(1))


def test_links_between_documents_lead_somewhere():
    pages = [name for name in tracked_files() if name.endswith(".md")]
    assert "README.md" in pages
    for page in pages:
        folder = (REPOSITORY / page).parent
        for target in re.findall(r"\]\(([^)#\s]+)", (REPOSITORY / page).read_text(encoding="utf-8")):
            if "://" not in target:
                assert (folder / target).exists(), f"{page} links to {target}"


def test_every_test_that_the_matrix_names_exists():
    page = (REPOSITORY / "docs" / "test-matrix.md").read_text(encoding="utf-8")
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", page)
    assert len(named) > 40
    assert page.count("::") == len(named)
    for file, test in named:
        source = (REPOSITORY / "tests" / file).read_text(encoding="utf-8")
        assert re.search(rf"^def {test}\(", source, re.MULTILINE), f"{file}::{test}"
    # The other way round: what these files test is a promise, and stands there.
    for file in ("test_nothing_lost.py", "test_security.py"):
        tests = set(re.findall(r"^def (test_\w+)\(", (REPOSITORY / "tests" / file).read_text(), re.MULTILINE))
        assert tests - {name for _, name in named} <= {
            "test_an_array_of_objects_is_no_index",
            "test_an_orphans_words_are_all_that_is_passed_over",
            "test_a_size_that_no_column_holds_is_a_row_all_the_same",
        }


def test_the_tables_page_is_what_the_contract_says():
    script = runpy.run_path(str(REPOSITORY / "docs" / "reference" / "make_tables.py"))
    page = REPOSITORY / "docs" / "reference" / "tables.md"
    assert page.read_text(encoding="utf-8") == script["tables_page"](), "run: make tables-page"


def test_the_contract_gives_every_column_and_code_a_meaning():
    schemas = dict(zip(TABLES, (photos_schema(), faces_schema([], 2), recommendations_schema()), strict=True))
    schemas |= {SIMILAR_TABLES[0]: similar_items_schema()}
    assert set(COLUMN_MEANINGS) == set(schemas) == set(KEYS)
    for table, schema in schemas.items():
        assert isinstance(schema, pa.Schema)
        assert list(COLUMN_MEANINGS[table]) == schema.names
    assert set(REASON_MEANINGS) == set(Reason)
    assert set(EXIT_MEANINGS) == set(ExitCode)


def test_the_tables_page_names_every_key_of_a_manifest(tmp_path):
    now = datetime.now(UTC)
    manifest = Manifest(
        run_id="0" * 32,
        counts=Counts(0, 0, 0, 0, 0, 0),
        stages={},
        code_version="0",
        sha256={},
        settings={},
        device="cpu",
        started=now,
        finished=now,
    )
    write_manifest(tmp_path, manifest)
    script = runpy.run_path(str(REPOSITORY / "docs" / "reference" / "make_tables.py"))
    assert set(read_manifest(tmp_path)) == set(script["MANIFEST_MEANINGS"])


# Dependencies


def test_every_dependency_has_its_paragraph_and_no_other_has():
    text = (REPOSITORY / "docs" / "decisions.md").read_text(encoding="utf-8")
    paragraphs = dict(re.findall(r"^### (\S+)\n(.+)", text, re.MULTILINE))
    assert set(paragraphs) == set(direct_requirements())


def test_constraints_hold_one_fitting_release_of_every_direct_dependency():
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    for name, requirement in direct_requirements().items():
        assert requirement.specifier.contains(pinned[name]), name
    assert not [name for name in pinned if name.startswith("nvidia")]
    assert len(pinned) == sum(not line.startswith("#") for line in lines)


def test_the_releases_of_python_are_the_same_everywhere():
    from stylematch.pipelines.doctor import PYTHONS

    (oldest, newest), after = PYTHONS, (PYTHONS[1][0], PYTHONS[1][1] + 1)
    assert PROJECT["requires-python"] == ">={}.{},<{}.{}".format(*oldest, *after)
    assert f"sys.exit(not {oldest} <= sys.version_info[:2] <= {newest})" in (REPOSITORY / "Makefile").read_text()
    told = {line.rpartition(" ")[2] for line in PROJECT["classifiers"] if ":: Python :: 3." in line}
    assert told == {f"3.{minor}" for minor in range(oldest[1], after[1])}
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert all(version in readme for version in told)


def test_no_tracked_file_names_a_machine_or_a_registry():
    # Put together here, so that this file does not hold them.
    words = ["index" + "-url", "find" + "-links", "trusted" + "-host", "pypi" + ".org", "python" + "hosted"]
    paths = ["/" + "work/", "/" + "root/", "/" + "opt/"]
    pattern = re.compile("|".join([*map(re.escape, words), *(rf"(?<![\w.]){re.escape(p)}" for p in paths)]))
    for name in tracked_files():
        data = (REPOSITORY / name).read_bytes()
        if b"\0" not in data:
            found = pattern.search(data.decode("utf-8", "replace"))
            assert found is None, f"{name}: {found and found.group()}"


def test_the_version_is_the_same_everywhere():
    assert PROJECT["version"] == stylematch.__version__
    assert f"## {stylematch.__version__}\n" in (REPOSITORY / "CHANGELOG.md").read_text()


# The wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    return zipfile.ZipFile(next(WheelBuilder(str(REPOSITORY)).build(directory=str(folder), versions=["standard"])))


def test_the_wheel_holds_the_package_its_data_and_its_licences(wheel):
    names = set(wheel.namelist())
    assert "stylematch/py.typed" in names
    package = REPOSITORY / "stylematch"
    wanted = {f"stylematch/{p.relative_to(package).as_posix()}" for p in package.rglob("*") if p.is_file()}
    wanted = {name for name in wanted if "__pycache__" not in name}
    assert wanted <= names
    assert not [name for name in names if name.startswith(("tests", "docs")) or name.endswith(".pyc")]
    assert {name.rsplit("/", 1)[1] for name in names if "/licenses/" in name} == {"LICENSE", "NOTICE.md"}


def test_the_wheel_holds_the_default_index_and_finds_it(wheel, tmp_path):
    shipped = {p.relative_to(DEFAULT_INDEX).as_posix(): p for p in DEFAULT_INDEX.rglob("*") if p.is_file()}
    assert shipped, "run: make default-index"
    assert sum(path.stat().st_size for path in shipped.values()) <= 16_000_000
    for name, path in shipped.items():
        assert wheel.read(f"stylematch/_default_index/{name}") == path.read_bytes()
    wheel.extractall(tmp_path)
    code = "from stylematch.pipelines.assets import default_index; print(default_index())"
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == str(tmp_path / "stylematch" / "_default_index")


# The command line


def test_help_is_quick_and_loads_nothing_heavy():
    heavy = ["torch", "onnxruntime", "faiss", "duckdb", "pandas", "lightning", "PIL"]
    code = f"""
import sys
from stylematch.cli.program import run
code = run(["--help"])
loaded = [name for name in {heavy} if name in sys.modules]
sys.exit(f"loaded {{loaded}}" if loaded else code)
"""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert "score" in done.stdout
    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) < 1.0


def test_the_entry_point_is_there():
    module, function = PROJECT["scripts"]["stylematch-batch"].split(":")
    assert callable(getattr(import_module(module), function))
    done = subprocess.run([sys.executable, "-m", module, "--version"], capture_output=True, text=True, cwd=REPOSITORY)
    assert (done.returncode, done.stdout) == (0, f"stylematch {stylematch.__version__}\n")


# Makefile


@pytest.fixture
def checkout(tmp_path):
    """A folder with the files that installing depends on, and a space in its name."""
    if shutil.which("make") is None:
        pytest.skip("no make on PATH")
    folder = tmp_path / "a checkout"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(REPOSITORY / name, folder)
    return folder


def make(folder, *arguments):
    inherited = ("MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS")  # of the make that runs these tests, its variables among them
    env = {name: value for name, value in os.environ.items() if name not in inherited}
    return subprocess.run(["make", "-C", str(folder), *arguments], capture_output=True, text=True, env=env)


def test_without_a_fitting_python_make_says_so(checkout):
    done = make(checkout, "-s", "demo", "PYTHON=python-that-is-not-there")
    assert done.returncode != 0
    assert "needs Python 3.11 to 3.13, and found none as python-that-is-not-there" in done.stderr
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize(
    ("installed", "target", "installs"),
    [
        ([], "demo", ["."]),
        (["base"], "demo", []),
        (["base"], "test", [".[train,timm,heic,openvino,ray,serve,docs,test]"]),
        (["base", "test"], "test-fast", []),
        (["base", "test", "train"], "test", []),
        (["base", "test", "train"], "lint", [".[lint]"]),
        (["base", "test", "train"], "demo", []),
        (["base"], "audit", [".[audit]"]),
        (["base", "audit"], "audit", []),
    ],
)
def test_only_what_is_missing_gets_installed(checkout, installed, target, installs):
    (checkout / ".venv").mkdir()
    for name in [".made", *(f".installed-{name}" for name in installed)]:
        (checkout / ".venv" / name).touch()
    planned = make(checkout, "-n", target)
    assert planned.returncode == 0, planned.stderr
    assert re.findall(r"pip install .* -e '?([^'\s]+)", planned.stdout) == installs


def test_a_changed_dependency_installs_again(checkout):
    (checkout / ".venv").mkdir()
    for name in (".made", ".installed-base"):
        (checkout / ".venv" / name).touch()
    later = (checkout / ".venv" / ".installed-base").stat().st_mtime + 10
    os.utime(checkout / "constraints.txt", (later, later))
    assert "pip install" in make(checkout, "-n", "demo").stdout


def test_the_ci_script_is_executable_and_parses():
    script = REPOSITORY / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", str(script)], capture_output=True).returncode == 0

"""The recipes of CONTRIBUTING.md: each is applied, as it stands there, to a copy of the package, and used."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY
from PIL import Image
from program import EXAMPLES, environment

from stylematch.vision.bundle import Bundle

pytestmark = pytest.mark.slow
PAGE = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCK = re.compile(r'^```(\w+) title="([^"]+)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)
RECIPES = {
    name: BLOCK.findall(text)
    for name, text in re.findall(r"^<!-- recipe: (.+?) -->\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
}
MOST_LINES = 50
CONTRACT = "ivfsq8 and (recall_reaches or saved or add_update or refusals or equal_vectors)"


def added(kind: str, text: str) -> list[str]:
    """The lines that somebody writes."""
    lines = text.splitlines()
    return [line[1:] for line in lines if line.startswith("+")] if kind == "diff" else lines


def apply(name: str, root: Path) -> Path:
    """Copy the package to ``root`` and do what a recipe says."""
    shutil.copytree(REPOSITORY / "stylematch", root / "stylematch", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "indexes").symlink_to(REPOSITORY / "indexes")
    for kind, title, text in RECIPES[name]:
        path = root / title
        if kind != "diff":
            assert not path.exists(), f"{title} is there already"
            path.write_text(text)
            continue
        lines = text.splitlines()
        old = "".join(f"{line[1:]}\n" for line in lines if line[0] in " -")
        new = "".join(f"{line[1:]}\n" for line in lines if line[0] in " +")
        code = path.read_text()
        assert code.count(old) == 1, f"{title} has not these lines exactly once:\n{old}"
        path.write_text(code.replace(old, new))
    return root


def use(root: Path, *arguments, code: int = 0) -> str:
    """Run the changed copy's program in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "stylematch.cli", *map(str, arguments)],
        cwd=root,
        env={**environment(OMP_NUM_THREADS=1), "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def test_every_recipe_is_short():
    assert set(RECIPES) == {"backbone", "data set", "rule set", "index kind"}
    for name, blocks in RECIPES.items():
        lines = [line for kind, _, text in blocks for line in added(kind, text)]
        assert 0 < len(lines) < MOST_LINES, f"{name}: {len(lines)} lines"


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_clean_code(name, tmp_path):
    pytest.importorskip("ruff", reason="ruff is not installed (the lint extra)")
    root = apply(name, tmp_path)
    shutil.copy(REPOSITORY / "pyproject.toml", root)
    files = sorted({title for _, title, _ in RECIPES[name] if title.endswith(".py")})
    for command in (["check"], ["format", "--check"]) if files else ():
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *files], cwd=root, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout


def test_a_rule_set_is_added(tmp_path):
    root = apply("rule set", tmp_path)
    said = use(root, "rules", "check", "spectacles")
    assert "2 styles of rule set 'spectacles' by 1 attributes" in said
    use(root, "score", EXAMPLES / "astronaut.jpg", "--rules", "spectacles", "--out", root / "out", "--no-report")
    said = use(root, "query", root / "out", "SELECT style FROM faces", "--format", "json")
    assert json.loads(said)[0]["style"] in ("Framed", "Bare")


def test_an_index_kind_is_added_and_passes_the_contract(tmp_path):
    root = apply("index kind", tmp_path)
    tests = REPOSITORY / "tests" / "test_index_kinds.py"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", tests, "-k", CONTRACT],
        cwd=root,
        env={**environment(OMP_NUM_THREADS=1), "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 5, done.stdout
    use(root, "index", "build", "--help")
    assert "ivfsq8" in use(root, "index", "build", "--help")


@pytest.mark.train
def test_a_backbone_is_added(tmp_path):
    pytest.importorskip("lightning", reason="Lightning is not installed: pip install 'stylematch[train]'")
    from tiny import write_celeba

    root = apply("backbone", tmp_path)
    write_celeba(root / "data" / "celeba", ("Young", "Smiling"))
    changes = [f"data.root='{root / 'data'}'", f"out='{root / 'run'}'", "data.wild=false", "model.backbone='plain'"]
    changes += ["model.weights='none'", "schedule.precision='32-true'"]
    options = [part for change in changes for part in ("--set", change)]
    use(root, "train", REPOSITORY / "jobs" / "celeba-mobilenet.toml", "--smoke", *options)
    bundle = Bundle.open(root / "run-smoke" / "bundle")
    assert bundle.description["architecture"]["backbone"] == "plain"


@pytest.mark.train
def test_a_data_set_is_added(tmp_path):
    pytest.importorskip("lightning", reason="Lightning is not installed: pip install 'stylematch[train]'")
    root = apply("data set", tmp_path)
    folder = root / "colours"
    folder.mkdir()
    lines = []
    for number in range(60):
        pixels = np.zeros((32, 32, 3), np.uint8)
        pixels[..., number % 3] = 200
        Image.fromarray(pixels).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{('red', 'green', 'blue')[number % 3]},{('train', 'val', 'test')[number // 20]}")
    (folder / "colours.csv").write_text("\n".join(lines) + "\n")
    job = root / "colours.toml"
    job.write_text(
        f'name = "colours"\nout = "{root / "run"}"\n[data]\ndataset = "colours"\nroot = "{folder}"\n'
        '[model]\nbackbone = "squeezenet1_1"\ninput_px = 64\nembedding_dim = 8\n'
        '[schedule]\nepochs = 1\nbatch_size = 4\nlearning_rate = 1e-3\nprecision = "32-true"\n'
    )
    use(root, "train", job, "--smoke")
    bundle = Bundle.open(root / "run-smoke" / "bundle")
    assert bundle.schema.group("colour").labels == ("red", "green", "blue")
    assert json.loads((root / "run-smoke" / "bundle" / "figures.json").read_text())["measured"]
    (folder / "colours.csv").write_text("0.png,pink,train\n")
    assert "line 1: 'pink' is none of red" in use(root, "train", job, "--set", "out='elsewhere'", code=2)

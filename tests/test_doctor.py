"""``doctor``: what it says of a sound installation, of absent data, and of a damaged index."""

import re
import shutil
from dataclasses import replace
from importlib import metadata

import pyarrow as pa
import pytest
from program import DEFAULT_INDEX, call

from stylematch import __version__
from stylematch.pipelines.doctor import Finding, raise_for
from stylematch.search.directory import Origin, load_index_directory, save_index_directory


def test_a_sound_installation_has_no_fault():
    result = call("doctor", "--seconds", "0.2", "--device", "cpu")
    assert result.code == 0, result.out
    assert "FAULT" not in result.out
    assert re.search(rf"ok +stylematch +{re.escape(__version__)}\n", result.out)
    assert re.search(r"ok +default index +.*, 1[34]\.\d MB\n", result.out)
    assert result.out.count("sha256 of every file as noted") == 2
    for unit in ("photos", "faces"):
        rate = re.search(rf"ok +speed, {unit} +([\d,]+) {unit}/s in one process on cpu", result.out)
        assert rate
        assert int(rate[1].replace(",", "")) > 0


def test_absent_data_are_said_and_no_fault(monkeypatch, tmp_path):
    monkeypatch.setenv("STYLEMATCH_DATA", str(tmp_path))
    (tmp_path / "flixstock").mkdir()
    (tmp_path / "flixstock" / "attributes.csv").write_text("")
    result = call("doctor", "--seconds", "0")
    assert result.code == 0
    assert re.search(r"absent +celeba ", result.out)
    assert re.search(r"ok +flixstock ", result.out)
    assert "speed" not in result.out


def test_data_that_cannot_be_looked_at_are_absent(monkeypatch, tmp_path):
    """The name is too long, since root, as whom tests may run, can look anywhere."""
    monkeypatch.setenv("STYLEMATCH_DATA", str(tmp_path / ("a" * 300)))
    result = call("doctor", "--seconds", "0")
    assert result.code == 0, result.err
    assert re.search(r"absent +data folder ", result.out)
    assert re.search(r"absent +celeba ", result.out)


@pytest.mark.parametrize(
    ("broken", "fault"),
    [("faces/index.faiss", "faces index"), ("attributes/weights.safetensors", "default index")],
)
def test_a_damaged_index_is_a_fault(tmp_path, broken, fault):
    shutil.copytree(DEFAULT_INDEX, tmp_path / "index")
    path = tmp_path / "index" / broken
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    result = call("doctor", "--seconds", "1", "--index", tmp_path / "index")
    assert result.code == 2
    assert re.search(rf"FAULT +{fault.removeprefix('default ')} +", result.out)
    assert "speed" not in result.out
    assert "checks failed" in result.sentence


def test_an_index_that_needs_rules_of_its_own_is_sound(tmp_path):
    shipped = load_index_directory(DEFAULT_INDEX / "items")
    vases = pa.table({"id": shipped.rows["id"], "category": ["Vases"] * shipped.rows.num_rows})
    origin = replace(Origin.of(shipped.infos), labels=("Vases",))
    (tmp_path / "items").mkdir()
    save_index_directory(tmp_path / "items", shipped.index, vases, origin)
    result = call("doctor", "--seconds", "0.1", "--device", "cpu", "--index", tmp_path / "items")
    assert result.code == 0, result.out
    for unit in ("photos", "faces"):
        assert re.search(rf"absent +speed, {unit} +not measured: the shipped rules do not fit this index", result.out)


def test_faults_are_named_in_one_sentence():
    raise_for([Finding("ok", "a", ""), Finding("absent", "b", "")])
    with pytest.raises(Exception, match="1 of 2 checks failed: c d") as caught:
        raise_for([Finding("ok", "a", ""), Finding("FAULT", "c d", "x\n")])
    assert caught.value.exit_code == 2
    assert Finding("FAULT", "c", "x\ny").line().isprintable()


@pytest.mark.parametrize("wheel", ["faiss-gpu", "faiss-gpu-cu12"])
def test_faiss_for_a_gpu_stands_in_the_place_of_the_other(monkeypatch, wheel):
    """It owns the module of faiss-cpu, whose reinstallation would overwrite it."""
    installed = metadata.version

    def version(name):
        if name == "faiss-cpu":
            raise metadata.PackageNotFoundError(name)
        return "1.15.1" if name == wheel else installed(name)

    monkeypatch.setattr(metadata, "version", version)
    result = call("doctor", "--seconds", "0")
    assert result.code == 0, result.out
    assert re.search(rf"ok +packages .*{wheel} 1\.15\.1", result.out)
    monkeypatch.setattr(metadata, "version", lambda name: version("faiss-cpu" if name == wheel else name))
    assert re.search(r"FAULT +packages .*absent: faiss-cpu", call("doctor", "--seconds", "0").out)

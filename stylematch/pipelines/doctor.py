"""``doctor``: what this installation has, whether it works, and how fast.

Versions, devices, data sets and indexes are looked at one after the other; what is absent but not needed is said, what
is broken is a fault. The speed is that of scoring's own modules on two made pictures, one that is searched for faces
and one that is taken for a face, so no photo is needed.
"""

from __future__ import annotations

import functools
import io
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np

from stylematch import __version__
from stylematch.data import celeba_files, fashion_product, flixstock
from stylematch.data.fashion_mnist import installed_fashion_mnist
from stylematch.data.photos import FoundPhoto
from stylematch.errors import StylematchError, UserError
from stylematch.pipelines.advice import Adviser
from stylematch.pipelines.assets import Assets, default_index, resolve_assets
from stylematch.pipelines.face_features import FeatureExtractor
from stylematch.pipelines.partition_result import PartitionResult
from stylematch.pipelines.run_spec import RunSpec
from stylematch.search.directory import load_index_directory
from stylematch.settings.load import data_root
from stylematch.settings.score import ScoreSettings
from stylematch.style.rule_problems import RuleProblemsError
from stylematch.tables.cores import usable_cores
from stylematch.tables.environment import FAISS_FOR_GPU, describe_host, package_versions, processor_of
from stylematch.tables.shown import shown
from stylematch.vision.bundle import Bundle
from stylematch.vision.runtime import resolve_device

PYTHONS = (3, 11), (3, 13)
"""The oldest and the newest release that the tests pass on."""
EXTRAS = {
    "heic": ("pi-heif",),
    "gpu": ("torch", "torchvision"),
    "openvino": ("openvino",),
    "train": ("torch", "lightning", "onnx"),
    "timm": ("timm",),
    "ray": ("ray",),
    "serve": ("fastapi", "uvicorn"),
    "docs": ("mkdocs-material",),
}
"""By extra the packages by which it is known."""
PHOTO_PX = (480, 640, 3)
FACE_PX = (218, 178, 3)
BATCH = 32


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: ``state`` is "ok", "absent" (and not needed) or "FAULT"."""

    state: str
    what: str
    text: str

    def line(self) -> str:
        """Return it as one printable line."""
        return f"{self.state:6}  {self.what:16}  {shown(self.text)}"


def examine(*, seconds: float, indexes: Sequence[Path] = (), device: str = "auto") -> Iterator[Finding]:
    """Look at everything; each finding is given as soon as it is known.

    Parameters
    ----------
    seconds : float
        How long to try the speed; 0 tries none.
    indexes : sequence of Path
        What ``score --index`` would be given; the default without.
    device : {"auto", "cpu", "cpu-bf16", "cuda"}
        Where the models run.
    """
    yield from _versions()
    yield from _machine(device)
    yield from _data_sets()
    broken = False
    for finding in _indexes(indexes):
        broken |= finding.state == "FAULT"
        yield finding
    if seconds > 0 and not broken:
        yield from _speed(seconds, indexes, device)


def raise_for(findings: Sequence[Finding]) -> None:
    """Raise a UserError that names what is broken, if anything is."""
    if faults := [finding.what for finding in findings if finding.state == "FAULT"]:
        raise UserError(f"{len(faults)} of {len(findings)} checks failed: {', '.join(faults)}; the lines above say why")


def _versions() -> Iterator[Finding]:
    fits = PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]
    yield Finding("ok", "stylematch", __version__)
    needed = "" if fits else "; {}.{} to {}.{} is needed".format(*PYTHONS[0], *PYTHONS[1])
    yield Finding("ok" if fits else "FAULT", "Python", f"{platform.python_version()}, {sys.executable}{needed}")
    packages = package_versions()
    missing = [name for name, version in packages.items() if version == "absent"]
    if not packages.keys().isdisjoint(FAISS_FOR_GPU):  # which stands in the place of faiss-cpu
        missing = [name for name in missing if name != "faiss-cpu"]
    told = ", ".join(f"{name} {version}" for name, version in packages.items())
    again = f"; absent: {', '.join(missing)}; install stylematch again" if missing else ""
    yield Finding("FAULT" if missing else "ok", "packages", told + again)
    for extra, names in EXTRAS.items():
        found = {name: _version(name) for name in names}
        if all(found.values()):
            yield Finding("ok", f"extra {extra}", ", ".join(f"{name} {version}" for name, version in found.items()))
        else:
            lacking = ", ".join(name for name, version in found.items() if version is None)
            yield Finding("absent", f"extra {extra}", f"no {lacking}: pip install 'stylematch[{extra}]'")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _machine(device: str) -> Iterator[Finding]:
    host = describe_host()
    memory = ""
    if {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= set(os.sysconf_names):
        gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
        memory = f", {gib:.1f} GiB memory"
    free_gib = shutil.disk_usage(Path.cwd()).free / 2**30
    yield Finding("ok", "machine", f"{processor_of(host)}, {usable_cores()} cores to use{memory}, {host['system']}")
    yield Finding("ok", "disk", f"{free_gib:.1f} GiB free in the working directory")
    try:
        resolved = resolve_device(device)
    except StylematchError as error:
        yield Finding("FAULT", "model device", str(error))
        resolved = "cpu"
    if resolved == "cuda":
        import torch

        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        yield Finding("ok", "model device", f"cuda: {', '.join(names)} (torch {torch.__version__})")
    elif resolved == "cpu-bf16":
        yield Finding("ok", "model device", f"cpu in bfloat16, OpenVINO {_version('openvino')}")
    else:
        yield Finding("ok", "model device", f"cpu, ONNX Runtime {_version('onnxruntime')}")
    import faiss

    gpus = faiss.get_num_gpus() if hasattr(faiss, "StandardGpuResources") else 0
    yield Finding("ok", "search device", f"{gpus} GPUs" if gpus else f"cpu, FAISS {faiss.__version__}")


def _data_sets() -> Iterator[Finding]:
    root = data_root()
    # os.access where Path.is_file would raise: what this user may not read is absent to him.
    yield Finding(
        "ok" if os.access(root, os.R_OK | os.X_OK) else "absent",
        "data folder",
        f"{root} (set STYLEMATCH_DATA to change it)",
    )
    for path in (
        celeba_files.label_file(root / "celeba", celeba_files.ATTRIBUTES_FILE)
        or root / "celeba" / celeba_files.ATTRIBUTES_FILE,
        root / "fashion_product" / fashion_product.TABLE,
        root / "flixstock" / flixstock.TABLE,
    ):
        name = path.relative_to(root).parts[0]
        is_there = os.access(path, os.R_OK)
        yield Finding("ok" if is_there else "absent", name, str(root / name if is_there else path))
    folder = installed_fashion_mnist()
    hint = "Debian: apt-get install dataset-fashion-mnist"
    yield Finding("ok" if folder else "absent", "fashion-mnist", str(folder) if folder else hint)


def _indexes(indexes: Sequence[Path]) -> Iterator[Finding]:
    what = "index" if indexes else "default index"
    try:
        assets = resolve_assets(indexes)
        where = ", ".join(map(str, indexes)) if indexes else str(default_index())
        yield Finding("ok", what, f"{where}, {_bytes(assets) / 1e6:.1f} MB")
    except StylematchError as error:
        yield Finding("FAULT", what, str(error))
        return
    for name, model in (("attributes", assets.attributes), ("garments", assets.garments)):
        yield Finding("ok", f"{name} model", _model(model))
    for name, index in (("faces", assets.faces), ("items", assets.items)):
        yield _checked(f"{name} index", functools.partial(_index, index.directory))


def _checked(what: str, describe: Callable[[], str]) -> Finding:
    try:
        return Finding("ok", what, describe())
    except StylematchError as error:
        return Finding("FAULT", what, str(error))


def _model(bundle: Bundle) -> str:
    return f"{bundle.name}, {bundle.input_px} px, embedding {bundle.embedding_dim}, sha256 {bundle.sha256[:12]}"


def _index(path: Path) -> str:
    infos = load_index_directory(path, mapped=False).infos  # hashes every file
    size = sum(file["bytes"] for file in infos["files"].values())
    return (
        f"{infos['count']:,} vectors of {infos['dim']} dimensions, {size / 1e6:.1f} MB, sha256 of every file as noted"
    )


def _bytes(assets: Assets) -> int:
    folders = {part.directory for part in (assets.attributes, assets.garments, assets.faces, assets.items)}
    return sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())


def _speed(seconds: float, indexes: Sequence[Path], device: str) -> Iterator[Finding]:
    """Time scoring's own steps, half of the time each, in this one process on one thread."""
    cores = usable_cores()
    for mode, shape, unit, what in (
        ("find", PHOTO_PX, "photos", "read photos of 640x480 and look for faces in them"),
        ("aligned", FACE_PX, "faces", "faces: attributes, style and items"),
    ):
        settings = ScoreSettings(faces=mode, batch_size=BATCH, device=device)  # type: ignore[arg-type]
        try:
            spec = RunSpec.of(settings, indexes)
            extractor, adviser = FeatureExtractor(spec, 1), Adviser(spec, 1)
            rate = _rate(extractor, adviser, _picture(shape), seconds / 2)
        except RuleProblemsError:  # an index has categories of its own, for rules of its own
            yield Finding("absent", f"speed, {unit}", "not measured: the shipped rules do not fit this index")
            continue
        except StylematchError as error:
            yield Finding("FAULT", f"speed, {unit}", str(error))
            continue
        text = f"{rate:,.0f} {unit}/s in one process on {spec.device} ({what}); score runs one on each of {cores} cores"
        yield Finding("ok", f"speed, {unit}", text)


def _rate(extractor: FeatureExtractor, adviser: Adviser, data: bytes, seconds: float) -> float:
    photos = [FoundPhoto(f"{n}.jpg", f"{n}.jpg".encode(), len(data), f"{n:032x}") for n in range(BATCH)]

    def once() -> None:
        result = PartitionResult()
        _, faces = extractor.extract(photos, lambda _: data, result)
        adviser.advise(faces, "0" * 32, result)

    once()  # the first batch also pays for what is made at first use
    batches, clock = 0, time.perf_counter()
    while (passed := time.perf_counter() - clock) < seconds or not batches:
        once()
        batches += 1
    return batches * BATCH / passed


def _picture(shape: tuple[int, ...]) -> bytes:
    """Return a smooth made picture as JPEG: as costly to decode and to search as a photo of its size, more or less."""
    from PIL import Image

    coarse = np.random.default_rng(0).integers(0, 256, (shape[0] // 16, shape[1] // 16, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()

"""CelebA-size JPEGs to embeddings in Parquet on a GPU, beside the same model on tensors that already lie there.

``python benchmarks/gpu_embed.py`` runs ``embed`` over a CelebA folder of ``--pictures`` (real ones, repeated under new
names where there are fewer), asks the driver's ``nvidia-smi`` for the GPU's busy share ten times a second (null without
it), and says what all 202,599 pictures would take; ``start_s`` passes before the first batch has its embeddings, and
``steady_pictures_per_s`` is the rate from then on. Beside it: the model alone on resident tensors, reading alone (files
to crops, on all cores), and decoding alone of the same files by the GPU (nvJPEG through torchvision; null where it has
none). ``--device cpu`` only shows that the script runs.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from machine import RESULTS, report, shared_data
from torchvision.io import decode_jpeg
from train_throughput import BusyShare, busy_command

from stylematch.data.celeba import ATTRIBUTES
from stylematch.pipelines.assets import resolve_assets
from stylematch.pipelines.face_batches import face_batches
from stylematch.pipelines.face_pieces import Reading
from stylematch.pipelines.indexing import embed as embedding
from stylematch.settings.embed import EmbedJob
from stylematch.tables.cores import usable_cores
from stylematch.vision.bundle import Bundle
from stylematch.vision.runtime import Predictions, run_in_batches
from stylematch.vision.stored_network import load_network

CELEBA = 202_599
_READ_ALONE = 48  # batches


def repeated_celeba(pictures: list[Path], count: int, folder: Path) -> Path:
    """Make a CelebA folder of ``count`` pictures by hard links, with labels that say nothing."""
    aligned = folder / "img_align_celeba"
    aligned.mkdir(parents=True)
    names = [f"{number + 1:06d}.jpg" for number in range(count)]
    for number, name in enumerate(names):
        if number < len(pictures):
            (aligned / name).write_bytes(pictures[number].read_bytes())
        else:
            (aligned / name).hardlink_to(aligned / names[number % len(pictures)])
    values = " ".join(["-1"] * len(ATTRIBUTES))
    rows = "".join(f"{name} {values}\n" for name in names)
    (folder / "list_attr_celeba.txt").write_text(f"{count}\n{' '.join(ATTRIBUTES)}\n{rows}")
    (folder / "list_eval_partition.txt").write_text("".join(f"{name} 0\n" for name in names))
    return folder


def resident_rate(bundle: Bundle, device: str, batch: int, steps: int) -> float:
    """Return pictures a second of the model on one batch that lies on the device."""
    network = load_network(bundle).eval().to(device)
    pixels = torch.randint(0, 256, (batch, bundle.input_px, bundle.input_px, bundle.channels), dtype=torch.uint8)
    resident = pixels.to(device)
    with torch.inference_mode():
        for timed in (False, True):
            clock = time.perf_counter()
            for _ in range(steps):
                network(resident)
            if device == "cuda":
                torch.cuda.synchronize()
            if timed:
                return batch * steps / (time.perf_counter() - clock)
    raise AssertionError


def embed_times(job: EmbedJob, device: str) -> tuple[float, float, int]:
    """Embed; return the seconds until the first batch had its embeddings, those of all, and that batch's faces."""
    done: list[tuple[float, int]] = []

    def noted(*arguments: Any) -> Predictions:
        predictions = run_in_batches(*arguments)
        done.append((time.perf_counter(), len(predictions.embedding)))
        return predictions

    clock = time.perf_counter()
    with mock.patch.object(embedding, "run_in_batches", noted):
        embedding.embed(job, device)
    first, faces = done[0]
    return first - clock, time.perf_counter() - clock, faces


def reading_rate(aligned: Path, side_px: int, batch: int) -> float | None:
    """Return pictures a second from files to crops, as ``embed`` reads them beside a GPU; None of one batch alone."""
    names = sorted(os.fsencode(path.name) for path in aligned.iterdir())[: _READ_ALONE * batch]
    reading = Reading(aligned, "aligned", side_px, 1, max_bytes=10**8, max_megapixels=100, with_ids=False)
    batches = face_batches(names, reading, batch_size=batch, workers=usable_cores(), on_gpu=True)
    next(batches)  # the processes have started
    clock = time.perf_counter()
    counted = sum(found.pictures for found in batches)
    return counted / (time.perf_counter() - clock) if counted else None


def gpu_decoding_rate(pictures: list[Path], batch: int) -> float | None:
    """Return pictures a second that the GPU decodes, their bytes being in memory; None where it cannot."""
    files = [torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8) for path in pictures[: 4 * batch]]
    batches = [files[start : start + batch] for start in range(0, len(files), batch)]
    try:
        decode_jpeg(batches[0], device="cuda")
        torch.cuda.synchronize()
        clock = time.perf_counter()
        for part in batches:
            decode_jpeg(part, device="cuda")
        torch.cuda.synchronize()
    except Exception as error:  # a figure beside the others, which are not to be lost for it
        print(f"the GPU decodes no JPEG: {error}", file=sys.stderr)
        return None
    return len(files) / (time.perf_counter() - clock)


def main() -> None:
    """Read the arguments, measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--celeba", type=Path, default=shared_data() / "celeba" / "img_align_celeba")
    parser.add_argument("--pictures", type=int, default=CELEBA)
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--out", type=Path, default=RESULTS / "gpu_embed.json")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("there is no CUDA device here; --device cpu shows that the script runs")
    bundle = resolve_assets(()).attributes
    with tempfile.TemporaryDirectory(prefix="stylematch-") as folder:
        pictures = sorted(arguments.celeba.glob("*.jpg"))[: arguments.pictures]
        if not pictures:
            raise SystemExit(f"no JPEG lies in {arguments.celeba}: name a folder of CelebA's with --celeba")
        root = repeated_celeba(pictures, arguments.pictures, Path(folder) / "celeba")
        job = EmbedJob(
            source="celeba",
            bundle=str(bundle.directory),
            embeddings=str(Path(folder) / "out"),
            root=str(root),
            splits=("train",),
            batch_size=arguments.batch_size,
        )
        busy = BusyShare(busy_command())
        with busy.watched():
            start_s, all_s, first = embed_times(job, arguments.device)
        rate = arguments.pictures / all_s
        reading = reading_rate(root / "img_align_celeba", bundle.input_px, arguments.batch_size)
        decoding = gpu_decoding_rate(pictures, arguments.batch_size) if arguments.device == "cuda" else None
    resident = resident_rate(bundle, arguments.device, arguments.batch_size, arguments.steps)
    figures = {
        "device": torch.cuda.get_device_name() if arguments.device == "cuda" else "cpu",
        "pictures_per_s": round(rate, 1),
        "start_s": round(start_s, 2),
        "steady_pictures_per_s": round((arguments.pictures - first) / (all_s - start_s), 1),
        "resident_pictures_per_s": round(resident, 1),
        "share_of_resident": round(rate / resident, 4),
        "reading_pictures_per_s": reading and round(reading, 1),
        "gpu_decoding_pictures_per_s": decoding and round(decoding, 1),
        "gpu_busy_share": busy.share,
        "pictures": arguments.pictures,
        "batch_size": arguments.batch_size,
        "all_of_celeba_s": round(CELEBA / rate, 1),
    }
    table = [("what", "measured"), *figures.items()]
    report(figures, table, arguments.out)


if __name__ == "__main__":
    main()

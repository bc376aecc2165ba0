"""CelebA-size JPEGs to embeddings in Parquet on a GPU, beside the same model on tensors that already lie there.

``python benchmarks/gpu_embed.py`` runs ``embed`` over a CelebA folder of ``--pictures`` (real ones, repeated under new
names where there are fewer), asks for the GPU's busy share ten times a second (NVML), and says what all 202,599
pictures would take. ``--device cpu`` only shows that the script runs.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from machine import RESULTS, report, shared_data
from train_throughput import BusyShare, busy_command

from stylematch.data.celeba import ATTRIBUTES
from stylematch.pipelines.assets import resolve_assets
from stylematch.pipelines.embed import embed
from stylematch.settings import EmbedJob
from stylematch.vision.bundle import Bundle
from stylematch.vision.networks import load_network

CELEBA = 202_599


def repeated_celeba(pictures: list[Path], count: int, folder: Path) -> Path:
    """Make a CelebA folder of ``count`` pictures by hard links, with labels that say nothing."""
    aligned = folder / "img_align_celeba"
    aligned.mkdir(parents=True)
    names = [f"{number + 1:06d}.jpg" for number in range(count)]
    for number, name in enumerate(names):
        (aligned / name).write_bytes(pictures[number % len(pictures)].read_bytes())
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


def main() -> None:
    """Read the arguments, measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--celeba", type=Path, default=shared_data() / "celeba" / "img_align_celeba")
    parser.add_argument("--pictures", type=int, default=60_000)
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--out", type=Path, default=RESULTS / "gpu_embed.json")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("there is no CUDA device here; --device cpu shows that the script runs")
    bundle = Bundle.open(resolve_assets(()).attributes)
    with tempfile.TemporaryDirectory(prefix="stylematch-") as folder:
        pictures = sorted(arguments.celeba.glob("*.jpg"))[: arguments.pictures]
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
            clock = time.perf_counter()
            embed(job, arguments.device)
            rate = arguments.pictures / (time.perf_counter() - clock)
    resident = resident_rate(bundle, arguments.device, arguments.batch_size, arguments.steps)
    figures = {
        "device": torch.cuda.get_device_name() if arguments.device == "cuda" else "cpu",
        "pictures_per_s": round(rate, 1),
        "resident_pictures_per_s": round(resident, 1),
        "share_of_resident": round(rate / resident, 4),
        "gpu_busy_share": busy.share,
        "all_of_celeba_s": round(CELEBA / rate, 1),
    }
    table = [("what", "measured"), *figures.items()]
    report(figures, table, arguments.out)


if __name__ == "__main__":
    main()

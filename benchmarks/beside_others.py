"""``score`` beside three other ways to the same end, on the same aligned faces and machine, in one run.

1. ``stylematch``: ``score --faces aligned``, from files to tables with styles and items.
2. ``seed``: the loop of the notebooks that this project grew from: Pillow, resize to 224, VGG16 one by one, rows put
   together with pandas ``apply``. Random weights, which take as long.
3. ``dataloader``: a torchvision data loader, and the shipped backbone (MobileNetV2, 128 px) eagerly in torch.
4. ``clip-retrieval``: ``clip-retrieval inference``, where ``--clip-retrieval PYTHON`` names an environment's Python
   that has it (and setuptools below 81), with an open_clip model whose vision tower is timm's ``mobilenetv2_100``
   at 128 px, random weights.

The slow ones see ``--slow-pictures`` of the pictures.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

# Not on the loops' time: they see few pictures, of which an import would be a tenth.
import numpy as np
import pandas as pd
import torch
from machine import RESULTS, linked_pictures, report, shared_data, stylematch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.models import mobilenet_v2, vgg16

CONFIG = {
    "embed_dim": 128,
    "vision_cfg": {
        "timm_model_name": "mobilenetv2_100",
        "timm_model_pretrained": False,
        "timm_pool": "",
        "timm_proj": "linear",
        "image_size": 128,
    },
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
}
_CLIP = """
import pathlib, sys
import open_clip, torch
folder, pictures, out = map(pathlib.Path, sys.argv[1:])
open_clip.add_model_config(folder)
torch.manual_seed(0)
checkpoint = folder / "random.pt"
if not checkpoint.exists():
    torch.save(open_clip.create_model("mobilenetv2-128").state_dict(), checkpoint)
from clip_retrieval import clip_inference
clip_inference(
    input_dataset=str(pictures), output_folder=str(out), clip_model=f"open_clip:mobilenetv2-128/{checkpoint}",
    enable_text=False, enable_metadata=False, batch_size=32, num_prepro_workers=2, use_jit=False,
)
"""


def seed(pictures: list[Path], _: Path) -> None:
    """Run the notebooks' loop."""
    model = vgg16(weights=None).features.eval()
    rows = pd.DataFrame({"image_id": [str(path) for path in pictures]})

    def embed(row: pd.Series) -> np.ndarray:
        with Image.open(row["image_id"]) as image:
            pixels = np.asarray(image.convert("RGB").resize((224, 224)), np.float32) / 255
        with torch.no_grad():
            return model(torch.from_numpy(pixels.transpose(2, 0, 1))[None]).flatten().numpy()

    rows["embedding"] = rows.apply(embed, axis=1)


def dataloader(pictures: list[Path], _: Path) -> None:
    """Run a plain torchvision data loader, and the shipped backbone eagerly."""
    prepare = transforms.Compose([transforms.Resize(128), transforms.CenterCrop(128), transforms.ToTensor()])

    class Pictures(Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return len(pictures)

        def __getitem__(self, index: int) -> torch.Tensor:
            with Image.open(pictures[index]) as image:
                return prepare(image.convert("RGB"))

    model = mobilenet_v2(weights=None).features.eval()
    with torch.no_grad():
        vectors = [model(batch).mean((2, 3)) for batch in DataLoader(Pictures(), batch_size=32)]
    assert sum(map(len, vectors)) == len(pictures)


def clip_retrieval(python: str) -> Callable[[list[Path], Path], None]:
    """Return ``clip-retrieval inference`` in another environment."""

    def run(pictures: list[Path], scratch: Path) -> None:
        models = scratch / "models"
        models.mkdir(exist_ok=True)
        (models / "mobilenetv2-128.json").write_text(json.dumps(CONFIG), encoding="utf-8")
        folder = linked_pictures(pictures, scratch / f"clip-{len(pictures)}")
        out = scratch / f"clip-out-{len(pictures)}"
        done = subprocess.run(
            [python, "-c", _CLIP, str(models), str(folder), str(out)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"clip-retrieval ended with {done.returncode}:\n{done.stderr[-2000:]}")

    return run


def ours(pictures: list[Path], scratch: Path) -> None:
    """Score with the shipped configuration."""
    folder = linked_pictures(pictures, scratch / f"ours-{len(pictures)}")
    out = scratch / f"out-{len(pictures)}"
    stylematch("score", folder, "--out", out, "--faces", "aligned", "--device", "cpu", "--no-report")


def main() -> None:
    """Read the arguments, measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--celeba", type=Path, default=shared_data() / "celeba" / "img_align_celeba")
    parser.add_argument("--pictures", type=int, default=2_000)
    parser.add_argument("--slow-pictures", type=int, default=200, help="for the seed's loop")
    parser.add_argument("--clip-retrieval", metavar="PYTHON", help="an environment's Python that has clip-retrieval")
    parser.add_argument("--out", type=Path, default=RESULTS / "beside_others.json")
    arguments = parser.parse_args()
    pictures = sorted(arguments.celeba.glob("*.jpg"))[: arguments.pictures]
    ways: dict[str, tuple[Callable[[list[Path], Path], None], int, float]] = {
        "stylematch": (ours, len(pictures), 1),
        "seed": (seed, min(arguments.slow_pictures, len(pictures)), 100),
        "dataloader": (dataloader, len(pictures), 5),
    }
    if arguments.clip_retrieval:
        ways["clip-retrieval"] = (clip_retrieval(arguments.clip_retrieval), len(pictures), 8)
    rates: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="stylematch-") as folder:
        for name, (way, count, _) in ways.items():
            clock = time.perf_counter()
            way(pictures[:count], Path(folder))
            rates[name] = count / (time.perf_counter() - clock)
    table: list[tuple[object, ...]] = [("way", "pictures", "a second", "stylematch is", "wanted")]
    for name, (_, count, wanted) in ways.items():
        ratio = rates["stylematch"] / rates[name]
        table.append((name, count, f"{rates[name]:,.1f}", f"{ratio:.1f} times as fast", f"{wanted} times"))
    figures = {
        "pictures_per_s": {name: round(rate, 2) for name, rate in rates.items()},
        "ratios": {name: round(rates["stylematch"] / rate, 2) for name, rate in rates.items()},
        "left_out": [] if arguments.clip_retrieval else ["clip-retrieval: name its Python with --clip-retrieval"],
    }
    report(figures, table, arguments.out)


if __name__ == "__main__":
    main()

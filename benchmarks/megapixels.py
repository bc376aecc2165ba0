"""Photos of 12 megapixels: decoding beside Pillow's full decode, and how soon ``score`` has decoded its first photo.

``python benchmarks/megapixels.py`` enlarges ``--photo`` to 4000 x 3000 pixels, decodes it as scoring does and as Pillow
does in full, alternately, on one core; then starts ``score`` on it, as anybody does, and has its workers say when the
first photo was decoded; then times ``--help``.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import time
from pathlib import Path

from machine import RESULTS, program, report
from PIL import Image

from stylematch.data.decode import decode_photo
from stylematch.vision.face_reader import FINDER_SIDE_PX

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "photos" / "astronaut.jpg"
# Of every process that ``score`` starts: whichever decodes first says when.
_SITE = """
import importlib.machinery, os, sys, time

class Watch(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        spec = super().find_spec(name, path, target) if name == "stylematch.vision.face_reader" else None
        if spec is not None:
            load = spec.loader.exec_module

            def watched(module):
                load(module)
                decode = module.FaceReader.decode

                def first(reader, data):
                    photo = decode(reader, data)
                    with open(os.environ["FIRST_DECODED"], "a") as lines:
                        print(time.time(), file=lines)
                    return photo

                module.FaceReader.decode = first

            spec.loader.exec_module = watched
        return spec

sys.meta_path.insert(0, Watch)
"""


def megapixel_photo(picture: Path, size: tuple[int, int]) -> bytes:
    """Return a picture enlarged and encoded as a JPEG of quality 92."""
    stream = io.BytesIO()
    with Image.open(picture) as image:
        image.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(stream, "JPEG", quality=92)
    return stream.getvalue()


def measure_decode(data: bytes, repeats: int) -> tuple[float, float]:
    """Return the best CPU seconds of scoring's decode and of Pillow's full one, taken alternately."""
    ours, pillow = [], []
    for _ in range(repeats):
        clock = time.process_time()
        decode_photo(data, max_side_px=FINDER_SIDE_PX, max_megapixels=200)
        ours.append(time.process_time() - clock)
        clock = time.process_time()
        with Image.open(io.BytesIO(data)) as image:
            image.convert("RGB").load()
        pillow.append(time.process_time() - clock)
    return min(ours), min(pillow)


def measure_start(data: bytes, scratch: Path) -> tuple[float, float]:
    """Return the seconds from the start of ``score`` to its first decoded photo, and those of ``--help``."""
    photos = scratch / "photos"
    photos.mkdir()
    (photos / "photo.jpg").write_bytes(data)
    (scratch / "sitecustomize.py").write_text(_SITE)
    decoded = scratch / "decoded"
    paths = os.pathsep.join(filter(None, (str(scratch), os.environ.get("PYTHONPATH"))))
    command = program("score", photos, "--out", scratch / "out", "--device", "cpu")
    started = time.time()
    watched = {**os.environ, "PYTHONPATH": paths, "FIRST_DECODED": str(decoded)}
    subprocess.run(command, capture_output=True, check=True, env=watched)
    first = min(map(float, decoded.read_text().split()))
    clock = time.perf_counter()
    subprocess.run(program("--help"), capture_output=True, check=True)
    return first - started, time.perf_counter() - clock


def main() -> None:
    """Read the arguments, measure, write and print."""
    import tempfile

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--photo", type=Path, default=EXAMPLE)
    parser.add_argument("--width", type=int, default=4000)
    parser.add_argument("--height", type=int, default=3000)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--out", type=Path, default=RESULTS / "megapixels.json")
    arguments = parser.parse_args()
    data = megapixel_photo(arguments.photo, (arguments.width, arguments.height))
    ours, pillow = measure_decode(data, arguments.repeats)
    with tempfile.TemporaryDirectory(prefix="stylematch-") as scratch:
        first_s, help_s = measure_start(data, Path(scratch))
    figures = {
        "decode_cpu_s": round(ours, 4),
        "pillow_cpu_s": round(pillow, 4),
        "decode_ratio": round(pillow / ours, 2),
        "first_decoded_s": round(first_s, 3),
        "help_s": round(help_s, 3),
    }
    table = [
        ("what", "measured", "wanted"),
        ("decode beside Pillow's full one", f"{pillow / ours:.1f} times", "8 times"),
        ("start to the first decoded photo", f"{first_s:.2f} s", "under 2 s"),
        ("`--help`", f"{help_s:.2f} s", "under 0.5 s"),
    ]
    report(figures, table, arguments.out)


if __name__ == "__main__":
    main()

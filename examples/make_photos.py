"""Make ``examples/photos`` from pictures that scikit-image and matplotlib carry (the dev extra brings both).

Run ``python examples/make_photos.py``. ``examples/photos.md`` records each picture's origin.
"""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import matplotlib
import skimage
from PIL import Image, ImageOps

OUT = Path(__file__).parent / "photos"
QUALITY = 85


def jpeg(image: Image.Image, **options: object) -> bytes:
    """Encode a picture as JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY, optimize=True, **options)
    return buffer.getvalue()


def sized(image: Image.Image, height_px: int) -> Image.Image:
    """Scale a picture to a height."""
    return image.resize((round(image.width * height_px / image.height), height_px), Image.Resampling.LANCZOS)


def group(portraits: list[Image.Image]) -> Image.Image:
    """Set pictures side by side on grey, their feet on one line."""
    picture = Image.new("RGB", (sum(p.width for p in portraits), max(p.height for p in portraits)), (96, 96, 96))
    left = 0
    for portrait in portraits:
        picture.paste(portrait, (left, picture.height - portrait.height))
        left += portrait.width
    return picture


def main() -> None:
    """Write all pictures anew."""
    science = Path(skimage.__file__).parent / "data"
    portraits = Path(matplotlib.get_data_path()) / "sample_data"
    astronaut = Image.open(science / "astronaut.png").convert("RGB")
    hopper = Image.open(portraits / "grace_hopper.jpg").convert("RGB")
    coffee = Image.open(science / "coffee.png").convert("RGB")
    rocket = Image.open(science / "rocket.jpg").convert("RGB")
    chelsea = Image.open(science / "chelsea.png").convert("RGB")

    sideways = Image.Exif()
    sideways[0x0112] = 6  # orientation: turn a quarter clockwise to look at it

    files = {
        "astronaut.jpg": jpeg(astronaut),
        "grace_hopper.jpg": jpeg(hopper),
        "coffee.jpg": jpeg(coffee),
        "rocket.jpg": jpeg(rocket),
        "group.jpg": jpeg(group([sized(astronaut, 420), sized(hopper, 480), sized(ImageOps.mirror(astronaut), 300)])),
        "grayscale.jpg": jpeg(hopper.convert("L")),
        "exif_rotated.jpg": jpeg(astronaut.transpose(Image.Transpose.ROTATE_90), exif=sideways),
        "truncated.jpg": jpeg(hopper)[:12_000],
        "notes.jpg": b"This is a text. Only its name says that it is a picture.\n",
        "more photos/hopper_mirrored.jpg": jpeg(ImageOps.mirror(sized(hopper, 400))),
    }
    buffer = io.BytesIO()
    chelsea.resize((300, 200), Image.Resampling.LANCZOS).save(buffer, "PNG", optimize=True)
    files["more photos/chelsea.png"] = buffer.getvalue()

    shutil.rmtree(OUT, ignore_errors=True)
    for name, data in files.items():
        path = OUT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


if __name__ == "__main__":
    main()

import io
import os
import random
import struct
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hostile import EXAMPLES, png_claiming
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from stylematch.data import decode
from stylematch.data.decode import DecodedPhoto, decode_photo, read_header
from stylematch.errors import PhotoRejectedError
from stylematch.tables.contract import Reason

PICTURES = Path(__file__).parent / "pictures"
ASTRONAUT = (EXAMPLES / "astronaut.jpg").read_bytes()
# Left red, right blue: 32 wide, 16 high.
PIXELS = np.zeros((16, 32, 3), np.uint8)
PIXELS[:, :16, 0] = 255
PIXELS[:, 16:, 2] = 255
HALVES = Image.fromarray(PIXELS)


def encoded(image, file_format, **options):
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def decoded(data, *, max_side_px=None, max_megapixels=100):
    return decode_photo(data, max_side_px=max_side_px, max_megapixels=max_megapixels)


def rejection(data, **options):
    with pytest.raises(PhotoRejectedError) as rejected:
        decoded(data, **options)
    assert rejected.value.message
    assert " at 0x" not in rejected.value.message
    assert rejected.value.message.isprintable()
    return rejected.value


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF"])
def test_every_format_gives_the_picture_and_its_header(file_format):
    data = encoded(HALVES, file_format, **({"quality": 100} if file_format in {"JPEG", "WEBP"} else {}))
    photo = decoded(data)
    header = read_header(data)
    assert (photo.width, photo.height, photo.format) == (32, 16, file_format)
    assert (header.width, header.height, header.format) == (32, 16, file_format)
    assert photo.pixels.shape == (16, 32, 3)
    assert photo.pixels.dtype == np.uint8
    inner = np.r_[0:14, 18:32]  # JPEG and WebP blur the border between the colours
    assert np.abs(photo.pixels[:, inner].astype(int) - PIXELS[:, inner]).max() <= 12


def test_heic_is_upright():
    data = (PICTURES / "astronaut_orientation6.heic").read_bytes()
    photo = decoded(data)
    assert (photo.format, photo.width, photo.height) == ("HEIF", 60, 80)
    with Image.open(EXAMPLES / "astronaut.jpg") as whole:
        expected = np.asarray(whole.crop((120, 0, 360, 320)).resize((60, 80)), int)
    assert np.abs(photo.pixels - expected).mean() < 10
    assert read_header(data).width == 60
    assert rejection(data[: len(data) // 2]).reason == Reason.TRUNCATED


def test_heic_without_its_extra_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pi_heif.as_plugin", None)  # makes its import fail
    error = rejection((PICTURES / "astronaut_orientation6.heic").read_bytes())
    assert error.reason == Reason.UNSUPPORTED_FORMAT
    assert "pip install 'stylematch[heic]'" in error.message
    assert error.image_format == "HEIF"


@pytest.mark.parametrize("value", [0x80, 0xA3, 0xFF])
@pytest.mark.parametrize("offset", range(4))
def test_an_item_type_that_is_no_text_does_not_end_the_process(offset, value):
    data = bytearray((PICTURES / "astronaut_orientation6.heic").read_bytes())
    data[data.index(b"Exif") + offset] = value
    assert rejection(bytes(data)).reason == Reason.CORRUPT


TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_turns_the_picture_upright(orientation, file_format):
    rng = np.random.default_rng(orientation)
    stored = np.repeat(np.repeat(rng.integers(0, 256, (3, 5, 3), dtype=np.uint8), 16, 0), 16, 1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95, "subsampling": 0} if file_format == "JPEG" else {}
    options |= {"lossless": True} if file_format == "WEBP" else {}
    data = encoded(Image.fromarray(stored), file_format, exif=exif, **options)
    photo = decoded(data)
    expected = TURNS[orientation](stored)
    assert (photo.width, photo.height) == expected.shape[1::-1]
    assert np.abs(photo.pixels.astype(int) - expected).max() <= 8
    header = read_header(data)
    assert (header.width, header.height) == (photo.width, photo.height)


def test_an_exif_chunk_behind_the_pixels_of_a_png_counts():
    exif = Image.Exif()
    exif[0x0112] = 6
    body = exif.tobytes()[6:]
    chunk = struct.pack(">I", len(body)) + b"eXIf" + body + struct.pack(">I", zlib.crc32(b"eXIf" + body))
    data = encoded(HALVES, "PNG")
    photo = decoded(data[:-12] + chunk + data[-12:])
    assert (photo.width, photo.height) == (16, 32)
    assert photo.pixels[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"\0" * 40])
def test_broken_exif_is_ignored(exif):
    photo = decoded(encoded(HALVES, "JPEG", exif=exif))
    assert (photo.width, photo.height) == (32, 16)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_impossible_orientations_are_ignored(value):
    exif = Image.Exif()
    exif[0x0112] = value
    assert decoded(encoded(HALVES, "JPEG", exif=exif)).width == 32


def wide(mode, values):
    dtype = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
    return Image.fromarray(np.array(values, dtype))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encoded(Image.new("1", (4, 4), 1), "PNG"), 255),
        (encoded(Image.new("L", (4, 4), 77), "PNG"), 77),
        (encoded(Image.new("LA", (4, 4), (0, 0)), "PNG"), 255),
        (encoded(Image.new("LA", (4, 4), (77, 255)), "PNG"), 77),
        (encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 0)), "PNG"), 255),
        (encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 128)), "PNG"), 127),
        (encoded(Image.new("P", (4, 4), 0), "PNG", transparency=0), 255),
        (encoded(Image.new("L", (4, 4), 9), "PNG", transparency=9), 255),
        (encoded(Image.new("RGB", (4, 4), (9, 9, 9)), "PNG", transparency=(9, 9, 9)), 255),
        (encoded(Image.new("P", (4, 4), 0), "GIF", transparency=0), 255),
        (encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 0)), "WEBP", lossless=True), 255),
        (encoded(Image.new("CMYK", (16, 16), (0, 0, 0, 0)), "JPEG"), 255),
        (encoded(Image.new("CMYK", (16, 16), (0, 0, 0, 255)), "JPEG"), 0),
        (encoded(Image.new("CMYK", (4, 4), (0, 0, 0, 255)), "TIFF"), 0),
        (encoded(Image.new("YCbCr", (16, 16), (200, 128, 128)), "JPEG"), 200),
        (encoded(Image.new("LAB", (4, 4), (255, 128, 128)), "TIFF"), 255),
        (encoded(wide("I;16", [[0x8080] * 4]), "PNG"), 128),
        (encoded(wide("I;16", [[65535] * 4]), "TIFF"), 255),
        (encoded(wide("I", [[65535] * 4]), "TIFF"), 255),
        (encoded(wide("I", [[200] * 4]), "TIFF"), 200),
        (encoded(wide("I", [[-5] * 4]), "TIFF"), 0),
        (encoded(wide("F", [[1.0] * 4]), "TIFF"), 255),
        (encoded(wide("F", [[200.0] * 4]), "TIFF"), 200),
        (encoded(wide("F", [[float("nan"), float("inf")] * 2]), "TIFF"), 0),
    ],
)
def test_every_mode_becomes_rgb(data, expected):
    pixels = decoded(data).pixels
    assert pixels.shape[2] == 3
    assert np.abs(pixels.astype(int) - expected).max() <= 1


def test_wide_values_are_stretched_in_order():
    pixels = decoded(encoded(wide("F", [[-10.0, 0.0, 10.0]]), "TIFF")).pixels
    assert pixels[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("file_format", ["GIF", "TIFF", "WEBP", "PNG"])
def test_of_several_frames_the_first_counts(file_format):
    frames = [Image.new("RGB", (8, 8), color) for color in ("white", "black", "red")]
    options = {"lossless": True} if file_format == "WEBP" else {}
    data = encoded(frames[0], file_format, save_all=True, append_images=frames[1:], **options)
    assert decoded(data).pixels.min() == 255


@pytest.mark.parametrize(
    ("size", "max_side_px", "expected_max"),
    [
        ((4000, 3000), 640, 1000),
        ((1280, 100), 640, 640),
        ((1279, 100), 640, 640),
        ((1278, 100), 640, 1278),
        ((640, 640), 640, 640),
        ((300, 200), 640, 300),
        ((8000, 5), 224, 250),
        ((5, 8000), 224, 250),
    ],
)
def test_large_jpegs_are_decoded_smaller_never_under_the_side_asked_for(size, max_side_px, expected_max):
    photo = decoded(encoded(Image.new("RGB", size, (200, 100, 50)), "JPEG"), max_side_px=max_side_px)
    assert (photo.width, photo.height) == size
    assert max(photo.pixels.shape[:2]) == expected_max
    assert np.abs(photo.pixels.astype(int) - (200, 100, 50)).max() <= 3


@settings(max_examples=60)
@given(
    st.integers(1, 700),
    st.integers(1, 700),
    st.integers(1, 300),
    st.sampled_from(["JPEG", "PNG", "BMP"]),
    st.sampled_from([1, 6]),
)
def test_the_size_promised_is_kept_for_every_shape(width, height, side, file_format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.new("RGB", (width, height)), file_format, **({} if file_format == "BMP" else {"exif": exif}))
    photo = decoded(data, max_side_px=side)
    turned = orientation == 6 and file_format != "BMP"
    assert (photo.width, photo.height) == ((height, width) if turned else (width, height))
    large = max(photo.pixels.shape[:2])
    assert min(side, max(width, height)) <= large < max(2 * side, 2)
    scale = large / max(width, height)
    assert abs(photo.pixels.shape[1] - photo.width * scale) <= 2
    assert abs(photo.pixels.shape[0] - photo.height * scale) <= 2


def test_a_drafted_photo_turned_by_exif_keeps_its_full_size():
    exif = Image.Exif()
    exif[0x0112] = 8
    photo = decoded(encoded(Image.new("RGB", (1001, 2003)), "JPEG", exif=exif), max_side_px=200)
    assert (photo.width, photo.height) == (2003, 1001)
    assert photo.pixels.shape[:2] == (126, 251)


def test_the_size_is_checked_before_decoding():
    error = rejection(png_claiming(60_000, 60_000))
    assert (error.reason, error.width, error.height, error.image_format) == (
        Reason.TOO_LARGE,
        60_000,
        60_000,
        "PNG",
    )
    assert "--max-megapixels" in error.sentence
    assert "--max-megapixels" not in error.message  # what not every command has
    # Over Pillow's own limits, under ours: the header is still read and no warning leaks.
    assert read_header(png_claiming(60_000, 60_000)).height == 60_000
    assert decoded(ASTRONAUT, max_megapixels=0.512**2).width == 512
    assert rejection(ASTRONAUT, max_megapixels=0.26).reason == Reason.TOO_LARGE


def test_a_text_chunk_bomb_is_rejected():
    info = PngImagePlugin.PngInfo()
    info.add_text("bomb", "A" * (2 << 20), zip=True)
    assert rejection(encoded(HALVES, "PNG", pnginfo=info)).reason == Reason.CORRUPT


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", Reason.EMPTY_FILE),
        (b"a text", Reason.NOT_A_PICTURE),
        (b"%PDF-1.7", Reason.NOT_A_PICTURE),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", Reason.NOT_A_PICTURE),
        (b"\0\0\0\x1cftypavif\0\0\0\0avif", Reason.UNSUPPORTED_FORMAT),
        (b"8BPS\0\1", Reason.UNSUPPORTED_FORMAT),
        (ASTRONAUT[:3], Reason.TRUNCATED),
        (ASTRONAUT[:300], Reason.TRUNCATED),
        (ASTRONAUT[:-3000], Reason.TRUNCATED),
        (ASTRONAUT[:2] + b"\xff\xc0" + ASTRONAUT[10:], Reason.CORRUPT),
    ],
)
def test_bad_data_have_a_reason(data, reason):
    assert rejection(data).reason == reason


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP"])
def test_half_a_picture_is_truncated(file_format):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), file_format)
    error = rejection(data[: len(data) // 2])
    if file_format == "TIFF":  # its directory of contents stands at the end and is simply gone
        assert error.reason in {Reason.TRUNCATED, Reason.CORRUPT}
    else:
        assert error.reason == Reason.TRUNCATED
    assert error.image_format == file_format


def test_damaged_pixels_of_a_png_are_corrupt():
    data = bytearray(
        encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)), "PNG")
    )
    data[len(data) // 2] ^= 0xFF
    error = rejection(bytes(data))
    assert (error.reason, error.width, error.height) == (Reason.CORRUPT, 64, 64)


def _seeds():
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (24, 40, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    for file_format in ("JPEG", "PNG", "GIF", "TIFF", "BMP", "DIB", "WEBP"):
        options = {"exif": exif} if file_format in {"JPEG", "PNG", "TIFF", "WEBP"} else {}
        yield encoded(noise, file_format, **options)
    yield encoded(noise.convert("P"), "PNG", transparency=3)
    yield encoded(noise, "JPEG", progressive=True)
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "jpeg"):
        yield encoded(noise, "TIFF", compression=compression)
    yield encoded(noise, "MPO", save_all=True, append_images=[noise])
    yield (PICTURES / "astronaut_orientation6.heic").read_bytes()


SEEDS = list(_seeds())


@pytest.mark.parametrize("seed", range(len(SEEDS)))
def test_damage_of_any_kind_ends_in_a_picture_or_a_rejection(seed, capfd):
    draw = random.Random(seed)
    outcomes = set()
    for _ in range(60):
        data = bytearray(SEEDS[seed])
        for _ in range(draw.choice((1, 3, 30))):
            # The header is where damage has the most ways to hurt.
            data[draw.randrange(draw.choice((min(200, len(data)), len(data))))] = draw.choice(
                (0, 1, 127, 255, draw.randrange(256))
            )
        if draw.random() < 0.3:
            del data[draw.randrange(1, len(data)) :]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                photo = decoded(bytes(data), max_side_px=20, max_megapixels=1)
            except PhotoRejectedError as error:
                outcomes.add(Reason(error.reason))
            else:
                assert photo.pixels.ndim == 3
                outcomes.add(Reason.OK)
    assert len(outcomes) > 1
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_a_tiff_with_tags_that_pillow_complains_about_is_quiet(capfd):
    data = encoded(HALVES, "TIFF")
    # 277 is the samples per pixel
    data = data.replace(struct.pack("<HHIHH", 277, 3, 1, 3, 0), struct.pack("<HHIHH", 277, 3, 1, 3000, 0))
    assert rejection(data).reason == Reason.CORRUPT
    assert capfd.readouterr().err == ""


@settings(max_examples=100)
@given(st.binary(max_size=400))
def test_random_bytes_are_no_picture(data):
    with pytest.raises(PhotoRejectedError):
        decoded(data)


def test_no_memory_is_a_rejection(tmp_path):
    (tmp_path / "large.png").write_bytes(png_claiming(60_000, 30_000))
    code = """
import resource, sys
from stylematch.data.decode import decode_photo
from stylematch.errors import PhotoRejectedError
data = open(sys.argv[1], "rb").read()
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
try:
    decode_photo(data, max_side_px=None, max_megapixels=1e9)
except PhotoRejectedError as error:
    print(error.reason, error.width, error.height, error.message)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "large.png")], capture_output=True, text=True, check=True
    )
    assert done.stdout == "out_of_memory 60000 30000 decoding this PNG picture needs more memory than there was\n"
    assert done.stderr == ""


def test_messages_and_pixels_are_the_same_each_time():
    data = (EXAMPLES / "truncated.jpg").read_bytes()
    assert rejection(data).message == rejection(data).message
    assert np.array_equal(decoded(ASTRONAUT, max_side_px=200).pixels, decoded(ASTRONAUT, max_side_px=200).pixels)


def test_pillows_own_limits_are_left_alone():
    before = Image.MAX_IMAGE_PIXELS
    decoded(ASTRONAUT)
    assert Image.MAX_IMAGE_PIXELS == before is not None


def test_threads_that_decode_tiff_leave_standard_error_where_it_was():
    data = encoded(Image.effect_noise((200, 200), 50).convert("RGB"), "TIFF", compression="tiff_lzw")
    before, interval = os.fstat(2), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: decoded(data), range(200)))
    finally:
        sys.setswitchinterval(interval)
    assert os.path.samestat(os.fstat(2), before)


@pytest.mark.parametrize("max_side_px", [None, 100, 60])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_flawless_jpeg_has_the_pixels_that_pillow_gives_it(orientation, max_side_px, monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.open(io.BytesIO(ASTRONAUT)).convert("RGB").resize((333, 211))
    data = encoded(picture, "JPEG", exif=exif)
    fast = decoded(data, max_side_px=max_side_px)
    assert fast.pixels.base.shape[2] == 4  # not Pillow's
    monkeypatch.setattr(decode, "_decode_jpeg", lambda *_: None)
    slow = decoded(data, max_side_px=max_side_px)
    np.testing.assert_array_equal(fast.pixels, slow.pixels)
    assert (fast.width, fast.height) == (slow.width, slow.height)
    np.testing.assert_array_equal(np.asarray(fast.image)[..., :3], fast.pixels)
    assert max(fast.preview.size) == min(256, max(fast.pixels.shape))


@given(st.integers(1, 1300), st.integers(1, 1300), st.sampled_from([3, 4]), st.sampled_from([64, 150, 192, 640]))
@example(1, 1300, 3, 192)
@example(1300, 1, 4, 192)
@example(1025, 770, 4, 192)
@settings(deadline=None, max_examples=60)
def test_a_picture_seen_smaller_keeps_everything_in_its_place(width, height, channels, side_px):
    """Right of 70 % it is red, below 60 % green: where that begins can be measured to a part of a pixel."""
    wide, high = round(0.7 * width), round(0.6 * height)
    pixels = np.zeros((height, width, channels), np.uint8)
    pixels[:, wide:, 0] = 255
    pixels[high:, :, 1] = 255
    photo = DecodedPhoto(pixels[..., :3], width, height, "JPEG")
    large = max(width, height)
    assert photo.preview.size == (width, height) if large <= 256 else 192 <= max(photo.preview.size) <= 256
    factor = min(1.0, side_px / large)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    seen = photo.seen_at(size)
    assert (seen.mode, seen.size) == ("RGB", size)
    assume(min(size) >= 16)  # a filter of few pixels weighs the middle ones more
    shares = np.asarray(seen, np.float64).mean(axis=(0, 1)) / 255
    assert abs(shares[0] - (width - wide) / width) < 0.002 + 0.04 / size[0]
    assert abs(shares[1] - (height - high) / height) < 0.002 + 0.04 / size[1]

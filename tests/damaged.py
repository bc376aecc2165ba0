"""Thousands of damaged pictures made from real ones, beside everything else that a directory may hold.

``make_damaged(root, count)`` writes files that are functions of their number alone, so that a file which breaks
something can be made again. Every entry is either a row of ``photos`` or counted; ``entries_of`` says which entries
there are without asking our own listing.
"""

import contextlib
import io
import os
import random
import shutil
import socket
import stat
import struct
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from hostile import EXAMPLES, png_claiming
from PIL import Image

from stylematch.tables.contract import Reason

PICTURES = Path(__file__).parent / "pictures"
EXTENSIONS = ("jpg", "jpeg", "JPG", "png", "webp", "bmp", "gif", "tif", "tiff", "heic", "jfif", "txt", "dat")
ODD_NAMES = (
    *("new\nline", "tab\t", "carriage\r", "\x1b[31mred", "<b>&amp;", "quote'", 'double"', "back\\slash", "%2e%2e%2f"),
    *("file-bytes:", "-rf", "--out", "$(reboot)", "`id`", "*", "?", " leading", "trailing ", "..hidden", "{0}", "%s"),
    *("\u202egpj", "e\u0301", "\u00e9", "图片", "🙂", "CON", "a" * 200, "#", ";", "|", "\x7f"),
)

FAULTS = {
    "03.jpg": (b"HANGS", Reason.TIMED_OUT, "reading it took longer than 3 s: raise --photo-timeout-s to wait"),
    "07.jpg": (b"SEGFAULTS", Reason.CRASHED, "reading it ended two worker processes; the last was killed by signal 11"),
    "11\n\udcff.jpg": (b"KILLED", Reason.CRASHED, "signal 9 (often the system's answer to memory running out"),
    "15.jpg": (b"RAISES", Reason.CRASHED, "RuntimeError: a fault of ours"),
}
"""By name: last bytes with which a file hangs or crashes its reader, where ``faults`` is on PYTHONPATH, and its row."""


def _encoded(image: Image.Image, file_format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


@cache
def kinds() -> dict[str, bytes]:
    """Real pictures in every way that they come in, by a name."""
    made: dict[str, bytes] = {}
    small = {}
    for name in ("astronaut.jpg", "coffee.jpg", "grace_hopper.jpg"):
        with Image.open(EXAMPLES / name) as photo:
            small[name] = photo.convert("RGB")
            small[name].thumbnail((256, 256))
        made[name] = (EXAMPLES / name).read_bytes()
    face = small["astronaut.jpg"]
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "x" * 300
    wide = Image.fromarray(np.asarray(face.convert("L")).astype(np.uint16) * 257)

    def frames() -> list[Image.Image]:  # new ones each time: saving leaves traces in an image
        return [small["coffee.jpg"].resize(face.size), face.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]

    rgba = face.copy()
    rgba.putalpha(face.convert("L"))
    palette = face.quantize(32)
    made |= {
        "baseline": _encoded(face, "JPEG", quality=90),
        "progressive": _encoded(face, "JPEG", progressive=True),
        "cmyk": _encoded(face.convert("CMYK"), "JPEG"),
        "grey jpeg": _encoded(face.convert("L"), "JPEG"),
        "turned": _encoded(face, "JPEG", exif=exif),
        "mpo": _encoded(face, "MPO", save_all=True, append_images=frames()),
        "png": _encoded(face, "PNG", exif=exif),
        "png 16 bit": _encoded(wide, "PNG"),
        "png palette": _encoded(palette, "PNG", transparency=3),
        "png alpha": _encoded(rgba, "PNG"),
        "png grey alpha": _encoded(rgba.convert("LA"), "PNG"),
        "png 1 bit": _encoded(face.convert("1"), "PNG"),
        "apng": _encoded(face, "PNG", save_all=True, append_images=frames()),
        "gif": _encoded(palette, "GIF"),
        "animated gif": _encoded(
            palette, "GIF", save_all=True, append_images=[f.quantize(16) for f in frames()], loop=0
        ),
        "webp": _encoded(face, "WEBP", exif=exif),
        "lossless webp": _encoded(rgba, "WEBP", lossless=True),
        "animated webp": _encoded(face, "WEBP", save_all=True, append_images=frames()),
        "bmp": _encoded(face, "BMP"),
        "bmp palette": _encoded(palette, "BMP"),
        "dib": _encoded(face, "DIB"),
        "tiff": _encoded(face, "TIFF", exif=exif),
        "tiff pages": _encoded(face.copy(), "TIFF", save_all=True, append_images=frames()),
        "tiff lzw": _encoded(face, "TIFF", compression="tiff_lzw"),
        "tiff deflate": _encoded(rgba, "TIFF", compression="tiff_adobe_deflate"),
        "tiff jpeg": _encoded(face, "TIFF", compression="jpeg"),
        "tiff 16 bit": _encoded(wide, "TIFF"),
        "tiff cmyk": _encoded(face.convert("CMYK"), "TIFF"),
        "tiff float": _encoded(face.convert("F"), "TIFF"),
        "heic": (PICTURES / "astronaut_orientation6.heic").read_bytes(),
    }
    return made


# What is done to a picture's bytes


def _as_it_is(data: bytes, draw: random.Random) -> bytes:
    return data + b"%d" % draw.randrange(10**9)


def _cut(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.choice((draw.randrange(64), draw.randrange(len(data))))]


def _flipped(data: bytes, draw: random.Random) -> bytes:
    hurt = bytearray(data)
    reach = draw.choice((32, 200, 2000, len(hurt)))
    for _ in range(draw.choice((1, 3, 30, 300))):
        hurt[draw.randrange(min(reach, len(hurt)))] = draw.choice((0, 1, 127, 128, 255, draw.randrange(256)))
    return bytes(hurt)


def _bits(data: bytes, draw: random.Random) -> bytes:
    hurt = bytearray(data)
    for _ in range(draw.choice((1, 8, 64))):
        hurt[draw.randrange(len(hurt))] ^= 1 << draw.randrange(8)
    return bytes(hurt)


def _overwritten(data: bytes, draw: random.Random) -> bytes:
    at, length = draw.randrange(len(data)), draw.choice((4, 64, 4096))
    filler = draw.choice((bytes(length), b"\xff" * length, draw.randbytes(length)))
    return data[:at] + filler + data[at + length :]


def _inserted(data: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(data))
    return data[:at] + draw.randbytes(draw.choice((1, 7, 500))) + data[at:]


def _removed(data: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(data))
    return data[:at] + data[at + draw.choice((1, 16, 1000)) :]


def _shuffled(data: bytes, draw: random.Random) -> bytes:
    pieces = [data[at : at + 512] for at in range(64, len(data), 512)]
    draw.shuffle(pieces)
    return data[:64] + b"".join(pieces)


def _spliced(data: bytes, draw: random.Random) -> bytes:
    other = draw.choice(list(kinds().values()))
    return data[: draw.randrange(len(data))] + other[draw.randrange(len(other)) :]


DAMAGES = (_as_it_is, _cut, _cut, _flipped, _flipped, _bits, _overwritten, _inserted, _removed, _shuffled, _spliced)


# Files that are built to hurt


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _with_chunk(kind: bytes, content: bytes) -> bytes:
    png = kinds()["png"]
    return png[:33] + _chunk(kind, content) + png[33:]


def _with_segments(marker: int, contents: list[bytes]) -> bytes:
    jpeg = kinds()["baseline"]
    segments = b"".join(struct.pack(">BBH", 255, marker, len(content) + 2) + content for content in contents)
    return jpeg[:2] + segments + jpeg[2:]


def _sized(name: str, width: int, height: int) -> bytes:
    """Return a real picture whose header claims another size."""
    data = bytearray(kinds()[name])
    if name in ("baseline", "progressive"):
        at = data.index(b"\xff\xc0" if name == "baseline" else b"\xff\xc2")
        struct.pack_into(">HH", data, at + 5, height % 65536, width % 65536)
    elif name == "png":
        struct.pack_into(">II", data, 16, width, height)
        struct.pack_into(">I", data, 29, zlib.crc32(data[12:29]))
    elif name == "gif":
        struct.pack_into("<HH", data, 6, width % 65536, height % 65536)
    elif name == "bmp":
        struct.pack_into("<ii", data, 18, width, -height)
    return bytes(data)


@cache
def _zeros(count_bytes: int) -> bytes:
    """Zeros, compressed a thousand times smaller."""
    packer, block = zlib.compressobj(9), bytes(1 << 20)
    packed = [packer.compress(block) for _ in range(count_bytes >> 20)]
    return b"".join([*packed, packer.flush()])


def _tiff_loop(draw: random.Random) -> bytes:
    """A TIFF header as EXIF holds it, whose directory names itself as the next and as its sub-directory."""
    entries = [(0x8769, 4, 1, 8), (0x0112, 3, draw.choice((1, 10**9)), 6), (0x8825, 4, 1, 8), (0x014A, 4, 1, 8)]
    body = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", 8) + body + struct.pack("<I", 8)


def _bomb(draw: random.Random) -> bytes:
    zeros = _zeros(draw.choice((1 << 20, 64 << 20)))
    large = draw.choice((3_000, 14_000, 20_000, 65_535, 2**31 - 1))
    many_tags = struct.pack("<HHII", 0x010E, 2, 2**31 - 1, 8) * 3000
    return draw.choice(
        (
            lambda: _with_chunk(b"zTXt", b"Comment\0\0" + zeros),
            lambda: _with_chunk(b"iTXt", b"Comment\0\x01\0\0\0" + zeros),
            lambda: _with_chunk(b"iCCP", b"profile\0\0" + zeros),
            lambda: _with_chunk(b"eXIf", _tiff_loop(draw)),
            lambda: _with_chunk(b"tEXt", b"Comment\0" + b"x" * 500_000),
            lambda: kinds()["png"][:33] + _chunk(b"IDAT", zeros) * 3 + _chunk(b"IEND", b""),
            lambda: png_claiming(large, draw.choice((1, 60, large))),
            lambda: _with_segments(0xE1, [b"Exif\0\0" + _tiff_loop(draw)]),
            lambda: _with_segments(0xE1, [b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 3000) + many_tags]),
            lambda: _with_segments(0xE1, [b"Exif\0\0" + draw.randbytes(60_000)] * 20),
            lambda: _with_segments(0xE2, [b"ICC_PROFILE\0\x01\xff" + draw.randbytes(60_000)] * 20),
            lambda: _with_segments(0xFE, [b"x" * 65_000] * 50),
            lambda: _sized("baseline", draw.choice((0, 1, large)), draw.choice((0, 1, large))),
            lambda: _sized("progressive", 8_000, 8_000),
            lambda: _sized("gif", large, large),
            lambda: _sized("bmp", draw.choice((0, -1, large)), large),
            lambda: _sized("png", draw.choice((0, 1, 2**31 - 1)), large),
            lambda: _tiff_loop(draw),
        )
    )()


def _no_picture(draw: random.Random) -> bytes:
    heads = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0", b"MM\0*", b"RIFF\0\0\0\0WEBP", b"")
    return draw.choice(
        (
            b"",
            draw.choice(heads),
            draw.choice(heads) + draw.randbytes(draw.choice((10, 1000, 20_000))),
            b"\0\0\0\x18ftypheic" + draw.randbytes(200),
            b"\0\0\0\x18ftypavif" + draw.randbytes(200),
            b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
            b"<html><script>alert(1)</script>",
            b"%PDF-1.7\n" + draw.randbytes(100),
            b"PK\x03\x04" + draw.randbytes(100),
            b"\0" * draw.choice((1, 1000)),
            b"no picture at all\n" * draw.randrange(1, 50),
        )
    )


def _content(number: int) -> tuple[bytes, bool]:
    """Return a file's bytes, and whether it may have any name, so that listing it has to look inside."""
    draw = random.Random(number)
    roll = draw.random()
    if roll < 0.04:
        return _bomb(draw), False
    if roll < 0.10:
        return _no_picture(draw), draw.random() < 0.3
    name = draw.choice(list(kinds()))
    data = draw.choice(DAMAGES)(kinds()[name], draw)
    if draw.random() < 0.2 and data:
        data = draw.choice(DAMAGES)(data, draw)
    return data, draw.random() < 0.2


def _name(number: int, anything: bool) -> bytes:
    draw = random.Random(-number)
    extension = draw.choice(EXTENSIONS if anything else EXTENSIONS[:-2])
    stem = f"{number:05d}"
    if draw.random() < 0.1:
        stem += draw.choice(ODD_NAMES)
    name = os.fsencode(stem)
    if draw.random() < 0.05:  # not UTF-8
        name += bytes(draw.randrange(128, 256) for _ in range(3))
    return name if anything and draw.random() < 0.3 else name + b"." + extension.encode()


def make_damaged(root: Path, count: int) -> None:
    """Write ``count`` damaged pictures below ``root``, 500 a folder, and one of everything else that is no file."""
    for number in range(count):
        folder = root / (f"{number // 500:03d}" + ("" if number % 1000 < 500 else "/deep\n/er \udcff"))
        folder.mkdir(parents=True, exist_ok=True)
        data, anything = _content(number)
        (Path(os.fsdecode(os.fsencode(folder) + b"/" + _name(number, anything)))).write_bytes(data)
    make_odd_entries(root / "odd")


def make_odd_entries(root: Path) -> None:
    """Write what is no regular file, and files that nobody could read whole."""
    root.mkdir()
    (root / "real.jpg").write_bytes(kinds()["baseline"])
    os.mkfifo(root / "fifo.jpg")
    os.mkfifo(root / "fifo")
    (root / "link.jpg").symlink_to("real.jpg")
    (root / "link to a fifo.jpg").symlink_to("fifo.jpg")
    (root / "dangling.jpg").symlink_to("nowhere.jpg")
    (root / "itself.jpg").symlink_to("itself.jpg")
    (root / "one.jpg").symlink_to("other.jpg")
    (root / "other.jpg").symlink_to("one.jpg")
    (root / "passwords.jpg").symlink_to("/etc/passwd")
    (root / "endless.jpg").symlink_to("/dev/zero")
    (root / "up").symlink_to("..", target_is_directory=True)
    (root / "everything").symlink_to("/", target_is_directory=True)
    (root / "folder.jpg").mkdir()
    with (root / "a terabyte.jpg").open("wb") as sparse:
        sparse.write(kinds()["baseline"])
        with contextlib.suppress(OSError):  # a file system that has no sparse files of that size
            sparse.truncate(1 << 40)
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as server:  # a path may be too long for one
        server.bind(str(root / "socket.jpg"))
    with contextlib.suppress(PermissionError):  # only root may
        os.mknod(root / "null.jpg", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        os.mknod(root / "zero.jpg", stat.S_IFCHR | 0o600, os.makedev(1, 5))
        os.mknod(root / "disk.jpg", stat.S_IFBLK | 0o600, os.makedev(7, 250))
    locked = root / "locked"
    locked.mkdir()
    (locked / "unseen.jpg").write_bytes(kinds()["baseline"])
    locked.chmod(0)


def remove_damaged(root: Path) -> None:
    """Remove what ``make_damaged`` wrote."""
    (root / "odd" / "locked").chmod(0o700)
    shutil.rmtree(root)


def entries_of(root: Path) -> Iterator[tuple[bytes, os.stat_result]]:
    """Yield all but directories below ``root``, relative, with ``lstat``'s answer: what a run has to account for.

    A directory that cannot be listed is one entry, and a link to a directory too.
    """
    unreadable: list[OSError] = []
    base = os.fsencode(root)
    for folder, names, files in os.walk(base, onerror=unreadable.append):
        for name in (*files, *names):
            path = folder + b"/" + name
            status = os.lstat(path)
            if not stat.S_ISDIR(status.st_mode):
                yield path[len(base) + 1 :], status
    for error in unreadable:
        yield error.filename[len(base) + 1 :], os.lstat(error.filename)


def flip(file: Path, column: str, back: int = 3) -> None:
    """Change a byte of a column's last values; the file's footer, and each page's header, stay whole."""
    chunks = pq.read_metadata(file).row_group(0)
    chunk = next(c for c in map(chunks.column, range(chunks.num_columns)) if c.path_in_schema.startswith(column))
    with file.open("r+b") as stream:
        begin = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
        stream.seek(begin + chunk.total_compressed_size - back)
        byte = stream.read(1)
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([byte[0] ^ 0x55]))

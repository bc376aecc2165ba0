"""A directory of everything that a folder of photos should not hold, and what has to become of it."""

import os
import struct
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from stylematch.data.directories import Ignored
from stylematch.data.photo_file import escape_path
from stylematch.tables.contract import Reason

EXAMPLES = Path(__file__).resolve().parents[1] / "examples" / "photos"


@dataclass
class HostileDirectory:
    """What ``make_hostile_directory`` built.

    Attributes
    ----------
    root : Path
    reasons : dict
        The reason code of every row that ``photos`` must have, by path as in the table.
    ignored : Counter
        What must only be counted, by a value of ``Ignored``, when links are not followed.
    """

    root: Path
    reasons: dict[str, str] = field(default_factory=dict)
    ignored: Counter = field(default_factory=Counter)

    def add(self, raw_path: bytes, data: bytes, reason: Reason) -> Path:
        path = self.root / os.fsdecode(raw_path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self.reasons[escape_path(raw_path)] = str(reason)
        return path


def png_claiming(width: int, height: int) -> bytes:
    """Return a small PNG whose header claims a size that its data do not have."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )


def make_hostile_directory(root: Path) -> HostileDirectory:
    """Build the directory at ``root``, which must not exist or be empty."""
    root.mkdir(parents=True, exist_ok=True)
    made = HostileDirectory(root)
    face = (EXAMPLES / "astronaut.jpg").read_bytes()
    faceless = (EXAMPLES / "coffee.jpg").read_bytes()

    made.add(b"plain.jpg", face, Reason.OK)
    made.add(b"same contents.JPG", face, Reason.OK)
    made.add(b"coffee.jpeg", faceless, Reason.NO_FACE_FOUND)
    made.add(b"empty.jpg", b"", Reason.EMPTY_FILE)
    made.add(b"truncated.jpg", face[: len(face) // 2], Reason.TRUNCATED)
    made.add(b"text.jpg", b"no picture at all\n", Reason.NOT_A_PICTURE)
    made.add(b"jpeg.txt", face, Reason.OK)
    made.add(b"no_extension", face, Reason.OK)
    made.add(b"bomb.png", png_claiming(60_000, 60_000), Reason.TOO_LARGE)
    made.add(b"damaged.png", png_claiming(50, 50).replace(b"IDAT", b"IDaT"), Reason.CORRUPT)
    made.add(b"quotes ' and \".jpg", face, Reason.OK)
    made.add(b"<script>alert(1)<&script>.jpg", face, Reason.OK)
    made.add(b"new\nline\r and \x1b[31m.jpg", face, Reason.OK)
    made.add(b"caf\xe9.jpg", face, Reason.OK)
    made.add(b"not utf-8 \xff\xfe/inside.jpg", faceless, Reason.NO_FACE_FOUND)
    made.add(b"deep/er/and/deeper/still.jpg", face, Reason.OK)
    made.add(b"deep.jpg", faceless, Reason.NO_FACE_FOUND)
    made.add("ünïcödé 图片.jpg".encode(), faceless, Reason.NO_FACE_FOUND)

    locked = made.add(b"locked.jpg", face, Reason.OK if os.geteuid() == 0 else Reason.UNREADABLE_FILE)
    locked.chmod(0)

    (root / "notes.txt").write_text("only counted\n")
    (root / "no_bytes").write_bytes(b"")
    (root / "link.jpg").symlink_to("plain.jpg")
    (root / "dangling.jpg").symlink_to("nowhere.jpg")
    (root / "itself.jpg").symlink_to("itself.jpg")
    (root / "deep" / "back").symlink_to("..", target_is_directory=True)
    os.mkfifo(root / "fifo.jpg")
    made.ignored.update({Ignored.NOT_A_PICTURE: 2, Ignored.LINK: 2, Ignored.DANGLING_LINK: 2, Ignored.FIFO: 1})
    return made

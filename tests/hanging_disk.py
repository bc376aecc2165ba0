"""A file system some of whose files never answer: ``python hanging_disk.py FOLDER COMMAND...`` in a mount namespace.

What lies in FOLDER is hidden by a read-only FUSE file system that shows the same files (no folders); COMMAND runs over
it, and its exit code is passed on. By its first bytes, a file HANGS when it is read, HANGS OPEN when it is opened,
HANGS LATER when it is read for the second time, and one that is ENDLESS goes on for ever, whatever its size. One that
is a FOLDER is shown as an empty one, which HANGS when it is listed, or whose status nobody gets where it HANGS AT ONCE.
The kernel's protocol is that of ``linux/fuse.h``.
"""

import ctypes
import errno
import os
import struct
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

LOOKUP, FORGET, GETATTR, OPEN, READ, STATFS, RELEASE, FLUSH, INIT = 1, 2, 3, 14, 15, 17, 18, 25, 26
OPENDIR, READDIR, RELEASEDIR, INTERRUPT, BATCH_FORGET = 27, 28, 29, 36, 42
DIRECT_IO = 1
ENTRY = struct.Struct("<QQQQII")
HEADER, ANSWER = struct.Struct("<IIQQIIII"), struct.Struct("<IiQ")
ROOT = 1


class Disk:
    """The files of a folder, served from memory."""

    def __init__(self, folder: Path) -> None:
        self.files = {os.fsencode(path.name): path.read_bytes() for path in sorted(folder.iterdir())}
        self.names = list(self.files)
        self.reads = Counter[int]()
        self.device = os.open("/dev/fuse", os.O_RDWR)
        libc = ctypes.CDLL(None, use_errno=True)
        options = b"fd=%d,rootmode=40000,user_id=%d,group_id=%d" % (self.device, os.getuid(), os.getgid())
        if libc.mount(b"hanging", os.fsencode(folder), b"fuse", 1, options):  # 1: read-only
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    def serve(self) -> None:
        while True:
            try:
                request = os.read(self.device, 1 << 20)
            except OSError:
                return
            _, operation, unique, node, *_ = HEADER.unpack_from(request)
            answer = self.answer(operation, node, request[HEADER.size :])
            if answer is not None:
                error, data = (-answer, b"") if isinstance(answer, int) else (0, answer)
                os.write(self.device, ANSWER.pack(ANSWER.size + len(data), error, unique) + data)

    def answer(self, operation: int, node: int, body: bytes) -> bytes | int | None:
        """Return the data, an error's number, or None for no answer."""
        if operation in (FORGET, BATCH_FORGET, INTERRUPT):
            return None
        if operation == INIT:
            return struct.pack("<IIIIHHIIHHI7I", 7, 31, 0, 0, 12, 10, 1 << 17, 1, 32, 0, 0, *[0] * 7)
        if operation == LOOKUP:
            name = body.rstrip(b"\0")
            if name not in self.files:
                return errno.ENOENT
            found = self.names.index(name) + ROOT + 1
            if self.content(found) == b"FOLDER HANGS AT ONCE":
                return None
            return ENTRY.pack(found, 0, 60, 60, 0, 0) + self.attributes(found)
        if operation == GETATTR:
            return struct.pack("<QII", 60, 0, 0) + self.attributes(node)
        if operation == READDIR and node > ROOT:
            return None if self.content(node) == b"FOLDER HANGS" else b""
        if operation == READDIR:
            return self.listed(*struct.unpack_from("<QQI", body)[1:])
        if operation in (OPEN, OPENDIR):
            data = self.content(node)
            if data.startswith(b"HANGS OPEN"):
                return None
            return struct.pack("<QII", 0, DIRECT_IO if data.startswith(b"ENDLESS") else 0, 0)
        if operation == READ:
            _, offset, size = struct.unpack_from("<QQI", body)
            data = self.content(node)
            self.reads[node] += offset == 0
            if data.startswith(b"HANGS") and not (data.startswith(b"HANGS LATER") and self.reads[node] == 1):
                return None
            return b"x" * size if data.startswith(b"ENDLESS") and offset else data[offset : offset + size]
        if operation == STATFS:
            return bytes(80)
        return b"" if operation in (RELEASE, RELEASEDIR, FLUSH) else errno.ENOSYS

    def content(self, node: int) -> bytes:
        return self.files[self.names[node - ROOT - 1]] if node > ROOT else b""

    def attributes(self, node: int) -> bytes:
        is_folder = node == ROOT or self.content(node).startswith(b"FOLDER")
        mode, size = (0o40755, 0) if is_folder else (0o100644, len(self.content(node)))
        return struct.pack("<6Q3I6I", node, size, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096) + bytes(4)

    def listed(self, offset: int, size: int) -> bytes:
        listing = b""
        for place, name in list(enumerate(self.names, start=1))[offset:]:
            entry = struct.pack("<QQII", place + ROOT, place, len(name), 0) + name  # 0: one is to ask what it is
            entry += bytes(-len(entry) % 8)
            if len(listing) + len(entry) > size:
                break
            listing += entry
        return listing


def main() -> int:
    disk = Disk(Path(sys.argv[1]))
    threading.Thread(target=disk.serve, daemon=True).start()
    return subprocess.run(sys.argv[2:]).returncode


if __name__ == "__main__":
    sys.exit(main())

"""On ``PYTHONPATH`` this makes reading a photo hang or crash the process, by the file's last bytes.

Python imports a module of this name when it starts, in every worker too. What it stands for are a decoder's endless
loop, its wild pointer, and the system's answer to memory running out.
"""

import ctypes
import os
import signal
import time

from stylematch.data import photo_file

_read_photo = photo_file.read_photo


def _faulty(root, raw_path, max_bytes, **options):
    data = _read_photo(root, raw_path, max_bytes, **options)
    if data.endswith(b"HANGS"):
        time.sleep(3600)
    if data.endswith(b"SEGFAULTS"):
        ctypes.string_at(0)
    if data.endswith(b"KILLED"):
        os.kill(os.getpid(), signal.SIGKILL)
    if data.endswith(b"RAISES"):
        raise RuntimeError("a fault of ours")
    return data


photo_file.read_photo = _faulty

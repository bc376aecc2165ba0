"""Faces in batches are the same from threads and from processes, in batches of any size, and a dead reader is told."""

import multiprocessing
import os
import signal

import numpy as np
import pytest
from hostile import EXAMPLES

from stylematch.data.photo_file import photo_id_of
from stylematch.errors import StylematchError
from stylematch.pipelines import face_batches as module
from stylematch.pipelines.face_batches import face_batches
from stylematch.pipelines.face_pieces import Reading

NAMES = ["astronaut.jpg", "group.jpg", "grace_hopper.jpg", "none.png", "torn.jpg", "missing.jpg"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    for name in NAMES[:3]:
        (root / name).write_bytes((EXAMPLES / name).read_bytes())
    (root / "none.png").write_bytes((EXAMPLES / "more photos" / "chelsea.png").read_bytes())
    (root / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 torn")
    return root


def reading(root, mode="find"):
    return Reading(root, mode, 64, 24, max_bytes=10_000_000, max_megapixels=100, with_ids=True)


def read(root, names, *, batch_size, mode="find", on_gpu=False):
    """Return everything that the batches hold, as one."""
    batches = face_batches(
        [os.fsencode(name) for name in names], reading(root, mode), batch_size=batch_size, workers=2, on_gpu=on_gpu
    )
    parts = [
        (batch.pictures, batch.crops.copy(), batch.owners, batch.faces, batch.photo_ids, batch.problems)
        for batch in batches
    ]
    return (
        sum(part[0] for part in parts),
        *(np.concatenate([part[place] for part in parts]) for place in (1, 2, 3)),
        *([entry for part in parts for entry in part[place]] for place in (4, 5)),
    )


def assert_equal(found, expected):
    for left, right in zip(found, expected, strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.fixture(scope="module")
def whole(folder):
    return read(folder, NAMES * 20, batch_size=1000)


def test_every_picture_has_its_faces_or_a_reason(folder, whole):
    pictures, crops, owners, faces, photo_ids, problems = whole
    assert pictures == 120
    assert len(crops) == len(owners) == len(faces) == len(photo_ids)
    assert sorted({*owners.tolist(), *(number for number, _, _ in problems)}) == list(range(120))
    # A group, two portraits; a cat, a torn file and a name without a file.
    assert set(owners % 6) == {0, 1, 2}
    assert {number % 6: reason for number, reason, _ in problems} == {
        3: "no_face_found",
        4: "truncated",
        5: "unreadable_file",
    }
    for number in (0, 1, 2):
        count = int((owners == number).sum())
        np.testing.assert_array_equal(faces[owners == number], np.arange(count))
        assert photo_ids[owners.tolist().index(number)] == photo_id_of((folder / NAMES[number]).read_bytes())
    assert (owners == 1).sum() > 1, "the group has several faces"


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_batches_change_nothing(folder, whole, batch_size):
    assert_equal(read(folder, NAMES * 20, batch_size=batch_size), whole)


def test_processes_read_what_threads_read(folder, whole, monkeypatch):
    monkeypatch.setattr(module, "_WORTH_PROCESSES", 1)
    sizes, batch_of = [], module._batch
    monkeypatch.setattr(module, "_batch", lambda *parts: sizes.append(batch_of(*parts).pictures) or batch_of(*parts))
    assert_equal(read(folder, NAMES * 20, batch_size=4, on_gpu=True), whole)
    assert sizes == [2 * module._PIECE, 120 - 2 * module._PIECE]  # a piece for each process


def test_whole_batches_are_not_copied(folder):
    names = [os.fsencode(NAMES[number % 3]) for number in range(40)]
    batches = list(face_batches(names, reading(folder, "aligned"), batch_size=10, workers=2, on_gpu=False))
    places = {batch.crops.__array_interface__["data"][0] for batch in batches}
    assert len(places) == module._SLOTS == len(batches)
    assert all(not batch.crops.flags.owndata for batch in batches)


def test_a_reader_that_is_killed_is_told(folder, monkeypatch):
    monkeypatch.setattr(module, "_WORTH_PROCESSES", 1)
    names = [os.fsencode(NAMES[0])] * 400
    batches = face_batches(names, reading(folder), batch_size=32, workers=2, on_gpu=True)
    next(batches)
    for child in multiprocessing.active_children():
        os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(StylematchError, match=r"a process that reads pictures was killed.*--batch-size"):
        list(batches)
    assert not [child for child in multiprocessing.active_children() if child.is_alive()]

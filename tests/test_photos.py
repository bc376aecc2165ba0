import hashlib
import os
import shutil
import socket
import tempfile
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
from hostile import make_hostile_directory
from hypothesis import given, settings
from hypothesis import strategies as st
from program import EXAMPLES, rows, scored

from stylematch.data.directories import Ignored
from stylematch.data.looks import Look, Looks
from stylematch.data.photo_file import escape_path, hash_photo, photo_id_of, read_photo, unescape_path
from stylematch.data.photos import FindCounts, find_photos, photo_root
from stylematch.errors import PhotoRejectedError, UserError
from stylematch.pipelines import score_partition
from stylematch.tables.contract import Reason

LOOKED_INTO = st.dictionaries(st.binary(min_size=1, max_size=2), st.tuples(st.integers(0, 1), st.sampled_from("ab")))
JPEG_HEAD = b"\xff\xd8\xff\xe0"


def raw_paths(root, **options):
    return [photo.raw_path for photo in find_photos(root, **options)]


def test_every_entry_of_a_hostile_directory_is_found_or_counted(tmp_path):
    made = make_hostile_directory(tmp_path / "photos")
    counts = FindCounts()
    found = list(find_photos(made.root, counts=counts))
    assert {photo.path for photo in found} == set(made.reasons)
    assert counts.found == len(found) == len(made.reasons)
    assert counts.ignored == made.ignored
    assert [photo.raw_path for photo in found] == sorted(photo.raw_path for photo in found)
    for photo in found:
        assert photo.bytes == (made.root / os.fsdecode(photo.raw_path)).stat().st_size
        assert photo.photo_id is None


def test_a_large_folder_takes_little_memory(tmp_path):
    count = 3000
    for number in range(count):
        (tmp_path / f"a photo with a usual name {number:06d}.jpg").touch()
    tracemalloc.start()
    try:
        photos = find_photos(tmp_path)
        assert next(photos).bytes == 0
        assert tracemalloc.get_traced_memory()[0] / count < 300
    finally:
        tracemalloc.stop()
    assert sum(1 for _ in photos) == count - 1


def test_following_links_ends_loops_and_counts_dangling_ones(tmp_path):
    made = make_hostile_directory(tmp_path / "photos")
    counts = FindCounts()
    found = {photo.path for photo in find_photos(made.root, follow_links=True, counts=counts)}
    assert found == set(made.reasons) | {"link.jpg"}
    assert counts.ignored == Counter(
        {
            Ignored.NOT_A_PICTURE: 2,
            Ignored.DANGLING_LINK: 2,
            Ignored.FIFO: 1,
            Ignored.DIRECTORY_SEEN_BEFORE: 1,
        }
    )


def test_a_linked_directory_outside_is_walked_once(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "one.jpg").write_bytes(b"x")
    root = tmp_path / "root"
    root.mkdir()
    (root / "a").symlink_to(outside)
    (root / "b").symlink_to(outside)
    assert raw_paths(root) == []
    assert raw_paths(root, follow_links=True) == [b"a/one.jpg"]


NAME = st.binary(min_size=1, max_size=4).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in {b".", b".."}
)


@settings(max_examples=60)
@given(st.lists(st.lists(NAME, min_size=1, max_size=3), max_size=12))
def test_the_order_is_that_of_the_bytes_of_the_paths(paths):
    with tempfile.TemporaryDirectory() as directory:
        expected = set()
        for parts in paths:
            *folders, name = parts
            folder = Path(directory, *map(os.fsdecode, folders))
            try:
                folder.mkdir(parents=True, exist_ok=True)
                (folder / os.fsdecode(name + b".jpg")).touch(exist_ok=False)
            except OSError:  # a name that is taken by a file or directory of another path
                continue
            expected.add(b"/".join([*folders, name + b".jpg"]))
        assert raw_paths(Path(directory)) == sorted(expected)


def test_extensions_decide_before_contents_and_case_does_not_matter(tmp_path):
    for name in ("a.JPG", "b.jpeg", "c.TiFF", "d.heic", "e.webp", "f.dib", "g.jfif", "k.avif", "l.JP2", "m.psd"):
        (tmp_path / name).write_bytes(b"anything")
    for name in ("h.raw", "i", "j.svg", "jpg"):
        (tmp_path / name).write_bytes(b"anything")
    pictures = [
        b"a.JPG",
        b"b.jpeg",
        b"c.TiFF",
        b"d.heic",
        b"e.webp",
        b"f.dib",
        b"g.jfif",
        b"k.avif",
        b"l.JP2",
        b"m.psd",
    ]
    assert raw_paths(tmp_path) == pictures


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (JPEG_HEAD, True),
        (b"\x89PNG\r\n\x1a\n", True),
        (b"GIF89a", True),
        (b"RIFF\x10\0\0\0WEBPVP8 ", True),
        (b"RIFF\x10\0\0\0WAVEfmt ", False),
        (b"BM" + bytes(8) + b"\x36\0\0\0\x28\0\0\0", True),
        (b"BMW and other cars, a text", False),
        (b"II*\0", True),
        (b"MM\0*", True),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", True),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", True),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", True),
        (b"\0\0\0\x0cjP  \r\n\x87\n", True),
        (b"\0\0\0\x18ftypisom\0\0\0\0isomiso2", False),
        (b"\xff\xd8", False),
        (b"", False),
    ],
)
def test_first_bytes_find_pictures_without_a_pictures_name(tmp_path, head, found):
    (tmp_path / "file").write_bytes(head)
    counts = FindCounts()
    assert raw_paths(tmp_path, counts=counts) == ([b"file"] if found else [])
    assert counts.ignored == (Counter() if found else Counter({Ignored.NOT_A_PICTURE: 1}))


def test_sockets_are_counted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's path may have at most 107 bytes
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.jpg")
        counts = FindCounts()
        assert raw_paths(tmp_path, counts=counts) == []
    assert counts.ignored == Counter({Ignored.SOCKET: 1})


@pytest.fixture
def without_privileges():
    """A folder of an unprivileged user, and that user's rights while the test runs."""
    folder = Path(tempfile.mkdtemp())
    was_root = os.geteuid() == 0
    if was_root:
        os.chown(folder, 65534, 65534)
        os.setegid(65534)
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if was_root:
            os.seteuid(0)
            os.setegid(0)
        for path in folder.rglob("*"):
            path.chmod(0o700)
        shutil.rmtree(folder)


def test_what_may_not_be_read_is_counted_or_rejected_never_a_crash(without_privileges):
    root = without_privileges
    (root / "open.jpg").write_bytes(b"x")
    (root / "locked.jpg").write_bytes(b"x")
    (root / "locked_text").write_bytes(b"x")
    (root / "folder \u2603").mkdir()
    for name in ("locked.jpg", "locked_text", "folder \u2603"):
        (root / name).chmod(0)
    counts = FindCounts()
    assert raw_paths(root, counts=counts) == [b"locked.jpg", b"open.jpg"]
    assert counts.ignored == Counter({Ignored.UNREADABLE_DIRECTORY: 1, Ignored.UNREADABLE_FILE: 1})
    assert counts.unreadable_directories == ["folder \u2603"]
    with pytest.raises(PhotoRejectedError) as rejected:
        read_photo(root, b"locked.jpg", 10)
    assert rejected.value.reason == Reason.UNREADABLE_FILE
    with pytest.raises(UserError, match="cannot be listed"):
        find_photos(root / "folder \u2603")


@pytest.mark.parametrize("follow_links", [False, True])
def test_folders_too_deep_to_be_listed_are_named(tmp_path, follow_links):
    """A path of over 4,095 bytes no system call takes; what lies there is in no table, and people are told where."""
    name, at = "d" * 200, os.open(tmp_path, os.O_RDONLY)
    for _ in range(25):
        os.mkdir(name, dir_fd=at)  # of a Path it would be too long
        inner = os.open(name, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
        os.close(os.open("a.jpg", os.O_CREAT | os.O_WRONLY, dir_fd=at))
    os.close(at)
    deepest = (4095 - len(bytes(tmp_path))) // 201
    counts = FindCounts()
    found = raw_paths(tmp_path, counts=counts, follow_links=follow_links)
    assert len(found) == deepest
    assert counts.ignored == Counter({Ignored.UNREADABLE_DIRECTORY: 1})
    assert counts.unreadable_directories == ["/".join([name] * (deepest + 1))]


def test_a_folder_that_may_not_be_entered_loses_none_of_its_names(without_privileges):
    root = without_privileges
    (root / "closed" / "folder").mkdir(parents=True)
    (root / "closed" / "photo.jpg").write_bytes(JPEG_HEAD)
    (root / "link.jpg").symlink_to("closed/photo.jpg")
    (root / "closed").chmod(0o400)  # its names may be read, what they name may not even be looked at
    counts = FindCounts()
    assert raw_paths(root, counts=counts) == [b"closed/photo.jpg"]
    assert counts.ignored == Counter({Ignored.UNREADABLE_DIRECTORY: 1, Ignored.LINK: 1})
    assert (counts.not_looked_at, counts.unreadable_directories) == (["closed/photo.jpg"], ["closed/folder"])
    with pytest.raises(PhotoRejectedError) as rejected:
        hash_photo(root, b"closed/photo.jpg")
    assert rejected.value.reason == Reason.UNREADABLE_FILE
    assert raw_paths(root, follow_links=True) == [b"closed/photo.jpg", b"link.jpg"]


def test_names_beyond_the_longest_path_are_not_taken_for_gone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(30):
        Path("n" * 200).mkdir()
        monkeypatch.chdir("n" * 200)
    counts = FindCounts()
    assert raw_paths(tmp_path, counts=counts) == []
    assert counts.ignored.total() == 1
    assert Ignored.VANISHED not in counts.ignored


def test_a_missing_root_is_the_users_mistake_at_once(tmp_path):
    for missing in (tmp_path / "nowhere", tmp_path / "nul\0byte"):
        with pytest.raises(UserError) as error:
            find_photos(missing)
        assert "\n" not in str(error.value)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UserError, match="neither a directory nor a file"):
        find_photos(tmp_path / "fifo")


def test_a_single_file_is_a_root(tmp_path):
    photo = tmp_path / "one.jpg"
    photo.write_bytes(b"x")
    (tmp_path / "two.jpg").write_bytes(b"y")
    assert raw_paths(photo) == [b"one.jpg"]
    assert read_photo(photo_root(photo), b"one.jpg", 10) == b"x"
    assert photo_root(tmp_path) == tmp_path


def test_an_empty_directory_has_no_photos(tmp_path):
    assert raw_paths(tmp_path) == []


def test_a_relative_root_is_fine(tmp_path, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    assert raw_paths(Path()) == [b"a.jpg"]
    assert raw_paths(Path("a.jpg")) == [b"a.jpg"]


@given(st.binary())
def test_any_path_can_be_escaped_and_unescaped(raw):
    path = escape_path(raw)
    assert path.encode("utf-8").decode("utf-8") == path
    assert unescape_path(path) == raw


@given(st.lists(st.binary(max_size=20), max_size=10, unique=True))
def test_different_paths_stay_different(raws):
    assert len({escape_path(raw) for raw in raws}) == len(raws)


@given(st.text(st.characters(codec="utf-8")))
def test_readable_names_stay_as_they_are(name):
    if not name.startswith("file-bytes://"):
        assert escape_path(name.encode()) == name


def test_names_that_are_not_utf_8_are_marked():
    assert escape_path(b"caf\xe9/a b.jpg") == "file-bytes://caf%E9/a%20b.jpg"


@pytest.mark.parametrize(
    ("size", "max_bytes", "reason"),
    [
        (0, 10, Reason.EMPTY_FILE),
        (10, 10, None),
        (11, 10, Reason.FILE_TOO_LARGE),
        (1 << 20, 10, Reason.FILE_TOO_LARGE),
    ],
)
def test_reading_keeps_the_limits(tmp_path, size, max_bytes, reason):
    data = os.urandom(size)
    (tmp_path / "a.jpg").write_bytes(data)
    if reason is None:
        assert read_photo(tmp_path, b"a.jpg", max_bytes) == data
    else:
        with pytest.raises(PhotoRejectedError) as rejected:
            read_photo(tmp_path, b"a.jpg", max_bytes)
        assert rejected.value.reason == reason


def test_a_file_that_grows_past_its_listed_size_is_read_whole():
    # Files of /proc have size 0 and contents all the same, as a file that grows between status and reading.
    data = read_photo(Path("/proc/self"), b"status", 1 << 20)
    assert data.startswith(b"Name:")
    with pytest.raises(PhotoRejectedError) as rejected:
        read_photo(Path("/proc/self"), b"status", 10)
    assert rejected.value.reason == Reason.FILE_TOO_LARGE


@pytest.mark.parametrize("kind", ["gone", "fifo", "directory", "link to a fifo"])
def test_what_took_the_photos_place_is_never_waited_for(tmp_path, kind):
    path = tmp_path / "a.jpg"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "link to a fifo":
        os.mkfifo(tmp_path / "fifo")
        path.symlink_to("fifo")
    for act in (lambda: read_photo(tmp_path, b"a.jpg", 10), lambda: hash_photo(tmp_path, b"a.jpg")):
        with pytest.raises(PhotoRejectedError) as rejected:
            act()
        assert rejected.value.reason == Reason.UNREADABLE_FILE
        assert rejected.value.message


def test_the_photo_id_is_the_hash_of_the_contents(tmp_path):
    data = os.urandom(3_000_000)
    (tmp_path / "caf\u00e9.jpg").write_bytes(data)
    expected = hashlib.sha256(data).hexdigest()[:32]
    assert photo_id_of(data) == expected == hash_photo(tmp_path, "caf\u00e9.jpg".encode())


@given(before=LOOKED_INTO, now=LOOKED_INTO)
def test_a_look_holds_for_the_same_path_size_and_stamp_alone(before, now):
    looks = Looks(Look(path, *file, is_picture=file[0] > 0) for path, file in sorted(before.items()))
    held = set()
    for path, file in sorted(now.items()):
        look = looks.find(path)
        if look is not None and look.holds(*file):
            assert look == Look(path, *file, is_picture=file[0] > 0)
            held.add(path)
    assert held == {path for path in now if before.get(path) == now[path]}


def test_no_link_that_came_since_is_read_through(tmp_path):
    """Between finding a photo and reading it, whoever may write to its folder could make it a link to anything."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "one.jpg").write_bytes(b"private")
    root = tmp_path / "photos"
    (root / "a" / "b").mkdir(parents=True)
    for raw_path in (b"one.jpg", b"a/one.jpg", b"a/b/one.jpg"):
        path = root / raw_path.decode()
        path.write_bytes(b"public")
        assert read_photo(root, raw_path, 100, follow_links=False) == b"public"
        assert hash_photo(root, raw_path, follow_links=False) == photo_id_of(b"public")
    (tmp_path / "link").symlink_to(root)
    assert read_photo(tmp_path / "link", b"a/b/one.jpg", 100, follow_links=False) == b"public"  # the root may be one
    (root / "one.jpg").unlink()
    (root / "one.jpg").symlink_to(tmp_path / "secret" / "one.jpg")
    (root / "a" / "b").rename(root / "a" / "c")
    (root / "a" / "b").symlink_to(tmp_path / "secret")
    for raw_path in (b"one.jpg", b"a/b/one.jpg"):
        assert read_photo(root, raw_path, 100) == b"private"
        for act in (read_photo, hash_photo):
            with pytest.raises(PhotoRejectedError, match="a link has taken its place") as rejected:
                act(root, raw_path, 100, follow_links=False)
            assert rejected.value.reason == Reason.UNREADABLE_FILE


def test_a_run_reads_no_link_that_came_since(tmp_path, monkeypatch):
    photos, secret = tmp_path / "photos", tmp_path / "secret.jpg"
    photos.mkdir()
    for name in ("a.jpg", "b.jpg"):
        shutil.copy(EXAMPLES / "coffee.jpg", photos / name)
    shutil.copy(EXAMPLES / "coffee.jpg", secret)
    load = score_partition.load_state

    def swapped(job):
        (photos / "b.jpg").unlink()
        (photos / "b.jpg").symlink_to(secret)
        return load(job)

    monkeypatch.setattr(score_partition, "load_state", swapped)
    out = scored(photos, tmp_path / "out")
    assert {row["path"]: row["reason"] for row in rows(out, "photos")} == {
        "a.jpg": "no_face_found",
        "b.jpg": "unreadable_file",
    }
    monkeypatch.setattr(score_partition, "load_state", load)
    (tmp_path / "named.jpg").symlink_to(secret)
    out = scored(tmp_path / "named.jpg", tmp_path / "out2")  # who names a link means what it leads to
    assert [(row["path"], row["reason"]) for row in rows(out, "photos")] == [("named.jpg", "no_face_found")]

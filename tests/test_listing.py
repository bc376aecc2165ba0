import os
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stylematch.data.listing import (
    FEW_PARTITIONS,
    MAX_PARTITION_PHOTOS,
    MIN_PARTITION_PHOTOS,
    WANTED_PARTITIONS,
    WORTHWHILE_PHOTOS,
    partition_sizes,
    read_listing,
    write_listing,
)
from stylematch.data.photo_file import escape_path, photo_id_of
from stylematch.data.photos import FoundPhoto, find_photos

NAMES = st.binary(min_size=1, max_size=12).filter(lambda name: b"/" not in name and b"\0" not in name)


def listed(root, path, threads=2, advance=lambda _: None):
    return write_listing(find_photos(root), root, path, readers=threads, advance=advance)


def read_all(listing):
    return [photo for partition in listing.partitions for photo in read_listing(listing.path, partition)]


@given(st.integers(0, 2_000_000))
@example(0)
@example(1)
@example(MIN_PARTITION_PHOTOS)
@example(MIN_PARTITION_PHOTOS + 1)
@example(FEW_PARTITIONS * MIN_PARTITION_PHOTOS)
@example(WANTED_PARTITIONS * WORTHWHILE_PHOTOS)
@example(WANTED_PARTITIONS * MAX_PARTITION_PHOTOS)
@example(WANTED_PARTITIONS * MAX_PARTITION_PHOTOS + 1)
def test_partitions_are_even_and_lose_nothing(count):
    sizes = partition_sizes(count)
    assert sum(sizes) == count
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= MAX_PARTITION_PHOTOS
    if count >= FEW_PARTITIONS * MIN_PARTITION_PHOTOS:
        assert len(sizes) >= FEW_PARTITIONS
    if count >= WANTED_PARTITIONS * WORTHWHILE_PHOTOS:
        assert len(sizes) >= WANTED_PARTITIONS
    if len(sizes) > FEW_PARTITIONS:
        assert min(sizes) >= WORTHWHILE_PHOTOS
    if count > 0:
        assert min(sizes) >= min(count, MIN_PARTITION_PHOTOS)
    if 4 * MIN_PARTITION_PHOTOS <= count <= WANTED_PARTITIONS * MAX_PARTITION_PHOTOS:
        assert len(sizes) % 4 == 0


@settings(max_examples=15)
@given(st.sets(NAMES, max_size=300), st.integers(1, 4), st.integers(0, 2**32))
def test_reading_the_partitions_is_reading_the_listing(tmp_path_factory, names, threads, seed):
    # The photos of these names do not exist: what cannot be hashed is listed all the same.
    folder = tmp_path_factory.mktemp("listing")
    photos = [FoundPhoto(escape_path(name), name, (seed + len(name)) % 10**12) for name in sorted(names)]
    done = []
    listing = write_listing(photos, folder, folder / "listing", readers=threads, advance=done.append)
    assert read_all(listing) == photos
    assert listing.photos == len(photos) == sum(done)
    assert [partition.number for partition in listing.partitions] == list(range(len(listing.partitions)))


def test_real_photos_in_several_partitions(tmp_path):
    root = tmp_path / "photos"
    root.mkdir()
    count = 4 * MIN_PARTITION_PHOTOS + 5
    for number in range(count):
        (root / f"{number:04d}.jpg").write_bytes(b"\xff\xd8" + bytes([number % 251]) * number)
    listing = listed(root, tmp_path / "listing")
    photos = read_all(listing)
    assert len(listing.partitions) == 4
    assert [photo.path for photo in photos] == [f"{number:04d}.jpg" for number in range(count)]
    for photo in photos:
        data = (root / photo.path).read_bytes()
        assert (photo.bytes, photo.photo_id) == (len(data), photo_id_of(data))
    assert [photo.path for photo in read_listing(listing.path, listing.partitions[2])] == [
        photo.path for photo in photos[sum(partition_sizes(count)[:2]) :][: listing.partitions[2].photos]
    ]


def test_the_digest_is_of_names_and_contents_alone(tmp_path):
    root = tmp_path / "photos"
    root.mkdir()
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (root / name).write_bytes(name.encode())
    first = listed(root, tmp_path / "first", threads=1)
    os.utime(root / "a.jpg", (1, 1))
    (root / "b.jpg").chmod(0o600)
    moved = tmp_path / "elsewhere"
    root.rename(moved)
    again = listed(moved, tmp_path / "again", threads=3)
    assert again.sha256 == first.sha256
    assert again.path.read_bytes() == first.path.read_bytes()
    (moved / "a.jpg").write_bytes(b"A.jpg")  # as many bytes as before
    changed = listed(moved, tmp_path / "changed")
    (moved / "a.jpg").rename(moved / "d.jpg")
    renamed = listed(moved, tmp_path / "renamed")
    assert len({first.sha256, changed.sha256, renamed.sha256}) == 3


def test_swapped_contents_change_the_digest(tmp_path):
    root = tmp_path / "photos"
    root.mkdir()
    (root / "a.jpg").write_bytes(b"1")
    (root / "b.jpg").write_bytes(b"2")
    first = listed(root, tmp_path / "listing").sha256
    (root / "a.jpg").write_bytes(b"2")
    (root / "b.jpg").write_bytes(b"1")
    assert listed(root, tmp_path / "listing").sha256 != first


def test_names_that_are_not_utf8_or_hold_line_breaks_round_trip(tmp_path):
    root = tmp_path / "photos"
    root.mkdir()
    names = sorted([b"caf\xe9.jpg", b"two\nlines.jpg", b'"quoted".jpg', "größe.jpg".encode(), b"\x01\x7f.jpg"])
    for name in names:
        (root / os.fsdecode(name)).write_bytes(name)
    photos = read_all(listed(root, tmp_path / "listing"))
    assert [photo.raw_path for photo in photos] == names
    assert [photo.photo_id for photo in photos] == [photo_id_of(name) for name in names]
    assert len((tmp_path / "listing").read_bytes().splitlines()) == len(names)


def test_an_unreadable_photo_is_listed_without_a_hash(tmp_path):
    root = tmp_path / "photos"
    root.mkdir()
    (root / "a.jpg").write_bytes(b"1")
    found = list(find_photos(root))
    (root / "a.jpg").unlink()
    listing = write_listing(found, root, tmp_path / "listing", readers=1, advance=lambda _: None)
    assert [photo.photo_id for photo in read_all(listing)] == [None]


def test_an_empty_listing_has_one_empty_partition(tmp_path: Path):
    root = tmp_path / "photos"
    root.mkdir()
    listing = listed(root, tmp_path / "listing")
    assert listing.photos == 0
    assert len(listing.partitions) == 1
    assert read_all(listing) == []


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_more_photos_than_a_chunk_stay_in_order(tmp_path, threads):
    photos = [FoundPhoto(f"{number:05d}", b"%05d" % number, number) for number in range(1_100)]
    listing = write_listing(photos, tmp_path, tmp_path / "listing", readers=threads, advance=lambda _: None)
    assert read_all(listing) == photos

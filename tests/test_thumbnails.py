"""Thumbnails on their way into the gallery, and out of it again."""

import pytest
from test_gallery import gallery_of, photo_row, read_chunk, write_run

from stylematch.report.packed import GalleryPictures
from stylematch.report.thumbnails import KeptThumbnails, ThumbnailKeeper, thumbnails_path


def keep(report, partition, thumbnails):
    with ThumbnailKeeper(report, partition) as keeper:
        for path, jpeg in thumbnails:
            keeper.keep(path, jpeg)
        assert not thumbnails_path(report, partition).exists()
        keeper.write()


def test_thumbnails_come_back_over_partitions_to_the_photos_that_have_one(tmp_path):
    given = KeptThumbnails(tmp_path)
    keep(tmp_path, 0, [("a.jpg", b"\xff\xd8a"), ('"b\udcff\n.jpg', b"")])
    given.turn_to(0)
    assert [given(path) for path in ("a.jpg", '"b\udcff\n.jpg')] == ["/9hh", ""]
    assert given("c.jpg") is None  # it was rejected; that is known before the next partition is there
    keep(tmp_path, 1, [])
    given.turn_to(1)
    assert given("d.jpg") is None
    keep(tmp_path, 2, [("f.jpg", b"f")])
    given.turn_to(2)
    assert [given(path) for path in ("e.jpg", "f.jpg", "g.jpg")] == [None, "Zg==", None]


@pytest.mark.parametrize("fault", [KeyboardInterrupt, None])
def test_a_partition_that_was_given_up_keeps_none(tmp_path, fault):
    def partition():
        with ThumbnailKeeper(tmp_path, 0) as keeper:
            keeper.keep("a.jpg", b"a")
            if fault:
                raise fault
            keeper.write()

    if fault is None:
        partition()
        given = KeptThumbnails(tmp_path)
        given.turn_to(0)
        assert given("a.jpg") == "YQ=="
    else:
        with pytest.raises(fault):
            partition()
        assert not list((tmp_path / "thumbs").iterdir())


def test_a_finished_gallery_gives_each_photos_thumbnail(tmp_path):
    photos = [photo_row(f"{number}.jpg", 0, status="no_face") for number in range(7)]
    photos[3] = photo_row("3.jpg", 0, status="rejected", reason="truncated")
    photos[6]["photo_id"] = photos[5]["photo_id"]  # equal contents
    run = write_run(tmp_path / "run", photos, shard_rows=3)
    of = {row["path"]: bytes([number]) * 5 for number, row in enumerate(photos)}
    keep(run / "report", 0, [(path, jpeg) for path, jpeg in of.items() if path != "3.jpg"])
    given = KeptThumbnails(run / "report")
    given.turn_to(0)
    report = gallery_of(run, page_size=2, thumbnails=given)
    pictures = GalleryPictures(run)
    for row in (*photos[4:6], *photos[:3]):
        assert pictures.thumbnail(row["photo_id"]) == of[row["path"]]
    assert pictures.thumbnail("ffff") is None
    assert [len(read_chunk(report / "data" / f"thumbs-0000{n}.js")["pictures"]) for n in range(1, 5)] == [2, 2, 2, 1]
    assert read_chunk(report / "data" / "thumbs-00002.js")["pictures"][1] is None
    assert GalleryPictures(tmp_path / "nowhere").thumbnail("ffff") is None

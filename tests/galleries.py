"""The gallery of a run that is whole, in one call."""

from pathlib import Path

from stylematch.report.gallery import GalleryWriter
from stylematch.report.join import read_photos


def write_gallery(run: Path, *, item_picture, title, summary=None, stages=None, **options) -> Path:
    writer = GalleryWriter(run, item_picture=item_picture, **options)
    for photo in read_photos(run):
        writer.add(photo)
    return writer.finish(title, summary or {}, stages or {})

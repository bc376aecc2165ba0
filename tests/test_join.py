"""A run's tables side by side: clustered shards come back in their photos' order."""

import random

import numpy as np
import pyarrow.parquet as pq
from test_gallery import ATTRIBUTES, face_row, item_row, photo_row, write_run

from stylematch.report.join import read_photos
from stylematch.tables.contract import faces_schema, photos_schema, recommendations_schema
from stylematch.tables.writer import ShardWriter

PHOTOS, CUT = 300, 170


def made(seed=1):
    rng = random.Random(seed)
    photos = [photo_row(f"{number:05d}.jpg", rng.choice([0, 1, 1, 3])) for number in rng.sample(range(99_999), PHOTOS)]
    faces = [face_row(photo, face, rng.choice("ABCD")) for photo in photos for face in range(photo["faces"])]
    items = [
        item_row(face, face["face"], rank, style=face["style"], category=rng.choice("XYZ"))
        for face in faces
        for rank in (1, 2, 3)
    ]
    return photos, faces, items


def keys(rows, *names):
    return [tuple(row[name] for name in names) for row in rows]


def assert_joined(run, photos, faces, items):
    joined = list(read_photos(run))
    assert keys([photo.row for photo in joined], "path") == keys(photos, "path")
    found = [face for photo in joined for face in photo.faces]
    assert keys([face.row for face in found], "path", "face", "style") == keys(faces, "path", "face", "style")
    of_faces = [(face.row["path"], face.row["face"], *item) for face in found for item in face.items]
    assert [item[:4] for item in of_faces] == keys(items, "path", "face", "item_id", "category")


def test_clustered_shards_are_read_in_the_order_of_their_photos(tmp_path):
    photos, faces, items = made()
    schemas = {
        "photos": (photos_schema(), photos),
        "faces": (faces_schema(ATTRIBUTES, 2), faces),
        "recommendations": (recommendations_schema(), items),
    }
    for number, part in enumerate((photos[:CUT], photos[CUT:])):
        paths = {photo["path"] for photo in part}
        for name, (schema, rows) in schemas.items():
            mine = [row for row in rows if row["path"] in paths]
            columns = {field.name: [row.get(field.name) for row in mine] for field in schema}
            if name == "faces":
                columns["embedding"] = np.array(columns["embedding"], np.float32)
            with ShardWriter(tmp_path / name, number, schema) as writer:
                writer.write(columns)
    styles = pq.ParquetFile(tmp_path / "faces" / "part-00000.parquet").read(columns=["style"])["style"].to_pylist()
    assert styles == sorted(styles)  # so there is something to bring back
    assert_joined(tmp_path, photos, faces, items)


def test_shards_that_break_elsewhere_are_read_as_they_are(tmp_path):
    photos, faces, items = made(2)
    assert_joined(write_run(tmp_path / "run", photos, faces, items, shard_rows=70), photos, faces, items)

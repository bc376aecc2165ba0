import shutil

import pytest
from PIL import Image
from tiny import write_celeba

from stylematch.data.celeba import ATTRIBUTES
from stylematch.errors import UserError
from stylematch.tables.contract import LANDMARKS
from stylematch.vision.alignment import check_face_crops

ATTRIBUTE_FILE, BOX_FILE = "list_attr_celeba.txt", "list_bbox_celeba.txt"
POINT_FILE = "list_landmarks_align_celeba.txt"


def write_list(path, columns, rows):
    lines = [f"{name} {' '.join(str(value) for value in values)}" for name, values in rows.items()]
    path.write_text("\n".join([str(len(rows)), " ".join(columns), *lines]) + "\n")


@pytest.fixture
def photos(tmp_path):
    """Return a function that writes blank photos of given sizes, all with labels and no face known."""

    def write(sizes):
        folder = tmp_path / "folder"
        folder.mkdir()
        names = [f"{number:06d}.jpg" for number in range(len(sizes))]
        for name, size in zip(names, sizes, strict=True):
            Image.new("RGB", size).save(folder / name)
        write_list(folder / ATTRIBUTE_FILE, ATTRIBUTES, dict.fromkeys(names, [1] * len(ATTRIBUTES)))
        return folder, names

    return write


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["celeba", "celeba_aligned_sample", "celeba_wild", "photos"])
@pytest.mark.parametrize("known", ["points", "boxes"])
def test_the_real_folders_are_what_their_readme_says(name, known, shared_data, tmp_path, caplog):
    source = shared_data / name
    pictures = next((source / p for p in ("img_align_celeba", "img_celeba") if (source / p).is_dir()), source)
    (tmp_path / "img_celeba").symlink_to(pictures)
    shutil.copy(source / ATTRIBUTE_FILE, tmp_path)
    shutil.copy(source / (POINT_FILE if known == "points" else BOX_FILE), tmp_path)
    if name in ("celeba", "celeba_aligned_sample"):
        check_face_crops(tmp_path)
        assert not caplog.records
    else:
        with pytest.raises(UserError, match=r"are whole photos, not face crops: .* Measure them with --faces find"):
            check_face_crops(tmp_path)


def test_without_points_and_boxes_pictures_of_many_sizes_are_a_warning(photos, caplog):
    folder, _ = photos([(200, 300), (640, 480), (300, 200), (1200, 800)])
    check_face_crops(folder)
    assert "if they are whole photos, measure them with --faces find" in caplog.text


def test_face_crops_of_one_size_or_width_are_no_warning(photos, caplog, tmp_path):
    check_face_crops(write_celeba(tmp_path / "aligned"))
    folder, _ = photos([(178, 178), (178, 190), (178, 250), (178, 300)])
    check_face_crops(folder)
    assert not caplog.records


def test_boxes_of_other_photos_say_nothing(photos, caplog):
    folder, names = photos([(178, 218)] * 4)
    write_list(folder / BOX_FILE, ("x_1", "y_1", "width", "height"), dict.fromkeys(names, (400, 20, 60, 80)))
    check_face_crops(folder)
    assert not caplog.records


def test_an_evaluation_of_whole_photos_as_crops_is_refused(photos, tmp_path, capsys):
    from program import DEFAULT_INDEX

    from stylematch.cli.program import run

    if not DEFAULT_INDEX.is_dir():
        pytest.skip("indexes/default is not built: make default-index")
    folder, names = photos([(400, 300)] * 3)
    write_list(folder / POINT_FILE, LANDMARKS, dict.fromkeys(names, (20, 20, 30, 20, 25, 25, 21, 30, 29, 30)))
    assert run(["evaluate", str(DEFAULT_INDEX / "attributes"), str(folder), "--out", str(tmp_path / "out")]) == 2
    assert "Measure them with --faces find." in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

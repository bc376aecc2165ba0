"""What a model learned from is known by its names, whatever folder is measured."""

import json
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from program import REPOSITORY, run
from tiny import write_celeba, write_fashion_product, write_flixstock

from stylematch.data.learned import are_among, digest_names

NAMES = st.lists(st.text(st.characters(exclude_categories=()), max_size=12), max_size=30)


@given(learned=NAMES, others=NAMES)
def test_a_name_is_known_if_and_only_if_it_was_learned(learned, others):
    asked = [*others, *learned]
    known = are_among(asked, digest_names(learned))
    np.testing.assert_array_equal(known, [name in set(learned) for name in asked])
    assert digest_names(learned) == digest_names([*learned[::-1], *learned])


@pytest.mark.parametrize("text", ["no base64!", "AAAA"])
def test_what_is_no_line_of_digests_is_an_error(text):
    with pytest.raises(ValueError, match=r"digests|buffer"):
        are_among(["a"], text)


def measured(bundle, data, out, *options):
    assert run(["evaluate", str(bundle), str(data), "--out", str(out), *options]) == 0
    return json.loads((out / "figures.json").read_text())["measured"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a tiny training on articles, and its folder of products; of a network whose graph is written quickly."""
    folder = tmp_path_factory.mktemp("trained")
    products = write_fashion_product(folder / "products")
    changes = [f"data.root='{products}'", f"out='{folder / 'run'}'", "model.weights='none'", "data.min_label_count=1"]
    changes += [
        "model.backbone='squeezenet1_1'",
        "model.input_px=64",
        "schedule.epochs=1",
        "schedule.precision='32-true'",
        "data.split='stratified'",
    ]
    options = [part for change in changes for part in ("--set", change)]
    assert run(["train", str(REPOSITORY / "jobs" / "fashion-product-mobilenet.toml"), *options]) == 0
    return folder / "run" / "bundle", products


@pytest.mark.train
class TestEvaluate:
    def test_its_own_folder_gives_what_the_training_measured(self, trained, tmp_path, capsys):
        bundle, products = trained
        at_once = json.loads((bundle / "figures.json").read_text())["measured"]
        later = measured(bundle, products, tmp_path / "out")
        assert list(later.values()) == list(at_once.values())
        assert list(later) == ["products, not learned from"]
        capsys.readouterr()

    @pytest.mark.slow
    def test_a_picture_less_moves_no_other_into_the_test(self, trained, tmp_path, capsys):
        bundle, products = trained
        fewer = shutil.copytree(products, tmp_path / "products")
        (fewer / "images" / "0.jpg").unlink()
        parts = [measured(bundle, fewer, tmp_path / part, "--split", part) for part in ("test", "train", "all")]
        test, learned, every = (next(iter(part.values()))["pictures"]["measured"] for part in parts)
        whole = next(iter(measured(bundle, products, tmp_path / "whole").values()))["pictures"]["measured"]
        assert whole - 1 <= test <= whole
        assert test + learned == every == 95
        capsys.readouterr()

    def test_all_of_a_new_folder_is_measured_and_unknown_labels_are_counted(self, trained, tmp_path, capsys):
        bundle, _ = trained
        new = write_fashion_product(tmp_path / "new", 12)
        for number in range(12):
            (new / "images" / f"{number}.jpg").rename(new / "images" / f"{number + 500}.jpg")
        head, *rows = (new / "styles.csv").read_text().splitlines()
        rows = [f"{int(row.split(',')[0]) + 500},{row.split(',', 1)[1]}" for row in rows]
        rows[6] = rows[6].replace("Tshirts", "Capes")
        (new / "styles.csv").write_text("\n".join([head, *rows]) + "\n")
        ((title, figures),) = measured(bundle, new, tmp_path / "out").items()
        assert title == "new, not learned from"
        assert figures["pictures"]["measured"] == 12
        assert figures["pictures"]["labels the model does not know"] == {"articleType": 1}
        assert figures["articleType"]["count"] == 11
        ((_, few),) = measured(bundle, new, tmp_path / "few", "--limit", "4").items()
        assert few["pictures"] == {"measured": 4, "left_out": 0}  # the unknown label is of a later picture
        capsys.readouterr()

    def test_a_part_without_pictures_and_a_bundle_that_does_not_say_are_sentences(self, trained, tmp_path, capsys):
        bundle, products = trained
        assert run(["evaluate", str(bundle), str(products), "--split", "val"]) == 2
        assert "--split val" in capsys.readouterr().err
        older = shutil.copytree(bundle, tmp_path / "older")
        said = json.loads((older / "bundle.json").read_text())
        said["learned_names"] = "AAAA"
        (older / "bundle.json").write_text(json.dumps(said))
        assert run(["evaluate", str(older), str(products)]) == 2
        assert "learned_names is damaged" in capsys.readouterr().err
        del said["learned_names"]
        (older / "bundle.json").write_text(json.dumps(said))
        assert run(["evaluate", str(older), str(products)]) == 2
        assert "does not say which pictures" in capsys.readouterr().err
        assert run(["evaluate", str(bundle), str(write_flixstock(tmp_path / "flix"))]) == 2
        assert "labels none of it" in capsys.readouterr().err
        assert run(["evaluate", str(bundle), str(tmp_path)]) == 2
        assert "is no labelled folder" in capsys.readouterr().err


@pytest.mark.train
def test_faces_that_were_learned_from_are_counted_in_a_folder_that_is_split_otherwise(tmp_path, capsys):
    folder, other = write_celeba(tmp_path / "celeba"), tmp_path / "other"
    changes = [
        f"data.root='{folder}'",
        "data.wild=false",
        f"out='{tmp_path / 'run'}'",
        "model.backbone='squeezenet1_1'",
    ]
    options = [part for change in changes for part in ("--set", change)]
    assert run(["train", str(REPOSITORY / "jobs" / "celeba-mobilenet.toml"), "--smoke", *options]) == 0
    bundle = tmp_path / "run-smoke" / "bundle"
    own = measured(bundle, folder, tmp_path / "own")["celeba test (local split)"]["pictures"]
    assert "perhaps learned from" not in own
    split = shutil.copytree(folder, other) / "list_eval_partition.txt"
    train = split.read_text().count(" 0\n")
    split.write_text(split.read_text().replace(" 2\n", " 3\n").replace(" 0\n", " 2\n").replace(" 3\n", " 0\n"))
    capsys.readouterr()
    pictures = measured(bundle, other, tmp_path / "out")["other test (local split)"]["pictures"]
    assert pictures == {"measured": train, "left_out": 0, "perhaps learned from": train}
    assert f"other test (local split): {train} of its pictures perhaps learned from" in capsys.readouterr().out

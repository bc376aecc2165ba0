import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="torch is not installed: pip install 'stylematch[train]'")
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import Waiting

from stylematch.settings.train_method import Augment
from stylematch.tables.contract import LANDMARKS
from stylematch.vision.augment import augment_batch, mix_batch
from stylematch.vision.mirror import mirrored
from stylematch.vision.resizing import resized

pytestmark = [pytest.mark.train, pytest.mark.usefixtures("one_thread")]


STILL = Augment(flip=0)
FRACTIONS = st.floats(0, 0.3)


def augmented(fields, points, input_px, settings, generator, crop_px=None):
    """Augment a batch with landmarks, or without points."""
    groups = {} if points is None else {"landmarks": points}
    mirrors = {"landmarks": mirrored(LANDMARKS)}
    pictures, moved = augment_batch(fields, groups, crop_px or input_px, input_px, settings, generator, mirrors)
    assert moved.keys() == groups.keys()
    return pictures, moved.get("landmarks")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def dots(places, input_px, field_px, channels=3):
    """Return black fields with one soft bright dot each, ``places`` (n, 2) in units of the crop's side."""
    middle = (field_px - input_px) / 2 + places * input_px - 0.5
    at = torch.arange(field_px)
    x, y = (torch.exp(-((at - middle[:, axis, None]) ** 2) / 8) for axis in (0, 1))
    return (y[:, None, :, None] * x[:, None, None, :]).expand(-1, channels, -1, -1)


def centres(pictures):
    """Return where the dots of black pictures lie, in units of the crop's side."""
    side = pictures.shape[-1]
    at = (torch.arange(side) + 0.5) / side
    grey = pictures.mean(1)
    total = grey.sum((1, 2))
    return torch.stack([(grey * at).sum((1, 2)) / total, (grey * at[:, None]).sum((1, 2)) / total], 1)


@settings(max_examples=12)
@given(
    st.sampled_from([0.0, 0.5, 1.0]),
    FRACTIONS,
    FRACTIONS,
    st.floats(0, 40),
    st.integers(0, 2**20),
    st.sampled_from([(128, 160, 3, None), (28, 36, 1, None), (128, 100, 3, 80)]),
)
def test_points_go_where_the_picture_goes(flip, shift, zoom, degrees, seed, sizes):
    input_px, field_px, channels, crop_px = sizes
    count = 16
    places = 0.35 + 0.3 * torch.rand(count, 2, generator=seeded(seed))
    points = places.repeat(1, 5)
    moving = Augment(flip=flip, shift=shift / 3, zoom=zoom, rotate_degrees=degrees)
    fields = dots(places, crop_px or input_px, field_px, channels)
    pictures, moved = augmented(fields, points, input_px, moving, seeded(seed), crop_px)
    assert pictures.shape == (count, channels, input_px, input_px)
    off = (centres(pictures) - moved.view(count, 5, 2)[:, 0]).norm(dim=1) * input_px
    inside = ((moved > 0.25) & (moved < 0.75)).all(1)  # a dot that is cut off has its centre elsewhere
    assert inside.sum() > 0 or shift > 0.2
    assert (off[inside] < 0.25).all()


def test_a_flip_exchanges_left_and_right():
    points = torch.rand(4, 10, generator=seeded())
    fields = torch.rand(4, 3, 40, 40, generator=seeded(1))
    pictures, moved = augmented(fields, points, 32, Augment(flip=1), seeded())
    torch.testing.assert_close(pictures, fields[:, :, 4:36, 4:36].flip(3), atol=1e-4, rtol=0)
    column = {name: position for position, name in enumerate(LANDMARKS)}
    for name, source in (
        ("lefteye", "righteye"),
        ("righteye", "lefteye"),
        ("nose", "nose"),
        ("leftmouth", "rightmouth"),
        ("rightmouth", "leftmouth"),
    ):
        torch.testing.assert_close(moved[:, column[f"{name}_x"]], 1 - points[:, column[f"{source}_x"]])
        torch.testing.assert_close(moved[:, column[f"{name}_y"]], points[:, column[f"{source}_y"]])
    # So the person's features stay on their sides: the left eye's point is left of the right eye's.
    face = torch.tensor([[0.3, 0.4, 0.7, 0.4, 0.5, 0.6, 0.35, 0.8, 0.65, 0.8]])
    _, same = augmented(fields[:1], face, 32, Augment(flip=1), seeded())
    torch.testing.assert_close(same, face)


def test_about_half_are_flipped():
    fields = dots(torch.tensor([[0.3, 0.5]]).expand(400, 2), 16, 20, 1)
    pictures, _ = augmented(fields, None, 16, Augment(flip=0.5), seeded())
    flipped = (centres(pictures)[:, 0] > 0.5).float().mean()
    assert 0.4 < flipped < 0.6


@pytest.mark.parametrize(("input_px", "field_px", "channels"), [(128, 160, 3), (28, 36, 1)])
def test_all_zero_is_the_middle(input_px, field_px, channels):
    fields = torch.rand(3, channels, field_px, field_px, generator=seeded())
    points = torch.rand(3, 10, generator=seeded(1))
    pictures, moved = augmented(fields, points, input_px, STILL, seeded())
    start = (field_px - input_px) // 2
    middle = fields[:, :, start : start + input_px, start : start + input_px]
    torch.testing.assert_close(pictures, middle, atol=1e-4, rtol=0)
    torch.testing.assert_close(moved, points, atol=1e-5, rtol=0)


@settings(max_examples=20)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            key: st.sampled_from([0.0, 0.3, 1.0])
            for key in ("flip", "flip_vertical", "shift", "zoom", "rotate_degrees", "warp", "brightness", "erase")
        },
    ),
    st.integers(0, 2**20),
)
def test_what_moves_nothing_needs_no_margin(changes, seed):
    settings = Augment(**changes)
    fields = torch.rand(6, 3, 40, 40, generator=seeded(seed))
    with_it, without = (
        augmented(each, None, 32, settings, seeded(seed))[0] for each in (fields, fields[:, :, 4:-4, 4:-4])
    )
    if not settings.moves:
        torch.testing.assert_close(with_it, without, atol=1e-4, rtol=0)


@pytest.mark.parametrize("changes", [{"shift": 0.2}, {"zoom": 0.5}, {"rotate_degrees": 30.0}], ids=str)
def test_what_moves_pictures_shows_what_lies_around_their_crops(changes):
    fields = torch.zeros(6, 3, 48, 48)
    fields[:, :, 8:-8, 8:-8] = 0.5
    settings = Augment(flip=0, **changes)
    assert settings.moves
    pictures, _ = augmented(fields, None, 32, settings, seeded())
    assert (pictures < 0.1).any()


def test_a_smaller_crop_is_enlarged_as_scoring_would():
    fields = torch.randint(0, 256, (1, 3, 60, 60), generator=seeded(), dtype=torch.uint8)
    pictures, _ = augmented(fields / 255, None, 112, STILL, seeded(), crop_px=48)
    middle = Image.fromarray(fields[0, :, 6:54, 6:54].permute(1, 2, 0).numpy())
    # Less its border: scoring repeats the photo's edge there, and a field has more of the photo.
    scored = np.asarray(middle.resize((112, 112), Image.Resampling.BILINEAR))[2:-2, 2:-2]
    found = pictures[0].permute(1, 2, 0).numpy()[2:-2, 2:-2] * 255
    assert np.abs(found - scored).max() < 1.01  # levels, to which that is rounded twice
    plain = resized(fields[:, :, 6:54, 6:54] / 255, 112)[0].permute(1, 2, 0).numpy()[2:-2, 2:-2]
    np.testing.assert_allclose(plain * 255, found, atol=0.01)


def test_unknown_points_stay_unknown():
    points = torch.full((2, 10), 0.5)
    points[0] = torch.nan
    everything = Augment(shift=0.1, zoom=0.1, rotate_degrees=10)
    _, moved = augmented(torch.zeros(2, 3, 40, 40), points, 32, everything, seeded())
    assert moved[0].isnan().all()
    assert moved[1].isfinite().all()


def test_equal_seeds_give_equal_results_and_others_do_not():
    fields = torch.rand(5, 3, 40, 40, generator=seeded())
    points = torch.rand(5, 10, generator=seeded(1))
    everything = Augment(
        shift=0.1,
        zoom=0.1,
        rotate_degrees=10,
        brightness=0.2,
        contrast=0.2,
        saturation=0.2,
        grayscale=0.3,
        erase=0.5,
    )
    torch.manual_seed(1)
    first = augmented(fields, points, 32, everything, seeded(7))
    torch.manual_seed(2)  # the global generator has no say
    again = augmented(fields.clone(), points.clone(), 32, everything, seeded(7))
    other = augmented(fields, points, 32, everything, seeded(8))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[1], other[1])


def test_colours_stay_in_range_and_change_as_asked():
    fields = torch.rand(64, 3, 20, 20, generator=seeded())
    still, _ = augmented(fields, None, 16, STILL, seeded())
    for name in ("brightness", "contrast", "saturation"):
        changed, points = augmented(fields, None, 16, Augment(flip=0, **{name: 0.5}), seeded())
        assert points is None
        assert 0 <= changed.min() <= changed.max() <= 1
        assert ((changed - still).abs().amax((1, 2, 3)) > 1e-3).float().mean() > 0.9
    grey, _ = augmented(fields, None, 16, Augment(flip=0, grayscale=1), seeded())
    torch.testing.assert_close(grey[:, 0], grey[:, 2])
    torch.testing.assert_close(grey[:, 0], grey[:, 1])


def test_erasing_replaces_one_rectangle():
    fields = torch.rand(50, 1, 40, 40, generator=seeded())
    pictures, _ = augmented(fields, None, 32, Augment(flip=0, erase=1), seeded())
    changed = (pictures - fields[:, :, 4:36, 4:36]).abs()[:, 0] > 1e-3
    for picture in changed:
        rows, columns = picture.any(1).nonzero()[:, 0], picture.any(0).nonzero()[:, 0]
        height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
        assert picture.sum() > 0.95 * height * width
        assert 0.1 < height / 32 < 0.5
        assert 0.1 < width / 32 < 0.5
    untouched, _ = augmented(fields, None, 32, STILL, seeded())
    torch.testing.assert_close(untouched, fields[:, :, 4:36, 4:36], atol=1e-4, rtol=0)


def test_shifts_are_whole_pixels_and_blur_nothing():
    fields = torch.rand(40, 3, 40, 40, generator=torch.Generator().manual_seed(1))
    pictures, _ = augmented(fields, None, 32, Augment(flip=0.0, shift=0.1), torch.Generator().manual_seed(2))
    places = set()
    for field, picture in zip(fields, pictures, strict=True):
        met = [
            (x, y)
            for x in range(9)
            for y in range(9)
            if torch.allclose(field[:, y : y + 32, x : x + 32], picture, atol=1e-5)
        ]
        assert len(met) == 1
        places.add(met[0])
    assert {x for x, _ in places} == {y for _, y in places} == set(range(1, 8))  # 4 in the middle, 3 either way


def test_only_the_asked_share_is_warped():
    fields = torch.rand(400, 1, 20, 20, generator=torch.Generator().manual_seed(1))
    settings = Augment(flip=0.0, zoom=0.2, rotate_degrees=20, warp=0.25)
    pictures, _ = augmented(fields, None, 16, settings, torch.Generator().manual_seed(2))
    kept = (pictures - fields[:, :, 2:18, 2:18]).abs().amax((1, 2, 3)) < 1e-5
    assert 0.68 < kept.float().mean() < 0.82


def test_a_share_of_the_pictures_is_blended_with_a_partner():
    pictures = torch.rand(400, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    mixed, partner, share = mix_batch(pictures, Augment(mixup=0.5), torch.Generator().manual_seed(2))
    assert sorted(partner.tolist()) == list(range(400))
    assert 0.4 < (share < 1).float().mean() < 0.6
    assert share.min() >= 0.5
    weight = share[:, :, None, None]
    torch.testing.assert_close(mixed, weight * pictures + (1 - weight) * pictures[partner])
    torch.testing.assert_close(mixed[share[:, 0] == 1], pictures[share[:, 0] == 1])


def test_a_mirror_exchanges_the_corners_of_a_box():
    box = torch.tensor([[0.2, 0.3, 0.5, 0.9]])
    mirrors = {"box": mirrored(("x_1", "y_1", "x_2", "y_2"))}
    _, moved = augment_batch(torch.zeros(1, 3, 40, 40), {"box": box}, 32, 32, Augment(flip=1), seeded(), mirrors)
    torch.testing.assert_close(moved["box"], torch.tensor([[0.5, 0.3, 0.8, 0.9]]))


def test_a_vertical_flip_turns_pictures_upside_down():
    fields = torch.rand(4, 3, 40, 40, generator=seeded(1))
    pictures, _ = augmented(fields, None, 32, Augment(flip=0, flip_vertical=1), seeded())
    torch.testing.assert_close(pictures, fields[:, :, 4:36, 4:36].flip(2), atol=1e-4, rtol=0)


def test_a_batch_is_augmented_without_waiting_for_the_device(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda values: values)
    all_of_it = Augment(rotate_degrees=10, zoom=0.1, shift=0.1, saturation=0.2, grayscale=0.1, erase=0.2, mixup=0.5)
    fields, points = torch.rand(4, 3, 40, 40, device="meta"), torch.rand(4, 10, device="meta")
    with Waiting() as waiting:
        pictures, _ = augmented(fields, points, 32, all_of_it, seeded())
        mix_batch(pictures, all_of_it, seeded())
    assert waiting.calls == []
    with Waiting() as waiting:  # what it looks for, it finds
        torch.linalg.solve(torch.eye(2).expand(4, 2, 2).to("meta"), points.view(4, 2, 5))
    assert waiting.calls == ["_to_copy", "_linalg_check_errors"]

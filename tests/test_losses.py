import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install 'stylematch[train]'")
import torch
from torch.nn import functional

from stylematch.data.labels import BinaryGroup, CategoricalGroup, LabelSchema, PointGroup
from stylematch.settings.train_method import Loss
from stylematch.vision.losses import (
    SchemaLoss,
    instance_loss,
    label_weights,
    mix_targets,
    point_ranges,
    soft_targets,
    teach_targets,
)

pytestmark = [pytest.mark.train, pytest.mark.usefixtures("one_thread")]


SCHEMA = LabelSchema(
    (
        BinaryGroup("attributes", ("a", "b", "c")),
        CategoricalGroup("category", ("shirt", "coat")),
        PointGroup("landmarks", ("eye_x", "eye_y")),
    )
)


def example(count=6):
    generator = torch.Generator().manual_seed(0)
    outputs = {
        name: torch.randn(count, width, generator=generator).requires_grad_()
        for name, width in (("attributes", 3), ("category", 2), ("landmarks", 2))
    }
    targets = {
        "attributes": torch.randint(0, 2, (count, 3), generator=generator, dtype=torch.int8),
        "category": torch.randint(0, 2, (count,), generator=generator),
        "landmarks": torch.rand(count, 2, generator=generator),
    }
    return outputs, targets


def test_where_all_is_known_the_losses_are_torchs_own():
    outputs, targets = example()
    losses = SchemaLoss(SCHEMA, Loss(label_smoothing=0.1))(outputs, soft_targets(SCHEMA, targets))
    expected = {
        "attributes": functional.binary_cross_entropy_with_logits(outputs["attributes"], targets["attributes"].float()),
        "category": functional.cross_entropy(outputs["category"], targets["category"], label_smoothing=0.1),
        "landmarks": functional.smooth_l1_loss(100 * outputs["landmarks"], 100 * targets["landmarks"]),
    }
    assert list(losses) == ["attributes", "category", "landmarks"]
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_unknown_labels_count_for_nothing(smoothing):
    outputs, targets = example()
    targets["attributes"][1, 2] = -1
    targets["attributes"][4] = -1
    targets["category"][[0, 3]] = -1
    targets["landmarks"][2, 1] = torch.nan
    losses = SchemaLoss(SCHEMA, Loss(label_smoothing=smoothing))(outputs, soft_targets(SCHEMA, targets))
    sum(losses.values()).backward()

    known = targets["attributes"] >= 0
    torch.testing.assert_close(
        losses["attributes"],
        functional.binary_cross_entropy_with_logits(outputs["attributes"][known], targets["attributes"][known].float()),
    )
    rows = targets["category"] >= 0
    torch.testing.assert_close(
        losses["category"],
        functional.cross_entropy(outputs["category"][rows], targets["category"][rows], label_smoothing=smoothing),
    )
    for name, unknown in (
        ("attributes", ~known),
        ("category", ~rows[:, None].expand(-1, 2)),
        ("landmarks", targets["landmarks"].isnan()),
    ):
        gradient = outputs[name].grad
        assert (gradient[unknown] == 0).all()
        assert (gradient[~unknown] != 0).all()


def test_a_batch_of_unknown_labels_has_no_loss_and_no_gradient():
    outputs, targets = example()
    targets["attributes"][:] = -1
    targets["category"][:] = -1
    targets["landmarks"][:] = torch.nan
    losses = SchemaLoss(SCHEMA, Loss(label_smoothing=0.1))(outputs, soft_targets(SCHEMA, targets))
    sum(losses.values()).backward()
    assert all(float(loss.detach()) == 0 for loss in losses.values())
    assert all((values.grad == 0).all() for values in outputs.values())


def test_half_precision_outputs_are_widened():
    outputs, targets = example()
    halved = {name: values.detach().bfloat16() for name, values in outputs.items()}
    losses = SchemaLoss(SCHEMA)(halved, soft_targets(SCHEMA, targets))
    assert all(loss.dtype == torch.float32 for loss in losses.values())


def test_a_point_far_off_does_not_drown_the_others():
    schema = LabelSchema((PointGroup("landmarks", ("eye_x", "eye_y")),))
    target = {"landmarks": torch.zeros(1, 2)}
    near, far = (
        float(SchemaLoss(schema)({"landmarks": torch.full((1, 2), off)}, target)["landmarks"]) for off in (0.1, 0.2)
    )
    assert near == pytest.approx(9.5)  # ten hundredths, linear beyond one
    assert far == pytest.approx(19.5)


def test_mixed_targets_are_averages_and_mixed_pictures_have_no_points():
    _, labels = example()
    labels["attributes"][2, 0] = -1
    targets = soft_targets(SCHEMA, labels)
    partner = torch.tensor([3, 2, 1, 0, 5, 4])
    share = torch.tensor([[0.75], [0.5], [1.0], [1.0], [0.9], [1.0]])
    mixed = mix_targets(SCHEMA, targets, partner, share)
    for name in ("attributes", "category"):
        expected = share * targets[name] + (1 - share) * targets[name][partner]
        torch.testing.assert_close(mixed[name][[0, 4]], expected[[0, 4]])
        torch.testing.assert_close(mixed[name][[2, 3, 5]], targets[name][[2, 3, 5]], equal_nan=True)
    assert mixed["attributes"][1].isnan().tolist() == [True, False, False]  # its partner's is unknown
    assert mixed["landmarks"].isnan().all(1).tolist() == [True, True, False, False, True, False]


def test_an_unmixed_picture_does_not_catch_its_partners_unknown_labels():
    _, labels = example(2)
    labels["category"][1] = -1
    mixed = mix_targets(SCHEMA, soft_targets(SCHEMA, labels), torch.tensor([1, 0]), torch.tensor([[1.0], [1.0]]))
    assert mixed["category"].isnan().all(1).tolist() == [False, True]


def test_a_teacher_has_its_share_and_fills_what_is_unknown():
    outputs, labels = example()
    labels["attributes"][0] = -1
    labels["landmarks"][1] = torch.nan
    targets = soft_targets(SCHEMA, labels)
    other = {name: values.flip(0) for name, values in outputs.items()}
    taught = teach_targets(SCHEMA, targets, [outputs, other], 0.25)
    opinion = (outputs["attributes"].sigmoid() + other["attributes"].sigmoid()) / 2
    torch.testing.assert_close(taught["attributes"][0], opinion[0])
    torch.testing.assert_close(taught["attributes"][1:], 0.75 * targets["attributes"][1:] + 0.25 * opinion[1:])
    likely = (outputs["category"].softmax(1) + other["category"].softmax(1)) / 2
    torch.testing.assert_close(taught["category"], 0.75 * targets["category"] + 0.25 * likely)
    places = (outputs["landmarks"] + other["landmarks"]) / 2
    expected = 0.75 * targets["landmarks"] + 0.25 * places  # where no point is known, none is made up
    torch.testing.assert_close(taught["landmarks"], expected, equal_nan=True)
    assert torch.equal(taught["landmarks"].isnan(), targets["landmarks"].isnan())


def test_validation_does_not_smooth_labels():
    outputs, targets = example()
    loss = SchemaLoss(SCHEMA, Loss(label_smoothing=0.3))
    soft = soft_targets(SCHEMA, targets)
    plain = functional.cross_entropy(outputs["category"], targets["category"])
    torch.testing.assert_close(loss(outputs, soft, training=False)["category"], plain)
    assert not torch.isclose(loss(outputs, soft)["category"], plain)


def test_weights_are_torchs_own():
    outputs, targets = example()
    weights = {"attributes": torch.tensor([1.0, 3.0, 0.5]), "category": torch.tensor([0.5, 2.0])}
    losses = SchemaLoss(SCHEMA, Loss(), weights)(outputs, soft_targets(SCHEMA, targets))
    expected = functional.binary_cross_entropy_with_logits(
        outputs["attributes"], targets["attributes"].float(), pos_weight=weights["attributes"]
    )
    torch.testing.assert_close(losses["attributes"], expected)
    each = functional.cross_entropy(
        outputs["category"], targets["category"], weight=weights["category"], reduction="none"
    )
    torch.testing.assert_close(losses["category"], each.mean())


def test_label_weights_are_inverse_frequencies():
    targets = {
        "attributes": torch.tensor([[1, 0, 1], [0, 0, 1], [0, 0, -1], [0, 1, 1]], dtype=torch.int8),
        "category": torch.tensor([0, 0, 0, -1]),
        "landmarks": torch.zeros(4, 2),
    }
    weights = label_weights(SCHEMA, soft_targets(SCHEMA, targets))
    torch.testing.assert_close(weights["attributes"], torch.tensor([3.0, 3.0, 0.1]))
    torch.testing.assert_close(weights["category"], torch.tensor([1.0, 0.0]))
    assert "landmarks" not in weights


@pytest.mark.parametrize("power", [0.1, 0.5, 1.0])
def test_a_power_of_the_label_weights_compensates_in_part(power):
    targets = {
        "attributes": torch.tensor([[1, 0, 1]] + [[0, 0, 1]] * 19 + [[0, 1, -1]] * 4, dtype=torch.int8),
        "category": torch.tensor([0] * 16 + [1] * 4 + [-1] * 4),
        "landmarks": torch.zeros(24, 2),
    }
    weights = label_weights(SCHEMA, soft_targets(SCHEMA, targets), power)
    torch.testing.assert_close(weights["attributes"], torch.tensor([10.0, 5.0, 0.1]) ** power)
    frequent, rare = weights["category"].tolist()
    assert rare / frequent == pytest.approx(4**power)
    assert 16 * frequent + 4 * rare == pytest.approx(20)  # a picture counts 1 in the mean, so the rate stays


@pytest.mark.parametrize("kind", ["focal", "asymmetric"])
def test_easy_labels_count_less(kind):
    schema = LabelSchema((BinaryGroup("attributes", ("a",)),))
    targets = {"attributes": torch.tensor([[0.0]])}

    def ratio(logit):
        outputs = {"attributes": torch.tensor([[logit]])}
        chosen = SchemaLoss(schema, Loss(binary=kind))(outputs, targets)["attributes"]
        return float(chosen / SchemaLoss(schema)(outputs, targets)["attributes"])

    assert ratio(-2.0) < 0.1 < ratio(2.0)
    if kind == "focal":  # (1 - p_t) to the power of two
        assert ratio(-2.0) == pytest.approx(float(torch.sigmoid(torch.tensor(-2.0))) ** 2, rel=1e-4)


def test_squared_errors_are_measured_in_the_training_splits_ranges():
    targets = {"landmarks": torch.tensor([[0.2, 0.5], [0.6, torch.nan], [0.4, 0.5]])}
    schema = LabelSchema((PointGroup("landmarks", ("eye_x", "eye_y")),))
    ranges = point_ranges(schema, targets)
    torch.testing.assert_close(ranges["landmarks"], torch.tensor([0.4, 1.0]))  # a range of nothing is 1
    outputs = {"landmarks": torch.tensor([[0.4, 0.6], [0.6, 9.0], [0.4, 0.5]])}
    loss = SchemaLoss(schema, Loss(points="mse"), ranges=ranges)(outputs, targets)["landmarks"]
    assert float(loss) == pytest.approx((0.25 + 0.01) / 5)


def test_pictures_that_find_themselves_have_a_low_instance_loss():
    generator = torch.Generator().manual_seed(1)
    first = functional.normalize(torch.randn(16, 8, generator=generator), dim=1)
    other = functional.normalize(torch.randn(16, 8, generator=generator), dim=1)
    same = instance_loss(torch.cat([first, first]), 16, 0.1)
    chance = instance_loss(torch.cat([first, other]), 16, 0.1)
    assert same < 0.3 < chance
    # By hand, for two pictures: a view has to be told from the two views of the other picture.
    views = functional.normalize(torch.randn(4, 3, generator=generator), dim=1)
    expected = 0.0
    for row, partner in ((0, 2), (1, 3), (2, 0), (3, 1)):
        scores = torch.tensor([float(views[row] @ views[c]) / 0.5 for c in range(4) if c != row])
        place = [c for c in range(4) if c != row].index(partner)
        expected += float(-scores.log_softmax(0)[place]) / 4
    assert abs(float(instance_loss(views, 2, 0.5)) - expected) < 1e-5


def test_pictures_seen_once_are_only_what_others_are_told_from():
    views = functional.normalize(torch.randn(4, 3, generator=torch.Generator().manual_seed(2)), dim=1)
    expected = 0.0
    for row, partner in ((0, 3), (3, 0)):  # three pictures, of which the first is seen again
        scores = torch.tensor([float(views[row] @ views[c]) / 0.5 for c in range(4) if c != row])
        place = [c for c in range(4) if c != row].index(partner)
        expected += float(-scores.log_softmax(0)[place]) / 2
    assert abs(float(instance_loss(views, 3, 0.5)) - expected) < 1e-5


def test_a_group_counts_as_much_as_it_is_said_to():
    outputs, labels = example()
    targets = soft_targets(SCHEMA, labels)
    plain = SchemaLoss(SCHEMA)(outputs, targets)
    weighed = SchemaLoss(SCHEMA, Loss(group_weights={"category": 0.25}))(outputs, targets)
    torch.testing.assert_close(weighed["category"], 0.25 * plain["category"])
    torch.testing.assert_close(weighed["attributes"], plain["attributes"])

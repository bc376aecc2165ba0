import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install 'stylematch[train]'")
import numpy as np
import torch
from torch import nn
from torch.nn import functional
from waiting import Waiting

from stylematch.data import celeba, fashion_mnist
from stylematch.data.labels import BinaryGroup, CategoricalGroup, LabelSchema
from stylematch.errors import UserError
from stylematch.settings.train_model import Model
from stylematch.vision.asking import logits_of
from stylematch.vision.backbones import _torchvisions_other_size
from stylematch.vision.export import runtime_difference, write_bundle
from stylematch.vision.losses import instance_loss
from stylematch.vision.networks import Network
from stylematch.vision.point_head import PointHead
from stylematch.vision.stored_network import architecture, build_network, load_network
from stylematch.vision.weights_file import load_weights

pytestmark = [pytest.mark.train, pytest.mark.usefixtures("one_thread")]

FACES = Model(backbone="mobilenet_v2", input_px=128, embedding_dim=128)
GARMENTS = Model(backbone="small_resnet", input_px=28, embedding_dim=64)


@pytest.fixture(scope="module")
def garments():
    torch.manual_seed(0)
    return Network(GARMENTS, fashion_mnist.SCHEMA).eval()


@pytest.fixture(scope="module")
def faces():
    torch.manual_seed(0)
    return Network(FACES, celeba.SCHEMA).eval()


def pixels(count, side, channels):
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, side, side, channels), generator=generator, dtype=torch.uint8)


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_both_shipped_networks_have_at_most_four_million_parameters(faces, garments):
    assert parameters(faces) + parameters(garments) <= 4_000_000


def test_faces_give_attributes_landmarks_and_an_embedding(faces):
    with torch.inference_mode():
        embedding, attributes, landmarks = faces(pixels(3, 128, 3))
    assert (embedding.shape, attributes.shape, landmarks.shape) == ((3, 128), (3, 40), (3, 10))
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(3))
    assert ((attributes > 0) & (attributes < 1)).all()
    assert embedding.dtype == attributes.dtype == landmarks.dtype == torch.float32


def test_garments_give_probabilities_and_an_embedding(garments):
    with torch.inference_mode():
        embedding, category = garments(pixels(5, 28, 1))
    assert (embedding.shape, category.shape) == ((5, 64), (5, 10))
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(category.sum(1), torch.ones(5))
    assert (category > 0).all()


@pytest.mark.parametrize("network", ["faces", "garments"])
def test_a_picture_means_the_same_as_pixels_and_as_training_sees_it(network, request):
    net = request.getfixturevalue(network)
    side = 128 if net.channels == 3 else 28
    pictures = pixels(2, side, net.channels)
    with torch.inference_mode():
        served = net(pictures)
        raw, heads = net.outputs(pictures.permute(0, 3, 1, 2).float() / 255)
    torch.testing.assert_close(served[0], torch.nn.functional.normalize(raw, dim=1))
    for group, values in zip(net.schema.groups, served[1:], strict=True):
        logits = heads[group.name]
        match group.kind:
            case "binary":
                expected = logits.sigmoid()
            case "categorical":
                expected = logits.softmax(1)
            case _:
                expected = logits
        torch.testing.assert_close(values, expected)


def test_attributes_are_read_from_the_embedding_and_points_disturb_neither_it_nor_the_backbone(faces):
    pictures = pixels(1, 128, 3).permute(0, 3, 1, 2).float() / 255
    first = next(faces.backbone.parameters())
    with torch.enable_grad():
        embedding, heads = faces.outputs(pictures)
        used = torch.autograd.grad(heads["attributes"].sum(), [embedding, first], retain_graph=True)
        unused = torch.autograd.grad(heads["landmarks"].sum(), [embedding, first], allow_unused=True)
    assert all((gradient != 0).any() for gradient in used)
    assert unused == (None, None)


def test_points_lie_where_their_heat_is():
    head = PointHead(4, 2).eval()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
        points = head(torch.rand(3, 4, 8, 8))
        torch.testing.assert_close(points, torch.full((3, 4), 0.5))  # no heat anywhere: the middle
        hot = torch.zeros(1, 2, 8, 8)
        hot[0, 0, 1, 6] = hot[0, 1, 5, 2] = 50.0  # row, column
        head.maps = torch.nn.Identity()
        torch.testing.assert_close(head(hot), torch.tensor([[6.5 / 8, 1.5 / 8, 2.5 / 8, 5.5 / 8]]))


def test_a_bundles_architecture_builds_the_same_network(garments):
    built = build_network(architecture(garments), fashion_mnist.SCHEMA, 28)
    assert {k: v.shape for k, v in built.state_dict().items()} == {k: v.shape for k, v in garments.state_dict().items()}
    # The pixel statistics are constants of the code, not weights.
    assert not any(name.startswith("pixel_") for name in garments.state_dict())


def test_any_schema_gets_its_heads():
    schema = LabelSchema((BinaryGroup("wearing", ("hat", "coat")), BinaryGroup("indoors", ("indoors",))))
    network = Network(Model(backbone="small_resnet", input_px=28, embedding_dim=8), schema).eval()
    with torch.inference_mode():
        outputs = network(pixels(2, 28, 1))
    assert [tuple(values.shape) for values in outputs] == [(2, 8), (2, 2), (2, 1)]


def test_unknown_names_and_missing_weights_are_explained(monkeypatch, tmp_path):
    def build(**model):
        return Network(Model(**{"input_px": 64, **model}), celeba.SCHEMA)

    with pytest.raises(UserError, match=r"model.backbone: 'vgg61' is unknown"):
        build(backbone="vgg61")
    with pytest.raises(UserError, match=r"model.weights: small_resnet has no pretrained weights"):
        build(backbone="small_resnet", weights="imagenet")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there: as without a network
    with pytest.raises(UserError, match=r"could not be loaded or fetched .*point TORCH_HOME"):
        build(backbone="mobilenet_v2", weights="imagenet")
    damaged = tmp_path / "hub" / "checkpoints" / "mobilenet_v2-b0353104.pth"
    damaged.write_bytes(b"half of it")
    with pytest.raises(UserError, match=r"could not be loaded or fetched .*point TORCH_HOME") as caught:
        build(backbone="mobilenet_v2", weights="imagenet")
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)  # torch's advice to run what is in the file
    with pytest.raises(UserError, match=r"model.weights: .*missing.pth is no file"):
        build(backbone="mobilenet_v2", weights=str(tmp_path / "missing.pth"))
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(UserError, match=r"model.weights: .*text.pth does not hold weights"):
        build(backbone="mobilenet_v2", weights=str(tmp_path / "text.pth"))
    with pytest.raises(UserError, match=r"model.frozen: mobilenet_v2 has 19 children, not 20"):
        build(backbone="mobilenet_v2", frozen=20)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"\x80\x02.", "it is no file of torch's, or holds more than tensors"),
        (torch.nn.Linear(2, 2), "it is no file of torch's, or holds more than tensors"),
        ({"a": torch.zeros(3)}, r"Error\(s\) in loading state_dict for MobileNetV2: Missing key\(s\) .*\.\.\."),
        ([1, 2], "Expected state_dict to be dict-like"),
    ],
)
def test_a_file_without_weights_is_one_short_sentence(content, why, tmp_path):
    path = tmp_path / "other.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(
        UserError, match=rf"other.pth does not hold weights of this network \({why}.*\); name "
    ) as caught:
        Network(Model(backbone="mobilenet_v2", weights=str(path), input_px=64), celeba.SCHEMA)
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_weights_of_a_file_are_taken(device, tmp_path, monkeypatch):
    from torchvision.models import squeezenet1_1

    source = squeezenet1_1(weights=None)
    monkeypatch.setattr("torch.serialization.location_tag", lambda storage: device)  # where they were when stored
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    model = Model(backbone="squeezenet1_1", weights=str(tmp_path / "weights.pth"), input_px=64)
    network = Network(model, fashion_mnist.SCHEMA)
    for name, value in source.features.state_dict().items():
        assert torch.equal(network.backbone.state_dict()[name], value), name


@pytest.mark.parametrize(
    ("name", "input_px"),
    [
        ("alexnet", 96),
        ("convnext_tiny", 64),
        ("densenet121", 64),
        ("efficientnet_b0", 64),
        ("googlenet", 64),
        ("inception_v3", 96),
        ("maxvit_t", 224),
        ("mnasnet0_5", 64),
        ("mobilenet_v3_small", 64),
        ("regnet_y_400mf", 64),
        ("resnet18", 64),
        ("shufflenet_v2_x0_5", 64),
        ("squeezenet1_1", 64),
        ("swin_t", 64),
        ("vgg11", 64),
        ("vit_b_32", 64),
    ],
)
def test_every_family_of_torchvision_is_a_backbone(name, input_px):
    network = Network(Model(backbone=name, input_px=input_px), celeba.SCHEMA).train()
    with torch.no_grad():
        embedding, heads = network.outputs(torch.rand(2, 3, input_px, input_px))
    assert embedding.shape == (2, network.embedding_dim)
    assert heads["attributes"].shape == (2, 40)
    assert heads["landmarks"].shape == (2, 10)


def test_what_is_frozen_neither_learns_nor_keeps_new_statistics():
    torch.manual_seed(0)
    network = Network(Model(backbone="resnet18", input_px=64, frozen=5), celeba.SCHEMA).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    _, heads = network.outputs(torch.rand(4, 3, 64, 64))
    heads["attributes"].square().mean().backward()
    optimizer.step()
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    frozen = {f"backbone.{name}" for name in ("conv1", "bn1", "layer1")}
    assert not any(name.startswith(tuple(frozen)) for name in changed)
    assert any(name.startswith("backbone.layer2") and name.endswith("running_mean") for name in changed)
    assert "backbone.layer2.0.conv1.weight" in changed
    network.freeze("none")
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(module.training for module in network.modules())


def test_dense_layers_follow_flattened_maps():
    model = Model(backbone="vgg11", input_px=64, pool="flatten", hidden=(32, 16), dropout=0.5)
    network = Network(model, celeba.SCHEMA)
    assert network.dense[0].in_features == 512 * 2 * 2
    assert network.embedding_dim == 16
    built = build_network(architecture(network), celeba.SCHEMA, 64)
    assert {k: v.shape for k, v in built.state_dict().items()} == {k: v.shape for k, v in network.state_dict().items()}


def test_luminance_is_all_that_a_grey_network_sees():
    network = Network(Model(backbone="squeezenet1_1", input_px=64, grayscale=True), fashion_mnist.SCHEMA).eval()
    colour = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    luma = (colour * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    with torch.no_grad():
        torch.testing.assert_close(network.outputs(colour)[0], network.outputs(luma.expand(-1, 3, -1, -1))[0])


def test_temperatures_divide_the_logits(garments):
    network = build_network(architecture(garments), fashion_mnist.SCHEMA, 28).eval()
    pictures = pixels(3, 28, 1).numpy()
    before = logits_of(network, pictures)["category"]
    network.cool("category", np.array([2.5]))
    np.testing.assert_allclose(logits_of(network, pictures)["category"], before / 2.5, rtol=1e-4, atol=1e-6)


def test_pictures_come_to_where_the_network_is(monkeypatch):
    """A GPU's part is taken by a device without values."""
    there, places = Network(GARMENTS, fashion_mnist.SCHEMA).to("meta"), []

    def outputs(pictures):
        places.append((pictures.device.type, tuple(pictures.shape)))
        return None, {"category": torch.zeros(len(pictures), 10)}

    monkeypatch.setattr(there, "outputs", outputs)
    assert logits_of(there, np.zeros((3, 28, 28, 1), np.uint8), batch_size=2)["category"].shape == (3, 10)
    assert places == [("meta", (2, 1, 28, 28)), ("meta", (1, 1, 28, 28))]


def test_a_network_that_cannot_be_made_for_such_pictures_is_one_sentence():
    with pytest.raises(UserError, match=r"vit_b_32 cannot be made for pictures of 100 px .*change model.input_px"):
        Network(Model(backbone="vit_b_32", input_px=100), celeba.SCHEMA)


def test_timms_networks_are_backbones():
    pytest.importorskip("timm", reason="timm is not installed: pip install 'stylematch[timm]'")
    for name in ("timm:resnet10t", "timm:vit_tiny_patch16_224"):
        network = Network(Model(backbone=name, input_px=64), celeba.SCHEMA).eval()
        with torch.no_grad():
            assert network.outputs(torch.rand(2, 3, 64, 64))[1]["attributes"].shape == (2, 40)
    with pytest.raises(UserError, match="timm has no 'nothing'"):
        Network(Model(backbone="timm:nothing", input_px=64), celeba.SCHEMA)


def test_timms_weights_of_a_file_are_taken_at_another_size(tmp_path):
    timm = pytest.importorskip("timm", reason="timm is not installed: pip install 'stylematch[timm]'")
    stored = timm.create_model("vit_tiny_patch16_224").state_dict()
    path = tmp_path / "224.pth"
    torch.save(stored, path)
    for input_px in (224, 128):
        model = Model(backbone="timm:vit_tiny_patch16_224", weights=str(path), input_px=input_px)
        taken = Network(model, celeba.SCHEMA).backbone.state_dict()
        assert torch.equal(taken["whole.blocks.3.mlp.fc1.weight"], stored["blocks.3.mlp.fc1.weight"])
        assert taken["whole.pos_embed"].shape[1] == 1 + (input_px // 16) ** 2
        assert torch.equal(taken["whole.pos_embed"][:, 0], stored["pos_embed"][:, 0])  # the class has no place
    torch.save({key: value for key, value in stored.items() if "blocks.3." not in key}, path)
    with pytest.raises(UserError, match="does not hold weights of this network"):
        Network(model, celeba.SCHEMA)


def test_a_transformers_positions_are_resampled_to_another_size(tmp_path):
    from torchvision.models import VisionTransformer

    options = {"patch_size": 16, "num_layers": 1, "num_heads": 2, "hidden_dim": 8, "mlp_dim": 8}
    large, small = (VisionTransformer(image_size=side_px, **options) for side_px in (96, 64))
    torch.save(large.state_dict(), tmp_path / "96.pth")
    stored = {name: value.clone() for name, value in large.state_dict().items()}
    load_weights(small, tmp_path / "96.pth", _torchvisions_other_size(small, 64))
    taken = small.state_dict()
    assert taken.pop("encoder.pos_embedding").shape == (1, 1 + 16, 8)
    for name, value in taken.items():
        assert torch.equal(value, stored[name]), name
    with pytest.raises(UserError, match=r"does not hold weights of this network .*size mismatch"):
        load_weights(small, tmp_path / "96.pth")


def divided(**changes):
    options = {"instance_dim": 8, "instance_share": 0.25, "embedded": ("category",), **changes}
    return Model(backbone="small_resnet_rgb", input_px=28, pool="grid", **options)


def test_a_divided_embedding_is_the_classes_probabilities_and_what_tells_one_class_apart():
    schema = LabelSchema((CategoricalGroup("category", ("a", "b")), CategoricalGroup("season", ("x", "y", "z"))))
    torch.manual_seed(0)
    net = Network(divided(), schema).eval()
    pictures = torch.rand(5, 3, 28, 28)
    with torch.no_grad():
        embedding, heads = net.outputs(pictures)
    assert embedding.shape == (5, net.embedding_dim) == (5, 2 + 8)
    chances = torch.softmax(heads["category"], 1)
    torch.testing.assert_close(embedding[:, :2], 0.75**0.5 * functional.normalize(chances, dim=1))
    torch.testing.assert_close(embedding[:, 2:].square().sum(1), torch.full((5,), 0.25))
    # The product of two first parts says how far two pictures agree about their class: the cosine of what they say.
    expected = 0.75 * torch.cosine_similarity(chances[0], chances[1], dim=0)
    torch.testing.assert_close(embedding[0, :2] @ embedding[1, :2], expected)
    # A temperature folded into the head reaches the embedding, too.
    net.cool("category", np.array([2.0]))
    cooler = torch.softmax(heads["category"] / 2, 1)
    torch.testing.assert_close(
        net.outputs(pictures)[0][:, :2].detach(), 0.75**0.5 * functional.normalize(cooler, dim=1)
    )


def test_a_divided_embedding_comes_back_from_its_description():
    schema = LabelSchema((CategoricalGroup("category", ("a", "b")), CategoricalGroup("season", ("x", "y", "z"))))
    net = Network(divided(embedded=("category", "season")), schema)
    again = build_network(architecture(net), schema, 28)
    again.load_state_dict(net.state_dict())
    pictures = torch.randint(0, 256, (3, 28, 28, 3), dtype=torch.uint8)
    with torch.no_grad():
        for mine, theirs in zip(net.eval()(pictures), again.eval()(pictures), strict=True):
            torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("model", [divided(mirror=True), GARMENTS.model_copy(update={"mirror": True})])
def test_a_model_that_mirrors_answers_by_the_mean_of_both_sides(model):
    schema = LabelSchema((CategoricalGroup("category", ("a", "b")),))
    torch.manual_seed(0)
    net = Network(model, schema).eval()
    shown = pixels(4, 28, net.channels)
    raw = shown.permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        embedding, chances = net(shown)
        turned = net(shown.flip(2))
        one_side, other_side = (net.outputs(side)[1]["category"] for side in (raw, raw.flip(3)))
    assert not torch.allclose(one_side, other_side)
    torch.testing.assert_close(chances, ((one_side + other_side) / 2).softmax(1))
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(4))
    for mine, theirs in zip((embedding, chances), turned, strict=True):  # which side it is shown does not matter
        torch.testing.assert_close(mine, theirs)
    torch.testing.assert_close(torch.from_numpy(logits_of(net, shown.numpy())["category"]).softmax(1), chances)


def test_points_of_a_model_that_mirrors_are_the_mean_of_those_found_from_both_sides():
    schema = LabelSchema((celeba.SCHEMA.group("landmarks"),))
    torch.manual_seed(0)
    net = Network(FACES.model_copy(update={"mirror": True, "embedded": ()}), schema).eval()
    with torch.no_grad():
        for parameter in net.heads["landmarks"].parameters():
            parameter.normal_()  # first weights find everything in the middle
    shown = pixels(2, 128, 3)
    raw = shown.permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        found = net(shown)[1].view(2, 5, 2)
        one_side, other_side = (net.outputs(side)[1]["landmarks"].view(2, 5, 2) for side in (raw, raw.flip(3)))
    swapped = other_side[:, [1, 0, 2, 4, 3]]  # eyes and corners of the mouth
    expected = (one_side + torch.stack([1 - swapped[..., 0], swapped[..., 1]], 2)) / 2
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(one_side, expected)


def test_a_divided_embedding_needs_classes():
    with pytest.raises(UserError, match="attributes has no classes"):
        Network(divided(embedded=("attributes",)), LabelSchema((BinaryGroup("attributes", ("a", "b")),)))


def test_a_grid_of_means_is_torchs_own_adaptive_pooling():
    model = Model(backbone="small_resnet_rgb", input_px=28, pool="grid", embedding_dim=4)
    net = Network(model, LabelSchema((CategoricalGroup("category", ("a", "b")),)))
    maps = torch.rand(2, 136, 7, 8)
    torch.testing.assert_close(net._laid_out(maps), torch.nn.functional.adaptive_avg_pool2d(maps, 3))


@pytest.mark.parametrize("pool", ["mean", "grid"])
def test_a_network_does_not_wait_for_its_device(pool):
    network = Network(Model(backbone="small_resnet", input_px=28, pool=pool), fashion_mnist.SCHEMA)
    network.give_space(10)
    network.to("meta")
    with Waiting() as waiting:
        network(torch.zeros(2, 28, 28, 1, dtype=torch.uint8, device="meta"))
    assert waiting.calls == []


def of_few_layers(name):
    """Return a network of torchvision's in small."""
    from torchvision.models import convnext, maxvit

    if name == "convnext_tiny":
        return convnext.ConvNeXt([convnext.CNBlockConfig(8, 16, 1), convnext.CNBlockConfig(16, None, 1)])
    return maxvit.MaxVit((16, 16), 8, 2, [8], [1], head_dim=8, stochastic_depth_prob=0.0)


@pytest.mark.parametrize(("name", "kept"), [("convnext_tiny", 2), ("maxvit_t", 3)])
def test_a_norm_within_the_classifier_is_part_of_the_features(name, kept, monkeypatch):
    from torchvision import models

    torch.manual_seed(0)
    whole, pictures, given = of_few_layers(name).eval(), torch.rand(2, 3, 16, 16), []
    norm = next(layer for layer in whole.classifier if isinstance(layer, nn.LayerNorm))
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    whole.classifier[kept].register_forward_pre_hook(lambda _, values: given.append(values[0]))
    monkeypatch.setattr(models, "get_model", lambda *_, **__: whole)
    with torch.no_grad():
        whole((pictures - 0.5) / 0.25)
        model = Model(backbone=name, input_px=16, embedding_dim=0, frozen="backbone")
        network = Network(model, celeba.SCHEMA).eval()
        network.pixel_mean.fill_(0.5)
        network.pixel_std.fill_(0.25)
        features, _ = network.outputs(pictures)
    torch.testing.assert_close(features, given[0])
    assert not any(weight.requires_grad for weight in network.norm.parameters())


@pytest.mark.parametrize("pool", ["mean", "grid", "flatten"])
def test_a_bundle_has_the_norm_and_one_from_before_it_was_kept_none(pool, monkeypatch):
    from torchvision import models

    monkeypatch.setattr(models, "get_model", lambda name, **_: of_few_layers(name))
    network = Network(Model(backbone="convnext_tiny", input_px=32, pool=pool), celeba.SCHEMA)
    described = architecture(network)
    again = build_network(described, celeba.SCHEMA, 32)
    assert again.state_dict().keys() == network.state_dict().keys()
    assert described.pop("normed")
    before = build_network(described, celeba.SCHEMA, 32)
    assert network.state_dict().keys() - before.state_dict().keys() == {"norm.weight", "norm.bias"}
    before.load_state_dict(network.state_dict(), strict=False)
    pictures = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        left, right = (one.eval().outputs(pictures)[0] for one in (network, before))
    assert not torch.allclose(left, right)


def test_densenet_ends_in_its_last_activation():
    network = Network(Model(backbone="densenet121", input_px=64), celeba.SCHEMA).eval()
    with torch.no_grad():
        assert network.backbone(torch.randn(2, 3, 64, 64)).min() >= 0


def test_weights_of_other_classes_are_weights_of_the_backbone(tmp_path):
    from torchvision.models import resnet18

    stored = resnet18(num_classes=7).state_dict()
    for name, state in (("seven.pth", stored), ("none.pth", {k: v for k, v in stored.items() if k[:3] != "fc."})):
        torch.save(state, tmp_path / name)
        network = Network(Model(backbone="resnet18", weights=str(tmp_path / name), input_px=64), celeba.SCHEMA)
        assert torch.equal(network.backbone.conv1.weight, stored["conv1.weight"])
    torch.save({k: v for k, v in stored.items() if k != "conv1.weight"}, tmp_path / "half.pth")
    with pytest.raises(UserError, match="does not hold weights of this network"):
        Network(Model(backbone="resnet18", weights=str(tmp_path / "half.pth"), input_px=64), celeba.SCHEMA)


def test_a_layer_that_is_read_is_not_changed_by_the_next():
    network = Network(Model(backbone="alexnet", input_px=64, embedding_layer=4), celeba.SCHEMA).eval()
    pictures = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        _, layers = network.layers_of(pictures)
        expected = network.backbone[:4]((pictures - network.pixel_mean) / network.pixel_std)
    assert expected.min() < 0  # before the activation, which is in place
    assert torch.equal(layers[4], expected)


def test_points_and_similarities_keep_their_digits_under_autocast():
    torch.manual_seed(0)
    head = PointHead(8, 3).eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        heat = head.maps(torch.randn(4, 8, 9, 9))
        head.maps = torch.nn.Identity()
        points = head(heat)
    exact = head(heat.float())
    assert points.dtype == torch.float32
    torch.testing.assert_close(points, exact)
    views = torch.nn.functional.normalize(torch.randn(12, 16), dim=1)
    with torch.autocast("cpu", torch.bfloat16):
        narrow = instance_loss(views, 6, 0.1)
    assert torch.equal(narrow, instance_loss(views, 6, 0.1))


@pytest.mark.slow
def test_a_transformers_bundle_comes_back_and_has_its_weights_once(tmp_path):
    """It has tables of whole numbers, and transposes its weights, which an optimiser would fold into copies."""
    torch.manual_seed(0)
    network = Network(Model(backbone="swin_t", input_px=64), celeba.SCHEMA).eval()
    bundle = write_bundle(network, tmp_path / "bundle", name="swin", licence="none")
    assert (bundle.directory / "model.onnx").stat().st_size < 2_000_000
    assert runtime_difference(bundle) < 1e-5
    again = load_network(bundle).eval()
    pictures = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    with torch.no_grad():
        for mine, theirs in zip(network(pictures), again(pictures), strict=True):
            torch.testing.assert_close(theirs, mine, atol=0.02, rtol=0.05)  # stored in half precision

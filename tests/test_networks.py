import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install 'stylematch[train]'")
import torch

from stylematch.data import celeba, fashion_mnist
from stylematch.data.labels import BinaryGroup, LabelSchema
from stylematch.errors import UserError
from stylematch.vision.networks import Network, _PointHead, build_network

pytestmark = pytest.mark.train


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Torch's threads wait for each other in busy loops, which takes minutes on cores that others use too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def garments():
    torch.manual_seed(0)
    return Network("small_resnet", fashion_mnist.SCHEMA, 64).eval()


@pytest.fixture(scope="module")
def faces():
    torch.manual_seed(0)
    return Network("mobilenet_v2", celeba.SCHEMA, 128).eval()


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
    head = _PointHead(4, 2).eval()
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
    built = build_network({"backbone": "small_resnet", "embedding_dim": 64}, fashion_mnist.SCHEMA)
    assert {k: v.shape for k, v in built.state_dict().items()} == {k: v.shape for k, v in garments.state_dict().items()}
    # The pixel statistics are constants of the code, not weights.
    assert not any(name.startswith("pixel_") for name in garments.state_dict())


def test_any_schema_gets_its_heads():
    schema = LabelSchema((BinaryGroup("wearing", ("hat", "coat")), BinaryGroup("indoors", ("indoors",))))
    network = Network("small_resnet", schema, 8).eval()
    with torch.inference_mode():
        outputs = network(pixels(2, 28, 1))
    assert [tuple(values.shape) for values in outputs] == [(2, 8), (2, 2), (2, 1)]


def test_unknown_names_and_missing_weights_are_explained(monkeypatch, tmp_path):
    with pytest.raises(UserError, match=r"model.backbone: 'vgg16' is unknown"):
        Network("vgg16", fashion_mnist.SCHEMA, 8)
    with pytest.raises(UserError, match=r"model.weights: small_resnet has no pretrained weights"):
        Network("small_resnet", fashion_mnist.SCHEMA, 8, weights="imagenet")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there: as without a network
    with pytest.raises(UserError, match=r"could not be loaded or fetched .*point TORCH_HOME"):
        Network("mobilenet_v2", celeba.SCHEMA, 8, weights="imagenet")

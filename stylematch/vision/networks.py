"""Networks (torch): a backbone, an embedding and one linear head per label group.

``Network.forward`` takes uint8 pictures and normalises them itself, so that a network, its ONNX export and
every caller agree about preprocessing by construction. Attributes and classes are read from the embedding,
which is therefore a summary of just what the labels ask for. Points are read from an earlier, finer feature map, as
the expectation of a heat map (integral regression; Sun et al., ECCV 2018), and their gradients stop there: learning
them cannot disturb the labels, nor need their losses be weighed against each other.

Backbones: MobileNetV2 (Sandler et al., CVPR 2018; torchvision's), and a small residual network (He et al.,
CVPR 2016) for 28x28 pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from stylematch.data.labels import LabelSchema
from stylematch.errors import UserError
from stylematch.vision.bundle import WEIGHTS, Bundle, damaged

# torchvision's ImageNet statistics; the small network learns from scratch and only needs a sane range.
_STATISTICS = {3: ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), 1: ((0.5,), (0.5,))}


class Network(nn.Module):
    """Backbone, embedding and heads.

    Parameters
    ----------
    backbone : {"mobilenet_v2", "small_resnet"}
        Name of the feature extractor.
    schema : LabelSchema
        One head per group.
    embedding_dim : int
        Size of the embedding.
    dropout : float
        Share of the features dropped while training.
    weights : {"imagenet", "none"}
        Where the backbone's first weights come from.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        backbone: str,
        schema: LabelSchema,
        embedding_dim: int,
        dropout: float = 0.0,
        weights: Literal["imagenet", "none"] = "none",
    ) -> None:
        super().__init__()
        self.schema = schema
        self.backbone, self.anatomy = _backbone(backbone, weights)
        self.channels = self.anatomy.channels
        self.dropout = nn.Dropout(dropout)
        self.embedding = nn.Linear(self.anatomy.features, embedding_dim)
        self.heads = nn.ModuleDict(
            {
                g.name: _PointHead(self.anatomy.finer_features, g.width // 2)
                if g.kind == "points"
                else nn.Linear(embedding_dim, g.width)
                for g in schema.groups
            }
        )
        mean, std = _STATISTICS[self.channels]
        self.register_buffer("pixel_mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def outputs(self, pictures: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return raw embedding and logits (or points) of pictures in 0 to 1.

        Parameters
        ----------
        pictures : Tensor of float, shape (n, channels, side, side)

        Returns
        -------
        embedding : Tensor of float, shape (n, embedding_dim)
        heads : dict of str to Tensor of float, shape (n, width of the group)
        """
        finer = self.backbone[: self.anatomy.finer_layers]((pictures - self.pixel_mean) / self.pixel_std)
        pooled = self.backbone[self.anatomy.finer_layers :](finer).mean(dim=(2, 3))
        embedding = self.embedding(self.dropout(pooled))
        return embedding, {
            group.name: self.heads[group.name](finer.detach() if group.kind == "points" else embedding)
            for group in self.schema.groups
        }

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Return what a bundle promises for uint8 pictures.

        Parameters
        ----------
        pixels : Tensor of uint8, shape (n, side, side, channels)

        Returns
        -------
        tuple of Tensor of float32
            The L2-normalised embedding (n, embedding_dim), then for each group its probabilities or points.
        """
        embedding, heads = self.outputs(pixels.permute(0, 3, 1, 2).to(torch.float32) / 255.0)
        results = [functional.normalize(embedding, dim=1)]
        for group in self.schema.groups:
            values = heads[group.name]
            if group.kind == "binary":
                values = torch.sigmoid(values)
            elif group.kind == "categorical":
                values = torch.softmax(values, dim=1)
            results.append(values)
        return tuple(results)


class _PointHead(nn.Module):
    """Heat maps over a feature map; a point is where its heat map's mass lies on average."""

    def __init__(self, features: int, points: int, width: int = 64) -> None:
        super().__init__()
        self.maps = nn.Sequential(
            nn.Conv2d(features, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, points, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        heat = self.maps(x).float()
        side = heat.shape[-1]
        centres = (torch.arange(side, device=x.device, dtype=torch.float32) + 0.5) / side
        places = torch.stack([centres.repeat(side), centres.repeat_interleave(side)], 1)
        return (torch.softmax(heat.flatten(2), dim=2) @ places).flatten(1)


class _Residual(nn.Module):
    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.relu(self.first_norm(self.first(x)))
        return functional.relu(self.second_norm(self.second(inner)) + self.shortcut(x))


def _small_resnet() -> nn.Sequential:
    widths = (32, 80, 144)
    layers: list[nn.Module] = [
        nn.Conv2d(1, widths[0], 3, 1, 1, bias=False),
        nn.BatchNorm2d(widths[0]),
        nn.ReLU(),
        _Residual(widths[0], widths[0], 1),
    ]
    for before, width in pairwise(widths):
        layers += [_Residual(before, width, 2), _Residual(width, width, 1)]
    return nn.Sequential(*layers)


@dataclass(frozen=True)
class _Anatomy:
    """What there is to know of a backbone: features at its end, channels of its input, where its finer map is."""

    features: int
    channels: int
    finer_layers: int
    finer_features: int


def _backbone(name: str, weights: str) -> tuple[nn.Sequential, _Anatomy]:
    """Return a feature extractor and its anatomy."""
    if name == "small_resnet":
        if weights != "none":
            raise UserError('model.weights: small_resnet has no pretrained weights; set weights = "none".')
        return _small_resnet(), _Anatomy(features=144, channels=1, finer_layers=6, finer_features=80)
    if name == "mobilenet_v2":
        from torchvision.models import MobileNet_V2_Weights, mobilenet_v2

        try:
            net = mobilenet_v2(weights=MobileNet_V2_Weights.IMAGENET1K_V1 if weights == "imagenet" else None)
        except OSError as error:
            raise UserError(
                "model.weights: the ImageNet weights of mobilenet_v2 could not be loaded or fetched "
                f'({error}); point TORCH_HOME at a folder that has them, or set weights = "none".'
            ) from error
        return net.features, _Anatomy(features=1280, channels=3, finer_layers=14, finer_features=96)
    raise UserError(f"model.backbone: '{name}' is unknown; known are mobilenet_v2 and small_resnet.")


def build_network(architecture: dict[str, Any], schema: LabelSchema, dropout: float = 0.0) -> Network:
    """Build the network that a bundle's ``architecture`` entry describes, with random weights."""
    return Network(architecture["backbone"], schema, int(architecture["embedding_dim"]), dropout)


def load_network(bundle: Bundle, dropout: float = 0.0) -> Network:
    """Build the network of a bundle with the bundle's weights, widened to float32.

    Parameters
    ----------
    bundle : Bundle
        The model.
    dropout : float
        For training it further.

    Raises
    ------
    UserError
        If the weights are damaged or do not fit the architecture that ``bundle.json`` names.
    """
    network = build_network(bundle.description["architecture"], bundle.schema, dropout)
    try:
        stored = load_file(bundle.directory / WEIGHTS)
        result = network.load_state_dict({key: value.float() for key, value in stored.items()}, strict=False)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise damaged(bundle, error) from error
    if result.unexpected_keys or any(not key.endswith("num_batches_tracked") for key in result.missing_keys):
        raise UserError(f"{bundle.directory}: the weights do not fit the architecture that bundle.json names.")
    return network

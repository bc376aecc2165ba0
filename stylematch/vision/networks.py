"""Networks (torch): a backbone, an embedding and one linear head per label group.

``Network.forward`` takes uint8 pictures and normalises them itself, so that a network, its ONNX export and
every caller agree about preprocessing by construction. Attributes and classes are read from the embedding,
which is therefore a summary of just what the labels ask for. Points are read from an earlier, finer feature map, as
the expectation of a heat map (integral regression; Sun et al., ECCV 2018), and their gradients stop there: learning
them cannot disturb the labels, nor need their losses be weighed against each other.

An embedding may be divided. The first part is the classes' probabilities, whose cosine says how far two pictures agree
about their class (query by semantic example: Rasiwasia et al., IEEE TMM 2007); the second tells pictures of one class
apart. Each has a length of its own, so that neither drowns the other in a cosine.

Between backbone and heads there may be dense layers, as in VGG (Simonyan and Zisserman, ICLR 2015).
"""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from stylematch.data.labels import LabelSchema
from stylematch.errors import UserError
from stylematch.settings import Model
from stylematch.vision.backbones import GRID, load_backbone
from stylematch.vision.bundle import WEIGHTS, Bundle, damaged

_LUMA = (0.299, 0.587, 0.114)
_DESCRIBED = ("backbone", "pool", "hidden", "grayscale", "instance_dim", "instance_share", "embedded")


class Network(nn.Module):
    """Backbone, dense layers, embedding and heads.

    Parameters
    ----------
    model : Model
        What it is made of.
    schema : LabelSchema
        One head per group.
    """

    pixel_mean: Tensor
    pixel_std: Tensor
    luma: Tensor
    frozen: nn.Sequential

    def __init__(self, model: Model, schema: LabelSchema) -> None:
        super().__init__()
        self.model, self.schema = model, schema
        anatomy = load_backbone(model.backbone, model.weights, model.input_px, model.pool)
        self.backbone = anatomy.layers
        self.channels, self.maps, self.finer_layers = len(anatomy.mean), anatomy.maps, anatomy.finer_layers
        dense: list[nn.Module] = []
        width = anatomy.features
        for wider in model.hidden:
            dense += [nn.Linear(width, wider), nn.ReLU(), nn.Dropout(model.dropout)]
            width = wider
        self.dense = nn.Sequential(*dense)
        self.dropout = nn.Dropout(0.0 if dense else model.dropout)
        projected = model.instance_dim or model.embedding_dim
        self.embedding = nn.Linear(width, projected) if projected else nn.Identity()
        agreed = [schema.group(name) for name in model.embedded] if model.instance_dim else []
        if strange := next((group for group in agreed if group.kind != "categorical"), None):
            raise UserError(f"model.embedded: {strange.name} has no classes; a divided embedding is made of classes.")
        self.embedding_dim = sum(group.width for group in agreed) + (projected or width)
        self.heads = nn.ModuleDict(
            {
                g.name: _PointHead(anatomy.finer_features, g.width // 2)
                if g.kind == "points" and self.finer_layers
                else nn.Linear(self.embedding_dim if self._embeds(g.name) else width, g.width)
                for g in schema.groups
            }
        )
        self.freeze(model.frozen)
        for name, values in (("pixel_mean", anatomy.mean), ("pixel_std", anatomy.std), ("luma", _LUMA)):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1), persistent=False)

    def freeze(self, what: Literal["none", "backbone"] | int) -> None:
        """Let the whole backbone or its first children keep their weights and statistics, and all else learn.

        Raises
        ------
        UserError
            If the backbone has fewer children.
        """
        count = {"none": 0, "backbone": len(self.backbone)}.get(what, what) if isinstance(what, str) else what
        if int(count) > len(self.backbone):
            raise UserError(f"model.frozen: {self.model.backbone} has {len(self.backbone)} children, not {count}.")
        self.requires_grad_(True)
        # Not a submodule: it is a part of the backbone, under whose name its weights are stored.
        object.__setattr__(self, "frozen", self.backbone[: int(count)].requires_grad_(False))
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set the mode; what is frozen stays in evaluation mode, or its statistics would learn."""
        super().train(mode)
        self.frozen.eval()
        return self

    def cool(self, group: str, temperatures: npt.NDArray[np.floating]) -> None:
        """Divide a group's logits by temperatures (Guo et al., ICML 2017), within its head: it costs nothing later.

        Parameters
        ----------
        group : str
            A binary or categorical group.
        temperatures : ndarray of float, shape (width,) or (1,)
            Over 0.
        """
        head = self.heads[group]
        assert isinstance(head, nn.Linear)
        with torch.no_grad():
            scale = torch.from_numpy(np.asarray(temperatures)).to(head.weight)
            head.weight.div_(scale[:, None])
            head.bias.div_(scale)

    def logits(self, pixels: npt.NDArray[np.uint8], batch_size: int = 64) -> dict[str, npt.NDArray[np.float32]]:
        """Return the raw outputs of every head for uint8 pictures (n, side, side, channels)."""
        parts: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in self.heads}
        for start in range(0, len(pixels), batch_size):
            pictures = (
                torch.from_numpy(np.array(pixels[start : start + batch_size])).permute(0, 3, 1, 2).float() / 255.0
            )
            with torch.inference_mode():
                _, heads = self.outputs(pictures.contiguous(memory_format=torch.channels_last))
            for name, values in heads.items():
                parts[name].append(values.float().numpy())
        return {name: np.concatenate(values) for name, values in parts.items()}

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
        if self.model.grayscale and self.channels == 3:
            pictures = (pictures * self.luma).sum(1, keepdim=True).expand(-1, 3, -1, -1)
        finer = self.backbone[: self.finer_layers]((pictures - self.pixel_mean) / self.pixel_std)
        features = self.backbone[self.finer_layers :](finer)
        if self.maps:
            features = features.mean(dim=(2, 3)) if self.model.pool == "mean" else self._laid_out(features).flatten(1)
        features = self.dropout(self.dense(features))
        embedding = self.embedding(features)
        heads = {
            name: head(
                finer.detach() if isinstance(head, _PointHead) else embedding if self._embeds(name) else features
            )
            for name, head in self.heads.items()
        }
        return self._divided(embedding, heads) if self.model.instance_dim else embedding, heads

    def _divided(self, instance: Tensor, heads: dict[str, Tensor]) -> Tensor:
        """Return the classes' part beside what tells pictures of one class apart, a unit vector together."""
        share, count = self.model.instance_share, len(self.model.embedded)
        agreed = [
            functional.normalize(torch.softmax(heads[name].float(), 1), dim=1) * ((1 - share) / count) ** 0.5
            for name in self.model.embedded
        ]
        return torch.cat([*agreed, functional.normalize(instance.float(), dim=1) * share**0.5], 1)

    def _laid_out(self, maps: Tensor) -> Tensor:
        """Return the maps, or their means over a grid: as products with matrices, which every runtime knows."""
        if self.model.pool == "flatten":
            return maps
        rows, columns = (_windows(side).to(maps) for side in maps.shape[2:])
        return rows @ maps @ columns.T

    def _embeds(self, group: str) -> bool:
        """Whether a group is read from the embedding: not from a divided one, of which its probabilities are a part."""
        return not self.model.instance_dim and (not self.model.embedded or group in self.model.embedded)

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


def _windows(side: int) -> Tensor:
    """Return the matrix (GRID, side) that averages over equal windows, which overlap where they do not fit."""
    windows = torch.zeros(GRID, side)
    for number in range(GRID):
        start, end = number * side // GRID, -(-(number + 1) * side // GRID)
        windows[number, start:end] = 1 / (end - start)
    return windows


class _PointHead(nn.Module):
    """Heat maps over a feature map; a point is where its heat map's mass lies on average. Its input learns nothing."""

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


def architecture(network: Network) -> dict[str, Any]:
    """Return what a bundle says of a network, from which ``build_network`` builds it again."""
    described = {key: value for key, value in network.model.model_dump(mode="json").items() if key in _DESCRIBED}
    return {**described, "embedding_dim": network.embedding_dim, "projected": bool(network.model.embedding_dim)}


def build_network(description: dict[str, Any], schema: LabelSchema, input_px: int, dropout: float = 0.0) -> Network:
    """Build the network that a bundle's ``architecture`` entry describes, with random weights."""
    values = {key: description[key] for key in _DESCRIBED if key in description}
    embedding_dim = int(description["embedding_dim"]) if description.get("projected", True) else 0
    return Network(Model(input_px=input_px, embedding_dim=embedding_dim, dropout=dropout, **values), schema)


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
    network = build_network(bundle.description["architecture"], bundle.schema, bundle.input_px, dropout)
    try:
        stored = load_file(bundle.directory / WEIGHTS)
        result = network.load_state_dict({key: value.float() for key, value in stored.items()}, strict=False)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise damaged(bundle, error) from error
    # Whole numbers (counters, tables of relative positions) follow from the architecture and are not stored.
    own = network.state_dict()
    if result.unexpected_keys or any(own[key].is_floating_point() for key in result.missing_keys):
        raise UserError(f"{bundle.directory}: the weights do not fit the architecture that bundle.json names.")
    return network

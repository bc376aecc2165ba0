"""Networks (torch): a backbone, an embedding and one linear head per label group.

``Network.forward`` takes uint8 pictures and normalises them itself, so that a network, its ONNX export and
every caller agree about preprocessing by construction. Attributes and classes are read from the embedding,
which is therefore a summary of just what the labels ask for. Points are read from an earlier, finer feature map, as
the expectation of a heat map (integral regression; Sun et al., ECCV 2018), and their gradients stop there: learning
them cannot disturb the labels, nor need their losses be weighed against each other.

An embedding may be divided. The first part is the classes' probabilities, whose cosine says how far two pictures agree
about their class (query by semantic example: Rasiwasia et al., IEEE TMM 2007); the second tells pictures of one class
apart. Each has a length of its own, so that neither drowns the other in a cosine. Or it is read from an earlier layer
(``vision/neighbour_space``), after the training.

A finished model may look at every picture from both sides (``model.mirror``) and answer by the mean: of logits, of
points, and of the embedding, whose parts get their lengths after it.

Between backbone and heads there may be dense layers, as in VGG (Simonyan and Zisserman, ICLR 2015).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from stylematch.data.labels import LabelSchema
from stylematch.errors import UserError
from stylematch.settings.train_model import Model
from stylematch.vision.backbones import GRID, load_backbone
from stylematch.vision.mirror import mirrors_of, seen_from_the_other_side
from stylematch.vision.neighbour_space import NeighbourSpace
from stylematch.vision.point_head import PointHead
from stylematch.vision.pooling import grid_means, mean_features
from stylematch.vision.whole_backbone import in_whole_numbers
from stylematch.vision.whole_numbers import WholeBlock, pixel_numbers

_LUMA = (0.299, 0.587, 0.114)


_TAKEN = frozenset(dir(nn.ModuleDict()))


def _module_name(group: str) -> str:
    """Return what a group's head is called among the heads: as the group, but where torch has a use for that name."""
    return f"@{group}" if group in _TAKEN else group


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
        self.backbone, self.norm = anatomy.layers, anatomy.norm
        for name, values in (("pixel_mean", anatomy.mean), ("pixel_std", anatomy.std), ("luma", _LUMA)):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1), persistent=False)
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
                _module_name(g.name): PointHead(anatomy.finer_features, g.width // 2)
                if g.kind == "points" and self.finer_layers
                else nn.Linear(self.embedding_dim if self._embeds(g.name) else width, g.width)
                for g in schema.groups
            }
        )
        if model.embedding_layer > len(self.backbone):
            children = len(self.backbone)
            raise UserError(
                f"model.embedding_layer: {model.backbone} has {children} children, not {model.embedding_layer}; name "
                "a lower number."
            )
        self.space: NeighbourSpace | None = None
        if model.int8:
            self.take_whole_numbers()
        else:
            self.freeze(model.frozen)

    def take_whole_numbers(self) -> None:
        """Let the backbone compute in whole numbers of eight bits, of which it has yet to learn.

        Raises
        ------
        UserError
            If it is of a build that cannot.
        """
        mean, std = self.pixel_mean.flatten(), self.pixel_std.flatten()
        self.backbone = in_whole_numbers(self.model.backbone, self.backbone, mean, std)
        self.model = self.model.model_copy(update={"int8": True})
        self.freeze(self.model.frozen)

    def freeze(self, what: Literal["none", "backbone"] | int) -> None:
        """Let the whole backbone or its first children keep their weights and statistics, and all else learn.

        Raises
        ------
        UserError
            If the backbone has fewer children.
        """
        count = {"none": 0, "backbone": len(self.backbone)}.get(what, what) if isinstance(what, str) else what
        if int(count) > len(self.backbone):
            raise UserError(
                f"model.frozen: {self.model.backbone} has {len(self.backbone)} children, not {count}; name fewer."
            )
        self.requires_grad_(True)
        # Not a submodule: it is a part of the backbone, under whose name its weights are stored.
        object.__setattr__(self, "frozen", self.backbone[: int(count)].requires_grad_(False))
        if self.norm is not None and int(count) == len(self.backbone):
            self.norm.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set the mode; what is frozen stays in evaluation mode, or its statistics would learn."""
        super().train(mode)
        self.frozen.eval()
        return self

    def give_space(self, width: int) -> NeighbourSpace:
        """Let the embedding be read from the layer that ``model.embedding_layer`` names.

        Parameters
        ----------
        width : int
            Its length.

        Returns
        -------
        NeighbourSpace
            The map, whose weights are yet to be loaded or fitted.

        Raises
        ------
        UserError
            If that layer gives no maps.
        """
        side, was_training = self.model.input_px, self.training
        self.eval()  # or a black picture would count in the layers' statistics
        with torch.no_grad():
            _, layers = self.layers_of(torch.zeros(1, self.channels, side, side, device=self.pixel_mean.device))
        self.train(was_training)
        maps = layers[self.model.embedding_layer]
        if maps.ndim != 4:
            raise UserError(f"model.embedding_layer: {self.model.backbone} gives no maps there; name one before.")
        self.space = NeighbourSpace(maps.shape[1], width).to(maps.device)
        return self.space

    def cool(self, group: str, temperatures: npt.NDArray[np.floating]) -> None:
        """Divide a group's logits by temperatures (Guo et al., ICML 2017), within its head: it costs nothing later.

        Parameters
        ----------
        group : str
            A binary or categorical group.
        temperatures : ndarray of float, shape (width,) or (1,)
            Over 0.
        """
        head = self.heads[_module_name(group)]
        assert isinstance(head, nn.Linear)
        with torch.no_grad():
            scale = torch.from_numpy(np.asarray(temperatures)).to(head.weight)
            head.weight.div_(scale[:, None])
            head.bias.div_(scale)

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
        return self._joined(*self._apart(pictures))

    def answers(self, pictures: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return what ``outputs`` does, as the finished model says it: with its mirror images' part, if it has one."""
        if not self.model.mirror:
            return self.outputs(pictures)
        count = pictures.shape[0]  # not len, which the export would take for the number of its example
        embedding, heads = self._apart(torch.cat([pictures, pictures.flip(3)]))
        other = {name: values[count:] for name, values in heads.items()}
        other = seen_from_the_other_side(other, mirrors_of(self.schema))
        return self._joined(
            (embedding[:count] + embedding[count:]) / 2,
            {name: (values[:count] + other[name]) / 2 for name, values in heads.items()},
        )

    def _apart(self, pictures: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the outputs, of a divided embedding its second part only."""
        features, layers = self.layers_of(pictures)
        finer = layers[self.finer_layers]
        if self.maps:
            features = (
                mean_features(features, self.norm) if self.model.pool == "mean" else self._laid_out(features).flatten(1)
            )
        features = self.dropout(self.dense(features))
        embedding = self.embedding(features)
        heads = {
            name: head(finer.detach() if isinstance(head, PointHead) else embedding if self._embeds(name) else features)
            for name, head in self._named_heads()
        }
        if self.space is not None:
            embedding = self.space(layers[self.model.embedding_layer])
        return embedding, heads

    def _joined(self, embedding: Tensor, heads: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        return self._divided(embedding, heads) if self.model.instance_dim else embedding, heads

    def _named_heads(self) -> Iterator[tuple[str, nn.Module]]:
        return ((group.name, self.heads[_module_name(group.name)]) for group in self.schema.groups)

    def layers_of(self, pictures: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        """Return the backbone's output for pictures in 0 to 1, and what its first so many children give where asked."""
        if self.model.grayscale and self.channels == 3:
            pictures = (pictures * self.luma).sum(1, keepdim=True).expand(-1, 3, -1, -1)
        # A backbone of whole numbers takes pixels as they are.
        values = pixel_numbers(pictures) if self.model.int8 else (pictures - self.pixel_mean) / self.pixel_std
        layers = {0: values}
        for number, layer in enumerate(self.backbone, start=1):
            values = layer(values)
            if number in (self.finer_layers, self.model.embedding_layer):
                # A copy, since the next child may be an activation in place.
                layers[number] = layer.in_units(values) if isinstance(layer, WholeBlock) else values.clone()
        if isinstance(layer, WholeBlock):
            values = layer.in_units(values)
        return values, layers

    def _divided(self, instance: Tensor, heads: dict[str, Tensor]) -> Tensor:
        """Return the classes' part beside what tells pictures of one class apart, a unit vector together."""
        share, count = self.model.instance_share, len(self.model.embedded)
        agreed = [
            functional.normalize(torch.softmax(heads[name].float(), 1), dim=1) * ((1 - share) / count) ** 0.5
            for name in self.model.embedded
        ]
        return torch.cat([*agreed, functional.normalize(instance.float(), dim=1) * share**0.5], 1)

    def _laid_out(self, maps: Tensor) -> Tensor:
        """Return the maps, or their means over a grid."""
        maps = maps if self.model.pool == "flatten" else grid_means(maps, GRID)
        return maps if self.norm is None else self.norm(maps)

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
        pictures = pixels.permute(0, 3, 1, 2)
        if not self.model.int8 or self.model.grayscale:
            pictures = pictures.to(torch.float32) / 255.0
        embedding, heads = self.answers(pictures)
        results = [functional.normalize(embedding, dim=1)]
        for group in self.schema.groups:
            values = heads[group.name]
            if group.kind == "binary":
                values = torch.sigmoid(values)
            elif group.kind == "categorical":
                values = torch.softmax(values, dim=1)
            results.append(values)
        return tuple(results)

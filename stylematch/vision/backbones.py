"""Backbones (torch): any of torchvision's classification networks, timm's where it is installed, and a small one.

A backbone is what is left of a classification network without its classifier. Most are a plain sequence of layers
that ends in feature maps; a network of another build gives its pooled features as one piece. What a backbone gives for
an input is found by trying it with a black picture, so that no table of sizes can be wrong. Where torchvision counts a
normalisation of the pooled features as part of the classifier, it is kept; dense layers there (VGG's) are not.

Sources: torchvision's model zoo; timm (Wightman).
"""

from __future__ import annotations

import logging
import math
import sys
from collections import OrderedDict
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import nn

from stylematch.errors import MissingExtraError, UserError
from stylematch.vision.small_resnet import small_resnet
from stylematch.vision.weights_file import Resample, is_refused_pickle, load_weights, why_unloadable

# Statistics of ImageNet, which every pretrained network expects; the small one learns from scratch and only needs a
# sane range.
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_FINEST_STRIDE = 16
_TIMM = "timm:"
# What comes of no network, of one that breaks off, and of a download that is damaged.
_UNLOADABLE = (OSError, HTTPException, RuntimeError, EOFError)
# What a network says of pictures that it cannot be made for, or cannot take.
_UNFITTING = (RuntimeError, ValueError, AssertionError)
GRID = 3
"""Rows and columns of the grid that ``pool = "grid"`` takes means over."""
# The small networks: channels of the input, and widths that keep a whole model below a million parameters.
_SMALL = {"small_resnet": (1, (32, 80, 144)), "small_resnet_rgb": (3, (32, 80, 136))}


@dataclass(frozen=True)
class Anatomy:
    """What a backbone is made of.

    Attributes
    ----------
    layers : torch.nn.Sequential
        Its children, in order.
    mean, std : tuple of float
        Statistics that its input is normalised with; their length is the number of channels.
    features : int
        Length of its pooled, or flattened, output.
    maps : bool
        Whether the output is maps (n, channels, h, w), rather than pooled features.
    finer_layers : int
        After how many children its finest map of at most stride 16 comes; 0 where there are no maps.
    finer_features : int
        Channels of that map.
    norm : torch.nn.Module, optional
        What normalises the maps once they are pooled.
    """

    layers: nn.Sequential
    mean: tuple[float, ...]
    std: tuple[float, ...]
    features: int
    maps: bool
    finer_layers: int
    finer_features: int
    norm: nn.Module | None = None


def load_backbone(name: str, weights: str, input_px: int, pool: str = "mean") -> Anatomy:
    """Build a backbone.

    Parameters
    ----------
    name : str
        ``small_resnet`` (grey), ``small_resnet_rgb``, a classification model of torchvision, or ``timm:NAME``.
    weights : str
        ``imagenet``, ``none`` or the path of a file with weights of the whole network.
    input_px : int
        Side of the pictures that it will see.
    pool : {"mean", "grid", "flatten"}
        How maps become features.

    Raises
    ------
    UserError
        If the name is unknown, the weights cannot be had or do not fit, or the network takes no such pictures.
    """
    mean: tuple[float, ...]
    std: tuple[float, ...]
    norm = None
    mean, std = _IMAGENET
    if name in _SMALL:
        if weights != "none":
            raise UserError(f'model.weights: {name} has no pretrained weights; set weights = "none".')
        channels, widths = _SMALL[name]
        layers, mean, std = small_resnet(channels, widths), (0.5,) * channels, (0.5,) * channels
    elif name.startswith(_TIMM):
        layers, mean, std = _from_timm(name.removeprefix(_TIMM), weights, input_px)
    else:
        layers, norm = _from_torchvision(name, weights, input_px)
    return replace(_examined(name, layers, mean, std, input_px, pool), norm=norm)


def _examined(
    name: str, layers: nn.Sequential, mean: tuple[float, ...], std: tuple[float, ...], input_px: int, pool: str
) -> Anatomy:
    values = torch.zeros(1, len(mean), input_px, input_px)
    finer_layers = finer_features = 0
    was_training = layers.training
    try:
        with torch.no_grad():
            for position, layer in enumerate(layers.eval(), start=1):
                values = layer(values)
                if values.ndim == 4 and values.shape[2] >= input_px // _FINEST_STRIDE:
                    finer_layers, finer_features = position, values.shape[1]
    except _UNFITTING as error:
        raise UserError(f"model.input_px: {name} takes no pictures of {input_px} px ({error}).") from error
    layers.train(was_training)
    maps = values.ndim == 4
    if not maps and values.ndim != 2:
        raise UserError(f"model.backbone: {name} gives neither maps nor features; choose another.")
    pooled = {"mean": 1, "grid": GRID * GRID, "flatten": math.prod(values.shape[2:])}[pool] if maps else 1
    features = values.shape[1] * pooled
    return Anatomy(layers, mean, std, features, maps, finer_layers if maps else 0, finer_features)


def _from_torchvision(name: str, weights: str, input_px: int) -> tuple[nn.Sequential, nn.Module | None]:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise UserError(
            f"model.backbone: '{name}' is unknown; choose small_resnet, small_resnet_rgb, a classification "
            "model of torchvision (such as mobilenet_v2, resnet50, vgg16, efficientnet_b3), or timm:NAME."
        )
    options: dict[str, Any] = {}
    if name.startswith("vit_") and weights != "imagenet":
        options["image_size"] = input_px
    if name in ("googlenet", "inception_v3"):
        # Its weights from ImageNet ask for this; a network must not depend on what it was started from.
        options |= {"init_weights": False, "transform_input": True}
    try:
        chosen = None
        if weights == "imagenet":
            every = models.get_model_weights(name)
            # The first weights are the paper's, and what most caches hold; not every network has them.
            chosen = getattr(every, "IMAGENET1K_V1", every.DEFAULT)
        network = models.get_model(name, weights=chosen, **options)
    except Exception as error:
        _refuse(name, weights, input_px, error)
    if weights not in ("imagenet", "none"):
        load_weights(network, Path(weights), _torchvisions_other_size(network, input_px))
    norm = _classifiers_norm(network)
    return _without_classifier(network), norm


def _torchvisions_other_size(network: nn.Module, input_px: int) -> Resample | None:
    """Return what makes a transformer's positions, learned at another size, those of this one."""
    from torchvision.models import vision_transformer

    if not isinstance(network, vision_transformer.VisionTransformer):
        return None
    return lambda state, network: vision_transformer.interpolate_embeddings(input_px, network.patch_size, state)


def _refuse(name: str, weights: str, input_px: int, error: Exception, variable: str = "TORCH_HOME") -> NoReturn:
    """Say why a network could not be made; what is no mistake of the user's is raised as it is."""
    if weights == "imagenet" and _is_of_weights(error):
        raise _no_weights(name, error, variable) from error
    if isinstance(error, _UNFITTING):  # some look at the pictures' size before they see one
        raise UserError(
            f"model.backbone: {name} cannot be made for pictures of {input_px} px ({error}); change model.input_px or "
            "the name."
        ) from error
    raise error


def _no_weights(name: str, error: Exception, variable: str) -> UserError:
    which = "ImageNet" if variable == "TORCH_HOME" else "pretrained"
    return UserError(
        f"model.weights: the {which} weights of {name} could not be loaded or fetched ({why_unloadable(error)}); point "
        f'{variable} at a folder that has them, whole, name a file of weights, or set weights = "none".'
    )


def _is_of_weights(error: Exception) -> bool:
    """Whether it says that weights cannot be fetched or read."""
    return isinstance(error, _UNLOADABLE) or is_refused_pickle(error)


def _classifiers_norm(network: nn.Module) -> nn.Module | None:
    """Return what normalises pooled maps within a classifier (ConvNeXt, MaxViT), for maps of any size."""
    from torchvision.models.convnext import LayerNorm2d

    classifier = getattr(network, "classifier", None)
    if isinstance(classifier, nn.Sequential):
        for layer in classifier:
            if isinstance(layer, nn.LayerNorm):
                norm = LayerNorm2d(layer.normalized_shape, eps=layer.eps)
                norm.load_state_dict(layer.state_dict())
                return norm
    return None


def _without_classifier(network: nn.Module) -> nn.Sequential:
    """Return the layers up to the last maps where the network is a plain sequence, else the network as one layer."""
    children = OrderedDict(network.named_children())
    kind = type(network).__name__
    features = children.get("features")
    if isinstance(features, nn.Sequential) and kind != "SwinTransformer":  # whose maps have their channels last
        if kind == "DenseNet":  # torchvision's own has it as a function
            features.add_module("last_relu", nn.ReLU())
        return features
    if kind == "MNASNet":
        return network.layers  # type: ignore[return-value]
    if kind in ("ResNet", "RegNet", "ShuffleNetV2"):
        return nn.Sequential(OrderedDict((k, v) for k, v in children.items() if k not in ("avgpool", "fc")))
    for place in ("fc", "head", "heads", "classifier"):
        if hasattr(network, place):
            setattr(network, place, nn.Identity())
            for helper, nothing in (("aux_logits", False), ("AuxLogits", None), ("aux1", None), ("aux2", None)):
                if hasattr(network, helper):  # Inception's second classifiers
                    setattr(network, helper, nothing)
            return nn.Sequential(OrderedDict(whole=network))
    raise UserError(f"model.backbone: {kind} has no classifier that could be taken off; choose another.")


def _from_timm(name: str, weights: str, input_px: int) -> tuple[nn.Sequential, tuple[float, ...], tuple[float, ...]]:
    try:
        import timm
    except ImportError as error:
        raise MissingExtraError(f"The backbone timm:{name}", "timm") from error
    if not timm.is_model(name):
        raise UserError(f"model.backbone: timm has no '{name}'; timm.list_models() names them.")
    options: dict[str, Any] = {"pretrained": weights == "imagenet", "num_classes": 0}
    # It warns of each of its tries, at length; what came of them is said below.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        try:
            network = timm.create_model(name, img_size=input_px, **options)
        except TypeError:  # a network that takes any size knows no img_size
            network = timm.create_model(name, **options)
    except Exception as error:
        _refuse(f"{_TIMM}{name}", weights, input_px, error, "HF_HOME")
    if weights not in ("imagenet", "none"):
        # What its own loader does to what was learned at another size, and calls so in each of its networks' modules.
        load_weights(
            network, Path(weights), getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
        )
    data = timm.data.resolve_model_data_config(network)
    return nn.Sequential(OrderedDict(whole=network)), tuple(data["mean"]), tuple(data["std"])

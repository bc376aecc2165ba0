"""What a training trains: the network, from its backbone to its embedding."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from stylematch.settings.base import Count, Fraction, Natural, Section, Switch


class Model(Section):
    """The network: a backbone, dense layers, an embedding, and one head per label group.

    Attributes
    ----------
    backbone : str
        ``small_resnet`` (Fashion-MNIST's grey pictures), ``small_resnet_rgb`` (garments), a classification model of
        torchvision by its name (``mobilenet_v2``, ``vgg16``, ...), or ``timm:NAME`` where timm is installed.
    weights : str
        What the backbone starts from: ``imagenet``, ``none`` or a file (safetensors, or torch's own without pickles).
    start_from : str, optional
        A model bundle of the same architecture, or a training's checkpoint (``.ckpt``), whose weights the whole network
        starts from instead.
    input_px : int
        Side of the input.
    pool : str
        The backbone's last maps become features by their ``mean``, the means of a three by three ``grid`` (spatial
        pooling; He et al., ECCV 2014), or ``flatten``.
    hidden : list of int
        Widths of dense layers (ReLU, dropout) after the features.
    embedding_dim : int
        Length of the embedding, a linear layer; 0 takes what is there (the last dense layer, or the features).
    instance_dim : int
        0 is one embedding. Else the embedding is the probabilities of the classes of the groups in ``embedded``, then
        so many values that tell pictures of one class apart; its length follows from both, and ``embedding_dim`` is
        left out.
    instance_share : float
        What a divided embedding's second part counts in a cosine; the first counts the rest.
    embedded : list of str
        Groups that are read from the embedding, by default all; the others are read from the features. Of a divided
        embedding: categorical groups whose probabilities are its first part.
    embedding_layer : int
        0 reads the labels and the embedding from the same features. Else, after the training, the embedding is fitted
        anew, as long as there are labels, from the maps of the backbone's first so many children.
    dropout : float
        Share of the features dropped while training.
    grayscale : bool
        The network sees luminance only.
    mirror : bool
        The trained model answers by the mean of what it says of a picture and of its mirror image, which is right more
        often and takes twice the time. The training is the same without it.
    int8 : bool
        The backbone (``mobilenet_v2``) computes in whole numbers of eight bits, which is faster on a CPU. It is learned
        so, from what ``start_from`` names: a bundle that was trained without it, or with it.
    frozen : str or int
        What keeps its first weights: ``none``, the whole ``backbone``, or its first so many children.
    """

    backbone: Annotated[str, Field(min_length=1)]
    weights: str = "none"
    start_from: str | None = None
    input_px: Annotated[int, Field(ge=16, le=1024, strict=True)]
    pool: Literal["mean", "grid", "flatten"] = "mean"
    hidden: tuple[Count, ...] = ()
    embedding_dim: Annotated[int, Field(ge=0, le=4096, strict=True)] = 0
    instance_dim: Natural = 0
    instance_share: Fraction = 0.25
    embedded: tuple[str, ...] = ()
    embedding_layer: Natural = 0
    dropout: Fraction = 0.0
    grayscale: Switch = False
    mirror: Switch = False
    int8: Switch = False
    frozen: Literal["none", "backbone"] | Count = "none"

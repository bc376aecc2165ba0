"""A network and its bundle: what a bundle says of a network's build, and the network built again with its weights."""

from __future__ import annotations

from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from stylematch.data.labels import LabelSchema
from stylematch.errors import UserError
from stylematch.settings.train_model import Model
from stylematch.vision.bundle import SPACE_DIM, WEIGHTS, Bundle, damaged
from stylematch.vision.networks import Network

_DESCRIBED = (
    "backbone",
    "pool",
    "hidden",
    "grayscale",
    "instance_dim",
    "instance_share",
    "embedded",
    "embedding_layer",
    "mirror",
    "int8",
)
_NORMED = "normed"


def architecture(network: Network) -> dict[str, Any]:
    """Return what a bundle says of a network, from which ``build_network`` builds it again."""
    described = {key: value for key, value in network.model.model_dump(mode="json").items() if key in _DESCRIBED}
    described |= {"embedding_dim": network.embedding_dim, "projected": bool(network.model.embedding_dim)}
    if network.norm is not None:
        described[_NORMED] = True
    return described if network.space is None else {**described, SPACE_DIM: network.space.linear.out_features}


def build_network(description: dict[str, Any], schema: LabelSchema, input_px: int, dropout: float = 0.0) -> Network:
    """Build the network that a bundle's ``architecture`` entry describes, with random weights."""
    values = {key: description[key] for key in _DESCRIBED if key in description}
    embedding_dim = int(description["embedding_dim"]) if description.get("projected", True) else 0
    network = Network(Model(input_px=input_px, embedding_dim=embedding_dim, dropout=dropout, **values), schema)
    if not description.get(_NORMED, False):  # bundles of before this was kept have none
        network.norm = None
    if SPACE_DIM in description:
        network.give_space(int(description[SPACE_DIM]))
    return network


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

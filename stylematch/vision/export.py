"""Write a trained network as a model bundle (torch and onnx; the train extra).

The network is exported once by torch's ONNX exporter; then every initialiser that is one of the network's
tensors is replaced by a reference into ``weights.safetensors`` and a cast. The result is checked against the
network itself.
"""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxscript.optimizer
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save

from stylematch.errors import StylematchError
from stylematch.tables.disk import TEMPORARY_SUFFIX, write_durably
from stylematch.vision.bundle import DESCRIPTION, FORMAT, GRAPH, WEIGHTS, Bundle
from stylematch.vision.networks import Network
from stylematch.vision.runtime import CpuRuntime, TorchRuntime
from stylematch.vision.storable import round_to_stored
from stylematch.vision.stored_network import architecture

OPSET = 18
TOLERANCE, WHOLE_TOLERANCE = 1e-3, 0.05
"""How far two runtimes may differ: in whole numbers, a sum of two maps may be rounded to the next on another processor.
"""


def write_bundle(
    network: Network,
    directory: Path,
    *,
    name: str,
    licence: str,
    extra: dict[str, Any] | None = None,
) -> Bundle:
    """Export a network.

    Parameters
    ----------
    network : Network
        Trained, in evaluation mode, on the CPU. Its weights are rounded to what is stored of them.
    directory : pathlib.Path
        Created or overwritten.
    name : str
        The model's name.
    licence : str
        Under which the weights may be used.
    extra : dict, optional
        More to say in ``bundle.json``: the crop, thresholds; its ``input`` joins what is known of the input.

    Returns
    -------
    Bundle

    Raises
    ------
    UserError
        If the weights do not fit float16: the training diverged, and the same one would again.
    StylematchError
        If the exported graph does not give what the network gives.
    """
    input_px = network.model.input_px
    network = network.eval().float().to(memory_format=torch.contiguous_format)
    round_to_stored(network)  # else constants that the graph is folded to would follow from finer weights
    state = {
        key: value.detach().to(torch.float16).contiguous()
        for key, value in sorted(network.state_dict().items())
        if value.is_floating_point()
    }
    directory.mkdir(parents=True, exist_ok=True)
    _tidy(directory)
    write_durably(directory / WEIGHTS, save(state))
    _write_graph(network, directory, input_px, _offsets(directory / WEIGHTS))
    said = dict(extra or {})
    more = said.pop("input", {})
    description = {
        "format": FORMAT,
        "name": name,
        "architecture": architecture(network),
        "input": {"side_px": input_px, "channels": network.channels, "dtype": "uint8", "layout": "NHWC", **more},
        "schema": network.schema.to_json(),
        "parameters": sum(p.numel() for p in network.parameters()),
        "licence": licence,
        **said,
    }
    (directory / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    bundle = Bundle.open(directory)
    _check(bundle)
    return bundle


def _tidy(directory: Path) -> None:
    """Remove what a kill left of files that were being written: a bundle may hold nothing but its own."""
    for pattern in (f".*{TEMPORARY_SUFFIX}", ".tmp*"):  # the second are safetensors' own, in bundles of before
        for unfinished in directory.glob(pattern):
            unfinished.unlink(missing_ok=True)


def runtime_difference(bundle: Bundle) -> float:
    """Return the largest absolute difference of any output between the runtimes on eight random pictures."""
    shape = (8, bundle.input_px, bundle.input_px, bundle.channels)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    left, right = CpuRuntime(bundle).run(pixels), TorchRuntime(bundle, "cpu").run(pixels)
    pairs = [(left.embedding, right.embedding), *((left.heads[key], right.heads[key]) for key in left.heads)]
    return float(np.max([np.abs(a - b).max() for a, b in pairs]))  # which keeps a NaN, as max would not


def _check(bundle: Bundle) -> None:
    difference = runtime_difference(bundle)
    tolerance = WHOLE_TOLERANCE if bundle.int8 else TOLERANCE
    if not difference <= tolerance:  # NaN is over it too
        raise StylematchError(
            f"{bundle.directory}: ONNX Runtime and torch differ by {difference:.1e}, over {tolerance}."
        )


def _offsets(weights: Path) -> dict[str, tuple[int, int, list[int]]]:
    """Return where each tensor lies in a safetensors file: offset and length in bytes, and shape."""
    with weights.open("rb") as stream:
        (header_bytes,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(header_bytes))
    start = 8 + header_bytes
    return {
        key: (
            start + entry["data_offsets"][0],
            entry["data_offsets"][1] - entry["data_offsets"][0],
            entry["shape"],
        )
        for key, entry in header.items()
        if key != "__metadata__"
    }


def exported(network: torch.nn.Module, example: torch.Tensor, outputs: list[str]) -> torch.onnx.ONNXProgram:
    """Export a network of one input, ``pixels``, whose first dimension is free.

    Parameters
    ----------
    network : torch.nn.Module
        In evaluation mode, on the CPU.
    example : torch.Tensor
        What it takes.
    outputs : list of str
        Names of what it gives.

    Raises
    ------
    StylematchError
        If torch's exporter gives nothing.
    """
    with _nothing_in_place(network):
        program = torch.onnx.export(
            network,
            (example,),
            input_names=["pixels"],
            output_names=outputs,
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=65536)},),
            opset_version=OPSET,
            dynamo=True,
            optimize=False,
            verbose=False,
        )
    if program is None:
        raise StylematchError("torch's ONNX exporter returned nothing.")
    # ONNX Runtime folds batch normalisation into a convolution, and lays convolutions out for the processor's vectors,
    # only where biases and limits are constants; the exporter leaves them to be computed. (Its own optimiser would
    # fold the weights, too, which must stay those of weights.safetensors; so may this one where they are transposed.)
    weights = set(network.state_dict())
    onnxscript.optimizer.fold_constants(
        program.model,
        should_fold=lambda node: False if any(x is not None and x.name in weights for x in node.inputs) else None,
    )
    onnxscript.optimizer.remove_unused_nodes(program.model)
    return program


@contextlib.contextmanager
def _nothing_in_place(network: torch.nn.Module) -> Iterator[None]:
    """Let activations return new values: the graph is the same, and MobileNetV2's is exported in half the time."""
    in_place: list[Any] = [module for module in network.modules() if getattr(module, "inplace", False) is True]
    for module in in_place:
        module.inplace = False
    try:
        yield
    finally:
        for module in in_place:
            module.inplace = True


def _write_graph(
    network: Network, directory: Path, input_px: int, offsets: dict[str, tuple[int, int, list[int]]]
) -> None:
    example = torch.zeros((2, input_px, input_px, network.channels), dtype=torch.uint8)
    outputs = ["embedding", *(group.name for group in network.schema.groups)]
    program = exported(network, example, outputs)
    model = program.model_proto
    graph, kept, casts = model.graph, [], []
    zeros = _without_zero_biases(graph)
    for initializer in graph.initializer:
        if initializer.name in zeros:
            continue
        if initializer.name not in offsets:
            kept.append(initializer)
            continue
        offset, length, shape = offsets[initializer.name]
        stored = TensorProto(name=f"{initializer.name}.fp16", data_type=TensorProto.FLOAT16, dims=shape)
        stored.data_location = TensorProto.EXTERNAL
        for key, value in (("location", WEIGHTS), ("offset", str(offset)), ("length", str(length))):
            stored.external_data.add(key=key, value=value)
        kept.append(stored)
        casts.append(helper.make_node("Cast", [stored.name], [initializer.name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)
    del graph.value_info[:]
    model.doc_string = ""
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    del model.metadata_props[:], graph.metadata_props[:]
    (directory / GRAPH).write_bytes(model.SerializeToString(deterministic=True))
    onnx.checker.check_model(str(directory / GRAPH))


def _without_zero_biases(graph: onnx.GraphProto) -> set[str]:
    """Take the biases that are all 0 off the convolutions, and return their names."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    zeros = set()
    for node in graph.node:
        bias = constants.get(node.input[2]) if node.op_type == "Conv" and len(node.input) == 3 else None
        if bias is not None and not numpy_helper.to_array(bias).any():
            zeros.add(bias.name)
            del node.input[2]
    return zeros - {name for node in graph.node for name in node.input}

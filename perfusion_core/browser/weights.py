"""Fewer bytes for the weights of an ONNX graph; the arithmetic stays in float32."""

from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Storage = Literal["int8", "float16", "float32"]

_SMALL = 1024  # numbers; biases and norms are small, and lose more than they save
_LARGEST = 127


def stored(graph: onnx.ModelProto, storage: Storage) -> bytes:
    """Return the file of a graph whose large weights are stored in int8 or float16.

    In int8 each output channel has a scale of its own, in float32.
    """
    if storage == "float32":
        return bytes(graph.SerializeToString())
    smaller = onnx.ModelProto()
    smaller.CopyFrom(graph)
    kept: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []
    for weight in graph.graph.initializer:
        if len(weight.dims) < 2 or np.prod(weight.dims) < _SMALL:
            kept.append(weight)
            continue
        array = numpy_helper.to_array(weight)
        if storage == "float16":
            parts: dict[str, Any] = {f"{weight.name}.half": array.astype(np.float16)}
            options: dict[str, Any] = {"op_type": "Cast", "to": onnx.TensorProto.FLOAT}
        else:
            axis = _output_axis(graph, weight.name)
            integers, scale = quantised(array, axis=axis)
            parts = {f"{weight.name}.int8": integers, f"{weight.name}.scale": scale}
            options = {"op_type": "DequantizeLinear", "axis": axis}
        kept += [numpy_helper.from_array(part, name) for name, part in parts.items()]
        nodes.append(helper.make_node(inputs=list(parts), outputs=[weight.name], **options))
    nodes += graph.graph.node
    del smaller.graph.initializer[:], smaller.graph.node[:]
    smaller.graph.initializer.extend(kept)
    smaller.graph.node.extend(nodes)
    return bytes(smaller.SerializeToString())


def quantised(
    weight: NDArray[np.float32], *, axis: int
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return integers of the weight's shape and the scale of each channel along `axis`."""
    others = tuple(k for k in range(weight.ndim) if k != axis)
    largest = np.abs(weight).max(axis=others, keepdims=True)
    scale = np.where(largest > 0, largest, 1.0) / _LARGEST
    return np.rint(weight / scale).astype(np.int8), scale.ravel().astype(np.float32)


def _output_axis(graph: onnx.ModelProto, name: str) -> int:
    """Return the axis of the outputs: the last of a product's right side, else the first."""
    [reader, *_] = [node for node in graph.graph.node if name in node.input]
    rank = next(len(w.dims) for w in graph.graph.initializer if w.name == name)
    transposed = any(each.name == "transB" and each.i for each in reader.attribute)
    return rank - 1 if reader.op_type in ("MatMul", "Gemm") and not transposed else 0

"""int8 models of one operator, with scales and zero points as wished: no converter would make most of them."""

from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema


class Edge(NamedTuple):
    scale: float
    zero_point: int


def one_op(
    op: str,
    source: Edge,
    result: Edge,
    shape: Tuple[int, ...] = (1, 256),
    out_shape: Optional[Tuple[int, ...]] = None,
    constants: Sequence[Tuple[np.ndarray, float, int]] = (),
    options: Optional[Tuple[str, Any]] = None,
) -> bytes:
    """`constants`: further inputs, each (content, scale, zero point); `options`: name of the options table, and the table."""
    model = schema.ModelT()
    model.version = 3
    model.buffers = [schema.BufferT()]
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, op)
    code.deprecatedBuiltinCode = code.builtinCode
    code.version = 2
    model.operatorCodes = [code]
    tensors = [_tensor("x", shape, source), _tensor("y", out_shape or shape, result)]
    for number, (content, scale, zero_point) in enumerate(constants):
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(content.tobytes(), np.uint8)
        model.buffers.append(buffer)
        kind = schema.TensorType.INT8 if content.dtype == np.int8 else schema.TensorType.INT32
        tensors.append(_tensor(f"c{number}", content.shape, Edge(scale, zero_point), kind, number + 1))
    operator = schema.OperatorT()
    operator.opcodeIndex = 0
    operator.inputs = np.array([0, *range(2, len(tensors))], np.int32)
    operator.outputs = np.array([1], np.int32)
    if options is not None:
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, options[0])
        operator.builtinOptions = options[1]
    graph = schema.SubGraphT()
    graph.tensors, graph.operators = tensors, [operator]
    graph.inputs, graph.outputs = np.array([0], np.int32), np.array([1], np.int32)
    model.subgraphs = [graph]
    return packed(model)


def packed(model: Any) -> bytes:
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def softmax_options(beta: float = 1.0) -> Tuple[str, Any]:
    options = schema.SoftmaxOptionsT()
    options.beta = beta
    return "SoftmaxOptions", options


def plain_options(name: str) -> Tuple[str, Any]:
    """The options table `name` with its defaults."""
    return name, getattr(schema, f"{name}T")()


def _tensor(
    name: str, shape: Sequence[int], edge: Edge, kind: int = schema.TensorType.INT8, buffer: int = 0
) -> "schema.TensorT":
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name, np.array(shape, np.int32), kind, buffer
    quantization = schema.QuantizationParametersT()
    quantization.scale = np.array([edge.scale], np.float32)
    quantization.zeroPoint = np.array([edge.zero_point], np.int64)
    tensor.quantization = quantization
    return tensor


def scales(low: int, high: int, rng: np.random.Generator, random: int) -> List[float]:
    """float32 values over the decades 10^low to 10^high: powers of two and their neighbours, and `random` ones between."""
    exponents = range(int(np.ceil(low * np.log2(10))), int(np.floor(high * np.log2(10))) + 1)
    powers = np.array([2.0**e for e in exponents], np.float32)
    beside = np.nextafter(powers, np.float32(0))
    between = (10.0 ** rng.uniform(low, high, random)).astype(np.float32)
    return [float(s) for s in np.concatenate([powers, beside, between])]

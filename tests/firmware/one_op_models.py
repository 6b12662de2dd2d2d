"""int8 models of one operator, with scales and zero points as wished: no converter would make most of them."""

from typing import Any, List, NamedTuple, Optional, Sequence, Tuple, Union

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema


class Edge(NamedTuple):
    scale: float
    zero_point: int


class Part(NamedTuple):
    """A tensor of a model: int8 unless it has other content or another kind."""

    shape: Tuple[int, ...]
    scales: Union[float, np.ndarray, None] = None
    zero_points: Union[int, np.ndarray] = 0
    content: Optional[np.ndarray] = None
    axis: int = 0
    kind: str = "int8"
    variable: bool = False

    @property
    def scale(self) -> float:
        """Of a tensor with a single one."""
        return float(np.asarray(self.scales).item())


Operator = Tuple[str, Sequence[int], Sequence[int], Optional[Tuple[str, Any]]]
"""Its name, the places of its inputs and outputs among the tensors (-1: left out), and its options."""


def model_of(
    parts: Sequence[Part], operators: Sequence[Operator], inputs: Sequence[int] = (0,), outputs: Sequence[int] = (1,)
) -> bytes:
    model = schema.ModelT()
    model.version = 3
    model.buffers = [schema.BufferT()]
    codes = sorted({operator[0] for operator in operators})
    model.operatorCodes = []
    for name in codes:
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, name)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.version = 2
        model.operatorCodes.append(code)
    graph = schema.SubGraphT()
    graph.tensors, graph.operators = [], []
    for number, part in enumerate(parts):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = f"t{number}", np.array(part.shape, np.int32), 0
        kind = part.kind if part.content is None else part.content.dtype.name
        tensor.type = getattr(schema.TensorType, kind.upper())
        tensor.isVariable = part.variable
        if part.content is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(part.content.tobytes(), np.uint8)
            tensor.buffer = len(model.buffers)
            model.buffers.append(buffer)
        if part.scales is not None:
            quantization = schema.QuantizationParametersT()
            quantization.scale = np.atleast_1d(np.array(part.scales, np.float32))
            quantization.zeroPoint = np.resize(np.array(part.zero_points, np.int64), quantization.scale.size)
            quantization.quantizedDimension = part.axis
            tensor.quantization = quantization
        graph.tensors.append(tensor)
    for name, reads, writes, options in operators:
        operator = schema.OperatorT()
        operator.opcodeIndex = codes.index(name)
        operator.inputs, operator.outputs = np.array(reads, np.int32), np.array(writes, np.int32)
        if options is not None:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, options[0])
            operator.builtinOptions = options[1]
        graph.operators.append(operator)
    graph.inputs, graph.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
    model.subgraphs = [graph]
    return packed(model)


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
    parts = [Part(shape, *source), Part(out_shape or shape, *result)]
    parts += [Part(content.shape, scale, zero_point, content) for content, scale, zero_point in constants]
    return model_of(parts, [(op, [0, *range(2, len(parts))], [1], options)])


def packed(model: Any) -> bytes:
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def options_of(name: str, **fields: Any) -> Tuple[str, Any]:
    """The options table `name` with these fields, named as in the schema; all others have its defaults."""
    table = getattr(schema, f"{name}T")()
    for field, value in fields.items():
        assert hasattr(table, field), f"{name} has no {field}"
        setattr(table, field, value)
    return name, table


def softmax_options(beta: float = 1.0) -> Tuple[str, Any]:
    return options_of("SoftmaxOptions", beta=beta)


def plain_options(name: str) -> Tuple[str, Any]:
    return options_of(name)


def scales(low: int, high: int, rng: np.random.Generator, random: int) -> List[float]:
    """float32 values over the decades 10^low to 10^high: powers of two and their neighbours, and `random` ones between."""
    exponents = range(int(np.ceil(low * np.log2(10))), int(np.floor(high * np.log2(10))) + 1)
    powers = np.array([2.0**e for e in exponents], np.float32)
    beside = np.nextafter(powers, np.float32(0))
    between = (10.0 ** rng.uniform(low, high, random)).astype(np.float32)
    return [float(s) for s in np.concatenate([powers, beside, between])]

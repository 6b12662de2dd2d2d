"""An int8 .tflite model of dense layers, read whole and computed here in whole numbers, bit for bit as TensorFlow Lite Micro.

No runtime sees a gateway's int8 file: kernels for quantized tensors trust scales, zero points and shapes that a file says. What
is computed here are matrix products of whole numbers and tables of 256 entries; a record is by itself, and the time depends on
how many there are. Everything but the operators below is refused by name.
"""

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from model_export.errors import TfliteError
from model_export.flatbuffer import FlatFile, FlatTable
from model_export.tflite_names import OPERATOR_NAMES, TENSOR_TYPES
from orchestrator.errors import GraphError
from orchestrator.node.fixed_point import (
    INT8_MAX,
    INT8_MIN,
    logistic_table,
    multiplier_of,
    softmax,
    tanh_table,
)
from orchestrator.node.graph_file import IDENTIFIER, SCHEMA_VERSION
from orchestrator.node.graph_shapes import size_of
from orchestrator.node.int8_layers import Dense, Edge, Int8Model, Softmax, Table, work_of

MOST_BYTES = 4 << 20
MOST_WEIGHTS = 1 << 20
"""Of all layers: what a board holds. A node computes them for each record, without the time limits of a process."""

TOO_MANY = f"more than {MOST_WEIGHTS} weights, which no int8 model here may have"
MOST_WORK = 1 << 21
"""What all layers take of a record: a product counts one, an entry of a table 4, a sum that is rescaled 16, a share of a softmax
32, which is about how long they take beside each other.
"""

TOO_LONG = f"more than {MOST_WORK} steps of work for a record, which no int8 model here may take"
MOST_TENSORS = MOST_OPERATORS = 1000
MOST_DEPTH = 4095
"""Of a softmax: the sum of more has no room in 32 bits."""

VERSIONS: Dict[str, Tuple[int, ...]] = {
    "FULLY_CONNECTED": (4, 5, 12),
    "SOFTMAX": (2,),
    "LOGISTIC": (2,),
    "TANH": (2,),
    "RESHAPE": (1,),
}
"""Operators, in the versions that are of int8."""

_OPTIONS = {"FULLY_CONNECTED": 8, "SOFTMAX": 9, "RESHAPE": 17}
_LARGEST = 2.0**31 - 256
_UNIT = (1 / 256, -128)
_CLAMPS: Dict[int, Tuple[Optional[float], Optional[float]]] = {
    0: (None, None),
    1: (0.0, None),
    2: (-1.0, 1.0),
    3: (0.0, 6.0),
}


def read_int8(model: bytes) -> Int8Model:
    """Raises GraphError, naming what is not accepted and nothing else."""
    if len(model) > MOST_BYTES:
        raise GraphError(f"the int8 model file has {len(model)} bytes, at most {MOST_BYTES} are accepted")
    try:
        return _Reader(model).chain()
    except TfliteError as error:
        raise GraphError(f"the model file is damaged or not accepted: {error}") from error


def is_int8(model: bytes) -> bool:
    """Whether the input of a .tflite file is int8, as far as it can be read."""
    try:
        reader = _Reader(model)
        return reader.int8_input()
    except (TfliteError, GraphError):
        return False


class _Tensor(NamedTuple):
    kind: str
    shape: Tuple[int, ...]
    scales: np.ndarray
    zero_points: np.ndarray
    axis: int
    data: Optional[np.ndarray]
    what: str

    @property
    def edge(self) -> Edge:
        """Of an activation; GraphError for a tensor that is not int8 with one scale and a batch of 1."""
        if self.kind != "int8" or self.data is not None:
            raise GraphError(
                f"{self.what}: {self.kind}; an int8 model passes int8 from layer to layer, and no mixture of types"
            )
        if len(self.scales) != 1 or self.shape[:1] != (1,):
            raise GraphError(
                f"{self.what}: {len(self.scales)} scales and shape {self.shape}, expected one and a batch of 1"
            )
        return Edge(float(self.scales[0]), int(self.zero_points[0]))


class _Reader:
    def __init__(self, model: bytes) -> None:
        file = FlatFile(bytes(model))
        if len(model) < 8 or model[4:8] != IDENTIFIER:
            raise GraphError("the model file is no .tflite file")
        self._blob = file.blob
        root = file.table(file.follow(0, "root"), "model").only(0, 1, 2, 3, 4, 5, 6, 7)
        if root.scalar(0, "<I", 0) != SCHEMA_VERSION:
            raise GraphError(f"the model file is not of schema version {SCHEMA_VERSION}")
        self._codes = [table.only(0, 1, 2, 3) for table in root.tables(1, "operator codes", MOST_OPERATORS)]
        self._buffers = [table.only(0, 1, 2) for table in root.tables(4, "buffers", MOST_TENSORS + 4)]
        subgraphs = root.tables(2, "subgraphs", MOST_OPERATORS)
        if len(subgraphs) != 1:
            raise GraphError(f"the model file has {len(subgraphs)} subgraphs, expected one")
        self._graph = subgraphs[0].only(0, 1, 2, 3, 4, 5)
        self._tensors = self._graph.tables(0, "tensors", MOST_TENSORS)

    def int8_input(self) -> bool:
        entry = self._indices(self._graph, 1)
        return len(entry) == 1 and entry[0] >= 0 and self._kind(self._tensors[entry[0]]) == "int8"

    def chain(self) -> Int8Model:
        """The operators, each of which takes what the one before gives."""
        entry, leave = (self._indices(self._graph, field) for field in (1, 2))
        if len(entry) != 1 or len(leave) != 1 or min(*entry, *leave) < 0:
            raise GraphError(f"the model file has {len(entry)} inputs and {len(leave)} outputs, expected one of each")
        now, layers, weights, work, seen = entry[0], [], 0, 0, {entry[0]}
        first = self._tensor(now)
        given, widest = first.edge, size_of(first.shape)
        for table in self._graph.tables(3, "operators", MOST_OPERATORS):
            name, options = self._operator(table)
            inputs, outputs = self._indices(table, 1), self._indices(table, 2)
            what = f"{table.what} ({name})"
            if not inputs or inputs[0] != now or len(outputs) != 1 or outputs[0] < 0:
                raise GraphError(f"{what}: does not take what the operator before it gives, or gives several")
            if outputs[0] in seen:
                raise GraphError(f"{what}: gives a tensor that there is already")
            seen.add(outputs[0])
            source, target = self._tensor(now), self._tensor(outputs[0])
            rest = [None if i < 0 else self._tensor(i) for i in inputs[1:]]
            layer = _layer(name, what, source, target, rest, options)
            if isinstance(layer, Dense):
                weights += layer.weights.size
            if weights > MOST_WEIGHTS:
                raise GraphError(f"{what}: {TOO_MANY}")
            work += work_of(layer, size_of(target.shape))
            if work > MOST_WORK:
                raise GraphError(f"{what}: {TOO_LONG}")
            layers += [] if layer is None else [layer]
            now, widest = outputs[0], max(widest, size_of(target.shape))
        last = self._tensor(now)
        if now != leave[0] or now == entry[0] or len(last.shape) != 2 or len(first.shape) != 2:
            raise GraphError("the model file's last operator does not give its output, or that is not a row of numbers")
        return Int8Model(size_of(first.shape), size_of(last.shape), tuple(layers), given, last.edge, widest)

    def _operator(self, table: FlatTable) -> Tuple[str, Dict[str, Any]]:
        table.only(0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 13)  # as a training graph's (node/graph_check.py)
        which = table.scalar(0, "<I", 0)
        if which >= len(self._codes):
            raise GraphError(f"{table.what}: refers to operator code {which} of {len(self._codes)}")
        entry = self._codes[which]
        code, version = max(entry.scalar(0, "<b", 0), entry.scalar(3, "<i", 0)), entry.scalar(2, "<i", 1)
        name = OPERATOR_NAMES[code] if 0 <= code < len(OPERATOR_NAMES) else str(code)
        if name not in VERSIONS or entry.raw(1)[1]:
            raise GraphError(
                f"operator {name} is not accepted in an int8 model: {', '.join(VERSIONS)} are; run the float model"
            )
        if version not in VERSIONS[name]:
            raise GraphError(f"operator {name} of version {version} is not accepted in an int8 model")
        if any(table.raw(field)[1] for field in (5, 7, 8)) or table.scalar(6, "<b", 0) or table.scalar(11, "<B", 0):
            raise GraphError(f"{table.what} ({name}): options of another kind than {name} has")
        kind = table.scalar(3, "<B", 0)
        found = table.sub(4, f"{table.what}.options") if kind else None
        if kind and (kind != _OPTIONS.get(name) or found is None):
            raise GraphError(f"{table.what} ({name}): options of type {kind}")
        return name, _options(name, found)

    def _kind(self, table: FlatTable) -> str:
        kind = table.scalar(1, "<b", 0)
        return str(TENSOR_TYPES[kind]) if 0 <= kind < len(TENSOR_TYPES) else str(kind)

    def _tensor(self, index: int) -> _Tensor:
        table = self._tensors[index].only(0, 1, 2, 3, 4, 5, 7, 8)
        kind, what = self._kind(table), table.what
        if kind not in ("int8", "int32"):
            raise GraphError(f"{what}: {kind}; an int8 model has int8 tensors and int32 biases")
        if table.scalar(5, "<B", 0):
            raise GraphError(f"{what}: variables are not accepted: nothing may be kept from one record to the next")
        shape = tuple(int(n) for n in table.vector(0, "<i4")[:9])
        signature = table.vector(7, "<i4")
        if len(shape) > 8 or any(n < 1 for n in shape) or size_of(shape) > MOST_BYTES:
            raise GraphError(f"{what}: shape {shape}: up to 8 dimensions of 1 or more, {MOST_BYTES} numbers")
        if len(signature) and not np.array_equal(signature, shape):
            raise GraphError(f"{what}: a shape that is not fixed")
        scales, zero_points, axis = _scales(table.sub(4, f"{what}.quantization"), what)
        return _Tensor(kind, shape, scales, zero_points, axis, self._constant(table, kind, shape), what)

    def _constant(self, table: FlatTable, kind: str, shape: Tuple[int, ...]) -> Optional[np.ndarray]:
        place = table.scalar(2, "<I", 0)
        if place >= len(self._buffers):
            raise GraphError(f"{table.what}: refers to buffer {place} of {len(self._buffers)}")
        buffer = self._buffers[place]
        if buffer.scalar(1, "<Q", 0) > 1 or buffer.scalar(2, "<Q", 0) > 1:
            raise GraphError(f"{table.what}: content outside the flatbuffer is not accepted")
        position, count = buffer.raw(0)
        if not count:
            return None
        item = np.dtype(kind).newbyteorder("<")
        if count != size_of(shape) * item.itemsize:
            raise GraphError(f"{table.what}: a constant of {count} bytes for shape {shape} of {kind}")
        return np.frombuffer(self._blob, np.uint8, count, position).view(item).reshape(shape)

    def _indices(self, table: FlatTable, field: int) -> List[int]:
        found = table.vector(field, "<i4")
        if len(found) > 8 or (len(found) and (found.min() < -1 or found.max() >= len(self._tensors))):
            raise GraphError(f"{table.what}: refers to a tensor beyond its {len(self._tensors)}, or to more than 8")
        return [int(i) for i in found]


def _scales(table: Optional[FlatTable], what: str) -> Tuple[np.ndarray, np.ndarray, int]:
    """(scales, zero points, axis), finite, above 0 and within int8; a scale float32 divides by has to be more than next to 0."""
    if table is None:
        return np.zeros(0, np.float32), np.zeros(0, np.int64), 0
    table.only(0, 1, 2, 3, 4, 6)
    scales, zeros = table.vector(2, "<f4"), table.vector(3, "<i8")
    if table.scalar(4, "<B", 0) or len(scales) != len(zeros):
        raise GraphError(f"{what}: {len(scales)} scales and {len(zeros)} zero points, or another kind of quantization")
    if not ((scales >= 1e-30) & (scales <= 1e30)).all():
        raise GraphError(f"{what}: a scale that is not a number from 1e-30 to 1e30")
    if len(zeros) and not (zeros.min() >= INT8_MIN and zeros.max() <= INT8_MAX):
        raise GraphError(f"{what}: a zero point beyond int8")
    return scales, zeros, int(table.scalar(6, "<i", 0))


def _options(name: str, table: Optional[FlatTable]) -> Dict[str, Any]:
    if name == "FULLY_CONNECTED" and table is not None:
        table.only(0, 1, 2, 3, 4)
        if table.scalar(1, "<b", 0) or table.scalar(3, "<B", 0) or table.scalar(4, "<b", 0) not in (0, 2):
            raise GraphError("FULLY_CONNECTED: shuffled weights, asymmetric inputs or biases that are not int32")
        return {"activation": table.scalar(0, "<b", 0)}
    if name == "SOFTMAX":
        beta = float(table.only(0).scalar(0, "<f", 0.0)) if table is not None else 0.0
        if not 1e-6 <= beta <= 1e6:
            raise GraphError(f"SOFTMAX: beta {beta:g}, expected 1e-6 to 1e6")
        return {"beta": beta}
    return {"activation": 0}


def _layer(
    name: str, what: str, source: _Tensor, target: _Tensor, rest: List[Optional[_Tensor]], options: Dict[str, Any]
) -> Any:
    """Dense, Table or Softmax; None where nothing changes. GraphError where they do not go together."""
    try:
        if name == "FULLY_CONNECTED":
            return _dense(what, source, target, rest, options["activation"])
        if size_of(source.shape) != size_of(target.shape):
            raise ValueError(f"gives {target.shape} of {source.shape}")
        if name == "RESHAPE":
            if source.edge != target.edge:
                raise ValueError("changes the scale")
            return None
        if rest:
            raise ValueError("takes more than one input")
        if tuple(target.edge) != ((1 / 128, 0) if name == "TANH" else _UNIT):
            raise ValueError("its output has another scale or zero point than this operator gives")
        if name == "SOFTMAX":
            depth = source.shape[-1]
            if depth > MOST_DEPTH or target.shape[-1] != depth:
                raise ValueError(f"is over {depth} numbers, at most {MOST_DEPTH} are accepted")
            softmax(np.zeros((1, 1), np.int64), source.edge.scale, options["beta"])
            return Softmax(depth, source.edge.scale, options["beta"])
        return Table((tanh_table if name == "TANH" else logistic_table)(*source.edge))
    except ValueError as error:
        raise GraphError(f"{what}: {error}") from error


def _dense(what: str, source: _Tensor, target: _Tensor, rest: List[Optional[_Tensor]], activation: int) -> Dense:
    kernel, bias = rest[0] if rest else None, rest[1] if len(rest) > 1 else None
    if kernel is None or kernel.data is None or kernel.kind != "int8" or len(kernel.shape) != 2 or len(rest) > 2:
        raise ValueError("expected a constant int8 kernel of rank 2, and perhaps a bias")
    units, width = kernel.shape
    if units * width > MOST_WEIGHTS:
        raise ValueError(TOO_MANY)
    if size_of(source.shape) != width or size_of(target.shape) != units:
        raise ValueError(f"a kernel of {kernel.shape} from {source.shape} to {target.shape}")
    if len(kernel.scales) not in (1, units) or kernel.zero_points.any() or (len(kernel.scales) > 1 and kernel.axis):
        raise ValueError(f"a kernel with {len(kernel.scales)} scales along axis {kernel.axis}, or with a zero point")
    numbers = np.zeros(units, np.int64)
    if bias is not None:
        if bias.data is None or bias.kind != "int32" or bias.shape != (units,):
            raise ValueError("a bias that is not a constant int32 for each output")
        numbers = bias.data.astype(np.int64)
    given, made = source.edge, target.edge
    pairs = [multiplier_of(given.scale * float(scale) / made.scale) for scale in kernel.scales]
    multipliers, shifts = (np.array(column, np.int64) for column in zip(*pairs))
    weights = kernel.data.astype(np.int64)
    largest = 255 * np.abs(weights).sum(axis=1) + np.abs(numbers)
    if (shifts > 30).any() or (largest.astype(np.float64) * 2.0 ** np.maximum(shifts, 0) >= 2.0**31).any():
        raise ValueError("its sums may be beyond 32 bits")
    clamp = _clamp(activation, made)
    zeros = given.zero_point, made.zero_point
    return Dense(np.ascontiguousarray(weights.T.astype(np.float64)), numbers, multipliers, shifts, zeros, clamp)


def _clamp(activation: int, made: Edge) -> Tuple[int, int]:
    if activation not in _CLAMPS:
        raise ValueError(f"a fused activation of kind {activation}")

    def place(value: float) -> int:
        ratio = float(np.float32(value) / np.float32(made.scale))
        if abs(ratio) > _LARGEST:
            raise ValueError(f"an output scale of {made.scale:g}, in which {value:g} is beyond 32 bits")
        return made.zero_point + int(np.copysign(np.floor(abs(ratio) + 0.5), ratio))

    low, high = _CLAMPS[activation]
    ends = INT8_MIN if low is None else place(low), INT8_MAX if high is None else place(high)
    return max(INT8_MIN, min(INT8_MAX, ends[0])), min(INT8_MAX, max(INT8_MIN, ends[1]))

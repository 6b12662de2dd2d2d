"""Training graphs made without TensorFlow: softmax regression, written operator by operator, and files around functions."""

from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from model_export.flatbuffer import Blob, Fields, write_flatbuffer
from model_export.tflite_names import OPERATOR_NAMES
from orchestrator.node.graph_file import TYPES, Function, Operation
from orchestrator.node.graph_ops import RULES
from orchestrator.node.graph_shapes import Call, Known

NUMBERS = {name: number for number, name in TYPES.items()}


class Builder:
    """A function under construction; methods give tensor indices."""

    def __init__(self) -> None:
        self.tensors: List[Known] = []
        self.operations: List[Operation] = []

    def tensor(self, shape: Sequence[int], dtype: str = "float32", data: Any = None) -> int:
        self.tensors.append(Known(dtype, tuple(shape), data))
        return len(self.tensors) - 1

    def constant(self, value: Any, dtype: str = "float32") -> int:
        data = np.asarray(value, dtype)
        return self.tensor(data.shape, dtype, data)

    def add(self, name: str, inputs: Sequence[int], outputs: int = 1, **options: Any) -> Any:
        """Appends an operator; its output, or a list of several."""
        full = {option.name: options.get(option.name, option.default) for option in RULES[name].options}
        known = [None if i < 0 else self.tensors[i] for i in inputs]
        found = RULES[name].infer(Call(known, full, outputs))
        made = [self.tensor(tensor.shape, tensor.dtype) for tensor in found]
        self.operations.append(Operation(name, 1, tuple(inputs), tuple(made), full))
        return made[0] if outputs == 1 else made

    def function(self, inputs: Sequence[int], outputs: Sequence[int]) -> Function:
        return Function(tuple(self.tensors), tuple(self.operations), tuple(inputs), tuple(outputs), 0)


def inference(features: int, classes: int, batch: int, activation: Optional[str] = None) -> Function:
    build = Builder()
    w, x = build.tensor([features * classes + classes]), build.tensor([batch, features])
    _, logits = _logits(build, w, x, features, classes)
    return build.function([w, x], [build.add(activation, [logits]) if activation else logits])


def gradient(features: int, classes: int, batch: int) -> Function:
    build = Builder()
    w, x = build.tensor([features * classes + classes]), build.tensor([batch, features])
    y, sw = build.tensor([batch], "int32"), build.tensor([batch])
    _, logits = _logits(build, w, x, features, classes)
    inputs = [y, build.constant(classes, "int32"), build.constant(1.0), build.constant(0.0)]
    hot = build.add("ONE_HOT", inputs, axis=-1)
    total = build.add("MAXIMUM", [build.add("SUM", [sw, build.constant([0], "int32")]), build.constant(1.0)])
    column = build.add("RESHAPE", [sw, build.constant([batch, 1], "int32")])
    share = build.add("DIV", [column, total])
    error = build.add("MUL", [build.add("SUB", [build.add("SOFTMAX", [logits], beta=1.0), hot]), share])
    kernel = build.add("BATCH_MATMUL", [x, error], adj_x=True)
    flat = build.add("RESHAPE", [kernel, build.constant([features * classes], "int32")])
    g = build.add("CONCATENATION", [flat, build.add("SUM", [error, build.constant([0], "int32")])], axis=0)
    picked = build.add("MUL", [build.add("MUL", [hot, build.add("LOG_SOFTMAX", [logits])]), share])
    loss = build.add("NEG", [build.add("SUM", [picked, build.constant([0, 1], "int32")])])
    return build.function([w, x, y, sw], [g, loss])


def _logits(build: Builder, w: int, x: int, features: int, classes: int) -> Tuple[int, int]:
    sizes = build.constant([features * classes, classes], "int32")
    flat, bias = build.add("SPLIT_V", [w, sizes, build.constant(0, "int32")], outputs=2, count=2)
    kernel = build.add("RESHAPE", [flat, build.constant([features, classes], "int32")])
    return kernel, build.add("ADD", [build.add("BATCH_MATMUL", [x, kernel]), bias])


def softmax_regression(features: int = 13, classes: int = 2, batch: int = 4, infer1: bool = True) -> bytes:
    """The training graph of logits = x W + b, with w = (W, b) flat."""
    functions = {
        "grad": gradient(features, classes, batch),
        "grad1": gradient(features, classes, 1),
        "infer": inference(features, classes, batch),
    }
    if infer1:
        functions["infer1"] = inference(features, classes, 1)
    return training_file(functions)


def training_file(functions: Dict[str, Function]) -> bytes:
    """A .tflite file as the exporter makes it, with a subgraph and a signature for each function."""
    codes = sorted({(op.name, op.version) for function in functions.values() for op in function.operations})
    buffers: List[Fields] = [{}]
    subgraphs: List[Fields] = []
    signatures: List[Fields] = []
    for number, (name, function) in enumerate(functions.items()):
        subgraphs.append(_subgraph(function, codes, buffers, name))
        takes, gives = (("w", "x", "y", "sw"), ("g", "loss")) if name.startswith("grad") else (("w", "x"), ("logits",))
        signatures.append(
            {
                0: [{0: key, 1: ("<I", i)} for key, i in zip(takes, function.inputs)],
                1: [{0: key, 1: ("<I", i)} for key, i in zip(gives, function.outputs)],
                2: name,
                4: ("<I", number),
            }
        )
    tables: List[Fields] = [
        {0: ("<b", min(OPERATOR_NAMES.index(n), 127)), 2: ("<i", v), 3: ("<i", OPERATOR_NAMES.index(n))}
        for n, v in codes
    ]
    root: Fields = {0: ("<I", 3), 1: tables, 2: subgraphs, 3: "made by a test", 4: buffers, 7: signatures}
    return write_flatbuffer(root, b"TFL3")


def _subgraph(function: Function, codes: List[Tuple[str, int]], buffers: List[Fields], name: str) -> Fields:
    tensors: List[Fields] = []
    for i, tensor in enumerate(function.tensors):
        fields: Fields = {0: Blob(np.asarray(tensor.shape, "<i4")), 1: ("<b", NUMBERS[tensor.dtype]), 2: ("<I", 0)}
        if tensor.data is not None:
            fields[2] = ("<I", len(buffers))
            buffers.append({0: Blob(np.ascontiguousarray(tensor.data).reshape(-1).view(np.uint8), 16)})
        tensors.append({**fields, 3: f"tensor {i}"})
    operators: List[Fields] = []
    for op in function.operations:
        rule = RULES[op.name]
        operator: Fields = {
            0: ("<I", codes.index((op.name, op.version))),
            1: Blob(np.asarray(op.inputs, "<i4")),
            2: Blob(np.asarray(op.outputs, "<i4")),
        }
        if rule.options:
            options: Fields = {option.field: (option.fmt, op.options[option.name]) for option in rule.options}
            operator.update({3: ("<B", rule.table), 4: options})
        operators.append(operator)
    ends = {1: Blob(np.asarray(function.inputs, "<i4")), 2: Blob(np.asarray(function.outputs, "<i4"))}
    return {0: tensors, **ends, 3: operators, 4: name}


def gradients_by_hand(weights: np.ndarray, x: np.ndarray, y: np.ndarray, classes: int = 2) -> np.ndarray:
    """float64 (n, P): softmax regression's gradient of every record."""
    features = x.shape[1]
    p = probabilities_by_hand(weights, x, classes)
    p[np.arange(len(y)), y] -= 1
    return np.concatenate([(x[:, :, None] * p[:, None, :]).reshape(len(x), features * classes), p], axis=1)


def logits_by_hand(weights: np.ndarray, x: np.ndarray, classes: int = 2) -> np.ndarray:
    size = x.shape[1] * classes
    return x.astype(np.float64) @ weights[:size].reshape(-1, classes) + weights[size:]


def probabilities_by_hand(weights: np.ndarray, x: np.ndarray, classes: int) -> np.ndarray:
    logits = logits_by_hand(weights, x, classes)
    p = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(p / p.sum(1, keepdims=True))


def mutants(graph: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Damaged copies: flipped bits, other words, cut or repeated pieces, numbers at the edges of their types."""
    random = np.random.default_rng(seed)
    edges = [0, 1, 2, 3, 4, 7, 8, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, len(graph)]
    for _ in range(count):
        content, kind = bytearray(graph), int(random.integers(0, 6))
        for _ in range(int(random.integers(1, 4))):
            at = int(random.integers(0, len(content)))
            if kind == 0:
                content[at] ^= 1 << int(random.integers(0, 8))
            elif kind == 1:
                content[at] = int(random.integers(0, 256))
            elif kind == 2:
                content[at // 4 * 4 : at // 4 * 4 + 4] = int(random.choice(edges)).to_bytes(4, "little")
            elif kind == 3:
                del content[at:]
            elif kind == 4:
                content[at : at + 8] = content[int(random.integers(0, len(content))) :][:8]
            else:
                word = int.from_bytes(content[at // 4 * 4 : at // 4 * 4 + 4], "little") + int(random.integers(-4, 5))
                content[at // 4 * 4 : at // 4 * 4 + 4] = (word & 0xFFFFFFFF).to_bytes(4, "little")
            if not content:
                break
        yield bytes(content)

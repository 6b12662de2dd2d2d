"""A training graph read, understood whole, and written again, before any runtime sees it.

The interpreter crashes on damaged files, keeps variables between calls and has loops whose time depends on what they read. So a
node gives it none of the gateway's bytes: every table of the file is read with its offsets checked, a field or operator that is
not on the list (node/graph_ops.py) is refused, every shape is computed and compared with what the file declares, and what goes to
the interpreter is a file of its own for each signature, made of what was understood.
"""

import hashlib
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np

from model_export.errors import TfliteError
from model_export.flatbuffer import FlatFile, FlatTable
from model_export.tflite_names import OPERATOR_NAMES
from orchestrator.errors import GraphError
from orchestrator.node.graph_file import IDENTIFIER, ITEM_BYTES, SCHEMA_VERSION, TYPES, Function, Operation, tflite_file
from orchestrator.node.graph_ops import CODES, RULES, Rule
from orchestrator.node.graph_shapes import BOOL, FLOAT, INT, Call, Known, scratch_of, size_of

MAX_GRAPH_BYTES = 64 << 20
MAX_TENSORS = 50_000
MAX_OPERATORS = 20_000
MAX_OPERANDS = 4096
MAX_RANK = 8
MAX_TENSOR_BYTES = 128 << 20
MAX_FUNCTION_BYTES = 512 << 20
"""Of all tensors of one signature and its kernels' scratch memory; the runtime reuses memory and needs less."""

MAX_CONSTANT_BYTES = 64 << 20
"""Of all constants of one signature: many tensors may share a buffer in the file, and each gets its own when it is written."""

REQUIRED, OPTIONAL = ("grad", "grad1", "infer"), ("infer1",)
GRADIENT_INPUTS, GRADIENT_OUTPUTS = ("w", "x", "y", "sw"), ("g", "loss")
INFERENCE_INPUTS, INFERENCE_OUTPUTS = ("w", "x"), ("logits",)

SCORES = "scores"
"""The one function of a model that only scores."""


class CheckedGraph(NamedTuple):
    """What a training graph computes. parameters: P; input_shape, of a record: S; functions: by signature."""

    parameters: int
    input_shape: Tuple[int, ...]
    classes: int
    batch_size: int
    infer_batch: int
    functions: Dict[str, Function]

    def digest(self) -> str:
        """SHA-256, in hex, that graphs share when they compute the same, operator by operator; names and layout do not count."""
        found = hashlib.sha256()
        for name in sorted(self.functions):
            content = tflite_file(self.functions[name])
            found.update(f"{name} {len(content)}\n".encode())
            found.update(content)
        return found.hexdigest()


def check_model(model: bytes) -> CheckedGraph:
    """Reads a .tflite file with one float model that takes a record and gives scores; raises GraphError as `check_graph` does.

    Its only function is SCORES, which takes weights like all others here, and does nothing with them.
    """
    if len(model) > MAX_GRAPH_BYTES:
        raise GraphError(f"the model file has {len(model)} bytes, at most {MAX_GRAPH_BYTES} are accepted")
    try:
        function = _Reader(model, "model file").alone()
    except TfliteError as error:
        raise GraphError(f"the model file is damaged or not accepted: {error}") from error
    _, x = (function.tensors[i] for i in function.inputs)
    scores = function.tensors[function.outputs[0]]
    if x.dtype != FLOAT or scores.dtype != FLOAT or len(x.shape) < 2 or len(scores.shape) != 2:
        raise GraphError("the model file takes or gives something else than float32 records and scores")
    if x.shape[0] != 1 or scores.shape[0] != 1:
        raise GraphError(f"the model file takes {x.shape} and gives {scores.shape}, expected one record at a time")
    return CheckedGraph(1, x.shape[1:], scores.shape[1], 1, 1, {SCORES: function})


def check_graph(graph: bytes) -> CheckedGraph:
    """Reads a whole training graph. Raises GraphError, naming the part that is refused and nothing else."""
    if len(graph) > MAX_GRAPH_BYTES:
        raise GraphError(f"the training graph has {len(graph)} bytes, at most {MAX_GRAPH_BYTES} are accepted")
    try:
        functions = _Reader(graph).functions()
    except TfliteError as error:
        raise GraphError(f"the training graph is damaged or not accepted: {error}") from error
    return _fitted(functions)


class _Reader:
    """One pass over the file."""

    def __init__(self, graph: bytes, what: str = "training graph") -> None:
        self._file = FlatFile(bytes(graph))
        if len(graph) < 8 or graph[4:8] != IDENTIFIER:
            raise GraphError(f"the {what} is no .tflite file")
        # 3 description, 5 and 6 metadata: not read
        self._model = self._file.table(self._file.follow(0, "root"), "model").only(0, 1, 2, 3, 4, 5, 6, 7)
        if self._model.scalar(0, "<I", 0) != SCHEMA_VERSION:
            raise GraphError(f"the {what} is not of schema version {SCHEMA_VERSION}")
        self._codes = [_operator(table, what) for table in self._model.tables(1, "operator codes", MAX_OPERATORS)]
        self._buffers = [self._buffer(table) for table in self._model.tables(4, "buffers", MAX_TENSORS + 4)]
        self._tensors_left, self._operators_left = MAX_TENSORS, MAX_OPERATORS

    def functions(self) -> Dict[str, Function]:
        """The signatures' functions; each subgraph is of one signature, and each signature has one."""
        most = len(REQUIRED) + len(OPTIONAL)
        subgraphs = self._model.tables(2, "subgraphs", most)
        signatures = self._model.tables(7, "signatures", most)
        found: Dict[str, Function] = {}
        used: Set[int] = set()
        for table in signatures:
            table.only(0, 1, 2, 4)
            name, index = _text(table, 2), table.scalar(4, "<I", 0)
            if name not in REQUIRED + OPTIONAL or name in found:
                accepted = ", ".join(REQUIRED + OPTIONAL)
                raise GraphError(f"a signature of the training graph is not one of {accepted}, or occurs twice")
            if index in used or index >= len(subgraphs):
                raise GraphError(f"signature {name} has no subgraph of its own")
            used.add(index)
            found[name] = self._function(name, subgraphs[index], _names(table, 0), _names(table, 1))
        lacking = [name for name in REQUIRED if name not in found]
        if lacking:
            raise GraphError(f"the training graph lacks the signature(s) {', '.join(lacking)}")
        if len(used) != len(subgraphs):
            raise GraphError("the training graph has subgraphs beside those of its signatures")
        return found

    def alone(self) -> Function:
        """The one subgraph, from its one input to its one output, with weights nobody uses before the input."""
        subgraphs = self._model.tables(2, "subgraphs", MAX_TENSORS)
        if len(subgraphs) != 1:
            raise GraphError(f"the model file has {len(subgraphs)} subgraphs, expected one")
        table = subgraphs[0]
        table.only(0, 1, 2, 3, 4, 5)
        tensors = self._tensors(SCORES, table)
        entry, leave = _indices(table, 1, len(tensors)), _indices(table, 2, len(tensors))
        if len(entry) != 1 or len(leave) != 1:
            raise GraphError(f"the model file has {len(entry)} inputs and {len(leave)} outputs, expected one of each")
        operations = self._operations(SCORES, table, tensors)
        tensors.append(Known(FLOAT, (1,), None))
        found = Function(tuple(tensors), tuple(operations), (len(tensors) - 1, *entry), leave, 0)
        return without_unused(found._replace(memory_bytes=function_memory(SCORES, found)))

    def _buffer(self, table: FlatTable) -> Optional[np.ndarray]:
        """The bytes of a constant; None for the empty buffer of a computed tensor."""
        table.only(0, 1, 2)
        if table.scalar(1, "<Q", 0) > 1 or table.scalar(2, "<Q", 0) > 1:
            raise GraphError(f"{table.what}: content outside the flatbuffer is not accepted")
        position, count = table.raw(0)
        return np.frombuffer(self._file.blob, np.uint8, count, position) if count else None

    def _function(self, name: str, table: FlatTable, inputs: Dict[str, int], outputs: Dict[str, int]) -> Function:
        gradient = name.startswith("grad")
        takes, gives = (GRADIENT_INPUTS, GRADIENT_OUTPUTS) if gradient else (INFERENCE_INPUTS, INFERENCE_OUTPUTS)
        if set(inputs) != set(takes) or set(outputs) != set(gives):
            raise GraphError(
                f"{name}: takes {', '.join(takes)} and gives {', '.join(gives)}, and the graph says otherwise"
            )
        table.only(0, 1, 2, 3, 4, 5)  # 4 name, 5 place in the debug metadata: not read
        tensors = self._tensors(name, table)
        entry, leave = [inputs[key] for key in takes], [outputs[key] for key in gives]
        for named, field in ((entry, 1), (leave, 2)):
            if sorted(named) != sorted(_indices(table, field, len(tensors))) or len(set(named)) != len(named):
                raise GraphError(f"{name}: the signature does not name the subgraph's own inputs and outputs")
        operations = self._operations(name, table, tensors)
        found = Function(tuple(tensors), tuple(operations), tuple(entry), tuple(leave), 0)
        return without_unused(found._replace(memory_bytes=function_memory(name, found)))

    def _tensors(self, name: str, table: FlatTable) -> List[Known]:
        tables = table.tables(0, f"{name}.tensors", self._tensors_left)
        self._tensors_left -= len(tables)
        return [self._tensor(tensor) for tensor in tables]

    def _tensor(self, table: FlatTable) -> Known:
        table.only(0, 1, 2, 3, 4, 5, 7, 8)  # 3 name, 8 whether the rank is known: not read
        if table.scalar(5, "<B", 0):
            raise GraphError(
                f"{table.what}: variables are not accepted: nothing may be kept from one record to the next"
            )
        kind = table.scalar(1, "<b", 0)
        if kind not in TYPES:
            raise GraphError(f"{table.what}: tensor type {kind}; accepted are {', '.join(TYPES.values())}")
        shape = tuple(int(n) for n in table.vector(0, "<i4")[: MAX_RANK + 1])
        signature = table.vector(7, "<i4")
        if len(shape) > MAX_RANK or any(n < 1 for n in shape) or size_of(shape) * 4 > MAX_TENSOR_BYTES:
            raise GraphError(
                f"{table.what}: shape {shape}: up to {MAX_RANK} dimensions of 1 or more, {MAX_TENSOR_BYTES} bytes"
            )
        if len(signature) and not np.array_equal(signature, shape):
            raise GraphError(f"{table.what}: a shape that is not fixed")
        _check_unquantized(table)
        return Known(TYPES[kind], shape, self._constant(table, TYPES[kind], shape))

    def _constant(self, table: FlatTable, dtype: str, shape: Tuple[int, ...]) -> Optional[np.ndarray]:
        buffer = table.scalar(2, "<I", 0)
        if buffer >= len(self._buffers):
            raise GraphError(f"{table.what}: refers to buffer {buffer} of {len(self._buffers)}")
        content = self._buffers[buffer]
        if content is None:
            return None
        if content.size != size_of(shape) * ITEM_BYTES[dtype]:
            raise GraphError(f"{table.what}: a constant of {content.size} bytes for shape {shape} of {dtype}")
        if dtype == BOOL and content.max() > 1:
            raise GraphError(f"{table.what}: a truth value that is neither 0 nor 1")
        return content.view(bool if dtype == BOOL else np.dtype(dtype).newbyteorder("<")).reshape(shape)

    def _operations(self, name: str, table: FlatTable, tensors: Sequence[Known]) -> List[Operation]:
        tables = table.tables(3, f"{name}.operators", self._operators_left)
        self._operators_left -= len(tables)
        return [self._operation(operator, len(tensors)) for operator in tables]

    def _operation(self, table: FlatTable, tensors: int) -> Operation:
        # 7 mutating inputs, 8 intermediates and 5 custom options must be empty; 13 place in the debug metadata: not read
        table.only(0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 13)
        which = table.scalar(0, "<I", 0)
        if which >= len(self._codes):
            raise GraphError(f"{table.what}: refers to operator code {which} of {len(self._codes)}")
        name, version = self._codes[which]
        if any(table.raw(field)[1] for field in (5, 7, 8)) or table.scalar(6, "<b", 0) or table.scalar(11, "<B", 0):
            raise GraphError(f"{table.what} ({name}): options of another kind than {name} has")
        options = _options(table, name, RULES[name])
        inputs, outputs = _indices(table, 1, tensors, least=-1), _indices(table, 2, tensors)
        return Operation(name, version, inputs, outputs, options)


def _operator(table: FlatTable, what: str) -> Tuple[str, int]:
    table.only(0, 1, 2, 3)
    code = max(table.scalar(0, "<b", 0), table.scalar(3, "<i", 0))  # as the runtime reads the two
    version = table.scalar(2, "<i", 1)
    name = CODES.get(code)
    if name is None or table.raw(1)[1]:
        known = OPERATOR_NAMES[code] if 0 <= code < len(OPERATOR_NAMES) else str(code)
        raise GraphError(f"operator {known} is not accepted in a {what}")
    if version not in RULES[name].versions:
        raise GraphError(f"operator {name} of version {version} is not accepted in a {what}")
    return name, version


def _options(table: FlatTable, name: str, rule: Rule) -> Dict[str, Any]:
    kind = table.scalar(3, "<B", 0)
    if kind not in (0, rule.table):
        raise GraphError(f"{table.what} ({name}): options of type {kind}, expected {rule.table}")
    found = table.sub(4, f"{table.what}.options") if kind else None
    if found is None:
        return {option.name: option.default for option in rule.options}
    found.only(*[option.field for option in rule.options], *rule.ignored)
    values = {option.name: found.scalar(option.field, option.fmt, option.default) for option in rule.options}
    for option in rule.options:
        if option.accepted and values[option.name] not in option.accepted:
            raise GraphError(f"{table.what} ({name}): {option.name} {values[option.name]} is not accepted")
    return values


def _indices(table: FlatTable, field: int, tensors: int, least: int = 0) -> Tuple[int, ...]:
    values = table.vector(field, "<i4")
    if len(values) > MAX_OPERANDS:
        raise GraphError(f"{table.what}: {len(values)} tensors, at most {MAX_OPERANDS} are accepted")
    if len(values) and (values.min() < least or values.max() >= tensors):
        raise GraphError(f"{table.what}: refers to a tensor beyond its {tensors}")
    return tuple(values.tolist())


def _names(table: FlatTable, field: int) -> Dict[str, int]:
    """Tensor index by name, of a signature's inputs or outputs."""
    pairs = [tensor.only(0, 1) for tensor in table.tables(field, f"{table.what}.tensors", len(GRADIENT_INPUTS))]
    found = {_text(pair, 0): int(pair.scalar(1, "<I", 0)) for pair in pairs}
    if len(found) != len(pairs):
        raise GraphError(f"{table.what}: a name occurs twice")
    return found


def _text(table: FlatTable, field: int) -> str:
    return str(table.text(field)) if table.raw(field)[1] <= 32 else ""


def _check_unquantized(table: FlatTable) -> None:
    """A table of quantization parameters may be there, and is empty."""
    quantization = table.sub(4, f"{table.what}.quantization")
    if quantization is not None:
        quantization.only(0, 1, 2, 3, 4, 6)
        if any(quantization.raw(field)[1] for field in range(4)) or quantization.scalar(4, "<B", 0):
            raise GraphError(f"{table.what}: quantized tensors are not accepted")


def function_memory(name: str, function: Function) -> int:
    """Bytes of all tensors; GraphError unless each is a constant, an input, or given by one operator before it is used."""
    tensors, operations, entry, leave, _ = function
    ready = set(entry)
    if any(tensors[index].data is not None for index in entry):
        raise GraphError(f"{name}: an input that is a constant")
    memory = sum(size_of(tensor.shape) * ITEM_BYTES[tensor.dtype] for tensor in tensors)
    if sum(tensor.data.nbytes for tensor in tensors if tensor.data is not None) > MAX_CONSTANT_BYTES:
        raise GraphError(f"{name}: more than {MAX_CONSTANT_BYTES} bytes of constants")
    for number, operation in enumerate(operations):
        what = f"{name}, operator {number} ({operation.name})"
        if any(i >= 0 and i not in ready and tensors[i].data is None for i in operation.inputs):
            raise GraphError(f"{what}: takes a tensor nothing has given yet")
        if not operation.outputs:
            raise GraphError(f"{what}: gives nothing")
        inputs = [None if i < 0 else tensors[i] for i in operation.inputs]
        try:
            found = RULES[operation.name].infer(Call(inputs, operation.options, len(operation.outputs)))
        except GraphError as error:
            raise GraphError(f"{what}: {error}") from error
        given = [tensors[i] for i in operation.outputs]
        if [(t.dtype, t.shape) for t in found] != [(t.dtype, t.shape) for t in given]:
            raise GraphError(f"{what}: gives other tensors than the graph declares")
        if any(i in ready or tensors[i].data is not None for i in operation.outputs):
            raise GraphError(f"{what}: gives a tensor that is there already")
        ready.update(operation.outputs)
        if len(set(operation.outputs)) != len(operation.outputs):
            raise GraphError(f"{what}: gives a tensor twice")
        scratch = 4 * scratch_of(operation.name, inputs, given)
        memory += scratch
        if scratch > MAX_TENSOR_BYTES or memory > MAX_FUNCTION_BYTES:
            raise GraphError(f"{what}: needs too much memory, at most {MAX_FUNCTION_BYTES} bytes are accepted")
    if any(i not in ready or i in entry for i in leave):
        raise GraphError(f"{name}: an output no operator gives")
    return memory


def without_unused(function: Function) -> Function:
    """The function without tensors nothing refers to, the others numbered as they first occur."""
    order: Dict[int, int] = {}
    groups = [function.inputs, *(t for op in function.operations for t in (op.inputs, op.outputs)), function.outputs]
    for group in groups:
        for i in group:
            if i >= 0:
                order.setdefault(i, len(order))
    order[-1] = -1

    def renumbered(indices: Sequence[int]) -> Tuple[int, ...]:
        return tuple(order[i] for i in indices)

    return function._replace(
        tensors=tuple(function.tensors[i] for i in order if i >= 0),
        operations=tuple(
            op._replace(inputs=renumbered(op.inputs), outputs=renumbered(op.outputs)) for op in function.operations
        ),
        inputs=renumbered(function.inputs),
        outputs=renumbered(function.outputs),
    )


def _fitted(functions: Dict[str, Function]) -> CheckedGraph:
    """The functions as one graph; GraphError unless types and shapes of all signatures go together."""
    w, x = (functions["grad"].tensors[i] for i in functions["grad"].inputs[:2])
    logits = functions["infer"].tensors[functions["infer"].outputs[0]]
    if len(w.shape) != 1 or len(x.shape) < 2 or len(logits.shape) != 2:
        raise GraphError("weights of rank 1, batches of records and logits of rank 2 were expected")
    parameters, record, classes = w.shape[0], x.shape[1:], logits.shape[1]
    for name, function in functions.items():
        batch = function.tensors[function.inputs[1]].shape[0]
        if name.endswith("1") and batch != 1:
            raise GraphError(f"{name}: takes batches of {batch}, expected 1")
        wanted = [(FLOAT, (parameters,)), (FLOAT, (batch, *record))]
        if name.startswith("grad"):
            wanted += [(INT, (batch,)), (FLOAT, (batch,)), (FLOAT, (parameters,)), (FLOAT, ())]
        else:
            wanted += [(FLOAT, (batch, classes))]
        found = [function.tensors[i] for i in (*function.inputs, *function.outputs)]
        if [(t.dtype, t.shape) for t in found] != wanted:
            raise GraphError(f"{name}: inputs and outputs do not fit the other signatures")
    batches = [functions[name].tensors[functions[name].inputs[1]].shape[0] for name in ("grad", "infer")]
    return CheckedGraph(parameters, record, classes, batches[0], batches[1], functions)

"""Damaged training graphs, by kind of damage: of bytes, of a flatbuffer's offsets and tables, and of what the graph says.

`KINDS`: name -> function of (random numbers, graph, another graph); each gives one mutant, the same for the same seed. The last
five need the schema's object API (ai-edge-litert), and give files that are sound: only what they say is not.
"""

import random
import struct
from typing import Any, Callable, Dict, List, Tuple

from model_export.tflite_names import OPERATOR_NAMES

EDGES = (0, 1, 2, 3, 4, 7, 8, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
DIMENSIONS = (-1, 0, 1, 2, 3, 4, 5, 7, 8, 16, 127, 1 << 10, 1 << 16, 1 << 20, (1 << 31) - 1, -(1 << 31))
FAMILIES = (
    ("ABS", "ELU", "EXP", "LEAKY_RELU", "LOG", "LOGISTIC", "NEG", "RELU", "RELU6", "RSQRT", "SQRT", "SQUARE", "TANH"),
    ("ADD", "DIV", "MAXIMUM", "MINIMUM", "MUL", "SQUARED_DIFFERENCE", "SUB"),
    ("MEAN", "REDUCE_MAX", "REDUCE_MIN", "SUM"),
    ("EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "NOT_EQUAL"),
    ("LOG_SOFTMAX", "SOFTMAX"),
)
"""Operators that take and give the same shapes."""

Mutate = Callable[[random.Random, bytes, bytes], bytes]


def bit_flips(rng: random.Random, graph: bytes, other: bytes) -> bytes:
    content = bytearray(graph)
    for _ in range(rng.randint(1, 3)):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(content)


def byte_stores(rng: random.Random, graph: bytes, other: bytes) -> bytes:
    content = bytearray(graph)
    for _ in range(rng.randint(1, 3)):
        content[rng.randrange(len(content))] = rng.randrange(256)
    return bytes(content)


def edge_words(rng: random.Random, graph: bytes, other: bytes) -> bytes:
    """Numbers at the edges of their types, and as long as the file."""
    content = bytearray(graph)
    for _ in range(rng.randint(1, 3)):
        struct.pack_into("<I", content, _word(rng, content), rng.choice((*EDGES, len(graph))))
    return bytes(content)


def near_words(rng: random.Random, graph: bytes, other: bytes) -> bytes:
    """Numbers a little larger or smaller."""
    content = bytearray(graph)
    for _ in range(rng.randint(1, 3)):
        at = _word(rng, content)
        (value,) = struct.unpack_from("<I", content, at)
        struct.pack_into("<I", content, at, (value + rng.randint(-4, 4)) & 0xFFFFFFFF)
    return bytes(content)


def cuts(rng: random.Random, graph: bytes, other: bytes) -> bytes:
    return graph[: rng.randrange(len(graph))]


def splices(rng: random.Random, graph: bytes, other: bytes) -> bytes:
    """A piece of this or another graph put over, into or in the place of one."""
    size, source = rng.choice((4, 8, 16, 64, 256, 1024)), rng.choice((graph, other))
    start, at = rng.randrange(len(source)), rng.randrange(len(graph))
    piece = source[start : start + size]
    return graph[:at] + piece + graph[at + rng.choice((len(piece), 0, 2 * len(piece))) :]


def offsets(rng: random.Random, graph: bytes, other: bytes) -> bytes:
    """A reference that leads somewhere else: an offset within the file, or a place in a table's list of fields."""
    content = bytearray(graph)
    for _ in range(1000):
        at = _word(rng, content)
        (value,) = struct.unpack_from("<i", content, at)
        if 0 < value < len(content) - at and rng.random() < 0.5:
            struct.pack_into(
                "<I", content, at, rng.choice((value + 4, abs(value - 4), rng.randrange(len(content) - at), 0))
            )
            return bytes(content)
        table = at - value
        if value and 0 <= table < len(content) - 4:
            size, own = struct.unpack_from("<HH", content, table)
            if 4 < size <= 64 and size % 2 == 0 and 4 <= own <= 256 and table + size <= len(content):
                field = table + rng.randrange(2, size, 2)
                struct.pack_into("<H", content, field, rng.choice((0, 4, own, own - 1, rng.randrange(64), 0xFFFF)))
                return bytes(content)
    return bytes(content)


def _word(rng: random.Random, content: bytearray) -> int:
    return rng.randrange(len(content) // 4) * 4


def operators(rng: random.Random, graph: bytes, other: bytes) -> bytes:
    """Operators in another order, of another kind or version, twice, or left out."""

    def edit(model: Any) -> None:
        steps, roll = rng.choice(model.subgraphs).operators, rng.randrange(6)
        i, j = rng.randrange(len(steps)), rng.randrange(len(steps))
        code = rng.choice(model.operatorCodes)
        if roll == 0:
            steps[i], steps[j] = steps[j], steps[i]
        elif roll == 1:
            steps[i].opcodeIndex = rng.randrange(len(model.operatorCodes))
        elif roll == 2:
            code.builtinCode = rng.randrange(len(OPERATOR_NAMES))
            code.deprecatedBuiltinCode = min(127, code.builtinCode)
        elif roll == 3:
            code.version = rng.choice((0, 1, 2, 3, 9, -1))
        elif roll == 4:
            steps.insert(j, steps[i])
        else:
            del steps[i]

    return _edited(graph, edit)


def shapes(rng: random.Random, graph: bytes, other: bytes) -> bytes:
    """Tensors of another shape or type, or without their content."""

    def edit(model: Any) -> None:
        tensor = rng.choice(rng.choice(model.subgraphs).tensors)
        shape, roll = _numbers(tensor.shape), rng.randrange(5)
        if roll == 0:
            tensor.type = rng.choice((0, 1, 2, 4, 6, 9, 13, 14))
        elif roll == 1:
            tensor.buffer = rng.randrange(len(model.buffers))
        elif roll == 2:
            tensor.shape = [*shape, rng.choice(DIMENSIONS)]
        elif roll == 3 and len(shape) > 1:
            rng.shuffle(shape)
            tensor.shape = shape
        elif shape:
            shape[rng.randrange(len(shape))] = rng.choice(DIMENSIONS)
            tensor.shape = shape

    return _edited(graph, edit)


def exchanges(rng: random.Random, graph: bytes, other: bytes) -> bytes:
    """Operators in the place of others that give the same shapes: mostly graphs a node runs, of another model."""

    def edit(model: Any) -> None:
        for _ in range(rng.randint(1, 3)):
            steps = [
                (step, family)
                for subgraph in model.subgraphs
                for step in subgraph.operators
                for family in FAMILIES
                if OPERATOR_NAMES[model.operatorCodes[step.opcodeIndex].builtinCode] in family
            ]
            step, family = rng.choice(steps)
            code = type(model.operatorCodes[0])()
            code.builtinCode = OPERATOR_NAMES.index(rng.choice(family))
            code.deprecatedBuiltinCode, code.version = min(127, code.builtinCode), 1
            step.opcodeIndex, step.builtinOptionsType, step.builtinOptions = len(model.operatorCodes), 0, None
            model.operatorCodes.append(code)

    return _edited(graph, edit)


def constants(rng: random.Random, graph: bytes, other: bytes) -> bytes:
    """Other numbers in the constants: lengths, axes, shapes and factors."""

    def edit(model: Any) -> None:
        buffer = rng.choice([b for b in model.buffers if b.data is not None and len(b.data)])
        data = [int(value) for value in buffer.data]
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(len(data))] = rng.choice((0, 1, 2, 3, 127, 128, 255, rng.randrange(256)))
        buffer.data = data

    return _edited(graph, edit)


def wiring(rng: random.Random, graph: bytes, other: bytes) -> bytes:
    """Operators that read or write other tensors, other options, other ends of a function."""

    def edit(model: Any) -> None:
        subgraph, roll = rng.choice(model.subgraphs), rng.randrange(4)
        step = rng.choice(subgraph.operators)
        tensor = rng.choice((-1, len(subgraph.tensors), *rng.choices(range(len(subgraph.tensors)), k=6)))
        if roll == 0:
            step.inputs = _replaced(rng, step.inputs, tensor)
        elif roll == 1:
            step.outputs = _replaced(rng, step.outputs, tensor)
        elif roll == 2 and step.builtinOptions is not None and vars(step.builtinOptions):
            name = rng.choice(list(vars(step.builtinOptions)))
            known = getattr(step.builtinOptions, name)
            if isinstance(known, (bool, int, float)):
                value = not known if isinstance(known, bool) else rng.choice((0, 1, 2, 3, 5, 100))
                setattr(step.builtinOptions, name, value)
        else:
            place = rng.choice(("inputs", "outputs"))
            setattr(subgraph, place, _replaced(rng, getattr(subgraph, place), tensor))

    return _edited(graph, edit)


def _replaced(rng: random.Random, places: Any, value: int) -> List[int]:
    numbers = _numbers(places)
    if numbers:
        numbers[rng.randrange(len(numbers))] = value
    return numbers


def _numbers(values: Any) -> List[int]:
    return [] if values is None else [int(value) for value in values]


def _edited(graph: bytes, edit: Callable[[Any], None]) -> bytes:
    import ai_edge_litert.schema_py_generated as schema
    import flatbuffers

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(graph, 0))
    edit(model)
    builder = flatbuffers.Builder(len(graph))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


KINDS: Dict[str, Mutate] = {
    "bit flips": bit_flips,
    "byte stores": byte_stores,
    "words at the edges": edge_words,
    "words nearby": near_words,
    "cut off": cuts,
    "spliced": splices,
    "offsets and tables": offsets,
    "operators": operators,
    "shapes and types": shapes,
    "wiring and options": wiring,
    "exchanged operators": exchanges,
    "constants": constants,
}


def mutant(number: int, graphs: List[bytes], seed: int = 0) -> Tuple[str, bytes]:
    """(kind, content) of mutant `number`: kinds and graphs by turns."""
    rng = random.Random(seed * 1_000_003 + number)
    kind = list(KINDS)[number % len(KINDS)]
    turn = number // len(KINDS)
    return kind, KINDS[kind](rng, graphs[turn % len(graphs)], graphs[(turn + 1) % len(graphs)])

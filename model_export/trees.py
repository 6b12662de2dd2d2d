"""Decision trees as a board runs them: whole numbers only, read in place by firmware/engine/trees/format.h.

Little-endian; every part begins at a multiple of 4:

    0 "EWTR"   4 u16 version 1   6 u16 mode (MODES)   8 u32 bytes of all   12 u32 channels   16 u32 scores   20 u32 trees
    24 u32 nodes   28 u32 leaves   32 u32 sets   36 u32 splits on the longest way   40 float32 scale and 44 i32 zero point of the
    output   48 16 zero bytes
    i32 base[scores]
    i32 cuts[255], ascending: the code of a sum is how many of them are not above it
    {u16 nodes, u16 leaves}[trees]
    {u16 channel + 4096 kind + 16384 if a missing value goes right, u16 test, u16 left, u16 right}[nodes], tree by tree
    i32 values[leaves][scores], tree by tree
    u8 sets[sets][32]

An input is an int8 each channel; its code is input + 128. Code 0: the value is missing. AT_LEAST: to the right goes a code of at
least `test`, 1 to 256. LEVELS: where bit code - 1 of `test` is set. SET: where bit code - 1 of set number `test` is. `left` and
`right` are a node of the tree, or 32768 + a leaf of it. Both are numbered as they are met, level by level, so a place has one
number only and no way leads back; a tree of one leaf has no node.

A score is base + the values of the leaves a record is in, one of each tree, in units the cuts are in; no sum can be beyond 32
bits. With mode VALUE the output is its code - 128. Of CLASSES the outputs are codes - 128 of all scores, in 1/256 of a
probability; where the largest score has the code of one before it, those have one less, so the first largest output is the class
of the largest score. PAIR has the score of the second of two classes; the first has the rest of 256, at most 255, and 127 where
the second has 128.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np

from model_export.errors import ExportError

MAGIC = b"EWTR"
VERSION = 1
MODES = VALUE, PAIR, CLASSES = 0, 1, 2
KINDS = AT_LEAST, LEVELS, SET = 0, 1, 2
LEAF = 1 << 15
MISSING_RIGHT = 1 << 14
MISSING = -128
"""What an input is where the value is missing."""

CODES = 255
"""Of values that are there; code 0 is for those that are missing."""
FEW_LEVELS = 16
"""That fit into a node; more are a set of their own."""
MOST_CHANNELS, MOST_SCORES, MOST_TREES, MOST_DEPTH = 4096, 255, 2000, 12
PROBABILITIES = 1 / 256, -128
"""Scale and zero point of outputs that are probabilities, as of a softmax: boards count classes by it."""

_HEAD = struct.Struct("<4sHHIIIIIIIIfi16s")
_SET_BYTES = 32
_ALIGNMENT = 16


class TreesError(ExportError):
    """No usable trees. The message names the part and its place."""


class Tree(NamedTuple):
    """nodes: uint16 (n, 4) as the file has them. values: int32 (leaves, scores)."""

    nodes: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Trees:
    mode: int
    channels: int
    trees: Tuple[Tree, ...]
    base: np.ndarray
    """int32 (scores,)"""
    cuts: np.ndarray
    """int32 (255,), ascending"""
    sets: np.ndarray
    """uint8 (sets, 32)"""
    scale: float = PROBABILITIES[0]
    zero_point: int = PROBABILITIES[1]

    @property
    def scores(self) -> int:
        return len(self.base)

    @property
    def outputs(self) -> int:
        return 2 if self.mode == PAIR else self.scores

    @property
    def nodes(self) -> int:
        return sum(len(tree.nodes) for tree in self.trees)

    @property
    def leaves(self) -> int:
        return sum(len(tree.values) for tree in self.trees)

    @property
    def depth(self) -> int:
        return max(depth_of(tree.nodes) for tree in self.trees)

    @property
    def arena_bytes(self) -> int:
        """What an engine needs: input, scores and output, each from a multiple of 16."""
        return sum(-(-size // _ALIGNMENT) * _ALIGNMENT for size in (self.channels, 4 * self.scores, self.outputs))


def sizes_of(model: Trees) -> Dict[str, int]:
    """What a manifest says of them."""
    return {"trees": len(model.trees), "nodes": model.nodes, "leaves": model.leaves, "depth": model.depth}


def edges_of(model: Trees) -> Dict[str, Dict[str, Any]]:
    """Input and output, as a manifest has them."""
    ends = {"input": (model.channels, 1.0, 0), "output": (model.outputs, model.scale, model.zero_point)}
    return {
        side: {"shape": [1, width], "dtype": "int8", "scale": scale, "zero_point": zero_point}
        for side, (width, scale, zero_point) in ends.items()
    }


def is_trees(blob: bytes) -> bool:
    """Whether a model is one of trees, by its first bytes."""
    return blob[:4] == MAGIC


def depth_of(nodes: np.ndarray) -> int:
    """Splits on the longest way of a tree whose nodes are numbered level by level."""
    depth, end, ahead = 0, 1, 1
    for number, (_, _, left, right) in enumerate(nodes.tolist()):
        if number == end:
            depth, end = depth + 1, ahead
        ahead += (left < LEAF) + (right < LEAF)
    return depth + (len(nodes) > 0)


def pack_trees(model: Trees) -> bytes:
    """The file. Raises TreesError for what `parse_trees` would not read."""
    counts = [(len(tree.nodes), len(tree.values)) for tree in model.trees]
    if any(nodes >= LEAF or leaves > LEAF for nodes, leaves in counts):
        raise TreesError(f"a tree has more than {LEAF - 1} nodes")
    parts = [
        model.base.astype("<i4").tobytes(),
        model.cuts.astype("<i4").tobytes(),
        np.array(counts, "<u2").tobytes(),
        *(tree.nodes.astype("<u2").tobytes() for tree in model.trees),
        *(tree.values.astype("<i4").tobytes() for tree in model.trees),
        model.sets.astype(np.uint8).tobytes(),
    ]
    total = _HEAD.size + sum(map(len, parts))
    head = _HEAD.pack(
        *(MAGIC, VERSION, model.mode, total, model.channels, model.scores, len(model.trees), model.nodes, model.leaves),
        *(len(model.sets), model.depth if model.trees else 0, model.scale, model.zero_point, bytes(16)),
    )
    packed = head + b"".join(parts)
    parse_trees(packed)
    return packed


def parse_trees(blob: bytes) -> Trees:
    """Raises TreesError, which says what is wrong with a file and where; firmware/engine/trees/check.cpp refuses the same."""
    if blob[:4] != MAGIC or len(blob) < _HEAD.size:
        raise TreesError(f"not a model of trees: {len(blob)} bytes that begin with {blob[:4]!r} instead of {MAGIC!r}")
    fields = _HEAD.unpack_from(blob)
    version, mode, total, channels, scores, trees, nodes, leaves, sets, depth, scale, zero_point, rest = fields[1:]
    for what, at, value, least, most in (
        ("version", 4, version, VERSION, VERSION),
        ("mode", 6, mode, VALUE, CLASSES),
        ("bytes", 8, total, len(blob), len(blob)),
        ("channels", 12, channels, 1, MOST_CHANNELS),
        ("scores", 16, scores, *((2, MOST_SCORES) if mode == CLASSES else (1, 1))),
        ("trees", 20, trees, 1, MOST_TREES),
        ("depth", 36, depth, 0, MOST_DEPTH),
        ("zero point", 44, zero_point, -128, 127),
    ):
        if not least <= value <= most:
            expected = str(least) if least == most else f"{least} to {most}"
            raise TreesError(f"{what} at offset {at}: {value}, expected {expected}")
    if not (np.isfinite(scale) and scale > 0) or (mode != VALUE and (scale, zero_point) != PROBABILITIES):
        raise TreesError(f"scale at offset 40: {scale}, with zero point {zero_point}")
    if any(rest):
        raise TreesError("reserved bytes at offset 48 are not zero")
    wanted = _HEAD.size + 4 * (scores + CODES) + 4 * trees + 8 * nodes + 4 * leaves * scores + _SET_BYTES * sets
    if wanted != total:
        raise TreesError(f"bytes at offset 8: {total}, its parts have {wanted}")
    at = _HEAD.size
    base, at = np.frombuffer(blob, "<i4", scores, at), at + 4 * scores
    cuts, at = np.frombuffer(blob, "<i4", CODES, at), at + 4 * CODES
    counts, at = np.frombuffer(blob, "<u2", 2 * trees, at).reshape(trees, 2).astype(np.int64), at + 4 * trees
    table, at = np.frombuffer(blob, "<u2", 4 * nodes, at).reshape(nodes, 4), at + 8 * nodes
    values = np.frombuffer(blob, "<i4", leaves * scores, at).reshape(leaves, scores)
    at += 4 * leaves * scores
    if (np.diff(cuts.astype(np.int64)) < 0).any():
        raise TreesError("cuts of the output do not ascend")
    if counts.sum(axis=0).tolist() != [nodes, leaves]:
        raise TreesError(f"trees have {counts.sum(axis=0).tolist()} nodes and leaves, the head says {[nodes, leaves]}")
    found = _trees(counts, table, values)
    for number, tree in enumerate(found):
        _check_tree(number, tree, channels, sets)
    if depth != max(depth_of(tree.nodes) for tree in found):
        raise TreesError(f"depth at offset 36: {depth}, the trees have another")
    most = np.abs(base.astype(np.int64)) + sum(np.abs(tree.values.astype(np.int64)).max(axis=0) for tree in found)
    if (most >= 1 << 31).any():
        raise TreesError("values of leaves: their sum can be beyond 32 bits")
    read = np.frombuffer(blob, np.uint8, _SET_BYTES * sets, at).reshape(sets, _SET_BYTES)
    return Trees(mode, channels, tuple(found), base, cuts, read, scale, zero_point)


def _trees(counts: np.ndarray, table: np.ndarray, values: np.ndarray) -> List[Tree]:
    ends = counts.cumsum(axis=0).tolist()
    starts = [[0, 0], *ends[:-1]]
    return [Tree(table[a:c], values[b:d]) for (a, b), (c, d) in zip(starts, ends)]


def _check_tree(number: int, tree: Tree, channels: int, sets: int) -> None:
    """Every field in its range, and places numbered as they are met."""
    ahead, leaves = 1, 0
    if len(tree.nodes) >= LEAF or len(tree.values) != len(tree.nodes) + 1:
        raise TreesError(f"tree {number}: {len(tree.nodes)} nodes and {len(tree.values)} leaves")
    for at, (field, test, left, right) in enumerate(tree.nodes.tolist()):
        kind, where = field >> 12 & 3, f"tree {number}: node {at}"
        if field & LEAF or kind not in KINDS or field & 4095 >= channels:
            raise TreesError(f"{where}: field {field:#x}, of {channels} channels")
        if (kind == AT_LEAST and not 1 <= test <= CODES + 1) or (kind == SET and test >= sets):
            raise TreesError(f"{where}: test {test}")
        for below in (left, right):
            expected = LEAF + leaves if below & LEAF else ahead
            if below != expected or (not below & LEAF and below >= len(tree.nodes)):
                raise TreesError(f"{where}: leads to {below:#x}, expected {expected:#x} of {len(tree.nodes)} nodes")
            ahead, leaves = ahead + (not below & LEAF), leaves + (below >= LEAF)
        if at + 1 < len(tree.nodes) and ahead <= at + 1:
            raise TreesError(f"{where}: nothing leads to the node behind it")


def run_trees(model: Trees, rows: np.ndarray) -> np.ndarray:
    """int8 (rows, outputs): what boards give for int8 rows (n, channels), bit by bit."""
    rows = np.asarray(rows)
    if rows.dtype != np.int8 or rows.size != len(rows) * model.channels:
        raise TreesError(
            f"rows are {rows.dtype} of shape {rows.shape}; the model takes int8 of {model.channels} channels"
        )
    codes = rows.reshape(len(rows), model.channels).astype(np.int64) + 128
    sums = np.tile(model.base.astype(np.int64), (len(rows), 1))
    for tree in model.trees:
        sums += tree.values.astype(np.int64)[leaves_of(model, tree, codes)]
    return _outputs(model, sums)


def leaves_of(model: Trees, tree: Tree, codes: np.ndarray) -> np.ndarray:
    """int64 (n,): the leaf of each row of codes (n, channels)."""
    if not len(tree.nodes):
        return np.zeros(len(codes), np.int64)
    nodes, at = tree.nodes.astype(np.int64), np.zeros(len(codes), np.int64)
    sets = np.unpackbits(model.sets, axis=1, bitorder="little") if len(model.sets) else np.zeros((1, 256), np.uint8)
    going = np.arange(len(codes))
    while len(going):
        field, test, left, right = nodes[at[going]].T
        code, kind = codes[going, field & 4095], field >> 12 & 3
        level = np.maximum(code - 1, 0)
        in_few = (level < FEW_LEVELS) & (test >> np.minimum(level, FEW_LEVELS - 1) & 1 == 1)
        in_set = sets[np.where(kind == SET, test, 0), level] == 1
        beyond = np.select([kind == AT_LEAST, kind == LEVELS], [code >= test, in_few], in_set)
        at[going] = np.where(np.where(code == 0, field & MISSING_RIGHT > 0, beyond), right, left)
        going = going[at[going] < LEAF]
    return at - LEAF


def _outputs(model: Trees, sums: np.ndarray) -> np.ndarray:
    codes = np.searchsorted(model.cuts.astype(np.int64), sums, side="right")
    if model.mode == PAIR:
        second = codes[:, 0]
        codes = np.stack([np.where(second == 128, 127, np.minimum(256 - second, 255)), second], axis=1)
    elif model.mode == CLASSES:
        winner = sums.argmax(axis=1)
        top = codes[np.arange(len(codes)), winner]
        tied = (codes == top[:, np.newaxis]) & (np.arange(codes.shape[1]) < winner[:, np.newaxis])
        codes = codes - (tied & (top > 0)[:, np.newaxis])
        nothing = np.flatnonzero((top == 0) & tied.any(axis=1))
        codes[nothing, winner[nothing]] = 1
    return (codes - 128).astype(np.int8)


def numbered(splits: Sequence[Tuple[int, int, int, int]], leaf_of: Sequence[int]) -> Tuple[np.ndarray, List[int]]:
    """(uint16 (n, 4) nodes as a file has them, the leaves in their order) of a tree given by any numbers.

    splits: (field, test, left, right) with places of `splits`, or for a leaf -1 - its place in `leaf_of`; the first is the root.
    """
    if not splits:
        return np.zeros((0, 4), np.uint16), [leaf_of[0]]
    order: List[int] = [0]
    leaves: List[int] = []
    nodes = []
    for place in order:  # it grows while it is read
        field, test, *below = splits[place]
        refs = []
        for each in below:
            refs.append(len(order) if each >= 0 else LEAF + len(leaves))
            (order if each >= 0 else leaves).append(each if each >= 0 else leaf_of[-1 - each])
        nodes.append((field, test, *refs))
    return np.array(nodes, np.uint16), leaves

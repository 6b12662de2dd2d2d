"""A model of trees, read whole from the model.bin of a bundle and computed here in whole numbers, bit for bit as boards do.

Every tree is walked for all records to its full depth, leaves leading to themselves, and every search among cuts has eight steps:
how many steps there are follows from the file and from how many records there are. Which places of memory are read follows from
the records, as in every table that is looked up.
"""

from typing import Iterator, List, NamedTuple, Tuple

import numpy as np

from model_export.errors import ExportError
from model_export.model_bin import parse_model_bin
from model_export.trees import (
    AT_LEAST,
    CODES,
    FEW_LEVELS,
    LEAF,
    LEVELS,
    MISSING_RIGHT,
    PAIR,
    SET,
    VALUE,
    Tree,
    Trees,
    depth_of,
    is_trees,
    parse_trees,
)
from orchestrator.errors import GraphError

MOST_BYTES = 4 << 20
"""As of int8 models (node/int8_model.py)."""
MOST_WORK = 1 << 21
"""What all trees take of a record: a split on the longest way of a tree counts 16, a value of a leaf 1."""

_PIECE = 1 << 17
"""Numbers of one kind that are in memory at a time, of models whose records are not wide."""
_FEWEST_ROWS = 1024
"""At a time, of all models: a tree or a channel takes as many calls for one record as for these."""


class _Table(NamedTuple):
    """A tree with its leaves as nodes behind the others, each of which leads to itself. All int64 (nodes + leaves,)."""

    field: np.ndarray
    test: np.ndarray
    left: np.ndarray
    right: np.ndarray
    values: np.ndarray  # int64 (leaves, scores)
    depth: int

    @property
    def nodes(self) -> int:
        return len(self.field) - len(self.values)


class TreesModel(NamedTuple):
    """cuts: float32 (channels, 255), in each row the cuts of a channel and then infinity; counts: int64 (channels,) of cuts."""

    trees: Trees
    tables: Tuple[_Table, ...]
    cuts: np.ndarray
    counts: np.ndarray

    @property
    def width(self) -> int:
        """How many channels it takes of a record."""
        return self.trees.channels

    @property
    def classes(self) -> int:
        """How many outputs it has."""
        return self.trees.outputs

    def run(self, inputs: np.ndarray) -> np.ndarray:
        """float32 (n, outputs) for float32 (n, channels), in which a category is its place and NaN a missing value."""
        found = [self._of(rows) for rows in self.pieces(inputs)]
        return np.concatenate([np.empty((0, self.classes), np.float32), *found])

    def pieces(self, inputs: np.ndarray) -> Iterator[np.ndarray]:
        """Rows of `inputs`, so many at a time that none takes much memory."""
        piece = max(_FEWEST_ROWS, _PIECE // max(self.width, self.classes))
        for start in range(0, len(inputs), piece):
            yield inputs[start : start + piece]

    def codes(self, inputs: np.ndarray) -> np.ndarray:
        """int64 (n, channels): 0 of a missing value, else 1 + how many cuts of its channel are not above it."""
        found = np.zeros(inputs.shape, np.int64)
        for channel, (cuts, most) in enumerate(zip(self.cuts, self.counts)):
            values = inputs[:, channel]
            found[:, channel] = np.where(np.isnan(values), 0, 1 + np.minimum(_counted(cuts, values), most))
        return found

    def _of(self, inputs: np.ndarray) -> np.ndarray:
        codes = self.codes(inputs)
        sums = np.tile(self.trees.base.astype(np.int64), (len(codes), 1))
        for table in self.tables:
            sums += table.values[self._leaves(table, codes)]
        whole = self._outputs(sums) - 128
        return np.asarray((whole.astype(np.float32) - self.trees.zero_point) * np.float32(self.trees.scale), np.float32)

    def _leaves(self, table: _Table, codes: np.ndarray) -> np.ndarray:
        """int64 (n,): the leaf of each row of codes (n, channels)."""
        rows, at = np.arange(len(codes)), np.zeros(len(codes), np.int64)
        sets = self.trees.sets if len(self.trees.sets) else np.zeros((1, 32), np.uint8)
        for _ in range(table.depth):
            field, test = table.field[at], table.test[at]
            code, kind = codes[rows, field & 4095], field >> 12 & 3
            level = np.maximum(code - 1, 0)
            in_few = (level < FEW_LEVELS) & (test >> np.minimum(level, FEW_LEVELS - 1) & 1 == 1)
            in_set = sets[np.where(kind == SET, test, 0), level >> 3] >> (level & 7) & 1 == 1
            beyond = np.where(kind == AT_LEAST, code >= test, np.where(kind == LEVELS, in_few, in_set))
            at = np.where(np.where(code == 0, field & MISSING_RIGHT > 0, beyond), table.right[at], table.left[at])
        return at - table.nodes

    def _outputs(self, sums: np.ndarray) -> np.ndarray:
        """int64 (n, outputs): codes of outputs, 0 to 255 (model_export/trees.py)."""
        codes = _counted(self.trees.cuts.astype(np.int64), sums)
        if self.trees.mode == PAIR:
            second = codes[:, 0]
            return np.stack([np.where(second == 128, 127, np.minimum(256 - second, 255)), second], axis=1)
        winner, places = sums.argmax(axis=1)[:, np.newaxis], np.arange(codes.shape[1])
        top = np.take_along_axis(codes, winner, axis=1)
        tied = (codes == top) & (places < winner)
        raised = (top == 0) & tied.any(axis=1, keepdims=True) & (places == winner)
        return np.asarray(np.where(raised, 1, codes - (tied & (top > 0))))


def read_trees(model: bytes) -> TreesModel:
    """The trees of a bundle's model.bin. GraphError, naming what is not accepted and nothing else."""
    if len(model) > MOST_BYTES:
        raise GraphError(f"the model file of trees has {len(model)} bytes, at most {MOST_BYTES} are accepted")
    try:
        packed = parse_model_bin(model)
        trees = parse_trees(packed.tflite)
    except ExportError as error:
        raise GraphError(f"the model file of trees is damaged or not accepted: {error}") from error
    cuts = None if packed.input_profile is None else packed.input_profile.cuts
    if cuts is None or len(cuts) != trees.channels:
        raise GraphError("the model file of trees does not say which cuts the inputs of its trees have")
    if trees.mode == VALUE:
        raise GraphError("the trees of the model file predict a number, and a score is of classes")
    tables = tuple(map(_table, trees.trees))
    if sum(16 * table.depth + trees.scores for table in tables) > MOST_WORK:
        raise GraphError(f"more than {MOST_WORK} steps of work for a record, which no model of trees here may take")
    padded = np.full((trees.channels, CODES), np.inf, np.float32)
    for row, each in zip(padded, cuts):
        row[: len(each)] = each
    return TreesModel(trees, tables, padded, np.array([len(each) for each in cuts], np.int64))


def of_trees(model: bytes) -> bool:
    """Whether a file is the model.bin of a bundle of trees, as far as it can be read."""
    try:
        return is_trees(parse_model_bin(model).tflite)
    except ExportError:
        return False


def _table(tree: Tree) -> _Table:
    nodes, leaves = tree.nodes.astype(np.int64), len(tree.values)
    own = len(nodes) + np.arange(leaves)
    nothing = np.zeros(leaves, np.int64)
    below: List[np.ndarray] = []
    for column in (nodes[:, 2], nodes[:, 3]):
        below.append(np.concatenate([np.where(column < LEAF, column, column - LEAF + len(nodes)), own]))
    field, test = (np.concatenate([nodes[:, column], nothing]) for column in (0, 1))
    return _Table(field, test, below[0], below[1], tree.values.astype(np.int64), depth_of(tree.nodes))


def _counted(cuts: np.ndarray, values: np.ndarray) -> np.ndarray:
    """int64, of the shape of values: how many of 255 ascending cuts are not above each, found in eight steps."""
    at = np.zeros(values.shape, np.int64)
    for step in (128, 64, 32, 16, 8, 4, 2, 1):
        at += step * (cuts[at + step - 1] <= values)
    return at

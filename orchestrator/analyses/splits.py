"""Columns as trees read them, and trees that are drawn from a seed without any record."""

import hashlib
from typing import Dict, Iterator, List, NamedTuple, Sequence, Tuple

import numpy as np

from orchestrator.analyses.inputs import columns_of
from orchestrator.wire.bounds import near, twice
from orchestrator.wire.schema import Feature, Schema

MOST_LEVELS = 256
"""Of a category a tree splits."""


class Columns:
    """The columns of a schema that are named, or all but one, as trees read them."""

    def __init__(self, schema: Schema, named: Sequence[str], outcome: str) -> None:
        self._schema, self._named, self._outcome = schema, tuple(named), outcome
        self.by_name = {feature.name: feature for feature in schema.features}
        chosen = self._named or tuple(name for name in self.by_name if name != outcome)
        self.features: List[Feature] = [self.by_name[name] for name in chosen if name in self.by_name]

    def objections(self) -> Iterator[str]:
        """Why these columns are no inputs of a tree."""
        for name in self._named:
            if name not in self.by_name:
                yield f"inputs: no column {name!r} in the schema{near(name, self.by_name)}"
            elif name == self._outcome:
                yield f"inputs: {name!r} is what is explained"
        yield from twice("inputs", self._named)
        if not self.features:
            yield "inputs: no column is left to explain by"
        for feature in self.features:
            if len(feature.categories) > MOST_LEVELS:
                yield f"inputs: {feature.name!r} has {len(feature.categories)} levels, at most {MOST_LEVELS}"

    def read(self, x: np.ndarray) -> np.ndarray:
        """float64 (n, columns), NaN where missing: numbers over [-1, 1], of a category the number of its level. x: as of
        `Analysis.vectors`.
        """
        columns = columns_of(x, self._schema)
        return np.stack([_one(columns, feature) for feature in self.features], axis=1)

    def one(self, x: np.ndarray, name: str) -> np.ndarray:
        """float64 (n,): one column of the schema, as `read` has it."""
        return _one(columns_of(x, self._schema), self.by_name[name])


def _one(columns: Dict[str, np.ndarray], feature: Feature) -> np.ndarray:
    each = columns[feature.name]
    return np.where(each.sum(axis=1) > 0.5, each.argmax(axis=1), np.nan) if feature.categories else each[:, 0]


class Drawn(NamedTuple):
    """Trees with all leaves at one depth; node i leads to 2 i + 1 (left) and 2 i + 2 (right).

    column: int64 (trees, nodes). threshold: float64 (trees, nodes), over [-1, 1]; a larger value goes right. right: bool (trees,
    nodes, levels), which levels of a category do. missing: bool (trees, nodes), whether a value that is missing does.
    """

    column: np.ndarray
    threshold: np.ndarray
    right: np.ndarray
    missing: np.ndarray
    depth: int

    def leaves(self, values: np.ndarray, categories: np.ndarray) -> np.ndarray:
        """int64 (n, trees): the leaf of each record, from `Columns.read` and, by column, whether it is one with categories."""
        trees, at = np.arange(len(self.column)), np.zeros((len(values), len(self.column)), np.int64)
        rows = np.arange(len(values))[:, np.newaxis]
        for _ in range(self.depth):
            column = self.column[trees, at]
            value = values[rows, column]
            lacking = np.isnan(value)
            level = np.where(lacking | ~categories[column], 0, value).astype(np.int64)
            beyond = np.where(categories[column], self.right[trees, at, level], value > self.threshold[trees, at])
            at = 2 * at + 1 + np.where(lacking, self.missing[trees, at], beyond)
        return np.asarray(at - (2**self.depth - 1))


def drawn(features: Sequence[Feature], trees: int, depth: int, seed: int) -> Drawn:
    """Trees whose columns and splits are drawn evenly: a threshold from what the splits above leave of the range, of a category's
    levels that are left some. From a hash, so that every party draws the same whatever its libraries.
    """
    nodes, levels = 2**depth - 1, max([1, *(len(feature.categories) for feature in features)])
    each = evenly(f"trees {seed}", trees * nodes * (3 + levels)).reshape(trees, nodes, 3 + levels)
    found = Drawn(
        np.zeros((trees, nodes), np.int64),
        np.zeros((trees, nodes)),
        np.zeros((trees, nodes, levels), bool),
        each[:, :, 2] < 0.5,
        depth,
    )
    whole = [tuple(range(len(f.categories))) if f.categories else (-1.0, 1.0) for f in features]
    for tree in range(trees):
        left_of: List[List[Tuple[float, ...]]] = [list(whole), *([] for _ in range(2 * nodes))]
        for node in range(nodes):
            low, high = _split(found, features, (tree, node), left_of[node], each[tree, node])
            left_of[2 * node + 1], left_of[2 * node + 2] = low, high
    return found


def _split(
    found: Drawn, features: Sequence[Feature], at: Tuple[int, int], ranges: List[Tuple[float, ...]], even: np.ndarray
) -> Tuple[List[Tuple[float, ...]], List[Tuple[float, ...]]]:
    """Draws one node; returns what is left of every column (a range, or levels) on its two sides."""
    splits = [place for place, f in enumerate(features) if not f.categories or len(ranges[place]) > 1]
    low, high = list(ranges), list(ranges)
    if not splits:  # categories alone, and each is down to one level: all goes left
        found.missing[at] = False
        return low, high
    column = found.column[at] = splits[int(even[0] * len(splits))]
    left = ranges[column]
    if features[column].categories:
        order = sorted(left, key=lambda level: float(even[3 + int(level)]))
        size = 1 + int(even[1] * (len(left) - 1))
        found.right[at][[int(level) for level in order[:size]]] = True
        high[column], low[column] = tuple(sorted(order[:size])), tuple(sorted(order[size:]))
        return low, high
    cut = found.threshold[at] = left[0] + (left[1] - left[0]) * even[1]
    low[column], high[column] = (left[0], float(cut)), (float(cut), left[1])
    return low, high


def evenly(words: str, count: int) -> np.ndarray:
    """float64 (count,) in [0, 1), from SHAKE-256 of the words."""
    content = hashlib.shake_256(words.encode()).digest(8 * count)
    return (np.frombuffer(content, "<u8") >> np.uint64(11)) * 2.0**-53


def nothing_fitted(units: str, held: float) -> str:
    """Why there is no model where all records are held out, or left out."""
    if held < 0.5:
        return f"no {units} to fit on: all lack the outcome"
    return (
        f"no {units} to fit on: all {held:.6g} are held out, since equal records are kept together; set another `seed`, or "
        "`held_out` to 0"
    )


def apart(values: np.ndarray, share: float, seed: int) -> np.ndarray:
    """bool (n,): which records are held out, by a hash of their inputs: the same ones in every round, about `share` of them."""
    if not share:
        return np.zeros(len(values), bool)
    clean = np.where(np.isnan(values), 7.0, values + 0.0).astype("<f8")  # one way of writing NaN and 0
    key = f"held out {seed}".encode()
    digests = b"".join(hashlib.blake2b(row.tobytes(), digest_size=8, key=key).digest() for row in clean)
    return np.asarray(np.frombuffer(digests, "<u8") < share * 2.0**64)

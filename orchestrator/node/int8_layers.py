"""What an int8 model of dense layers computes, in whole numbers: each record by itself, in a time that follows from how many."""

from typing import Any, Iterator, NamedTuple, Tuple

import numpy as np

from orchestrator.node.fixed_point import INT8_MAX, INT8_MIN, rescaled, softmax

_PIECE = 1 << 17
"""Numbers of one layer that are in memory at a time."""


class Edge(NamedTuple):
    """Of a tensor: real = scale (int8 - zero point)."""

    scale: float
    zero_point: int

    def quantized(self, values: np.ndarray) -> np.ndarray:
        """int64, of finite float32: halves to even, kept within int8; as `edgeward predict` does."""
        with np.errstate(over="ignore"):  # what becomes infinite is an end of int8
            whole = np.rint(values / np.float32(self.scale)) + self.zero_point
        return np.clip(whole, INT8_MIN, INT8_MAX).astype(np.int64)

    def real(self, values: np.ndarray) -> np.ndarray:
        """float32, of int8 values."""
        return np.asarray((values.astype(np.float32) - self.zero_point) * np.float32(self.scale), np.float32)


class Dense(NamedTuple):
    """weights: float64 (width, units) of whole numbers, so that their product is one of BLAS and exact."""

    weights: np.ndarray
    bias: np.ndarray  # int64 (units,)
    multipliers: np.ndarray  # int64 (units,) or (1,)
    shifts: np.ndarray
    zero_points: Tuple[int, int]  # of input and output
    clamp: Tuple[int, int]

    def apply(self, rows: np.ndarray) -> np.ndarray:
        """int64 (n, units)."""
        products = (rows - self.zero_points[0]).astype(np.float64) @ self.weights
        found = rescaled(products.astype(np.int64) + self.bias, self.multipliers, self.shifts) + self.zero_points[1]
        return np.clip(found, *self.clamp)


class Table(NamedTuple):
    """What is made of each int8 value."""

    entries: np.ndarray  # int64 (256,)

    def apply(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(self.entries[rows - INT8_MIN])


class Softmax(NamedTuple):
    depth: int
    scale: float
    beta: float

    def apply(self, rows: np.ndarray) -> np.ndarray:
        return softmax(rows.reshape(-1, self.depth), self.scale, self.beta).reshape(rows.shape)


class Int8Model(NamedTuple):
    """layers: Dense, Table or Softmax, each on what the one before gives."""

    width: int
    classes: int
    layers: Tuple[Any, ...]
    given: Edge
    made: Edge
    widest: int

    def run(self, inputs: np.ndarray) -> np.ndarray:
        """float32 (n, classes) for float32 (n, width); NaN throughout for a row that is not of finite numbers.

        Such a row is computed like any other, with zeros in its place: a gateway chooses what is finite, by mean and std.
        """
        finite = np.isfinite(inputs).all(axis=1, keepdims=True)
        found = [self._of(rows) for rows in self.pieces(np.where(finite, inputs, np.float32(0)))]
        return np.where(finite, np.concatenate([np.empty((0, self.classes), np.float32), *found]), np.float32(np.nan))

    def pieces(self, inputs: np.ndarray) -> Iterator[np.ndarray]:
        """Rows of `inputs`, so many at a time that no layer of them takes much memory."""
        piece = max(1, _PIECE // self.widest)
        for start in range(0, len(inputs), piece):
            yield inputs[start : start + piece]

    def _of(self, inputs: np.ndarray) -> np.ndarray:
        rows = self.given.quantized(inputs)
        for layer in self.layers:
            rows = layer.apply(rows)
        return self.made.real(rows)


def work_of(layer: Any, size: int) -> int:
    """Of a record, in a layer that gives so many numbers."""
    if isinstance(layer, Dense):
        return int(layer.weights.size) + 16 * size
    return {Table: 4, Softmax: 32}.get(type(layer), 0) * size

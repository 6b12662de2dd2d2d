"""A training graph's signatures as numpy functions, checked (node/graph_check.py) and run in a process of their own."""

import threading
from types import TracebackType
from typing import Iterator, Optional, Tuple, Type
from weakref import WeakValueDictionary

import numpy as np

from orchestrator.errors import GraphError
from orchestrator.node.graph_check import check_graph
from orchestrator.node.graph_places import places
from orchestrator.node.graph_process import SUMS, GraphProcess, Limits, call_bytes, rows_name

CHUNK_BYTES = 256 << 10
"""Of records or answers that cross to the process at once; more would only take memory."""

PIECE_BYTES = 1 << 20
"""Of gradients that are computed in places (node/graph_places.py) and cross at once."""

_processes: "WeakValueDictionary[Tuple[str, Limits], GraphProcess]" = WeakValueDictionary()
_lock = threading.Lock()


class TrainingGraph:
    """A training graph to call. Equal ones share a process, which ends with the last of them.

    The methods whose names begin with `record` run every record by itself, so that no answer depends on another record; the
    others see a whole batch, as only tasks that promise nothing about single records or patients may. All raise GraphError when
    the process ends, overruns its time or gives no proper answer, and from then on.
    """

    def __init__(self, graph: bytes, limits: Limits = Limits()) -> None:  # noqa: B008 (immutable)
        """Raises GraphError for a graph this node does not run."""
        checked = check_graph(graph)
        self.parameters, self.input_shape, self.classes = checked.parameters, checked.input_shape, checked.classes
        self.batch_size, self.infer_batch = checked.batch_size, checked.infer_batch
        self._functions = checked.functions
        self._random = np.random.default_rng()
        with _lock:
            key = (checked.digest(), limits)
            process = _processes.get(key)
            if process is None or process.broken:
                process = _processes[key] = GraphProcess(checked, limits)
        self._process: Optional[GraphProcess] = process

    def __enter__(self) -> "TrainingGraph":
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets the process end, if no other graph here uses it."""
        self._process = None

    @property
    def process(self) -> GraphProcess:
        if self._process is None:
            raise GraphError("this training graph was closed")
        return self._process

    def gradient(
        self, weights: np.ndarray, x: np.ndarray, y: np.ndarray, counts: Optional[np.ndarray] = None
    ) -> np.ndarray:
        """float32 (P,): mean cross-entropy gradient over at most `batch_size` records.

        counts: float (n,), what each of them counts for; then it is their weighted sum over the larger of 1 and all counts.
        """
        rows = self.process.batch_rows()
        if rows:
            shares = np.ones(len(x), np.float64) if counts is None else np.asarray(counts, np.float64)
            return self._summed(weights, x, y, shares, rows) / np.float32(max(1.0, float(shares.sum())))
        padded_x, padded_y, present = _pad(x, y, self.batch_size)
        if counts is not None:
            present[: len(x)] = counts
        return np.array(
            self.process.run("grad", weights, padded_x[np.newaxis], padded_y[np.newaxis], present[np.newaxis])[0]
        )

    def _summed(self, weights: np.ndarray, x: np.ndarray, y: np.ndarray, shares: np.ndarray, rows: int) -> np.ndarray:
        """float32 (P,): the sum of each record's gradient times its share, of so many records a call.

        A graph divides by sample weights that are more than 1 in all, so those of a record are at most 1.
        """
        total, most = np.zeros(self.parameters), max(1.0, float(shares.max(initial=0.0)))
        size = rows * max(1, CHUNK_BYTES // self.process.call_bytes(SUMS))
        for start in range(0, len(x), size):
            part = slice(start, start + size)
            given, counted = [x[part], y[part].astype(np.int32)], (shares[part] / most).astype(np.float32)
            missing = -len(counted) % rows
            if missing:  # copies of a record, for nothing: of zeros a graph may make something that is no number
                given = [np.concatenate([column, np.repeat(column[:1], missing, axis=0)]) for column in given]
                counted = np.concatenate([counted, np.zeros(missing, np.float32)])
            inputs = [column.reshape(-1, rows, 1, *column.shape[1:]) for column in (*given, counted)]
            total += self.process.run(SUMS, weights, *inputs).sum(axis=0, dtype=np.float64)
        return (most * total).astype(np.float32)

    def record_gradient(self, weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """float32 (P,): gradient of one record, given as a batch of one."""
        return np.array(next(self.record_gradients(weights, x[:1], y[:1])))

    def record_gradients(
        self, weights: np.ndarray, x: np.ndarray, y: np.ndarray, rows: Optional[np.ndarray] = None
    ) -> Iterator[np.ndarray]:
        """One float32 (P,) after another: the gradient of each record, computed by itself. rows: which, and in what order."""
        for block in self.gradient_blocks(weights, x, y, rows):
            yield from block

    def gradient_blocks(
        self, weights: np.ndarray, x: np.ndarray, y: np.ndarray, rows: Optional[np.ndarray] = None
    ) -> Iterator[np.ndarray]:
        """Like `record_gradients`, float32 (some, P) at a time."""
        chosen = np.arange(len(x)) if rows is None else rows
        together = self.process.rows()
        if together:
            yield from self._in_places(weights, x, y, chosen, together)
            return
        size = self._chunk("grad1")
        for start in range(0, len(chosen), size):
            part = chosen[start : start + size]
            present = np.ones((len(part), 1), np.float32)
            yield self.process.run("grad1", weights, x[part][:, np.newaxis], y[part][:, np.newaxis], present)

    def _in_places(
        self, weights: np.ndarray, x: np.ndarray, y: np.ndarray, chosen: np.ndarray, rows: int
    ) -> Iterator[np.ndarray]:
        """Each record's gradient from a row of its own among others, in the records' order.

        Places are drawn for all records at once: the more there are, the fewer places stay empty.
        """
        calls, place = places(len(chosen), rows, self._random)
        size = max(1, PIECE_BYTES // (4 * self.parameters * rows))
        if calls <= size and calls:
            yield self._called(weights, x[chosen], y[chosen], place, calls, rows)[place]
            return
        call = place // rows
        given, early, early_gradients = 0, np.zeros(0, np.int64), np.zeros((0, self.parameters), np.float32)
        for first in range(0, calls, size):
            count = min(size, calls - first)
            some = np.flatnonzero((call >= first) & (call < first + count))
            where = place[some] - first * rows
            found = self._called(weights, x[chosen[some]], y[chosen[some]], where, count, rows)
            late = np.flatnonzero(call >= first + count)
            until = int(late[0]) if len(late) else len(chosen)
            ready, was_ready = some < until, early < until
            whence = np.zeros(until - given, np.int64)
            whence[some[ready] - given] = where[ready]
            block = found[whence]
            block[early[was_ready] - given] = early_gradients[was_ready]
            early_gradients = np.concatenate([early_gradients[~was_ready], found[where[~ready]]])
            early = np.concatenate([early[~was_ready], some[~ready]])
            if until > given:
                yield block
            given = until

    def _called(
        self, weights: np.ndarray, x: np.ndarray, y: np.ndarray, where: np.ndarray, calls: int, rows: int
    ) -> np.ndarray:
        """float32 (calls x rows, P): records in these places, zeros in the others."""
        all_x, all_y = np.zeros((calls * rows, *self.input_shape), np.float32), np.zeros(calls * rows, np.int32)
        all_x[where], all_y[where] = x, y
        columns = all_x.reshape(calls, rows, 1, *self.input_shape), all_y.reshape(calls, rows, 1)
        return self.process.run(rows_name(rows), weights, *columns).reshape(calls * rows, self.parameters)

    def logits(self, weights: np.ndarray, x: np.ndarray) -> np.ndarray:
        """float32 (n, classes) for float32 inputs (n, *input_shape)."""
        out = []
        for start in range(0, len(x), self.infer_batch):
            batch = x[start : start + self.infer_batch]
            padded, _, _ = _pad(batch, np.zeros(len(batch), np.int32), self.infer_batch)
            out.append(self.process.run("infer", weights, padded[np.newaxis])[0, : len(batch)])
        return np.concatenate(out)

    def record_logits(self, weights: np.ndarray, x: np.ndarray) -> np.ndarray:
        """float32 (n, classes) like `logits`, every record by itself: alone, or among zeros where `infer1` is missing."""
        name = "infer1" if "infer1" in self._functions else "infer"
        batch, size = 1 if name == "infer1" else self.infer_batch, self._chunk(name)
        out = np.empty((len(x), self.classes), np.float32)
        for start in range(0, len(x), size):
            part = x[start : start + size]
            alone = np.zeros((len(part), batch, *self.input_shape), np.float32)
            alone[:, 0] = part
            out[start : start + size] = self.process.run(name, weights, alone)[:, 0]
        return out

    def record_seconds(self, name: str = "grad1") -> float:
        """What one record takes of a signature here, on rows of random numbers: a figure no record has a part in.

        Of many records together; `step_seconds` comes on top.
        """
        rows = self.process.rows() if name == "grad1" else 0
        if not rows:
            return self.process.seconds(name)
        return (2.3 if rows > 1 else 1.0) * self.process.seconds(rows_name(rows)) / rows

    def step_seconds(self) -> float:
        """What a step's gradients take at most beside `record_seconds` of each: calls that are not full."""
        rows = self.process.rows()
        return 15 * self.process.seconds(rows_name(rows)) if rows > 1 else 0.0

    def _chunk(self, name: str) -> int:
        return max(1, CHUNK_BYTES // call_bytes(self._functions[name]))


def _pad(x: np.ndarray, y: np.ndarray, size: int) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fixed batch size: zeros behind the records, and 1/0 weights that say which are real."""
    present = np.zeros(size, np.float32)
    present[: len(x)] = 1
    padded_x = np.zeros((size, *x.shape[1:]), np.float32)
    padded_x[: len(x)] = x
    padded_y = np.zeros(size, np.int32)
    padded_y[: len(y)] = y
    return padded_x, padded_y, present

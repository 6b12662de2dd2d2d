"""A training graph's functions in a process of their own (node/graph_channel.py), each tried on random rows before records come.

The process holds one graph for all who use it here.
"""

import contextlib
import logging
import math
import threading
import time
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Union

import numpy as np

from orchestrator.errors import EdgewardError, GraphError, WireError
from orchestrator.node.confine import NAMESPACES, NOTHING, SECCOMP
from orchestrator.node.graph_channel import FAILED, UNSTARTED, Channel, NotRunError
from orchestrator.node.graph_check import GRADIENT_OUTPUTS, CheckedGraph
from orchestrator.node.graph_child import LOAD, RUN
from orchestrator.node.graph_file import ITEM_BYTES, Function, tflite_file
from orchestrator.node.graph_places import TRIED_CALLS, alike, filled, sums_alike, sums_trial, trial
from orchestrator.node.graph_rows import rows_of, sums_of
from orchestrator.node.graph_shapes import size_of

log = logging.getLogger("edgeward.node")

SPARE_BYTES = 64 << 20
"""Memory a process may use beside twice what its functions' tensors take."""


def rows_name(rows: int) -> str:
    """Of a function of the node's own: what `grad1` gives, of many records (node/graph_rows.py). No signature is called so."""
    return f"rows{rows}"


SUMS = "sums"
"""A function of the node's own: the sum of what `grad1` gives of many records."""

TRIES, TRIED_S = 5, 1.0
"""A function is tried on random rows so often, or for so many seconds. The best time counts: one busy moment is not a pace."""

UNSTEADY = "the training graph answers the same record differently after another one"

WEAK = {
    NAMESPACES: "has limits and no network, but could read this user's files: system calls cannot be filtered here (seccomp)",
    NOTHING: "has limits only: system calls cannot be filtered here (seccomp), nor can it be kept from the network (namespaces)",
}

_warned: List[bool] = []


class Limits(NamedTuple):
    """Seconds until a process is killed: to start, to load a function, to run; `slack` times what random rows took on top."""

    start_s: float = 120.0
    load_s: float = 120.0
    run_s: float = 120.0
    slack: float = 100.0


class GraphProcess:
    """Runs the functions of one checked graph. Safe to use from several threads. EdgewardError where no process starts."""

    def __init__(self, graph: CheckedGraph, limits: Limits = Limits()) -> None:  # noqa: B008 (immutable)
        self._graph, self._limits = graph, limits
        self._lock = threading.Lock()
        self._functions = dict(graph.functions)
        self._rowed = rows_of(graph)
        self._functions.update({rows_name(rows): function for rows, function in self._rowed.items()})
        self._sums = sums_of(graph)
        if self._sums:
            self._functions[SUMS] = self._sums
        self._names = sorted(self._functions)
        self._seconds: Dict[str, float] = {}  # per call, of the loaded functions
        self._rows: Optional[int] = None
        self._batch_rows: Optional[int] = None
        self._took: Dict[int, float] = {}
        memory = SPARE_BYTES + 2 * sum(function.memory_bytes for function in self._functions.values())
        self._channel = Channel(memory)
        self._confined: Optional[int] = None
        self.process, self.close = self._channel.process, self._channel.close

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def broken(self) -> bool:
        """Whether the process is gone; it does not come back."""
        return self._channel.broken

    def seconds(self, name: str) -> float:
        """What one call of a function takes on rows of random numbers; never measured on anybody's data."""
        with self._lock:
            self._ready(name)
            return self._seconds[name]

    def rows(self) -> int:
        """Of how many records `rows_name` is to be called; 0 where `grad1` is to be called for each of them.

        That is where some operator has no rule, where the function gave another gradient than `grad1` on random rows, or gave a
        row other bits beside another row, and where it is not faster.
        """
        with self._lock:
            if self._rows is None:
                self._ready("grad1")
                took = {0: self._seconds["grad1"]}
                for rows in self._rowed:
                    if TRIED_CALLS * rows * self._seconds["grad1"] > TRIED_S:
                        continue  # what takes so long takes it in its operators, not between them
                    took[rows] = self._rows_took(rows)
                self._rows = min(took, key=lambda rows: took[rows])
            return self._rows

    def batch_rows(self) -> int:
        """Of how many records `SUMS` is to be called for a batch (graph_rows.sums_of); 0: `grad` for all of it.

        Not how fast it is decides, but whether it gives what `grad1` gives.
        """
        with self._lock:
            if self._batch_rows is None:
                self._batch_rows = 0
                if self._sums:
                    self._ready("grad1")
                    with self._tried():
                        self._batch_rows = self._right_sums(self._sums)
            return self._batch_rows

    def run(self, name: str, weights: np.ndarray, *columns: np.ndarray) -> np.ndarray:
        """float32 (calls, *first output): one call per row of `columns`, which are the function's inputs behind w.

        Raises GraphError when the process fails, now and ever after.
        """
        with self._lock:
            self._ready(name)
            return self._call(
                name, weights, columns, self._limits.run_s + self._limits.slack * self._seconds[name] * len(columns[0])
            )

    def call_bytes(self, name: str) -> int:
        """Bytes a call sends or receives, whichever is more, without the weights."""
        return call_bytes(self._functions[name])

    def confinement(self) -> int:
        """SECCOMP, NAMESPACES or NOTHING of node/confine.py: what this machine confines such a process by."""
        with self._lock:
            return self._start()

    def _start(self) -> int:
        """Waits until the process is there, the first time."""
        if self._confined is None:
            try:
                self._confined = self._channel.greeting(self._limits.start_s)
            except GraphError as error:  # it has seen no graph yet, so it is this machine
                raise EdgewardError(f"{UNSTARTED}: {error}") from error
            if self._confined != SECCOMP and not _warned:
                _warned.append(True)
                log.warning("training graphs run in a process that %s", WEAK.get(self._confined, WEAK[NOTHING]))
        return self._confined

    def _ready(self, name: str) -> None:
        """Loads the function and tries it on random rows, where that was not done."""
        self._start()
        if name in self._seconds:
            return
        if name not in self._graph.functions:  # of the node's own: tried beside the graph's
            self._ready("grad1")
            self._rows_took(next(rows for rows in self._rowed if rows_name(rows) == name))
            if name not in self._seconds:
                raise GraphError(FAILED)
            return
        function = self._functions[name]
        self._request(LOAD, name, [tflite_file(function)], 0, self._limits.load_s)
        self._seconds[name] = self._try(name, function)

    def _rows_took(self, rows: int) -> float:
        """Like `_try_rows`, done once; infinite also where an older runtime does not run it."""
        if rows not in self._took:
            self._took[rows] = math.inf
            with self._tried():
                self._took[rows] = self._try_rows(rows)
        return self._took[rows]

    @contextlib.contextmanager
    def _tried(self) -> Iterator[None]:
        """Around the first use of a function of the node's own: a runtime that does not run it goes on without."""
        self._channel.trying = True
        try:
            with contextlib.suppress(NotRunError):
                yield
        finally:
            self._channel.trying = False

    def _right_sums(self, function: Function) -> int:
        """Returns how many records a call adds up; 0 where the sum is not that of what `grad1` gives."""
        self._request(LOAD, SUMS, [tflite_file(function)], 0, self._limits.load_s)
        weights, columns = sums_trial(function)
        *one, _ = [np.reshape(column, (-1, *column.shape[2:])) for column in columns]
        each = self._call("grad1", weights, [*one, np.ones((len(one[0]), 1), "<f4")], self._limits.run_s)
        begin = time.monotonic()
        found = self._call(SUMS, weights, columns, self._limits.run_s)
        self._seconds[SUMS] = (time.monotonic() - begin) / len(found)
        return columns[0].shape[1] if sums_alike(columns[2], found, each) else 0

    def _try_rows(self, rows: int) -> float:
        """Seconds for a record, with the places that stay empty; infinite where the answers are not right."""
        name, function = rows_name(rows), self._rowed[rows]
        self._request(LOAD, name, [tflite_file(function)], 0, self._limits.load_s)
        tried = trial(function)
        one = [np.reshape(column, (-1, *column.shape[2:])) for column in tried.columns]
        right = self._call("grad1", tried.weights, [*one, np.ones((len(one[0]), 1), "<f4")], self._limits.run_s)
        took: List[float] = []
        while len(took) < TRIES and sum(took) < TRIED_S:
            begin = time.monotonic()
            found = self._call(name, tried.weights, tried.columns, self._limits.run_s)
            took.append((time.monotonic() - begin) / len(found))
            self._seconds[name] = min(took)
            if not alike(tried, found, right.reshape(found.shape)):
                return math.inf
        return filled(rows) * self._seconds[name] / rows

    def _try(self, name: str, function: Function) -> float:
        """Seconds a call takes on random rows. GraphError where a row's answer depends on the row before."""
        random = np.random.default_rng(0)
        shapes = [function.tensors[i].shape for i in function.inputs]
        weights = random.standard_normal(shapes[0]).astype("<f4")
        rows = random.standard_normal((2, *shapes[1])).astype("<f4")
        columns = [rows[[0, 1, 0]]]
        if len(shapes) == len(GRADIENT_OUTPUTS) + 2:
            columns += [np.tile([[0], [1], [0]], shapes[2]).astype("<i4"), np.ones((3, *shapes[3]), "<f4")]
        took: List[float] = []
        while len(took) < TRIES and sum(took) < TRIED_S:
            begin = time.monotonic()
            answers = self._call(name, weights, columns, self._limits.run_s)
            took.append(time.monotonic() - begin)
            if answers[0].tobytes() != answers[2].tobytes():
                self._channel.fail(UNSTEADY)
        return min(took) / len(rows)

    def _call(self, name: str, weights: np.ndarray, columns: Sequence[np.ndarray], limit_s: float) -> np.ndarray:
        function = self._functions[name]
        calls = len(columns[0])
        parts = [_content(function, i, part) for i, part in zip(function.inputs, (weights, *columns))]
        shape = function.tensors[function.outputs[0]].shape
        answer = self._request(RUN, name, parts, 4 * calls * size_of(shape), limit_s)
        return np.frombuffer(answer, "<f4").reshape(calls, *shape)

    def _request(
        self, kind: int, name: str, parts: Sequence[Union[bytes, memoryview]], answer_bytes: int, limit_s: float
    ) -> memoryview:
        return self._channel.request(kind, self._names.index(name), parts, answer_bytes, limit_s)


def _content(function: Function, index: int, part: np.ndarray) -> memoryview:
    """One input's bytes for all calls, checked against what the function takes."""
    tensor = function.tensors[index]
    values = np.ascontiguousarray(part, dtype=np.dtype(tensor.dtype).newbyteorder("<"))
    own = values.shape if index == function.inputs[0] else values.shape[1:]
    if own != tensor.shape and index == function.inputs[0]:
        raise WireError(f"weights of shape {own}, the training graph takes {tensor.shape}")
    if own != tensor.shape:
        raise GraphError(f"the training graph takes {tensor.shape} of {tensor.dtype} there, not {own}")
    return values.reshape(-1).view(np.uint8).data


def confinement_here() -> int:
    """SECCOMP, NAMESPACES or NOTHING: by what a process is confined on this machine. EdgewardError where none starts."""
    process = GraphProcess(CheckedGraph(0, (), 0, 0, 0, {}))
    try:
        return process.confinement()
    finally:
        process.close()


def call_bytes(function: Function) -> int:
    """Bytes a call sends or receives, whichever is more, without the weights."""
    sent = [function.tensors[i] for i in function.inputs[1:]]
    received = function.tensors[function.outputs[0]]
    return max(sum(size_of(t.shape) * ITEM_BYTES[t.dtype] for t in sent), 4 * size_of(received.shape))

"""The node's end of the process a training graph runs in: requests with a time limit, answers that are checked.

The process holds one graph for all who use it here. It is the adversary's from its first load on: an answer of another size, an
end, or a time over the limit ends it for good, with an error whose text says nothing of the data.
"""

import contextlib
import fcntl
import logging
import math
import os
import select
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence

import numpy as np

from orchestrator.errors import EdgewardError, GraphError, WireError
from orchestrator.node.confine import NAMESPACES, NOTHING, SECCOMP
from orchestrator.node.graph_check import GRADIENT_OUTPUTS, CheckedGraph
from orchestrator.node.graph_child import ANSWER, ANSWER_MARK, DONE, LOAD, REQUEST, REQUEST_MARK, RUN
from orchestrator.node.graph_file import ITEM_BYTES, Function, tflite_file
from orchestrator.node.graph_places import TRIED_CALLS, alike, filled, trial
from orchestrator.node.graph_rows import batch_rows, rows_of
from orchestrator.node.graph_shapes import size_of
from orchestrator.node.litert import runtime_package

log = logging.getLogger("edgeward.node")

CHILD = Path(__file__).with_name("graph_child.py")
F_SETPIPE_SZ, PIPE_BYTES = 1031, 1 << 20
"""Linux's fcntl (fcntl(2)), which Python names from 3.10 on; and what every user may ask for."""

SPARE_BYTES = 64 << 20
"""Memory a process may use beside twice what its functions' tensors take."""


def rows_name(rows: int) -> str:
    """Of a function of the node's own: what `grad1` gives, of many records (node/graph_rows.py). No signature is called so."""
    return f"rows{rows}"


TRIES, TRIED_S = 5, 1.0
"""A function is tried on random rows so often, or for so many seconds. The best time counts: one busy moment is not a pace."""

UNSTARTED = "this machine does not start the process training graphs run in (`edgeward doctor` may say why)"
ENDED = "the process of the training graph ended before it answered"
OVERRAN = "the process of the training graph did not answer within its time limit"
WRONG = "the process of the training graph gave an invalid answer"
FAILED = "the runtime cannot run the training graph"
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


class _NotRunError(Exception):
    """The process is there, but its runtime does not run a function that is tried only."""


class GraphProcess:
    """Runs the functions of one checked graph. Safe to use from several threads. EdgewardError where no process starts."""

    def __init__(self, graph: CheckedGraph, limits: Limits = Limits()) -> None:  # noqa: B008 (immutable)
        self._graph, self._limits = graph, limits
        self._lock = threading.Lock()
        self._functions = dict(graph.functions)
        self._rowed = rows_of(graph)
        self._functions.update({rows_name(rows): function for rows, function in self._rowed.items()})
        self._names = sorted(self._functions)
        self._seconds: Dict[str, float] = {}  # per call, of the loaded functions
        self._rows: Optional[int] = None
        self._batch_rows: Optional[int] = None
        self._trying = False
        self._took: Dict[int, float] = {}
        self._number = 0
        self._broken = ""
        memory = SPARE_BYTES + 2 * sum(function.memory_bytes for function in self._functions.values())
        command = [sys.executable, "-I", "-S", "-B", str(CHILD), str(memory), str(int(_in_main_thread())), *_folders()]
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                cwd="/",
                env=_environment(),
                start_new_session=True,  # a Ctrl-C at the node's terminal is the node's to handle
            )
        except OSError as error:  # no more processes, or no memory for one
            raise EdgewardError(f"{UNSTARTED}: {error.strerror}") from error
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._to, self._from = self.process.stdin.fileno(), self.process.stdout.fileno()
        os.set_blocking(self._to, False)
        os.set_blocking(self._from, False)
        for pipe in (self._to, self._from):
            _widen(pipe)
        self._confined: Optional[int] = None
        self.close = weakref.finalize(self, _end, self.process)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def broken(self) -> bool:
        """Whether the process is gone; it does not come back."""
        return bool(self._broken) or not self.close.alive

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
        """Of how many records `rows_name` is to be called for a batch (graph_rows.batch_rows); 0: `grad` for all of it.

        Not how fast it is decides, but whether it gives what `grad1` gives.
        """
        with self._lock:
            if self._batch_rows is None:
                rows = batch_rows(self._graph, self._rowed)
                if rows:
                    self._ready("grad1")
                self._batch_rows = rows if rows and self._rows_took(rows) < math.inf else 0
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

    def confinement(self) -> int:
        """SECCOMP, NAMESPACES or NOTHING of node/confine.py: what this machine confines such a process by."""
        with self._lock:
            return self._start()

    def _start(self) -> int:
        """Waits until the process is there, the first time."""
        if self._confined is None:
            try:
                self._confined = self._exchange([], 1, self._limits.start_s, greeting=True)[0]
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
            self._trying = True
            with contextlib.suppress(_NotRunError):
                self._took[rows] = self._try_rows(rows)
            self._trying = False
        return self._took[rows]

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
                self._fail(UNSTEADY)
        return min(took) / len(rows)

    def _call(self, name: str, weights: np.ndarray, columns: Sequence[np.ndarray], limit_s: float) -> np.ndarray:
        function = self._functions[name]
        calls = len(columns[0])
        parts = [_content(function, i, part) for i, part in zip(function.inputs, (weights, *columns))]
        shape = function.tensors[function.outputs[0]].shape
        answer = self._request(RUN, name, parts, 4 * calls * size_of(shape), limit_s)
        return np.frombuffer(answer, "<f4").reshape(calls, *shape)

    def _request(self, kind: int, name: str, parts: List[bytes], answer_bytes: int, limit_s: float) -> memoryview:
        self._number += 1
        size = sum(len(part) for part in parts)
        header = REQUEST.pack(REQUEST_MARK, kind, self._names.index(name), self._number & 0xFFFFFFFF, size)
        return self._exchange([header, *parts], answer_bytes, limit_s)

    def _exchange(self, parts: List[bytes], answer_bytes: int, limit_s: float, greeting: bool = False) -> memoryview:
        """Sends a request, reads its whole answer. The process reads a request to its end before it answers."""
        if self.broken:
            raise GraphError(self._broken or ENDED)
        until = time.monotonic() + limit_s
        self._send([memoryview(part) for part in parts if part], until)
        mark, status, number, size = ANSWER.unpack(self._receive(ANSWER.size, until))
        if mark != ANSWER_MARK or number != (0 if greeting else self._number & 0xFFFFFFFF):
            self._fail(WRONG)
        if status != DONE and self._trying and size == 0:
            raise _NotRunError
        if status != DONE:
            self._fail(FAILED)
        if size != answer_bytes:
            self._fail(WRONG)
        return self._receive(answer_bytes, until)

    def _send(self, parts: List[memoryview], until: float) -> None:
        """All at once where they fit: with each part the other process would wake."""
        while parts:
            self._wait(self._to, select.POLLOUT, until)
            try:
                count = os.writev(self._to, parts)
            except BlockingIOError:
                continue
            except OSError:
                self._fail(ENDED)
            while parts and count >= len(parts[0]):
                count -= len(parts.pop(0))
            if count:
                parts[0] = parts[0][count:]

    def _receive(self, size: int, until: float) -> memoryview:
        content = np.empty(size, np.uint8).data  # a bytearray would be filled with zeros first
        view = content
        while view:
            self._wait(self._from, select.POLLIN, until)
            try:
                count = os.readv(self._from, [view])
            except BlockingIOError:
                continue
            if not count:
                self._fail(ENDED)
            view = view[count:]
        return content

    def _wait(self, descriptor: int, event: int, until: float) -> None:
        poll = select.poll()
        poll.register(descriptor, event)
        if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
            self._fail(OVERRAN)

    def _fail(self, reason: str) -> None:
        self._broken = reason
        self.close()
        raise GraphError(reason)


def _content(function: Function, index: int, part: np.ndarray) -> bytes:
    """One input's bytes for all calls, checked against what the function takes."""
    tensor = function.tensors[index]
    values = np.ascontiguousarray(part, dtype=np.dtype(tensor.dtype).newbyteorder("<"))
    own = values.shape if index == function.inputs[0] else values.shape[1:]
    if own != tensor.shape and index == function.inputs[0]:
        raise WireError(f"weights of shape {own}, the training graph takes {tensor.shape}")
    if own != tensor.shape:
        raise GraphError(f"the training graph takes {tensor.shape} of {tensor.dtype} there, not {own}")
    return values.tobytes()


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


def _folders() -> List[str]:
    """Where the process imports from: it reads no site configuration."""
    runtime = runtime_package()[1]
    numpy_folder = Path(np.__file__).resolve().parents[1]
    own = Path(__file__).resolve().parents[2]
    return list(dict.fromkeys(str(folder) for folder in (own, numpy_folder, runtime)))


def _environment() -> Dict[str, str]:
    """What a process needs to start: where shared libraries are, if somewhere special, and one thread in each of them."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "SYSTEMROOT") if name in os.environ}
    single = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    # Memory a kernel needs for a moment is kept for the next call, not given back and asked for again.
    steady = {"MALLOC_TRIM_THRESHOLD_": "16777216", "MALLOC_MMAP_THRESHOLD_": "4194304", "MALLOC_ARENA_MAX": "1"}
    return {**kept, **single, **steady, "LC_ALL": "C", "TF_CPP_MIN_LOG_LEVEL": "3"}


def _widen(pipe: int) -> None:
    """Room for a piece of gradients, where the system gives it: the two processes then wait for each other less often."""
    with contextlib.suppress(
        OSError, AttributeError
    ):  # another system's pipes, or a limit on all of a user's: as they are
        fcntl.fcntl(pipe, F_SETPIPE_SZ, PIPE_BYTES)


def _in_main_thread() -> bool:
    """Whether this thread lives as long as the process: the kernel kills a child with the thread that started it."""
    return threading.current_thread() is threading.main_thread()


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Kills the process and closes its pipes."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()

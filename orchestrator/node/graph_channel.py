"""The pipes to the process a training graph runs in (node/graph_child.py): requests with a time limit, answers that are checked.

It is the adversary's from its first load on: an answer of another size, an end, or a time over the limit ends it for good, with
an error whose text says nothing of the data.
"""

import contextlib
import fcntl
import os
import select
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Dict, List, Sequence, Union

import numpy as np

from orchestrator.errors import EdgewardError, GraphError
from orchestrator.node.graph_child import ANSWER, ANSWER_MARK, DONE, REQUEST, REQUEST_MARK
from orchestrator.node.litert import runtime_package

CHILD = Path(__file__).with_name("graph_child.py")
F_SETPIPE_SZ, PIPE_BYTES = 1031, 1 << 20
"""Linux's fcntl (fcntl(2)), which Python names from 3.10 on; and what every user may ask for."""

UNSTARTED = "this machine does not start the process training graphs run in (`edgeward doctor` may say why)"
ENDED = "the process of the training graph ended before it answered"
OVERRAN = "the process of the training graph did not answer within its time limit"
WRONG = "the process of the training graph gave an invalid answer"
FAILED = "the runtime cannot run the training graph"


class NotRunError(Exception):
    """The process is there, but its runtime does not run a function that is tried only."""


class Channel:
    """A process and the way to it. EdgewardError where no process starts."""

    def __init__(self, memory_bytes: int) -> None:
        self.process = _started(memory_bytes)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._to, self._from = self.process.stdin.fileno(), self.process.stdout.fileno()
        self.trying = False
        """Whether NotRunError is raised where the process says that it failed: it goes on otherwise."""
        self._number = 0
        self._broken = ""
        self.close = weakref.finalize(self, _ended, self.process)

    @property
    def broken(self) -> bool:
        """Whether the process is gone; it does not come back."""
        return bool(self._broken) or not self.close.alive

    def greeting(self, limit_s: float) -> int:
        """The first answer, which comes unasked: how far the process is confined."""
        return self._answer(1, time.monotonic() + limit_s)[0]

    def request(
        self, kind: int, function: int, parts: Sequence[Union[bytes, memoryview]], answer_bytes: int, limit_s: float
    ) -> memoryview:
        """Sends a request, reads its whole answer. The process reads a request to its end before it answers."""
        self._number += 1
        size = sum(len(part) for part in parts)
        header = REQUEST.pack(REQUEST_MARK, kind, function, self._number & 0xFFFFFFFF, size)
        until = time.monotonic() + limit_s
        self._check()
        self._send([memoryview(part) for part in (header, *parts) if part], until)
        return self._answer(answer_bytes, until)

    def _answer(self, answer_bytes: int, until: float) -> memoryview:
        self._check()
        mark, status, number, size = ANSWER.unpack(self._receive(ANSWER.size, until))
        if mark != ANSWER_MARK or number != self._number & 0xFFFFFFFF:
            self.fail(WRONG)
        if status != DONE and self.trying and size == 0:
            raise NotRunError
        if status != DONE:
            self.fail(FAILED)
        if size != answer_bytes:
            self.fail(WRONG)
        return self._receive(answer_bytes, until)

    def _check(self) -> None:
        """GraphError where the process is gone: its descriptors may be another file's by now."""
        if self.broken:
            raise GraphError(self._broken or ENDED)

    def _send(self, parts: List[memoryview], until: float) -> None:
        """All at once where they fit: with each part the other process would wake."""
        while parts:
            self._wait(self._to, select.POLLOUT, until)
            try:
                count = os.writev(self._to, parts)
            except BlockingIOError:
                continue
            except OSError:
                self.fail(ENDED)
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
                self.fail(ENDED)
            view = view[count:]
        return content

    def _wait(self, descriptor: int, event: int, until: float) -> None:
        poll = select.poll()
        poll.register(descriptor, event)
        if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
            self.fail(OVERRAN)

    def fail(self, reason: str) -> None:
        """Ends the process for good, with a GraphError."""
        self._broken = reason
        self.close()
        raise GraphError(reason)


def _started(memory_bytes: int) -> "subprocess.Popen[bytes]":
    """The process, with pipes that do not block. EdgewardError where none starts."""
    command = [sys.executable, "-I", "-S", "-B", str(CHILD), str(memory_bytes), str(int(_in_main_thread()))]
    try:
        process = subprocess.Popen(
            [*command, *_folders()],
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
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            os.set_blocking(pipe.fileno(), False)
            _widen(pipe.fileno())
    return process


def _ended(process: "subprocess.Popen[bytes]") -> None:
    """Kills the process and closes its pipes."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


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
    ):  # another system's pipes, or a limit on all a user has: as they are
        fcntl.fcntl(pipe, F_SETPIPE_SZ, PIPE_BYTES)


def _in_main_thread() -> bool:
    """Whether this thread lives as long as the process: the kernel kills a child with the thread that started it."""
    return threading.current_thread() is threading.main_thread()

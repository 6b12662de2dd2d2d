"""Two processes that do the same at the same time: whether their noise and their samples have anything in common.

A generator with a fixed key, or seeded with the time, gives every process the same. Children are forked, so that they are the
build that is audited, whatever was done to it in this process.
"""

import io
import os
import select
import signal
import warnings
from typing import List, Tuple

import numpy as np

from orchestrator.audit import laws
from orchestrator.audit.bench import Bench, Rows, of_unit
from orchestrator.audit.laws import Result
from orchestrator.audit.probes import QUIET, Found
from orchestrator.errors import EdgewardError
from orchestrator.privacy.secure_random import SecureRandom

_SIZE, _ROUNDS = 256, 4
_GENERATORS = 4000
_LIMIT_S = 120.0


def can_fork() -> bool:
    return hasattr(os, "fork")


def two_processes(bench: Bench) -> Found:
    """EdgewardError where a child ends without an answer."""
    started = [_start(bench) for _ in range(2)]
    answers = [_answer(*child) for child in started]
    own = _play(bench)
    noise = np.concatenate([answer[0] for answer in (*answers, own)])
    yield "repeats", laws.alike(noise, "releases of processes")
    if bench.task.privacy.within_node and bench.task.privacy.sampling_rate < 1:
        yield "overlap", laws.overlap(np.concatenate([answer[1] for answer in (*answers, own)]))


def generators() -> Found:
    """Keys of many generators, and the bits of one."""
    first = np.concatenate([SecureRandom().words(1) for _ in range(_GENERATORS)])
    alike = len(first) - len(np.unique(first))
    # Two of 4,000 numbers of 64 bits are alike with a probability below 1e-12.
    yield "keys", Result(0.0 if alike else 1.0, f"{alike} of {len(first)} begin like another")
    yield "bits", laws.bits(SecureRandom().words(200_000))


def _play(bench: Bench) -> Tuple[np.ndarray, np.ndarray]:
    """(noise float64 (rounds, P), who was sampled bool (rounds, units)) of one node."""
    privacy, units = bench.task.privacy, np.arange(_SIZE)
    count = 2 if privacy.within_node else 1
    silence = Rows(np.zeros((count, _SIZE), np.float32), of_unit(privacy, units[:count]))
    noise = bench.sums(silence, _ROUNDS)
    if not privacy.within_node:
        return noise, np.zeros((_ROUNDS, 1), bool)
    loud = Rows((privacy.clip_norm * np.eye(_SIZE)).astype(np.float32), of_unit(privacy, units))
    return noise, bench.changed(noise_multiplier=QUIET).sums(loud, _ROUNDS) > 0.5


def _start(bench: Bench) -> Tuple[int, int]:
    """(process, where its answer comes)"""
    out, into = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads: the child uses none of this process's
        child = os.fork()
    if child:
        os.close(into)
        return child, out
    try:  # nothing of the parent's may run at exit, so the child leaves by os._exit
        os.close(out)
        with os.fdopen(into, "wb") as stream:
            noise, taken = _play(bench)
            np.savez(stream, noise=noise, taken=taken)
        os._exit(0)
    except BaseException:
        os._exit(1)


def _answer(child: int, out: int) -> Tuple[np.ndarray, np.ndarray]:
    parts: List[bytes] = []
    try:
        while True:
            ready, _, _ = select.select([out], [], [], _LIMIT_S)
            part = os.read(out, 1 << 20) if ready else b""
            if not part:
                break
            parts.append(part)
    finally:
        os.close(out)
        if not parts:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    if not parts or status:
        raise EdgewardError("a second process that plays the same node ends without an answer")
    with np.load(io.BytesIO(b"".join(parts)), allow_pickle=False) as answer:
        return answer["noise"], answer["taken"]

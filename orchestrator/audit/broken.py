"""Builds that are broken on purpose, to show that the audit notices. For the time of a `with` block, in this process only.

Nothing outside this folder can reach them.
"""

from contextlib import ExitStack, contextmanager
from typing import Any, Callable, Dict, Iterable, Iterator, Tuple
from unittest.mock import patch

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

import orchestrator.node.secure as node_secure
from orchestrator.errors import UsageError
from orchestrator.privacy.clipping import clip_l2
from orchestrator.privacy.lattice import draw
from orchestrator.privacy.noise import SecureRandom
from orchestrator.privacy.noisy_sum import NoisySum
from orchestrator.privacy.secure_sum import Party
from orchestrator.wire.task import Task

KINDS: Dict[str, str] = {
    "noise-off": "no noise is added",
    "wrong-scale": "noise is divided by the root of the number of units, as if it were that of a mean",
    "clip-per-batch": "the mean of a batch is clipped instead of each unit",
    "mask-reuse": "a node uses the same keys, and so the same masks, in every round",
}


@contextmanager
def broken_build(kind: str, task: Task, units: int) -> Iterator[None]:
    """`units`: of the smallest node. Raises as `check_broken` does."""
    patches = _patches(kind, task, units)
    with ExitStack() as stack:
        for target, name, replacement in patches:
            stack.enter_context(patch.object(target, name, replacement))
        yield


def check_broken(kind: str, task: Task) -> None:
    """UsageError for a kind that `task` has no place for, or that there is not."""
    _patches(kind, task, 1)


def _patches(kind: str, task: Task, units: int) -> Tuple[Tuple[Any, str, Any], ...]:
    if kind == "noise-off":
        return ((NoisySum, "noise", _no_noise),)
    if kind == "wrong-scale":
        return ((NoisySum, "noise", _scaled_noise(units)),)
    if kind == "clip-per-batch":
        if not task.privacy.within_node:
            raise UsageError(f"--broken {kind}: with privacy.unit {task.privacy.unit!r} nothing is clipped in batches")
        return ((NoisySum, "total", _batch_clipped),)
    if kind == "mask-reuse":
        if task.aggregation.method != "masked":
            raise UsageError(f"--broken {kind}: aggregation {task.aggregation.method!r} has no masks")
        return ((node_secure, "session_id", _one_session), (Party, "__init__", _reusing(Party.__init__)))
    raise UsageError(f"--broken {kind!r}: expected one of {', '.join(KINDS)}")


def _no_noise(self: NoisySum, random: SecureRandom) -> np.ndarray:
    return np.zeros(self.lattice.size, np.int64)


def _scaled_noise(units: int) -> Callable[[NoisySum, SecureRandom], np.ndarray]:
    def noise(self: NoisySum, random: SecureRandom) -> np.ndarray:
        return draw(random, self.mechanism, self.lattice.size, max(1, round(self.std / units**0.5)))

    return noise


def _batch_clipped(self: NoisySum, vectors: Iterable[np.ndarray], rounding: np.random.Generator) -> np.ndarray:
    total, count = np.zeros(self.lattice.size, np.float64), 0
    for vector in vectors:
        total, count = total + vector, count + 1
    mean = clip_l2(total[np.newaxis] / max(1, count), self.lattice.clip_norm)[0]
    return count * self.lattice.round(mean, rounding)


def _one_session(*names: Any, **more: Any) -> bytes:
    return bytes(32)


def _reusing(begin: Callable[..., None]) -> Callable[..., None]:
    kept: Dict[str, Tuple[X25519PrivateKey, X25519PrivateKey, bytes]] = {}

    def begin_with_old_keys(self: Any, session: Any, name: str, *others: Any, **more: Any) -> None:
        begin(self, session, name, *others, **more)
        fresh = (self._channel, self._pair, self._own_seed)
        self._channel, self._pair, self._own_seed = kept.setdefault(name, fresh)

    return begin_with_old_keys

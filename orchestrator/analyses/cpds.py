"""Cluster primal dual splitting: nodes of a graph minimize the sum of their losses and a penalty, by messages to neighbours.

A sparse support vector machine after Brisimi, Chen, Mela, Olshevsky, Paschalidis and Shi 2018 (Int J Med Inform 112:59), with the
steps of Condat 2013 and Vu 2013 for

    minimize sum_i [ C sum_r max(0, 1 - a_ir' x_i) + (lambda / m) |x_i|_1 ]   so that all x_i agree, each within the box

a_ir: a record's inputs times its label, +1 or -1; C: 1 / records of all nodes; m: nodes; the intercept has no penalty. One
iteration of node i, with neighbours N:

    q_i    = kappa sum_{j in N} (S_i - S_j)
    x_i    <- box(soft(x_i - tau (A_i' y_i + q_i), tau lambda / m))
    xbar_i = 2 x_i - x_i before
    y_i    <- clip(y_i + sigma_i (A_i xbar_i - 1), -C, 0)
    S_i    <- S_i + xbar_i

S_i, the sum of all xbar_i so far, is what q_i of the usual form (q_i + kappa sum_j (xbar_i - xbar_j)) adds up to. A message
holds the number of the iteration, xbar_i and S_i. tau is declared; kappa tau lambda_max(Laplacian) and sigma_i tau |A_i|^2 are
just below 1/2 each, so that the steps converge (Condat, theorem 3.1), and no node has to say how large its |A_i| is.

**Away.** A node that is silent is done without: its neighbours go on with the xbar_j they last heard, as if it had said it
again in each iteration: S_j + (k - k_j) xbar_j. When it hears that they are ahead of it, it counts the same iterations as
passed for itself, so that both ends of each edge have the same numbers, and q over all nodes still adds up to 0: the solution
stays the solution. Every message brings S_j itself, so what neighbours counted otherwise meanwhile is right again with the
next one.
"""

import math
import struct
from typing import Dict, NamedTuple, Optional, Sequence, Set

import numpy as np

from orchestrator.analyses.agents import Agent, Outgoing
from orchestrator.errors import WireError
from orchestrator.wire.body import decode_body, encode_body

MARGIN = 0.99
"""Below the longest steps that converge."""

CHECKPOINTS = 25
"""Iterations of which loss, length and distance are kept, for the picture."""

_HEAD = struct.Struct("<I")
_MOST_SAVED = 1 << 30


class Setting(NamedTuple):
    """What all nodes of a run have alike. free: terms without penalty, from the first on."""

    terms: int
    nodes: int
    records: int
    strength: float
    box: float
    step: float
    iterations: int
    widest: float  # the largest eigenvalue of the graph's Laplacian
    free: int = 1

    @property
    def content_bytes(self) -> int:
        """Of a message."""
        return _HEAD.size + 16 * self.terms

    @property
    def tau(self) -> float:
        """The primal step."""
        return self.step

    @property
    def kappa(self) -> float:
        """The step of agreement."""
        return MARGIN / (2 * self.tau * self.widest)

    def sigma(self, rows: np.ndarray) -> float:
        """A node's own dual step."""
        length = float(np.linalg.eigvalsh(rows.T @ rows)[-1]) if rows.size else 0.0
        return MARGIN / (2 * self.tau * max(length, 1e-12))

    def kept(self) -> np.ndarray:
        """int64 (CHECKPOINTS,): the iterations of which figures are kept, fewer different ones of a short run."""
        return np.ceil(np.arange(1, CHECKPOINTS + 1) * self.iterations / CHECKPOINTS).astype(np.int64)


class Heard(NamedTuple):
    """The newest of a neighbour: number of the iteration, xbar, S."""

    number: int
    said: np.ndarray
    summed: np.ndarray

    def at(self, number: int) -> np.ndarray:
        """S after so many iterations; what was not heard is what it last said."""
        return self.summed + (number - self.number) * self.said


class CpdsAgent(Agent):
    """rows: float64 (n, terms), a record's inputs times its label, of records that lack nothing."""

    def __init__(
        self, rows: np.ndarray, setting: Setting, neighbours: Sequence[str], saved: Optional[bytes] = None
    ) -> None:
        """saved: what another one `saved`. WireError where that is not of this setting and these rows."""
        self._rows, self._set, self._neighbours = rows, setting, tuple(neighbours)
        self._sigma, self._limit = setting.sigma(rows), 1.0 / setting.records
        threshold = setting.tau * setting.strength / setting.nodes
        self._thresholds = np.where(np.arange(setting.terms) < setting.free, 0.0, threshold)
        self._checkpoints = setting.kept()
        self._silent: Set[str] = set()
        self._moved, self.number, self.missed = 0, 0, 0
        self.x, self._said, self._summed = (np.zeros(setting.terms) for _ in range(3))
        self._y = np.zeros(len(rows))
        self._history = np.zeros((3, CHECKPOINTS))  # loss, |x|_1 without the free terms, distance from neighbours
        self._heard = {name: Heard(0, np.zeros(setting.terms), np.zeros(setting.terms)) for name in self._neighbours}
        if saved is not None:
            self._restore(saved)

    def begin(self) -> Outgoing:
        return [*(self._say() if self.number else []), *self._advance()]

    def take(self, sender: str, content: bytes) -> Outgoing:
        heard = self._read(content)
        before = self._heard[sender]
        self._silent.discard(sender)
        if heard.number == before.number:
            return []
        if heard.number < before.number:
            return self.newest(
                sender
            )  # it began again where it was some time ago, and does not know how far others are
        self._heard[sender] = heard
        self._moved += 1
        found: Outgoing = []
        if heard.number > self.number + 1:  # others went on without this one
            self._pass(heard.number - 1)
            found += self._say()
        if heard.number < self.number:
            found += self.newest(sender)
        return [*found, *self._advance()]

    def silent(self) -> Outgoing:
        missing = {name for name, heard in self._heard.items() if heard.number < self.number}
        if self.done or len(missing) == len(self._neighbours):
            return self._say() if self.number and not self.done else []
        self._silent |= missing
        return self._advance()

    def newest(self, neighbour: str) -> Outgoing:
        return [(neighbour, self._content())] if self.number else []

    @property
    def done(self) -> bool:
        return self.number >= self._set.iterations

    @property
    def moved(self) -> int:
        return self._moved

    def answer(self) -> np.ndarray:
        """1 for this node, weights over the box, then loss, length and distance at each checkpoint, over the most they can be."""
        setting, (loss, length, apart) = self._set, self._history
        most = 1.0 + setting.terms * setting.box
        parts = (
            [1.0],
            self.x / setting.box,
            loss / most,
            length / (setting.terms * setting.box),
            apart / (4 * setting.box),
        )
        return np.concatenate(parts)

    def figures(self) -> Dict[str, int]:
        return {
            "iterations": self.number,
            "missed": self.missed,
            "apart_millionths": math.ceil(self.apart() * 1e6),
        }

    def apart(self) -> float:
        """The largest difference of a weight from what a neighbour last said."""
        return max(float(np.abs(heard.said - self.x).max()) for heard in self._heard.values())

    def saved(self) -> bytes:
        tensors = {"x": self.x, "said": self._said, "summed": self._summed, "y": self._y, "history": self._history}
        heard = [self._heard[name] for name in self._neighbours]
        tensors["heard"] = np.stack([np.stack([each.said, each.summed]) for each in heard])
        numbers = [each.number for each in heard]
        return encode_body({"number": self.number, "missed": self.missed, "numbers": numbers}, tensors, level=1)

    def _restore(self, saved: bytes) -> None:
        header, tensors = decode_body(saved, _MOST_SAVED)
        shapes = {
            "x": self.x.shape,
            "said": self.x.shape,
            "summed": self.x.shape,
            "y": self._y.shape,
            "history": self._history.shape,
            "heard": (len(self._neighbours), 2, self._set.terms),
        }
        if {name: tensor.shape for name, tensor in tensors.items()} != shapes:
            raise WireError("what was kept of an exchange with peers is of another run, or other records")
        self.number, self.missed = int(header["number"]), int(header["missed"])
        self.x, self._said, self._summed, self._y, self._history = (
            np.array(tensors[name]) for name in ("x", "said", "summed", "y", "history")
        )
        pairs = zip(self._neighbours, header["numbers"], tensors["heard"])
        self._heard = {name: Heard(int(number), np.array(pair[0]), np.array(pair[1])) for name, number, pair in pairs}

    def _content(self) -> bytes:
        return _HEAD.pack(self.number) + np.concatenate([self._said, self._summed]).astype("<f8").tobytes()

    def _say(self) -> Outgoing:
        content = self._content()
        return [(name, content) for name in self._neighbours]

    def _read(self, content: bytes) -> Heard:
        setting = self._set
        if len(content) != setting.content_bytes:
            raise ValueError(f"{len(content)} bytes, an iterate has {setting.content_bytes}")
        (number,) = _HEAD.unpack_from(content)
        if not 1 <= number <= setting.iterations:
            raise ValueError(f"iteration {number} of {setting.iterations}")
        said, summed = np.frombuffer(content, "<f8", offset=_HEAD.size).reshape(2, -1).astype(np.float64)
        most = 3 * setting.box * (1 + 1e-9)  # of 2 x - x, each within the box
        if not (np.abs(said) <= most).all() or not (np.abs(summed) <= number * most).all():  # NaN is not
            raise ValueError(f"an iterate beyond the box of {setting.box:g}, or no number")
        return Heard(number, said, summed)

    def _ready(self) -> bool:
        """Whether all who are not silent have come as far as this one, and one of them is there."""
        awaited = [self._heard[name] for name in self._neighbours if name not in self._silent]
        return bool(awaited) and all(heard.number >= self.number for heard in awaited)

    def _advance(self) -> Outgoing:
        found: Outgoing = []
        while not self.done and self._ready():
            self._iterate()
            found += self._say()
        return found

    def _iterate(self) -> None:
        setting, number = self._set, self.number
        others = sum(heard.at(number) for heard in self._heard.values())
        pull = setting.kappa * (len(self._neighbours) * self._summed - others)
        moved = self.x - setting.tau * (self._rows.T @ self._y + pull)
        shrunk = np.sign(moved) * np.maximum(np.abs(moved) - self._thresholds, 0.0)
        found = np.clip(shrunk, -setting.box, setting.box)
        self._said, self.x = 2 * found - self.x, found
        self._y = np.clip(self._y + self._sigma * (self._rows @ self._said - 1.0), -self._limit, 0.0)
        self._summed = self._summed + self._said
        self._count(number + 1)

    def _pass(self, number: int) -> None:
        """Counts iterations up to this one as those in which nothing new was said, as neighbours did."""
        lost = min(number, self._set.iterations) - self.number
        self._summed = self._summed + lost * self._said
        self.missed += lost
        self._count(self.number + lost)

    def _count(self, number: int) -> None:
        self._moved += 1
        kept = (self._checkpoints > self.number) & (self._checkpoints <= number)
        self.number = number
        if kept.any():
            loss = float(np.maximum(0.0, 1.0 - self._rows @ self.x).sum())
            length = float(np.abs(self.x[self._set.free :]).sum())
            self._history[:, kept] = np.array([loss, length, self.apart()])[:, np.newaxis]

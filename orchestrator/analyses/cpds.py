"""Cluster primal dual splitting: nodes of a graph minimize the sum of their losses and a penalty, by messages to neighbours.

A sparse support vector machine after Brisimi, Chen, Mela, Olshevsky, Paschalidis and Shi 2018 (Int J Med Inform 112:59), with the
steps of Condat 2013 and Vu 2013 for

    minimize sum_i [ C sum_r max(0, 1 - a_ir' x_i) + (lambda / m) |x_i|_1 ]   so that all x_i agree, each within the box

a_ir: a record's inputs times its label, +1 or -1; C: 1 / records of all nodes; m: nodes; the intercept has no penalty. One
iteration of node i, with neighbours N, and z_ij for what keeps the two ends of an edge together:

    z_ij   <- (z_ij - z_ji) / 2 + kappa (xbar_i - xbar_j)   for each j in N
    x_i    <- box(soft(x_i - tau (A_i' y_i + sum_j z_ij), tau lambda / m))
    xbar_i <- 2 x_i - x_i before
    y_i    <- clip(y_i + sigma_i (A_i xbar_i - 1), -C, 0)

A message holds the number of the iteration, xbar_i and the z_ij that it was computed with. tau is declared; kappa tau
lambda_max(Laplacian) and sigma_i tau |A_i|^2 are just below 1/2 each, so that the steps converge (Condat, theorem 3.1), and no
node has to say how large its |A_i| is.

**Away.** A node that is silent is done without: its neighbours keep the z_ij they have, the last that is known of how its
records pull, and go on. When it hears that they are ahead, it begins again at their iteration from where they are, with its
own y and z. Both ends of an edge count the same z, up to the sign, as long as both are there; where one went on without the
other they differ, and (z_ij - z_ji) / 2 makes them one again with the first iteration that they are in together. So all z add
up to 0, and where iterations come to rest is the solution, whatever was missed.
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
    """Of a neighbour: number of the iteration, xbar, and its z towards this node."""

    number: int
    said: np.ndarray
    pull: np.ndarray


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
        self.x, self._said = np.zeros(setting.terms), np.zeros(setting.terms)
        self._y = np.zeros(len(rows))
        self._history = np.zeros((3, CHECKPOINTS))  # loss, |x|_1 without the free terms, distance from neighbours
        nothing = Heard(0, np.zeros(setting.terms), np.zeros(setting.terms))
        self._heard = {name: (nothing, nothing) for name in self._neighbours}  # the last but one, and the newest
        self._pulls = {name: np.zeros(setting.terms) for name in self._neighbours}
        if saved is not None:
            self._restore(saved)

    def begin(self) -> Outgoing:
        return [*(self._say() if self.number else []), *self._advance()]

    def take(self, sender: str, content: bytes) -> Outgoing:
        heard = self._read(content)
        before = self._heard[sender][-1]
        self._silent.discard(sender)
        if heard.number == before.number:
            return []
        if heard.number < before.number:
            return self.newest(
                sender
            )  # it began again where it was some time ago, and does not know how far others are
        self._heard[sender] = (before, heard)
        self._moved += 1
        found: Outgoing = []
        if heard.number > self.number + 1:  # others went on without this one
            self._begin_at(heard.number - 1)
            found += self._say()
        if heard.number < self.number:
            found += self.newest(sender)
        return [*found, *self._advance()]

    def silent(self) -> Outgoing:
        missing = {name for name, (_, newest) in self._heard.items() if newest.number < self.number}
        if self.done or len(missing) == len(self._neighbours):
            return self._say() if self.number and not self.done else []
        self._silent |= missing
        return self._advance()

    def newest(self, neighbour: str) -> Outgoing:
        return [(neighbour, self._content(neighbour))] if self.number else []

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
        """The largest difference of a weight from what a neighbour that is there last said; 0 where none is."""
        there = [newest.said for name, (_, newest) in self._heard.items() if name not in self._silent]
        return max((float(np.abs(said - self.x).max()) for said in there), default=0.0)

    def saved(self) -> bytes:
        tensors = {
            "x": self.x,
            "said": self._said,
            "y": self._y,
            "history": self._history,
            "heard": self._heard_tensor(),
        }
        tensors["pulls"] = np.stack([self._pulls[name] for name in self._neighbours])
        numbers = [each.number for name in self._neighbours for each in self._heard[name]]
        return encode_body({"number": self.number, "missed": self.missed, "numbers": numbers}, tensors, level=1)

    def _heard_tensor(self) -> np.ndarray:
        return np.array([[(each.said, each.pull) for each in self._heard[name]] for name in self._neighbours])

    def _restore(self, saved: bytes) -> None:
        header, tensors = decode_body(saved, _MOST_SAVED)
        neighbours, terms = len(self._neighbours), self._set.terms
        shapes = {
            "x": (terms,),
            "said": (terms,),
            "y": self._y.shape,
            "history": self._history.shape,
            "heard": (neighbours, 2, 2, terms),
            "pulls": (neighbours, terms),
        }
        if {name: tensor.shape for name, tensor in tensors.items()} != shapes:
            raise WireError("what was kept of an exchange with peers is of another run, or other records")
        self.number, self.missed = int(header["number"]), int(header["missed"])
        self.x, self._said, self._y, self._history = (np.array(tensors[name]) for name in ("x", "said", "y", "history"))
        numbers = np.array(header["numbers"]).reshape(neighbours, 2)
        for name, counted, heard, pull in zip(self._neighbours, numbers, tensors["heard"], tensors["pulls"]):
            before, newest = (Heard(int(n), np.array(pair[0]), np.array(pair[1])) for n, pair in zip(counted, heard))
            self._heard[name], self._pulls[name] = (before, newest), np.array(pull)

    def _content(self, neighbour: str) -> bytes:
        values = np.concatenate([self._said, self._pulls[neighbour]])
        return _HEAD.pack(self.number) + values.astype("<f8").tobytes()

    def _say(self) -> Outgoing:
        return [(name, self._content(name)) for name in self._neighbours]

    def _read(self, content: bytes) -> Heard:
        setting = self._set
        if len(content) != setting.content_bytes:
            raise ValueError(f"{len(content)} bytes, an iterate has {setting.content_bytes}")
        (number,) = _HEAD.unpack_from(content)
        if not 1 <= number <= setting.iterations:
            raise ValueError(f"iteration {number} of {setting.iterations}")
        said, pull = np.frombuffer(content, "<f8", offset=_HEAD.size).reshape(2, -1).astype(np.float64)
        most = 3 * setting.box * (1 + 1e-9)  # of 2 x - x, each within the box
        if (
            not (np.abs(said) <= most).all() or not (np.abs(pull) <= number * setting.kappa * 2 * most).all()
        ):  # NaN is not
            raise ValueError(f"an iterate beyond the box of {setting.box:g}, or no number")
        return Heard(number, said, pull)

    def _ready(self) -> bool:
        """Whether all who are not silent have come as far as this one, and one of them is there."""
        awaited = [self._heard[name][-1] for name in self._neighbours if name not in self._silent]
        return bool(awaited) and all(newest.number >= self.number for newest in awaited)

    def _advance(self) -> Outgoing:
        found: Outgoing = []
        while not self.done and self._ready():
            self._iterate()
            found += self._say()
        return found

    def _iterate(self) -> None:
        setting, number = self._set, self.number
        for name in self._neighbours:
            if name not in self._silent:
                before, newest = self._heard[name]
                heard = before if before.number == number else newest
                self._pulls[name] = (self._pulls[name] - heard.pull) / 2 + setting.kappa * (self._said - heard.said)
        pull = np.sum([self._pulls[name] for name in self._neighbours], axis=0)
        moved = self.x - setting.tau * (self._rows.T @ self._y + pull)
        shrunk = np.sign(moved) * np.maximum(np.abs(moved) - self._thresholds, 0.0)
        found = np.clip(shrunk, -setting.box, setting.box)
        self._said, self.x = 2 * found - self.x, found
        self._y = np.clip(self._y + self._sigma * (self._rows @ self._said - 1.0), -self._limit, 0.0)
        self._count(number + 1)

    def _begin_at(self, number: int) -> None:
        """After iterations that others did without this one: from what they came to, as far as it heard."""
        ahead = [newest.said for _, newest in self._heard.values() if newest.number > self.number]
        self.x = np.clip(np.mean(ahead, axis=0), -self._set.box, self._set.box)
        self._said = self.x.copy()
        self.missed += number - self.number
        self._count(number)

    def _count(self, number: int) -> None:
        self._moved += 1
        kept = (self._checkpoints > self.number) & (self._checkpoints <= number)
        self.number = number
        if kept.any():
            loss = float(np.maximum(0.0, 1.0 - self._rows @ self.x).sum())
            length = float(np.abs(self.x[self._set.free :]).sum())
            self._history[:, kept] = np.array([loss, length, self.apart()])[:, np.newaxis]

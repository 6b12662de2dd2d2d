"""Tasks that wait for a person: what is asked, in STATE/approvals, and the owner's word on it, in the ledger.

A request holds the whole declaration and the training graph. Its digest is that of exactly these bytes, so a decision is for
them and nothing else.
"""

import hashlib
import json
import re
import time
import unicodedata
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from orchestrator.analyses.registry import analysis_of, exchange_of
from orchestrator.errors import UsageError
from orchestrator.files import replace_file
from orchestrator.node.ledger import Ledger
from orchestrator.node.policy import own_noise
from orchestrator.privacy import terms
from orchestrator.privacy.releases import noise_multipliers
from orchestrator.wire.json_text import from_json
from orchestrator.wire.plain import hex_name, many
from orchestrator.wire.stated import describe_model
from orchestrator.wire.task import Task, digest_of, task_from_dict, task_to_dict

APPROVALS = "approvals"
MOST_REQUESTS, MOST_BYTES = 200, 512 << 20
"""Kept of a node's requests. The owner makes room by deleting files of that folder; decisions are in the ledger."""


SHOWN, MOST_SHOWN = 60, 5
"""Characters of a text, and names or lines of a kind, that an owner is shown of what a gateway wrote."""

_LIKE_LATIN = ("ARMENIAN", "CHEROKEE", "COPTIC", "CYRILLIC", "FULLWIDTH", "GREEK", "LISU", "MATHEMATICAL")

_BLANK = "\u115f\u1160\u2800\u3164\uffa0"
"""Characters that count as letters or signs and look like a space."""


class Request(NamedTuple):
    """What a person is asked. declared: the task as it came; at: seconds since 1970; summary, peers: lines for people.

    peers: who was confirmed when the task came, for secure sums (node/roster.py).
    """

    digest: str
    run: str
    at: float
    declared: Dict[str, Any]
    summary: List[str]
    epsilon: Optional[float]  # of all runs the task is for, as the node counted it; None where nothing there can
    peers: Tuple[str, ...] = ()
    reading: str = ""  # what the version that asked made of the declaration (`reading_of`)

    def waits(self, ledger: Ledger) -> bool:
        """Whether the owner has to decide: there is no word yet, or all runs that were approved are reserved."""
        privacy = self.declared.get("privacy")
        runs = privacy.get("runs", 1) if isinstance(privacy, dict) else 1
        return ledger.waits(self.digest, runs if isinstance(runs, int) and runs > 0 else 1, self.reading)


def reading_of(task: Task) -> str:
    """SHA-256 of a declaration as this version reads it, with the values of all that it leaves out.

    A version with another default would run another task under the same digest: the owner's yes was not for that one.
    """
    return hashlib.sha256(json.dumps(task_to_dict(task), sort_keys=True).encode()).hexdigest()


class Approvals:
    """The folder of requests below a node's state folder."""

    def __init__(self, state: Path) -> None:
        self._folder = state / APPROVALS

    def ask(
        self,
        run: str,
        declared: Dict[str, Any],
        graph: bytes,
        epsilon: Optional[float] = None,
        peers: Sequence[str] = (),
    ) -> Request:
        """Writes the request, graph first, so that a request that is there is whole. `epsilon`: as this node counts it."""
        digest = digest_of(declared, graph)
        task = task_from_dict(declared, f"request {digest[:16]}")
        request = Request(
            digest,
            run,
            round(time.time(), 3),
            declared,
            summary_of(task, epsilon),
            epsilon,
            tuple(peers),
            reading_of(task),
        )
        self._folder.mkdir(parents=True, exist_ok=True)
        replace_file(self._folder / f"{hex_name(digest)}.tflite", graph)
        replace_file(self._folder / f"{hex_name(digest)}.json", json.dumps(request._asdict(), indent=1).encode())
        return request

    def full(self, digest: str) -> bool:
        """Whether so many tasks were asked already that another one is not written: what a gateway sends must not fill a disk."""
        if not self._folder.is_dir() or (self._folder / f"{hex_name(digest)}.json").exists():
            return False
        sizes = [path.stat().st_size for path in self._folder.iterdir()]
        return len(sizes) >= 2 * MOST_REQUESTS or sum(sizes) >= MOST_BYTES

    def requests(self) -> List[Request]:
        """All that were ever asked, the oldest first."""
        paths = self._folder.glob("*.json") if self._folder.is_dir() else ()
        return sorted((self._read(path) for path in paths), key=lambda request: request.at)

    def find(self, beginning: str, whole: bool = True) -> Request:
        """The request whose digest begins so, its summary made again. UsageError where none or several do.

        `whole`: also where declaration and graph are not the ones the node wrote; what is to be approved must be. Summary and
        reading are this version's then.
        """
        fitting = [r for r in self.requests() if r.digest.startswith(beginning)]
        if len(fitting) != 1:
            many = f"begins {len(fitting)} of them: say more" if fitting else "is not one of them"
            raise UsageError(f"{self._folder}: {beginning!r} {many}; see `edgeward node approvals`")
        request = fitting[0]
        if not whole:
            return request
        if digest_of(request.declared, self.graph(request.digest)) != request.digest:
            raise UsageError(
                f"{self._folder}: request {request.digest[:16]} is not what the node wrote: it was changed"
            )
        task = task_from_dict(request.declared, f"request {request.digest[:16]}")
        return request._replace(summary=summary_of(task, request.epsilon), reading=reading_of(task))

    def graph(self, digest: str) -> bytes:
        """The training graph of a request; UsageError where it cannot be read."""
        path = self._folder / f"{hex_name(digest)}.tflite"
        try:
            return path.read_bytes()
        except OSError as error:
            raise UsageError(f"{path}: the training graph cannot be read: {error.strerror}") from error

    @staticmethod
    def _read(path: Path) -> Request:
        try:
            found = from_json(path.read_text(encoding="utf-8"))
            request = Request(**found)
        except (OSError, ValueError, TypeError) as error:
            raise UsageError(f"{path}: is no request: {error}") from error
        if request.digest != path.stem:
            raise UsageError(f"{path}: speaks of {request.digest!r}: it was changed or renamed")
        return request


def summary_of(task: Task, epsilon: Optional[float] = None) -> List[str]:
    """Task, model, privacy and what leaves the node, a line each; nothing a gateway wrote is longer than a few words.

    epsilon: as this node counts it, for all runs the task is for.
    """
    if not task.trains:
        lines = analysis_of(task).words(_quoted)
        rounds = _times(task.training.rounds, "round")
        return [
            f"task {_quoted(task.name)}: {lines[0]}",
            *lines[1 : 1 + MOST_SHOWN],
            *_graph(task),
            *([f"and {len(lines) - 1 - MOST_SHOWN} more"] if len(lines) - 1 > MOST_SHOWN else []),
            f"of {_columns(task)}, in {rounds} at most",
            *_decided(task, epsilon),
        ]
    return [
        f"task {_quoted(task.name)}: predicts {task.schema.learned.words(_quoted)}",
        f"model {_short(describe_model(task.model))}, {_short(task.training.strategy)}, {many(task.training.rounds, 'round')}",
        *_decided(task, epsilon),
    ]


def _decided(task: Task, epsilon: Optional[float]) -> List[str]:
    """What an owner decides by, whatever is computed."""
    return [
        *_privacy(task, epsilon),
        f"leaves this node: {', '.join(leaves(task))}",
        f"seen by: {_seen(task)}",
        f"an approval is for {_times(max(1, task.privacy.runs), 'run')} of it",
    ]


def _graph(task: Task) -> List[str]:
    """Who sends messages to whom; this node's own neighbours are named beside it (node/roster.py)."""
    exchange = exchange_of(task)
    if exchange is None:
        return []
    edges = sorted(exchange.graph.edges)
    shown = ", ".join(f"{_quoted(one)} and {_quoted(other)}" for one, other in edges[:MOST_SHOWN])
    more = f" and {len(edges) - MOST_SHOWN} more pairs" if len(edges) > MOST_SHOWN else ""
    return [f"messages go between {shown}{more}"]


def _columns(task: Task) -> str:
    if task.schema.kind == "signal":
        return f"signals with their label {_quoted(task.schema.label)}"
    names = [_quoted(feature.name) for feature in task.schema.features[:MOST_SHOWN]]
    more = len(task.schema.features) - len(names)
    return f"the columns {', '.join(names)}{f' and {more} more' if more else ''}"


def _short(text: str) -> str:
    """At most SHOWN characters without runs of blanks: these could wrap a line so that what follows looks like one of ours."""
    words = " ".join("".join(" " if c in _BLANK else c for c in text).split())
    return words if len(words) <= SHOWN else f"{words[: SHOWN - 3]}..."


def _quoted(text: str) -> str:
    shown = _short(text)
    codes = [f"U+{ord(c):04X}" for c in _passing_for_latin(shown)]
    return (
        f"{shown!r} (written with {', '.join(codes)}, no Latin letter{'s' if codes[1:] else ''})"
        if codes
        else repr(shown)
    )


def _passing_for_latin(text: str) -> List[str]:
    """Letters of scripts that have some like Latin ones, in words that have Latin ones too: to the eye it may be another name."""
    found: List[str] = []
    for word in re.findall(r"\w+", text):
        scripts = {c: unicodedata.name(c, "").split(" ")[0] for c in word if c.isalpha()}
        if "LATIN" in scripts.values():
            found += [c for c, script in scripts.items() if script in _LIKE_LATIN and c not in found]
    return found


def _times(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def leaves(task: Task) -> List[str]:
    """What is sent, in words."""
    noised = "noised " if task.privacy.answers_noised else ""
    counts = "" if task.privacy.on else "the number of records and "
    if task.privacy.within_node:
        counts = f"a noised number of {terms.units_of(task.privacy)}, "
    if not task.trains:
        exchange = exchange_of(task)
        sums = _times(task.training.rounds - (exchange is not None), f"{noised}sum")
        sent = [
            f"{counts}{sums} of {many(task.training.parameters, 'value')} over all its {terms.counted(task.privacy)}"
        ]
        if exchange is not None:
            sent.append(f"what it comes to with its neighbours, {many(task.training.parameters, 'value')}")
            messages = _times(exchange.messages, "message")
            sent.append(
                f"to each neighbour in the graph {messages} with {exchange.what}, computed from its records, without noise"
            )
        return sent
    sent = [f"{counts}{task.training.rounds} {noised}updates of the model's weights"]
    if task.privacy.clip_tally and task.privacy.within_node:
        sent.append(f"as often a noised number of {terms.units_of(task.privacy)} whose gradients were clipped")
    if task.standardizes:
        sent.append(f"{noised}sums of {many(len(task.schema.numbers()), 'column')}, once")
    if task.evaluations:
        sent.append(f"{noised}sums over held-out records, {many(task.evaluations, 'time')}")
    if task.scorings:
        sent.append(
            f"{task.scorings} {noised}scores, each of another node's model on held-out records; each of this node's models, as "
            "it is sent, goes to one other node, which is not named"
        )
    return sent


def _privacy(task: Task, epsilon: Optional[float]) -> List[str]:
    privacy = task.privacy
    if not privacy.on:
        return ["no differential privacy: what is sent can reveal records"]
    counted = "not counted here" if epsilon is None else f"this node counts {epsilon:.3g}"
    left = ""
    if privacy.distributed:
        left = f"; if all other nodes work with the gateway, only noise of multiplier {own_noise(task):.3g} is left"
    steps = _times(task.steps, "step" if task.trains else "round")
    if privacy.within_node and task.trains:
        steps += f", sampling rate {privacy.sampling_rate:g}"
    noise = ", ".join(f"{kind} {z:.3g}" for kind, z in noise_multipliers(task).items())
    return [
        f"claims {terms.claimed(privacy)}; {counted}",
        f"noise added {terms.noise_here(privacy)}, of multiplier: {noise}; {steps}{left}",
    ]


def _seen(task: Task) -> str:
    if exchange_of(task) is not None:
        return f"each message the neighbour it is sealed for, who learns it; answers: {_answers_seen(task)}"
    return _answers_seen(task)


def _answers_seen(task: Task) -> str:
    if task.training.cross_scored:
        return "the gateway and its broker, each node's answer by itself; of its models also one other node a round, by chance"
    if not task.aggregation.secure:
        return "the gateway and its broker, each node's answer by itself"
    aggregation = task.aggregation
    others = f"the others are real and at most {aggregation.colluding} of them work with the gateway"
    holder = f", and {_quoted(aggregation.key_holder)}, who holds the key, does not" if aggregation.key_holder else ""
    return f"sums over at least {aggregation.least} nodes only ({aggregation.method}), as long as {others}{holder}"

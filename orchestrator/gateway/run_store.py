"""What a gateway keeps of its runs, wherever it keeps it: the one interface of a store.

`store.py` keeps it in a file, `memory_store.py` in this process. Whatever goes in comes out as it went in, and as a copy: text as
JSON, vectors as the bytes of their type. A store belongs to the thread that opened it.
"""

from concurrent.futures import Future
from typing import Any, ContextManager, Dict, Iterable, Iterator, List, Optional, Protocol, Sequence, Set, Tuple

import numpy as np

from orchestrator.database import StoreError
from orchestrator.errors import EdgewardError
from orchestrator.rounds.events import Compacted, Event
from orchestrator.rounds.members import Members
from orchestrator.rounds.stages import FIRST_ROUND

STATE_PREFIX = "strategy."
"""Names of the vectors a strategy keeps between rounds."""

PARTIAL = "partial"
"""What a gateway that serves a higher one hands up of its last round: the sum of statistics, or the mean delta."""

OWED = "owed"
"""What rounding left out of the weights' changes so far (wire/weight_step.py)."""

PSEUDONYM_SECRET = ("", "pseudonyms")
"""(run, name) of the key of all pseudonyms: one node, one pseudonym, in every run of the store."""


class RunStore(Protocol):
    """It may hold many runs; a gateway works on one at a time."""

    # `compact`, `create_run`, `keep_answers`, `keep_certificates`, `put_phase` and `serial` are transactions of their own.

    def transaction(self, durable: bool = True) -> ContextManager[None]:
        """All or nothing; StoreError within another one. What is not `durable` survives this process, as far as anything here
        does, but a loss of power only with the next that is.
        """

    def flush(self) -> "Future[None]":
        """Begins to make safe what was committed until now; meanwhile this thread goes on."""

    def sync(self) -> None:
        """Returns when what was committed until now is as safe as it gets."""

    def find_run(self, run: str) -> Optional[Tuple[Dict[str, Any], bytes]]:
        """(task as plain data, training graph) of a run; None if it is new."""

    def create_run(self, run: str, task: Dict[str, Any], graph: bytes, weights: np.ndarray) -> None:
        """EdgewardError for one that is there already."""

    def tasks(self) -> List[Tuple[str, str]]:
        """(run, task as JSON) of every run, the oldest first."""

    def append(self, run: str, event: Event) -> None:
        """Journals an event. Inside a `transaction` it is durable with that transaction, otherwise at once."""

    def journal(self, run: str) -> List[Event]:
        """Every event since the run began, or was compacted, in order."""

    def compact(self, run: str, event: Compacted) -> None:
        """Puts `event` in the place of the whole journal; EdgewardError for a run that has no journal."""

    def joined(self, run: str) -> Set[str]:
        """Nodes that ever joined a run: even the number of records they state is charged."""

    def put_update(self, run: str, round_number: int, node: str, body: bytes) -> None:
        """In place of the one the node sent before."""

    def updates(self, run: str, round_number: int, nodes: Sequence[str]) -> Iterator[Tuple[str, bytes]]:
        """(node, body) one at a time, in the order of `nodes`; EdgewardError for one that is not there."""

    def drop_updates(self, run: str, round_number: int) -> None:
        """Of this round and all before."""

    def put_answer(self, run: str, round_number: int, attempt: int, step: str, node: str, body: bytes) -> None:
        """Keeps a node's answer to a step of a secure round; with node "" what the gateway fixed for the step."""

    def answers(self, run: str, round_number: int, attempt: int, step: str) -> Iterator[Tuple[str, bytes]]:
        """(node, body) of a step, one at a time by name."""

    def answerers(self, run: str, round_number: int, attempt: int, step: str) -> List[str]:
        """The nodes whose answers to a step are here, by name."""

    def answer(self, run: str, round_number: int, attempt: int, step: str, node: str) -> Optional[bytes]:
        """None for an answer that is not here."""

    def keep_answers(self, run: str, round_number: int, attempt: int, step: str, nodes: Sequence[str]) -> None:
        """Drops the answers to a step of all but these nodes."""

    def drop_answers(self, run: str, round_number: int) -> None:
        """Of this round and all before."""

    def put_vector(self, run: str, name: str, vector: np.ndarray) -> None:
        """Stores a vector; float64 for `tail`, `partial` and a strategy's state, float32 for all others."""

    def vector(self, run: str, name: str) -> Optional[np.ndarray]:
        """Nobody can write to it; None for one that was never put."""

    def vectors(self, run: str, prefix: str) -> Dict[str, np.ndarray]:
        """All vectors whose name begins with `prefix`."""

    def put_result(self, run: str, round_number: int, result: Dict[str, Any]) -> None:
        """What a round came to, in place of what was said of it before."""

    def add_to_result(self, run: str, round_number: int, figures: Dict[str, Any]) -> None:
        """Figures that became known after the round; EdgewardError for one without a result."""

    def results(self, run: str) -> List[Dict[str, Any]]:
        """What all rounds came to, in their order."""

    def each_result(self, run: str, first: int = FIRST_ROUND) -> Iterator[Dict[str, Any]]:
        """What rounds came to, from `first` on in their order, a few at a time in memory."""

    def newest_round(self, run: str) -> int:
        """The number of the newest round with a result; -1 before there is one."""

    def secret(self, run: str, name: str) -> bytes:
        """32 random bytes of this run, drawn the first time they are asked for and the same ever after."""

    def serial(self, run: str) -> int:
        """The run's serial in signed messages, fixed when first asked for: above all before it, at least the time in ms."""

    def keep_certificates(self, run: str, entries: List[Dict[str, Any]]) -> None:
        """The certificate log that `run` goes by from its first to its last round; once it began, it is what it is."""

    def certificates(self, run: str) -> List[Dict[str, Any]]:
        """Empty where none were kept."""

    def put_phase(self, run: str, at: float, phase: str, round_number: int, reason: str) -> None:
        """Notes what the run is at since `at` (seconds since 1970): for readers only, the journal decides."""

    def put_report(self, run: str, at: float, report: Dict[str, Any]) -> None:
        """Keeps what a finished run gave: the content of result.json, but for its rounds, which are in the results."""

    def report(self, run: str) -> Optional[Dict[str, Any]]:
        """What a finished run gave; None before."""

    def put_ledger_head(self, node: str, head: Dict[str, Any]) -> None:
        """In place of what the node said before."""

    def ledger_head(self, node: str) -> Optional[Dict[str, Any]]:
        """What a node last said of its ledger, in whatever run; see ledgers.py."""

    def put_node(self, run: str, node: str, figures: Dict[str, Any]) -> None:
        """Keeps the last figures a node gave of its process."""

    def nodes(self, run: str) -> Dict[str, Dict[str, Any]]:
        """node -> its figures, by name."""

    def close(self) -> None:
        """Nothing is asked of it after."""


def joined_in(journal: Iterable[Event]) -> Set[str]:
    """Nodes that ever joined, as a run's journal has it."""
    members = Members()
    for event in journal:
        members.take(event)
    return {name for name, member in members.items() if member.first_joined}


def kept_of(report: Dict[str, Any]) -> Dict[str, Any]:
    """What is kept of a report: its rounds are in the results."""
    return {name: value for name, value in report.items() if name != "per_round"}


def vector_dtype(name: str) -> str:
    """What a vector of this name is kept as."""
    return "<f8" if name in ("tail", PARTIAL) or name.startswith(STATE_PREFIX) else "<f4"


def lacks_update(node: str, round_number: int) -> EdgewardError:
    return EdgewardError(f"the store lacks the update of {node} for round {round_number}: was it edited?")


def lacks_result(round_number: int) -> EdgewardError:
    return EdgewardError(f"the store lacks the result of round {round_number}: was it edited?")


def has_run(run: str) -> EdgewardError:
    return EdgewardError(f"the store has a run {run} already: go on with it, or choose another name")


def lacks_journal(run: str) -> EdgewardError:
    return EdgewardError(f"the store lacks the journal of run {run}: was it edited?")


def nested(store: str) -> StoreError:
    return StoreError(f"{store}: cannot start a transaction within a transaction")

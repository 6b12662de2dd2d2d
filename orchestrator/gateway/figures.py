"""What a run costs, while it goes on: bytes, seconds, codec errors of the open round, and what nodes say of their processes."""

from typing import Any, Dict, Optional, Set, Tuple

from orchestrator.gateway.run_store import RunStore
from orchestrator.rounds.events import Aggregate
from orchestrator.rounds.stages import TRAINING
from orchestrator.wire.clock import SYSTEM, Clock
from orchestrator.wire.task import Task

ANSWERS = "answers"
"""In a round's result: node -> [seconds from the announcement to its last message, bytes of its messages]."""


class Figures:
    """Of one run. Nothing here is journalled: after a crash the open round's figures begin again."""

    def __init__(self, task: Task, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._training, self._stages = task.training, task.stages
        self._nodes: Dict[str, Dict[str, Any]] = {}  # last figures each node gave of its process
        self._baseline: Dict[str, Tuple[int, int]] = {}  # socket bytes of each node when its training rounds began
        self._begin()

    def _begin(self) -> None:
        self._started = self._clock.monotonic()
        self._bytes_up = self._bytes_down = 0
        self._codec_errors: Dict[str, Any] = {}  # relative error each node's codec made
        self._answers: Dict[str, Tuple[float, int]] = {}

    def round_began(self, number: int) -> None:
        self._begin()
        if number == 1:
            self._baseline = {
                n: (p["sent_bytes"], p["received_bytes"])
                for n, p in self._nodes.items()
                if "sent_bytes" in p and "received_bytes" in p
            }

    def heard(self, node: str, process: Any) -> None:
        """What a node says of its process; anything but the known figures is dropped."""
        self._nodes.setdefault(node, {}).update(_known(process))

    def sent(self, size: int, nodes: int) -> None:
        self._bytes_down += size * nodes

    def received(self, node: str, size: int, header: Dict[str, Any]) -> None:
        self._bytes_up += size
        took, before = self._clock.monotonic() - self._started, self._answers.get(node, (0.0, 0))[1]
        self._answers[node] = (round(took, 3), before + size)
        self.heard(node, header)
        self._codec_errors[node] = header.get("codec_error")

    def of_round(self, action: Aggregate) -> Dict[str, Any]:
        training, number = self._training, action.round
        trained = self._stages.of(number) == TRAINING
        return {
            "round": number,
            "updates": len(action.nodes),
            "nodes": list(action.nodes),
            "bytes_up": self._bytes_up,
            "bytes_down": self._bytes_down,
            "seconds": self._clock.monotonic() - self._started,
            "codec_error": max(
                (e for e in self._codec_errors.values() if isinstance(e, float) and 0 <= e < 1e9), default=None
            ),
            "learning_rate": training.learning_rate_at(number) if trained else None,
            "loss": None,
            "accuracy": None,
            ANSWERS: {node: list(answer) for node, answer in sorted(self._answers.items())},
        }

    def keep(self, store: RunStore, run: str, seen_to_the_end: Set[str]) -> None:
        """Stores the nodes' figures, with bytes per training round where both ends were seen."""
        for node, process in self._nodes.items():
            figures = dict(process)
            baseline: Optional[Tuple[int, int]] = self._baseline.get(node)
            if baseline is not None and node in seen_to_the_end:
                for way, before in zip(("sent_bytes", "received_bytes"), baseline):
                    name = "bytes_up_per_round" if way == "sent_bytes" else "bytes_down_per_round"
                    figures[name] = (process[way] - before) / self._training.rounds
            store.put_node(run, node, figures)


def _known(process: Any) -> Dict[str, Any]:
    if not isinstance(process, dict):
        return {}
    known: Dict[str, Any] = {}
    for name, kind in (("memory_mib", float), ("sent_bytes", int), ("received_bytes", int), ("tensorflow", bool)):
        value = process.get(name)
        if isinstance(value, kind) and isinstance(value, bool) == (kind is bool) and abs(value) < 1 << 60:
            known[name] = value
    return known

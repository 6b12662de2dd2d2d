"""What a node says of itself: where it stands in its runs, which its broker retains, and how its machine is."""

from typing import Any, Callable, Dict

from orchestrator.node.figures import MemoryFigures
from orchestrator.node.health import REPORT_EVERY_S
from orchestrator.node.open_runs import OpenRuns
from orchestrator.wire.body import encode_body
from orchestrator.wire.link import Connection
from orchestrator.wire.presence import Hello, Others, Word
from orchestrator.wire.process import has_tensorflow


class Presence:
    """Of one node process. `word` is what it says of the run it spoke of last; of others that are open it says what it said."""

    def __init__(
        self,
        topic: str,
        link: Connection,
        runs: OpenRuns,
        memory: MemoryFigures,
        ledger: Callable[[], Any],
        constant: Dict[str, Any],
    ) -> None:
        """`ledger`: where this node's ledger ends now. `constant`: fields that never change (node, instance, labels)."""
        self.word = Hello().written()
        self.said_at = -REPORT_EVERY_S
        self._topic, self._link, self._runs, self._memory, self._ledger = topic, link, runs, memory, ledger
        self._constant, self._clock = constant, link.address.clock
        self._report_at = self._clock.monotonic() + REPORT_EVERY_S

    def say(self, word: Word) -> None:
        self.word = word.written()
        if "run" in self.word:
            self._runs.say(self.word)
        self.announce()

    def announce(self) -> None:
        """Says all of it again."""
        self.said_at = self._clock.monotonic()
        others = self._runs.words(but=self.word.get("run", ""))
        said = {**self.word, **Others(others).written()}
        self._link.publish(self._topic, encode_body({**said, "ledger": self._ledger(), **self._about()}), retain=True)

    def report_health(self) -> None:
        """Now and then, without touching what is retained."""
        if self._clock.monotonic() < self._report_at:
            return
        self._report_at = self._clock.monotonic() + REPORT_EVERY_S
        self._link.publish(self._topic, encode_body({"kind": "health", **self._about()}))

    def _about(self) -> Dict[str, Any]:
        sent, received = self._link.socket_bytes()
        process = {
            "memory_mib": self._memory.peak_mib(),
            "sent_bytes": sent,
            "received_bytes": received,
            "tensorflow": has_tensorflow(),
        }
        return {**self._constant, "process": process, "health": self._memory.health()}

"""What a node with an identity believes: messages its gateway signed for it, of runs and rounds that are not over.

Every run has a serial that the gateway never lowers. The node remembers durably the highest one it took a task of, which
runs are over, and the newest round of each: an old recording, however well signed, is refused.
"""

from typing import Any, Dict

from orchestrator.errors import WireError
from orchestrator.node.store import NodeStore
from orchestrator.wire.announcing import Heading, OfRound
from orchestrator.wire.envelope import Opened, Opener

STALE = "message.stale"
"""Code of refusals of older and finished runs and rounds (wire/refusals.py)."""


class Guard:
    def __init__(self, opener: Opener, store: NodeStore) -> None:
        self._opener, self._runs = opener, store.seen_runs

    def open(self, message: bytes) -> Opened:
        """Raises WireError for what the gateway did not sign for this node, before anything of it is unpacked."""
        return self._opener.open(message)

    def admit(self, header: Dict[str, Any], serial: int) -> None:
        """Raises WireError for a replayed or stale message; otherwise notes durably what makes later ones stale."""
        said = Heading.read(header)
        kind, run = said.kind, said.run
        known = self._runs.find(run)
        if known is not None and known.serial != serial:
            raise WireError(f"stale {kind}: run {run} has serial {known.serial}, this one says {serial}", STALE)
        if known is not None and known.over:
            if kind != "finished":
                raise WireError(f"replayed {kind}: run {run} is over", STALE)
            return
        if kind == "task":
            highest = self._runs.highest_serial()
            if known is None and serial <= highest:
                raise WireError(
                    f"replayed task: run {run} has serial {serial}, this node already took part in one with {highest}",
                    STALE,
                )
            self._runs.begin(run, serial)
        elif known is not None and kind == "round":
            number = OfRound.read(header).round
            if number < known.newest_round:
                raise WireError(f"stale round {number}: round {known.newest_round} of run {run} has begun", STALE)
            self._runs.note_round(run, number)
        elif known is not None and kind == "finished":
            self._runs.end(run)

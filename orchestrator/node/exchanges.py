"""What a node must not forget of an exchange with its neighbours: that a run has one, how often it began, how far it came."""

from typing import Callable, ContextManager, NamedTuple, Optional

from orchestrator.database import Rows
from orchestrator.errors import WireError

SCHEMA = """
CREATE TABLE IF NOT EXISTS exchanges (
    run TEXT PRIMARY KEY, round INTEGER NOT NULL, question TEXT NOT NULL, born INTEGER NOT NULL, state BLOB NOT NULL, digest BLOB
);
"""
_OVER = -1
"""In the place of the round."""

COLUMNS = ("run", "round", "question", "born", "state")


class Begun(NamedTuple):
    """born: how often this exchange was begun, this time included; state: what was kept, None at first."""

    born: int
    state: Optional[bytes]


class Exchanges:
    """Of one store. `writing`: a durable transaction of it."""

    def __init__(self, rows: Rows, writing: Callable[[], ContextManager[None]]) -> None:
        self._rows, self._writing = rows, writing

    def begin(self, run: str, number: int, question: str) -> Begun:
        """Notes durably that it begins, or goes on. WireError for a second one of the same run: each has one."""
        with self._writing():
            found = self._rows.get("exchanges", "run = ?", run)
            if found and found[0][1] == _OVER:
                raise WireError(f"the exchange of run {run} is over", "round")
            if found and (found[0][1], found[0][2]) != (number, question):
                raise WireError(
                    f"round {number} of run {run} asks for an exchange other than the one there was", "round"
                )
            born = int(found[0][3]) + 1 if found else 1
            state = bytes(found[0][4]) if found else b""
            self._rows.put("exchanges", run, number, question, born, state, otherwise="REPLACE")
        return Begun(born, state or None)

    def keep(self, run: str, state: bytes) -> None:
        """Durably: what comes after it is computed again, should this process end."""
        with self._writing():
            row = self._rows.get("exchanges", "run = ?", run)[0]
            self._rows.put("exchanges", *row[:4], state, otherwise="REPLACE")

    def over(self, run: str) -> None:
        """The run is over: only that there was an exchange stays. What was kept of it is made of records."""
        found = self._rows.get("exchanges", "run = ?", run)
        for _, _, question, born, _ in found:
            with self._writing():
                self._rows.put("exchanges", run, _OVER, question, born, b"", otherwise="REPLACE")

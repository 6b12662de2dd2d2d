"""What nodes said of their ledgers: one whose ledger got shorter or changed has forgotten what it spent, and may not go on.

Kept in the gateway's store beyond runs. It shows a ledger that was deleted with everything that remembered it on the node, as
long as the node keeps its name. It does not show one that was begun again and filled with more entries than before: a node
that lies about its own budget harms its own data, and nobody else can count for it.
"""

from typing import Any, Dict, List, Optional, Tuple

from orchestrator.gateway.run_store import RunStore
from orchestrator.wire.presence import LedgerSaid

CODE = "ledger.rollback"
_PROCESSES = 20
_REMEDY = "restore the newest state of that node, or let it come back under another name with data that was never used"


class LedgerWatch:
    def __init__(self, store: RunStore) -> None:
        self._store = store

    def objection(self, node: str, header: Dict[str, Any]) -> str:
        """Why a node that sent this presence must not take part; otherwise notes what it said, and gives ""."""
        lost, head = self.judge(node, header)
        if head is not None:
            self._store.put_ledger_head(node, head)
        return lost

    def judge(self, node: str, header: Dict[str, Any]) -> Tuple[str, Optional[Dict[str, Any]]]:
        """(why the node that sent this must not take part, or ""; what is to be kept of what it said, if that is news).

        Raises WireError for a malformed statement. `process` and `n` tell a message that came twice, or late, from news.
        """
        known = self._store.ledger_head(node)
        said = LedgerSaid.read(header).ledger
        if said is None:
            return (
                f"it says nothing of its ledger, which had {known['entries']} entries: {_REMEDY}" if known else ""
            ), None
        entries, last, process, n = said.entries, said.hash, said.process, said.n
        if known is None:
            return "", _head(entries, last, process, n, [])
        before = [*known["before"], known["process"]]
        if process in known["before"] or (process == known["process"] and n <= known["n"]):
            return "", None
        if entries < known["entries"]:
            return f"its ledger lost {known['entries'] - entries} of {known['entries']} entries: {_REMEDY}", None
        if entries == known["entries"] and last != known["hash"]:
            return f"its ledger was begun again: entry {entries} is not the one it was: {_REMEDY}", None
        return "", _head(entries, last, process, n, before if process != known["process"] else known["before"])


def _head(entries: int, last: str, process: str, n: int, before: List[str]) -> Dict[str, Any]:
    return {"entries": entries, "hash": last, "process": process, "n": n, "before": before[-_PROCESSES:]}

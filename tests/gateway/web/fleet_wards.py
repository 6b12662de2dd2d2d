"""A dashboard's listener without a broker, what comes to it, and its page of a fleet as tests read it."""

from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Dict, List, Optional

from fleet_records import PLACE, marked

from orchestrator.boards.fleet_file import Fleet
from orchestrator.boards.fleet_owner import FleetOwner
from orchestrator.gateway.web.fleet_page import fleet_page
from orchestrator.gateway.web.listener import LISTENING, Listener
from orchestrator.gateway.web.model import DashboardModel
from orchestrator.wire.link import Message

INFO: Dict[str, Any] = {
    "kind": "info",
    "firmware": "1.2",
    "chip": "esp32c3",
    "simulated": False,
    "name": "ecg",
    "signature": "verified",
}


class Ward:
    """A dashboard's listener, and what comes to it."""

    def __init__(self, folder: Path, secrets: Optional[Dict[str, bytes]] = None) -> None:
        """secrets: of the fleet its owner gave it; None for no owner."""
        self.fleet, owner = Fleet(folder / "fleet", "test", secrets or {}), None
        if secrets is not None:
            self.fleet.write()
            owner = FleetOwner(self.fleet.folder, "test")
        self.listener = Listener(None, "test", owner)
        self.listener.state = LISTENING
        self.now = 1000.0
        self._seq = 0
        model = DashboardModel(folder, "test", self.listener, lambda: self.now)
        self.fleet_of_model = model.fleet

    def message(self, secret: Optional[bytes] = None, boot: str = "b1", **fields: Any) -> bytes:
        self._seq += 1
        return marked(secret or b"?", self._seq, boot, **fields)

    def hears(self, board: str, payload: bytes, kind: str = "presence", retained: bool = False) -> None:
        self.listener.take(Message(f"{PLACE}/{board}/{kind}", payload, retained), self.now)

    def says(self, board: str, topic: str = "presence", retained: bool = False, **fields: Any) -> bytes:
        payload = self.message(self.fleet.secrets.get(board), **{**INFO, **fields})
        self.hears(board, payload, topic, retained)
        return payload

    def boards(self) -> Dict[str, Any]:
        return {board["board"]: board for board in self.fleet_of_model()["boards"]}

    def page(self, *given: Any) -> str:
        return fleet_page(self.fleet_of_model(), *given)


VOID = ("meta", "link", "input", "br")


class Page(HTMLParser):
    """Rows of the tables as texts, and all elements, each of which ends where it should."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: List[List[str]] = []
        self.tags: List[str] = []
        self.scripts: List[Optional[str]] = []
        self._inside = False
        self._open: List[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self._open += [tag] if tag not in VOID else []
        if tag == "script":
            self.scripts.append(dict(attrs).get("src"))
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append("")
        if tag == "br" and self._inside:
            self.rows[-1][-1] += "\n"
        self._inside = tag == "td" or (self._inside and tag not in ("table", "div"))

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "td"
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.rows[-1][-1] += data

    def row(self, board: str) -> List[str]:
        return next(row for row in self.rows if row and row[0] == board)


A, B = bytes(range(32)), bytes(32)

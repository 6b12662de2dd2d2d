"""Where the node remembers how far its ledger had come, so that a lost, cut or older one shows.

An anchor holds (entries, hash of the last). A ledger that continues it is fine however much longer it is.
"""

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Mapping, NamedTuple, Optional

from orchestrator.errors import LedgerError
from orchestrator.files import replace_file
from orchestrator.node.store import NodeStore
from orchestrator.wire.json_text import from_json

ANCHOR_FILE = "ledger-head.json"
_NAME = "ledger"


class Head(NamedTuple):
    """Where a hash chain ends. entries: how many there are; hash: of the last one, 64 hex digits."""

    entries: int
    hash: str


class Anchor(ABC):
    """One place that remembers a head. `paired`: it is written with every entry, so it may lag behind by one at most."""

    paired = False
    where = ""

    @abstractmethod
    def read(self) -> Optional[Head]:
        """None before the first head was noted."""

    @abstractmethod
    def write(self, head: Head) -> None:
        """Notes how far the ledger has come, durably."""

    def write_soon(self, head: Head) -> None:
        """The same, but it may wait until just before the ledger's next entry."""
        self.write(head)

    def objection(self, known: Optional[Head], heads: Mapping[int, str]) -> str:
        """What is wrong with a ledger that has these entries, number -> hash; "" where it continues what is remembered here.

        known: what was, before they were read.
        """
        count = len(heads)
        if known is not None and known.entries > count:
            lost = known.entries - count
            return f"{count} entries, {self.where} remembers {known.entries}: {lost} are lost"
        if known is not None and known.entries and heads[known.entries] != known.hash:
            return f"entry {known.entries} is not the one {self.where} remembers"
        now = self.read() if self.paired else None
        if self.paired and count - (0 if now is None else now.entries) > 1:
            knows = "none" if now is None else f"only {now.entries}"
            return f"{count} entries, {self.where} knows {knows}: it was deleted or is an older copy"
        return ""


class StoreAnchor(Anchor):
    """In node.sqlite, which holds the answers the ledger counts: the two files belong together."""

    paired = True

    def __init__(self, store: NodeStore) -> None:
        self._store = store
        self.where = "node.sqlite beside it"

    def read(self) -> Optional[Head]:
        found = self._store.anchor(_NAME)
        return None if found is None else Head(*found)

    def write(self, head: Head) -> None:
        self._store.put_anchor(_NAME, *head)

    def write_soon(self, head: Head) -> None:
        self._store.put_anchor_soon(_NAME, *head)


class FolderAnchor(Anchor):
    """A file in another folder, the identity's: it outlives the state folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / ANCHOR_FILE
        self.where = str(self._path)

    def read(self) -> Optional[Head]:
        try:
            found = from_json(self._path.read_text(encoding="utf-8"))
            return Head(int(found["entries"]), str(found["hash"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LedgerError(
                f"{self._path}: cannot be read ({error}); it says how far the node's ledger had come"
            ) from error

    def write(self, head: Head) -> None:
        known = self.read()
        if known is not None and known.entries >= head.entries:
            return
        try:
            replace_file(self._path, json.dumps(head._asdict()).encode())
        except OSError as error:
            raise LedgerError(
                f"{self._path}: cannot be written ({error.strerror}): let this node write there, so that a ledger which was "
                "deleted with its whole state folder is missed"
            ) from error

"""A fleet's folder as a dashboard reads it that its owner gave it: secrets to check records by, and how roll-outs go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

from orchestrator.boards.fleet_file import FILE, Fleet
from orchestrator.boards.fleet_journal import Rollouts
from orchestrator.boards.orders import board_id, checked
from orchestrator.errors import EdgewardError
from orchestrator.mishaps import sentence
from orchestrator.wire.plain import plain


class FleetOwner:
    """Reads, and writes nothing. What the file last said stays while it cannot be read; `problem` says so."""

    def __init__(self, folder: Path, federation: str = "") -> None:
        """UsageError as Fleet.read."""
        self._stamp = _stamp(folder)
        self._fleet = _read(folder, federation)
        self._rollouts = Rollouts(folder)
        self.problem = ""

    @property
    def federation(self) -> str:
        return self._fleet.federation

    def look(self) -> Mapping[str, str]:
        stamp = _stamp(self._fleet.folder)
        if stamp != self._stamp:
            try:
                self._fleet = _read(self._fleet.folder, self.federation)
                self._stamp, self.problem = stamp, ""
            except (EdgewardError, OSError) as error:
                self.problem = plain(f"the fleet's file cannot be used: {sentence(error)}")
        return {name: board_id(secret) for name, secret in self._fleet.secrets.items()}

    def checked(self, board: str, message: bytes) -> Optional[bytes]:
        secret = self._fleet.secrets.get(board)
        return None if secret is None else checked(message, secret)

    def rollouts(self, now: float) -> List[Dict[str, Any]]:
        return self._rollouts.read(now)


def _read(folder: Path, federation: str) -> Fleet:
    Fleet.read(folder)  # UsageError where the file lacks: to a dashboard that is no empty fleet
    return Fleet.read(folder, federation)


def _stamp(folder: Path) -> object:
    try:
        found = (folder / FILE).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode

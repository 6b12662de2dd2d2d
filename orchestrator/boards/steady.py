"""A file that cannot be written is no reason to stop watching boards: what is lost is said once, and counted."""

import logging
from pathlib import Path

from orchestrator.boards.exporters import Exporter
from orchestrator.boards.protocol import Record
from orchestrator.mishaps import sentence

log = logging.getLogger("edgeward.monitor")


class Steady:
    """Writes to another exporter's file while that works; tries again with every record."""

    def __init__(self, exporter: Exporter, path: "Path | str") -> None:
        """`path`: how to call it."""
        self._exporter, self._path = exporter, path
        self._lost, self._said = 0, False

    def write(self, port: str, received_at: float, record: Record) -> None:
        try:
            self._exporter.write(port, received_at, record)
            self._said = False
        except BrokenPipeError:
            raise  # who read it has gone, which is the way to end watching
        except Exception as error:
            self._lost += 1
            self._complain(error)

    def flush(self) -> None:
        try:
            self._exporter.flush()
        except BrokenPipeError:
            raise
        except Exception as error:
            self._complain(error)

    def summary(self) -> str:
        lost = f"{self._path}: up to {self._lost} records could not be written" if self._lost else ""
        return "; ".join(part for part in (self._exporter.summary(), lost) if part)

    def close(self) -> None:
        try:
            self._exporter.close()
        except Exception as error:
            self._complain(error)

    def _complain(self, error: Exception) -> None:
        if not self._said:
            self._said = True
            why = error.strerror if isinstance(error, OSError) and error.strerror else sentence(error)
            log.error("%s: %s; watching goes on, and records are not written until that works again", self._path, why)

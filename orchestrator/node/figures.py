"""What a node says of its memory: nothing that private data had a part in.

How much memory data take depends on what is read of them, and that is the gateway's choice. So from the moment data are opened
for a task with privacy, the figures stay those from before.
"""

from typing import Any, Callable, Dict, Iterable, Optional

from orchestrator.node.health import read_health
from orchestrator.wire.process import stated_memory_mib

FREE = "free_memory_mib"


class MemoryFigures:
    """Peak memory of this process and of those its graphs run in, and what the machine has free."""

    def __init__(self, processes: Callable[[], Iterable[int]]) -> None:
        """processes: ids of those the open run's graphs are in."""
        self._processes = processes
        self._before: Optional[Dict[str, float]] = None

    def keep(self) -> None:
        """To be called before private data are opened; the figures of the first time stay."""
        if self._before is None:
            self._before = {FREE: read_health().get(FREE, 0.0), "peak": self.peak_mib()}

    def peak_mib(self) -> float:
        return stated_memory_mib(*self._processes()) if self._before is None else self._before["peak"]

    def health(self) -> Dict[str, Any]:
        found = read_health()
        return found if self._before is None or FREE not in found else {**found, FREE: self._before[FREE]}

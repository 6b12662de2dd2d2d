"""A gateway that kills itself around one journal entry. Prints its progress as JSON lines, `weights` last.

python crashing_gateway.py STORE RUN BROKER [EVENT COUNT before|after]
"""

import json
import os
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator

from orchestrator.gateway.gateway import Gateway
from orchestrator.gateway.store import Store
from orchestrator.rounds.events import Event
from orchestrator.wire.link import BrokerAddress


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class CrashingStore(Store):
    kind, countdown, when = "", 0, ""
    dying = False
    inside = False

    def append(self, run: str, event: Event) -> None:
        if type(event).__name__ == self.kind:
            self.countdown -= 1
            if self.countdown == 0:
                if self.when == "before":
                    die()
                self.dying = True
        super().append(run, event)
        if self.dying and not self.inside:
            die()

    @contextmanager
    def transaction(self, durable: bool = True) -> Iterator[None]:
        self.inside = True
        with super().transaction(durable):
            yield
        self.inside = False
        if self.dying:
            die()


def show(event: Dict[str, Any]) -> None:
    print(json.dumps(event), flush=True)


def main() -> None:
    path, run, broker = sys.argv[1:4]
    store = CrashingStore(Path(path))
    if len(sys.argv) > 4:
        store.kind, store.countdown, store.when = sys.argv[4], int(sys.argv[5]), sys.argv[6]
    result = Gateway(store, run, "test", BrokerAddress.parse(broker), progress=show).run()
    print(json.dumps({"event": "weights", "weights": result.weights.tolist(), "rounds": result.rounds}), flush=True)


if __name__ == "__main__":
    main()

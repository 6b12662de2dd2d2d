"""A key holder that is killed around its answer to a step, or asked to open sums over more nodes than there are.

python fixed_key_holder.py BROKER NAME STATE [ROUND STEP before|after]
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any, Dict

import numpy as np

from orchestrator.node.key_holder import KeyHolderAgent
from orchestrator.wire.link import BrokerAddress


class Dying(KeyHolderAgent):
    number, dies_at, when = -1, "", ""

    def _take_step(self, header: Dict[str, Any], tensors: Dict[str, np.ndarray]) -> None:
        last = header["step"] != "decrypt" or (self._sum is not None and len(self._sum.missing) == 1)
        chosen = (header["round"], header["step"]) == (self.number, self.dies_at) and last
        if chosen and self.when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        if chosen and self.when == "after":  # stored, and not sent
            self._send = lambda body: os.kill(os.getpid(), signal.SIGKILL)
        super()._take_step(header, tensors)


def main() -> None:
    broker, name, state = sys.argv[1:4]
    if len(sys.argv) > 4:
        Dying.number, Dying.dies_at, Dying.when = int(sys.argv[4]), sys.argv[5], sys.argv[6]
    Dying(BrokerAddress.parse(broker), "test", name, Path(state), once=True).run()


if __name__ == "__main__":
    main()

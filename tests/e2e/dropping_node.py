"""A node with predictable updates that is killed when a secure round asks it for a certain step.

python dropping_node.py BROKER NAME DATA STATE ROUND STEP before|after    (of its answer)
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any, Dict, Type

from fixed_node import Fixed

import orchestrator.node.agent as agent_module
import orchestrator.node.secure_steps as secure_steps
from orchestrator.node.agent import NodeAgent
from orchestrator.node.encrypted import EncryptedRound
from orchestrator.node.run import Run
from orchestrator.node.secure import Answer, MaskedRound, SecureRound
from orchestrator.wire.link import BrokerAddress


def main() -> None:
    broker, name, data, state, number, step, when = sys.argv[1:]

    class Dropping(SecureRound):
        def answer(self, header: Dict[str, Any]) -> Answer:
            chosen = (self.number, header.get("step", "keys")) == (int(number), step)
            if chosen and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            return super().answer(header)

    class DroppingMasked(Dropping, MaskedRound):
        pass

    class DroppingEncrypted(Dropping, EncryptedRound):
        pass

    class DroppingSteps(secure_steps.SecureSteps):
        def kind_of(self, run: Run) -> Type[SecureRound]:
            return DroppingEncrypted if super().kind_of(run) is EncryptedRound else DroppingMasked

        def answer(self, header: Dict[str, Any]) -> None:
            super().answer(header)
            if when == "after" and (header["round"], header.get("step", "keys")) == (int(number), step):
                agent.link.flush(5.0)
                os.kill(os.getpid(), signal.SIGKILL)

    vars(agent_module)["SecureSteps"] = DroppingSteps
    agent = NodeAgent(BrokerAddress.parse(broker), "test", name, Path(data), Path(state), Fixed, once=True)
    agent.run()


if __name__ == "__main__":
    main()

"""Many nodes as processes of their own, forked from one that has imported everything: they start in the time of one.

python forked_nodes.py BROKER FEDERATION FOLDER NAME...    data of NAME: FOLDER/NAME.csv, its state: FOLDER/state-NAME

A NAME may end in `:silent`, and answers nothing; or in `:ROUND:STEP:before` or `:after`, and is killed around its answer to that
step of a masked round. A line with name and process id on stdout for each.
"""

import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any, Dict, List, Tuple

import orchestrator.node.agent as agent_module
from orchestrator.node.agent import NodeAgent
from orchestrator.node.secure_steps import SecureSteps
from orchestrator.wire.link import BrokerAddress


def fated(agent: List[NodeAgent], fate: List[str]) -> type:
    """The steps of a node that comes to this end."""

    class Fated(SecureSteps):
        def answer(self, header: Dict[str, Any]) -> None:
            if fate == ["silent"]:
                return
            number, step, when = fate
            chosen = (header["round"], header.get("step", self._first(header))) == (int(number), step)
            if not (chosen and when == "before"):
                super().answer(header)
            if chosen:
                agent[0].link.flush(5.0)
                os.kill(os.getpid(), signal.SIGKILL)

        @staticmethod
        def _first(header: Dict[str, Any]) -> str:
            """What a round's own message asks: of a prepared one the vectors."""
            return "masked" if header.get("attempt") == 0 else "keys"

    return Fated


def serve(broker: str, federation: str, folder: Path, name: str, fate: List[str]) -> None:
    agents: List[NodeAgent] = []
    if fate:
        vars(agent_module)["SecureSteps"] = fated(agents, fate)
    address = BrokerAddress.parse(broker)
    agents.append(NodeAgent(address, federation, name, folder / f"{name}.csv", folder / f"state-{name}", once=True))
    agents[0].run(60)


def main() -> None:
    broker, federation, folder, *names = sys.argv[1:]
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    started: List[Tuple[str, int]] = []
    for name, *fate in (name.split(":") for name in names):
        child = os.fork()
        if not child:
            try:
                serve(broker, federation, Path(folder), name, fate)
            finally:
                os._exit(0)
        started.append((name, child))
        print(name, child, flush=True)
    for _, child in started:
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()

"""Many nodes with predictable updates in one process, each with a connection and a store of its own.

python many_nodes.py BROKER FOLDER NAME...    data of NAME: FOLDER/NAME.csv, its state: FOLDER/NAME
"""

import sys
import threading
from pathlib import Path

from fixed_node import Fixed

from orchestrator.node.agent import NodeAgent
from orchestrator.wire.link import BrokerAddress


def serve(broker: str, folder: Path, name: str) -> None:
    data, state = folder / f"{name}.csv", folder / name
    NodeAgent(BrokerAddress.parse(broker), "test", name, data, state, Fixed, once=True).run(60)


def main() -> None:
    broker, folder, *names = sys.argv[1:]
    threads = [threading.Thread(target=serve, args=(broker, Path(folder), name)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()

"""`python -m orchestrator.gateway.embedded_broker HOST PORT`: amqtt, configured, until SIGTERM."""

import asyncio
import logging
import signal
import sys
from typing import Any, Dict

from orchestrator.wire.plain import PlainFormatter


def configuration(host: str, port: int) -> Dict[str, Any]:
    return {
        "listeners": {"default": {"type": "tcp", "bind": f"{host}:{port}", "max_connections": 0}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }


async def serve(host: str, port: int) -> None:
    from amqtt.broker import Broker

    broker = Broker(configuration(host, port))
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await broker.start()
    await stopped.wait()
    await broker.shutdown()


if __name__ == "__main__":
    screen = logging.StreamHandler()
    screen.setFormatter(PlainFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[screen])
    asyncio.run(serve(sys.argv[1], int(sys.argv[2])))

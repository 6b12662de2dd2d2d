"""`python -m orchestrator.gateway.embedded_broker HOST PORT`: amqtt, configured, until SIGTERM."""

import asyncio
import logging
import signal
import sys
from typing import Any, Dict

from orchestrator.wire.frames import CHUNK_BYTES
from orchestrator.wire.plain import PlainFormatter

log = logging.getLogger("edgeward.broker")

MOST_PACKET_BYTES = 2 * CHUNK_BYTES
"""A part of a body with its topic is a little over one CHUNK_BYTES."""


def configuration(host: str, port: int) -> Dict[str, Any]:
    return {
        "listeners": {"default": {"type": "tcp", "bind": f"{host}:{port}", "max_connections": 0}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }


def limit_packets() -> None:
    """What announces more than any message of ours has is no client of ours: its connection ends, and nothing is read of it."""
    from amqtt.mqtt.packet import MQTTFixedHeader

    read = MQTTFixedHeader.from_stream.__func__

    async def from_stream(kind: Any, reader: Any) -> Any:
        header = await read(kind, reader)
        if header is not None and header.remaining_length > MOST_PACKET_BYTES:
            log.warning("a client announced a packet of %d bytes; its connection ends", header.remaining_length)
            return None
        return header

    MQTTFixedHeader.from_stream = classmethod(from_stream)


async def serve(host: str, port: int) -> None:
    from amqtt.broker import Broker

    limit_packets()
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

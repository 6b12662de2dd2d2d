"""The embedded broker's process, with the words HOST and PORT: amqtt behind a guard, until SIGTERM."""

import asyncio
import logging
import signal
import socket
import sys
from typing import Any, Dict

from orchestrator.gateway.doorkeeper import BACKLOG
from orchestrator.mishaps import catch_in_threads, sentence
from orchestrator.wire.plain import PlainFormatter, Sparing

log = logging.getLogger("edgeward.broker")


def configuration() -> Dict[str, Any]:
    return {
        "listeners": {"default": {"type": "external"}},
        "plugins": {
            "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True},
            "orchestrator.gateway.broker_guard.PassedOn": {},
        },
    }


def listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((host, port))
    listening.listen(BACKLOG)
    listening.setblocking(False)
    return listening


async def serve(listening: socket.socket, stopped: asyncio.Event) -> None:
    import amqtt.broker

    from orchestrator.gateway.broker_guard import Guard, NoticingHandler, PassedOn, RetainingBroker
    from orchestrator.gateway.guarded_connection import MOST_UNDER_WAY

    amqtt.broker.BrokerProtocolHandler = NoticingHandler
    broker = RetainingBroker(configuration())
    broker.config.max_qos = 1  # what is sent at QoS 2 the guard lets nobody acknowledge
    broker._broadcast_queue = asyncio.Queue(MOST_UNDER_WAY)  # the version of amqtt is pinned
    guard = Guard(broker)
    plugin = broker.plugins_manager.get_plugin(PassedOn.__name__)
    if not isinstance(plugin, PassedOn):
        raise RuntimeError("amqtt did not load the plugin it was configured with")
    plugin.guard = guard
    await broker.start()
    await guard.start(listening)
    await stopped.wait()
    guard.close()
    await broker.shutdown()


async def serve_until_stopped(listening: socket.socket) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await serve(listening, stopped)


def main() -> None:
    screen = logging.StreamHandler()
    screen.setFormatter(PlainFormatter("%(levelname)s %(name)s: %(message)s"))
    screen.addFilter(Sparing())
    logging.basicConfig(level=logging.WARNING, handlers=[screen])
    catch_in_threads(log)
    try:
        asyncio.run(serve_until_stopped(listen(sys.argv[1], int(sys.argv[2]))))
    except Exception as error:
        log.critical("the broker ends: %s", sentence(error))
        sys.exit(1)

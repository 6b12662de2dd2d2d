"""The dashboard's process: `main` with GATEWAY_PID for a word, and with its settings in a line of JSON on stdin.

Started by child.py with a listening socket and a channel of the gateway's progress. When the channel ends it stays for a while,
so that people see how the run ended, unless the gateway was stopped (staying.py).
"""

import json
import logging
import os
import socket
import sys
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Optional

import uvicorn

from orchestrator.gateway.doorkeeper import Doorkeeper, GuardedSocket, places
from orchestrator.gateway.web.app import Dashboard
from orchestrator.gateway.web.child import SMALL
from orchestrator.gateway.web.control import Again
from orchestrator.gateway.web.fleet import Owner
from orchestrator.gateway.web.listener import Listener
from orchestrator.gateway.web.model import DashboardModel
from orchestrator.gateway.web.password import Login
from orchestrator.gateway.web.settings import WebSettings
from orchestrator.gateway.web.standing import ENDED
from orchestrator.gateway.web.staying import Stay
from orchestrator.mishaps import catch_in_threads, sentence
from orchestrator.wire.link import BrokerAddress
from orchestrator.wire.plain import PlainFormatter, Sparing

log = logging.getLogger("edgeward.dashboard")

MOST_MESSAGE_BYTES = 64 << 10


def serve(
    out: Path,
    settings: WebSettings,
    listening: socket.socket,
    federation: str,
    broker: Optional[BrokerAddress],
    channel: Optional[socket.socket] = None,
    login_needed: bool = False,
    again: Optional[Again] = None,
    owner: Optional[Owner] = None,
) -> None:
    """Serves until the process has to stop, or settings.stay_s after the gateway at the other end of `channel` is gone.

    owner: of a fleet of boards, where the dashboard was given its folder.
    """
    listener = Listener(broker, federation, owner)
    model = DashboardModel(out, federation, listener)
    doorkeeper = Doorkeeper()
    dashboard = Dashboard(model, settings, doorkeeper, Login(out, login_needed))
    config = uvicorn.Config(
        dashboard.asgi,
        loop="asyncio",  # another one would accept connections without asking the doorkeeper
        http="h11",  # of another one, used where it is installed, the head of a request may have any length
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        backlog=places()[1],
        timeout_keep_alive=10,
        timeout_graceful_shutdown=3,
        ssl_certfile=str(settings.certificate) if settings.certificate else None,
        ssl_keyfile=str(settings.key) if settings.key else None,
    )
    server = uvicorn.Server(config)
    dashboard.stopping = lambda: server.should_exit
    dashboard.control.channel, dashboard.control.again = channel, again
    if channel is not None:

        def end() -> None:
            server.should_exit = True

        stay = Stay(settings.stay_s, end)
        threading.Thread(target=_hear, args=(channel, model, stay, end), name="channel", daemon=True).start()
    listener.start()
    try:
        server.run(sockets=[GuardedSocket.around(listening, doorkeeper)])
    finally:
        listener.close()
        model.close()


def _hear(channel: socket.socket, model: DashboardModel, stay: Stay, end: Callable[[], None]) -> None:
    """Until the gateway is gone, however it went."""
    stays = True
    while True:
        try:
            message = channel.recv(MOST_MESSAGE_BYTES)
            if not message:
                break
            event = json.loads(message)
            model.hear(event)
            if event.get("event") == ENDED:
                stays = event.get("stays") is not False
        except OSError as error:
            log.error("the gateway is not heard any more: %s", sentence(error))
            end()  # the gateway starts another one
            return
        except Exception as error:
            log.error("a message of the gateway was passed over: %s", sentence(error))
    model.standing.gone()
    if stays:
        stay.begin()
    else:
        end()


def main() -> None:
    screen = logging.StreamHandler(sys.stderr)
    screen.setFormatter(PlainFormatter("%(asctime)s %(levelname)s %(message)s"))
    screen.addFilter(Sparing())
    logging.basicConfig(level=logging.WARNING, handlers=[screen])
    catch_in_threads(log)
    try:
        _serve()
    except Exception as error:
        log.critical("the dashboard ends: %s", sentence(error))
        sys.exit(1)


def _serve() -> None:
    given: Dict[str, Any] = json.loads(sys.stdin.readline())
    certificate, key = (Path(given[name]) if given[name] else None for name in ("certificate", "key"))
    serve(
        Path(given["out"]),
        WebSettings(given["host"], given["port"], certificate, key, given["quiet_s"], given["stay_s"]),
        socket.socket(fileno=given["listening_fd"]),
        given["federation"],
        BrokerAddress(**given["broker"]) if given["broker"] else None,
        socket.socket(fileno=given["channel_fd"]),
        given["login_needed"],
        _again(given) if given["again"] else None,
    )


def _again(given: Dict[str, Any]) -> Again:
    before = {name: value for name, value in os.environ.items() if name not in SMALL}
    environment = {**before, **given["replaced"]}
    return Again(tuple(given["again"]), Path(given["folder"]), Path(given["out"]), environment)

"""What a page may ask of the gateway: to stop, in order, as SIGTERM would; once it is gone, to be started by the same command.

Only those who logged in with a password may ask: without one everybody on this machine could. The command is the one the gateway
was started by, as it gave it to its own dashboard: a page chooses none of its words.
"""

import errno
import json
import logging
import os
import socket
import stat
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Awaitable, Callable, Dict, Mapping, Optional, Tuple

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from orchestrator.gateway.web.child import STOP
from orchestrator.gateway.web.model import DashboardModel
from orchestrator.gateway.web.password import Login
from orchestrator.gateway.web.standing import RESTARTED, WORKING
from orchestrator.wire.plain import plain

log = logging.getLogger("edgeward.dashboard")


AGAIN_LOG = "restarted.log"
"""In OUT: what a gateway prints that was started from its page."""


@dataclass(frozen=True)
class Again:
    """How the gateway is started again: its command, in the folder it was given in."""

    command: Tuple[str, ...]
    folder: Path
    out: Path
    environment: Mapping[str, str]
    """The gateway's own; a dashboard's has limits that are not for gateways."""

    def start(self) -> "subprocess.Popen[bytes]":
        """Starts it apart from this process, which makes way for its dashboard. OSError where that is not possible."""
        # Neither through a link to another file, nor into a pipe, whose reader it would wait for.
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(str(self.folder / self.out / AGAIN_LOG), flags, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, f"{AGAIN_LOG} is no file")
            return subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                start_new_session=True,
            )
        finally:
            os.close(descriptor)


class Control:
    """`channel`: to the gateway that this dashboard is the child of; None for one that was started by itself."""

    def __init__(
        self, model: DashboardModel, login: Login, read: Callable[[Callable[[], Any]], Awaitable[Any]]
    ) -> None:
        self._model, self._login, self._read = model, login, read
        model.may_stop = lambda: self.possible
        model.may_start = lambda: self.again is not None and self._login.needed
        self.channel: Optional[socket.socket] = None
        self.again: Optional[Again] = None
        self._starting: Optional[subprocess.Popen[bytes]] = None
        self._one_at_a_time = threading.Lock()
        self.routes = [
            Route("/api/stop/{run}", self._stop, methods=["POST"]),
            Route("/api/start/{run}", self._start, methods=["POST"]),
        ]

    @property
    def possible(self) -> bool:
        """Whether a page may offer it."""
        return self.channel is not None and self._login.needed

    async def _stop(self, request: Request) -> Response:
        run = request.path_params["run"]
        if not self._login.configured:
            return _refused(
                "set a password first (edgeward gateway password OUT): without one anybody here could stop it", 403
            )
        state, current = await self._read(self._model.now_at_work)
        if self.channel is None or state != WORKING:
            return _refused("no gateway works here", 409)
        if current != run:
            return _refused(f"the gateway is in run {plain(current)} now; reload the page", 409)
        try:
            self.channel.send(json.dumps({"ask": STOP}).encode(), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError as error:
            return _refused(f"the gateway cannot be asked: {error.strerror}", 503)
        log.warning(
            "%s asked the gateway to stop in run %s", request.client.host if request.client else "?", plain(run)
        )
        return JSONResponse({"stopping": run}, 202)

    async def _start(self, request: Request) -> Response:
        run = request.path_params["run"]
        if not self._login.configured:
            return _refused(
                "set a password first (edgeward gateway password OUT): without one anybody here could start it", 403
            )
        state, current = await self._read(self._model.now_at_work)
        if self.again is None:
            return _refused("this dashboard does not know the command: give it on the gateway", 409)
        if state not in RESTARTED:
            return _refused("no run here waits to be started again", 409)
        if current != run:
            return _refused(f"the newest run is {plain(current)}; reload the page", 409)
        try:
            started = await self._read(lambda: self._start_once(run))
        except OSError as error:
            return _refused(f"the gateway cannot be started: {error.strerror}", 503)
        if not started:
            return _refused("it is being started", 409)
        log.warning(
            "%s started the gateway again for run %s", request.client.host if request.client else "?", plain(run)
        )
        return JSONResponse({"starting": run, "log": AGAIN_LOG}, 202)

    def _start_once(self, run: str) -> bool:
        """False while one that was started a moment ago is there."""
        with self._one_at_a_time:
            if self.again is None or (self._starting is not None and self._starting.poll() is None):
                return False
            self._starting = self.again.start()
            return True


def _refused(problem: str, status: int) -> Response:
    answer: Dict[str, Any] = {"error": problem}
    return JSONResponse(answer, status)

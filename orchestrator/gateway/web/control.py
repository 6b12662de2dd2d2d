"""The one thing a dashboard asks of its gateway: to stop, in order, as SIGTERM would. The same command continues the run.

Only who logged in with a password may ask: without one everybody on this machine could.
"""

import json
import logging
import socket
from typing import Any, Awaitable, Callable, Dict, Optional

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from orchestrator.gateway.web.child import STOP
from orchestrator.gateway.web.model import DashboardModel
from orchestrator.gateway.web.password import Login
from orchestrator.gateway.web.standing import WORKING
from orchestrator.wire.plain import plain

log = logging.getLogger("edgeward.dashboard")


class Control:
    """`channel`: to the gateway that this dashboard is the child of; None for one that was started by itself."""

    def __init__(
        self, model: DashboardModel, login: Login, read: Callable[[Callable[[], Any]], Awaitable[Any]]
    ) -> None:
        self._model, self._login, self._read = model, login, read
        model.may_stop = lambda: self.possible
        self.channel: Optional[socket.socket] = None
        self.routes = [Route("/api/stop/{run}", self._stop, methods=["POST"])]

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


def _refused(problem: str, status: int) -> Response:
    answer: Dict[str, Any] = {"error": problem}
    return JSONResponse(answer, status)

"""Logging in and out: a password is hashed in a thread of its own, one at a time, and who was wrong waits longer each time."""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from orchestrator.gateway.web.bodies import json_body
from orchestrator.gateway.web.guard import known_browser, session_tokens, set_browser, set_session
from orchestrator.gateway.web.password import Login
from orchestrator.gateway.web.sessions import Sessions, TryLimit, address_of
from orchestrator.gateway.web.settings import WebSettings
from orchestrator.gateway.web.turns import GUESSER, KNOWN, STRANGER, BusyError, Pauses, Turns

log = logging.getLogger("edgeward.dashboard")

_FAILURE_PAUSE_S = 0.5


class LoginRoutes:
    """Of one dashboard, and the sessions that began with it."""

    def __init__(self, login: Login, settings: WebSettings) -> None:
        self._login, self._settings = login, settings
        self.sessions, self._limit = Sessions(), TryLimit()
        self._hasher, self._turns, self._pauses = ThreadPoolExecutor(1, "password"), Turns(), Pauses()
        self.routes = [
            Route("/api/login", self._log_in, methods=["POST"]),
            Route("/api/logout", self._log_out, methods=["POST"]),
        ]

    @property
    def needed(self) -> bool:
        """Whether there is a password."""
        return self._login.configured

    def close(self) -> None:
        self._hasher.shutdown(wait=False, cancel_futures=True)

    async def _log_in(self, request: Request) -> Response:
        password = (await json_body(request) or {}).get("password")
        if not isinstance(password, str):
            return JSONResponse({"error": 'expected {"password": "..."}'}, 400)
        browser = known_browser(request, self._settings, self._login.key)
        address = address_of(request.client.host) if request.client else ""
        who = f"browser {browser}" if browser else address
        try:
            over = await self._pause(who, bool(browser))
            async with self._turns.turn(GUESSER if over else KNOWN if browser else STRANGER):
                right = await asyncio.get_running_loop().run_in_executor(self._hasher, self._login.accepts, password)
        except BusyError:
            return _too_many()
        if not right:
            log.warning("wrong password from %s", address)
            await asyncio.sleep(_FAILURE_PAUSE_S)
            return (
                _too_many("wrong password, and too many attempts")
                if over
                else JSONResponse({"error": "wrong password"}, 401)
            )
        self._limit.succeeded(who)
        response = JSONResponse({"ok": True})
        set_browser(response, self._login.key, self._settings)
        set_session(response, self.sessions.begin(), self._login.key, self._settings)
        return response

    async def _pause(self, who: str, known: bool) -> bool:
        """Waits until a try may be checked, and counts it. Returns whether it is one too many; BusyError for a newer try.

        From the last look to the count nothing is awaited: what comes at the same time, however slowly, is counted one by one.
        """
        while (wait := self._limit.wait_s(who, known)) > 0:
            await self._pauses.wait(who, wait)
        over = self._limit.over(who, known)
        self._limit.failed(who, known)  # until proven otherwise
        return over

    async def _log_out(self, request: Request) -> Response:
        key = self._login.key
        for token in session_tokens(request, self._settings, key):
            self.sessions.end(token)
        response = JSONResponse({"ok": True})
        set_session(response, "", key, self._settings)
        return response


def _too_many(problem: str = "too many attempts") -> JSONResponse:
    return JSONResponse({"error": f"{problem}; try again in a few seconds"}, 429, {"Retry-After": "5"})

"""The routes: pages, JSON, server-sent events, metrics. The model is read by one thread; readers of events share it."""

import asyncio
import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, AsyncIterator, Callable, Dict, Optional, TypeVar

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from orchestrator.database import StoreError
from orchestrator.errors import EdgewardError
from orchestrator.exposition import CONTENT_TYPE
from orchestrator.gateway.doorkeeper import Doorkeeper
from orchestrator.gateway.web.guard import Guard, known_browser, session_token, set_browser, set_session
from orchestrator.gateway.web.metrics import render
from orchestrator.gateway.web.model import DashboardModel, to_json
from orchestrator.gateway.web.password import Login
from orchestrator.gateway.web.runview import RunView
from orchestrator.gateway.web.sessions import Sessions, TryLimit, address_of
from orchestrator.gateway.web.settings import WebSettings
from orchestrator.gateway.web.turns import BusyError, Turns
from orchestrator.mishaps import sentence

log = logging.getLogger("edgeward.dashboard")

STATIC = Path(__file__).parent / "static"
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_POLL_S = 0.5
_PING_S = 15.0
_MOST_STREAMS = 64
_MOST_BODY_BYTES = 4096
_BODY_S = 20.0
"""A login's body has come by then, or is not waited for."""
_FAILURE_PAUSE_S = 0.5
T = TypeVar("T")


class Dashboard:
    """The application and its state. `asgi` is what a server runs."""

    def __init__(self, model: DashboardModel, settings: WebSettings, doorkeeper: Doorkeeper, login: Login) -> None:
        self._doorkeeper = doorkeeper
        self._model, self._settings = model, settings
        self._login, self._sessions, self._limit = login, Sessions(), TryLimit()
        self._reader = ThreadPoolExecutor(1, "reader")
        self._hasher, self._turns = ThreadPoolExecutor(1, "password"), Turns()
        self._streams, self._complained = 0, ""
        self._sections: Dict[str, str] = {}
        self._changed = asyncio.Condition()
        self.stopping: Callable[[], bool] = lambda: False  # whether the server was told to end: open streams end then
        files = {path.name: path for path in STATIC.iterdir() if path.suffix in _TYPES}
        self._files = {name: (path.read_bytes(), _TYPES[path.suffix]) for name, path in files.items()}
        routes = [
            Route("/", self._page("index.html")),
            Route("/login", self._login_page),
            Route("/healthz", self._health),
            Route("/metrics", self._metrics),
            Route("/static/{name}", self._static),
            Route("/api/login", self._log_in, methods=["POST"]),
            Route("/api/logout", self._log_out, methods=["POST"]),
            Route("/api/session", self._session),
            Route("/api/overview", self._overview),
            Route("/api/runs", self._runs),
            Route("/statement/{run}", self._page("statement.html")),
            Route("/api/statement/{run}", self._statement),
            Route("/api/runs/{run:path}", self._run),
            Route("/api/boards", self._boards),
            Route("/api/audit", self._audit),
            Route("/api/events", self._events),
        ]
        handlers: Dict[Any, Any] = {EdgewardError: self._failed, Exception: self._failed}
        app = Starlette(routes=routes, lifespan=self._lifespan, exception_handlers=handlers)
        self._guard = Guard(app, settings, self._login, self._sessions, doorkeeper)
        self.asgi = self._guard

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            task.cancel()
            self._reader.shutdown(wait=False, cancel_futures=True)
            self._hasher.shutdown(wait=False, cancel_futures=True)

    async def _read(self, question: Callable[[], T]) -> T:
        """In the reader's thread. After a failure the store is opened again for the next question."""

        def answer() -> T:
            try:
                return question()
            except StoreError:
                self._model.forget()
                raise

        return await asyncio.get_running_loop().run_in_executor(self._reader, answer)

    async def _follow(self) -> None:
        """Reads the model while somebody looks, and wakes the streams when a section changed."""
        while not self.stopping():
            try:
                self._doorkeeper.look()
                if self._streams:
                    await self._refresh()
            except Exception as error:  # the page says so; the next look may succeed
                self._complain(error)
                await self._publish({"problem": to_json(sentence(error))})
            await asyncio.sleep(_POLL_S)
        async with self._changed:
            self._changed.notify_all()

    def _complain(self, error: Exception) -> None:
        """Once of what goes on being wrong."""
        if sentence(error) != self._complained:
            log.error("a page could not be answered: %s", sentence(error))
        self._complained = sentence(error)

    def _failed(self, request: Request, error: Exception) -> Response:
        """What a page gets that could not be made: of a store what is wrong and what to do, else where to look."""
        if not isinstance(error, EdgewardError):  # which the guard sees, too, and logs
            return JSONResponse({"error": "this cannot be answered now; the dashboard's log says why"}, 500)
        self._complain(error)
        return JSONResponse({"error": str(error)}, 503)

    async def _refresh(self) -> None:
        sections = await self._read(self._model.sections)
        self._complained = ""
        await self._publish({**{name: to_json(value) for name, value in sections.items()}, "problem": "null"})

    async def _publish(self, sections: Dict[str, str]) -> None:
        if any(self._sections.get(name) != text for name, text in sections.items()):
            async with self._changed:
                self._sections = {**self._sections, **sections}
                self._changed.notify_all()

    # Pages

    def _page(self, name: str) -> Callable[[Request], Response]:
        def page(request: Request) -> Response:
            body, kind = self._files[name]
            return Response(body, media_type=kind)

        return page

    def _login_page(self, request: Request) -> Response:
        if self._guard.knows(request):
            return RedirectResponse("/", 303)
        return self._page("login.html")(request)

    def _static(self, request: Request) -> Response:
        found = self._files.get(request.path_params["name"])
        if found is None:
            return PlainTextResponse("no such file\n", 404)
        return Response(found[0], media_type=found[1], headers={"Cache-Control": "no-cache"})

    def _health(self, request: Request) -> Response:
        return PlainTextResponse("ok\n")

    # Login

    async def _log_in(self, request: Request) -> Response:
        password = await _password(request)
        if password is None:
            return JSONResponse({"error": 'expected {"password": "..."}'}, 400)
        browser = known_browser(request, self._settings, self._login.key)
        address = address_of(request.client.host) if request.client else ""
        who = f"browser {browser}" if browser else address
        # From here to the count nothing is awaited: whatever comes at the same time, however slowly, is counted one by one.
        wait = self._limit.wait_s(who, known=bool(browser))
        if wait > 0:
            told = {"error": f"too many attempts; try again in {wait:.0f} s"}
            return JSONResponse(told, 429, {"Retry-After": str(int(wait) + 1)})
        self._limit.failed(who, known=bool(browser))  # until proven otherwise
        try:
            async with self._turns.turn(bool(browser)):
                right = await asyncio.get_running_loop().run_in_executor(self._hasher, self._login.accepts, password)
        except BusyError:
            return JSONResponse({"error": "too many attempts; try again in 10 s"}, 429, {"Retry-After": "10"})
        if not right:
            log.warning("wrong password from %s", address)
            await asyncio.sleep(_FAILURE_PAUSE_S)
            return JSONResponse({"error": "wrong password"}, 401)
        self._limit.succeeded(who)
        response = JSONResponse({"ok": True})
        set_browser(response, self._login.key, self._settings)
        set_session(response, self._sessions.begin(), self._settings)
        return response

    async def _log_out(self, request: Request) -> Response:
        self._sessions.end(session_token(request, self._settings))
        response = JSONResponse({"ok": True})
        set_session(response, "", self._settings)
        return response

    async def _session(self, request: Request) -> Response:
        return JSONResponse({"login_needed": self._login.configured, "logged_in": self._guard.knows(request)})

    # Data

    async def _answer(self, question: Callable[[], Any]) -> Response:
        return Response(to_json(await self._read(question)), media_type="application/json")

    async def _overview(self, request: Request) -> Response:
        return await self._answer(self._model.sections)

    async def _runs(self, request: Request) -> Response:
        return await self._answer(self._model.summaries)

    async def _run(self, request: Request) -> Response:
        return await self._of_run(request, self._model.run)

    async def _statement(self, request: Request) -> Response:
        return await self._of_run(request, self._model.statement)

    async def _of_run(self, request: Request, ask: Callable[[RunView], Dict[str, Any]]) -> Response:
        name = request.path_params["run"]

        def question() -> Optional[Dict[str, Any]]:
            view = self._model.view(name)
            return None if view is None else ask(view)

        try:
            found = await self._read(question)
        except StoreError:
            raise
        except EdgewardError as error:
            return JSONResponse({"error": str(error)}, 409)
        if found is None:
            return JSONResponse({"error": f"the store has no run {name!r}"}, 404)
        return Response(to_json(found), media_type="application/json")

    async def _boards(self, request: Request) -> Response:
        return await self._answer(self._model.boards)

    async def _audit(self, request: Request) -> Response:
        limit, before = request.query_params.get("limit", "100"), request.query_params.get("before", "")
        if not (limit.isdecimal() and len(limit) <= 4) or not 1 <= int(limit) <= 1000:
            return JSONResponse({"error": f"limit {limit!r}: expected 1 to 1000"}, 400)
        if before and not (before.isdecimal() and len(before) <= 12):
            return JSONResponse({"error": f"before {before!r}: expected the number of an entry"}, 400)
        return await self._answer(lambda: self._model.audit(int(limit), int(before) if before else None))

    async def _metrics(self, request: Request) -> Response:
        sections = await self._read(self._model.sections)
        return Response(render(sections, dict(self._model.counts)), headers={"Content-Type": CONTENT_TYPE})

    # Live

    async def _events(self, request: Request) -> Response:
        if self._streams >= _MOST_STREAMS:
            return JSONResponse({"error": f"{_MOST_STREAMS} pages are open already"}, 503)
        return StreamingResponse(self._stream(request), media_type="text/event-stream")

    async def _stream(self, request: Request) -> AsyncIterator[str]:
        """One event a changed section, named like it; the first look sends them all."""
        self._streams += 1
        sent: Dict[str, str] = {}
        spoke = time.monotonic()
        try:
            while not self.stopping():
                if not self._guard.knows(request):
                    yield "event: session\ndata: false\n\n"
                    return
                news = {name: text for name, text in self._sections.items() if sent.get(name) != text}
                if news:
                    yield "".join(f"event: {name}\ndata: {text}\n\n" for name, text in news.items())
                    sent, spoke = {**sent, **news}, time.monotonic()
                elif time.monotonic() - spoke > _PING_S:
                    yield ": still here\n\n"
                    spoke = time.monotonic()
                await self._wait_for_news(sent)
        finally:
            self._streams -= 1

    async def _wait_for_news(self, sent: Dict[str, str]) -> None:
        async with self._changed:
            with suppress(asyncio.TimeoutError):  # to look at the session again, and to say that we are there
                await asyncio.wait_for(self._changed.wait_for(lambda: self._sections != sent or self.stopping()), 5.0)


async def _body(request: Request) -> bytes:
    """ValueError for one that is too long."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MOST_BODY_BYTES:
            raise ValueError("too long")
    return body


async def _password(request: Request) -> Optional[str]:
    """The password in the body; None for anything else, and for bodies no login has or that are held back."""
    try:
        body = await asyncio.wait_for(_body(request), _BODY_S)
        found = json.loads(body)
    except (ValueError, RecursionError, asyncio.TimeoutError, ClientDisconnect):
        return None
    password = found.get("password") if isinstance(found, dict) else None
    return password if isinstance(password, str) else None

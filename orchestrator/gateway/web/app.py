"""The routes: pages, JSON, server-sent events, metrics. The model is read by one thread; readers of events share it."""

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Any, AsyncIterator, Callable, Dict, Optional, Tuple, TypeVar

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from orchestrator.database import StoreError
from orchestrator.errors import EdgewardError
from orchestrator.exposition import CONTENT_TYPE
from orchestrator.gateway.doorkeeper import Doorkeeper
from orchestrator.gateway.web.control import Control
from orchestrator.gateway.web.fleet_routes import FleetRoutes
from orchestrator.gateway.web.guard import Guard
from orchestrator.gateway.web.login_routes import LoginRoutes
from orchestrator.gateway.web.metrics import render
from orchestrator.gateway.web.model import DashboardModel
from orchestrator.gateway.web.news import News
from orchestrator.gateway.web.parts import Parts, events_between, parts_of, server_event, to_json
from orchestrator.gateway.web.password import Login
from orchestrator.gateway.web.run_routes import RunRoutes
from orchestrator.gateway.web.settings import WebSettings
from orchestrator.gateway.web.static_files import read_static, version_of
from orchestrator.mishaps import sentence

log = logging.getLogger("edgeward.dashboard")

_POLL_S = 0.5
BEAT_S = 3.0
"""Between two events that say that this process is there, and since when it read the store."""
MOST_STREAMS = 64
_STREAM = "text/event-stream"
T = TypeVar("T")


class Dashboard:
    """The application and its state. `asgi` is what a server runs."""

    def __init__(self, model: DashboardModel, settings: WebSettings, doorkeeper: Doorkeeper, login: Login) -> None:
        self._doorkeeper = doorkeeper
        self._model, self._settings = model, settings
        self._reader = ThreadPoolExecutor(1, "reader")
        self._logins = LoginRoutes(login, settings)
        self._streams, self._complained = 0, ""
        self.news = News()
        self._read_at = 0.0
        self._heard_at: Optional[float] = None  # see DashboardModel.heard_at
        self._wanted = asyncio.Event()  # somebody looks who has nothing yet
        self.stopping: Callable[[], bool] = lambda: False  # whether the server is to end: open streams end then
        self._files = read_static()
        self.version = version_of(self._files)
        self.control = Control(model, login, self._read)
        routes = [
            Route("/", self._page("index.html")),
            Route("/login", self._login_page),
            Route("/healthz", self._health),
            Route("/metrics", self._metrics),
            Route("/static/{name}", self._static),
            *self._logins.routes,
            Route("/api/session", self._session),
            Route("/api/overview", self._overview),
            Route("/api/runs", self._runs),
            *RunRoutes(model, self._read, self._page).routes,
            *self.control.routes,
            Route("/api/boards", self._boards),
            *FleetRoutes(model, self._read).routes,
            Route("/api/audit", self._audit),
            Route("/api/events", self._events),
        ]
        handlers: Dict[Any, Any] = {EdgewardError: self._failed, Exception: self._failed}
        app = Starlette(routes=routes, lifespan=self._lifespan, exception_handlers=handlers)
        self._guard = Guard(app, settings, login, self._logins.sessions, doorkeeper)
        self.asgi = self._guard

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            task.cancel()
            self._reader.shutdown(wait=False, cancel_futures=True)
            self._logins.close()

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
        """Reads the model while somebody looks, and wakes the streams when a part changed."""
        while not self.stopping():
            try:
                self._doorkeeper.look()
                if self._streams:
                    await self._refresh()
                else:
                    self.news.forget()
            except Exception as error:  # the page says so; the next look may succeed
                self._complain(error)
                self.news.publish({**self.news.parts, ("problem", ""): to_json(sentence(error))})
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), _POLL_S)
            self._wanted.clear()
        self.news.wake()

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
        def question() -> Tuple[Parts, Optional[float]]:
            return parts_of(self._model.sections()), self._model.heard_at

        parts, self._heard_at = await self._read(question)
        self._complained = ""
        self._read_at = self._model.now()
        self.news.publish({**parts, ("problem", ""): "null"})

    # Pages

    def _page(self, name: str) -> Callable[[Request], Response]:
        def page(request: Request) -> Response:
            return self._files[name].response(request)

        return page

    def _login_page(self, request: Request) -> Response:
        if self._guard.knows(request):
            return RedirectResponse("/", 303)
        return self._page("login.html")(request)

    def _static(self, request: Request) -> Response:
        found = self._files.get(request.path_params["name"])
        if found is None:
            return PlainTextResponse("no such file\n", 404)
        return found.response(request, **{"Cache-Control": "no-cache"})

    def _health(self, request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _session(self, request: Request) -> Response:
        return JSONResponse({"login_needed": self._logins.needed, "logged_in": self._guard.knows(request)})

    # Data

    async def _answer(self, question: Callable[[], Any]) -> Response:
        return Response(to_json(await self._read(question)), media_type="application/json")

    async def _overview(self, request: Request) -> Response:
        return await self._answer(self._model.sections)

    async def _runs(self, request: Request) -> Response:
        return await self._answer(self._model.summaries)

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
        model = self._model
        sections, heard_at, fleet = await self._read(lambda: (model.sections(), model.heard_at, model.fleet()))
        page = render(sections, dict(model.counts), heard_at, fleet)
        return Response(page, headers={"Content-Type": CONTENT_TYPE})

    # Live

    async def _events(self, request: Request) -> ASGIApp:
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            if self._streams >= MOST_STREAMS or request.method == "HEAD":
                few = self._streams < MOST_STREAMS
                problem = JSONResponse({"error": f"{MOST_STREAMS} pages are open already"}, 503)
                await (Response(media_type=_STREAM) if few else problem)(scope, receive, send)
                return
            self._streams += 1  # nothing was awaited since the look: who asks at the same time is counted
            if not self.news.parts:
                self._wanted.set()
            try:
                await StreamingResponse(self._stream(request), media_type=_STREAM)(scope, receive, send)
            finally:
                self._streams -= 1

        return answer

    async def _stream(self, request: Request) -> AsyncIterator[str]:
        """`begin`, then all parts, then those that changed; after each lot `done`, so that nobody draws half of one.

        Between them `beat`; at the end `bye`, or `session` where the login is over.
        """
        sent: Parts = {}
        spoke = 0.0
        yield server_event("begin", to_json({"quiet_s": self._settings.quiet_s, "files": self.version}))
        while not self.stopping():
            if not self._guard.knows(request):
                yield server_event("session", "false")
                return
            parts = self.news.parts
            if parts is not sent and parts:
                for event in events_between(sent, parts):
                    yield event
                sent = parts
                yield server_event("done", self._times())
                spoke = time.monotonic()
            elif time.monotonic() - spoke > BEAT_S:
                yield server_event("beat", self._times())
                spoke = time.monotonic()
            if not self.stopping():  # in time to look at the session again, and to say that we are there
                await self.news.wait(sent, BEAT_S)
        yield server_event("bye", self._times())

    def _times(self) -> str:
        """JSON of Unix seconds by this machine's clock: a browser's may be wrong."""
        return to_json({"now": self._model.now(), "read_at": self._read_at or None, "heard_at": self._heard_at})

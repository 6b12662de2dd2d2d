"""The fleet: a page that needs no script, and its JSON."""

from typing import Any, Awaitable, Callable

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from orchestrator.gateway.web.fleet_page import fleet_page
from orchestrator.gateway.web.model import DashboardModel
from orchestrator.gateway.web.parts import to_json

_MOST_DIGITS = 6
MOST_WORDS = 200


class FleetRoutes:
    """`read` asks the model in its thread."""

    def __init__(self, model: DashboardModel, read: Callable[[Callable[[], Any]], Awaitable[Any]]) -> None:
        self._model, self._read = model, read
        self.routes = [Route("/fleet", self._page), Route("/api/fleet", self._json)]

    async def _json(self, request: Request) -> Response:
        return Response(await self._read(lambda: to_json(self._model.fleet())), media_type="application/json")

    async def _page(self, request: Request) -> Response:
        page, wanted = request.query_params.get("page", "1"), request.query_params.get("q", "")
        if not (page.isdecimal() and len(page) <= _MOST_DIGITS):
            return JSONResponse({"error": f"page {page[:40]!r}: expected a number"}, 400)
        return HTMLResponse(await self._read(lambda: fleet_page(self._model.fleet(), int(page), wanted[:MOST_WORDS])))

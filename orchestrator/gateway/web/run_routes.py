"""What is asked of single runs, and of a few beside each other: statements, comparisons, nodes, files; and notes, to be kept."""

from typing import IO, Any, Awaitable, Callable, Iterator, List, Optional, Tuple, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from orchestrator.database import StoreError
from orchestrator.errors import EdgewardError, UsageError
from orchestrator.gateway.notes import checked, put_note
from orchestrator.gateway.web.bodies import json_body
from orchestrator.gateway.web.delivered import compared
from orchestrator.gateway.web.model import DashboardModel
from orchestrator.gateway.web.parts import page_of, parts_of, to_json
from orchestrator.gateway.web.run_files import open_file
from orchestrator.gateway.web.runview import RunView

MOST_COMPARED = 6
_CHUNK = 64 << 10
T = TypeVar("T")
Read = Callable[[Callable[[], Any]], Awaitable[Any]]
Page = Callable[[str], Callable[[Request], Response]]


class RunRoutes:
    """`read` asks the model in its thread; `page` gives the handler of a file of static/."""

    def __init__(self, model: DashboardModel, read: Read, page: Page) -> None:
        self._model, self._read = model, read
        self.routes = [
            Route("/statement/{run}", page("statement.html")),
            Route("/node/{run}/{node}", page("node.html")),
            Route("/files/{run}/{name}", self._file),
            Route("/api/runs/{run:path}", self._run),
            Route("/api/page/{run:path}", self._run_in_parts),
            Route("/api/compare", self._compare),
            Route("/api/statement/{run}", self._statement),
            Route("/api/nodes/{run}/{node}", self._node),
            Route("/api/notes/{run}", self._note, methods=["POST"]),
        ]

    async def _run(self, request: Request) -> Response:
        return await self._of_run(request, self._model.run, to_json)

    async def _run_in_parts(self, request: Request) -> Response:
        return await self._of_run(request, lambda view: parts_of(self._model.run(view)), page_of)

    async def _statement(self, request: Request) -> Response:
        return await self._of_run(request, self._model.statement, to_json)

    async def _node(self, request: Request) -> Response:
        node = request.path_params["node"]
        return await self._of_run(request, lambda view: self._model.node(view, node), to_json, f"no node {node!r}")

    async def _of_run(
        self, request: Request, ask: Callable[[RunView], Optional[T]], write: Callable[[T], str], no: str = ""
    ) -> Response:
        """The answer to a question about the run in the path; `no`: what it lacks where that is None."""
        name = request.path_params["run"]

        def question() -> Tuple[bool, Optional[str]]:
            view = self._model.view(name)
            found = None if view is None else ask(view)
            return view is not None, None if found is None else write(found)

        try:
            there, found = await self._read(question)
        except StoreError:
            raise  # of the store and not of this run: logged, and said with the page's own status
        except EdgewardError as error:
            return JSONResponse({"error": str(error)}, 409)
        if found is None:
            return JSONResponse({"error": f"run {name!r} has {no}" if there else f"the store has no run {name!r}"}, 404)
        return Response(found, media_type="application/json")

    async def _compare(self, request: Request) -> Response:
        names: List[str] = list(dict.fromkeys(request.query_params.getlist("run")))
        if not 1 <= len(names) <= MOST_COMPARED:
            return JSONResponse({"error": f"{len(names)} runs: expected run=NAME, 1 to {MOST_COMPARED} times"}, 400)

        def question() -> Any:
            views = {name: self._model.view(name) for name in names}
            missing = [name for name, view in views.items() if view is None]
            if missing:
                return missing
            return compared([(view, self._model.report(name)) for name, view in views.items() if view is not None])

        try:
            found = await self._read(question)
        except StoreError:
            raise
        except EdgewardError as error:
            return JSONResponse({"error": str(error)}, 409)
        if isinstance(found, list):
            return JSONResponse({"error": f"the store has no run {found[0]!r}"}, 404)
        return Response(to_json(found), media_type="application/json")

    async def _file(self, request: Request) -> Response:
        run, name = request.path_params["run"], request.path_params["name"]
        there, report = await self._read(lambda: (run in self._model.runs(), self._model.report(run)))
        if not there:
            return JSONResponse({"error": f"the store has no run {run!r}"}, 404)
        try:
            content, kind, saved_as = await run_in_threadpool(open_file, self._model.out, run, name, report)
        except EdgewardError as error:
            return JSONResponse({"error": str(error)}, 404)
        headers = {"Content-Disposition": f'attachment; filename="{saved_as}"'}
        return StreamingResponse(_parts(content), media_type=kind, headers=headers)

    async def _note(self, request: Request) -> Response:
        """Written to the store by a connection of its own; the dashboard's other one only reads."""
        run, said = request.path_params["run"], await json_body(request)
        if said is None:
            return JSONResponse({"error": 'expected {"note": "...", "tags": ["...", ...]}'}, 400)
        try:
            note, tags = checked(said.get("note"), said.get("tags"))
        except UsageError as error:
            return JSONResponse({"error": str(error)}, 400)
        if run not in await self._read(self._model.runs):
            return JSONResponse({"error": f"the store has no run {run!r}"}, 404)
        try:
            await run_in_threadpool(put_note, self._model.store_path, run, note, tags)
        except EdgewardError as error:
            return JSONResponse({"error": str(error)}, 503)
        return JSONResponse({"note": note, "tags": tags})


def _parts(content: IO[bytes]) -> Iterator[bytes]:
    with content:
        while part := content.read(_CHUNK):
            yield part

"""Streams of the pages, whatever becomes of those that read them."""

import asyncio
from pathlib import Path
from typing import List

import anyio
from dashboards import make_store

from orchestrator.gateway.doorkeeper import Doorkeeper
from orchestrator.gateway.web import app
from orchestrator.gateway.web.app import Dashboard
from orchestrator.gateway.web.listener import Listener
from orchestrator.gateway.web.model import DashboardModel
from orchestrator.gateway.web.password import Login
from orchestrator.gateway.web.settings import WebSettings

ENOUGH_S = 120.0


def dashboard_of(out: Path) -> Dashboard:
    model = DashboardModel(out, "test", Listener(None, "test"))
    return Dashboard(model, WebSettings("127.0.0.1", 0), Doorkeeper(), Login(out))


def test_who_leaves_while_news_come_stops_nobody(tmp_path: Path) -> None:
    """A server cancels the answer of a reader who is gone again and again, until it ends: in a wait for a lock as well."""
    make_store(tmp_path)
    dashboard = dashboard_of(tmp_path)
    failures: List[BaseException] = []

    async def reader(scopes: List[anyio.CancelScope]) -> None:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            try:
                while True:
                    await dashboard.news.wait(dashboard.news.parts, app.BEAT_S)
            except Exception as error:
                failures.append(error)

    async def scene() -> None:
        for number in range(60):
            scopes: List[anyio.CancelScope] = []
            tasks = [asyncio.create_task(reader(scopes)) for _ in range(8)]
            await asyncio.sleep(0)
            for _ in range(number % 5):
                await asyncio.sleep(0)
            dashboard.news.parts = {("section", ""): str(number)}
            await wake(dashboard)
            for scope in scopes[: len(scopes) // 2 + number % 4]:
                scope.cancel()
            await asyncio.sleep(0.001)
            for scope in scopes:
                scope.cancel()
            await asyncio.wait_for(asyncio.gather(*tasks), ENOUGH_S)
        waiting = asyncio.create_task(dashboard.news.wait(dashboard.news.parts, app.BEAT_S))
        await asyncio.sleep(0.01)
        dashboard.news.forget()
        await asyncio.wait_for(wake(dashboard), ENOUGH_S)
        await asyncio.wait_for(waiting, ENOUGH_S)

    asyncio.run(scene())
    assert failures == []


async def wake(dashboard: Dashboard) -> None:
    dashboard.news.wake()


def test_a_stream_does_not_wait_where_there_is_news(tmp_path: Path) -> None:
    make_store(tmp_path)
    dashboard = dashboard_of(tmp_path)

    async def scene() -> None:
        dashboard.news.publish({("section", ""): "1"})
        await asyncio.wait_for(dashboard.news.wait({}, app.BEAT_S), app.BEAT_S * 100)
        waiting = asyncio.create_task(dashboard.news.wait(dashboard.news.parts, app.BEAT_S))
        await asyncio.sleep(0)
        dashboard.news.publish({("section", ""): "2"})
        await asyncio.wait_for(waiting, app.BEAT_S * 100)

    asyncio.run(scene())

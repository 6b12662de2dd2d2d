"""Connections that ask a lot and read nothing: they take no page from others, and little memory."""

import http.client
import socket
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Dict, List

import pytest
import uvicorn
from dashboards import PASSWORD, Client, dashboard, make_store

from orchestrator.gateway.doorkeeper import ANSWER_S, STUCK_S, Doorkeeper
from orchestrator.gateway.web import app, server
from orchestrator.gateway.web.password import Login
from orchestrator.gateway.web.settings import WebSettings
from orchestrator.wire.process import peak_memory_mib


class Held:
    """What a doorkeeper asks of a socket."""

    ended = False

    def fileno(self) -> int:
        return -1 if self.ended else 5

    def shutdown(self, _: int) -> None:
        self.ended = True


def answering(keeper: Doorkeeper, address: str, count: int) -> List[Held]:
    """So many connections of an address, all of which asked and have no answer yet."""
    found = [Held() for _ in range(count)]
    for number, connection in enumerate(found):
        assert keeper.let_in(connection, (address, number))  # type: ignore[arg-type]
        keeper.asks((address, number))
    return found


def test_who_takes_no_answer_makes_room_for_the_next() -> None:
    now = [0.0]
    keeper = Doorkeeper(lambda: now[0], most=8)
    held = answering(keeper, "a", 8)
    late = Held()
    assert not keeper.let_in(late, ("a", 100))  # type: ignore[arg-type]
    now[0] = STUCK_S - 0.1
    for number in range(1, 8):
        keeper.asks(("a", number))  # all but the first accepted a part
    assert not keeper.let_in(late, ("a", 100))  # type: ignore[arg-type]
    now[0] = STUCK_S
    assert keeper.let_in(late, ("a", 100))  # type: ignore[arg-type]
    assert [connection.ended for connection in held] == [True] + 7 * [False]
    keeper.asks(("a", 100))
    assert not keeper.let_in(Held(), ("a", 101))  # type: ignore[arg-type]
    assert keeper.refused == 3


def test_a_crowd_of_one_address_shuts_out_itself_alone() -> None:
    keeper = Doorkeeper(lambda: 0.0, most=8)
    crowd = answering(keeper, "a", 8)
    assert keeper.let_in(Held(), ("b", 1))  # type: ignore[arg-type]
    assert crowd[0].ended
    keeper.asks(("b", 1))
    assert keeper.let_in(Held(), ("b", 2))  # type: ignore[arg-type]
    keeper.asks(("b", 2))
    assert not keeper.let_in(Held(), ("b", 3))  # type: ignore[arg-type]
    assert sum(connection.ended for connection in crowd) == 2
    assert not keeper.let_in(Held(), ("a", 9))  # type: ignore[arg-type]


def test_a_broker_keeps_who_is_connected() -> None:
    now = [0.0]
    keeper = Doorkeeper(lambda: now[0], most=4, answers_end=False)
    held = answering(keeper, "a", 4)
    now[0] = ANSWER_S + STUCK_S
    keeper.look()
    assert not keeper.let_in(Held(), ("b", 1))  # type: ignore[arg-type]
    assert not any(connection.ended for connection in held)


def ask_much(client: Client, path: str, times: int) -> socket.socket:
    """A connection that asks so often without reading; what it sends is cut off where nobody takes it any more."""
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.settimeout(20)
    deaf.connect((client.host, client.port))
    deaf.settimeout(0.1)
    with suppress(OSError):  # the other end takes no more: that is what is tried here
        deaf.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() * times)
    return deaf


def test_a_crowd_that_reads_nothing_closes_no_page(tmp_path: Path) -> None:
    make_store(tmp_path)
    Login(tmp_path).set_password(PASSWORD)
    with ExitStack() as stack:
        client, process = stack.enter_context(dashboard(tmp_path))
        assert client.log_in(PASSWORD)[0] == 200
        before = peak_memory_mib(str(process.pid))
        crowd = [stack.enter_context(ask_much(client, "/static/style.css", 3000)) for _ in range(100)]
        assert len(crowd) == 100
        assert client.ask("/api/runs")[0] == 200
        assert peak_memory_mib(str(process.pid)) - before < 100 * 0.2


def test_no_more_streams_than_there_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_store(tmp_path)
    with ExitStack() as stack:
        client, _ = stack.enter_context(dashboard(tmp_path))
        sockets = []
        for _ in range(app.MOST_STREAMS + 30):
            link = stack.enter_context(socket.create_connection((client.host, client.port), 60))
            sockets.append(link)
        for link in sockets:
            link.sendall(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answers = [link.recv(12) for link in sockets]
        assert answers.count(b"HTTP/1.1 200") == app.MOST_STREAMS
        assert answers.count(b"HTTP/1.1 503") == 30
        for link in sockets:
            link.close()
        deadline = time.monotonic() + 600
        while client.ask("/api/events", "HEAD")[0] != 200:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        fresh = http.client.HTTPConnection(client.host, client.port, timeout=600)
        fresh.request("GET", "/api/events")
        assert fresh.getresponse().status == 200
        fresh.close()


def test_the_head_of_a_request_is_read_with_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """uvicorn takes another parser, without one, wherever that is installed."""
    told: Dict[str, Any] = {}

    class SeenError(Exception):
        pass

    def config(*_: Any, **options: Any) -> None:
        told.update(options)
        raise SeenError

    monkeypatch.setattr(uvicorn, "Config", config)
    with socket.socket() as listening, pytest.raises(SeenError):
        server.serve(tmp_path, WebSettings("127.0.0.1", 0), listening, "test", None)
    assert told["http"] == "h11"
    make_store(tmp_path)
    with dashboard(tmp_path) as (client, _), socket.create_connection((client.host, client.port), 60) as link:
        link.settimeout(60)
        link.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        answer = b""
        with suppress(OSError):  # ended while we went on
            for _ in range(200):
                link.sendall(b"X: " + b"y" * 4000 + b"\r\n")
            answer = link.recv(12)
        assert answer in (b"HTTP/1.1 400", b"HTTP/1.1 431", b"")
        assert client.ask("/healthz")[0] == 200

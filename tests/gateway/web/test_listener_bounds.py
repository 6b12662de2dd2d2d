"""What the dashboard keeps of boards and nodes is bounded in number, bytes and time, whoever sends it."""

import json
from typing import Any, Dict

import pytest

from orchestrator.errors import BrokerError
from orchestrator.gateway.web import boards as boards_module
from orchestrator.gateway.web import listener as listener_module
from orchestrator.gateway.web.boards import MOST_BOARDS, MOST_SHOWN_BYTES, Boards
from orchestrator.gateway.web.listener import Listener
from orchestrator.gateway.web.model import to_json
from orchestrator.wire.body import encode_body
from orchestrator.wire.link import BrokerAddress, Message
from orchestrator.wire.presence import MOST_ENTRIES


def record(kind: str, **fields: Any) -> Dict[str, Any]:
    return {"kind": kind, "boot": "0a0b0c0d", "seq": 1, "model": None, "t_us": 1, **fields}


def test_many_boards_cost_little() -> None:
    boards = Boards()
    long = {f"n{i}": "x" * 90 for i in range(50)}
    for at in range(MOST_BOARDS + 20):
        for kind in ("metrics", "drift", "info", "model", "boot", "error", "detect", "selftest"):
            boards.take(f"b{at}", record(kind, **long), float(at))
    for _ in range(300):
        boards.take("b7", record("metrics", inferences=1, psi=0.5), 1.0)
    shown = boards.shown()
    assert len(shown) == MOST_BOARDS
    assert max(len(json.dumps([b["metrics"], b["drift"], b["error"]])) for b in shown) < 2 * MOST_SHOWN_BYTES
    assert len(next(b for b in shown if b["board"] == "b7")["history"]) < 60
    assert len(to_json(shown)) < MOST_BOARDS * 2 * MOST_SHOWN_BYTES


def test_a_silent_board_gives_way_and_one_that_speaks_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boards_module, "MOST_BOARDS", 2)
    boards = Boards()
    assert boards.take("a", record("boot"), 0.0)
    assert boards.take("b", record("boot"), 500.0)
    assert not boards.take("c", record("boot"), 599.0)
    assert boards.take("c", record("boot"), 601.0)
    assert [board["board"] for board in boards.shown()] == ["b", "c"]


def test_a_sequence_that_wraps_or_starts_again_loses_nothing() -> None:
    boards = Boards()
    for boot, seq in (("a", 2**32 - 1), ("a", 0), ("a", 2), ("b", 9)):
        boards.take("x", {**record("boot"), "boot": boot, "seq": seq}, 0.0)
    assert (boards.shown()[0]["lost"], boards.shown()[0]["boots"]) == (1, 2)


def test_labels_and_figures_of_nodes_are_few_and_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    listener = Listener(None, "f")
    labels = {f"label-{i}": "x" * 200 for i in range(60)}
    figures = {"memory_mib": "<b>", "sent_bytes": 5, "received_bytes": float("nan")}
    body = encode_body({"v": 1, "kind": "hello", "labels": labels, "process": figures, "health": [1]})
    listener.take(Message("edgeward/1/f/node/a/presence", body), 0.0)
    said = listener.presence()["a"]
    assert len(said["labels"]) == MOST_ENTRIES
    assert max(map(len, said["labels"].values())) == 100
    assert (said["process"], said["health"]) == ({"sent_bytes": 5}, {})
    monkeypatch.setattr(listener_module, "_MOST_NODES", 1)
    listener.take(Message("edgeward/1/f/node/b/presence", body), 10.0)
    assert set(listener.presence()) == {"a"}
    listener.take(Message("edgeward/1/f/node/b/presence", body), 4000.0)
    assert set(listener.presence()) == {"b"}


def test_listening_goes_on_after_any_error(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """One connection fails with what nobody thought of; the next is tried, and the page says why."""
    tries = []

    class Broken:
        def __init__(self, *_: Any) -> None:
            tries.append(listener.state)
            if len(tries) == 2:
                listener._stop.set()
                raise BrokerError("no broker")
            raise OverflowError("nobody\nthought of it")

    monkeypatch.setattr(listener_module, "Link", Broken)
    monkeypatch.setattr(listener_module, "_AGAIN_S", 0.0)
    listener = Listener(BrokerAddress("127.0.0.1", 1), "f")
    listener._listen()
    assert tries == ["connecting", "begins again after an error: nobody\\x0athought of it"]
    assert "OverflowError" in caplog.text

"""What an owner's tool takes for a board's answer to an order, of all that a broker can deliver."""

from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Deque, List, Optional

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrator.boards.conversation import BoardError, NoAnswerError
from orchestrator.boards.fleet_file import Fleet
from orchestrator.boards.network_board import NetworkBoard
from orchestrator.boards.orders import Numbers
from orchestrator.boards.protocol import Record

LAST = 10**15
FIRST = LAST + 2
"""The number of the first order: a conversation takes one before it."""


def board(said: List[Record]) -> NetworkBoard:
    """One that says this, whatever it is asked. Every record bears the board's mark."""
    waiting: Deque[Record] = deque(said)

    def take(_: str, __: float) -> Optional[Record]:
        return waiting.popleft() if waiting else None

    fleet = Fleet(Path("fleet"), "f", {"b": bytes(32)})
    link: Any = SimpleNamespace(fleet=fleet, send=lambda *_: None, take=take)
    return NetworkBoard(link, "b", Ed25519PrivateKey.generate(), Numbers(LAST), timeout_s=0.2)


def record(seq: int, kind: str = "selftest", **fields: Any) -> Record:
    return Record("0a0b0c0d", seq, None, 1, kind, 1, fields)


def test_what_came_at_once_with_an_answer_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """A board that restarts when it has answered: its boot may come in the same piece."""

    far = board([])
    piece = [record(1, "error", code="x"), record(2, "settings", id=7), record(3, "boot")]
    monkeypatch.setattr(far, "read", lambda: piece)
    assert [answer.kind for answer in far.exchange([], [7], "settings", 1.0)] == ["settings"]
    piece = []
    assert far.wait_for("boot", "settings").seq == 3


def refused(code: str, **number: int) -> Record:
    return record(1, "order", state="refused", code=code, reason="so", **number)


def test_an_answer_is_to_one_order() -> None:
    """A broker that keeps an answer back, and delivers one of before in its place, delivers nothing."""
    good = record(1, order=FIRST, rows=2, mismatches=0)
    far = board([good, good, good, record(2, order=FIRST + 1, rows=2, mismatches=1)])
    assert far.selftest()["mismatches"] == 0
    assert far.selftest()["mismatches"] == 1
    with pytest.raises(NoAnswerError):
        board([record(1, order=FIRST - 2, rows=2, mismatches=0)]).selftest()


@pytest.mark.parametrize("code", ["bad_mac", "bad_order", "not_addressed", "old_order", "not_ordered"])
def test_a_refusal_that_anybody_can_bring_about_is_no_answer(code: str) -> None:
    """Else a broker has the owner believe that an order is refused, which it delivers later."""
    far = board([refused(code, claimed=FIRST), record(2, order=FIRST, rows=2, mismatches=0)])
    assert far.selftest()["mismatches"] == 0


@pytest.mark.parametrize(
    "said",
    [
        refused("bad_signature", claimed=FIRST),
        refused("flash_failed", claimed=FIRST),
        refused("not_by_order", order=FIRST),
    ],
)
def test_a_refusal_that_only_the_order_brings_about_is_one(said: Record) -> None:
    with pytest.raises(BoardError, match="order refused"):
        board([said]).selftest()

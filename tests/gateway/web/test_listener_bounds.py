"""What the dashboard keeps of boards and nodes is bounded in number, bytes and time, no matter who sends it."""

import asyncio
import json
from pathlib import Path
from typing import Any, Dict, List

import pytest

from orchestrator.errors import BrokerError, EdgewardError
from orchestrator.gateway.doorkeeper import ANSWER_S, ASK_S, Doorkeeper
from orchestrator.gateway.web import boards as boards_module
from orchestrator.gateway.web import listener as listener_module
from orchestrator.gateway.web.boards import MOST_BOARDS, MOST_SHOWN_BYTES, Boards
from orchestrator.gateway.web.browsers import browser_of, new_browser
from orchestrator.gateway.web.listener import Listener
from orchestrator.gateway.web.parts import to_json
from orchestrator.gateway.web.password import FILE_NAME, Login
from orchestrator.gateway.web.sessions import FREE_TRIES, TryLimit
from orchestrator.gateway.web.turns import (
    GUESSER,
    KNOWN,
    MOST_PAUSING,
    MOST_WAITING,
    STRANGER,
    BusyError,
    Pauses,
    Turns,
)
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


class Ended:
    """In place of a connection: whether it was ended, and closed."""

    def __init__(self) -> None:
        self.ended = self.closed = False

    def fileno(self) -> int:
        return -1 if self.closed else 5

    def shutdown(self, _: int) -> None:
        self.ended = self.closed = True


def test_a_doorkeeper_ends_the_silent_and_nobody_else() -> None:
    now = [0.0]
    keeper = Doorkeeper(lambda: now[0], most=3)
    first, second, third, fourth, fifth = (Ended() for _ in range(5))
    for number, connection in enumerate((first, second, third)):
        assert keeper.let_in(connection, ("h", number))  # type: ignore[arg-type]
    keeper.asks(("h", 0))
    assert keeper.let_in(fourth, ("h", 3))  # type: ignore[arg-type]
    assert [c.ended for c in (first, second, third, fourth)] == [False, True, False, False]
    for number in (2, 3):
        keeper.asks(("h", number))
    assert not keeper.let_in(fifth, ("h", 4))  # type: ignore[arg-type]
    now[0] = ASK_S + 1
    keeper.look()
    assert not any(c.ended for c in (first, third, fourth))
    third.closed = True
    assert keeper.let_in(fifth, ("h", 4))  # type: ignore[arg-type]
    now[0] += ASK_S - 1
    keeper.look()
    assert not fifth.ended
    now[0] += 1
    keeper.look()
    assert fifth.ended
    # Who was answered is silent again, and who takes nothing of an answer is ended in time.
    keeper.answered(("h", 0))
    now[0] += ASK_S
    keeper.look()
    assert (first.ended, fourth.ended) == (True, False)
    keeper.asks(("h", 3))
    now[0] += ANSWER_S - 1
    keeper.look()
    assert not fourth.ended
    now[0] += 1
    keeper.look()
    assert fourth.ended
    assert keeper.refused == 1


def test_a_known_browser_is_known_by_its_cookie_alone() -> None:
    key = b"k" * 32
    cookie = new_browser(key)
    name = browser_of(cookie, key)
    assert name
    assert cookie != new_browser(key)
    for wrong in ("", ".", name, f"{name}.", f"x{cookie}", f"{cookie}\u00e9", "a.b"):
        assert browser_of(wrong, key) == ""
    assert browser_of(cookie, b"another password") == ""
    assert browser_of(f".{'0' * 64}", b"") == ""


def test_strangers_together_do_not_lock_a_known_browser_out() -> None:
    limit = TryLimit(lambda: 0.0)
    for number in range(200):
        limit.failed(str(number))
    assert limit.wait_s("7") > 0
    assert limit.wait_s("browser b", known=True) == 0.0
    for _ in range(FREE_TRIES):
        limit.failed("browser b", known=True)
    assert limit.wait_s("browser b", known=True) > 0


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"password": null}',
        '{"password": {}}',
        "[" * 5000,
        '{"metrics_token_sha256": 5}',
        "\xff",
    ],
)
def test_a_damaged_login_file_lets_nobody_in(tmp_path: Path, content: str) -> None:
    path = tmp_path / FILE_NAME
    path.write_bytes(content.encode("latin-1"))
    login = Login(tmp_path)
    with pytest.raises(EdgewardError, match="gateway password"):
        assert login.configured
    assert login.needed
    with pytest.raises(EdgewardError):
        login.accepts("")


def test_a_lost_login_file_lets_nobody_in_and_a_token_ends_no_session(tmp_path: Path) -> None:
    login = Login(tmp_path)
    assert not login.configured
    Login(tmp_path).set_password("a long password")
    assert login.configured
    version, key = login.version, login.key
    Login(tmp_path).new_token()
    assert (login.version, login.key) == (version, key)
    assert not login.accepts("\ud800")
    assert not login.accepts_token("\ud800")
    (tmp_path / FILE_NAME).unlink()
    with pytest.raises(EdgewardError, match="is gone"):
        assert login.configured
    assert Login(tmp_path, needed=True).needed
    assert not Login(tmp_path).needed


def test_a_crowd_of_guesses_that_paused_turns_nobody_away_who_did_not_guess() -> None:
    async def run() -> List[str]:
        turns, done, go = Turns(), [], asyncio.Event()

        async def one(name: str, rank: int) -> None:
            try:
                async with turns.turn(rank):
                    done.append(name)
                    await go.wait()
            except BusyError:
                done.append(f"{name} gave up")

        first = asyncio.create_task(one("first", GUESSER))
        await asyncio.sleep(0)
        owner = [asyncio.create_task(one("owner", STRANGER)), asyncio.create_task(one("known", KNOWN))]
        await asyncio.sleep(0)
        crowd = [asyncio.create_task(one("guess", GUESSER)) for _ in range(3 * MOST_WAITING)]
        await asyncio.sleep(0)
        go.set()
        await asyncio.gather(first, *owner, *crowd)
        return done

    done = [name for name in asyncio.run(run()) if name != "guess gave up"]
    assert done[:3] == ["first", "known", "owner"]
    assert done[3:] == ["guess"] * MOST_WAITING


def test_pauses_are_bounded_and_leave_nothing_behind() -> None:
    async def run() -> None:
        pauses = Pauses()
        left = asyncio.create_task(pauses.wait("a", 60.0))
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        assert not pauses.waiting, "a client that left holds no place"
        waiting = [asyncio.create_task(pauses.wait(str(number), 60.0)) for number in range(MOST_PAUSING)]
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await pauses.wait("one more", 60.0)
        older = waiting[0]
        newer = asyncio.create_task(pauses.wait("0", 0.0))
        await newer
        with pytest.raises(BusyError):
            await older
        for task in waiting[1:]:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert not pauses.waiting

    asyncio.run(run())

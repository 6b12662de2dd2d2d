"""A roll-out in stages: whose turn is when, and when it ends; without boards."""

import hmac
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List, Set

import pytest

from orchestrator.boards import rollout, update
from orchestrator.boards.conversation import NoAnswerError
from orchestrator.boards.fleet_file import Fleet
from orchestrator.boards.fleet_link import FleetLink, Presence
from orchestrator.boards.rollout import BoardResult, Outcome, Rollout, Updater, model_cargo
from orchestrator.errors import BrokerError, UsageError
from orchestrator.wire.board_records import GONE
from orchestrator.wire.link import BrokerAddress, Connected, Disconnected, Message

BOARDS = [f"b{number}" for number in range(40)]


def rolled(rollout: Rollout, bad: Dict[str, Outcome], ill: Set[str] = frozenset()) -> List[BoardResult]:  # type: ignore[assignment]
    def update(name: str) -> BoardResult:
        return BoardResult(name, bad.get(name, Outcome.UPDATED))

    return rollout.run(BOARDS, update, lambda name: "it is ill" if name in ill else "")


def of(results: List[BoardResult], outcome: Outcome) -> List[str]:
    return [result.board for result in results if result.outcome is outcome]


def test_stages_reach_as_many_boards_as_they_say() -> None:
    results = rolled(Rollout("d", stages=(5, 25, 100), watch_s=0), {})
    assert [sum(result.stage == stage for result in results) for stage in (1, 2, 3)] == [2, 8, 30]
    assert [result.board for result in results] == sorted(BOARDS)


def test_another_model_begins_with_other_boards() -> None:
    first, second = (Rollout(digest).order(BOARDS) for digest in ("d", "e"))
    assert sorted(first) == sorted(second) == sorted(BOARDS)
    assert first[:2] != second[:2]
    assert Rollout("d").order(list(reversed(BOARDS))) == first


@pytest.mark.parametrize(("allowed", "reached"), [(0, 2), (1, 10)])
def test_it_ends_with_the_stage_in_which_too_many_failed(allowed: int, reached: int) -> None:
    rollout = Rollout("d", most_failures=allowed, watch_s=0)
    order = rollout.order(BOARDS)
    results = rolled(rollout, {order[1]: Outcome.FAILED, order[5]: Outcome.FAILED})
    begun = [result for result in results if result.stage > 0]
    assert len(begun) <= reached
    assert len(of(results, Outcome.FAILED)) == allowed + 1
    assert len(of(results, Outcome.HELD)) == len(BOARDS) - len(begun) >= 30


def test_a_stage_of_many_boards_is_not_many_failures() -> None:
    rollout = Rollout("d", stages=(100,), watch_s=0)
    results = rolled(rollout, dict.fromkeys(BOARDS, Outcome.FAILED))
    assert 1 <= len(of(results, Outcome.FAILED)) <= 16
    assert len(of(results, Outcome.HELD)) >= 24


def test_boards_that_do_not_go_on_with_the_model_are_failures() -> None:
    rollout = Rollout("d", watch_s=0)
    ill = {rollout.order(BOARDS)[0]}
    results = rolled(rollout, {}, ill)
    assert of(results, Outcome.FAILED) == sorted(ill)
    assert len(of(results, Outcome.HELD)) == 38


def test_boards_that_are_not_there_are_no_failures() -> None:
    results = rolled(Rollout("d", watch_s=0), dict.fromkeys(BOARDS[:20], Outcome.ABSENT))
    assert (len(of(results, Outcome.ABSENT)), len(of(results, Outcome.UPDATED))) == (20, 20)


def test_halted_by_hand_nothing_further_begins() -> None:
    rollout = Rollout("d", stages=(50, 100), watch_s=60.0)
    begun: List[str] = []
    lock = threading.Lock()

    def update(name: str) -> BoardResult:
        with lock:
            begun.append(name)
            if len(begun) == 20:
                rollout.halted.set()
        return BoardResult(name, Outcome.UPDATED)

    results = rollout.run(BOARDS, update, lambda name: "")
    assert len(begun) == 20
    assert len(of(results, Outcome.HELD)) == 20


@pytest.mark.parametrize(
    "wrong",
    [
        {"stages": ()},
        {"stages": (5, 5, 100)},
        {"stages": (50, 25, 100)},
        {"stages": (0, 100)},
        {"stages": (50,)},
        {"stages": (float("nan"), 100)},
        {"most_failures": -1},
    ],
)
def test_what_makes_no_sense_is_refused(wrong: Any) -> None:
    with pytest.raises(UsageError):
        Rollout("d", **wrong)


class Away:
    """A link, and one board at it, which fail as often as `errors` says."""

    def __init__(self, errors: List[Exception], back: bool = True) -> None:
        self.errors, self.connected, self.back = errors, True, back

    def presence(self, name: str) -> Presence:
        return Presence(here=self.back or len(self.errors) == 1)

    def info(self) -> Dict[str, Any]:
        return {"model": "d", "slot": "b"} if not self.errors else self._fail()

    def update(self, model_bin: bytes) -> Dict[str, Any]:
        return self.info()

    def _fail(self) -> Dict[str, Any]:
        raise self.errors.pop()

    def updater(self, retry_s: float = 20.0) -> Updater:
        link: Any = self
        board: Any = self
        return Updater(link, lambda name: board, model_cargo(b"", "d"), retry_s)


@pytest.mark.parametrize("error", [NoAnswerError("it is silent"), BrokerError("the connection is lost")])
def test_who_is_back_in_time_is_tried_again(error: Exception) -> None:
    assert Away([error, error]).updater().update("a").outcome is Outcome.UNCHANGED
    lost = Away([error], back=False)
    result = lost.updater(0.3).update("a") if lost.presence("a").here else None
    assert result is not None
    assert (result.outcome, result.why) == (Outcome.FAILED, f"it was lost on the way: {error}")


def test_the_time_to_be_back_counts_from_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """An update may take longer than that by itself."""

    class Slow(Away):
        def info(self) -> Dict[str, Any]:
            later = time.monotonic() + 1000
            monkeypatch.setattr(rollout, "time", SimpleNamespace(monotonic=lambda: later, sleep=lambda _: None))
            return super().info()

    assert Slow([NoAnswerError("lost")]).updater(20.0).update("a").outcome is Outcome.UNCHANGED


def test_a_board_that_is_lost_again_and_again_is_given_up() -> None:
    errors: List[Exception] = [NoAnswerError("lost")] * 100
    assert Away(errors).updater().update("a").outcome is Outcome.FAILED
    assert len(errors) > 50


def test_a_broker_that_goes_away_says_nothing_about_a_board() -> None:
    assert Away([BrokerError("lost")]).updater().still_well("a") == ""
    assert "does not answer: silent" in Away([NoAnswerError("silent")]).updater().still_well("a")


def test_a_board_that_falls_silent_in_its_update_can_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the update of a board by cable makes of silence is still silence."""

    def silent(*_: Any) -> None:
        raise NoAnswerError("no answer to byte 256")

    monkeypatch.setattr(update, "_begin", lambda *_: None)
    monkeypatch.setattr(update, "_send_chunks", silent)
    board: Any = SimpleNamespace(damaged=0)
    with pytest.raises(NoAnswerError, match="byte 256"):
        update.send_whole(board, b"", "d", {"boot": "b", "model": "m"}, None)


def test_after_a_broker_s_restart_the_broker_says_who_is_there(tmp_path: Path) -> None:
    """A board that died meanwhile was not there when its turn came, and one that comes back is waited for."""
    secret, place = bytes(32), "edgeward/1/icu/board/a/presence"
    link = FleetLink(Fleet(tmp_path, "icu", {"a": secret, "b": secret}), BrokerAddress("127.0.0.1", 1))
    text = b'{"boot":"b","seq":1,"model":"m","t_us":5,"kind":"info","v":1'
    here = Message(place, text + b',"mac":"' + hmac.new(secret, text, "sha256").hexdigest()[:32].encode() + b'"}')
    board: Any = SimpleNamespace(info=lambda: {"model": "d"}, update=lambda _: {"slot": "b"})

    def updated(name: str, retry_s: float) -> Outcome:
        return Updater(link, lambda _: board, model_cargo(b"", "d"), retry_s).update(name).outcome

    link.note_connection(Connected())
    link.read_message(here)
    assert updated("a", 0.1) is Outcome.UNCHANGED
    link.note_connection(Disconnected("it ended"))
    assert (link.connected, link.presence("a").here, link.presence("a").awaited) == (False, False, True)
    link.note_connection(Connected())
    assert (link.connected, link.presence("a").here, link.presence("a").awaited) == (True, False, True)
    assert updated("a", 0.1) is Outcome.ABSENT
    timer = threading.Timer(0.3, link.read_message, [here])
    timer.start()
    assert updated("a", 60.0) is Outcome.UNCHANGED
    timer.join()
    link.read_message(Message(place, GONE))
    assert updated("a", 1e6) is Outcome.ABSENT
    assert updated("b", 1e6) is Outcome.ABSENT, "which never was there"

"""What a board's record changes on the page of a fleet, and what one does that comes late, again, or from another boot."""

import time
from pathlib import Path
from typing import Any, Dict

import pytest
from fleet_records import marked
from fleet_wards import INFO, A, B, Page, Ward

from orchestrator.gateway.web.fleet import MOST_STRANGERS
from orchestrator.gateway.web.listener import Listener
from orchestrator.wire.board_records import GONE
from orchestrator.wire.link import BrokerAddress, Connected, Disconnected, Event

OF_A_MODEL = ("name", "slot", "signature", "psi", "inferences", "errors")


def of_model(board: Dict[str, Any]) -> Dict[str, Any]:
    return {name: board[name] for name in OF_A_MODEL if name in board}


def with_a_model(folder: Path) -> Ward:
    ward = Ward(folder, {"ward-1": A})
    ward.says("ward-1", state="ready", slot="a", program="p1", on_trial=True)
    ward.says("ward-1", "record", kind="metrics", inferences=5, errors=1, heap_free_bytes=9, psi=3.5)
    assert len(of_model(ward.boards()["ward-1"])) == len(OF_A_MODEL)
    return ward


BARE: Dict[str, Any] = {"kind": "info", "model": None, "firmware": "1.2", "chip": "esp32c3", "state": "not_loaded"}


def test_an_info_without_a_model_leaves_nothing_of_one(tmp_path: Path) -> None:
    for number, boot in enumerate(("b1", "b2")):
        ward = with_a_model(tmp_path / str(number))
        ward.hears("ward-1", ward.message(A, boot, **BARE))
        board = ward.boards()["ward-1"]
        assert of_model(board) == {}
        assert (board["model"], board["state"]) == (None, "not_loaded")
        assert not {"program", "on_trial"} & set(board), "what an info leaves out is not there any more"
        assert "verified" not in Page(ward.page()).row("ward-1")[3]


def test_another_model_takes_nothing_over_from_the_one_before(tmp_path: Path) -> None:
    for number, kind in enumerate(("metrics", "drift", "selftest", "boot")):
        ward = with_a_model(tmp_path / str(number))
        needed: Dict[str, Any] = {"rows": 1, "mismatches": 0} if kind == "selftest" else {}
        ward.hears("ward-1", ward.message(A, kind=kind, model="d9", **needed), "record")
        board = ward.boards()["ward-1"]
        assert (board["model"], of_model(board)) == ("d9", {})
        assert board["chip"] == "esp32c3"
    ward = with_a_model(tmp_path / "error")
    ward.says("ward-1", "record", kind="error", model="d9", code="no_model")
    assert len(of_model(ward.boards()["ward-1"])) == len(OF_A_MODEL), "that is of the model it refused"


def test_metrics_without_drift_leave_none(tmp_path: Path) -> None:
    ward = with_a_model(tmp_path)
    ward.hears("ward-1", ward.message(A, kind="metrics", inferences=0), "record")
    board = ward.boards()["ward-1"]
    assert (board["inferences"], "psi" in board, "errors" in board, board["name"]) == (0, False, False, "ecg")


def test_a_record_of_an_unknown_version_leaves_only_that(tmp_path: Path) -> None:
    ward = with_a_model(tmp_path)
    known = set(ward.boards()["ward-1"]) - set(OF_A_MODEL)
    ward.says("ward-1", "record", v=7, state="well")
    board = ward.boards()["ward-1"]
    assert board["schema"] == 7
    assert set(board) - known == {"schema"}
    assert not {"chip", "firmware", "state", "heap_free_bytes"} & set(board)
    ward.says("ward-1")
    assert "schema" not in ward.boards()["ward-1"]


def test_a_boot_begins_with_nothing(tmp_path: Path) -> None:
    ward = with_a_model(tmp_path)
    ward.hears("ward-1", ward.message(A, "b2", kind="metrics", errors=0), "record")
    board = ward.boards()["ward-1"]
    assert (of_model(board), board.get("program"), board["errors"]) == ({"errors": 0}, None, 0)


def test_a_boot_that_is_over_makes_nobody_deaf_to_the_present_one(tmp_path: Path) -> None:
    """Shown again by a broker that had recorded it before this dashboard began."""
    ward = Ward(tmp_path, {"ward-1": A})
    old = marked(A, 500, "old", **{**INFO, "state": "before"})
    ward.says("ward-1", state="now", slot="a")
    ward.hears("ward-1", old, "record")
    ward.now += 60
    ward.says("ward-1", "record", kind="metrics", errors=3)
    board = ward.boards()["ward-1"]
    assert (board["state"], board["slot"], board["errors"], board["heard_at"]) == ("now", "a", 3, ward.now)
    ward.now += 60
    ward.hears("ward-1", old, "record")
    ward.hears("ward-1", marked(A, 499, "old", **INFO), "record")
    board = ward.boards()["ward-1"]
    assert (board["state"], board["heard_at"]) == ("now", ward.now - 60), "each counts once"


def test_as_many_boots_as_a_broker_recorded_make_nobody_deaf(tmp_path: Path) -> None:
    ward = Ward(tmp_path, {"ward-1": A})
    ward.says("ward-1", state="now")
    for number in range(100):
        ward.hears("ward-1", marked(A, 5, f"old{number}", **{**INFO, "state": "before"}), "record")
    ward.says("ward-1", state="now")
    assert ward.boards()["ward-1"]["state"] == "now"


def test_what_a_broker_had_kept_replaces_no_boot_that_is_heard(tmp_path: Path) -> None:
    """A broker that began again with what it had written to its disk some time ago."""
    ward = Ward(tmp_path, {"ward-1": A})
    kept = marked(A, 500, "other", **{**INFO, "state": "kept"})
    ward.says("ward-1", state="now")
    ward.hears("ward-1", kept, retained=True)
    board = ward.boards()["ward-1"]
    assert (board["state"], board["kept"], board["heard_at"]) == ("now", False, ward.now)
    ward.says("ward-1", "record", kind="metrics", errors=3)
    assert (ward.boards()["ward-1"]["state"], ward.boards()["ward-1"]["errors"]) == ("now", 3)
    ward.hears(
        "ward-1", marked(A, 501, "other", kind="metrics", errors=4), "record"
    )  # it was of a boot that came since
    assert (ward.boards()["ward-1"]["state"], ward.boards()["ward-1"]["errors"]) == ("kept", 4)
    unheard = Ward(tmp_path / "unheard", {"ward-1": A})
    unheard.hears("ward-1", kept, retained=True)
    unheard.hears("ward-1", marked(A, 1, "later", **{**INFO, "state": "newer"}), retained=True)
    assert unheard.boards()["ward-1"]["state"] == "newer"


def heard(listener: Listener, now: float, *events: Event) -> None:
    for event in events:
        listener.note(event, now)


def test_a_broker_that_begins_again_has_to_say_who_is_there(tmp_path: Path) -> None:
    ward = Ward(tmp_path, {"ward-1": A, "ward-2": B})
    kept = ward.says("ward-1")
    ward.hears("ward-2", GONE)
    ward.now += 100
    heard(ward.listener, ward.now, Disconnected("it ended"))
    assert {board["presence"] for board in ward.boards().values()} == {"unknown"}
    heard(ward.listener, ward.now, Connected())
    boards = ward.boards()
    assert [(board["presence"], board["since"]) for board in boards.values()] == [("unheard", None)] * 2
    assert boards["ward-1"]["name"] == "ecg", "what it last said stays"
    ward.now += 100
    ward.hears("ward-1", kept, retained=True)
    board = ward.boards()["ward-1"]
    assert (board["presence"], board["since"], board["since_known"]) == ("here", ward.now, False)
    heard(ward.listener, ward.now, Connected())  # the loss of a connection may go unseen
    assert ward.boards()["ward-1"]["presence"] == "unheard"


def test_who_is_announced_has_a_place_before_who_is_not(tmp_path: Path) -> None:
    """A monitor may write records in any name, and nothing on `presence`."""
    ward = Ward(tmp_path)
    ward.says("early")
    for number in range(MOST_STRANGERS + 5):
        ward.says(f"made-up-{number}", "record")
    ward.says("late")
    assert {"early", "late"} < set(ward.boards())
    assert len(ward.boards()) == MOST_STRANGERS
    for number in range(MOST_STRANGERS):
        ward.says(f"board-{number}")
    ward.now += 3600
    ward.says("made-up", "record")
    assert "made-up" not in ward.boards(), "however long the others are silent"
    ward.says("another")
    assert "another" in ward.boards()
    assert len(ward.boards()) == MOST_STRANGERS


@pytest.mark.parametrize(
    ("broker", "said"),
    [
        (BrokerAddress("127.0.0.1", 1), "one with certificates is mqtts://HOST with --identity DIR"),
        (BrokerAddress("127.0.0.1", 1, tls=True), "add --identity DIR, of `edgeward node enroll` as fleet:NAME"),
    ],
)
def test_a_dashboard_without_a_broker_says_what_helps_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broker: BrokerAddress, said: str
) -> None:
    monkeypatch.setattr("orchestrator.gateway.web.listener.OPEN_S", 0.05)
    listener = Listener(broker, "test")
    listener.start()
    try:
        deadline = time.monotonic() + 60
        while listener.state == "connecting" and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        listener.close()
    assert said in listener.state
    assert "embedded" not in listener.state, "which a dashboard has not"


@pytest.mark.parametrize("wrong", [{"on_trial": "yes"}, {"on_trial": 1}, {"program": 5}, {"program_slot": [1]}])
def test_an_info_with_a_field_of_another_type_is_no_record(tmp_path: Path, wrong: Dict[str, Any]) -> None:
    ward = Ward(tmp_path, {"ward-1": A})
    ward.says("ward-1", program="p1", program_slot="a", on_trial=False)
    ward.says("ward-1", **wrong)
    board = ward.boards()["ward-1"]
    assert (board["malformed"], board["program"], board["program_slot"], board["on_trial"]) == (1, "p1", "a", False)

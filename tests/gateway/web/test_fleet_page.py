"""The page of boards on a network: what is checked, who is gone, and what hostile boards and brokers make of it."""

import re
from pathlib import Path
from typing import Any, Dict, List

import pytest
from dashboards import PASSWORD, Client, dashboard
from fleet_records import marked
from fleet_wards import INFO, A, B, Page, Ward

from orchestrator.boards.fleet_file import Fleet
from orchestrator.boards.fleet_journal import Journal
from orchestrator.boards.fleet_owner import FleetOwner
from orchestrator.boards.rollout import BoardResult, Outcome, Rollout
from orchestrator.cli.main import main
from orchestrator.errors import UsageError
from orchestrator.gateway.web.fleet import MOST_STRANGERS, OLDER_BOARDS
from orchestrator.gateway.web.fleet_page import OUTCOMES_SHOWN, ROWS
from orchestrator.gateway.web.password import Login
from orchestrator.wire.board_records import GONE


def test_without_secrets_everything_is_shown_as_unchecked(tmp_path: Path) -> None:
    ward = Ward(tmp_path)
    ward.says("ward-1")
    ward.hears("ward-2", GONE, retained=True)
    board = ward.boards()["ward-1"]
    assert (board["verified"], board["of_fleet"], board["presence"]) == (False, None, "here")
    assert (board["model"], board["name"], board["chip"], board["uptime_s"]) == ("d1", "ecg", "esp32c3", 7.0)
    assert ward.boards()["ward-2"]["presence"] == "gone"
    text = ward.page()
    assert "Nothing here is checked" in text
    assert Page(text).row("ward-1")[2] == "no"


def test_what_a_board_marked_is_its_own_and_the_rest_is_counted(tmp_path: Path) -> None:
    ward = Ward(tmp_path, {"ward-1": A, "ward-2": B, "ward-3": B})
    ward.says("ward-1")
    ward.hears("ward-2", ward.message(A, **{**INFO, "name": "forged"}))
    ward.hears("ward-2", ward.message(A, **{**INFO, "name": "forged"}), "record")
    ward.says("stranger", name="x")
    boards = ward.boards()
    assert (boards["ward-1"]["verified"], boards["ward-1"]["name"]) == (True, "ecg")
    assert (boards["ward-2"]["verified"], boards["ward-2"]["foreign"]) == (None, 2)
    assert boards["ward-2"]["presence"] == "unheard"
    assert "name" not in boards["ward-2"]
    assert boards["ward-3"]["presence"] == "unheard"
    assert (boards["stranger"]["verified"], boards["stranger"]["of_fleet"]) == (False, False)
    page = Page(ward.page())
    assert page.row("ward-1")[2] == "by its secret"
    assert "2 messages in its name not its own" in page.row("ward-2")[-1]
    assert page.row("stranger")[2] == "not of this fleet"
    assert "forged" not in ward.page()


def test_who_is_gone_is_marked_and_since_when(tmp_path: Path) -> None:
    ward = Ward(tmp_path, {"ward-1": A, "ward-2": B})
    ward.says("ward-1", retained=True)
    board = ward.boards()["ward-1"]
    assert (board["heard_at"], board["kept"], board["since_known"]) == (None, True, False)
    assert "age unknown" in Page(ward.page()).row("ward-1")[7]
    ward.now += 100
    ward.says("ward-1", "record", kind="metrics", inferences=12, psi=0.25)
    ward.now += 30
    ward.hears("ward-1", GONE)
    ward.hears("ward-2", GONE, retained=True)
    ward.now += 300
    gone = ward.boards()
    assert (gone["ward-1"]["presence"], gone["ward-1"]["since"], gone["ward-1"]["heard_at"]) == ("gone", 1130.0, 1100.0)
    assert (gone["ward-1"]["inferences"], gone["ward-1"]["name"]) == (12, "ecg"), "what it last said stays"
    rows = Page(ward.page())
    assert rows.row("ward-1")[1] == "gone\nfor 5 min"
    assert rows.row("ward-2")[1] == "gone\nfor at least 5 min"
    assert "12 inferences, drift 0.25" in rows.row("ward-1")[-1]
    ward.listener.state = "lost the broker: it ended"
    assert {board["presence"] for board in ward.boards().values()} == {"unknown"}
    assert "Nobody knows now which board is there" in ward.page()


def test_a_record_shown_again_says_nothing_of_now(tmp_path: Path) -> None:
    ward = Ward(tmp_path, {"ward-1": A})
    old = ward.says("ward-1", name="old")
    ward.says("ward-1", name="middle")
    ward.says("ward-1", boot="b2", name="new")
    for again in (old, marked(A, 0, **INFO)):  # also a number below, that was never heard
        ward.now += 500
        ward.hears("ward-1", again, "record")
        board = ward.boards()["ward-1"]
        assert (board["name"], board["heard_at"], board["foreign"]) == ("new", 1000.0, 0)


def test_what_was_kept_may_come_after_what_is_new(tmp_path: Path) -> None:
    ward = Ward(tmp_path, {"ward-1": A})
    kept = ward.message(A, **{**INFO, "state": "before"})
    ward.says("ward-1", "record", kind="metrics", inferences=5)
    ward.hears("ward-1", kept, retained=True)
    board = ward.boards()["ward-1"]
    assert (board["chip"], board["state"], board["inferences"]) == ("esp32c3", "before", 5)
    assert (board["presence"], board["heard_at"], board["kept"]) == ("here", 1000.0, False)
    ward.says("ward-1", state="now")
    ward.hears("ward-1", kept)
    assert ward.boards()["ward-1"]["state"] == "now"


HOSTILE: List[bytes] = [
    b"",
    b"\xff\xfe",
    b"[" * 4000,
    b"{}",
    b'{"kind":"info"}',
    b'{"boot":"b","seq":1,"model":"m","t_us":NaN,"kind":"info","v":1}',
    b'{"boot":"b","seq":-1,"model":"m","t_us":1,"kind":"info","v":1}',
    b'{"boot":"b","seq":1,"model":["m"],"t_us":1,"kind":"info","v":1}',
    b'{"boot":"b","seq":1,"model":"m","t_us":1,"kind":["info"],"v":1}',
    b'{"boot":"b","seq":1,"model":"m","t_us":1,"kind":"info","v":1,"name":{"a":1}}',
    b'{"boot":"b","seq":1,"model":"m","t_us":1,"kind":"info","v":1,"name":"%s"}' % (b"x" * 5000),
    b'{"boot":"b","seq":1,"model":"m","t_us":1,"kind":"samples","v":1,"first_sample":0,"of_channels":1,"values":"00"}',
    b'{"kind":"gone" }',
]


@pytest.mark.parametrize("payload", HOSTILE)
def test_what_is_no_record_hides_no_other_board(tmp_path: Path, payload: bytes) -> None:
    ward = Ward(tmp_path)
    ward.says("ward-1")
    for kind in ("presence", "record"):
        ward.hears("ward-0", payload, kind)
    boards = ward.boards()
    assert boards["ward-1"]["name"] == "ecg"
    assert (boards["ward-0"]["presence"], boards["ward-0"]["verified"]) == ("unheard", None)
    assert boards["ward-0"]["malformed"] == 2
    assert "2 messages that are no record" in Page(ward.page()).row("ward-0")[-1]


def test_texts_of_boards_are_no_markup(tmp_path: Path) -> None:
    ward = Ward(tmp_path, {"ward-1": A})
    evil = '<script src="//evil"></script><img onerror=x>&amp;"\'</td></bdi>'
    fields: Dict[str, Any] = dict.fromkeys(
        ("name", "state", "signature", "chip", "firmware", "program", "program_slot", "slot"), evil
    )
    ward.says("ward-1", **fields)
    ward.says("stranger", **fields)
    text = ward.page(1, evil)
    assert Page(text).scripts == ["/static/theme.js"]
    assert "img" not in Page(text).tags
    text = ward.page()
    assert Page(text).scripts == ["/static/theme.js"]
    row = Page(text).row("ward-1")
    assert all(evil in row[column] for column in (3, 4, 5, 6))
    assert "</script><" not in text.replace('<script src="/static/theme.js"></script><', "")


def test_numbers_beyond_all_sense_are_no_error(tmp_path: Path) -> None:
    ward = Ward(tmp_path)
    most: Dict[str, Any] = {
        "t_us": 2**63 - 1,
        "inferences": 2**63 - 1,
        "errors": 2**62,
        "heap_free_bytes": 2**32 - 1,
        "psi": 1e6,
    }
    ward.says("ward-1", **INFO)
    ward.says("ward-1", "record", kind="metrics", **most)
    ward.says("ward-2", v=7, whatever=[1, 2])
    rows = Page(ward.page())
    assert rows.row("ward-1")[8] == "–", "no board runs for 292,000 years"
    assert "version 7, which is not read here" in rows.row("ward-2")[-1]


def test_names_that_a_broker_makes_up_are_few_and_take_no_place_of_the_fleet(tmp_path: Path) -> None:
    ward = Ward(tmp_path, {"ward-1": A, "zz": B})
    for number in range(MOST_STRANGERS + 200):
        ward.says(f"b{number}", name="x" * 400)
        ward.hears(f"c{number}", GONE)
        ward.hears(f"d{number}", b'{"kind":"metrics"}', "record")  # as of a monitor: it is on no network
    ward.says("zz")
    found = ward.fleet_of_model()
    assert len(found["boards"]) == MOST_STRANGERS + 2
    assert found["passed_over"] == 200
    assert ward.boards()["zz"]["verified"]
    ward.now += 700
    ward.says("late")
    assert "late" in ward.boards()
    assert len(ward.boards()) == MOST_STRANGERS + 2
    assert len(ward.page()) < ROWS * 4000 + 20_000


def test_many_boards_have_pages_and_a_search(tmp_path: Path) -> None:
    ward = Ward(tmp_path, {f"ward-{number:03d}": A for number in range(250)})
    for number in range(250):
        ward.says(f"ward-{number:03d}", name="ecg" if number % 2 else "spo2")
    ward.hears("ward-249", GONE)
    pages = [[row[0] for row in Page(ward.page(number)).rows if row] for number in (1, 2, 3, 99)]
    assert [len(page) for page in pages] == [ROWS, ROWS, 50, 50]
    assert pages[0][0] == "ward-249", "those not well come first"
    assert len({*pages[0], *pages[1], *pages[2]}) == 250
    found = [row[0] for row in Page(ward.page(1, "SPO2 ward-00")).rows if row]
    assert found == ["ward-000", "ward-002", "ward-004", "ward-006", "ward-008"]
    assert 'href="/fleet?q=spo2&amp;page=2"' in ward.page(1, "spo2")


def test_a_board_that_is_put_in_later_is_checked_from_then_on(tmp_path: Path) -> None:
    """And one that gets another secret, or leaves, begins again."""
    ward = Ward(tmp_path, {"ward-1": A})
    early = ward.message(B, **INFO)
    ward.hears("ward-2", early)
    assert ward.boards()["ward-2"]["of_fleet"] is False
    Fleet.keep(ward.fleet.folder, "test", "ward-2", B)
    board = ward.boards()["ward-2"]
    assert (board["of_fleet"], board["verified"], board["presence"]) == (True, True, "here")
    ward.hears("ward-1", ward.message(B, **INFO))  # by `board connect` again, whose secret comes a moment later
    assert ward.boards()["ward-1"]["foreign"] == 1
    Fleet.keep(ward.fleet.folder, "test", "ward-1", B)
    board = ward.boards()["ward-1"]
    assert (board["foreign"], board["verified"], board["presence"]) == (0, True, "here")
    Fleet.forget(ward.fleet.folder, "ward-2")
    assert ward.boards()["ward-2"]["of_fleet"] is False
    Fleet.forget(ward.fleet.folder, "ward-1")
    ward.hears("ward-1", GONE)
    assert "ward-1" not in ward.boards(), "it was of the fleet once, and left"


@pytest.mark.parametrize("how", ["damaged", "gone", "open to others", "another federation"])
def test_a_fleet_s_file_that_fails_later_is_said_and_forgets_no_secret(tmp_path: Path, how: str) -> None:
    ward = Ward(tmp_path, {"ward-1": A})
    path, before = ward.fleet.folder / "fleet.json", (ward.fleet.folder / "fleet.json").read_bytes()
    if how == "damaged":
        path.write_text("{")
    elif how == "gone":
        path.unlink()
    elif how == "open to others":
        path.chmod(0o644)
    else:
        Fleet(ward.fleet.folder, "other", {}).write()
    assert "the fleet's file cannot be used" in ward.page().replace("&#x27;", "'")
    ward.says("ward-1")
    assert ward.boards()["ward-1"]["verified"]
    path.write_bytes(before)
    path.chmod(0o600)
    assert ward.fleet_of_model()["problem"] == ""


def test_a_folder_without_a_fleet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such file"):
        FleetOwner(tmp_path, "test")
    Fleet(tmp_path, "other", {}).write()
    with pytest.raises(UsageError, match="of federation 'other', not 'test'"):
        FleetOwner(tmp_path, "test")
    words = ["gateway", "dashboard", str(tmp_path), "--fleet", str(tmp_path), "--broker", "mqtt://h", "--federation"]
    assert main([*words, "test"]) == 2
    assert main([*words[:3], "--identity", str(tmp_path)]) == 2
    key = tmp_path / "ca.crt"
    assert main([*words[:3], "--broker", "mqtts://h", "--identity", str(tmp_path), "--ca-file", str(key)]) == 2


def rolled_out(folder: Path, boards: List[str], bad: Dict[str, str], **given: Any) -> None:
    rollout = Rollout("d2", watch_s=0, **given)

    def update(name: str) -> BoardResult:
        return BoardResult(name, Outcome.FAILED if name in bad else Outcome.UPDATED, bad.get(name, "slot b"))

    with Journal(folder, "test", "model", rollout, boards) as journal:
        journal.end(rollout.run(boards, journal.noting(update), lambda name: "", journal.note), asked=False)


def test_a_roll_out_shows_its_stages_who_failed_and_why_it_ended(tmp_path: Path) -> None:
    ward = Ward(tmp_path, {"ward-1": A})
    names = [f"b{number}" for number in range(300)]
    first = Rollout("d2").order(names)[0]
    rolled_out(ward.fleet.folder, names, {})
    rolled_out(ward.fleet.folder, names, {first: "<b>known_answers_differ</b>"}, stages=(1, 100))
    text = ward.page()
    page = Page(text)
    assert "1 board failed, more than the 0 that may" in text
    assert page.rows[1][:3] == ["1", "1 %", "3"]
    assert page.rows[2][:3] == ["2", "100 %", "297"]
    assert page.row(first) == [
        first,
        "1",
        "failed",
        "<b>known_answers_differ</b>",
    ]
    assert "b" not in page.tags
    assert text.count('<span class="pill bad">halted</span>') == 1
    assert text.count('<span class="pill good">finished</span>') == 1
    assert f"and {300 - OUTCOMES_SHOWN} boards more" in text
    newer, older = ward.fleet_of_model()["rollouts"]
    assert [(len(entry["boards"]), entry["left_out"]) for entry in (newer, older)] == [(300, 0), (OLDER_BOARDS, 200)]
    ward.now = 4e9
    (ward.fleet.folder / "rollouts" / "000000000000009-1.json").write_text("{}")
    assert "000000000000009-1.json cannot be read" in ward.page()
    newest = max(path for path in (ward.fleet.folder / "rollouts").iterdir() if not path.name.startswith("0000"))
    newest.write_text(newest.read_text().replace('"state":"halted"', '"state":"running"'))
    assert '<span class="pill warn">lost</span>' in ward.page()


def test_the_page_takes_the_login_that_the_others_take(tmp_path: Path) -> None:
    with dashboard(tmp_path) as (client, _):
        status, headers, text = client.ask("/fleet")
        assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert "default-src 'none'" in headers["content-security-policy"]
        assert Page(text).scripts == ["/static/theme.js"], "it needs none"
        assert "No boards yet" in text
        assert client.json("/api/fleet")["boards"] == []
        assert client.ask("/fleet?page=%C2%B2")[0] == 400
        assert client.ask("/fleet?page=" + "9" * 5000)[0] == 400
        assert client.ask("/fleet?page=0&q=" + "%ED%A0%80" * 1000)[0] == 200
        assert client.ask("/fleet", "POST")[0] in (403, 405)
        Login(tmp_path).set_password(PASSWORD)
        stranger = Client(client.port)
        assert stranger.ask("/api/fleet")[0] == stranger.ask("/api/boards")[0] == 401
        status, headers, _ = stranger.ask("/fleet")
        assert (status, headers["location"]) == (303, "/login#/fleet")
        assert client.log_in(PASSWORD)[0] == 200
        assert client.ask("/fleet")[0] == 200
    login = (Path(__file__).parents[3] / "orchestrator/gateway/web/static/login.js").read_text()
    (pattern,) = re.findall(r"return /(.*)/\.test", login)
    led = re.compile(pattern.replace("\\/", "/"))
    assert [bool(led.search(path)) for path in ("/fleet", "/fleet/x", "//evil/fleet", "/fleetx")] == [
        True,
        False,
        False,
        False,
    ]


def names(text: str) -> List[str]:
    """Of boards that a page shows, in its order."""
    return [row[0] for row in Page(text).rows if len(row) == 10]


def test_what_an_owner_has_to_look_at_comes_first(tmp_path: Path) -> None:
    fine = [f"a{number:03d}" for number in range(150)]
    ill: Dict[str, Dict[str, Any]] = {
        "s1": {"state": "known_answers_differ"},
        "s2": {"state": "crashed_before"},
        "s3": {"signature": "not_verified"},
        "s4": {"v": 9},
    }
    ward = Ward(tmp_path, dict.fromkeys([*fine, *ill, "failed", "gone", "malformed", "unheard"], A))
    for name in [*fine, *ill, "failed", "gone", "malformed"]:
        said: Dict[str, Any] = {"state": "ready", **ill.get(name, {})}
        ward.says(name, **said)
    ward.hears("gone", GONE)
    ward.hears("malformed", ward.message(A, kind="nonsense"), "record")
    for name in fine[:-1]:
        ward.hears(name, b"of another", "record")
    for number in range(MOST_STRANGERS):
        ward.says(f"0-{number}", "record", state="known_answers_differ")
    ward.hears("0-0", GONE)
    rolled_out(ward.fleet.folder, fine, {})
    rolled_out(
        ward.fleet.folder, ["failed", "0-1", *fine], {"failed": "<i>it went back</i>", "0-1": ""}, most_failures=2
    )
    text = ward.page()
    assert names(text)[:8] == ["failed", "gone", "malformed", *ill, "unheard"]
    assert (
        next(row for row in Page(text).rows if len(row) == 10)[-1]
        == "failed in the newest roll-out: <i>it went back</i>"
    )
    assert names(text)[8:] == fine[: ROWS - 8]
    assert names(ward.page(2))[: 150 - ROWS + 8 + 1] == [*fine[ROWS - 8 : -1], fine[-1], "0-0"], "strangers are last"


def test_without_secrets_no_message_of_others_comes_before_who_is_gone(tmp_path: Path) -> None:
    ward = Ward(tmp_path)
    for name in ("a", "b", "z"):
        ward.says(name)
    ward.hears("z", GONE)
    ward.hears("b", b"{}", "record")
    assert names(ward.page()) == ["z", "b", "a"]


def test_a_search_that_finds_nothing_says_so(tmp_path: Path) -> None:
    ward = Ward(tmp_path, {"ward-1": A, "ward-2": A})
    ward.says("ward-1", model=None)
    assert names(ward.page(1, "none")) == [], "no board is called so, and one without a model is no match"
    assert "No board has all words of <bdi>&lt;b&gt; none</bdi>" in ward.page(1, "<b> none")
    assert Page(ward.page(7, "x")).tags.count("table") == 0


def test_a_damaged_file_does_not_fold_up_the_newest_roll_out(tmp_path: Path) -> None:
    ward = Ward(tmp_path, {"ward-1": A})
    many = [f"b{number}" for number in range(OLDER_BOARDS + 1)]
    rolled_out(ward.fleet.folder, many, {many[0]: "it went back"})
    (ward.fleet.folder / "rollouts" / "900000000000000-1.json").write_text("{")
    ward.now = 1e12
    text = ward.page()
    assert "900000000000000-1.json cannot be read" in text
    assert "<details>" not in text
    damaged, newest = ward.fleet_of_model()["rollouts"]
    assert ("problem" in damaged, newest["left_out"]) == (True, 0)

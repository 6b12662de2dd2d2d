"""What a roll-out writes as it goes on, and what is read of it, no matter who wrote the file."""

import json
import os
import threading
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List

import pytest

from orchestrator.boards.fleet_journal import KEPT, LOST_S, Journal, Rollouts
from orchestrator.boards.rollout import BoardResult, Outcome, Rollout

BOARDS = [f"b{number}" for number in range(20)]


def named(milliseconds: int) -> str:
    return f"{milliseconds:015d}-1.json"


def well(name: str) -> BoardResult:
    return BoardResult(name, Outcome.UPDATED)


def read(folder: Path, later: float = 0.0) -> List[Dict[str, Any]]:
    found = Rollouts(folder).read(0.0)
    return Rollouts(folder).read(max((entry.get("updated_at", 0.0) for entry in found), default=0.0) + later)


def run(folder: Path, rollout: Rollout, update: Any = well, ill: str = "") -> List[BoardResult]:
    with Journal(folder, "icu", "model", rollout, BOARDS) as journal:
        still_well = {ill: "it went back"}
        results = rollout.run(BOARDS, journal.noting(update), lambda name: still_well.get(name, ""), journal.note)
        journal.end(results, asked=False)
    return results


def test_stages_and_boards_are_read_while_it_goes_on(tmp_path: Path) -> None:
    rollout = Rollout("d1", stages=(10, 100), watch_s=0)
    began, goes_on = threading.Event(), threading.Event()
    second = rollout.order(BOARDS)[-1]

    def update(name: str) -> BoardResult:
        if name == second:
            began.set()
            assert goes_on.wait(60)
        return well(name)

    thread = threading.Thread(target=run, args=(tmp_path, rollout, update))
    thread.start()
    assert began.wait(60)
    rows: Dict[str, Any] = {}
    while rows.get(second) != "updating" or sum(outcome == "updated" for outcome in rows.values()) < len(BOARDS) - 1:
        (entry,) = read(tmp_path)
        rows = {board["board"]: board["outcome"] for board in entry["boards"]}
    assert (entry["state"], entry["kind"], entry["digest"], entry["ended_at"]) == ("running", "model", "d1", None)
    assert [stage["percent"] for stage in entry["stages"]] == [10.0, 100.0]
    assert (entry["stages"][0]["counts"]["updated"], entry["stages"][1]["counts"]["updating"]) == (2, 1)
    assert read(tmp_path, LOST_S + 1)[0]["state"] == "lost", "its process may have been killed"
    goes_on.set()
    thread.join()
    (entry,) = read(tmp_path, LOST_S + 1)
    assert (entry["state"], entry["why"], entry["counts"]["updated"]) == ("finished", "", 20)
    (path,) = (tmp_path / "rollouts").iterdir()
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_why_it_was_halted_is_kept(tmp_path: Path) -> None:
    rollout = Rollout("d", stages=(10, 100), watch_s=0)
    run(tmp_path, rollout, ill=rollout.order(BOARDS)[0])
    (entry,) = read(tmp_path)
    assert (entry["state"], entry["why"]) == ("halted", "1 board failed, more than the 0 that may")
    assert entry["boards"][0] == {
        "board": rollout.order(BOARDS)[0],
        "stage": 1,
        "outcome": "failed",
        "why": "it went back",
    }
    assert {name: count for name, count in entry["counts"].items() if count} == {"updated": 1, "failed": 1, "held": 18}


def test_an_error_of_the_command_itself_ends_it(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), Journal(tmp_path, "icu", "program", Rollout("d"), BOARDS):
        raise RuntimeError("nobody\nthought of it")
    (entry,) = read(tmp_path)
    assert entry["state"] == "halted"
    assert "nobody" in entry["why"]
    assert "\n" not in entry["why"]


def test_few_are_kept_and_a_newer_one_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(KEPT + 3):
        clock = SimpleNamespace(time=lambda at=1000.0 + number: at)
        monkeypatch.setattr("orchestrator.boards.fleet_journal.time", clock)
        run(tmp_path, Rollout(f"d{number}", stages=(100,), watch_s=0))
    assert [entry["digest"] for entry in read(tmp_path)] == [f"d{KEPT + 2 - back}" for back in range(KEPT)]


def test_a_disk_that_takes_nothing_costs_the_journal_and_not_the_roll_out(tmp_path: Path) -> None:
    (tmp_path / "rollouts").write_text("in the way")
    said: List[str] = []
    rollout = Rollout("d", watch_s=0)
    with Journal(tmp_path, "icu", "model", rollout, BOARDS, said.append) as journal:
        results = rollout.run(BOARDS, journal.noting(well), lambda name: "", journal.note)
        journal.end(results, asked=True)
    assert {result.outcome for result in results} == {Outcome.UPDATED}
    assert len(said) == 1
    assert "goes on" in said[0]
    (entry,) = read(tmp_path)
    assert "rollouts cannot be read: Not a directory" in entry["problem"]


def test_old_files_that_cannot_be_removed_end_no_roll_out(tmp_path: Path) -> None:
    for number in range(KEPT + 1):
        (tmp_path / "rollouts" / named(number)).mkdir(parents=True)
    run(tmp_path, Rollout("d", stages=(100,), watch_s=0))
    assert len(list((tmp_path / "rollouts").iterdir())) == KEPT + 2


GOOD: Dict[str, Any] = {
    **{
        "version": 1,
        "federation": "f",
        "kind": "model",
        "digest": "d",
        "stages": [100],
        "failures": 0,
        "state": "running",
    },
    **{"why": "", "began_at": 1.0, "updated_at": 2.0, "ended_at": None},
    "boards": {"a": {"stage": 1, "outcome": "updated", "why": ""}},
}


@pytest.mark.parametrize(
    "wrong",
    [
        {"version": 2},
        {"stages": 5},
        {"stages": ["x"]},
        {"state": "well"},
        {"state": ["running"]},
        {"state": "lost"},
        {"began_at": "now"},
        {"updated_at": True},
        {"updated_at": 1e300},
        {"failures": -1},
        {"boards": []},
        {"boards": {"A b": {"stage": 1, "outcome": "updated", "why": ""}}},
        {"boards": {"a": {"stage": 2, "outcome": "updated", "why": ""}}},
        {"boards": {"a": {"stage": 1, "outcome": "<b>", "why": ""}}},
        {"boards": {"a": 5}},
        "[" * 100_000,
        '{"version": 1, "began_at": NaN}',
        "",
    ],
)
def test_a_damaged_file_hides_no_other(tmp_path: Path, wrong: Any) -> None:
    folder = tmp_path / "rollouts"
    folder.mkdir()
    (folder / named(2000)).write_text(wrong if isinstance(wrong, str) else json.dumps({**GOOD, **wrong}))
    (folder / named(1000)).write_text(json.dumps({**GOOD, "why": "\x1b[2J" + "x" * 5000}))
    os.mkfifo(str(folder / named(0)))
    newest, good, pipe = Rollouts(tmp_path).read(3.0)
    assert "cannot be read" in newest["problem"]
    assert "cannot be read" in pipe["problem"]
    assert good["counts"]["updated"] == 1
    assert good["why"].isprintable()
    assert len(good["why"]) <= 500


@pytest.mark.parametrize("when", ["before", "meanwhile", "last"])
def test_a_warning_that_goes_nowhere_ends_no_roll_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Where the log lies on the disk that is full: as it begins, as it goes on, and as it ends."""
    full, warned = threading.Event(), threading.Event()
    tried: List[str] = []

    def replace(*given: Any, **more: Any) -> None:
        if full.is_set():
            raise OSError(28, "No space left on device")

    def warn(text: str) -> None:
        tried.append(text)
        warned.set()
        raise OSError(28, "No space left on device")

    def update(name: str) -> BoardResult:
        if when == "meanwhile":
            full.set()
            assert warned.wait(60)
        return well(name)

    monkeypatch.setattr("orchestrator.boards.fleet_journal.replace_file", replace)
    rollout = Rollout("d", watch_s=0)
    if when == "before":
        full.set()
    with Journal(tmp_path, "icu", "model", rollout, BOARDS, warn) as journal:
        results = rollout.run(BOARDS, journal.noting(update), lambda name: "", journal.note)
        full.set()
        journal.end(results, asked=False)
    assert {result.outcome for result in results} == {Outcome.UPDATED}
    assert len(tried) == 1


def at(monkeypatch: pytest.MonkeyPatch, now: float) -> None:
    monkeypatch.setattr("orchestrator.boards.fleet_journal.time", SimpleNamespace(time=lambda: now))


def digests(folder: Path, now: float) -> List[str]:
    return [entry["digest"] for entry in Rollouts(folder).read(now)]


def test_a_clock_that_was_wrong_hides_no_roll_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(KEPT):
        at(monkeypatch, 5000.0 + number)
        run(tmp_path, Rollout(f"ahead{number}", stages=(100,), watch_s=0))
    at(monkeypatch, 1000.0)  # put right, or wrong: nobody can know
    run(tmp_path, Rollout("own", stages=(100,), watch_s=0))
    found = Rollouts(tmp_path).read(1001.0)
    assert [entry["digest"] for entry in found][:2] == ["own", f"ahead{KEPT - 1}"]
    assert [entry["ahead"] for entry in found] == [False] + [True] * (KEPT - 1)
    assert digests(tmp_path, 9000.0)[-1] == "own"
    at(monkeypatch, 1100.0)
    run(tmp_path, Rollout("next", stages=(100,), watch_s=0))
    assert digests(tmp_path, 1101.0)[:3] == ["next", "own", f"ahead{KEPT - 1}"]


def test_a_roll_out_never_removes_its_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(KEPT):
        at(monkeypatch, 5000.0 + number)
        run(tmp_path, Rollout(f"d{number}", stages=(100,), watch_s=0))
    ticks = iter([1000.0])
    late = SimpleNamespace(time=lambda: next(ticks, 6000.0))  # it is set while the roll-out begins
    monkeypatch.setattr("orchestrator.boards.fleet_journal.time", late)
    run(tmp_path, Rollout("own", stages=(100,), watch_s=0))
    assert "own" in digests(tmp_path, 6000.0)
    assert len(list((tmp_path / "rollouts").iterdir())) == KEPT


def test_other_files_of_the_folder_are_no_roll_outs(tmp_path: Path) -> None:
    run(tmp_path, Rollout("d", stages=(100,), watch_s=0))
    others = [f"9{number}.json" for number in range(KEPT)] + ["2026-11-copy.json", f"{named(9)}.json", "1-mine.json"]
    for name in others:
        (tmp_path / "rollouts" / name).write_text("{}")
    for _ in range(KEPT):
        run(tmp_path, Rollout("d", stages=(100,), watch_s=0))
    assert {entry["digest"] for entry in read(tmp_path)} == {"d"}
    assert {path.name for path in (tmp_path / "rollouts").iterdir()} >= set(others)


def test_they_are_ordered_by_when_they_began(tmp_path: Path) -> None:
    (tmp_path / "rollouts").mkdir()
    for number, began in enumerate((20.0, 30.0, 10.0)):
        content = json.dumps({**GOOD, "began_at": began, "digest": f"{began:g}"})
        (tmp_path / "rollouts" / named(number)).write_text(content)
    assert digests(tmp_path, 40.0) == ["30", "20", "10"]


def test_a_writer_that_stopped_is_lost_also_where_it_wrote_in_the_future(tmp_path: Path) -> None:
    (tmp_path / "rollouts").mkdir()
    (tmp_path / "rollouts" / named(1)).write_text(json.dumps({**GOOD, "updated_at": 5000.0}))
    states = [Rollouts(tmp_path).read(now)[0]["state"] for now in (10.0, 4999.0, 5000.0 + LOST_S, 5001.0 + LOST_S)]
    assert states == ["lost", "running", "running", "lost"]


def test_a_roll_out_that_no_board_has_in_the_end_did_not_finish_well(tmp_path: Path) -> None:
    def all_are(outcome: Outcome, **given: Any) -> Any:
        folder = tmp_path / f"{outcome.value}{len(given)}"
        run(folder, Rollout("d", watch_s=0, **given), lambda name: BoardResult(name, outcome))
        (entry,) = read(folder)
        return entry["state"], entry["why"]

    assert all_are(Outcome.ABSENT) == ("failed", "no board has it: 20 were not there")
    assert all_are(Outcome.FAILED, most_failures=20) == ("failed", "no board has it: 20 failed")
    assert all_are(Outcome.UPDATED) == ("finished", "")
    assert all_are(Outcome.UNCHANGED) == ("finished", "")
    rollout = Rollout("d", stages=(100,), watch_s=0)
    run(tmp_path / "one", rollout, ill=BOARDS[0])
    (entry,) = read(tmp_path / "one")
    assert (entry["state"], entry["why"]) == ("failed", "1 board failed, more than the 0 that may")


def test_boards_whose_turn_never_came_by_an_error_are_not_waiting(tmp_path: Path) -> None:
    with suppress(RuntimeError), Journal(tmp_path, "icu", "program", Rollout("d"), BOARDS) as journal:
        journal.note(BoardResult(BOARDS[3], Outcome.UPDATED))
        raise RuntimeError("nobody thought of it")
    (entry,) = read(tmp_path)
    assert {name: count for name, count in entry["counts"].items() if count} == {"updated": 1, "held": 19}


def test_a_board_whose_update_ended_by_an_error_is_not_under_way(tmp_path: Path) -> None:
    def update(name: str) -> BoardResult:
        raise RuntimeError("nobody thought of it")

    with suppress(RuntimeError), Journal(tmp_path, "icu", "program", Rollout("d"), BOARDS) as journal:
        journal.noting(update)(BOARDS[3])
    (entry,) = read(tmp_path)
    assert {name: count for name, count in entry["counts"].items() if count} == {"failed": 1, "held": 19}
    (failed,) = [board for board in entry["boards"] if board["outcome"] == "failed"]
    assert failed["board"] == BOARDS[3]
    assert "what it runs" in failed["why"]


@pytest.mark.parametrize("character", ["x", "\u00e9", "\U0001f600"])
def test_a_file_of_many_that_failed_can_be_read(tmp_path: Path, character: str) -> None:
    names = [f"ward-{number:05d}" for number in range(20_000)]
    rollout = Rollout("d", stages=(100,), most_failures=20_000)
    with Journal(tmp_path, "icu", "model", rollout, names) as journal:
        journal.end([BoardResult(name, Outcome.FAILED, character * 2000) for name in names], asked=False)
    (entry,) = read(tmp_path)
    assert entry["counts"]["failed"] == 20_000
    assert entry["boards"][0]["why"].endswith("...")

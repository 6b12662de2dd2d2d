"""What a roll-out writes as it goes on, and what is read of it, no matter who wrote the file."""

import json
import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List

import pytest

from orchestrator.boards.fleet_journal import KEPT, LOST_S, Journal, Rollouts
from orchestrator.boards.rollout import BoardResult, Outcome, Rollout

BOARDS = [f"b{number}" for number in range(20)]


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
    assert read(tmp_path) == []


def test_old_files_that_cannot_be_removed_end_no_roll_out(tmp_path: Path) -> None:
    for number in range(KEPT + 1):
        (tmp_path / "rollouts" / f"{number}.json").mkdir(parents=True)
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
    (folder / "2.json").write_text(wrong if isinstance(wrong, str) else json.dumps({**GOOD, **wrong}))
    (folder / "1.json").write_text(json.dumps({**GOOD, "why": "\x1b[2J" + "x" * 5000}))
    os.mkfifo(str(folder / "0.json"))
    newest, good, pipe = Rollouts(tmp_path).read(3.0)
    assert "cannot be read" in newest["problem"]
    assert "cannot be read" in pipe["problem"]
    assert good["counts"]["updated"] == 1
    assert good["why"].isprintable()
    assert len(good["why"]) <= 500

"""Data of a server change while the file that describes them does not: what a node that is asked twice says then."""

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any, List

import pytest
from test_policy import make_task

from orchestrator.data.dataset import load_dataset
from orchestrator.errors import AwayError
from orchestrator.node import opening as opening_module
from orchestrator.node.figures import MemoryFigures
from orchestrator.node.gatekeeper import Gatekeeper, Waiting
from orchestrator.node.opening import LIVE_S, Opening, Question
from orchestrator.node.policy import Refusal
from orchestrator.node.run import Run
from orchestrator.node.store import NodeStore
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import task_to_dict

TASK = make_task(
    schema=Schema("table", "dead", ("no", "yes"), {"0": 0, "1": 1}, (Feature("born", 1900, 2030),), drop_missing=True),
    privacy=Privacy(unit="none"),
)

DESCRIPTION = """
[source]
kind = "omop"
sqlite = "cdm.sqlite"
columns = [
  { name = "born", table = "person", take = "year_of_birth" },
  { name = "dead", table = "death", take = "any" },
]
"""


class Node:
    """What opens the data of a node, which are in a database beside their description."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.database = folder, folder / "cdm.sqlite"
        (folder / "ward.toml").write_text(DESCRIPTION)
        with closing(sqlite3.connect(self.database)) as database:
            database.execute("CREATE TABLE person (person_id, year_of_birth)")
            database.execute("CREATE TABLE death (person_id, death_date)")
            database.executemany("INSERT INTO person VALUES (?, ?)", [(1, 1950), (2, 1960), (3, 1970)])
            database.commit()
        (folder / "policy.toml").write_text("[require]\nunits = ['none']\nstages = []\n")
        self.store = NodeStore(folder / "node.sqlite")
        keeper = Gatekeeper(folder, self.store, folder / "policy.toml")
        self.store.before_release = keeper.charge
        self._opening = Opening(folder / "ward.toml", self.store, keeper, MemoryFigures(lambda: ()), False)

    def is_born(self, year: Any) -> None:
        """Changes the data and leaves their file's time and size, as a server's data change."""
        before = self.database.stat()
        with closing(sqlite3.connect(self.database)) as database:
            database.execute("UPDATE person SET year_of_birth = ? WHERE person_id = 2", [year])
            database.commit()
        os.utime(self.database, ns=(before.st_atime_ns, before.st_mtime_ns))

    def ask(self, run: str) -> str:
        question = Question(run, TASK, task_to_dict(TASK), b"", 0, time.monotonic(), "d")
        found = self._opening.open(question)
        if isinstance(found, Run):
            return "opened"
        if isinstance(found, Waiting):
            return found.code
        assert isinstance(found, Refusal)
        assert found.code == "data"
        return found.reason

    def looks(self) -> int:
        with closing(sqlite3.connect(self.folder / "node.sqlite")) as database:
            return int(database.execute("SELECT count(*) FROM looks").fetchone()[0])


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> List[float]:
    """The time, in its only element."""
    now = [LIVE_S * 1e5]
    monkeypatch.setattr(time, "time", lambda: now[0])
    monkeypatch.setattr(opening_module, "LOOK_S", 0.01)
    monkeypatch.setattr(opening_module, "is_live", lambda data: True)  # the file stands for a server's tables
    return now


def test_the_same_question_is_read_again_after_an_hour_and_is_another_try(tmp_path: Path, clock: List[float]) -> None:
    node = Node(tmp_path)
    node.is_born("about 1960")
    assert "'about 1960' is not a number" in node.ask("one")
    node.is_born("1960")
    assert "'about 1960' is not a number" in node.ask("two"), "read again for a question that was answered"
    assert node.looks() == 1
    clock[0] += LIVE_S
    assert node.ask("three") == "opened"
    assert node.looks() == 2


def test_an_owner_who_touches_the_description_is_heard_at_once(tmp_path: Path, clock: List[float]) -> None:
    node = Node(tmp_path)
    node.is_born("about 1960")
    assert "not a number" in node.ask("one")
    node.is_born("1960")
    os.utime(tmp_path / "ward.toml")
    assert node.ask("two") == "opened"


def test_what_was_away_is_waited_for_without_another_try(
    tmp_path: Path, clock: List[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it was away; then it is read, and an hour later the question is another one again."""
    node, there = Node(tmp_path), [False]

    def load(path: Path, schema: Schema) -> Any:
        if not there[0]:
            raise AwayError("the server is away")
        return load_dataset(path, schema)

    monkeypatch.setattr(opening_module, "load_dataset", load)
    monkeypatch.setattr(opening_module, "AWAY_MOST_S", 0.0)
    for _ in range(20):
        assert node.ask("one") == "data.away"
        clock[0] += LIVE_S
    there[0] = True
    assert node.ask("one") == "opened"
    assert node.looks() == 1
    assert node.ask("two") == "opened"
    assert node.looks() == 2


def test_what_was_away_is_left_alone_for_longer_each_time(
    tmp_path: Path, clock: List[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is asked: it may be the query of this node that ends the server."""
    node, loads = Node(tmp_path), []

    def load(path: Path, schema: Schema) -> Any:
        loads.append(path)
        raise AwayError("the server ended")

    monkeypatch.setattr(opening_module, "load_dataset", load)
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    for number, seconds in enumerate((30.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 3600.0)):
        assert [node.ask("one"), node.ask("one"), node.ask("two")] == ["data.away"] * 3
        now[0] += seconds - 1
        assert node.ask("two") == "data.away"
        assert len(loads) == number + 1
        now[0] += 1
    assert node.looks() == 1

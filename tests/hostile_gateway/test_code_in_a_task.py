"""Attack: a task that carries code, as SQL, paths, shell commands or Python, where columns, levels and analyses are named.
Promise: nothing of a task is carried out. Each is declined by a code, the database is as before, and the node serves on.

What a graph that took over its process could do is in tests/node/test_confine.py: no file, socket or process is within reach, nor
memory beyond a limit.
"""

import hashlib
import os
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict

import pytest
from malicious import Attack, Victim

from orchestrator.analyses.registry import analysis_of, spelled_out
from orchestrator.privacy.clipping import with_clipping
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Task
from orchestrator.wire.training import Training

NODE = "icu-1"
SECRET = "Lovelace"
POLICY = '[require]\nunits = ["none"]\nstages = []\nsteady = false\n[allow]\nschemas_a_day = 100\n'
TOUCHED = "touched"
CODE = [
    "SELECT * FROM person",
    "age FROM person WHERE name = 'Lovelace' --",
    'age"; DROP TABLE person; --',
    "age'); DELETE FROM person; --",
    "load_extension('/tmp/evil.so')",
    "../../../../etc/passwd",
    "file:///etc/passwd",
    f"$(touch {TOUCHED})",
    f"`touch {TOUCHED}`",
    f"__import__('os').system('touch {TOUCHED}')",
    "{age.__class__.__mro__}",
    "%(age)s",
    "=cmd|'/c calc'!A0",
]


@pytest.fixture(scope="module")
def attack(victim: Victim, tmp_path_factory: pytest.TempPathFactory) -> Attack:
    """A node whose records are a table of an SQLite file."""
    attack = victim("age\n1\n", POLICY)
    path = tmp_path_factory.mktemp("database") / "hospital.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE person (age REAL, sex TEXT, name TEXT)")
        rows = [(20 + i % 50, "fm"[i % 2], SECRET if i == 7 else f"name-{i}") for i in range(60)]
        database.executemany("INSERT INTO person VALUES (?, ?, ?)", rows)
    database.close()
    os.replace(path, attack.node.data)
    return attack


def task_of(*features: Feature, analysis: "Dict[str, Any] | None" = None, **changes: Any) -> Task:
    schema = replace(Schema("table", "", (), {}, features), **changes)
    honest = Task(
        "t", schema, {}, rounds=Rounds(3, 3), analysis={"kind": "statistics", "bins": 2}, privacy=Privacy("none")
    )
    found = analysis_of(honest)
    training = Training(rounds=found.rounds, parameters=found.sums.size)
    task = with_clipping(spelled_out(replace(honest, training=training)))
    return task if analysis is None else replace(task, analysis=analysis)


AGE, SEX = Feature("age", 0, 100), Feature("sex", categories=("f", "m"))


def untouched(attack: Attack, before: str) -> None:
    attack.node.still_here()
    assert hashlib.sha256(attack.node.data.read_bytes()).hexdigest() == before
    assert not list(Path.cwd().glob(TOUCHED))
    assert not list(attack.node.folder.rglob(TOUCHED))
    assert attack.node.process is not None
    children = Path(f"/proc/{attack.node.process.pid}/task/{attack.node.process.pid}/children").read_text()
    assert not children.split(), "a process that nothing honest started"
    assert SECRET not in attack.gateway.words()


@pytest.mark.parametrize("place", ["number", "category", "level", "patient", "kind", "option"])
def test_nothing_of_a_task_is_carried_out(attack: Attack, place: str) -> None:
    before = hashlib.sha256(attack.node.data.read_bytes()).hexdigest()
    for number, code in enumerate(CODE):
        tasks: Dict[str, Task] = {
            "number": task_of(AGE, Feature(code, 0, 100)),
            "category": task_of(AGE, Feature(code, categories=("f", "m"))),
            "level": task_of(AGE, Feature("sex", categories=("f", code))),
            "patient": task_of(AGE, patient=code),
            "kind": task_of(AGE, analysis={"kind": code}),
            "option": task_of(AGE, SEX, analysis={"kind": "statistics", "bins": 2, "by": code}),
        }
        said = attack.gateway.offer(NODE, f"{place}-{number}", tasks[place])
        assert said["kind"] in ("declined", "refused"), (code, said)
        untouched(attack, before)
    asked = analysis_of(task_of(AGE, SEX)).begin(0)
    assert attack.gateway.offer(NODE, f"honest-{place}", task_of(AGE, SEX))["kind"] == "ready"
    sent = attack.gateway.round(NODE, f"honest-{place}", 1, {"weights": asked})
    assert sent.header["kind"] == "update"

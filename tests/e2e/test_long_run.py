"""What grows with rounds: real nodes and a real gateway, looked at twice. benchmarks/long_run.py does it over 20,000 rounds."""

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest

from orchestrator.gateway import audit_files
from orchestrator.gateway import course as course_module
from orchestrator.gateway.broker import OwnBroker
from orchestrator.gateway.course import Course
from orchestrator.gateway.gateway import Gateway
from orchestrator.gateway.store import Store
from orchestrator.gateway.web.listener import Listener
from orchestrator.gateway.web.model import DashboardModel
from orchestrator.gateway.web.parts import to_json
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Task, task_to_dict
from orchestrator.wire.training import Training

NODE = Path(__file__).parents[2] / "benchmarks" / "no_training_node.py"
FIRST, LAST, EVENTS = 110, 160, 60


def looked(folder: Path) -> Dict[str, float]:
    """Sizes of what a gateway keeps, and of what its page sends."""
    model = DashboardModel(folder, "long", Listener(None, "long"))
    sections = {name: len(to_json(section)) for name, section in model.sections().items()}
    model.close()
    database = sqlite3.connect(folder / "gateway.sqlite")
    counted = {
        table: database.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]
        for table in ("events", "phases", "updates")
    }
    return {**counted, "page": sum(sections.values()), "rounds": sections["rounds"], "largest": max(sections.values())}


def test_nothing_but_figures_grows_with_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(course_module, "MOST_EVENTS", EVENTS)
    monkeypatch.setattr(audit_files, "FILE_BYTES", 16 << 10)
    schema = Schema("table", "y", ("a", "b"), {"0": 0, "1": 1}, (Feature("x", 0, 1),), standardization="range")
    task = Task("long", schema, {}, Training(rounds=LAST), Privacy(unit="none"), Rounds(2, 2))
    (tmp_path / "data.csv").write_text("x,y\n0.5,1\n")
    looks: List[Dict[str, float]] = []

    def progress(event: Dict[str, Any]) -> None:
        if event["event"] == "aggregated" and event["round"] in (FIRST, LAST - 1):
            looks.append(looked(tmp_path))

    store = Store(tmp_path / "gateway.sqlite")
    store.create_run("long", task_to_dict(task), b"", np.zeros(50, np.float32))
    audited = store.audit(tmp_path / "audit.jsonl").progress(progress)
    with OwnBroker("embedded") as broker:
        gateway = Gateway(store, "long", "long", broker.address, broker, progress=audited)
        rest = ["long", "{0}", str(tmp_path / "data.csv"), str(tmp_path / "{0}")]
        command = [sys.executable, str(NODE), str(broker.address), *rest]
        nodes = [subprocess.Popen([word.format(name) for word in command]) for name in ("n0", "n1")]
        try:
            gateway.run()
            assert [node.wait(600) for node in nodes] == [0, 0]
        finally:
            for node in nodes:
                node.kill()
    first, last = looks
    for name, most in (("events", EVENTS + 5), ("phases", 2 * EVENTS), ("updates", 2)):
        assert max(first[name], last[name]) <= most, name
    for look in looks:  # between 50 and 100 points of curves, and eight rounds whole
        assert look["rounds"] < 100 * 66 + 8 * 230
        assert look["largest"] < 10_000
        assert look["page"] - look["rounds"] < 8_000
    assert len(list(tmp_path.glob("audit*.jsonl"))) > 2, "earlier files beside the one that is written to"
    again = Course(store, "long", task, lambda event: None, lambda actions: None)
    again.replay()
    assert again.coordinator == gateway.coordinator
    database = sqlite3.connect(tmp_path / "n0" / "node.sqlite")
    assert database.execute("SELECT COUNT(*) FROM releases").fetchone() == (1,)
    assert database.execute("SELECT first, last FROM past").fetchall() == [(1, LAST - 1)]
    assert len(json.loads(to_json([r["round"] for r in store.results("long")]))) == LAST

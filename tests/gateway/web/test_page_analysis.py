"""The pages of a run that is an analysis: nothing of models, and where its tables are."""

import io
import json
import time
import zipfile
from pathlib import Path
from typing import Any, Dict

import numpy as np
from stage import Stage, gateway_at_work

from orchestrator.analyses.base import Total
from orchestrator.analyses.registry import analysis_of, spelled_out
from orchestrator.gateway.analysed import NO_BUNDLE, report_of, write_result
from orchestrator.gateway.store import Store
from orchestrator.privacy.statement import statement
from orchestrator.rounds.events import Aggregated, Arrived, Joined, Started
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Task, task_to_dict
from orchestrator.wire.training import Training

RUN = "study-0123abcd"
SCHEMA = Schema("table", "", (), {}, (Feature("age", 0, 100), Feature("sex", categories=("f", "m"))))


def make_run(out: Path, ended: bool) -> Dict[str, Any]:
    """As a gateway leaves it while two nodes answer the only round, or with its tables."""
    task = Task(
        "study", SCHEMA, {}, privacy=Privacy("none"), rounds=Rounds(2, 2), analysis={"kind": "statistics", "bins": 4}
    )
    analysis = analysis_of(task)
    task = spelled_out(
        Task(
            "study",
            SCHEMA,
            {},
            training=Training(rounds=1, parameters=analysis.sums.size),
            privacy=Privacy("none"),
            rounds=Rounds(2, 2),
            analysis=task.analysis,
        )
    )
    store, at = Store(out / "gateway.sqlite"), time.time()
    store.create_run(RUN, task_to_dict(task), b"", analysis.begin(0))
    for event in (Started(at), Joined(at, "a", 120), Joined(at, "b", 80), Arrived(at, "a", 1, "d", 120.0)):
        store.append(RUN, event)
    if not ended:
        store.close()
        return {}
    store.append(RUN, Arrived(at, "b", 1, "d", 80.0))
    figures = {
        "bytes_up": 200,
        "bytes_down": 300,
        "seconds": 0.5,
        "codec_error": None,
        "nodes": ["a", "b"],
        "updates": 2,
    }
    store.put_result(RUN, 1, {"round": 1, **figures, "analysis": {"units": 200.0}})
    store.append(RUN, Aggregated(at, 1, True))
    _, folded = analysis.fold(analysis.begin(0), Total(np.arange(float(analysis.sums.size))))
    claim, result = statement(task, {"a": 120, "b": 80}), analysis.result(folded.state, "records")
    folder = write_result(out, RUN, result, claim)
    report = {"run": RUN, "task": "study", "nodes": 2, "rounds": 1, "privacy": claim, "per_round": []}
    wire = {"bytes_up_per_node_round": 90.0, "bytes_down_per_node_round": 40.0, "float32_bytes": 44}
    report["wire"] = {**wire, "codec": task.travels_as, "counted": "on the nodes' sockets"}
    report["memory_mib"] = {"gateway": 60.0, "broker": 30.0, "nodes": [50.0, 50.0]}
    report |= {"bundle": None, "digest": "", "no_bundle": NO_BUNDLE}
    report["analysis"] = {**report_of(result, task), "folder": str(folder)}
    store.put_report(RUN, at, report)
    store.close()
    return report


def test_a_finished_one_leads_to_its_tables(tmp_path: Path, stage: Stage) -> None:
    report = make_run(tmp_path, ended=True)
    chromium, client = stage.browser, stage.client
    with stage.showing(tmp_path):
        chromium.wait("document.querySelector('#next')")
        text = chromium.text()
        assert f"Finished: 3 tables are in {report['analysis']['folder']}." in text
        assert "fetch the tables" in text
        for word in ("bundle", "flash", "accuracy of the final model", "quantized", "fedavg"):
            assert word not in text.lower(), word
        status, headers, _ = client.ask(f"/files/{RUN}/report.json")
        assert status == 200
        assert "attachment" in headers["content-disposition"]
        packed = chromium.evaluate(
            f"fetch('/files/{RUN}/tables.zip').then((r) => r.arrayBuffer()).then((b) => Array.from(new Uint8Array(b)))"
        )
        with zipfile.ZipFile(io.BytesIO(bytes(packed))) as archive:
            assert archive.namelist() == [
                "01-columns.csv",
                "02-histogram-age.csv",
                "03-levels-sex.csv",
                "privacy.md",
                "result.md",
                "result.png",
            ]
            assert archive.read("03-levels-sex.csv").decode().splitlines()[0] == "sex,records"
        assert client.ask(f"/files/{RUN}/bundle.zip")[0] == 404
        words = {row["term"]: row["text"] for row in client.json(f"/api/runs/{RUN}")["run"]["words"]}
        assert words["Analysis"].startswith("statistics of 2 columns")
        assert "Model" not in words
        chromium.open(f"{stage.url}statement/{RUN}")
        chromium.wait("document.querySelector('#statement .identity')")
        said = " ".join(chromium.text().split())
        for wanted in ("Result 3 tables", "What was computed", "sums can reveal records"):
            assert wanted in said
        for word in ("digest", "model", "train", "none yet"):
            assert word not in said.lower(), word
        chromium.open(f"{stage.url}node/{RUN}/a")
        chromium.wait("document.querySelector('#node-state')")
        assert "in the aggregate of 1 round" in chromium.text()
        assert "How good the model is" not in chromium.text()


def test_while_it_goes_on_nodes_compute_and_train_nothing(tmp_path: Path, stage: Stage) -> None:
    chromium = stage.browser
    with gateway_at_work(tmp_path):
        make_run(tmp_path, ended=False)
        with stage.showing(tmp_path):
            chromium.wait("document.querySelector('#nodes tbody tr')")
            text = chromium.text()
            assert "Round 1 of 1" in text
            assert "computing" in text
            assert "1 sum here" in text
            assert "training" not in text.lower()
            assert json.dumps(stage.client.json("/api/runs")).count('"statistics"') == 1

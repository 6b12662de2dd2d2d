"""The whole audit: what its report says, its verdict, and how it gets into a bundle's statement."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict

import pytest

import orchestrator.audit.run as run_module
import orchestrator.privacy.noisy_sum as noisy_sum
from model_export.manifest import FILES, SIGNATURE, dump_manifest, read_manifest
from orchestrator.audit.one_run import reach
from orchestrator.audit.plot import plot_audit
from orchestrator.audit.run import BROKEN, CONFIDENCE, CONSISTENT, NO_CLAIM, TOO_FEW, Prepared, Request, audit
from orchestrator.audit.statement import PAGE, write_audit
from orchestrator.cli.attack import _rows
from orchestrator.cli.main import main
from orchestrator.demo.tasks import Prepared as DemoTask
from orchestrator.errors import DataError, UsageError
from orchestrator.gateway.settings import Config
from orchestrator.privacy.statement import statement
from orchestrator.wire.protection import Aggregation
from orchestrator.wire.task import Task


def attack(demo: DemoTask, task: Task, ready: Prepared, request: Request, evaluation: bool = True) -> Dict[str, Any]:
    rows = {name: str(path) for name, path in demo.test_files.items()} if evaluation else {}
    files = list(demo.node_files.values())
    return audit(Config(task, evaluation=rows), Path(), files, request, lambda what, done, of: None, ready)


@pytest.fixture(scope="module")
def report(demo: DemoTask, task: Task, ready: Prepared) -> Dict[str, Any]:
    return attack(demo, task, ready, Request(400))


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task states all of its noise, so that planning changes nothing; its process takes seconds to start.

    Probes are left out, which test_probes.py has.
    """
    monkeypatch.setattr(run_module, "plan_apart", lambda task: (task, None))
    monkeypatch.setattr(run_module, "examine", lambda *_: iter(()))


def test_an_honest_report(report: Dict[str, Any]) -> None:
    assert report["verdict"] == CONSISTENT
    assert report["because"] == []
    assert 0.9 < report["claim"]["epsilon"] <= 1.0
    usual, sharp = report["canaries"]["bounds"]
    assert usual["delta"] == 1e-3
    assert sharp["delta"] in (1e-5, 1e-6)
    assert sharp["epsilon"] <= sharp["claimed"] < sharp["reach"]
    assert sum(len(part) for part in report["canaries"]["scores"].values()) == 400
    assert report["membership"]["members"] == sum(report["nodes"].values())
    assert report["membership"]["others"] == 142
    assert report["inversion"]["plain"] < 1e-5 < report["inversion"]["protected"]
    assert report["masks"] is None
    assert TOO_FEW not in report["limits"]
    probed = {kind["kind"] for kind in report["probes"]["kinds"]}
    assert {"training on the nodes' records", "training noise", "sampling", "one unit in training"} < probed
    assert {"standardization noise", "generators", "two processes"} < probed
    assert report["probes"]["wrong"] == []
    assert report["probes"]["tests"] > 50
    json.dumps(report, allow_nan=False)


def test_a_build_whose_nodes_fail_is_not_consistent(
    demo: DemoTask, task: Task, ready: Prepared, planned: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here because nothing is clipped, which the grid refuses to round."""
    monkeypatch.setattr(noisy_sum, "clip_l2", lambda vectors, clip_norm, norms, unit, out: vectors / unit)
    found = attack(demo, task, ready, Request(8))
    assert found["verdict"] == BROKEN
    assert any(
        "training fails with PrivacyError" in reason and "clip it first" in reason for reason in found["because"]
    )
    assert found["canaries"] is found["membership"] is None
    json.dumps(found, allow_nan=False)
    for row in _rows(found):
        assert len(row) == 4


def test_a_broken_build_says_why(demo: DemoTask, task: Task, ready: Prepared, planned: None) -> None:
    found = attack(demo, task, ready, Request(400, broken="noise-off"), evaluation=False)
    assert found["verdict"] == BROKEN
    epsilon, noise, *laws = found["because"]
    assert "guesses about canaries were right" in epsilon
    share = re.match(r"the noise in released sums is (\S+) times the declared", noise)
    assert share is not None
    assert float(share[1]) < 0.1  # what rounding leaves
    assert laws
    assert all(law.startswith("training on the nodes' records: ") for law in laws)
    assert found["membership"]["others"] + sum(found["nodes"].values()) == 427  # a part of the nodes' own rows


def test_reused_masks_are_a_contradiction(demo: DemoTask, task: Task, ready: Prepared, planned: None) -> None:
    secure = replace(task, aggregation=Aggregation("masked"), rounds=replace(task.rounds, nodes=3, quorum=3))
    secure = replace(secure, privacy=replace(task.privacy, noise="distributed"))
    found = attack(demo, secure, ready, Request(8, broken="mask-reuse"))
    assert found["verdict"] == BROKEN
    assert len(found["because"]) == 1
    assert "masks are reused" in found["because"][0]
    assert len(found["nodes"]) == 3  # a sum needs three, so the two files served again
    assert TOO_FEW in found["limits"]


def test_more_seeds_reach_farther(demo: DemoTask, task: Task, ready: Prepared, planned: None) -> None:
    found = attack(demo, task, ready, Request(100, seeds=3, broken="wrong-scale"))
    canaries = found["canaries"]
    assert [len(bounds) for bounds in canaries["bounds_per_run"]] == [2, 2, 2]
    pooled = canaries["bounds"][1]
    alpha = (1 - CONFIDENCE) / len(canaries["bounds"])
    assert pooled["reach"] > reach(100, pooled["delta"], alpha)
    assert pooled["epsilon"] > min(
        bounds[1] for bounds in canaries["bounds_per_run"]
    )  # of one run, chance may make it more


def test_without_a_claim_there_is_none_to_break(demo: DemoTask, task: Task, ready: Prepared) -> None:
    open_task = replace(task, privacy=replace(task.privacy, unit="none"))
    found = attack(demo, open_task, ready, Request())
    assert found["verdict"] == NO_CLAIM
    assert found["canaries"] is None
    assert found["inversion"]["plain"] < 1e-5
    with pytest.raises(UsageError, match="no canaries to plot"):
        plot_audit(found, Path("x.png"))


def test_data_a_node_would_decline_and_files_that_are_not_there(
    demo: DemoTask, task: Task, ready: Prepared, planned: None, tmp_path: Path
) -> None:
    loose = replace(task, privacy=replace(task.privacy, delta=0.01))
    with pytest.raises(UsageError, match="node-1 would decline"):
        attack(demo, loose, ready, Request())
    with pytest.raises(DataError, match="no such file"):
        audit(Config(task), Path(), [tmp_path / "none.csv"], Request(), lambda what, done, of: None, ready)


def test_a_plot_is_a_picture(report: Dict[str, Any], tmp_path: Path) -> None:
    plot_audit(report, tmp_path / "audit.png")
    assert (tmp_path / "audit.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match=r"\.png or \.svg"):
        plot_audit(report, tmp_path / "audit.txt")


def bundle(folder: Path, task: Task) -> Path:
    """A bundle's manifest and page, without the model."""
    tensor = {"shape": [1, 30], "dtype": "int8", "scale": 0.1, "zero_point": 0}
    arena = {f"tflm_{name}": 1 for name in ("bytes", "measured_bytes", "estimate_32bit_bytes")}
    content = {
        "schema": 1,
        "name": task.name,
        "created_by": "test",
        "model_digest": "0" * 16,
        "files": {name: {"sha256": "0" * 64, "bytes": 1} for name in FILES},
        "input": tensor,
        "output": tensor,
        "labels": ["malignant", "benign"],
        "features": [],
        "operators": [],
        "arena": {**arena, "tflm_measured_on": "test", "direct_bytes": 1, "direct_refused": None},
        "known_answer_rows": 0,
        "accuracy": {},
        "privacy": {**statement(task, {"node-1": 292, "node-2": 135}), "page_sha256": "0" * 64},
    }
    folder.mkdir()
    (folder / "manifest.json").write_bytes(dump_manifest(content))
    return folder


def test_the_result_goes_into_the_statement_of_a_bundle(report: Dict[str, Any], task: Task, tmp_path: Path) -> None:
    import hashlib

    folder = bundle(tmp_path / "bundle", task)
    write_audit(folder, report)
    stated = read_manifest(folder)["privacy"]
    assert stated["audit"]["verdict"] == CONSISTENT
    assert stated["audit"]["epsilon_at_least"] <= stated["audit"]["epsilon_claimed"]
    page = (folder / PAGE).read_bytes()
    assert hashlib.sha256(page).hexdigest() == stated["page_sha256"]
    assert b"consistent with the claim" in page
    with pytest.raises(UsageError, match="of a broken build"):
        write_audit(folder, {**report, "broken": "noise-off"})
    with pytest.raises(UsageError, match="states unit 'record' at delta 0.001"):
        write_audit(folder, {**report, "unit": "patient"})
    with pytest.raises(UsageError, match="no bundle; name the folder"):
        write_audit(tmp_path, report)


def test_a_signature_that_no_longer_holds_is_announced(report: Dict[str, Any], task: Task, tmp_path: Path) -> None:
    folder = bundle(tmp_path / "bundle", task)
    assert write_audit(folder, report) == ""
    (folder / SIGNATURE).write_text("{}")
    assert "sign it again: edgeward model sign" in write_audit(folder, report)


def test_a_bundle_is_asked_for_before_the_audit_begins(
    task: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder of a bundle is what --statement means: it was refused as no file."""
    words = ["attack", str(tmp_path / "none.toml"), "--data", str(tmp_path / "none.csv"), "--statement"]
    assert main([*words, str(tmp_path)]) == 2
    assert "no bundle; name the folder" in capsys.readouterr().err
    assert main([*words, str(bundle(tmp_path / "bundle", task))]) == 2
    assert "none.toml" in capsys.readouterr().err

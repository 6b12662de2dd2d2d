"""Audits of tasks with an analysis: honest builds are left alone, broken ones lose more than they claim."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest
from int8_samples import classifier, int8_file

import orchestrator.audit.run as run_module
from orchestrator.analyses.registry import analysis_of
from orchestrator.audit.laws import LEVEL
from orchestrator.audit.run import BROKEN, CONSISTENT, Request, audit
from orchestrator.cli.main import main
from orchestrator.errors import UsageError
from orchestrator.gateway.settings import Config
from orchestrator.privacy.accounting_process import plan_apart
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Task

FEATURES = (
    Feature("age", 18, 95),
    Feature("ferritin", 1, 5000, transform="log"),
    Feature("sex", categories=("f", "m")),
)
KINDS: Dict[str, Dict[str, Any]] = {
    "statistics": {"kind": "statistics", "bins": 5},
    "quantiles": {"kind": "quantiles", "columns": ("age",), "bins": 8},
    "compare": {"kind": "compare", "by": "sex"},
    "linear": {"kind": "regression", "family": "linear", "outcome": "age"},
    "logistic": {"kind": "regression", "family": "logistic", "outcome": "sex", "rounds": 4},
    "survival": {"kind": "survival", "time": "age", "event": "sex", "steps": 8},
    "performance": {"kind": "performance", "outcome": "sex", "coefficients": {"age": 0.05}, "bins": 9},
    "pca": {"kind": "pca"},
    "kmeans": {"kind": "kmeans", "clusters": 2, "rounds": 3},
    "mixture": {"kind": "mixture", "components": 2, "rounds": 3},
    "hashing": {"kind": "hashing", "outcome": "sex", "bits": 8, "bins": 8},
    "dosing": {"kind": "dosing", "weight": "age", "doses": 2, "pairs": 3, "rounds": 3},
    "policy": {"kind": "policy", "action": "sex", "reward": "age", "episodes": True, "pairs": 3, "rounds": 3},
    "forest": {"kind": "forest", "outcome": "sex", "trees": 20, "depth": 3, "bins": 4},
}
PATIENT = Privacy("patient", epsilon=1.0, delta=1e-4, sampling_rate=1.0, noise="node")
RECORD = replace(PATIENT, unit="record")


def scored_by_a_file() -> Tuple[Task, bytes]:
    """(a task of the performance of a small int8 model, that model)."""
    kernel = np.random.default_rng(3).integers(-127, 128, (4, 2)).astype("i1")
    model = int8_file(*classifier(x={"shape": (1, 2)}, kernel={"shape": (4, 2), "data": kernel}))
    declared = {"file": "model.tflite", "sha256": hashlib.sha256(model).hexdigest(), "size": len(model)}
    declared.update(inputs=["age", "ferritin"], mean=[50.0, 5.0], std=[20.0, 2.0], output=2, numbers="int8")
    said = {"kind": "performance", "outcome": "sex", "model": declared, "bins": 9}
    task = replace(task_of("performance"), analysis=said)
    return replace(task, privacy=replace(task.privacy, clip_norm=analysis_of(task).sums.bound)), model


def task_of(kind: str, privacy: Privacy = RECORD, multiplier: float = 3.3) -> Task:
    """With its noise, so that planning is left out; multiplier 3.3 is about epsilon 1 at delta 1e-4 for one release."""
    rounds = Rounds(3, 3) if privacy.noise == "distributed" else Rounds(2, 2)
    aggregation = Aggregation("masked") if privacy.noise == "distributed" else Aggregation()
    schema = Schema("table", "", (), {}, FEATURES, patient="who")
    task = Task("study", schema, {}, privacy=privacy, rounds=rounds, aggregation=aggregation, analysis=KINDS[kind])
    analysis = analysis_of(task)
    clipped = replace(privacy, clip_norm=analysis.sums.bound, noise_multiplier=multiplier * analysis.rounds**0.5)
    return replace(task, privacy=clipped, training=replace(task.training, rounds=analysis.rounds))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> List[Path]:
    draw, folder = np.random.default_rng(2), tmp_path_factory.mktemp("audit")
    for site in range(2):
        rows = [
            f"{draw.integers(20, 90)},{draw.uniform(5, 900):.1f},{draw.choice(['f', 'm', ''])},p{row // 3}"
            for row in range(60)
        ]
        (folder / f"{site}.csv").write_text("\n".join(["age,ferritin,sex,who", *rows]) + "\n")
    return sorted(folder.glob("*.csv"))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks state all of their noise, so nothing is planned; probes are left out."""
    monkeypatch.setattr(run_module, "plan_apart", lambda task: (task, None))
    monkeypatch.setattr(run_module, "examine_analysis", lambda *_: iter(()))


def attacked(
    task: Task, files: List[Path], runs: int, broken: str = "", seeds: int = 1, model: bytes = b""
) -> Dict[str, Any]:
    request = Request(runs, seeds, broken)
    return audit(Config(task), Path(), files, request, lambda what, done, of: None, model=model)


def check_noise(report: Dict[str, Any]) -> None:
    """As large as declared, but for what the grid costs and six standard errors."""
    noise = report["canaries"]["measured"]["noise"]
    assert abs(noise["measured"] - 1.005) < 0.005 + 6 * noise["error"]


def test_an_honest_report_has_the_form_of_a_trainings(files: List[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "plan_apart", lambda task: (task, None))
    report = attacked(task_of("statistics"), files, 150, seeds=2)
    assert (report["verdict"], report["because"]) == (CONSISTENT, [])
    assert 0.8 < report["claim"]["epsilon"] < 1.2
    canaries = report["canaries"]
    assert len(canaries["scores"]["in"]) + len(canaries["scores"]["out"]) == 300
    assert all(bound["epsilon"] <= bound["claimed"] for bound in canaries["bounds"])
    assert any(bound["reach"] > bound["claimed"] for bound in canaries["bounds"])
    check_noise(report)
    canary = canaries["measured"]["sensitivity"]
    assert abs(canary["measured"] - 1) < 6 * canary["error"]
    probed = {kind["kind"] for kind in report["probes"]["kinds"]}
    assert {"runs of the analysis", "noise of the analysis", "rounding", "one unit in the analysis"} < probed
    assert {"generators", "two processes"} < probed
    assert report["probes"]["level"] == LEVEL
    assert report["membership"] is report["inversion"] is report["masks"] is None
    json.dumps(report, allow_nan=False)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_that_takes_noise_is_played(files: List[Path], quick: None, kind: str) -> None:
    report = attacked(task_of(kind, PATIENT), files, 16)
    assert (report["verdict"], report["because"]) == (CONSISTENT, [])
    check_noise(report)


@pytest.mark.parametrize(
    ("kind", "broken"),
    [
        ("statistics", "noise-tenth"),
        ("statistics", "clip-off"),
        ("statistics", "noise-of-all-nodes"),
        ("logistic", "noise-tenth"),
    ],
)
def test_more_than_claimed_is_lost_by_a_broken_build(files: List[Path], quick: None, kind: str, broken: str) -> None:
    report = attacked(task_of(kind), files, 250, broken)
    assert report["verdict"] == BROKEN
    assert report["because"][0].startswith("epsilon is at least")
    assert any(bound["epsilon"] > 1.5 * bound["claimed"] for bound in report["canaries"]["bounds"])


def test_records_that_a_model_file_scores(files: List[Path], quick: None) -> None:
    task, model = scored_by_a_file()
    report = attacked(task, files, 40, model=model)
    assert (report["verdict"], report["because"]) == (CONSISTENT, [])
    check_noise(report)
    assert attacked(task, files, 250, "clip-off", model=model)["verdict"] == BROKEN


def test_sums_with_shared_noise_and_masks(files: List[Path], quick: None) -> None:
    shared = task_of("statistics", replace(RECORD, noise="distributed"))
    report = attacked(shared, files, 60)
    assert (report["verdict"], report["because"]) == (CONSISTENT, [])
    assert report["masks"]["holds"]
    assert len(report["nodes"]) == 3
    for broken, why in (("noise-share", "the noise in released sums is 0."), ("mask-reuse", "masks are reused")):
        report = attacked(shared, files, 60, broken)
        assert report["verdict"] == BROKEN
        assert any(why in reason for reason in report["because"])
        noise = report["canaries"]["measured"]["noise"]
        share = 3**-0.5 if broken == "noise-share" else 1.0
        assert abs(noise["measured"] - share) < 0.01 + 6 * noise["error"] * share


def test_a_patient_is_one_unit(files: List[Path], quick: None) -> None:
    report = attacked(task_of("statistics", PATIENT), files, 60, "record-for-patient")
    assert report["verdict"] == BROKEN
    assert not report["canaries"]["measured"]["sensitivity"]["holds"]


@pytest.mark.parametrize("broken", ["clip-loose", "coarse-grid"])
def test_smaller_mistakes_are_found_by_probes(files: List[Path], monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    monkeypatch.setattr(run_module, "plan_apart", lambda task: (task, None))
    report = attacked(task_of("statistics"), files, 16, broken)
    assert report["verdict"] == BROKEN
    assert report["probes"]["wrong"]


def test_what_cannot_be_audited(files: List[Path], quick: None) -> None:
    with pytest.raises(UsageError, match="no privacy"):
        attacked(task_of("statistics", Privacy("none")), files, 16)
    for broken, why in (
        ("noise-reused", "generator of its own"),
        ("empty-silent", "no sample is empty"),
        ("rate-up", "samples no"),
        ("real-size", "divide by a number of units"),
        ("statistics-noise-off", "no standardization sums"),
        ("evaluation-twice", "no federated evaluation"),
        ("tally-twice", "counts no clipped"),
        ("record-for-patient", "not 'patient'"),
    ):
        with pytest.raises(UsageError, match=why):
            attacked(task_of("statistics"), files, 16, broken)


def test_on_the_command_line(
    files: List[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    planned: List[Any] = []

    def planned_once(task: Task) -> Any:
        if not planned:
            planned.append(plan_apart(task))
        return planned[0]

    monkeypatch.setattr(run_module, "plan_apart", planned_once)
    features = '[{ name = "age", minimum = 18, maximum = 95 }, { name = "sex", categories = ["f", "m"] }]'
    (tmp_path / "edgeward.toml").write_text(
        f'[task]\nname = "study"\n[task.analysis]\nkind = "statistics"\nbins = 5\n[task.schema]\nkind = "table"\n'
        f'features = {features}\n[task.privacy]\nunit = "record"\nepsilon = 1.0\ndelta = 1e-4\nnoise = "node"\n'
    )
    words = ["attack", str(tmp_path / "edgeward.toml"), "--data", str(files[0]), "--data", str(files[1])]
    assert main([*words, "--canaries", "100", "--plot", str(tmp_path / "audit.svg")]) == 0
    shown = capsys.readouterr().out
    for said in ("study claims epsilon", "consistent with the claim", "runs of the analysis", "epsilon at delta"):
        assert said in shown
    assert "<svg" in (tmp_path / "audit.svg").read_text()
    assert main([*words, "--canaries", "100", "--broken", "noise-tenth", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["verdict"] == "CLAIM BROKEN"

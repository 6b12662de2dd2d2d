"""What a bundle says of how good its model is: all figures the gateway has, with intervals, and nothing of single sites."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict

import numpy as np
import pytest

from model_export.bundle import verify_bundle, write_bundle
from model_export.manifest import MANIFEST, dump_manifest
from model_export.signing import SignatureError, generate_key, read_private_key, sign_bundle
from orchestrator.cli.main import main
from orchestrator.gateway.counts import of_sums
from orchestrator.gateway.evaluation import score
from orchestrator.gateway.scores import figures
from orchestrator.gateway.stated_figures import of_report, state_figures
from orchestrator.wire.evaluation import count
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Selection, Task

SCHEMA = Schema("table", "y", ("no", "yes"), {"0": 0, "1": 1}, (Feature("x", 0, 1),), standardization="range")
TASK = Task("t", SCHEMA, {"kind": "mlp"}, privacy=Privacy())
RNG = np.random.default_rng(0)
Y = (RNG.random(300) < 0.3).astype(int)
_POSITIVE = 1 / (1 + np.exp(-RNG.normal(2.0 * Y - 1.0, 1.0)))
P = np.stack([1 - _POSITIVE, _POSITIVE], axis=1)
OWN = score(Y, P, ["icu"] * 150 + ["ward"] * 150, ("no", "yes"))


@pytest.fixture
def bundle(shared_data: Callable[[str], Path], tmp_path: Path) -> Path:
    write_bundle(
        tmp_path / "b", tflite=(shared_data("mlperf-tiny") / "ad_int8.tflite").read_bytes(), name="ad", engine="tflm"
    )
    return tmp_path / "b"


def report() -> Dict[str, Any]:
    federated = [figures(of_sums(count(Y, P, 10), 2, 10, noise)) for noise in (1.0, 40.0)]
    rounds = [{"round": number, "federated": each} for number, each in zip((5, 10), federated)]
    return {"metrics": {"tflm": OWN, "int8": OWN, "float": OWN}, "per_round": [*rounds, {"round": 11}]}


def test_every_clinical_figure_is_stated_with_its_interval_and_no_site() -> None:
    stated = of_report(report(), TASK)
    assert list(stated) == ["float", "int8", "tflm", "held_out"]
    for name in ("base_rate", "accuracy", "sensitivity", "specificity", "auc", "pr_auc", "macro_f1", "loss"):
        low, high = stated["tflm"]["intervals"][name]
        assert low <= stated["tflm"][name] <= high, name
    assert {"calibration_error", "calibration_slope", "thresholds"} <= set(stated["tflm"])
    assert stated["held_out"]["round"] == 10
    assert "accuracy" in stated["held_out"]["too_noisy"]
    assert "accuracy" not in stated["held_out"]
    text = json.dumps(stated, allow_nan=False)
    assert not any(word in text for word in ("icu", "ward", "sites", "per_node", "confusion"))


def test_where_the_sample_of_nodes_is_secret_no_round_is_stated() -> None:
    secret = replace(TASK, privacy=Privacy(unit="node", noise="gateway"), selection=Selection(sampling_rate=0.5))
    assert list(of_report(report(), secret)) == ["float", "int8", "tflm"]


def test_a_signed_bundle_stays_signed(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generate_key(tmp_path / "key", tmp_path / "key.pub")
    key = read_private_key(tmp_path / "key")
    sign_bundle(bundle, key)
    state_figures(bundle, of_report(report(), TASK), tmp_path / "key")
    assert verify_bundle(bundle, public_key=key.public_key())["accuracy"]["tflm"]["accuracy"] == OWN["accuracy"]
    assert main(["model", "verify", str(bundle), "--key", str(tmp_path / "key.pub")]) == 0
    said = capsys.readouterr().out
    assert "sensitivity" in said
    assert "too noisy to show" in said
    state_figures(bundle, {}, None)
    with pytest.raises(SignatureError, match="did not sign"):
        verify_bundle(bundle)


@pytest.mark.parametrize(
    "stated", [{"tflm": 7}, {"tflm": {"accuracy": "high", "intervals": 3}}, {"tflm": {"intervals": {"auc": [1]}}}]
)
def test_figures_that_are_none_are_not_shown(
    bundle: Path, capsys: pytest.CaptureFixture[str], stated: Dict[str, Any]
) -> None:
    manifest = json.loads((bundle / MANIFEST).read_text())
    (bundle / MANIFEST).write_bytes(dump_manifest({**manifest, "accuracy": stated}))
    assert main(["model", "verify", str(bundle)]) == 0
    assert "high" not in capsys.readouterr().out

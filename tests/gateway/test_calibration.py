"""Where the rows that quantize a model come from, and what of them a bundle may show."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stored_runs import finish_run, write_bundle, write_run

from orchestrator.errors import UsageError
from orchestrator.gateway.calibration import CALIBRATION_ROWS, Calibration, quantization_rows
from orchestrator.gateway.federation import Orchestrator
from orchestrator.gateway.registry import keep_model
from orchestrator.gateway.retraining import run_and_watch
from orchestrator.gateway.settings import Config
from orchestrator.gateway.store import Store
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Task

FEATURES = (Feature("age", 0, 110), Feature("ward", categories=("a", "b")))
TABLE = Task("t", Schema("table", "y", ("no", "yes"), {"0": 0, "1": 1}, FEATURES), {"kind": "mlp"}, privacy=Privacy())
SIGNAL = replace(TABLE, schema=Schema("signal", "y", ("no", "yes"), {"0": 0, "1": 1}, samples=4))
MEAN, STD = np.array([50, 0.5, 0.5], np.float32), np.array([20, 0.5, 0.5], np.float32)
ROWS = np.column_stack([np.linspace(3, 107, 30), np.ones(30), np.zeros(30)]).astype(np.float32)
STILL, UNIT = np.zeros((4, 1), np.float32), np.ones((4, 1), np.float32)


def test_without_rows_all_is_drawn_from_released_statistics() -> None:
    rows, reference, origin = quantization_rows(TABLE, MEAN, STD, None)
    assert reference is rows
    assert rows.shape == (CALIBRATION_ROWS, 3)
    ages = rows[:, 0] * 20 + 50
    assert ages.min() >= -0.001
    assert ages.max() <= 110.001
    assert abs(ages.mean() - 50) < 6
    assert "means and deviations (noised)" in origin["input_profile"]
    ranged = replace(TABLE, schema=replace(TABLE.schema, standardization="range"))
    assert quantization_rows(ranged, MEAN, STD, None)[2]["input_profile"] == "rows drawn from public ranges"
    with pytest.raises(UsageError, match="needs calibration rows"):
        quantization_rows(SIGNAL, STILL, UNIT, None)


@pytest.mark.parametrize("unit", ["record", "none"])
def test_calibration_rows_set_ranges_and_are_no_reference(unit: str) -> None:
    task = replace(TABLE, privacy=Privacy(unit=unit))
    rows, reference, origin = quantization_rows(task, MEAN, STD, Calibration(ROWS))
    np.testing.assert_array_equal(rows, (ROWS - MEAN) / STD)
    assert reference is not None
    assert not {row.tobytes() for row in rows} & {row.tobytes() for row in reference}
    np.testing.assert_array_equal(reference, quantization_rows(task, MEAN, STD, None)[1])
    assert "no claim covers" in origin["int8_ranges"]


def test_a_signal_has_a_reference_only_where_its_rows_are_public() -> None:
    beats = np.random.default_rng(0).normal(size=(12, 4, 1)).astype(np.float32)
    rows, reference, origin = quantization_rows(SIGNAL, STILL, UNIT, Calibration(beats))
    assert reference is None
    assert origin["input_profile"].startswith("left out")
    rows, reference, origin = quantization_rows(SIGNAL, STILL, UNIT, Calibration(beats, public=True))
    assert reference is rows
    assert origin["input_profile"] == "deciles of 12 calibration rows, declared public"


def test_watching_signals_for_drift_needs_public_rows(tmp_path: Path) -> None:
    task = replace(SIGNAL, privacy=Privacy(runs=2))
    with pytest.raises(UsageError, match="set calibration_public = true"):
        run_and_watch(Config(task, calibration="x.npz"), tmp_path, tmp_path, lambda event: None, 1.0, 0.25)
    with pytest.raises(UsageError, match="calibration_public: is about the rows of `calibration`"):
        Orchestrator(Config(TABLE, calibration_public=True), tmp_path, tmp_path / "out", lambda event: None, 1.0)


def test_the_registry_copies_what_belongs_to_a_bundle(tmp_path: Path) -> None:
    store = Store(tmp_path / "gateway.sqlite")
    write_run(store, "ward-0123abcd", 1000.0)
    finish_run(store, "ward-0123abcd", 1010.0, "aa" * 8)
    store.close()
    write_bundle(tmp_path, b"model")
    (tmp_path / "bundle" / "evaluation").mkdir()
    (tmp_path / "bundle" / "evaluation" / "eval_int8_inputs.npy").write_bytes(b"rows")
    folder = keep_model(tmp_path, "ward-0123abcd")
    assert [path.name for path in (folder / "bundle").rglob("*")] == ["model.bin"]

"""Losses of targets: gradients against formulas in numpy, accepted by nodes, and bounded by clipping for any record."""

from dataclasses import replace
from typing import Any, Callable, Dict, cast

import numpy as np
import pytest

from model_export.endings import check_ending, with_ending
from model_export.errors import ExportError
from model_export.losses import LOSSES, check_loss
from model_export.models import build_model, get_weights, set_weights
from model_export.plan import compile_plan
from model_export.quantize import quantize_int8
from model_export.quiet import tensorflow
from model_export.tflm import TflmModel
from model_export.training_graph import export_training_graph
from orchestrator.boards.host_engine import run_plan
from orchestrator.data.dataset import Dataset
from orchestrator.errors import GraphError
from orchestrator.node.graph_admission import admit_graph
from orchestrator.node.runtime import TrainingGraph
from orchestrator.node.store import NodeStore
from orchestrator.node.trainer import GradientTrainer
from orchestrator.privacy.noisy_sum import training_sum
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.targets.base import Declared
from orchestrator.wire.targets.number import CODES
from orchestrator.wire.task import Rounds, Task
from orchestrator.wire.training import Training

INPUTS, RECORDS = 3, 5
LINEAR = {"kind": "mlp", "hidden": []}
FEATURES = tuple(Feature(f"x{i}", -5, 5) for i in range(INPUTS))
TARGETS: Dict[str, Dict[str, Any]] = {
    "squared": {"kind": "number", "minimum": 0, "maximum": 10},
    "poisson": {"kind": "count", "maximum": 50},
    "labels": {"kind": "labels", "columns": ["a", "b", "c", "d"]},
    "hazard": {"kind": "time-to-event", "event": "died", "ends": [1, 2, 4, 8]},
    "reconstruction": {"kind": "none"},
}
"""Kind of a loss -> a target that has it."""


def schema_of(loss: str) -> Schema:
    label = "" if loss in ("reconstruction", "labels") else "y"
    return Schema("table", label, (), {}, FEATURES, target=TARGETS[loss], standardization="range")


def task_of(loss: str, privacy: Privacy) -> Task:
    return Task("t", schema_of(loss), LINEAR, Training("fedsgd", 3), privacy, Rounds())


@pytest.fixture(scope="module")
def graph() -> Callable[[str], bytes]:
    made: Dict[str, bytes] = {}

    def get(loss: str) -> bytes:
        if loss not in made:
            learned = schema_of(loss).learned
            model = build_model(LINEAR, (INPUTS,), learned.outputs, 0, least=1)
            made[loss] = export_training_graph(model, RECORDS, check_loss(learned.loss))
        return made[loss]

    return get


def rows(loss: str) -> Any:
    """(x, y) with codes from one end to the other."""
    rng = np.random.default_rng(0)
    most = {"squared": CODES, "poisson": 50, "labels": 15, "hazard": 8}.get(loss, 0)
    return rng.normal(size=(RECORDS, INPUTS)).astype("f4"), np.linspace(0, most, RECORDS).astype(np.int32)


def slopes(loss: str, outputs: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """float64 (n, outputs): the gradient of each record's loss by its outputs."""
    if loss == "reconstruction":
        return 2 * (outputs - x) / INPUTS
    if loss == "poisson":
        return np.exp(outputs) - y[:, None]
    if loss == "hazard":
        whole, event = y % 5, y > 4
        hazards, places = 1 / (1 + np.exp(-outputs)), np.arange(4)
        at = (places == whole[:, None]) & event[:, None]
        return hazards * (places < whole[:, None]) + (hazards - 1) * at
    if loss == "labels":
        return 1 / (1 + np.exp(-outputs)) - (y[:, None] >> np.arange(4) & 1)
    return 2 * (outputs - (2 * y[:, None] / CODES - 1))


@pytest.mark.parametrize("loss", TARGETS)
def test_a_graphs_gradients_are_the_formulas(loss: str, graph: Callable[[str], bytes]) -> None:
    with TrainingGraph(graph(loss)) as run:
        x, y = rows(loss)
        weights = np.random.default_rng(1).normal(0, 0.3, run.parameters).astype("f4")
        kernel, bias = weights[: -run.classes].reshape(INPUTS, -1).astype(float), weights[-run.classes :]
        slope = slopes(loss, x @ kernel + bias, y, x)
        each = np.concatenate([(x[:, :, None] * slope[:, None, :]).reshape(RECORDS, -1), slope], axis=1)
        np.testing.assert_allclose(run.gradient(weights, x, y), each.mean(axis=0), rtol=1e-4, atol=1e-5)
        found = np.stack(list(run.record_gradients(weights, x, y)))
        np.testing.assert_allclose(found, each, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(run.logits(weights, x), x @ kernel + bias, atol=1e-5)


@pytest.mark.parametrize("loss", TARGETS)
def test_a_node_admits_it_for_its_target_alone(loss: str, graph: Callable[[str], bytes], tmp_path: Any) -> None:
    store, task = NodeStore(tmp_path / "node.sqlite"), task_of(loss, Privacy(unit="none"))
    admit_graph(store, graph(loss), task)
    classes = replace(
        task.schema,
        target={},
        label="y",
        classes=tuple("abcdefg"),
        label_values={name: i for i, name in enumerate("abcdefg")},
    )
    with pytest.raises(GraphError, match="classes, the task 7"):
        admit_graph(store, graph(loss), replace(task, schema=classes))
    store.close()


@pytest.mark.parametrize("loss", TARGETS)
@pytest.mark.parametrize("huge", [1e4, 1e18, 1e38])
def test_no_record_moves_a_private_sum_by_more_than_the_clip_norm(
    loss: str, huge: float, graph: Callable[[str], bytes]
) -> None:
    """Whatever weights a gateway sends: a gradient that overflows counts as none."""
    privacy = Privacy(clip_norm=0.5, noise_multiplier=1.0, sampling_rate=1.0)
    task = task_of(loss, privacy)
    x, y = rows(loss)
    trainer = GradientTrainer(task, graph(loss), Dataset(x, y), "node")
    size = trainer.graph.parameters
    weights, mechanism = np.full(size, huge, np.float32), training_sum(task, size)

    for gradient in trainer.graph.record_gradients(weights, x, y):
        moved = mechanism.total([gradient], np.random.default_rng(0))
        assert np.linalg.norm(moved) <= mechanism.lattice.bound


def test_a_loss_that_does_not_exist_is_refused() -> None:
    assert check_loss(None) == {"kind": "crossentropy"}
    for declared in ({"kind": "hinge"}, {"kind": "squared"}, {"kind": "squared", "codes": 0.5}, "squared"):
        with pytest.raises(ExportError, match="accepted"):
            check_loss(declared)
    with pytest.raises(ExportError, match="more is 1; accepted"):
        check_loss({"kind": "squared", "codes": 4, "more": 1})
    assert set(TARGETS) == set(LOSSES) - {"crossentropy"}, "each loss has a test"


@pytest.mark.parametrize("hidden", [[], [4]])
def test_an_ending_multiplies_and_shifts(hidden: Any) -> None:
    model = build_model({"kind": "mlp", "hidden": hidden}, (INPUTS,), 1, 0, least=1)
    set_weights(model, np.random.default_rng(0).normal(size=get_weights(model).size))
    x, _ = rows("squared")
    before, layers = np.asarray(model(x)), len(model.layers)
    ended = with_ending(model, {"ending": "linear", "scale": 3.5, "offset": -2.0})
    np.testing.assert_allclose(np.asarray(ended(x)), 3.5 * before - 2.0, rtol=1e-5)
    assert len(ended.layers) == layers, "no layer more: int8 rounds once"


def test_an_ending_of_a_model_without_a_dense_end_is_a_layer_of_its_own() -> None:
    tensorflow()
    import keras

    model = keras.Sequential([keras.Input((INPUTS,)), keras.layers.Dense(1, activation="tanh")])
    x, _ = rows("squared")
    before = np.asarray(model(x))
    ended = with_ending(model, {"ending": "linear", "scale": 10.0, "offset": 5.0})
    np.testing.assert_allclose(np.asarray(ended(x)), 10 * before + 5, rtol=1e-5)


@pytest.mark.parametrize(
    "declared",
    ["linear", {}, {"ending": "softplus"}, {"ending": "linear", "scale": float("nan")}, {"ending": "linear", "by": 1}],
)
def test_an_ending_that_does_not_exist_is_refused(declared: Any) -> None:
    with pytest.raises(ExportError, match="ending"):
        check_ending(declared)


@pytest.mark.parametrize("loss", TARGETS)
def test_the_exported_model_says_what_the_trained_one_does(loss: str) -> None:
    """In int8, in TFLM and in engine/direct with the same bits."""
    learned = cast(Declared, schema_of(loss).learned)
    model = build_model({"kind": "mlp", "hidden": [4]}, (INPUTS,), learned.outputs, 1, least=1)
    set_weights(model, np.random.default_rng(0).normal(0, 0.5, get_weights(model).size))
    x = np.random.default_rng(2).normal(size=(300, INPUTS)).astype("f4")
    before = np.asarray(model(x)).astype(float)
    blob = quantize_int8(with_ending(model, learned.exported), x, softmax=False)
    tflm, y = TflmModel(blob), np.zeros(300, np.int64)
    rows = tflm.input.quantize(x)
    outputs = tflm.run(rows)
    np.testing.assert_array_equal(outputs, run_plan(blob, compile_plan(blob).blob, rows).reshape(outputs.shape))
    values = tflm.output.dequantize(outputs).astype(float)
    found, wanted = learned.exported_answers(values, y, x), learned.answers(before, y, x)
    assert np.abs(found - wanted).max() <= 0.05 * max(1.0, np.abs(wanted).max())

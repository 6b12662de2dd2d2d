import numpy as np
import pytest
from sklearn.metrics import log_loss

from orchestrator.gateway.bundling import board_answers
from orchestrator.gateway.evaluation import score
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.targets.classes import softmax


def test_scores_of_groups_and_classes() -> None:
    y = np.array([0, 1, 1, 0])
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]])
    result = score(y, probabilities, ["a", "a", "b", "b"])
    assert (result["accuracy"], result["auc"]) == (0.5, 0.75)
    assert result["per_node"] == {"a": 1.0, "b": 0.0}
    assert result["sites"]["b"]["sensitivity"] == 0.0
    assert result["loss"] == pytest.approx(log_loss(y, probabilities))
    assert score(np.zeros(4, int), probabilities)["auc"] is None


def test_outputs_of_an_int8_model_are_its_probabilities() -> None:
    schema = Schema("table", "y", ("a", "b"), {"0": 0, "1": 1}, (Feature("x", 0, 1),))
    edge = {"scale": 1 / 256, "zero_point": -128}  # of every softmax
    outputs = np.array([[-128, 127]], np.int8)
    found = board_answers(schema, {"input": edge, "output": edge}, np.zeros((1, 1), np.int8), outputs, np.array([1]))
    np.testing.assert_array_equal(found, [[0, 255 / 256]])


def test_softmax_survives_large_logits() -> None:
    np.testing.assert_allclose(softmax(np.array([[1000.0, 1000.0], [-1000.0, 0.0]])), np.array([[0.5, 0.5], [0, 1]]))

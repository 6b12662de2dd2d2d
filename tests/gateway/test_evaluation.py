import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from orchestrator.gateway.evaluation import area_under_curve, cross_entropy, score, softmax


@pytest.mark.parametrize("levels", [3, 50, 100_000])
def test_auc_is_scikit_learns_with_and_without_ties(levels: int) -> None:
    rng = np.random.default_rng(levels)
    y = rng.integers(0, 2, 300)
    scores = np.round((y + rng.normal(0, 1, 300)) * levels) / levels
    assert area_under_curve(y, scores) == pytest.approx(roc_auc_score(y, scores), abs=1e-12)


def test_scores_of_groups_and_classes() -> None:
    y = np.array([0, 1, 1, 0])
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]])
    result = score(y, probabilities, ["a", "a", "b", "b"])
    assert result == {"accuracy": 0.5, "auc": 0.75, "per_node": {"a": 1.0, "b": 0.0}}
    assert "auc" not in score(np.zeros(4, int), probabilities)
    assert cross_entropy(y, probabilities) == pytest.approx(log_loss(y, probabilities))


def test_softmax_survives_large_logits() -> None:
    np.testing.assert_allclose(softmax(np.array([[1000.0, 1000.0], [-1000.0, 0.0]])), [[0.5, 0.5], [0, 1]])

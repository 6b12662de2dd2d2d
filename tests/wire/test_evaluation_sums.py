"""Sums of federated evaluation against the same figures computed from the records themselves."""

from typing import Any, Dict

import numpy as np
import pytest

from orchestrator.errors import WireError
from orchestrator.gateway.counts import of_rows, of_sums
from orchestrator.gateway.scores import figures
from orchestrator.wire.evaluation import check, count, vector_size


def summarize(sums: np.ndarray, classes: int, bins: int) -> Dict[str, Any]:
    return figures(of_sums(sums, classes, bins))


def records(classes: int, n: int = 8000) -> "tuple[np.ndarray, np.ndarray]":
    rng = np.random.default_rng(classes)
    logits = rng.standard_normal((n, classes)) * 2
    y = np.array([rng.choice(classes, p=np.exp(row) / np.exp(row).sum()) for row in logits])
    return y, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_pooled_sums_say_what_the_records_would(classes: int) -> None:
    y, p = records(classes)
    sums = sum(count(y[part], p[part], 40) for part in np.array_split(np.arange(len(y)), 3))
    found = summarize(np.asarray(sums), classes, 40)
    assert found["records"] == len(y)
    assert found["accuracy"] == pytest.approx((p.argmax(1) == y).mean())
    assert found["loss"] == pytest.approx(-np.log(p[np.arange(len(y)), y]).mean(), rel=1e-6)
    expected = [[int(((y == t) & (p.argmax(1) == g)).sum()) for g in range(classes)] for t in range(classes)]
    assert found["confusion"] == expected
    assert found["calibration_error"] < 0.04, "labels were drawn from these very probabilities"
    if classes == 2:
        exact = figures(of_rows(y, p))
        for name in ("auc", "pr_auc", "calibration_slope", "sensitivity", "macro_f1"):
            assert found[name] == pytest.approx(exact[name], abs=0.03 if name == "calibration_slope" else 0.005), name
    else:
        assert "auc" not in found


def test_an_overconfident_model_shows_in_the_calibration() -> None:
    y, p = records(2)
    sharp = p**4 / (p**4).sum(axis=1, keepdims=True)
    honest, overconfident = (summarize(count(y, q, 20), 2, 20)["calibration_error"] for q in (p, sharp))
    assert overconfident > honest + 0.05


def test_one_record_changes_the_sums_by_at_most_the_stated_sensitivity() -> None:
    for classes in (2, 4):
        y, p = records(classes, 200)
        p[0] = np.eye(classes)[(y[0] + 1) % classes]  # as wrong as can be: the loss is clipped
        for i in range(200):
            assert np.linalg.norm(count(y[i : i + 1], p[i : i + 1], 20)) <= np.sqrt(2) + 1e-12


def test_without_records_nothing_is_claimed() -> None:
    empty = summarize(np.zeros(vector_size(2, 20)), 2, 20)
    assert empty["accuracy"] is None
    assert empty["auc"] is None
    assert empty["loss"] is None


@pytest.mark.parametrize(
    "sums", [None, np.zeros(3, "<f4"), np.zeros(81, "<f8"), np.full(81, np.nan, "<f4"), np.zeros((81, 1), "<f4")]
)
def test_foreign_sums_are_refused(sums: object) -> None:
    with pytest.raises(WireError, match="evaluation sums"):
        check(sums, vector_size(2, 20))

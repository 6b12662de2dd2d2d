"""Figures of 0 and 1: a sample in which all are right does not show that all others are, so no interval is without a width."""

from typing import Any, Dict

import numpy as np
import pytest

from orchestrator.analyses import intervals
from orchestrator.analyses.class_figures import macro_f1, of_all, of_classes
from orchestrator.analyses.performance_figures import Scale, area_of
from orchestrator.analyses.scores import auc_of
from orchestrator.analyses.survival import curve_of
from orchestrator.audit.membership import membership
from orchestrator.gateway import clipped, counts, scores
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.targets.moments import count, of_rows, of_sums
from orchestrator.wire.targets.shares import Z

RIGHT = np.array([[0.0, 0.0, 30.0], [30.0, 0.0, 0.0]])
"""Counts of scores of those without and with the outcome: nobody overlaps."""


@pytest.mark.parametrize("events", [1, 2, 3, 10, 100, 10_000])
@pytest.mark.parametrize("others", [1, 7, 1000])
def test_an_area_of_1_is_as_sure_as_the_smaller_class_makes_it(events: int, others: int) -> None:
    """Clopper and Pearson's end for m of m (1934), here of scipy, for the pairs that are independent."""
    stats = pytest.importorskip("scipy.stats")
    least = min(events, others)
    exact = stats.binomtest(least, least).proportion_ci(0.95, "exact").low
    low, high = intervals.area(1.0, events, others)
    assert high == 1.0
    assert low <= exact + 1e-9
    assert low >= exact - 1.5e-3 or low == pytest.approx(exact)
    assert intervals.area(0.0, events, others) == pytest.approx((0.0, 1 - low))
    for of in (area_of, lambda a, b, noise: auc_of(np.stack([a, b]), noise)):
        there, absent = np.array([0.0, events]), np.array([others, 0.0])
        assert of(absent, there, 0.0) == pytest.approx((1.0, low, 1.0))
        assert of(there[::-1], absent[::-1], 0.0) == pytest.approx((1.0, low, 1.0))
        assert of(there, absent, 0.0) == pytest.approx((0.0, 0.0, 1 - low))


@pytest.mark.parametrize(("events", "others"), [(1, 9), (3, 1000), (5, 200_000), (40, 50)])
def test_an_area_just_below_1_is_no_surer_than_one_of_1(events: int, others: int) -> None:
    """A pair the wrong way round is no evidence for a high area; of unequal classes the variance alone would take it for some."""
    least = intervals.area(1.0, events, others)[0]
    for wrong in (1, 2, max(2, others // 100)):
        assert intervals.area(1 - wrong / (events * others), events, others)[0] <= least
        assert intervals.area(wrong / (events * others), events, others)[1] >= 1 - least


def test_that_interval_holds_whatever_the_scores_are() -> None:
    """Of records of which each is either far above all others or far below: the worst there is for an area of 1."""
    draw, truth, size = np.random.default_rng(3), 0.93, 30
    missed = 0
    for _ in range(4000):
        high = int(draw.binomial(size, truth))
        there, absent = np.array([size - high, 0.0, high]), np.array([0.0, 1000.0, 0.0])
        found = area_of(absent, there, 0.0)
        assert found is not None
        missed += found[0] == 1 and not found[1] <= truth
    assert missed <= 0.025 * 4000


def test_scores_that_are_all_the_same_leave_an_area_of_a_half_unsure() -> None:
    for found in (auc_of(np.array([[0.0, 9.0], [0.0, 9.0]]), 0.0), area_of(np.array([9.0]), np.array([9.0]), 0.0)):
        assert found is not None
        area, low, high = found
        assert low < area == 0.5 < high


@pytest.mark.parametrize(
    "matrix",
    [
        np.diag([4.0, 30.0]),
        np.diag([4.0, 30.0, 7.0]),
        np.fliplr(np.diag([4.0, 30.0])),
        np.array([[0, 5, 0], [5, 0, 0], [0, 0, 9.0]]),
        np.array([[1, 0], [0, 1.0]]),
    ],
)
@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_figures_of_a_confusion_matrix(matrix: np.ndarray, noise: float) -> None:
    triples = [of_all(matrix, noise)[:3], of_all(matrix, noise)[3:6], macro_f1(matrix, noise)]
    for row in of_classes(matrix, noise):
        triples += [row[2:5], row[5:8], row[8:11]]
    for value, low, high in triples:
        assert isinstance(value, float)
        assert isinstance(low, float)
        assert isinstance(high, float)
        assert 0 <= low <= value <= high <= 1
        assert high - low > 1 / matrix.sum()


def test_a_macro_f1_of_1_is_as_sure_as_its_classes() -> None:
    """Wider with fewer records, and no wider than the F1 of the rarest class."""
    widths = []
    for n in (5, 50, 500):
        matrix = np.diag([float(n), 4.0 * n])
        value, low, high = macro_f1(matrix, 0.0)
        rarest = next(of_classes(matrix, 0.0))
        assert (value, high) == (1.0, 1.0)
        assert rarest[9] < low < 1  # type: ignore[operator]
        widths.append(1 - low)  # type: ignore[operator]
    assert widths == sorted(widths, reverse=True)


def test_figures_of_an_evaluation_that_went_all_right() -> None:
    """accuracy, sensitivity, specificity, AUC and loss of the gateway's own rows, and of thresholds."""
    y = np.array([0] * 12 + [1] * 8)
    said = scores.figures(counts.of_rows(y, np.eye(2)[y]))
    assert (said["auc"], said["accuracy"], said["sensitivity"], said["loss"]) == (1.0, 1.0, 1.0, 0.0)
    check_widths(said)
    assert said["intervals"]["auc"][0] == pytest.approx(0.025 ** (1 / 8), abs=1e-3)
    assert said["intervals"]["loss"][1] > 0.5, "of 20 records that were all sure and right"
    for found in said["thresholds"].values():
        assert all(low < high for low, high in found["intervals"].values())


def check_widths(said: Dict[str, Any]) -> None:
    for name, found in said["intervals"].items():
        for low, high in found if name == "recall" else [found]:
            assert low < high, name


def test_a_calibration_error_of_0_has_an_interval() -> None:
    """Exactly as many are right as the model is sure of."""
    y = np.array(([1] * 3 + [0]) * 10)
    said = scores.figures(counts.of_rows(y, np.tile([0.25, 0.75], (40, 1))))
    assert said["calibration_error"] == pytest.approx(0.0, abs=1e-12)
    check_widths(said)
    assert said["intervals"]["calibration_error"][1] > 0.05


def test_errors_of_a_number_that_are_all_the_same() -> None:
    t = np.linspace(0, 1, 25)
    for said in (of_rows(t, t, 10.0), of_rows(t[:1], t[:1] + 0.1, 10.0), of_rows(t, t + 0.1, 10.0)):
        check_widths(said)
        assert "mae" in said["intervals"]
    check_widths(of_sums(count(t, t), 10.0, 0.0))


DEATHS = {"kind": "time-to-event", "event": "e", "ends": [1.0, 2.0]}


def target(**declared: Any) -> Any:
    return Schema("table", "", (), {}, (Feature("x", 0.0, 1.0),), target=declared).learned


@pytest.mark.parametrize("n", [1, 9])
def test_other_targets(n: int) -> None:
    labels = target(kind="labels", columns=["a", "b"])
    said = labels.of_rows(np.full(n, 3), np.full((n, 2), 0.9))
    assert said["accuracy"] == 1.0
    check_widths(said)
    assert said["intervals"]["accuracy"][0] == pytest.approx(n / (n + Z**2))
    mixed = labels.of_rows(np.array([3, 2]), np.full((2, 2), 0.9))
    assert mixed["intervals"]["accuracy"][1] <= 1
    deaths = Schema("table", "t", (), {}, (Feature("x", 0.0, 1.0),), target=DEATHS).learned
    check_widths(deaths.of_rows(np.full(n, 1), np.full((n, 2), 0.5)))  # type: ignore[attr-defined]
    check_widths(deaths.of_sums(np.array([float(n), n / 4]), 2, 0.0))  # type: ignore[attr-defined]
    nothing = target(kind="none")
    check_widths(nothing.of_rows(np.zeros(n), np.full(n, 0.5)))


def test_a_curve_of_which_nobody_or_everybody_had_the_event() -> None:
    curve = curve_of(np.array([0.0, 0.0, 2.0, 8.0]), np.array([5.0, 5.0, 0.0, 0.0]), 0.0)
    assert curve.survival.tolist() == pytest.approx([1, 1, 0.8, 0])
    assert (curve.low < curve.high).all()
    assert (np.diff(curve.low) <= 0).all()
    assert curve.low[0] == pytest.approx(20 / (20 + 1.96**2))
    assert 0 < curve.high[3] <= curve.high[2]
    noisy = curve_of(np.array([0.0, 50.0]), np.array([400.0, 400.0]), 2.0)
    assert noisy.low[0] < 850 / (850 + 1.96**2) < 1


def test_bands_of_a_calibration() -> None:
    scale = Scale(3, 0.0, 1.0)
    for row in scale.bands(np.append(RIGHT.ravel(), [1.0, 0.0]), 0.0):
        n, low, high = row[2], row[4], row[5]
        assert n == 0 or low < high  # type: ignore[operator]


def test_an_attack_that_finds_all_members_of_a_few() -> None:
    """Three of three do not show that a claim is broken."""
    found = membership(np.zeros(3), np.ones(3), 1.0, 1e-3)
    assert (found["auc"], found["advantage"]) == (1.0, 1.0)
    assert found["auc_interval"][0] == pytest.approx(0.025 ** (1 / 3))
    assert found["advantage_interval"][0] < 0.5
    assert found["holds"]
    assert not membership(np.zeros(100), np.ones(100), 1.0, 1e-3)["holds"]


def test_no_gradient_of_many_was_clipped() -> None:
    low, high = clipped.share_of(0.0, 100.0, 0.0)["interval"]
    assert (low, high) == pytest.approx((0.0, intervals.share(0.0, 100.0)[1]))

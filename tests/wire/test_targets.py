"""What a task learns: codes of records, figures of rows and of sums, and what a declaration may not say."""

import json
from dataclasses import replace
from typing import Any, Dict, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import UsageError
from orchestrator.gateway.all_mistakes import all_mistakes
from orchestrator.gateway.web.words import describe_task
from orchestrator.node.approval import summary_of
from orchestrator.privacy.noisy_sum import NoisyCounts, evaluation_counts
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.targets import moments
from orchestrator.wire.targets.base import Declared
from orchestrator.wire.targets.labels import Labels
from orchestrator.wire.targets.number import CODES
from orchestrator.wire.task import Evaluation, Rounds, Task, digest_of, task_from_dict, task_to_dict
from orchestrator.wire.training import Training

NUMBER: Dict[str, Any] = {"kind": "number", "minimum": 35, "maximum": 42}
SPENT: Dict[str, Any] = {"kind": "number", "minimum": 1, "maximum": 1000, "transform": "log"}
BINS = 5


def schema(target: Dict[str, Any], label: str = "y", **more: Any) -> Schema:
    features = (Feature("a", 0, 1), Feature("b", -1, 1))
    return Schema("table", label, (), {}, features, target=target, **more)


def learned_of(target: Dict[str, Any], label: str = "y") -> Declared:
    return cast(Declared, schema(target, label).learned)


def task(target: Dict[str, Any], **more: Any) -> Task:
    return Task("t", schema(target), {"kind": "mlp", "hidden": []}, Training(), Privacy(unit="none"), Rounds(), **more)


def classes() -> Task:
    of_classes = replace(schema({}, ""), label="y", classes=("no", "yes"), label_values={"0": 0, "1": 1})
    return replace(task(NUMBER), schema=of_classes)


def test_a_target_travels_and_counts_in_the_digest() -> None:
    declared = task(NUMBER)
    written = json.loads(json.dumps(task_to_dict(declared)))
    assert task_from_dict(written) == declared
    other = task_to_dict(task({**NUMBER, "maximum": 43}))
    assert digest_of(written, b"") != digest_of(other, b"")


def test_a_task_of_classes_says_nothing_of_targets() -> None:
    assert "target" not in task_to_dict(classes())["schema"]


def test_a_number_is_its_place_in_the_range() -> None:
    number, spent = learned_of(NUMBER), learned_of(SPENT)
    assert [number.code([value]) for value in (35, 38.5, 42, 0, 1e9)] == [0, CODES // 2, CODES, 0, CODES]
    assert [number.label(number.code([value])) for value in (36.6, 41.0)] == [36.6, 41.0]
    assert spent.code([1000**0.5]) == CODES // 2
    assert [spent.label(spent.code([value])) for value in (0.0, 47.11)] == [1.0, 47.11]
    assert spent.said(np.array([np.log(50.0)])) == {"predicted": 50.0}
    assert number.said(np.array([-1.5])) == {"predicted": 37.0}, "counted from the middle of the range"
    assert number.exported == {"ending": "linear", "scale": 3.5, "offset": 0.0}


def test_what_the_exported_model_says_is_what_training_saw() -> None:
    for target in (NUMBER, SPENT, {"kind": "number", "minimum": -3, "maximum": 9}):
        learned = learned_of(target)
        outputs, y, x = np.linspace(-1.5, 1.5, 7)[:, None], np.full(7, CODES // 3), np.zeros((7, 2))
        values = outputs * learned.exported["scale"] + learned.exported["offset"]
        np.testing.assert_allclose(learned.exported_answers(values, y, x), learned.answers(outputs, y, x), atol=1e-12)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ({"kind": "numbre"}, "target.kind 'numbre', expected one of number.*did you mean 'number'"),
        ({"minimum": 0}, "target.kind: missing"),
        ({"kind": "number", "minimum": 0}, "'maximum' is missing"),
        ({"kind": "number", "minimum": 5, "maximum": 5}, "not below maximum"),
        ({"kind": "number", "minimum": 1e20, "maximum": 1e20 + 1e5}, "are too near to each other"),
        ({"kind": "number", "minimum": 0.0, "maximum": 5e-324}, "are too near to each other"),
        ({"kind": "number", "minimum": 0, "maximum": 5, "transform": "log"}, "needs a minimum above 0"),
        ({"kind": "number", "minimum": 0, "maximum": float("nan")}, "not a finite number"),
        ({"kind": "number", "minimum": 0, "maximum": 1e300}, "maximum: 1e.300, expected"),
        ({"kind": "number", "minimum": 0, "maximum": 5, "unti": "mg"}, "unti: unknown, did you mean 'unit'"),
        ({"kind": "number", "minimum": 0, "maximum": 5, "unit": "m" * 41}, "unit: 41 characters"),
        ({"kind": ["number"]}, "expected one of number"),
        ({"kind": "count", "maximum": 0}, "maximum: 0"),
        ({"kind": "count", "maximum": 2.5}, "2.5 is not a whole number"),
        ({"kind": "labels", "columns": ["a2", "b2"]}, "schema.label names another"),
        ({"kind": "labels", "columns": ["a2"]}, "columns: 1, expected 2 to 24"),
        ({"kind": "labels", "columns": ["a2", "a2"]}, "columns: 'a2' is there twice"),
        ({"kind": "labels", "columns": "ab"}, "columns: 'ab' is not a list"),
        ({"kind": "time-to-event", "event": "died", "ends": [2, 1]}, "ends: expected rising numbers"),
        ({"kind": "time-to-event", "event": "y", "ends": [1]}, "event: names the column"),
        ({"kind": "none"}, "'none' predicts nothing, and schema.label names a column"),
        ({"kind": "none", "quantile": 1.0}, "quantile: 1, expected 0.5 to 0.9999"),
    ],
)
def test_a_target_that_makes_no_sense_is_refused(target: Dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        schema(target)
    declared = task_to_dict(task(NUMBER))
    declared["schema"]["target"] = target
    with pytest.raises(UsageError, match=reason):
        task_from_dict(declared)


def test_what_goes_with_classes_only_is_refused() -> None:
    with pytest.raises(ValueError, match="needs schema.label"):
        schema(NUMBER, "")
    with pytest.raises(ValueError, match="classes: of classes"):
        replace(schema({}, ""), label="y", classes=("a", "b"), label_values={"0": 0, "1": 1}, target=NUMBER)
    with pytest.raises(ValueError, match="class_weights: of classes"):
        replace(task(NUMBER), training=Training(class_weights=(1.0,)))
    with pytest.raises(ValueError, match="'accuracy', and of target 'number' there are loss, mae, rmse, r2"):
        replace(task(NUMBER), training=Training(metric="accuracy"))
    with pytest.raises(ValueError, match="'r2' is of a number"):
        replace(classes(), training=Training(metric="r2"))


def test_the_label_is_no_feature() -> None:
    data = {"task": task_to_dict(task(NUMBER))}
    data["task"]["schema"]["label"] = "a"
    found = all_mistakes(data, None)
    assert any("'a' is the label" in line for line in found)


@st.composite
def rows(draw: st.DrawFn) -> Any:
    unit = st.floats(0, 1)
    pairs = draw(st.lists(st.tuples(unit, unit), min_size=1, max_size=20))
    return np.array(pairs).T


@given(rows())
def test_a_record_adds_one_to_the_cells_and_at_most_one_to_the_value(pairs: np.ndarray) -> None:
    t, p = pairs
    for i in range(len(t)):
        sums = moments.count(t[i : i + 1], p[i : i + 1])
        assert (sums >= 0).all()
        assert sums[:-1].sum() == pytest.approx(1)
        assert sums[-1] <= 1
        assert NoisyCounts(moments.SIZE, 1.0, 1, "gaussian", moments.SIZE).total([sums]).any(), "a record that counts"
    np.testing.assert_allclose(
        sum(moments.count(t[i : i + 1], p[i : i + 1]) for i in range(len(t))), moments.count(t, p)
    )


def drawn(records: int) -> Any:
    """(t, p, y in the units of NUMBER, predictions in them)."""
    rng = np.random.default_rng(records)
    t = rng.beta(2, 5, records)
    p = np.clip(t + rng.normal(0, 0.1, records), 0, 1)
    return t, p, 35 + 7 * t, 35 + 7 * p


def test_figures_are_those_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    t, p, y, predicted = drawn(400)
    for said in (moments.of_rows(t, p, 7.0), moments.of_sums(moments.count(t, p), 7.0, 0.0)):
        assert said["r2"] == pytest.approx(metrics.r2_score(y, predicted))
        assert said["mae"] == pytest.approx(metrics.mean_absolute_error(y, predicted))
        assert said["rmse"] == pytest.approx(metrics.mean_squared_error(y, predicted) ** 0.5)
        assert said["records"] == pytest.approx(400)
        assert said["loss"] == pytest.approx(4 * metrics.mean_squared_error(y, predicted) / 49)
        assert all(low <= said[name] <= high for name, (low, high) in said["intervals"].items())
    assert moments.of_rows(t, np.full(400, 0.9), 1.0)["warning"].startswith("R2 -")
    assert moments.of_rows(t[:1], p[:1], 1.0)["r2"] is None, "one truth has no variance"


def test_intervals_hold_what_other_samples_give() -> None:
    t, p, _, _ = drawn(5000)
    true = moments.of_rows(t, p, 1.0)
    rng, inside = np.random.default_rng(1), dict.fromkeys(("mae", "rmse", "r2"), 0)
    for _ in range(200):
        chosen = rng.choice(5000, 300)
        said = moments.of_rows(t[chosen], p[chosen], 1.0)["intervals"]
        for name in inside:
            inside[name] += said[name][0] <= true[name] <= said[name][1]
    assert all(175 <= count <= 200 for count in inside.values()), inside


def test_noise_moves_figures_by_what_is_said() -> None:
    t, p, _, _ = drawn(4000)
    sums, noise = moments.count(t, p), 4.0
    rng = np.random.default_rng(0)
    said = [moments.of_sums(sums + rng.normal(0, noise, 7), 7.0, noise) for _ in range(400)]
    for name in ("mae", "rmse", "r2", "loss"):
        found = 1.96 * np.std([each[name] for each in said])
        assert found == pytest.approx(said[0]["noise"][name], rel=0.25), name
    drowned = moments.of_sums(sums + rng.normal(0, 3000, 7), 7.0, 3000.0)
    assert drowned["r2"] is None
    assert "r2" in drowned["too_noisy"]


def test_a_prediction_that_is_no_number_counts_as_surely_wrong() -> None:
    learned = schema(NUMBER).learned
    y = np.array([0, CODES, CODES // 4])
    found = learned.answers(np.array([[np.nan], [-np.inf], [np.inf]]), y, np.zeros((3, 2)))
    assert found.tolist() == [1.0, 0.0, 1.0]


def test_private_sums_of_fractions_are_not_rounded_away() -> None:
    private = replace(
        task(NUMBER, evaluation=Evaluation(share=0.5, bins=BINS)),
        privacy=Privacy(
            clip_norm=1.0, noise_multiplier=1.0, statistics_noise_multiplier=1.0, evaluation_noise_multiplier=8.0
        ),
    )
    counts = evaluation_counts(private)
    t, p, _, _ = drawn(1000)
    total = counts.total(moments.count(t[i : i + 1], p[i : i + 1]) for i in range(1000))
    np.testing.assert_allclose(counts.to_float(total), moments.count(t, p), atol=0.02)
    assert counts.bound == pytest.approx(2**0.5 * counts.scale)
    assert counts.std >= 8.0 * counts.bound, "noise is as declared, in finer steps"


def unlabelled(quantile: float = 0.9) -> Any:
    return schema({"kind": "none", "quantile": quantile}, "").learned


def test_a_score_is_how_far_a_record_comes_back() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    learned, rng = unlabelled(), np.random.default_rng(0)
    x, outputs = rng.normal(size=(6, 2)), rng.normal(size=(6, 2))
    outputs[5] = np.inf
    found = learned.answers(outputs, np.full(6, -1), x)
    np.testing.assert_allclose(found[:5], [metrics.mean_squared_error(x[i], outputs[i]) for i in range(5)])
    assert np.isfinite(found[5])
    assert found[5] > 4000
    assert (learned.outputs, learned.columns, learned.schema.labelled) == (2, (), False)


def test_a_threshold_of_sums_is_near_the_one_of_rows() -> None:
    rng = np.random.default_rng(0)
    scores = rng.chisquare(4, 2000) / 20
    for quantile in (0.5, 0.9, 0.99):
        learned = unlabelled(quantile)
        sums = learned.count(np.full(2000, -1), scores, BINS)
        of_rows, of_sums = learned.of_rows(np.full(2000, -1), scores), learned.of_sums(sums, BINS, 0.0)
        assert of_rows["threshold"] == pytest.approx(np.quantile(scores, quantile), rel=0.01)
        assert 1 <= of_sums["threshold"] / of_rows["threshold"] <= 2**0.25 * 1.001, "the end of the bin it is in"
        assert of_sums["loss"] == pytest.approx(scores.mean())
        assert sum(
            learned.count(np.array([-1]), scores[i : i + 1], BINS) for i in range(2000)
        ).tolist() == pytest.approx(sums)


def test_noise_hides_a_threshold_it_could_move() -> None:
    rng, learned = np.random.default_rng(1), unlabelled(0.9)
    scores = rng.chisquare(4, 4000) / 20
    sums = learned.count(np.full(4000, -1), scores, BINS)
    exact = learned.of_sums(sums, BINS, 0.0)["threshold"]
    found = [learned.of_sums(sums + rng.normal(0, 3, sums.size), BINS, 3.0)["threshold"] for _ in range(50)]
    assert all(value is not None and 2**-0.51 <= value / exact <= 2**0.51 for value in found), "two bins at most"
    drowned = learned.of_sums(sums + rng.normal(0, 60, sums.size), BINS, 60.0)
    assert drowned["threshold"] is None
    assert "threshold" in drowned["too_noisy"]
    few = unlabelled(0.999).of_sums(sums / 10, BINS, 0.0)
    assert few["threshold"] is None, "400 records say nothing of one in a thousand"


def test_what_cannot_have_a_threshold_is_said_before_anything_begins() -> None:
    data: Dict[str, Any] = {"task": task_to_dict(replace(task(NUMBER), schema=schema({"kind": "none"}, "")))}
    found = all_mistakes(data, None)
    assert any("'none' needs records it is not trained on" in line for line in found)
    assert any("a model without a layer that is narrower" in line for line in found)
    data["task"]["model"] = {"kind": "mlp", "hidden": [1]}
    data["task"]["evaluation"]["share"] = 0.2
    assert not [line for line in all_mistakes(data, None) if "target" in line or "hidden" in line]


def test_counts_are_counted() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    learned, rng = learned_of({"kind": "count", "maximum": 20}), np.random.default_rng(0)
    assert [learned.code([value]) for value in (0, 3, 25)] == [0, 3, 20]
    for value in (-1, 2.5):
        with pytest.raises(ValueError, match="whole number"):
            learned.code([value])
    rate = rng.gamma(2, 1, 500)
    y = np.minimum(rng.poisson(rate), 20)
    answers = learned.answers(np.log(rate)[:, None], y, np.zeros((500, 2)))
    of_rows = learned.of_rows(y, answers)
    assert of_rows["deviance"] == pytest.approx(metrics.mean_poisson_deviance(y, rate))
    of_sums = learned.of_sums(learned.count(y, answers, BINS), BINS, 0.0)
    for said in (of_rows, of_sums):
        assert said["mae"] == pytest.approx(metrics.mean_absolute_error(y, rate))
        assert said["r2"] == pytest.approx(metrics.r2_score(y, rate))
    assert learned.said(np.array([np.log(4.0)])) == {"expected": 4.0}
    wild = learned.answers(np.array([[900.0], [np.nan], [-900.0]]), np.array([1, 1, 1]), np.zeros((3, 2)))
    assert wild.tolist() == [1.0, 1.0, 0.0]


LABELS: Dict[str, Any] = {"kind": "labels", "columns": ["fever", "rash", "cough"]}


def test_labels_are_bits_and_each_has_an_area() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    learned, rng = cast(Labels, learned_of(LABELS, "")), np.random.default_rng(0)
    assert learned.code([1, 0, 1]) == 5
    assert learned.label(5) == "fever cough"
    assert learned.bits(np.array([5])).tolist() == [[1, 0, 1]]
    with pytest.raises(ValueError, match="1 where a record has it"):
        learned.code([1, 2, 0])
    y, logits = rng.integers(0, 8, 600), rng.normal(size=(600, 3))
    logits += 0.8 * (learned.bits(y) - 0.5)
    answers, bits = learned.answers(logits, y, np.zeros((600, 2))), learned.bits(y)
    of_rows = learned.of_rows(y, answers)
    assert list(of_rows["aucs"].values()) == pytest.approx(
        [metrics.roc_auc_score(bits[:, i], answers[:, i]) for i in range(3)]
    )
    assert of_rows["loss"] == pytest.approx(np.mean([metrics.log_loss(bits[:, i], answers[:, i]) for i in range(3)]))
    assert of_rows["accuracy"] == pytest.approx(((answers > 0.5) == bits).mean())
    sums = learned.count(y, answers, 20)
    assert sums[:-1].sum() == pytest.approx(600)
    said = learned.of_sums(sums, 20, 0.0)
    assert said["accuracy"] == pytest.approx(of_rows["accuracy"])
    assert said["loss"] == pytest.approx(of_rows["loss"])
    assert list(said["aucs"].values()) == pytest.approx(list(of_rows["aucs"].values()), abs=0.01)
    one = learned.count(y[:1], answers[:1], 20)
    assert one[:-1].sum() == pytest.approx(1), "a record adds one to the cells, whatever the number of labels"
    assert 0 <= one[-1] <= 1


def test_noise_on_labels_moves_figures_by_what_is_said() -> None:
    learned, rng = cast(Labels, learned_of(LABELS, "")), np.random.default_rng(0)
    y = rng.integers(0, 8, 4000)
    logits = rng.normal(size=(4000, 3)) + learned.bits(y) - 0.5
    sums, noise = learned.count(y, learned.answers(logits, y, np.zeros((4000, 2))), 10), 2.0
    found = [learned.of_sums(sums + rng.normal(0, noise, sums.size), 10, noise) for _ in range(200)]
    assert 1.96 * np.std([each["auc"] for each in found]) == pytest.approx(found[0]["noise"]["auc"], rel=0.3)
    for name in ("accuracy", "loss"):
        assert 1.96 * np.std([each[name] for each in found]) <= 1.2 * found[0]["noise"][name]
    drowned = learned.of_sums(sums + rng.normal(0, 500, sums.size), 10, 500.0)
    assert drowned["too_noisy"] == ["records", "accuracy", "loss", "auc"]


DIED: Dict[str, Any] = {"kind": "time-to-event", "event": "died", "ends": [1, 2, 4, 8]}


@pytest.mark.parametrize(
    ("target", "label", "said"),
    [
        (NUMBER, "y", "predicts 'y' (a number from 35 to 42)"),
        (SPENT, "y", "predicts 'y' (the logarithm of a number from 1 to 1000)"),
        ({"kind": "count", "maximum": 9}, "y", "predicts 'y' (a count up to 9)"),
        (LABELS, "", "predicts which of 'fever', 'rash', 'cough' a record has"),
        (DIED, "y", "predicts the time 'y' to 'died', in 4 intervals up to 8"),
        ({"kind": "none"}, "", "predicts nothing: how unusual a record is"),
    ],
)
def test_owners_and_pages_are_shown_what_is_learned(target: Dict[str, Any], label: str, said: str) -> None:
    declared = replace(task(NUMBER), schema=schema(target, label), evaluation=Evaluation(share=0.2))
    assert said in summary_of(declared)[0]
    terms = {line["term"]: line["text"] for line in describe_task(declared)}
    assert terms["Predicts"].startswith(said.partition("predicts ")[2].replace("'", ""))


def test_times_fall_into_intervals() -> None:
    learned = learned_of(DIED)
    assert learned.columns == ("y", "died")
    codes = {
        (0, 0): 0,
        (0, 1): 5,
        (1, 0): 1,
        (1, 1): 5,
        (1.5, 1): 6,
        (8, 0): 4,
        (8, 1): 8,
        (9, 1): 4,
        (9, 0): 4,
        (3, 0): 2,
    }
    assert {values: learned.code(values) for values in codes} == codes
    for values in ((-1, 0), (1, 2)):
        with pytest.raises(ValueError, match="a time is 0 or more"):
            learned.code(values)
    assert learned.label(6) == "event between 1 and 2"
    assert learned.label(2) == "none up to 2"
    assert learned.said(np.zeros(4))["without event"] == {"at 1": 0.5, "at 2": 0.25, "at 4": 0.125, "at 8": 0.0625}


def test_losses_of_times_are_those_of_the_intervals_one_by_one() -> None:
    learned, rng = learned_of(DIED), np.random.default_rng(0)
    y, hazards = rng.integers(0, 9, 50), rng.uniform(0.05, 0.9, (50, 4))
    by_hand = []
    for code, each in zip(y.tolist(), hazards):
        whole, event = code % 5, code > 4
        by_hand.append(-np.log(1 - each[:whole]).sum() - (np.log(each[whole]) if event else 0.0))
    logits = np.log(hazards / (1 - hazards))
    answers = learned.answers(logits, y, np.zeros((50, 2)))
    said = learned.of_rows(y, answers)
    assert said["loss"] == pytest.approx(np.mean(by_hand))
    assert learned.of_sums(learned.count(y, answers, BINS), BINS, 0.0)["loss"] == pytest.approx(
        np.mean(np.minimum(by_hand, 10))
    )
    risk = -np.log(1 - hazards).sum(axis=1)
    pairs = [
        1.0 if risk[i] > risk[j] else 0.5 if risk[i] == risk[j] else 0.0
        for i in range(50)
        for j in range(50)
        if y[i] > 4 and y[i] % 5 < y[j] % 5
    ]
    assert said["concordance"] == pytest.approx(np.mean(pairs))
    assert learned.of_sums(np.array([5.0, 1.0]), BINS, 50.0)["too_noisy"] == ["records", "loss"]


def test_labels_that_a_range_is_far_too_wide_for_are_said() -> None:
    """In a range of +-1e30 all of them have one code, and errors of 0 would pass for a perfect model."""
    target = learned_of({**NUMBER, "minimum": -1e30, "maximum": 1e30})
    values = np.linspace(1e10, 9e10, 50).tolist()
    y = np.array([target.code([value]) for value in values])
    sums = target.count(y, np.full(50, 0.5), 0)
    for said in (target.of_rows(y, np.full(50, 0.5)), target.of_sums(sums, 0, 0.0)):
        assert "narrow that range" in said["warning"]
    narrow = learned_of({**NUMBER, "minimum": 0, "maximum": 1e11})
    y = np.array([narrow.code([value]) for value in values])
    assert "narrow" not in narrow.of_rows(y, np.full(50, 0.5))["warning"]
    assert "narrow" not in target.of_sums(sums, 0, 1.0)["warning"], "noise hides how much they differ"


def test_records_without_a_single_event_are_said() -> None:
    target, answers = learned_of(DIED), np.full((6, 4), 0.2)
    assert "no record has the event" in target.of_rows(np.arange(6) % 5, answers)["warning"]
    assert not target.of_rows(np.arange(6), answers)["warning"]

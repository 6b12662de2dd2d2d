"""Policies: an evolution strategy in plain loops over all rows, trials whose answer is known, and a solver of equations."""

import csv
import math
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence, Tuple

import numpy as np
import pytest
from analysed_rows import planned
from result_cells import numeric, pairs_of
from test_oracles import METHODS, computed, task_with

from orchestrator.analyses.base import Result, Total
from orchestrator.analyses.evolution import Evolution
from orchestrator.analyses.pharmacokinetics import Drug, time_in_range
from orchestrator.analyses.registry import analysis_of, contradictions, make
from orchestrator.data.dataset import Dataset, load_dataset
from orchestrator.errors import UsageError
from orchestrator.node.analysed import total, unit_vectors
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Task

DRUG = Drug(4.5, 0.7, 0.0, 10.0, 25.0, 8.0, 6)
PEOPLE = (Feature("kg", 40, 120), Feature("crcl", 10, 150), Feature("sex", categories=("f", "m")))
TRIAL = (
    Feature("x", -1, 1),
    Feature("given", categories=("none", "low", "high")),
    Feature("better", 0, 1),
    Feature("likely", 0, 1),
)
ACTIONS = TRIAL[1].categories


def table_of(result: Result, name: str) -> Dict[Any, Tuple[Any, ...]]:
    (table,) = (table for table in result.tables if table.name == name)
    return {row[0]: row[1:] for row in table.rows}


def weights_of(result: Result) -> List[float]:
    (table,) = (table for table in result.tables if table.name == "policy")
    return [numeric(row[-1]) for row in table.rows]


# Doses


@pytest.mark.parametrize(("kg", "function"), [(70.0, 1.0), (45.0, 0.3), (110.0, 1.4)])
def test_time_in_range_is_that_of_the_differential_equation(kg: float, function: float) -> None:
    integrate = pytest.importorskip("scipy.integrate")
    mg_kg = 0.9 * DRUG.standard
    clearance, volume = DRUG.clearance * (kg / 70) ** 0.75 * function, DRUG.volume * kg
    level, inside, count = 0.0, 0, 0
    times = np.linspace(0, DRUG.interval_h, 20_001)
    for _ in range(DRUG.doses):
        level += mg_kg * kg / volume
        solved = integrate.solve_ivp(
            lambda _, c: -clearance / volume * c, (0, DRUG.interval_h), [level], t_eval=times, rtol=1e-10, atol=1e-12
        )
        inside += int(((solved.y[0] >= DRUG.low) & (solved.y[0] <= DRUG.high)).sum())
        count += len(times)
        level = solved.y[0][-1]
    found = time_in_range(DRUG, np.array([kg]), np.array([function]), lambda level: np.full(level.shape, mg_kg))
    assert found[0] == pytest.approx(inside / count, abs=2e-4)


def test_who_differ_are_the_mean_of_nine() -> None:
    varied = DRUG._replace(variability=0.4)
    apart = np.exp(0.4 * np.array([-0.9674215661017014, 0.0, 0.9674215661017014]))
    each = [
        time_in_range(
            DRUG._replace(clearance=4.5 * c, volume=0.7 * v),
            np.array([70.0]),
            np.ones(1),
            lambda level: level * 0 + 8.0,
        )[0]
        for c in apart
        for v in apart
    ]
    found = time_in_range(varied, np.array([70.0]), np.ones(1), lambda level: level * 0 + 8.0)
    assert found[0] == pytest.approx(np.mean(each), rel=1e-12)


def people(count: int, seed: int) -> Dataset:
    draw = np.random.default_rng(seed)
    x = np.zeros((count, 4))
    x[:, 0], x[:, 1] = draw.uniform(45, 110, count), draw.uniform(15, 140, count)
    x[np.arange(count), 2 + draw.integers(0, 2, count)] = 1.0
    x[0, 1] = np.nan
    return Dataset(x, np.full(count, -1, np.int32))


@pytest.mark.parametrize("method", METHODS)
def test_doses_that_know_of_kidneys_hold_more_people_in_range(method: str) -> None:
    task = task_with({"kind": "dosing", "weight": "kg", "function": "crcl", "rounds": 30}, PEOPLE)
    result = computed(task, [people(120, site) for site in range(3)], method)
    worth = table_of(result, "worth")
    assert worth["policy"][0] > worth["standard dose"][0] + 0.1
    difference, low, high = worth["difference"]
    assert difference == pytest.approx(worth["policy"][0] - worth["standard dose"][0])
    assert 0.05 < low < difference < high
    weights = pairs_of(next(t for t in result.tables if t.name == "policy"))
    assert weights["crcl"] > 0, "who clears more is given more"
    assert any("3 records that lack an input" in note for note in result.notes)
    assert any("all of this is simulated" in note for note in result.notes)


def test_a_policy_without_weights_is_the_standard_dose() -> None:
    task = task_with({"kind": "dosing", "weight": "kg", "rounds": 1}, PEOPLE)
    worth = table_of(computed(task, [people(50, 1)], "plain"), "worth")
    assert worth["difference"] == (0.0, 0.0, 0.0)


# What was done


def decided(count: int, seed: int, confounded: bool = False) -> Dataset:
    """A trial of three doses: the best is "high" for x above 0 and "none" below. confounded: those above 0 mostly got "none"."""
    draw = np.random.default_rng(seed)
    x = draw.uniform(-1, 1, count)
    odds = (
        np.where(x[:, np.newaxis] > 0, [0.7, 0.2, 0.1], [0.2, 0.2, 0.6]) if confounded else np.full((count, 3), 1 / 3)
    )
    given = (draw.random(count)[:, np.newaxis] > odds.cumsum(axis=1)).sum(axis=1).clip(0, 2)
    better = draw.random(count) < chance(x, given)
    rows = np.zeros((count, 6))
    rows[:, 0] = x
    rows[np.arange(count), 1 + given] = 1.0
    rows[:, 4], rows[:, 5] = better, odds[np.arange(count), given]
    return Dataset(rows, np.full(count, -1, np.int32))


def chance(x: np.ndarray, given: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 + 0.4 * np.sign(x) * (given - 1))


def probabilities(weights: Sequence[float], x: np.ndarray) -> np.ndarray:
    scores = np.stack([np.zeros(len(x)), weights[0] + weights[1] * x, weights[2] + weights[3] * x], axis=1)
    return np.asarray(np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True))


def truly(weights: Sequence[float]) -> float:
    """What a policy is worth, over all x there may be."""
    x = np.linspace(-1, 1, 10_001)[1::2]
    each = np.stack([chance(x, np.full(len(x), action)) for action in range(3)], axis=1)
    return float((probabilities(weights, x) * each).sum(axis=1).mean())


def policy_task(**options: Any) -> Task:
    return task_with(
        {"kind": "policy", "action": "given", "reward": "better", "inputs": ("x",), "rounds": 30, **options}, TRIAL
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_trial_shows_whom_to_give_what(method: str) -> None:
    result = computed(policy_task(), [decided(700, site) for site in range(3)], method)
    assert truly([0.0] * 4) == pytest.approx(0.5, abs=1e-3)
    assert truly(weights_of(result)) > 0.75, "the best there is has .9, and lots .5"
    worth = table_of(result, "worth")
    shown, low, high, like = worth["policy"]
    assert low < shown < high
    assert abs(shown - truly(weights_of(result))) < 1.5 * (high - low)
    assert 300 < like < 2100
    assert worth["as it was done"][0] == pytest.approx(0.5, abs=0.05)
    assert worth["as it was done"][-1] == 2100


def by_loops(sites: List[Dataset], task: Task, analysis: Evolution, most: float) -> List[float]:
    """The same search over all rows, from the definition: no vector, no product of matrices."""
    options = task.analysis
    rows = [row for site in sites for row in site.x]
    asked, against = analysis.begin(task.seed), 0.0
    weights = [0.0] * 4
    for number in range(options["rounds"]):
        steps = asked[10:].reshape(options["pairs"], 4).astype(np.float64)
        slope, sums = np.zeros(4), np.zeros(2)
        for row in rows:
            done = int(np.argmax(row[1:4]))

            def ratio(policy: Sequence[float], row: np.ndarray = row, done: int = done) -> float:
                p = probabilities(policy, np.array([row[0]]))[0][done]
                return min(most, p / row[5] if options["propensity"] else 3 * p)

            for step in steps:
                ends = [[w + side * options["spread"] * s for w, s in zip(weights, step)] for side in (1, -1)]
                difference = (ratio(ends[0]) - ratio(ends[1])) / most * (row[4] - against)
                slope += difference * step
            sums += (ratio(weights) * row[4], ratio(weights))
        if number == options["rounds"] - 1:
            return weights
        scale = options["rate"] * most / (2 * options["spread"] * len(steps) * len(rows))
        weights = [w + scale * s for w, s in zip(weights, slope)]
        against = sums[0] / sums[1]
        vectors = [total(unit_vectors(analysis, asked, site, "record"), analysis.sums.size) for site in sites]
        asked, _ = analysis.fold(asked, Total(np.sum(vectors, axis=0)))
    raise AssertionError("no round")


@pytest.mark.parametrize("propensity", ["", "likely"])
def test_weights_are_those_of_plain_loops(propensity: str) -> None:
    task = policy_task(rounds=4, pairs=3, most_weight=2.0, propensity=propensity)
    sites = [decided(20, site, confounded=True) for site in range(2)]
    analysis = analysis_of(task)
    assert isinstance(analysis, Evolution)
    wanted = by_loops(sites, task, analysis, 2.0)
    for method, within in (("plain", 1e-9), ("secure", 1e-5)):
        np.testing.assert_allclose(weights_of(computed(task, sites, method)), wanted, rtol=0, atol=within)


def test_who_got_what_for_a_reason_is_weighed_by_it() -> None:
    """High doses went to those they do not help; what everybody on "high" would come to is seen by the propensities alone."""
    always = (0.0, 0.0, 60.0, 0.0)
    sites = [decided(4000, site, confounded=True) for site in range(2)]
    rows = np.concatenate([site.x for site in sites])
    naive = rows[rows[:, 3] > 0.5, 4].mean()
    assert naive < truly(always) - 0.2
    for propensity, right in (("likely", truly(always)), ("", naive)):
        task = policy_task(rounds=1, start=always, propensity=propensity)
        shown, low, high, _ = table_of(computed(task, sites, "plain"), "worth")["policy"]
        assert low < right < high
        assert shown == pytest.approx(right, abs=0.05)


@pytest.fixture(scope="module")
def respiratory(
    shared_data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Tuple[Schema, List[Path]]:
    """A real trial: lots were drawn between A and P; four visits of each patient; two centres."""
    with (shared_data("respiratory") / "respiratory.csv").open() as file:
        table = [{**row, "patient": f"{row['center']}-{row['id']}"} for row in csv.DictReader(file)]
    folder, paths = tmp_path_factory.mktemp("respiratory"), []
    for center in ("1", "2"):
        paths.append(folder / f"{center}.csv")
        with paths[-1].open("w", newline="") as file:
            writer = csv.DictWriter(file, ["treat", "sex", "age", "outcome", "patient"], extrasaction="ignore")
            writer.writeheader()
            writer.writerows(row for row in table if row["center"] == center)
    features = (
        Feature("treat", categories=("P", "A")),
        Feature("sex", categories=("F", "M")),
        Feature("age", 0, 100),
        Feature("outcome", 0, 1),
    )
    return Schema("table", "", (), {}, features, patient="patient"), paths


@pytest.mark.parametrize("episodes", [False, True])
def test_a_policy_that_treats_all_is_worth_what_the_treated_had(
    respiratory: Tuple[Schema, List[Path]], episodes: bool
) -> None:
    """Of episodes the factors of four decisions multiply: 2^4, for those who were treated each time, and else 0."""
    schema, paths = respiratory
    with paths[0].open() as one, paths[1].open() as other:
        rows = [*csv.DictReader(one), *csv.DictReader(other)]
    treated = [float(row["outcome"]) for row in rows if row["treat"] == "A"]
    sites = [load_dataset(path, schema, gaps=True) for path in paths]
    declared = {"kind": "policy", "action": "treat", "reward": "outcome", "episodes": episodes, "rounds": 1}
    for start, arm in (((60.0, 0.0, 0.0), "A"), ((-60.0, 0.0, 0.0), "P")):
        analysis = make({**declared, "start": start}, schema)
        asked = analysis.begin(0)
        sums = np.sum([total(unit_vectors(analysis, asked, s, "record"), analysis.sums.size) for s in sites], axis=0)
        _, folded = analysis.fold(asked, Total(sums))
        worth = table_of(analysis.result(folded.state, "records"), "worth")
        wanted = [float(row["outcome"]) for row in rows if row["treat"] == arm]
        assert worth["policy"][0] == pytest.approx(np.mean(wanted), abs=1e-9)
        of_arm = len({row["patient"] for row in rows if row["treat"] == arm}) if episodes else len(wanted)
        assert worth["policy"][-1] == pytest.approx(of_arm, rel=1e-6)
        assert worth["as it was done"][0] == pytest.approx(np.mean([float(row["outcome"]) for row in rows]), abs=1e-9)
        if not episodes:  # the standard error of a mean
            half = 1.96 * np.std(wanted) / math.sqrt(len(wanted))
            against_nothing = 1.96 * math.sqrt(sum(value**2 for value in wanted)) / len(wanted)
            assert worth["policy"][2] - worth["policy"][0] == pytest.approx(against_nothing, rel=1e-6)
            assert half < against_nothing, "in the first round nothing is known to compare with"
    assert np.mean(treated) > 0.6


def test_a_patient_with_a_decision_that_lacks_a_value_is_no_episode(respiratory: Tuple[Schema, List[Path]]) -> None:
    schema, paths = respiratory
    data = load_dataset(paths[0], schema, gaps=True)
    analysis = make({"kind": "policy", "action": "treat", "reward": "outcome", "episodes": True, "rounds": 1}, schema)
    x = data.x.copy()
    x[0, -1] = np.nan
    for one, left_out in ((data, 0), (data._replace(x=x), 1)):
        found = total(unit_vectors(analysis, analysis.begin(0), one, "record"), analysis.sums.size)
        assert found[-1] == left_out
        assert found[-2] + found[-1] == len(data.units("patient"))


def test_noise_for_records_is_refused_where_sums_are_of_patients() -> None:
    """A record changes all that its episode comes to: by more than the bound, which is of a patient who is there or not."""
    features = (Feature("given", categories=("no", "yes")), Feature("better", 0, 1), Feature("x", -1, 1))
    schema = Schema("table", "", (), {}, features, patient="who")
    declared = {
        "kind": "policy",
        "action": "given",
        "reward": "better",
        "episodes": True,
        "rounds": 1,
        "most_weight": 1.0,
    }
    analysis = make({**declared, "start": (0.0, 60.0)}, schema)
    far = Dataset(np.array([[0.0, 1.0, 1.0, 0.5]]), np.array([-1], np.int32), np.array([0]))
    both = Dataset(
        np.array([[0.0, 1.0, 1.0, 0.5], [1.0, 0.0, 1.0, 1.0]]), np.array([-1, -1], np.int32), np.array([0, 0])
    )
    asked = analysis.begin(0)
    one, two = (total(unit_vectors(analysis, asked, data, "record"), analysis.sums.size) for data in (far, both))
    assert np.linalg.norm(one - two) > 1.0, "the factor of an episode falls from 2 to nothing"
    for unit, allowed in (("record", False), ("patient", True), ("none", True)):
        task = Task(
            "t",
            schema,
            {},
            privacy=Privacy(unit, sampling_rate=1.0, clip_norm=0.0),
            rounds=Rounds(3, 3),
            analysis=declared,
        )
        said = list(contradictions(analysis, planned(task).training, task.privacy))
        assert bool(said) != allowed
        assert allowed or "over patients" in said[0]


def test_noise_hides_what_drowns_in_it() -> None:
    for task, data in (
        (task_with({"kind": "dosing", "weight": "kg", "rounds": 1}, PEOPLE), people(60, 1)),
        (policy_task(rounds=1), decided(60, 1)),
    ):
        analysis = analysis_of(task)
        asked = analysis.begin(0)
        sums = total(unit_vectors(analysis, asked, data, "record"), analysis.sums.size)
        _, folded = analysis.fold(asked, Total(sums, 40.0))
        assert "reached" not in folded.figures
        rows = table_of(analysis.result(folded.state, "records"), "worth")
        assert all(cell is None for row in rows.values() for cell in row)
        assert any("carries noise" in note for note in analysis.result(folded.state, "records").notes)
        gone, _ = analysis.fold(asked, Total(0 * sums, 40.0))
        weights = len(analysis.names)  # type: ignore[attr-defined]
        before, after = (analysis.question(announced)[:weights] for announced in (asked, gone))
        np.testing.assert_array_equal(before, after, "nobody was there, and a weight moved")


MISTAKES: Dict[str, Dict[str, Any]] = {
    "did you mean 'given'": {"action": "givn"},
    "is a number, expected categories": {"action": "x"},
    "has categories, expected a number": {"reward": "given"},
    "must be within 0 and 1": {"propensity": "x"},
    "does not say whose a record is": {"episodes": True},
    "start: 1 weights, the policy has 4": {"start": (1.0,)},
    "at most 65536 numbers": {"pairs": 1024, "inputs": ("x", "better2")},
    "pairs: 0": {"pairs": 0},
    "most_weight: 0.5": {"most_weight": 0.5},
}


@pytest.mark.parametrize("said", MISTAKES)
def test_mistakes_of_a_policy_are_named(said: str) -> None:
    features = TRIAL if "65536" not in said else (*TRIAL, Feature("better2", categories=tuple(map(str, range(70)))))
    with pytest.raises(UsageError, match=said):
        make(
            {"kind": "policy", "action": "given", "reward": "better", "inputs": ("x",), **MISTAKES[said]},
            Schema("table", "", (), {}, features),
        )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weight": "sex"}, "has categories"),
        ({"weight": "x"}, "must have a minimum above 0"),
        ({"weight": "kg", "low": 30.0}, "more than low"),
        ({"weight": "kg", "function": "cr"}, "did you mean 'crcl'"),
        ({"weight": "kg", "variability": math.nan}, "variability: nan"),
    ],
)
def test_mistakes_of_doses_are_named(options: Dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make({"kind": "dosing", **options}, Schema("table", "", (), {}, (*PEOPLE, Feature("x", -1, 1))))

"""What privacy costs in an analysis on real data; and how long one takes with five nodes over MQTT, and in how much memory.

    python benchmarks/analyses.py --data ../shared/data [--seeds 5] [--errors | --times | --codes] [NAME...]

Errors: each analysis as `edgeward analyze --data` tries it, one file a hospital, noise simulated as strong as that of a run with
`noise = "distributed"`, against the same without noise. Median over seeds; what noise hides so that it is left out is counted.
Codes: what principal components and a linear autoencoder of as many numbers make of records (analyses_codes.py).
Times: `edgeward gateway run` and five `edgeward node run` as processes of their own, without noise.
"""

import argparse
import os
import platform
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from analyses_codes import codes
from analyses_times import times
from hospital_tables import Data, data_sets, written

from orchestrator.analyses.base import Result
from orchestrator.analyses.registry import analysis_of
from orchestrator.data.dataset import Dataset, load_for
from orchestrator.gateway.trial import planned, try_planned
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.schema import Schema
from orchestrator.wire.task import Rounds, Task
from orchestrator.wire.training import Training

DELTA = 1e-5
EPSILONS = (1.0, 3.0)


Figure = Callable[[Result, Result, Task, Sequence[Dataset]], Optional[float]]
"""(noised result, exact one, task, all data) -> how far they are apart; None where noise left nothing to compare."""


class Case(NamedTuple):
    data: str
    kind: str
    options: Dict[str, Any]
    measure: str  # in words, with what 0 means
    figure: Figure


def table(result: Result, name: str) -> List[Dict[str, Any]]:
    found = next(each for each in result.tables if each.name == name)
    return [dict(zip(found.columns, row)) for row in found.rows]


def apart(pairs: Sequence[Tuple[Any, Any, float]]) -> Optional[float]:
    """Mean of |one - other| / unit over (one, other, unit); None where noise hides more than half of those that there are."""
    there = [(one, other, unit) for one, other, unit in pairs if other is not None and unit]
    known = [abs(one - other) / unit for one, other, unit in there if one is not None]
    return float(np.mean(known)) if 2 * len(known) > len(there) else None


def means(noised: Result, exact: Result, task: Task, sites: Sequence[Dataset]) -> Optional[float]:
    both = zip(table(noised, "columns"), table(exact, "columns"))
    return apart([(one["mean"], other["mean"], other["standard deviation"]) for one, other in both])


def group_means(noised: Result, exact: Result, task: Task, sites: Sequence[Dataset]) -> Optional[float]:
    pairs: List[Tuple[Any, Any, float]] = []
    for one, other in zip(table(noised, "numbers"), table(exact, "numbers")):
        unit = max(value for name, value in other.items() if "deviation" in name)
        pairs += [(one[name], other[name], unit) for name in other if "mean" in name]
    return apart(pairs)


def quantiles(noised: Result, exact: Result, task: Task, sites: Sequence[Dataset]) -> Optional[float]:
    x, pairs = np.concatenate([site.x for site in sites]), []
    for number, feature in task.schema.numbers():
        name = f"quantiles {feature.name}"
        if any(each.name == name for each in exact.tables):
            unit = float(np.nanstd(x[:, number]))
            pairs += [(one["all"], other["all"], unit) for one, other in zip(table(noised, name), table(exact, name))]
    return apart(pairs)


def coefficients(noised: Result, exact: Result, task: Task, sites: Sequence[Dataset]) -> Optional[float]:
    both = zip(table(noised, "coefficients"), table(exact, "coefficients"))
    return apart([(one["estimate"], other["estimate"], other["standard error"]) for one, other in both])


def auc_of(scores: np.ndarray, truth: np.ndarray) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(truth, scores))


def outcome_of(task: Task, x: np.ndarray) -> np.ndarray:
    """Float (n,): 1 for the second level of the outcome, NaN where it is missing."""
    at = 0
    for feature in task.schema.features:
        if feature.name == task.analysis["outcome"]:
            break
        at += feature.width
    return np.where(x[:, at : at + 2].any(axis=1), x[:, at + 1], np.nan)


def linear_scores(result: Result, task: Task, x: np.ndarray) -> Optional[np.ndarray]:
    found = {row["term"]: row["estimate"] for row in table(result, "coefficients")}
    if None in found.values():
        return None
    score, at = np.full(len(x), found["(intercept)"]), 0
    for feature in task.schema.features:
        for place, level in enumerate(feature.categories or ("",)):
            name = f"{feature.name} = {level}" if level else feature.name
            score = score + found.get(name, 0.0) * x[:, at + place]
        at += feature.width
    return score


def loss_of_auc(noised: Result, exact: Result, task: Task, sites: Sequence[Dataset]) -> Optional[float]:
    x = np.concatenate([site.x for site in sites])
    truth, scored = outcome_of(task, x), [linear_scores(each, task, x) for each in (exact, noised)]
    if scored[0] is None or scored[1] is None:
        return None
    known = np.isfinite(truth) & np.isfinite(scored[0])
    one, other = (auc_of(np.asarray(score)[known], truth[known]) for score in scored)
    return one - other


def forest_scores(result: Result, task: Task, x: np.ndarray) -> np.ndarray:
    """Each record's mean share of the second class over all trees."""
    forest: Any = analysis_of(task)
    trees = forest.options.trees
    shares = [
        row[-1] for row in next(each for each in result.tables if each.name == "trees").rows if row[-1] is not None
    ]
    categories = np.array([bool(feature.categories) for feature in forest._columns.features])
    leaf = forest.trees.leaves(forest._columns.read(x), categories)
    return np.array(shares, float).reshape(trees, -1)[np.arange(trees), leaf].mean(axis=1)


def forest_loss(noised: Result, exact: Result, task: Task, sites: Sequence[Dataset]) -> Optional[float]:
    x = np.concatenate([site.x for site in sites])
    truth = outcome_of(task, x)
    known = np.isfinite(truth)
    one, other = (auc_of(forest_scores(each, task, x)[known], truth[known]) for each in (exact, noised))
    return one - other


def performance(noised: Result, exact: Result, task: Task, sites: Sequence[Dataset]) -> Optional[float]:
    """How far the AUC of a score is off."""
    one, other = (table(each, "performance")[0]["AUC"] for each in (noised, exact))
    return None if one is None else float(abs(one - other))


def curves(noised: Result, exact: Result, task: Task, sites: Sequence[Dataset]) -> Optional[float]:
    """The longest vertical distance, up to where the noised curve ends."""
    found = []
    for name in (each.name for each in exact.tables if each.name.startswith("survival")):
        one, other = (
            {float(row[task.analysis["time"]]): row["survival"] for row in table(each, name)}
            for each in (noised, exact)
        )
        times = sorted(other)
        for at, value in one.items():
            before = [t for t in times if t <= at]
            if value is not None:
                found.append(abs(value - (other[before[-1]] if before else 1.0)))
    return max(found) if found else None


def explained(noised: Result, exact: Result, task: Task, sites: Sequence[Dataset]) -> Optional[float]:
    """Of the variance the two first exact components explain, the share that the two first noised ones miss."""
    matrix = np.array(
        [row[1:] for row in next(each for each in exact.tables if each.name == "correlation").rows], float
    )
    spaces = []
    for result in (noised, exact):
        loads = [[row[f"component {number}"] for row in table(result, "components")] for number in (1, 2)]
        if any(value is None for load in loads for value in load):
            return None
        spaces.append(np.linalg.qr(np.array(loads, float).T)[0])
    one, other = (float(np.trace(space.T @ matrix @ space)) for space in spaces)
    return 1 - one / other


def nearest(name: str) -> Figure:
    def figure(noised: Result, exact: Result, task: Task, sites: Sequence[Dataset]) -> Optional[float]:
        """Mean over exact centres of the distance to the nearest noised one, in standard deviations a number."""
        x = np.concatenate([site.x for site in sites])
        units = {feature.name: float(np.nanstd(x[:, column])) for column, feature in task.schema.numbers()}
        places = []
        for result in (noised, exact):
            rows = [[row[column] for column in units] for row in table(result, name)]
            places.append(np.array([row for row in rows if None not in row], float) / list(units.values()))
        if len(places[0]) == 0:
            return None
        gaps = np.sqrt(np.square(places[1][:, np.newaxis] - places[0][np.newaxis]).mean(axis=2))
        return float(gaps.min(axis=1).mean())

    return figure


SDS = "means: mean error in standard deviations"
SES = "coefficients: mean error in standard errors"
AUC = "AUC that is lost"
CASES = (
    Case("rand-hie", "statistics", {"bins": 10}, SDS, means),
    Case("heart-disease", "statistics", {"bins": 5}, SDS, means),
    Case("respiratory", "statistics", {"bins": 5}, SDS, means),
    Case(
        "rand-hie",
        "quantiles",
        {"columns": ("xage", "income"), "quantiles": (0.25, 0.5, 0.75), "bins": 40},
        "quartiles: mean error in standard deviations",
        quantiles,
    ),
    Case(
        "respiratory",
        "quantiles",
        {"columns": ("age",), "quantiles": (0.25, 0.5, 0.75), "bins": 20},
        "quartiles: mean error in standard deviations",
        quantiles,
    ),
    Case("rand-hie", "compare", {"by": "female"}, "means of groups: mean error in standard deviations", group_means),
    Case("respiratory", "compare", {"by": "treat"}, "means of groups: mean error in standard deviations", group_means),
    Case(
        "rand-hie",
        "regression",
        {"family": "linear", "outcome": "ghindx", "inputs": ("xage", "income", "female")},
        SES,
        coefficients,
    ),
    Case(
        "rand-hie",
        "regression",
        {"family": "linear", "outcome": "ghindx", "inputs": ("xage", "income", "female"), "penalty": "adassp"},
        SES,
        coefficients,
    ),
    Case(
        "rand-hie",
        "regression",
        {"family": "logistic", "outcome": "child", "inputs": ("income", "ghindx", "female"), "rounds": 3},
        AUC,
        loss_of_auc,
    ),
    Case(
        "heart-disease",
        "regression",
        {"family": "logistic", "outcome": "disease", "inputs": ("thalach", "exang"), "rounds": 3},
        AUC,
        loss_of_auc,
    ),
    Case(
        "respiratory",
        "regression",
        {"family": "logistic", "outcome": "outcome", "inputs": ("baseline", "treat"), "rounds": 3},
        AUC,
        loss_of_auc,
    ),
    Case(
        "rand-hie",
        "performance",
        {"outcome": "child", "coefficients": {"(intercept)": -1.0, "ghindx": 0.02, "income": -2e-5}},
        "AUC of a known score: error",
        performance,
    ),
    Case(
        "heart-disease",
        "performance",
        {"outcome": "disease", "bins": 20, "coefficients": {"(intercept)": 5.0, "thalach": -0.04, "exang = 1": 1.5}},
        "AUC of a known score: error",
        performance,
    ),
    Case(
        "respiratory",
        "performance",
        {
            "outcome": "outcome",
            "bins": 10,
            "coefficients": {"(intercept)": -1.0, "baseline = 1": 1.9, "treat = A": 1.0},
        },
        "AUC of a known score: error",
        performance,
    ),
    Case(
        "nwtco",
        "survival",
        {"time": "edrel", "event": "rel", "by": "histol", "steps": 20},
        "curves: longest distance",
        curves,
    ),
    Case("rand-hie", "pca", {}, "share of what two components explain that is missed", explained),
    Case(
        "rand-hie",
        "kmeans",
        {
            "clusters": 3,
            "rounds": 5,
            "start": ((10.0, 3.0, 5000.0, 80.0), (30.0, 3.0, 9000.0, 70.0), (50.0, 5.0, 12_000.0, 60.0)),
        },
        "centres: mean distance to the nearest, in standard deviations",
        nearest("centres"),
    ),
    Case(
        "rand-hie",
        "mixture",
        {"components": 2, "covariance": "diagonal", "rounds": 8},
        "centres: mean distance to the nearest, in standard deviations",
        nearest("components"),
    ),
    Case(
        "rand-hie",
        "forest",
        {"outcome": "child", "inputs": ("mdvis", "ghindx", "female"), "held_out": 0.0},
        AUC,
        forest_loss,
    ),
    Case("heart-disease", "forest", {"outcome": "disease", "held_out": 0.0}, AUC, forest_loss),
    Case("respiratory", "forest", {"outcome": "outcome", "held_out": 0.0, "depth": 3}, AUC, forest_loss),
)


def task_of(case: Case, data: Data, privacy: Privacy, nodes: int) -> Task:
    schema = Schema("table", "", (), {}, data.features, patient=data.patient, missing_markers=("",))
    declared = {"kind": case.kind, **case.options}
    if not privacy.on and declared.get("penalty") == "adassp":
        declared.pop("penalty")  # which is for noise
    rounds, masked = Rounds(nodes, nodes), Aggregation("masked", honest=nodes)
    task = Task(case.kind, schema, {}, privacy=privacy, rounds=rounds, aggregation=masked, analysis=declared)
    return replace(task, training=Training(rounds=analysis_of(task).rounds))


def error(case: Case, data: Data, paths: List[Path], unit: str, epsilon: float, seeds: int) -> str:
    """Median, with how many draws had anything to compare."""
    exact = planned(task_of(case, data, Privacy("none"), len(paths)))[0]
    private = Privacy(unit, epsilon=epsilon, delta=DELTA, clip_norm=0.0, sampling_rate=1.0, noise="distributed")
    noisy = planned(task_of(case, data, private, len(paths)))[0]
    sites = [load_for(path, exact) for path in paths]
    base = try_planned(exact, sites).result
    found = [case.figure(try_planned(noisy, sites, seed).result, base, noisy, sites) for seed in range(seeds)]
    known = [value for value in found if value is not None]
    if 2 * len(known) <= seeds:
        return "hidden"
    return f"{np.median(known):.2g}" + (f" ({len(known)} of {seeds})" if len(known) < seeds else "")


def errors(source: Path, seeds: int, wanted: Sequence[str]) -> None:
    print(
        "| analysis | data | records, patients | error | "
        + " | ".join(f"{unit}, epsilon {epsilon:g}" for unit in ("record", "patient") for epsilon in EPSILONS)
        + " |\n|"
        + "---|" * 8
    )
    sets = data_sets(source)
    for case in CASES:
        name = " ".join([case.kind, str(case.options.get("family", "")), str(case.options.get("penalty", ""))]).strip()
        if wanted and case.kind not in wanted:
            continue
        data = sets[case.data]
        with tempfile.TemporaryDirectory() as folder:
            paths = written(data, Path(folder))
            cells = []
            for unit in ("record", "patient"):
                one_each = unit == "patient" and not data.patient
                cells += ["one record each" if one_each else error(case, data, paths, unit, e, seeds) for e in EPSILONS]
        print(
            f"| {name} | {case.data} | {data.records:,}, {data.patients:,} | {case.measure} | {' | '.join(cells)} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the shared data sets")
    parser.add_argument("--seeds", type=int, default=5, help="draws of noise (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="of what is timed (default: %(default)s)")
    parser.add_argument("--errors", action="store_true", help="errors only")
    parser.add_argument("--times", action="store_true", help="times only")
    parser.add_argument("--codes", action="store_true", help="principal components and an autoencoder only")
    parser.add_argument("names", nargs="*", metavar="NAME", help="some analyses only")
    arguments = parser.parse_args()
    whole = not (arguments.errors or arguments.times or arguments.codes)
    if whole or arguments.errors:
        errors(arguments.data, arguments.seeds, arguments.names)
    if whole or arguments.codes:
        codes(arguments.data, arguments.seeds)
    if whole or arguments.times:
        times(arguments.data.resolve(), arguments.names, arguments.repeats)
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    print(
        f"\n{os.cpu_count()} cores, {platform.machine()}, {platform.system()}, Python {platform.python_version()}; load {load}"
    )


if __name__ == "__main__":
    np.seterr(all="ignore")
    main()

"""Survival curves against SciPy's, on the Wilms tumor study split over five sites, and what noise does to them."""

import csv
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import numpy as np
import pytest
from analysed_rows import OPEN, planned
from result_cells import numeric, pairs_of
from textbook import partial_likelihood

from orchestrator.analyses.base import Result, Total
from orchestrator.analyses.registry import analysis_of
from orchestrator.analyses.survival import curve_of, log_rank
from orchestrator.data.dataset import load_for
from orchestrator.node.analysed import total, unit_vectors
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Task

DAYS = 6300
SCHEMA = Schema(
    "table",
    "",
    (),
    {},
    (
        Feature("edrel", 0, DAYS),
        Feature("rel", categories=("0", "1")),
        Feature("histol", categories=("1", "2")),
        Feature("stage", categories=("1", "2", "3", "4")),
    ),
)


def task(by: str) -> Task:
    declared = {
        "kind": "survival",
        "time": "edrel",
        "event": "rel",
        "by": by,
        "steps": DAYS if by != "stage" else DAYS // 2,
    }
    return planned(Task("wilms", SCHEMA, {}, privacy=OPEN, rounds=Rounds(5, 5), analysis=declared))


@pytest.fixture(scope="module")
def rows(
    shared_data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Tuple[List[Dict[str, str]], List[Path]]:
    with next(shared_data("nwtco").glob("*.csv")).open() as file:
        table = list(csv.DictReader(file))
    folder, paths = tmp_path_factory.mktemp("wilms"), []
    for number in range(5):
        paths.append(folder / f"{number}.csv")
        with paths[-1].open("w", newline="") as file:
            writer = csv.DictWriter(file, list(table[0]))
            writer.writeheader()
            writer.writerows(table[number::5])
    return table, paths


def computed(by: str, paths: List[Path]) -> Result:
    declared = task(by)
    analysis = analysis_of(declared)
    asked, sums = analysis.begin(0), np.zeros(analysis.sums.size)
    for path in paths:
        sums += total(unit_vectors(analysis, asked, load_for(path, declared), "record"), analysis.sums.size)
    return analysis.result(analysis.fold(asked, Total(sums))[1].state, "records")


def censored(stats: Any, rows: List[Dict[str, str]]) -> Any:
    seen = [float(row["edrel"]) for row in rows if row["rel"] == "1"]
    return stats.CensoredData(uncensored=seen, right=[float(row["edrel"]) for row in rows if row["rel"] == "0"])


def test_curves_bands_and_the_log_rank_test_are_scipys(rows: Tuple[List[Dict[str, str]], List[Path]]) -> None:
    stats = pytest.importorskip("scipy.stats")
    table, paths = rows
    result = computed("histol", paths)
    tables = {each.name: each for each in result.tables}
    groups = {level: [row for row in table if row["histol"] == level] for level in ("1", "2")}
    for level, members in groups.items():
        theirs = stats.ecdf(censored(stats, members)).sf
        band = theirs.confidence_interval(method="log-log")
        ours = {row[0]: row for row in tables[f"survival {level}"].rows}
        for place, at in enumerate(theirs.quantiles):
            row = ours[float(at)]
            assert row[1] == sum(float(each["edrel"]) >= at for each in members)
            assert row[4] == pytest.approx(theirs.probabilities[place], rel=1e-12)
            if 0 < theirs.probabilities[place] < 1:
                assert row[5] == pytest.approx(band.low.probabilities[place], rel=1e-5)
                assert row[6] == pytest.approx(band.high.probabilities[place], rel=1e-5)
    found = stats.logrank(*(censored(stats, members) for members in groups.values()))
    (row,) = tables["log-rank"].rows
    assert row[0] == pytest.approx(found.statistic**2, rel=1e-9)
    assert row[2] == pytest.approx(found.pvalue, rel=1e-6)
    counts = {row[0]: row[1:3] for row in tables["groups"].rows}
    assert counts == {k: (len(g), sum(row["rel"] == "1" for row in g)) for k, g in groups.items()}


def test_four_groups_have_three_degrees_of_freedom(rows: Tuple[List[Dict[str, str]], List[Path]]) -> None:
    pytest.importorskip("scipy", reason="results are made at gateways, which have it")
    _, paths = rows
    (row,) = next(each.rows for each in computed("stage", paths).tables if each.name == "log-rank")
    assert row[1] == 3
    assert numeric(row[2]) < 1e-6


def test_equal_groups_are_rarely_told_apart() -> None:
    pytest.importorskip("scipy", reason="results are made at gateways, which have it")
    draw, small = np.random.default_rng(3), 0
    for _ in range(400):
        counts = draw.poisson(3.0, (2, 2, 30))
        found = log_rank(counts[:, 0], counts[:, 1])
        assert found is not None
        small += numeric(found[2]) < 0.05
    assert 5 <= small <= 40, small


def test_bands_count_the_noise_and_curves_end_where_it_hides_them() -> None:
    draw, hits, shown = np.random.default_rng(1), 0, 0
    steps, deviation = 20, 15.0
    for _ in range(300):
        times = np.minimum(draw.exponential(15.0, 4000), draw.uniform(0, 25, 4000))
        seen = draw.random(4000) < 0.5
        step = np.minimum(times, steps - 1).astype(int)
        events, lost = (np.bincount(step[chosen], minlength=steps).astype(float) for chosen in (seen, ~seen))
        exact = curve_of(events, lost, 0.0)
        noisy = curve_of(events + draw.normal(0, deviation, steps), lost + draw.normal(0, deviation, steps), deviation)
        at = 8
        if noisy.known > at:
            shown += 1
            hits += noisy.low[at] <= exact.survival[at] <= noisy.high[at]
        assert (noisy.risk[: noisy.known] > 0).all()
    assert shown > 250
    assert hits > 0.93 * shown
    hidden = curve_of(np.full(5, 2.0), np.full(5, 2.0), 50.0)
    assert hidden.known == 0


@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_coxs_model_is_that_of_all_records_together(tmp_path: Path, ties: str) -> None:
    draw = np.random.default_rng(4)
    age, dose = draw.uniform(20, 80, 240), draw.choice(["low", "mid", "high"], 240)
    rate = np.exp(0.03 * (age - 50) + 0.7 * (dose == "high"))
    times = np.minimum(np.ceil(draw.exponential(20 / rate)), 30)
    seen = draw.random(240) < np.where(times < 30, 0.8, 0.0)
    paths = []
    for site in range(3):
        lines = [f"{t:g},{int(s)},{a!r},{d}" for t, s, a, d in zip(times, seen, age.tolist(), dose)][site::3]
        paths.append(tmp_path / f"{site}.csv")
        paths[-1].write_text("\n".join(["t,dead,age,dose", *lines]) + "\n")
    features = (
        Feature("t", 0, 40),
        Feature("dead", categories=("0", "1")),
        Feature("age", 0, 100),
        Feature("dose", categories=("low", "mid", "high")),
    )
    declared = {"kind": "cox", "time": "t", "event": "dead", "steps": 40, "ties": ties}
    wanted = planned(
        Task("t", Schema("table", "", (), {}, features), {}, privacy=OPEN, rounds=Rounds(3, 3), analysis=declared)
    )
    analysis = analysis_of(wanted)
    asked, sites = analysis.begin(0), [load_for(path, wanted) for path in paths]
    for _ in range(analysis.rounds):
        sums = sum(total(unit_vectors(analysis, asked, site, "record"), analysis.sums.size) for site in sites)
        asked, folded = analysis.fold(asked, Total(np.asarray(sums)))
        if folded.done:
            break
    assert folded.done
    result = analysis.result(folded.state, "records")
    rows = {row[0]: row for row in result.tables[0].rows}
    x = np.stack([age, dose == "mid", dose == "high"], axis=1).astype(float)
    beta = np.zeros(3)
    for _ in range(30):
        value, gradient, information = partial_likelihood(x, times, seen, beta, ties)
        beta = beta + np.linalg.solve(information, gradient)
    for number, name in enumerate(("age", "dose = mid", "dose = high")):
        assert rows[name][1] == pytest.approx(beta[number], rel=1e-7)
        assert rows[name][2] == pytest.approx(np.linalg.inv(information)[number, number] ** 0.5, rel=1e-7)
        assert rows[name][7] == pytest.approx(np.exp(beta[number]), rel=1e-7)
    fit: Dict[Any, Any] = pairs_of(result.tables[1])
    assert fit["log-likelihood"] == pytest.approx(value, rel=1e-9)
    assert (fit["records used"], fit["events"]) == (240, seen.sum())
    baseline: Dict[Any, Any] = {row[0]: row[1] for row in result.tables[2].rows}
    assert sorted(baseline) == sorted(set(times[seen]))
    assert baseline[max(baseline)] > baseline[min(baseline)] > 0

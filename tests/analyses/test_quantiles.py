"""Quantiles against numpy's of all rows together, intervals that hold, and what is not said of few records."""

from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import numpy as np
import pytest
from analysed_rows import SCHEMA, any_asked, rows, summed, task_of
from result_cells import numeric
from test_oracles import METHODS, cells, computed, site_files, task_with

from orchestrator.analyses.base import Total
from orchestrator.analyses.quantiles import noisy_cell
from orchestrator.analyses.registry import analysis_of, contradictions, make
from orchestrator.data.dataset import load_for
from orchestrator.errors import UsageError
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature

SHARES = (0.05, 0.25, 0.5, 0.75, 0.9)
FEATURES = (
    Feature("xage", 0, 100),
    Feature("mdvis", 0, 100),
    Feature("income", 1, 40_000, transform="log"),
    Feature("plan", categories=tuple(str(number) for number in range(1, 25))),
)
STEPS = (0.1, 1.0, 2.5)
NOISY = Privacy(noise_multiplier=2.0, sampling_rate=1.0, clip_norm=0.0)


@pytest.fixture(scope="module")
def files(shared_data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> List[Path]:
    return site_files(shared_data("rand-hie") / "randhie.csv", tmp_path_factory.mktemp("sites"))


def on_grid(values: np.ndarray, feature: Feature, step: float) -> np.ndarray:
    low, high = feature.range
    return np.asarray(low + step * np.floor((np.clip(values, low, high) - low) / step + 0.5))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("steps", [(), STEPS], ids=["bins", "halved"])
def test_quantiles_are_numpys_of_all_rows_together(files: List[Path], steps: Tuple[float, ...], method: str) -> None:
    declared: Dict[str, Any] = {"kind": "quantiles", "quantiles": SHARES, "by": "plan", "bins": 60, "step": steps}
    task = task_with(declared, FEATURES)
    result = computed(task, [load_for(path, task) for path in files], method)
    tables = {table.name: table for table in result.tables}
    assert task.training.rounds == (1 if not steps else 1 + 9)
    groups, shown = cells(files, "plan"), 0
    counts = {row[:2]: row[2:4] for row in tables["columns"].rows}
    for place, feature in enumerate(FEATURES[:3]):
        column = cells(files, feature.name)
        table = tables[f"quantiles {feature.name}"]
        step = steps[place] if steps else (feature.range[1] - feature.range[0]) / 59
        for number, group in enumerate(("all", *FEATURES[3].categories), 1):
            mine = [cell for cell, level in zip(column, groups) if group in ("all", level)]
            known = np.array([float(cell) for cell in mine if cell is not None])
            named = group if group == "all" else f"plan = {group}"
            assert table.columns[number] == named
            assert counts[feature.name, named] == (len(known), len(mine) - len(known))
            for share, row in zip(SHARES, table.rows):
                if len(known) * min(share, 1 - share) < 10:
                    assert row[number] is None
                    continue
                theirs = np.quantile(on_grid(known, feature, step), share, method="inverted_cdf")
                assert row[number] == pytest.approx(theirs, rel=1e-12)
                shown += 1
    assert shown > 200
    assert ("10 records on either side" in " ".join(result.notes)) == any(
        cell is None for table in result.tables for row in table.rows for cell in row
    )


def test_points_of_the_grid_are_no_coarser_than_the_data(files: List[Path]) -> None:
    """So that the test above is of values as they are: visits are whole numbers."""
    task = task_with({"kind": "quantiles", "columns": ("mdvis",), "step": (1.0,), "bins": 10}, FEATURES[:2])
    table = computed(task, [load_for(path, task) for path in files], "plain").tables[1]
    known = np.clip([float(cell) for cell in cells(files, "mdvis") if cell is not None], 0, 100)
    assert [row[1] for row in table.rows] == [np.quantile(known, q, method="inverted_cdf") for q in (0.25, 0.5, 0.75)]


def test_nothing_is_looked_for_among_few_records() -> None:
    """An honest gateway neither asks for the place of a quantile that it may not show, nor keeps counts that tell it."""
    declared: Dict[str, Any] = {"columns": ("age",), "quantiles": (0.05, 0.5), "step": (0.5,), "bins": 4, "by": ""}
    analysis = analysis_of(task_of("quantiles", **declared))
    data = rows(60, 4)
    asked = analysis.begin(0)
    known = summed(analysis, asked, data)[:4].sum()
    for _ in range(analysis.rounds):
        asked, folded = analysis.fold(asked, Total(summed(analysis, asked, data)))
        if not folded.done:
            assert summed(analysis, asked, data)[0] == known, "counted up to the largest value there can be"
    (_, table) = analysis.result(folded.state, "records").tables
    assert table.rows[0][1] is None
    assert isinstance(table.rows[1][1], float)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"quantiles": (0.001,)}, "nearer to an end a quantile shows single records"),
        ({"quantiles": (0.999,)}, "nearer to an end"),
        ({"quantiles": (float("nan"),)}, "not a finite number"),
        ({"quantiles": (0.5, 0.5)}, "in rising order"),
        ({"quantiles": ()}, "quantiles: 0, expected 1 to 99"),
        ({"least": 1}, "least: 1, expected 5"),
        ({"columns": ("sex",)}, "has categories; quantiles are of numbers"),
        ({"columns": ("aeg",)}, "did you mean 'age'"),
        ({"columns": ("age", "age")}, "'age' is there twice"),
        ({"by": "age"}, "is no column with categories"),
        ({"step": (1.0,)}, "expected one for each of 2 columns"),
        ({"step": (1.0, 0.0)}, "expected above 0"),
        ({"step": (1e-9, 1.0)}, "at most 1073741824 points"),
    ],
)
def test_what_would_show_single_records_or_makes_no_sense_is_refused(options: Dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make({"kind": "quantiles", **options}, SCHEMA)


def test_noise_is_for_bins_alone() -> None:
    fine = task_of("quantiles", NOISY)
    (why,) = contradictions(analysis_of(fine), fine.training, fine.privacy)
    assert "leave `step` out" in why
    coarse = task_of("quantiles", NOISY, step=())
    assert not list(contradictions(analysis_of(coarse), coarse.training, coarse.privacy))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.75])
def test_intervals_hold_at_least_95_times_in_100(share: float) -> None:
    draw = np.random.default_rng(3)
    bins = np.histogram(draw.normal(0.4, 0.12, 3000), 40, (0, 1))[0].astype(float)
    true = int(np.argmax(bins.cumsum() >= share * bins.sum()))
    found = [noisy_cell(bins + draw.normal(0, 8.0, 40), share, 8.0) for _ in range(2000)]
    shown = [each for each in found if each is not None]
    assert len(shown) > 1900
    assert np.mean([first <= true <= last for _, first, last in shown]) >= 0.95
    assert np.mean([abs(at - true) for at, _, _ in shown]) < 2, "the figure itself is near"
    assert np.mean([last - first for _, first, last in shown]) < 12, "and its interval is no whole range"
    assert noisy_cell(draw.normal(0, 8.0, 40), share, 80.0) is None, "of nothing but noise nothing is said"


def test_noised_quantiles_of_all_and_of_groups_are_within_their_intervals() -> None:
    options: Dict[str, Any] = {"columns": ("age",), "bins": 100, "quantiles": (0.35, 0.6)}
    analysis = analysis_of(task_of("quantiles", NOISY, step=(), **options))
    draw, data = np.random.default_rng(1), rows(4000, 2)
    data.x[:, 0] = draw.normal(60, 12, 4000).clip(18, 95)
    sums = summed(analysis, analysis.begin(0), data)
    step = 77 / 99
    smokers = data.x[:, 4:].argmax(axis=1) - np.where(data.x[:, 4:].sum(axis=1) > 0, 0, 9)
    known = {"all": data.x[:, 0], "smoker = no": data.x[smokers == 0, 0], "smoker = former": data.x[smokers == 2, 0]}
    grid = {name: 18 + step * np.floor((values - 18) / step + 0.5) for name, values in known.items()}
    within: Dict[str, List[bool]] = {name: [] for name in known}
    for _ in range(400):
        _, folded = analysis.fold(analysis.begin(0), Total(sums + draw.normal(0, 12.0, sums.size), 12.0))
        result = analysis.result(folded.state, "records")
        for row in result.tables[1].rows:
            cells_of = dict(zip(result.tables[1].columns, row))
            share = float(str(row[0]).split()[0]) / 100
            for name, values in grid.items():
                value, low, high = (numeric(cells_of[f"{name}{end}"]) for end in ("", " from", " to"))
                assert low <= value <= high
                theirs = float(np.quantile(values, share, method="inverted_cdf"))
                within[name].append(low - 1e-9 <= theirs <= high + 1e-9)
    assert result.tables[1].columns[:4] == ("quantile", "all", "all from", "all to")
    assert "within 23.5" in " ".join(result.notes)
    assert all(np.mean(each) >= 0.95 for each in within.values()), {n: np.mean(each) for n, each in within.items()}


def test_all_quantiles_are_of_one_scope_and_points_are_of_the_grid_whatever_is_announced() -> None:
    analysis = analysis_of(task_of("quantiles"))
    for seed in range(40):
        question = analysis.question(any_asked(analysis, seed))
        assert analysis.scope(question).size == 0
        assert (question >= 0).all()
        assert (question <= 5000).all()
        assert (question == np.round(question)).all()

"""What is said of noise is true: intervals hold as often as they say, and a figure that noise hides is left out."""

import math
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest
from analysed_rows import DECLARED, rows, summed, task_of

from orchestrator.analyses.base import Total
from orchestrator.analyses.registry import analysis_of
from orchestrator.privacy.noisy_sum import analysis_sum
from orchestrator.privacy.vector_layout import Layout, bits_for, parts_of
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.schema import Feature, Schema

SCHEMA = Schema("table", "", (), {}, features=(Feature("pulse", 0, 200), Feature("sex", categories=("f", "m"))))
DEVIATION = 4.0


def figures(draws: int, spread: float, records: int = 400) -> List[Dict[str, Any]]:
    """Of so many draws of noise on the sums of one table: the row of `pulse`, and the notes."""
    analysis = analysis_of(task_of("statistics", schema=SCHEMA, crosstabs=()))
    draw = np.random.default_rng(5)
    x = np.zeros((records, 3))
    x[:, 0] = np.clip(draw.normal(80, spread, records), 0, 200)
    x[:20, 0] = np.nan
    exact = analysis.vectors(analysis.question(analysis.begin(0)), x).sum(axis=0)
    found = []
    for _ in range(draws):
        _, folded = analysis.fold(analysis.begin(0), Total(exact + draw.normal(0, DEVIATION, exact.size), DEVIATION))
        result = analysis.result(folded.state, "records")
        (columns,) = [table for table in result.tables if table.name == "columns"]
        row = dict(zip(columns.columns, columns.rows[0]))
        found.append({**row, "notes": " ".join(result.notes), "known": np.nanmean(x[:, 0])})
    return found


def test_intervals_hold_95_times_in_100() -> None:
    draws = figures(2000, spread=15.0)
    within = [abs(draw["mean"] - draw["known"]) <= draw["± of the mean"] for draw in draws]
    assert np.mean(within) == pytest.approx(0.95, abs=0.02)
    stated = math.sqrt(2) * 1.96 * DEVIATION
    assert f"within {stated:.3g}" in draws[0]["notes"]
    assert np.mean([abs(draw["records"] - 380) <= stated for draw in draws]) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("spread", [1.0, 8.0, 15.0, 50.0])
def test_a_deviation_is_left_out_where_noise_hides_it_and_near_where_it_is_not(spread: float) -> None:
    """Of values that are much closer than the range is wide, the sums say nothing about how close."""
    said = [draw["standard deviation"] for draw in figures(400, spread) if draw["standard deviation"] is not None]
    assert sum(abs(each / spread - 1) > 0.5 for each in said) < 0.05 * 400
    assert len(said) < 40 if spread == 1.0 else True
    assert len(said) > 380 if spread == 50.0 else True


@pytest.mark.parametrize("kind", DECLARED)
def test_a_small_node_that_states_one_record_is_counted_whole(kind: str) -> None:
    """How many records it states has noise as well: were its sum cut to what so many add, figures would be too small."""
    shared = Privacy(noise="distributed", noise_multiplier=12.0, sampling_rate=1.0, clip_norm=0.0)
    task = task_of(kind, shared, aggregation=Aggregation("masked", honest=3))
    analysis, released, data = analysis_of(task), analysis_sum(task), rows(100, 1)
    (part,) = parts_of(task, 1, analysis.sums.size)
    stated = [1, 1, 150]
    layout = Layout([part], bits_for([part], sum(stated), 3), 3, sum(stated), sum(stated))
    limits = [layout.limit(part, each) for each in stated]
    exact = summed(analysis, analysis.begin(0), data)
    assert np.abs(exact).max() <= min(limits) * released.lattice.step
    room = 12 * part.std * math.sqrt(3) + 3
    assert sum(limits) + room <= layout.bound + 3, "a sum does not wrap around"


def test_centres_are_as_near_as_their_last_column_says() -> None:
    schema = Schema("table", "", (), {}, (Feature("pulse", 0, 200), Feature("age", 0, 100)))
    start = ((60.0, 5.0), (180.0, 95.0), (0.0, 100.0))
    analysis = analysis_of(task_of("kmeans", schema=schema, start=start))
    draw = np.random.default_rng(5)
    x = np.concatenate([draw.normal((60, 5), 3, (200, 2)), draw.normal((180, 97), 2, (60, 2))])
    asked = analysis.begin(0)
    exact = analysis.vectors(analysis.question(asked), x).sum(axis=0)
    known = [np.clip(some, 0, (200, 100)).mean(axis=0) for some in (x[:200], x[200:])]
    within: List[bool] = []
    for _ in range(1000):
        _, folded = analysis.fold(asked, Total(exact + draw.normal(0, DEVIATION, exact.size), DEVIATION))
        (table,) = analysis.result(folded.state, "records").tables
        cells: List[Tuple[Any, ...]] = table.rows
        *large, (_, size, _, _, empty) = cells
        assert empty is None or size > 1.96 * DEVIATION, "a cluster that noise hides says nothing"
        for (_, _, pulse, age, spread), at in zip(large, known):
            within += [abs(pulse - at[0]) <= 2 * spread, abs(age - at[1]) <= spread]
    assert 0.94 < np.mean(within) < 0.995

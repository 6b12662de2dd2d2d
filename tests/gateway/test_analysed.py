"""An analysis at the gateway: what nodes may send to it, and its results as files and on a terminal, whatever columns' names."""

import csv
import math
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest

from orchestrator.analyses.base import Result, Table, Total
from orchestrator.analyses.compare import level_tests
from orchestrator.analyses.registry import analysis_of, spelled_out
from orchestrator.cli.tables import tables
from orchestrator.errors import PrivacyError, RoundError, WireError
from orchestrator.gateway.aggregation import Aggregation
from orchestrator.gateway.analysed import report_of, write_result
from orchestrator.gateway.store import Store
from orchestrator.privacy.statement_page import nothing_claimed
from orchestrator.privacy.vector_layout import bits_for, parts_of
from orchestrator.rounds.events import Aggregate
from orchestrator.wire.body import encode_body
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Task, task_to_dict
from orchestrator.wire.training import Training

NAMES = (
    "a/b",
    "../../etc",
    "=1+1",
    "$x$",
    "$\\alpha",
    "_{^",
    "\u5e74\u9f62" * 90,
    "x" * 200,
    "\U0001f642",
    "%s",
    " ".join("ab"),
)
LEVELS = ("=cmd", "$y$", "u" * 200, "\u0439")


def task_of(schema: Schema, **options: Any) -> Task:
    analysis = options if "kind" in options else {"kind": "statistics", "bins": 3, **options}
    task = Task("t", schema, {}, privacy=Privacy("none"), rounds=Rounds(2, 2), analysis=analysis)
    return spelled_out(replace(task, training=Training(rounds=1, parameters=analysis_of(task).sums.size)))


ODD = task_of(
    Schema(
        "table",
        "",
        (),
        {},
        features=(
            *(Feature(name, 0, 1) for name in NAMES),
            Feature("l", categories=LEVELS),
            Feature("=", categories=("0", "1")),
        ),
    ),
    crosstabs=(("l", "="),),
)
SMALL = task_of(Schema("table", "", (), {}, features=(Feature("age", 0, 100),)))


def odd_result() -> Result:
    analysis = analysis_of(ODD)
    _, folded = analysis.fold(analysis.begin(0), Total(np.arange(float(analysis.sums.size))))
    return analysis.result(folded.state, "records")


def test_any_name_of_a_column_gets_files_and_a_picture(tmp_path: Path) -> None:
    result = odd_result()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folder = write_result(tmp_path, "run", result, nothing_claimed(ODD))
    assert folder.parent == tmp_path / "analysis"
    written = sorted(folder.iterdir())
    assert len(written) == len(result.tables) + 3
    assert (folder / "result.png").stat().st_size > 10_000
    for path, table in zip(written, result.tables):
        with path.open(newline="") as file:
            found = list(csv.reader(file))
        assert len(found) == 1 + len(table.rows)
        assert not any(cell.startswith(("=", "@", "+")) for row in found for cell in row), "a formula for spreadsheets"


def test_a_terminal_shows_tables_that_fit() -> None:
    shown = tables(report_of(odd_result(), ODD))
    assert max(map(len, shown.split("\n"))) < 220
    assert "a/b" in shown


def test_a_terminal_shows_large_figures_as_people_write_them() -> None:
    row = (10_900.4, -33_234.6, 9999.7, 9999.4, 0.000123456, 2e20)
    shown = tables(report_of(Result([Table("facts", tuple("abcdef"), [row])]), ODD))
    assert shown.split("\n")[2].split() == ["10900", "-33235", "10000", "9999", "0.0001235", "2e+20"]


def test_a_result_without_anything_to_draw_has_no_picture(tmp_path: Path) -> None:
    folder = write_result(tmp_path, "run", Result([Table("facts", ("a",), [(1,)])]), nothing_claimed(ODD))
    assert sorted(path.name for path in folder.iterdir()) == ["01-facts.csv", "privacy.md", "result.md"]


def test_what_is_left_out_is_not_drawn_as_nothing(tmp_path: Path) -> None:
    pictures = []
    for number, height in enumerate((0.0, None)):
        table = Table("shares", ("group", "share"), [("a", 0.5), ("b", height), ("c", 0.25)], "share")
        pictures.append(
            (write_result(tmp_path, f"run-{number}", Result([table]), nothing_claimed(ODD)) / "result.png").read_bytes()
        )
    assert pictures[0] != pictures[1]


SUMS = np.array([10.0, -3.0, 5.0, 4.0, 4.0, 2.0, 0.0])
LIES: Dict[str, Any] = {
    "NaN": ({"codec": "float64"}, SUMS * np.nan),
    "infinity": ({"codec": "float64"}, np.full(7, np.inf)),
    "more than its records": ({"codec": "float64"}, SUMS * 1.5),
    "less than its records": ({"codec": "float64"}, SUMS * -1.5),
    "a negative count": ({"codec": "float64"}, np.array([10.0, -3.0, 5.0, -4.0, 8.0, 2.0, 0.0])),
    "fewer than no records": ({"codec": "float64"}, np.array([-10.0, -3.0, 5.0, 4.0, 4.0, 2.0, 0.0])),
    "a negative count of missing values": ({"codec": "float64"}, np.append(SUMS[:-1], -1.0)),
    "more in its bins than its records": ({"codec": "float64"}, np.array([10.0, -3.0, 5.0, 9.0, 9.0, 9.0, 0.0])),
    "a negative count of a rounded table": (
        {"codec": "float64", "rounded": 5},
        np.array([10.0, -3.0, 5.0, -4.0, 10.0, 10.0, 0.0]),
    ),
    "a value too many": ({"codec": "float64"}, np.append(SUMS, 0.0)),
    "a value too few": ({"codec": "float64"}, SUMS[:-1]),
    "another shape": ({"codec": "float64"}, SUMS.reshape(1, 7)),
    "another type": ({"codec": "float64"}, SUMS.astype(np.float32)),
    "another codec": ({"codec": "float32"}, SUMS.astype(np.float32)),
    "a codec nobody knows": ({"codec": "rot13"}, SUMS),
    "no codec": ({}, SUMS),
    "nothing": ({"codec": "float64"}, None),
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    opened = Store(tmp_path / "gateway.sqlite")
    opened.create_run("run", task_to_dict(SMALL), b"", analysis_of(SMALL).begin(0))
    return opened


@pytest.mark.parametrize("lie", LIES)
def test_sums_that_no_records_add_up_to_are_refused(store: Store, lie: str) -> None:
    fields, sums = LIES[lie]
    with pytest.raises(WireError):
        Aggregation(store, "run", SMALL, None).check_update(
            1, {"records": 10, **fields}, {} if sums is None else {"update": sums}
        )


def test_sums_of_honest_nodes_add_up(store: Store) -> None:
    aggregation, header = Aggregation(store, "run", SMALL, None), {"records": 10, "codec": "float64"}
    for name in "ab":
        aggregation.check_update(1, header, {"update": SUMS})
        store.put_update("run", 1, name, encode_body({"kind": "update", **header}, {"update": SUMS}))
    outcome = aggregation.outcome(Aggregate(1, ("a", "b")), 20.0)
    assert outcome.figures["analysis"]["units"] == 20.0
    assert outcome.stop


def test_tables_that_an_owner_rounds_may_add_up_to_more(store: Store) -> None:
    rounded = np.array([10.0, -3.0, 5.0, 5.0, 5.0, 5.0, 0.0])
    header = {"records": 10, "codec": "float64", "rounded": 5}
    Aggregation(store, "run", SMALL, None).check_update(1, header, {"update": rounded})


COX = task_of(
    Schema(
        "table", "", (), {}, (Feature("time", 0, 10), Feature("died", categories=("no", "yes")), Feature("age", 0, 9))
    ),
    kind="cox",
    time="time",
    event="died",
    steps=4,
)


def test_sums_that_nothing_can_be_computed_of_stop_the_run_with_a_reason(tmp_path: Path) -> None:
    """Weights are no counts: only together with the events do they make no sense, and in a masked sum nobody sees them alone."""
    analysis = analysis_of(COX)
    store = Store(tmp_path / "gateway.sqlite")
    store.create_run("run", task_to_dict(COX), b"", analysis.begin(0))
    sums = np.zeros(analysis.sums.size)
    sums[2 * 4 * 3 + 1], sums[-2] = 3.0, 10.0  # three events in a step in which nobody is at risk
    header = {"kind": "update", "records": 10, "codec": "float64"}
    aggregation = Aggregation(store, "run", COX, None)
    aggregation.check_update(1, header, {"update": sums})
    store.put_update("run", 1, "a", encode_body(header, {"update": sums}))
    with pytest.raises(RoundError, match="round 1 cannot be computed: an event in a step in which nobody is at risk"):
        aggregation.outcome(Aggregate(1, ("a",)), 20.0)


@pytest.mark.parametrize(("ties", "expected"), [("efron", math.lgamma(3e6 + 1)), ("breslow", 3e6 * math.log(3e6))])
def test_millions_of_events_in_a_step_are_summed_at_once(ties: str, expected: float) -> None:
    """How many there are is a node's word: one by one, the gateway would be at them for hours."""
    analysis = analysis_of(replace(COX, analysis={**COX.analysis, "ties": ties}))
    sums = np.zeros(analysis.sums.size)
    sums[3] = sums[2 * 4 * 3 + 1] = sums[-2] = 3e6  # all of them leave in the second step, with the inputs at 0
    sums[5] = 1e6  # of the squares of inputs
    _, folded = analysis.fold(analysis.begin(0), Total(sums))
    assert -folded.figures["log-likelihood"] == pytest.approx(expected)


def test_an_exact_test_goes_through_no_more_tables_than_it_can() -> None:
    pytest.importorskip("scipy", reason="results are made at gateways, which have it")
    few, many = (np.array([[5.0, 3.0], [2.0, 6.0]]) * times for times in (1, 2.0**28))
    assert [row[1] for row in level_tests("sex", few)] == ["chi squared", "Fisher's exact"]
    assert [row[1] for row in level_tests("sex", many)] == ["chi squared"]


def test_an_exact_sum_over_more_nodes_than_its_digits_have_room_for_is_refused() -> None:
    parts = parts_of(SMALL, 1, 7)
    assert bits_for(parts, 1000, 30_000) == 32
    with pytest.raises(PrivacyError, match="too many for an exact sum"):
        bits_for(parts, 1000, 90_000)

"""What goes wrong with data where hospitals compute together, at the nodes."""

from pathlib import Path
from typing import List

import pytest
from test_frozen_cohort import FEATURES, LABELS, TASK, opened
from test_node_says_codes import Node, private

from orchestrator.node.ledger import Ledger
from orchestrator.node.policy import Refusal
from orchestrator.node.run import Run
from orchestrator.wire.protection import Privacy

DAY = '[source]\nfile = "data.csv"\n[columns.seen]\ndate = "%d.%m.%Y"\n[columns.{0}]\nformula = "days(seen, seen) + {0}"\n'


def hospital(folder: Path, bad: str = "") -> Path:
    """40 patients whose feature needs a date that is prepared on the node; the 21st has a bad one, where that is given."""
    folder.mkdir(exist_ok=True)
    low = TASK.schema.features[0].range[0]
    lines = [",".join([*FEATURES, "seen", TASK.schema.label, TASK.schema.patient])]
    for row in range(40):
        seen = bad if bad and row == 20 else "27.11.2026"
        lines.append(",".join([*(str(low) for _ in FEATURES), seen, LABELS[row % len(LABELS)], f"p{row}"]))
    (folder / "data.csv").write_text("\n".join(lines) + "\n")
    (folder / "ward.toml").write_text(DAY.format(FEATURES[0]))
    return folder / "ward.toml"


def test_a_bad_date_at_one_of_three_nodes_stops_that_one_and_nothing_is_half_applied(tmp_path: Path) -> None:
    """vantage6 issue 2359: columns were prepared at two of three nodes, and the third went on with what it had before."""
    found = [opened(tmp_path / name, hospital(tmp_path / name)) for name in ("a", "b")]
    assert all(isinstance(each, Run) for each in found)
    third = opened(tmp_path / "c", hospital(tmp_path / "c", "31.02.2026"))
    assert isinstance(third, Refusal)
    assert third.code == "data"
    assert "data.csv:22: column 'seen': '31.02.2026' is not a date as %d.%m.%Y" in third.reason
    ledger = Ledger(tmp_path / "c" / "ledger.sqlite")
    assert [each.run for each in ledger.reservations() if not each.closed] == [], "nothing is reserved for it"
    ledger.close()
    assert isinstance(opened(tmp_path / "c", hospital(tmp_path / "c")), Run), "once it is corrected, all of it"


def test_what_thirty_rows_of_four_patients_are_charged_and_stated_as(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """FLIP PR 1197: visits were counted as persons."""
    rows: List[str] = [f"0.5,{number % 2},p{number % 4}\n" for number in range(30)]
    node = Node(tmp_path, "".join(rows))
    task = private(privacy=Privacy(unit="patient", noise_multiplier=2.0, records_per_patient=8))
    node.asked(task)
    run = node.agent.runs.at.run
    assert run is not None
    assert (run.dataset.records, run.units) == (30, 4)
    (tmp_path / "other").mkdir()
    said = Node(tmp_path / "other", "".join([*rows, "0.5,0,NULL\n"])).asked(task)
    assert (said["kind"], said["code"]) == ("declined", "data")
    assert "data.csv:32: column 'p': 'NULL' stands for no value" in caplog.text

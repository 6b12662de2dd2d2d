"""What `edgeward gateway run` shows while it works and when it is done."""

import io
from pathlib import Path
from typing import Any, Dict, List

import pytest
from rich.console import Console

from orchestrator.cli.outcome import outcome
from orchestrator.cli.round_bar import Lines, RoundBar, TimeLeft, duration


def aggregated(number: int, seconds: float = 2.0, **figures: Any) -> Dict[str, Any]:
    return {"event": "aggregated", "round": number, "of": 4, "updates": 3, "seconds": seconds, **figures}


def test_the_time_left_follows_the_last_rounds() -> None:
    left = TimeLeft()
    rounds = [aggregated(n, s) for n, s in ((0, 50.0), (1, 2.0), (2, 4.0), (3, 3.0), (4, 3.0), (5, 1.0))]
    assert [left.after(event) for event in rounds] == [None, 6.0, 6.0, 3.0, None, None]
    assert left.after(aggregated(1, 7.0)) == 21.0  # of another training: what went before does not count
    assert [duration(s) for s in (3.4, 99, 600, 36000)] == ["3 s", "99 s", "10 min", "10.0 h"]


def test_lines_say_round_loss_nodes_and_time_left() -> None:
    file = io.StringIO()
    show = Lines(file)
    for event in (
        {"event": "joined", "node": "icu-1", "records": 9},
        aggregated(1, loss=0.25),
        aggregated(5),
        {"event": "unknown"},
    ):
        show(event)
    assert (
        file.getvalue()
        == "icu-1 joined with 9 records\nround 1/4: 3 updates, loss 0.250, 2.00 s, about 6 s left\nlast evaluation done\n"
    )


def test_the_bar_stays_at_the_foot_and_ends_with_the_rounds() -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=100, highlight=False)
    events: List[Dict[str, Any]] = [
        aggregated(0),
        aggregated(1, loss=0.5),
        {"event": "left", "node": "[bold]n2"},
        aggregated(2, loss=0.25, accuracy=0.875),
        {"event": "finished"},
        aggregated(1),
    ]
    with RoundBar(console) as show:
        for event in events:
            show(event)
    said = file.getvalue()
    assert "statistics: sums of 3 nodes" in said
    assert "[bold]n2 left\n" in said  # a name is shown as it is
    assert "round 2/4" in said
    assert "3 nodes answered, loss 0.250, accuracy 0.875, about 4 s left" in said
    assert said.count("\x1b[?25l") == said.count("\x1b[?25h") == 2  # one bar a training; the cursor comes back


REPORT: Dict[str, Any] = {
    "run": "sepsis-1234",
    "task": "sepsis",
    "nodes": 3,
    "rounds": 20,
    "privacy": {"unit": "record", "epsilon": 7.991, "delta": 1e-5, "accountant": "PLD"},
    "wire": {
        "bytes_up_per_node_round": 923.0,
        "bytes_down_per_node_round": 2530.0,
        "float32_bytes": 2120,
        "counted": "on the nodes' sockets",
    },
    "memory_mib": {"gateway": 71.6, "broker": None, "nodes": [70.0, 72.4, None]},
    "per_round": [{"round": 1, "federated": {"records": 40, "accuracy": 0.75, "auc": None}}],
    "metrics": {"float": {"accuracy": 0.958, "auc": 0.9951}, "int8": {"accuracy": 0.951, "auc": 0.9949}},
    "bundle": "my out/bundle",
}


def test_the_last_table_says_how_good_at_what_price_where_and_what_next() -> None:
    said = outcome(REPORT, Path("my out"))
    lines = [" ".join(line.split()) for line in said.splitlines()]
    for expected in (
        "sepsis: 3 nodes, 20 rounds",
        "float int8 float, held-out records",
        "accuracy 0.958 0.951 0.750",
        "AUC 0.995 0.995 -",
        "privacy epsilon 7.99 at delta 1e-05 per record (PLD)",
        "bytes a node and round: 923 up (0.44 of float32's 2,120), 2,530 down; on the nodes' sockets",
        "memory gateway 72 MiB, nodes 70 to 72 MiB before they opened data",
        "bundle my out/bundle",
        "figures my out/result.json",
        "next edgeward runs show sepsis-1234 --out 'my out'",
        "edgeward predict 'my out/bundle' --data new.csv",
    ):
        assert expected in lines, said


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"bundle": None, "no_bundle": "the output layer is personal"}, "bundle   none: the output layer is personal"),
        ({"bundle": None, "no_bundle": "-"}, "edgeward model personalize"),
        ({"privacy": {"unit": "none", "epsilon": None, "delta": None}}, "none: trained without differential privacy"),
        ({"wire": {"float32_bytes": 9, "codec": "int8", "counted": "withheld"}, "memory_mib": {}}, "bytes    withheld"),
    ],
)
def test_what_a_run_does_not_have_is_said(change: Dict[str, Any], expected: str) -> None:
    assert expected in outcome({**REPORT, "metrics": {}, "per_round": [], **change}, Path("out"))

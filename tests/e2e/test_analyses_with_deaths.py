"""Twenty nodes, one killed in every round, one that never answers: results are right of those in the sums, and say whose.

Masked sums without noise, gateway and nodes real processes. Nodes without a policy: those of an owner who asks for `steady` sums,
as a policy does by itself, stop such a run instead (tests/node/test_differences.py).
"""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import numpy as np
import pytest
from textbook import newton, partial_likelihood

from orchestrator.gateway.broker import free_port

HERE = Path(__file__).parent
NAMES = [f"n{number:02}" for number in range(20)]
FATES = {
    "n01": "1:keys:after",
    "n04": "2:masked:before",
    "n05": "3:masked:after",
    "n11": "4:shares:before",
    "n14": "5:unmask:before",
    "n17": "silent",
}
"""n05 is killed with its vector on the way, n14 when others open a sum it is in: both count in that round, not later."""

HEAD = """
[gateway]
federation = "deaths"
port = {port}
[task]
name = "study"
[task.rounds]
nodes = 20
quorum = 6
deadline_s = 3
attempts = 20
[task.privacy]
unit = "none"
[task.aggregation]
method = "masked"
[task.schema]
kind = "table"
features = [
  {{ name = "t", minimum = 0, maximum = 40 }},
  {{ name = "dead", categories = ["0", "1"] }},
  {{ name = "age", minimum = 0, maximum = 100 }},
  {{ name = "dose", categories = ["low", "high"] }},
]
[task.analysis]
"""
Rows = Dict[str, np.ndarray]


def written(folder: Path) -> Rows:
    """name -> float (n, 4): t, dead, age, whether the dose is high. No two nodes have the same number, nor the same effects."""
    draw, rows = np.random.default_rng(8), {}
    for number, name in enumerate(NAMES):
        count = 40 + number
        age, dose = draw.uniform(20, 90, count).round(1), (draw.random(count) < 0.5).astype(int)
        rate = np.exp(0.03 * (age - 55) + draw.normal(0.5, 0.7) * dose)
        times = np.minimum(np.ceil(draw.exponential(20 / rate)), 30)
        dead = (draw.random(count) < np.where(times < 30, 0.7, 0.0)).astype(int)
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["t", "dead", "age", "dose"])
            writer.writerows(zip(times, dead, age, np.where(dose, "high", "low")))
        rows[name] = np.stack([times, dead, age, dose], axis=1)
    return rows


def events(process: "subprocess.Popen[str]") -> Iterator[Dict[str, Any]]:
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)


def analysed(folder: Path, declared: str) -> Tuple[Dict[str, Any], Rows]:
    """(the report of a run whose nodes come to their fates, all rows)."""
    rows, port = written(folder), free_port()
    (folder / "edgeward.toml").write_text(HEAD.format(port=port) + declared)
    main = [sys.executable, "-m", "orchestrator.cli.main", "gateway", "run", "edgeward.toml", "--out", "out", "--json"]
    names = [f"{name}:{FATES[name]}" if name in FATES else name for name in NAMES]
    forked = [sys.executable, str(HERE / "forked_nodes.py"), f"mqtt://127.0.0.1:{port}", "deaths", str(folder), *names]
    with (folder / "log.txt").open("w") as log:
        common: Dict[str, Any] = {"cwd": folder, "stdin": subprocess.DEVNULL, "stderr": log, "text": True}
        gateway = subprocess.Popen(main, stdout=subprocess.PIPE, **common)
        nodes = subprocess.Popen(forked, stdout=log, start_new_session=True, **common)
        try:
            said = list(events(gateway))
        finally:
            os.killpg(nodes.pid, signal.SIGKILL)  # with all that it forked
            nodes.wait()
            gateway.kill()
            gateway.wait()
    assert said, (folder / "log.txt").read_text()
    assert said[-1]["event"] == "result", said[-1]
    return said[-1], rows


def check_over(report: Dict[str, Any], rows: Rows) -> np.ndarray:
    """Float (n, 4): the rows a report says it is of, once it names who is in it and who is not."""
    whose = report["analysis"]["over"]
    assert set(whose["missing"]) == set(NAMES) - set(whose["nodes"])
    assert set(FATES) <= set(whose["missing"])
    last = {name: whose["missing"][name] for name in FATES}
    assert last == {"n01": None, "n04": 1, "n05": 3, "n11": 3, "n14": 5, "n17": None}
    kept = np.concatenate([rows[name] for name in whose["nodes"]])
    assert (whose["records"], whose["stated"]) == (len(kept), "exact")
    fit = dict(next(table["rows"] for table in report["analysis"]["tables"] if table["name"] == "fit"))
    assert (fit["records used"], fit["records left out"]) == (len(kept), 0)
    notes = "\n".join(report["analysis"]["notes"])
    assert f"over {len(whose['nodes'])} of 20 nodes, {len(kept):,} records: n00" in notes
    assert "n04 (last in round 1)" in notes
    assert "n17 (in no round)" in notes
    assert "rounds were over different nodes" in notes
    assert "converge" not in notes
    for number, count in whose["nodes_by_round"].items():
        assert count == next(len(each["nodes"]) for each in report["per_round"] if each["round"] == int(number))
    return kept


def coefficients(report: Dict[str, Any]) -> Dict[str, List[float]]:
    return {
        row[0]: row[1:]
        for table in report["analysis"]["tables"]
        if table["name"] == "coefficients"
        for row in table["rows"]
    }


@pytest.mark.parametrize("kind", ["logistic", "cox"])
def test_a_model_is_that_of_the_nodes_it_says_it_is_of(tmp_path: Path, kind: str) -> None:
    declared = {
        "logistic": 'kind = "regression"\nfamily = "logistic"\noutcome = "dead"\ninputs = ["age", "dose"]\n',
        "cox": 'kind = "cox"\ntime = "t"\nevent = "dead"\nsteps = 40\n',
    }
    report, rows = analysed(tmp_path, declared[kind])
    times, dead, *inputs = check_over(report, rows).T
    x, names = np.stack(inputs, axis=1), ["age", "dose = high"]
    if kind == "logistic":
        beta, covariance, _ = newton(np.insert(x, 0, 1.0, axis=1), dead, "logistic")
        names = ["(intercept)", *names]
    else:
        beta = np.zeros(2)
        for _ in range(30):
            _, gradient, information = partial_likelihood(x, times, dead > 0, beta, "efron")
            beta, covariance = beta + np.linalg.solve(information, gradient), np.linalg.inv(information)
    found = coefficients(report)
    assert list(found) == names
    for number, name in enumerate(names):
        error = covariance[number, number] ** 0.5
        assert abs(found[name][0] - beta[number]) < 1e-6 * error
        assert found[name][1] == pytest.approx(error, rel=1e-6)

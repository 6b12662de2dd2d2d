"""Federations within this process: the same weights, sums and charges as those of processes at a broker."""

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Mapping

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))

from cut_off import CutOffError, cut_off_in_round_two, data_of
from fixed_node import Fixed
from harness import GRAPH, SIZE, expected_weights, make_task

from orchestrator.cli.main import main
from orchestrator.errors import RoundError, UsageError
from orchestrator.gateway.broker import free_port
from orchestrator.gateway.config import load_config
from orchestrator.gateway.federation import run_federation
from orchestrator.gateway.gateway import Gateway
from orchestrator.gateway.run import RunResult
from orchestrator.gateway.store import Store
from orchestrator.node.ledger import Ledger
from orchestrator.simulation.federation import SimulatedNodes
from orchestrator.simulation.federation import simulate as run_simulation
from orchestrator.wire.task import Task, task_to_dict

SCHEMA = """
[task.schema]
kind = "table"
features = [ { name = "age", minimum = 0, maximum = 100 }, { name = "sex", categories = ["f", "m"] } ]
[task.analysis]
kind = "statistics"
[task.rounds]
nodes = 3
quorum = 3
"""
NONE = '[task.privacy]\nunit = "none"\n'
RECORD = '[task.privacy]\nunit = "record"\nepsilon = 3.0\ndelta = 1e-4\n'
METHODS = {
    "plain": "",
    "masked": '[task.aggregation]\nmethod = "masked"\n',
    "ckks": '[task.aggregation]\nmethod = "ckks"\nkey_holder = "board"\n',
}


def played(folder: Path, task: Task, progress: Any = lambda event: None, empty: str = "") -> RunResult:
    store = Store(folder / "gateway.sqlite")
    if store.find_run("run") is None:
        store.create_run("run", task_to_dict(task), GRAPH, np.zeros(SIZE, np.float32))
    try:
        with SimulatedNodes(task, "test", data_of(folder, empty), folder / "nodes", Fixed) as nodes:
            gateway = Gateway(store, "run", "test", nodes.broker, progress=progress)
            gateway.begin()
            try:
                nodes.serve(gateway)
            finally:
                gateway.close()
            return gateway.result()
    finally:
        store.close()


def test_weights_are_those_of_a_federation_of_processes(tmp_path: Path) -> None:
    result = played(tmp_path, make_task(rounds=4))
    np.testing.assert_array_equal(result.weights, expected_weights(["abc"] * 4))
    assert sorted(result.nodes) == ["a", "b", "c"]


def test_a_simulation_that_was_cut_off_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    rounds: List[int] = []

    cut_off = cut_off_in_round_two(rounds)
    with pytest.raises(CutOffError):
        played(tmp_path, make_task(rounds=5), cut_off)
    result = played(tmp_path, make_task(rounds=5), cut_off)
    assert rounds == [0, 1, 2, 3, 4, 5]
    np.testing.assert_array_equal(result.weights, expected_weights(["abc"] * 5))


def test_rounds_of_a_simulation_that_was_cut_off_are_charged_once(tmp_path: Path) -> None:
    write_rows(tmp_path)
    text = SCHEMA.replace('kind = "statistics"', 'kind = "kmeans"\nclusters = 2\nrounds = 4')
    (tmp_path / "edgeward.toml").write_text('[task]\nname = "s"\n' + text + METHODS["masked"] + RECORD)
    config = load_config(tmp_path / "edgeward.toml")
    data = {name: tmp_path / f"{name}.csv" for name in ("north", "south", "west")}

    def cut_off(event: Dict[str, Any]) -> None:
        if event["event"] == "aggregated" and event["round"] == 2:
            raise CutOffError

    with pytest.raises(CutOffError):
        run_simulation(config, tmp_path, data, tmp_path / "out", cut_off)
    report = run_simulation(config, tmp_path, data, tmp_path / "out", lambda event: None)
    assert report["rounds"] == 4
    for name in data:
        ledger = Ledger(tmp_path / "out" / "nodes" / name / "ledger.sqlite")
        charged = [entry["round"] for entry in ledger.entries() if entry["kind"] == "release"]
        ledger.close()
        assert charged == [-1, 1, 2, 3, 4]  # -1: the number of its records


def test_a_node_whose_connection_is_cut_is_left_out_of_the_round(tmp_path: Path) -> None:
    said: List[Dict[str, Any]] = []
    store = Store(tmp_path / "gateway.sqlite")
    task = make_task(rounds=3)
    store.create_run("run", task_to_dict(task), GRAPH, np.zeros(SIZE, np.float32))
    with SimulatedNodes(task, "test", data_of(tmp_path), tmp_path / "nodes", Fixed) as nodes:

        def progress(event: Dict[str, Any]) -> None:
            said.append(event)
            if event["event"] == "aggregated" and event["round"] == 1:
                nodes.cut("c")

        gateway = Gateway(store, "run", "test", nodes.broker, progress=progress)
        gateway.begin()
        nodes.serve(gateway)
        gateway.close()
        np.testing.assert_array_equal(gateway.result().weights, expected_weights(["abc", "ab", "ab"]))
    store.close()
    assert [event["node"] for event in said if event["event"] == "left"] == ["c"]


def write_rows(folder: Path) -> List[Dict[str, str]]:
    rows, draw = [], np.random.default_rng(5)
    for name in ("north", "south", "west"):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["age", "sex"])
            writer.writeheader()
            for _ in range(60):
                row = {"age": str(round(float(draw.uniform(20, 90)), 1)), "sex": str(draw.choice(["f", "m"]))}
                rows.append(row)
                writer.writerow(row)
    return rows


def simulate(folder: Path, *more: str) -> int:
    files = [str(folder / f"{name}.csv") for name in ("north", "south", "west")]
    return main(["simulate", str(folder / "edgeward.toml"), "--data", *files, "--out", str(folder / "out"), *more])


@pytest.mark.parametrize("method", METHODS)
def test_an_analysis_by_every_method_comes_to_the_rows_own_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    if method == "ckks":
        pytest.importorskip("tenseal")
    rows = write_rows(tmp_path)
    (tmp_path / "edgeward.toml").write_text('[task]\nname = "s"\n' + SCHEMA + METHODS[method] + NONE)
    assert simulate(tmp_path, "--json") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    report = events[-1]
    assert report["event"] == "result"
    assert report["privacy"]["simulated"] is True
    found: Mapping[str, Any] = {table["name"]: table["rows"] for table in report["analysis"]["tables"]}
    women = sum(row["sex"] == "f" for row in rows)
    assert [list(row) for row in found["levels sex"]][:2] == [["f", women], ["m", len(rows) - women]]
    (age,) = [row for row in found["columns"] if row[0] == "age"]
    ages = [float(row["age"]) for row in rows]
    assert age[3] == pytest.approx(np.mean(ages), rel=1e-4 if method != "plain" else 1e-12)
    assert "no sockets" in report["wire"]["counted"]
    assert list(report["memory_mib"]) == ["all in one process"]


def test_what_a_simulation_writes_says_that_it_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(tmp_path)
    (tmp_path / "edgeward.toml").write_text('[task]\nname = "s"\n' + SCHEMA + RECORD)
    assert simulate(tmp_path) == 0
    assert "simulated: all in one process" in capsys.readouterr().out
    run = json.loads((tmp_path / "out" / "result.json").read_text())["run"]
    for words, said in (
        (["show", run], "\nsimulated: all nodes ran in one process"),
        (["list"], "finished, simulated"),
    ):
        assert main(["runs", *words, "--out", str(tmp_path / "out")]) == 0
        assert said in capsys.readouterr().out
        assert main(["runs", *words, "--out", str(tmp_path / "out"), "--json"]) == 0
        assert '"simulated": true' in capsys.readouterr().out.partition('"privacy"')[0]
    (page,) = (tmp_path / "out" / "analysis").rglob("privacy.md")
    title, text = page.read_text().split("\n", 1)
    assert title.startswith("# Privacy")
    assert text.lstrip().startswith("**Simulated.** All nodes ran in the one process")
    assert json.loads((tmp_path / "out" / "result.json").read_text())["privacy"]["simulated"] is True


def test_a_simulated_run_is_never_gone_on_with_by_a_gateway_nor_a_real_one_by_a_simulation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(tmp_path)
    (tmp_path / "edgeward.toml").write_text('[task]\nname = "s"\n' + SCHEMA + NONE)
    config = load_config(tmp_path / "edgeward.toml", {}, files=True)
    out, real = tmp_path / "out", tmp_path / "real"
    assert simulate(tmp_path) == 0
    before = (out / "result.json").read_bytes()
    gateway = replace(config.gateway, broker="embedded", port=free_port(), dashboard="")
    with pytest.raises(UsageError, match="holds simulated runs"):
        run_federation(replace(config, gateway=gateway), tmp_path, out, lambda event: None, 1.0)
    assert (out / "result.json").read_bytes() == before
    real.mkdir()
    Store(real / "gateway.sqlite").close()
    capsys.readouterr()
    assert simulate(tmp_path, "--out", str(real)) == 2
    assert "whose nodes are not simulated" in capsys.readouterr().err
    assert not (real / "nodes").exists()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (["north.csv", "south.csv"], "needs 3 nodes and data of 2 are named"),
        (["north.csv", "north.csv", "west.csv"], "a node 'north' has data already"),
        (["north.csv", "south.csv", "missing.csv"], "no such file"),
        (["north.csv", "south.csv", "-x=west.csv"], "expected at least"),
        (["north.csv", "south.csv", "No.1=west.csv"], "write NAME=FILE"),
        (["north.csv", "south.csv", "board=west.csv"], "is the task's key holder"),
    ],
)
def test_data_that_cannot_be_simulated_is_refused_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], data: List[str], reason: str
) -> None:
    write_rows(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "edgeward.toml").write_text('[task]\nname = "s"\n' + SCHEMA + METHODS["ckks"] + NONE)
    try:
        code = main(["simulate", "edgeward.toml", "--data", *data, "--out", "out"])
    except SystemExit as ended:
        code = int(ended.code or 0)
    assert code == 2
    assert reason in capsys.readouterr().err or reason == "expected at least"
    assert not (tmp_path / "out" / "result.json").exists()


def test_a_task_that_too_few_nodes_can_serve_ends_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(RoundError, match=r"of 3 nodes take part, too few for the task \(b: its data"):
        played(tmp_path, make_task(rounds=2), empty="bc")


def test_it_goes_on_once_the_data_are_repaired(tmp_path: Path) -> None:
    with pytest.raises(RoundError, match="of 3 nodes take part"):
        played(tmp_path, make_task(rounds=2), empty="bc")
    assert len(played(tmp_path, make_task(rounds=2)).rounds) == 2

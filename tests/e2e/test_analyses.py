"""Analyses from end to end: the command line's own gateway, nodes and key holder, on rows that are known."""

import csv
import hashlib
import json
import signal
import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence

import numpy as np
import pytest
from graph_samples import Builder

from orchestrator.analyses.base import Total
from orchestrator.analyses.codes import read_coder
from orchestrator.analyses.hashing import Hashing
from orchestrator.analyses.registry import analysis_of
from orchestrator.data.dataset import load_for
from orchestrator.gateway.broker import free_port
from orchestrator.gateway.config import load_config
from orchestrator.node.analysed import total, unit_vectors
from orchestrator.node.graph_file import tflite_file

MAIN = [sys.executable, "-m", "orchestrator.cli.main"]
NODES = ("a", "b", "c")
SCHEMA = """
[task.schema]
kind = "table"
features = [
  {{ name = "age", minimum = 0, maximum = 100 }},
  {{ name = "visits", minimum = 0, maximum = 50 }},
  {{ name = "sex", categories = ["f", "m"] }},
]
"""
HEAD = """
[gateway]
federation = "analyses"
port = {port}
[task]
name = "study"
[task.rounds]
nodes = 3
quorum = 3
"""


class Federation:
    """A folder with a configuration and the rows of three nodes; processes end with it."""

    def __init__(self, folder: Path, text: str) -> None:
        self.folder, self.port = folder, free_port()
        self._running: List[subprocess.Popen[str]] = []
        self.rows: List[Dict[str, str]] = []
        draw = np.random.default_rng(11)
        for number, name in enumerate(NODES):
            with (folder / f"{name}.csv").open("w", newline="") as file:
                writer = csv.DictWriter(file, ["age", "visits", "sex"])
                writer.writeheader()
                for _ in range(150 + 50 * number):
                    middle = draw.choice([20, 45, 80])
                    age = "" if draw.random() < 0.05 else str(round(float(np.clip(draw.normal(middle, 4), 0, 100)), 2))
                    row = {"age": age, "visits": str(draw.integers(0, 9)), "sex": str(draw.choice(["f", "m"]))}
                    self.rows.append(row)
                    writer.writerow(row)
        (folder / "edgeward.toml").write_text((HEAD + SCHEMA).format(port=self.port) + text)

    def __enter__(self) -> "Federation":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running:
            process.kill()
            process.wait()

    def start(self, *words: str, log: str = "") -> "subprocess.Popen[str]":
        with (self.folder / f"{log or 'log'}.txt").open("a") as file:
            process = subprocess.Popen(
                [*MAIN, *words],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if not log else file,
                stderr=file,
                text=True,
            )
        self._running.append(process)
        return process

    def gateway(self) -> "subprocess.Popen[str]":
        return self.start("gateway", "run", "edgeward.toml", "--out", "out", "--json")

    def party(self, kind: str, name: str, *more: str) -> "subprocess.Popen[str]":
        at = ["--broker", f"mqtt://127.0.0.1:{self.port}", "--federation", "analyses", "--name", name]
        return self.start(kind, "run", *at, "--state", f"state-{name}", *more, log=name)

    def nodes(self, *more: str) -> None:
        for name in NODES:
            self.party("node", name, "--data", f"{name}.csv", "--once", *more)

    def said(self, *words: str) -> Any:
        done = subprocess.run([*MAIN, *words], cwd=self.folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def result(self, key_holders: Sequence[str] = ()) -> Dict[str, Any]:
        """What a gateway says last with all nodes: its run has a result."""
        gateway = self.gateway()
        for name in key_holders:
            self.party("keyholder", name)
        self.nodes()
        report = list(events(gateway))[-1]
        assert report["event"] == "result", self.log()
        return report

    def log(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("*.txt")))


def events(process: "subprocess.Popen[str]") -> Iterator[Dict[str, Any]]:
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)


def tables(report: Dict[str, Any]) -> Dict[str, List[List[Any]]]:
    return {table["name"]: table["rows"] for table in report["analysis"]["tables"]}


def check_exact(federation: Federation, report: Dict[str, Any]) -> None:
    found = tables(report)
    counts = Counter(row["sex"] for row in federation.rows)
    assert dict(map(tuple, found["levels sex"])) == {"f": counts["f"], "m": counts["m"], "(missing)": 0}
    ages = [float(row["age"]) for row in federation.rows if row["age"]]
    (age,) = [row for row in found["columns"] if row[0] == "age"]
    assert age[1:3] == [len(ages), len(federation.rows) - len(ages)]
    assert age[3] == pytest.approx(np.mean(ages), rel=1e-12)
    assert age[4] == pytest.approx(np.std(ages, ddof=1), rel=1e-9)


def test_a_gateway_killed_amid_an_analysis_goes_on_and_comes_to_the_same(tmp_path: Path) -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    start = [[10, 1], [40, 2], [70, 3]]
    text = (
        f'[task.analysis]\nkind = "kmeans"\nclusters = 3\nrounds = 60\nstart = {start}\n[task.privacy]\nunit = "none"\n'
    )
    with Federation(tmp_path, text) as federation:
        first = federation.gateway()
        federation.nodes()
        for event in events(first):
            if event["event"] == "aggregated":
                break
        first.send_signal(signal.SIGKILL)
        first.wait()
        said = list(events(federation.gateway()))
        report = said[-1]
        assert report["event"] == "result", federation.log()
        assert "continued" in [event["event"] for event in said]
        rounds = [event["round"] for event in said if event["event"] == "aggregated"]
        assert rounds == sorted(set(rounds))
        known = np.array([[float(row["age"]), float(row["visits"])] for row in federation.rows if row["age"]])
        u = 2 * known / [100, 50] - 1
        theirs = cluster.KMeans(3, init=2 * np.array(start) / [100, 50] - 1, n_init=1, max_iter=300, tol=0).fit(u)
        ours = np.array([row[1:] for row in tables(report)["centres"]])
        order = np.argsort(-np.bincount(theirs.labels_), kind="stable")
        np.testing.assert_allclose(2 * ours[:, 1:] / [100, 50] - 1, theirs.cluster_centers_[order], rtol=0, atol=1e-9)
        assert f"{len(federation.rows) - len(known)} records that lack a number" in " ".join(
            report["analysis"]["notes"]
        )
        assert report["bundle"] is None
        assert report["privacy"]["claim"].startswith("Computed without differential privacy")
        folder = Path(report["analysis"]["folder"])
        assert sorted(path.name for path in (tmp_path / folder).iterdir()) == [
            "01-centres.csv",
            "privacy.md",
            "result.md",
            "result.png",
        ]
        again = list(events(federation.gateway()))[-1]
        assert again["analysis"] == report["analysis"]
        assert (
            federation.said("runs", "show", report["run"], "--out", "out", "--json")["analysis"] == report["analysis"]
        )


def test_a_model_over_masked_sums_goes_on_after_a_kill_as_if_there_were_none(tmp_path: Path) -> None:
    text = (
        '[task.analysis]\nkind = "regression"\nfamily = "poisson"\noutcome = "visits"\nerrors = "hc1"\n'
        '[task.privacy]\nunit = "none"\n[task.aggregation]\nmethod = "masked"\n'
    )
    with Federation(tmp_path, text) as federation:
        first = federation.gateway()
        federation.nodes()
        for event in events(first):
            if event["event"] == "aggregated":
                break
        first.send_signal(signal.SIGKILL)
        first.wait()
        report = list(events(federation.gateway()))[-1]
        assert report["event"] == "result", federation.log()
    task = load_config(tmp_path / "edgeward.toml").task
    analysis, data = analysis_of(task), [load_for(tmp_path / f"{name}.csv", task) for name in NODES]
    asked, state = analysis.begin(task.seed), {}
    for _ in range(analysis.rounds):
        sums = [total(unit_vectors(analysis, asked, each, "record"), analysis.sums.size) for each in data]
        asked, folded = analysis.fold(asked, Total(np.sum(sums, axis=0)))
        state.update(folded.state)
        if folded.done:
            break
    expected = {row[0]: row[1:] for row in analysis.result(state, "records").tables[0].rows}
    found = {row[0]: row[1:] for row in tables(report)["coefficients"]}
    assert found.keys() == expected.keys()
    for name, row in found.items():
        assert None not in row, "errors are of a further round"
        assert row == pytest.approx(list(expected[name]), rel=1e-9)


def test_a_coder_over_masked_sums_is_that_of_all_rows(tmp_path: Path) -> None:
    text = (
        '[task.analysis]\nkind = "hashing"\noutcome = "sex"\nbits = 16\n[task.privacy]\nunit = "none"\n'
        '[task.aggregation]\nmethod = "masked"\n'
    )
    with Federation(tmp_path, text) as federation:
        federation.result()
        written = ("--result", "out/result.json", "--out", "coder.json", "--json")
        said = federation.said("similar", "coder", "edgeward.toml", *written)
    task = load_config(tmp_path / "edgeward.toml").task
    analysis, data = analysis_of(task), [load_for(tmp_path / f"{name}.csv", task) for name in NODES]
    asked, state = analysis.begin(task.seed), {}
    for _ in range(analysis.rounds):
        sums = [total(unit_vectors(analysis, asked, each, "record"), analysis.sums.size) for each in data]
        asked, folded = analysis.fold(asked, Total(np.sum(sums, axis=0)))
        state.update(folded.state)
    assert isinstance(analysis, Hashing)
    expected = analysis.coder(state)
    coder = read_coder((tmp_path / "coder.json").read_bytes(), "coder.json")
    assert said["digest"] == coder.digest
    np.testing.assert_allclose(coder.weights, expected.weights, rtol=0, atol=1e-6)
    np.testing.assert_allclose(coder.thresholds, expected.thresholds, rtol=0, atol=1e-6)
    x = np.concatenate([each.x for each in data])
    assert (coder.codes(x, task.schema) == expected.codes(x, task.schema)).mean() > 0.999
    assert 0.05 < coder.codes(x, task.schema).mean() < 0.95


def test_statistics_under_masks_with_noise_are_charged_like_training(tmp_path: Path) -> None:
    pytest.importorskip("dp_accounting")
    text = (
        '[task.analysis]\nkind = "statistics"\nbins = 5\n[task.privacy]\nunit = "record"\nepsilon = 1.0\ndelta = 1e-4\n'
        'noise = "distributed"\n[task.aggregation]\nmethod = "masked"\n'
    )
    with Federation(tmp_path, text) as federation:
        report = federation.result()
        claim = report["privacy"]
        assert 0.9 < claim["epsilon"] <= 1.0
        assert (claim["unit"], claim["steps"], claim["of"]) == ("record", 1, "result")
        assert claim["claim"].startswith("Every sum the gateway could open, and so every result, is")
        page = (tmp_path / report["analysis"]["folder"] / "privacy.md").read_text()
        assert "# Privacy of this result" in page
        assert "model" not in page.replace("threat-model", "")
        (age,) = [row for row in tables(report)["columns"] if row[0] == "age"]
        ages = [float(row["age"]) for row in federation.rows if row["age"]]
        assert abs(age[1] - len(ages)) < 200
        assert age[3] is None or abs(age[3] - float(np.mean(ages))) < 40
        assert any("noise" in note for note in report["analysis"]["notes"])
        ledger = federation.said("node", "ledger", "--state", "state-a", "--json")
        (run,) = ledger["runs"]
        assert {release["kind"]: release["used"] for release in run["releases"]} == {"analysis": 1, "count": 1}


def approved_by_all(federation: Federation, *said: str) -> Dict[str, Any]:
    """The last event of a run that each owner approves, once the summary says all of `said`."""
    gateway = federation.gateway()
    federation.nodes("--policy", "policy.toml")
    waiting, last = set(), {}
    for last in events(gateway):
        if last["event"] == "waiting" and last["node"] not in waiting:
            waiting.add(last["node"])
            state = ("--state", f"state-{last['node']}")
            (request,) = federation.said("node", "approvals", *state, "--json")
            assert all(words in "\n".join(request["summary"]) for words in said)
            federation.said("node", "approve", request["digest"][:16], *state, "--json")
    assert waiting == set(NODES)
    assert last["event"] == "result", federation.log()
    return last


def test_a_model_file_is_approved_by_its_bytes_and_run_on_each_record(tmp_path: Path) -> None:
    build = Builder()
    x = build.tensor([1, 2])
    weights = np.array([[-0.03, 0.1], [0.03, -0.1]], np.float32)
    found = build.add("FULLY_CONNECTED", [x, build.constant(weights), build.constant([1.0, -1.0])])
    model = tflite_file(build.function([x], [build.add("SOFTMAX", [found], beta=1.0)]))
    (tmp_path / "model.tflite").write_bytes(model)
    text = '[task.analysis]\nkind = "performance"\noutcome = "sex"\nmodel = "model.tflite"\nbins = 50\n'
    text += '[task.privacy]\nunit = "none"\n'
    with Federation(tmp_path, text) as federation:
        policy = '[require]\nunits = ["none"]\nstages = []\n[approval]\nrequired = true\n'
        (tmp_path / "policy.toml").write_text(policy)
        said = f"{len(model)} bytes, SHA-256 {hashlib.sha256(model).hexdigest()}, is run on 'age', 'visits' of each"
        last = approved_by_all(federation, said)
    rows = [row for row in federation.rows if row["age"]]
    values = np.array([[float(row["age"]), float(row["visits"])] for row in rows])
    logits = values @ weights.T.astype(np.float64) + [1.0, -1.0]
    p = logits[:, 1] >= logits[:, 0]
    y = np.array([row["sex"] == "m" for row in rows])
    ((_, *confusion),) = tables(last)["confusion"]
    assert confusion[:5] == [0.5, *(int(each.sum()) for each in (p & y, p & ~y, ~p & y, ~p & ~y))]


def test_owners_approve_an_analysis_and_their_budget_ends(tmp_path: Path) -> None:
    pytest.importorskip("dp_accounting")
    text = '[task.analysis]\nkind = "kmeans"\nclusters = 2\nrounds = 3\n'
    text += '[task.privacy]\nunit = "record"\nepsilon = 1.0\ndelta = 1e-4\n'
    with Federation(tmp_path, text) as federation:
        policy = "[budget]\nepsilon_total = 1.2\ndelta = 1e-4\n[approval]\nrequired = true\n"
        (tmp_path / "policy.toml").write_text(policy)
        kmeans = "k-means: 2 clusters of 2 numbers in at most 3 rounds"
        leaves = "leaves this node: a noised number of records, 3 noised sums of 8 values over all its records"
        approved_by_all(federation, kmeans, leaves)
        ledger = federation.said("node", "ledger", "--state", "state-a", "--json")
        assert {release["kind"]: release["used"] for release in ledger["runs"][0]["releases"]} == {
            "analysis": 3,
            "count": 1,
        }
        changed = tmp_path / "edgeward.toml"
        changed.write_text(changed.read_text().replace("rounds = 3", "rounds = 4"))
        federation.nodes("--policy", "policy.toml")
        declined = (event["code"] for event in events(federation.gateway()) if event["event"] == "declined")
        assert list(islice(declined, len(NODES))) == ["policy.budget"] * len(NODES)


def test_statistics_under_ckks_are_exact(tmp_path: Path) -> None:
    pytest.importorskip("tenseal")
    text = (
        '[task.analysis]\nkind = "statistics"\n[task.privacy]\nunit = "none"\n[task.aggregation]\nmethod = "ckks"\n'
        'key_holder = "keys"\n'
    )
    with Federation(tmp_path, text) as federation:
        report = federation.result(key_holders=("keys",))
        check_exact(federation, report)


def test_statistics_in_the_open_and_under_masks_are_exact(tmp_path: Path) -> None:
    for method in ("plain", "masked"):
        folder = tmp_path / method
        folder.mkdir()
        text = f'[task.analysis]\nkind = "statistics"\n[task.privacy]\nunit = "none"\n[task.aggregation]\nmethod = "{method}"\n'
        with Federation(folder, text) as federation:
            report = federation.result()
            check_exact(federation, report)

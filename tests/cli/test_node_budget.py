"""The owner's verbs, as typed."""

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any, List, Tuple

import pytest
from dp_accounting import dp_event, pld

from orchestrator.cli.main import main
from orchestrator.cli.node_budget import open_ledger
from orchestrator.errors import EdgewardError
from orchestrator.node.approval import Approvals
from orchestrator.node.gatekeeper import Gatekeeper
from orchestrator.node.ledger import LEDGER_FILE
from orchestrator.node.store import NodeStore
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Task, task_to_dict
from orchestrator.wire.training import Training

DOCS = Path(__file__).resolve().parents[2] / "docs"
SCHEMA = Schema("table", "y", ("no", "yes"), {"0": 0, "1": 1}, features=(Feature("x", 0, 1),), standardization="range")
TASK = Task("sepsis", SCHEMA, {"kind": "none"}, Training(rounds=4), Privacy(noise_multiplier=1.5, sampling_rate=1.0))


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Of a node that accepted one private run, and one without privacy; of the first its count and two of four rounds are out."""
    store = NodeStore(tmp_path / "node.sqlite")
    keeper = Gatekeeper(tmp_path, store)
    open_task = Task("open", SCHEMA, {"kind": "none"}, privacy=Privacy(unit="none"))
    for run, task in (("run-1", TASK), ("run-2", open_task)):
        assert keeper.admit(run, task, task_to_dict(task), b"graph", 100) is None
    store.before_release = keeper.charge
    keeper.state_count("run-1", TASK, "digest", 100)
    keeper.charge("run-1", 1)
    keeper.charge("run-1", 2)
    keeper.close()
    store.close()
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *words: object) -> Tuple[int, Any]:
    code = main(["node", *map(str, words), "--json"])
    return code, json.loads(capsys.readouterr().out)


def epsilon(count: int) -> float:
    accountant = pld.PLDAccountant()
    accountant.compose(dp_event.GaussianDpEvent(1.5), count)
    accountant.compose(dp_event.GaussianDpEvent(7.5))  # the stated number of records
    return float(accountant.get_epsilon(1e-5))


def test_a_ledger_is_closed_also_after_an_error(state: Path) -> None:
    with pytest.raises(RuntimeError, match="in the middle"), open_ledger(state) as (ledger, store):
        raise RuntimeError("in the middle")
    for ask in (lambda: store.thaw("run-1"), lambda: ledger.close_run("run-1")):
        with pytest.raises((sqlite3.ProgrammingError, EdgewardError), match="closed"):
            ask()


@pytest.mark.parametrize("verb", ["release", "withhold", "approve", "deny"])
def test_in_a_wrong_folder_it_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str) -> None:
    assert main(["node", verb, "ab", "--state", str(tmp_path / "elsewhere")]) == 2
    assert "elsewhere: no node has run there" in capsys.readouterr().err


@pytest.mark.slow
def test_show_close_show(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = said(capsys, "ledger", "--state", state)
    assert code == 0
    assert found["entries"] == 6
    assert [(r["run"], r["rounds"], r["closed"]) for r in found["runs"]] == [("run-1", 2, False), ("run-2", 0, False)]
    kinds = [(r["kind"], r["count"], r["used"]) for r in found["runs"][0]["releases"]]
    assert kinds == [("training", 4, 2), ("count", 1, 1)]
    assert [(r["kind"], r["noise_multiplier"]) for r in found["runs"][1]["releases"]] == [("training", 0.0)]
    assert found["spent"] == {"record": pytest.approx(epsilon(4), rel=2e-3), "all": pytest.approx(epsilon(4), rel=2e-3)}
    assert found["without_privacy"] == ["run-2"]
    assert said(capsys, "ledger", "close", "run-1", "--state", state) == (
        0,
        {"closed": "run-1", "used": {"count": 1, "training": 2}},
    )
    assert main(["node", "ledger", "show", "--state", str(state)]) == 0
    page = capsys.readouterr().out
    assert "without privacy, so not bounded by any epsilon: run-2" in page
    assert f"epsilon {epsilon(2):.3g} at delta 1e-05: per record" in page


def test_verify_names_what_was_changed(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import sqlite3

    code, found = said(capsys, "ledger", "verify", "--state", state)
    assert (code, found["whole"], found["entries"]) == (0, True, 6)
    with sqlite3.connect(state / LEDGER_FILE) as db:
        db.execute("UPDATE entries SET entry = replace(entry, 'run-1', 'run-9') WHERE seq = 4")
    db.close()
    assert main(["node", "ledger", "verify", "--state", str(state)]) == 1
    assert "entry 4 was changed" in capsys.readouterr().err
    (state / LEDGER_FILE).unlink()
    assert main(["node", "ledger", "verify", "--state", str(state)]) == 1
    assert "the ledger is gone" in capsys.readouterr().err
    assert not (state / LEDGER_FILE).exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["ledger", "close"], "`close` needs a RUN"),
        (["ledger", "verify", "run-1"], "only `close` takes one"),
        (["ledger", "--delta", "2"], "expected a number between 0 and 1"),
        (["ledger", "--state", "nowhere"], "nowhere: no node has run there"),
        (["approve", "ab"], "'ab' is not one of them"),
        (["policy", "check", "nowhere.toml"], "nowhere.toml: No such file"),
    ],
)
def test_what_makes_no_sense_is_said(
    state: Path, words: List[str], reason: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(state)
    (state / "edgeward-node").symlink_to(state)
    assert main(["node", *words]) == 2
    assert reason in capsys.readouterr().err


def test_approve_and_deny(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = Approvals(state).ask("run-3", task_to_dict(TASK), b"graph", 1.25)
    assert main(["node", "approvals", "--state", str(state)]) == 0
    page = capsys.readouterr().out
    assert f"{request.digest[:16]}  WAITS" in page
    assert "this node counts 1.25" in page
    assert main(["node", "approve", request.digest[:6], "--state", str(state)]) == 0
    assert f"approved {request.digest}" in capsys.readouterr().out
    listed = said(capsys, "approvals", "--state", state)[1][0]
    assert (listed["decision"], listed["waits"]) == ("approved", False)
    assert said(capsys, "deny", request.digest, "--state", state) == (
        0,
        {"digest": request.digest, "decision": "denied"},
    )
    assert said(capsys, "approvals", "--state", state)[1][0]["decision"] == "denied"


def test_policy_check_says_the_rules_and_holds_a_task_against_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = said(capsys, "policy", "check", DOCS / "policy.toml")
    assert code == 0
    assert "one task: at most epsilon 4 at delta 1e-05" in found["rules"]
    mine = tmp_path / "policy.toml"
    mine.write_text("[require]\nminimum_cohort = 3\n")
    code, found = said(capsys, "policy", "check", mine, "--task", DOCS / "edgeward.toml")
    assert (code, found["refusal"]["code"]) == (1, "policy.cohort")
    mine.write_text("[require]\nminimum_cohort = 2\n")
    assert main(["node", "policy", "check", str(mine), "--task", str(DOCS / "edgeward.toml")]) == 0
    assert "would take sepsis" in capsys.readouterr().out
    task = ("--task", DOCS / "edgeward.toml", "--records")
    code, found = said(capsys, "policy", "check", mine, *task, 10**9)
    assert (code, found["refusal"]["code"]) == (1, "data")
    assert "it would allow a whole record to leak" in found["refusal"]["reason"]
    mine.write_text("[budget]\nepsilon_total = 3\ndelta = 0.01\n")
    code, found = said(capsys, "policy", "check", mine, *task, 100)
    assert (code, found["refusal"]["code"]) == (1, "data")
    assert "[budget] delta 0.01 is not below 1/units = 1/100" in found["refusal"]["reason"]


def test_a_service_may_write_where_the_ledger_is_remembered(tmp_path: Path) -> None:
    from orchestrator.cli.service import unit

    options = ["--identity", str(tmp_path / "id"), "--data", "/srv/x.csv", "--policy", "policy.toml"]
    text = unit("node", options, "edgeward")
    assert f"ReadWritePaths={tmp_path / 'id'}\n" in text
    assert f"--policy {Path('policy.toml').absolute()}" in text


def test_a_node_with_a_wrong_policy_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("x,y\n1,0\n")
    (tmp_path / "policy.toml").write_text("[budget]\nepsilon = 1\n")
    command = [
        sys.executable,
        "-m",
        "orchestrator.cli.main",
        "node",
        "run",
        "--broker",
        "mqtt://127.0.0.1:1",
        "--name",
        "n",
    ]
    command += ["--data", str(tmp_path / "data.csv"), "--state", str(tmp_path / "state")]
    done = subprocess.run(
        [*command, "--policy", str(tmp_path / "policy.toml")], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 2
    assert "budget.epsilon: unknown, did you mean 'epsilon_task'?" in done.stderr

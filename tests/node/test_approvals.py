"""What waits for the owner's word, what that word is for, and what a request shows."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Optional

import pytest

pytest.importorskip("dp_accounting")  # not on Python 3.8

from gatekeepers import GRAPH, HONEST, TASK, admit, another_default, code, open_keeper, spent

from orchestrator.cli.main import main
from orchestrator.errors import UsageError
from orchestrator.node import accountant
from orchestrator.node.approval import Approvals
from orchestrator.node.gatekeeper import Verdict, Waiting
from orchestrator.node.ledger import APPROVED, DENIED
from orchestrator.wire.protection import Privacy
from orchestrator.wire.task import digest_of, task_from_dict, task_to_dict


def test_a_new_task_waits_for_a_word_on_exactly_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "policy.toml").write_text("[approval]\nrequired = true\n")
    keeper = open_keeper(tmp_path)
    waiting = admit(keeper, "one", HONEST)
    assert isinstance(waiting, Waiting)
    assert waiting.code == "policy.approval"
    assert waiting.digest == digest_of(task_to_dict(HONEST), GRAPH)
    assert not keeper.decided(waiting.digest)
    assert keeper.ledger_head()["entries"] == 1  # nothing is reserved before
    approvals = Approvals(tmp_path)
    request = approvals.find(waiting.digest[:8])
    assert request.declared == json.loads(json.dumps(task_to_dict(HONEST)))
    said = "\n".join(request.summary)
    assert "task 'sepsis-2': predicts 'y' ('no' or 'yes')" in said
    counted = spent(1)
    assert f"claims epsilon 5 at delta 1e-05 per record; this node counts {counted:.3g}" in said
    assert "noise added here, of multiplier: training 1, count 5; 2 steps, sampling rate 0.25" in said
    assert "leaves this node: a noised number of records, 2 noised updates of the model's weights" in said
    keeper.ledger.decide(waiting.digest, APPROVED)
    assert keeper.decided(waiting.digest)
    assert admit(keeper, "one", HONEST) is None
    monkeypatch.setattr(accountant, "epsilon_apart", lambda *_: 1.0)
    assert isinstance(admit(keeper, "two", replace(HONEST, seed=1)), Waiting)
    assert isinstance(keeper.admit("three", HONEST, task_to_dict(HONEST), b"another graph", 100), Waiting)
    keeper.ledger.decide(waiting.digest, DENIED)
    assert code(admit(keeper, "four", HONEST)) == "policy.approval-denied"


def test_a_yes_is_not_for_what_another_version_reads_in_the_same_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A declaration may leave things out: which default stands there depends on the version, and the digest does not see it."""
    (tmp_path / "policy.toml").write_text("[approval]\nrequired = true\n")
    keeper, declared = open_keeper(tmp_path), task_to_dict(HONEST)
    del declared["privacy"]["records_per_patient"]

    def admitted(run: str) -> Optional[Verdict]:
        return keeper.admit(run, task_from_dict(declared), declared, GRAPH, 100)

    waiting = admitted("one")
    assert isinstance(waiting, Waiting)
    approve = ["node", "approve", waiting.digest, "--state", str(tmp_path)]
    assert main(approve) == 0
    assert admitted("one") is None
    another_default(monkeypatch, Privacy, "records_per_patient", 33)
    assert task_from_dict(declared) != HONEST
    assert isinstance(admitted("one"), Waiting)
    assert not keeper.decided(waiting.digest)
    (request,) = Approvals(tmp_path).requests()
    assert request.waits(keeper.ledger)
    assert main(approve) == 0
    assert keeper.decided(waiting.digest)
    assert not request.waits(keeper.ledger)
    assert admitted("one") is None


def test_an_approval_is_for_as_many_runs_as_the_task_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accountant, "epsilon_apart", lambda *_: 1.0)
    (tmp_path / "policy.toml").write_text("[approval]\nrequired = true\n")
    keeper, task = open_keeper(tmp_path), replace(HONEST, privacy=replace(HONEST.privacy, runs=2))
    waiting = admit(keeper, "one", task)
    assert isinstance(waiting, Waiting)
    assert "an approval is for 2 runs of it" in Approvals(tmp_path).find(waiting.digest).summary
    for runs in (["one", "two"], ["three", "four"]):
        assert not keeper.decided(waiting.digest)
        keeper.ledger.decide(waiting.digest, APPROVED)
        assert [code(admit(keeper, run, task)) for run in [*runs, *runs]] == ["accepted"] * 4
        assert code(admit(keeper, "five", task)) == "policy.approval"
    assert Approvals(tmp_path).find(waiting.digest).waits(keeper.ledger)


def test_an_owner_is_not_asked_for_a_claim_that_does_not_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that an owner can judge is the epsilon, which the gateway wrote; nor is it one run's where the task is for several."""
    (tmp_path / "policy.toml").write_text("[approval]\nrequired = true\n")
    keeper = open_keeper(tmp_path)
    assert code(admit(keeper, "one", replace(HONEST, privacy=replace(HONEST.privacy, runs=9)))) == "claim"
    assert not Approvals(tmp_path).requests()
    monkeypatch.setattr(accountant, "available", lambda: False)
    assert isinstance(admit(keeper, "two", HONEST), Waiting)
    assert "per record; not counted here" in "\n".join(Approvals(tmp_path).requests()[0].summary)


def test_what_a_gateway_writes_fakes_no_line_of_a_request(tmp_path: Path) -> None:
    """Blanks would wrap a terminal's line, and what comes next look like the node's own word."""
    long = "no" + 60 * " " + 60 * "\u2800" + "claims epsilon 0.1 at delta 1e-06 per patient" + 10 * " x"
    schema = replace(
        TASK.schema, label=long, classes=tuple(f"{i}{long}" for i in range(300)), label_values={"0": 0, "1": 1}
    )
    task = replace(TASK, name=long, schema=schema, model={"kind": long, long: 1})
    lines = Approvals(tmp_path).ask("one", task_to_dict(task), GRAPH).summary
    assert max(map(len, lines)) < 600
    assert not any("  " in line or "\u2800" in line for line in lines)
    assert lines[0].endswith("or 295 more)")


def test_a_request_that_was_changed_cannot_be_approved(tmp_path: Path) -> None:
    request = Approvals(tmp_path).ask("one", task_to_dict(TASK), GRAPH)
    path = tmp_path / "approvals" / f"{request.digest}.json"
    path.write_text(path.read_text().replace('"epsilon": 3.0', '"epsilon": 0.1'))
    with pytest.raises(UsageError, match="is not what the node wrote"):
        Approvals(tmp_path).find(request.digest)
    assert Approvals(tmp_path).find(request.digest, whole=False).digest == request.digest
    with pytest.raises(UsageError, match="is not one of them"):
        Approvals(tmp_path).find("zz")


def test_what_waits_for_the_owner_does_not_fill_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accountant, "epsilon_apart", lambda *_: 1.0)
    monkeypatch.setattr("orchestrator.node.approval.MOST_REQUESTS", 3)
    (tmp_path / "policy.toml").write_text("[approval]\nrequired = true\n")
    keeper = open_keeper(tmp_path)
    asked = [code(admit(keeper, f"run-{seed}", replace(TASK, seed=seed))) for seed in (1, 2, 3, 4, 1)]
    assert asked == [*["policy.approval"] * 3, "policy.approvals", "policy.approval"]
    assert len(Approvals(tmp_path).requests()) == 3
    monkeypatch.setattr("orchestrator.node.approval.MOST_REQUESTS", 300)
    monkeypatch.setattr("orchestrator.node.approval.MOST_BYTES", 3)
    assert code(admit(keeper, "run-5", replace(TASK, seed=5))) == "policy.approvals"

"""The statement says what is claimed, against whom, and what is not; never more than was seen to hold."""

import json
import math
import re
import subprocess
from dataclasses import replace
from typing import Any, Dict, Optional

import pytest

from orchestrator.errors import PrivacyError, UsageError
from orchestrator.gateway.run import strategy_of
from orchestrator.privacy.accounting import epsilon_spent, plan_noise
from orchestrator.privacy.accounting_process import statement_apart
from orchestrator.privacy.charges import Charge, epsilon_of
from orchestrator.privacy.statement import statement
from orchestrator.privacy.statement_page import best_guess, markdown
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Evaluation, Rounds, Selection, Task
from orchestrator.wire.training import Training

pytest.importorskip("dp_accounting")

RECORDS = {"icu-north": 100, "icu-south": 50}


def make_task(privacy: Privacy, statistics: bool = False, **parts: Any) -> Task:
    schema = Schema(
        "table",
        "y",
        ("a", "b"),
        {"0": 0},
        (Feature("x", 0, 1),),
        standardization="federated" if statistics else "range",
        patient="p",
    )
    training = Training("fedsgd", 30, parameters=100)
    return Task("t", schema, {"kind": "mlp"}, training, privacy, Rounds(nodes=30, quorum=6), **parts)


def shared(honest: int = 3, colluding: int = 0) -> Task:
    privacy = Privacy(delta=1e-3, noise="distributed", noise_multiplier=2.0, sampling_rate=1.0)
    return make_task(privacy, aggregation=Aggregation("masked", honest=honest, colluding=colluding))


def against(said: Dict[str, Any]) -> Dict[str, Optional[float]]:
    return {row["whom"]: row["epsilon"] for row in said["holds_against"]}


def gaussian(noise: float, count_noise: float = 10.0, steps: int = 30, delta: float = 1e-3) -> float:
    """Of all steps and of the stated count, whose noise no other node shares: five times the declared 2.0 of the sum."""
    return epsilon_of([Charge("training", noise, count=steps), Charge("count", count_noise)], delta)


@pytest.mark.slow
def test_a_record_statement_has_claim_and_limits() -> None:
    task = plan_noise(make_task(Privacy(delta=1e-3), statistics=True))
    said = statement(task, RECORDS)
    keys = ("unit", "adjacency", "epsilon", "delta", "accountant", "noise_multiplier", "clip_norm", "not_covered")
    assert all(said[key] for key in keys)
    assert said["epsilon"] == epsilon_spent(task) <= 8
    assert said["statistics"].startswith("standardization sums released once with noise multiplier")
    assert said["evaluation"] == "none released"
    assert against(said) == dict.fromkeys(
        ("anyone who gets a model", "other nodes", "the gateway", "broker and network"), said["epsilon"]
    )
    assert said["honest_survivors"] is None
    assert said["local"] is None
    assert said["audit"] is None
    assert json.loads(json.dumps(said, allow_nan=False)) == said


def test_discrete_noise_has_no_lowest_bits_and_says_what_it_costs() -> None:
    for mechanism, most in (("discrete-gaussian", 1e-9), ("skellam", 0.02)):
        said = statement(
            make_task(Privacy(delta=1e-3, noise_multiplier=2.0, sampling_rate=1.0, mechanism=mechanism)), RECORDS
        )
        assert not any("floating" in line or "lowest bits" in line for line in said["not_covered"])
        assert 0 < said["discreteness"]["eta"] < most
        assert said["epsilon"] > gaussian(2.0)
        assert ("Skellam" in said["mechanism"]) == (mechanism == "skellam")


def test_without_privacy_it_says_so() -> None:
    said = statement(make_task(Privacy("none")), {})
    assert said["epsilon"] is None
    assert "without differential privacy" in said["claim"]
    assert "No differential privacy" in markdown(said)


def test_evaluation_is_released_so_often() -> None:
    task = plan_noise(
        make_task(Privacy(delta=1e-3, epsilon=2.0, sampling_rate=1.0), evaluation=Evaluation(0.2, every=10))
    )
    said = statement(task, RECORDS, run=1)
    assert f"released {task.evaluations} times" in said["evaluation"]
    assert "held-out ones are never trained on" in said["composition"]
    assert said["epsilon"] <= 2.0


def test_shared_noise_states_what_is_left_when_secrecy_breaks_and_what_other_nodes_can_take_off() -> None:
    said = statement(shared(honest=4), RECORDS)
    assert said["epsilon"] == pytest.approx(gaussian(2.0), rel=1e-6)
    assert said["local"]["noise_multiplier"] == pytest.approx(1.0)
    assert said["local"]["epsilon"] == pytest.approx(gaussian(1.0), rel=1e-6)
    rows = against(said)
    assert rows["the gateway"] == said["epsilon"]
    assert rows["other nodes"] == pytest.approx(gaussian(2.0 * math.sqrt(3 / 4)), rel=1e-6), (
        "a node knows its own share"
    )
    spare = statement(shared(honest=4, colluding=1), RECORDS)
    assert against(spare)["other nodes"] == spare["epsilon"], "one share more than is counted on"


def test_a_key_holder_gets_what_nodes_get_the_models() -> None:
    """Rounds are broadcast, so its one-time pads are not all it can see."""
    task = replace(shared(), aggregation=Aggregation("ckks", key_holder="keys"))
    said = statement(task, RECORDS)
    assert against(said)["the key holder"] == said["epsilon"] > 0
    conditions = {row["whom"]: row["why"] for row in said["holds_against"]}
    assert "as long as the broker keeps from it" in conditions["the key holder"]
    assert "do not work with the key holder" in conditions["broker and network"]
    assert "keys, who holds the key, does not" in said["claim"]
    assert "key holder" not in json.dumps(statement(shared(), RECORDS))


def test_protection_too_weak_for_a_number_is_none() -> None:
    weak = replace(shared(honest=6), privacy=replace(shared().privacy, noise_multiplier=1.2))
    said = statement(weak, RECORDS)
    assert said["local"]["epsilon"] is None
    assert "no epsilon that would mean anything" in markdown(said)
    json.dumps(said, allow_nan=False)


def test_the_claim_rests_on_the_survivors_there_really_were() -> None:
    task = replace(shared(honest=4), privacy=replace(shared().privacy, epsilon=20.0))
    full = statement(task, RECORDS, observed={"least_survivors": 6})
    assert full["epsilon"] == statement(task, RECORDS)["epsilon"], "no luck is claimed"
    fewer = statement(task, RECORDS, observed={"least_survivors": 3})
    assert fewer["epsilon"] == pytest.approx(gaussian(2.0 * math.sqrt(3 / 4)), rel=1e-6)
    assert fewer["honest_survivors"] == {"declared": 4, "colluding": 0, "least_in_a_sum": 3}
    assert "at least 3 honest nodes" in fewer["claim"]
    assert ("more than the budget" in fewer["claim"]) == (fewer["epsilon"] > 20.0)
    assert "more than the budget of 8" in statement(shared(4), RECORDS, observed={"least_survivors": 3})["claim"]
    with pytest.raises(PrivacyError, match="nothing can be claimed"):
        statement(shared(4, colluding=2), RECORDS, observed={"least_survivors": 2})


def test_noise_at_the_gateway_is_no_protection_from_the_gateway() -> None:
    privacy = Privacy("node", delta=1e-3, noise="gateway", noise_multiplier=2.0, bands=5)
    said = statement(make_task(privacy, selection=Selection(cohort=6)), RECORDS)
    rows = against(said)
    assert rows["the gateway"] is None
    assert rows["broker and network"] is None
    assert rows["other nodes"] == said["epsilon"]
    assert "Not towards the gateway" in said["claim"]
    assert "at most once in 5 rounds and 6 times in all" in said["sampling"]
    assert "correlated over 5 rounds" in said["mechanism"]


def test_keys_of_first_use_are_a_limit() -> None:
    first, certified = (statement(shared(), RECORDS, observed={"keys": keys}) for keys in ("first use", "certified"))
    assert any("false keys" in line for line in first["not_covered"])
    assert not any("false keys" in line for line in certified["not_covered"])


@pytest.mark.parametrize("unit", ["record", "patient", "node"])
@pytest.mark.parametrize("noise", ["node", "distributed"])
def test_the_page_is_one_page_for_people(unit: str, noise: str) -> None:
    parts: Dict[str, Any] = {"aggregation": Aggregation("masked")} if noise == "distributed" else {}
    task = make_task(Privacy(unit, delta=1e-3, noise=noise, noise_multiplier=3.0, sampling_rate=1.0), **parts)
    audit = {"lower_bound": 1.2}
    said = statement(task, RECORDS, observed={"audit": audit, "rounds_skipped": 2, "least_survivors": 5})
    page = markdown(said)
    assert page.startswith("# Privacy of this model\n")
    for part in ("What is protected", "By how much", "Against whom", "How", "Measured", "What is not covered"):
        assert f"## {part}\n" in page
    assert f"epsilon {said['epsilon']:.3g} at delta 0.001" in page
    assert ("2 nodes. The unit is" if unit == "node" else f"About 150 {unit}s on 2 nodes") in page
    assert "icu-north" not in page, "it names no node"
    assert "2 rounds were given up" in page
    assert "lower bound 1.2" in page
    assert all(f"- {line}\n" in page for line in said["not_covered"])
    assert len(page) < 6000
    assert ("smallest sum that was opened was over 5" in page) == (noise == "distributed")


def test_what_a_guess_is_worth() -> None:
    assert best_guess(0.0, 0.0) == 0.5
    assert best_guess(math.log(3), 0.0) == pytest.approx(0.75)
    assert best_guess(1e4, 0.0) == 1.0
    assert best_guess(0.0, 1.0) == 1.0


def test_apart_it_takes_what_was_observed() -> None:
    apart = statement_apart(shared(4), RECORDS, 1, {"least_survivors": 5, "keys": "certified"})
    assert apart["honest_survivors"]["least_in_a_sum"] == 5
    assert apart["keys"] == "certified"


def test_what_claims_nothing_starts_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", started)
    exact = replace(shared(), privacy=Privacy("none"))
    assert statement_apart(exact, RECORDS) == statement(exact, RECORDS)


def cross_scored(privacy: Privacy) -> Task:
    schema = Schema("table", "y", ("n", "p"), {"0": 0, "1": 1}, (Feature("x", 0, 1),), standardization="range")
    training, evaluation = Training("fuala", 6, parameters=4), Evaluation(0.2, 6)
    return plan_noise(Task("t", schema, {}, training, privacy, Rounds(4, 4), evaluation=evaluation))


def test_who_sees_single_models_and_what_scores_are_of_is_said() -> None:
    task = cross_scored(Privacy("record", 3.0, 1e-4, 1.0, 0.25))
    said = statement(task, {"a": 50, "b": 50})
    assert "each node was given the model that one other node had come to" in said["cross_scored"]
    assert "of a loss between 0 and 2.08; 5 scores a node" in said["cross_scored"]
    assert f"noise multiplier {task.privacy.score_noise_multiplier:g}, included" in said["cross_scored"]
    others = next(row for row in said["holds_against"] if row["whom"] == "other nodes")
    assert "models of single nodes, which have all of their noise" in others["why"]
    assert said["cross_scored"] in markdown(said)
    assert said["epsilon"] <= 3.0
    quieter = replace(
        task, privacy=replace(task.privacy, score_noise_multiplier=task.privacy.score_noise_multiplier / 3)
    )
    assert statement(quieter, {"a": 50, "b": 50})["epsilon"] > 3.0  # scores are charged


def test_without_noise_it_is_said_as_well() -> None:
    said = statement(cross_scored(Privacy("none")), {"a": 50})
    assert "without noise, added to the round's model" in said["cross_scored"]
    assert said["cross_scored"] in markdown(said)


def test_the_held_out_budget_is_shared_between_scores_and_evaluations() -> None:
    task = cross_scored(Privacy("record", 3.0, 1e-4, 1.0, 0.25))
    assert 2.9 < epsilon_spent(task, group="held-out") <= 3.0
    stated = replace(task, privacy=replace(task.privacy, evaluation_noise_multiplier=50.0, score_noise_multiplier=0.0))
    assert plan_noise(stated).privacy.score_noise_multiplier < task.privacy.score_noise_multiplier


def test_such_a_task_is_refused_where_it_cannot_be() -> None:
    schema = Schema("table", "y", ("n", "p"), {"0": 0, "1": 1}, (Feature("x", 0, 1),), standardization="range")
    good: Dict[str, Any] = {"training": Training("fuala"), "evaluation": Evaluation(0.2), "privacy": Privacy("none")}
    refused: Dict[str, Dict[str, Any]] = {
        "set share in [task.evaluation]": {"evaluation": Evaluation()},
        "works through no relay": {"rounds": Rounds(provided=True)},
        "reads models that others score off whole updates": {"codec": "top10"},
        "aggregation.method 'masked' shows only the sum": {
            "aggregation": Aggregation("masked"),
            "rounds": Rounds(5, 5),
        },
        "aggregation.method 'ckks' shows only the sum": {
            "aggregation": Aggregation("ckks", key_holder="k"),
            "rounds": Rounds(5, 5),
        },
        "privacy.unit 'node' bounds only": {"privacy": Privacy("node", delta=0.01)},
    }
    for reason, changes in refused.items():
        with pytest.raises(ValueError, match=re.escape(reason)):
            Task("t", schema, {}, **{**good, **changes})
    with pytest.raises(ValueError, match="personal parts never leave theirs"):
        Training("fuala", personal="head")
    with pytest.raises(UsageError, match="has each model scored by three other nodes, and a run may begin with 3"):
        strategy_of(Task("t", schema, {}, rounds=Rounds(3, 3), **good))
    with pytest.raises(UsageError, match="needs 3 updates a round, the quorum is 2"):
        strategy_of(Task("t", schema, {}, rounds=Rounds(5, 2), **good))

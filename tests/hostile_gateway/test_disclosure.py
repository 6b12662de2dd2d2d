"""Attack: exact questions that are harmless one by one and show single people together, or that show them in a way their owner
does not think of. Promise: [disclosure] holds whatever is declared or announced; what travels of it is a code."""

import json
from dataclasses import replace
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest
from inside import DELTA, csv_of
from malicious import Attack, Transfer, Victim

from orchestrator.analyses.base import as_pairs, from_pairs
from orchestrator.analyses.registry import analysis_of, spelled_out
from orchestrator.privacy.clipping import with_clipping
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Task
from orchestrator.wire.training import Training

NODE = "icu-1"
AGE, DOSE = Feature("age", 0, 100), Feature("dose", 0, 10)
SEX, DRUG = Feature("sex", categories=("f", "m")), Feature("drug", categories=("no", "yes"))
ROWS: List[Tuple[Any, ...]] = [
    (20 + i % 40, "" if i == 7 else 1 + i % 4, "f" if i % 2 else "m", "yes" if i in (1, 3, 4) else "no", f"p{i}")
    for i in range(80)
]
TABLE = csv_of(["age", "dose", "sex", "drug", "who"], ROWS)
OPEN = '[require]\nunits = ["none", "record"]\nstages = []\npatient = "who"\nsteady = false\n[allow]\nschemas_a_day = 100\n'
RULES = OPEN + "[disclosure]\nminimum_patients = 20\nminimum_cell = 5\nminimum_difference = 5\n"
NO_RULES = OPEN


def task_of(declared: Dict[str, Any], *features: Feature, markers: Tuple[str, ...] = ("",), **changes: Any) -> Task:
    schema = Schema("table", "", (), {}, features, patient="who", missing_markers=markers)
    known: Dict[str, Any] = {"privacy": Privacy("none"), **changes}
    task = Task("t", schema, {}, rounds=Rounds(3, 3), analysis=declared, training=Training(rounds=1), **known)
    found = analysis_of(task)
    training = Training(rounds=found.rounds, parameters=found.sums.size)
    return with_clipping(spelled_out(replace(task, training=training)))


def noised(multiplier: float) -> Privacy:
    return Privacy(
        "record",
        1.0,
        DELTA,
        noise_multiplier=multiplier,
        count_noise_multiplier=multiplier,
        sampling_rate=1.0,
        clip_norm=0.0,
    )


def ask(attack: Attack, run: str, task: Task, asked: "np.ndarray | None" = None) -> Dict[str, Any]:
    """What the node says to the first round of a run: the header of its answer, or a presence."""
    asked = analysis_of(task).begin(0) if asked is None else asked
    ready = attack.gateway.offer(NODE, run, task)
    assert ready["kind"] == "ready", ready
    return attack.gateway.provoke(NODE, {"kind": "round", "run": run, "round": 1}, {"weights": asked})


@pytest.fixture
def attack(victim: Victim) -> Attack:
    return victim(TABLE, RULES)


def refused(attack: Attack, said: Dict[str, Any], code: str) -> None:
    """By the rule's name; the node is out of the run, which need not wait for it."""
    assert said["kind"] in ("refused", "declined"), said
    assert said.get("code") == code
    attack.node.still_here()
    assert "[disclosure]" in attack.node.log


MEAN = {"kind": "pca"}


def test_a_mean_over_all_and_then_over_all_but_one(attack: Attack) -> None:
    """The one without a dose is in the first sum and not in the second: their difference is his age."""
    both = Feature("one", 0, 100), Feature("two", 0, 100)
    of_age = replace(both[0], name="age"), replace(DOSE, name="dose")
    everybody = task_of({"kind": "statistics", "bins": 2}, AGE)
    assert ask(attack, "all", everybody)["kind"] == "update"
    refused(attack, ask(attack, "but-one", task_of(MEAN, *of_age)), "disclosure.difference")


def test_the_same_two_sums_are_given_without_the_rule(victim: Victim) -> None:
    unruled = victim(TABLE, NO_RULES)
    assert ask(unruled, "all", task_of({"kind": "statistics", "bins": 2}, AGE))["kind"] == "update"
    assert ask(unruled, "but-one", task_of(MEAN, AGE, DOSE))["kind"] == "update"


ISOLATED = from_pairs(
    analysis_of(
        task_of({"kind": "regression", "family": "poisson", "outcome": "dose", "inputs": ["age"]}, AGE, DOSE)
    ).begin(0)
)
ISOLATED[:2] = -30.0, 200.0  # of 80 records the two oldest have nearly all the weight

WAYS: Dict[str, Tuple[Task, "np.ndarray | None"]] = {
    "a crosstab": (task_of({"kind": "statistics", "bins": 2, "crosstabs": [["sex", "drug"]]}, SEX, DRUG), None),
    "groups": (task_of({"kind": "compare", "by": "drug"}, SEX, DRUG), None),
    "X'X": (task_of({"kind": "regression", "outcome": "age", "inputs": ["sex", "drug"]}, AGE, SEX, DRUG), None),
    "X'y": (
        task_of({"kind": "regression", "family": "logistic", "outcome": "drug", "inputs": ["sex"]}, SEX, DRUG),
        None,
    ),
    "gradients of trees": (task_of({"kind": "boosted", "outcome": "drug", "depth": 1, "bins": 2}, AGE, DRUG), None),
    "scores": (task_of({"kind": "performance", "outcome": "drug", "score": "age", "bins": 2}, AGE, DRUG), None),
    "leaves": (task_of({"kind": "forest", "outcome": "drug", "trees": 2, "depth": 1, "bins": 2}, AGE, DRUG), None),
    "events": (task_of({"kind": "survival", "time": "age", "event": "drug", "steps": 1}, AGE, DRUG), None),
    "a range that leaves few over": (task_of(MEAN, Feature("age", 58, 59), Feature("dose", 0, 10)), None),
    "coefficients that weigh few": (
        task_of({"kind": "regression", "family": "poisson", "outcome": "dose", "inputs": ["age"]}, AGE, DOSE),
        as_pairs(ISOLATED),
    ),
    "a value that counts as missing": (
        task_of({"kind": "statistics", "bins": 2}, Feature("drug", categories=("no", "never")), markers=("yes",)),
        None,
    ),
    "noise that is none": (
        task_of(
            {"kind": "statistics", "bins": 2, "crosstabs": [["sex", "drug"]]},
            SEX,
            DRUG,
            privacy=noised(0.01),
        ),
        None,
    ),
    "noise that is asked for again and again": (
        task_of(
            {"kind": "statistics", "bins": 2, "crosstabs": [["sex", "drug"]]},
            SEX,
            DRUG,
            privacy=noised(1.0),
        ),
        None,
    ),
}


@pytest.fixture(scope="module")
def ruled(victim: Victim) -> Attack:
    return victim(TABLE, RULES.replace("minimum_difference = 5\n", ""))


@pytest.fixture(scope="module")
def unruled(victim: Victim) -> Attack:
    return victim(TABLE, NO_RULES)


@pytest.mark.parametrize("way", WAYS)
def test_three_people_with_a_drug_are_not_counted_by_another_way(ruled: Attack, unruled: Attack, way: str) -> None:
    task, asked = WAYS[way]
    run = f"way-{list(WAYS).index(way)}"
    assert ask(unruled, run, task, asked)["kind"] == "update", "so that it is refused for the rule alone"
    refused(ruled, ask(ruled, run, task, asked), "disclosure.cell")
    words = ruled.gateway.words()
    assert "patients" not in words
    assert "minimum_cell" not in words


def test_rows_that_are_no_patients_of_the_owner_s_are_declined(ruled: Attack) -> None:
    """Without the column that says whose a record is, 30 rows of one patient would be 30."""
    task = task_of({"kind": "statistics", "bins": 2}, AGE)
    said = ruled.gateway.offer(NODE, "nobody", replace(task, schema=replace(task.schema, patient="")))
    assert (said["kind"], said.get("code")) == ("declined", "policy.patient")


def test_what_was_answered_is_remembered_by_the_next_process(attack: Attack) -> None:
    assert ask(attack, "all", task_of({"kind": "statistics", "bins": 2}, AGE))["kind"] == "update"
    attack.restart()
    refused(attack, ask(attack, "but-one", task_of(MEAN, AGE, DOSE)), "disclosure.difference")


def test_what_is_left_out_is_said_and_not_what_it_was(victim: Victim) -> None:
    lenient = victim(TABLE, RULES + 'small_cells = "leave-out"\n')
    task = task_of({"kind": "statistics", "bins": 2}, AGE, DRUG)
    assert lenient.gateway.offer(NODE, "part", task)["kind"] == "ready"
    answer: Transfer = lenient.gateway.round(NODE, "part", 1, {"weights": analysis_of(task).begin(0)})
    assert answer.header["left_out"] == 1
    assert "drug" not in lenient.gateway.words()


HOLD = OPEN + "[disclosure]\nhold = true\n"


@pytest.fixture(scope="module")
def holding(victim: Victim) -> Attack:
    return victim(TABLE, HOLD)


def held(attack: Attack) -> List[Dict[str, Any]]:
    shown: List[Dict[str, Any]] = json.loads(attack.node.command("held", "--json").stdout)["held"]
    return shown


def until_said(attack: Attack, run: str, kind: str) -> Dict[str, Any]:
    said = attack.gateway.presences
    return attack.gateway.until(
        lambda: next((p for p in said if p.get("run") == run and p["kind"] == kind), None), f"{kind} for {run}"
    )


def test_an_answer_waits_for_its_owner_and_no_other_one_leaves(holding: Attack) -> None:
    gateway, task = holding.gateway, task_of({"kind": "statistics", "bins": 2}, AGE)
    waits = gateway.offer(NODE, "held", task)
    assert (waits["kind"], waits["code"]) == ("waiting", "policy.release")
    before = len(gateway.transfers)
    gateway.send(NODE, {"kind": "round", "run": "held", "round": 1}, {"weights": analysis_of(task).begin(0)})
    (answer,) = held(holding)
    assert answer["word"] == "waits"
    assert sum(answer["values"]["4 histogram of age"]) == len(ROWS)
    assert len(gateway.transfers) == before
    # A digest of the answer is the answer, for a gateway that tries the few there can be.
    assert answer["digest"][:8] not in gateway.words()
    assert holding.node.command("release", answer["digest"][:12]).returncode == 0
    until_said(holding, "held", "ready")
    sent = gateway.round(NODE, "held", 1, {"weights": analysis_of(task).begin(0)})
    assert sent.header["kind"] == "update"
    seed = replace(task, seed=7)  # whatever makes it another declaration: its owner saw none of it
    assert gateway.offer(NODE, "other", seed)["kind"] == "waiting"


def test_an_answer_that_was_withheld_never_leaves(holding: Attack) -> None:
    task = task_of({"kind": "statistics", "bins": 2}, SEX)
    assert holding.gateway.offer(NODE, "withheld", task)["kind"] == "waiting"
    (answer,) = [each for each in held(holding) if each["run"] == "withheld"]
    holding.node.command("withhold", answer["digest"])
    assert until_said(holding, "withheld", "declined")["code"] == "policy.withheld"


def test_rounds_nobody_saw_are_declined_by_an_owner_who_holds(holding: Attack) -> None:
    task = task_of({"kind": "kmeans", "clusters": 2, "rounds": 3}, AGE, DOSE)
    said = holding.gateway.offer(NODE, "rounds", task)
    assert (said["kind"], said["code"]) == ("declined", "policy.release")

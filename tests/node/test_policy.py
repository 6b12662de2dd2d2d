from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import pytest

from orchestrator.errors import UsageError
from orchestrator.node.policy import OPEN, Policy, PolicyFile, describe, load_policy, smallest_cohort
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.task import Feature, Rounds, Schema, Selection, Task, Training

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "policy.toml"
SIGNER = "8d6f1c9b2a407e35"


def make_task(**changes: Any) -> Task:
    """A task the policy of docs/policy.toml takes."""
    schema = Schema(
        "table", "y", ("no", "yes"), {"0": 0, "1": 1}, features=(Feature("x"),), standardization="range", patient="p"
    )
    fields = {
        "name": "sepsis-2",
        "schema": schema,
        "model": {"kind": "none"},
        "training": Training(rounds=2),
        "privacy": Privacy(noise_multiplier=2.0),
        "rounds": Rounds(nodes=5, quorum=4),
        "aggregation": Aggregation("masked", honest=3),
    }
    return Task(**{**fields, **changes})


def refusal_of(policy: Policy, task: Task, signer: str = SIGNER, records: int = 1000) -> Optional[str]:
    found = policy.objection(task, signer, records)
    return None if found is None else found.code


def test_the_documented_example_takes_what_it_should_and_says_itself_in_words() -> None:
    policy, digest = load_policy(EXAMPLE)
    assert len(digest) == 64
    assert refusal_of(policy, make_task()) is None
    assert "in total: at most epsilon 8 at delta 1e-05" in describe(policy)
    assert "a person must approve: yes" in describe(policy)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"name": "stroke"}, "policy.task"),
        ({"privacy": Privacy(unit="node", noise_multiplier=2.0)}, "policy.unit"),
        ({"privacy": Privacy(unit="none")}, "policy.unit"),
        ({"privacy": Privacy(sampling_rate=0.6, noise_multiplier=2.0)}, "policy.sampling"),
        ({"aggregation": Aggregation()}, "policy.stage"),
        ({"aggregation": Aggregation("ckks", honest=3, key_holder="k")}, "policy.stage"),
        ({"aggregation": Aggregation(), "rounds": Rounds(nodes=5, quorum=2)}, "policy.stage"),
    ],
)
def test_each_rule_refuses_by_its_own_code(change: Any, code: str) -> None:
    policy, _ = load_policy(EXAMPLE)
    assert refusal_of(policy, make_task(**change)) == code


def test_signers() -> None:
    policy, _ = load_policy(EXAMPLE)
    assert refusal_of(policy, make_task(), signer="") == "policy.signer"
    assert refusal_of(policy, make_task(), signer="0" * 16) == "policy.signer"


def test_delta_must_fit_the_data() -> None:
    policy, _ = load_policy(EXAMPLE)
    assert refusal_of(policy, make_task(), records=99_999) is None
    assert refusal_of(policy, make_task(), records=100_000) == "policy.delta"


def test_the_cohort_is_what_a_round_ends_with_not_what_a_run_begins_with() -> None:
    plain = {"aggregation": Aggregation()}
    assert smallest_cohort(make_task(**plain, rounds=Rounds(nodes=50, quorum=2))) == 2
    assert smallest_cohort(make_task()) == 3  # four answer, and any three of them may be opened
    assert smallest_cohort(make_task(**plain, selection=Selection(sampling_rate=0.5))) == 1
    policy = Policy(require=replace(Policy().require, minimum_cohort=4))
    assert refusal_of(policy, make_task()) == "policy.cohort"
    assert refusal_of(policy, make_task(**plain)) is None


def test_noise_that_only_the_gateway_adds_is_refused_unless_the_owner_lets_it() -> None:
    task = make_task(privacy=Privacy(unit="node", noise="gateway", noise_multiplier=2.0), aggregation=Aggregation())
    assert refusal_of(Policy(), task) == "policy.stage"
    assert refusal_of(Policy(require=replace(Policy().require, stages=())), task) is None


def test_without_privacy_only_where_the_owner_says_so_twice() -> None:
    task = make_task(privacy=Privacy(unit="none"))
    require = Policy().require
    assert refusal_of(Policy(), task) == "policy.unit"
    assert refusal_of(Policy(require=replace(require, units=("none",))), task) == "policy.stage"
    assert refusal_of(Policy(require=replace(require, units=("none",), stages=())), task) is None
    assert refusal_of(Policy(require=replace(require, units=("none",), stages=("clip",))), task) == "policy.stage"
    assert refusal_of(OPEN, task) is None


def test_every_mistake_is_named_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(
        "[budget]\nepsilon_totl = 3\ndelta = 2\n[require]\nunits = ['hospital']\n[allow]\nsigners = ['me']\n"
        "[approval]\nrequired = 1\n"
    )
    with pytest.raises(UsageError) as caught:
        load_policy(path)
    said = str(caught.value)
    for part in (
        f"{path}:",
        "budget.epsilon_totl: unknown, did you mean 'epsilon_total'?",
        "require: units: 'hospital', expected of none, record, patient, node",
        "allow: signers: 'me', expected the 16 hex digits",
        "approval.required",
    ):
        assert part in said
    path.write_text("[budget\n")
    with pytest.raises(UsageError, match="not TOML"):
        load_policy(path)
    with pytest.raises(UsageError, match="No such file"):
        load_policy(tmp_path / "nowhere.toml")


def test_a_changed_file_counts_at_once(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text("[budget]\nepsilon_total = 3\n")
    policy = PolicyFile(path)
    assert policy.read()[0].budget.epsilon_total == 3
    path.write_text("[budget]\nepsilon_total = 2\n")
    assert policy.read()[0].budget.epsilon_total == 2
    path.write_text("[budget]\nepsilon_total = -2\n")
    with pytest.raises(UsageError, match="epsilon_total: -2"):
        policy.read()
    assert PolicyFile(None).read() == (OPEN, "")

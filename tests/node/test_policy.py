import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Optional

import pytest

from orchestrator.errors import UsageError
from orchestrator.node.policy import (
    OPEN,
    Policy,
    PolicyFile,
    Refusal,
    load_policy,
    own_noise,
    smallest_cohort,
)
from orchestrator.node.policy_words import describe
from orchestrator.wire.claims import oversized
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Evaluation, Rounds, Selection, Task
from orchestrator.wire.training import Training

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "policy.toml"
SIGNER = "8d6f1c9b2a407e35"


def make_task(**changes: Any) -> Task:
    """A task the policy of docs/policy.toml accepts."""
    schema = Schema(
        "table",
        "y",
        ("no", "yes"),
        {"0": 0, "1": 1},
        features=(Feature("x", 0, 1),),
        standardization="range",
        patient="p",
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


def objection(policy: Policy, task: Task, signer: str = SIGNER) -> Refusal:
    found = policy.objection(task, signer)
    assert found is not None
    return found


def refusal_of(policy: Policy, task: Task, signer: str = SIGNER) -> Optional[str]:
    found = policy.objection(task, signer)
    return None if found is None else found.code


def policy_of(tmp_path: Path, text: str) -> Policy:
    path = tmp_path / "owner.toml"
    path.write_text(text)
    return load_policy(path)[0]


@pytest.mark.parametrize(
    "text",
    [
        "[allow]\nsigners = []",
        "[allow]\ntasks = []",
        "[allow]\ntasks = ['']",
        "[require]\nunits = []",
        "[require]\npatient = ''",
        "[require]\nkey_holder = ''",
        "[require.peers]",
        "[require]\npeers = {}",
        "[budget]\nepsilon_task = []",
    ],
)
def test_nothing_empty_in_a_policy_means_anything_goes(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="empty"):
        policy_of(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        "[allow]\ntasks = 'sepsis-*'",
        f"[allow]\nsigners = '{SIGNER}'",
        "[require]\nunits = 'record'",
        "[require]\nstages = ''",
        "[allow.tasks]\n'*' = 1",
    ],
)
def test_a_text_is_no_list_of_its_letters(tmp_path: Path, text: str) -> None:
    """One of the letters of `sepsis-*` lets everything pass."""
    with pytest.raises(UsageError, match="is not a list|: empty"):
        policy_of(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[budget]\nepsilon_task = " + "9" * 5000, "not TOML: a number of thousands of digits"),
        ("a = " + "[" * 5000, "not TOML"),
        ("[budget]\nepsilon_total = inf", "not a finite number"),
        ("[budget]\ndelta = nan", "not a finite number"),
        ("[budget]\nepsilon_task = " + "9" * 400, "is too large"),
        ("\xff", "not TOML"),
    ],
)
def test_numbers_and_depth_of_a_policy_are_refused_in_a_sentence(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "owner.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=reason) as caught:
        load_policy(path)
    assert str(path) in str(caught.value)


def test_the_documented_example_accepts_what_it_should_and_says_itself_in_words() -> None:
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
    task = make_task()
    assert policy.oversized(99_999, task) == ""
    assert policy.oversized(100_000, task).startswith("[budget] delta 1e-05 is not below 1/units = 1/100000")
    assert Policy().oversized(100_000, task) == "", "nothing is counted at that delta"


@pytest.mark.parametrize("kind", ["noise_multiplier", "statistics_noise_multiplier", "evaluation_noise_multiplier"])
def test_delta_hides_no_release_that_shows_a_unit_that_is_drawn(kind: str) -> None:
    """A sampling rate below delta makes epsilon 0 with hardly any noise: the chance to be drawn is all that hides a record."""
    noise: Dict[str, Any] = {name: 2.0 for name in Privacy.__dataclass_fields__ if name.endswith("noise_multiplier")}
    schema = replace(make_task().schema, standardization="federated")
    parts: Dict[str, Any] = {"schema": schema, "evaluation": Evaluation(0.2)}

    def task(z: float, rate: float = 9e-6) -> Task:
        return make_task(**parts, privacy=Privacy(delta=1e-5, sampling_rate=rate, **{**noise, kind: z}))

    policy, _ = load_policy(EXAMPLE)
    assert refusal_of(policy, task(0.05)) == "policy.stage"
    assert refusal_of(policy, task(0.3)) != "policy.stage"
    sampled = kind == "noise_multiplier"  # what has every unit in it hides nothing in delta
    assert bool(oversized(task(0.3), 1001)) == sampled
    assert bool(policy.oversized(1001, task(0.3))) == sampled
    assert not oversized(task(0.3), 999)
    assert not oversized(task(0.5), 70_000)
    assert bool(oversized(task(0.3, rate=1.9e-4), 1001)) == sampled
    assert not oversized(task(0.3, rate=0.03), 70_000), "draws beyond delta are in epsilon"


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


def patient_task(column: str = "mrn", **schema: Any) -> Task:
    task = make_task(privacy=Privacy(unit="patient", noise_multiplier=2.0))
    return replace(task, schema=replace(task.schema, patient=column, **schema))


def test_patients_are_told_apart_by_the_column_the_owner_names(tmp_path: Path) -> None:
    """A gateway could name a column that differs in every row, which makes rows of patients."""
    columns = ("row", "x", "mrn", "y")
    unnamed = policy_of(tmp_path, "")
    assert refusal_of(unnamed, patient_task()) == "policy.patient"
    named = policy_of(tmp_path, "[require]\npatient = 'mrn'\n")
    assert refusal_of(named, patient_task()) is None
    assert refusal_of(named, patient_task("row")) == "policy.patient"
    assert refusal_of(named, patient_task("MRN")) == "policy.patient"
    # Of a file without a header the gateway names all columns, so "mrn" may be any of them.
    assert refusal_of(named, patient_task(columns=columns)) == "policy.patient"
    assert refusal_of(named, patient_task(columns=("mrn", "x", "row", "y"))) == "policy.patient"
    third = policy_of(tmp_path, "[require]\npatient = '#3'\n")
    assert refusal_of(third, patient_task(columns=columns)) is None
    assert refusal_of(third, patient_task("whatever", columns=("a", "x", "whatever", "y"))) is None
    assert refusal_of(third, patient_task("row", columns=columns)) == "policy.patient"
    assert refusal_of(third, patient_task()) == "policy.patient", "with a header there is a name to ask for"
    assert refusal_of(third, patient_task("#3")) == "policy.patient"
    anything = policy_of(tmp_path, "[require]\npatient = '*'\n")
    for task in (patient_task(), patient_task("row"), patient_task(columns=columns)):
        assert refusal_of(anything, task) is None
        assert refusal_of(OPEN, task) is None
    said = objection(named, patient_task("row")).reason
    assert "column 'row'" in said
    assert "'mrn'" in said


def test_a_patient_column_is_no_matter_where_records_or_nodes_are_the_unit(tmp_path: Path) -> None:
    for unit in ("record", "node"):
        task = replace(patient_task(), privacy=Privacy(unit=unit, noise_multiplier=2.0))
        assert refusal_of(policy_of(tmp_path, ""), task) is None


def shared(**aggregation: Any) -> Task:
    return make_task(
        privacy=Privacy(noise="distributed", noise_multiplier=2.0),
        aggregation=Aggregation("masked", **{"honest": 4, **aggregation}),
        rounds=Rounds(nodes=9, quorum=9),
    )


def test_the_noise_of_this_node_alone_is_bounded_whatever_the_gateway_declares(tmp_path: Path) -> None:
    assert own_noise(shared()) == pytest.approx(2.0 / math.sqrt(4))
    assert own_noise(make_task()) == 2.0
    for kind, least in (("count_noise_multiplier", 0.3), ("statistics_noise_multiplier", 0.15)):
        privacy = Privacy(noise="distributed", noise_multiplier=2.0, statistics_noise_multiplier=2.0)
        schema = replace(make_task().schema, standardization="federated")
        stated: Dict[str, Any] = {kind: 0.3}
        other = replace(shared(), schema=schema, privacy=replace(privacy, **stated))
        assert own_noise(other) == pytest.approx(least), "all that leaves the node, not its updates alone"
    assert own_noise(make_task(privacy=Privacy(unit="none"))) == 0.0
    at_gateway = make_task(
        privacy=Privacy(unit="node", noise="gateway", noise_multiplier=2.0), aggregation=Aggregation()
    )
    assert own_noise(at_gateway) == 0.0
    policy = policy_of(tmp_path, "[require]\nown_noise = 0.9\n")
    assert refusal_of(policy, make_task()) is None
    assert refusal_of(policy, shared()) is None
    assert refusal_of(policy, shared(honest=5)) == "policy.noise"
    assert refusal_of(policy, make_task(privacy=Privacy(noise_multiplier=0.8))) == "policy.noise"
    assert "multiplier 0.894, [require] own_noise is 0.9" in objection(policy, shared(honest=5)).reason
    lenient = policy_of(tmp_path, "[require]\nown_noise = 0.9\nstages = []\n")
    assert refusal_of(lenient, at_gateway) == "policy.noise"
    nothing = policy_of(tmp_path, "[require]\nown_noise = 0.9\nstages = []\nunits = ['none']\n")
    assert refusal_of(nothing, make_task(privacy=Privacy(unit="none"))) is None, (
        "no noise is declared, and none claimed"
    )


def test_shares_and_neighbours_are_the_owners_to_bound(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, "[allow]\nhonest = 4\n[require]\nneighbours = 30\n")
    assert refusal_of(policy, shared(neighbours=30)) is None
    assert refusal_of(policy, shared(neighbours=29)) == "policy.noise"
    assert refusal_of(policy, shared(neighbours=30, honest=5)) == "policy.noise"
    assert "29 neighbours" in objection(policy, shared(neighbours=29)).reason
    assert "shares of 5 nodes, [allow] honest is 4" in objection(policy, shared(neighbours=30, honest=5)).reason
    # Noise that is all this node's own has no shares; sums that are not masked have no neighbours.
    whole = make_task(aggregation=Aggregation("masked", honest=5, neighbours=30), rounds=Rounds(nodes=9, quorum=9))
    assert refusal_of(policy, whole) is None
    assert refusal_of(policy, make_task(aggregation=Aggregation())) is None
    encrypted = Aggregation("ckks", key_holder="k", honest=4, neighbours=12)
    assert refusal_of(policy, make_task(aggregation=encrypted)) is None
    assert refusal_of(Policy(), shared(honest=9, neighbours=12)) is None, "no demand without the owner's word"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[require]\nown_noise = -1\n", "own_noise"),
        ("[require]\nown_noise = nan\n", "own_noise"),
        ("[require]\nown_noise = inf\n", "own_noise"),
        ("[require]\nneighbours = -1\n", "neighbours"),
        ("[require]\npeers = {icu = 'abc'}\n", "icu: 'abc', expected the 64 hex digits"),
        (f"[require]\nkey_holder = '{'A' * 64}'\n", "key_holder"),
        ("[allow]\nhonest = -1\n", "honest"),
        ("[allow]\nschemas_a_day = 0\n", "schemas_a_day"),
        ("[allow]\nschemas_a_day = 100001\n", "schemas_a_day"),
        ("[disclosure]\nminimum_cell = -1\n", "minimum_cell"),
        ("[disclosure]\nquestions = -1\n", "questions"),
        ("[disclosure]\nparameters = nan\n", "parameters"),
        ("[disclosure]\ndominance = 1.5\n", "dominance"),
        ("[disclosure]\np_percent = -1\n", "p_percent"),
        ("[disclosure]\nsmall_cells = 'hide'\n", "small_cells: 'hide', expected 'refuse' or 'leave-out'"),
    ],
)
def test_a_bound_that_is_none_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        policy_of(tmp_path, text)


def test_every_rule_is_said_in_words(tmp_path: Path) -> None:
    policy = policy_of(
        tmp_path,
        "[require]\npatient = 'mrn'\nneighbours = 12\nown_noise = 0.5\nsteady = false\n"
        f"peers = {{icu = '{'a' * 64}'}}\n[allow]\nhonest = 4\nschemas_a_day = 3\n",
    )
    said = describe(policy)
    for line in (
        "patients: by column 'mrn'",
        "other parties: icu",
        "noise of this node alone: multiplier 0.5 at least",
        "noise shared among: at most 4 nodes",
        "neighbours in secure sums: at least 12",
        "sums without noise: over changing nodes too",
        "data are opened for at most 3 different declarations a day",
    ):
        assert line in said
    assert "patients: no column named, so no task about patients" in describe(Policy())
    assert "patients: by the column a task names" in describe(OPEN)
    assert "sums without noise: over the same nodes throughout a run" in describe(Policy())


def test_what_a_node_cannot_check_under_ckks_it_does_not_promise(tmp_path: Path) -> None:
    """It does not see over which nodes a sum is: those of two rounds may differ in one node alone."""
    ckks = Aggregation("ckks", key_holder="keys")
    open_sums = make_task(privacy=Privacy(unit="none"), aggregation=ckks)
    rules = "[require]\nunits = ['none', 'record']\nstages = ['ckks']\n"
    refusal = policy_of(tmp_path, rules).objection(open_sums, "")
    assert refusal is not None
    assert refusal.code == "policy.noise"
    assert policy_of(tmp_path, rules + "steady = false\n").objection(open_sums, "") is None
    noised = make_task(privacy=Privacy(noise_multiplier=2.0), aggregation=ckks)
    assert policy_of(tmp_path, rules).objection(noised, "") is None


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
        "require.units: 'hospital', expected of none, record, patient, node",
        "allow.signers: 'me', expected the 16 hex digits",
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


def test_rules_on_disclosure_are_said_in_words_and_a_file_without_them_has_none(tmp_path: Path) -> None:
    assert "analyses without noise: no rule on what they may tell of few patients" in describe(policy_of(tmp_path, ""))
    said = describe(policy_of(tmp_path, EXAMPLE.read_text()))
    for line in (
        "patients in a cell: at least 5",
        "patients in a sum of a model: at least 5",
        "small cells: refused",
        "parameters of a model: at most 0.33 for each patient",
        "tasks of the same patients: at most 30",
    ):
        assert f"analyses without noise: {line}" in said


def test_an_owner_who_counts_patients_has_them_named_and_one_who_holds_answers_has_one_round(tmp_path: Path) -> None:
    open_to_all = "[require]\nunits = ['none']\nstages = []\npatient = 'p'\n"
    schema = Schema("table", "", (), {}, features=(Feature("x", 0, 1),), patient="p")
    exact = {"schema": schema, "model": {}, "privacy": Privacy("none"), "aggregation": Aggregation()}
    once = make_task(**exact, training=Training(rounds=1), analysis={"kind": "statistics"})
    nameless = replace(once, schema=replace(schema, patient=""))
    twice = make_task(**exact, training=Training(rounds=2), analysis={"kind": "kmeans"})
    counting = policy_of(tmp_path, f"{open_to_all}[disclosure]\nminimum_cell = 5\n")
    assert [refusal_of(counting, task) for task in (once, twice, nameless)] == [None, None, "policy.patient"]
    assert refusal_of(policy_of(tmp_path, open_to_all), nameless) is None
    holding = policy_of(tmp_path, f"{open_to_all}[disclosure]\nhold = true\n")
    assert [refusal_of(holding, task) for task in (once, twice)] == [None, "policy.release"]

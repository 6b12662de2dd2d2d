"""What cannot work is refused with numbers, before the first round; what can, is not."""

import re
from dataclasses import replace
from typing import Any, Dict

import pytest

from orchestrator.errors import PrivacyError
from orchestrator.privacy.accounting import plan_noise
from orchestrator.privacy.accounting_process import plan_apart
from orchestrator.privacy.planning import (
    COSTLY,
    IMPOSSIBLE,
    Fleet,
    check_delta,
    delta_for,
    enough_units,
    noise_to_signal,
    outlook,
    plan,
    refuse_impossible,
    units_a_step,
)
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Selection, Task
from orchestrator.wire.training import Training

pytest.importorskip("dp_accounting")

HEART = Fleet(4, 486, 14)
HOSPITALS = Fleet(4, 4, 14)


def make_task(privacy: Privacy, nodes: int = 4, rounds: int = 30, parameters: int = 14, **parts: Any) -> Task:
    schema = Schema("table", "y", ("a", "b"), {"0": 0}, (Feature("x", 0, 1),), standardization="range")
    training = Training("fedsgd", rounds, parameters=parameters)
    rules = parts.pop("rules", Rounds(nodes=nodes, quorum=min(3, nodes)))
    return Task("t", schema, {"kind": "mlp"}, training, privacy, rules, **parts)


def test_the_ratio_is_the_formula() -> None:
    """r = z sqrt(P T) / (m T), and sqrt(nodes) more where each node adds all of the noise."""
    local = make_task(Privacy(noise_multiplier=3.68))
    expected = 3.68 * (14 * 30) ** 0.5 / (486 * 0.25 * 30)
    assert noise_to_signal(local, HEART) == pytest.approx(2 * expected)
    four, rules = Aggregation("masked", honest=4), Rounds(nodes=4, quorum=4)
    shared = make_task(Privacy(noise_multiplier=3.68, noise="distributed"), aggregation=four, rules=rules)
    assert noise_to_signal(shared, HEART) == pytest.approx(expected)
    spare = make_task(Privacy(noise_multiplier=3.68, noise="distributed"), aggregation=Aggregation("masked", honest=3))
    assert noise_to_signal(spare, HEART) == pytest.approx(expected * (4 / 3) ** 0.5), "the fourth node's share is extra"
    gateway = make_task(Privacy("node", noise="gateway", noise_multiplier=3.68))
    assert noise_to_signal(gateway, HOSPITALS) == pytest.approx(3.68 * (14 * 30) ** 0.5 / (4 * 30))


def test_correlated_noise_helps_cohorts_that_take_turns() -> None:
    """Planned for the same budget: fewer turns are charged, and most of the noise is taken back."""
    fleet, cohort = Fleet(1000, 1000, 5000), Selection(cohort=100)
    independent, correlated = (
        outlook(make_task(Privacy("node", 3.0, 1e-4, noise="gateway", bands=bands), 1000, selection=cohort), fleet)
        for bands in (1, 10)
    )
    assert independent.noise_to_signal is not None
    assert correlated.noise_to_signal is not None
    assert correlated.noise_to_signal < 0.25 * independent.noise_to_signal
    assert (independent.verdict, correlated.verdict) == ("impossible", "costly")
    assert correlated.enough is not None
    assert correlated.enough_delta * 10 * correlated.enough < 1, "there are ten cohorts"


@pytest.mark.parametrize("epsilon", [1.0, 3.0, 8.0])
def test_heart_disease_by_record_is_possible_and_by_hospital_is_not(epsilon: float) -> None:
    """Measured: 486 records cost less than a point of accuracy at epsilon 1; four hospitals lose 17 points of AUC at 8."""
    record = outlook(make_task(Privacy(epsilon=epsilon, delta=1.1e-3)), HEART)
    assert record.verdict == "possible"
    hospital = outlook(make_task(Privacy("node", epsilon, 0.01, noise="gateway")), HOSPITALS)
    assert hospital.verdict == "impossible"
    assert hospital.noise_to_signal is not None
    assert hospital.noise_to_signal > IMPOSSIBLE
    assert hospital.enough is not None
    assert hospital.enough > 4


def test_the_fleet_that_would_do_is_the_smallest_one() -> None:
    task = make_task(Privacy("node", 8.0, 0.01, noise="gateway", noise_multiplier=2.239))
    enough, delta = enough_units(task, HOSPITALS)
    assert enough is not None
    assert delta == 0.01
    assert noise_to_signal(task, Fleet(enough, enough, 14)) <= COSTLY
    assert noise_to_signal(task, Fleet(enough - 1, enough - 1, 14)) > COSTLY


def test_a_fleet_so_large_that_delta_must_shrink_is_planned_anew() -> None:
    task = make_task(Privacy("node", 8.0, 0.01, noise="node", noise_multiplier=2.239))
    enough, delta = enough_units(task, HOSPITALS)
    assert enough is not None
    assert delta * enough < 1
    assert delta < 0.01
    # Every node adds all of the noise: the mean gets better with the root of the fleet only.
    again = outlook(make_task(Privacy("node", 8.0, delta, noise="node"), nodes=4), Fleet(enough, enough, 14))
    assert again.verdict == "possible"


def test_plans_come_for_1_3_8_and_the_own_budget() -> None:
    plans = plan(make_task(Privacy(epsilon=2.0, delta=1.1e-3, sampling_rate=1.0)), HEART)
    assert [each.epsilon for each in plans] == [1.0, 2.0, 3.0, 8.0]
    assert sorted((each.noise_multiplier for each in plans), reverse=True) == [p.noise_multiplier for p in plans]


def test_delta_below_one_unit() -> None:
    check_delta(make_task(Privacy(delta=1e-3)), 999)
    with pytest.raises(PrivacyError, match=r"delta 0.001 is not below 1/1000.*at most 0.0005"):
        check_delta(make_task(Privacy(delta=1e-3)), 1000)
    assert delta_for(1000) == 0.0005
    assert delta_for(486) == 0.0011
    refused = outlook(make_task(Privacy("node", 8.0, 0.3, noise="gateway")), HOSPITALS)
    assert refused.verdict == "impossible"
    assert "not below 1/4" in refused.reason
    assert refused.to_dict()["noise_to_signal"] is None


def test_units_a_step_are_expected_ones() -> None:
    gateway = Privacy("node", noise="gateway", noise_multiplier=1.0)
    fleet = Fleet(1000, 1000, 10)
    assert units_a_step(make_task(gateway, selection=Selection(sampling_rate=0.1)), fleet) == pytest.approx(100)
    assert units_a_step(make_task(gateway, selection=Selection(cohort=50)), fleet) == 50
    assert units_a_step(make_task(Privacy()), HEART) == pytest.approx(121.5)
    assert units_a_step(make_task(Privacy(), selection=Selection(cohort=3)), HEART) == pytest.approx(121.5 * 3 / 4)


def test_four_hospitals_are_refused_before_the_first_round_with_the_numbers() -> None:
    asked = make_task(Privacy("node", 8.0, 0.01, noise="gateway"))
    with pytest.raises(PrivacyError, match=r"unit 'node' with 4 nodes cannot work: epsilon 8 at delta 0.01") as raised:
        plan_apart(asked)
    message = str(raised.value)
    assert re.search(r"multiplier of 2\.2", message)
    assert "Above 0.3" in message
    assert "16 nodes a round" in message
    planned = plan_noise(asked)
    refuse_impossible(planned, 16)
    with pytest.raises(PrivacyError, match="not below 1/200"):
        refuse_impossible(planned, 200)


def test_other_units_are_never_refused_for_their_fleet() -> None:
    refuse_impossible(make_task(Privacy(noise_multiplier=100.0)), 1)


def test_parameters_that_are_not_known_refuse_only_what_is_certain() -> None:
    certain = make_task(Privacy("node", 8.0, 0.01, noise="gateway", noise_multiplier=50.0), parameters=0)
    with pytest.raises(PrivacyError, match="cannot work"):
        refuse_impossible(certain, 4)
    unknown = replace(certain, privacy=replace(certain.privacy, noise_multiplier=2.239))
    refuse_impossible(unknown, 4)
    with pytest.raises(PrivacyError, match="cannot work"):
        refuse_impossible(replace(unknown, training=replace(unknown.training, parameters=14)), 4)


def test_counting_the_clipped_takes_a_cohort() -> None:
    asked = make_task(Privacy("node", 8.0, 0.01, noise="gateway", clip_quantile=0.5), nodes=12)
    with pytest.raises(PrivacyError, match="counting who was clipped would spend the whole budget"):
        refuse_impossible(plan_noise(asked), 12)


def test_shared_noise_needs_as_many_nodes_as_a_sum() -> None:
    privacy = Privacy(noise="distributed", delta=1.1e-3, sampling_rate=1.0)
    task = make_task(privacy, aggregation=Aggregation("masked", honest=3, colluding=2), rules=Rounds(nodes=5, quorum=5))
    found = outlook(task, Fleet(4, 486, 14))
    assert found.verdict == "impossible"
    assert "fewer than 5 nodes" in found.reason
    assert outlook(task, Fleet(5, 486, 14)).verdict == "possible"


@pytest.mark.parametrize("stated", ["noise_multiplier", "count_noise_multiplier"])
def test_noise_a_task_states_is_no_plan_where_it_spends_more_than_the_budget(stated: str) -> None:
    """It says of it what the gateway would."""
    noise: Dict[str, Any] = {"noise_multiplier": 3.0, "count_noise_multiplier": 9.0, stated: 0.3}
    low = make_task(Privacy(epsilon=8.0, delta=1e-3, **noise))
    found = plan(low, HEART)
    own = next(each for each in found if each.epsilon == 8.0)
    assert own.verdict == "impossible"
    assert re.search("noise the task states spends epsilon", own.reason)
    with pytest.raises(PrivacyError, match="noise the task states spends epsilon"):
        plan_apart(low)
    assert next(each for each in found if each.epsilon == 3.0).reason == "", "planned, whatever the task states"


def test_a_sample_of_next_to_nobody_is_planned_for() -> None:
    assert plan_noise(make_task(Privacy(delta=1e-3, sampling_rate=1e-300))).privacy.noise_multiplier > 0

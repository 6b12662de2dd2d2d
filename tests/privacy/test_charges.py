"""Charges for every unit and noise placement; their composition against three independent computations."""

import math
from dataclasses import replace
from typing import Any, Dict, List, Tuple

import pytest

from orchestrator.errors import PrivacyError
from orchestrator.privacy.charges import Charge, charges_of, epsilon_of, merged
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Evaluation, Rounds, Selection, Task
from orchestrator.wire.training import Training

pytest.importorskip("dp_accounting")


def make_task(privacy: Privacy, rounds: int = 30, local_steps: int = 1, statistics: bool = False, **parts: Any) -> Task:
    schema = Schema(
        "table",
        "y",
        ("a", "b"),
        {"0": 0},
        (Feature("x", 0, 1),),
        standardization="federated" if statistics else "range",
        patient="p",
    )
    training = Training("fedavg", rounds, local_steps)
    return Task(
        "t", schema, {"kind": "mlp"}, training, privacy, parts.pop("rules", Rounds(nodes=50, quorum=3)), **parts
    )


NOISED: Dict[str, Any] = {
    "noise_multiplier": 2.0,
    "statistics_noise_multiplier": 5.0,
    "evaluation_noise_multiplier": 7.0,
}


def test_without_privacy_nothing_is_charged() -> None:
    assert charges_of(make_task(Privacy("none"))) == ()


@pytest.mark.parametrize("unit", ["record", "patient"])
def test_every_step_release_and_evaluation_of_all_runs_is_charged(unit: str) -> None:
    task = make_task(Privacy(unit, **NOISED), 6, local_steps=4, statistics=True, evaluation=Evaluation(0.2, every=2))
    assert task.evaluations == 3
    assert charges_of(task, run=2) == (
        Charge("training", 2.0, 0.25, 48),
        Charge("count", 10.0, 1.0, 2),
        Charge("statistics", 5.0, 1.0, 2),
        Charge("evaluation", 7.0, 1.0, 6, "held-out"),
    )


def test_shares_of_noise_are_charged_like_all_of_it() -> None:
    whole = make_task(Privacy(**NOISED))
    shared = make_task(Privacy(noise="distributed", **NOISED), aggregation=Aggregation("masked"))
    assert charges_of(whole) == charges_of(shared)


def test_a_node_is_on_both_sides_of_its_own_split() -> None:
    task = make_task(Privacy("node", **NOISED), evaluation=Evaluation(0.2))
    assert {charge.group for charge in charges_of(task)} == {"trained"}


def test_a_node_is_amplified_only_where_the_gateway_samples_in_secret_and_adds_the_noise() -> None:
    sampled = Selection(sampling_rate=0.1)
    at_gateway, at_node = Privacy("node", noise="gateway", **NOISED), Privacy("node", **NOISED)
    assert charges_of(make_task(at_gateway, selection=sampled)) == (Charge("training", 2.0, 0.1, 30),)
    assert charges_of(make_task(at_node, selection=sampled)) == (Charge("training", 2.0, 1.0, 30),)
    assert charges_of(make_task(at_gateway, selection=Selection(cohort=5))) == (Charge("training", 2.0, 1.0, 30),)
    assert charges_of(make_task(at_gateway)) == (Charge("training", 2.0, 1.0, 30),)


def test_correlated_noise_is_one_mechanism_a_run() -> None:
    """30 rounds, 10 bands: at most 3 turns, columns that do not overlap; the last column is whole as well."""
    privacy = Privacy("node", noise="gateway", bands=10, **NOISED)
    (charge,) = charges_of(make_task(privacy, selection=Selection(cohort=5)), run=2)
    coefficients = [math.comb(2 * j, j) / 4**j for j in range(10)]
    exact = 2.0 / math.sqrt(3 * sum(c * c for c in coefficients))
    assert charge.noise_multiplier == pytest.approx(exact, rel=1e-2)  # coefficients are rounded to 1/256
    assert (charge.count, charge.sampling_rate) == (2, 1.0)


def test_what_cannot_be_stated_is_refused() -> None:
    cohort = Selection(cohort=5)
    together = make_task(Privacy("node", noise="gateway", bands=4, clip_quantile=0.5, **NOISED), selection=cohort)
    with pytest.raises(PrivacyError, match="bands together with clip_quantile"):
        charges_of(together)
    skellam = make_task(Privacy("node", noise="gateway", bands=4, mechanism="skellam", **NOISED), selection=cohort)
    with pytest.raises(PrivacyError, match="'skellam' is not supported"):
        charges_of(skellam)


def test_a_charge_survives_json_and_refuses_nonsense() -> None:
    charge = Charge("training", 1.5, 0.25, 30)
    assert Charge.from_dict(charge.to_dict()) == charge
    for wrong in ({"kind": "other"}, {"group": "x"}, {"noise_multiplier": -1.0}, {"sampling_rate": 0.0}, {"count": -1}):
        with pytest.raises(ValueError, match="expected|must be"):
            Charge.from_dict({**charge.to_dict(), **wrong})
    with pytest.raises(ValueError, match="not a charge"):
        Charge.from_dict({"kind": "training", "noise_multiplier": 1.0, "more": 1})


def test_groups_do_not_add_up_and_no_noise_is_no_privacy() -> None:
    trained, held_out = Charge("training", 3.0, count=10), Charge("evaluation", 4.0, count=5, group="held-out")
    apart = [epsilon_of([charge], 1e-5) for charge in (trained, held_out)]
    assert epsilon_of([trained, held_out], 1e-5) == max(apart)
    assert epsilon_of([trained, replace(held_out, group="trained")], 1e-5) > max(apart) * 1.1
    assert epsilon_of([trained, Charge("evaluation", 0.0, group="held-out")], 1e-5) == math.inf
    assert epsilon_of([Charge("training", 0.0, count=0)], 1e-5) == 0.0


def test_merging_changes_nothing() -> None:
    many = [Charge("training", 2.0, 0.25, 10), Charge("statistics", 4.0), Charge("training", 2.0, 0.25, 20)]
    few = merged([*many, Charge("evaluation", 3.0, count=4)])
    assert sorted((c.sampling_rate, c.count) for c in few) == [(0.25, 30), (1.0, 1)]
    whole = next(c for c in few if c.sampling_rate == 1)
    assert whole.noise_multiplier == pytest.approx(1 / math.sqrt(1 / 16 + 4 / 9))


# epsilon of PRVAccountant, opacus 1.6.0 (Gopi, Lee, Wutschitz 2021), eps_error 0.002: its upper bound, at most 0.004 above the
# true value. Computed apart from this repository; nothing of it is shared with dp-accounting's accountant.
PRV: List[Tuple[List[Tuple[float, float, int]], float, float]] = [
    ([(3.68, 0.25, 30)], 1.1e-3, 1.0025),  # heart disease, one noise on the sum of four hospitals: epsilon 1, 3, 8
    ([(1.64, 0.25, 30)], 1.1e-3, 3.0170),
    ([(0.90, 0.25, 30)], 1.1e-3, 8.0754),
    ([(1.0, 0.25, 30)], 1e-3, 6.7664),
    ([(2.0, 0.1, 50)], 1e-5, 1.6546),
    ([(1.0, 0.01, 1000)], 1e-5, 1.8304),
    ([(4.0, 1.0, 100)], 1e-6, 14.4533),
    ([(1.64, 0.25, 30), (4.1, 1.0, 1)], 1.1e-3, 3.1230),  # with one release of statistics
    ([(0.8, 0.05, 400), (5.0, 1.0, 20)], 1e-5, 11.7371),  # with twenty more
]


@pytest.mark.parametrize(("mechanisms", "delta", "prv"), PRV)
def test_epsilon_agrees_with_another_accountant(
    mechanisms: List[Tuple[float, float, int]], delta: float, prv: float
) -> None:
    assert epsilon_of([Charge("training", *m) for m in mechanisms], delta) == pytest.approx(prv, rel=0.01)


@pytest.mark.parametrize("case", [0, 6, 8])
def test_epsilon_equals_dp_accounting_on_the_composed_event(case: int) -> None:
    """One event tree handed over whole; ours merges what it can and composes one by one."""
    from dp_accounting import dp_event, pld

    mechanisms, delta, _ = PRV[case]
    events = []
    for noise, rate, count in mechanisms:
        sampled = dp_event.PoissonSampledDpEvent(rate, dp_event.GaussianDpEvent(noise))
        events.append(dp_event.SelfComposedDpEvent(sampled, count))
    accountant = pld.PLDAccountant(value_discretization_interval=1e-3)
    accountant.compose(dp_event.ComposedDpEvent(events))
    ours = epsilon_of([Charge("training", *m) for m in mechanisms], delta, 1e-3)
    assert ours == pytest.approx(accountant.get_epsilon(delta), rel=5e-3)


def test_noise_too_small_to_account_for_is_bounded_from_above() -> None:
    def spent(noise: float, rate: float = 0.25) -> float:
        return epsilon_of([Charge("training", noise, rate, 20)], 1e-5)

    assert spent(1e-300) == spent(5e-324) == math.inf
    assert spent(0.03) > spent(0.09) > spent(0.1, 1.0) > 1000 / 0.1 / 10
    assert epsilon_of([Charge("training", 3.0, 0.25, 20), Charge("statistics", 1e-9, 1.0, 1)], 1e-5) > 1e17

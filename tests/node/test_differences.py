"""Sums without noise that differ in one node: a gateway that would subtract them finds the nodes refusing the second one.

Also that a vector kept from one attempt is not sent in another that begins with another model.
"""

from dataclasses import replace
from pathlib import Path
from typing import AbstractSet, Any, Dict, Sequence

import numpy as np
import pytest
from masked_federation import DISTRIBUTED, NODES, OPEN, RECORDS, SIZE, Federation, make_task, mean_of, value_of

from orchestrator.errors import PrivacyError
from orchestrator.node.secure import MaskedRound
from orchestrator.node.store import NodeStore
from orchestrator.rounds.steps import CONFIRM, MASKED, SHARES, UNMASK
from orchestrator.wire.protection import Privacy

REST = NODES[:4]


def opened(federation: Federation, number: int, names: Sequence[str], attempt: int = 1) -> np.ndarray:
    """The sum of a round over these nodes, from keys to opening."""
    federation.number, federation.attempt, federation.names = number, attempt, tuple(names)
    federation.until(UNMASK)
    federation.step(UNMASK)
    return federation.open()


def restart(federation: Federation, name: str) -> None:
    federation.stores[name].close()
    federation.stores[name] = NodeStore(federation.folder / f"{name}.sqlite")
    federation.runs.pop(name, None)


def victim_of(five: np.ndarray, four: np.ndarray) -> np.ndarray:
    """What a gateway makes of two weighted means that differ in `e`."""
    total = sum(RECORDS.values())
    return np.asarray((five * total - four * (total - RECORDS["e"])) / RECORDS["e"])


class Unguarded(MaskedRound):
    """A node that helps with every sum, and sends what it computed whatever the model."""

    def check_sum(self, nodes: AbstractSet[str]) -> None:
        pass

    def check_model(self, digest: str) -> None:
        pass


def test_the_difference_of_two_sums_would_be_a_nodes_update(tmp_path: Path) -> None:
    federation = Federation(tmp_path, kind=Unguarded)
    five, four = opened(federation, 1, NODES), opened(federation, 2, REST)
    np.testing.assert_allclose(victim_of(five, four), value_of("e"), atol=0.05)


@pytest.mark.parametrize("how", ["next round", "after a restart", "another run"])
@pytest.mark.parametrize("second", [REST, (*REST[:3], "e")])
def test_no_second_sum_of_one_model_over_other_nodes(tmp_path: Path, how: str, second: Sequence[str]) -> None:
    federation = Federation(tmp_path)
    opened(federation, 1, NODES)
    if how == "another run":
        federation.run, federation.runs = "another", {}
    if how == "after a restart":
        for name in NODES:
            restart(federation, name)
    federation.number, federation.names = 2, tuple(second)
    federation.until(SHARES)
    computed = list(federation.computed)
    for name in second:
        with pytest.raises(PrivacyError, match="helped to open a sum of the same model over other nodes"):
            federation.step(SHARES, [name])
    assert federation.computed == computed, "refused before anything was computed or given"


def test_statistics_are_the_same_in_every_run(tmp_path: Path) -> None:
    federation = Federation(tmp_path)
    federation.number = 0
    federation.until(UNMASK)
    federation.step(UNMASK)
    federation.run, federation.runs, federation.names, federation.attempt = "another", {}, REST, 2
    federation.until(SHARES)
    with pytest.raises(PrivacyError, match="a sum of the same statistics over other nodes"):
        federation.step(SHARES, ["a"])
    federation.number = 1
    federation.until(UNMASK)  # of a model nothing was opened yet


def test_the_same_nodes_may_sum_the_same_model_again(tmp_path: Path) -> None:
    federation = Federation(tmp_path)
    first = opened(federation, 1, NODES)
    np.testing.assert_allclose(opened(federation, 2, NODES), first, atol=5e-3)
    federation.model["weights"] = np.ones(SIZE, np.float32)
    federation.number, federation.names = 3, REST
    federation.until(UNMASK)  # of another model over others: allowed where not steady, and said so in the docs


@pytest.mark.parametrize("how", ["another type", "another sign of zero", "another shape"])
def test_the_same_numbers_are_the_same_model(tmp_path: Path, how: str) -> None:
    federation = Federation(tmp_path)
    opened(federation, 1, NODES)
    weights = federation.model["weights"]
    changed = {
        "another type": weights.astype(np.float64),
        "another sign of zero": -weights,
        "another shape": weights[None],
    }
    federation.model["weights"] = changed[how]
    federation.number, federation.names = 2, REST
    federation.until(SHARES)
    with pytest.raises(PrivacyError, match="a sum of the same model over other nodes"):
        federation.step(SHARES, ["a"])


def test_what_a_node_replaces_by_its_own_part_makes_no_other_model(tmp_path: Path) -> None:
    task = make_task()
    federation = Federation(
        tmp_path, replace(task, training=replace(task.training, personal="head", personal_parameters=2))
    )
    federation.begin()
    first = federation.rounds["a"].model_digest()
    federation.model["weights"] = np.concatenate([federation.model["weights"][:-2], [3, 4]]).astype(np.float32)
    assert federation.round_of("a").model_digest() == first
    federation.model["weights"][0] = 1
    assert federation.round_of("a").model_digest() != first


def test_a_trace_of_noise_is_none(tmp_path: Path) -> None:
    """Or a gateway would declare privacy with a noise multiplier of a millionth, and subtract."""
    federation = Federation(tmp_path, make_task(Privacy(noise="distributed", noise_multiplier=1e-3)))
    federation.until(UNMASK)
    federation.step(UNMASK)
    federation.number, federation.names = 2, REST
    federation.until(SHARES)
    with pytest.raises(PrivacyError, match="a sum of the same model over other nodes"):
        federation.step(SHARES, ["a"])


def test_sums_with_noise_are_not_restricted(tmp_path: Path) -> None:
    federation = Federation(tmp_path, make_task(DISTRIBUTED))
    for number, names in ((1, NODES), (2, REST)):
        federation.number, federation.names = number, tuple(names)
        federation.until(UNMASK)
        federation.step(UNMASK)


@pytest.mark.parametrize("step", [SHARES, MASKED, CONFIRM])
def test_a_steady_run_is_over_the_same_nodes_or_none(tmp_path: Path, step: str) -> None:
    """Also of another model: who left between two rounds would show in their difference. Whenever `e` leaves, all refuse."""
    federation = Federation(tmp_path)
    federation.steady = NODES
    opened(federation, 1, NODES)
    federation.model["weights"] = np.ones(SIZE, np.float32)
    federation.number, federation.names = 2, REST if step == SHARES else NODES
    federation.until(step if step != MASKED else SHARES)
    if step == MASKED:
        federation.step(SHARES, REST)
    if step == CONFIRM:  # all masked with e, and then it is said to have dropped out
        lie = lambda _, message: {"step": CONFIRM, "survivors": list(REST)}  # noqa: E731
        with pytest.raises(PrivacyError, match="a sum of this run over other nodes"):
            federation.step(CONFIRM, ["a"], lie)
        return
    computed = list(federation.computed)
    for name in REST:
        with pytest.raises(PrivacyError, match="a sum of this run over other nodes"):
            federation.step(step, [name])
    assert federation.computed == computed


def test_a_steady_run_goes_on_over_the_same_nodes_and_another_run_may_be_over_others(tmp_path: Path) -> None:
    federation = Federation(tmp_path)
    federation.steady = NODES
    for number in (1, 2):
        federation.model["weights"] = np.full(SIZE, number, np.float32)
        federation.number = number
        federation.until(UNMASK)
        federation.step(UNMASK)
    federation.run, federation.runs, federation.number, federation.names = "another", {}, 3, REST
    federation.model["weights"] = np.full(SIZE, 7, np.float32)
    federation.until(UNMASK)
    federation.step(UNMASK)


def test_a_sum_is_noted_before_it_is_helped_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    federation = Federation(tmp_path)
    federation.until(UNMASK)
    noted = []
    note = NodeStore.note_opened

    def recorded(self: NodeStore, *arguments: Any) -> None:
        noted.append(arguments)
        note(self, *arguments)

    monkeypatch.setattr(NodeStore, "note_opened", recorded)
    federation.step(UNMASK, ["a"])
    ((run, number, _, sums),) = noted
    assert (run, number) == ("run", 1)
    assert list(sums.values()) == ["\n".join(NODES)]


def test_the_newest_sums_are_kept_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.node.store.MOST_SUMS", 3)
    store = NodeStore(tmp_path / "node.sqlite")
    for number in range(6):
        store.note_opened("run", number, "task", {f"model {number}": "a\nb", "run run": f"{number}"})
    assert store.sum_over("model 0") is None
    assert store.sum_over("model 5") == "a\nb"
    assert store.sum_over("run run") == "5"
    assert store.opened("run", 0)


# Another model in another attempt


def attempts(federation: Federation) -> None:
    """All but `a` compute in a first attempt, and in a second all are given the same."""
    federation.learns_nothing = NODES[1:]
    federation.until(SHARES)
    federation.step(SHARES)
    federation.step(MASKED, NODES[1:])
    federation.attempt, federation.learns_nothing = 2, ()
    federation.until(MASKED)


def test_what_others_computed_from_another_model_would_leave_one_alone(tmp_path: Path) -> None:
    federation = Federation(tmp_path, kind=Unguarded)
    attempts(federation)
    for step in (MASKED, UNMASK):
        federation.step(step)
    np.testing.assert_allclose(federation.open(), RECORDS["a"] * value_of("a") / sum(RECORDS.values()), atol=0.02)


@pytest.mark.parametrize("privacy", [OPEN, DISTRIBUTED])
def test_a_vector_of_another_model_is_not_sent_in_a_later_attempt(tmp_path: Path, privacy: Privacy) -> None:
    federation = Federation(tmp_path, make_task(privacy))
    attempts(federation)
    for name in NODES[1:]:
        with pytest.raises(PrivacyError, match="round 1 began with another model in an earlier attempt"):
            federation.step(MASKED, [name])
    assert federation.step(MASKED, ["a"])


def test_after_a_failed_attempt_the_round_goes_on_over_those_who_are_left(tmp_path: Path) -> None:
    """Nothing was opened, so nothing differs: dropouts before opening cost another attempt, as ever."""
    federation = Federation(tmp_path)
    federation.until(CONFIRM)
    np.testing.assert_allclose(opened(federation, 1, REST, attempt=2), mean_of(REST), atol=5e-3)


def test_a_dropout_in_the_step_of_the_vectors_costs_nothing(tmp_path: Path) -> None:
    federation = Federation(tmp_path)
    federation.until(MASKED)
    answers: Dict[str, Any] = {}
    for step in (MASKED, CONFIRM, UNMASK):
        answers = federation.step(step, REST)
    assert set(answers) == set(REST)
    np.testing.assert_allclose(federation.open(REST), mean_of(REST), atol=5e-3)

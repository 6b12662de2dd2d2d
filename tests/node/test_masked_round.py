"""A node in masked rounds: what it gives, that it never says two things, and what another attempt may not bring about.

What it refuses from a gateway that lies is in test_masked_lies.py.
"""

from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
from masked_federation import DISTRIBUTED, NODES, OPEN, Federation, make_task, mean_of, other_key

from orchestrator.errors import EdgewardError, PrivacyError, WireError
from orchestrator.node.store import NodeStore
from orchestrator.privacy.secure_sum import Party
from orchestrator.rounds.steps import CONFIRM, KEYS, MASKED, MASKED_STEPS, SHARES, UNMASK
from orchestrator.wire.body import encode_body
from orchestrator.wire.protection import Privacy


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return Federation(tmp_path)


def test_the_nodes_open_the_weighted_mean(federation: Federation) -> None:
    """Pitfall (5): what travels is weight times mean and the weight, both masked, rounded without bias."""
    federation.until(UNMASK)
    federation.step(UNMASK)
    np.testing.assert_allclose(federation.open(), mean_of(NODES), atol=5e-3)


def test_a_sum_all_foresaw_is_opened_without_asking_who_is_in_it(federation: Federation) -> None:
    federation.until(CONFIRM)
    assert federation.asked(UNMASK, "a")["foreseen"] is True
    federation.step(UNMASK)
    np.testing.assert_allclose(federation.open(), mean_of(NODES), atol=5e-3)


def test_a_sum_that_one_did_not_foresee_is_not_opened_so(federation: Federation) -> None:
    """Also not with a signature of another kind, or of another list, in its place."""
    federation.until(MASKED)
    federation.step(MASKED)

    def lie(name: str, message: Dict[str, Any]) -> Dict[str, Any]:
        signatures = dict(message["signatures"])
        signatures["b"] = federation.peers["b"].sign(b"edgeward survivors of something else")
        return {**message, "signatures": signatures}

    with pytest.raises(PrivacyError, match="4 parties signed this list of survivors, 5 are needed"):
        federation.step(UNMASK, ["a"], lie)


def test_those_who_were_silent_after_sharing_are_not_in_the_mean(federation: Federation) -> None:
    federation.until(MASKED)
    rest = NODES[:4]
    for step in (MASKED, CONFIRM, UNMASK):
        federation.step(step, rest)
    np.testing.assert_allclose(federation.open(rest), mean_of(rest), atol=5e-3)


@pytest.mark.parametrize("step", MASKED_STEPS)
def test_a_step_asked_twice_gets_the_same_answer_whatever_is_asked(federation: Federation, step: str) -> None:
    """Pitfall (1): a second answer to changed questions is how both shares, or two differing vectors, would be had."""
    federation.until(step)
    first = federation.step(step)["a"]
    node = federation.rounds["a"]
    other = {"survivors": ["a", "b", "c"], "signatures": {}, "shares": {}, "adverts": {}, "bits": 32, "units": 1}
    for message in (federation.asked(step, "a"), {"step": step}, {"step": step, **other}):
        again = node.answer(message)
        assert encode_body(*again) == encode_body(*first)


@pytest.mark.parametrize("step", MASKED_STEPS[1:])
def test_no_step_comes_before_the_one_before_it(federation: Federation, step: str) -> None:
    federation.until(step)
    message = federation.asked(step, "a")
    fresh = federation.round_of("a")
    with pytest.raises(EdgewardError, match="each step comes once, in order|before keys were exchanged"):
        fresh.answer(message)
    for wrong in ("decrypt", "", 7, [step], None):
        with pytest.raises(WireError, match=r"no step|field 'step'"):
            fresh.answer({"step": wrong})


# Attempts


@pytest.mark.parametrize("privacy", [OPEN, DISTRIBUTED])
def test_another_attempt_carries_the_same_vector_and_is_charged_once(
    tmp_path: Path, privacy: Privacy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two draws of noise under one charge would halve its variance to whoever averages them."""
    sent: List[np.ndarray] = []
    mask = Party.mask

    def recorded(self: Party, values: np.ndarray, *rest: Any) -> bytes:
        sent.append(values.copy())
        return mask(self, values, *rest)

    monkeypatch.setattr(Party, "mask", recorded)
    federation = Federation(tmp_path, make_task(privacy))
    federation.until(CONFIRM)
    federation.attempt = 2
    federation.until(UNMASK)
    first, second = sent[: len(NODES)], sent[len(NODES) :]
    for one, other in zip(first, second):
        # Without noise means are rounded again, by a step at most; noise is drawn once.
        assert np.abs(one - other).max() <= (0 if privacy.on else 1)
    assert federation.computed == list(NODES)
    assert federation.charged == [(name, 1) for name in NODES]
    federation.step(UNMASK)
    opened = federation.open()
    if not privacy.on:
        np.testing.assert_allclose(opened, mean_of(NODES), atol=5e-3)


def test_what_the_ledger_does_not_take_is_not_sent(federation: Federation) -> None:
    federation.until(MASKED)

    def refuse(run: str, number: int) -> None:
        raise WireError("refused: nothing reserved")

    federation.stores["a"].before_release = refuse
    with pytest.raises(WireError, match="nothing reserved"):
        federation.step(MASKED, ["a"])
    assert federation.stores["a"].released("run", 1, federation.rounds["a"].run.digest) is None


def test_keys_of_two_attempts_have_nothing_in_common(federation: Federation) -> None:
    """Pitfalls (3) and (8): masks of two sessions must not cancel, nor a drop-out's own mask serve again."""
    federation.begin(1)
    first = federation.step(KEYS)
    federation.begin(2)
    second = federation.step(KEYS)
    for name in NODES:
        for key in ("channel", "mask", "signature"):
            assert first[name][0][key] != second[name][0][key]
    lie = other_key(
        federation, "b", **{k: v for k, v in first["b"][0].items() if k in ("channel", "mask", "signature")}
    )
    with pytest.raises(PrivacyError, match="keys of b are not signed by b"):
        federation.step(SHARES, ["a"], lie)


def test_after_opening_a_node_is_in_no_other_sum_of_the_round_also_after_a_restart(federation: Federation) -> None:
    """Pitfall (2): two sums that differ in one node give that node's update."""
    federation.until(UNMASK)
    federation.step(UNMASK, ["a"])
    federation.attempt = 2
    with pytest.raises(PrivacyError, match="helped to open a sum of round 1 already"):
        federation.round_of("a")
    federation.stores["a"].close()
    federation.stores["a"] = NodeStore(federation.folder / "a.sqlite")
    with pytest.raises(PrivacyError, match="helped to open a sum of round 1 already"):
        federation.round_of("a")
    federation.round_of("b")  # it opened nothing yet
    federation.number, federation.attempt = 2, 1
    federation.round_of("a")


def test_the_opening_is_noted_before_it_is_answered(federation: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node killed right after its answer must know of it; one that cannot note it must not answer."""
    federation.until(UNMASK)

    def full(*_: Any) -> None:
        raise EdgewardError("disk full")

    monkeypatch.setattr(federation.stores["a"], "note_opened", full)
    with pytest.raises(EdgewardError, match="disk full"):
        federation.step(UNMASK, ["a"])

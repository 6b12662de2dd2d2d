"""What a node makes of a round that says how weights changed, whoever wrote it."""

from typing import Dict, Tuple

import numpy as np
import pytest

from orchestrator.errors import WireError
from orchestrator.node.held_weights import HeldWeights
from orchestrator.wire.weight_step import MODEL, SINCE, digest_of_weights, step_towards

FIRST = np.arange(100, dtype=np.float32)
STEP, SECOND, _ = step_towards(FIRST, FIRST + np.float32(0.25), np.zeros_like(FIRST))
MEAN = np.ones(3, np.float32)
WHOLE = {MODEL: digest_of_weights(FIRST)}, {"weights": FIRST, "mean": MEAN}
CHANGE = {MODEL: STEP.to, SINCE: STEP.since}, {**STEP.tensors, "mean": MEAN}


def found_by(held: HeldWeights, message: Tuple[Dict[str, str], Dict[str, np.ndarray]]) -> Dict[str, np.ndarray]:
    found = held.whole(*message)
    assert found is not None
    return found


def test_weights_follow_the_changes() -> None:
    held = HeldWeights()
    np.testing.assert_array_equal(found_by(held, WHOLE)["weights"], FIRST)
    for _ in range(2):  # a round may be announced again
        found = found_by(held, CHANGE)
        assert set(found) == {"weights", "mean"}
        np.testing.assert_array_equal(found["weights"], SECOND)


def test_weights_that_travel_whole_are_left_alone() -> None:
    tensors = {"weights": FIRST}
    assert HeldWeights().whole({"round": 3}, tensors) is tensors


def test_a_change_of_other_weights_is_not_guessed_at() -> None:
    assert HeldWeights().whole(*CHANGE) is None
    held = HeldWeights()
    held.whole(*WHOLE)
    assert held.whole({**CHANGE[0], SINCE: "00" * 32}, CHANGE[1]) is None
    assert held.whole({**CHANGE[0], MODEL: "00" * 32}, CHANGE[1]) is None, "what it leads to is something else"
    np.testing.assert_array_equal(found_by(held, CHANGE)["weights"], SECOND)


@pytest.mark.parametrize("tensors", [{}, {"weights": FIRST + 1}, {"weights": FIRST.astype(np.float64)}])
def test_whole_weights_are_those_the_message_names(tensors: Dict[str, np.ndarray]) -> None:
    with pytest.raises(WireError, match="other weights"):
        HeldWeights().whole(WHOLE[0], tensors)


def test_a_change_of_another_size_is_refused() -> None:
    held = HeldWeights()
    other = np.zeros(7, np.float32)
    held.whole({MODEL: digest_of_weights(other)}, {"weights": other})
    with pytest.raises(WireError):
        held.whole({MODEL: STEP.to, SINCE: digest_of_weights(other)}, CHANGE[1])

"""Weights as a change of those before: the same bits on both sides, and nothing lost to rounding."""

from typing import Tuple

import numpy as np
import pytest

from orchestrator.errors import WireError
from orchestrator.wire.weight_step import LEVELS, SCALES, digest_of_weights, step_towards, stepped

SIZE = 3000


def walk(steps: int, size: float, seed: int = 0) -> Tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    wanted = random.normal(0, 1, SIZE).astype(np.float32)
    held, owed = wanted.copy(), np.zeros_like(wanted)
    node = held.copy()
    for _ in range(steps):
        moved = random.normal(0, size, SIZE).astype(np.float32)
        wanted = wanted + moved
        step, held, owed = step_towards(held, held + moved, owed)
        assert step.since == digest_of_weights(node)
        node = stepped(node, step.tensors)
        assert step.to == digest_of_weights(node)
        assert node.tobytes() == held.tobytes()
    return wanted, held


def test_both_sides_hold_the_same_bits_and_rounding_does_not_add_up() -> None:
    for size in (1e-6, 1e-2, 10.0):
        few, many = (np.abs(np.subtract(*walk(steps, size))).max() for steps in (2, 200))
        level = 5 * size / 127
        assert few < level
        assert many < 3 * level + 200 * 2.0**-22 * (1 + 60 * size), "one level, and what float32 itself loses"


def test_small_changes_are_owed_until_they_count() -> None:
    held, owed = np.zeros(SIZE, np.float32), np.zeros(SIZE, np.float32)
    moved = np.full(SIZE, 1e-4, np.float32)
    moved[0] = 1.0  # of its block, most values move by less than half a level
    for _ in range(1000):
        _, held, owed = step_towards(held, held + moved, owed)
    assert held[5] == pytest.approx(0.1, rel=0.05)
    assert held[2000] == pytest.approx(0.1, rel=0.01)


@pytest.mark.parametrize("extreme", [0.0, 1e-45, 1e-38, 1e38])
def test_extremes_stay_finite_or_are_refused(extreme: float) -> None:
    before = np.zeros(SIZE, np.float32)
    wanted = np.full(SIZE, extreme, np.float32)
    _, after, owed = step_towards(before, wanted, np.zeros_like(before))
    assert np.isfinite(after).all()
    assert np.isfinite(owed).all()
    np.testing.assert_allclose(after + owed, wanted, rtol=1e-6)
    with pytest.raises(ValueError, match="float32"):
        step_towards(np.full(SIZE, -3e38, np.float32), np.full(SIZE, 3e38, np.float32), np.zeros_like(before))


@pytest.mark.slow
@pytest.mark.parametrize("wrong", ["missing", "size", "kind", "nan", "scales"])
def test_a_change_that_does_not_fit_is_refused(wrong: str) -> None:
    before = np.zeros(SIZE, np.float32)
    step, _, _ = step_towards(before, before + 1, np.zeros_like(before))
    tensors = dict(step.tensors)
    if wrong == "missing":
        del tensors[LEVELS]
    elif wrong == "size":
        tensors[LEVELS] = tensors[LEVELS][1:]
    elif wrong == "kind":
        tensors[LEVELS] = tensors[LEVELS].astype(np.int16)
    elif wrong == "nan":
        tensors[SCALES] = np.full_like(tensors[SCALES], np.nan)
    else:
        tensors[SCALES] = tensors[SCALES][:-1]
    with pytest.raises(WireError):
        stepped(before, tensors)

"""Sums that stay on their node: on a finer grid, rounded to the nearest step, within the bound that the task's grid has."""

import math
from typing import Iterator, Tuple

import numpy as np
import pytest
from declared_trainings import D, privacy, task_of

from orchestrator.privacy.lattice import make_lattice
from orchestrator.privacy.noisy_sum import NoisySum
from orchestrator.privacy.own_sum import FINER, OwnSum, own_sum, step_sum
from orchestrator.privacy.secure_random import Fractions, SecureRandom
from orchestrator.wire.training import Training


def sums() -> Iterator[Tuple[NoisySum, NoisySum]]:
    """(the sum on the task's grid, on the node's) for many sizes, clip norms and noises, with a tally and without."""
    rng = np.random.default_rng(0)
    for mechanism in ("discrete-gaussian", "skellam"):
        for size in (1, 2, 17, 258, 7075, 300_000):
            for multiplier in (1e-3, 0.3, 1.0, 20.0):
                lattice = make_lattice(float(10 ** rng.uniform(-3, 3)), size, multiplier, 1)
                for beside in (0, max(1, lattice.levels // 20)):
                    shared = NoisySum(lattice, multiplier, 1, mechanism, beside)
                    yield shared, own_sum(shared)


def test_the_noise_of_the_tasks_grid_covers_the_finer_one() -> None:
    found = 0
    for shared, own in sums():
        if own is shared:
            usual = shared.mechanism == "discrete-gaussian" and shared.lattice.size <= 7075
            assert not (usual and shared.noise_multiplier == 1.0)
            continue
        found += 1
        finer, rest = divmod(own.lattice.levels, shared.lattice.levels)
        assert rest == 0
        assert finer >= FINER
        assert own.std == finer * shared.std
        assert own.lattice.bound <= finer * shared.lattice.bound
        # Sum and tally together, each in units of its own noise: no more than on the task's grid, which charges are for.
        moved = math.hypot(own.lattice.bound / own.std, shared.beside / shared.std)
        assert moved <= shared.bound / shared.std * (1 + 1e-12)
        # What it says of itself is in its own steps, and of its tally in the steps that this is sent in.
        assert own.bound / own.std == pytest.approx(moved, rel=1e-12)
        assert not shared.beside or own.tally_deviation == shared.tally_deviation
        assert own.std * own.lattice.step == pytest.approx(shared.std * shared.lattice.step, rel=1e-12)
    assert found > 40


@pytest.mark.parametrize("size", [1, 2, 258, 7075])
def test_no_vector_is_longer_than_the_bound(size: int) -> None:
    own = own_sum(NoisySum(make_lattice(0.7, size, 1.0, 1), 1.0, 1, "discrete-gaussian"))
    assert isinstance(own, OwnSum)
    rng, lattice = np.random.default_rng(1), own.lattice
    half = (
        np.floor(lattice.levels / math.sqrt(size)) - 0.5
    ) * lattice.step  # halfway between steps, in every coordinate
    rows = [np.full(size, half), np.full(size, 1e30), *rng.standard_normal((20, size)) * 1e3]
    rows += [np.resize([half, -half], size), np.eye(1, size)[0] * 0.7, np.full(size, np.nan), np.full(size, np.inf)]
    for row in rows:
        steps = own.total([row.astype(np.float32)], Fractions(SecureRandom()))
        assert math.sqrt(float((steps.astype(object) ** 2).sum())) <= lattice.bound
        if not np.isfinite(row).all():
            assert not steps.any()
        else:
            exact = row.astype(np.float32).astype(np.float64)
            exact *= min(1.0, 0.7 * (1 - 1e-6) / np.linalg.norm(exact))
            assert np.abs(own.to_float(steps) - exact).max() <= lattice.step * (0.5 + 1e-6)


def test_one_unit_more_adds_itself_and_moves_nothing_else() -> None:
    """Whatever is beside it, in whatever order and in however many pieces."""
    own = own_sum(NoisySum(make_lattice(1.0, 258, 1.0, 1), 1.0, 1, "discrete-gaussian"))
    rng, draws = np.random.default_rng(2), Fractions(SecureRandom())
    many, one = rng.standard_normal((2000, 258)).astype(np.float32), rng.standard_normal(258).astype(np.float32)
    alone, without = own.total([one], draws), own.total([many], draws)
    assert alone.any()
    for place in (0, 700, 2000):
        joined = np.insert(many, place, one, axis=0)
        np.testing.assert_array_equal(own.total(np.array_split(joined, 7), draws) - without, alone)
    np.testing.assert_array_equal(own.total(iter(many), draws), without)


def test_where_no_grid_is_fine_enough_it_stays_as_it_is() -> None:
    wide = NoisySum(make_lattice(1.0, 258, 15_000.0, 1), 15_000.0, 1, "discrete-gaussian")
    assert own_sum(wide) is wide
    shares = NoisySum(make_lattice(1.0, 258, 1.0, 3), 1.0, 3, "discrete-gaussian")
    assert own_sum(shares) is shares


def test_shares_of_a_sum_stay_on_the_tasks_grid() -> None:
    """Others add theirs in its steps."""
    local = task_of(Training("fedsgd"), privacy(sampling_rate=1.0))
    assert isinstance(step_sum(local, 2 * D + 2), OwnSum)
    task = task_of(Training("fedsgd"), privacy(noise="distributed", sampling_rate=1.0))
    assert not isinstance(step_sum(task, 2 * D + 2), OwnSum)

"""The count of clipped units beside a step's sum: what it is, what it costs, and that the bound holds for both together."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from orchestrator.errors import WireError
from orchestrator.gateway.clipped import Tallies, check_tally, in_words, of_run
from orchestrator.node.approval import leaves
from orchestrator.privacy.accounting import epsilon_spent, plan_noise
from orchestrator.privacy.charges import charges_of
from orchestrator.privacy.clipping import default_clip_norm, gradient_length
from orchestrator.privacy.grids import grids_of
from orchestrator.privacy.lattice import party_variance
from orchestrator.privacy.noisy_sum import TALLY, training_sum
from orchestrator.privacy.secure_random import SecureRandom
from orchestrator.privacy.vector_layout import UPDATE, Layout, bits_for, parts_of
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Task
from orchestrator.wire.training import Training

SIZE = 40
FEATURES = tuple(Feature(f"x{i}", -4, 4) for i in range(51))


def make(noise: str = "node", tally: bool = True, **privacy: Any) -> Task:
    schema = Schema("table", "y", ("n", "p"), {"0": 0, "1": 1}, FEATURES, standardization="range", patient="id")
    declared = Privacy(noise=noise, clip_tally=tally, **{"noise_multiplier": 1.3, "clip_norm": 2.0, **privacy})
    secure = Aggregation("masked" if noise == "distributed" else "plain")
    training = Training("fedsgd", rounds=10, parameters=SIZE)
    return Task("t", schema, {}, training, declared, Rounds(3, 3), aggregation=secure)


@pytest.mark.parametrize("noise", ["node", "distributed"])
@pytest.mark.parametrize("multiplier", [0.3, 1.3, 40.0])
def test_sum_and_tally_together_are_one_gaussian_mechanism_of_the_declared_multiplier(
    noise: str, multiplier: float
) -> None:
    with_tally, without = (
        training_sum(make(noise, tally, noise_multiplier=multiplier), SIZE) for tally in (True, False)
    )
    rng = np.random.default_rng(0)
    vectors = with_tally.lattice.clip_norm * 0.999999 * np.eye(SIZE)
    rounded = with_tally.lattice.round(vectors, rng)
    moved = np.sqrt(
        (rounded**2).sum(axis=1) + with_tally.beside**2
    )  # a unit at the clip norm, and one more in the tally
    assert with_tally.beside >= 1
    assert moved.max() <= with_tally.bound
    spread = np.sqrt(with_tally.parties * (party_variance(with_tally.mechanism, with_tally.std)) - 1 / 12)
    assert spread >= multiplier * with_tally.bound * (1 - 1e-9)
    assert without.std <= with_tally.std <= 1.01 * without.std, "the sum's own noise grows by next to nothing"


@pytest.mark.slow
def test_the_tally_is_accounted_for() -> None:
    pytest.importorskip("dp_accounting")
    task, bare = make(), make(tally=False)
    assert charges_of(task) == charges_of(bare), "it is part of the step's release, not one more"
    assert grids_of(task)["training"].values == grids_of(bare)["training"].values + task.steps
    assert epsilon_spent(task) == pytest.approx(epsilon_spent(bare), rel=1e-3)
    assert plan_noise(make(tally=False, noise_multiplier=0.0)).privacy.clip_tally
    assert not plan_noise(make(tally=False, unit="node", noise="node", noise_multiplier=0.0)).privacy.clip_tally


def test_an_owner_who_approves_a_task_reads_of_it() -> None:
    said = "as often a noised number of records whose gradients were clipped"
    assert said in leaves(make())
    assert said not in leaves(make(tally=False))


def test_a_tally_is_its_count_with_the_noise_it_states() -> None:
    mechanism, random = training_sum(make(), SIZE), SecureRandom()
    drawn = np.array([mechanism.tally(7, random)[0] for _ in range(4000)]) / mechanism.beside
    assert drawn.std() == pytest.approx(mechanism.tally_deviation, rel=0.1)  # 9 deviations
    assert drawn.mean() == pytest.approx(7, abs=8 * mechanism.tally_deviation / 4000**0.5)
    noise = 8 * mechanism.tally_deviation * mechanism.beside
    assert mechanism.tally(1 << 30, random, limit=5)[0] < 5 + noise, "cut before the noise, as the sum is"


@pytest.mark.parametrize("local_steps", [1, 3])
def test_a_vector_in_a_secure_sum_has_room_for_it(local_steps: int) -> None:
    task = make()
    task = replace(task, aggregation=Aggregation("masked"), training=replace(task.training, strategy="fedavg"))
    task = replace(task, training=replace(task.training, local_steps=local_steps))
    parts = parts_of(task, 1, SIZE)
    assert [part.name for part in parts] == [UPDATE, TALLY]
    layout = Layout(parts, bits_for(parts, 300, 3), 3, 300, 300)
    values = {UPDATE: np.zeros(SIZE), TALLY: np.array([50 * training_sum(task, SIZE).beside])}
    total = sum(layout.encode(values, {UPDATE: 100}, np.random.default_rng(0)).astype(np.int64) for _ in range(3))
    assert layout.decode(np.asarray(total))[TALLY].values[0] == pytest.approx(150)


def test_the_gateway_says_the_share_with_its_interval_or_that_noise_hides_it() -> None:
    task = make()
    many, few = Tallies(task), Tallies(task)
    many.add(np.array([9000.0], "<f4"), 40_000)
    few.add(np.array([90.0], "<f4"), 400)
    found = many.figures(SIZE)
    assert found["share"] == pytest.approx(0.9)
    assert found["interval"][0] < 0.9 < found["interval"][1] <= 1
    assert few.figures(SIZE)["share"] is None
    run = of_run([{"clipped": few.figures(SIZE)}] * 100)
    assert run is not None
    assert run["share"] == pytest.approx(0.9), "what single rounds hide their sum shows"
    assert "90 % [" in in_words(run, 2.0)
    assert "leave clip_norm out, or raise it" in in_words(run, 2.0)
    assert "too noisy to show" in in_words(few.figures(SIZE), 2.0)
    assert of_run([{}]) is None


@pytest.mark.parametrize(
    "tally", [3.0, np.zeros(2, "<f4"), np.zeros(1, "<f8"), np.array([np.nan], "<f4"), np.array([1e30], "<f4")]
)
def test_what_no_node_can_have_counted_is_refused(tally: Any) -> None:
    with pytest.raises(WireError, match="tally of clipped units"):
        check_tally(tally, 2.0**40)


def test_a_clip_norm_that_is_not_stated_follows_inputs_classes_and_epsilon() -> None:
    task = make(tally=False, clip_norm=0.0)
    assert gradient_length(task.schema) == pytest.approx((0.5 * 52) ** 0.5)
    chosen = [
        default_clip_norm(replace(task, privacy=replace(task.privacy, epsilon=e))) for e in (0.5, 1.0, 3.0, 8.0, 20.0)
    ]
    assert chosen == [1.3, 1.3, 2.7, 5.1, 5.1]
    assert plan_noise(task).privacy.clip_norm == 5.1
    assert plan_noise(make(clip_norm=1.0)).privacy.clip_norm == 1.0, "what is stated stays"

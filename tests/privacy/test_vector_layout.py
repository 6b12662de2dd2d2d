"""Vectors of parts: means come out as numpy's, weights and noisy sums exactly, and no sum wraps around."""

import math
from dataclasses import replace
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from series import examples

from orchestrator.errors import PrivacyError
from orchestrator.privacy.noisy_sum import evaluation_counts, statistics_sum, training_sum
from orchestrator.privacy.ring import from_ring, mask_of, to_ring, word_of
from orchestrator.privacy.vector_layout import BITS, UPDATE, Layout, Part, Summed, bits_for, parts_of
from orchestrator.rounds.stages import EVALUATION, STATISTICS
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Evaluation, Rounds, Task
from orchestrator.wire.training import Training

PARAMETERS = 12


OPEN = Privacy(unit="none")


def make_task(privacy: Privacy = OPEN, share: float = 0.2, **aggregation: Any) -> Task:
    features = (Feature("a", 0, 1), Feature("b", 0, 1), Feature("c", categories=("0", "1")))
    schema = Schema("table", "y", ("no", "yes"), {"0": 0, "1": 1}, features, patient="p")
    secure = Aggregation("masked", **aggregation)
    return Task(
        "t", schema, {}, Training(rounds=3), privacy, Rounds(3, 3), evaluation=Evaluation(share), aggregation=secure
    )


def private(**changed: Any) -> Privacy:
    settings = {"noise": "distributed", "noise_multiplier": 1.5, "statistics_noise_multiplier": 2.0}
    rest = {"statistics_clip_norm": 1.0, "evaluation_noise_multiplier": 3.0}
    return Privacy(**{**settings, **rest, **changed})


def summed(vectors: List[np.ndarray], bits: int) -> np.ndarray:
    """As the ring adds them, which is where they would wrap around."""
    total = np.zeros(vectors[0].size, word_of(bits))
    for vector in vectors:
        total += to_ring(vector, bits)
    return from_ring(total & mask_of(bits), bits)


def test_the_parts_of_every_round() -> None:
    open_task, task = make_task(), make_task(private())
    names = {number: [part.name for part in parts_of(task, number, PARAMETERS)] for number in range(5)}
    assert names == {0: [STATISTICS], 1: [UPDATE], 2: [UPDATE, EVALUATION], 3: [UPDATE, EVALUATION], 4: [EVALUATION]}
    assert {n: [p.name for p in parts_of(open_task, n, PARAMETERS)] for n in range(5)} == names
    assert not any(part.noisy for n in range(5) for part in parts_of(open_task, n, PARAMETERS))
    assert all(part.noisy for n in range(5) for part in parts_of(task, n, PARAMETERS))
    at_node = make_task(private(noise="node"))
    assert [part.noisy for part in parts_of(at_node, 2, PARAMETERS)] == [False, True], "its update is noised as a float"


def test_noisy_parts_say_what_their_mechanism_is() -> None:
    task = make_task(private())
    (statistics,), (update, evaluation) = (parts_of(task, number, PARAMETERS) for number in (0, 2))
    for part, mechanism in ((statistics, statistics_sum(task)), (update, training_sum(task, PARAMETERS))):
        assert (part.size, part.unit, part.std) == (
            mechanism.lattice.size,
            mechanism.lattice.step,
            mechanism.std,
        )
        assert part.per_unit == mechanism.lattice.bound * (0.5 if part is update else 1), (
            "twice the sampling rate of 1/4"
        )
    counts = evaluation_counts(task)
    assert (evaluation.size, evaluation.unit, evaluation.per_unit, evaluation.std) == (
        counts.size,
        1 / counts.scale,
        counts.scale,
        counts.std,
    )


# Means

nodes_of = st.lists(st.integers(1, 3000), min_size=3, max_size=12)


@examples(80)
@given(nodes_of, st.sampled_from(BITS), st.floats(1e-3, 50), st.integers(0, 1 << 32))
def test_weighted_means_are_numpys_within_the_rounding_bound(
    weights: List[int], bits: int, reach: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    size, parties, total = 9, len(weights), sum(weights)
    layout = Layout([Part(UPDATE, size, False, reach=reach)], bits, parties, total, total)
    values = [rng.uniform(-1.3, 1.3, size) * reach for _ in weights]
    vectors = [layout.encode({UPDATE: v}, {UPDATE: w}, rng) for v, w in zip(values, weights)]
    result = layout.decode(summed(vectors, bits))[UPDATE]
    inside = [np.clip(v, -reach, reach) for v in values]
    expected = np.average(inside, axis=0, weights=weights)
    top = (1 << (bits - 1)) - 1 - parties
    # One step for each party; with 16 bits a little more, for there values are scaled in float32.
    bound = parties * reach / top * (1.01 if bits == 16 else 1 + 1e-6)
    assert np.abs(result.values - expected).max() <= bound
    assert result.weight == total
    assert result.cut == sum(int((np.abs(v) > reach).sum()) for v in values)


@pytest.mark.parametrize("bits", BITS)
def test_rounding_is_right_in_expectation(bits: int) -> None:
    """4,000 copies of a value between two steps: their mean lies within 6 standard errors, 1 in 5e8, of it."""
    size, parties = 4000, 3
    layout = Layout([Part(UPDATE, size, False, reach=1.0)], bits, parties, 30, 30)
    top = (1 << (bits - 1)) - 1 - parties
    rng = np.random.default_rng(bits)
    for share in (0.03, 0.5, -0.21):
        value = (7 + share) / top * 3  # a third of the weight, so 7 + share steps
        steps = layout.encode({UPDATE: np.full(size, value)}, {UPDATE: 10}, rng)[:size]
        spread = math.sqrt(abs(share) * (1 - abs(share)) / size)
        assert abs(steps.mean() - (7 + share)) < 6 * spread + 1e-3
        assert set(steps) <= {6, 7, 8}


@pytest.mark.parametrize("parties", [3, 40, 128, 129, 500])
def test_all_at_their_worst_together_do_not_wrap_around(parties: int) -> None:
    part = Part(UPDATE, 4, False, reach=0.1)
    bits = bits_for([part], 10 * parties, parties)
    layout = Layout([part], bits, parties, 10 * parties, 255 * parties)
    signs = np.array([1, 1, -1, -1])
    for sign in (signs, -signs):
        vectors = [layout.encode({UPDATE: 1e9 * sign}, {UPDATE: 255}, np.random.default_rng(i)) for i in range(parties)]
        result = layout.decode(summed(vectors, bits))[UPDATE]
        np.testing.assert_allclose(result.values, 0.1 * sign, atol=parties * 0.1 / (1 << (bits - 2)))
        assert (result.weight, result.cut) == (255 * parties, 4 * parties)


@pytest.mark.parametrize("privacy", [OPEN, private()])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_sums_over_held_out_records_have_room_though_there_may_be_more_of_them(privacy: Privacy, share: float) -> None:
    """Every record in one cell, as a model that knows nothing yet has it, and more held out than trained on."""
    task = make_task(privacy, share)
    (part,) = parts_of(task, 4, PARAMETERS)
    trained = 4000
    held_out = int(trained * share / (1 - share) * 1.5)
    bits = bits_for([part], 3 * trained, 3)
    layout = Layout([part], bits, 3, 3 * trained, 3 * trained)
    cells = np.zeros(part.size)
    cells[0] = held_out
    values: Dict[str, np.ndarray] = {EVALUATION: cells / held_out}
    if privacy.on:
        values = {EVALUATION: np.minimum(cells * round(1 / part.unit), layout.limit(part, held_out)).astype(np.int64)}
    vectors = [layout.encode(values, {EVALUATION: held_out}, np.random.default_rng(i)) for i in range(3)]
    result: Summed = layout.decode(summed(vectors, bits))[EVALUATION]
    total = result.values * (1 if privacy.on else result.weight)
    np.testing.assert_allclose(total[0], 3 * held_out, rtol=2e-2)
    assert np.abs(total[1:]).max() < 0.02 * held_out


def test_a_vector_that_is_not_of_this_layout_is_refused() -> None:
    layout = Layout([Part(UPDATE, 4, False, reach=1.0)], 16, 3, 30, 30)
    rng = np.random.default_rng(0)
    for weight in (-1, 31):
        with pytest.raises(PrivacyError, match=f"weight {weight}, all nodes together have at most 30"):
            layout.encode({UPDATE: np.zeros(4)}, {UPDATE: weight}, rng)
    with pytest.raises(PrivacyError, match=r"has the shape \(5,\), expected \(4,\)"):
        layout.encode({UPDATE: np.zeros(5)}, {UPDATE: 1}, rng)
    for bad in (np.nan, np.inf):
        with pytest.raises(PrivacyError, match="not finite"):
            layout.encode({UPDATE: np.array([0, 0, bad, 0])}, {UPDATE: 1}, rng)


def test_a_sum_no_nodes_can_have_sent_is_refused() -> None:
    """As one is from which a mask was not removed, for a party that gave a wrong share of its own."""
    layout = Layout([Part(UPDATE, 4, False, reach=1.0)], 16, 3, 30, 30)
    rng = np.random.default_rng(0)
    with pytest.raises(PrivacyError, match="is over 0 records, all nodes together have 30"):
        layout.decode(np.zeros(layout.size, np.int64))
    honest = layout.encode({UPDATE: np.ones(4)}, {UPDATE: 30}, rng)
    assert layout.decode(honest)[UPDATE].weight == 30
    for place, value in ((4, 31), (5, 1), (8, -1), (9, 13), (13, 1)):
        wrong = honest.copy()
        wrong[place] = value
        with pytest.raises(PrivacyError, match="the sum of 'update' is over"):
            layout.decode(wrong)
    for _ in range(200):
        with pytest.raises(PrivacyError):
            layout.decode(rng.integers(-(1 << 15), 1 << 15, layout.size))


# Noisy parts


@examples(60)
@given(st.integers(3, 9), st.integers(1, 400), st.sampled_from(["record", "node"]), st.integers(0, 1 << 32))
def test_sums_of_noisy_parts_are_exact(parties: int, units: int, unit: str, seed: int) -> None:
    task = make_task(private(unit=unit), share=0.0) if unit == "record" else node_task()
    parts = parts_of(task, 1, PARAMETERS)
    bits = bits_for(parts, units * parties, parties)
    layout = Layout(parts, bits, parties, units * parties, units * parties)
    rng = np.random.default_rng(seed)
    limit = layout.limit(parts[0], units)
    vectors = [rng.integers(-limit, limit, PARAMETERS) for _ in range(parties)]
    result = layout.decode(summed([layout.encode({UPDATE: v}, {}, rng) for v in vectors], bits))[UPDATE]
    np.testing.assert_array_equal(np.rint(result.values / parts[0].unit), np.sum(vectors, axis=0))
    assert (result.weight, result.cut) == (0, 0)


def node_task() -> Task:
    schema = replace(make_task().schema, standardization="range")
    return replace(make_task(share=0.0), schema=schema, privacy=private(unit="node"))


@examples(150)
@given(
    st.integers(3, 2000),
    st.integers(1, 10_000_000),
    st.floats(0.3, 300),
    st.floats(0.001, 1),
    st.sampled_from([0.0, 0.1, 0.7]),
    st.integers(0, 4),
)
def test_the_bits_chosen_have_room_for_the_worst_units_and_their_noise(
    parties: int, units: int, multiplier: float, rate: float, share: float, number: int
) -> None:
    """The largest sum all nodes can come to, and noise of 12 standard deviations on top, stays in the ring."""
    if number == 4 and not share:
        number = 3
    task = make_task(private(noise_multiplier=multiplier, sampling_rate=rate), share)
    units = max(units, parties)
    parts = parts_of(task, number, PARAMETERS)
    bits = bits_for(parts, units, parties)
    layout = Layout(parts, bits, parties, units, units)
    shares = [1] * (parties - 1) + [units - parties + 1]
    for part in parts:
        most = sum(layout.limit(part, part.times * own) for own in shares)
        noise = 12 * part.std * math.sqrt(parties)
        assert most + noise <= (1 << (bits - 1)) - 1
        if bits < 32:
            wanted = math.ceil(part.per_unit * part.times * shares[-1])
            assert layout.limit(part, part.times * shares[-1]) == wanted, "nothing is cut where bits do not run out"


def test_a_node_with_little_of_what_all_have_has_its_step() -> None:
    """One record of eight million, sampled so rarely that it counts for half a step: there is room for it."""
    parts = parts_of(make_task(private(noise_multiplier=7.0, sampling_rate=0.001), 0.0), 1, PARAMETERS)
    bits = bits_for(parts, 8_317_089, 33)
    assert parts[0].per_unit < 1
    assert Layout(parts, bits, 33, 8_317_089, 8_317_089).limit(parts[0], 1) == 1


def test_too_few_bits_are_refused_and_more_than_needed_are_not() -> None:
    parts = parts_of(make_task(private()), 1, PARAMETERS)
    assert [bits_for(parts, units, 3) for units in (1, 3000, 3_000_000)] == [24, 24, 32]
    assert bits_for(parts, 3000, 3, fixed=32) == 32
    with pytest.raises(PrivacyError, match="aggregation.bits 16 is too few for 3 nodes with 3000 units: 24 are needed"):
        bits_for(parts, 3000, 3, fixed=16)
    assert [bits_for([Part(UPDATE, 4, False, reach=1.0)], 9, n) for n in (3, 128, 129)] == [16, 16, 24]


# What a gateway may say of a session


@pytest.mark.parametrize(
    "form",
    [
        (8, 3, 30, 30),
        (0, 3, 30, 30),
        (33, 3, 30, 30),
        (16, 0, 30, 30),
        (16, 3, 0, 30),
        (16, 3, 30, 0),
        (16, 3, -1, 30),
        (16, 1 << 14, 30, 30),
        (32, 3, 1 << 40, 30),
        (32, 3, 30, 1 << 200),
        (32, 1 << 200, 30, 30),
    ],
)
def test_numbers_that_fit_no_session_are_refused(form: Tuple[int, int, int, int]) -> None:
    with pytest.raises(PrivacyError, match="makes no sense|has no room"):
        Layout([Part(UPDATE, 4, False, reach=1.0)], *form)


def test_numbers_that_leave_no_room_beside_the_noise_are_refused() -> None:
    (part,) = parts_of(make_task(private(), share=0.0), 1, PARAMETERS)
    with pytest.raises(PrivacyError, match="16 bits leave no room for 'update'"):
        Layout([part], 16, 3, 300, 300).limit(part, 100)
    with pytest.raises(PrivacyError, match="24 bits leave no room for 'update'"):
        Layout([part], 24, 3, 1 << 39, 300).limit(part, 100)


def test_whatever_numbers_are_told_a_node_sends_no_more_than_its_units_allow() -> None:
    (part,) = parts_of(make_task(private(), share=0.0), 1, PARAMETERS)
    for units in (100, 10_000, 1_000_000):
        assert Layout([part], 32, 3, units, 300).limit(part, 100) <= math.ceil(part.per_unit * 100)

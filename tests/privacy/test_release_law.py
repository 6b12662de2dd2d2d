"""What a private sum releases is the sum and independent normal noise: its law, in every release, coordinate, node and process.

Bounds are for chance below 1e-8 in a right build: six deviations of what is nearly normal, or Dvoretzky, Kiefer and Wolfowitz.
"""

import math
import os
from functools import partial
from typing import Any, Callable, Dict, List, Tuple, Union

import numpy as np
import pytest

from orchestrator.privacy.noisy_sum import NoisyCounts, NoisySum, evaluation_counts, statistics_sum, training_sum
from orchestrator.privacy.secure_random import SecureRandom
from orchestrator.wire.evaluation import SENSITIVITY
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Evaluation, Rounds, Task
from orchestrator.wire.training import Training

SIZE = 400
DECLARED = {"noise_multiplier": 1.5, "statistics_noise_multiplier": 2.0, "statistics_clip_norm": 0.7}


def make_task(**privacy: Any) -> Task:
    settings = Privacy(**{**DECLARED, "evaluation_noise_multiplier": 3.0, "clip_norm": 0.5, **privacy})
    schema = Schema("table", "y", ("n", "p"), {"0": 0, "1": 1}, tuple(Feature(f"f{i}", 0, 1) for i in range(150)))
    method = "masked" if settings.noise == "distributed" else "plain"
    return Task(
        "t",
        schema,
        {},
        Training(),
        settings,
        Rounds(4, 4),
        evaluation=Evaluation(0.2, bins=100),
        aggregation=Aggregation(method, 4),
    )


def releases(mechanism: Union[NoisySum, NoisyCounts], count: int, random: Callable[[], SecureRandom]) -> np.ndarray:
    """float64 (count, size): in the units of the data, of sums over nothing."""
    if isinstance(mechanism, NoisyCounts):
        return np.stack([mechanism.to_float(mechanism.noise(random())) for _ in range(count)])
    return np.stack([mechanism.to_float(mechanism.release([], random())) for _ in range(count)])


def one_node() -> Callable[[], SecureRandom]:
    """A generator that serves a node for all of its releases."""
    random = SecureRandom()
    return lambda: random


SUMS: Dict[str, Callable[[Task], Tuple[NoisySum, float]]] = {
    "training": lambda task: (training_sum(task, SIZE), 1.5 * 0.5),
    "statistics": lambda task: (statistics_sum(task), 2.0 * 0.7),
}
CASES: Dict[str, Callable[[Task], Tuple[Union[NoisySum, NoisyCounts], float]]] = {
    **SUMS,
    "evaluation": lambda task: (evaluation_counts(task), 3.0 * SENSITIVITY),
}


@pytest.mark.parametrize("mechanism", ["discrete-gaussian", "skellam"])
@pytest.mark.parametrize("case", CASES)
def test_what_is_released_of_an_empty_sum_is_normal_with_the_declared_deviation(case: str, mechanism: str) -> None:
    released, declared = CASES[case](make_task(mechanism=mechanism))
    drawn = np.sort(releases(released, -(-100_000 // released.noise(SecureRandom()).size), one_node()).ravel())
    n = len(drawn)
    size = math.sqrt(float(np.square(drawn).mean()))
    assert 1 - 6 / math.sqrt(2 * n) < size / declared < 1.02 + 6 / math.sqrt(2 * n)
    law = np.array([0.5 * math.erfc(-v / size / math.sqrt(2)) for v in drawn])
    distance = max(np.abs(law - np.arange(n) / n).max(), np.abs(law - np.arange(1, n + 1) / n).max())
    assert distance < math.sqrt(math.log(2e8) / (2 * n)) + 0.5 / 1024
    for reach in (2.0, 3.0):  # no tail is cut, and none is heavy
        expected = n * math.erfc(reach / math.sqrt(2))
        assert abs((np.abs(drawn) > reach * size).sum() - expected) < 6 * math.sqrt(expected) + 0.01 * expected


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("multiplier", [0.4, 1.0, 6.0])
def test_noise_follows_the_multiplier_the_task_declares(case: str, multiplier: float) -> None:
    names = ("noise_multiplier", "statistics_noise_multiplier", "evaluation_noise_multiplier")
    task = make_task(**{name: multiplier for name in names})
    released, _ = CASES[case](task)
    unit = {"training": 0.5, "statistics": 0.7, "evaluation": SENSITIVITY}[case]
    drawn = releases(released, 200, one_node())
    assert drawn.std() / (multiplier * unit) == pytest.approx(1.01, abs=0.012 + 6 / math.sqrt(2 * drawn.size))


@pytest.mark.parametrize("case", CASES)
def test_four_shares_add_up_to_the_declared_noise(case: str) -> None:
    released, declared = CASES[case](make_task(noise="distributed"))
    assert released.parties == 4
    total = sum(releases(released, 200, SecureRandom) for _ in range(4))
    assert np.std(total) / declared == pytest.approx(1.01, abs=0.012 + 6 / math.sqrt(2 * np.size(total)))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("who", ["one node", "many nodes"])
def test_no_two_releases_share_noise_and_none_is_without(case: str, who: str) -> None:
    released, declared = CASES[case](make_task())
    random = one_node() if who == "one node" else SecureRandom
    drawn = releases(released, 60, random) / declared
    size = drawn.shape[1]
    lengths = np.linalg.norm(drawn, axis=1)
    assert (np.abs(lengths / math.sqrt(size) - 1) < 6.5 / math.sqrt(2 * size) + 0.02).all()
    for numbers in (drawn, np.abs(drawn) - np.abs(drawn).mean()):
        cosines = numbers @ numbers.T / np.outer(np.linalg.norm(numbers, axis=1), np.linalg.norm(numbers, axis=1))
        np.fill_diagonal(cosines, 0)
        assert np.abs(cosines).max() < 7 / math.sqrt(size)


@pytest.mark.parametrize("case", CASES)
def test_every_coordinate_has_noise_of_its_own(case: str) -> None:
    released, declared = CASES[case](make_task())
    count = 600
    drawn = releases(released, count, one_node()) / declared
    sizes = np.sqrt(np.square(drawn).mean(axis=0))
    assert (np.abs(sizes - 1) < 6.5 / math.sqrt(2 * count) + 0.02).all()
    columns = drawn / np.linalg.norm(drawn, axis=0)
    cosines = columns.T @ columns
    np.fill_diagonal(cosines, 0)
    assert np.abs(cosines).max() < 7.5 / math.sqrt(count)


@pytest.mark.parametrize("case", SUMS)
def test_the_grid_is_fine_beside_the_noise_and_costs_one_percent(case: str) -> None:
    released, declared = SUMS[case](make_task())
    steps = np.diff(np.unique(releases(released, 200, one_node())))
    assert declared / steps.min() > 1000
    assert released.lattice.bound <= 1.01 * released.lattice.levels


def two_processes(play: Callable[[], bytes]) -> List[bytes]:
    """What two processes that begin alike come to."""
    answers = []
    for _ in range(2):
        out, into = os.pipe()
        child = os.fork()
        if not child:
            os.write(into, play())
            os._exit(0)
        os.close(into)
        with os.fdopen(out, "rb") as stream:
            answers.append(stream.read())
        os.waitpid(child, 0)
    return answers


def test_two_processes_that_begin_alike_draw_different_noise() -> None:
    mechanism = training_sum(make_task(), SIZE)
    one, other = two_processes(lambda: mechanism.release([], SecureRandom()).tobytes())
    assert len(one) == len(other) == 8 * SIZE
    agreeing = np.frombuffer(one, np.int64) == np.frombuffer(other, np.int64)
    assert agreeing.mean() < 0.05
    one, other = two_processes(lambda: SecureRandom().poisson_sample(2000, 0.5).astype(np.int64).tobytes())
    common = np.intersect1d(np.frombuffer(one, np.int64), np.frombuffer(other, np.int64))
    assert abs(len(common) - 500) < 6 * math.sqrt(2000 * 0.25 * 0.75)


def drawn(draw: Callable[[], np.ndarray]) -> bytes:
    return draw().tobytes()


def test_a_generator_that_was_in_use_before_a_fork_goes_on_differently_in_each_process() -> None:
    """The difference of two sums with the same noise has none."""
    mechanism, random = training_sum(make_task(), SIZE), SecureRandom()
    draws: List[Callable[[], np.ndarray]] = [
        lambda: mechanism.release([], random),
        lambda: random.words(SIZE),
        lambda: random.drawn_ahead("a law", SIZE, lambda count: random.words(count)),
        lambda: (random.fractions(SIZE) * 2.0**32).astype(np.int64),
    ]
    for draw in draws:
        draw(), draw()  # of what is drawn ahead, something is left
        one, other = two_processes(partial(drawn, draw))
        here = drawn(draw)
        for a, b in ((one, other), (one, here), (other, here)):
            assert len(a) == len(b) == 8 * SIZE
            assert (np.frombuffer(a, np.int64) == np.frombuffer(b, np.int64)).mean() < 0.05


def test_many_generators_have_many_keys() -> None:
    assert len({SecureRandom().words(1)[0] for _ in range(3000)}) == 3000


@pytest.mark.parametrize("size", [7, SIZE])
def test_a_long_vector_of_any_form_moves_a_sum_by_one_clip_norm(size: int) -> None:
    mechanism = training_sum(make_task(), size)
    place = np.arange(size)
    forms = [
        np.ones(size),
        -np.ones(size),
        np.where(place % 2, -1.0, 1.0),
        np.where(place < size / 2, 1.0, 0.01),
        np.where(place < 0.9 * size, 0.01, 1.0),
        (place == size - 1).astype(float),
        np.where(place == 0, 1e30, 1.0),
        np.where(place == 0, np.inf, 1.0),
        np.where(place == 0, np.nan, 1.0),
    ]
    for form in forms:
        for scale in (1.0, 1e3):
            with np.errstate(invalid="ignore"):
                moved = mechanism.to_float(mechanism.total([form * scale], np.random.default_rng()))
            assert np.linalg.norm(moved) <= 1.01 * 0.5

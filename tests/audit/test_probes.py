"""What the probes say of an honest build and of every broken one. Chance alone fails a test here less than once in 1e7 runs."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import numpy as np
import pytest

from orchestrator.audit.bench import Bench, Rows
from orchestrator.audit.broken import KINDS, broken_build, check_broken
from orchestrator.audit.examine import examine, summary
from orchestrator.audit.laws import Result
from orchestrator.audit.probes import (
    Probe,
    probe,
    rounding,
    sampling,
    sampling_in_a_round,
    tally,
    training_noise,
    training_reach,
    variants,
)
from orchestrator.audit.processes import generators, two_processes
from orchestrator.audit.sum_probes import (
    evaluation_noise,
    evaluation_reach,
    held_out,
    statistics_noise,
    statistics_reach,
)
from orchestrator.errors import UsageError
from orchestrator.node.store import NodeStore
from orchestrator.node.trainer import GradientTrainer
from orchestrator.privacy.secure_random import SecureRandom
from orchestrator.wire.task import Task

SIZE = 320
LAYERS = [slice(0, 288), slice(288, 304), slice(304, 318), slice(318, 320)]

PROBES: Dict[str, Callable[[Bench], object]] = {
    "noise": lambda bench: training_noise(bench, SIZE, 1).items(),
    "noise of steps": lambda bench: training_noise(bench, SIZE, 1, 3).items(),
    "tally": lambda bench: tally(bench.changed(clip_tally=True)),
    "sampling": lambda bench: sampling(bench, 1),
    "much sampling": lambda bench: sampling(bench, 5),
    "sampling of steps": lambda bench: sampling_in_a_round(bench, 3),
    "rounding": lambda bench: rounding(bench, SIZE),
    "reach": lambda bench: training_reach(bench, SIZE, LAYERS),
    "statistics noise": lambda bench: statistics_noise(bench, 1),
    "statistics reach": statistics_reach,
    "evaluation noise": lambda bench: evaluation_noise(bench, 1),
    "evaluation reach": evaluation_reach,
    "held out": held_out,
    "generators": lambda bench: generators(),
    "processes": two_processes,
}

_DENSE = "a dense gradient moves the sum too far"
FOUND: Dict[str, Tuple[str, str, str]] = {
    "noise-off": ("", "noise", "size"),
    "wrong-scale": ("", "noise", "size"),
    "noise-less": ("", "noise", "size"),
    "noise-tenth": ("", "noise", "size"),
    "noise-cut": ("", "noise", "law"),
    "noise-uniform": ("", "noise", "law"),
    "noise-laplace": ("", "noise", "law"),
    "noise-reused": ("", "noise", "repeats"),
    "noise-of-all-nodes": ("", "noise", "repeats"),
    "noise-signs": ("", "noise", "coordinates"),
    "noise-broadcast": ("", "noise", "releases"),
    "noise-in-pairs": ("", "noise", "pairs"),
    "noise-not-last": ("", "noise", "coordinates"),
    "noise-every-second": ("", "noise", "releases"),
    "noise-before-clipping": ("", "noise", "releases"),
    "empty-silent": ("", "noise", "releases"),
    "multiplier-ignored": ("", "noise", "size"),
    "coarse-grid": ("", "noise", "grid"),
    "noise-share": ("distributed noise", "noise", "size"),
    "fixed-key": ("", "generators", "keys"),
    "seeded": ("", "processes", "repeats"),
    "tally-noise-off": ("tally of clipped units", "noise", "coordinates"),
    "tally-twice": ("", "tally", "tally"),
    "same-sample": ("", "sampling", "overlap"),
    "fixed-size": ("", "sampling", "sizes"),
    "epochs": ("", "sampling", "steps"),
    "rate-up": ("", "sampling", "rate"),
    "rate-up-slightly": ("", "much sampling", "rate"),
    "rate-of-half": ("", "sampling", "units"),
    "sample-twice": ("", "sampling", "whole"),
    "sample-in-pairs": ("", "sampling", "neighbours"),
    "real-size": ("", "sampling", "whole"),
    "clip-per-batch": ("", "reach", _DENSE),
    "clip-off": ("", "reach", _DENSE),
    "clip-halves": ("", "reach", _DENSE),
    "clip-layers": ("", "reach", _DENSE),
    "clip-numbers": ("", "reach", _DENSE),
    "clip-loose": ("", "reach", _DENSE),
    "round-up": ("", "rounding", "rounding"),
    "record-for-patient": ("unit patient", "sampling", "whole"),
    "statistics-noise-off": ("", "statistics noise", "size"),
    "statistics-unclipped": ("", "statistics reach", "a record with numbers at both ends moves the sums too far"),
    "statistics-records": (
        "unit patient",
        "statistics reach",
        "40 records with numbers at both ends moves the sums too far",
    ),
    "evaluation-noise-off": ("", "evaluation noise", "size"),
    "evaluation-twice": ("", "evaluation reach", "a record the model is unsure about moves the sums too far"),
    "evaluation-loss": ("", "evaluation reach", "a record the model is sure and wrong about moves the sums too far"),
    "evaluation-records": (
        "unit patient",
        "evaluation reach",
        "40 records the model is unsure about moves the sums too far",
    ),
    "held-out-trained": ("", "held out", "a record is both trained and evaluated on"),
    "held-out-by-place": ("", "held out", "a unit's side depends on others"),
}


@pytest.fixture
def bench(task: Task, tmp_path: Path) -> Iterator[Bench]:
    store = NodeStore(tmp_path / "node.sqlite")
    yield Bench(replace(task, privacy=replace(task.privacy, evaluation_noise_multiplier=3.0)), store)
    store.close()


def variant(bench: Bench, name: str) -> Bench:
    return Bench(dict(variants(bench.task))[name], bench.store) if name else bench


def wrong(found: Any) -> List[str]:
    return [test for test, result in found if not result.holds]


def test_every_kind_is_looked_for() -> None:
    assert set(FOUND) == set(KINDS) - {"mask-reuse"}, "masks are looked at in test_attacks.py"


@pytest.mark.parametrize("kind", FOUND)
def test_a_broken_build_is_found(bench: Bench, kind: str) -> None:
    name, which, test = FOUND[kind]
    with broken_build(kind), np.errstate(all="ignore"):
        assert test in wrong(PROBES[which](variant(bench, name)))


@pytest.mark.parametrize("name", ["", "unit patient", "distributed noise", "Skellam noise"])
def test_an_honest_build_passes_all_probes(bench: Bench, name: str) -> None:
    for which, play in PROBES.items():
        if which != "much sampling" and ("steps" not in which or name != "distributed noise"):
            assert wrong(play(variant(bench, name))) == [], which


def test_noise_of_any_release_is_watched_in_all_steps_of_a_round(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is the same in one round only: samples, and noise."""
    real = GradientTrainer.train
    kept: Dict[int, np.ndarray] = {}

    def one_sample(self: GradientTrainer, *arguments: Any) -> np.ndarray:
        chosen = SecureRandom.poisson_sample(self._random, len(self._units), 0.25)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SecureRandom, "poisson_sample", lambda *_: chosen)
            return real(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(GradientTrainer, "train", one_sample)
        assert wrong(PROBES["sampling"](bench)) == [], "one step a round does not show it"
        assert wrong(PROBES["sampling of steps"](bench)) == ["several steps"]

    noise = bench.changed().task.privacy  # the task is as it was
    assert noise.noise_multiplier == 3.4
    from orchestrator.privacy.noisy_sum import NoisySum

    draw = NoisySum.noise

    def first_of_three(self: NoisySum, random: SecureRandom) -> np.ndarray:
        turn = kept.setdefault(-1, np.zeros(1, int))
        turn += 1
        if turn[0] % 3 == 1:
            kept[0] = draw(self, random)
        return kept[0]

    monkeypatch.setattr(NoisySum, "noise", first_of_three)
    assert "size" in wrong(PROBES["noise of steps"](bench))


def test_one_unit_that_is_always_sampled_is_noticed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    real = SecureRandom.poisson_sample
    monkeypatch.setattr(
        SecureRandom, "poisson_sample", lambda self, size, rate: np.union1d(real(self, size, rate), [size // 2])
    )
    assert wrong(PROBES["sampling"](bench)) == ["units"]


def test_a_node_that_fails_is_a_finding() -> None:
    def fails() -> Iterator[Tuple[str, Result]]:
        yield "size", Result(1.0, "")
        raise RuntimeError("no grid")

    (found,) = probe("training noise", fails)
    assert not found.holds
    assert found.said == "training noise: a node fails with RuntimeError: no grid"


def test_a_bench_reads_back_what_was_summed(bench: Bench) -> None:
    quiet = bench.changed(noise_multiplier=1e-3, sampling_rate=1.0)
    gradients = np.array([[0.5, 0, 0], [0, 0.25, 0], [0, 0, -8.0]], np.float32)
    np.testing.assert_allclose(quiet.sums(Rows(gradients), 3), [[0.5, 0.25, -1.0]] * 3, atol=0.01)
    shared = variant(quiet, "distributed noise")
    np.testing.assert_allclose(shared.sums(Rows(gradients), 3), [[0.5, 0.25, -1.0]] * 3, atol=0.01)


def test_a_deep_examination_also_plays_what_the_task_does_not_use(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    import orchestrator.audit.examine as module

    monkeypatch.setattr(module, "training_probes", lambda bench, parameters, layers, effort: iter(()))
    monkeypatch.setattr(module, "two_processes", lambda bench: iter(()))

    def named(deep: bool) -> List[str]:
        found: List[Probe] = [p for some in examine(bench.task, bench.store, SIZE, LAYERS, deep) for p in some]
        said = summary(found)
        assert said["tests"] == len(found)
        assert said["wrong"] == []
        return [row["kind"] for row in said["kinds"]]

    quick = named(False)
    assert quick == ["standardization noise", "one unit in standardization", "generators"]
    deep = named(True)
    assert set(quick) < set(deep)
    assert "held-out records" in deep
    assert "unit patient, one unit in evaluation" in deep


def test_a_kind_needs_a_task_it_shows_in(task: Task) -> None:
    for kind in ("record-for-patient", "noise-share", "evaluation-twice", "mask-reuse"):
        with pytest.raises(UsageError, match=f"--broken {kind}"):
            check_broken(kind, [task])
    check_broken("record-for-patient", [task, dict(variants(task))["unit patient"]])

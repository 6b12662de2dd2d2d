"""What a node gives to a round: in which form, clipped and noised by whom, and never outside what protects it."""

from pathlib import Path
from typing import Any, ClassVar, Dict, List, Optional, Sequence, Tuple

import numpy as np
import pytest

import orchestrator.node.run as run_module
from orchestrator.data.dataset import Dataset
from orchestrator.errors import EdgewardError, PrivacyError, WireError
from orchestrator.gateway.counts import of_sums
from orchestrator.gateway.scores import figures
from orchestrator.node import contribution
from orchestrator.node.contribution import Contributor
from orchestrator.node.evaluation import evaluate
from orchestrator.node.run import Run
from orchestrator.node.store import NodeStore
from orchestrator.node.summed import limit_in
from orchestrator.privacy.noisy_sum import (
    CLIP_NORM,
    WITHIN,
    NoisyCounts,
    NoisySum,
    evaluation_counts,
    statistics_sum,
    training_sum,
)
from orchestrator.privacy.vector_layout import UPDATE, Layout, bits_for, parts_of
from orchestrator.rounds.stages import EVALUATION, STATISTICS
from orchestrator.wire.codec import decode_update
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Evaluation, Rounds, Task
from orchestrator.wire.training import Training

SIZE = 8
MODEL = {"weights": np.zeros(SIZE, np.float32), "mean": np.zeros(2, np.float32), "std": np.ones(2, np.float32)}
DECLARED = {"noise_multiplier": 1.5, "statistics_noise_multiplier": 2.0, "statistics_clip_norm": 0.7}


class Fixed:
    """A trainer whose update is known; its gradient sum is the limit it was given."""

    def __init__(self, *_: Any) -> None:
        pass

    def train(self, weights: np.ndarray, number: int, correction: Optional[np.ndarray] = None) -> np.ndarray:
        return np.full(SIZE, 3.0, np.float32)

    def gradient_sum(self, weights: np.ndarray, limit: int) -> np.ndarray:
        return np.full(SIZE, limit, np.int64)


class Logits:
    """In place of the graph."""

    @staticmethod
    def logits(weights: np.ndarray, x: np.ndarray) -> np.ndarray:
        return np.stack([x[:, 0], -x[:, 0]], axis=1)

    record_logits = logits


def make_task(evaluated: bool = True, **privacy: Any) -> Task:
    settings = Privacy(**{**DECLARED, "evaluation_noise_multiplier": 3.0, "clip_norm": 0.5, **privacy})
    node = settings.on and settings.unit == "node"
    features = (Feature("a", -4, 4), Feature("b", -4, 4))
    standardization = "range" if node else "federated"
    schema = Schema("table", "y", ("n", "p"), {"0": 0, "1": 1}, features, standardization=standardization, patient="id")
    secure = settings.on and settings.noise == "distributed"
    return Task(
        "t",
        schema,
        {},
        Training(rounds=3),
        settings,
        Rounds(3, 3),
        evaluation=Evaluation(0.2 if evaluated and settings.noise != "gateway" else 0.0),
        aggregation=Aggregation("masked" if secure else "plain"),
        codec="float32",
    )


def make(tmp_path: Path, task: Task, records: int = 40) -> Contributor:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(records, 2)).astype(np.float32)
    data = Dataset(x, rng.integers(0, 2, records).astype(np.int32), np.repeat(np.arange(records // 4), 4).astype("i4"))
    run = Run("run", "digest", task, b"", data, data.take(np.arange(8)))
    run.evaluation_graph = lambda: Logits()  # type: ignore[assignment,method-assign,return-value]
    return Contributor(run, NodeStore(tmp_path / "n.sqlite"), "n", Fixed)


def layout_of(task: Task, number: int, units: int, nodes: int = 3) -> Layout:
    parts = parts_of(task, number, SIZE)
    return Layout(parts, bits_for(parts, nodes * units, nodes), nodes, nodes * units, nodes * 40)


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """No noise, to see what is under it."""
    for kind in (NoisySum, NoisyCounts):
        size = "size" if kind is NoisyCounts else "lattice"
        zeros = (lambda self, _: np.zeros(self.size, np.int64)) if size == "size" else _zeros
        monkeypatch.setattr(kind, "noise", zeros)


def _zeros(self: NoisySum, _: Any) -> np.ndarray:
    return np.zeros(self.lattice.size, np.int64)


# Where noise is shared


@pytest.mark.parametrize("unit", ["record", "patient"])
def test_a_share_of_the_noise_leaves_the_node_only_in_a_secure_round(tmp_path: Path, unit: str) -> None:
    """By itself it would protect with a third of the declared variance."""
    contributor = make(tmp_path, make_task(unit=unit, noise="distributed"))
    for attempt in (contributor.contribute, contributor.open_answer):
        with pytest.raises(WireError, match="round 1 is not a secure one"):
            attempt(1, {}, MODEL)
    other = layout_of(make_task(), 0, 40)
    with pytest.raises(WireError, match="round 1 is not a secure one"):
        contributor.contribute(1, {}, MODEL, other)


def test_there_is_no_task_with_shared_noise_and_open_answers() -> None:
    rest: Dict[str, Any] = {
        "schema": make_task().schema,
        "model": {},
        "rounds": Rounds(3, 3),
        "privacy": Privacy(noise="distributed"),
    }
    Task("t", **rest, aggregation=Aggregation("masked"))
    with pytest.raises(ValueError, match="makes only sums private"):
        Task("t", **rest, aggregation=Aggregation("plain"))


def test_the_gradient_sum_is_cut_to_what_the_sum_has_room_for(tmp_path: Path) -> None:
    """By the count that was stated: a limit that follows the true one would show it."""
    task = make_task(noise="distributed")
    layout = layout_of(task, 1, 40)
    cuts = []
    for records in (20, 40):
        contributor = make(tmp_path / str(records), task, records)
        contributor.run.state(33)
        parts = contributor.contribute(1, {}, MODEL, layout).parts
        assert parts[UPDATE].dtype == np.int64
        cuts.append(int(parts[UPDATE][0]))
    assert cuts == [layout.limit(layout.parts[0], 33)] * 2
    assert 0 < cuts[0] < layout.limit(layout.parts[0], 40)


# A whole node


@pytest.mark.usefixtures("silent")
@pytest.mark.parametrize("noise", ["node", "distributed", "gateway"])
def test_a_whole_update_is_clipped(tmp_path: Path, noise: str) -> None:
    task = make_task(unit="node", noise=noise, evaluated=False)
    secure = layout_of(task, 1, 1) if noise == "distributed" else None
    update = make(tmp_path, task).contribute(1, {}, MODEL, secure).parts[UPDATE]
    if noise == "distributed":
        assert update.dtype == np.int64
        update = training_sum(task, SIZE).to_float(update)
    np.testing.assert_allclose(np.linalg.norm(update), 0.5, rtol=1e-2)
    np.testing.assert_allclose(update, 0.5 / np.sqrt(SIZE), rtol=2e-2)


@pytest.mark.parametrize(("noise", "parties"), [("node", 1), ("distributed", 3)])
def test_a_whole_update_is_noised_by_the_node_unless_the_gateway_does_it(
    tmp_path: Path, noise: str, parties: int
) -> None:
    task = make_task(unit="node", noise=noise, evaluated=False)
    contributor, secure = make(tmp_path, task), layout_of(task, 1, 1) if parties > 1 else None
    drawn = np.stack([contributor.contribute(1, {}, MODEL, secure).parts[UPDATE] for _ in range(300)])
    if noise == "distributed":
        drawn = training_sum(task, SIZE).to_float(drawn)
    # 2,400 draws: their standard deviation is known to 1.5 %, and this allows 10 %.
    assert drawn.std(axis=0).mean() == pytest.approx(1.5 * 0.5 / np.sqrt(parties), rel=0.1)


def test_a_clip_norm_that_follows_is_the_rounds_and_within_tells_of_it(tmp_path: Path) -> None:
    task = make_task(unit="node", noise="gateway", clip_quantile=0.5)
    contributor, norm = make(tmp_path, task), 3.0 * np.sqrt(SIZE)
    for told, within in ((2.0, False), (norm + 0.1, True)):
        parts, _, fields = contributor.contribute(1, {CLIP_NORM: told}, MODEL)
        assert fields[WITHIN] is within
        assert np.linalg.norm(parts[UPDATE]) == pytest.approx(min(told, norm), rel=1e-5)
    for told in (None, 0.0, -1.0, float("nan"), float("inf"), "1", 1e300):
        with pytest.raises(WireError, match="clip norm follows the updates came with"):
            contributor.contribute(1, {CLIP_NORM: told}, MODEL)


# What is stated of how much there is


def test_what_is_stated_is_fixed_once_and_everything_that_is_sent_is_made_of_it(tmp_path: Path) -> None:
    for unit in ("record", "patient"):
        contributor = make(tmp_path / unit, make_task(unit=unit))
        contributor.run.state(23)
        for number in (0, 1, 4):
            fields = contributor.contribute(number, {}, MODEL).fields
            assert (fields["records"], fields["units"]) == (23, 23)
    node = make(tmp_path / "node", make_task(unit="node")).run
    assert (node.stated, node.stated_units) == (1, 1)
    none = make(tmp_path / "none", make_task(unit="none")).run
    none.state(23)
    assert (none.stated, none.stated_units) == (40, 40), "without privacy nothing is made up"


def test_a_run_whose_count_nobody_fixed_says_a_noised_one_and_the_same_every_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def drawn(task: Task, units: int, _: Any) -> int:
        asked.append(units)
        return 51 + len(asked)

    monkeypatch.setattr(run_module, "noised_count", drawn)
    run = make(tmp_path, make_task(unit="patient")).run
    assert [run.stated, run.stated_units, run.stated] == [52, 52, 52]
    assert asked == [10], "of patients, not of their records"


def test_a_trainer_of_gradients_divides_by_what_was_stated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = []

    class Expecting(Fixed):
        def expect(self, units: int) -> None:
            expected.append(units)

    monkeypatch.setattr(contribution, "GradientTrainer", Expecting)
    contributor = make(tmp_path, make_task())
    contributor.updates.trainer_factory = Expecting
    contributor.run.state(23)
    contributor.contribute(1, {}, MODEL)
    contributor.contribute(2, {}, MODEL)
    assert expected == [23]


# Statistics and evaluation


@pytest.mark.parametrize("noise", ["node", "distributed"])
@pytest.mark.parametrize("unit", ["record", "patient"])
def test_statistics_and_evaluation_are_whole_numbers_with_noise(tmp_path: Path, unit: str, noise: str) -> None:
    task = make_task(unit=unit, noise=noise)
    contributor = make(tmp_path, task)
    units = contributor.run.units
    contributor.run.state(units)
    for number, name in ((0, STATISTICS), (4, EVALUATION)):
        layout = layout_of(task, number, units)
        draws = [contributor.contribute(number, {}, MODEL, layout).parts[name] for _ in range(4)]
        one, other = draws[:2]
        assert one.dtype == np.int64
        assert (np.ptp(draws, axis=0) > 0).all(), "every value has noise of its own"
        (part,) = layout.parts
        spread = float((one - other).std() / np.sqrt(2))
        assert 0.02 * part.std < spread < 5 * part.std
        layout.encode({name: one}, {}, np.random.default_rng())


@pytest.mark.usefixtures("silent")
def test_statistics_are_of_clipped_units(tmp_path: Path) -> None:
    task = make_task(unit="patient")
    contributor = make(tmp_path, task)
    sums = statistics_sum(task).to_float(contributor.contribute(0, {}, {}).parts[STATISTICS])
    assert np.linalg.norm(sums) <= 0.7 * 1.01 * contributor.run.units
    open_task = make_task(unit="none")
    plain = make(tmp_path / "open", open_task).contribute(0, {}, {}).parts[STATISTICS]
    assert plain.dtype == np.float64
    assert np.linalg.norm(plain) > np.linalg.norm(sums)


@pytest.mark.usefixtures("silent")
def test_a_patient_counts_once_in_statistics(tmp_path: Path) -> None:
    """However many records it has: what is clipped and added up is the mean of its records, of ten patients with four each."""
    task = make_task(unit="patient", statistics_clip_norm=0.2)
    contributor = make(tmp_path, task)
    sums = statistics_sum(task).to_float(contributor.contribute(0, {}, {}).parts[STATISTICS])
    u = contributor.run.dataset.x.astype(np.float64) / 4  # of ranges from -4 to 4
    means = np.concatenate([u, u * u], axis=1).reshape(10, 4, 4).mean(axis=1)
    clipped = means * np.minimum(1, 0.2 / np.linalg.norm(means, axis=1, keepdims=True))
    np.testing.assert_allclose(sums, clipped.sum(axis=0), atol=10 * statistics_sum(task).lattice.step)


@pytest.mark.usefixtures("silent")
@pytest.mark.parametrize("number", [0, 4])
def test_sums_are_cut_to_what_a_secure_sum_has_room_for(tmp_path: Path, number: int) -> None:
    """Where a ring is too small for every unit at its worst, it is the node that must not overflow it."""
    task = make_task(noise="distributed")
    contributor = make(tmp_path, task)
    contributor.run.state(37)
    (part,) = parts_of(task, number, SIZE)
    small = Layout([part], 24, 3, 600_000, 120)
    limit = small.limit(part, 37 * part.times)
    free = contributor.contribute(number, {}, MODEL).parts[part.name]
    assert np.abs(free).max() > limit
    cut = contributor.contribute(number, {}, MODEL, small).parts[part.name]
    np.testing.assert_allclose(cut, np.clip(free, -limit, limit), atol=40)  # rounded again


def test_an_open_answer_carries_real_numbers_in_the_units_of_the_data(tmp_path: Path) -> None:
    task = make_task()
    contributor = make(tmp_path, task)
    contributor.run.state(37)
    fields, sent, _ = contributor.open_answer(0, {}, {})
    statistics = decode_update(sent, "float32", 4)
    assert (fields["records"], fields["units"]) == (37, 37)
    noise = 2.0 * statistics_sum(task).lattice.bound * statistics_sum(task).lattice.step
    assert np.abs(statistics).max() < 0.7 * 40 + 12 * noise
    _, sent, _ = contributor.open_answer(4, {}, MODEL)
    assert set(sent) == {EVALUATION}
    assert sent[EVALUATION].dtype == np.float32


@pytest.mark.parametrize("lacking", ["weights", "mean", "std"])
def test_a_round_that_lacks_what_it_starts_from_is_refused(tmp_path: Path, lacking: str) -> None:
    tensors: Dict[str, np.ndarray] = {name: value for name, value in MODEL.items() if name != lacking}
    for contributor in (make(tmp_path, make_task()), make(tmp_path, make_task(unit="none"))):
        for number in (1, 4):
            with pytest.raises(WireError, match=f"round {number} came without weights, mean or std"):
                contributor.contribute(number, {}, tensors)


class Diverged:
    """Logits as a training that diverged gives them."""

    def __init__(self, logits: Sequence[float]) -> None:
        self._logits = logits

    def logits(self, weights: np.ndarray, x: np.ndarray) -> np.ndarray:
        return np.array([self._logits] * len(x), np.float32)

    record_logits = logits


@pytest.mark.usefixtures("silent")
@pytest.mark.parametrize("unit", ["none", "record", "patient"])
@pytest.mark.parametrize(
    "logits",
    [
        (np.nan, 0.0),
        (0.0, np.nan),
        (np.nan, np.nan),
        (np.inf, 0.0),
        (-np.inf, 0.0),
        (np.inf, np.inf),
        (-np.inf, -np.inf),
        (np.inf, -np.inf),
    ],
)
def test_a_record_whose_logits_are_not_finite_is_one_that_was_surely_wrong(
    tmp_path: Path, unit: str, logits: Tuple[float, float]
) -> None:
    task = make_task(unit=unit)
    held_out = make(tmp_path, task).run.held_out
    units = len(held_out.units(unit)) if unit != "none" else 8
    sums = evaluate(task, Diverged(logits), held_out, np.zeros(SIZE, np.float32))  # type: ignore[arg-type]
    if task.privacy.on:
        sums = evaluation_counts(task).to_float(sums)
    result = figures(of_sums(sums, 2, task.evaluation.bins))
    assert result["accuracy"] == 0.0
    assert result["records"] == pytest.approx(units, abs=0.05)  # rounded down
    assert result["loss"] == pytest.approx(10.0, abs=0.2), "the largest a record may have"


@pytest.mark.usefixtures("silent")
@pytest.mark.parametrize("unit", ["record", "patient"])
def test_no_logits_of_one_unit_move_evaluation_by_more_than_its_bound(tmp_path: Path, unit: str) -> None:
    """With and without the unit; the noise is matched to sqrt(2) times the scale."""
    task = make_task(unit=unit)
    counts = evaluation_counts(task)
    held_out = make(tmp_path, task).run.held_out
    rows = held_out.units(unit)
    rest = held_out.take(np.setdiff1d(np.arange(held_out.records), rows[0]))
    for strange in (np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45, 88.8):

        class Strange:
            @staticmethod
            def logits(_: np.ndarray, x: np.ndarray, value: float = strange) -> np.ndarray:
                found = np.stack([x[:, 0], -x[:, 0]], axis=1)
                mine = np.isin(x[:, 0], held_out.x[rows[0], 0])
                found[mine, 0] = value
                return found

            record_logits = logits

        with_it, without = (
            evaluate(task, Strange(), data, np.zeros(SIZE, np.float32))  # type: ignore[arg-type]
            for data in (held_out, rest)
        )
        assert np.linalg.norm((with_it - without).astype(np.float64)) <= counts.bound
        assert (np.abs(with_it) <= counts.scale * len(rows)).all()


def test_a_sum_without_room_for_anything_is_refused_rather_than_cut_to_nothing() -> None:
    assert limit_in(None, UPDATE, 40) is None
    task = make_task(noise="distributed")
    with pytest.raises(PrivacyError, match="leave no room"):
        limit_in(Layout(parts_of(task, 1, SIZE), 24, 3, 1 << 39, 40), UPDATE, 40)


# What fails


class Overflowing(Fixed):
    """An update that leaves the range of floats, or not, as a gateway's learning rate has the noise decide."""

    outcomes: ClassVar[List[float]] = []

    def train(self, weights: np.ndarray, number: int, correction: Optional[np.ndarray] = None) -> np.ndarray:
        return np.full(SIZE, self.outcomes.pop(0), np.float32)


def test_a_private_round_that_failed_is_charged_and_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How often a gateway must ask until an answer is finite would tell of the data, with a draw of noise for each try."""
    contributor, charged = make(tmp_path, make_task(evaluated=False)), []
    contributor.updates.trainer_factory = Overflowing
    contributor.store.before_release = lambda *about: charged.append(about)
    monkeypatch.setattr(Overflowing, "outcomes", [np.inf, 1.0, 1.0])
    with pytest.raises(WireError, match="not finite numbers"):
        contributor.open_answer(1, {}, MODEL)
    assert set(charged) == {("run", 1)}
    with pytest.raises(EdgewardError, match="round 1 of run run was answered before and is over"):
        contributor.store.released("run", 1, "digest")
    assert contributor.store.released("run", 2, "digest") is None, "the next round is another release"


def test_a_round_that_claims_nothing_may_be_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contributor = make(tmp_path, make_task(evaluated=False, unit="none"))
    contributor.updates.trainer_factory = Overflowing
    monkeypatch.setattr(Overflowing, "outcomes", [np.inf, 1.0])
    with pytest.raises(WireError, match="not finite numbers"):
        contributor.open_answer(1, {}, MODEL)
    assert contributor.store.released("run", 1, "digest") is None
    contributor.open_answer(1, {}, MODEL)

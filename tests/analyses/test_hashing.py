"""The coder learned from sums is that of all rows together, and neighbours by its codes say what patients have."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, List, Tuple

import numpy as np
import pytest
from analysed_rows import SCHEMA, rows, summed, task_of
from hospitals import SCHEMA as HEARTS
from hospitals import hospitals

from orchestrator.analyses.base import Total
from orchestrator.analyses.codes import Coder, Terms, read_coder
from orchestrator.analyses.hashing import Hashing
from orchestrator.analyses.registry import make
from orchestrator.data.dataset import Dataset
from orchestrator.errors import DataError, UsageError
from orchestrator.privacy.similar_cells import Near, plainly_near, votes
from orchestrator.wire.schema import Schema


def learned(data: List[Dataset], schema: Schema, noise: float = 0.0, **options: Any) -> Tuple[Coder, Any]:
    """(the coder, the result) of the sums of several nodes."""
    analysis = make({"kind": "hashing", **options}, schema)
    assert isinstance(analysis, Hashing)
    asked, state, draw = analysis.begin(0), {}, np.random.default_rng(1)
    for _ in range(analysis.rounds):
        sums = sum(summed(analysis, asked, each) for each in data)
        asked, folded = analysis.fold(asked, Total(sums + noise * draw.standard_normal(analysis.sums.size), noise))
        state.update(folded.state)
    return analysis.coder(state), analysis.result(state, "records")


def test_thresholds_are_quantiles_and_projections_have_deviation_one() -> None:
    """Against the rows themselves, which no party has."""
    data = [rows(400, seed) for seed in range(3)]
    coder, result = learned(data, SCHEMA, outcome="smoker", bits=16, bins=1000)
    whole = np.concatenate([each.x for each in data])
    known = coder.levels(whole) >= 0
    assert 0.5 < known.mean() < 1
    projected = Terms(SCHEMA, (), "smoker").read(whole)[known] @ coder.weights.T
    np.testing.assert_allclose(projected.std(axis=0), 1.0, atol=1e-6)
    shares = coder.codes(whole[known], SCHEMA).mean(axis=0)
    np.testing.assert_allclose(shares, [row[1] for row in result.tables[1].rows], atol=1e-12)
    # Of values that many records share no threshold parts them: quantiles are as near as the projections allow.
    for bit, level in enumerate(sorted(np.linspace(0.9, 0.1, 16, endpoint=False) - 0.025)):
        assert min(abs(np.sort(1 - shares) - level)) < 0.15, bit


def test_without_a_pull_projections_lie_evenly_within_classes_and_with_one_along_what_tells_them_apart() -> None:
    draw = np.random.default_rng(4)
    data = rows(4000, 2)
    data.x[:, 2:4] = 0.0  # sex says nothing
    data.x[:, 0] = np.where(data.x[:, 5] > 0.5, 60.0, 40.0) + draw.normal(0, 15, 4000)  # age tells one class apart
    free, _ = learned([data], SCHEMA, outcome="smoker", bits=64, pull=0.0)
    drawn_to, _ = learned([data], SCHEMA, outcome="smoker", bits=64, pull=50.0)
    levels = free.levels(data.x)
    terms = Terms(SCHEMA, (), "smoker").read(data.x)

    def told_apart(coder: Coder) -> np.ndarray:
        projected = terms @ coder.weights.T
        means = np.stack([projected[levels == level].mean(axis=0) for level in range(3)])
        return np.ptp(means, axis=0)

    assert told_apart(drawn_to).min() > 1.5 * told_apart(free).mean() > 0


@pytest.fixture(scope="module")
def hearts(tmp_path_factory: pytest.TempPathFactory, shared_data: Callable[[str], Path]) -> List[Dataset]:
    return hospitals(shared_data("heart-disease"), tmp_path_factory.mktemp("hearts"))[0]


def auc(scores: np.ndarray, outcome: np.ndarray) -> float:
    """Of Mann and Whitney, ties count half."""
    above = scores[outcome == 1][:, np.newaxis] - scores[outcome == 0]
    return float((above > 0).mean() + (above == 0).mean() / 2)


def scored(coder: Coder, known: List[Dataset], asked: Dataset, nearest: int) -> np.ndarray:
    """float64 (asked,): the share of the last class among the nearest patients of all hospitals."""
    searched = [(coder.codes(each.x, coder.schema), coder.levels(each.x)) for each in known]
    found = []
    for code in coder.codes(asked.x, coder.schema):
        near: List[Near] = [plainly_near(code, codes, levels, coder.classes) for codes, levels in searched]
        voted = votes(near, coder.classes, nearest)
        assert voted is not None
        found.append(voted[0][coder.classes[-1]])
    return np.array(found)


@pytest.mark.parametrize("noise", [0.0, 3.0])
def test_three_neighbours_at_four_hospitals_tell_disease(hearts: List[Dataset], noise: float) -> None:
    found = []
    for seed in range(5):
        draw = np.random.default_rng(seed)
        kept = [draw.random(each.records) < 0.66 for each in hearts]
        known = [each.take(mine) for each, mine in zip(hearts, kept)]
        coder, _ = learned(known, HEARTS, noise, outcome="disease")
        assert coder.bits == 64
        apart = [each.take(~mine) for each, mine in zip(hearts, kept)]
        scores = np.concatenate([scored(coder, known, each, 3) for each in apart])
        found.append(auc(scores, np.concatenate([coder.levels(each.x) for each in apart])))
    assert min(found) > 0.78
    assert np.mean(found) > 0.80


def test_a_coder_survives_its_file_and_damage_is_named() -> None:
    coder, result = learned([rows(200, 1)], SCHEMA, outcome="smoker", bits=8)
    again = read_coder(coder.written(), "coder.json")
    assert again.digest == coder.digest
    np.testing.assert_array_equal(again.codes(rows(50, 3).x, SCHEMA), coder.codes(rows(50, 3).x, SCHEMA))
    assert any(coder.digest in note for note in result.notes)
    said = json.loads(coder.written())
    for name, value in (
        ("thresholds", said["thresholds"][:-1]),
        ("weights", [[1e400] * 7] * 8),
        ("weights", [[1e308] * 7] * 8),  # of which sums are infinite, or no number
        ("thresholds", [-1e300] * 8),
        ("weights", "no"),
        ("outcome", "age"),
        ("inputs", ["height"]),
        ("schema", {"kind": "signal"}),
    ):
        with pytest.raises(DataError, match=r"coder\.json"):
            read_coder(json.dumps({**said, name: value}).encode(), "coder.json")
    for content in (b"", b"[]", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"edgeward_coder": 2}'):
        with pytest.raises(DataError, match=r"coder\.json"):
            read_coder(content, "coder.json")


def test_whose_a_record_is_does_not_matter_to_who_asks_about_it() -> None:
    plain, _ = learned([rows(200, 1)], SCHEMA, outcome="smoker", bits=8)
    coder = replace(plain, schema=replace(plain.schema, patient="who"))
    assert coder.unlabelled == plain.unlabelled
    assert coder.digest != plain.digest
    x, patients = rows(50, 3).x, np.arange(50) // 2
    known, found = coder.levels(x), coder.levels(x, patients)
    for patient in range(25):
        pair = known[2 * patient : 2 * patient + 2]
        expected = [pair[0], -1] if pair[0] >= 0 else [-1, pair[1]]
        assert found[2 * patient : 2 * patient + 2].tolist() == expected


def test_another_threshold_is_another_coder() -> None:
    coder, _ = learned([rows(200, 1)], SCHEMA, outcome="smoker", bits=8)
    other = Coder(coder.schema, coder.outcome, coder.inputs, coder.weights, coder.thresholds + 1e-12)
    assert other.digest != coder.digest


@pytest.mark.parametrize(
    ("said", "options"),
    [
        ("no column 'smokr'", {"outcome": "smokr"}),
        ("is a number", {"outcome": "age"}),
        ("is the outcome", {"outcome": "smoker", "inputs": ("smoker",)}),
        ("'age' is there twice", {"outcome": "smoker", "inputs": ("age", "age")}),
        ("bits: 4", {"outcome": "smoker", "bits": 4}),
        ("ridge: 0", {"outcome": "smoker", "ridge": 0.0}),
    ],
)
def test_mistakes_are_named(said: str, options: Any) -> None:
    with pytest.raises(UsageError, match=said):
        make({"kind": "hashing", **options}, SCHEMA)


def test_a_run_that_ended_early_has_no_coder() -> None:
    analysis = make(task_of("hashing").analysis, SCHEMA)
    _, folded = analysis.fold(analysis.begin(0), Total(summed(analysis, analysis.begin(0), rows(100, 1))))
    result = analysis.result(folded.state, "records")
    assert [table.name for table in result.tables] == ["classes"]
    assert "no coder" in result.notes[0]


def test_noise_as_large_as_the_sums_gives_codes_or_says_what_is_lost() -> None:
    """Whatever is drawn, weights are finite: a matrix that noise made indefinite has no roots."""
    for noise in (1.0, 1e3, 1e6):
        coder, result = learned([rows(60, 1)], SCHEMA, noise, outcome="smoker", bits=8)
        assert np.isfinite(coder.weights).all()
        assert np.isfinite(coder.thresholds).all()
        assert any("noise" in note for note in result.notes)

"""What every analysis promises, whichever it is: sums that add up, bounded vectors, and a declaration all parties agree on."""

from dataclasses import replace
from itertools import product
from typing import Any, Dict, List

import numpy as np
import pytest
from analysed_rows import DECLARED, SCHEMA, any_asked, rows, split, summed, task_of, without
from hypothesis import given
from hypothesis import strategies as st
from series import examples

from orchestrator.analyses.base import Total
from orchestrator.analyses.blocks import BY_ITSELF, CELLS, MARGINS, PRODUCTS, SUMS, UPTO, incomplete
from orchestrator.analyses.blocks import UNUSED as EMPTY
from orchestrator.analyses.registry import ANALYSES, analysis_of, check, make
from orchestrator.errors import UsageError, WireError
from orchestrator.node.analysed import asked_of, unit_vectors
from orchestrator.node.policy import OPEN, Policy
from orchestrator.privacy.noisy_sum import analysis_sum
from orchestrator.privacy.releases import releases_of
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Selection, Task, task_from_dict, task_to_dict
from orchestrator.wire.training import Training

KINDS = tuple(DECLARED)
SEEDS = st.integers(0, 2**31)


def test_every_kind_is_held_to_it() -> None:
    assert {declared["kind"] for declared in DECLARED.values()} == set(ANALYSES)


@pytest.mark.parametrize("kind", KINDS)
@given(seed=SEEDS)
@examples(40)
def test_no_vector_is_beyond_what_is_declared_whatever_the_gateway_announces(kind: str, seed: int) -> None:
    task = task_of(kind)
    for analysis, unit in product(
        (analysis_of(task), make(task.analysis, SCHEMA)), ("record", "patient")
    ):  # with noise, too
        asked = any_asked(analysis, seed)
        for vectors in unit_vectors(analysis, asked, rows(50, seed), unit):
            assert vectors.shape[1] == analysis.sums.size
            assert np.isfinite(vectors).all()
            assert np.abs(vectors).max() <= 1
            assert np.linalg.norm(vectors, axis=1).max() <= analysis.sums.bound * (1 + 1e-12)


@pytest.mark.parametrize("kind", KINDS)
@given(seed=SEEDS)
@examples(20)
def test_every_value_has_a_rule_on_disclosure_and_is_what_that_says(kind: str, seed: int) -> None:
    analysis, data = analysis_of(task_of(kind)), rows(50, seed)
    asked = any_asked(analysis, seed) if seed % 2 else analysis.begin(seed)
    blocks = analysis.blocks(analysis.question(asked))
    assert incomplete(blocks, analysis.sums.size) == ""
    columns = {feature.name for feature in SCHEMA.features}
    vectors = np.concatenate(list(unit_vectors(analysis, asked, data, "record")))
    for block in blocks:
        values = vectors[:, block.at.ravel()]
        if block.rule in (CELLS, UPTO):
            assert np.isin(values, (0.0, 1.0)).all()
        if block.rule == CELLS:
            assert (values.sum(axis=1) <= 1).all(), "a record is in one of them"
        if block.rule == EMPTY:
            assert not values.any()
        if block.rule in (SUMS, PRODUCTS):
            assert set(block.columns) <= columns
        if block.rule == SUMS:
            assert block.columns
        assert set(block.split) <= columns
        assert block.out in (None, BY_ITSELF, *columns)


def test_a_kind_whose_sums_have_no_rule_is_seen() -> None:
    analysis = analysis_of(task_of("statistics"))
    blocks = analysis.blocks(analysis.question(analysis.begin(0)))
    for at, block in enumerate(blocks):
        rest = blocks[:at] + blocks[at + 1 :]
        assert bool(incomplete(rest, analysis.sums.size)) == (block.rule != MARGINS), "margins cover no value"
    assert incomplete([*blocks, blocks[0]], analysis.sums.size)
    assert "no rule" in incomplete([blocks[0]._replace(rule="whatever"), *blocks[1:]], analysis.sums.size)


@pytest.mark.parametrize("kind", KINDS)
@given(seed=SEEDS)
@examples(40)
def test_sums_of_parts_add_up_to_the_sum_of_all(kind: str, seed: int) -> None:
    analysis, data = analysis_of(task_of(kind)), rows(60, seed)
    asked = any_asked(analysis, seed) if seed % 2 else analysis.begin(seed)
    one, other = split(data, seed)
    parts = summed(analysis, asked, one) + summed(analysis, asked, other)
    np.testing.assert_allclose(parts, summed(analysis, asked, data), rtol=0, atol=1e-9)


@pytest.mark.parametrize("unit", ["record", "patient"])
@pytest.mark.parametrize("kind", KINDS)
@given(seed=SEEDS)
@examples(30)
def test_leaving_out_one_unit_moves_a_sum_by_its_bound_at_most(kind: str, unit: str, seed: int) -> None:
    analysis, data = analysis_of(task_of(kind)), rows(30, seed)
    asked = any_asked(analysis, seed)
    whole = summed(analysis, asked, data, unit)
    for one in data.units("patient" if analysis.of_patients(analysis.question(asked)) else unit)[:10]:
        moved = whole - summed(analysis, asked, without(data, one), unit)
        assert np.linalg.norm(moved) <= analysis.sums.bound * (1 + 1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_the_noise_is_for_the_longest_vector_and_clips_none(kind: str) -> None:
    task = task_of(kind, Privacy(noise_multiplier=2.0, sampling_rate=1.0, clip_norm=0.0))
    analysis, data = analysis_of(task), rows(200, 3)
    assert task.privacy.clip_norm == analysis.sums.bound
    asked, mechanism = analysis.begin(0), analysis_sum(task)
    vectors = np.concatenate(list(unit_vectors(analysis, asked, data, "record")))
    steps = mechanism.total(vectors, np.random.default_rng(0))
    # Each vector is rounded at random, by less than a step: six deviations of their sum, were each half a step off.
    deviation = np.sqrt(len(vectors)) * mechanism.lattice.step / 2
    np.testing.assert_allclose(mechanism.to_float(steps), summed(analysis, asked, data), atol=6 * deviation)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_releases_a_sum_a_round_and_the_number_of_units(kind: str) -> None:
    task = task_of(kind, Privacy(noise_multiplier=2.0, sampling_rate=1.0, clip_norm=0.0))
    found = {release.kind: (release.count, release.sampling_rate) for release in releases_of(task)}
    assert found == {"analysis": (analysis_of(task).rounds, 1.0), "count": (1, 1.0)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_declaration_survives_the_wire_and_its_result_is_of_whole_sums(kind: str) -> None:
    task = task_of(kind)
    again = task_from_dict(task_to_dict(task))
    check(again)
    analysis = analysis_of(again)
    asked, sums = analysis.begin(4), summed(analysis, analysis.begin(4), rows(300, 1))
    announced, folded = analysis.fold(asked, Total(sums))
    assert announced.shape == asked.shape
    assert announced.dtype == np.float32
    pytest.importorskip("scipy", reason="results are made at gateways, which have it")
    result = analysis.result(folded.state, "records")
    assert result.tables
    assert all(len(row) == len(table.columns) for table in result.tables for row in table.rows)
    assert all(table.bars in ("", *table.columns) for table in result.tables)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "asked",
    [
        None,
        np.zeros(2, np.float64),
        np.zeros(0, np.float32),
        np.zeros((1, 12), np.float32),
        np.full(12, np.nan, np.float32),
    ],
    ids=["nothing", "other type", "empty", "other shape", "NaN"],
)
def test_what_a_gateway_announces_is_looked_at(kind: str, asked: Any) -> None:
    analysis = analysis_of(task_of(kind))
    if asked is not None and asked.size == 12 and asked.ndim == 1:
        asked = np.full(analysis.begin(0).shape, np.nan, np.float32)
    with pytest.raises(WireError, match="finite float32 numbers"):
        asked_of(analysis, asked, 1)


LIES: Dict[str, Dict[str, Any]] = {
    "more rounds than it has": {"training": Training(rounds=9, parameters=0)},
    "fewer values than it sums": {"training": Training(rounds=1, parameters=3)},
    "an option left open": {"analysis": {"kind": "statistics"}},
    "a kind nobody knows": {"analysis": {"kind": "exfiltrate"}},
    "an option nobody knows": {"analysis": {**DECLARED["statistics"], "where": "name = 'Doe'"}},
}


@pytest.mark.parametrize("lie", LIES)
def test_a_task_that_contradicts_its_analysis_is_no_task_for_a_node(lie: str) -> None:
    with pytest.raises(UsageError):
        check(replace(task_of("statistics"), **LIES[lie]))


def test_a_shorter_vector_is_not_claimed_with_less_noise() -> None:
    """A gateway that declares a clip norm below the bound would get figures that mean nothing; below it noise would be less."""
    task = task_of("statistics", Privacy(noise_multiplier=2.0, sampling_rate=1.0, clip_norm=0.0))
    with pytest.raises(UsageError, match="clip_norm"):
        check(replace(task, privacy=replace(task.privacy, clip_norm=0.01)))


def test_noise_that_would_leave_nothing_is_refused() -> None:
    task = task_of("cox", Privacy(noise_multiplier=2.0, sampling_rate=1.0, clip_norm=0.0))
    with pytest.raises(UsageError, match="noise would leave nothing"):
        check(task)
    check(task_of("cox"))


UNUSED: Dict[str, Dict[str, Any]] = {
    "model": {"model": {"kind": "mlp"}},
    "training": {"training": Training(strategy="median")},
    "schema.label": {"schema": replace(SCHEMA, label="died", classes=("no", "yes"), label_values={"0": 0, "1": 1})},
    "drop_missing": {"schema": replace(SCHEMA, drop_missing=True)},
    "sampling_rate": {"privacy": Privacy(sampling_rate=0.5)},
    "runs": {"privacy": Privacy(sampling_rate=1.0, runs=2)},
    "unit 'node'": {"privacy": Privacy("node", sampling_rate=1.0)},
    "codec": {"codec": "int4"},
    "weights": {"rounds": Rounds(3, 3, weights="int8")},
    "update_range": {"aggregation": Aggregation(update_range=2.0)},
    "records_per_patient": {"privacy": Privacy("patient", sampling_rate=1.0, records_per_patient=2)},
    "selection.cohort": {"selection": Selection(cohort=3)},
    "relay": {"selection": Selection(sampling_rate=0.5)},
}


@pytest.mark.parametrize("what", UNUSED)
def test_what_an_analysis_has_no_use_for_is_refused(what: str) -> None:
    given: Dict[str, Any] = {"training": Training(rounds=1), "analysis": DECLARED["statistics"], **UNUSED[what]}
    with pytest.raises(ValueError, match=what):
        Task("t", given.pop("schema", SCHEMA), given.pop("model", {}), **given)


def test_a_task_that_trains_says_what_is_learned() -> None:
    with pytest.raises(ValueError, match=r"schema\.label"):
        Task("t", SCHEMA, {"kind": "mlp"})


MISTAKES: Dict[str, List[Any]] = {
    "did you mean 'smoker'": ["statistics", {"crosstabs": [["sex", "smokr"]]}],
    "is a number": ["statistics", {"crosstabs": [["sex", "age"]]}],
    "with itself": ["statistics", {"crosstabs": [["sex", "sex"]]}],
    "'sex' and 'smoker' is there twice": ["statistics", {"crosstabs": [["sex", "smoker"], ["smoker", "sex"]]}],
    "names 1 column": ["statistics", {"crosstabs": [["sex"]]}],
    "bins: 0": ["statistics", {"bins": 0}],
    "clusters: 1": ["kmeans", {"clusters": 1}],
    "expected one for each of 2": ["kmeans", {"clusters": 2, "start": [[1.0, 2.0]]}],
    "beyond its range": ["kmeans", {"clusters": 2, "start": [[20.0, 7.0], [99.0, 7.0]]}],
    "did you mean 'kmeans'": ["k-means", {}],
    "unknown, known here: clusters": ["kmeans", {"neighbours": 3}],
}


@pytest.mark.parametrize("said", MISTAKES)
def test_mistakes_are_named(said: str) -> None:
    kind, options = MISTAKES[said]
    with pytest.raises(UsageError, match=said):
        make({"kind": kind, **options}, SCHEMA)


def test_so_many_values_that_no_node_holds_a_vector_are_refused() -> None:
    wide = Schema("table", "", (), {}, tuple(Feature(f"c{i}", 0, 1) for i in range(100)))
    with pytest.raises(UsageError, match="at most 65536"):
        make({"kind": "statistics", "bins": 1000}, wide)


def test_owners_rules_hold_for_an_analysis_as_for_training() -> None:
    exact = task_of("statistics")
    noised = task_of("kmeans", Privacy(noise_multiplier=2.0, sampling_rate=1.0, clip_norm=0.0))
    assert OPEN.objection(exact, "") is None
    refused = Policy().objection(exact, "")
    assert refused is not None
    assert refused.code == "policy.unit"
    assert Policy().objection(noised, "") is None
    shared = replace(noised.privacy, noise="distributed")
    with pytest.raises(ValueError, match="only sums private"):
        replace(noised, privacy=shared)
    masked = replace(noised, privacy=shared, aggregation=Aggregation("masked"))
    assert Policy().objection(masked, "") is None


@pytest.mark.parametrize("kind", KINDS)
@given(seed=SEEDS)
@examples(40)
def test_the_same_question_is_one_whatever_else_was_announced(kind: str, seed: int) -> None:
    """Finite, the same again for what it means, and all that a sum depends on."""
    analysis, data = analysis_of(task_of(kind)), rows(20, seed)
    asked = any_asked(analysis, seed) if seed % 2 else analysis.begin(seed)
    question = analysis.question(asked)
    assert question.dtype == np.float64
    assert np.isfinite(question).all()
    assert np.isfinite(analysis.scope(question)).all()
    folded, _ = analysis.fold(asked, Total(summed(analysis, asked, data)))
    assert analysis.question(folded).shape == question.shape
    changed = asked.copy()
    changed[seed % asked.size] += np.float32(1.0)
    if np.array_equal(analysis.question(changed), question):
        np.testing.assert_array_equal(summed(analysis, changed, data), summed(analysis, asked, data))


def test_a_model_of_more_columns_begins_as_the_same_question() -> None:
    """Over fewer nodes its sums, less those of a model of fewer columns, would show what single nodes sent."""
    for kind in ("cox", "regression"):
        models = [analysis_of(task_of(kind, inputs=inputs)) for inputs in (("smoker",), ("ferritin", "smoker"))]
        one, other = (model.scope(model.question(model.begin(0))) for model in models)
        np.testing.assert_array_equal(one, other)
        last = models[1].scope(models[1].question(models[1].begin(0) + np.float32(1)))
        assert not np.array_equal(last, other)


def test_reasons_are_no_more_than_people_read() -> None:
    """A gateway's declaration is looked at before anything else speaks against it: it may neither cost hours nor fill a log."""
    names = [[f"y{i}", f"z{i}"] for i in range(900)]
    for kind, options in (
        ("statistics", {"crosstabs": names}),
        ("statistics", {"crosstabs": [["x"]] * 900}),
        ("kmeans", {"clusters": 900, "start": [[1.0]] * 900}),
    ):
        with pytest.raises(UsageError) as refused:
            make({"kind": kind, **options}, SCHEMA)
        assert len(str(refused.value).split("\n")) <= 20
    with pytest.raises(UsageError, match="crosstabs: 1001"):
        make({"kind": "statistics", "crosstabs": [["sex", "smoker"]] * 1001}, SCHEMA)


def test_owners_read_of_one_as_of_one() -> None:
    """Texts for owners, of a task with one round, one column and the like."""
    one = replace(SCHEMA, features=SCHEMA.features[:1])
    lines = analysis_of(task_of("statistics", schema=one, crosstabs=(), bins=1)).words(repr)
    lines += analysis_of(task_of("kmeans", schema=one, rounds=1)).words(repr)
    lines += analysis_of(task_of("mixture", schema=one, rounds=1)).words(repr)
    text = " ".join(lines)
    assert "statistics of 1 column:" in text
    assert "in at most 1 round" in text
    for wrong in ("1 columns", "1 rounds", "1 numbers", "1 bins"):
        assert wrong not in text

"""Many records in one call, by a function the node makes of `grad1`: the same numbers, and nothing of one record in another's."""

import tracemalloc
from typing import Any, Dict

import numpy as np
import pytest
from graph_bodies import BODIES, CLASSES, FEATURES, PARAMETERS, PATIENT, PRODUCTS, ROWS, grad1_of, records, whole
from graph_samples import Builder, gradient, gradients_by_hand, softmax_regression

from orchestrator.node import graph_process, graph_rows
from orchestrator.node.graph_check import check_graph, without_unused
from orchestrator.node.graph_file import Function, tflite_file
from orchestrator.node.graph_places import places
from orchestrator.node.graph_process import GraphProcess, Limits, rows_name
from orchestrator.node.graph_rows import rows_function
from orchestrator.node.runtime import TrainingGraph


def by_rows(process: GraphProcess, rows: int, weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    shape = (len(x) // rows, rows, 1)
    return process.run(rows_name(rows), weights, x.reshape(*shape, FEATURES), y.reshape(shape)).reshape(len(x), -1)


@pytest.mark.parametrize("name", [*BODIES, *PRODUCTS])
def test_a_row_is_what_its_record_gives_alone_whatever_the_others_are(name: str) -> None:
    """Most of these look at the batch axis, where a record is alone as long as it is one record's batch."""
    checked = check_graph(whole(grad1_of({**BODIES, **PRODUCTS}[name])))
    assert rows_function(checked.functions["grad1"], ROWS) is not None, "there is a rule"
    process = GraphProcess(checked, PATIENT)
    rows = max(process._rowed)
    assert rows == 16
    weights, x, y = records(2 * rows)
    ones = np.ones((len(x), 1), "f4")
    process.rows()
    alone = process.run("grad1", weights, x[:, np.newaxis], y[:, np.newaxis], ones)
    atol = 1e-7 if name in BODIES else 1e-6
    np.testing.assert_allclose(by_rows(process, rows, weights, x, y), alone, rtol=1e-6, atol=atol)
    others = x.copy()
    others[5] = 1e3
    others[20] = np.nan
    kept = np.delete(np.arange(len(x)), [5, 20])
    changed = by_rows(process, rows, weights, others, y)
    assert changed[kept].tobytes() == by_rows(process, rows, weights, x, y)[kept].tobytes()
    process.close()


def test_what_was_too_slow_to_be_measured_runs_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine one call of `grad1` may take so long that no function of many records is tried."""
    monkeypatch.setattr(graph_process, "TRIED_S", 1e-9)
    weights, x, y = records(32)
    with TrainingGraph(whole(GRAD1), PATIENT) as graph:
        process = graph.process
        assert process.rows() == 0
        alone = process.run("grad1", weights, x[:, np.newaxis], y[:, np.newaxis], np.ones((32, 1), "f4"))
        monkeypatch.undo()
        np.testing.assert_allclose(by_rows(process, 16, weights, x, y), alone, rtol=1e-6, atol=1e-7)


def test_gradients_by_rows_are_those_of_grad1() -> None:
    """Of many pieces, in order."""
    random = np.random.default_rng(1)
    x, y = random.standard_normal((1500, 13)).astype("f4"), random.integers(0, 2, 1500).astype("i4")
    weights = random.standard_normal(28).astype("f4")
    with TrainingGraph(softmax_regression(), PATIENT) as graph:
        assert graph.process.rows() > 0
        found = np.concatenate(list(graph.gradient_blocks(weights, x, y)))
        ones = np.ones((len(x), 1), "f4")
        alone = graph.process.run("grad1", weights, x[:, np.newaxis], y[:, np.newaxis], ones)
    np.testing.assert_allclose(found, alone, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found, gradients_by_hand(weights, x, y), atol=1e-5)


def unruled(build: Builder, x: int, w: int) -> int:
    """Two matrices a record, each times another: no rule."""
    pairs = build.add("RESHAPE", [x, build.constant([2, 1, 3], "int32")])
    return build.add("BATCH_MATMUL", [pairs, pairs], adj_y=True)


def test_where_an_operator_has_no_rule_records_come_one_by_one() -> None:
    checked = check_graph(whole(grad1_of(unruled)))
    assert rows_function(checked.functions["grad1"], ROWS) is None
    weights, x, y = records(9)
    with TrainingGraph(whole(grad1_of(unruled)), PATIENT) as graph:
        assert graph.process.rows() == 0
        (found,) = graph.gradient_blocks(weights, x, y)
    squares = np.square(x.reshape(9, 2, 3)).sum(axis=2)
    np.testing.assert_allclose(found[:, :2], squares * np.maximum(weights[:2], 0.5), rtol=1e-5)


def leaking(function: Function, rows: int) -> Function:
    """A function of many rows that adds the largest number of all records to each gradient: as if a rule were wrong."""
    build = Builder()
    build.tensors, build.operations = list(function.tensors), list(function.operations)
    x, g = function.inputs[1], function.outputs[0]
    flat = build.add("RESHAPE", [x, build.constant([rows * FEATURES], "int32")])
    most = build.add("REDUCE_MAX", [flat, build.constant([0], "int32")])
    # Beyond what other records of the same kind come to, so that ordinary ones do not show it.
    more = build.add("MAXIMUM", [build.add("SUB", [most, build.constant(100.0)]), build.constant(0.0)])
    return without_unused(build.function(function.inputs, [build.add("ADD", [g, more])]))


def test_attack_a_function_that_mixes_rows_is_given_up_before_it_sees_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that shows it only where a record is far off, as a gateway would have it."""
    real = graph_rows.rows_of
    mixing = {rows: leaking(function, rows) for rows, function in real(check_graph(whole(GRAD1))).items() if rows > 1}
    assert mixing
    monkeypatch.setattr(graph_process, "rows_of", lambda graph: mixing)
    weights, x, y = records(40)
    other = x.copy()
    other[7] = 1e4
    with TrainingGraph(whole(GRAD1), Limits(600.0, 600.0, 600.0, 1001.0)) as graph:
        ordinary = by_rows(graph_ready(graph), 16, weights, x[:16], y[:16])
        spoilt = by_rows(graph.process, 16, weights, other[:16], y[:16])
        assert not np.array_equal(ordinary[0], spoilt[0]), "it does mix"
        assert graph.process.rows() == 0
        same = np.concatenate(list(graph.gradient_blocks(weights, x, y)))
        changed = np.concatenate(list(graph.gradient_blocks(weights, other, y)))
    kept = np.delete(np.arange(40), 7)
    assert same[kept].tobytes() == changed[kept].tobytes()


def graph_ready(graph: TrainingGraph) -> GraphProcess:
    graph.process.rows()
    return graph.process


GRAD1 = gradient(FEATURES, CLASSES, 1)


def test_a_function_with_other_numbers_than_grad1_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    real = graph_rows.rows_of

    def other(graph: Any) -> Dict[int, Function]:
        made = {}
        for rows, function in real(graph).items():
            build = Builder()
            build.tensors, build.operations = list(function.tensors), list(function.operations)
            scaled = build.add("MUL", [function.outputs[0], build.constant(1 + 1e-4)])
            made[rows] = build.function(function.inputs, [scaled])
        return made

    monkeypatch.setattr(graph_process, "rows_of", other)
    with TrainingGraph(whole(GRAD1), Limits(600.0, 600.0, 600.0, 1002.0)) as graph:
        assert graph.process.rows() == 0


def test_a_runtime_that_does_not_run_it_is_left_with_grad1(monkeypatch: pytest.MonkeyPatch) -> None:
    real = tflite_file

    def damaged(function: Function) -> bytes:
        return b"no graph" if len(function.inputs) == 3 else real(function)

    monkeypatch.setattr(graph_process, "tflite_file", damaged)
    weights, x, y = records(5)
    with TrainingGraph(whole(GRAD1), Limits(600.0, 600.0, 600.0, 1003.0)) as graph:
        assert graph.process.rows() == 0
        assert not graph.process.broken
        (found,) = graph.gradient_blocks(weights, x, y)
    np.testing.assert_allclose(found, gradients_by_hand(weights, x, y), atol=1e-5)


def test_a_records_place_is_drawn_for_it_alone() -> None:
    """Otherwise one record less would move those behind it, and a runtime may round otherwise in another place."""
    for count in (1, 15, 200):
        calls, place = places(count, 16, np.random.default_rng(5))
        _, without_last = places(count - 1, 16, np.random.default_rng(5))
        np.testing.assert_array_equal(place[:-1] % 16, without_last % 16)
        assert len(set(place.tolist())) == count
        assert place.max() < 16 * calls
    random = np.random.default_rng(6)
    often = np.bincount(np.concatenate([places(50, 16, random)[1] % 16 for _ in range(400)]), minlength=16)
    assert abs(often - 1250).max() < 6 * 1250**0.5
    assert places(0, 16, random)[0] == 0


def test_a_slow_or_large_graph_is_left_with_grad1(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried of it must not take the time its process has, nor the memory a node has."""
    checked = check_graph(whole(GRAD1))
    process = GraphProcess(checked, PATIENT)
    process.seconds("grad1")
    process._seconds["grad1"] = 1.0
    assert process.rows() == 0
    process.close()
    assert set(graph_rows.rows_of(checked)) == {1, 16}
    monkeypatch.setattr(graph_rows, "MOST_BYTES", checked.functions["grad1"].memory_bytes)
    assert set(graph_rows.rows_of(checked)) <= {1}


def test_the_rewriting_takes_little_memory_whatever_constants_it_would_repeat() -> None:
    """A graph adds one large constant many times: it has no rows, and each time would be written out for all of them."""
    build = Builder()
    w, x = build.tensor([PARAMETERS]), build.tensor([1, FEATURES])
    y, sw = build.tensor([1], "int32"), build.tensor([1])
    large = build.constant(np.ones((1 << 14, FEATURES), "float32"))
    wide = build.add("ADD_N", [build.add("MUL", [large, x]), *[large] * 40])
    row = build.add("SUM", [wide, build.constant([0], "int32")])
    g = build.add("MUL", [w, build.add("SUM", [row, build.constant([0], "int32")], keep_dims=True)])
    loss = build.add("SUM", [build.add("MUL", [sw, sw]), build.constant([0], "int32")])
    graph = check_graph(whole(build.function([w, x, y, sw], [g, loss])))
    tracemalloc.start()
    try:
        assert graph_rows.rows_of(graph) == {}, "it takes too much"
        assert tracemalloc.get_traced_memory()[1] < 2 * graph_rows.MOST_BYTES
    finally:
        tracemalloc.stop()

"""What a function of many rows is made of, and where whole batches and long samples run through it."""

from typing import Any, Dict

import numpy as np
import pytest
from graph_bodies import BODIES, PARAMETERS, PATIENT, PRODUCTS, grad1_of, records, whole
from graph_samples import Builder, softmax_regression

from orchestrator.node import graph_process, graph_row_windows, runtime
from orchestrator.node.graph_check import check_graph
from orchestrator.node.graph_file import Function
from orchestrator.node.graph_process import GraphProcess, Limits
from orchestrator.node.graph_rows import rows_function, sums_function, sums_of
from orchestrator.node.runtime import TrainingGraph

CONVOLUTION = whole(grad1_of(PRODUCTS["CONV_2D over the edges"]))


def alone(graph: TrainingGraph, weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    ones = np.ones((len(x), 1), "f4")
    return graph.process.run("grad1", weights, x[:, np.newaxis], y[:, np.newaxis], ones)


def names_of(function: Any) -> Dict[str, int]:
    assert isinstance(function, Function)
    names = [operation.name for operation in function.operations]
    return {name: names.count(name) for name in names}


@pytest.mark.parametrize("copied", [0, 32])
def test_convolutions_are_products_of_matrices_and_what_is_equal_is_made_once(
    copied: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows are cut out and joined, or copied by a convolution of known weights."""
    monkeypatch.setattr(graph_row_windows, "COPIED_NUMBERS", copied)

    def body(build: Builder, x: int, w: int) -> int:
        """A convolution, and its windows once more, as a graph has them for the gradient of the kernel."""
        made = PRODUCTS["CONV_2D over the edges"](build, x, w)
        pixels = build.add("RESHAPE", [x, build.constant([1, 2, 3, 1], "int32")])
        wide = build.add("PAD", [pixels, build.constant([[0, 0], [0, 1], [0, 1], [0, 0]], "int32")])
        parts = []
        for corner in ([0, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 1, 1, 0]):
            size = build.constant([1, 2, 3, 1], "int32")
            parts.append(build.add("SLICE", [wide, build.constant(corner, "int32"), size]))
        columns = build.add("CONCATENATION", parts, axis=-1)
        return build.add("ADD", [build.add("SUM", [columns, build.constant([3], "int32")], keep_dims=True), made])

    function = rows_function(check_graph(whole(grad1_of(body))).functions["grad1"], 4)
    assert function is not None
    made = names_of(function)
    found = made["BATCH_MATMUL"], made["SLICE"] - 2, made.get("CONCATENATION", 0), made.get("CONV_2D", 0)
    assert found == ((1, 0, 0, 1) if copied else (1, 3, 1, 0)), (
        "two slices are of the weights, and one place is the image"
    )
    for operation in function.operations:
        if operation.name == "CONV_2D":
            weights = function.tensors[operation.inputs[1]].data
            assert weights is not None
            np.testing.assert_array_equal(weights.reshape(4, 4), np.eye(4))


def test_what_follows_from_constants_is_worked_out_beforehand() -> None:
    """The mean over sample weights, which are 1."""
    found = names_of(rows_function(check_graph(softmax_regression()).functions["grad1"], 4))
    assert not {"MAXIMUM", "DIV"} & set(found)


def test_a_batch_of_a_graph_with_convolutions_is_the_weighted_mean_of_its_records() -> None:
    """Of this graph `grad` is something else, so it shows which of the two was run."""
    weights, x, y = records(37)
    counts = np.linspace(0, 2, 37)
    with TrainingGraph(CONVOLUTION, PATIENT) as graph:
        assert graph.process.batch_rows() > 1
        each = alone(graph, weights, x, y).astype(np.float64)
        np.testing.assert_allclose(graph.gradient(weights, x, y), each.mean(axis=0), rtol=1e-5, atol=1e-6)
        expected = counts @ each / counts.sum()
        np.testing.assert_allclose(graph.gradient(weights, x, y, counts), expected, rtol=1e-5, atol=1e-6)
        few = graph.gradient(weights, x[:2], y[:2], np.array([0.25, 0.25]))
        np.testing.assert_allclose(few, 0.25 * each[:2].sum(axis=0), rtol=1e-5, atol=1e-6)
        assert graph.gradient(weights, x, y).tobytes() == graph.gradient(weights, x, y).tobytes()


def test_a_batch_that_does_not_fill_its_calls_is_filled_up_with_what_gives_numbers() -> None:
    """This graph divides a record by its own length, so that of zeros it makes NaN, whatever they count for."""

    def body(build: Builder, x: int, w: int) -> int:
        length = build.add("SUM", [build.add("SQUARE", [x]), build.constant([0, 1], "int32")], keep_dims=True)
        unit = build.add("MUL", [x, build.add("RSQRT", [length])])
        return PRODUCTS["CONV_2D inside"](build, unit, w)

    weights, x, y = records(5)
    with TrainingGraph(whole(grad1_of(body)), PATIENT) as graph:
        assert 5 % graph.process.batch_rows() > 0
        expected = alone(graph, weights, x, y).mean(axis=0)
        np.testing.assert_allclose(graph.gradient(weights, x, y), expected, rtol=1e-5, atol=1e-6)


def test_a_batch_of_any_other_graph_is_given_to_grad_whole() -> None:
    weights, x, y = records(4)
    with TrainingGraph(whole(grad1_of(BODIES["EXP"])), PATIENT) as graph:
        assert graph.process.batch_rows() == 0
        ones = np.ones((1, 4), "f4")
        wanted = graph.process.run("grad", weights, x[np.newaxis], y[np.newaxis], ones)[0]
        np.testing.assert_array_equal(graph.gradient(weights, x, y), wanted)


@pytest.mark.parametrize("name", [*BODIES, *PRODUCTS])
def test_a_sum_is_what_its_records_give_by_their_weights(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = check_graph(whole(grad1_of({**BODIES, **PRODUCTS}[name])))
    function = sums_function(checked.functions["grad1"], 4)
    assert function is not None
    monkeypatch.setattr(graph_process, "sums_of", lambda graph: function)
    process = GraphProcess(checked, PATIENT)
    assert process.batch_rows() == 4
    weights, x, y = records(12)
    shares = np.random.default_rng(5).random((3, 4, 1)).astype("f4")
    shares[1] = 0
    each = process.run("grad1", weights, x[:, np.newaxis], y[:, np.newaxis], np.ones((12, 1), "f4")).reshape(3, 4, -1)
    found = process.run(graph_process.SUMS, weights, x.reshape(3, 4, 1, -1), y.reshape(3, 4, 1), shares)
    np.testing.assert_allclose(found, (shares * each).sum(axis=1), rtol=1e-5, atol=1e-5)
    process.close()


def test_a_batch_goes_even_into_calls_where_it_can() -> None:
    """16 records fit a call."""
    batches = {}
    for size in (3, 24, 17):
        function = sums_of(check_graph(CONVOLUTION)._replace(batch_size=size))
        assert function is not None
        batches[size] = function.tensors[function.inputs[1]].shape[0]
    assert batches == {3: 3, 24: 12, 17: 16}


def test_attack_a_batch_does_not_run_through_sums_that_are_other_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a rule were wrong, or a graph took no notice of its sample weights."""
    graph = whole(grad1_of(PRODUCTS["CONV_2D inside"]))
    real = sums_of(check_graph(graph))
    assert real is not None
    build = Builder()
    build.tensors, build.operations = list(real.tensors), list(real.operations)
    larger = build.add("MUL", [real.outputs[0], build.constant(1 + 1e-4)])
    monkeypatch.setattr(graph_process, "sums_of", lambda graph: build.function(real.inputs, [larger]))
    with TrainingGraph(graph, Limits(600.0, 600.0, 600.0, 1004.0)) as run:
        assert run.process.batch_rows() == 0


def test_the_gradient_of_a_kernel_with_strides_is_one_convolution() -> None:
    for name, count in (
        ("gradient of a depthwise kernel", 1),
        ("the same in another order", 0),
        ("sums over rows and channels instead", 0),
    ):
        made = names_of(rows_function(check_graph(whole(grad1_of(PRODUCTS[name]))).functions["grad1"], 4))
        assert made.get("DEPTHWISE_CONV_2D", 0) == count
        assert ("SUM" in made) == (count == 0)


@pytest.mark.parametrize("calls", [1, 2, 5, 1000])
def test_a_sample_of_several_pieces_comes_in_order(monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
    """Places are drawn for all of a sample, so the calls of a piece have records of the next as well."""
    monkeypatch.setattr(runtime, "PIECE_BYTES", 4 * PARAMETERS * 16 * calls)
    monkeypatch.setattr(graph_process.GraphProcess, "rows", lambda process: 16)  # whatever is fastest here
    weights, x, y = records(300)
    chosen = np.random.default_rng(2).permutation(300)[:211]
    with TrainingGraph(CONVOLUTION, PATIENT) as graph:
        assert graph.process.rows() == 16
        found = list(graph.gradient_blocks(weights, x, y, chosen))
        assert (len(found) > 1) == (calls < 1000)
        expected = alone(graph, weights, x[chosen], y[chosen])
        np.testing.assert_allclose(np.concatenate(found), expected, rtol=1e-5, atol=1e-6)
        assert list(graph.gradient_blocks(weights, x, y, chosen[:0])) == []

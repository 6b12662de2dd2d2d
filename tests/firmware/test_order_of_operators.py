"""Models that TFLM runs without a word, computing with memory nobody wrote, or that is no tensor's: refused by name."""

from typing import Any, Callable, Dict, Tuple

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from one_op_models import Part, model_of, options_of, packed
from operator_cases import CASES
from operator_draws import Draw

from model_export.errors import TfliteError, TflmError
from model_export.plan import compile_plan
from model_export.plan_steps import PlanError
from model_export.tflm import TflmModel

FLAT, SQUARE = Part((1, 8), 0.05, -7), Part((1, 2, 4), 0.05, -7)
OFFSET = Part((1, 8), 0.05, -7, np.arange(8, dtype=np.int8).reshape(1, 8))
LSTM = "UNIDIRECTIONAL_SEQUENCE_LSTM"
INPUT, OUTPUT, FOLDED, UNFOLDED, CONSTANT = range(5)


def concatenation(axis: int = 1) -> bytes:
    parts = [FLAT, Part((1, 16), 0.05, -7), FLAT._replace(content=np.zeros((1, 8), np.int8))]
    return model_of(parts, [("CONCATENATION", [0, 2], [1], options_of("ConcatenationOptions", axis=axis))])


def dense(shape: Tuple[int, ...] = (1, 4)) -> bytes:
    parts = [FLAT, Part(shape, 0.05, -7), Part((4, 8), 0.01, 0, np.ones((4, 8), np.int8))]
    return model_of(parts, [("FULLY_CONNECTED", [0, 2, -1], [1], options_of("FullyConnectedOptions"))])


def made(change: Callable[[Any], None]) -> bytes:
    """Two reshapes and an addition, changed."""
    reshapes = [
        ("RESHAPE", [INPUT], [FOLDED], options_of("ReshapeOptions", newShape=[1, 2, 4])),
        ("RESHAPE", [FOLDED], [UNFOLDED], options_of("ReshapeOptions", newShape=[1, 8])),
    ]
    added = ("ADD", [UNFOLDED, CONSTANT], [OUTPUT], options_of("AddOptions"))
    blob = model_of([FLAT, FLAT, SQUARE, FLAT, OFFSET], [*reshapes, added])
    whole = schema.ModelT.InitFromObj(schema.Model.GetRootAs(blob, 0))
    change(whole.subgraphs[0])
    return packed(whole)


def before_it_is_written(graph: Any) -> None:
    graph.operators[0], graph.operators[1] = graph.operators[1], graph.operators[0]


def into_the_input(graph: Any) -> None:
    graph.operators[1].outputs = np.array([INPUT], np.int32)
    graph.operators[2].inputs = np.array([INPUT, CONSTANT], np.int32)


def into_a_constant(graph: Any) -> None:
    graph.operators[1].outputs = np.array([CONSTANT], np.int32)
    graph.operators[2].inputs = np.array([CONSTANT, CONSTANT], np.int32)


def twice(graph: Any) -> None:
    graph.operators.append(graph.operators[2])


def a_variable_constant(graph: Any) -> None:
    graph.tensors[CONSTANT].isVariable = True


def a_constant_as_input(graph: Any) -> None:
    graph.inputs = np.array([CONSTANT], np.int32)


def no_zero_points(graph: Any) -> None:
    graph.tensors[CONSTANT].quantization.zeroPoint = np.zeros(0, np.int64)


BAD: Dict[Callable[[Any], None], str] = {
    before_it_is_written: r"operator 0 \(RESHAPE\) reads tensor 2 .* before anything wrote it",
    into_the_input: r"operator 1 \(RESHAPE\) writes tensor 0 .*which is an input",
    into_a_constant: r"operator 1 \(RESHAPE\) writes tensor 4",
    twice: r"operator 3 \(ADD\) writes tensor 1",
    a_variable_constant: "a variable with the content of a constant",
    a_constant_as_input: r"its input 4 .* is a constant",
    no_zero_points: "1 scales but 0 zero points",
}


def test_without_a_change_it_runs() -> None:
    rows = np.random.default_rng(3).integers(-128, 128, (5, 8)).astype(np.int8)
    assert TflmModel(made(lambda graph: None)).run(rows).shape == (5, 8)
    assert compile_plan(made(lambda graph: None)).output_bytes == 8


@pytest.mark.parametrize("change", BAD, ids=lambda change: change.__name__)
def test_what_depends_on_memory_nobody_wrote_is_refused(change: Callable[[Any], None]) -> None:
    for read in (compile_plan, TflmModel):
        with pytest.raises(TfliteError, match=BAD[change]):
            read(made(change))


OUTSIDE: Dict[str, Tuple[Callable[..., bytes], Dict[str, Any], str]] = {
    "axis": (concatenation, {"axis": 5}, "axis 5 of"),
    "axis from the end": (concatenation, {"axis": -3}, "axis -3 of"),
    "units": (dense, {"shape": (4, 1)}, r"weights \(4, 8\)"),
    "rows": (dense, {"shape": (3, 4)}, r"weights \(4, 8\)"),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_reaches_beyond_a_tensor_is_refused(name: str) -> None:
    build, changed, said = OUTSIDE[name]
    with pytest.raises(PlanError, match=said):
        compile_plan(build(**changed))
    with pytest.raises(TflmError, match=said):
        TflmModel(build(**changed))


@pytest.mark.parametrize("build", [concatenation, dense])
def test_what_does_not_is_accepted(build: Callable[..., bytes]) -> None:
    assert TflmModel(build()).run(np.zeros((1, 8), np.int8)).size == compile_plan(build()).output_bytes


def test_an_axis_of_a_mean_is_one_of_its_input() -> None:
    parts = [Part((1, 2, 4), 0.05, -7), Part((1, 4), 0.05, -7), Part((1,), content=np.array([4], np.int32))]
    model = model_of(parts, [("MEAN", [0, 2], [1], options_of("ReducerOptions"))])
    with pytest.raises(PlanError, match="axis 4 of"):
        compile_plan(model)
    with pytest.raises(TflmError, match="axis 4 of"):
        TflmModel(model)


def test_a_reshape_of_nothing_is_refused() -> None:
    def change(graph: Any) -> None:
        graph.operators[0].inputs = np.zeros(0, np.int32)

    with pytest.raises(PlanError, match="expected an input and one output"):
        compile_plan(made(change))


def test_scales_whose_product_is_infinite_are_refused() -> None:
    whole = schema.ModelT.InitFromObj(schema.Model.GetRootAs(CASES[LSTM](Draw(np.random.default_rng(0)))[1], 0))
    for tensor in whole.subgraphs[0].tensors[0], whole.subgraphs[0].tensors[2]:
        tensor.quantization.scale = np.array([1e30], np.float32)
    with pytest.raises(PlanError, match=rf"operator 0 \({LSTM}\): its scales are too far apart"):
        compile_plan(packed(whole))

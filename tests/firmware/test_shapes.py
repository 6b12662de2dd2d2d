"""Shapes computed while a model runs, as converters write for a free batch size: known ahead, and equal in both engines."""

import math
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="its schema writes the models")
pytest.importorskip("tflite_micro", reason="the tflite-micro wheel is the oracle")
from ai_edge_litert import schema_py_generated as schema
from one_op_models import Operator, Part, model_of, options_of, packed

from model_export.arena32 import predict_arena
from model_export.bundle import verify_bundle, write_bundle
from model_export.errors import TfliteError, TflmError
from model_export.plan import compile_plan
from model_export.plan_steps import PlanError
from model_export.preflight import preflight
from model_export.tflm import TflmModel
from orchestrator.boards.client import BoardClient
from orchestrator.boards.host_engine import SANITIZE, run_direct
from orchestrator.boards.virtual import VirtualBoard

PLACES = [Part((1,), content=np.array([number], np.int32)) for number in (0, 1, 1)]


def shaped(
    of: Sequence[Any] = ("batch", 2, -1), shape: Sequence[int] = (1, 2, 6), mask: str = "shrinkAxisMask"
) -> bytes:
    """RESHAPE, in a shape packed `of` the input's first size and numbers, then MEAN over its second axis."""
    parts = [
        Part((1, 12), 0.05, -7),
        Part((1, shape[2]), 0.05, -7),
        Part(tuple(shape), 0.05, -7),
        Part((2,), kind="int32"),
        Part((), kind="int32"),
        Part((len(of),), kind="int32"),
        Part((1,), content=np.array([1], np.int32)),
        *PLACES,
    ]
    reads: List[int] = []
    for one in of:
        reads.append(4 if one == "batch" else len(parts))
        if one != "batch":
            parts.append(Part((), content=np.array(one, np.int32)))
    steps: List[Operator] = [
        ("SHAPE", [0], [3], options_of("ShapeOptions", outType=2)),
        ("STRIDED_SLICE", [3, 7, 8, 9], [4], options_of("StridedSliceOptions", **{mask: 1})),
        ("PACK", reads, [5], options_of("PackOptions", valuesCount=len(of))),
        ("RESHAPE", [0, 5], [2], options_of("ReshapeOptions")),
        ("MEAN", [2, 6], [1], options_of("ReducerOptions")),
    ]
    return model_of(parts, steps)


def test_it_runs_in_both_engines_and_on_a_board(make_rows: Callable[..., np.ndarray], tmp_path: Path) -> None:
    model = shaped()
    rows = make_rows(model, 24)
    want = TflmModel(model).run(rows).reshape(len(rows), -1)
    assert len(np.unique(want)) > 20
    np.testing.assert_array_equal(run_direct(model, rows, SANITIZE), want)
    assert compile_plan(model).ops == ("mean",), "nothing of it is computed on a board"
    assert predict_arena(model, TflmModel(model)).confirmed
    assert preflight(model, "esp32c3", 1 << 20).ok
    write_bundle(tmp_path / "bundle", tflite=model, name="shaped", engine="direct")
    verify_bundle(tmp_path / "bundle")
    with VirtualBoard(tmp_path / "bundle" / "model.bin") as board, BoardClient(board.port) as client:
        np.testing.assert_array_equal(client.infer(rows).outputs, want)


@pytest.mark.parametrize(
    ("of", "shape"), [(("batch", 3, -1), (1, 2, 6)), (("batch", 2), (1, 2, 6)), ((2, "batch", -1), (1, 2, 6))]
)
def test_another_shape_than_the_outputs_is_refused(of: Sequence[Any], shape: Sequence[int]) -> None:
    with pytest.raises(PlanError, match=r"operator 3 \(RESHAPE\): its output has shape \(1, 2, 6\), computed is"):
        compile_plan(shaped(of, shape))


@pytest.mark.parametrize("mask", ["ellipsisMask", "newAxisMask"])
def test_a_slice_nobody_can_know_is_refused_with_what_to_do(mask: str) -> None:
    with pytest.raises(PlanError, match=r"operator 0 is SHAPE, .*convert the model with batch size 1"):
        compile_plan(shaped(mask=mask))


@pytest.mark.parametrize(
    ("tensor", "shape", "said"),
    [
        (3, (0,), r"SHAPE \(operator 0\) writes 2 sizes into an output of \(0,\)"),
        (3, (3,), r"SHAPE \(operator 0\) writes 2 sizes into an output of \(3,\)"),
        (5, (0,), r"PACK \(operator 2\) packs 3 inputs of \(\) into \(0,\)"),
        (5, (4,), r"PACK \(operator 2\) packs 3 inputs of \(\) into \(4,\)"),
        (5, (), r"PACK \(operator 2\) has axis 0 of \(\)"),
    ],
)
def test_what_tflm_would_write_beyond_its_tensors_is_refused(tensor: int, shape: Sequence[int], said: str) -> None:
    whole = schema.ModelT.InitFromObj(schema.Model.GetRootAs(shaped(), 0))
    whole.subgraphs[0].tensors[tensor].shape = np.array(shape, np.int32)
    with pytest.raises(TflmError, match=said):
        TflmModel(packed(whole))
    with pytest.raises(PlanError, match="SHAPE"):
        compile_plan(packed(whole))


def test_a_shape_that_is_also_an_output_is_refused() -> None:
    parts = [Part((1, 12), 0.05, -7), Part((2,), kind="int32")]
    with pytest.raises(PlanError, match=r"model output \(t1\) is int32"):
        compile_plan(model_of(parts, [("SHAPE", [0], [1], options_of("ShapeOptions", outType=2))]))


def test_a_long_chain_of_shapes_takes_no_time() -> None:
    """A value that something else reads at the end: each operator of the chain is looked at once, not once for each other."""
    count = 1500
    parts = [Part((1, 12), 0.05, -7), Part((1, 12), 0.05, -7), *(Part((2,), kind="int32") for _ in range(count))]
    whole = [len(parts) + place for place in range(3)]
    parts += [Part((1,), content=np.array([number], np.int32)) for number in (0, 2, 1)]
    steps: List[Operator] = [("SHAPE", [0], [2], options_of("ShapeOptions", outType=2))]
    for place in range(2, count + 1):
        steps.append(("STRIDED_SLICE", [place, *whole], [place + 1], options_of("StridedSliceOptions")))
    steps.append(("ADD", [0, count + 1], [1], options_of("AddOptions")))
    model = model_of(parts, steps)
    began = time.process_time()
    with pytest.raises(PlanError, match="operator 0 is SHAPE"):
        compile_plan(model)
    assert time.process_time() - began < 20


@pytest.mark.parametrize(
    ("fields", "first"), [({"beginMask": 1}, 1), ({"beginMask": 2}, 12), ({"shrinkAxisMask": 3}, 12)]
)
def test_masks_are_of_the_axes_there_are(fields: Dict[str, int], first: int) -> None:
    """The slice begins at 1 of (1, 12), or at 0 where the mask says so; masks of other axes say nothing."""
    model = shaped(("batch", -1), (1, 2, 6))
    whole = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
    operators = whole.subgraphs[0].operators
    (cut,) = (op for op in operators if op.builtinOptionsType == schema.BuiltinOptions.StridedSliceOptions)
    for name, value in fields.items():
        setattr(cut.builtinOptions, name, value)
    begin = whole.subgraphs[0].tensors[cut.inputs[1]].buffer
    whole.buffers[begin].data = np.frombuffer(np.array([1], np.int32).tobytes(), np.uint8)
    with pytest.raises(PlanError, match=rf"its output has shape \(1, 2, 6\), computed is \[{first}, -1\]"):
        compile_plan(packed(whole))


def test_a_shape_whose_size_is_beyond_32_bits_is_refused() -> None:
    """Its size is 16 when it is counted in 64 or 32 bits, as in the tensors before and after it."""
    odd = (818629865, 1474212863, 2016963671, 66647, 110263)
    assert math.prod(odd) % 2**64 == 1
    parts = [Part((1, 16), 0.05, -7), Part((1, 16), 0.05, -7), Part((16, *odd), 0.05, -7)]
    steps: List[Operator] = [("RESHAPE", [0], [2], None), ("RESHAPE", [2], [1], None)]
    for use in (compile_plan, TflmModel):
        with pytest.raises(TfliteError, match="more elements than 32 bits count"):
            use(model_of(parts, steps))

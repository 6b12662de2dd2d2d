"""The .tflite reader agrees with the schema's generated reader on real files, and fails cleanly on damaged ones."""

import contextlib
from pathlib import Path
from typing import Any, Callable, List, Tuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_export.errors import TfliteError
from model_export.tflite_file import read_tflite
from model_export.tflite_names import OPERATOR_NAMES, TENSOR_TYPES

MODELS = ["ad", "kws", "vww", "ic"]


@pytest.fixture(scope="module")
def mlperf_tiny(shared_data: Callable[[str], Path]) -> Path:
    return shared_data("mlperf-tiny")


@pytest.fixture(scope="module")
def schema() -> Any:
    return pytest.importorskip("ai_edge_litert.schema_py_generated")


def test_names_are_those_of_the_schema(schema: Any) -> None:
    operators = {v: k for k, v in vars(schema.BuiltinOperator).items() if not k.startswith("_")}
    assert tuple(operators[i] for i in range(len(operators))) == OPERATOR_NAMES
    types = {v: k.lower() for k, v in vars(schema.TensorType).items() if not k.startswith("_")}
    assert tuple(types[i] for i in range(len(types))) == TENSOR_TYPES


@pytest.mark.parametrize("name", MODELS)
def test_equals_the_generated_reader(schema: Any, mlperf_tiny: Path, name: str) -> None:
    blob = (mlperf_tiny / f"{name}_int8.tflite").read_bytes()
    ours = read_tflite(blob)
    theirs = schema.ModelT.InitFromObj(schema.Model.GetRootAs(blob, 0))
    graph = theirs.subgraphs[0]
    assert ours.inputs == tuple(graph.inputs)
    assert ours.outputs == tuple(graph.outputs)
    for op, want in zip(ours.ops, graph.operators):
        code = theirs.operatorCodes[want.opcodeIndex]
        assert (op.code_int, op.version) == (max(code.builtinCode, code.deprecatedBuiltinCode), code.version)
        assert op.inputs == tuple(want.inputs)
        assert op.outputs == tuple(want.outputs)
        options = want.builtinOptions
        if op.code in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            assert (op.options["stride_h"], op.options["stride_w"]) == (options.strideH, options.strideW)
            assert (op.options["dilation_h"], op.options["dilation_w"]) == (
                options.dilationHFactor,
                options.dilationWFactor,
            )
            assert op.options["padding"] == ("same", "valid")[options.padding]
        if op.code == "AVERAGE_POOL_2D":
            assert (op.options["filter_h"], op.options["filter_w"]) == (options.filterHeight, options.filterWidth)
        if op.code == "SOFTMAX":
            assert op.options["beta"] == options.beta
        if "activation" in op.options:
            number = options.fusedActivationFunction
            assert op.options["activation"] == ("none", "relu", "relu_n1_to_1", "relu6")[number]
    assert len(ours.ops) == len(graph.operators)
    for tensor, want in zip(ours.tensors, graph.tensors):
        assert tensor.name == want.name.decode()
        assert tensor.shape == tuple(want.shape)
        if want.quantization is not None and want.quantization.scale is not None:
            np.testing.assert_array_equal(tensor.scales, np.asarray(want.quantization.scale, np.float32))
            np.testing.assert_array_equal(tensor.zero_points, want.quantization.zeroPoint)
            assert tensor.axis == want.quantization.quantizedDimension
        constant = theirs.buffers[want.buffer].data
        if constant is None or len(constant) == 0:
            assert tensor.data is None
            assert tensor.buffer_offset is None
        else:
            raw = np.asarray(constant, np.uint8).tobytes()
            assert tensor.data is not None
            assert tensor.buffer_offset is not None
            assert tensor.data.tobytes() == raw
            assert blob[tensor.buffer_offset : tensor.buffer_offset + len(raw)] == raw
    assert len(ours.tensors) == len(graph.tensors)


@given(st.binary(max_size=400))
def test_garbage_gives_only_tflite_error(blob: bytes) -> None:
    with pytest.raises(TfliteError):
        read_tflite(blob)
    with pytest.raises(TfliteError):
        read_tflite(blob[:4] + b"TFL3" + blob[4:])


@pytest.mark.parametrize("keep", [0, 7, 8, 100, 1000, 20000])
def test_truncated_file_is_refused(mlperf_tiny: Path, keep: int) -> None:
    blob = (mlperf_tiny / "kws_int8.tflite").read_bytes()
    with pytest.raises(TfliteError):
        read_tflite(blob[:keep])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**20), st.binary(min_size=1, max_size=8)), min_size=1, max_size=6))
def test_damaged_file_gives_a_model_or_tflite_error(mlperf_tiny: Path, damage: List[Tuple[int, bytes]]) -> None:
    blob = bytearray((mlperf_tiny / "kws_int8.tflite").read_bytes())
    tables = [*range(256), *range(25_000, len(blob))]  # what is not weights
    for where, patch in damage:
        at = tables[where % len(tables)]
        blob[at : at + len(patch)] = patch
    with contextlib.suppress(TfliteError):  # anything else escapes and fails the test
        model = read_tflite(bytes(blob))
        assert all(0 <= i < len(model.tensors) for op in model.ops for i in op.outputs)


def test_errors_say_where() -> None:
    with pytest.raises(TfliteError, match="identifier at byte 4"):
        read_tflite(b"PK\x03\x04" * 10)
    with pytest.raises(TfliteError, match="outside the file"):
        read_tflite(b"\xff\xff\xff\x7fTFL3" + bytes(32))

"""int8 models with float32 or uint8 edges, as converters make them by default: folded into scales, with the values of TFLM."""

import json
from pathlib import Path
from typing import Any, List, Tuple

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="its schema writes the models")
from one_op_models import Operator, Part, model_of, options_of

from model_export.bundle import verify_bundle, write_bundle
from model_export.edges import fold_edges
from model_export.errors import ExportError
from model_export.preflight import preflight
from model_export.tflite_file import read_tflite
from model_export.tflm import TflmModel
from orchestrator.boards.host_engine import run_direct
from orchestrator.cli.main import main

RNG = np.random.default_rng(0)
WEIGHTS = RNG.integers(-127, 128, (3, 5)).astype(np.int8)
QUANTIZE, DEQUANTIZE = ("QuantizeOptions", "QUANTIZE"), ("DequantizeOptions", "DEQUANTIZE")


def dense(entry: Part, leave: Part, outputs: Tuple[int, ...] = (1,)) -> bytes:
    """QUANTIZE, a dense layer, and what makes `leave` of its output; tensors 2 and 3 are the int8 ones between."""
    last = DEQUANTIZE if leave.kind == "float32" else QUANTIZE
    parts = [entry, leave, Part((1, 5), 0.05, -7), Part((1, 3), 0.1, 20)]
    parts += [Part((3, 5), 0.01, 0, WEIGHTS), Part((3,), 0.0005, 0, np.array([100, -200, 300], np.int32))]
    operators: List[Operator] = [
        ("QUANTIZE", [0], [2], options_of(QUANTIZE[0])),
        ("FULLY_CONNECTED", [2, 4, 5], [3], options_of("FullyConnectedOptions")),
        (last[1], [3], [1], options_of(last[0])),
    ]
    return model_of(parts, operators, outputs=outputs)


def wheel(blob: bytes, rows: np.ndarray) -> np.ndarray:
    runtime = pytest.importorskip("tflite_micro", reason="the tflite-micro wheel is the oracle").runtime
    interpreter = runtime.Interpreter.from_bytes(blob)
    found = []
    for row in rows:
        interpreter.set_input(row[None], 0)
        interpreter.invoke()
        found.append(np.array(interpreter.get_output(0))[0])
    return np.array(found)


FLOAT = (Part((1, 5), None, kind="float32"), Part((1, 3), None, kind="float32"))
UINT8 = (Part((1, 5), 0.05, 121, kind="uint8"), Part((1, 3), 0.1, 148, kind="uint8"))


def test_float_edges_become_scales() -> None:
    blob = dense(*FLOAT)
    folded, said = fold_edges(blob)
    assert said == ("float32 input", "float32 output")
    assert [op.code for op in read_tflite(folded).ops] == ["FULLY_CONNECTED"]
    assert len(folded) == len(blob)
    assert fold_edges(folded) == (folded, ())
    x = np.concatenate([RNG.normal(0, 3, (200, 5)), np.full((1, 5), 1e7), np.full((1, 5), -1e7)]).astype(np.float32)
    model = TflmModel(folded)
    rows = model.input.quantize(x)
    assert {-128, 127} <= set(rows.reshape(-1).tolist())
    want = wheel(blob, x)
    np.testing.assert_array_equal(model.output.dequantize(model.run(rows)), want)
    np.testing.assert_array_equal(model.output.dequantize(run_direct(folded, rows)), want)


def test_uint8_edges_are_the_same_bits_less_128() -> None:
    blob = dense(*UINT8)
    folded, said = fold_edges(blob)
    assert said == ("uint8 input", "uint8 output")
    x = RNG.integers(0, 256, (100, 5)).astype(np.uint8)
    found = run_direct(folded, (x.astype(int) - 128).astype(np.int8))
    np.testing.assert_array_equal(found.astype(int) + 128, wheel(blob, x))


def test_one_edge_alone_is_folded() -> None:
    folded, said = fold_edges(dense(FLOAT[0], Part((1, 3), 0.2, 3)))
    assert said == ("float32 input",)
    assert [op.code for op in read_tflite(folded).ops] == ["FULLY_CONNECTED", "QUANTIZE"]


@pytest.mark.parametrize(
    "blob",
    [
        dense(Part((1, 5), 0.06, 121, kind="uint8"), UINT8[1], outputs=(3,)),
        dense(Part((1, 5), 0.05, 120, kind="uint8"), UINT8[1], outputs=(3,)),
        model_of([FLOAT[0], FLOAT[0]], [("RELU", [0], [1], None)]),
        model_of([FLOAT[0], Part((1, 5), 0.1, 0)], [("QUANTIZE", [0], [1], options_of(QUANTIZE[0]))]),
        dense(*FLOAT, outputs=(1, 3)),
    ],
    ids=["another scale", "another zero point", "float throughout", "nothing else", "two outputs"],
)
def test_what_stays_as_it_is(blob: bytes) -> None:
    assert fold_edges(blob) == (blob, ())


def test_an_input_that_others_read_stays() -> None:
    parts = [*FLOAT, Part((1, 5), 0.05, -7), Part((1, 5), None, kind="float32")]
    blob = model_of(parts, [("QUANTIZE", [0], [2], options_of(QUANTIZE[0])), ("RELU", [0], [3], None)], outputs=(2,))
    assert fold_edges(blob) == (blob, ())


def test_a_bundle_and_the_commands_take_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "dense.tflite"
    file.write_bytes(dense(*FLOAT))
    np.save(tmp_path / "x.npy", RNG.normal(0, 2, (50, 5)).astype(np.float32))
    export = ["model", "export", str(file), "--out", str(tmp_path / "b"), "--representative", str(tmp_path / "x.npy")]
    assert main(export) == 0
    assert "float32 input and float32 output: int8 here" in capsys.readouterr().err
    manifest = verify_bundle(tmp_path / "b")
    assert [op["name"] for op in manifest["operators"]] == ["FULLY_CONNECTED"]
    assert (manifest["input"]["dtype"], manifest["input"]["zero_point"]) == ("int8", -7)
    assert manifest["output"]["scale"] == pytest.approx(0.1)
    assert main(["model", "verify", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["engines"] == {"rows": 256, "direct_skipped": None}
    found: Any = preflight(file.read_bytes(), "esp32c3", 400_000)
    assert found.ok
    assert "float32 input and float32 output: int8 once" in next(
        f.message for f in found.findings if f.check == "edges"
    )


def test_the_bundle_says_where_its_ranges_come_from(tmp_path: Path) -> None:
    manifest = write_bundle(tmp_path / "b", tflite=dense(*FLOAT), name="m")
    assert manifest["origin"]["int8_ranges"] == (
        "as they were in the .tflite, whose float32 input and float32 output became int8 by its own scales"
    )


def test_activations_of_16_bits_are_refused_by_name() -> None:
    """int16x8, with int16 edges: what stands at the edge alone would say nothing of it."""
    weights = np.arange(-8, 8).astype(np.int8).reshape(2, 8)
    parts = [
        Part((1, 8), 1e-4, 0, kind="int16"),
        Part((1, 2), 1e-3, 0, kind="int16"),
        Part(weights.shape, 0.01, 0, weights),
    ]
    blob = model_of(parts, [("FULLY_CONNECTED", [0, 2, -1], [1], options_of("FullyConnectedOptions"))])
    with pytest.raises(
        ExportError, match="activations of 16 bits .int16x8. are not supported, convert it with TFLITE_BUILTINS_INT8"
    ):
        TflmModel(fold_edges(blob).tflite)

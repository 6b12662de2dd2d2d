"""Layers that carry a state: each row that is a whole series begins without one, on every way a model is run."""

import struct
from pathlib import Path
from typing import Any, Callable, Dict

import numpy as np
import pytest
from operator_cases import CASES
from operator_draws import Draw

pytest.importorskip("ai_edge_litert", reason="its schema writes the models")
from ai_edge_litert import schema_py_generated as schema
from one_op_models import Part, model_of, options_of, packed
from plan_damage import every_word_damaged
from state_models import HANDLE

from model_export.arena32 import predict_arena
from model_export.bundle import verify_bundle, write_bundle
from model_export.errors import TflmError
from model_export.operators.recurrent import each_row_a_series, lstm, sigmoid_table
from model_export.plan import compile_plan
from model_export.plan_context import Context
from model_export.plan_steps import PlanError
from model_export.tflite_file import read_tflite
from model_export.tflm import TflmModel
from model_export.variables import kept_bytes
from orchestrator.boards.client import BoardClient
from orchestrator.boards.host_engine import SANITIZE, HostBuildError, run_direct, run_plan
from orchestrator.boards.virtual import VirtualBoard

OP = "UNIDIRECTIONAL_SEQUENCE_LSTM"


def test_an_answer_does_not_follow_from_the_rows_before(
    small_models: Dict[str, bytes], make_rows: Callable[..., np.ndarray]
) -> None:
    model = small_models["remembered"]
    rows = make_rows(model, 12)
    one_by_one = np.concatenate([TflmModel(model).run(row[None]) for row in rows[:3]])
    for run in (TflmModel(model).run, lambda some: run_direct(model, some)):
        forwards = run(rows)
        np.testing.assert_array_equal(run(rows[::-1])[::-1], forwards)
        np.testing.assert_array_equal(forwards[:3], one_by_one)


def test_a_board_answers_the_same_in_any_order(
    small_models: Dict[str, bytes], make_rows: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    model = small_models["remembered"]
    write_bundle(tmp_path / "bundle", tflite=model, name="series", engine="direct")
    rows = make_rows(model, 12)
    want = TflmModel(model).run(rows).reshape(len(rows), -1)
    with VirtualBoard(tmp_path / "bundle" / "model.bin") as board, BoardClient(board.port) as client:
        np.testing.assert_array_equal(client.infer(rows).outputs, want)
        assert client.selftest()["mismatches"] == 0
        np.testing.assert_array_equal(client.infer(rows[::-1]).outputs, want[::-1])


def test_the_arena_of_a_board_is_known_to_the_byte(small_models: Dict[str, bytes]) -> None:
    found = predict_arena(small_models["remembered"], TflmModel(small_models["remembered"]))
    assert found.confirmed
    assert not found.unknown_operators


def beside_a_variable(steps: int = 3) -> bytes:
    """A sum over all rows, and a layer over its steps."""
    rng = np.random.default_rng(4)
    width, units = 4, 6
    series, hidden = Part((1, steps, width), 0.02, -7), Part((1, units), 1 / 128, 3, variable=True)
    parts = [series, hidden._replace(shape=(1, steps, units), variable=False)]
    parts += [Part((units, width), 0.01, 0, rng.integers(-128, 128, (units, width)).astype(np.int8)) for _ in range(4)]
    parts += [Part((units, units), 0.01, 0, rng.integers(-128, 128, (units, units)).astype(np.int8)) for _ in range(4)]
    parts += [Part((units,), 2e-4, 0, rng.integers(-2000, 2000, units).astype(np.int32)) for _ in range(4)]
    parts += [hidden, Part((1, units), 2.0**-11, 0, kind="int16", variable=True)]
    parts += [HANDLE, series._replace(scales=0.03), series._replace(scales=0.03)]
    reads = [18, *range(2, 10), -1, -1, -1, *range(10, 14), -1, -1, 14, 15, -1, -1, -1, -1]
    return model_of(
        parts,
        [
            ("VAR_HANDLE", [], [16], options_of("VarHandleOptions", sharedName=b"sum")),
            ("READ_VARIABLE", [16], [17], options_of("ReadVariableOptions")),
            ("ADD", [0, 17], [18], options_of("AddOptions")),
            ("ASSIGN_VARIABLE", [16, 18], [], options_of("AssignVariableOptions")),
            (OP, reads, [1], options_of("UnidirectionalSequenceLSTMOptions", fusedActivationFunction=4, cellClip=10.0)),
        ],
    )


@pytest.fixture(scope="module")
def kept() -> Dict[str, bytes]:
    """Models whose layer goes on with what the row before left."""
    draws = (CASES[OP](Draw(np.random.default_rng(seed)))[1] for seed in range(100))
    single = next(blob for blob in draws if not each_row_a_series(read_tflite(blob)))
    return {"single step": single, "beside a variable": beside_a_variable()}


@pytest.mark.parametrize("name", ["single step", "beside a variable"])
def test_a_layer_that_goes_on_gives_the_bits_of_tflm(
    kept: Dict[str, bytes], make_rows: Callable[..., np.ndarray], tmp_path: Path, name: str
) -> None:
    """From the initial state, whenever a run begins; and what is kept is in the arena."""
    model = kept[name]
    rows = make_rows(model, 30)
    want = TflmModel(model).run(rows).reshape(len(rows), -1)
    later = TflmModel(model).run(rows[5:]).reshape(len(rows) - 5, -1)
    assert (later != want[5:]).any(), "nothing is kept"
    np.testing.assert_array_equal(run_direct(model, rows, SANITIZE), want)
    plan = compile_plan(model)
    assert plan.state_bytes == TflmModel(model).state_bytes == kept_bytes(read_tflite(model)) > 0
    assert predict_arena(model, TflmModel(model)).confirmed
    write_bundle(tmp_path / "bundle", tflite=model, name="series", engine="direct")
    verify_bundle(tmp_path / "bundle")
    with VirtualBoard(tmp_path / "bundle" / "model.bin") as board, BoardClient(board.port) as client:
        for _ in range(2):
            np.testing.assert_array_equal(client.infer(rows).outputs, want)
        assert client.selftest()["mismatches"] == 0
        np.testing.assert_array_equal(client.infer(rows[5:]).outputs, later)


def test_a_state_of_two_operators_is_refused() -> None:
    """One would go on with what the other left."""
    whole = schema.ModelT.InitFromObj(schema.Model.GetRootAs(beside_a_variable(), 0))
    graph = whole.subgraphs[0]
    graph.operators[2].inputs = np.array([0, 14], np.int32)
    graph.tensors[14].shape = np.array([1, 1, 6], np.int32)
    graph.tensors[0].shape = graph.tensors[17].shape = graph.tensors[18].shape = np.array([1, 3, 6], np.int32)
    with pytest.raises(PlanError, match=rf"operator 4 \({OP}\): input 18 .* is also used elsewhere"):
        compile_plan(packed(whole))


@pytest.mark.parametrize("name", ["single step", "beside a variable"])
def test_every_word_of_a_plan_that_keeps_state_damaged(kept: Dict[str, bytes], name: str) -> None:
    refused, ran = every_word_damaged(kept[name])
    assert refused > 500
    assert ran > 200, "hardly anything ran: nothing was proven about the kernel"


@pytest.mark.parametrize(
    ("word", "value", "reason"),
    [
        (3, 1 << 24, "bad place of what is kept"),
        (3, 1, "bad place of what is kept"),
        (3, "input", "bad place of what is kept"),
        (3, "output", "bad place of what is kept"),
        (27, 0, "bad scratch"),
    ],
)
def test_a_damaged_place_of_what_is_kept_is_refused(kept: Dict[str, bytes], word: int, value: Any, reason: str) -> None:
    model = kept["single step"]
    plan = bytearray(compile_plan(model).blob)
    count, first = (struct.unpack_from("<I", plan, place)[0] for place in (20, 28))
    assert (count, first) == (3, 2)
    record = 64 + 128 * 2
    if isinstance(value, str):
        (value,) = struct.unpack_from("<I", plan, record + 4 * {"input": 2, "output": 4}[value])
        value -= value % 2
    struct.pack_into("<I", plan, record + 4 * word, value)
    with pytest.raises(HostBuildError, match=reason):
        run_plan(model, bytes(plan), np.zeros((1, compile_plan(model).input_bytes), np.int8))


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        *((word, -1, "weights outside the .tflite section") for word in (0, 1, 6, 19)),
        *((word, -1, "bad multiplier") for word in (2, 4, 20, 24, 26, 28, 30)),
        *((word, 31, "bad multiplier") for word in (3, 5, 25, 29)),
        (30, 1 << 30, "bad multiplier"),
        (31, -1, "bad shift"),
        (31, 14, "bad shift"),
        (32, -1, "bad clip"),
        (32, 1 << 15, "bad clip"),
    ],
)
def test_a_damaged_table_is_refused(small_models: Dict[str, bytes], place: int, value: int, reason: str) -> None:
    model = small_models["remembered"]
    parsed = read_tflite(model)
    plan = compile_plan(model).blob
    table = lstm(Context(parsed, parsed.ops[0])).table
    at = plan.index(table) + 4 * place
    damaged = plan[:at] + struct.pack("<I", value & 0xFFFFFFFF) + plan[at + 4 :]
    width = parsed.tensors[0].shape[1] * parsed.tensors[0].shape[2]
    with pytest.raises(HostBuildError, match=reason):
        run_plan(model, damaged, np.zeros((1, width), np.int8))


def test_the_table_is_a_sigmoid() -> None:
    away = sigmoid_table().astype(float) / 2**16 - 1 / (1 + np.exp(-np.arange(256) / 24))
    assert np.abs(away).max() < 1.2 * 2**-16
    assert (np.diff(sigmoid_table().astype(int)) >= 0).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"activation": "relu"}, "activation relu; supported is tanh"),
        ({"cell_clip": 1e-9}, "less than a step"),
    ],
)
def test_what_is_not_supported_is_named(small_models: Dict[str, bytes], change: Dict[str, Any], said: str) -> None:
    parsed = read_tflite(small_models["remembered"])
    parsed.ops[0].options.update(change)
    with pytest.raises(PlanError, match=rf"operator 0 \({OP}\): .*{said}"):
        lstm(Context(parsed, parsed.ops[0]))


def test_a_state_of_one_dimension_is_refused_as_by_tflm() -> None:
    whole = schema.ModelT.InitFromObj(schema.Model.GetRootAs(CASES[OP](Draw(np.random.default_rng(0)))[1], 0))
    hidden = whole.subgraphs[0].tensors[14]
    hidden.shape = hidden.shape[1:]
    with pytest.raises(PlanError, match=r"the state t14 has shape \(\d+,\)"):
        compile_plan(packed(whole))
    with pytest.raises(TflmError):
        TflmModel(packed(whole))

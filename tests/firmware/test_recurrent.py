"""Layers that carry a state: each row that is a whole series begins without one, on every way a model is run."""

import struct
from pathlib import Path
from typing import Any, Callable, Dict

import numpy as np
import pytest
from operator_cases import CASES
from operator_draws import Draw

from model_export.arena32 import predict_arena
from model_export.bundle import write_bundle
from model_export.operators.recurrent import each_row_a_series, lstm, sigmoid_table
from model_export.plan import compile_plan
from model_export.plan_context import Context
from model_export.plan_steps import PlanError
from model_export.tflite_file import read_tflite
from model_export.tflm import TflmModel
from orchestrator.boards.client import BoardClient
from orchestrator.boards.host_engine import HostBuildError, run_direct, run_plan
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


def test_steps_of_one_series_in_several_rows_are_refused_by_name() -> None:
    """Their state would have to stay from row to row."""
    drawn = CASES[OP](Draw(np.random.default_rng(0)))[1]
    model = read_tflite(drawn)
    assert each_row_a_series(model)
    shape = struct.pack("<3i", *model.tensors[0].shape)
    one = struct.pack("<3i", 1, 1, model.tensors[0].shape[2])
    out, one_out = (struct.pack("<3i", *sizes) for sizes in (model.tensors[1].shape, (1, 1, model.tensors[1].shape[2])))
    single = drawn.replace(shape, one).replace(out, one_out)
    assert not each_row_a_series(read_tflite(single))
    with pytest.raises(PlanError, match=rf"operator 0 \({OP}\): one step for each row, so that its state has to stay"):
        compile_plan(single)


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

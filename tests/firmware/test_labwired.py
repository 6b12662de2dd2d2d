"""The whole firmware on a simulated ESP32-C3 (labwired): it boots, proves its model, and answers over its UART.

A simulation of one instruction per cycle: what it says of time means nothing.
"""

import importlib.metadata
import re
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple

import numpy as np
import pytest
from random_trees import random_trees, rows_for

from model_export.model_bin import KnownAnswers, pack_model_bin, parse_model_bin
from model_export.plan import compile_plan
from model_export.trees import pack_trees, run_trees
from model_export.trees_rows import telling_rows
from orchestrator.boards.host_engine import HostBuildError
from orchestrator.boards.protocol import FRAME_INFER, Record, RecordParser, encode_frame
from orchestrator.boards.rv32 import COMPILER, c3_elf, missing

labwired = pytest.importorskip("labwired", reason="labwired 0.25.0 simulates the ESP32-C3; it comes with the dev extra")
PROBLEM = missing(COMPILER)
pytestmark = pytest.mark.skipif(PROBLEM is not None, reason=str(PROBLEM))

UART0_CLOCK_DIVIDER = 0x60000014
READY = "m-ready\r\n"


class Sample(NamedTuple):
    model_bin: bytes
    rows: np.ndarray
    outputs: np.ndarray


@pytest.fixture(scope="module")
def dense(
    small_models: Dict[str, bytes],
    tflm: Callable[[bytes, np.ndarray], np.ndarray],
    make_rows: Callable[..., np.ndarray],
) -> Sample:
    tflite = small_models["dense"]
    rows = make_rows(tflite, 8)
    outputs = tflm(tflite, rows)
    plan = compile_plan(tflite)
    blob = pack_model_bin(
        name="dense",
        tflite=tflite,
        plan=plan.blob,
        arena_tflm_bytes=4000,
        arena_direct_bytes=plan.arena_bytes,
        known_answers=KnownAnswers(rows[:2], outputs[:2]),
    )
    return Sample(blob, rows, outputs)


class SimulatedC3:
    def __init__(self, sim: Any) -> None:
        self.sim = sim
        self._parser = RecordParser()
        self._parsed = 0
        sim.write_u32(UART0_CLOCK_DIVIDER, 1)  # as fast as the simulator lets characters leave

    def ask(self, command: str) -> List[str]:
        """The lines that answer a command of the MLPerf Tiny runner."""
        before = len(self.sim.uart_transcript())
        self.sim.send(command + "%")
        for _ in range(500):
            self.sim.run_for("1ms")
            answer = self.sim.uart_transcript()[before:]
            if answer.endswith(READY):
                return [line for line in answer.split("\r\n") if line]
        raise AssertionError(f"no answer to {command}: {answer!r}")

    def record(self, kind: str) -> Record:
        """The next record of a kind."""
        for _ in range(500):
            sent = self.sim.uart_transcript().encode()
            found = self._parser.feed(sent[self._parsed :])
            self._parsed = len(sent)
            for record in found:
                if record.kind == kind:
                    return record
            self.sim.run_for("1ms")
        raise AssertionError(f"no {kind} record in {self.sim.uart_transcript()[-500:]!r}")


@pytest.fixture
def board(dense: Sample, tmp_path: Path) -> Iterator[SimulatedC3]:
    with labwired.Sim(str(c3_elf(dense.model_bin, tmp_path / "c3.elf")), chip="esp32c3") as sim:
        yield SimulatedC3(sim)


def test_the_simulator_is_the_pinned_one() -> None:
    assert importlib.metadata.version("labwired") == "0.25.0"


def test_boot_proves_the_model(board: SimulatedC3, dense: Sample) -> None:
    boot = board.record("boot").fields
    assert (boot["chip"], boot["simulated"], boot["engine"], boot["reset"]) == ("esp32c3", True, "direct", "power_on")
    model = board.record("model")
    assert model.model == parse_model_bin(dense.model_bin).digest
    assert model.fields["slot"] == "a"


def test_the_runners_commands(board: SimulatedC3, dense: Sample) -> None:
    board.record("model")
    while not board.sim.uart_transcript().endswith(READY):  # its greeting
        board.sim.run_for("1ms")
    assert board.ask("name") == ["m-name-dut-[edgeward]", "m-ready"]
    assert board.ask("profile")[1:] == ["m-model-[dense]", "m-ready"]
    assert re.fullmatch(r"m-lap-us-\d+", board.ask("timestamp")[0])
    row = dense.rows[6]
    assert board.ask(f"db load {len(row)}") == [f"m-[Expecting {len(row)} bytes]", "m-ready"]
    assert "m-load-done" in board.ask("db " + row.tobytes().hex())
    answer = board.ask("infer 1 0")
    assert answer[:3] == ["m-warmup-start-0", "m-warmup-done", "m-infer-start-1"]
    assert answer[-1] == "m-ready"
    values = [float(text) for text in answer[-2].removeprefix("m-results-[").rstrip("]").split(",")]
    np.testing.assert_allclose(values, (dense.outputs[6] + 128.0) / 256, atol=0.0006)
    assert board.ask("nonsense")[0].startswith("e-[")


def test_bits_of_an_inference_and_a_restart(board: SimulatedC3, dense: Sample) -> None:
    board.record("model")
    for number in (4, 7):
        board.sim.send_bytes(encode_frame(FRAME_INFER, number, dense.rows[number].tobytes()))
        result = board.record("result")
        assert result.fields["id"] == number
        assert bytes.fromhex(result.fields["out"]) == dense.outputs[number].tobytes()
    board.sim.send("\nselftest\n")
    tested = board.record("selftest").fields
    assert (tested["rows"], tested["mismatches"]) == (2, 0)
    board.sim.send("\nreboot\n")
    again = board.record("boot")
    assert again.fields["reset"] == "restart"
    assert board.record("model").model == parse_model_bin(dense.model_bin).digest


def test_two_runs_are_the_same(dense: Sample, tmp_path: Path) -> None:
    seen = []
    for _ in range(2):
        with labwired.Sim(str(c3_elf(dense.model_bin, tmp_path / "c3.elf")), chip="esp32c3") as sim:
            SimulatedC3(sim).record("model")
            seen.append((sim.cycles, sim.uart_transcript()))
    assert seen[0] == seen[1]


def test_a_model_that_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(HostBuildError, match="69632"):
        c3_elf(bytes(70_000), tmp_path / "c3.elf")


def test_the_whole_firmware_runs_trees(tmp_path: Path) -> None:
    trees = random_trees(1)
    rows = telling_rows(trees)
    model_bin = pack_model_bin(
        name="trees",
        tflite=pack_trees(trees),
        arena_tflm_bytes=trees.arena_bytes,
        arena_direct_bytes=trees.arena_bytes,
        known_answers=KnownAnswers(rows, run_trees(trees, rows)),
    )
    with labwired.Sim(str(c3_elf(model_bin, tmp_path / "c3.elf")), chip="esp32c3") as sim:
        board = SimulatedC3(sim)
        assert board.record("model").fields["name"] == "trees"
        row = rows_for(trees, 9)[7]
        sim.send_bytes(encode_frame(FRAME_INFER, 7, row.tobytes()))
        assert bytes.fromhex(board.record("result").fields["out"]) == run_trees(trees, row[np.newaxis]).tobytes()
        sim.send("\nselftest\n")
        assert board.record("selftest").fields == {"rows": len(rows), "mismatches": 0}

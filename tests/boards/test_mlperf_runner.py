"""The MLPerf Tiny runner's commands, spoken by an independent client: raw bytes over the port, `%` and `m-ready`."""

import contextlib
import re
from pathlib import Path
from typing import Callable, Iterator, Tuple

import numpy as np
import pytest
from board_sample import Sample
from mlperf_client import Runner

from model_export.model_bin import pack_model_bin
from model_export.plan import compile_plan
from model_export.tflm import TflmModel
from orchestrator.boards.conversation import open_port
from orchestrator.boards.virtual import VirtualBoard


def started(model_bin: bytes) -> Iterator[Runner]:
    with VirtualBoard(model_bin) as board:
        connected = Runner(board.port)
        connected.device.reset_input_buffer()
        connected.device.write(b"%")
        while b"Unknown command" not in connected.device.read_until(b"m-ready\r\n"):
            pass
        yield connected
        connected.device.close()


@pytest.fixture(scope="module")
def runner(sample: Sample) -> Iterator[Runner]:
    yield from started(sample.model_bin)


def test_it_greets_after_a_reset(sample: Sample) -> None:
    with VirtualBoard(sample.model_bin) as board:
        device = open_port(board.port)
        device.timeout = 10
        device.write(b"reboot\n")
        device.read_until(b'"kind":"reboot"')
        greeting = device.read_until(b"m-ready\r\n").decode()
        device.close()
    shape = r"m-timestamp-mode-performance\r\nm-lap-us-\d+\r\nm-init-done\r\nm-ready\r\n$"
    assert re.search(shape, greeting)


def test_names_and_time(runner: Runner) -> None:
    assert runner.ask("name") == ["m-name-dut-[edgeward]"]
    profile = runner.ask("profile")
    assert profile[0].startswith("m-profile-[")
    assert profile[1] == "m-model-[kws01]"
    first, second = (int(runner.ask("timestamp")[0].split("m-lap-us-")[1]) for _ in range(2))
    assert second > first
    assert len(runner.ask("help")) == 1


def test_inference_over_text(runner: Runner, sample: Sample) -> None:
    runner.load(sample.rows[1].tobytes())
    answer = runner.ask("infer 5 2")
    assert answer[:3] == ["m-warmup-start-2", "m-warmup-done", "m-infer-start-5"]
    assert all(re.fullmatch(r"m-lap-us-\d+", text) for text in answer[3:5])
    start, end = (int(text[len("m-lap-us-") :]) for text in answer[3:5])
    assert end > start
    assert answer[5] == "m-infer-done"
    want = (sample.outputs[1].astype(int) + 128) / 256
    assert answer[6] == f"m-results-[{','.join(f'{v + 1e-9:.3f}' for v in want)}]"
    assert runner.ask("results") == [answer[6]]
    assert runner.ask("infer")[0] == "m-warmup-start-10"
    assert runner.ask("infer 1 0")[-1] == answer[6], "repeating on the same sample gives the same results"


def test_print_shows_what_was_loaded(runner: Runner) -> None:
    runner.load(bytes(range(11)))
    assert runner.ask("db print") == ["m-buffer-00-01-02-03-04-05-06-07", "m-buffer-08-09-0a"]


def test_a_sample_of_the_wrong_size_is_refused(runner: Runner) -> None:
    runner.load(bytes(11))
    assert runner.ask("infer 1") == ["e-[Load 490 bytes first]"]


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("dance", "e-[Unknown command: dance]"),
        ("", "e-[Unknown command: ]"),
        ("db", "e-[Command 'db' requires a subcommand]"),
        ("db load", "e-[Command 'db load' requires the # of bytes]"),
        ("db load 0", "e-[Command 'db load' must be >0 bytes]"),
        ("db load 40000", "e-[Command 'db load': more bytes than the sample buffer]"),
        ("db load 99999999999999", "e-[Command 'db load' must be >0 bytes]"),
        ("infer 0", "e-[Inference count must be greater than zero]"),
        ("infer x", "e-[Inference count must be greater than zero]"),
    ],
)
def test_errors(runner: Runner, command: str, answer: str) -> None:
    assert runner.ask(command) == [answer]


def test_more_than_announced_cannot_overrun(runner: Runner) -> None:
    runner.ask("db load 40000")
    assert runner.ask("db 00") == ["e-[Command 'db' before 'db load']"] or runner.ask("db 00")[0].startswith("e-[")
    runner.ask("db load 4")
    assert runner.ask("db 0011223344") == ["e-[More bytes than 'db load' announced]"]
    assert runner.ask("db print") == ["m-buffer-00-11-22-33"]
    runner.ask("db load 4")
    assert runner.ask("db 0g") == ["e-[Invalid hex digit]"]
    assert runner.ask("db 000") == ["e-[Insufficient number of hex digits]"]


def test_results_match_the_frames(runner: Runner, sample: Sample) -> None:
    outputs = []
    for row in sample.rows[2:6]:
        runner.load(row.tobytes())
        text = runner.ask("infer 1 0")[-1]
        outputs.append([float(v) for v in text[len("m-results-[") : -1].split(",")])
    np.testing.assert_allclose(np.array(outputs), (sample.outputs[2:6].astype(int) + 128) / 256, atol=5.1e-4)


@contextlib.contextmanager
def benchmark(shared_data: Callable[[str], Path], name: str) -> Iterator[Tuple[Runner, TflmModel]]:
    blob = (shared_data("mlperf-tiny") / f"{name}_int8.tflite").read_bytes()
    plan = compile_plan(blob)
    packed = pack_model_bin(
        name=name, tflite=blob, arena_tflm_bytes=1, plan=plan.blob, arena_direct_bytes=plan.arena_bytes
    )
    runs = started(packed)
    yield next(runs), TflmModel(blob)
    for _ in runs:
        pass


def results(runner: Runner, sample: bytes) -> np.ndarray:
    runner.load(sample)
    text = runner.ask("infer 1 0")[-1]
    assert text.startswith("m-results-["), text
    return np.array([float(v) for v in text[len("m-results-[") : -1].split(",")])


@pytest.mark.parametrize("name", ["ic", "vww"])
def test_images_are_uint8_as_the_reference_takes_them(name: str, shared_data: Callable[[str], Path]) -> None:
    pixels = (
        np.random.default_rng(1).integers(0, 256, (2, 32 * 32 * 3 if name == "ic" else 96 * 96 * 3)).astype(np.uint8)
    )
    pixels[1] = np.resize(np.arange(256), pixels.shape[1])
    with benchmark(shared_data, name) as (runner, tflm):
        found = [results(runner, row.tobytes()) for row in pixels]
    want = tflm.run((pixels.astype(int) - 128).astype(np.int8))
    assert (want != tflm.run(pixels.view(np.int8))).any(), "taken as int8 these are other images"
    np.testing.assert_allclose(found, tflm.output.dequantize(want), atol=5.1e-4)


def test_an_autoencoder_takes_float32_and_gives_its_error(shared_data: Callable[[str], Path]) -> None:
    rng = np.random.default_rng(2)
    rows = (rng.standard_normal((3, 640)) * [[1.0], [20.0], [4000.0]]).astype("<f4")
    rows[0, :4] = [0.19550761, -0.19550761, 1e9, -1e9]  # halves of a step, and what saturates
    rows[0, 2:4] = 0
    with benchmark(shared_data, "ad") as (runner, tflm):
        found = [results(runner, row.tobytes())[0] for row in rows]
        scale, zero = np.float32(tflm.input.scale), tflm.input.zero_point
        steps = (rows / scale).astype(float)
        quantized = np.clip(np.sign(steps) * np.floor(np.abs(steps) + 0.5) + zero, -128, 127).astype(np.int8)
        outputs = tflm.output.dequantize(tflm.run(quantized)).astype(float)
        np.testing.assert_allclose(found, ((outputs - rows) ** 2).mean(1), rtol=1e-4, atol=6e-4)
        assert len(results(runner, quantized[0].tobytes())) == 640, "an int8 sample has outputs, as before"
        assert len(results(runner, rows[0].tobytes())) == 1
        runner.load(np.full(640, np.nan, "<f4").tobytes())
        assert runner.ask("infer 1") == ["e-[The sample holds a value that is no finite number]"]
        assert results(runner, np.full(640, 3e38, "<f4").tobytes()) == [np.inf]


def test_float_samples_of_a_classifier_are_quantized(runner: Runner, sample: Sample) -> None:
    real = (sample.rows[1].astype(np.float32) - 83) * np.float32(0.5847029)
    np.testing.assert_allclose(
        results(runner, real.astype("<f4").tobytes()), (sample.outputs[1] + 128.0) / 256, atol=5.1e-4
    )

"""The MLPerf Tiny runner's streaming wake word on a virtual board, beside a simulated interface board that plays the sound."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import wave
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

import numpy as np
import pytest
from mlperf_client import Runner
from one_op_models import Part, model_of, options_of
from sounds import sounds

from model_export.audio.kinds import features, read_parameters
from model_export.bundle import write_bundle
from orchestrator.boards.client import BoardClient
from orchestrator.boards.conversation import BoardError
from orchestrator.boards.host_engine import run_direct
from orchestrator.boards.mlperf_interface import MlperfInterface, give_pins, read_first_channel
from orchestrator.boards.rules import Rule, set_rule
from orchestrator.boards.virtual import VirtualBoard
from orchestrator.errors import GivenError

pytestmark = pytest.mark.slow

DECLARED = {"front_end": "log-mel", "channels": 10, "window_ms": 32, "step_ms": 20}
STEP, WINDOW, ROWS = 320, 512, 49
INPUTS = 10 * ROWS
SOUND = np.concatenate([sounds(0.7, seed=4)[name] for name in ("like speech", "noise", "silence", "sweep", "clicks")])
DETECTS = 115
ROW = np.arange(INPUTS).astype(np.int8)


@pytest.fixture(scope="module")
def tflite() -> bytes:
    """Of two classes, the first of which is about what is heard last: now and then it is sure."""
    rng = np.random.default_rng(5)
    weights = rng.integers(-3, 4, (2, INPUTS)).astype(np.int8)
    weights[0, -30:], weights[1, -30:] = 40, -40
    parts = [
        Part((1, INPUTS), 1 / 255, -128),
        Part((1, 2), 1 / 256, -128),
        Part((1, 2), 0.1, 3),
        Part(weights.shape, 0.02, 0, weights),
        Part((2,), 0.02 / 255, 0, np.array([-90_000, 40_000], np.int32)),
    ]
    dense = ("FULLY_CONNECTED", [0, 3, 4], [2], options_of("FullyConnectedOptions"))
    softmax = ("SOFTMAX", [2], [1], options_of("SoftmaxOptions", beta=1.0))
    return model_of(parts, [dense, softmax])


@pytest.fixture(scope="module")
def bundles(tflite: bytes, tmp_path_factory: pytest.TempPathFactory) -> Dict[str, Path]:
    """model.bin of the one that hears, and of the same model, which does not."""
    folder = tmp_path_factory.mktemp("bundles")
    for name, audio in (("hears", DECLARED), ("deaf", None)):
        write_bundle(folder / name, tflite=tflite, name=name, audio=audio)
    return {name: folder / name / "model.bin" for name in ("hears", "deaf")}


def activations(tflite: bytes, sound: np.ndarray) -> List[int]:
    """Of the first class, of every step: inputs begin as zeros, and before the sound is silence."""
    heard = features(np.append(np.zeros(WINDOW - STEP, np.int16), sound), read_parameters(DECLARED))
    steps = heard.astype(np.float32) * np.float32(1 / 65_535) / np.float32(1 / 255) - np.float32(128)
    rows = np.concatenate([np.zeros((ROWS - 1, 10), np.int8), np.clip(np.trunc(steps), -128, 127).astype(np.int8)])
    windows = np.stack([rows[end - ROWS : end].reshape(-1) for end in range(ROWS, len(rows) + 1)])
    return [int(first) for first in run_direct(tflite, windows)[:, 0]]


def write_wav(path: Path, sound: np.ndarray, channels: int = 1, rate_hz: int = 16_000) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(sound.astype("<i2").tobytes())


@contextlib.contextmanager
def both(model_bin: Path, tmp_path: Path) -> Iterator[Tuple[VirtualBoard, Runner]]:
    """The board under test and its interface board, with the pins given."""
    (tmp_path / "interface").mkdir()
    with contextlib.ExitStack() as stack:
        interface = stack.enter_context(MlperfInterface(tmp_path, tmp_path / "interface"))
        board = stack.enter_context(VirtualBoard(model_bin, samples=interface.samples, pins=interface.pins))
        give_pins(board.port)
        yield board, stack.enter_context(speaking(interface.port))


@contextlib.contextmanager
def speaking(port: str) -> Iterator[Runner]:
    runner = Runner(port)
    runner.device.timeout = 120
    runner.device.write(b"%")
    while b"Unknown command" not in runner.device.read_until(b"m-ready\r\n"):
        pass
    yield runner
    runner.device.close()


def activations_in(answer: List[str]) -> List[int]:
    text = "".join(answer[answer.index("target activations:") + 1 :])
    assert text[0] == "["
    assert text[-1] == "]"
    return [int(value) for value in text[1:-1].split(",")]


def test_every_step_is_that_of_features_computed_here(bundles: Dict[str, Path], tflite: bytes, tmp_path: Path) -> None:
    write_wav(tmp_path / "sound.wav", np.column_stack([SOUND, SOUND[::-1]]).ravel(), channels=2)
    want = activations(tflite, SOUND)
    detected = [0, *(number for number, value in enumerate(want) if number and value > DETECTS)]
    assert 1 < len(detected) < len(want)
    with both(bundles["hears"], tmp_path) as (board, interface), speaking(board.port) as dut:
        assert interface.ask("setbaud 115200") == ["m-[A pseudo-terminal has no baud rate]"]
        assert interface.ask("ls") == ["sound.wav"]
        for _ in range(2):  # the second time it has forgotten all
            assert dut.ask("start") == ["m-[Listening]"]
            assert interface.ask("record_detections") == ["m-[Recording]"]
            assert interface.ask("play sound.wav") == ["m-[Played sound.wav]"]
            while len(interface.ask("print_detections")) < 1 + len(detected):  # a slow machine is behind the sound
                pass
            found: List[int] = []
            while len(found) < len(want):
                steps = interface.ask("print_dutycycle")
                found = [int(line.strip(",")) for line in steps[1 : steps.index("Duty cycle stop times (s)")]]
            answer = dut.ask("stop")
            assert answer[0] == "m-[Stopped]"
            assert activations_in(answer) == want
            said = dut.ask("print_detections")
            assert said[0] == "Detection Timestamps (ms)"
            assert [int(line.strip(",")) for line in said[1:]] == [(number + 1) * 20 for number in detected]
            timed = interface.ask("print_detections")
            assert timed[0] == "Detection Timestamps (ms)"
            assert len(timed) == 1 + len(detected)
            halves = interface.ask("print_dutycycle")
            middle = halves.index("Duty cycle stop times (s)")
            assert halves[0] == "Duty cycle start times (s)"
            starts, stops = (
                [int(line.strip(",")) for line in part] for part in (halves[1:middle], halves[middle + 1 :])
            )
            assert len(starts) == len(stops) == len(want)
            assert all(start <= stop for start, stop in zip(starts, stops))
        assert dut.ask("stop") == ["m-[Not listening]"]


def test_what_it_listens_with_takes_the_place_of_what_was_loaded(bundles: Dict[str, Path], tmp_path: Path) -> None:
    write_wav(tmp_path / "sound.wav", SOUND[:16_000])
    with both(bundles["hears"], tmp_path) as (board, interface):
        with speaking(board.port) as dut:
            dut.load(ROW.tobytes())
            dut.ask("start")
            assert dut.ask("infer 1 0")[0].startswith("e-[Load 490 bytes first]")
            interface.ask("play sound.wav")
            dut.load(ROW.tobytes())
            assert dut.ask("stop")[1:] == [
                "m-[A frame or a sample took the place of the activations]", "target activations:", "[]"
            ]  # fmt: skip
            dut.ask("start")
            interface.ask("play sound.wav")
        with BoardClient(board.port) as client:
            client.infer(ROW[None])
        with speaking(board.port) as dut:
            assert dut.ask("stop")[1] == "m-[A frame or a sample took the place of the activations]"
            dut.ask("start")
        with BoardClient(board.port) as client:
            client.stream_off()
        with speaking(board.port) as dut:
            assert dut.ask("stop") == ["m-[Not listening]"]


def test_without_a_model_that_hears_or_a_source_it_says_so(bundles: Dict[str, Path], tmp_path: Path) -> None:
    with both(bundles["deaf"], tmp_path) as (board, _), speaking(board.port) as dut:
        assert dut.ask("start") == ["e-[Cannot listen: the model does not hear: export it with --audio]"]
        assert dut.ask("print_detections") == ["Detection Timestamps (ms)"]
    with VirtualBoard(bundles["hears"]) as board, speaking(board.port) as dut:
        assert dut.ask("start") == ["e-[Cannot listen: this board has no source of sound, or it does not answer]"]
        assert dut.ask("stop") == ["m-[Not listening]"]
    with VirtualBoard() as board, speaking(board.port) as dut:
        assert dut.ask("start") == ["e-[Cannot listen: no model is loaded]"]


REFUSED = {
    "pins": "takes two numbers",
    "pins 1": "takes two numbers",
    "pins 1 x": "takes two numbers",
    "pins 1 64": "takes two numbers",
    "pins 1 1": "two pins are needed",
    "pins 8 1": "a strapping pin",
    "pins 1 9": "flash or PSRAM",
    "pins 3 1": "a rule has this pin",
}


def test_pins_that_are_not_the_runners_are_refused(bundles: Dict[str, Path], tmp_path: Path) -> None:
    with both(bundles["hears"], tmp_path) as (board, _):
        with BoardClient(board.port) as client:
            set_rule(client, Rule(1, 0, 200, 1, 1000, "level", pin=3, active="high", hold_ms=1000))
        with speaking(board.port) as dut:
            for command, reason in REFUSED.items():
                answer = dut.ask(command)[0]
                assert answer.startswith("e-["), command
                assert reason in answer
            assert dut.ask("pins 1 2") == ["m-[Pins are set]"]


def test_a_board_with_locked_keys_gives_no_pins(bundles: Dict[str, Path]) -> None:
    """Who can write to its port could click a relay otherwise."""
    with VirtualBoard(bundles["hears"]) as board:
        with BoardClient(board.port) as client:
            client.set_key(bytes(range(32)))
            client.lock_keys()
        with speaking(board.port) as dut:
            refused = "e-[Pins refused: the keys were locked: only flashing lets another drive pins]"
            assert dut.ask("pins 4 5") == [refused]
        with pytest.raises(
            GivenError, match="does not drive pins 4 and 5 for the runner: the keys were locked: only flashing"
        ):
            give_pins(board.port)


def test_the_interface_board_plays_nothing_else_than_sound(bundles: Dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_bytes(b"no sound")
    with wave.open(str(tmp_path / "coarse.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(16_000)
        file.writeframes(bytes(100))
    write_wav(tmp_path / "whole.wav", SOUND[:4000])
    whole = (tmp_path / "whole.wav").read_bytes()
    for name, size in (("cut", 2000), ("odd", 2001)):
        (tmp_path / f"{name}.wav").write_bytes(whole[:size])
    for name, rate_hz in (("slow", 8000), ("fast", 44_100)):
        write_wav(tmp_path / f"{name}.wav", SOUND[:4000], rate_hz=rate_hz)
    (tmp_path / "whole.wav").rename(tmp_path / "name with spaces.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    with both(bundles["hears"], tmp_path) as (_, interface):
        assert interface.ask("play text.wav")[0].startswith("e-[text.wav: not read as a WAV file")
        assert interface.ask("play coarse.wav") == ["e-[coarse.wav: 8 bits a value, expected 16]"]
        for name in ("cut", "odd"):
            assert interface.ask(f"play {name}.wav") == [f"e-[{name}.wav: ends before the 4000 samples it says it has]"]
        for name, rate_hz in (("slow", 8000), ("fast", 44_100)):
            assert interface.ask(f"play {name}.wav") == [f"e-[{name}.wav: {rate_hz} Hz, expected 16000]"]
        assert interface.ask("ls") == ["coarse.wav", "cut.wav", "fast.wav", "odd.wav", "slow.wav", "text.wav"]
        assert interface.ask("play pipe.wav") == ["e-[There is no such file]"]
        assert interface.ask("play absent.wav") == ["e-[There is no such file]"]
        assert interface.ask("play ../../etc/passwd") == ["e-[There is no such file]"]
        assert interface.ask("dance now") == ["e-[Unknown command: dance now]"]
        assert interface.ask("") == ["e-[Unknown command: ]"]
    write_wav(tmp_path / "two.wav", np.array([1, 2, 3, 4]), channels=2)
    assert read_first_channel(tmp_path / "two.wav").tolist() == [1, 3]


def test_a_run_that_was_given_up_leaves_nothing_to_the_next(
    bundles: Dict[str, Path], tflite: bytes, tmp_path: Path
) -> None:
    write_wav(tmp_path / "long.wav", np.tile(SOUND, 20))
    write_wav(tmp_path / "short.wav", SOUND[:16_000])
    with both(bundles["hears"], tmp_path) as (board, interface), speaking(board.port) as dut:
        dut.ask("start")
        interface.device.write(b"play long.wav%")
        while len(dut.ask("print_detections")) < 2:
            pass
        dut.ask("stop")
        dut.ask("start")
        assert interface.ask("record_detections") == ["m-[Stopped long.wav]"]
        interface.device.read_until(b"m-ready\r\n")
        assert interface.ask("play short.wav") == ["m-[Played short.wav]"]
        want = activations(tflite, SOUND[:16_000])
        wait_for_steps(interface, len(want))
        assert activations_in(dut.ask("stop")) == want


def wait_for_steps(interface: Runner, count: int) -> None:
    """A slow machine is behind the sound."""
    steps: List[str] = []
    while len(steps) < 2 * count:
        steps = interface.ask("print_dutycycle")[2:]


REFUSED_OR_VOID = ["db load 0", "db load x", "db load 99999999", "db load 8"]


@pytest.mark.parametrize("command", REFUSED_OR_VOID)
def test_activations_are_never_what_was_sent(bundles: Dict[str, Path], tmp_path: Path, command: str) -> None:
    """Neither a sample that was loaded meanwhile, nor one whose loading was refused after that."""
    write_wav(tmp_path / "sound.wav", SOUND[:16_000])
    with both(bundles["hears"], tmp_path) as (board, interface), speaking(board.port) as dut:
        dut.ask("start")
        interface.ask("record_detections")
        interface.ask("play sound.wav")
        wait_for_steps(interface, 50)
        dut.load(bytes([5, 6, 7, 8]))
        dut.ask(command)
        void = ["m-[A frame or a sample took the place of the activations]"]
        assert dut.ask("stop") == ["m-[Stopped]", *void, "target activations:", "[]"]
        assert dut.ask("print_detections") == [*void, "Detection Timestamps (ms)"]
        dut.ask("start")
        dut.load(bytes([5, 6, 7, 8]))  # before the first step
        interface.ask("record_detections")
        interface.ask("play sound.wav")
        wait_for_steps(interface, 50)
        assert dut.ask("db print") == ["m-buffer-05-06-07-08"]
        assert dut.ask("stop")[1:] == [*void, "target activations:", "[]"]


def test_rules_and_locked_keys_take_pins_from_the_runner(bundles: Dict[str, Path], tmp_path: Path) -> None:
    write_wav(tmp_path / "sound.wav", SOUND)
    with both(bundles["hears"], tmp_path) as (board, interface):
        with speaking(board.port) as dut:
            dut.ask("start")
            interface.ask("play sound.wav")
        with BoardClient(board.port) as client:
            for pin in (4, 5):
                with pytest.raises(BoardError, match="the MLPerf Tiny runner has this pin"):
                    set_rule(client, Rule(1, 0, 200, 1, 1000, "level", pin=pin, hold_ms=1000))
            set_rule(client, Rule(1, 0, 200, 1, 1000, "level", pin=6, hold_ms=1000))
            client.set_key(bytes(range(32)))
            client.lock_keys()
        interface.ask("record_detections")
        with speaking(board.port) as dut:
            dut.ask("start")
            interface.ask("play sound.wav")
            assert interface.ask("print_detections") == ["Detection Timestamps (ms)"]


@pytest.mark.parametrize("recording", [False, True])
def test_what_a_model_says_of_every_sample_would_be_a_recording(tflite: bytes, tmp_path: Path, recording: bool) -> None:
    fast = {**DECLARED, "step_ms": 9}
    write_bundle(tmp_path / "b", tflite=tflite, name="fast", audio=fast)
    sound = tmp_path / "sound.i16"
    sound.write_bytes(SOUND.astype("<i2").tobytes())
    with VirtualBoard(tmp_path / "b" / "model.bin", samples=sound, recording=recording) as board, speaking(
        board.port
    ) as dut:
        answer = dut.ask("start")
    said = "activations less than 10 ms apart would say what was heard: only a board that may record gives these"
    assert answer == ["m-[Listening]" if recording else f"e-[Cannot listen: {said}]"]


def test_the_command_line_starts_both(bundles: Dict[str, Path], tmp_path: Path) -> None:
    write_wav(tmp_path / "sound.wav", SOUND)
    command = [
        sys.executable,
        "-m",
        "orchestrator.cli.main",
        "board",
        "simulate",
        "--model",
        str(bundles["hears"]),
    ]
    with subprocess.Popen([*command, "--mlperf", str(tmp_path), "--json"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        with speaking(said["port"]) as dut, speaking(said["mlperf_interface"]) as interface:
            assert dut.ask("name") == ["m-name-dut-[edgeward]"]
            assert interface.ask("name") == ["m-name-interface-[edgeward, simulated]"]
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(60) == 0

"""The MLPerf Tiny runner's commands, spoken by an independent client: raw bytes over the port, `%` and `m-ready`."""

import re
from typing import List

import numpy as np
import pytest

from orchestrator.boards.conversation import open_port
from orchestrator.boards.virtual import VirtualBoard


class Runner:
    def __init__(self, port: str) -> None:
        self.device = open_port(port)
        self.device.timeout = 10

    def ask(self, command: str) -> List[str]:
        self.device.write(command.encode() + b"%")
        answer = self.device.read_until(b"m-ready\r\n").decode("ascii")
        assert answer.endswith("m-ready\r\n")
        lines = answer.split("\r\n")
        assert "\n" not in "".join(lines)
        return lines[:-2]

    def load(self, sample: bytes) -> None:
        assert self.ask(f"db load {len(sample)}") == [f"m-[Expecting {len(sample)} bytes]"]
        for at in range(0, len(sample), 31):
            answer = self.ask("db " + sample[at : at + 31].hex())
            assert answer == (["m-load-done"] if at + 31 >= len(sample) else [])


@pytest.fixture(scope="module")
def runner(sample):
    with VirtualBoard(sample.model_bin) as board:
        connected = Runner(board.port)
        connected.device.reset_input_buffer()
        connected.device.write(b"%")
        while b"Unknown command" not in connected.device.read_until(b"m-ready\r\n"):
            pass  # what the board said when it started
        yield connected
        connected.device.close()


def test_it_greets_after_a_reset(sample):
    with VirtualBoard(sample.model_bin) as board:
        device = open_port(board.port)
        device.timeout = 10
        device.write(b"reboot\n")
        device.read_until(b'"kind":"reboot"')
        greeting = device.read_until(b"m-ready\r\n").decode()
        device.close()
    shape = r"m-timestamp-mode-performance\r\nm-lap-us-\d+\r\nm-init-done\r\nm-ready\r\n$"
    assert re.search(shape, greeting)


def test_names_and_time(runner):
    assert runner.ask("name") == ["m-name-dut-[edgeward]"]
    profile = runner.ask("profile")
    assert profile[0].startswith("m-profile-[")
    assert profile[1] == "m-model-[kws01]"
    first, second = (int(runner.ask("timestamp")[0].split("m-lap-us-")[1]) for _ in range(2))
    assert second > first
    assert len(runner.ask("help")) == 1


def test_inference_over_text(runner, sample):
    runner.load(sample.rows[1].tobytes())
    answer = runner.ask("infer 5 2")
    assert answer[:3] == ["m-warmup-start-2", "m-warmup-done", "m-infer-start-5"]
    start, end = (int(re.fullmatch(r"m-lap-us-(\d+)", text)[1]) for text in answer[3:5])
    assert end > start
    assert answer[5] == "m-infer-done"
    want = (sample.outputs[1].astype(int) + 128) / 256
    assert answer[6] == f"m-results-[{','.join(f'{v + 1e-9:.3f}' for v in want)}]"
    assert runner.ask("results") == [answer[6]]
    assert runner.ask("infer")[0] == "m-warmup-start-10"
    assert runner.ask("infer 1 0")[-1] == answer[6], "repeating on the same sample gives the same results"


def test_print_shows_what_was_loaded(runner):
    runner.load(bytes(range(11)))
    assert runner.ask("db print") == ["m-buffer-00-01-02-03-04-05-06-07", "m-buffer-08-09-0a"]


def test_a_sample_of_the_wrong_size_is_refused(runner):
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
def test_errors(runner, command: str, answer: str):
    assert runner.ask(command) == [answer]


def test_more_than_announced_cannot_overrun(runner):
    runner.ask("db load 40000")
    assert runner.ask("db 00") == ["e-[Command 'db' before 'db load']"] or runner.ask("db 00")[0].startswith("e-[")
    runner.ask("db load 4")
    assert runner.ask("db 0011223344") == ["e-[More bytes than 'db load' announced]"]
    assert runner.ask("db print") == ["m-buffer-00-11-22-33"]
    runner.ask("db load 4")
    assert runner.ask("db 0g") == ["e-[Invalid hex digit]"]
    assert runner.ask("db 000") == ["e-[Insufficient number of hex digits]"]


def test_results_match_the_frames(runner, sample):
    outputs = []
    for row in sample.rows[2:6]:
        runner.load(row.tobytes())
        text = runner.ask("infer 1 0")[-1]
        outputs.append([float(v) for v in text[len("m-results-[") : -1].split(",")])
    np.testing.assert_allclose(np.array(outputs), (sample.outputs[2:6].astype(int) + 128) / 256, atol=5.1e-4)

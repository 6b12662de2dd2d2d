"""A stream that begins by itself with its model: kept in flash, over restarts, for this model, and not by who may not."""

import json
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
from board_sample import Sample
from test_measures import with_profile

from model_export.input_profile import make_profile
from orchestrator.boards.client import BoardClient
from orchestrator.boards.conversation import BoardError
from orchestrator.boards.protocol import Record
from orchestrator.boards.rules import Rule, clear_rules, read_rules, set_rule
from orchestrator.boards.virtual import VirtualBoard
from orchestrator.cli.main import main

pytestmark = pytest.mark.slow


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "samples.i16"
    path.write_bytes(np.zeros(490 * 3000, "<i2").tobytes())
    return path


@pytest.fixture
def model(sample: Sample) -> bytes:
    return with_profile(sample.model_bin, make_profile((1, 490), (), None))


def keep_often(client: BoardClient) -> None:
    """Always another: what is kept already takes no place."""
    for number in range(200):
        client.stream(source="file", rate_hz=100, agree=1 + number % 2)
        client.keep_stream()


def stands(client: BoardClient) -> List[Any]:
    info = client.info()
    return [info["stream"], info["stream_kept"]]


def label_of_zeros(client: BoardClient) -> int:
    zero_point = client.info()["input_zero_point"]
    return int(np.argmax(client.infer(np.full((1, 490), zero_point, np.int8)).outputs[0]))


def test_it_begins_after_every_restart_and_rules_act_on_it(model: bytes, recording: Path) -> None:
    seen: List[Record] = []
    with VirtualBoard(model, samples=recording) as board:
        with BoardClient(board.port, on_record=seen.append) as client:
            client.stream(source="file", rate_hz=100)
            rule = Rule(1, label_of_zeros(client), 0, 1, 250, "record")
            set_rule(client, rule)
            assert stands(client) == [True, False]
            client.reboot()
            assert stands(client) == [False, False]
            client.stream(source="file", rate_hz=100, agree=2)
            client.keep_stream()
            assert stands(client) == [True, True]
        for restart in (None, "crash", "power_on"):
            seen.clear()
            if restart is not None:
                board.kill()
                board.start(restart)
            with BoardClient(board.port, on_record=seen.append) as client:
                if restart is None:
                    client.reboot()
                assert stands(client) == [True, True]
                assert [each.rule for each in read_rules(client).standing] == [rule]
                while not any(record.kind == "acted" for record in seen):
                    client.info()
        with BoardClient(board.port) as client:
            clear_rules(client)
            client.stream_off()
            assert stands(client) == [False, True]
            client.reboot()
            assert stands(client) == [True, True]
            client.forget_stream()
            assert stands(client) == [True, False]
            client.reboot()
            assert stands(client) == [False, False]


def test_it_is_of_its_model(model: bytes, sample: Sample, recording: Path) -> None:
    other = with_profile(sample.model_bin, make_profile((1, 490), (), sample.rows))
    with VirtualBoard(model, samples=recording) as board, BoardClient(board.port) as client:
        client.stream(source="file", rate_hz=100)
        client.keep_stream()
        client.update(other)
        assert stands(client) == [False, False]
        client.rollback()
        assert stands(client) == [True, True]
        damaged = bytearray(other)
        damaged[-1] ^= 1
        with pytest.raises(BoardError):
            client.update(bytes(damaged))
        assert stands(client) == [True, True]


def test_what_cannot_be_kept(model: bytes, recording: Path) -> None:
    with VirtualBoard(model, samples=recording) as board, BoardClient(board.port) as client:
        for begin in (client.info, client.stream):  # no stream; one whose samples come from the host
            begin()
            with pytest.raises(BoardError, match="begin a stream from a source"):
                client.keep_stream()
        client.stream(source="file", rate_hz=100)
        client.set_key(bytes(range(32)))
        client.lock_keys()
        for change in (client.keep_stream, client.forget_stream):
            with pytest.raises(BoardError, match="the keys were locked"):
                change()
        assert stands(client) == [True, False]


def test_a_source_that_is_gone_is_said(model: bytes, recording: Path) -> None:
    seen: List[Record] = []
    with VirtualBoard(model, samples=recording) as board:
        with BoardClient(board.port) as client:
            client.stream(source="file", rate_hz=100)
            client.keep_stream()
        recording.unlink()
        with BoardClient(board.port, on_record=seen.append) as client:
            client.reboot()
            assert stands(client) == [False, True]
    errors = [record.fields for record in seen if record.kind == "error"]
    assert [(error["code"], error["stream"]) for error in errors] == [("no_source", "file")]


def test_changes_wear_the_log_and_it_says_so(model: bytes, recording: Path) -> None:
    with VirtualBoard(model, samples=recording) as board, BoardClient(board.port) as client:
        client.stream(source="file", rate_hz=100)
        set_rule(client, Rule(1, 0, 0, 1, 1000, "record"))
        for _ in range(150):
            client.keep_stream()
        with pytest.raises(BoardError, match="rule clear removes all rules and makes room"):
            keep_often(client)
        assert stands(client) == [True, True]
        clear_rules(client)
        assert stands(client) == [True, True]
        client.keep_stream()
        client.reboot()
        assert stands(client) == [True, True]


def test_on_the_command_line(model: bytes, recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*words: str) -> Dict[str, Any]:
        assert main(["board", "stream", board.port, *words, "--json"]) == 0
        found: Dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    with VirtualBoard(model, samples=recording) as board:
        begun = said("begin", "--source", "file", "--rate", "100", "--agree", "3", "--least", "0.5", "--keep")
        assert begun["kept"] is begun["stream"] is True
        assert (begun["window_samples"], begun["channels"]) == (1, 490)
        assert main(["board", "stream", board.port, "begin", "--source", "file", "--rate", "50"]) == 0
        assert (
            capsys.readouterr()
            .out.strip()
            .endswith("one was kept before, and that one begins by itself with this model")
        )
        assert [said("off")[name] for name in ("stream", "kept")] == [False, True]
        assert [said("forget")[name] for name in ("stream", "kept")] == [False, False]
        assert main(["board", "stream", board.port, "begin", "--source", "file", "--rate", "100"]) == 0
        assert capsys.readouterr().out.strip() == (
            f"{board.port}: windows of 1 samples (490 channels), every 1; none begins by itself with this model"
        )
        for words, message in {
            ("begin", "--rate", "100"): "stream begin takes --source",
            ("off", "--keep"): "stream off takes no --keep",
            ("begin", "--source", "file", "--rate", "100", "--least", "2"): "a probability is 0 to 1",
            ("begin", "--source", "m\u00efc", "--rate", "100"): "a source is imu, adc, mic, user or file",
            ("begin", "--source", "a" * 300, "--rate", "100"): "a source is imu, adc, mic, user or file",
        }.items():
            assert main(["board", "stream", board.port, *words]) == 2
            assert message in capsys.readouterr().err

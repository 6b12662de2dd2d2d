"""Rules on a virtual board: a stream whose windows they are about, other models, restarts, and `edgeward board rule`."""

import json
import os
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.console import Console
from step_model import QUIET, SURE, step_bundle, step_model, step_trees

from model_export.model_bin import parse_model_bin
from model_export.signing import raw_public
from model_export.trees import CLASSES
from orchestrator.boards.client import BoardClient
from orchestrator.boards.connect import write_settings
from orchestrator.boards.conversation import BoardError
from orchestrator.boards.monitor import Monitor
from orchestrator.boards.prometheus import render
from orchestrator.boards.protocol import FRAME_SAMPLES, Record, encode_frame
from orchestrator.boards.rules import Rule, Rules, Standing, clear_rules, parse_rule, read_rules, remove_rule, set_rule
from orchestrator.boards.virtual import VirtualBoard
from orchestrator.cli.main import main
from orchestrator.cli.monitor import _table, summarize
from orchestrator.errors import UsageError

MODEL, OTHER = step_model(), step_model("other", step_trees(CLASSES))
LEVEL = Rule(1, 1, 200, 2, 1000, "level", pin=3, hold_ms=60_000)
PULSE = Rule(2, 1, 0, 1, 60_000, "pulse", pin=4, active="low", hold_ms=300)
FALLS = np.array([QUIET, SURE, SURE, SURE], np.int16)


def lines(pins: Path) -> List[str]:
    return [line.split(" ", 1)[1] for line in pins.read_text().splitlines()]


def without_settings(client: BoardClient) -> None:
    write_settings(client, None)
    client.wait_for("boot", "its settings")


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def pins(tmp_path: Path) -> Path:
    return tmp_path / "pins"


def test_a_stream_switches_a_pin_and_its_end_switches_it_off(pins: Path) -> None:
    seen: List[Record] = []
    with VirtualBoard(MODEL, pins=pins) as board, BoardClient(board.port, on_record=seen.append) as client:
        found = set_rule(client, LEVEL)
        assert found == Rules([Standing(LEVEL, False, 0)], False)
        client.stream()
        client.feed(FALLS)
        assert read_rules(client).standing[0].on
        assert lines(pins)[-1] == "3 high"
        client.stream_off()
        assert lines(pins)[-1] == "3 low"
        client.stream()
        client.feed(FALLS)
        assert lines(pins)[-1] == "3 low", "the cool-down outlives the stream"
        assert 0 < read_rules(client).standing[0].ready_in_ms <= 1000
    (acted,) = [record for record in seen if record.kind == "acted"]
    assert acted.fields == {"rule": 1, "action": "level", "label": 1, "confidence": 0.9414, "sample": 3, "window": 3}
    assert acted.model == parse_model_bin(MODEL).digest


def test_a_pulse_ends_though_no_window_comes_any_more(pins: Path) -> None:
    with VirtualBoard(MODEL, pins=pins) as board, BoardClient(board.port) as client:
        set_rule(client, PULSE)
        client.stream()
        client.feed(FALLS)
        until(lambda: lines(pins)[-1] == "4 high")
    times = {line.split(" ", 1)[1]: int(line.split()[0]) for line in pins.read_text().splitlines()}
    assert 290_000 < times["4 high"] - times["4 low"] < 20_000_000


def test_questions_are_no_reason_to_act(pins: Path) -> None:
    seen: List[Record] = []
    with VirtualBoard(MODEL, pins=pins) as board, BoardClient(board.port, on_record=seen.append) as client:
        set_rule(client, Rule(1, 1, 0, 1, 250, "level", pin=3, hold_ms=60_000))
        assert client.infer(np.full((20, 1), -125, np.int8)).outputs[0].argmax() == 1
        client.bench(500)
        client.selftest()
    assert "3 high" not in lines(pins)
    assert "acted" not in {record.kind for record in seen}


@pytest.mark.parametrize(
    "change",
    [
        lambda client: client.update(OTHER),
        lambda client: client.reboot(),
        without_settings,
        lambda client: client.ask("reload", "model"),
        lambda client: client.ask("record file 100 1 10", "ok"),
        lambda client: remove_rule(client, 1),
        clear_rules,
        lambda client: set_rule(client, Rule(1, 1, 200, 2, 1000, "level", pin=3, active="low", hold_ms=1000)),
    ],
    ids=["update", "reboot", "settings", "reload", "record", "remove", "clear", "replace"],
)
def test_outputs_are_off_where_something_else_begins(pins: Path, tmp_path: Path, change: Callable[..., Any]) -> None:
    (tmp_path / "samples").write_bytes(b"\0" * 200)
    with VirtualBoard(MODEL, pins=pins, samples=tmp_path / "samples", recording=True) as board, BoardClient(
        board.port
    ) as client:
        set_rule(client, LEVEL)
        client.stream()
        client.feed(FALLS)
        assert lines(pins)[-1] == "3 high"
        change(client)
        after = lines(pins)[lines(pins).index("3 high") + 1 :]
    assert after[0] == "3 low", "before anything else becomes of the pin"
    assert "3 high" not in after[:-1]


def test_a_crash_leaves_nothing_on(pins: Path) -> None:
    """On silicon a pin may keep its level over a crash: the first thing a start does is to let go of all."""
    with VirtualBoard(MODEL, pins=pins) as board:
        with BoardClient(board.port) as client:
            set_rule(client, LEVEL)
            client.stream()
            client.feed(FALLS)
        board.kill()
        before = len(lines(pins))
        board.start("crash")
        with BoardClient(board.port) as client:
            assert [each.rule for each in read_rules(client).standing] == [LEVEL]
        assert lines(pins)[before:] == ["* released", "3 low"]


def test_rules_are_of_a_model(pins: Path) -> None:
    with VirtualBoard(MODEL, pins=pins) as board, BoardClient(board.port) as client:
        set_rule(client, LEVEL)
        set_rule(client, PULSE)
        assert client.info()["rules"] == 2
        assert client.update(OTHER)["rules"] == 0
        assert read_rules(client).standing == []
        set_rule(client, PULSE)
        assert client.rollback()["rules"] == 2
        assert [each.rule for each in read_rules(client).standing] == [LEVEL, PULSE]
        client.rollback()
        assert [each.rule for each in read_rules(client).standing] == [PULSE]
        client.update(MODEL)
        assert read_rules(client).standing == [], "the slot they lay beside was erased"


def test_a_locked_board_acts_on_its_own_sensor_only(pins: Path, tmp_path: Path) -> None:
    """Who has the port starts a stream of samples of their own, and no pin moves."""
    (tmp_path / "samples").write_bytes(np.repeat(FALLS, 500).astype("<i2").tobytes())
    with VirtualBoard(MODEL, pins=pins, samples=tmp_path / "samples") as board, BoardClient(board.port) as client:
        set_rule(client, LEVEL)
        client.set_key(raw_public(Ed25519PrivateKey.generate().public_key()))
        client.lock_keys()
        attempts: List[Callable[[], object]] = [
            lambda: set_rule(client, PULSE),
            lambda: remove_rule(client, 1),
            lambda: clear_rules(client),
        ]
        for attempt in attempts:
            with pytest.raises(BoardError, match="rules_locked"):
                attempt()
        assert read_rules(client).locked
        client.stream()
        client.feed(np.repeat(FALLS, 20))
        assert lines(pins)[-1] == "3 low"
        client.stream(source="file", rate_hz=1000)
        until(lambda: lines(pins)[-1] == "3 high")


def test_a_monitor_counts_what_boards_did(pins: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with VirtualBoard(MODEL, pins=pins) as board:
        with BoardClient(board.port) as client:
            set_rule(client, Rule(7, 1, 0, 1, 250, "record"))
            client.stream()
        with Monitor([board.port], rate_ms=100) as monitor:
            status = monitor.status[0]
            until(lambda: "metrics" in status.last)
            descriptor = os.open(board.port, os.O_RDWR | os.O_NOCTTY)
            os.write(descriptor, encode_frame(FRAME_SAMPLES, 1, b"\0\0\0\0" + FALLS.astype("<i2").tobytes()))
            until(lambda: "acted" in status.last)
            os.close(descriptor)
            console = Console(width=300)
            console.print(_table(monitor))
            page = render(monitor.status)
        summarize(monitor, [], to_stderr=False)
    shown = capsys.readouterr().out
    assert "rule 7 acted" in shown
    assert "rules acted once" in shown
    assert f'edgeward_acted_total{{port="{board.port}"}} 1' in page


# --- the command ------------------------------------------------------------------------------------------------------


def asked_for(capsys: pytest.CaptureFixture[str], *words: str) -> Dict[str, Any]:
    assert main(["board", "rule", *words, "--json"]) == 0
    found: Dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_command_from_first_to_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = step_bundle(tmp_path / "bundle")
    with VirtualBoard(bundle / "model.bin") as board:
        add = (board.port, "add", "--model", str(bundle), "--class", "fall")
        first = asked_for(capsys, *add, "--least", "0.8", "--agree", "3", "--cool", "5", "--level", "7", "--for", "10")
        assert first["rules"] == [
            {
                **{
                    "number": 1,
                    "label": 1,
                    "least_of_256": 205,
                    "agree": 3,
                    "cool_ms": 5000,
                    "action": "level",
                    "pin": 7,
                },
                **{"active": "high", "hold_ms": 10_000, "class": "fall", "on": False, "ready_in_ms": 0},
            }
        ]
        asked_for(capsys, *add, "--record")
        asked_for(capsys, *add, "--pwm", "3", "--for", "2", "--active", "low", "--hz", "50", "--duty", "7")
        asked_for(capsys, board.port, "add", "2", "--class", "0", "--pulse", "5", "--for", "0.25", "--cool", "0.25")
        assert main(["board", "rule", board.port, "list", "--model", str(bundle)]) == 0
        shown = capsys.readouterr().out.splitlines()
        assert shown[0].startswith(
            f"{board.port}: 3 rules for model {parse_model_bin((bundle / 'model.bin').read_bytes()).digest}"
        )
        assert shown[1:] == [
            "  1  class fall at 0.80 or more, 3 windows in a row: pin 7 high while they go on, off 10 s after the last; "
            "cool-down 5 s",
            "  2  class rest, 1 window in a row: pin 5 high for 0.25 s; cool-down 0.25 s",
            "  3  class fall, 1 window in a row: pin 3 low while they go on, off 2 s after the last, 50 Hz, 7 %; cool-down 5 s",
        ]
        assert [rule["number"] for rule in asked_for(capsys, board.port, "remove", "1")["rules"]] == [2, 3]
        first = asked_for(capsys, *add, "--level", "0", "--for", "1")["rules"][0]
        assert (first["action"], first["pin"]) == ("level", 0)
        assert asked_for(capsys, board.port, "clear") == {**asked_for(capsys, board.port, "list"), "rules": []}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["add"], "takes --class, and one of"),
        (["add", "--class", "1"], "takes --class, and one of"),
        (["add", "--record"], "takes --class, and one of"),
        (["add", "--class", "fall", "--record"], "the number of a class, or a name with --model"),
        (["add", "--class", "1", "--level", "3"], "takes --for"),
        (["add", "--class", "1", "--record", "--for", "3"], "--for is not used with --record"),
        (["add", "--class", "1", "--level", "3", "--for", "3", "--hz", "50"], "--hz is not used with --level"),
        (["add", "--class", "1", "--record", "--least", "1.5"], "a probability is 0 to 1"),
        (["add", "--class", "1", "--record", "--least", "nan"], "expected a number"),
        (["list", "--class", "1"], "rule list takes no --class"),
        (["clear", "3"], "rule clear takes no number"),
        (["remove"], "rule remove takes the number"),
        (["remove", "9"], "numbers 1 to 8"),
        (["add", "0", "--class", "1", "--record"], "numbers 1 to 8"),
        (["add", "--class", "1", "--record", "--agree", "0"], "1 to 1000 windows"),
        (["list", "--model", "/no/such/folder"], "no such folder"),
    ],
)
def test_wrong_words_end_before_the_port_is_opened(
    words: List[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code: Optional[int] = main(["board", "rule", "/dev/no-such-port", *words])
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else None
    assert code == 2
    assert why in capsys.readouterr().err


def test_what_the_board_refuses_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = step_bundle(tmp_path / "bundle")
    with VirtualBoard(OTHER) as board:
        assert main(["board", "rule", board.port, "list", "--model", str(bundle)]) == 1
        assert "the names may differ" in capsys.readouterr().err
        assert main(["board", "rule", board.port, "add", "--class", "1", "--level", "9", "--for", "1"]) == 1
        assert "flash or PSRAM is behind this pin" in capsys.readouterr().err
        for number in range(8):
            asked_for(capsys, board.port, "add", "--class", str(number % 2), "--record")
        assert main(["board", "rule", board.port, "add", "--class", "1", "--record"]) == 2
        assert "remove one, or name the one to replace" in capsys.readouterr().err


def test_a_number_is_free_or_named() -> None:
    with pytest.raises(UsageError, match="remove one"):
        Rules([Standing(Rule(i + 1, 0, 0, 1, 250, "record"), False, 0) for i in range(8)], False).free_number()
    assert Rules([Standing(Rule(i, 0, 0, 1, 250, "record"), False, 0) for i in (1, 3)], False).free_number() == 2
    for rule in (LEVEL, PULSE, Rule(8, 31, 256, 1000, 250, "hook"), Rule(3, 1, 1, 1, 250, "pwm", 3, "low", 5, 20, 99)):
        assert parse_rule(rule.words()) == rule
    for words in (
        "",
        "1 2 3",
        "1 1 0 1 250 dance",
        "1 1 0 1 250 level 3 on 5",
        "1 1 0 1 250 record 3",
        "x 1 0 1 250 record",
    ):
        with pytest.raises(ValueError, match=r"no rule|invalid literal"):
            parse_rule(words)

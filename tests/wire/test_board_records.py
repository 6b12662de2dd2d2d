"""Records of boards are of the types docs/serial.md gives them, or they are none."""

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.wire.board_records import KINDS, read_forwarded, read_record

HEAD = {"v": 1, "boot": "0a0b0c0d", "seq": 7, "model": None, "t_us": 5, "kind": "metrics"}


def read(**changed: Any) -> Any:
    return read_record(json.dumps({**HEAD, **changed}).encode(), 1 << 20)


@pytest.mark.parametrize(
    "changed",
    [
        {"seq": 2**32 - 1},
        {"t_us": 2**63 - 1},
        {"model": "0123456789abcdef"},
        {"psi": 0.25, "classes": [1, 2], "reset": None},
        {"kind": "info", "input_scale": [11527630, -28], "name": "größe 38 °C"},
        {"kind": "result", "id": 3, "latency_us": 9, "out": "00ff"},
        {"new_field": 1.5, "another": [1, 2], "word": "said", "nothing": None},
    ],
)
def test_what_firmware_sends_is_a_record(changed: Any) -> None:
    assert read(**changed) == {**HEAD, **changed}


@pytest.mark.parametrize(
    "changed",
    [
        {"seq": -1}, {"seq": 2**32}, {"seq": True}, {"seq": 1.0}, {"t_us": 2**64}, {"t_us": None}, {"v": "1"},
        {"boot": 5}, {"boot": "\ud800"}, {"boot": "=1+1"}, {"boot": "x" * 99}, {"model": "@SUM(1)"}, {"model": ""},
        {"kind": "=cmd|' /C calc'!A0"}, {"kind": "rumour"}, {"kind": None}, {"kind": ["metrics"]},
        {"inferences": "[/foo]"}, {"inferences": -1}, {"inferences": 10**300}, {"latency_p50_us": '1\nup{port="x"} 0'},
        {"psi": "x"}, {"psi": 1e308}, {"psi": -0.5}, {"psi": True}, {"psi": None}, {"classes": [1, "2"]}, {"classes": 3},
        {"classes": [1] * 65}, {"reset": "\x1b[31m"}, {"reset": "a\nb"}, {"reset": "x" * 501}, {"heap_free_bytes": 2**32},
        {"kind": "info", "input_scale": [1, 5000]}, {"kind": "info", "input_scale": 0.5}, {"kind": "info", "simulated": 1},
        {"kind": "result", "id": 3, "latency_us": 9}, {"kind": "result", "id": 3, "latency_us": 9, "out": "0g"},
        {"kind": "update", "id": 3}, {"kind": "op", "name": "a"}, {"kind": "selftest", "rows": 2}, {"kind": "keys"},
        {"simulated": [1]}, {"kind": "drift", "latency_p50_us": "far"}, {"new": {"a": 1}}, {"new": [["a"]]},
        {"new": "\x07"}, {"New": 1}, {"a b": 1}, {"": 1}, {f"n{i}": i for i in range(64)},
    ],
)  # fmt: skip
def test_anything_else_is_none(changed: Any) -> None:
    assert read(**changed) is None


@pytest.mark.parametrize("name", sorted(HEAD))
def test_a_head_is_whole(name: str) -> None:
    assert read_record(json.dumps({k: v for k, v in HEAD.items() if k != name}).encode(), 999) is None


def test_a_record_of_another_schema_is_its_head() -> None:
    assert read(v=2, kind="rumour", anything=[{}]) == {**HEAD, "v": 2, "kind": "rumour"}


def test_a_forwarded_record_has_a_port_and_the_same_types() -> None:
    sent = {"received_at": 1.5, "port": "/dev/ttyUSB0", **{k: v for k, v in HEAD.items() if k != "v"}, "psi": 1}
    assert read_forwarded(json.dumps(sent).encode(), 999) == sent
    for wrong in (
        {"received_at": "now"},
        {"received_at": -1},
        {"port": "\n"},
        {"psi": "x"},
        {"kind": "rumour"},
        {"v": 2},
    ):
        assert read_forwarded(json.dumps({**sent, **wrong}).encode(), 999) is None
    assert read_forwarded(b"[]", 999) is None
    assert read_forwarded(json.dumps(sent).encode(), 9) is None


def test_documentation_has_every_kind_and_field() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs/serial.md").read_text()
    named = {name for fields in KINDS.values() for name in fields if not name.startswith("output_")}
    assert not {name for name in (*KINDS, *named) if f"`{name}`" not in text}

"""Damaged plans, models and bytes under AddressSanitizer and UBSan: an error, never an overrun or a hang."""

import random
import struct
import subprocess
from pathlib import Path
from typing import Callable, Dict, List, Optional

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plan_damage import every_word_damaged

from model_export.input_profile import make_profile
from model_export.model_bin import KnownAnswers, pack_model_bin
from model_export.plan import compile_plan
from orchestrator.boards.host_engine import SANITIZE, build, run_direct
from orchestrator.boards.partitions import FLASH_BYTES, SLOTS
from orchestrator.boards.protocol import (
    FRAME_INFER,
    FRAME_SAMPLES,
    FRAME_UPDATE_BEGIN,
    FRAME_UPDATE_CHUNK,
    FRAME_UPDATE_COMMIT,
    Record,
    RecordParser,
    encode_frame,
)


def records_of(output: bytes) -> List[Record]:
    parser = RecordParser()
    records = parser.feed(output)
    assert parser.stats.corrupt == 0
    assert parser.stats.lost == 0
    return records


def flash_with(tmp_path: Path, model_bin: bytes) -> Path:
    image = bytearray(b"\xff" * FLASH_BYTES)
    image[SLOTS["a"].offset : SLOTS["a"].offset + len(model_bin)] = model_bin
    path = tmp_path / "flash.bin"
    path.write_bytes(bytes(image))
    return path


def talk(flash: Path, stdin: bytes, *arguments: str) -> List[Record]:
    """What the firmware, built with sanitizers, answers to these bytes."""
    program = build("board-stdio", SANITIZE)
    done = subprocess.run([str(program), str(flash), *arguments], input=stdin, capture_output=True, timeout=850)
    assert done.returncode in (0, 7), done.stderr.decode("utf-8", "replace")[-3000:]
    return records_of(done.stdout)


def signal_model_bin(
    small_models: Dict[str, bytes],
    make_rows: Callable[..., np.ndarray],
    arena_bytes: Optional[int] = None,
    right: bool = True,
) -> bytes:
    tflite = small_models["signal"]
    plan = compile_plan(tflite)
    rows = make_rows(tflite, 5)[:2]
    answers = KnownAnswers(rows, run_direct(tflite, rows) if right else rows[:, : plan.output_bytes])
    return pack_model_bin(
        name="signal",
        tflite=tflite,
        plan=plan.blob,
        arena_tflm_bytes=20000,
        arena_direct_bytes=arena_bytes or plan.arena_bytes,
        known_answers=answers,
        input_profile=make_profile((1, 50, 2), (), rows),
    )


@pytest.fixture(scope="module")
def signal_bin(small_models: Dict[str, bytes], make_rows: Callable[..., np.ndarray]) -> bytes:
    return signal_model_bin(small_models, make_rows)


@pytest.mark.parametrize(
    "name",
    [
        "image",
        "residual",
        "padded",
        "binary",
        "branches",
        "gated",
        "moved",
        "peaks",
        "remembered",
        "streaming",
        "upsampled",
    ],
)
def test_every_word_of_a_plan_damaged(small_models: Dict[str, bytes], name: str) -> None:
    """Each word of the header and the records replaced by values that break careless checks; what is accepted runs."""
    tflite = small_models[name]
    refused, ran = every_word_damaged(tflite)
    assert refused > 1000
    assert ran > 500, "hardly anything ran: nothing was proven about the kernels"


def test_every_truncated_plan_is_refused(small_models: Dict[str, bytes]) -> None:
    program = build("run-direct", SANITIZE)
    tflite = small_models["dense"]
    plan = compile_plan(tflite).blob
    for keep in range(0, len(plan), 37):
        stdin = struct.pack("<3I", len(tflite), keep, 1) + tflite + plan[:keep]
        done = subprocess.run([str(program)], input=stdin, capture_output=True, timeout=600)
        assert done.returncode == 1, done.stderr.decode("utf-8", "replace")[-3000:]


def events_of(stdin: bytes) -> List[str]:
    done = subprocess.run([str(build("parse-stdio", SANITIZE))], input=stdin, capture_output=True, timeout=600)
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")[-3000:]
    return done.stdout.decode("latin-1").splitlines()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=400), st.integers(0, 300).map(bytes), st.sampled_from([b"info", b"a b"]))))
def test_frames_and_commands_in_any_order(items: List[bytes]) -> None:
    """Frames of any content (COBS groups of every length), and commands between them, arrive as they were sent."""
    stream, want = b"", []
    for number, item in enumerate(items):
        if item in (b"info", b"a b"):
            stream += item + b"\r\n"
            want.append(f"command {item.decode()}")
        else:
            stream += encode_frame(FRAME_INFER, number, item)
            want.append(f"frame {FRAME_INFER} {number} {item.hex()}")
    assert events_of(stream) == want


def test_what_does_not_fit_is_refused_not_written() -> None:
    largest = encode_frame(FRAME_INFER, 1, b"\x01" * 32768)
    assert events_of(largest)[0].startswith("frame 1 1 0101")
    for size in (32769, 32770, 70000):
        assert events_of(encode_frame(FRAME_INFER, 1, bytes(size))) == ["bad_frame"]
    assert events_of(b"x" * 160 + b"\n") == ["command " + "x" * 160]
    assert events_of(b"x" * 161 + b"\ninfo\n") == ["line_too_long", "command info"]
    assert events_of(b"x" * 100000) == []


def test_an_unfinished_frame_does_not_swallow_what_follows_the_silence() -> None:
    assert events_of(b"\0garbage") == ["bad_frame"]
    assert events_of(b"gar\0bage\0\0" + encode_frame(FRAME_INFER, 3, b"x")) == [
        "line_too_long",
        "bad_frame",
        "frame 1 3 78",
    ]


def test_random_bytes_on_the_serial_line(tmp_path: Path, signal_bin: bytes) -> None:
    """Noise between and inside commands, frames and runner commands: the board answers the intact ones at the end."""
    flash = flash_with(tmp_path, signal_bin)
    rng = random.Random(7)
    pieces = [
        b"info\n", b"metrics\n", b"metrics rate 5\n", b"metrics rate x\n", b"selftest\n", b"reload\n", b"rollback\n",
        b"name%", b"db%", b"db load 100%", b"db load 99999999%", b"db " + b"7f" * 31 + b"%", b"db zz%", b"db print%",
        b"infer 2 1%", b"results%", b"%", b"help%", b"timestamp%", b"x" * 300 + b"\n", b"\0", b"\0\0",
        encode_frame(FRAME_INFER, 5, bytes(100)), encode_frame(FRAME_INFER, 6, bytes(99)),
        encode_frame(FRAME_INFER, 2, bytes(40000)), encode_frame(FRAME_UPDATE_BEGIN, 1, b""),
        encode_frame(FRAME_UPDATE_BEGIN, 1, signal_bin[:256]), encode_frame(FRAME_UPDATE_CHUNK, 2, b"\0"),
        encode_frame(FRAME_UPDATE_CHUNK, 1, struct.pack("<I", 256) + signal_bin[256:512]),
        b"stream 1 0 1 0\n", b"stream 1 1 1 0 file 100\n", b"stream off\n", b"bench 2\n", b"drift rows 3\n",
        encode_frame(FRAME_SAMPLES, 1, bytes(4 + 200)), encode_frame(FRAME_SAMPLES, 2, b"\x32\0\0\0" + bytes(100)),
        encode_frame(FRAME_SAMPLES, 3, bytes(5)), encode_frame(FRAME_UPDATE_COMMIT, 1, b""),
        encode_frame(FRAME_UPDATE_COMMIT, 1, bytes(9)),
    ]  # fmt: skip
    stream = bytearray()
    for _ in range(1500):
        piece = bytearray(rng.choice(pieces))
        if rng.random() < 0.5:
            for _ in range(rng.randrange(1, 4)):
                piece[rng.randrange(len(piece))] = rng.randrange(256)
        stream += piece
        if rng.random() < 0.2:
            stream += bytes(rng.randrange(256) for _ in range(rng.randrange(40)))
    # Two zeros end whatever is open; the frame after them is intact and must be answered.
    stream += b"\n\0\0" + encode_frame(FRAME_INFER, 4242, bytes(100))
    records = talk(flash, bytes(stream))
    assert {"boot", "model", "info", "metrics", "result", "error", "selftest"} <= {r.kind for r in records}
    assert any(r.kind == "result" and r.fields["id"] == 4242 for r in records)


def test_damaged_models_leave_a_board_that_answers(tmp_path: Path, signal_bin: bytes) -> None:
    rng = random.Random(3)
    for attempt in range(40):
        damaged = bytearray(signal_bin)
        bit = rng.randrange(8 * (256 if attempt % 2 else len(damaged)))
        damaged[bit // 8] ^= 1 << bit % 8
        records = talk(flash_with(tmp_path, bytes(damaged)), b"info\n" + encode_frame(FRAME_INFER, 1, bytes(100)))
        kinds = [r.kind for r in records]
        assert kinds == ["boot", "error", "info", "error"]
        assert records[1].fields["reason"]
        assert records[2].fields["state"] == records[1].fields["code"]
        assert records[3].fields["code"] == "no_model"


def test_reasons_of_refusal(tmp_path: Path, signal_bin: bytes) -> None:
    def refusal(model_bin: bytes, *arguments: str) -> str:
        return str(talk(flash_with(tmp_path, model_bin), b"", *arguments)[1].fields["code"])

    assert refusal(b"") == "empty_slot"
    assert refusal(b"EWMB" + bytes(10)) == "bad_version"
    assert refusal(signal_bin[:-16]) == "bad_sha256"
    assert refusal(signal_bin, "100") == "arena_too_small"


def test_the_header_decides_about_the_arena_before_the_engine_is_asked(
    tmp_path: Path, small_models: Dict[str, bytes], make_rows: Callable[..., np.ndarray]
) -> None:
    flash = flash_with(tmp_path, signal_model_bin(small_models, make_rows, arena_bytes=300_000))
    fields = talk(flash, b"")[1].fields
    assert (fields["code"], fields["reason"]) == ("arena_too_small", "the header asks for more than there is")


def test_wrong_known_answers_keep_a_model_from_use(
    tmp_path: Path, small_models: Dict[str, bytes], make_rows: Callable[..., np.ndarray]
) -> None:
    flash = flash_with(tmp_path, signal_model_bin(small_models, make_rows, right=False))
    records = talk(flash, b"selftest\nreload\n")
    assert [r.fields.get("code") for r in records] == [None, "known_answers_differ", "no_model", "known_answers_differ"]


def test_right_known_answers_are_counted(tmp_path: Path, signal_bin: bytes) -> None:
    records = talk(flash_with(tmp_path, signal_bin), b"selftest\n")
    assert records[-1].fields == {"rows": 2, "mismatches": 0}


def test_header_and_python_agree_on_what_is_valid(tmp_path: Path, signal_bin: bytes) -> None:
    records = talk(flash_with(tmp_path, signal_bin), b"info\nreboot\ninfo\n")
    assert [r.kind for r in records] == ["boot", "model", "info", "reboot"]
    assert records[2].fields["input_bytes"] == 100

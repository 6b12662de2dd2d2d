"""The firmware fuzzed from its serial port under AddressSanitizer and UBSan, guided by coverage (firmware/test/fuzz_board.cpp).

EDGEWARD_FUZZ_SECONDS sets how long, 15 by default. firmware/test/corpus/inputs is what it starts from. To let it grow:

    python -m tests.firmware.test_fuzz SECONDS FOLDER
"""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from model_export.audio.hearing import read_hearing
from model_export.input_profile import make_profile
from model_export.model_bin import KnownAnswers, pack_model_bin, parse_model_bin
from model_export.trees import pack_trees, run_trees
from model_export.trees_rows import telling_rows
from orchestrator.boards.host_engine import FUZZ, build

SECONDS = int(os.environ.get("EDGEWARD_FUZZ_SECONDS", "15"))
CORPUS = Path(__file__).resolve().parents[2] / "firmware" / "test" / "corpus"


def fuzz(seconds: int, seed: int, keep: Path, model: Path = CORPUS / "model.bin") -> "subprocess.CompletedProcess[str]":
    command = [str(build("fuzz-board", FUZZ)), str(model), str(CORPUS / "inputs")]
    return subprocess.run([*command, str(seconds), str(seed), str(keep)], capture_output=True, text=True)


def test_no_input_breaks_the_firmware(tmp_path: Path) -> None:
    check(fuzz(SECONDS, int.from_bytes(os.urandom(2), "little"), tmp_path), tmp_path)


def test_no_input_breaks_the_firmware_with_trees(tmp_path: Path) -> None:
    """A third of the time: what comes over the line and the slots are those of every model."""
    from random_trees import random_trees  # not where this file is a program

    trees, keep = random_trees(1), tmp_path / "keep"
    keep.mkdir()
    rows = telling_rows(trees)
    features = [{"name": str(channel), "cuts": [0.0, 1.0, 2.0]} for channel in range(trees.channels)]
    model = pack_model_bin(
        name="trees",
        tflite=pack_trees(trees),
        arena_tflm_bytes=trees.arena_bytes,
        arena_direct_bytes=trees.arena_bytes,
        known_answers=KnownAnswers(rows, run_trees(trees, rows)),
        input_profile=make_profile((1, trees.channels), features, rows),
    )
    (tmp_path / "model.bin").write_bytes(model)
    seed = int.from_bytes(os.urandom(2), "little")
    check(fuzz(max(1, SECONDS // 3), seed, keep, tmp_path / "model.bin"), keep)


def test_no_input_breaks_the_firmware_of_a_model_that_hears(tmp_path: Path) -> None:
    """Of a window as short as there is, so that frames make steps."""
    keep = tmp_path / "keep"
    keep.mkdir()
    corpus = parse_model_bin((CORPUS / "model.bin").read_bytes())
    assert corpus.input_profile is not None
    short = {"sample_rate_hz": 8000, "window_ms": 4, "step_ms": 1, "channels": 3, "highest_hz": 3500, "averaged": 3}
    model = pack_model_bin(
        name="sound",
        tflite=corpus.tflite,
        plan=corpus.plan,
        arena_tflm_bytes=corpus.arena_tflm_bytes,
        arena_direct_bytes=corpus.arena_direct_bytes,
        known_answers=corpus.known_answers,
        input_profile=replace(corpus.input_profile, hearing=read_hearing(short)),
    )
    (tmp_path / "model.bin").write_bytes(model)
    seed = int.from_bytes(os.urandom(2), "little")
    check(fuzz(max(1, SECONDS // 3), seed, keep, tmp_path / "model.bin"), keep)


def check(done: "subprocess.CompletedProcess[str]", keep: Path) -> None:
    crash = keep / "crash.bin"
    shown = crash.read_bytes().hex() if crash.is_file() else "none kept"
    assert done.returncode == 0, f"{done.stderr[-3000:]}\ninput: {shown}"
    runs, _ = map(int, done.stdout.split())
    assert runs > len(list((CORPUS / "inputs").iterdir()))


def test_the_corpus_is_small_and_its_model_whole() -> None:
    assert sum(path.stat().st_size for path in CORPUS.rglob("*")) < 200_000
    parsed = parse_model_bin((CORPUS / "model.bin").read_bytes())
    assert parsed.known_answers is not None
    assert parsed.input_profile is not None


if __name__ == "__main__":
    result = fuzz(int(sys.argv[1]), 1, Path(sys.argv[2]))
    print(result.stdout + result.stderr)
    sys.exit(result.returncode)

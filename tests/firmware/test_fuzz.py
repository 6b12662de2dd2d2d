"""The firmware fuzzed from its serial port under AddressSanitizer and UBSan, guided by coverage (firmware/test/fuzz_board.cpp).

EDGEWARD_FUZZ_SECONDS sets how long, 15 by default. firmware/test/corpus/inputs is what it starts from. To let it grow:

    python -m tests.firmware.test_fuzz SECONDS FOLDER
"""

import os
import subprocess
import sys
from pathlib import Path

from model_export.model_bin import parse_model_bin
from orchestrator.boards.host_engine import FUZZ, build

CORPUS = Path(__file__).resolve().parents[2] / "firmware" / "test" / "corpus"


def fuzz(seconds: int, seed: int, keep: Path) -> "subprocess.CompletedProcess[str]":
    command = [str(build("fuzz-board", FUZZ)), str(CORPUS / "model.bin"), str(CORPUS / "inputs")]
    return subprocess.run([*command, str(seconds), str(seed), str(keep)], capture_output=True, text=True)


def test_no_input_breaks_the_firmware(tmp_path: Path):
    seconds = int(os.environ.get("EDGEWARD_FUZZ_SECONDS", "15"))
    done = fuzz(seconds, int.from_bytes(os.urandom(2), "little"), tmp_path)
    crash = tmp_path / "crash.bin"
    shown = crash.read_bytes().hex() if crash.is_file() else "none kept"
    assert done.returncode == 0, f"{done.stderr[-3000:]}\ninput: {shown}"
    runs, _ = map(int, done.stdout.split())
    assert runs > len(list((CORPUS / "inputs").iterdir()))


def test_the_corpus_is_small_and_its_model_whole():
    assert sum(path.stat().st_size for path in CORPUS.rglob("*")) < 200_000
    parsed = parse_model_bin((CORPUS / "model.bin").read_bytes())
    assert parsed.known_answers is not None
    assert parsed.input_profile is not None


if __name__ == "__main__":
    result = fuzz(int(sys.argv[1]), 1, Path(sys.argv[2]))
    print(result.stdout + result.stderr)
    sys.exit(result.returncode)

"""docs/expected-serial.txt is what a board says: compared with a virtual board, times, ids and checksums left out.

To write it again: `python -m tests.boards.test_expected_serial`.
"""

import re
import time
from pathlib import Path
from typing import List

from orchestrator.boards.conversation import open_port
from orchestrator.boards.virtual import VirtualBoard

ROOT = Path(__file__).resolve().parents[2]
EXPECTED = ROOT / "docs" / "expected-serial.txt"
MODEL = ROOT / "firmware" / "test" / "corpus" / "model.bin"
SESSION = {
    "reboot": "m-ready",
    "info": '"kind":"info"',
    "selftest": '"kind":"selftest"',
    "key list": '"kind":"keys"',
    "hello": "unknown_command",
    "metrics": '"kind":"metrics"',
    "name%": "m-ready",
}
"""What is sent, and what its last line holds."""
HEAD = """What a board says, line by line. After `>` what is sent to it, with a line feed behind it except where it ends in %.
A # stands for what differs from run to run: boot ids, times, and with them the checksums. This board is a virtual one,
started with firmware/test/corpus/model.bin; on an ESP32 chip, engine, simulated, arena, heap and stack differ, too.
"""


def without_chance(line: str) -> str:
    line = re.sub(r'"boot":"[0-9a-f]{8}"', '"boot":"#"', line)
    line = re.sub(r'("(?:t_us|latency_\w+_us)"):\d+', r"\1:#", line)
    return re.sub(r"\}\*[0-9a-f]{4}$", "}*#", re.sub(r"m-lap-us-\d+", "m-lap-us-#", line))


def session() -> List[str]:
    lines: List[str] = []
    with VirtualBoard(MODEL.read_bytes()) as board:
        port = open_port(board.port, 115200)
        time.sleep(0.5)
        port.reset_input_buffer()  # the first boot: how much of it is still there is chance
        for command, last in SESSION.items():
            lines += ["", f"> {command}"]
            port.write(command.encode() + (b"" if command.endswith("%") else b"\n"))
            heard, deadline = b"", time.monotonic() + 300
            while not (heard.endswith(b"\n") and last in heard.decode("ascii", "replace")):
                assert time.monotonic() < deadline, f"no {last} after {command}: {heard!r}"
                heard += port.read(port.in_waiting or 1)
            lines += [without_chance(line) for line in heard.decode("ascii").splitlines()]
        port.close()
    return lines


def test_the_expected_output_is_what_a_board_says() -> None:
    assert EXPECTED.read_text() == HEAD + "\n".join(session()) + "\n"


if __name__ == "__main__":
    EXPECTED.write_text(HEAD + "\n".join(session()) + "\n")

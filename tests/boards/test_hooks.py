"""A sensor and an action of one's own (firmware/hooks): on the virtual board, in the simulated ESP32-C3, and their page."""

import re
import time
from pathlib import Path
from typing import List

import numpy as np
import pytest
from step_model import step_model

from orchestrator.boards.client import BoardClient
from orchestrator.boards.conversation import BoardError
from orchestrator.boards.host_engine import HostBuildError, firmware_dir
from orchestrator.boards.protocol import Record, RecordParser
from orchestrator.boards.recording import Recording, Source, record
from orchestrator.boards.rules import Rule, set_rule
from orchestrator.boards.rv32 import COMPILER, c3_elf, missing
from orchestrator.boards.virtual import VirtualBoard
from orchestrator.errors import GivenError

pytestmark = pytest.mark.slow


EXAMPLE = firmware_dir() / "hooks/example/hooks.cpp"
DOCS = Path(__file__).resolve().parents[2] / "docs" / "hooks.md"
GPIO_OUT, GPIO_ENABLE = 0x60004004, 0x60004020
HOOK = Rule(1, 1, 128, 3, 5000, "hook")

GAPS = """
#include "hooks/hooks.h"
namespace edgeward::hooks {
static int16_t g_next = 0;
bool user_sensor_open(uint32_t channels) { g_next = 0; return channels <= 2; }
bool user_sensor_read(int16_t* values) {
  ++g_next;
  if (g_next % 10 == 0) return false;
  values[0] = g_next;
  values[1] = static_cast<int16_t>(-g_next);
  return true;
}
void user_sensor_close() {}
void user_action(uint32_t, uint32_t, uint32_t) {}
}
"""
"""Of ten samples one is missing."""


def test_the_example_on_a_virtual_board() -> None:
    """Its wave is 1000 high until its action halves it: afterwards no window is of the same height."""
    seen: List[Record] = []
    with VirtualBoard(step_model(), hooks=EXAMPLE) as board, BoardClient(board.port, on_record=seen.append) as client:
        set_rule(client, HOOK)
        client.stream(source="user", rate_hz=1000)
        deadline = time.monotonic() + 60
        while not any(each.kind == "acted" for each in seen) and time.monotonic() < deadline:
            client.info()
        client.stream_off()
    (acted,) = [each.fields for each in seen if each.kind == "acted"]
    assert (acted["action"], acted["label"], acted["rule"]) == ("hook", 1, 1)


def test_a_recording_of_ones_own_sensor_counts_what_it_did_not_give(tmp_path: Path) -> None:
    (tmp_path / "mine.cpp").write_text(GAPS)
    recording = Recording(Source("user", 500, 2, 200))
    with VirtualBoard(step_model(), hooks=tmp_path / "mine.cpp", recording=True) as board, BoardClient(
        board.port
    ) as client:
        record(client, recording.source, recording, lambda *_: None)
        with pytest.raises(BoardError, match="no_source"):
            client.ask("record user 100 3 10", "ok")
    assert recording.missed_by_the_board == 20
    for segment in recording.segments:
        numbers = np.arange(segment.first + 1, segment.first + 1 + segment.length)
        assert np.array_equal(segment.values(), np.stack([numbers, -numbers], axis=1))


def test_without_hooks_there_is_no_such_sensor() -> None:
    with VirtualBoard(step_model()) as board, BoardClient(board.port) as client:
        set_rule(client, HOOK)
        with pytest.raises(BoardError, match="no_source"):
            client.stream(source="user")


def test_what_the_compiler_says_of_ones_own_file_is_shown(tmp_path: Path) -> None:
    (tmp_path / "mine.cpp").write_text(GAPS.replace("++g_next;", "++g_previous;"))
    with pytest.raises(HostBuildError, match="g_previous"), VirtualBoard(hooks=tmp_path / "mine.cpp"):
        pass
    (tmp_path / "mine.txt").write_text(GAPS)
    for other in ("none.cpp", "mine.txt", ""):
        with pytest.raises(GivenError, match=r"docs/hooks\.md"), VirtualBoard(hooks=tmp_path / other):
            pass


@pytest.mark.skipif(missing(COMPILER) is not None, reason=str(missing(COMPILER)))
def test_the_example_on_rv32(tmp_path: Path) -> None:
    """Built for rv32imc; run where labwired simulates an ESP32-C3."""
    elf = c3_elf(step_model(), tmp_path / "c3.elf", hooks="hooks/example/*.cpp")
    labwired = pytest.importorskip(
        "labwired", reason="labwired 0.25.0 simulates the ESP32-C3; it comes with the dev extra"
    )
    with labwired.Sim(str(elf), chip="esp32c3") as sim:
        sim.write_u32(0x60000014, 1)  # as fast as the simulator lets characters leave
        sim.run_for("20ms")
        for line in ("rule set 1 1 128 3 5000 hook", "rule set 2 1 0 1 250 level 10 high 50000"):
            sim.send(f"\n{line}\n")
            sim.run_for("20ms")
        assert sim.read_u32(GPIO_ENABLE) == 1 << 10, "an output as soon as a rule has it"
        assert sim.read_u32(GPIO_OUT) == 0
        sim.send("\nstream 1 1 1 0 user 100\n")
        levels = set()
        for _ in range(300):
            sim.run_for("1ms")
            levels.add(sim.read_u32(GPIO_OUT))
            if sim.uart_transcript().count('"kind":"acted"') >= 2:
                break
        sim.send("\nstream off\n")
        sim.run_for("20ms")
        assert sim.read_u32(GPIO_OUT) == 0
        records = RecordParser().feed(sim.uart_transcript().encode())
    acted = {each.fields["rule"]: each.fields for each in records if each.kind == "acted"}
    assert set(acted) == {1, 2}
    assert levels == {0, 1 << 10}


def test_the_page_shows_the_functions_there_are() -> None:
    declared = re.findall(r"^(?:bool|void) \w+\(.*\);", (firmware_dir() / "hooks/hooks.h").read_text(), re.MULTILINE)
    assert len(declared) == 4
    page = DOCS.read_text()
    for each in declared:
        assert each.rstrip(";") in page

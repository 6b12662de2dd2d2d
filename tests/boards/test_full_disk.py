"""A full disk under the file of a monitor: boards are watched all the same."""

import logging
from pathlib import Path

import pytest

from orchestrator.boards.exporters import Steady, open_file
from orchestrator.boards.protocol import Record

FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full on this system")
@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_watching_goes_on_and_the_loss_is_said_once(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / f"out.{suffix}"
    path.symlink_to(FULL)
    exporter = Steady(open_file(path), path)
    record = Record(boot="00000001", seq=1, model=None, t_us=5, kind="metrics", schema=1, fields={"latency_us": 3})
    with caplog.at_level(logging.ERROR, "edgeward.monitor"):
        for second in range(5):
            exporter.write("/dev/ttyUSB0", 100.0 + second, record)
            exporter.flush()
        exporter.close()
    assert len(caplog.messages) >= 1
    assert f"{path}: No space left on device; watching goes on" in caplog.messages[0]
    assert exporter.summary() == f"{path}: up to 5 records could not be written"


def test_a_log_on_a_full_disk_costs_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    from orchestrator.cli.logs import _steady

    handler = _steady(logging.FileHandler("/dev/full", delay=True))
    for _ in range(3):
        handler.emit(logging.LogRecord("x", logging.ERROR, "f", 1, "text", (), None))
    said = capsys.readouterr().err
    assert said.count("cannot be written") == 1
    assert "Traceback" not in said

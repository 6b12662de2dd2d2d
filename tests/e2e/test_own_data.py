"""The path of a stranger: README's section on one's own data, executed as it stands in an empty folder."""

import csv
import re
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List

from messy_table import NAMES, rows

from orchestrator.gateway.broker import free_port

ROOT = Path(__file__).parents[2]
MAIN = [sys.executable, "-m", "orchestrator.cli.main"]
PORT = "1883"
"""In README and in the draft; the test takes a free one."""


def commands() -> List[str]:
    section = re.search(r"^## Your own data\n(.*?)^## ", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    assert section is not None
    return re.findall(r"^    (edgeward .*)$", section.group(1), re.MULTILINE)


def write_tables(folder: Path) -> int:
    """records.csv, its thirds, and rows that came later, without the label; returns how many these are."""
    table = [[*line[:8], line[-1]] for line in rows(660)]
    names = [*NAMES.split(",")[:8], "outcome"]
    parts: Dict[str, List[List[str]]] = {"records": table[:600], "new": table[600:]}
    parts.update({f"site-{number}": table[number - 1 : 600 : 3] for number in (1, 2, 3)})
    for name, lines in parts.items():
        width = 8 if name == "new" else 9
        text = "\n".join(",".join(line[:width]) for line in [names, *lines]) + "\n"
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")
    return len(parts["new"])


def wait_for_port(port: int, process: "subprocess.Popen[str]") -> None:
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None
        time.sleep(0.1)


def test_readme_leads_a_stranger_from_a_csv_to_predictions(tmp_path: Path) -> None:
    new, port = write_tables(tmp_path), free_port()
    running: List[Any] = []
    did = []
    try:
        for command in commands():
            words = [word.replace(f":{PORT}", f":{port}") for word in shlex.split(command, comments=True)[1:]]
            did.append(words[0] if words[1] != "run" else f"{words[0]} run")
            if words[0] == "predict":
                assert running[0].wait() == 0, said(tmp_path)
            with (tmp_path / f"{len(did)}.log").open("w") as log:
                process = subprocess.Popen([*MAIN, *words], cwd=tmp_path, stdout=log, stderr=log, text=True)
            if words[1] == "run":
                running.append(process)
                wait_for_port(port, process)
                continue
            assert process.wait() == 0, said(tmp_path)
            if words[0] == "init":
                draft = tmp_path / "edgeward.toml"
                text = draft.read_text().replace(f"port = {PORT}", f"port = {port}")
                draft.write_text(
                    text.replace("rounds = 20", "rounds = 5")
                )  # what is learned in them is not the question
    finally:
        for process in running:
            process.kill()
            process.wait()
    for number in (
        4,
        5,
        6,
    ):  # who started a node and looks at its terminal sees that it took part, and that this is over
        heard = (tmp_path / f"{number}.log").read_text()
        assert all(words in heard for words in (" connected to ", ": task 'records', ", " is over: ")), heard
    assert did == ["init", "doctor", "gateway run", *["node run"] * 3, "predict"]
    with (tmp_path / "predictions.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == new


def said(folder: Path) -> str:
    return "\n".join(f"{path.name}: {path.read_text()[-3000:]}" for path in sorted(folder.glob("*.log")))

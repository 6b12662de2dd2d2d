"""Hospitals at which a model there is already is judged: their files, ways to add up, and the command that simulates them."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Mapping, Sequence

NODES = ("north", "south", "west")
EXACT = '[task.privacy]\nunit = "none"\n'
METHODS = {
    "plain": "",
    "masked": '[task.aggregation]\nmethod = "masked"\n',
    "ckks": '[task.aggregation]\nmethod = "ckks"\nkey_holder = "board"\n',
}


def write_rows(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def simulated(config: Path, files: Sequence[Path], out: Path) -> Dict[str, Any]:
    """By the command, in a process of its own: TenSEAL crashes where another test imported TensorFlow."""
    words = ["simulate", str(config), "--data", *map(str, files), "--out", str(out), "--json"]
    done = subprocess.run([sys.executable, "-m", "orchestrator.cli.main", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: Dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found

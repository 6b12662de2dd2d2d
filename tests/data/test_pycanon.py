"""k, l and t of anonymous tables, before an independent program: pyCANON 1.3.6, in an environment of its own.

`python -m venv V && V/bin/pip install pycanon==1.3.6`, then EDGEWARD_PYCANON=V/bin/python.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Dict, List

import pytest
from anonymous_tables import run, setting

PYTHON = os.environ.get("EDGEWARD_PYCANON", "")
CHECK = """
import json, sys
import pandas
from pycanon import anonymity
quasi, found = ["age", "sex", "place"], []
for path in sys.argv[1:]:
    rows = pandas.read_csv(path, dtype=str, keep_default_na=False)
    named = {"k": anonymity.k_anonymity(rows, quasi), "l_distinct": anonymity.l_diversity(rows, quasi, ["ill"])}
    found.append({**named, "t": anonymity.t_closeness(rows, quasi, ["ill"])})
print(json.dumps(found, default=float))
"""
TABLES = 20


@pytest.mark.skipif(not PYTHON, reason="no Python with pyCANON on this machine: name one in EDGEWARD_PYCANON")
def test_pycanon_finds_the_same_k_l_and_t_in_twenty_tables(tmp_path: Path) -> None:
    paths: List[str] = []
    reported: List[Dict[str, Any]] = []
    for seed in range(TABLES):
        folder = tmp_path / str(seed)
        folder.mkdir()
        more = ("", "l_diversity = 2", "t_closeness = 0.3", "suppression = 0.05")[seed % 4]
        report, _ = run(*setting(folder, 120 + 10 * seed, seed, more, k=3 + seed % 5))
        paths.append(str(folder / "out.csv"))
        reported.append(report["after"])
    done = subprocess.run([PYTHON, "-W", "ignore", "-c", CHECK, *paths], capture_output=True, text=True, check=True)
    for found, after in zip(json.loads(done.stdout.splitlines()[-1]), reported):
        assert (found["k"], found["l_distinct"]) == (after["k"], after["l_distinct"])
        assert found["t"] == pytest.approx(after["t"], abs=1e-9)
    assert len({(after["k"], after["l_distinct"]) for after in reported}) > 5, "tables that differ"

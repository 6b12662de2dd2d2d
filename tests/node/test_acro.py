"""What the owner's rules let pass, before an independent checker: acro 1.0.2 (SACRO), in an environment of its own.

`python -m venv V && V/bin/pip install acro==1.0.2`, then EDGEWARD_ACRO=V/bin/python.
"""

import csv
import json
import os
import subprocess
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
from guarded import Node, data_of, task_of

from orchestrator.data.dataset import Dataset
from orchestrator.errors import DisclosureError

PYTHON = os.environ.get("EDGEWARD_ACRO", "")
CHECK = """
import json, logging, sys, warnings
warnings.filterwarnings("ignore")
logging.disable(logging.CRITICAL)
import pandas
from acro import ACRO
found = {}
for path in sys.argv[1:]:
    rows, acro = pandas.read_csv(path, keep_default_na=False), ACRO(suppress=False)
    acro.crosstab(rows.sex, rows.ward)
    acro.crosstab(rows.sex, rows.site, values=rows.cost.astype(float), aggfunc="mean")
    found[path] = [record.summary for record in acro.results.results.values() if record.status == "fail"]
print(json.dumps(found))
"""
WANTED = 50
TABLES = {"kind": "statistics", "bins": 1, "crosstabs": [["sex", "ward"]]}
"""acro's default rules: 10 in a cell, the two largest parts at most 90 % of a sum, the rest 10 % of the largest at least."""
RULES: Dict[str, Any] = {"minimum_cell": 10, "dominance": 0.45, "p_percent": 10.0}


def drawn(draw: np.random.Generator) -> Dataset:
    n = int(draw.integers(60, 400))
    sex = (draw.random(n) < draw.uniform(0.05, 0.5)).astype(int)
    ward = draw.choice(3, n, p=draw.dirichlet([3.0, 3.0, 3.0]))
    cost = np.minimum(np.exp(draw.normal(2, draw.uniform(0.2, 2.5), n)), 1000.0)
    return data_of(list(sex), list(ward), cost=list(cost))


def written(data: Dataset, path: Path) -> str:
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["sex", "ward", "cost", "site"])
        rows.writerows([x[2:4].argmax(), x[4:7].argmax(), x[1], 1] for x in data.x)
    return str(path)


@pytest.mark.skipif(not PYTHON, reason="no Python with acro on this machine: name one in EDGEWARD_ACRO")
def test_acro_has_nothing_against_fifty_tables_that_pass(tmp_path: Path) -> None:
    draw, passed, refused = np.random.default_rng(5), [], []  # type: np.random.Generator, List[str], List[str]
    while len(passed) < WANTED:
        number = len(passed) + len(refused)
        data, folder = drawn(draw), tmp_path / str(number)
        folder.mkdir()
        node = Node(folder, **RULES)
        try:
            node.passed(task_of(TABLES), data)
            node.passed(task_of({"kind": "compare", "by": "sex"}), data)
            passed.append(written(data, folder / "rows.csv"))
        except DisclosureError:
            refused.append(written(data, folder / "rows.csv"))
        node.store.close()
    done = subprocess.run(
        [PYTHON, "-c", CHECK, *passed, *refused[:20]], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    found: Dict[str, List[str]] = json.loads(done.stdout.splitlines()[-1])
    assert {path: found[path] for path in passed if found[path]} == {}
    assert sum(bool(found[path]) for path in refused[:20]) > 10, "so that it is known to object"

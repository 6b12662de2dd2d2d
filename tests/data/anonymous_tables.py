"""Invented records with rules by which `edgeward anonymize` makes a table of them."""

import csv
import json
import random
from pathlib import Path
from typing import Any, Dict, List

from orchestrator.cli.main import main

RULES = """k = {k}
sensitive = "ill"
{more}
[quasi]
age = {{ minimum = 0, maximum = 120 }}
sex = {{ levels = ["f", "m"] }}
place = {{ hierarchy = "places.csv" }}
"""
PLACES = """Aachen,North,Land
Bonn,North,Land
Celle,South,Land
Dorf,South,Land
Essen,South,Land
"""
NAMES = ["who", "age", "sex", "place", "ill", "note"]


def rows_of(count: int, seed: int) -> List[List[str]]:
    draw = random.Random(seed)
    places = [line.split(",")[0] for line in PLACES.split()]
    return [
        [
            f"p{draw.randrange(max(1, count // 2))}",
            str(min(119, max(0, int(draw.gauss(50, 18))))),
            draw.choice("fm"),
            draw.choice(places),
            draw.choices(["no", "flu", "cold", "gout"], [5, 3, 2, 1])[0],
            f"free text {n}",
        ]
        for n in range(count)
    ]


def setting(folder: Path, count: int, seed: int, more: str = "", k: int = 5) -> "tuple[Path, Path]":
    with (folder / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([NAMES, *rows_of(count, seed)])
    (folder / "places.csv").write_text(PLACES)
    (folder / "rules.toml").write_text(RULES.format(k=k, more=more))
    return folder / "table.csv", folder / "rules.toml"


def run(table: Path, rules: Path, *more: str) -> "tuple[Dict[str, Any], List[List[str]]]":
    out = table.parent / "out.csv"
    out.unlink(missing_ok=True)
    report = table.parent / "report.json"
    report.unlink(missing_ok=True)
    assert main(["anonymize", str(table), str(rules), "--out", str(out), "--report", str(report), *more]) == 0
    with out.open(newline="") as file:
        return json.loads(report.read_text()), list(csv.reader(file))

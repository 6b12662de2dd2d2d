"""What gateway and nodes make of a declared task, value by value as it was: a change of structure changes none of it.

Where a change is meant to show here (another accountant, a new field), write the file again with
`python tests/golden/test_golden.py` and say why in the commit.
"""

import json
import math
from pathlib import Path
from typing import Any, Iterator

import pytest
import tasks

FILE = Path(__file__).with_name("tasks.json")
FOURIER = 1e-9
"""Relative: another processor's Fourier transforms differ in the last bits of an epsilon."""


def differences(found: Any, known: Any, where: str) -> Iterator[str]:
    if isinstance(found, dict) and isinstance(known, dict):
        for name in {**known, **found}:
            yield from differences(found.get(name), known.get(name), f"{where}.{name}")
    elif isinstance(found, list) and isinstance(known, list) and len(found) == len(known):
        for index, (new, old) in enumerate(zip(found, known)):
            yield from differences(new, old, f"{where}[{index}]")
    elif isinstance(found, float) and isinstance(known, float):
        if not math.isclose(found, known, rel_tol=FOURIER):
            yield f"{where}: {found!r}, was {known!r}"
    elif found != known or type(found) is not type(known):
        yield f"{where}: {found!r}, was {known!r}"


def test_all_that_follows_from_a_declaration_is_as_it_was() -> None:
    pytest.importorskip("dp_accounting")
    assert list(differences(tasks.everything(), json.loads(FILE.read_text()), "tasks"))[:20] == []


def test_a_difference_is_seen() -> None:
    known = json.loads(FILE.read_text())
    other = json.loads(FILE.read_text())
    other["bands"]["charges"][0]["grid"]["std"] += 1
    other["two runs"]["statement"]["epsilon"] *= 1.0001
    other["sample"]["leaves"].append("all rows")
    del other["clip tally"]["layouts"]["9"]
    assert len(list(differences(other, known, "tasks"))) == 4


if __name__ == "__main__":
    FILE.write_text(json.dumps(tasks.everything(), indent=1, sort_keys=True) + "\n")

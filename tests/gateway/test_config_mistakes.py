"""Every key of an edgeward.toml mistyped by one letter, and every key with values of other types: place and cure.

The keys are those of the dataclasses the file is read into, so a new one is tried as well.
"""

import dataclasses
import random
from pathlib import Path
from typing import Dict, List, Tuple

import pytest

from orchestrator.errors import UsageError
from orchestrator.gateway.config import load_config
from orchestrator.gateway.reference import TABLES
from orchestrator.wire.protection import Privacy

BASE: Dict[str, str] = {
    "": "",
    "gateway": "",
    "task": 'name = "t"',
    "task.schema": 'kind = "table"\nlabel = "y"\nclasses = ["0", "1"]\nlabel_values = { "0" = 0, "1" = 1 }\n'
    'features = [{ name = "a", minimum = 0, maximum = 3 }]',
    "task.model": 'kind = "mlp"\nhidden = [4]',
}
FEATURE = "task.schema.features"
FIELDS: List[Tuple[str, str]] = [(table, field.name) for table, kind in TABLES for field in dataclasses.fields(kind)]
VALUES = {
    "a number as text": '"3"',
    "a date": "2024-01-05",
    "a time": "2024-01-05T10:00:00Z",
    "an hour": "07:32:00",
    "a list": "[[1], ['x']]",
    "a table": "{ x = { y = 1 } }",
    "a list of tables": "[{ x = 1 }]",
    "a truth": "true",
    "a number": "-3.5",
}


def written(folder: Path, table: str, line: str, instead: str = "") -> Path:
    tables = dict(BASE)
    if table == FEATURE:
        kept = [
            part
            for part in ('name = "a"', "minimum = 0", "maximum = 3")
            if not (instead and part.startswith(f"{instead} "))
        ]
        tables["task.schema"] = tables["task.schema"].replace(
            'name = "a", minimum = 0, maximum = 3', ", ".join([*kept, line])
        )
    else:
        own = tables.get(table, "").split("\n")
        tables[table] = "\n".join([*(part for part in own if not (instead and part.startswith(f"{instead} "))), line])
        if instead:
            tables.pop(f"{table}.{instead}", None)  # which is that value's table
        if table == "" and instead in ("gateway", "task"):
            tables = {"": tables[""]}
    path = folder / "edgeward.toml"
    path.write_text("\n".join(f"[{name}]\n{text}" if name else text for name, text in tables.items()))
    return path


def mistyped(name: str, draw: random.Random) -> List[str]:
    """With a letter too few, too many, another one, and two that changed places."""
    at = draw.randrange(1, len(name))
    letter = draw.choice("bdfgjkqvwxz")
    swapped = name[: at - 1] + name[at] + name[at - 1] + name[at + 1 :]
    return [name[:at] + name[at + 1 :], name[:at] + letter + name[at:], name[:at] + letter + name[at + 1 :], swapped]


def refused(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        load_config(path)
    assert caught.value.exit_code == 2
    assert all(line.isprintable() for line in str(caught.value).split("\n"))
    return str(caught.value)


@pytest.mark.parametrize(("table", "name"), FIELDS)
def test_a_mistyped_key_is_answered_with_its_place_and_the_right_one(tmp_path: Path, table: str, name: str) -> None:
    known = {each for where, each in FIELDS if where == table}
    for wrong in mistyped(name, random.Random(f"{table}.{name}")):
        if wrong in known or not wrong:
            continue
        said = refused(written(tmp_path, table, f"{wrong} = 1"))
        place = "task.schema.features[0]" if table == FEATURE else table
        (line,) = [each for each in said.split("\n") if wrong in each and "unknown" in each]
        assert f"{place}.{wrong}" in line or not place, said
        assert f"did you mean {name!r}" in line or (len(name) < 4 and "unknown" in line), said


def accepted(path: Path) -> bool:
    try:
        load_config(path)
    except UsageError:
        return False
    return True


@pytest.mark.parametrize(("table", "name"), FIELDS)
def test_a_value_of_another_type_is_refused_by_its_key(tmp_path: Path, table: str, name: str) -> None:
    """No more than one of these shapes may be right for a key, but for texts and numbers, which may be two."""
    right = []
    for what, value in VALUES.items():
        path = written(tmp_path, table, f"{name} = {value}", instead=name)
        if accepted(path):
            right.append(what)
            continue
        said = refused(path)
        assert name in said, f"{what}: {said}"
        assert len(said) < 3000
    assert len(right) <= 2, right
    assert not {"a date", "a time", "an hour"} & set(right), right


NOISES = [field.name for field in dataclasses.fields(Privacy) if field.name.endswith("noise_multiplier")]


@pytest.mark.parametrize("name", NOISES)
def test_noise_that_nothing_would_have_is_refused(tmp_path: Path, name: str) -> None:
    """Who states it believes that it is there."""
    path = written(tmp_path, "task.privacy", f'unit = "none"\n{name} = 2.0')
    with pytest.raises(
        UsageError, match=f"task.privacy.{name}: 2, and unit 'none' has no noise: leave it out, or name a unit"
    ):
        load_config(path)


def test_noise_on_scores_is_of_one_strategy(tmp_path: Path) -> None:
    path = written(tmp_path, "task.privacy", 'unit = "record"\nscore_noise_multiplier = 2.0')
    with pytest.raises(UsageError, match="score_noise_multiplier: 2, and strategy 'fedavg' has no scores"):
        load_config(path)

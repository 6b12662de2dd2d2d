"""Every number of an edgeward.toml: what is not finite, or larger than anything there is, is refused by its name."""

import dataclasses
import typing
from pathlib import Path
from typing import Any, List, Tuple

import pytest

from orchestrator.errors import UsageError
from orchestrator.gateway.config import load_config
from orchestrator.gateway.settings import GatewaySettings
from orchestrator.wire.task import Task

TEXT = """
[task]
name = "t"
seed = 1
[task.schema]
kind = "table"
label = "y"
classes = ["0", "1"]
label_values = { "0" = 0, "1" = 1 }
features = [{ name = "a", minimum = 0, maximum = 3 }]
[task.model]
kind = "mlp"
hidden = [4]
"""
PARTS = ("training", "privacy", "rounds", "selection", "evaluation", "aggregation", "schema")
WRONG = ("nan", "inf", "-inf", "9" * 30, "9" * 5000)
HUGE = "1e308"


def numbers(kind: Any) -> List[Tuple[str, type]]:
    types = typing.get_type_hints(kind)
    return [(f.name, types[f.name]) for f in dataclasses.fields(kind) if types[f.name] in (int, float)]


def with_number(folder: Path, part: str, name: str, value: str) -> Path:
    path = folder / "edgeward.toml"
    if part == "":
        text = TEXT.replace("seed = 1", f"{name} = {value}")
    elif part == "schema":
        text = TEXT.replace("[task.model]", f"{name} = {value}\n[task.model]")
    else:
        text = f"{TEXT}[{part}]\n{name} = {value}\n"
    path.write_text(text)
    return path


FIELDS = [("", "seed", int), *(("gateway", *field) for field in numbers(GatewaySettings))]
FIELDS += [
    (part if part == "schema" else f"task.{part}", *field)
    for part in PARTS
    for field in numbers(typing.get_type_hints(Task)[part])
]


@pytest.mark.parametrize(("part", "name", "kind"), FIELDS)
def test_a_number_that_is_none_is_refused_by_its_name(part: str, name: str, kind: type, tmp_path: Path) -> None:
    for value in (*WRONG, HUGE):
        with pytest.raises(UsageError) as caught:
            load_config(with_number(tmp_path, part, name, value))
        assert len(str(caught.value)) < 1000
        assert name in str(caught.value) or value == "9" * 5000  # which is no TOML at all, and has a line
        assert all(line.isprintable() for line in str(caught.value).split("\n"))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("options = { mu = nan }", "options"),
        ("options = { norm_bound = inf }", "options"),
        ("strategy = 'fedprox'\noptions = { mu = 1e300 }", "mu"),
        ("strategy = 'fedadam'\noptions = { beta1 = 1e300 }", "beta1"),
        ("strategy = 'trimmed-mean'\noptions = { trim = 1e300 }", "trim"),
        ("options = { mu = -1e400 }", "options"),
    ],
)
def test_options_of_strategies_too(text: str, place: str, tmp_path: Path) -> None:
    path = tmp_path / "edgeward.toml"
    path.write_text(f"{TEXT}[task.training]\n{text}\n")
    with pytest.raises(UsageError, match=place):
        load_config(path)


@pytest.mark.parametrize(
    "hidden", ["[1000000000, 1000000000]", "[nan]", "[inf]", "[1e3]", "[-1]", "[true]", "[4, 99999999999]"]
)
def test_a_model_that_no_machine_holds_is_refused(hidden: str, tmp_path: Path) -> None:
    path = tmp_path / "edgeward.toml"
    path.write_text(TEXT.replace("hidden = [4]", f"hidden = {hidden}"))
    with pytest.raises(UsageError, match="hidden|model"):
        load_config(path)

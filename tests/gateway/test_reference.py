"""docs/edgeward-reference.md is what the program says, leaves nothing out, and its ranges are those that are enforced."""

import copy
import re
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

import pytest
import tomli_w

from orchestrator.errors import UsageError
from orchestrator.gateway.config import load_config
from orchestrator.gateway.reference import TABLES, Entry, entries, options, page
from orchestrator.rounds.strategies import STRATEGIES, make_strategy

PAGE = Path(__file__).resolve().parents[2] / "docs" / "edgeward-reference.md"

TABLE_TASK: Dict[str, Any] = {
    "gateway": {},
    "task": {
        "name": "t",
        "schema": {
            "kind": "table",
            "label": "y",
            "classes": ["a", "b"],
            "label_values": {"0": 0, "1": 1},
            "features": [{"name": "x", "minimum": 0, "maximum": 1}],
        },
        "model": {"kind": "mlp"},
        **{name: {} for name in ("training", "privacy", "rounds", "selection", "evaluation", "aggregation")},
    },
}
SIGNAL = {"kind": "signal", "label": "y", "classes": ["a", "b"], "label_values": {"0": 0, "1": 1}, "samples": 8}
CNN = {"kind": "cnn1d", "filters": [4]}
NODE_UNIT = {"task.privacy.unit": "node", "task.privacy.noise": "gateway", "task.schema.standardization": "range"}
WITH: Dict[str, Dict[str, Any]] = {
    # What a key needs of others before its own range counts.
    "task.privacy.score_noise_multiplier": {"task.training.strategy": "fuala"},
    "task.schema.features.minimum": {"task.schema.features": [{"name": "x", "maximum": 1e30, "minimum": -1e30}]},
    "task.schema.features.maximum": {"task.schema.features": [{"name": "x", "maximum": 1e30, "minimum": -1e30}]},
    "task.schema.samples": {"calibration": "c.npz", "task.schema": SIGNAL, "task.model": CNN},
    "task.schema.channels": {
        "calibration": "c.npz",
        "task.schema": {**SIGNAL, "samples": 1},
        "task.model": {**CNN, "pool": 1},
    },
    "task.schema.unit_scale": {"calibration": "c.npz", "task.schema": SIGNAL, "task.model": CNN},
    "task.schema.kind": {
        "calibration": "c.npz",
        "task.schema": {**SIGNAL, "features": [{"name": "x", "minimum": 0, "maximum": 1}]},
    },
    "task.privacy.bands": {**NODE_UNIT, "task.selection.cohort": 1, "task.rounds.nodes": 5000},
    "task.privacy.clip_quantile": NODE_UNIT,
    "task.training.patience": {"task.evaluation.share": 0.2},
}


class Number(NamedTuple):
    """What a range says of numbers: values that are allowed, and values that are not."""

    allowed: List[float]
    refused: List[float]


def numbers(allowed: str, whole: bool) -> Number:
    """The borders of a range in words, and what is just beyond them; nothing where it is not about numbers alone."""
    number = r"(-?[\d.][\d.e+-]*)"
    words = allowed.partition(", below maximum")[0].partition(", above minimum")[0]
    found = re.fullmatch(rf"(above )?{number}(?: to (below )?{number}| or more|, below {number})?", words)
    if not found:
        return Number([], [])
    open_low, low = bool(found[1]), float(found[2])
    good, bad = ([] if open_low else [low]), [low if open_low else _beyond(low, -1, whole)]
    high = found[4] or found[5]
    if not high:
        good.append(1e15 if whole else 1e30)  # what has no upper border is refused nowhere above
    else:
        open_high = bool(found[3] or found[5])
        good += [] if open_high else [float(high)]
        bad.append(float(high) if open_high else _beyond(float(high), 1, whole))
    return Number(good if words == allowed else [], bad)  # where another key is a border, this one is not to be reached


def _beyond(border: float, way: int, whole: bool) -> float:
    return border + way if whole else border + way * max(abs(border) * 0.01, 1e-3 * (border == 0))


def all_entries() -> Iterator[Tuple[str, Entry]]:
    for table, kind in TABLES:
        for entry in entries(kind):
            yield f"{table}.{entry.key}".lstrip("."), entry


def mistakes(tmp_path: Path, key: str, value: Any) -> str:
    data = copy.deepcopy(TABLE_TASK)
    for name, needed in [*WITH.get(key, {}).items(), (key, value)]:
        place: Any = data
        *path, last = name.split(".")
        for part in path:
            place = place[part]
            place = place[0] if isinstance(place, list) else place
        place[last] = copy.deepcopy(needed)
    (tmp_path / "edgeward.toml").write_text(tomli_w.dumps(data))
    try:
        load_config(tmp_path / "edgeward.toml")
    except UsageError as error:
        return str(error)
    return ""


def test_the_committed_page_is_what_the_program_says() -> None:
    assert PAGE.read_text() == page(), "python -m orchestrator.gateway.reference > docs/edgeward-reference.md"


def test_every_key_says_what_it_is() -> None:
    for key, entry in all_entries():
        assert all((entry.meaning, entry.kind, entry.default, entry.range)), f"{key}: {entry}"
        assert "|" not in "".join(entry), key


def test_numbers_beyond_their_range_are_refused_and_its_borders_are_not(tmp_path: Path) -> None:
    tried = 0
    for key, entry in all_entries():
        whole = entry.kind == "whole number"
        found = numbers(entry.range, whole) if entry.kind in ("number", "whole number") else Number([], [])
        name = key.rpartition(".")[2]
        for value in found.refused:
            assert name in mistakes(tmp_path, key, int(value) if whole else value), f"{key} = {value}, {entry.range}"
            tried += 1
        for value in found.allowed:
            said = mistakes(tmp_path, key, int(value) if whole else value)
            assert name not in said, f"{key} = {value}, {entry.range}: {said}"
    assert tried > 60


def test_values_of_another_shape_are_refused_by_their_place(tmp_path: Path) -> None:
    """A text is no list of its letters, and a list is no table."""
    for key, entry in all_entries():
        shape = entry.kind.partition(" of ")[0]
        of_shape: Dict[str, List[Any]] = {"list": ["ab", {"a": "b"}], "table": ["ab", [{}]]}
        others = of_shape.get(shape, [["ab"], {"a": 1}])
        for value in others:
            said = mistakes(tmp_path, key, value)
            assert re.search(rf"\b{key.rpartition('.')[2]}\S* .*is (not|neither) ", said), f"{key} = {value!r}: {said}"


def test_closed_sets_are_closed_and_complete(tmp_path: Path) -> None:
    tried = 0
    for key, entry in all_entries():
        known = entry.range.split(", ")
        if entry.kind != "text" or len(known) < 2 or not all(re.fullmatch(r"[a-z0-9-]+", word) for word in known):
            continue
        said = mistakes(tmp_path, key, "other")
        expected = re.findall(r"expected (?:one of )?([^\n]+)", said)[0]
        assert all(word in expected for word in known), f"{key}: {said}"
        assert len(re.split(r", | or ", expected)) == len(known), f"{key}: {said}"
        tried += 1
    assert tried >= 10


@pytest.mark.parametrize("name", STRATEGIES)
def test_options_are_those_of_the_code(name: str) -> None:
    for entry in dict(options())[name]:
        good = float(entry.default)
        make_strategy(name, 1.0, {entry.key: good})
        with pytest.raises(ValueError, match=entry.key):
            make_strategy(name, 1.0, {entry.key: 1e300})
        assert entry.meaning

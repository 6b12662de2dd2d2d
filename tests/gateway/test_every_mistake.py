"""A mistake in edgeward.toml hides no other and makes up none: wrong values in every key, one by one and many at once.

The keys, their types and their ranges are those of the dataclasses the file is read into, so a new one is tried as well.
"""

import copy
import random
import re
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest
import tomli_w
from test_reference import numbers

from model_export.models import DEFAULTS
from orchestrator.cli.main import main
from orchestrator.errors import UsageError
from orchestrator.gateway.config import load_config
from orchestrator.gateway.reference import SET_BY_GATEWAY, TABLES, Entry, entries
from orchestrator.gateway.stand_ins import WORDS

WHOLE: Dict[str, Any] = {
    "calibration_public": False,
    "evaluation": {},
    "gateway": {"federation": "icu"},
    "task": {
        "name": "t",
        "schema": {
            "kind": "table",
            "label": "y",
            "classes": ["a", "b"],
            "label_values": {"0": 0, "1": 1},
            "features": [{"name": "x", "minimum": 0, "maximum": 1}, {"name": "sex", "categories": ["f", "m"]}],
        },
        "model": {"kind": "mlp"},
        **{name: {} for name in ("training", "privacy", "rounds", "selection", "evaluation", "aggregation")},
    },
}
FEATURES = "task.schema.features"


def keys() -> List[Tuple[str, Entry]]:
    return [(f"{table}.{entry.key}".lstrip("."), entry) for table, kind in TABLES for entry in entries(kind)]


KEYS = keys()
INNERMOST = [(key, entry) for key, entry in KEYS if entry.kind != "table" and key != FEATURES]


def of_another_type(entry: Entry) -> Any:
    return 7 if "text" in entry.kind and "list" not in entry.kind else "seven"


def placed(key: str) -> str:
    """As a message has it."""
    return key.replace(f"{FEATURES}.", f"{FEATURES}[0].")


def put(data: Dict[str, Any], key: str, value: Any) -> Dict[str, Any]:
    place: Any = data
    *outer, last = key.split(".")
    for name in outer:
        place = place[name]
        place = place[0] if isinstance(place, list) else place
    place[last] = value
    return data


def lines(folder: Path, data: Dict[str, Any]) -> List[str]:
    path = folder / "edgeward.toml"
    path.write_text(tomli_w.dumps(data))
    with pytest.raises(UsageError) as caught:
        load_config(path)
    assert caught.value.exit_code == 2
    return [line.strip() for line in str(caught.value).split("\n")[1:]]


def begins_with(line: str, key: str) -> bool:
    return re.match(rf"{re.escape(key)}(?![\w-])", line) is not None


def assert_said(said: List[str], wanted: List[str]) -> None:
    """Each of these once, and nothing else."""
    for key in wanted:
        assert sum(begins_with(line, key) for line in said) == 1, (key, said)
    more = [line for line in said if not any(begins_with(line, key) for key in wanted)]
    assert not more, more


@pytest.mark.parametrize(("key", "entry"), KEYS, ids=[key for key, _ in KEYS])
def test_a_value_of_another_type_is_one_line(tmp_path: Path, key: str, entry: Entry) -> None:
    assert_said(lines(tmp_path, put(copy.deepcopy(WHOLE), key, of_another_type(entry))), [placed(key)])


@pytest.mark.parametrize("seed", range(40))
def test_values_of_another_type_in_all_tables_are_a_line_each(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    by_table: Dict[str, List[Tuple[str, Entry]]] = {}
    for key, entry in INNERMOST:
        by_table.setdefault(key.rpartition(".")[0], []).append((key, entry))
    chosen = [one for found in by_table.values() for one in draw.sample(found, draw.randint(1, min(3, len(found))))]
    data = copy.deepcopy(WHOLE)
    for key, entry in chosen:
        put(data, key, of_another_type(entry))
    assert_said(lines(tmp_path, data), [placed(key) for key, _ in chosen])


def test_every_key_of_another_type_at_once(tmp_path: Path) -> None:
    data = copy.deepcopy(WHOLE)
    for key, entry in INNERMOST:
        put(data, key, of_another_type(entry))
    assert_said(lines(tmp_path, data), [placed(key) for key, _ in INNERMOST])


BEYOND = {
    key: int(value) if entry.kind == "whole number" else value
    for key, entry in INNERMOST
    if entry.kind in ("number", "whole number") and not key.startswith(FEATURES) and entry.range != SET_BY_GATEWAY
    for value in numbers(entry.range, entry.kind == "whole number").refused
}
"""Key -> a number beyond its range."""
WORD_KEYS = [(".".join((*table, key)), words) for table, known in WORDS.items() for key, words in known.items()]


def test_numbers_beyond_their_ranges_and_unknown_words_hide_each_other_nowhere(tmp_path: Path) -> None:
    """Beside a key of another type in each table, which would keep the table from being built."""
    data = copy.deepcopy(WHOLE)
    types = ["gateway.sites", "task.schema.drop_missing", "task.training.best", "task.privacy.records_per_patient"]
    types += ["task.rounds.provided", "task.selection.labels", "task.evaluation.every", "task.aggregation.checked"]
    beyond = {key: value for key, value in BEYOND.items() if key not in types}
    for key, value in beyond.items():
        put(data, key, value)
    for key in types:
        put(data, key, "seven")
    words = [key for key, _ in WORD_KEYS if key not in ("task.schema.kind", "gateway.broker")]
    for key, known in WORD_KEYS:
        if key in words:
            put(data, key, f"{known[-1]}x")
    said = lines(tmp_path, data)
    assert len(beyond) > 25
    assert_said(said, [*beyond, *types, *words])
    for key, known in WORD_KEYS:
        if key in words:
            (line,) = [each for each in said if begins_with(each, key)]
            assert f"did you mean {known[-1]!r}" in line


def test_words_are_those_of_the_reference() -> None:
    """So that a key with a new closed set gets its stand-ins."""
    closed = {}
    for key, entry in KEYS:
        known = entry.range.split(", ")
        if entry.kind == "text" and len(known) > 1 and all(re.fullmatch(r"[a-z0-9-]+", word) for word in known):
            closed[key] = set(known)
    for key, words in closed.items():
        *table, name = key.split(".")
        stand_ins = set(WORDS[tuple(table)][name])
        assert stand_ins == words - ({"none"} if name == "unit" else set()), key


MANY: Dict[str, Any] = {
    "calibration": 5,
    "gateway": {"federation": "I C U", "port": 99999, "sites": ["a b"], "minimum_cel": 3, "dashboard_minutes": -1},
    "task": {
        "name": 33 * "n",
        "codec": "int3",
        "seed": -1,
        "schema": {
            "kind": "table",
            "label": "y",
            "classes": ["a", "b"],
            "label_values": {"0": 0, "1": 5},
            "features": [
                {"name": "x", "minimum": 3, "maximum": 1, "transform": "lg"},
                {"name": "z", "minimum": "0", "maximum": 1},
                {"name": "w", "minimum": 0, "maximum": 1},
                {"name": "w", "minimum": 0, "maximum": 1},
            ],
            "standardization": "rnge",
            "samples": -1,
        },
        "model": {"kind": "mlp", "hidden": [0], "activation": "rlu", "kernl": 3},
        "training": {
            "strategy": "fedvag",
            "rounds": 0,
            "warmup_rounds": -2,
            "learning_rate": "x",
            "schedule": "cosin",
            "metric": "acuracy",
            "decay": 0.0,
            "final_share": 2.0,
            "batchsize": 3,
            "best": True,
            "tail_average": True,
        },
        "privacy": {"unit": "recrd", "epsilon": -1, "delta": 2, "mechanism": "skelam", "clip_quantile": 3, "bands": 0},
        "rounds": {"nodes": "two", "quorum": 0, "attempts": 0, "deadline_s": -5, "wieghts": "int8"},
        "selection": {"cohort": 5, "sampling_rate": 0.5, "minimum_battery": 200},
        "evaluation": {"share": 2, "every": 0},
        "aggregation": {"method": "maskd", "honest": 1, "neighbours": 2, "bits": 7},
    },
}
SAID = [
    "calibration: 5 is not a text",
    "gateway.federation 'I C U'",
    "gateway.port: 99999",
    "gateway.sites: node 'a b'",
    "gateway.minimum_cel: unknown, did you mean 'minimum_cell'?",
    "gateway.dashboard_minutes: -1",
    "task.name: ",
    "task.codec 'int3': expected one of float32, float16, int8, int4, top10, did you mean 'int8'?",
    "task.seed: -1",
    "task.schema.label_values {'1': 5}",
    "task.schema.features[0]: feature 'x': minimum 3.0 is not below maximum 1",
    "task.schema.features[0]: feature 'x': transform 'lg', expected 'log', or left out, did you mean 'log'?",
    "task.schema.features[1].minimum: '0' is not a number",
    "task.schema.features: 'w' is there twice",
    "task.schema.standardization 'rnge': expected 'federated' or 'range', did you mean 'range'?",
    "task.schema.samples: -1",
    "task.model.hidden: model hidden holds 0",
    "task.model.activation: model activation 'rlu' is unknown",
    "task.model: a model of kind mlp has no 'kernl'",
    "task.training.strategy 'fedvag': this version has",
    "task.training.rounds: 0",
    "task.training.warmup_rounds: -2",
    "task.training.learning_rate: 'x' is not a number",
    "task.training.schedule 'cosin'",
    "task.training.metric 'acuracy'",
    "task.training.decay: 0.0",
    "task.training.final_share: 2.0",
    "task.training.batchsize: unknown, did you mean 'batch_size'?",
    "task.training.best and tail_average exclude each other",
    "task.privacy.unit 'recrd': expected one of none, record, patient, node, did you mean 'record'?",
    "task.privacy.epsilon: -1",
    "task.privacy.delta: 2",
    "task.privacy.mechanism 'skelam'",
    "task.privacy.clip_quantile: 3",
    "task.privacy.bands: 0",
    "task.rounds.nodes: 'two' is not a whole number",
    "task.rounds.quorum: 0",
    "task.rounds.attempts: 0",
    "task.rounds.deadline_s: -5",
    "task.rounds.wieghts: unknown, did you mean 'weights'?",
    "task.selection.cohort and sampling_rate exclude each other",
    "task.selection.minimum_battery: 200",
    "task.evaluation.share: 2",
    "task.evaluation.every: 0",
    "task.aggregation.method 'maskd'",
    "task.aggregation.honest: 1",
    "task.aggregation.neighbours: 2",
    "task.aggregation.bits: 7",
]


def test_many_mistakes_are_a_line_each(tmp_path: Path) -> None:
    said = lines(tmp_path, MANY)
    for beginning in SAID:
        assert sum(line.startswith(beginning) for line in said) == 1, (beginning, said)
    assert len(said) == len(SAID), [line for line in said if not line.startswith(tuple(SAID))]


@pytest.mark.parametrize("command", [["doctor"], ["gateway", "run"], ["simulate", "--data", "a.csv", "--"]])
def test_all_who_read_the_file_say_all_of_it(
    tmp_path: Path, command: List[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "edgeward.toml"
    path.write_text(tomli_w.dumps(MANY))
    assert main([*command, str(path)]) == 2
    captured = capsys.readouterr()
    for beginning in SAID:
        assert captured.out.count(beginning) + captured.err.count(beginning) == 1, beginning


ALONE: Dict[str, Tuple[Dict[str, Any], List[str]]] = {
    "a quorum of nodes that are not known": ({"rounds": {"nodes": "x", "quorum": 5}}, ["task.rounds.nodes"]),
    "a quorum of nodes by another name": ({"rounds": {"noddes": 9, "quorum": 5}}, ["task.rounds.noddes"]),
    "a quorum in another table": (
        {"training": {"strategy": "krum", "quorum": 9}, "rounds": {"nodes": 9}},
        ["task.training.quorum"],
    ),
    "what only a strategy can say": (
        {"training": {"strategy": "fedvag", "options": {"mu": 2.0}, "local_steps": 5}},
        ["task.training.strategy"],
    ),
    "noise that hangs on a unit": ({"privacy": {"unit": "nod", "noise": "gateway"}}, ["task.privacy.unit"]),
    "a method that hangs on noise": (
        {"privacy": {"noise": "distributd"}, "aggregation": {"method": "masked"}, "rounds": {"quorum": 3, "nodes": 4}},
        ["task.privacy.noise"],
    ),
    "a warm-up in rounds that are not known": (
        {"training": {"rounds": "x", "warmup_rounds": 50}},
        ["task.training.rounds"],
    ),
    "best and what it goes by": (
        {"training": {"best": True}, "evaluation": {"share": "a"}},
        ["task.evaluation.share"],
    ),
    "a cohort and a quorum": ({"selection": {"cohort": 1}, "rounds": {"quorum": "2"}}, ["task.rounds.quorum"]),
    "classes and their weights": (
        {"training": {"class_weights": [1, 2, 3]}, "schema": {**WHOLE["task"]["schema"], "classes": "abc"}},
        ["task.schema.classes"],
    ),
    "a table by another name": (
        {"training": 0, "trainng": {"rounds": 0, "schedule": "cosin"}},
        ["task.trainng: unknown", "task.training.rounds", "task.training.schedule"],
    ),
    "a label by another name": (
        {"schema": {("lable" if key == "label" else key): v for key, v in WHOLE["task"]["schema"].items()}},
        ["task.schema.lable"],
    ),
}


@pytest.mark.parametrize(("tables", "wanted"), ALONE.values(), ids=list(ALONE))
def test_what_cannot_be_judged_is_not_made_up(tmp_path: Path, tables: Dict[str, Any], wanted: List[str]) -> None:
    data = copy.deepcopy(WHOLE)
    data["task"].update(tables)
    if data["task"]["training"] == 0:
        del data["task"]["training"]
    assert_said(lines(tmp_path, data), wanted)


BESIDE: Dict[str, Tuple[Dict[str, Any], List[str]]] = {
    "stages that cannot hold together": (
        {"training": {"rounds": "x"}, "privacy": {"noise": "distributed"}},
        ["task.training.rounds", "task.privacy.noise 'distributed' makes only sums private"],
    ),
    "an analysis and its schema": (
        {
            "model": None,
            "schema": {"kind": "table", "features": [{"name": "x", "minimum": 0, "maximum": "1"}], "samples": -1},
            "analysis": {"kind": "quantiles", "columns": ["xx"]},
        },
        ["task.schema.features[0].maximum", "task.schema.samples", "task.analysis.columns: 'xx': no such column"],
    ),
    "a target": (
        {
            "schema": {
                **{k: v for k, v in WHOLE["task"]["schema"].items() if k not in ("classes", "label_values")},
                "target": {"kind": "number", "minimum": "0", "maximum": 1, "transform": "lg", "unit": 41 * "u"},
            },
            "codec": "int3",
        },
        ["task.schema.target.minimum", "task.schema.target.transform", "task.schema.target.unit", "task.codec"],
    ),
    "options of a strategy": (
        {"training": {"strategy": "fedadam", "options": {"beta1": 7, "beta2": 7, "bta": 1, "mu": 0}, "rounds": -1}},
        [
            "task.training.options.beta1",
            "task.training.options.beta2",
            "task.training.options.bta",
            "task.training.options.mu",
            "task.training.rounds",
        ],
    ),
    "what cannot be printed": (
        {"name": "a\u202eb", "codec": "int3", "training": {"rounds": 0, "schedule": "cos\u202ein"}},
        ["task.name", "task.codec", "task.training.rounds", "task.training.schedule"],
    ),
}


@pytest.mark.parametrize(("tables", "wanted"), BESIDE.values(), ids=list(BESIDE))
def test_what_can_be_judged_is_said(tmp_path: Path, tables: Dict[str, Any], wanted: List[str]) -> None:
    data = copy.deepcopy(WHOLE)
    data["task"].update(tables)
    data["task"] = {key: value for key, value in data["task"].items() if value is not None}
    assert_said(lines(tmp_path, data), wanted)


@pytest.mark.parametrize("kind", ["mlp", "cnn1d"])
def test_wrong_keys_of_a_model_are_a_line_each(tmp_path: Path, kind: str) -> None:
    data = copy.deepcopy(WHOLE)
    data["task"]["model"] = {"kind": kind, **dict.fromkeys(DEFAULTS[kind], "x")}
    data["task"]["rounds"] = {"nodes": "two"}
    assert_said(lines(tmp_path, data), ["task.rounds.nodes", *(f"task.model.{key}" for key in DEFAULTS[kind])])


STRANGE: List[Any] = [
    0,
    -1,
    1e9,
    "x",
    "",
    "x\u202ey",
    True,
    [],
    ["a", "a"],
    [[1]],
    {},
    {"kind": 7},
    {"kind": "number"},
    [{"name": "q"}],
]
STRANGE += [[{"name": "q"}], {"a b": 3, "c.d": "x", "e]": 1, "": ""}, {"kind": "regression", "inputs": ["x"]}]


def spots(data: Any, outer: Tuple[Any, ...] = ()) -> List[Tuple[Any, ...]]:
    """The places of all values in tables and lists."""
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [spot for key, value in inner for spot in [(*outer, key), *spots(value, (*outer, key))]]


@pytest.mark.parametrize("seed", range(60))
def test_whatever_stands_anywhere_is_a_line_and_a_stand_in_is_never_seen(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    data = copy.deepcopy(draw.choice([WHOLE, MANY]))
    for _ in range(draw.randint(1, 6)):
        *outer, last = draw.choice(spots(data))
        place: Any = data
        for key in outer:
            place = place[key]
        place[last] = copy.deepcopy(draw.choice(STRANGE))
    data["gateway"] = "so that something is wrong"
    said = lines(tmp_path, data)
    assert len(said) == len(set(said)), said
    assert all(line and line.isprintable() and "'?" not in line.partition("did you mean")[0] for line in said), said

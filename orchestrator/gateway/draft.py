"""Writes an edgeward.toml from what a table looks like: a first draft that runs, for its author to confirm line by line."""

import re
from dataclasses import dataclass
from typing import Any, Dict, List

import tomli_w

from orchestrator.data.cells import shown
from orchestrator.gateway.scores import SHOWN, STEERS_WITHIN
from orchestrator.gateway.survey import Column, Survey
from orchestrator.privacy.evaluation_outlook import outlook
from orchestrator.privacy.planning import delta_for
from orchestrator.wire.plain import many
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.schema import Schema
from orchestrator.wire.task import Evaluation
from orchestrator.wire.topics import check_name
from orchestrator.wire.training import Training

HIDDEN_FROM_UNITS = 300
"""Fewer records or patients are too few for a hidden layer, under the noise they need: the model is linear."""

ROUNDS = 20
EPSILON = 8.0
MARGIN = 0.6
"""Of the noise with which a figure is still shown: what is known beforehand is the least, and rows are dropped on the nodes."""

HELD_OUT = 0.2
"""Share of each node's records that say how good the model is."""

NO_EVALUATION = (
    "of so few rows the noise would hide how good the model is. Where you have public rows, let the gateway evaluate on these: "
    "[evaluation] held-out = FILE"
)

_HEADER = """\
# A draft by `edgeward init`, made from {rows}. Change what is wrong, and CONFIRM every range and every list of levels:
# all nodes get this file, so they are public, and what stands here was read off these rows. A range rounded outward still
# shows about how far the values go, and a rare level that somebody has it. Where the rows are private, write what such a value
# can be at all (an age: 0 to 120), and the levels of the code book.
# All settings, with their meaning: docs/edgeward.toml of the project.
"""


@dataclass(frozen=True)
class Wanted:
    """What the author chose."""

    name: str
    nodes: int


def name_from(text: str) -> str:
    """A name for federation and task out of a file's: lower case, at most 31 characters."""
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:31].strip("-")
    return check_name(slug or "federation", "the federation's name")


def write_draft(survey: Survey, wanted: Wanted) -> str:
    """The text of an edgeward.toml."""
    units = survey.patients or survey.rows
    sections = [
        _HEADER.format(rows=many(survey.rows, "row")),
        "[gateway]",
        _line("federation", wanted.name, "nodes name it: edgeward node run --federation " + wanted.name),
        _line("broker", "embedded", 'or "mosquitto", or the address of yours: "mqtt://HOST:1883"'),
        _line("host", "127.0.0.1", "for nodes on other machines: give everybody an identity, and listen on 0.0.0.0"),
        _line("port", 1883),
        "",
        "[task]",
        _line("name", wanted.name),
        "",
        *_schema(survey),
        "",
        "[task.model]",
        _line("kind", "mlp"),
        _line(
            "hidden",
            [16] if units >= HIDDEN_FROM_UNITS else [],
            "widths of the hidden layers; [] is a linear model",
        ),
        "",
        "[task.training]",
        _line("rounds", ROUNDS),
        _line("local_steps", 2),
        _line("learning_rate", 0.5),
        _line("tail_average", True, "the result is the mean of the second half of the rounds"),
        "",
        *_privacy(survey, units),
        "",
        "[task.rounds]",
        _line("nodes", wanted.nodes, "the run starts when so many are here"),
        _line("quorum", max(1, wanted.nodes - 1), "a round goes on with so many"),
        _line("weights", "int8", "weights travel to nodes as changes in 8 bits: a quarter of the bytes"),
    ]
    every = evaluation_every(survey, wanted)
    if every:
        sections += [
            "",
            "[task.evaluation]",
            _line("share", HELD_OUT, "of each node's records are held out, to say how good the model is"),
            _line("every", every, "rounds: each evaluation costs privacy, so that more of them are noisier"),
        ]
    else:
        sections += ["", f"# no [task.evaluation]: {NO_EVALUATION}"]
    return "\n".join(sections) + "\n"


def evaluation_every(survey: Survey, wanted: Wanted) -> int:
    """After how many rounds the held-out records are asked, so that noise leaves something to show; 0 where it never does."""
    units = survey.patients or survey.complete
    privacy = Privacy(unit="patient" if survey.patient else "record", epsilon=EPSILON, delta=delta_for(units))
    for every in (ROUNDS // 4, ROUNDS // 2, ROUNDS):
        found = outlook(
            privacy,
            Training(rounds=ROUNDS),
            Evaluation(share=HELD_OUT, every=every),
            Aggregation(),
            len(survey.classes),
            wanted.nodes,
            units * HELD_OUT,
            STEERS_WITHIN,
        )
        if max(found.accuracy, found.auc or 0.0) <= MARGIN * SHOWN:
            return every
    return 0


def _schema(survey: Survey) -> List[str]:
    lines = ["[task.schema]", _line("kind", "table"), _line("label", survey.label)]
    lines.append(_line("classes", [name for name, _ in survey.classes]))
    values = {value: number for number, (_, value) in enumerate(survey.classes)}
    lines.append(f"label_values = {_inline(values)}  # value in the file = number of its class")
    lines.append(_line("missing_markers", survey.markers, "cells that mean: no value"))
    lines.append(_line("drop_missing", True, "rows that lack a value used below are left out"))
    if survey.patient:
        lines.append(_line("patient", survey.patient, "says whose record it is"))
    lines.append("features = [")
    lines += [f"    {_feature(column)}," + (f"  # {column.note}" if column.note else "") for column in survey.columns]
    lines.append("]")
    lines += [f"# left out: {shown(name)}: {why}" for name, why in survey.left_out]
    return lines


def schema_lines(schema: Schema) -> List[str]:
    """`[task.schema]` of a table, line by line."""
    lines = ["[task.schema]", _line("kind", "table")]
    if schema.target:
        lines += [_line("label", schema.label)] if schema.label else []
        lines.append(f"target = {_inline(dict(schema.target))}")
    elif schema.label:
        lines += [_line("label", schema.label), _line("classes", list(schema.classes))]
        lines.append(f"label_values = {_inline(dict(schema.label_values))}  # value in the file = number of its class")
    lines.append(_line("missing_markers", list(schema.missing_markers), "cells that mean: no value"))
    if schema.patient:
        lines.append(_line("patient", schema.patient, "says whose record it is"))
    lines.append("features = [")
    for each in schema.features:
        values = (
            {"categories": list(each.categories)}
            if each.categories
            else {"minimum": _plain(each.range[0]), "maximum": _plain(each.range[1])}
        )
        lines.append(f"    {_inline({'name': each.name, **values})},")
    return [*lines, "]"]


def _feature(column: Column) -> str:
    if column.kind == "category":
        return _inline({"name": column.name, "categories": list(column.categories)})
    return _inline({"name": column.name, "minimum": _plain(column.minimum), "maximum": _plain(column.maximum)})


def _privacy(survey: Survey, units: int) -> List[str]:
    unit = "patient" if survey.patient else "record"
    rows = (
        [_line("records_per_patient", survey.rows_a_patient, "of more, a step uses a random choice")]
        if survey.patient
        else []
    )
    return [
        "[task.privacy]",
        _line("unit", unit, "what is protected"),
        *rows,
        _line("epsilon", EPSILON, "what it costs: edgeward privacy plan"),
        _line("delta", delta_for(units), f"below 1/{unit}s of every node; this suits up to {units:,} in all"),
    ]


def _plain(number: float) -> Any:
    """Whole numbers without a decimal point, as people write them."""
    return int(number) if number == int(number) and abs(number) < 1e15 else number


def _line(name: str, value: Any, comment: str = "") -> str:
    return f"{name} = {as_toml(value)}" + (f"  # {comment}" if comment else "")


def _inline(values: Dict[str, Any]) -> str:
    return "{ " + ", ".join(f"{toml_key(name)} = {as_toml(value)}" for name, value in values.items()) + " }"


def toml_key(name: str) -> str:
    """A key of a table."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else as_toml(name)


def as_toml(value: Any) -> str:
    """One value as TOML, on one line."""
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    return tomli_w.dumps({"x": value}).partition("=")[2].strip()

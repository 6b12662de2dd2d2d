"""docs/edgeward-reference.md, made of the dataclasses an edgeward.toml is read into: `python -m orchestrator.gateway.reference`.

What a field means and what it may be stands beside it, as a comment that ends in its range: `# meaning [range]`.
"""

import ast
import dataclasses
import inspect
import io
import re
import sys
import textwrap
import tokenize
import typing
from typing import Any, Dict, List, NamedTuple, Tuple

from model_export.models import DEFAULTS
from orchestrator.analyses.registry import ANALYSES
from orchestrator.analyses.scored_model import ScoredModel
from orchestrator.gateway.settings import Config, GatewaySettings
from orchestrator.rounds import norm_bound
from orchestrator.rounds.strategies import STRATEGIES
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.targets.registry import TARGETS
from orchestrator.wire.task import Evaluation, Rounds, Selection, Task
from orchestrator.wire.training import Training

_OPTION_KINDS = {"option": "number", "whole_option": "whole number"}
"""Functions of rounds/strategy.py that read an option -> what they read."""

TABLES: Tuple[Tuple[str, Any], ...] = (
    ("", Config),
    ("gateway", GatewaySettings),
    ("task", Task),
    ("task.schema", Schema),
    ("task.schema.features", Feature),
    ("task.training", Training),
    ("task.privacy", Privacy),
    ("task.rounds", Rounds),
    ("task.selection", Selection),
    ("task.evaluation", Evaluation),
    ("task.aggregation", Aggregation),
)
"""Table of the file -> the dataclass it is read into."""

_MODEL = {
    "hidden": ("widths of the hidden layers; none is logistic regression", "1 to 4096 each"),
    "filters": ("filters of the convolutions, one layer each", "1 to 4096 each, one or more"),
    "kernel": ("length of a convolution", "1 to 1024"),
    "pool": ("factor by which all convolutions but the last are pooled; 1: none", "1 to 1024"),
    "dense": ("widths of the dense layers after the convolutions", "1 to 4096 each"),
    "activation": ("of hidden layers and convolutions", "relu, relu6, tanh, sigmoid, linear"),
    "path": (
        "a model of Keras 3 with one input and one output of as many values as there are classes",
        "a .keras file",
    ),
}
_MODEL_KINDS = {
    "mlp": "dense layers, for tables",
    "cnn1d": "convolutions over time and their mean, for signals",
    "keras": "a model of your own",
}
_OPTIONS = {
    "mu": "how strongly nodes are held near the round's weights",
    "exponent": "how fast an update loses weight with its age",
    "max_staleness": "rounds after which an update is too old to count",
    "beta1": "decay of the mean of past updates",
    "beta2": "decay of the mean of past squared updates",
    "tau": "added to the root of that mean, so that nothing is divided by 0",
    "trim": "share of the values that is left out at each end",
    "byzantine": "updates that may be anything",
    "keep": "updates that are averaged; 0: as many as can be right",
    "sharpness": "how steeply a model counts for less that does worse on other nodes' records; 0: as in fedavg",
    "memory": "newest scores of a node about another's models that count",
    norm_bound.OPTION: "without privacy: updates longer than so many median norms are shortened to that; 0: none are",
}
_HEAD = """# edgeward.toml

Every key there is, made from the program by `python -m orchestrator.gateway.reference`. A file with a comment on most of them is
[edgeward.toml](edgeward.toml); runnable ones are in [examples](../examples/README.md). Unknown keys are refused, with the nearest
name. Paths are relative to the file. What a key may be also depends on others: all mistakes of a file are said at once, by the
gateway and by `edgeward doctor edgeward.toml`, before anything begins."""


SET_BY_GATEWAY = "set by the gateway"
"""Where a key's range is said, of one that no file has."""


class Entry(NamedTuple):
    """A key of a table."""

    key: str
    kind: str
    default: str
    range: str
    meaning: str


def entries(table: Any) -> List[Entry]:
    """Of a dataclass, in its order."""
    said, kinds = _comments(table), typing.get_type_hints(table)
    found = []
    for field in dataclasses.fields(table):
        meaning, allowed = said.get(field.name, ("", ""))
        found.append(Entry(field.name, _kind(kinds[field.name]), _default(field), allowed, meaning))
    return found


def _comments(table: Any) -> Dict[str, Tuple[str, str]]:
    """Field -> (meaning, range) from the comment behind it, or on the lines above it."""
    source = textwrap.dedent(inspect.getsource(table))
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    comments = {token.start[0]: token for token in tokens if token.type == tokenize.COMMENT}
    found = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            lines = [line for line in range(node.lineno, (node.end_lineno or node.lineno) + 1) if line in comments]
            text = " ".join(comments[line].string.lstrip("# ") for line in lines or _above(comments, node.lineno))
            match = re.fullmatch(r"(.*?) \[(.+)\]", text)
            if match:
                found[node.target.id] = (match.group(1), match.group(2))
    return found


def _above(comments: Dict[int, tokenize.TokenInfo], line: int) -> List[int]:
    """The lines directly above that hold a comment and nothing else."""
    first = line
    while first - 1 in comments and not comments[first - 1].line[: comments[first - 1].start[1]].strip():
        first -= 1
    return list(range(first, line))


def _kind(annotation: Any) -> str:
    names = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    if annotation in names:
        return names[annotation]
    if dataclasses.is_dataclass(annotation):
        return "table"
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is tuple and typing.get_origin(inner[0]) is tuple:
        return f"list of {_kind(inner[0]).replace('list', 'lists', 1)}"
    if origin is tuple:
        return f"list of {'tables' if dataclasses.is_dataclass(inner[0]) else names[inner[0]] + 's'}"
    if origin is dict:
        return f"table of {names[inner[1]]}s" if inner[1] in names else "table"
    return " or ".join(_kind(part) for part in inner if part is not type(None))


def _default(field: Any) -> str:
    if "left out" in field.metadata:  # what a file that lacks the key means, where that is not the dataclass's default
        return str(field.metadata["left out"])
    if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
        return "needed"
    value = field.default if field.default is not dataclasses.MISSING else field.default_factory()
    return "none" if value is None else "its own defaults" if dataclasses.is_dataclass(value) else _toml(value)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml, value))}]"
    return f'"{value}"' if isinstance(value, str) else "{}" if value == {} else f"{value:g}" if value else "0"


def options() -> List[Tuple[str, List[Entry]]]:
    """Strategy -> the options it takes, with the defaults and ranges of its code."""
    found = []
    for name, strategy in STRATEGIES.items():
        known = {}
        for base in reversed(strategy.__mro__):
            if "__init__" in vars(base) and base is not object:
                known.update(_options_read(base.__init__))
        entries = [Entry(o, *known[o], _OPTIONS[o]) for o in strategy.OPTIONS]
        if norm_bound.bounded(strategy):
            bound = Entry(
                norm_bound.OPTION, "number", _toml(norm_bound.DEFAULT), "0, or 1 to 1e6", _OPTIONS[norm_bound.OPTION]
            )
            entries.append(bound)
        found.append((name, entries))
    return found


def _options_read(function: Any) -> Dict[str, Tuple[str, str, str]]:
    """Option -> (kind, default, range) from the calls of `option` and `whole_option` in a strategy's __init__."""
    found = {}
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function)))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _OPTION_KINDS:
            name, default, low, high = (ast.literal_eval(argument) for argument in node.args[1:])
            found[name] = (_OPTION_KINDS[node.func.id], _toml(default), f"{low:g} to {high:g}")
    return found


def page() -> str:
    """The whole reference, as Markdown."""
    parts = [_HEAD]
    for name, table in TABLES:
        title = f"[[{name}]]" if table is Feature else f"[{name}]" if name else "The top of the file"
        parts += [f"## {title}", _rows(entries(table))]
        if table is Schema:
            parts.append(_targets())
        if table is Task:
            parts += [_models(), _analyses()]
        if table is Training:
            parts.append(_strategies())
    return "\n\n".join(parts) + "\n"


def _rows(found: List[Entry]) -> str:
    head = ["| key | type | default | range | meaning |", "|---|---|---|---|---|"]
    return "\n".join([*head, *(f"| `{e.key}` | {e.kind} | `{e.default}` | {e.range} | {e.meaning} |" for e in found)])


def _models() -> str:
    lines = ["## [task.model]", "", "| kind | key | default | range | meaning |", "|---|---|---|---|---|"]
    for kind, keys in DEFAULTS.items():
        lines.append(f"| `{kind}` | | | | {_MODEL_KINDS[kind]} |")
        for key, value in keys.items():
            meaning, allowed = _MODEL[key]
            lines.append(f"| | `{key}` | `{'needed' if value is None else _toml(value)}` | {allowed} | {meaning} |")
    return "\n".join(lines)


def _targets() -> str:
    lines = ["### [task.schema.target]", "", "In place of `classes` and `label_values`, for what has none."]
    for kind, target in TARGETS.items():
        lines += ["", f'#### kind = "{kind}"', "", _rows(entries(target.Options))]
    return "\n".join(lines)


def _analyses() -> str:
    lines = ["## [task.analysis]", "", "In place of `[task.model]`, for what is no training (analyses.md)."]
    for kind, analysis in ANALYSES.items():
        lines += ["", f'### kind = "{kind}"', "", _rows(entries(analysis.Options))]
    lines += ["", "### [task.analysis.model]", "", "Of kind `performance`, in place of the name of a file."]
    lines += ["", _rows([entry for entry in entries(ScoredModel) if entry.range != SET_BY_GATEWAY])]
    return "\n".join(lines)


def _strategies() -> str:
    lines = [
        "### Strategies and their options",
        "",
        "| strategy | option | default | range | meaning |",
        "|---|---|---|---|---|",
    ]
    for name, found in options():
        lines += [f"| `{name}` | | | | |"] if not found else []
        lines += [f"| `{name}` | `{e.key}` | `{e.default}` | {e.range} | {e.meaning} |" for e in found]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(page())

"""The kinds of target there are, and the one a schema declares."""

from typing import Any, Iterator, Mapping, Type

from orchestrator.later import Later
from orchestrator.wire.bounds import near
from orchestrator.wire.structure import attempt
from orchestrator.wire.targets.base import Declared, NoOptions, Target
from orchestrator.wire.targets.classes import Classes

KIND = "kind"
TARGETS: Mapping[str, Type[Declared]] = Later(
    "orchestrator.wire.targets",
    {
        "number": "number.Number",
        "count": "count.Count",
        "labels": "labels.Labels",
        "time-to-event": "hazard.Hazard",
        "none": "nothing.Nothing",
    },
)
"""Name in `[task.schema.target] kind` -> what it means. Classes are what a schema without a target has."""


def target_of(schema: Any) -> Target:
    """What a schema says is learned. Raises ValueError, a line for each mistake in its `target`."""
    declared = schema.target
    if not declared:
        return Classes(schema, NoOptions())
    kind = declared.get(KIND)
    if not isinstance(kind, str) or kind not in TARGETS:
        known = ", ".join(TARGETS)
        what = f"kind {kind!r}" if kind is not None else "kind: missing"
        raise ValueError(f"{what}, expected one of {known}, or no target to learn classes{near(kind, TARGETS)}")
    chosen = TARGETS[kind]
    options, wrong = attempt({name: value for name, value in declared.items() if name != KIND}, chosen.Options)
    if wrong:
        raise ValueError("\n".join(wrong))
    return chosen(schema, options)


def objections(schema: Any) -> Iterator[str]:
    """Why a schema's `target` cannot be learned, a line each."""
    try:
        target = target_of(schema)
    except ValueError as error:
        yield from str(error).split("\n")
        return
    yield from target.objections()

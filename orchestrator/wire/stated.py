"""What a task states: the fields that its author gave another value than their default, by which runs are named; and in words."""

import json
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Dict, Mapping

from orchestrator.wire.task import LATER, Task


def stated_of(declared: Any) -> Dict[str, Any]:
    """A task, or a part of one, as plain data without what has its default."""
    stated = {}
    for field_of in fields(declared):
        value = getattr(declared, field_of.name)
        default = field_of.default if field_of.default_factory is MISSING else field_of.default_factory()
        if value != default:
            stated[field_of.name] = value
    return {name: _stated(value) for name, value in stated.items()}


def _stated(value: Any) -> Any:
    if is_dataclass(value):
        return stated_of(value)
    if isinstance(value, (list, tuple)):
        return [_stated(each) for each in value]
    return {name: _stated(each) for name, each in value.items()} if isinstance(value, dict) else value


def later_fields(task: Task) -> str:
    """What a task states of fields that its repr leaves out; "" where it states none."""
    stated = [
        f"{table}.{name}={json.dumps(value, sort_keys=True) if isinstance(value, dict) else repr(value)}"
        for table, name, default in LATER
        if (value := getattr(getattr(task, table), name)) != default
    ]
    stated += [
        f"features.{feature.name}.transform={feature.transform!r}"
        for feature in task.schema.features
        if feature.transform
    ]
    if task.analysis:
        stated.append(f"analysis={json.dumps(task.analysis, sort_keys=True)}")
    return " ".join(stated)


def describe_model(model: Dict[str, Any]) -> str:
    """The model in a few words, for people."""
    rest = ", ".join(f"{k} {v}" for k, v in model.items() if k != "kind")
    return f"{model.get('kind', '?')}{' (' + rest + ')' if rest else ''}"


def export_spec(task: Task, model: Mapping[str, Any]) -> Dict[str, Any]:
    """What the export worker's `prepare` needs of a task; model: its declaration, with the path resolved where it has one."""
    return {
        "model": dict(model),
        "input_shape": list(task.schema.input_shape),
        "classes": task.schema.learned.outputs,
        "batch_size": task.training.batch_size,
        "seed": task.seed,
        **({"loss": task.schema.learned.loss} if task.schema.target else {}),
    }

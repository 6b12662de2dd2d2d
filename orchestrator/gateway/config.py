"""edgeward.toml: one file says everything about a federation. Read whole, every mistake reported at once."""

from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Dict, List, Mapping, Tuple, cast

from model_export.models import check_spec
from orchestrator.analyses.registry import KIND, analysis_of, make
from orchestrator.errors import UsageError
from orchestrator.gateway.all_mistakes import all_mistakes
from orchestrator.gateway.checks import mistakes
from orchestrator.gateway.config_parts import parts_of
from orchestrator.gateway.edges_file import with_edges
from orchestrator.gateway.named_paths import beside, with_possible_paths
from orchestrator.gateway.scored_file import with_model
from orchestrator.gateway.settings import Config
from orchestrator.wire.schema import Schema
from orchestrator.wire.structure import attempt
from orchestrator.wire.task import NO_USE, Task
from orchestrator.wire.toml_file import read_toml


def load_config(path: Path, given: Mapping[str, Any] = MappingProxyType({}), files: bool = False) -> Config:
    """Raises UsageError naming the file and every mistake that can be known before anything begins.

    given: values of `[gateway]` from elsewhere, such as a command line, instead of the file's. files: also what the named data,
    model, certificates and identity say; only on the machine that is to be the gateway.
    """
    data, _ = read_toml(path)
    gateway = data.get("gateway", {})
    if isinstance(gateway, dict):
        data = {**data, "gateway": {**gateway, **given}}
    data, impossible = with_possible_paths(data, path.parent)
    data, unread = with_edges(data, path.parent)
    data, learned = _without_label(data)
    data, unscored = with_model(data, path.parent, files)
    data = _with_unstated(data)
    config, _ = attempt(data, Config)
    base_of_files = path.parent if files else None
    found = [*unread, *learned, *unscored]
    found += all_mistakes(data, base_of_files) if config is None else mistakes(parts_of(config), base_of_files)
    _refuse(str(path), beside(found, impossible))
    return cast(Config, config)


def _without_label(data: Dict[str, Any]) -> Tuple[Dict[str, Any], List[str]]:
    """What a schema says of a label beside an analysis is a mistake as a whole, whatever is wrong with its parts."""
    task = data.get("task")
    schema = task.get("schema") if isinstance(task, dict) else None
    if not isinstance(task, dict) or not isinstance(schema, dict) or not isinstance(task.get("analysis"), dict):
        return data, []
    if schema.get("kind") == "signal":  # whose label is the outcome
        return data, []
    given = [name for name in ("label", "classes", "label_values") if name in schema]
    if not given:
        return data, []
    kept = {name: value for name, value in schema.items() if name not in given}
    said = f"task.schema: {', '.join(given)}: {NO_USE}; list the column among the features"
    return {**data, "task": {**task, "schema": kept}}, [said]


def _with_unstated(data: Dict[str, Any]) -> Dict[str, Any]:
    """A clip norm that is not stated follows the model's size; of an analysis rounds and sampling rate are what it takes."""
    task = data.get("task")
    privacy = task.get("privacy", {}) if isinstance(task, dict) else None
    if not isinstance(task, dict) or not isinstance(privacy, dict):
        return data
    task = {**task, "privacy": {"clip_norm": 0.0, **privacy}}
    if "analysis" in task:
        task = {"model": {}, **task, "privacy": {"sampling_rate": 1.0, **task["privacy"]}}
    schema = task.get("schema")
    if isinstance(schema, dict) and ("analysis" in task or "target" in schema):
        task["schema"] = {"label": "", "classes": [], "label_values": {}, **schema}
    if isinstance(task.get("analysis"), dict):
        task["analysis"] = {KIND: None, **task["analysis"]}
        schema, _ = attempt(task.get("schema", {}), Schema)
        training = task.get("training", {})
        with suppress(UsageError):  # `mistakes` says it, with all others
            rounds = 1 if schema is None else make(task["analysis"], schema).rounds
            task["training"] = {"rounds": rounds, **training} if isinstance(training, dict) else training
    return {**data, "task": task}


def check_config(config: Config, base: Path) -> None:
    """The same checks of a configuration that is not from a file; relative paths start at `base`."""
    _refuse(f"task {config.task.name!r}", mistakes(parts_of(config), base))


def _refuse(where: str, wrong: List[str]) -> None:
    if wrong:
        raise UsageError(f"{where}:\n  " + "\n  ".join(wrong))


def weights_of(task: Task) -> int:
    """How many weights the task's model has, 0 where only a file of the user's says so; of an analysis the values of its sums."""
    if not task.trains:
        return analysis_of(task).sums.size
    return check_spec(task.model, task.schema.input_shape, task.schema.learned.outputs)

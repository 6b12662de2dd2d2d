"""The model file of an analysis: read where edgeward.toml names it, checked as nodes will check it, and described in the task."""

import hashlib
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from orchestrator.analyses.performance_options import categories_of
from orchestrator.analyses.scored_model import FLOAT, INT8, MOST_MODEL_BYTES, TREES, ScoredModel, Scoring
from orchestrator.analyses.signals import SIGNALS, labelled_column
from orchestrator.errors import EdgewardError, GraphError, UsageError
from orchestrator.node.graph_check import check_model
from orchestrator.node.int8_model import is_int8, read_int8
from orchestrator.node.trees_model import of_trees, read_trees
from orchestrator.wire.bounds import near
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.special_files import read_file
from orchestrator.wire.structure import attempt
from orchestrator.wire.task import Task

OPTION = "model"
FLOAT_FILE = "model_float.tflite"
_BY_GATEWAY = ("sha256", "size")
INT8_FILE = "model.tflite"
TREES_FILE = "model.bin"
_FILES = {INT8: INT8_FILE, TREES: TREES_FILE}
_OF_BUNDLE = ("inputs", "mean", "std", "output", "outputs")
_UNREAD = {"sha256": "0" * 64, "size": 1}
"""In the place of a file that cannot be read, so that all else that is wrong is said as well."""


def with_model(data: Dict[str, Any], base: Path, needed: bool) -> Tuple[Dict[str, Any], List[str]]:
    """(an edgeward.toml with what the model file it names is, what is wrong with that). Relative names start at `base`.

    needed: whether the file has to be there, as on the machine that is to be the gateway. Where data are compared with a task's
    schema, it need not.
    """
    task = data.get("task")
    analysis = task.get("analysis") if isinstance(task, dict) else None
    if not isinstance(task, dict) or not isinstance(analysis, dict) or OPTION not in analysis:
        return data, []
    given = analysis[OPTION]
    table = {"file": given} if isinstance(given, str) else given
    if not isinstance(table, dict) or not isinstance(table.get("file"), str) or not table["file"]:
        wrong = ["expected a bundle or a .tflite file, as text or as `file` of a table"]
        return _replaced(data, {"file": "?", **_UNREAD}), [f"task.analysis.{OPTION}: {line}" for line in wrong]
    wrong = [f"{name}: set by the gateway, which reads the file: leave it out" for name in _BY_GATEWAY if name in table]
    said = {name: value for name, value in table.items() if name not in _BY_GATEWAY}
    declared = task.get("schema")
    unlabelled = {"label": "", "classes": [], "label_values": {}}
    schema: Optional[Schema] = attempt({**unlabelled, **declared}, Schema)[0] if isinstance(declared, dict) else None
    if schema is not None and schema.kind == SIGNALS:
        schema = labelled_column(schema) if schema.classes else None
    path = base / said["file"]
    found, more = _read(path, said, schema, analysis) if needed or path.exists() else (dict(_UNREAD), [])
    if schema is not None and not found.get(
        "outputs"
    ):  # a file that cannot be read is not the reason of another mistake
        found.update(_outputs(said, _categories_at_once(schema, analysis)))
    wrong += more
    return _replaced(data, {**said, **found}), [f"task.analysis.{OPTION}: {line}" for line in wrong]


def model_path(task: Task, base: Path) -> Optional[Path]:
    """Where the model file of a task's analysis is; None where it has none."""
    named = task.analysis.get(OPTION)
    if not isinstance(named, dict):
        return None
    path = base / str(named["file"])
    return path / _FILES.get(str(named.get("numbers")), FLOAT_FILE) if path.is_dir() else path


def model_of(scored: Optional[ScoredModel], path: Optional[Path]) -> bytes:
    """The model's bytes, b"" where an analysis has none. UsageError where they are not those that the task names."""
    if scored is None or path is None:
        return b""
    try:
        content = read_file(path)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != scored.sha256:
        raise UsageError(f"{path}: is another file than when edgeward.toml was read: give the same command again")
    return content


def _replaced(data: Dict[str, Any], model: Dict[str, Any]) -> Dict[str, Any]:
    task = data["task"]
    return {**data, "task": {**task, "analysis": {**task["analysis"], OPTION: model}}}


def _read(
    path: Path, said: Dict[str, Any], schema: Optional[Schema], analysis: Dict[str, Any]
) -> Tuple[Dict[str, Any], List[str]]:
    """(fields of ScoredModel that follow from the file, what is wrong)."""
    try:
        found, wrong, content = _of_bundle(path, said, schema, analysis) if path.is_dir() else ({}, [], read_file(path))
    except OSError as error:
        return dict(_UNREAD), [f"{path}: {error.strerror}"]
    except EdgewardError as error:
        return dict(_UNREAD), str(error).split("\n")
    if not content:
        return dict(_UNREAD), wrong or [f"{path}: empty"]
    if len(content) > MOST_MODEL_BYTES:
        return dict(_UNREAD), [f"{path}: {len(content)} bytes, at most {MOST_MODEL_BYTES}"]
    found.update(sha256=hashlib.sha256(content).hexdigest(), size=len(content))
    numbers = said.get("numbers", FLOAT)
    if path.is_dir():
        numbers = found.get("numbers", numbers)
    elif of_trees(content):
        return found, [*wrong, f"{path}: of trees, and does not name its columns: name its bundle's folder"]
    else:
        numbers = found["numbers"] = INT8 if is_int8(content) else FLOAT
        if said.get("numbers", numbers) != numbers:
            wrong.append(f"{path}: numbers: {said['numbers']!r}, and the model is of {numbers}: leave it out")
    try:
        takes, outputs = _edges(content, numbers)
    except GraphError as error:
        return found, [*wrong, f"{path}: {error}"]
    if not path.is_dir():
        found.update(_outputs(said, _categories_at_once(schema, analysis)))
        if "outputs" not in found:
            number, why = _output(said, outputs)
            found["output"] = number
            wrong += [f"{path}: {why}"] if why else []
        scored, _ = attempt({**said, **found}, ScoredModel)
        outcome = analysis.get("outcome")
        if schema is not None and scored is not None and isinstance(outcome, str):
            scoring = Scoring(scored, schema, outcome)
            lacks = scoring.lacks(outputs) if scored.outputs else ""
            wrong += [f"{path}: has {lacks}"] if lacks else []
            if takes != scoring.shape:
                shapes = (" x ".join(map(str, shape)) for shape in (takes, scoring.shape))
                said_of = "{}: takes {} numbers of a record, " + (
                    "and the schema's signals have {}"
                    if scoring.of_signals
                    else "its columns are {}: name them as `inputs`"
                )
                wrong.append(said_of.format(path, *shapes))
    return found, wrong


def _categories_at_once(schema: Optional[Schema], analysis: Dict[str, Any]) -> Tuple[str, ...]:
    """Those of the outcome, where an edgeward.toml has a model judged by all of its classes; () where by one score."""
    outcome = analysis.get("outcome")
    if schema is None or analysis.get("event") or not isinstance(outcome, str):
        return ()
    found = categories_of(schema, outcome)
    return found if len(found) > 2 else ()


def _outputs(said: Dict[str, Any], categories: Tuple[str, ...]) -> Dict[str, Any]:
    """{"outputs": of the categories, as they come where a file does not say it}; {} where there is one score."""
    return {"outputs": said.get("outputs") or list(range(len(categories)))} if categories else {}


def _edges(content: bytes, numbers: Any) -> Tuple[Tuple[int, ...], int]:
    """(shape of a record, outputs) of a model, as nodes check it."""
    if numbers == INT8:
        model = read_int8(content)
        return (model.width,), model.classes
    if numbers == TREES:
        trees = read_trees(content)
        return (trees.width,), trees.classes
    checked = check_model(content)
    return checked.input_shape, checked.classes


def _output(said: Dict[str, Any], outputs: int) -> Tuple[int, str]:
    """(which output is the score, why no output is)."""
    number = said.get("output")
    if number is None:
        return min(outputs, 2) - 1, "" if outputs < 3 else f"has {outputs} outputs: say which is the score, `output`"
    if not isinstance(number, int) or not 0 <= number < outputs:
        return 0, f"output {number!r}: it has {outputs}, numbered from 0"
    return number, ""


def _of_bundle(
    folder: Path, said: Dict[str, Any], schema: Optional[Schema], analysis: Dict[str, Any]
) -> Tuple[Dict[str, Any], List[str], bytes]:
    """(inputs, mean, std and output as the bundle has them, what is wrong, the float model)."""
    from orchestrator.gateway.described_bundle import read_described

    bundle = read_described(folder)
    wrong = [f"{name}: the bundle says it: leave it out" for name in _OF_BUNDLE if name in said]
    int8 = said.get("numbers") == INT8
    kind = bundle.schema.kind
    if schema is not None and kind != schema.kind:
        raise UsageError(
            f"{folder}: its model is of schema.kind {kind!r}, and the task's schema is of kind {schema.kind!r}"
        )
    if bundle.of_trees and said.get("numbers", TREES) != TREES:
        wrong.append(f"{folder}: numbers: {said['numbers']!r}, and its model is of trees: leave it out")
    elif not bundle.of_trees and said.get("numbers") == TREES:
        raise UsageError(f"{folder}: numbers: 'trees', and its model is of layers: leave it out")
    elif int8 and kind == SIGNALS:
        raise UsageError(
            f"{folder}: its int8 model is of signals, of which nodes run the float model: leave `numbers` out"
        )
    elif not bundle.of_trees and not int8 and "float_model" not in bundle.manifest:
        raise UsageError(f'{folder}: holds no float model: say numbers = "int8" for the one it has')
    if bundle.schema.target:
        learned = bundle.schema.learned.kind
        raise UsageError(f"{folder}: its model learned target {learned!r}, and a score is of classes")
    found: Dict[str, Any] = {"output": 0}
    whole: Dict[str, Any] = {"numbers": TREES} if bundle.of_trees else {}
    if bundle.of_trees:
        found["inputs"] = [feature["name"] for feature in bundle.manifest["features"]]
    elif kind != SIGNALS:
        found["inputs"] = [feature.name for feature in bundle.schema.features]
        found["mean"] = [float(value) for value in bundle.mean.ravel()]
        found["std"] = [float(value) for value in bundle.std.ravel()]
    if schema is not None:
        differences = (_other_signals if kind == SIGNALS else _differences)(bundle.schema, schema)
        wrong += [f"{folder}: {line}" for line in differences]
        if differences:  # said once, in these words
            found = {"output": 0}
        by_name = {feature.name: feature for feature in schema.features}
        outcome = by_name.get(str(analysis.get("outcome")))
        categories = _categories_at_once(schema, analysis)
        if categories and outcome is not None:
            found["outputs"], lines = classes_of(bundle.schema, outcome)
            wrong += [f"{folder}: {line}" for line in lines]
        else:
            number, why = _class_of(bundle.schema, outcome, str(analysis.get("event") or ""))
            found["output"] = number
            wrong += [f"{folder}: {why}"] if why else []
    file = TREES_FILE if bundle.of_trees else INT8_FILE if int8 else FLOAT_FILE
    return {**found, **whole}, wrong, (folder / file).read_bytes()


def _differences(trained: Schema, schema: Schema) -> List[str]:
    """Why the task's columns are not those that the model was trained on."""
    by_name, found = {feature.name: feature for feature in schema.features}, []
    for feature in trained.features:
        mine = by_name.get(feature.name)
        if mine is None:
            found.append(
                f"its model takes column {feature.name!r}, which the schema lacks{near(feature.name, by_name)}"
            )
        elif mine != feature:
            found.append(f"its model's column {feature.name!r} has {_range(feature)}, the schema's {_range(mine)}")
    return found


def _other_signals(trained: Schema, schema: Schema) -> List[str]:
    """Why the task's signals are not as those that the model was trained on."""
    return [
        f"its model's signals have {name} {getattr(trained, name):g}, the schema's {getattr(schema, name):g}"
        for name in ("samples", "channels", "unit_scale")
        if getattr(trained, name) != getattr(schema, name)
    ]


def _range(feature: Feature) -> str:
    if feature.categories:
        return f"the categories {', '.join(map(repr, feature.categories))}"
    low, high = feature.range
    return f"the range {low:g} to {high:g}{' with a logarithm' if feature.transform else ''}"


def _class_of(trained: Schema, outcome: Optional[Feature], event: str) -> Tuple[int, str]:
    """(which output is the class that the analysis predicts, why no output is)."""
    if outcome is None or len(outcome.categories) < 2:
        return 0, ""  # said of the outcome
    event = event or outcome.categories[1]
    number = _class_called(trained, event)
    if number is not None:
        return number, ""
    values = ", ".join(map(repr, _called(trained)))
    return 0, (
        f"{outcome.name} = {event!r} is no class of its model, whose {trained.label!r} has {values}: name one as `event`"
    )


def classes_of(trained: Schema, outcome: Feature) -> Tuple[List[int], List[str]]:
    """(which output is of each category, why that cannot be said of all of them)."""
    hint = "name one as `event`, to judge it against all others"
    found = [_class_called(trained, category) for category in outcome.categories]
    unknown = [category for category, number in zip(outcome.categories, found) if number is None]
    if unknown:
        named, values = (", ".join(map(repr, those)) for those in (unknown, dict.fromkeys(_called(trained))))
        return [], [f"{outcome.name} = {named}: no class of its model, whose {trained.label!r} has {values}; {hint}"]
    twice = [category for category, number in zip(outcome.categories, found) if found.count(number) > 1]
    if twice:
        return [], [f"{outcome.name} = {' and '.join(map(repr, twice))}: one class of its model; {hint}"]
    rest = [name for number, name in enumerate(trained.classes) if number not in found]
    if rest:
        return [], [f"its model's class {', '.join(map(repr, rest))} is no category of {outcome.name!r}; {hint}"]
    return [int(number or 0) for number in found], []


def _class_called(trained: Schema, category: str) -> Optional[int]:
    """The class that a cell stands for in the model's label, or that is called so. Of signals categories are classes."""
    if trained.kind != SIGNALS and category in trained.label_values:
        return trained.label_values[category]
    return trained.classes.index(category) if category in trained.classes else None


def _called(trained: Schema) -> List[str]:
    """All that `_class_called` knows."""
    return [*(trained.label_values if trained.kind != SIGNALS else ()), *trained.classes]

"""The kinds of analysis there are, and the one a task declares."""

from dataclasses import fields, replace
from functools import partial
from itertools import islice
from typing import Any, Dict, Iterator, List, Mapping, Optional, Type

from orchestrator.analyses.agents import Exchange, PeerAnalysis
from orchestrator.analyses.base import MOST_REASONS, Analysis
from orchestrator.analyses.scored_model import ScoredModel
from orchestrator.analyses.signals import SIGNALS, labelled_column
from orchestrator.analyses.stand_ins import hidden_mistakes
from orchestrator.errors import UsageError
from orchestrator.later import Later
from orchestrator.wire.bounds import near
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Schema
from orchestrator.wire.structure import attempt, unstructure
from orchestrator.wire.task import Rounds, Task
from orchestrator.wire.training import Training

KIND = "kind"
ANALYSES: Mapping[str, Type[Analysis]] = Later(
    "orchestrator.analyses",
    {
        "statistics": "statistics.Statistics",
        "quantiles": "quantiles.Quantiles",
        "compare": "compare.Compare",
        "regression": "regression.Regression",
        "survival": "survival.Survival",
        "cox": "cox.Cox",
        "pca": "pca.Pca",
        "kmeans": "kmeans.KMeans",
        "performance": "performance.Performance",
        "mixture": "mixture.Mixture",
        "forest": "forest.Forest",
        "boosted": "boosted.Boosted",
        "svm": "svm.SparseSvm",
        "hashing": "hashing.Hashing",
        "dosing": "dosing.Dosing",
        "policy": "logged.LoggedPolicy",
    },
)
"""Name in `[task.analysis] kind` -> what computes it."""


def make(declared: Dict[str, Any], schema: Schema) -> Analysis:
    """What `[task.analysis]` declares. Raises UsageError with every mistake, a line each."""
    kind = declared.get(KIND)
    if kind is None:
        raise UsageError(f"{KIND}: missing, expected one of {', '.join(ANALYSES)}")
    if not isinstance(kind, str) or kind not in ANALYSES:
        known = ", ".join(ANALYSES)
        raise UsageError(
            f"kind {kind!r}: expected one of {known}, or no [task.analysis] to train{near(kind, ANALYSES)}"
        )
    chosen = ANALYSES[kind]
    said = {name: value for name, value in declared.items() if name != KIND}
    options, wrong = attempt(said, chosen.Options)
    unfit = _unlike_signals(chosen, kind, schema) if schema.kind == SIGNALS else []
    if schema.kind == SIGNALS and not unfit:
        schema = labelled_column(schema)
    if wrong and not unfit:
        wrong += islice(hidden_mistakes(said, chosen.Options, wrong, partial(chosen.over, schema)), MOST_REASONS)
    if wrong or unfit:
        raise UsageError("\n".join([*unfit, *wrong]))
    try:
        return chosen.over(schema, options)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _unlike_signals(chosen: Type[Analysis], kind: str, schema: Schema) -> List[str]:
    """Why an analysis is not one of these signals, if it is not."""
    if not chosen.of_signals:
        takers = "'performance' of a model's file"
        return [f"kind: {kind!r}: of tables, and the schema is of kind {SIGNALS!r}, of which there is {takers} alone"]
    if not schema.classes:
        return ["outcome: of signals it is the label, and the schema lacks label, classes and label_values"]
    return []


def analysis_of(task: Task) -> Analysis:
    """Of a task that declares one. Raises UsageError where it makes no sense; see `objections`."""
    try:
        found = make(task.analysis, task.schema)
    except UsageError as error:
        raise UsageError(f"task {task.name!r}: analysis: {error}") from error
    return found if task.privacy.on else found.without_noise()


def exchange_of(task: Task) -> Optional[Exchange]:
    """What nodes send each other in a run of it; None where nothing."""
    analysis = None if task.trains else analysis_of(task)
    return analysis.exchange if isinstance(analysis, PeerAnalysis) else None


def scored_by(task: Task) -> Optional[ScoredModel]:
    """The model file that travels beside a task with an analysis; None for a task without one."""
    scoring = None if task.trains else analysis_of(task).scored
    return None if scoring is None else scoring.model


def objections(task: Task) -> Iterator[str]:
    """Why what a task says of rounds, sizes and lengths is not what its analysis is: all parties count with these numbers."""
    try:
        analysis = make(task.analysis, task.schema)
    except UsageError as error:
        yield from (f"analysis.{line}" for line in str(error).split("\n"))
        return
    yield from contradictions(analysis, task.training, task.privacy, task.rounds)


def contradictions(
    analysis: Analysis, training: Training, privacy: Privacy, rounds: Optional[Rounds] = None
) -> Iterator[str]:
    """What is declared otherwise than the analysis has it."""
    named = len(analysis.exchange.graph.nodes) if isinstance(analysis, PeerAnalysis) else 0
    if named and rounds is not None and rounds.nodes != named:
        yield f"rounds.nodes: {rounds.nodes}, and the analysis is of the {named} nodes that it names: say {named}"
    if training.rounds != analysis.rounds:
        yield f"training.rounds: {training.rounds}, the analysis has {analysis.rounds}; leave it out"
    if training.parameters not in (0, analysis.sums.size):
        yield f"training.parameters: {training.parameters}, the analysis sums {analysis.sums.size} values; leave it out"
    why = analysis.objection_to(privacy.on)
    if why and privacy.on:
        yield (
            f"privacy.unit: {privacy.unit!r}, and {why}: use 'none', and 'masked' or 'ckks' in [task.aggregation], or another "
            "analysis"
        )
    elif why:
        yield f"privacy.unit: {privacy.unit!r}: {why}"
    elif privacy.on and privacy.unit != "patient" and analysis.of_patients(analysis.question(analysis.begin(0))):
        yield (
            f"privacy.unit: {privacy.unit!r}, and these sums are over patients: a record moves its patient's vector by up to "
            "twice what noise is made for; use 'patient', or 'none' with 'masked' or 'ckks' in [task.aggregation]"
        )
    elif privacy.on and privacy.clip_norm not in (0.0, analysis.sums.bound):
        yield (
            f"privacy.clip_norm: {privacy.clip_norm:g}, and a vector of this analysis is at most {analysis.sums.bound:g} long; "
            "leave it out"
        )


def check(task: Task) -> None:
    """Raises UsageError where an announced task contradicts its analysis, or leaves an option of it open."""
    wrong: List[str] = list(objections(task))
    if not wrong:
        kind = ANALYSES[task.analysis[KIND]]
        stated = [field.name for field in fields(kind.Options) if field.name not in kind.later]
        wrong = [f"analysis.{name}: not stated" for name in stated if name not in task.analysis]
        wrong += [] if task.training.parameters else ["training.parameters: not stated"]
    if wrong:
        raise UsageError(f"task {task.name!r}:\n  " + "\n  ".join(wrong))


def spelled_out(task: Task) -> Task:
    """The task with every option of its analysis stated: what an owner approves must not hang on a version's defaults."""
    analysis = analysis_of(task)
    options: Dict[str, Any] = unstructure(analysis.options)
    for path in analysis.later:
        _leave_out_default(options, analysis.options, path.split("."))
    return replace(task, analysis={KIND: task.analysis[KIND], **options})


def _leave_out_default(said: Dict[str, Any], options: Any, path: List[str]) -> None:
    """Deletes an option that is at its default from what is said of `options`."""
    name, *inner = path
    if inner and name in said:
        _leave_out_default(said[name], getattr(options, name), inner)
    elif name in said and getattr(options, name) == next(each.default for each in fields(options) if each.name == name):
        del said[name]

"""A task said in words, for people who do not read edgeward.toml."""

from typing import Dict, List

from orchestrator.analyses.registry import analysis_of
from orchestrator.privacy.releases import work_of
from orchestrator.privacy.terms import claimed, unit_of, units_of
from orchestrator.wire.plain import many
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.stated import describe_model
from orchestrator.wire.task import Task

_FEATURES_SHOWN = 12


def describe_task(task: Task) -> List[Dict[str, str]]:
    """[{term, text}]: data, model, training, rounds, updates and privacy, each in a sentence; of an analysis what it computes."""
    if task.trains:
        purpose = [
            ("Predicts", task.schema.learned.words(str)),
            ("Standardization", _standardization(task)),
            ("Model", describe_model(task.model)),
            ("Training", _training(task)),
        ]
    else:
        purpose = [("Analysis", "; ".join(analysis_of(task).words(str)))]
    said = [
        ("Data", _data(task.schema)),
        *purpose,
        ("Rounds", _rounds(task)),
        ("Updates" if task.trains else "Sums", _updates(task)),
        ("Privacy", _privacy(task)),
    ]
    return [{"term": term, "text": text} for term, text in said]


def _data(schema: Schema) -> str:
    if schema.kind == "signal":
        return f"signals of {many(schema.samples, 'sample')} and {many(schema.channels, 'channel')}"
    shown = [_feature(feature) for feature in schema.features[:_FEATURES_SHOWN]]
    more = len(schema.features) - len(shown)
    rest = f", and {more} more" if more > 0 else ""
    return f"a table with {many(len(schema.features), 'column')}: {', '.join(shown)}{rest}"


def _feature(feature: Feature) -> str:
    if feature.categories:
        return f"{feature.name} (one of {len(feature.categories)})"
    logarithm = ", its logarithm" if feature.transform else ""
    return f"{feature.name} ({feature.range[0]:g} to {feature.range[1]:g}{logarithm})"


def _standardization(task: Task) -> str:
    if task.schema.kind == "signal":
        return f"counts divided by {task.schema.unit_scale:g}"
    if not task.standardizes:
        return "by the public ranges; nothing is released for it"
    noised = "noised " if task.privacy.on else ""
    return f"by the federation's mean and deviation, from {noised}sums the nodes release once"


def _training(task: Task) -> str:
    training = task.training
    steps = many(training.local_steps, "gradient step")
    options = "".join(f", {name} {value:g}" for name, value in sorted(training.options.items()))
    tail = "; the result is the mean of the second half of the rounds" if training.tail_average else ""
    return f"{training.strategy}{options}: {steps} a round at learning rate {training.learning_rate:g}{tail}"


def _rounds(task: Task) -> str:
    rounds = task.rounds
    fewer = f" (after {rounds.gather_s:g} s with {rounds.minimum_nodes})" if rounds.minimum_nodes else ""
    announced = "once" if rounds.attempts == 1 else f"{rounds.attempts} times"
    return (
        f"{task.training.rounds}, beginning with {many(rounds.nodes, 'node')}{fewer}; each needs "
        f"{many(rounds.quorum, 'update' if task.trains else 'answer')} "
        f"within {rounds.deadline_s:g} s and is announced at most {announced}"
    )


def _updates(task: Task) -> str:
    what = "weight differences" if task.trains else f"sums of {task.training.parameters:,} values"
    return {
        "plain": f"{what}{f' as {task.codec}' if task.trains else ''}, each seen by the gateway",
        "masked": f"{what} under masks: the gateway opens their sum only, while the nodes are who they say and at "
        f"most {task.aggregation.colluding} of them work with it",
        "ckks": f"{what} under one-time pads: the gateway gets their sum with the help of "
        f"{task.aggregation.key_holder}, who must not work with it otherwise",
    }[task.aggregation.method]


def _privacy(task: Task) -> str:
    privacy = task.privacy
    if not privacy.on:
        return (
            f"none: {'updates' if task.trains else 'sums'} can reveal records; the records themselves stay on the nodes"
        )
    trainings = f" over {privacy.runs} trainings" if privacy.runs > 1 else ""
    clipped = (
        "every node's update"
        if privacy.of_nodes
        else f"every {unit_of(privacy)}'s {'gradient' if task.trains else 'part'}"
    )
    return (
        f"at most {claimed(privacy)}{trainings}: {clipped} clipped to "
        f"{privacy.clip_norm:g}, {_MECHANISMS[privacy.mechanism]} noise of {work_of(task).noise_multiplier:g} clip norms "
        f"{_noise_at(task)}{_sampled(task)}"
    )


_MECHANISMS = {"discrete-gaussian": "discrete Gaussian", "skellam": "Skellam"}


def _noise_at(task: Task) -> str:
    privacy = task.privacy
    if privacy.distributed:
        return f"on the sum of at least {many(task.aggregation.least, 'node')}, each adding a share"
    if privacy.central:
        over = f", correlated over {privacy.bands} rounds" if privacy.bands > 1 else ""
        return f"added by the gateway, which sees each node's update without it, and is trusted{over}"
    return "on the node"


def _sampled(task: Task) -> str:
    privacy = task.privacy
    if not task.trains:
        return ""
    if not privacy.of_nodes:
        return f", {units_of(privacy)} sampled at rate {privacy.sampling_rate:g}"
    rate = task.selection.sampling_rate
    return f", nodes sampled at rate {rate:g}" if rate and privacy.central else ""

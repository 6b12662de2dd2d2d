"""What training must hold to before a federation begins: its numbers, what best and patience go by, personal parts."""

from typing import Iterator

from orchestrator.gateway.config_parts import Parts
from orchestrator.gateway.scores import STEERS_WITHIN
from orchestrator.privacy import terms
from orchestrator.privacy.evaluation_outlook import most_held_out, outlook
from orchestrator.wire.bounds import within
from orchestrator.wire.protection import NOISES
from orchestrator.wire.training import Training

MAX_ROUNDS, MAX_STEPS, MAX_BATCH = 1_000_000, 100_000, 1_000_000


def number_mistakes(training: Training) -> Iterator[str]:
    yield from within("rounds", training.rounds, 1, MAX_ROUNDS)
    yield from within("local_steps", training.local_steps, 1, MAX_STEPS)
    yield from within("batch_size", training.batch_size, 1, MAX_BATCH)
    for name in ("learning_rate", "server_learning_rate"):
        yield from within(name, getattr(training, name), 0, 1e6)
    for name in ("parameters", "personal_parameters"):
        if getattr(training, name):
            yield f"{name}: set by the gateway alone, from the model; take it out"


def figure_mistakes(parts: Parts, training: Training) -> Iterator[str]:
    """Where the best round, or an early stop, is wanted and nothing says how good a round was."""
    if not training.best and not training.patience:
        return
    if not parts.evaluation and parts.federated is not None and not parts.federated.on:
        yield (
            "task.training: best and patience need figures of every round: set share in [task.evaluation] (the nodes hold "
            "records out), or name rows of your own in [evaluation]"
        )
    if training.metric == "auc" and parts.schema is not None and len(parts.schema.classes) not in (0, 2):
        yield f"task.training.metric 'auc' is for two classes, the schema has {len(parts.schema.classes)}"


def threshold_mistakes(parts: Parts) -> Iterator[str]:
    """Of a target with a score: records a threshold can come from."""
    if parts.schema is None or not parts.schema.learned.scored or parts.evaluation:
        return
    if parts.federated is not None and not parts.federated.on:
        yield (
            f"task.schema.target: {parts.schema.learned.kind!r} needs records it is not trained on, for the threshold of its "
            "scores: set share in [task.evaluation] (the nodes hold records out), or name rows of your own in [evaluation]"
        )


def noise_mistakes(parts: Parts) -> Iterator[str]:
    """Noise that is stated and that nothing would ever have."""
    privacy, training = parts.privacy, parts.training
    if privacy is None:
        return
    stated = [name for name in NOISES if getattr(privacy, name)]
    if not privacy.on:
        for name in stated:
            yield f"task.privacy.{name}: {getattr(privacy, name):g}, and unit 'none' has no noise: leave it out, or name a unit"
    elif "score_noise_multiplier" in stated and training is not None and not training.cross_scored:
        yield (
            f"task.privacy.score_noise_multiplier: {privacy.score_noise_multiplier:g}, and strategy {training.strategy!r} has no "
            "scores of other nodes' models: leave it out"
        )


def steering_mistakes(parts: Parts, training: Training) -> Iterator[str]:
    """Where private federated evaluation is bound to be too noisy for `best` and `patience`, whatever the nodes have."""
    privacy, federated, rounds = parts.privacy, parts.federated, parts.rounds
    if privacy is None or federated is None or rounds is None or parts.schema is None or parts.aggregation is None:
        return
    if not (training.best or training.patience) or not (privacy.on and federated.on) or parts.schema.target:
        return
    most = most_held_out(privacy, federated, rounds.nodes)
    declared = (privacy, training, federated, parts.aggregation, len(parts.schema.classes), rounds.nodes)
    found = outlook(*declared, most, STEERS_WITHIN)
    moved = found.at_least(training.metric)
    if moved is not None and moved > STEERS_WITHIN:
        units = terms.units_of(privacy)
        yield (
            f"task.training: best and patience cannot go by {training.metric} of private federated evaluation: with "
            f"{most:,.0f} {units} held out, the most that delta {privacy.delta:g} allows on {rounds.nodes} nodes, noise alone "
            f"moves it by {moved:.2g} (95 %), more than {STEERS_WITHIN:g}. Evaluate less often (evaluation.every), raise "
            "epsilon, name rows of your own in [evaluation] in its place, or leave best and patience out; "
            "`edgeward privacy plan` shows what it would take"
        )


def personal_mistakes(parts: Parts, training: Training) -> Iterator[str]:
    """What a gateway cannot do without the personal parts."""
    if training.personal == "none":
        return
    if parts.evaluation:
        yield (
            "evaluation: the gateway cannot evaluate on its own rows, its output layer is untrained (training.personal): take "
            "[evaluation] out and set share in [task.evaluation], nodes evaluate with their own parts"
        )
    if parts.calibration:
        yield (
            "calibration: with training.personal the gateway makes no bundle, so it has no use here: give the rows to "
            "`edgeward model personalize --calibration`"
        )

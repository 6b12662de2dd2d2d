"""What a model's manifest says about privacy (statement_page.py makes a page of it). Gateway only.

The claim is computed from the task, and from what the gateway saw in the rounds: never from what was merely hoped for.
"""

import math
from dataclasses import replace
from typing import Any, Dict, List, Optional, Tuple

from orchestrator.errors import PrivacyError
from orchestrator.privacy import terms
from orchestrator.privacy.accounting import accountant, correction_of, epsilon_spent
from orchestrator.privacy.participation import secret_sample
from orchestrator.privacy.releases import work_of
from orchestrator.privacy.statement_page import RESULT, cross_scored_in, made_of, nothing_claimed
from orchestrator.wire.task import Task

MECHANISM_WORDS = {
    "discrete-gaussian": "discrete Gaussian noise, drawn exactly",
    "skellam": "Skellam noise (a difference of Poisson counts)",
}


def statement(
    task: Task, records: Dict[str, int], run: int = 1, observed: Optional[Dict[str, Any]] = None
) -> Dict[str, Any]:
    """What the manifest of the `run`-th model says: claim, mechanism, against whom it holds, and what is not covered.

    A later training starts from the earlier model and uses the same data, so its epsilon is that of all so far. `observed`, all
    optional: least_survivors (fewest nodes in a sum that was opened), rounds_skipped, keys ("certified" by the federation's
    authority, or accepted on "first use"), audit (a measured lower bound).
    """
    seen = dict(observed or {})
    privacy = task.privacy
    if not privacy.on:
        return nothing_claimed(task)
    least = seen.get("least_survivors")
    honest = _honest(task, least)
    if not honest:
        raise PrivacyError(
            f"a sum over {least} nodes was opened where {task.aggregation.colluding} may work with the gateway: nothing can be "
            "claimed for this model"
        )
    parties = honest if privacy.distributed else 0
    epsilon = epsilon_spent(task, run, parties=parties)
    if not math.isfinite(epsilon):
        raise PrivacyError(
            f"noise multiplier {work_of(task).noise_multiplier:g} over {task.steps} steps bounds no epsilon"
        )
    close, named = correction_of(task, run, parties), terms.declared(privacy)
    return {
        **made_of(task),
        "unit": named["unit"],
        "adjacency": f"add or remove {terms.whole(named['unit'])}",
        "epsilon": epsilon,
        "epsilon_target": privacy.epsilon,
        "delta": privacy.delta,
        "accountant": accountant(),
        "discreteness": {"eta": close.eta, "delta": close.delta},
        "claim": _claim(task, epsilon, honest),
        "mechanism": _mechanism(task),
        "noise_at": named["noise"],
        "noise_multiplier": work_of(task).noise_multiplier,
        "clip_norm": privacy.clip_norm,
        "sampling": _sampling(task),
        "steps": task.steps,
        "rounds": task.training.rounds,
        "rounds_skipped": seen.get("rounds_skipped"),
        "run": run,
        "runs_planned": privacy.runs,
        "statistics": _releases("standardization sums", run, privacy.statistics_noise_multiplier, task.standardizes),
        "evaluation": _releases(
            "sums over held-out records",
            task.evaluations * run,
            privacy.evaluation_noise_multiplier,
            task.evaluation.on,
        ),
        "counts": _counts(task, run),
        **cross_scored_in(task, run),
        "composition": _composition(task),
        "aggregation": task.aggregation.method,
        "honest_survivors": (
            {
                "declared": task.aggregation.honest,
                "colluding": task.aggregation.colluding,
                "least_in_a_sum": least,
            }
            if task.aggregation.secure
            else None
        ),
        "local": _local(task, run),
        "keys": seen.get("keys"),
        "holds_against": [
            {"whom": whom, "epsilon": value, "why": why} for whom, value, why in _against(task, run, epsilon, seen)
        ],
        "records_per_node": dict(sorted(records.items())),
        "audit": seen.get("audit"),
        "not_covered": _not_covered(task, seen),
    }


def _made(task: Task, what: str = "model") -> str:
    """What comes of the rounds, in words written for models."""
    return what if task.trains else what.replace("model", RESULT)


def _honest(task: Task, least_survivors: Optional[int]) -> int:
    """Parties whose noise the claim may rest on: no more than declared (no luck is claimed), and no more than there were."""
    if not task.privacy.distributed:
        return 1
    declared = task.aggregation.honest
    return declared if least_survivors is None else max(0, min(declared, least_survivors - task.aggregation.colluding))


def _claim(task: Task, epsilon: float, honest: int) -> str:
    privacy, aggregation = task.privacy, task.aggregation
    private = f"({epsilon:.3g}, {privacy.delta:g})-differentially private for each {terms.unit_of(privacy)}"
    if epsilon > privacy.epsilon:
        private += f", which is more than the budget of {privacy.epsilon:g}"
    if privacy.local:
        sent = "update and sum" if task.trains else "sum"
        return f"Every {sent} the nodes sent, and so every {_made(task)}, is {private}, also towards the gateway."
    if privacy.distributed:
        others = f" and at most {aggregation.colluding} nodes work with it" if aggregation.colluding else ""
        others += f" and {aggregation.key_holder}, who holds the key, does not" if aggregation.key_holder else ""
        return (
            f"Every sum the gateway could open, and so every {_made(task)}, is {private}, also towards the gateway, as long as "
            f"secure aggregation holds{others}: each sum had the noise of at least {honest} honest nodes, which must have been "
            "real ones."
        )
    sampled = (
        " The figure counts on which nodes a round asks being secret: it does not hold towards those who also see the gateway's "
        "dashboard, metrics, log, audit log or store."
        if secret_sample(task)
        else ""
    )
    return (
        f"Every model is {private}, towards all who see models. Not towards the gateway: it adds the noise itself, and sees "
        f"every node's answer without.{sampled}"
    )


def _mechanism(task: Task) -> str:
    privacy = task.privacy
    follows = (
        f"; the clip norm follows the {privacy.clip_quantile:g} quantile of the norms, whose noised count is charged along"
        if privacy.clip_quantile
        else ""
    )
    if privacy.clip_tally and privacy.within_node:
        follows = "; how many were clipped goes along in each step, under the same noise, and is part of it"
    bands = f", correlated over {privacy.bands} rounds" if privacy.bands > 1 else ""
    return (
        f"{terms.clipped(task)} is clipped and rounded to a grid of whole numbers; {MECHANISM_WORDS[privacy.mechanism]}{bands}, "
        f"is {terms.noise_added(task)}"
        f"{follows}; what the grid gives away beyond continuous noise is in epsilon and delta"
    )


def _sampling(task: Task) -> str:
    privacy, selection = task.privacy, task.selection
    if not task.trains:
        return f"none: every {terms.unit_of(privacy)} is in the sum of every round"
    if not privacy.of_nodes:
        return f"Poisson, rate {privacy.sampling_rate:g} of the {terms.units_of(privacy)} on every node at every step"
    if secret_sample(task):
        return f"Poisson, every node with probability {selection.sampling_rate:g} in each round, by the gateway's secret key"
    if privacy.bands > 1:
        most = -(-task.training.rounds // privacy.bands)
        often = f"each at most once in {privacy.bands} rounds and {most} times in all"
        return f"none counted: {selection.cohort} nodes in turn, {often}"
    return "none counted: a node may be in every round"


def _releases(what: str, count: int, noise: float, there: bool) -> str:
    if not there:
        return "none released"
    times = "once" if count == 1 else f"{count} times"
    return f"{what} released {times} with noise multiplier {noise:g}, included"


def _counts(task: Task, run: int) -> str:
    privacy = task.privacy
    if not privacy.within_node:
        return "nodes do not say how many records they have, and weigh alike"
    return _releases(f"the number of {terms.units_of(privacy)} each node states", run, privacy.count_noise, True)


def _composition(task: Task) -> str:
    if task.privacy.of_nodes:
        return "every release a node is part of adds up"
    held = "; held-out ones are never trained on, so the two kinds do not add up" if task.evaluation.on else ""
    return f"parallel over nodes: a {terms.unit_of(task.privacy)} lies with one node{held}"


def _local(task: Task, run: int) -> Optional[Dict[str, Any]]:
    """What protects one node's answer by itself should secure aggregation be broken."""
    privacy = task.privacy
    if not privacy.distributed:
        return None
    epsilon = _stated(epsilon_spent(task, run, parties=1))
    multiplier = work_of(task).noise_multiplier / math.sqrt(task.aggregation.honest)
    text = (
        f"Should secure aggregation be broken, each answer still has its own share of noise, multiplier {multiplier:.3g}: "
        + ("no epsilon that would mean anything." if epsilon is None else f"epsilon {epsilon:.3g} instead.")
    )
    return {"noise_multiplier": multiplier, "epsilon": epsilon, "text": text}


def _stated(epsilon: float) -> Optional[float]:
    """JSON knows no infinity; and none is no protection."""
    return epsilon if math.isfinite(epsilon) else None


def _against(task: Task, run: int, epsilon: float, seen: Dict[str, Any]) -> List[Tuple[str, Optional[float], str]]:
    """(who, epsilon or None, why), for everyone who sees something of the training."""
    privacy, aggregation = task.privacy, task.aggregation
    rows: List[Tuple[str, Optional[float], str]] = [
        (f"anyone who gets a {_made(task)}", epsilon, f"{_made(task)}s are made of noised sums only")
    ]
    if privacy.local:
        single = ", and models of single nodes, which have all of their noise" if task.training.cross_scored else ""
        return [
            *rows,
            ("other nodes", epsilon, _made(task, f"they see the rounds' models{single}")),
            ("the gateway", epsilon, "it gets answers that are noised already"),
            ("broker and network", epsilon, "the same, even if they read everything"),
        ]
    if privacy.central:
        asked = "; whom else a round asked is not said to them" if secret_sample(task) else ""
        return [
            *rows,
            (
                "other nodes",
                epsilon,
                f"they see the rounds' models{asked}; the broker must keep each node to its own topics",
            ),
            *_who_sees_participation(task, run),
            ("the gateway", None, "it sees every node's answer without noise, and is trusted to add it"),
            ("broker and network", None, "answers are not noised: only encryption on the way (TLS) hides them"),
        ]
    # A node knows its own share and can take it off a sum. With colluding nodes declared there is one to spare.
    least = seen.get("least_survivors")
    left = min(aggregation.honest, (aggregation.least if least is None else least) - 1)
    to_nodes = _stated(epsilon_spent(task, run, parties=left)) if left < aggregation.honest else epsilon
    keys = {
        "confirmed": "each node's owner confirmed the others' keys",
        "certified": "keys are certified by the federation's authority: unless owners confirmed each other's keys, it must not "
        "certify keys of the gateway's as nodes' (the gateway may be that authority itself)",
        "first use": "keys were accepted as first seen: it must not have exchanged them then",
    }.get(str(seen.get("keys")), "keys must be the nodes' own")
    encrypted = aggregation.method == "ckks"
    key = "; the holder of the key must not work with it, nor see what nodes send to it" if encrypted else ""
    only_pads = _made(
        task,
        "it sees the rounds' models and one-time pads, as long as the broker keeps from it what nodes send to the gateway",
    )
    holder: List[Tuple[str, Optional[float], str]] = [("the key holder", epsilon, only_pads)] if encrypted else []
    without_key = ", as long as they do not work with the key holder" if encrypted else ""
    taken = (
        "a node can take its own share off a sum"
        if left < aggregation.honest
        else "a share subtracted from a sum was one to spare"
    )
    return [
        *rows,
        ("other nodes", to_nodes, _made(task, f"they see the rounds' models; {taken}")),
        (
            "the gateway",
            epsilon,
            f"it can open sums only, as long as enough of the others are who they say; {keys}{key}",
        ),
        *holder,
        ("broker and network", epsilon, f"they see masked or encrypted answers only{without_key}"),
    ]


def _who_sees_participation(task: Task, run: int) -> List[Tuple[str, Optional[float], str]]:
    """For those who see models, and who was in which round: sampling does not count towards them."""
    if not secret_sample(task):
        return []
    all_asked = replace(task, selection=replace(task.selection, sampling_rate=0.0))
    epsilon = _stated(epsilon_spent(all_asked, run))
    return [
        (
            "who reads the gateway's dashboard, metrics, log or audit log",
            epsilon,
            "they show which nodes were in which round, or how many, so that sampling counts for nothing",
        )
    ]


def _choices(task: Task) -> List[str]:
    if not task.trains:
        return ["the choice of columns, ranges and cells, made without charging it to the budget"]
    return [
        "the choice of hyperparameters, made without charging it to the budget",
        "records outside the nodes: figures of test and calibration rows the gateway holds are in the bundle (accuracy, int8 "
        "ranges)",
    ]


def _not_covered(task: Task, seen: Dict[str, Any]) -> List[str]:
    privacy = task.privacy
    units = list(terms.beyond(privacy))
    if secret_sample(task):
        units.append("how long rounds take, which hints at who was asked")
    lines = [
        *units,
        *_choices(task),
        "who takes part, and what a node's machine says of itself (memory, rounded; temperature; traffic; when it is reachable)",
        "whether a node's data fit a task (yes or no, for a limited number of declarations a day), and how long its ledger is",
    ]
    if not task.trains:
        lines.append("how long a node takes to answer: it depends on how many records it has")
    if privacy.within_node and privacy.sampling_rate < 1:
        lines.append(
            "how long a node takes to answer beyond the padding: answers leave at multiples of a time made of public numbers, "
            "which a random sample rarely exceeds"
        )
    if privacy.distributed:
        lines.append(
            f"more than {task.aggregation.colluding} nodes that work with the gateway or leave out their share of the noise"
        )
    if seen.get("keys") == "first use":
        lines.append("a gateway that gave out false keys when the nodes first met it")
    lines.append("a node that deviates from its program")
    return lines

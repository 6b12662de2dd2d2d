"""How a run shows what it is doing: lines for people, or one JSON object a line for programs."""

import json
import logging
from typing import Any, Callable, Dict, Optional, Sequence

from model_export.manifest import MOST_HEADS
from orchestrator.wire.plain import many, plain, plain_fields, when
from orchestrator.wire.topics import PROTOCOL

log = logging.getLogger("edgeward.gateway")

_LINE = 1000
_OF_A_ROUND = ("loss", "accuracy", "auc", "r2", "rmse")
"""Characters of a line: a text of `plain` and what stands round it."""

Progress = Callable[[Dict[str, Any]], None]


def logged(progress: Progress) -> Progress:
    """`progress`, which also leaves every line for people in the log."""

    def both(event: Dict[str, Any]) -> None:
        text = describe(event)
        if text:
            log.info("%s", text)
        progress(event)

    return both


def json_progress(event: Dict[str, Any]) -> None:
    print(json.dumps(event), flush=True)


def line_progress(event: Dict[str, Any]) -> None:
    text = describe(event)
    if text:
        print(text, flush=True)


def describe(event: Dict[str, Any]) -> Optional[str]:
    """One line for a person, whatever a node wrote into it; None for what only programs care about."""
    text = _describe(plain_fields(event))
    return None if text is None else "\n".join(plain(line, _LINE) for line in text.split("\n"))


def _describe(event: Dict[str, Any]) -> Optional[str]:
    kind = event["event"]
    if kind == "joined":
        return f"{event['node']} joined with {many(event['records'], 'record')}"
    if kind == "aggregated" and event["round"] == 0:
        return f"statistics: sums of {many(event['updates'], 'node')}"
    if kind == "aggregated" and event["round"] > event["of"]:
        return "last evaluation done"
    if kind == "aggregated":
        figures = _figures(event, _OF_A_ROUND) or ", ".join(
            f"{name} {value:.4g}" for name, value in (event.get("analysis") or {}).items()
        )
        figures = f", {figures}" if figures else ""
        share = (event.get("clipped") or {}).get("share")
        clipped = "" if share is None else f", {100 * share:.0f} % of gradients clipped"
        what = "sums" if event.get("analysis") else "updates"
        return f"round {event['round']}/{event['of']}: {event['updates']} {what}{figures}{clipped}, {event['seconds']:.2f} s"
    if kind == "evaluated":
        federated = event["federated"]
        figures = _figures(federated, (*_OF_A_ROUND, "calibration_error"))
        records = federated.get("records")
        count = "held-out records" if records is None else f"{records:.0f} held-out records"
        hidden = ", ".join(name.replace("_", " ") for name in federated.get("too_noisy", ()))
        hidden = f"; too noisy to show: {hidden}" if hidden else ""
        return f"round {event['round']} on {count}: {figures or 'too few to say'}{hidden}"
    if kind == "resumed":
        declined = "".join(f"; {node} declined: {reason}" for node, reason in event["declined"].items())
        return f"here when it was cut off: {', '.join(event['here']) or 'no node'}{declined}\nwaits for {event['waits_for']}"
    if kind == "rated":
        return (
            f"{event['node']} is passed over: {event['objection']}"
            if event["objection"]
            else f"{event['node']} fits again"
        )
    if kind == "dashboard":
        return f"dashboard at {event['url']}" + (f"\nwarning: {event['warning']}" if event["warning"] else "")
    if kind == "trying_again":
        return f"going on where it stopped at {when(event['since'])}: {event['reason']}"
    if kind == "stray":
        return _stray(event)
    texts = {
        "open": "gateway at {broker}",
        "dashboard_stays": "the dashboard stays at {url} for {minutes:g} minutes; kill {pid} ends it",
        "continued": "continuing run {run}",
        "planned": "planned noise multiplier {noise_multiplier:g} for epsilon {epsilon:.3g}",
        "export": "{message}",
        "left": "{node} left",
        "declined": "{node} declined: {reason}",
        "waiting": "{node} waits: {reason}",
        "passed_over": "{node} is here, but not one of [gateway] sites, or of the nodes that the task names: it is not asked",
        "node_refused": "{node} refused what came in our name: {reason}",
        "refused": "refused a message of {node}: {reason}",
        "name_in_use": "refused a second node that calls itself {node}: the first one goes on",
        "shortened": "round {round}: shortened the updates of {names}, far longer than the others",
        "on_floor": "warning: {reason}",
        "unopened": "round {round} is skipped and the weights stay as they are: {reason}",
        "not_steered": "round {round}: {notice}",
        "stopped_early": "stopped at round {round}: no better one for {patience} rounds",
        "converged": "done in round {round}: no further one would change anything",
        "tables": "tables and picture of run {run} in {folder}",
        "watching": "bundle {bundle}; waiting for boards with model {digest} to report drift",
        "heads": "heads of {names} are not kept: their models did not generalise to the others' records, or there are "
        f"{MOST_HEADS} others",
        "drift": "{board} reports drift {psi:.3f}; training again above {above:g}",
        "broker_lost": "lost the broker ({reason}); reconnecting",
        "broker_silent": "no messages from the broker for {seconds:.0f} s: deadlines wait for it",
        "broker_back": "after {seconds:.0f} s in which no node could answer its deadline runs again",
        "broker_restarted": "the broker had died, or passed nothing on, and was started again",
        "finished": "all rounds done",
        "stopped": "stopped as asked; the same command continues",
        "failed": "failed: {reason}",
    }
    return texts[kind].format(**event) if kind in texts else None


def _stray(event: Dict[str, Any]) -> str:
    if event["protocol"] != PROTOCOL:
        why = f"speaks protocol {event['protocol']}, this gateway protocol {PROTOCOL}: update the older side"
        return f"{event['node']} of federation {event['federation']!r} {why}"
    return (
        f"{event['node']} waits for a gateway of federation {event['federation']!r}, this one is of {event['own']!r}: if it "
        f"is to join, start it with --federation {event['own']}"
    )


def _figures(found: Dict[str, Any], names: Sequence[str]) -> str:
    """Those that are there, with their intervals of 95 %."""
    from orchestrator.gateway.score_tables import cell

    return ", ".join(f"{name.replace('_', ' ')} {cell(found, name)}" for name in names if found.get(name) is not None)

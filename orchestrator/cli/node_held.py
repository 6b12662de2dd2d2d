"""`edgeward node held`, `release` and `withhold`: answers that wait for the owner's word."""

import argparse
from typing import Any

from orchestrator.cli.node_budget import add_state, open_ledger
from orchestrator.cli.state import only_state

_SHOWN = 12
"""Numbers of a block that are printed; --json has all."""


def register(verbs: Any) -> None:
    add_state(verbs.add_parser("held", help="answers that wait for the owner's word before they leave"), _held)
    for verb, done in (
        ("release", "let an answer leave"),
        ("withhold", "keep an answer here, and this node out of its run"),
    ):
        decide = verbs.add_parser(verb, help=done)
        decide.add_argument("digest", help="of the answer, or a beginning that fits only one")
        add_state(decide, _decide)
        decide.set_defaults(verb=verb)


def _held(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.tables import number, report
    from orchestrator.node.held import Held

    state = only_state(arguments.state)
    with open_ledger(state) as (ledger, _):
        found = [(held, ledger.decision(held.digest)) for held in Held(state).answers()]
    lines = []
    for held, word in found:
        lines.append(f"{held.digest[:16]}  run {held.run}, task {held.task!r}: {_SAID[word]}")
        for name, values in held.values.items():
            flat = _flat(values)
            more = f" and {len(flat) - _SHOWN} more" if len(flat) > _SHOWN else ""
            lines.append(f"    {name}: {', '.join(map(number, flat[:_SHOWN]))}{more}")
    shown = [{**held._asdict(), "word": _SAID[word]} for held, word in found]
    report(arguments.json, {"held": shown}, "\n".join(lines) or "no answer was held here")
    return 0


_SAID = {None: "waits", "approved": "released", "denied": "withheld"}


def _flat(values: Any) -> Any:
    return [each for value in values for each in _flat(value)] if isinstance(values, list) else [values]


def _decide(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.tables import report
    from orchestrator.node.held import Held
    from orchestrator.node.ledger import APPROVED, DENIED

    state = only_state(arguments.state)
    with open_ledger(state) as (ledger, _):
        held = Held(state).find(arguments.digest)
        ledger.decide(held.digest, APPROVED if arguments.verb == "release" else DENIED)
    word = "released" if arguments.verb == "release" else "withheld"
    report(arguments.json, {"digest": held.digest, "word": word}, f"{held.digest[:16]} of run {held.run}: {word}")
    return 0

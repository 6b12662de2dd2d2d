"""Why the open round cannot succeed as things are, and what would help: said at once, and not when its deadlines are over."""

from typing import Any, Dict, Iterable, List, Optional

from orchestrator.rounds.coordinator import Coordinator
from orchestrator.rounds.stages import STATISTICS
from orchestrator.rounds.state import COLLECTING, GATHERING
from orchestrator.wire.plain import many, plain

_MOST_NAMES = 5


def shortfall(state: Coordinator) -> Optional[Dict[str, Any]]:
    """{nodes: how many are lacking, text, help}; None while the round can succeed, and while nodes are just waited for."""
    if state.phase == COLLECTING and state.lacking():
        nodes = state.lacking()
        return {"nodes": nodes, "text": _text_of_round(state, nodes), "help": " ".join(_help(state))}
    if state.phase == GATHERING:
        return _while_gathering(state)
    return None


def _while_gathering(state: Coordinator) -> Optional[Dict[str, Any]]:
    """As many nodes came as are wanted, but some of them take no part."""
    out = {*state.declined, *state.objections} - {state.plan.key_holder}
    here = set(state.online) - out - {state.plan.key_holder}
    if not out or len(here) >= state.plan.least_nodes or len(here | out) < state.plan.nodes:
        return None
    wanted = state.plan.least_nodes - len(here)
    can = f"{many(len(here), 'node')} of the {state.plan.least_nodes} it needs can take part"
    text = f"The run cannot begin as things are: {can}."
    return {"nodes": wanted, "text": text, "help": " ".join(_help(state))}


def _text_of_round(state: Coordinator, nodes: int) -> str:
    name = "The statistics round" if state.plan.stages.of(state.round) == STATISTICS else f"Round {state.round}"
    most = max(0, state.needed - nodes)
    come = "none can come" if most == 0 else f"at most {most} can come"
    return f"{name} cannot succeed as things are: it needs {many(state.needed, 'update')}, and {come}."


def _help(state: Coordinator) -> List[str]:
    lines = []
    away = sorted(set(state.cohort) - set(state.arrived) - set(state.declined) - set(state.online))
    holder = state.plan.key_holder
    if holder and holder not in state.online:
        lines.append(f"The key holder {plain(holder)} is not here: start it again.")
    if away:
        lines.append(f"It helps if {_names(away, 'or')} comes back: see whether the node runs and reaches the broker.")
    lines += [
        f"{plain(node)} declined: {plain(reason)}." for node, reason in sorted(state.declined.items())[:_MOST_NAMES]
    ]
    passed_over = sorted((node, why) for node, why in state.objections.items() if node not in state.declined)
    lines += [f"{plain(node)} is passed over: {plain(reason)}." for node, reason in passed_over[:_MOST_NAMES]]
    lines.append("Another node that joins helps as well.")
    if state.phase == COLLECTING:
        left = max(0, state.plan.attempts - state.attempt)
        again = f"it is announced {_times(left)} more and " if left else ""
        lines.append(f"Otherwise {again}the run stops at the last deadline; the same command goes on from there.")
    return lines


def _names(names: Iterable[str], word: str) -> str:
    shown = [plain(name) for name in names]
    if len(shown) > _MOST_NAMES:
        return f"{', '.join(shown[:_MOST_NAMES])} {word} one of {len(shown) - _MOST_NAMES} more"
    return f"{', '.join(shown[:-1])} {word} {shown[-1]}" if len(shown) > 1 else shown[0]


def _times(many: int) -> str:
    return "once" if many == 1 else f"{many} times"

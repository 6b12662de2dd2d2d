"""The strategies there are, by the name a task uses."""

import difflib
from typing import Any, Iterable, List, Mapping

from orchestrator.later import Later
from orchestrator.rounds import declared, norm_bound
from orchestrator.rounds.strategy import NodeHalf, Strategy

STRATEGIES: Mapping[str, Any] = Later(
    "orchestrator.rounds", {name: known.place for name, known in declared.STRATEGIES.items()}
)


def make_strategy(name: str, server_learning_rate: float, options: Mapping[str, float]) -> Strategy:
    """The strategy a task names; ValueError lists the strategies, or the options, there are."""
    if name not in STRATEGIES:
        raise ValueError(
            f"strategy {name!r}: this version has {', '.join(sorted(STRATEGIES))}{_near(name, STRATEGIES)}"
        )
    known = STRATEGIES[name].OPTIONS + ((norm_bound.OPTION,) if norm_bound.bounded(STRATEGIES[name]) else ())
    wrong = [
        f"strategy {name!r} has no option {unknown!r}; it has {', '.join(known) or 'none'}{_near(unknown, known)}"
        for unknown in sorted(set(options) - set(known))
    ]
    for option in known:
        if option in options:
            wrong += _refused(name, server_learning_rate, {option: options[option]})
    wrong = wrong or _refused(name, server_learning_rate, options)
    if wrong:
        raise ValueError("\n".join(wrong))
    strategy: Strategy = STRATEGIES[name](server_learning_rate, options)
    return strategy


def _refused(name: str, server_learning_rate: float, options: Mapping[str, float]) -> List[str]:
    """Why a strategy cannot be made with these of its options."""
    try:
        norm_bound.multiple_of(options)
        STRATEGIES[name](server_learning_rate, options)
    except ValueError as error:
        return str(error).split("\n")
    return []


def node_half(name: str, options: Mapping[str, float]) -> NodeHalf:
    """What nodes do in a task's strategy beside plain steps."""
    half: NodeHalf = STRATEGIES[name].AtNode(options)
    return half


def _near(name: str, known: Iterable[str]) -> str:
    names = {other.casefold(): other for other in known}
    found = difflib.get_close_matches(name.casefold(), list(names), 1)
    return f", did you mean {names[found[0]]!r}?" if found else ""

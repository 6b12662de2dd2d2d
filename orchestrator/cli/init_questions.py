"""What `edgeward init` asks on a terminal, each with what Enter stands for; elsewhere that is the answer."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.gateway.delimited import Table
    from orchestrator.gateway.owner_draft import Owner

NODES = 3
TASKS = 3
"""As many tasks like the drafted one as the suggested limit of epsilon has room for."""


def asked(question: str, default: str) -> str:
    """What the user types; the default where that is nothing."""
    print(f"{question}? [{default}] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip() or default


def label_of(table: Table, asks: bool) -> str:
    """Typed by the user."""
    from orchestrator.errors import UsageError
    from orchestrator.gateway.survey import label_candidates

    candidates = label_candidates(table)
    if not asks:
        likely = f"likely ones are {', '.join(candidates[:5])}" if candidates else "none has a few values only"
        raise UsageError(f"--label COLUMN: name the column that is to be learned; {likely}")
    for number, name in enumerate(candidates, 1):
        print(f"{number:>3} {name}", file=sys.stderr)
    given = asked("which column is to be learned, by its number or name", candidates[0] if candidates else "")
    if given.isdecimal() and len(given) <= 6 and given not in table.header and 1 <= int(given) <= len(candidates):
        return candidates[int(given) - 1]
    if not given:
        raise UsageError("--label COLUMN: name the column that is to be learned; none has a few values only")
    return given


def nodes_of(given: int | None, asks: bool) -> int:
    """given: by an option, which is asked for no more."""
    from orchestrator.cli.arguments import whole_within
    from orchestrator.errors import UsageError
    from orchestrator.wire.bounds import MAX_NODES

    if given is not None or not asks:
        return NODES if given is None else given
    typed = asked("how many nodes are to take part", str(NODES))
    try:
        return whole_within(1, MAX_NODES)(typed)
    except argparse.ArgumentTypeError as error:
        raise UsageError(f"{typed!r} is no number of nodes (--nodes): a whole number from 1 to {MAX_NODES}") from error


def owner_of(asks: bool, policy: str) -> Owner:
    """policy: the name of the file that is asked about."""
    from orchestrator.cli.arguments import number
    from orchestrator.errors import UsageError
    from orchestrator.gateway.owner_draft import Owner, least_total

    least = least_total()
    total, approval = f"{TASKS * least}", "no"
    if asks:
        total = asked(f"{policy}: how much epsilon may everything together spend of these data, {least} a task", total)
        approval = asked(f"{policy}: must a person look at each task before it runs, yes or no", approval)
    try:
        epsilon = number(total)
    except argparse.ArgumentTypeError as error:
        raise UsageError(str(error)) from error
    if epsilon < least:
        raise UsageError(f"{total!r}: the drafted task takes epsilon {least}; nothing could run with less")
    if approval not in ("yes", "y", "no", "n"):
        raise UsageError(f"{approval!r}: yes or no is expected")
    return Owner(epsilon, approval.startswith("y"))

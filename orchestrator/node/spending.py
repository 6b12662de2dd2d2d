"""What a run more would make of the epsilon this node has spent, beside what its owner's policy allows."""

import math
from typing import Dict, Tuple, Union

from orchestrator.errors import PrivacyError
from orchestrator.node import accountant
from orchestrator.node.ledger import Ledger
from orchestrator.node.policy import Budget, Refusal
from orchestrator.node.reservation import Reservation


class Spending:
    """Of one ledger. The newest answer is kept: the same task is asked about again and again."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._counted: Dict[Tuple[str, ...], Tuple[float, float]] = {}

    def with_run(self, budget: Budget, wanted: Reservation) -> Union[Refusal, Tuple[float, float]]:
        """(epsilon of all runs of this task, of everything) with `wanted` included, or which limit that breaks."""
        known = [r for r in self._ledger.reservations() if r.run != wanted.run]
        # By name or by schema: a task that comes again with another seed, or under another name, is the same one.
        same = [r for r in known if r.task == wanted.task or r.splits_like(wanted)]
        key = (str(budget.delta), wanted.run, wanted.digest, *(f"{r.run} {r.counted}" for r in known))
        if key not in self._counted:
            try:
                of_task, total = accountant.epsilons_apart([[*same, wanted], [*known, wanted]], budget.delta)
            except PrivacyError as error:
                return Refusal("policy.accountant", f"the policy limits epsilon, and {error}")
            self._counted = {key: (of_task, total)}
        of_task, total = self._counted[key]
        earlier = f" with {_runs(len(same))} of it" if same else ""
        if budget.epsilon_task and of_task > budget.epsilon_task:
            reason = f"the task would spend epsilon {_say(of_task)}{earlier} at delta {budget.delta:g}, at most"
            return Refusal("policy.budget", f"{reason} {budget.epsilon_task:g} is allowed for one task")
        if budget.epsilon_total and total > budget.epsilon_total:
            reason = (
                f"with it epsilon {_say(total)} at delta {budget.delta:g} would be spent in all ({_runs(len(known))})"
            )
            return Refusal("policy.budget", f"{reason}, at most {budget.epsilon_total:g} is allowed")
        return of_task, total


def _runs(count: int) -> str:
    return f"{count} earlier run{'' if count == 1 else 's'}"


def _say(epsilon: float) -> str:
    return f"{epsilon:.3g}" if math.isfinite(epsilon) else "without bound"

"""An owner's policy in words: one line a rule."""

from typing import List

from orchestrator.node.disclosure import rules_in_words
from orchestrator.node.policy import ANY_COLUMN, Policy
from orchestrator.node.similar_rules import similar_in_words


def _patients(column: str) -> str:
    if column == ANY_COLUMN:
        return "by the column a task names"
    return f"by column {column!r}" if column else "no column named, so no task about patients"


def describe(policy: Policy) -> List[str]:
    """One line a rule, for people."""
    budget, require, allow = policy.budget, policy.require, policy.allow

    def limit(value: float) -> str:
        return f"at most epsilon {value:g} at delta {budget.delta:g}" if value else "no limit"

    return [
        f"one task: {limit(budget.epsilon_task)}",
        f"in total: {limit(budget.epsilon_total)}",
        f"privacy units: {', '.join(require.units)}",
        f"stages: {', '.join(require.stages) or 'none required'}",
        f"nodes in a round: at least {require.minimum_cohort}",
        f"tasks: {', '.join(allow.tasks) or 'none'}",
        f"gateways: {', '.join(allow.signers) or ('any it is enrolled with' if require.signed else 'any')}",
        f"sampling rate: at most {allow.sampling_rate:g}",
        f"patients: {_patients(require.patient)}",
        f"other parties: {', '.join(sorted(require.peers)) or 'those confirmed with `edgeward node peers`'}",
        f"noise of this node alone: multiplier {require.own_noise:g} at least",
        f"noise shared among: {f'at most {allow.honest} nodes' if allow.honest else 'any number of nodes'}",
        f"neighbours in secure sums: at least {require.neighbours}",
        f"sums without noise: {'over the same nodes throughout a run' if require.steady else 'over changing nodes too'}",
        f"data are opened for at most {allow.schemas_a_day} different declarations a day",
        f"messages to other nodes, without noise: {f'at most {allow.peer_messages} to each' if allow.peer_messages else 'none'}",
        f"models of this node alone go to other nodes: {allow.models_to_nodes}",
        *rules_in_words(policy.disclosure, policy.bounds_noise),
        *similar_in_words(policy.similar),
        f"a person must approve: {'yes' if policy.approval.required else 'no'}",
    ]

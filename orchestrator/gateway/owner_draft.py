"""Writes a policy.toml for the owner of the data that an edgeward.toml was drafted from: that task fits it, and little else."""

import math
from dataclasses import dataclass

from orchestrator.gateway.draft import EPSILON, Wanted, as_toml
from orchestrator.gateway.survey import Survey
from orchestrator.privacy.planning import delta_for

_HEADER = """\
# A draft by `edgeward init`: what others may do with the data of this node. It never leaves it, and is read again for every task.
# CONFIRM every line: it is the owner's word, whatever a gateway says. `edgeward node policy check` says it in words.
# All rules, with their meaning: docs/policy.toml of the project.
"""


@dataclass(frozen=True)
class Owner:
    """What the owner of the data chose.

    epsilon_total: of everything that is ever computed on them. approval: whether a person looks at each task first.
    """

    epsilon_total: float
    approval: bool


def least_total() -> float:
    """Epsilon of the drafted task, as a node may count it: what grids of whole numbers give away comes on top."""
    return math.ceil(EPSILON * 1.05)


def write_policy(survey: Survey, wanted: Wanted, owner: Owner) -> str:
    """The text of a policy.toml that the task of `write_draft` fits."""
    units = survey.patients or survey.rows
    unit = "patient" if survey.patient else "record"
    quorum = max(1, wanted.nodes - 1)
    lines = [
        _HEADER,
        "[budget]  # counted by this node itself, from its ledger",
        _line("epsilon_task", float(least_total()), "of all runs of one task together: the drafted one fits once"),
        _line("epsilon_total", owner.epsilon_total, "of everything these data are ever part of; 0: no limit"),
        _line("delta", delta_for(units), "at which epsilon is counted: below 1/" + unit + "s"),
        "",
        "[require]  # what a task must declare",
        _line("units", [unit], "what it protects; a task without privacy is declined"),
        _line(
            "stages",
            ["noise"],
            'nothing leaves this node without noise of its own; with "masked" nobody sees its answer alone',
        ),
        _line("minimum_cohort", quorum, "nodes that a result is made of at least"),
        *([_line("patient", survey.patient, "the column that says whose a record is")] if survey.patient else []),
        _line("signed", False, "true where everybody has an identity: docs/identity.md of the project"),
        "",
        "[allow]",
        _line("tasks", [wanted.name], "names, with * and ?"),
        _line(
            "schemas_a_day",
            10,
            "declarations for which the data are opened: whether they fit says something of them, too",
        ),
        "",
        "[approval]",
        _line("required", owner.approval, "true: each task waits for `edgeward node approve`"),
    ]
    return "\n".join(lines) + "\n"


def _line(name: str, value: object, comment: str) -> str:
    return f"{name} = {as_toml(value)}  # {comment}"

"""What a task's unit, and who adds its noise, are called: in statements, before owners, on pages. A row for each of them.

Whether a unit is a patient, or noise is added by nodes, is asked of `Privacy` itself (wire/protection.py); how much noise there
is of the task's releases (releases.py); which records are one unit of `Dataset.units`.
"""

from typing import Dict, NamedTuple, Tuple

from orchestrator.wire.protection import Privacy
from orchestrator.wire.task import Task


class _Unit(NamedTuple):
    """many: of a count. whole: what adding or removing one means. clipped, summed: what of it is bounded, in training and in an
    analysis. beyond: what a claim about it does not cover."""

    many: str
    whole: str
    clipped: str
    summed: str
    beyond: Tuple[str, ...]


_UNITS: Dict[str, _Unit] = {
    "record": _Unit(
        "records",
        "one record of one node",
        "the gradient of every record",
        "what every record adds to a sum",
        (
            "a person with several records: the unit is one record, not one person",
            "a record held by several nodes: its epsilon adds up over them",
        ),
    ),
    "patient": _Unit(
        "patients",
        "all records of one patient at one node",
        "the mean gradient of every patient (of at most {records} records, drawn in each step)",
        "what every patient adds to a sum",
        (
            "a patient known to several nodes, or under several names: epsilon adds up over them",
            "a column that does not tell patients apart: the claim rests on the one the schema names",
        ),
    ),
    "node": _Unit(
        "nodes",
        "one node",
        "every node's update",
        "what every node adds to a sum",
        ("who is a member of the federation, and which nodes a round asked (the gateway and the broker see it)",),
    ),
}


class _Noise(NamedTuple):
    """added: by whom, in a statement; here: at a node, for its owner."""

    added: str
    here: str


_NOISE: Dict[str, _Noise] = {
    "node": _Noise("added by each node before anything leaves it", "here"),
    "distributed": _Noise(
        "added by the nodes, each a share such that {honest} of them make it whole", "a share of it here"
    ),
    "gateway": _Noise("added by the gateway to each round's sum", "at the gateway only"),
}


SMALLER_UNITS = "records or patients (privacy.unit)"
"""What a message proposes where a node cannot be the unit."""


def declared(privacy: Privacy) -> Dict[str, str]:
    """{unit, noise} as the task names them, for reports."""
    return {"unit": privacy.unit, "noise": privacy.noise}


def setting(privacy: Privacy) -> str:
    """How a message names the task's unit: `privacy.unit 'node'`."""
    return f"privacy.unit {privacy.unit!r}"


def unit_of(privacy: Privacy) -> str:
    """One: "record", "patient" or "node"; "none" without privacy."""
    return privacy.unit


def units_of(privacy: Privacy) -> str:
    """Many of them. KeyError without privacy."""
    return _UNITS[privacy.unit].many


def counted(privacy: Privacy) -> str:
    """What the rows of a table are counted as, with privacy or without: patients where these are the unit, else records."""
    return _UNITS["patient" if privacy.of_patients else "record"].many


def claimed(privacy: Privacy) -> str:
    """The claim in one line."""
    return f"epsilon {privacy.epsilon:g} at delta {privacy.delta:g} per {privacy.unit}"


def whole(unit: str) -> str:
    """All of one `unit`, whose presence a claim is about."""
    return _UNITS[unit].whole


def clipped(task: Task) -> str:
    """What of one unit is bounded before it is added to a sum."""
    unit = _UNITS[task.privacy.unit]
    return unit.clipped.format(records=task.privacy.records_per_patient) if task.trains else unit.summed


def noise_added(task: Task) -> str:
    """By whom, in a statement."""
    return _NOISE[task.privacy.noise].added.format(honest=task.aggregation.honest)


def noise_here(privacy: Privacy) -> str:
    """How much of it a node adds, for its owner."""
    return _NOISE[privacy.noise].here


def beyond(privacy: Privacy) -> Tuple[str, ...]:
    """What a claim about this unit does not cover."""
    return _UNITS[privacy.unit].beyond

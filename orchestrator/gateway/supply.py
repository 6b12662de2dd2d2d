"""Rounds that a higher gateway begins, as they come to the gateway of a region (gateway/relay.py)."""

from dataclasses import dataclass
from typing import Dict, Optional

import numpy as np

from orchestrator.gateway.conclusion import HandUp
from orchestrator.gateway.course import Course
from orchestrator.gateway.run_store import PARTIAL
from orchestrator.rounds.events import Ended, Provided


@dataclass(frozen=True)
class Supply:
    """From the higher gateway, through this one's queue: a round with its tensors, or with None the end of the run."""

    round: int
    tensors: Optional[Dict[str, np.ndarray]]


def take_supply(course: Course, supply: Supply, hand_up: Optional[HandUp]) -> None:
    """Begins what is new; of a round that is done its result goes up once more: it was asked again after a crash."""
    if supply.tensors is None:
        course.happen(Ended(course.now()))
        return
    store, run = course.store, course.run
    newest = [] if supply.round < 0 else list(store.each_result(run, supply.round))
    vector = store.vector(run, PARTIAL)
    if [r["round"] for r in newest] == [supply.round] and vector is not None and hand_up is not None:
        hand_up(supply.round, vector, int(newest[0]["records"]))
    if supply.round <= course.coordinator.wanted:
        return
    event = Provided(course.now(), supply.round)
    with store.transaction():
        for name, tensor in supply.tensors.items():
            store.put_vector(run, name, tensor.ravel())
        store.append(run, event)
    course.follow(event)

"""Whether the masks of a secure sum are new in every round: the nodes' own steps, played for two rounds with the same vectors.

Equal vectors under the same mask look equal. Under new masks two values of b bits agree with probability 2^-b.
"""

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Dict, Mapping

import numpy as np

from orchestrator.data.dataset import Dataset
from orchestrator.node.contribution import Contribution
from orchestrator.node.peers import Peers
from orchestrator.node.run import Run
from orchestrator.node.secure import MaskedRound
from orchestrator.node.store import NodeStore
from orchestrator.privacy.mask_graph import complete_up_to
from orchestrator.privacy.ring import unpack
from orchestrator.privacy.terms import unit_of
from orchestrator.privacy.vector_layout import Layout, bits_for, parts_of
from orchestrator.rounds.steps import KEYS, MASKED, REVEAL, SHARES
from orchestrator.wire.task import Task


def mask_reuse(task: Task, dataset: Dataset, parameters: int) -> Dict[str, Any]:
    """{agreeing, values, bits, holds}: how many masked values two rounds have in common, of as many nodes as a sum needs.

    holds: no more than a tenth of them, which new masks do not reach by chance (below 1e-9 for 4 values of 16 bits or more).
    """
    names = [f"node-{i}" for i in range(task.aggregation.least)]
    with tempfile.TemporaryDirectory(prefix="edgeward-audit-") as folder, ExitStack() as stack:
        stores = {}
        for name in names:
            stores[name] = NodeStore(Path(folder) / f"{name}.sqlite")
            stack.callback(stores[name].close)
        rounds = (1, min(2, task.training.rounds))
        first, second = (_masked(task, dataset, parameters, number, i, stores) for i, number in enumerate(rounds, 1))
    agreeing = sum(int((first[name] == second[name]).sum()) for name in names)
    values = sum(len(first[name]) for name in names)
    bits = _layout(task, dataset, parameters, len(names), 1).bits
    return {"agreeing": agreeing, "values": values, "bits": bits, "holds": agreeing <= values / 10}


def _masked(
    task: Task, dataset: Dataset, parameters: int, number: int, attempt: int, stores: Mapping[str, NodeStore]
) -> Dict[str, np.ndarray]:
    """node -> uint32 (size,), what it would send in a round in which its vector is 0."""
    layout = _layout(task, dataset, parameters, len(stores), number)
    vectors = {part.name: np.zeros(part.size, np.int64 if part.noisy else np.float64) for part in layout.parts}

    def nothing(number: int, announced: Any, tensors: Any, layout: Layout) -> Contribution:
        return Contribution(dict(vectors), {}, {})

    rounds = {}
    for name, store in stores.items():
        run = Run("audit", "", task, b"", dataset, dataset.take(np.empty(0, np.int64)))
        weights = {"weights": np.zeros(parameters + task.training.personal_parameters, np.float32)}
        announced = {"round": number, "attempt": attempt}
        peers = Peers(name, store, first_sight=True)
        rounds[name] = MaskedRound("audit", run, announced, weights, name, peers, store, nothing)
    keys = {name: played.answer({"step": KEYS})[0] for name, played in rounds.items()}
    counts = {"bits": layout.bits, "parties": len(stores)}
    counts.update(units=len(stores) * len(dataset.units(unit_of(task.privacy))), records=len(stores) * dataset.records)
    asked: Dict[str, Any] = {"adverts": keys, **counts}
    if len(stores) > complete_up_to(task.aggregation.neighbours):
        asked["nonces"] = {
            name: played.answer({"step": REVEAL, **asked})[0]["nonce"] for name, played in rounds.items()
        }
    asked["step"] = SHARES
    shares = {name: played.answer(asked)[0]["shares"] for name, played in rounds.items()}
    sent = {}
    for name, played in rounds.items():
        own = {sender: given[name] for sender, given in shares.items() if name in given}
        packed = played.answer({"step": MASKED, "shares": own, **counts})[1]["masked"]
        sent[name] = unpack(packed.tobytes(), layout.bits, layout.size)
    return sent


def _layout(task: Task, dataset: Dataset, parameters: int, parties: int, number: int) -> Layout:
    parts, units = parts_of(task, number, parameters), parties * len(dataset.units(unit_of(task.privacy)))
    return Layout(
        parts, bits_for(parts, units, parties, task.aggregation.bits), parties, units, parties * dataset.records
    )

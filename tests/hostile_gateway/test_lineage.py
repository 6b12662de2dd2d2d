"""Attack: a model's papers say who was in which round, while its claim counts on a secret sample of nodes. Promise: two runs that
differ only in who took part leave the same lineage; without such a claim the lineage may say it, by pseudonym."""

import json
from pathlib import Path
from typing import Any, Dict, List, Sequence

import numpy as np
import pytest

from orchestrator.gateway.registry import keep_model
from orchestrator.gateway.run_store import PSEUDONYM_SECRET
from orchestrator.gateway.store import Store
from orchestrator.rounds.events import Aggregated, Arrived, Event, Joined, Started
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Selection, Task, task_to_dict
from orchestrator.wire.training import Training

NODES = ("emergency", "intensive", "surgery")
RUN, DIGEST = "ward-0123abcd", "ab" * 8
ALL, WITHOUT = (NODES, NODES, NODES), (NODES, NODES[:2], NODES[1:])


def task(sampled: bool) -> Task:
    schema = Schema("table", "y", ("a", "b"), {"0": 0}, (Feature("x", -1, 3),), standardization="range")
    privacy = Privacy("node", epsilon=8.0, delta=1e-2, noise="gateway", noise_multiplier=1.0)
    selection = Selection(sampling_rate=0.5 if sampled else 0.0)
    model: Dict[str, Any] = {"kind": "mlp", "hidden": []}
    return Task("ward", schema, model, Training(rounds=3), privacy, Rounds(3, 1), selection=selection)


def lineage(folder: Path, declared: Task, took_part: Sequence[Sequence[str]]) -> Any:
    """lineage.json of a finished run with these nodes in its rounds, all else alike; times left out."""
    folder.mkdir()
    store = Store(folder / "gateway.sqlite")
    store.create_run(RUN, task_to_dict(declared), b"graph", np.zeros(3, np.float32))
    store.database.execute(
        "UPDATE secrets SET value = ?, digest = NULL WHERE run = ? AND name = ?", (b"k" * 32, *PSEUDONYM_SECRET)
    )
    began: List[Event] = [Started(1000.0), *(Joined(1001.0, name, 1) for name in NODES)]
    for event in began:
        store.append(RUN, event)
    for number, nodes in enumerate(took_part, 1):
        at = 1000.0 + 10 * number
        store.put_phase(RUN, at, "collecting", number, "")
        for name in nodes:
            store.append(RUN, Arrived(at, name, number, "d", 1.0))
        figures = {"round": number, "updates": len(nodes), "nodes": list(nodes), "seconds": 3.0 + len(nodes)}
        store.put_result(RUN, number, {**figures, "bytes_up": 100 * len(nodes), "bytes_down": 90 * len(nodes)})
        store.append(RUN, Aggregated(at + len(nodes), number))
    store.put_phase(RUN, 1100.0, "finished", len(took_part), "")
    said = {"epsilon": 3.5, "unit": "node", "claim": "the claim", "records_per_node": dict.fromkeys(NODES, 1)}
    store.put_report(RUN, 1101.0, {"run": RUN, "digest": DIGEST, "privacy": said, "metrics": {}})
    store.close()
    (folder / "bundle").mkdir()
    (folder / "bundle" / "model.bin").write_bytes(b"model")
    found = json.loads((keep_model(folder, RUN) / "lineage.json").read_text())
    for part in (found, *found["made_by"]):
        part.pop("kept_at", None)
        part.pop("made_at", None)
    return found


def test_who_was_sampled_is_not_in_the_papers(tmp_path: Path) -> None:
    one, other = (lineage(tmp_path / name, task(True), some) for name, some in (("a", ALL), ("b", WITHOUT)))
    assert one == other


@pytest.mark.parametrize("sampled", [True, False])
def test_no_hospital_is_named(tmp_path: Path, sampled: bool) -> None:
    text = json.dumps(lineage(tmp_path / "run", task(sampled), WITHOUT))
    assert [name for name in NODES if name in text] == []


def test_without_a_secret_sample_rounds_say_their_pseudonyms(tmp_path: Path) -> None:
    """So that the first test is of the rule, and not of a lineage that says nothing."""
    one, other = (lineage(tmp_path / name, task(False), some) for name, some in (("a", ALL), ("b", WITHOUT)))
    assert one != other

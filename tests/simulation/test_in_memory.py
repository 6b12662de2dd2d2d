"""A simulated federation whose gateway keeps its runs in this process: the same result, and nothing of it on any disk."""

import sqlite3
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))

from cut_off import CutOffError, cut_off_in_round_two, data_of
from fixed_node import Fixed
from harness import GRAPH, SIZE, expected_weights, make_task

from orchestrator.errors import UsageError
from orchestrator.gateway.memory_store import MemoryStore
from orchestrator.gateway.run import RunResult
from orchestrator.gateway.run_store import RunStore
from orchestrator.gateway.store import Store
from orchestrator.rounds.events import Event, Joined, Started
from orchestrator.simulation.federation import SimulatedNodes
from orchestrator.wire.protection import Aggregation
from orchestrator.wire.task import Task

FIRST = np.zeros(SIZE, np.float32)
MASKED = Aggregation("masked", update_range=8.0)


def played(store: RunStore, task: Task, folder: Path, progress: Any = lambda event: None) -> RunResult:
    with SimulatedNodes(task, "test", data_of(folder), folder / "nodes", Fixed) as nodes:
        return nodes.run(store, "run", GRAPH, FIRST, progress)


def timeless(events: List[Event]) -> List[Event]:
    """A journal without its times, and without the digests of bodies that say when they were made."""
    without: Dict[str, Any] = {"at": 0.0, "digest": ""}
    return [replace(event, **{name: without[name] for name in without if hasattr(event, name)}) for event in events]


def figures_of(store: RunStore) -> List[Dict[str, Any]]:
    """Of each round, but for its times and bytes."""
    measured = ("seconds", "answers", "bytes_up", "bytes_down")
    return [{name: r[name] for name in r if name not in measured} for r in store.results("run")]


@pytest.mark.parametrize("aggregation", [Aggregation(), MASKED], ids=["plain", "masked"])
def test_a_store_in_memory_and_one_in_a_file_come_to_the_same(tmp_path: Path, aggregation: Aggregation) -> None:
    task = replace(make_task(rounds=3, quorum=3), aggregation=aggregation)
    stores: Dict[str, RunStore] = {"memory": MemoryStore(), "file": Store(tmp_path / "gateway.sqlite")}
    results = {}
    for name, store in stores.items():
        (tmp_path / name).mkdir()
        results[name] = played(store, task, tmp_path / name)
    memory, file = stores["memory"], stores["file"]
    assert timeless(memory.journal("run")) == timeless(file.journal("run"))
    assert figures_of(memory) == figures_of(file)
    kept = {name: list(store.vectors("run", "").items()) for name, store in stores.items()}
    assert [name for name, _ in kept["memory"]] == [name for name, _ in kept["file"]]
    exact = aggregation.method == "plain"  # vectors for a masked sum are rounded at random
    if exact:
        np.testing.assert_array_equal(results["memory"].weights, expected_weights(["abc"] * 3))
    for (_, one), (_, other) in zip(kept["memory"], kept["file"]):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=0, atol=0.0 if exact else 0.01)
    file.close()


def test_the_next_gateway_of_this_process_goes_on_with_a_run_that_was_cut_off(tmp_path: Path) -> None:
    store = MemoryStore()
    rounds: List[Any] = []

    cut_off = cut_off_in_round_two(rounds)
    with pytest.raises(CutOffError):
        played(store, make_task(rounds=4), tmp_path, cut_off)
    result = played(store, make_task(rounds=4), tmp_path, cut_off)
    assert rounds == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(result.weights, expected_weights(["abc"] * 4))
    events = store.journal("run")
    assert sum(isinstance(event, Started) for event in events) == 2
    assert {event.node for event in events if isinstance(event, Joined)} == set("abc")


def test_the_gateway_opens_no_file_and_the_nodes_folders_are_gone_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: List[Path] = []
    connect = sqlite3.connect

    def watched(path: str, **options: Any) -> sqlite3.Connection:
        opened.append(Path(path))
        return connect(path, **options)

    monkeypatch.setattr(sqlite3, "connect", watched)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with SimulatedNodes(make_task(), "test", data_of(tmp_path), trainer=Fixed) as nodes:
        nodes.run(MemoryStore(), "run", GRAPH, FIRST)
    folders = {path.parent for path in opened}
    assert {folder.name for folder in folders} == set("abc")  # a node's, each
    assert [folder for folder in folders if folder.exists() or folder.parent.exists()] == []
    assert list((tmp_path / "here").iterdir()) == []


def test_nodes_do_not_go_on_with_a_run_of_other_settings(tmp_path: Path) -> None:
    store = MemoryStore()
    played(store, make_task(rounds=1), tmp_path)
    with pytest.raises(UsageError, match="run run is stored with other settings than these nodes have"):
        played(store, make_task(rounds=2), tmp_path)

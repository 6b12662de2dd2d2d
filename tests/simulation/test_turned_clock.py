"""A clock that is turned by hand, and whole federations that go by it: hours of deadlines in no time."""

import queue
import sys
import threading
import time
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))

from fixed_node import Fixed
from harness import GRAPH, RECORDS, SIZE, expected_weights, make_task

from orchestrator.errors import RoundError
from orchestrator.gateway.memory_store import MemoryStore
from orchestrator.simulation.federation import SimulatedNodes
from orchestrator.simulation.turned_clock import TurnedClock
from orchestrator.wire.clock import SYSTEM, Clock

FIRST = np.zeros(SIZE, np.float32)


def data_of(folder: Path) -> Dict[str, Path]:
    for name in "abc":
        (folder / f"{name}.csv").write_text("x,y\n" + "0.5,1\n" * RECORDS[name])
    return {name: folder / f"{name}.csv" for name in "abc"}


def first(clock: Clock, events: "queue.Queue[Any]", until: float) -> Any:
    clock.wait(events, until)
    return events.get_nowait()


def test_it_stands_still_until_it_is_turned_or_waited_by() -> None:
    clock = TurnedClock()
    events: queue.Queue[Any] = queue.Queue()
    begun, day = clock.monotonic(), clock.time()
    assert (clock.monotonic(), clock.time()) == (begun, day)
    clock.turn(3600.0)
    assert (clock.monotonic(), clock.time()) == (begun + 3600.0, day + 3600.0)
    clock.sleep(0.5)
    clock.sleep(-1.0)
    assert clock.monotonic() == begun + 3600.5
    with pytest.raises(queue.Empty):
        first(clock, events, begun + 4000.0)
    assert clock.monotonic() == begun + 4000.0
    with pytest.raises(queue.Empty):
        first(clock, events, begun)  # is past
    assert clock.monotonic() == begun + 4000.0
    events.put("one")
    assert first(clock, events, begun + 9000.0) == "one"
    assert clock.monotonic() == begun + 4000.0, "what is there takes no time"
    for seconds in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="goes forward only"):
            clock.turn(seconds)
    clock.set_ahead(-7200.0)
    assert (clock.monotonic(), clock.time()) == (begun + 4000.0, day + 4000.0 - 7200.0)


def test_the_machines_clock_waits_for_what_comes_and_no_longer_than_it_may() -> None:
    events: queue.Queue[str] = queue.Queue()
    begun = SYSTEM.monotonic()
    for until in (begun - 1.0, begun + 0.01):
        with pytest.raises(queue.Empty):
            first(SYSTEM, events, until)
    assert SYSTEM.monotonic() >= begun + 0.01
    threading.Timer(0.05, events.put, ("late",)).start()
    assert first(SYSTEM, events, begun + 600.0) == "late"
    assert abs(SYSTEM.time() - time.time()) < 600.0
    clocks: List[Clock] = [SYSTEM, TurnedClock()]  # as mypy sees it
    assert len(clocks) == 2


def mute(nodes: SimulatedNodes, name: str) -> None:
    """It is here and hears everything, and nothing that it answers gets through."""
    publish, up = nodes.broker.publish, nodes.agents[name].topics.up(name)

    def passed_on(topic: str, payload: bytes, retain: bool = False) -> None:
        if topic != up:
            publish(topic, payload, retain)

    nodes.broker.publish = passed_on  # type: ignore[method-assign]


def test_rounds_of_ten_minutes_with_a_mute_node_are_over_at_once(tmp_path: Path) -> None:
    clock, store = TurnedClock(), MemoryStore()
    said: List[Dict[str, Any]] = []
    task = make_task(rounds=2, statistics=False, deadline_s=600.0)
    with SimulatedNodes(task, "test", data_of(tmp_path), trainer=Fixed, clock=clock) as nodes:
        mute(nodes, "c")
        begun = clock.monotonic()
        result = nodes.run(store, "run", GRAPH, FIRST, said.append)
    np.testing.assert_array_equal(result.weights, expected_weights(["ab", "ab"]))
    assert clock.monotonic() - begun == pytest.approx(2 * 600.0, abs=30.0)
    seconds = [event["seconds"] for event in said if event["event"] == "aggregated"]
    assert seconds == pytest.approx([600.0, 600.0], abs=1.0)


def test_a_run_that_has_no_quorum_for_hours_stops_with_the_reason(tmp_path: Path) -> None:
    clock, store = TurnedClock(), MemoryStore()
    task = make_task(rounds=1, statistics=False, quorum=3, deadline_s=600.0, attempts=2)
    with SimulatedNodes(task, "test", data_of(tmp_path), trainer=Fixed, clock=clock) as nodes:
        mute(nodes, "b")
        with pytest.raises(RoundError, match="2 of 3 updates needed after 2 announcements of 600 s; no answer from b"):
            nodes.run(store, "run", GRAPH, FIRST)


def test_nobody_waits_by_it_where_all_answer(tmp_path: Path) -> None:
    """A whole run takes moments of it: of acknowledgements, and of the end."""
    clock: Any = TurnedClock()
    with SimulatedNodes(
        make_task(rounds=3, deadline_s=1e9), "test", data_of(tmp_path), trainer=Fixed, clock=clock
    ) as nodes:
        begun = clock.monotonic()
        result = nodes.run(MemoryStore(), "run", GRAPH, FIRST)
    np.testing.assert_array_equal(result.weights, expected_weights(["abc"] * 3))
    assert clock.monotonic() - begun < 60.0

"""Rounds whose deadlines are hours away, by a clock that is turned by hand: when they pass, and that nothing else moves them."""

from dataclasses import replace
from typing import Any, Callable, Dict, List, Sequence, Tuple

import numpy as np
import pytest

from orchestrator.gateway.gateway import Gateway
from orchestrator.gateway.goodbye import GOODBYE_S
from orchestrator.gateway.memory_store import MemoryStore
from orchestrator.gateway.names import ALIVE_S
from orchestrator.rounds.events import Aggregated, Event, Joined, Rated, Regained, Started, Ticked
from orchestrator.rounds.state import COLLECTING, GATHERING
from orchestrator.simulation.turned_clock import TurnedClock
from orchestrator.wire.body import encode_body
from orchestrator.wire.frames import Chunk, decode_frame, encode_frame, split
from orchestrator.wire.link import Message
from orchestrator.wire.post import Post
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Selection, Task, task_to_dict
from orchestrator.wire.topics import Topics
from orchestrator.wire.training import Training
from orchestrator.wire.transfer import transfer_id

HOUR, YEAR = 3600.0, 365 * 86400.0
MOMENT = 0.001
SIZE = 8
SCHEMA = Schema("table", "y", ("a", "b"), {"0": 0, "1": 1}, (Feature("x", 0, 1),), standardization="range")
RULES = Rounds(nodes=3, quorum=2, deadline_s=HOUR, attempts=1, gather_s=2 * HOUR)
TASK = Task("t", SCHEMA, {}, Training(rounds=3), Privacy(unit="none"), RULES, codec="float32")
NODES = ("er", "icu", "lab")


def task_with(**rules: Any) -> Task:
    return replace(TASK, rounds=replace(RULES, **rules))


class Scene:
    """A gateway at a post within this process, and nodes of which the test says what they send, and when."""

    def __init__(self, task: Task = TASK, nodes: Sequence[str] = NODES) -> None:
        self.clock, self.store, self.task = TurnedClock(), MemoryStore(), task
        self.store.create_run("run", task_to_dict(task), b"graph", np.zeros(SIZE, np.float32))
        self.shown: List[Dict[str, Any]] = []
        self.topics = Topics("f")
        self.begin()
        self.join(*nodes)

    def begin(self) -> None:
        """A gateway process, the first or the next one."""
        self.post = Post(self.clock)
        self.began = self.clock.monotonic()
        self.gateway = Gateway(self.store, "run", "f", self.post, progress=self.shown.append)
        self.nodes = self.post.link("nodes", [*map(self.topics.down, NODES), self.topics.all_nodes])
        self.nodes.open(None)
        self.gateway.begin()
        self.read()

    def join(self, *nodes: str) -> None:
        for node in nodes:
            self.say(node, kind="ready", run="run", records=10)

    def say(self, node: str, **header: Any) -> None:
        """Its presence."""
        self.nodes.publish(self.topics.presence(node), encode_body({"instance": node, **header}))
        self.read()

    def answer(self, *nodes: str) -> None:
        for node in nodes:
            header = {"kind": "update", "run": "run", "round": self.round, "records": 10, "codec": "float32"}
            body = encode_body(header, {"update": np.full(SIZE, self.round, np.float32)})
            for chunk in split(transfer_id(body), body):
                self.nodes.publish(self.topics.up(node), encode_frame(chunk))
        self.read()

    def read(self) -> None:
        """The gateway handles what came, which takes no time, and sends what follows."""
        while not self.gateway.link.events.empty():
            self.gateway.step(0.0)
        self.gateway.link.pump()

    def wait(self, seconds: float) -> None:
        """So much time, in which nothing comes: the gateway's loop as it is, with all of its turns."""
        end, before, still = self.clock.monotonic() + seconds, 0.0, 0
        while self.clock.monotonic() < end and not self.gateway.over:
            still = 0 if self.clock.monotonic() > before else still + 1
            before = self.clock.monotonic()
            assert still < 1000, "something is due and nobody does it"
            self.gateway.step(end - self.clock.monotonic())

    def skip(self, seconds: float) -> None:
        """So much time, of which the gateway sees the last moment only: it was at work on something else."""
        self.clock.turn(seconds)
        self.gateway.step(0.0)

    def sent(self) -> List[Tuple[str, int]]:
        """(topic, number of the chunk) of what was sent to the nodes since this was asked last."""
        found = []
        while not self.nodes.events.empty():
            event = self.nodes.events.get()
            frame = decode_frame(event.payload) if isinstance(event, Message) else None
            if isinstance(event, Message) and isinstance(frame, Chunk):
                found.append((event.topic.split("/")[-2], frame.index))
        return found

    @property
    def round(self) -> int:
        return self.gateway.coordinator.round

    @property
    def passed(self) -> float:
        """Seconds since this gateway began."""
        return self.clock.monotonic() - self.began

    def events(self, kind: type) -> List[Any]:
        return [event for event in self.store.journal("run") if isinstance(event, kind)]


def test_a_deadline_of_an_hour_passes_after_an_hour_with_those_that_answered() -> None:
    scene = Scene()
    scene.answer("er", "icu")
    scene.wait(HOUR - MOMENT)
    assert (scene.round, scene.events(Aggregated)) == (1, [])
    scene.wait(2 * MOMENT)
    assert (scene.round, [event.round for event in scene.events(Aggregated)]) == (2, [1])
    assert scene.store.results("run")[0]["nodes"] == ["er", "icu"]
    assert scene.events(Aggregated)[0].at - scene.events(Joined)[-1].at == pytest.approx(HOUR, abs=2 * MOMENT)
    scene.answer(*NODES)
    assert scene.round == 3, "who is all here waits for no deadline"
    scene.answer("lab")
    scene.wait(HOUR + MOMENT)
    assert scene.gateway.coordinator.reason.startswith("round 3: 1 of 2 updates needed after 1 announcements of 3600 s")


@pytest.mark.parametrize(("early", "counted"), [(MOMENT, ["er", "icu", "lab"]), (-MOMENT, ["er", "icu"])])
def test_an_answer_a_moment_before_the_deadline_counts_and_a_moment_after_it_does_not(
    early: float, counted: List[str]
) -> None:
    scene = Scene()
    scene.answer("er", "icu")
    scene.wait(HOUR - early)
    assert scene.round == (1 if early > 0 else 2)
    header = {"kind": "update", "run": "run", "round": 1, "records": 10, "codec": "float32"}
    late = encode_body(header, {"update": np.ones(SIZE, np.float32)})
    for chunk in split(transfer_id(late), late):
        scene.nodes.publish(scene.topics.up("lab"), encode_frame(chunk))
    scene.read()
    assert scene.round == 2
    assert scene.store.results("run")[0]["nodes"] == counted
    scene.answer(*NODES)
    assert scene.store.results("run")[1]["nodes"] == list(NODES), "and the late one is in the next round"


def test_without_a_quorum_the_round_is_announced_again_as_often_as_the_task_says() -> None:
    scene = Scene(task_with(attempts=3))
    scene.answer("er")
    announced = []
    for _ in range(3):
        announced.append(scene.gateway.coordinator.attempt)
        scene.wait(HOUR + MOMENT)
    assert announced == [1, 2, 3]
    assert scene.gateway.over
    assert [event.at for event in scene.events(Ticked)] == pytest.approx(
        [scene.events(Joined)[-1].at + hours * HOUR for hours in (1, 2, 3)], abs=0.6
    )
    assert scene.gateway.coordinator.reason.endswith("no answer from icu, lab")


def test_a_deadline_of_thirty_years_is_nothing_that_a_round_waits_for() -> None:
    scene = Scene(task_with(deadline_s=1e9))
    scene.answer("er", "icu")
    scene.wait(2 * HOUR)
    for _ in range(29):
        scene.skip(YEAR)
        scene.wait(1.0)
    assert (scene.round, scene.events(Ticked)) == (1, [])
    assert scene.gateway.wait_s() <= 0.5, "however far it is, the gateway looks round"
    scene.answer("lab")
    assert scene.round == 2
    assert scene.store.results("run")[0]["seconds"] == pytest.approx(2 * HOUR + 29 * (YEAR + 1), rel=1e-9)
    scene.answer("er", "icu")
    scene.skip(1e9 - 1)
    assert scene.round == 2
    scene.wait(1 + MOMENT)
    assert scene.round == 3


def played(set_clock: Callable[[TurnedClock, float], None]) -> List[Event]:
    """The journal of a whole run; `set_clock` is called between all of its steps, with one of some numbers of seconds."""
    scene = Scene(task_with(attempts=2))
    for number, step in enumerate((2 * HOUR, -HOUR, YEAR) * 2):
        set_clock(scene.clock, step)
        scene.answer(NODES[number % 3])
        scene.wait(0.6 * HOUR)
        set_clock(scene.clock, -step)
        scene.wait(10.0)
        set_clock(scene.clock, 3 * step)
    return scene.store.journal("run")


def test_who_sets_the_time_of_day_moves_no_deadline_and_no_entry_of_the_journal() -> None:
    as_it_was = played(lambda clock, step: None)
    assert len([event for event in as_it_was if isinstance(event, Ticked)]) > 2
    assert len([event for event in as_it_was if isinstance(event, Aggregated)]) > 1
    assert played(lambda clock, step: clock.set_ahead(step)) == as_it_was


@pytest.mark.parametrize("step", [-HOUR, YEAR, -YEAR])
def test_a_deadline_passes_after_its_hour_whatever_the_time_of_day_was_set_to_meanwhile(step: float) -> None:
    scene = Scene()
    scene.answer("er", "icu")
    scene.wait(HOUR / 2)
    scene.clock.set_ahead(step)
    scene.wait(HOUR / 2 - MOMENT)
    assert scene.round == 1
    scene.wait(2 * MOMENT)
    assert scene.round == 2
    scene.answer("er", "icu")
    scene.wait(HOUR - 3 * MOMENT)
    assert scene.round == 2
    scene.wait(3 * MOMENT)
    assert scene.round == 3
    assert scene.passed == pytest.approx(2 * HOUR, abs=10 * MOMENT)


@pytest.mark.parametrize("step", [-HOUR, YEAR])
def test_the_next_gateway_gives_the_open_round_its_whole_deadline_by_whatever_clock_it_finds(step: float) -> None:
    scene = Scene()
    scene.answer("er", "icu")
    scene.wait(HOUR / 2)
    scene.gateway.close()
    scene.clock.set_ahead(step)
    scene.begin()
    scene.join(*NODES)
    assert (scene.round, scene.gateway.coordinator.phase) == (1, COLLECTING)
    first, second = (event.at for event in scene.events(Started))
    assert second - first == pytest.approx(HOUR / 2 + step, abs=0.01)
    scene.wait(HOUR - MOMENT)
    assert scene.round == 1
    scene.wait(2 * MOMENT)
    assert scene.round == 2
    assert scene.store.results("run")[0]["nodes"] == ["er", "icu"]


def test_nodes_are_gathered_for_as_long_as_the_task_says_and_no_longer() -> None:
    scene = Scene(nodes=("er", "icu"))
    scene.wait(2 * HOUR - MOMENT)
    assert scene.gateway.coordinator.phase == GATHERING
    scene.wait(2 * MOMENT)
    assert scene.gateway.coordinator.reason.startswith("2 of 3 nodes came within 7200 s (er, icu)")
    few = Scene(task_with(minimum_nodes=2), nodes=("er", "icu"))
    few.wait(2 * HOUR - MOMENT)
    assert few.gateway.coordinator.phase == GATHERING
    few.wait(2 * MOMENT)
    assert (few.gateway.coordinator.phase, few.round, few.gateway.coordinator.cohort) == (COLLECTING, 1, ("er", "icu"))


def test_a_node_that_is_silent_for_too_long_is_passed_over_until_it_is_heard() -> None:
    scene = Scene(replace(task_with(deadline_s=10 * HOUR), selection=Selection(seen_within_s=HOUR)))
    scene.wait(HOUR / 2)
    for node in ("er", "icu"):
        scene.say(node, kind="health")
    scene.wait(HOUR / 2 - 1.0)
    assert scene.events(Rated) == []
    scene.wait(2.0)
    (rated,) = scene.events(Rated)
    assert (rated.node, rated.objection) == ("lab", "not heard of for 3600 s")
    scene.answer(*NODES)
    assert [told["nodes"] for told in scene.shown if told["event"] == "round"][-1] == ["er", "icu"]
    scene.say("lab", kind="health")
    assert [(event.node, event.objection) for event in scene.events(Rated)][-1] == ("lab", "")


def test_a_name_is_free_when_its_node_was_silent_for_long_enough() -> None:
    scene = Scene(task_with(nodes=3), nodes=("er",))
    scene.skip(ALIVE_S - 1.0)
    scene.say("er", kind="ready", run="run", records=20, instance="another")
    assert scene.gateway.records == {"er": 10}
    assert [told["event"] for told in scene.shown][-1] == "name_in_use"
    scene.skip(2.0)
    scene.say("er", kind="ready", run="run", records=20, instance="another")
    assert scene.gateway.records == {"er": 20}


def test_what_is_not_acknowledged_is_sent_again_as_time_passes_and_not_as_the_time_of_day_does() -> None:
    scene = Scene()
    assert scene.sent() == [("f", 0)], "the round, for all"
    scene.clock.set_ahead(YEAR)
    for _ in range(20):
        scene.gateway.step(0.0)
    assert scene.sent() == []
    scene.wait(HOUR / 2)
    again = scene.sent()
    assert set(again) == {("f", 0)}
    assert 1 < len(again) < HOUR / 2, "now and then"


def test_what_is_under_way_is_sent_again_at_once_when_the_connection_is_back() -> None:
    scene = Scene()
    assert scene.sent() == [("f", 0)]
    scene.post.cut(scene.gateway.link.client_id)
    scene.read()
    scene.gateway.link.open(None)
    scene.read()
    assert scene.sent() == []
    scene.gateway.step(0.0)  # nothing else waits
    scene.read()
    assert (scene.sent(), scene.passed) == ([("f", 0)], 0.0)


def test_at_the_end_nodes_have_so_much_time_for_their_last_figures() -> None:
    scene = Scene()
    for _ in range(3):
        scene.answer(*NODES)
    assert scene.gateway.coordinator.over
    assert not scene.gateway.over
    scene.say("er", kind="hello", finished="run")
    scene.wait(GOODBYE_S - MOMENT)
    assert not scene.gateway.over
    scene.wait(2 * MOMENT)
    assert scene.gateway.over
    soon = Scene()
    for _ in range(3):
        soon.answer(*NODES)
    for node in NODES:
        soon.say(node, kind="hello", finished="run")
    assert soon.gateway.over, "who has said all keeps nobody waiting"


def test_a_post_that_passes_nothing_on_for_hours_costs_no_node_its_round() -> None:
    """Not even the gateway's own messages: as a broker does that hangs."""
    scene = Scene()
    scene.wait(10.0)  # its own came back until now
    publish, scene.post.publish = scene.post.publish, lambda *_, **__: None  # type: ignore[method-assign]
    scene.wait(3 * HOUR)
    assert (scene.round, scene.gateway.coordinator.over) == (1, False)
    scene.post.publish = publish  # type: ignore[method-assign]
    scene.answer("er")
    (regained,) = scene.events(Regained)
    assert regained.seconds == pytest.approx(3 * HOUR, abs=10.0)
    assert [told["event"] for told in scene.shown if told["event"].startswith("broker_")] == [
        "broker_silent",
        "broker_back",
    ]

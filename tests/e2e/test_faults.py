"""What goes wrong in the field: gateways, nodes and brokers that die, messages that are damaged."""

import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from harness import Harness, events, expected_weights, finish, make_task, wait_for

from orchestrator.errors import BrokerError, RoundError
from orchestrator.gateway.gateway import Gateway
from orchestrator.gateway.store import Store
from orchestrator.node.store import NodeStore
from orchestrator.wire.body import encode_body
from orchestrator.wire.frames import Chunk, encode_frame, split
from orchestrator.wire.link import Link
from orchestrator.wire.refusals import text_of
from orchestrator.wire.topics import Topics
from orchestrator.wire.transfer import transfer_id

EVERYONE = ["a", "b", "c"]

CRASHES = [
    ("Started", 1),
    ("Joined", 1),
    ("Joined", 3),
    ("Arrived", 1),  # statistics
    ("Arrived", 3),
    ("Aggregated", 1),
    ("Arrived", 4),  # round 1
    ("Arrived", 5),
    ("Arrived", 6),
    ("Aggregated", 2),
    ("Arrived", 9),  # round 2
    ("Aggregated", 3),
]


@pytest.mark.parametrize("strategy", ["fedadam", "scaffold"])
def test_a_strategys_state_survives_a_killed_gateway(tmp_path: Path, strategy: str) -> None:
    results = []
    for name, crash in (("whole", ()), ("cut", ("Aggregated", 2, "after"))):
        folder = tmp_path / name
        folder.mkdir()
        task = make_task(rounds=3, statistics=False)
        task = replace(task, training=replace(task.training, strategy=strategy, server_learning_rate=0.1))
        with Harness(folder, task) as harness:
            for node in EVERYONE:
                harness.node(node)
            if crash:
                assert harness.gateway(*crash).wait(600) == -signal.SIGKILL
            results.append(finish(harness.gateway())["weights"])
    assert results[0] == results[1]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("event", "count"), CRASHES)
def test_a_killed_gateway_continues_from_its_journal(tmp_path: Path, event: str, count: int, when: str) -> None:
    """SIGKILL right before or after any journal entry; the run ends with the same rounds and the fault-free weights."""
    with Harness(tmp_path, make_task(rounds=2)) as harness:
        for name in EVERYONE:
            harness.node(name)
        crashed = harness.gateway(event, count, when)
        assert crashed.wait(600) == -signal.SIGKILL
        result = finish(harness.gateway())
        assert [r["round"] for r in result["rounds"]] == [1, 2]
        assert [r["nodes"] for r in result["rounds"]] == [EVERYONE, EVERYONE]
        np.testing.assert_array_equal(np.array(result["weights"], np.float32), expected_weights([EVERYONE, EVERYONE]))


def test_a_node_killed_mid_round_is_done_without_and_returns(tmp_path: Path) -> None:
    with Harness(tmp_path, make_task(rounds=6, statistics=False)) as harness:
        gateway = harness.gateway()
        others = [harness.node("a", 0.3), harness.node("b", 0.3)]
        victim = harness.node("c", 30)
        wait_for(gateway, "round", round=1)
        time.sleep(0.3)
        victim.kill()
        first = wait_for(gateway, "aggregated", round=1)
        assert first["nodes"] == ["a", "b"]
        for node in others:  # however long it takes to start a process here
            node.send_signal(signal.SIGSTOP)
        harness.node("c")
        wait_for(gateway, "joined", node="c")
        for node in others:
            node.send_signal(signal.SIGCONT)
        result = finish(gateway)
        cohorts = [r["nodes"] for r in result["rounds"]]
        assert cohorts[-1] == EVERYONE
        assert len(cohorts) == 6
        np.testing.assert_array_equal(np.array(result["weights"], np.float32), expected_weights(cohorts))


def test_a_straggler_costs_the_deadline_and_skips_what_it_missed(tmp_path: Path) -> None:
    with Harness(tmp_path, make_task(rounds=4, statistics=False, deadline_s=1.5)) as harness:
        gateway = harness.gateway()
        harness.node("a")
        harness.node("b")
        harness.node("c", 4)
        result = finish(gateway)
        cohorts = [r["nodes"] for r in result["rounds"]]
        assert all({"a", "b"} <= set(nodes) for nodes in cohorts)
        assert cohorts.count(EVERYONE) < 4
        np.testing.assert_array_equal(np.array(result["weights"], np.float32), expected_weights(cohorts))
        answered = NodeStore(tmp_path / "c" / "node.sqlite").releases("run")
        assert answered < 4, "it trained for rounds that were over"


def test_a_broker_that_dies_mid_round_costs_time_not_a_result(tmp_path: Path) -> None:
    with Harness(tmp_path, make_task(rounds=3)) as harness:
        gateway = harness.gateway()
        for name in EVERYONE:
            harness.node(name, 0.5)
        wait_for(gateway, "round", round=2)
        assert harness.broker.process is not None
        harness.broker.process.kill()
        harness.broker.process.wait()
        time.sleep(1)
        assert harness.broker.restart_if_dead()
        result = finish(gateway)
        np.testing.assert_array_equal(np.array(result["weights"], np.float32), expected_weights([EVERYONE] * 3))


def test_a_gateway_without_a_broker_says_where_it_looked(tmp_path: Path) -> None:
    with Harness(tmp_path, make_task()) as harness:
        harness.broker.stop()
        store = Store(harness.store_path)
        with pytest.raises(BrokerError, match=f"no MQTT broker at {harness.broker.address}"):
            Gateway(store, "run", "test", harness.broker.address).run(connect_timeout_s=0.3)


def test_damaged_foreign_and_hostile_messages_are_refused_and_the_run_goes_on(tmp_path: Path) -> None:
    topics = Topics("test")
    with Harness(tmp_path, make_task(rounds=2)) as harness:
        gateway = harness.gateway()
        link = Link(harness.broker.address, "intruder", [])
        link.open(20)

        def update(**changed: object) -> bytes:
            fields = {"kind": "update", "run": "run", "round": 0, "records": 10, "codec": "float32", **changed}
            body = encode_body(fields, {"update": np.full(2, np.nan, np.float32)})
            return encode_frame(split(transfer_id(body), body)[0])

        hostile = [
            b"",
            b"garbage",
            encode_frame(Chunk(bytes(32), 0, 40960, 10 << 30, bytes(256 * 1024))),
            update(),
            update(kind="task"),
            update(records=-5),
            update(round="one"),
            update(codec="pickle"),
        ]
        wait_for(gateway, "open")
        harness.node("a")
        wait_for(gateway, "joined", node="a")
        for payload in hostile:
            link.publish(topics.up("a"), payload)
        link.publish(topics.presence("a"), encode_body({"kind": "ready", "run": "run", "records": "many"}))
        link.publish("edgeward/1/test/node/../up", b"x")
        assert link.flush(100)
        harness.node("b")
        harness.node("c")
        refusals = []
        result = {}
        for event in events(gateway):
            if event["event"] == "refused":
                refusals.append(event["reason"])
            result = event
        link.close()
        np.testing.assert_array_equal(np.array(result["weights"], np.float32), expected_weights([EVERYONE] * 2))
        for reason in ("wrong first bytes", "announces 10737418240 bytes", "'records'", "updates, not 'task'"):
            assert any(reason in refusal for refusal in refusals), (reason, refusals)


def test_a_run_without_a_quorum_fails_naming_who_is_missing(tmp_path: Path) -> None:
    task = make_task(rounds=1, statistics=False, quorum=3, deadline_s=1.0, attempts=2)
    with Harness(tmp_path, task) as harness:
        for name, delay in (("a", 0), ("b", 0), ("c", 60)):
            harness.node(name, delay)
        with pytest.raises(
            RoundError, match="round 1: 2 of 3 updates needed after 2 announcements of 1 s; no answer from c"
        ):
            Gateway(Store(harness.store_path), "run", "test", harness.broker.address).run()


def test_a_node_with_data_that_does_not_fit_declines_and_says_why_to_its_owner_only(tmp_path: Path) -> None:
    task = make_task(rounds=1, statistics=False, nodes=2, quorum=2)
    with Harness(tmp_path, task) as harness:
        gateway = harness.gateway()
        wait_for(gateway, "open")
        bad = harness.node("c")
        (tmp_path / "c.csv").write_text("x,y\n0.5,9\n")
        declined = wait_for(gateway, "declined", node="c")
        assert (declined["code"], declined["reason"]) == ("data", text_of("data"))
        said = "c.csv:2: column 'y': label '9' is not in the task's schema"
        assert said in harness.log("c")
        harness.node("a")
        harness.node("b")
        result = finish(gateway)
        assert result["rounds"][0]["nodes"] == ["a", "b"]
        bad.kill()
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("gateway.sqlite*"))
    assert text_of("data").encode() in kept
    for part in (b"label '9'", b"c.csv", b"column 'y'"):
        assert part not in kept, "the gateway keeps nothing of a node's data"

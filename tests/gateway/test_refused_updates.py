"""Updates that cannot be used, or would be the whole round: whose they are is said, and the others go on."""

import dataclasses
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np
import pytest

from orchestrator.errors import RoundError, UsageError
from orchestrator.gateway.gateway import Gateway
from orchestrator.gateway.run import norm_multiple, strategy_of
from orchestrator.gateway.store import Store
from orchestrator.rounds.events import Declined, Ticked
from orchestrator.wire.body import encode_body
from orchestrator.wire.frames import Ack, encode_frame, split
from orchestrator.wire.link import BrokerAddress, Message
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Selection, Task, task_to_dict
from orchestrator.wire.training import Training
from orchestrator.wire.transfer import transfer_id

SCHEMA = Schema("table", "y", ("a", "b"), {"0": 0, "1": 1}, (Feature("x", 0, 1),), standardization="range")
HUGE = np.float32(3e38)


def make_task(nodes: int, quorum: int, **training: Any) -> Task:
    return Task(
        "t", SCHEMA, {}, Training(**{"rounds": 12, **training}), Privacy(unit="none"), Rounds(nodes, quorum), codec="float32"
    )  # fmt: skip


class World:
    """A gateway in process, without a broker; all nodes have joined."""

    def __init__(self, folder: Path, task: Task, size: int = 8) -> None:
        self.store = Store(folder / "gateway.sqlite")
        self.store.create_run("run", task_to_dict(task), b"graph", np.zeros(size, np.float32))
        self.told: List[Dict[str, Any]] = []
        self.gateway = Gateway(self.store, "run", "f", BrokerAddress("127.0.0.1", 1), progress=self.told.append)
        self.gateway.link.publish = lambda topic, payload, retain=False: None  # type: ignore[method-assign]
        self.names = [f"n{i}" for i in range(task.rounds.nodes)]
        for name in self.names:
            ready = encode_body({"kind": "ready", "run": "run", "records": 10})
            self.gateway.receive(Message(f"edgeward/1/f/node/{name}/presence", ready))

    @property
    def round(self) -> int:
        return self.gateway.coordinator.round

    def send(self, name: str, update: np.ndarray, number: Optional[int] = None) -> None:
        header = {"kind": "update", "run": "run", "round": number or self.round, "records": 10, "codec": "float32"}
        self.send_body(name, encode_body(header, {"update": update}))

    def send_body(self, name: str, body: bytes) -> None:
        for chunk in split(transfer_id(body), body):
            self.gateway.receive(Message(f"edgeward/1/f/node/{name}/up", encode_frame(chunk)))

    def said(self, event: str) -> List[Dict[str, Any]]:
        return [told for told in self.told if told["event"] == event]


BAD: Dict[str, np.ndarray] = {
    "not a number": np.full(8, np.nan, np.float32),
    "another shape": np.ones(9, np.float32),
    "another type": np.ones(8, np.int64),
    "3e38": np.full(8, HUGE, np.float32),
}


@pytest.mark.parametrize("what", BAD)
def test_a_refused_update_costs_no_deadline_and_after_three_its_node_is_out(tmp_path: Path, what: str) -> None:
    world = World(tmp_path, make_task(3, 2))
    for number in (1, 2, 3):
        assert world.round == number
        assert "n2" in world.said("round")[-1]["nodes"]
        world.send("n2", BAD[what])
        world.send("n2", BAD[what])  # resent: it counts once
        world.send("n0", np.full(8, number, np.float32))
        world.send("n1", np.full(8, number, np.float32))  # and the round ends without a tick
    assert world.round == 4
    assert world.said("round")[-1]["nodes"] == ["n0", "n1"]
    assert [(e["node"], e["code"]) for e in world.said("declined")] == [("n2", "gateway.updates")]
    assert [(e.node, e.code) for e in world.store.journal("run") if isinstance(e, Declined)] == [
        ("n2", "gateway.updates")
    ]
    assert {e["node"] for e in world.said("refused")} == {"n2"}
    np.testing.assert_array_equal(world.gateway.aggregation.weights(), np.full(8, 6, np.float32))


HEAD = {"entries": 3, "hash": "0" * 64, "process": "p", "n": 1}
WRONG: Dict[str, List[Any]] = {
    "records": [-1, 0, 1 << 40, "10", 10.0, None, True, [], b"10"],
    "ledger": [None, {}, [], {**HEAD, "entries": -1}, {**HEAD, "hash": "0"}, {**HEAD, "n": "1"}],
    "codec": [None, "", 7, "x" * 41],
}
UNREADABLE: List[Dict[str, Any]] = [{name: said} for name, wrong in WRONG.items() for said in wrong]


@pytest.mark.parametrize("said", UNREADABLE)
def test_an_update_that_cannot_be_read_costs_no_deadline_either(tmp_path: Path, said: Dict[str, Any]) -> None:
    world = World(tmp_path, make_task(3, 2))
    for number in (1, 2, 3):
        header = {"kind": "update", "run": "run", "round": number, "records": 10, "codec": "float32", **said}
        world.send_body("n2", encode_body(header, {"update": np.ones(8, np.float32)}))
        world.send("n0", np.ones(8, np.float32))
        world.send("n1", np.ones(8, np.float32))
        assert world.round == number + 1, "without a tick"
    assert [(e["node"], e["code"]) for e in world.said("declined")] == [("n2", "gateway.updates")]


@pytest.mark.parametrize(
    "header",
    [
        {"kind": "update", "run": "run", "round": "1", "records": 10, "codec": "float32"},
        {"kind": "update", "run": "run", "records": 10, "codec": "float32"},
        {"kind": "update", "run": "../x", "round": 1, "records": 10, "codec": "float32"},
        {"kind": "update", "round": 1, "records": 10},
        {"kind": ["update"], "run": "run", "round": 1},
        {"kind": "step", "run": "run", "round": 1, "attempt": 1},
        {"kind": "whole", "run": "run", "round": None},
        {"run": "run", "round": 1},
    ],
)
def test_a_message_that_cannot_be_read_is_acknowledged_so_that_it_does_not_come_again(
    tmp_path: Path, header: Dict[str, Any]
) -> None:
    world = World(tmp_path, make_task(3, 2))
    body, sent = encode_body(header), []
    world.gateway.link.publish = lambda topic, payload, retain=False: sent.append(payload)  # type: ignore[method-assign]
    world.send_body("n2", body)
    assert [told["node"] for told in world.said("refused")] == ["n2"]
    assert encode_frame(Ack(transfer_id(body))) in sent
    assert world.round == 1
    assert world.said("declined") == []


def test_a_run_with_nothing_but_refused_updates_ends_without_a_model(tmp_path: Path) -> None:
    """With a sample of nodes a round may be empty; a whole run may not."""
    task = dataclasses.replace(make_task(3, 1, rounds=2), selection=Selection(sampling_rate=1.0))
    world = World(tmp_path, task)
    for number in (1, 2):
        assert world.round == number
        for name in world.names:
            world.send(name, BAD["not a number"])
    (failed,) = world.said("failed")
    assert failed["reason"].startswith("no update counted in any training round")
    assert "6 answers of nodes could not be used" in failed["reason"]
    assert world.said("finished") == []
    assert world.gateway.coordinator.over
    with pytest.raises(RoundError, match="begin another run"):
        world.gateway.result()


def test_a_node_whose_update_was_refused_once_may_send_a_good_one(tmp_path: Path) -> None:
    world = World(tmp_path, make_task(3, 3))
    world.send("n0", BAD["not a number"])
    for name in world.names:
        world.send(name, np.ones(8, np.float32))
    assert world.round == 2
    assert world.said("declined") == []


def test_without_a_quorum_the_round_still_has_its_deadline(tmp_path: Path) -> None:
    world = World(tmp_path, make_task(3, 3))
    world.send("n0", np.ones(8, np.float32))
    world.send("n1", np.ones(8, np.float32))
    world.send("n2", BAD["not a number"])
    assert world.round == 1
    world.gateway.course.happen(Ticked(world.gateway.course.now() + 1e6))
    assert world.said("round")[-1]["nodes"] == ["n2"], "it is asked again"


def test_keys_that_are_none_are_refused_by_who_sent_them(tmp_path: Path) -> None:
    """And not at the first node that encrypts for them."""
    how = Aggregation("ckks", key_holder="n3")
    task = Task("t", SCHEMA, {}, Training(), Privacy(unit="none"), Rounds(3, 3), aggregation=how)
    world = World(tmp_path, task)
    ready = encode_body({"kind": "ready", "run": "run", "records": 0, "units": 0})
    world.gateway.receive(Message("edgeward/1/f/node/n3/presence", ready))
    assert world.said("step")[-1]["step"] == "context"
    about = {"kind": "step", "run": "run", "round": 1, "attempt": 1, "step": "context", "journal": b"j"}
    body = encode_body({**about, "signature": b"s", "credential": b"c"}, {"context": np.zeros(99, np.uint8)})
    for chunk in split(transfer_id(body), body):
        world.gateway.receive(Message("edgeward/1/f/node/n3/up", encode_frame(chunk)))
    assert [told["node"] for told in world.said("refused")] == ["n3"]
    assert world.gateway.coordinator.arrived == {}


# One that is far longer than the rest


def trained(folder: Path, strategy: str, factor: float, **options: float) -> float:
    """Accuracy of a logistic regression of eight nodes, one of which sends its update times -`factor`: against the others."""
    rng = np.random.default_rng(5)
    truth = rng.standard_normal(10)
    rates = {"fedadam": 0.05, "fedyogi": 0.05, "fedadagrad": 0.3}
    folder.mkdir()
    task = make_task(8, 8, strategy=strategy, options=options, server_learning_rate=rates.get(strategy, 1.0), rounds=15)
    world = World(folder, task, 10)
    data = []
    for _ in world.names:
        x = rng.standard_normal((60, 10))
        data.append((x, (x @ truth > 0).astype(float)))
    while not world.gateway.coordinator.over:
        weights, number = world.gateway.aggregation.weights().astype(np.float64), world.round
        for i, (x, y) in enumerate(data):
            local = weights.copy()
            for _ in range(5):
                local -= 0.5 * x.T @ (1 / (1 + np.exp(-np.clip(x @ local, -50, 50))) - y) / len(y)
            update = (local - weights) * (-factor if i == 3 and factor != 1 else 1.0)
            world.send(world.names[i], update.astype(np.float32), number)
    if factor != 1 and norm_multiple(task):
        assert {n for event in world.said("shortened") for n in event["nodes"]} >= {"n3"}
        assert world.store.results("run")[0]["shortened"] == ["n3"]
    x = rng.standard_normal((2000, 10))
    return float(((x @ world.gateway.aggregation.weights() > 0) == (x @ truth > 0)).mean())


@pytest.mark.parametrize("strategy", ["fedavg", "fedprox", "fedadam", "fedyogi", "fedadagrad", "fedbuff"])
def test_one_of_eight_that_sends_a_thousand_times_is_not_the_round(tmp_path: Path, strategy: str) -> None:
    honest = trained(tmp_path / "honest", strategy, 1)
    attacked = trained(tmp_path / "attacked", strategy, 1000)
    open_to_all = trained(tmp_path / "open", strategy, 1000, norm_bound=0)
    assert honest > 0.92
    assert attacked > honest - 0.07, "the bound holds"
    assert open_to_all < 0.5, "and it is the bound that holds"


def test_honest_updates_of_different_lengths_are_left_as_they_are(tmp_path: Path) -> None:
    world = World(tmp_path, make_task(3, 3))
    for name, length in zip(world.names, (1.0, 2.0, 4.0)):  # twice the median
        world.send(name, np.full(8, length, np.float32))
    assert world.said("shortened") == []
    np.testing.assert_allclose(world.gateway.aggregation.weights(), 7 / 3, rtol=1e-6)
    for name, length in zip(world.names, (0.0, 0.0, 9.0)):  # nothing to compare it with
        world.send(name, np.full(8, length, np.float32))
    assert world.said("shortened") == []
    assert world.round == 3


def test_the_multiple_is_the_task_s(tmp_path: Path) -> None:
    world = World(tmp_path, make_task(3, 3, options={"norm_bound": 1.5}))
    for name, length in zip(world.names, (1.0, 2.0, -4.0)):
        world.send(name, np.full(8, length, np.float32))
    assert [(e["round"], e["nodes"]) for e in world.said("shortened")] == [(1, ["n2"])]
    np.testing.assert_allclose(world.gateway.aggregation.weights(), 0.0, atol=1e-6)  # 1 + 2 - 3


def test_where_it_holds_and_where_it_cannot() -> None:
    plain = make_task(3, 3)
    assert norm_multiple(plain) == 3.0
    assert norm_multiple(dataclasses.replace(plain, privacy=Privacy("none", noise="gateway"))) == 3.0, "who adds none"
    assert norm_multiple(make_task(3, 3, options={"norm_bound": 0})) == 0.0
    assert norm_multiple(make_task(3, 3, strategy="median")) == 0.0
    private = Task("t", SCHEMA, {}, Training(), Privacy(noise_multiplier=1.0))
    assert norm_multiple(private) == 0.0
    masked = Task("t", SCHEMA, {}, Training(options={"norm_bound": 3}), Privacy(unit="none"), Rounds(3, 3),
                  aggregation=Aggregation("masked"))  # fmt: skip
    with pytest.raises(UsageError, match="secure sums show none"):
        strategy_of(masked)
    for wrong in (0.5, -1, 1e9):
        with pytest.raises(UsageError, match="norm_bound"):
            strategy_of(make_task(3, 3, options={"norm_bound": wrong}))
    with pytest.raises(UsageError, match="has no option"):
        strategy_of(make_task(3, 3, strategy="krum", options={"norm_bound": 3}))


@pytest.mark.parametrize("strategy", ["fedavg", "median"])
def test_weights_that_are_no_numbers_end_the_run_naming_the_longest_update(tmp_path: Path, strategy: str) -> None:
    world = World(tmp_path, make_task(3, 3, server_learning_rate=1e300, strategy=strategy))
    world.send("n0", np.ones(8, np.float32))
    world.send("n1", np.ones(8, np.float32))
    with pytest.raises(RoundError, match="weights that are not finite numbers.* norm 5.66, is that of n2"):
        world.send("n2", np.full(8, 2, np.float32))
    np.testing.assert_array_equal(world.gateway.aggregation.weights(), np.zeros(8, np.float32))


@pytest.mark.parametrize("what", ["loss", "auc", "weights"])
def test_a_round_that_gives_no_number_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    world = World(tmp_path, make_task(2, 2))
    whole = world.gateway.aggregation.outcome

    def outcome(*arguments: Any) -> Any:
        made = whole(*arguments)
        if what == "weights":
            made.vectors["weights"] = np.full(8, np.inf, np.float32)
        else:
            made.figures = {"evaluated": {what: float("nan")}}
        return made

    monkeypatch.setattr(world.gateway.aggregation, "outcome", outcome)
    world.send("n0", np.ones(8, np.float32))
    with pytest.raises(RoundError, match=f"round 1: {what} is not a finite number; nothing of it was kept"):
        world.send("n1", np.ones(8, np.float32))
    np.testing.assert_array_equal(world.store.vector("run", "weights"), np.zeros(8, np.float32))
    assert world.store.results("run") == []

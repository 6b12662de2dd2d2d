"""Every store of a gateway does the same (gateway/run_store.py): in a file, and in this process."""

import inspect
import json
import time
from itertools import islice
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import numpy as np
import pytest

from orchestrator.database import StoreError
from orchestrator.errors import EdgewardError
from orchestrator.gateway.memory_store import MemoryStore
from orchestrator.gateway.run_store import PARTIAL, STATE_PREFIX, RunStore
from orchestrator.gateway.store import Store
from orchestrator.rounds.events import Abstained, Aggregated, Arrived, Compacted, Declined, Event, Joined, Left, Started
from orchestrator.rounds.members import Members

EVENTS: List[Event] = [
    Started(1.0),
    Joined(2.0, "b", 7, 5),
    Joined(2.0, "a", 1, 1),
    Arrived(0.1 + 0.2, "a", 0, "d", 3.0),
    Left(4.0, "b"),
    Abstained(4.5, "a", 1, 1, "why"),
    Declined(5.0, "c", "no", "node.policy"),
    Aggregated(6.0, 0),
]


class Kept:
    """A store, and the one that the next gateway finds."""

    def __init__(self, store: RunStore, reopen: Callable[[], RunStore]) -> None:
        self.store, self._reopen = store, reopen

    def again(self) -> RunStore:
        self.store.close()
        self.store = self._reopen()
        return self.store


@pytest.fixture(params=["file", "memory"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kept]:
    if request.param == "file":
        opened = Kept(Store(tmp_path / "gateway.sqlite"), lambda: Store(tmp_path / "gateway.sqlite"))
    else:
        memory = MemoryStore()
        opened = Kept(memory, lambda: memory)
    yield opened
    opened.store.close()


@pytest.fixture
def store(kept: Kept) -> RunStore:
    return kept.store


def filled(store: RunStore) -> None:
    """Something in every part."""
    store.create_run("r", {"name": "t", "sites": ("a", "b")}, b"graph", np.arange(3, dtype=np.float32))
    for event in EVENTS:
        store.append("r", event)
    store.put_update("r", 1, "a", b"update")
    store.put_answer("r", 1, 1, "masked", "a", b"answer")
    store.put_vector("r", PARTIAL, np.array([0.1]))
    store.put_result("r", 0, {"round": 0, "loss": 0.1 + 0.2})
    store.put_phase("r", 3.0, "collecting", 1, "")
    store.put_report("r", 9.0, {"run": "r", "rounds": 1, "per_round": [{"round": 0}]})
    store.put_ledger_head("a", {"entries": 3, "hash": "h"})
    store.put_node("r", "a", {"memory_mib": 1.5})


def state_of(store: RunStore) -> Dict[str, Any]:
    """All that can be asked of it about "r", without changing it."""
    return {
        "run": store.find_run("r"),
        "tasks": store.tasks(),
        "journal": store.journal("r"),
        "joined": store.joined("r"),
        "updates": list(store.updates("r", 1, ["a"])),
        "answers": list(store.answers("r", 1, 1, "masked")),
        "vectors": {name: vector.tolist() for name, vector in store.vectors("r", "").items()},
        "results": store.results("r"),
        "certificates": store.certificates("r"),
        "report": store.report("r"),
        "ledger": store.ledger_head("a"),
        "nodes": store.nodes("r"),
    }


def test_both_have_the_whole_interface_and_all_of_it_is_tried_here() -> None:
    """Neither has another signature, nor leaves to the interface what it must do itself."""
    asked = {name: method for name, method in vars(RunStore).items() if inspect.isfunction(method) and name[0] != "_"}
    here = Path(__file__).read_text()
    assert [name for name in asked if f"store.{name}(" not in here] == []
    assert "add_to_result" in asked
    for kind in (Store, MemoryStore):
        for name, method in asked.items():
            own = vars(kind)[name]
            assert inspect.signature(own).parameters == inspect.signature(method).parameters, (kind, name)
    stores: List[Callable[[], RunStore]] = [lambda: Store(Path("s")), MemoryStore]  # as mypy sees it
    assert len(stores) == 2


def test_the_next_gateway_finds_all_of_it(kept: Kept) -> None:
    filled(kept.store)
    secret, serial = kept.store.secret("r", "selection"), kept.store.serial("r")
    before = state_of(kept.store)
    assert before["run"] == ({"name": "t", "sites": ["a", "b"]}, b"graph")
    assert before["journal"] == EVENTS
    assert before["report"] == {"run": "r", "rounds": 1}
    again = kept.again()
    assert state_of(again) == before
    assert (again.secret("r", "selection"), again.serial("r")) == (secret, serial)
    again.append("r", Started(20.0))
    again.put_result("r", 1, {"round": 1})
    assert again.journal("r") == [*EVENTS, Started(20.0)]
    assert kept.again().newest_round("r") == 1


def test_what_fails_half_way_did_not_happen(kept: Kept) -> None:
    filled(kept.store)
    kept.store.put_vector("r", "tail", np.array([1.0]))
    before = state_of(kept.store)

    def half_way(store: RunStore, durable: bool) -> None:
        with store.transaction(durable):
            store.append("r", Left(30.0, "a"))
            store.append("new", Started(1.0))
            store.put_update("r", 1, "a", b"other")
            store.put_update("r", 2, "z", b"z")
            store.drop_answers("r", 1)
            store.put_answer("r", 2, 1, "keys", "z", b"z")
            store.put_vector("r", "weights", np.array([9.0]))
            store.put_vector("r", "new", np.array([9.0]))
            store.put_result("r", 0, {"round": 0, "loss": 9.0})
            store.put_result("r", 7, {"round": 7})
            store.put_report("r", 31.0, {"run": "other"})
            store.put_ledger_head("a", {"entries": 9})
            store.put_node("r", "z", {})
            assert store.newest_round("r") == 7  # inside it is there
            raise KeyboardInterrupt

    for durable in (True, False):
        with pytest.raises(KeyboardInterrupt):
            half_way(kept.store, durable)
        assert state_of(kept.store) == before
        assert (kept.store.journal("new"), kept.store.newest_round("r")) == ([], 0)
        with pytest.raises(EdgewardError):
            list(kept.store.updates("r", 2, ["z"]))
    assert list(kept.store.vectors("r", "")) == ["weights", PARTIAL, "tail"]  # in the order they were put
    with kept.store.transaction():
        kept.store.put_result("r", 8, {"round": 8})
    assert kept.again().newest_round("r") == 8
    assert {**state_of(kept.store), "results": 0} == {**before, "results": 0}


@pytest.mark.parametrize(
    "inner",
    [
        lambda store: store.transaction().__enter__(),
        lambda store: store.create_run("n", {}, b"", np.zeros(1)),
        lambda store: store.compact("r", compacted()),
        lambda store: store.keep_answers("r", 1, 1, "masked", ()),
        lambda store: store.keep_certificates("n", [{"n": 1}]),
        lambda store: store.put_phase("r", 1.0, "collecting", 2, ""),
        lambda store: store.serial("n"),
    ],
)
def test_a_transaction_is_not_begun_within_another(store: RunStore, inner: Callable[[RunStore], Any]) -> None:
    filled(store)
    before = state_of(store)

    def within() -> None:
        with store.transaction():
            store.put_result("r", 5, {"round": 5})
            inner(store)

    with pytest.raises(StoreError, match="cannot start a transaction within a transaction"):
        within()
    assert state_of(store) == before
    assert store.certificates("n") == []


def test_a_run_is_made_once(store: RunStore) -> None:
    assert store.find_run("r") is None
    store.create_run("r", {"name": "t"}, b"graph", np.ones(2, np.float32))
    with pytest.raises(EdgewardError, match="has a run r already"):
        store.create_run("r", {"name": "u"}, b"other", np.zeros(2, np.float32))
    assert store.find_run("r") == ({"name": "t"}, b"graph")
    assert store.vectors("r", "")["weights"].tolist() == [1, 1]
    for name in ("z", "a"):
        store.create_run(name, {"name": name}, b"", np.zeros(0, np.float32))
    assert [(run, json.loads(text)) for run, text in store.tasks()] == [
        ("r", {"name": "t"}),
        ("z", {"name": "z"}),
        ("a", {"name": "a"}),
    ]
    with pytest.raises(TypeError):  # nothing of a run that cannot be kept
        store.create_run("odd", {"task": object()}, b"", np.zeros(1))
    assert store.find_run("odd") is None


def compacted() -> Compacted:
    members = Members()
    for event in EVENTS:
        members.take(event)
    return Compacted(9.0, {"phase": "collecting"}, members.as_dict())


def test_events_come_back_in_their_order_and_run_by_run(store: RunStore) -> None:
    assert store.journal("r") == []
    assert store.joined("r") == set()
    for event in EVENTS:
        store.append("r", event)
        store.append("other", Started(event.at))
    assert store.journal("r") == EVENTS
    assert store.journal("r")[3].at == 0.1 + 0.2
    assert store.journal("other") == [Started(event.at) for event in EVENTS]
    assert (store.joined("r"), store.joined("other")) == ({"a", "b"}, set())


def test_what_is_compacted_takes_the_place_of_the_journal_and_events_go_on_behind_it(kept: Kept) -> None:
    store = kept.store
    with pytest.raises(EdgewardError, match="lacks the journal of run r"):
        store.compact("r", compacted())
    for event in EVENTS:
        store.append("r", event)
    store.append("other", Started(1.0))
    store.put_phase("r", 3.0, "collecting", 1, "")
    store.compact("r", compacted())
    store.append("r", Left(10.0, "a"))
    assert kept.again().journal("r") == [compacted(), Left(10.0, "a")]
    assert kept.store.joined("r") == {"a", "b"}
    kept.store.compact("r", compacted())
    assert (kept.store.journal("r"), kept.store.journal("other")) == ([compacted()], [Started(1.0)])


def test_updates_come_in_the_order_that_is_asked_for_until_they_are_dropped(store: RunStore) -> None:
    for number, node in ((1, "b"), (1, "a"), (2, "a"), (3, "a")):
        store.put_update("r", number, node, f"{node}{number}".encode())
    store.put_update("other", 1, "a", b"others")
    store.put_update("r", 1, "b", b"newer")
    assert list(store.updates("r", 1, ["a", "b"])) == [("a", b"a1"), ("b", b"newer")]
    assert list(store.updates("r", 1, ["b", "a"])) == [("b", b"newer"), ("a", b"a1")]
    assert list(store.updates("r", 1, [])) == []
    partly = store.updates("r", 1, ["a", "zed"])
    assert next(partly) == ("a", b"a1")
    with pytest.raises(EdgewardError, match="lacks the update of zed for round 1"):
        next(partly)
    store.drop_updates("r", 2)
    for number in (1, 2):
        with pytest.raises(EdgewardError, match=f"lacks the update of a for round {number}"):
            list(store.updates("r", number, ["a"]))
    assert list(store.updates("r", 3, ["a"])) == [("a", b"a3")]
    assert list(store.updates("other", 1, ["a"])) == [("a", b"others")]


def test_answers_come_by_name_until_they_are_dropped(store: RunStore) -> None:
    step = ("r", 2, 1, "masked")
    for node in ("é", "b", "", "B", "a"):
        store.put_answer(*step, node, f"of {node}".encode())
    for key in (("r", 2, 2, "masked"), ("r", 2, 1, "keys"), ("r", 3, 1, "masked"), ("other", 2, 1, "masked")):
        store.put_answer(*key, "a", b"another")
    store.put_answer(*step, "a", b"newer")
    assert store.answerers(*step) == ["", "B", "a", "b", "é"]
    assert list(store.answers(*step)) == [
        ("", b"of "),
        ("B", b"of B"),
        ("a", b"newer"),
        ("b", b"of b"),
        ("é", "of é".encode()),
    ]
    assert (store.answer(*step, "b"), store.answer(*step, "c"), store.answer("r", 9, 1, "masked", "b")) == (
        b"of b",
        None,
        None,
    )
    store.keep_answers(*step, ["a", "", "never here"])
    assert store.answerers(*step) == ["", "a"]
    assert store.answerers("r", 2, 2, "masked") == store.answerers("r", 2, 1, "keys") == ["a"]
    store.drop_answers("r", 2)
    assert store.answerers(*step) == store.answerers("r", 2, 2, "masked") == store.answerers("r", 2, 1, "keys") == []
    assert list(store.answers(*step)) == []
    assert store.answerers("r", 3, 1, "masked") == store.answerers("other", 2, 1, "masked") == ["a"]


def test_vectors_keep_the_bits_of_their_type(store: RunStore) -> None:
    exact = np.array([0.1, 1e300, -0.0, np.nan])
    for name in ("tail", PARTIAL, STATE_PREFIX + "m"):
        store.put_vector("r", name, exact)
        found = store.vector("r", name)
        assert found is not None
        assert (found.dtype, found.tobytes()) == (np.dtype(np.float64), exact.tobytes())
    single = np.array([[0.1, 2.0], [3.0, -0.0]])  # by rows
    store.put_vector("r", "weights", single[:, ::-1])
    weights = store.vector("r", "weights")
    assert weights is not None
    assert (weights.dtype, weights.tobytes()) == (np.dtype(np.float32), single[:, ::-1].astype(np.float32).tobytes())
    store.put_vector("other", STATE_PREFIX + "v", exact)
    assert (store.vector("r", "none"), store.vector("none", "weights")) == (None, None)
    assert list(store.vectors("r", STATE_PREFIX)) == [STATE_PREFIX + "m"]
    assert list(store.vectors("r", "")) == ["tail", PARTIAL, STATE_PREFIX + "m", "weights"]
    store.put_vector("r", "tail", exact)
    assert list(store.vectors("r", "")) == [PARTIAL, STATE_PREFIX + "m", "weights", "tail"]
    assert store.vectors("none", "") == {}


def test_who_changes_what_it_put_or_got_changes_nothing_here(store: RunStore) -> None:
    weights, task, body = np.arange(3, dtype=np.float32), {"a": [1]}, bytearray(b"body")
    store.create_run("r", task, bytes(body), weights)
    result, head, log = {"nodes": ["a"]}, {"entries": [1]}, [{"n": 1}]
    store.put_update("r", 1, "a", body)  # type: ignore[arg-type]
    store.put_answer("r", 1, 1, "keys", "a", body)  # type: ignore[arg-type]
    store.put_result("r", 1, result)
    store.put_ledger_head("a", head)
    store.put_node("r", "a", head)
    store.put_report("r", 1.0, result)
    store.keep_certificates("r", log)
    snapshot = compacted()
    store.append("r", snapshot)
    weights[:], body[:], task["a"][0], result["nodes"][0], head["entries"][0] = 9, b"9999", 9, "z", 9
    log[0]["n"] = 9
    snapshot.state["phase"] = "gathering"

    def check() -> None:
        found = store.vector("r", "weights")
        assert found is not None
        assert found.tolist() == store.vectors("r", "w")["weights"].tolist() == [0, 1, 2]
        assert store.find_run("r") == ({"a": [1]}, b"body")
        assert list(store.updates("r", 1, ["a"])) == [("a", b"body")]
        assert store.answer("r", 1, 1, "keys", "a") == b"body"
        assert store.results("r") == [{"nodes": ["a"]}]
        assert store.report("r") == {"nodes": ["a"]}
        assert store.ledger_head("a") == store.nodes("r")["a"] == {"entries": [1]}
        assert store.certificates("r") == [{"n": 1}]
        assert store.journal("r") == [compacted()]

    check()
    found = store.vector("r", "weights")
    assert found is not None
    for vector in (found, store.vectors("r", "w")["weights"]):
        with pytest.raises(ValueError, match="read-only"):
            vector[0] = 9
    run, report, ledger = store.find_run("r"), store.report("r"), store.ledger_head("a")
    assert run is not None
    assert report is not None
    assert ledger is not None
    run[0]["a"][0] = report["nodes"][0] = ledger["entries"][0] = store.nodes("r")["a"]["entries"][0] = 9
    store.results("r")[0]["nodes"][0] = store.certificates("r")[0]["n"] = 9
    again = store.journal("r")[0]
    assert isinstance(again, Compacted)
    again.state["phase"] = "gathering"
    check()


def test_results_come_back_exactly_and_by_round(store: RunStore) -> None:
    assert (store.results("r"), store.newest_round("r")) == ([], -1)
    figures = {"loss": 0.1 + 0.2, "none": None, "on": True, "nodes": ("a", "é"), "answers": {"a": [1e-300, 1 << 60]}}
    for number in (3, 0, 12, 2):
        store.put_result("r", number, {"round": number, **figures})
    store.put_result("other", 99, {"round": 99})
    assert store.newest_round("r") == 12
    assert store.results("r") == [{"round": n, **figures, "nodes": ["a", "é"]} for n in (0, 2, 3, 12)]
    assert [result["round"] for result in store.each_result("r", 2)] == [2, 3, 12]
    assert [result["round"] for result in store.each_result("r", 4)] == [12]
    assert list(store.each_result("r", 13)) == []
    store.put_result("r", 2, {"round": 2, "loss": 1.0})
    assert list(islice(store.each_result("r"), 1, 2)) == [{"round": 2, "loss": 1.0}]


def test_more_results_than_are_read_at_a_time(store: RunStore) -> None:
    with store.transaction(durable=False):
        for number in range(1001):
            store.put_result("r", number, {"round": number})
    assert [result["round"] for result in store.each_result("r")] == list(range(1001))


def test_figures_are_added_to_a_round_that_there_is(store: RunStore) -> None:
    with pytest.raises(EdgewardError, match="lacks the result of round 1"):
        store.add_to_result("r", 1, {"loss": 1.0})
    assert store.results("r") == []
    store.put_result("r", 1, {"round": 1, "loss": None})
    store.add_to_result("r", 1, {"loss": 2.0, "auc": 0.5})
    assert store.results("r") == [{"round": 1, "loss": 2.0, "auc": 0.5}]


def test_secrets_are_drawn_once(kept: Kept) -> None:
    drawn = {
        (run, name): kept.store.secret(run, name) for run in ("r", "s", "") for name in ("selection", "pseudonyms")
    }
    assert {len(secret) for secret in drawn.values()} == {32}
    assert len(set(drawn.values())) == 6
    assert {key: kept.again().secret(*key) for key in drawn} == drawn


def test_a_serial_is_above_all_before_it_and_stays(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    at_least = int(time.time() * 1000)
    first = kept.store.serial("r")
    assert first >= at_least
    monkeypatch.setattr(time, "time", lambda: at_least / 1000 - 3600)  # the clock was set back
    second = kept.store.serial("s")
    assert second == first + 1
    assert (kept.again().serial("r"), kept.store.serial("s"), kept.store.serial("t")) == (first, second, second + 1)


def test_the_certificates_of_a_run_are_those_it_began_with(kept: Kept) -> None:
    store = kept.store
    assert store.certificates("r") == []
    store.keep_certificates("r", [{"n": 1}, {"n": 2}])
    store.keep_certificates("r", [{"n": 3}])
    store.append("late", Started(1.0))
    store.keep_certificates("late", [{"n": 3}])
    assert kept.again().certificates("r") == [{"n": 1}, {"n": 2}]
    assert kept.store.certificates("late") == []


def test_the_last_word_on_nodes_ledgers_and_reports_counts(store: RunStore) -> None:
    assert (store.nodes("r"), store.ledger_head("a"), store.report("r")) == ({}, None, None)
    for node in ("b", "a", "é"):
        store.put_node("r", node, {"memory_mib": 1.0})
    store.put_node("r", "b", {"memory_mib": 2.0})
    store.put_node("other", "c", {})
    assert list(store.nodes("r").items()) == [
        ("a", {"memory_mib": 1.0}),
        ("b", {"memory_mib": 2.0}),
        ("é", {"memory_mib": 1.0}),
    ]
    for entries in (2, 1):
        store.put_ledger_head("a", {"entries": entries})
        store.put_report("r", 1.0, {"rounds": entries, "per_round": [entries]})
    assert (store.ledger_head("a"), store.ledger_head("b")) == ({"entries": 1}, None)
    assert (store.report("r"), store.report("other")) == ({"rounds": 1}, None)


def test_what_was_flushed_is_done_with(store: RunStore) -> None:
    with store.transaction(durable=False):
        store.put_answer("r", 1, 1, "masked", "a", b"vector")
    flushed = store.flush()
    store.sync()
    assert flushed.done()
    assert flushed.result() is None

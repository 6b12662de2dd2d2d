import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, List, Tuple

import numpy as np
import pytest

from orchestrator.errors import EdgewardError, UsageError
from orchestrator.gateway.run import final_weights, open_run, run_id, run_in, standardization
from orchestrator.gateway.store import Store
from orchestrator.privacy.accounting import plan_noise
from orchestrator.rounds.events import Arrived, Joined, Started
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Task, digest_of, task_from_dict, task_to_dict
from orchestrator.wire.training import Training


def task(name: str = "t", **training: Any) -> Task:
    schema = Schema("table", "y", ("a", "b"), {"0": 0}, (Feature("x", -1, 3),))
    return Task(name, schema, {"kind": "mlp", "hidden": []}, Training(**training))


def test_what_was_committed_is_there_after_reopening(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.sqlite")
    weights = np.arange(4, dtype=np.float32)
    store.create_run("r", task_to_dict(task()), b"graph", weights)
    store.append("r", Started(1.0))
    with store.transaction():
        store.put_update("r", 1, "b", b"bb")
        store.put_update("r", 1, "a", b"aa")
        store.append("r", Arrived(2.0, "a", 1, "d", 3.0))

    def fail_half_way() -> None:
        with store.transaction():
            store.append("r", Joined(3.0, "c", 1))
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way()
    store.close()
    again = Store(tmp_path / "s.sqlite")
    assert again.journal("r") == [Started(1.0), Arrived(2.0, "a", 1, "d", 3.0)]
    assert list(again.updates("r", 1, ["a", "b"])) == [("a", b"aa"), ("b", b"bb")]
    np.testing.assert_array_equal(again.vector("r", "weights"), weights)
    with pytest.raises(EdgewardError, match="lacks the update of zed for round 1"):
        list(again.updates("r", 1, ["zed"]))


def test_a_run_is_opened_again_with_its_stored_task_and_no_other(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.sqlite")
    first, graph = open_run(store, "r", task(), b"graph", np.zeros(2, np.float32))
    assert open_run(store, "r", task(), b"other", np.ones(2, np.float32)) == (first, graph)
    with pytest.raises(UsageError, match="'r' exists with another task \\('t'\\)"):
        open_run(store, "r", task("u"), b"graph", np.zeros(2, np.float32))
    assert run_id(task()) != run_id(task(rounds=7))


def test_final_weights_are_the_last_or_the_tail_mean(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.sqlite")
    store.create_run("r", {}, b"", np.zeros(2, np.float32))
    store.put_vector("r", "tail", np.array([3.0, 6.0]))
    store.put_vector("r", "best", np.array([7.0, 7.0], np.float32))
    for number in range(7):  # statistics, 5 rounds, the last evaluation: the tail is rounds 3 to 5
        store.put_result("r", number, {"round": number})
    store.put_vector("r", "weights", np.array([9.0, 9.0], np.float32))
    assert final_weights(store, "r", task(rounds=5)).tolist() == [9, 9]
    assert final_weights(store, "r", task(rounds=5, tail_average=True)).tolist() == [1, 2]
    assert final_weights(store, "r", task(rounds=5, best=True)).tolist() == [7, 7]
    mean, std = standardization(store, "r", task())
    assert (mean.tolist(), std.tolist()) == ([1.0], [2.0])


def test_a_file_that_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "s.sqlite").write_bytes(b"something else" * 200)
    with pytest.raises(EdgewardError, match="cannot be used as the gateway's store"):
        Store(tmp_path / "s.sqlite")


def test_sync_waits_for_what_flush_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "gateway.sqlite")
    store.sync()
    synced: List[str] = []
    fsync = os.fsync

    def slow(descriptor: int) -> None:
        time.sleep(0.05)
        fsync(descriptor)
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))

    monkeypatch.setattr(os, "fsync", slow)
    with store.transaction(durable=False):
        store.put_answer("r", 1, 1, "masked", "a", b"vector")
    store.flush()
    store.sync()
    assert synced == [str(tmp_path / "gateway.sqlite-wal")] * 2
    linked = tmp_path / "linked.sqlite"
    linked.symlink_to(tmp_path / "gateway.sqlite")
    Store(linked).sync()
    assert synced[2:] == synced[:1]

    def fail(descriptor: int) -> None:
        raise OSError("disk is gone")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(EdgewardError, match=r"gateway\.sqlite-wal: disk is gone: look at that disk"):
        store.sync()
    store.close()


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("before", ["BEGIN IMMEDIATE", "COMMIT"])
def test_a_signal_amid_a_transaction_is_what_comes_out(tmp_path: Path, durable: bool, before: str) -> None:
    store = Store(tmp_path / "gateway.sqlite")
    real = store.database

    class Interrupted:
        in_transaction = property(lambda self: real.in_transaction)

        def execute(self, query: str, *values: Any) -> object:
            if query == before:
                raise KeyboardInterrupt
            return real.execute(query, *values)

    store.database = Interrupted()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt), store.transaction(durable):
        store.put_answer("r", 1, 1, "masked", "a", b"vector")
    store.database = real
    assert store.answer("r", 1, 1, "masked", "a") is None
    assert real.execute("PRAGMA synchronous").fetchone() == (2,)
    with store.transaction(durable):
        store.put_answer("r", 1, 1, "masked", "a", b"vector")
    assert store.answer("r", 1, 1, "masked", "a") == b"vector"


def test_fields_of_later_versions_rename_no_run_and_ask_no_owner_again(tmp_path: Path) -> None:
    """The name in a store of 0.1, and the digest that owners approve, which 0.1 gave to this very task."""
    schema = Schema("table", "y", ("n", "p"), {"0": 0, "1": 1}, (Feature("x", -4, 4),))
    old = Task("ward", schema, {"kind": "mlp"}, Training(rounds=7), Privacy(epsilon=3.0))
    assert digest_of(task_to_dict(old), b"graph") == "f9079faf8e5ff218f36bb078d7544b3bb94c5c427629b601a71be8d96e4989a1"
    counted = replace(old, privacy=replace(old.privacy, clip_tally=True))
    logged = replace(old, schema=replace(schema, features=(Feature("x", 1, 4, transform="log"),)))
    plain = replace(old, schema=replace(schema, features=(Feature("x", 1, 4),)))
    unstated = replace(old, privacy=replace(old.privacy, clip_norm=0.0))
    assert task_from_dict(task_to_dict(counted)) == counted
    assert task_from_dict(task_to_dict(logged)) == logged
    assert len({run_id(task) for task in (old, counted, logged, plain, unstated)}) == 5

    store = Store(tmp_path / "s.sqlite")
    assert run_in(store, old) == run_id(old)
    open_run(store, "ward-dc0f2ddf", old, b"graph", np.zeros(2, np.float32))  # of 0.1: 1 was stated, or nothing
    assert run_in(store, old) == run_in(store, unstated) == "ward-dc0f2ddf"
    assert run_in(store, counted) == run_id(counted)
    assert run_in(store, old, 2) == run_id(old, 2), "the next training has the new name"

    store = Store(tmp_path / "between.sqlite")  # of later, when nothing stated meant no longer 1
    planned = plan_noise(replace(unstated, training=replace(old.training, parameters=4)))
    open_run(store, "ward-dc0f2ddf", planned, b"graph", np.zeros(2, np.float32))
    assert run_in(store, unstated) == "ward-dc0f2ddf"
    assert run_in(store, old) == run_id(old), "who states 1 gets a run with 1"


def test_a_name_is_of_what_is_stated() -> None:
    """Whatever fields a later version adds: with their default they take no part."""

    @dataclass(frozen=True)
    class Later(Privacy):
        added: float = 0.5
        more: Tuple[str, ...] = ()

    @dataclass(frozen=True)
    class LaterTask(Task):
        purpose: str = "training"

    now = Task("ward", task().schema, {"kind": "mlp"}, Training(rounds=7), Privacy(epsilon=3.0))
    later = LaterTask("ward", now.schema, now.model, now.training, Later(epsilon=3.0))
    assert run_id(later) == run_id(now)
    assert run_id(replace(later, privacy=Later(epsilon=3.0, added=0.6))) != run_id(now)
    assert run_id(replace(later, purpose="kmeans")) != run_id(now)

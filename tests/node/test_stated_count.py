"""How many records a node says it has: noised, drawn once, charged before it leaves; and how often its data are looked at."""

import json
import math
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest
from test_policy import make_task

from orchestrator.errors import EdgewardError, LedgerError, WireError
from orchestrator.node.gatekeeper import COUNT_ROUND, Gatekeeper
from orchestrator.node.ledger import LEDGER_FILE
from orchestrator.node.store import NodeStore
from orchestrator.privacy.noisy_sum import count_sum, noised_count
from orchestrator.privacy.secure_random import SecureRandom
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.schema import Feature
from orchestrator.wire.task import Evaluation, Task, task_to_dict

TASK = make_task(privacy=Privacy(noise_multiplier=2.0))


class Node:
    """Gatekeeper and store of one node, as its agent holds them."""

    def __init__(self, folder: Path, policy: str = "") -> None:
        path = folder / "policy.toml"
        if policy:
            path.write_text(policy)
        self.store = NodeStore(folder / "node.sqlite")
        self.keeper = Gatekeeper(folder, self.store, path if policy else None)
        self.store.before_release = self.keeper.charge

    def accept(self, run: str, task: Task = TASK, units: int = 500) -> None:
        assert self.keeper.admit(run, task, task_to_dict(task), b"graph", units) is None

    def state(self, run: str, task: Task = TASK, units: int = 500, digest: str = "d") -> int:
        return self.keeper.state_count(run, task, digest, units)

    def close(self) -> None:
        self.keeper.close()
        self.store.close()


def test_the_count_is_drawn_once_a_run_also_over_restarts(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.accept("one")
    first = node.state("one")
    assert [node.state("one") for _ in range(20)] == [first] * 20
    node.close()
    again = Node(tmp_path)
    again.accept("one")
    # Also where records came or went meanwhile: another draw would be another release.
    assert [again.state("one", units=units) for units in (500, 400, 5000)] == [first] * 3
    assert len({drawn_in(again, f"run {number}") for number in range(12)}) > 3, "each run has a draw of its own"


def drawn_in(node: Node, run: str) -> int:
    node.accept(run)
    return node.state(run)


def test_the_count_is_charged_before_it_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(tmp_path)
    node.accept("one")
    charged = []
    real = node.keeper.charge

    def charge(run: str, number: int) -> None:
        assert node.store.counted(run, "d") is None, "nothing is stored that was not charged"
        real(run, number)
        charged.append((run, number))

    node.store.before_release = charge
    node.state("one")
    assert charged == [("one", COUNT_ROUND)]
    (known,) = node.keeper.ledger.reservations()
    assert (known.used, tuple(known.rounds)) == ({"count": 1}, (COUNT_ROUND,))
    assert [c.count for c in known.charges if c.kind == "count"] == [1]


def test_a_count_that_cannot_be_charged_is_not_said(tmp_path: Path) -> None:
    node = Node(tmp_path)
    with pytest.raises(WireError, match="run one was not accepted by this node"):
        node.state("one")
    node.accept("one")
    node.keeper.ledger.close_run("one")
    with pytest.raises(WireError, match="was closed by the owner"):
        node.state("one")
    node.accept("two")
    (tmp_path / LEDGER_FILE).unlink()
    with pytest.raises(LedgerError, match="removed or replaced"):
        node.state("two")
    assert [node.store.counted(run, "d") for run in ("one", "two")] == [None, None]


def test_a_kill_between_charge_and_count_costs_one_charge_and_says_one_count(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.accept("one")
    node.keeper.charge("one", COUNT_ROUND)  # and killed here
    node.close()
    again = Node(tmp_path)
    again.accept("one")
    said = again.state("one")
    assert again.state("one") == said
    assert again.keeper.ledger.reservations()[0].used == {"count": 1}


def test_the_count_of_a_run_is_not_said_to_another_task(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.accept("one")
    node.state("one", digest="d")
    with pytest.raises(EdgewardError, match="changed its task"):
        node.state("one", digest="another")


def test_only_where_something_is_protected_is_there_something_to_noise(tmp_path: Path) -> None:
    node = Node(tmp_path)
    for run, privacy, said in (
        ("none", Privacy(unit="none"), 500),
        ("node", Privacy(unit="node", noise_multiplier=2.0), 1),
    ):
        task = make_task(privacy=privacy)
        node.accept(run, task)
        assert node.state(run, task) == said
        reservation = node.keeper.ledger.reservation(run)
        assert reservation is not None
        assert reservation.used == {}


@pytest.mark.parametrize("mechanism", ["discrete-gaussian", "skellam"])
@pytest.mark.parametrize(("declared", "std"), [(0.0, 5 * 1.5), (9.0, 9.0)])
def test_a_count_has_the_noise_that_is_charged(declared: float, std: float, mechanism: str) -> None:
    """Five times a step's, unless declared; never shared among nodes. 4,000 draws: known to 1.1 %, this allows 6 %."""
    privacy = Privacy(noise="distributed", noise_multiplier=1.5, count_noise_multiplier=declared, mechanism=mechanism)
    task = make_task(privacy=privacy, aggregation=Aggregation("masked", honest=4))
    random = SecureRandom()
    drawn = np.array([noised_count(task, 1000, random) for _ in range(4000)])
    assert drawn.std() == pytest.approx(math.sqrt(std**2 + 1 / 12), rel=0.06)
    assert drawn.mean() == pytest.approx(1000, abs=5 * std / math.sqrt(4000))
    released = count_sum(task)
    assert (released.parties, released.size) == (1, 1)
    assert released.std >= std * released.bound, "one unit more moves the count by its bound at most"


def test_a_count_differs_from_another_by_what_differs_and_noise_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said of n and of n + 1 must be one draw apart by 1: rounding that depends on more would not be charged."""
    task = make_task(privacy=Privacy(noise_multiplier=2.0))
    for seed in range(20):
        noise = np.array([np.random.default_rng(seed).integers(-1000, 1000)])
        monkeypatch.setattr(type(count_sum(task)), "noise", lambda self, _, fixed=noise: fixed)
        said = [noised_count(task, units, SecureRandom()) for units in range(900, 910)]
        assert np.diff(said).tolist() == [1] * 9
    monkeypatch.setattr(type(count_sum(task)), "noise", lambda self, _: np.array([-(10**9)]))
    assert noised_count(task, 5, SecureRandom()) == 1


# How often the data may be opened


def schemas(count: int, start: int = 0) -> List[Task]:
    return [
        make_task(
            schema=TASK.schema.__class__(
                "table", "y", ("no", "yes"), {"0": 0, "1": 1}, (Feature(f"x{n}", 0, 1),), standardization="range"
            )
        )
        for n in range(start, start + count)
    ]


def looks(node: Node, tasks: List[Task]) -> List[str]:
    found = [node.keeper.may_look(task) for task in tasks]
    return ["" if refusal is None else refusal.code for refusal in found]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> List[float]:
    """The time, in its only element."""
    now = [1e9]
    monkeypatch.setattr(time, "time", lambda: now[0])
    return now


POLICY = "[require]\nunits = ['none', 'record', 'patient', 'node']\nstages = []\npatient = '*'\n"


def test_the_data_are_opened_for_ten_declarations_a_day(tmp_path: Path, clock: List[float]) -> None:
    node = Node(tmp_path, POLICY)
    tasks = schemas(12)
    assert looks(node, tasks) == [""] * 10 + ["policy.tries"] * 2
    assert looks(node, tasks) == [""] * 10 + ["policy.tries"] * 2, "the same one again costs nothing"
    node.close()
    again = Node(tmp_path)  # without a policy 100 are allowed: those of before count
    assert looks(again, schemas(92, start=50)) == [""] * 90 + ["policy.tries"] * 2


def test_a_day_later_there_are_new_tries_and_a_clock_put_back_gives_none(tmp_path: Path, clock: List[float]) -> None:
    node = Node(tmp_path, POLICY)
    assert looks(node, schemas(10)) == [""] * 10
    for moved in (-1.0, -86400.0, -400 * 86400.0, 0.0, 86399.0):
        clock[0] = 1e9 + moved
        assert looks(node, schemas(2, start=20)) == ["policy.tries"] * 2, moved
    clock[0] = 1e9 + 86401.0
    assert looks(node, schemas(11, start=20)) == [""] * 10 + ["policy.tries"]


def test_the_owner_sets_how_many(tmp_path: Path, clock: List[float]) -> None:
    node = Node(tmp_path, POLICY + "[allow]\nschemas_a_day = 3\n")
    assert looks(node, schemas(5)) == [""] * 3 + ["policy.tries"] * 2
    (tmp_path / "policy.toml").write_text("nonsense = 1\n")
    assert looks(node, schemas(1)) == ["policy.unreadable"]


@pytest.mark.parametrize(
    "asked",
    [
        {"evaluation": Evaluation(share=0.3)},
        {"privacy": Privacy(unit="patient", noise_multiplier=2.0)},
        {"privacy": Privacy(unit="none")},
    ],
)
def test_whatever_changes_what_the_answer_says_of_the_data_is_another_try(
    tmp_path: Path, clock: List[float], asked: Any
) -> None:
    """Each share is a question whether the records can be split."""
    node = Node(tmp_path, POLICY + "[allow]\nschemas_a_day = 1\n")
    assert looks(node, [TASK, TASK]) == ["", ""]
    assert looks(node, [make_task(**asked)]) == ["policy.tries"]


def test_what_says_nothing_more_of_the_data_is_no_other_try(tmp_path: Path, clock: List[float]) -> None:
    node = Node(tmp_path, POLICY + "[allow]\nschemas_a_day = 1\n")
    same = make_task(name="another", privacy=Privacy(noise_multiplier=9.0, epsilon=3.0), model={"kind": "mlp"})
    assert looks(node, [TASK, same]) == ["", ""]


def test_looks_are_noted_before_the_data_are_opened(tmp_path: Path) -> None:
    node = Node(tmp_path, POLICY)
    before = time.time()
    assert looks(node, schemas(1)) == [""]
    with closing(sqlite3.connect(tmp_path / "node.sqlite")) as other:  # another process sees it at once
        ((what, at),) = other.execute("SELECT what, at FROM looks").fetchall()
    assert before <= at <= time.time()
    assert len(what) == 64
    assert json.dumps(task_to_dict(TASK)) not in what

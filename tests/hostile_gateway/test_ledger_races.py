"""Attack: more budget than the owner gave, by racing, renaming, absurd declarations or no privacy at all. Promise: what is
reserved together fits, however it is asked for; counting ends; the node's epsilon is never below the one it is shown."""

import gc
import json
import threading
import tracemalloc
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Optional

import pytest
from inside import INPUTS, PARAMETERS, csv_of, make_schema, make_task
from malicious import Attack, Victim

from orchestrator.node import accountant
from orchestrator.node.gatekeeper import Gatekeeper, reservation_of
from orchestrator.node.store import NodeStore
from orchestrator.privacy.accounting import epsilon_spent
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.schema import Feature
from orchestrator.wire.task import Evaluation, Rounds, Task, digest_of, task_from_dict, task_to_dict
from orchestrator.wire.training import Training

GRAPH = b"graph"
DELTA = 1e-6


def admitted(keeper: Gatekeeper, run: str, task: Task) -> str:
    """The code of a refusal, "" where the run was accepted and its budget is reserved."""
    verdict = keeper.admit(run, task, task_to_dict(task), GRAPH, 50)
    return "" if verdict is None else verdict.code


def noisy(**changes: Any) -> Privacy:
    noise = {name: 5.0 for name in Privacy.__dataclass_fields__ if name.endswith("noise_multiplier")}
    return Privacy(**{"unit": "record", "epsilon": 10.0, "delta": DELTA, **noise, **changes})


def test_a_gateway_that_begins_run_after_run_fills_no_memory(tmp_path: Path) -> None:
    """What a node keeps of a run is on its disk: a schema of many columns, begun again and again, would end the process."""
    keeper = Gatekeeper(tmp_path, NodeStore(tmp_path / "node.sqlite"))
    task = task_to_dict(
        make_task(make_schema(features=tuple(Feature(f"x{i}", 0, 1) for i in range(200))), privacy=noisy())
    )

    def begin(runs: range) -> int:
        for number in runs:
            assert admitted(keeper, f"run-{number}", task_from_dict(task, "a task")) == ""
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    begin(range(12))
    tracemalloc.start()
    try:
        grown = -begin(range(12, 20)) + begin(range(20, 60))
    finally:
        tracemalloc.stop()
    assert grown / 40 < 8000, "bytes a run; the schema alone takes more than 20,000"


@pytest.mark.parametrize("same_run", [False, True])
def test_two_processes_that_reserve_at_once_do_not_both_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same_run: bool
) -> None:
    """Each has counted before the other reserves, as two processes on one state folder may; the limit is one run."""
    (tmp_path / "policy.toml").write_text("[budget]\nepsilon_total = 1.0\n")
    both_counted = threading.Barrier(2)
    met = threading.local()

    def one_a_run(sets: Any, delta: float) -> List[float]:
        counted = [float(len(runs)) for runs in sets]
        if not getattr(met, "already", False):
            met.already = True
            with suppress(threading.BrokenBarrierError):  # the other one is kept out meanwhile, which is as good
                both_counted.wait(5)
        return counted

    monkeypatch.setattr(accountant, "epsilons_apart", one_a_run)
    verdicts: Dict[int, str] = {}

    def process(number: int) -> None:
        keeper = Gatekeeper(tmp_path, NodeStore(tmp_path / "node.sqlite"), tmp_path / "policy.toml")
        verdicts[number] = admitted(keeper, "run" if same_run else f"run-{number}", make_task(privacy=noisy()))

    Gatekeeper(tmp_path, NodeStore(tmp_path / "node.sqlite"), tmp_path / "policy.toml").close()
    threads = [threading.Thread(target=process, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # The same run twice is one reservation; two runs are one too many.
    assert sorted(verdicts.values()) == (["", ""] if same_run else ["", "policy.budget"])


def keeper_with(folder: Path, policy: str) -> Gatekeeper:
    (folder / "policy.toml").write_text(policy)
    return Gatekeeper(folder, NodeStore(folder / "node.sqlite"), folder / "policy.toml")


SECOND = {
    "seed": lambda task: replace(task, seed=99),
    "learning rate": lambda task: replace(task, training=replace(task.training, learning_rate=0.25)),
    "rounds": lambda task: replace(task, training=replace(task.training, rounds=2)),
    "name": lambda task: replace(task, name="quite another study"),
    "model": lambda task: replace(task, model={"kind": "mlp", "hidden": [4]}),
    "codec": lambda task: replace(task, codec="int8"),
}


@pytest.mark.parametrize("change", SECOND)
def test_a_task_that_was_changed_a_little_spends_the_same_tasks_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    monkeypatch.setattr(accountant, "epsilons_apart", lambda sets, delta: [float(len(runs)) for runs in sets])
    keeper = keeper_with(tmp_path, "[budget]\nepsilon_task = 1.5\n")
    task = make_task(privacy=noisy())
    assert admitted(keeper, "first", task) == ""
    assert admitted(keeper, "second", SECOND[change](task)) == "policy.budget"


def test_a_run_without_privacy_spends_everything(tmp_path: Path) -> None:
    policy = '[budget]\nepsilon_total = 1000\n[require]\nunits = ["none", "record"]\nstages = []\n'
    keeper = keeper_with(tmp_path, policy)
    bare = make_task(privacy=Privacy(unit="none"))
    assert admitted(keeper, "bare", bare) == "policy.budget"
    # Accepted while nothing was limited, it counts all the same when something is.
    (tmp_path / "policy.toml").write_text(policy.replace("epsilon_total = 1000", ""))
    assert admitted(keeper, "bare", bare) == ""
    (tmp_path / "policy.toml").write_text(policy)
    assert admitted(keeper, "later", make_task(privacy=noisy())) == "policy.budget"


CLAIMS: Dict[str, Task] = {
    "one round": make_task(privacy=noisy(noise_multiplier=0.7)),
    "many rounds": make_task(
        training=Training("fedavg", rounds=30, local_steps=3, learning_rate=0.1, parameters=PARAMETERS),
        privacy=noisy(noise_multiplier=1.5, sampling_rate=0.1),
    ),
    "statistics": make_task(
        make_schema(standardization="federated"), privacy=noisy(statistics_clip_norm=0.9, noise_multiplier=2.0)
    ),
    "evaluation": make_task(evaluation=Evaluation(share=0.3), privacy=noisy(evaluation_noise_multiplier=0.8)),
    "patients": make_task(privacy=noisy(unit="patient", noise_multiplier=1.0, count_noise_multiplier=2.0)),
    "skellam": make_task(privacy=noisy(mechanism="skellam", noise_multiplier=0.9)),
    "shares": make_task(
        privacy=noisy(noise="distributed", noise_multiplier=1.0),
        aggregation=Aggregation("masked", honest=5),
        rounds=Rounds(nodes=5, quorum=5),
    ),
    "nodes": make_task(privacy=noisy(unit="node", noise_multiplier=1.2, delta=DELTA)),
}


def test_the_nodes_epsilon_is_never_below_what_it_is_shown(tmp_path: Path) -> None:
    """With the grid's correction, for every kind of release; a coarser accountant may only say more."""
    sets = [[reservation_of(name, digest_of(task_to_dict(task), GRAPH), task)] for name, task in CLAIMS.items()]
    counted = dict(zip(CLAIMS, accountant.epsilons_apart(sets, DELTA)))
    shown = {name: epsilon_spent(task) for name, task in CLAIMS.items()}
    below = {name: (counted[name], shown[name]) for name in CLAIMS if counted[name] < shown[name] - 1e-6}
    assert below == {}
    assert all(counted[name] <= 1.1 * shown[name] + 0.1 for name in CLAIMS), (counted, shown)


ABSURD: Dict[str, Task] = {
    "tiny noise, many steps": make_task(
        training=Training("fedavg", rounds=2_000_000_000, local_steps=1000, learning_rate=0.1, parameters=PARAMETERS),
        privacy=noisy(noise_multiplier=0.05, sampling_rate=0.001),
    ),
    "no room for a grid": make_task(privacy=noisy(noise_multiplier=1e-300)),
    "a large model": make_task(
        training=Training("fedsgd", rounds=1, learning_rate=1.0, parameters=10**18), privacy=noisy()
    ),
}


@pytest.fixture(scope="module")
def counting(victim: Victim) -> Attack:
    rows = [(*(0.01 * ((i * k) % 40) for k in (1, 3, 7)), i % 2, f"p{i}") for i in range(40)]
    policy = f"[budget]\nepsilon_total = 1\ndelta = {DELTA}\n[require]\nstages = []\n"
    return victim(csv_of([*(f"x{i}" for i in range(INPUTS)), "y", "who"], rows), policy)


@pytest.mark.parametrize("name", ["noise_multiplier", "statistics_clip_norm", "clip_norm", "count_noise_multiplier"])
def test_a_number_no_task_has_a_use_for_is_declined(counting: Attack, name: str) -> None:
    """1e300 is a float, and its square is not: it must be refused before anybody computes with it."""
    gateway, node = counting
    declared = task_to_dict(make_task(privacy=noisy()))
    declared["privacy"][name] = 1e300
    verdict = gateway.offer(node.name, f"huge-{name}", declared)
    assert verdict["kind"] == "declined"
    assert verdict["code"] == "task"
    assert node.alive


@pytest.mark.parametrize("name", list(ABSURD))
def test_an_absurd_declaration_is_declined_and_the_node_goes_on(counting: Attack, name: str) -> None:
    """However long the accountant would like to think: there is an answer, it is no, and the next task is answered too."""
    gateway, node = counting
    if gateway.seen(node.name) is None:
        counting.restart()
    verdict = gateway.offer(node.name, f"absurd-{name.replace(' ', '-').replace(',', '')}", ABSURD[name])
    assert verdict["kind"] == "declined"
    assert verdict["code"] in ("policy.budget", "policy.accountant", "claim", "task", "graph")
    assert node.alive


TERMINAL = "study\x1b[2J\x1b]0;title\x07\r\n2026-01-01 ERROR forged line\u202eabc\x9b"


def test_control_characters_of_a_task_reach_no_terminal(victim: Victim) -> None:
    """Names and classes are shown to the owner in logs and commands. Whether the task is declined for them or waits for the
    owner, what is shown is lines of printable characters, and none of them is the gateway's."""
    gateway, node = victim("x0,y\n", "[approval]\nrequired = true\n")
    schema = make_schema(classes=(f"no{TERMINAL}", "yes"), label=f"y{TERMINAL}")
    task = replace(make_task(schema, privacy=noisy()), name=TERMINAL, model={"kind": f"mlp{TERMINAL}", "hidden": []})
    verdict = gateway.offer(node.name, "evil", task)
    assert verdict["kind"] in ("waiting", "declined")
    digest = verdict.get("digest", "0" * 64)
    shown: List[Optional[str]] = [node.log]
    for words in (("approvals",), ("approvals", "--json"), ("approve", digest[:16]), ("ledger", "--delta", "1e-5")):
        done = node.command(*words)
        shown += [done.stdout, done.stderr]
    text = "".join(part or "" for part in shown)
    assert [c for c in text if not c.isprintable() and c != "\n"] == []
    assert not any(line.startswith("2026-01-01 ERROR forged") for line in text.splitlines())
    assert isinstance(json.loads(node.command("approvals", "--json").stdout), (list, dict))

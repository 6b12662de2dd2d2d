"""Tasks of every shape in every view: each method, strategy, unit and analysis, as the privacy core's tests declare them."""

import importlib.util
import json
import sys
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple

import numpy as np
import pytest
from stage import Stage, gateway_at_work

from orchestrator.errors import EdgewardError
from orchestrator.gateway.store import Store
from orchestrator.gateway.web import epsilon
from orchestrator.gateway.web.delivered import compared
from orchestrator.gateway.web.listener import Listener
from orchestrator.gateway.web.metrics import render
from orchestrator.gateway.web.model import DashboardModel
from orchestrator.rounds.events import Joined, Started
from orchestrator.wire.task import Task, task_to_dict

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
STATED = {name: task.get("statement") for name, task in json.loads((GOLDEN / "tasks.json").read_text()).items()}
NODES = {f"n{number}": 400 for number in range(6)}
SLIPS = r"/\bundefined\b|\[object |\bnull\b|\bNone\b(?! is done)/.exec(document.body.innerText)?.[0]"


class Runs(NamedTuple):
    out: Path
    tasks: Dict[str, Task]


def declared() -> Iterator[Task]:
    """Those that are not refused."""
    spec = importlib.util.spec_from_file_location("golden_tasks", GOLDEN / "tasks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    vars(module)["PLANNED"] = ()  # no noise is planned: it takes long
    for task in module.declared():
        try:
            yield module.planned(task)
        except EdgewardError:
            continue


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """One run of each task, in its first round; the tasks by run."""
    out = tmp_path_factory.mktemp("tasks")
    store, tasks, at = Store(out / "gateway.sqlite"), {}, time.time()
    store.database.execute("PRAGMA synchronous = OFF")  # eight commits a run
    for number, task in enumerate(declared()):
        run = f"{task.name.replace(' ', '-')}-{number:08x}"
        tasks[run] = task
        store.create_run(run, task_to_dict(task), b"graph", np.zeros(5, np.float32))
        store.append(run, Started(at))
        holder = [task.aggregation.key_holder] if task.aggregation.key_holder else []
        for node in [*NODES, *holder]:
            store.append(run, Joined(at, node, NODES.get(node, 0)))
        first = task.stages.first
        figures = {"bytes_up": 2, "bytes_down": 3, "seconds": 0.5, "codec_error": None, "nodes": list(NODES)}
        store.put_result(run, first, {"round": first, "updates": 6, **figures})
    store.close()
    return Runs(out, tasks)


class AtOnce:
    """In place of the accountant's thread."""

    def __init__(self, *_: Any) -> None:
        pass

    def submit(self, ask: Callable[..., Any], *question: Any) -> "Future[Any]":
        answer: Future[Any] = Future()
        answer.set_result(ask(*question))
        return answer

    def shutdown(self, **_: Any) -> None:
        pass


@pytest.fixture
def accounted(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The accountant answers at once, with what is stated of the task."""

    def curve(task: Task, *_: Any) -> Dict[str, Any]:
        points = [[number, task.privacy.epsilon * (number + 1) / 20] for number in range(10)]
        return {"points": points, "statement": STATED[task.name]}

    monkeypatch.setattr(epsilon, "curve_apart", curve)
    monkeypatch.setattr(epsilon, "ThreadPoolExecutor", AtOnce)


def test_every_task_has_a_page_a_comparison_and_metrics(runs: Runs, accounted: None) -> None:
    model = DashboardModel(runs.out, "test", Listener(None, "test"))
    views = {run: model.view(run) for run in runs.tasks}
    whole = model.sections()
    for run, view in views.items():
        assert view is not None
        assert f'edgeward_run_phase{{run="{run}",phase="interrupted"}} 1' in render({**whole, **model.run(view)}, {})
        page = model.statement(view)
        assert page["blocks"], run
        assert (page["made"] == "model") == runs.tasks[run].trains
        rows = {row["name"]: row["values"] for row in compared([(view, None)])["figures"]}
        assert (rows["weights delivered"] == [None]) == (not runs.tasks[run].trains), run
        node = model.node(view, "n0")
        assert node is not None
        assert ("No figures" in node["held_back"]) == runs.tasks[run].trains
    model.close()


def test_every_task_is_drawn(stage: Stage, runs: Runs, accounted: None) -> None:
    page, wrong = stage.browser, []
    with gateway_at_work(runs.out), stage.showing(runs.out):
        for run in runs.tasks:
            page.evaluate(f"location.hash = '#run/{run}'")
            page.wait(f"document.querySelector('#overview .heading')?.innerText.includes('run {run},')", 60)
            private = "#privacy-more" if runs.tasks[run].privacy.on else "#privacy .note-box"
            page.wait(f"document.querySelector('{private}')", 60)
            page.evaluate("document.querySelectorAll('details').forEach((more) => { more.open = true; })")
            wrong += [(run, slip) for slip in [page.evaluate(SLIPS)] if slip]
        chosen: List[str] = [run for run in runs.tasks if "private" in run][::3][:6]  # so many are compared at a time
        page.evaluate(f"location.hash = '#runs?every=1&choose={','.join(chosen)}'")
        page.wait(f"document.querySelectorAll('#compared thead th').length === {len(chosen) + 1}", 60)
        wrong += [("compared", slip) for slip in [page.evaluate(SLIPS)] if slip]
    assert wrong == []

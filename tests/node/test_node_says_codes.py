"""A node between its data and its gateway: it decides before it opens them, and says codes and noised counts only."""

import ast
import dataclasses
import logging
import re
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any, Dict, List, Optional, Type
from unittest.mock import Mock

import numpy as np
import pytest
from agent_at_post import AtPost
from graph_samples import softmax_regression
from test_policy import make_task

from orchestrator import errors
from orchestrator.data.dataset import load_dataset
from orchestrator.errors import DataError
from orchestrator.node import opening as opening_module
from orchestrator.node import tasks as tasks_module
from orchestrator.node.agent import NodeAgent
from orchestrator.node.contribution import Contributor
from orchestrator.node.run import TrainerFactory
from orchestrator.node.store import NodeStore
from orchestrator.node.trainer import GradientTrainer
from orchestrator.wire.post import Post
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.refusals import TEXTS, UNKNOWN, code_in, text_of
from orchestrator.wire.task import Evaluation, Rounds, Task, task_to_dict
from orchestrator.wire.training import Training

SECRET = "Zwqx7431"
"""In a cell, a label, a header and a patient's name of the data; in no message of the node."""
SECRET_COUNT = 347
PLAIN = {"aggregation": Aggregation(), "rounds": Rounds(nodes=1, quorum=1), "evaluation": Evaluation(0.0)}


def ungraphed(*arguments: Any) -> GradientTrainer:
    """A trainer whose graph no node looks at before it opens its data, since these tests have no graph."""
    return GradientTrainer(*arguments)


class Node(AtPost[NodeAgent]):
    """A node with a table, at a broker within this process."""

    def __init__(
        self,
        folder: Path,
        rows: str = "",
        policy: str = "",
        header: str = "x,y,p",
        data: Optional[Path] = None,
        trainer: TrainerFactory = ungraphed,
    ) -> None:
        """data: in place of a table of these rows."""
        self.data = folder / "data.csv" if data is None else data
        if data is None:
            self.data.write_text(f"{header}\n{rows}")
        self.state = folder / "state"
        path: Optional[Path] = None
        if policy:
            path = folder / "policy.toml"
            path.write_text(policy)
        super().__init__(NodeAgent(Post(), "test", "n", self.data, self.state, trainer, policy=path))

    def asked(self, task: Task, run: str = "run", graph: bytes = b"\0", **declared: Any) -> Dict[str, Any]:
        """What it says of a task."""
        header = {"kind": "task", "run": run, "task": {**task_to_dict(task), **declared}}
        ((said, _),) = self.hear(header, {"graph": np.frombuffer(graph, np.uint8)})
        return said

    def said(self) -> List[Dict[str, Any]]:
        return [header for header, _ in self.heard]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> List[Path]:
    """Files a node opened for a task."""
    found: List[Path] = []
    real = load_dataset

    def load(path: Path, *rest: Any) -> Any:
        found.append(path)
        return real(path, *rest)

    monkeypatch.setattr(opening_module, "load_dataset", load)
    return found


def good(count: int = SECRET_COUNT) -> str:
    return "".join(f"0.5,{n % 2},p{n // 3}\n" for n in range(count))


def private(**changes: Any) -> Task:
    return make_task(**{**PLAIN, "privacy": Privacy(noise_multiplier=2.0), **changes})


EVALUATED = Privacy(noise_multiplier=2.0, evaluation_noise_multiplier=2.0)
STRICT = "[require]\nunits = ['record']\nstages = ['noise']\n"


@pytest.mark.parametrize(
    ("policy", "task", "code"),
    [
        (STRICT, private(privacy=Privacy(unit="node", noise_multiplier=2.0)), "policy.unit"),
        (STRICT, private(privacy=Privacy()), "claim"),
        (STRICT + "[allow]\ntasks = ['stroke']\n", private(), "policy.task"),
        (STRICT + "[allow]\nsigners = ['0123456789abcdef']\n", private(), "policy.signer"),
        (STRICT + "[approval]\nrequired = true\n", private(), "policy.approval"),
        ("nonsense = 1\n", private(), "policy.unreadable"),
        (
            STRICT,
            private(training=Training("fedmagic")),
            "task",
        ),  # of a newer version: nodes' half of it would be left out
    ],
)
def test_data_are_not_opened_for_a_task_that_is_not_accepted(
    tmp_path: Path, opened: List[Path], policy: str, task: Task, code: str
) -> None:
    readable = policy if policy != "nonsense = 1\n" else STRICT
    node = Node(tmp_path, f"{SECRET},0,p\n", readable)
    (tmp_path / "policy.toml").write_text(policy)
    said = node.asked(task)
    assert (said["kind"], said["code"]) == ("waiting" if code == "policy.approval" else "declined", code)
    assert opened == []
    assert SECRET not in repr(node.said())


def test_the_owner_alone_hears_how_many_values_were_clamped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the gateway gets has the same fields whether all values are beyond the range or none, and no word of the shares."""
    monkeypatch.setattr(opening_module, "admit_graph", lambda *_: None)
    said = []
    for beyond, value in enumerate(("0.5", "79.25")):
        (tmp_path / value).mkdir()
        node = Node(tmp_path / value, "".join(f"{value},{n % 2},p\n" for n in range(300)) + "0.5,0,p\n")
        caplog.clear()
        with caplog.at_level(logging.INFO, "edgeward.node"):
            answer = node.asked(private())
        warned = [r.getMessage() for r in caplog.records if "are beyond the task's range" in r.getMessage()]
        assert len(warned) == beyond
        assert all("column 'x': 300 of 301 values (99.67%)" in text for text in warned)
        said.append({key: type(field) for key, field in answer.items()})
        assert answer["kind"] == "ready"
        assert not [text for text in ("79.25", "range", "99.67") if text in repr(node.said())]
    assert said[0] == said[1]


def test_the_owner_alone_hears_how_many_rows_were_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening_module, "admit_graph", lambda *_: None)
    task, fields = private(), []
    task = dataclasses.replace(task, schema=dataclasses.replace(task.schema, drop_missing=True))
    for name, more in (("none", ""), ("some", ",0,p\n" * 77)):
        (tmp_path / name).mkdir()
        node = Node(tmp_path / name, good() + more)
        caplog.clear()
        answer = node.asked(task)
        told = [r.getMessage() for r in caplog.records if "left out" in r.getMessage()]
        assert told == ["run run: 77 rows without a used value are left out"] * bool(more)
        assert answer["kind"] == "ready"
        assert "left out" not in repr(node.said())
        fields.append({key: type(value) for key, value in answer.items()})
    assert fields[0] == fields[1]


def test_a_machine_that_starts_no_process_for_a_graph_declines_and_lives(
    tmp_path: Path, opened: List[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise BlockingIOError(11, f"no more processes {SECRET}")

    node = Node(tmp_path, good(6), trainer=GradientTrainer)
    monkeypatch.setattr(subprocess, "Popen", full)
    said = node.asked(private(), graph=softmax_regression(1, 2))
    assert (said["kind"], said["code"], opened) == ("declined", "internal", [])
    assert SECRET not in repr(node.said())
    assert node.agent.store.graphs() == [], "the graph is not blamed"


def test_data_are_not_opened_for_a_run_that_was_closed_or_is_another_tasks(tmp_path: Path, opened: List[Path]) -> None:
    node = Node(tmp_path, good())
    assert node.asked(private())["kind"] == "ready"
    assert len(opened) == 1
    assert node.asked(private(seed=5))["code"] == "ledger.run"
    node.agent.gatekeeper.ledger.close_run("run")
    assert node.asked(private())["code"] == "ledger.run"
    assert len(opened) == 1


@pytest.mark.parametrize(
    ("rows", "header", "task"),
    [
        (f"{SECRET},0,p\n", "x,y,p", private()),  # a cell
        (f"0.5,{SECRET},p\n", "x,y,p", private()),  # a label
        ("0.5,0,p\n", f"{SECRET},y,p", private()),  # a header
        ("0.5,0,\n", "x,y,p", private()),  # a patient without a name
        (f"0.5,0,p,{SECRET}\n", "x,y,p", private()),
        (f'"{SECRET},0,p\n', "x,y,p", private()),
        ("", "x,y,p", private()),
        (good(), "x,y,p", private(privacy=Privacy(noise_multiplier=2.0, delta=10 / SECRET_COUNT))),
        ("0.5,0,p\n", "x,y,p", private(evaluation=Evaluation(0.5), privacy=EVALUATED)),
    ],
)
def test_whatever_does_not_fit_is_one_code_and_the_details_stay_in_the_nodes_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, rows: str, header: str, task: Task
) -> None:
    node = Node(tmp_path, rows, header=header)
    said = node.asked(task)
    assert (said["kind"], said["code"]) == ("declined", "data")
    fields = {"kind", "run", "code", "node", "ledger", "process", "labels", "health", "instance"}
    assert set(said) == fields, "nothing else comes with it"
    (reason,) = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert re.search(r"data\.csv|not below 1/units|cannot be split", reason)
    for part in (SECRET, "data.csv", "column", "split"):
        assert part not in repr(said)
    assert SECRET_COUNT not in numbers_in(said)
    again = node.asked(task)
    assert (again["kind"], again["code"]) == ("declined", "data"), "the same answer to the same question"
    assert node.agent.runs.at.run is None
    assert all(known.closed for known in node.agent.gatekeeper.ledger.reservations()), "nothing stays reserved"


def numbers_in(value: Any) -> List[Any]:
    """All that stands anywhere in a message."""
    return [found for one in value.values() for found in numbers_in(one)] if isinstance(value, dict) else [value]


def test_answers_of_tasks_whose_data_were_opened_all_look_alike(tmp_path: Path) -> None:
    """Yes and no apart: of the noes nobody can tell one from another."""
    said = []
    for number, rows in enumerate((f"{SECRET},0,p\n", f"0.5,{SECRET},p\n", "", "0.5,0,p,4\n")):
        (tmp_path / str(number)).mkdir()
        answer = Node(tmp_path / str(number), rows).asked(private())
        said.append({name: answer[name] for name in ("kind", "run", "code", "node", "labels")})
    assert said == [said[0]] * 4


def test_how_long_reading_took_is_said_in_quarters_of_a_second_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, slept = [100.0], []

    class Clock:
        time = staticmethod(lambda: 1e9)
        monotonic = staticmethod(lambda: now[0])

        @staticmethod
        def sleep(seconds: float) -> None:
            slept.append(seconds)
            now[0] += seconds

    real = load_dataset

    def slow(*arguments: Any) -> Any:
        now[0] += took
        return real(*arguments)

    node = Node(tmp_path, good())
    monkeypatch.setattr(tasks_module, "time", Clock)
    monkeypatch.setattr(opening_module, "time", Clock)
    monkeypatch.setattr(opening_module, "load_dataset", slow)
    for took, rows in ((0.01, good()), (0.2, f"{SECRET},0,p\n"), (0.26, good()), (1.6, f"{SECRET},0,p\n")):
        node.data.write_text("x,y,p\n" + rows)
        begun = now[0]
        node.asked(private(), run=f"run-{took}")
        steps = (now[0] - begun) / opening_module.LOOK_S
        assert steps == pytest.approx(round(steps), abs=1e-6)
        assert steps >= 1


def test_the_same_question_is_answered_without_looking_again(tmp_path: Path, opened: List[Path]) -> None:
    """What its time says beside yes or no would grow with each try."""
    node = Node(tmp_path, f"{SECRET},0,p\n")
    assert [node.asked(private(), run=f"run-{i}")["code"] for i in range(3)] == ["data"] * 3
    assert len(opened) == 1
    node.data.write_text("x,y,p\n" + good())
    assert node.asked(private(), run="run-4")["kind"] == "ready"


def test_a_file_that_could_not_be_read_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rights and disks are put right without a change of the file."""
    node = Node(tmp_path, good())

    def denied(path: Path, *_: Any) -> None:
        raise DataError(f"{path}: Permission denied") from PermissionError(13, "Permission denied")

    with monkeypatch.context() as now:
        now.setattr(opening_module, "load_dataset", denied)
        assert node.asked(private(), run="run-1")["code"] == "data"
    assert node.asked(private(), run="run-2")["kind"] == "ready"


def test_a_node_that_began_again_declines_with_the_same_code(tmp_path: Path) -> None:
    """The ledger has the run closed by then, and not by its owner."""
    task = private(privacy=Privacy(noise_multiplier=2.0, delta=10 / SECRET_COUNT))
    first = Node(tmp_path, good())
    assert first.asked(task)["code"] == "data"
    first.agent.close()
    assert Node(tmp_path, good()).asked(task)["code"] == "data"


def test_too_little_memory_is_a_code_and_the_node_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(tmp_path, good())
    with monkeypatch.context() as short:
        short.setattr(opening_module, "load_dataset", lambda *_: np.zeros(1 << 50))
        assert node.asked(private(), run="run-1")["code"] == "data"
    assert node.asked(private(), run="run-2")["kind"] == "ready"
    monkeypatch.setattr(Contributor, "open_answer", lambda *_: np.zeros(1 << 50))
    ((said, _),) = node.hear({"kind": "round", "run": "run-2", "round": 1})
    assert (said["kind"], said["code"]) == ("refused", "internal")


def test_a_node_that_joins_states_a_count_that_is_charged_and_its_own_only_in_its_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("orchestrator.node.gatekeeper.noised_count", lambda task, units, random: units + 16)
    node = Node(tmp_path, good())
    said = node.asked(private())
    assert (said["kind"], said["records"], said["units"]) == ("ready", SECRET_COUNT + 16, SECRET_COUNT + 16)
    assert f"{SECRET_COUNT} records, stated as {SECRET_COUNT + 16}" in caplog.text
    (known,) = node.agent.gatekeeper.ledger.reservations()
    assert known.used == {"count": 1}
    assert said["ledger"]["entries"] == 3, "it joins with the ledger that has the charge"
    monkeypatch.setattr("orchestrator.node.gatekeeper.noised_count", lambda *_: 1)
    assert node.asked(private())["records"] == SECRET_COUNT + 16
    patients = private(privacy=Privacy(unit="patient", noise_multiplier=2.0))
    monkeypatch.setattr("orchestrator.node.gatekeeper.noised_count", lambda task, units, random: units)
    assert node.asked(patients, run="patients")["records"] == len({n // 3 for n in range(SECRET_COUNT)})
    assert node.asked(private(privacy=Privacy(unit="node", noise_multiplier=2.0)), run="node")["records"] == 1


def test_rounds_refused_and_sums_abstained_from_carry_codes_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    node = Node(tmp_path, good())
    masked = {"rounds": Rounds(nodes=3, quorum=3), "aggregation": Aggregation("masked")}
    assert node.asked(private(privacy=Privacy(noise_multiplier=2.0, noise="distributed"), **masked))["kind"] == "ready"
    assert node.hear({"kind": SECRET}) == [({"kind": "refused", "node": "n", "code": "message"}, {})]

    about: Dict[str, Any] = {"run": "run", "round": 1}
    secret = errors.WireError(f"a value of {SECRET}")
    for attempt, (error, code) in enumerate(((errors.PrivacyError(f"a norm of {SECRET}"), "sum"), (secret, "message"))):
        header, node.agent.peers.sign = {**about, "attempt": attempt + 2}, Mock(side_effect=error)
        assert node.hear({"kind": "round", **header}) == [({"kind": "abstain", **header, "code": code}, {})]
    header = {**about, "attempt": 9}
    said = node.hear({"kind": "step", **header, "step": "masked"})
    assert said == [({"kind": "abstain", **header, "code": "sum.keys"}, {})]
    assert caplog.text.count(SECRET) == 3


# The list of codes


def error_classes(base: Type[errors.EdgewardError]) -> List[Type[errors.EdgewardError]]:
    found = [base]
    for child in base.__subclasses__():
        found += error_classes(child)
    return found


def test_every_error_has_a_code_of_the_list() -> None:
    for kind in error_classes(errors.EdgewardError):
        assert kind.code in TEXTS, kind
        maker = next(each for each in kind.__mro__ if "__init__" in vars(each))
        if maker is not errors.EdgewardError:  # made from something else than a text
            continue
        assert kind("why").code in TEXTS, kind
        assert str(kind("why", "data")) == "why"
        assert kind("why", "data").code == "data"


def test_every_code_that_the_product_names_is_on_the_list() -> None:
    """Refusal("..."), Error(..., "..."), code="...": a code that is not on it would reach people as "unknown"."""
    root = Path(opening_module.__file__).parents[1]
    named = {
        (path.name, code)
        for folder in ("node", "gateway", "wire", "rounds", "privacy")
        for path in (root / folder).rglob("*.py")
        for code in codes_in(ast.parse(path.read_text()))
    }
    assert len(named) > 20
    assert {(where, code) for where, code in named if code not in TEXTS} == set()


def codes_in(tree: ast.AST) -> List[str]:
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        given = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
        if name == "Refusal":
            given += node.args[:1]
        elif name.endswith("Error") and len(node.args) == 2:
            given += node.args[1:]
        found += [value.value for value in given if isinstance(value, ast.Constant) and isinstance(value.value, str)]
    return found


@pytest.mark.parametrize("code", ["", "nonsense", SECRET, 5, None, ["data"], {"data": 1}, "data ", "DATA"])
def test_a_gateway_reads_nothing_else(code: Any) -> None:
    assert code_in({"code": code, "reason": SECRET}) == UNKNOWN
    assert text_of(UNKNOWN) == "for a reason this version does not know"
    assert code_in({"reason": SECRET}) == UNKNOWN
    assert code_in({"code": "data"}) == "data"


def test_no_text_says_what_it_depends_on() -> None:
    """One sentence a code, without a place for anything to be put in."""
    assert all(not re.search(r"[{}%<>]|\d", text) for text in TEXTS.values())
    assert len(set(TEXTS.values())) == len(TEXTS)


def test_tries_noted_while_the_clock_was_ahead_count_for_a_day_and_not_for_years(tmp_path: Path) -> None:
    """Nor does a clock that is put back forget them."""
    store, now, day = NodeStore(tmp_path / "node.sqlite"), 1_800_000_000.0, 86400.0
    assert store.may_look("ahead", now + 5 * 365 * day, 1)
    assert not store.may_look("b", now, 1)
    assert not store.may_look("b", now + 0.9 * day, 1)
    assert store.may_look("b", now + 1.1 * day, 1)
    store.close()


def test_stores_of_other_versions_gain_the_tables(tmp_path: Path) -> None:
    store = NodeStore(tmp_path / "node.sqlite")
    store.close()
    with closing(sqlite3.connect(tmp_path / "node.sqlite")) as database:
        database.execute("DROP TABLE counts")
        database.execute("DROP TABLE looks")
    store = NodeStore(tmp_path / "node.sqlite")
    assert store.counted("run", "digest") is None
    assert store.may_look("a", 0.0, 1)

"""What `edgeward init` writes for a node with the table: a policy that lets the drafted task through, and a description."""

import io
import json
import sys
import time
from pathlib import Path
from typing import List, Union

import pytest
from messy_table import NAMES, rows

from orchestrator.cli.main import main
from orchestrator.data.dataset import load_dataset
from orchestrator.gateway.config import load_config
from orchestrator.node.figures import MemoryFigures
from orchestrator.node.gatekeeper import Gatekeeper, Verdict
from orchestrator.node.opening import Opening, Question
from orchestrator.node.policy import load_policy
from orchestrator.node.run import Run
from orchestrator.node.store import NodeStore
from orchestrator.privacy.accounting import plan_noise
from orchestrator.wire.task import Task, digest_of, task_to_dict

FILES = ("edgeward.toml", "policy.toml", "ward.toml")


def write(path: Path, german: bool = False) -> Path:
    """german: with semicolons, decimal commas, and in cp1252."""
    lines = [NAMES.split(","), *rows()]
    cells = (
        [[cell.replace(".", ",").replace("night", "nächtens") for cell in line] for line in lines] if german else lines
    )
    text = "\n".join((";" if german else ",").join(line) for line in cells) + "\n"
    path.write_bytes(text.encode("cp1252" if german else "utf-8"))
    return path


def init(folder: Path, *options: str) -> int:
    return main(["init", str(folder / "r.csv"), "--out", str(folder / "edgeward.toml"), *options])


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, *typed: str) -> None:
    terminal = io.StringIO("".join(f"{line}\n" for line in typed))
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdin", terminal)


def written(folder: Path) -> List[str]:
    return [(folder / name).read_text() for name in FILES]


def asked(folder: Path, task: Task) -> Union[Run, Verdict]:
    """What a node says that was started with the two files."""
    store = NodeStore(folder / "node.sqlite")
    keeper = Gatekeeper(folder, store, folder / "policy.toml")
    store.before_release = keeper.charge
    declared = task_to_dict(task)
    try:
        question = Question("one", task, declared, b"graph", 0, time.monotonic(), digest_of(declared, b"graph"))
        refused = keeper.consider("one", task, declared, b"graph")
        opening = Opening(folder / "ward.toml", store, keeper, MemoryFigures(lambda: []), False)
        return opening.open(question) if refused is None else refused
    finally:
        keeper.close()
        store.close()


@pytest.mark.parametrize("patient", [True, False])
def test_a_node_with_both_files_takes_part_in_the_drafted_task(tmp_path: Path, patient: bool) -> None:
    path = write(tmp_path / "r.csv", german=True)
    if not patient:
        path.write_bytes(path.read_bytes().replace(b"pat_id", b"bed"))
    assert init(tmp_path, "--label", "sepsis") == 0
    task = load_config(tmp_path / "edgeward.toml").task
    assert task.privacy.unit == ("patient" if patient else "record")
    found = asked(tmp_path, plan_noise(task))
    assert isinstance(found, Run), found
    assert found.dataset.records == 239


@pytest.mark.parametrize("german", [True, False])
def test_a_table_through_its_description_is_what_the_plain_one_is(tmp_path: Path, german: bool) -> None:
    write(tmp_path / "r.csv")
    assert init(tmp_path, "--label", "sepsis") == 0
    schema = load_config(tmp_path / "edgeward.toml").task.schema
    plain = load_dataset(tmp_path / "r.csv", schema)
    write(tmp_path / "r.csv", german)
    assert init(tmp_path, "--label", "sepsis", "--force") == 0
    assert load_dataset(tmp_path / "ward.toml", schema).digest() == plain.digest()
    assert 'missing = ["n/a"]' in (tmp_path / "ward.toml").read_text()
    assert '"none"' not in (tmp_path / "ward.toml").read_text(), "a level, and no sign of a missing value"


def test_each_line_says_what_it_is_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "r.csv", german=True)
    assert init(tmp_path, "--label", "sepsis", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert [Path(said[key]).name for key in ("config", "policy", "description")] == list(FILES)
    assert "--data ward.toml --policy policy.toml" in said["next"][-1].replace(str(tmp_path) + "/", "")
    for text in written(tmp_path)[1:]:
        assert "CONFIRM" in text.splitlines()[0] + text.splitlines()[1]
        for line in text.splitlines():
            assert not line or line.startswith(("#", "[")) or "  # " in line, line
    policy, _ = load_policy(tmp_path / "policy.toml")
    assert (policy.require.patient, policy.require.units, policy.allow.tasks) == ("pat_id", ("patient",), ("r",))
    assert (policy.require.stages, policy.require.minimum_cohort, policy.approval.required) == (("noise",), 2, False)
    assert 0 < policy.budget.epsilon_task <= policy.budget.epsilon_total / 2


@pytest.mark.parametrize("there", FILES)
def test_none_of_the_three_is_overwritten_unless_forced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], there: str
) -> None:
    write(tmp_path / "r.csv")
    (tmp_path / there).write_text("mine")
    assert init(tmp_path, "--label", "sepsis") == 2
    said = capsys.readouterr().err
    assert f"{there}: it exists, and is not overwritten" in said
    assert "--force" in said
    assert (tmp_path / there).read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["r.csv", there])
    assert init(tmp_path, "--label", "sepsis", "--force") == 0
    assert "mine" not in written(tmp_path)


def test_one_name_is_not_for_two_of_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "r.csv")
    assert main(["init", str(tmp_path / "r.csv"), "--label", "sepsis", "--out", str(tmp_path / "policy.toml")]) == 2
    assert "name another one" in capsys.readouterr().err


def test_enter_is_what_is_given_without_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "r.csv")
    assert init(tmp_path, "--label", "sepsis") == 0
    plain = written(tmp_path)
    assert "[" not in capsys.readouterr().err, "nothing is asked"
    on_a_terminal(monkeypatch, "", "", "", "", "")
    assert init(tmp_path, "--force") == 0
    said = capsys.readouterr().err
    assert written(tmp_path) == plain
    for question in ("be learned, by its number or name? [sepsis]", "have several? [pat_id]", "to take part? [3]"):
        assert question in said
    assert "spend of these data, 9 a task? [27]" in said
    assert "before it runs, yes or no? [no]" in said
    on_a_terminal(monkeypatch)
    assert init(tmp_path, "--force", "--label", "sepsis", "--yes") == 0
    assert "? [" not in capsys.readouterr().err
    assert written(tmp_path) == plain


def test_what_is_typed_is_what_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "r.csv")
    on_a_terminal(monkeypatch, "smoker", "visit id", "5", "12.5", "y")
    assert init(tmp_path) == 0
    task = load_config(tmp_path / "edgeward.toml").task
    assert (task.schema.label, task.schema.patient, task.rounds.nodes) == ("smoker", "visit id", 5)
    policy, _ = load_policy(tmp_path / "policy.toml")
    assert (policy.budget.epsilon_total, policy.approval.required) == (12.5, True)
    assert (policy.require.patient, policy.require.minimum_cohort) == ("visit id", 4)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (("sepsi",), "no such column, did you mean 'sepsis'?"),
        (("", "pat"), "--patient 'pat': no such column"),
        (("", "", "many"), "'many' is no number of nodes"),
        (("", "", "0"), "--nodes"),
        (("", "", "", "8"), "'8': the drafted task takes epsilon 9; nothing could run with less"),
        (("", "", "", "nan"), "nan: expected a number"),
        (("", "", "", "", "perhaps"), "'perhaps': yes or no is expected"),
    ],
)
def test_what_cannot_be_meant_is_one_error_and_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: List[str], said: str
) -> None:
    write(tmp_path / "r.csv")
    on_a_terminal(monkeypatch, *typed)
    assert init(tmp_path) == 2
    assert said in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["r.csv"]

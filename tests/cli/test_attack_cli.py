"""`edgeward attack` from a configuration file to table, JSON and exit code, with the real worker and runtime."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Iterator, List

import pytest
import tomli_w

import orchestrator.audit.run as run_module
from orchestrator.audit.broken import KINDS
from orchestrator.cli.attack import BROKEN_KINDS
from orchestrator.cli.main import main
from orchestrator.demo.tasks import Request, breast_cancer
from orchestrator.wire.task import Task, task_to_dict


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> List[str]:
    """edgeward.toml with its data beside it, and the command's first words."""
    out = tmp_path_factory.mktemp("audit")
    demo = breast_cancer(Request(2, 10, 1.0, 0, None, out))
    training = replace(demo.task.training, local_steps=1)
    privacy = replace(
        demo.task.privacy, delta=1e-3, noise_multiplier=3.0, statistics_noise_multiplier=8.0, statistics_clip_norm=2.7
    )
    # Its own noise may spend less than the budget: the claim is what is spent.
    plain = task_to_dict(replace(demo.task, training=training, privacy=replace(privacy, epsilon=1.5)))
    plain.pop("format")
    rows = {name: os.path.relpath(path, out) for name, path in demo.test_files.items()}
    (out / "edgeward.toml").write_text(tomli_w.dumps({"task": plain, "evaluation": rows}))
    files = [word for path in demo.node_files.values() for word in ("--data", str(path))]
    return ["attack", str(out / "edgeward.toml"), *files, "--canaries", "400"]


@pytest.fixture(scope="module", autouse=True)
def prepared_once() -> Iterator[pytest.MonkeyPatch]:
    """The worker takes seconds to start: it works for the first audit, and its result serves the next."""
    patch, real = pytest.MonkeyPatch(), run_module.prepare
    kept: List[Any] = []

    def once(task: Task, base: Path) -> run_module.Prepared:
        if not kept:
            kept.append(real(task, base))
        return kept[0]

    patch.setattr(run_module, "prepare", once)
    yield patch
    patch.undo()


def test_table_and_exit_code_of_an_honest_build(words: List[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "consistent with the claim" in shown
    assert "What this cannot show" in shown
    assert "A lower bound proves" in shown
    for attack in ("epsilon at", "membership", "inversion error", "noise"):
        assert attack in shown


def test_json_and_exit_code_of_a_broken_build(
    words: List[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([*words, "--broken", "clip-per-batch", "--json", "--plot", str(tmp_path / "x.svg")]) == 1
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert found["verdict"] == "CLAIM BROKEN"
    assert found["broken"] == "clip-per-batch"
    assert not found["canaries"]["measured"]["sensitivity"]["holds"]
    assert "<svg" in (tmp_path / "x.svg").read_text()


def test_mistakes_of_the_user(words: List[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--broken", "mask-reuse"]) == 2
    assert "has no masks" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--canaries", "3"])
    assert stopped.value.code == 2
    assert "at least 8" in capsys.readouterr().err


def test_every_broken_build_can_be_asked_for() -> None:
    """The command's help must not import the audit, so it has the list of its own."""
    assert tuple(KINDS) == BROKEN_KINDS


def test_its_old_name_is_understood(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "absent.toml", "--data", "absent.csv"]) == 2
    said = capsys.readouterr().err
    assert "`audit` is called `attack` now" in said
    assert "absent.toml" in said

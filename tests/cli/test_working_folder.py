"""Programs of ours that are started from a folder with anybody's token.py, json.py or orchestrator/ in it run none of these."""

import re
import subprocess
from pathlib import Path

import pytest

from model_export.client import run_worker
from model_export.errors import ExportError
from orchestrator.doctor.finding import OK
from orchestrator.doctor.software import check_runtime
from orchestrator.gateway.broker import OwnBroker
from orchestrator.node.accountant import epsilon_apart
from orchestrator.node.gatekeeper import reservation_of
from orchestrator.privacy.accounting_process import plan_apart
from orchestrator.wire.process import own_program
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Task

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("token", "json", "random", "queue", "select", "statistics", "numpy", "encodings", "asyncio", "logging", "uuid")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: what is in it ends any process that imports it."""
    monkeypatch.chdir(tmp_path)
    for package in ("orchestrator", "model_export"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(f"raise SystemExit('the {package} of the working folder')")
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('the {name} of the working folder')")
    return tmp_path


def test_a_command(folder: Path) -> None:
    done = subprocess.run(own_program("orchestrator.cli.main", "--version"), capture_output=True, text=True)
    assert re.fullmatch(r"edgeward \d.*\n", done.stdout), done.stderr


def test_both_accountants(folder: Path) -> None:
    schema = Schema("table", "y", ("no", "yes"), {"0": 0, "1": 1}, (Feature("age", 0, 110),))
    task = Task("study", schema, {"kind": "linear"}, privacy=Privacy(epsilon=2.0, delta=1e-3))
    planned, spent = plan_apart(task)
    assert spent is not None
    assert 1.5 < spent <= 2
    counted = epsilon_apart([reservation_of("a", "d", planned)], 1e-3)
    assert 1.5 < counted < 2.1


def test_the_runtime_and_the_broker(folder: Path) -> None:
    assert check_runtime().level == OK
    with OwnBroker("embedded"):
        pass


def test_the_worker_with_tensorflow(folder: Path) -> None:
    with pytest.raises(ExportError, match="usage"):
        run_worker("nothing", {}, folder / "out")


def test_none_of_our_programs_is_started_by_m() -> None:
    """Which has Python look in the working folder first."""
    for package in ("orchestrator", "model_export"):
        for path in (ROOT / package).rglob("*.py"):
            assert not re.search(r"sys\.executable[^)\]]*\"-m\"", path.read_text()), path

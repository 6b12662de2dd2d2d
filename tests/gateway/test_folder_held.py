"""A second gateway on a folder opens nothing: not the authority's database, not a port."""

import subprocess
import sys
from pathlib import Path
from typing import Any, List

import pytest
from stored_runs import make_task

from orchestrator.errors import UsageError
from orchestrator.gateway import federation
from orchestrator.gateway.settings import Config, GatewaySettings

HOLDING = """
import sys
from pathlib import Path
from orchestrator.gateway.running import Held
with Held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_nothing_is_opened_before_the_folder_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: List[str] = []

    def noted(what: str) -> Any:
        return lambda *_: opened.append(what)

    for name in ("_authority", "_broker", "_dashboard_settings", "Store"):
        monkeypatch.setattr(federation, name, noted(name))
    monkeypatch.setattr(federation, "check_config", lambda *_: None)
    config = Config(make_task(), GatewaySettings(identity="identity", dashboard="127.0.0.1:0"))
    command = [sys.executable, "-c", HOLDING, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        orchestrator = federation.Orchestrator(config, tmp_path, tmp_path, lambda event: None, 1.0)
        with pytest.raises(UsageError, match=f"process {other.pid} runs a gateway"), orchestrator:
            pass
    assert opened == []

"""A simulated run is called so on its page, before its first round and in one; a run among real nodes is not."""

import time
from pathlib import Path

import pytest
from dashboards import make_store
from stage import Stage, gateway_at_work

from orchestrator.gateway.simulated import keep_apart


@pytest.mark.parametrize("simulated", [True, False])
@pytest.mark.parametrize("begun", [-1, 2])
def test_a_simulated_run_is_called_so(stage: Stage, tmp_path: Path, simulated: bool, begun: int) -> None:
    keep_apart(tmp_path, simulated)
    with gateway_at_work(tmp_path):
        make_store(tmp_path, begun=begun, at=time.time())
        with stage.showing(tmp_path):
            page = stage.browser
            page.wait("document.querySelector('#phase')")
            assert stage.client.json("/api/overview")["gateway"]["simulated"] is simulated
            note = page.evaluate("document.querySelector('#simulated')?.innerText ?? ''")
            assert note.startswith("Simulated: all nodes ran in one process") is simulated
            assert bool(note) is simulated

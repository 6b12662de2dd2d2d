"""A second process under a name in use, with a state folder of its own, while a run is going on."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from harness import RECORDS, Harness, events, expected_weights, make_task, wait_for


def test_the_second_ends_with_a_message_and_the_run_is_the_first_one_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Harness(tmp_path, make_task(rounds=6, deadline_s=600.0)) as harness:
        gateway = harness.gateway()
        for name in ("a", "b"):
            harness.node(name, delay_s=0.3)
        wait_for(gateway, "joined")
        wait_for(gateway, "joined")
        hold = tmp_path / "hold"
        hold.touch()
        monkeypatch.setenv("FIXED_NODE_HOLD", str(hold))
        harness.node("c", delay_s=0.3)
        wait_for(gateway, "round", round=1)
        second = second_of(harness, "a")
        wait_for(gateway, "name_in_use")
        hold.unlink()
        kinds, weights = ["name_in_use"], None
        for event in events(gateway):
            kinds.append(event["event"])
            weights = event.get("weights", weights)
        assert second.wait(600) != 0
        assert "another node is here as 'a' and goes on" in (tmp_path / "a.log").read_text()
        assert kinds.count("name_in_use") == 1
        assert "declined" not in kinds
        assert gateway.wait(600) == 0
        cohort = sorted(RECORDS)[:3]
        np.testing.assert_array_equal(np.array(weights, np.float32), expected_weights([cohort] * 6))


def second_of(harness: Harness, name: str) -> "subprocess.Popen[str]":
    arguments = harness.node_arguments(name)
    arguments[3] = str(harness.folder / "elsewhere")
    return harness.start_script("fixed_node.py", [*arguments, "0.3"])

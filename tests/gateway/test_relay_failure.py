"""What a relay says when its region's gateway cannot go on."""

import errno
from pathlib import Path

import numpy as np
import pytest
from agent_at_post import AtPost, Below

from orchestrator.errors import EdgewardError, RoundError
from orchestrator.gateway.relay import Region, Relay
from orchestrator.wire.post import Post
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Task, task_to_dict
from orchestrator.wire.training import Training

SCHEMA = Schema("table", "y", ("a", "b"), {"0": 0, "1": 1}, (Feature("x", 0, 1),), standardization="range")
TASK = Task("t", SCHEMA, {"kind": "none"}, Training(), Privacy(unit="none"))


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "region/broker.pid"),
            "region/broker.pid: .*make room on that disk",
        ),
        (OSError(errno.EIO, "Input/output error", "region/broker.pid"), "region/broker.pid: .*look at the disk"),
        (RoundError("nobody came"), "the region's gateway failed: nobody came$"),
    ],
)
def test_the_failure_is_a_sentence_with_what_to_do(tmp_path: Path, failure: Exception, said: str) -> None:
    region = Region("test", Rounds(2, 2, provided=True))
    relay = AtPost(Relay(Post(), "test", "north", tmp_path, region, lower=Below({}, failure)))
    with pytest.raises(EdgewardError, match=said) as raised:
        relay.hear({"kind": "task", "run": "run", "task": task_to_dict(TASK)}, {"graph": np.zeros(1, np.uint8)})
    relay.agent.close()
    assert "Errno" not in str(raised.value)

"""A task with a model file, offered to a live node whose owner approves what comes."""

from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np
from agent_at_post import AtPost

from orchestrator.cli.main import main
from orchestrator.node.agent import NodeAgent
from orchestrator.wire.post import Post
from orchestrator.wire.task import Task, task_to_dict


def offered(
    folder: Path, task: Task, model: bytes, data: Optional[Path] = None, units: str = "none"
) -> List[Dict[str, Any]]:
    """What the node says, before and after its owner approved. Without `data` it says `data` where it would have opened them.

    units: that its policy accepts.
    """
    folder.mkdir(exist_ok=True)
    path = folder / "policy.toml"
    path.write_text(f'[approval]\nrequired = true\n[require]\nunits = ["{units}"]\nsteady = false\nstages = []\n')
    agent = NodeAgent(Post(), "f", "icu", data or folder / "none", folder / "state", policy=path)
    node, said = AtPost(agent), []
    header = {"kind": "task", "run": "one", "task": task_to_dict(task)}
    for _ in range(2):
        node.hear(header, {"graph": np.frombuffer(model, np.uint8)})
        said.append(node.presence())
        if said[-1]["kind"] != "waiting":
            break
        assert main(["node", "approve", said[-1]["digest"], "--state", str(folder / "state")]) == 0
    agent.close()
    return said

"""What other runs of this gateway spent on the same records: a statement about one run is not the whole of it."""

import json
from typing import Any, Dict, Iterable, List

from orchestrator.gateway.history import training_number
from orchestrator.gateway.run_store import RunStore


def spent_elsewhere(store: RunStore, run: str, nodes: Iterable[str]) -> List[Dict[str, Any]]:
    """One entry a run that some of these nodes joined: {run, nodes (how many of them), unit, epsilon, delta, finished}.

    Without the earlier trainings of the same task, which the run's own statement counts. epsilon is what that run's statement
    says, or what its task declares where it has none; None without privacy. Of other gateways the nodes' ledgers know.
    """
    mine, found = set(nodes), []
    for other, task_text in store.tasks():
        if other == run or (_base(other) == _base(run) and training_number(other) < training_number(run)):
            continue
        shared = mine & store.joined(other)
        if shared:
            privacy = json.loads(task_text).get("privacy", {})
            said = store.report(other)
            spent = privacy if said is None else said.get("privacy", privacy)
            on = privacy.get("unit", "none") != "none"
            about = {
                "run": other,
                "nodes": len(shared),
                "unit": privacy.get("unit", "none"),
                "finished": said is not None,
            }
            found.append({**about, **{name: spent.get(name) if on else None for name in ("epsilon", "delta")}})
    return found


def _base(run: str) -> str:
    return run if training_number(run) == 1 else run[: run.rindex("-")]

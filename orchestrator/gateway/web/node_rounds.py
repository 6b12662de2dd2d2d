"""What one node did in each round of a run: how long it took, how many bytes it sent, how good the model was on its rows.

Read from the store when somebody asks, and kept nowhere: of forty nodes over thousands of rounds most is never looked at.
"""

from typing import Any, Dict, Optional, Sequence

from orchestrator.gateway.figures import ANSWERS
from orchestrator.gateway.web.runview import RunView
from orchestrator.wire.task import Task

_FIGURES = ("accuracy", "auc", "loss")


def node_rounds(view: RunView, node: str, rows: Sequence[Dict[str, Any]], at: float) -> Optional[Dict[str, Any]]:
    """{run, node, records, state, reason, at, held_back, rounds}; None for a node that is in no row.

    rows: of RunView.node_rows, as the list of nodes shows them. at: Unix seconds, of when they are.
    rounds: rows {round, seconds, bytes, counted, accuracy, auc, loss} of the aggregated rounds the node answered, None where a
    thing is not known. seconds: from the announcement of the round to the node's last message. counted: whether it is in the
    round's aggregate. Accuracy, AUC and loss: on the rows the node holds out, else on those the gateway has of a site of its
    name. held_back: why there are none.
    """
    row_of_node = next((row for row in rows if row["node"] == node), None)
    if row_of_node is None:
        return None
    rounds = []
    for result in view.store.each_result(view.run):
        said, answer = _said(result, node), (result.get(ANSWERS) or {}).get(node)
        if said or answer or node in result["nodes"]:
            seconds, size = answer or (None, None)
            row = {"round": result["round"], "seconds": seconds, "bytes": size, "counted": node in result["nodes"]}
            rounds.append({**row, **{name: said.get(name) for name in _FIGURES}})
    measured = any(row[name] is not None for row in rounds for name in _FIGURES)
    return {
        "run": view.run,
        "node": node,
        "at": at,
        **{name: row_of_node[name] for name in ("records", "state", "reason")},
        "held_back": "" if measured else why_none(view.task),
        "rounds": rounds,
    }


def _said(result: Dict[str, Any], node: str) -> Dict[str, Any]:
    """Figures of this node's own rows in a round's result."""
    federated = result.get("federated") or {}
    for of in (federated.get("per_node"), federated.get("sites"), result.get("sites"), result.get("per_node")):
        said = (of or {}).get(node)
        if isinstance(said, dict):
            return said
        if isinstance(said, (int, float)):
            return {"accuracy": float(said)}
    return {}


def why_none(task: Task) -> str:
    """Why there are no figures of single nodes; empty where none are meant to be."""
    if not task.trains:
        return ""
    if not task.evaluation.on:
        return "No figures of single nodes: nodes of this task hold no rows out ([task.evaluation])."
    if task.aggregation.secure:
        return "No figures of single nodes: the gateway opens sums over nodes only, which is what the task promises."
    return "No figures of single nodes yet."

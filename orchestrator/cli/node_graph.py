"""`edgeward node graph`: is a task's training graph that of its declared model, and which graphs this node declines."""

import argparse
import json
from pathlib import Path
from typing import Any, Dict

from orchestrator.cli.state import HELP, only_state

_EPILOG = """examples:
  edgeward node graph compare 3f9a --state edgeward-node-icu # 3f9a: a request of `edgeward node approvals`
  edgeward node graph compare 3f9a --model model.keras      # the file of a model of kind keras
  edgeward node graph list --state edgeward-node-icu        # what this node noted of graphs it was sent
  edgeward node graph forget 81c2 --state edgeward-node-icu # let a graph it declines be tried again

`compare` exports the graph again from the declared model, which needs edgeward[gateway]: copy `approvals` of the node's
state folder to a machine that has it. It exits with 0 for the same graph, 1 for a different one, 2 where it cannot tell."""

SAME = "same: the training graph is what this machine exports from the declared model"
DIFFERENT = (
    "different: the training graph is not what this machine exports from the declared model. Another version of TensorFlow "
    "can be why; deny the task unless its gateway names one with which they are the same"
)


def register(verbs: Any) -> None:
    graph = verbs.add_parser(
        "graph",
        help="compare a task's training graph with its declared model",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    graph.add_argument(
        "action",
        choices=("compare", "list", "forget"),
        help="compare a request's graph, list declined graphs, or forget one",
    )
    graph.add_argument("digest", nargs="?", help="of a request (compare) or graph (forget), or a beginning of it")
    graph.add_argument("--model", type=Path, metavar="FILE", help="compare: the .keras file of a model of kind keras")
    graph.add_argument("--state", type=Path, help=HELP)
    graph.add_argument("--json", action="store_true", help="as JSON")
    graph.set_defaults(run=_graph)


def _graph(arguments: argparse.Namespace) -> int:
    from orchestrator.errors import UsageError

    if (arguments.action == "list") != (arguments.digest is None):
        raise UsageError("node graph: `compare` and `forget` need a DIGEST, and `list` takes none")
    if arguments.action == "compare":
        return _compare(arguments)
    return _list(arguments) if arguments.action == "list" else _forget(arguments)


def _compare(arguments: argparse.Namespace) -> int:
    from orchestrator.errors import GraphError, UsageError
    from orchestrator.node.approval import Approvals
    from orchestrator.node.graph_check import check_graph
    from orchestrator.wire.task import task_from_dict

    approvals = Approvals(only_state(arguments.state))
    request = approvals.find(arguments.digest)
    task = task_from_dict(request.declared, f"request {request.digest[:16]}")
    if not task.trains:
        raise UsageError(f"request {request.digest[:16]} is of an analysis: there is no training graph to compare")
    model = dict(task.model)
    if arguments.model is not None:
        model["path"] = str(arguments.model.resolve())
    if model.get("kind") == "keras" and arguments.model is None:
        raise UsageError("the declared model is of kind keras: give its file with --model, from someone you trust")
    sent = approvals.graph(request.digest)
    again = _exported(task, model)
    try:
        same = check_graph(sent).digest() == check_graph(again).digest()
    except GraphError as error:
        raise UsageError(f"cannot tell: {error}") from error
    if arguments.json:
        print(json.dumps({"digest": request.digest, "same": same}))
    else:
        print("\n".join([SAME if same else DIFFERENT, *(f"    {line}" for line in request.summary[:2])]))
    return 0 if same else 1


def _exported(task: Any, model: Dict[str, Any]) -> bytes:
    """The training graph this machine makes of the declaration, as a gateway would."""
    import tempfile

    from model_export.client import run_worker
    from model_export.errors import ExportError
    from orchestrator.errors import UsageError
    from orchestrator.wire.stated import export_spec

    spec = export_spec(task, model)
    with tempfile.TemporaryDirectory(prefix="edgeward-") as folder:
        try:
            run_worker("prepare", spec, Path(folder))
        except ExportError as error:
            raise UsageError(f"cannot tell: this machine cannot export the declared model: {error}") from error
        return (Path(folder) / "training.tflite").read_bytes()


def _list(arguments: argparse.Namespace) -> int:
    store = _store(only_state(arguments.state))
    try:
        found = store.graphs()
    finally:
        store.close()
    if arguments.json:
        print(json.dumps([{"digest": digest, "state": state} for digest, state in found], indent=1))
    else:
        print("\n".join(f"{digest[:16]}  {state}" for digest, state in found) or "no graph was ever tried here")
    return 0


def _forget(arguments: argparse.Namespace) -> int:
    from orchestrator.errors import UsageError

    store = _store(only_state(arguments.state))
    try:
        fitting = [digest for digest, _ in store.graphs() if digest.startswith(arguments.digest)]
        if len(fitting) != 1:
            many = f"begins {len(fitting)} of them: say more" if fitting else "is not one of them"
            raise UsageError(f"{arguments.digest!r} {many}; see `edgeward node graph list`")
        store.note_graph(fitting[0], None)
    finally:
        store.close()
    print(json.dumps({"forgotten": fitting[0]}) if arguments.json else f"{fitting[0]} will be tried again")
    return 0


def _store(state: Path) -> Any:
    from orchestrator.errors import UsageError
    from orchestrator.node.store import NodeStore

    if not (state / "node.sqlite").is_file():
        raise UsageError(f"--state {state}: no node has run there")
    return NodeStore(state / "node.sqlite")

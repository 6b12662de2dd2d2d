"""Whether this node runs a training graph: asked once, with random rows, before any private data are opened.

What a graph did to this node is kept in its store. Before a graph is first loaded it is noted as being tried; the note is
replaced when its process has answered. So a graph that ended or overran its process is declined from then on without being
loaded, and one that was being tried whenever this node ended, three times in a row, likewise; until the owner says otherwise
(`edgeward node graph forget`). Notes are kept under the digest of what a graph computes, so that another name or layout does not
make it another.
"""

from typing import Callable, List, Tuple, Union

from orchestrator.analyses.base import Analysis
from orchestrator.analyses.scored_model import INT8, TREES
from orchestrator.errors import GraphError
from orchestrator.node.graph_check import SCORES, CheckedGraph, check_graph, check_model
from orchestrator.node.graph_process import GraphProcess, Limits
from orchestrator.node.int8_layers import Int8Model
from orchestrator.node.int8_model import read_int8
from orchestrator.node.store import NodeStore
from orchestrator.node.trees_model import TreesModel, read_trees
from orchestrator.wire.plain import many
from orchestrator.wire.task import Task

TRIED, RUNS, REFUSED = ("tried", "tried again", "tried a third time"), "runs", "refused"
"""Notes on a graph. A node may be stopped while it tries one, through no fault of the graph's; three times is no chance."""


def admit_graph(store: NodeStore, graph: bytes, task: Task, limits: Limits = Limits()) -> None:  # noqa: B008 (immutable)
    """Returns if this node runs the graph for the task. To be called before private data are opened.

    Raises GraphError where the graph is not on the allow-list, is not the declared model's in size and shape, was refused before,
    or does not survive random rows; EdgewardError where this machine cannot run any.
    """
    checked = check_graph(graph)
    _admit(
        store, checked, "training graph", lambda: _check_declared(checked, task), functions_of(checked, task), limits
    )


def admit_model(
    store: NodeStore,
    model: bytes,
    analysis: Analysis,
    limits: Limits = Limits(),  # noqa: B008 (immutable)
) -> None:
    """The same of the model file by which an analysis scores records. One of whole numbers no process runs, and none is tried."""
    if of_whole_numbers(analysis):
        checked_whole(model, analysis)
        return
    checked = check_model(model)
    _admit(store, checked, "model file", lambda: check_scored(checked, analysis), [SCORES], limits)


def of_whole_numbers(analysis: Analysis) -> bool:
    """Whether it scores records by a model that this node computes itself (node/int8_model.py, node/trees_model.py)."""
    return analysis.scored is not None and analysis.scored.model.numbers in (INT8, TREES)


def checked_whole(model: bytes, analysis: Analysis) -> Union[Int8Model, TreesModel]:
    """The model of an analysis that is `of_whole_numbers`. GraphError as of `read_int8`, `read_trees` and `check_scored`."""
    scoring = analysis.scored
    trees = scoring is not None and scoring.of_trees
    found: Union[Int8Model, TreesModel] = read_trees(model) if trees else read_int8(model)
    _check_fits((found.width,), found.classes, analysis)
    return found


def check_scored(checked: CheckedGraph, analysis: Analysis) -> None:
    """GraphError unless the model takes what the analysis gives it, columns or a signal, and has the output that is its score."""
    _check_fits(checked.input_shape, checked.classes, analysis)


def _check_fits(takes: Tuple[int, ...], outputs: int, analysis: Analysis) -> None:
    scoring = analysis.scored
    assert scoring is not None
    if takes != scoring.shape:
        if scoring.of_signals:
            raise GraphError(f"the model file takes records of {takes}, the task's signals are {scoring.shape}")
        width = scoring.width
        raise GraphError(f"the model file takes records of {takes}, the task's columns are {many(width, 'input')}")
    why = scoring.lacks(outputs)
    if why:
        raise GraphError(f"the model file has {why}")


def _admit(
    store: NodeStore,
    checked: CheckedGraph,
    what: str,
    check_declared: Callable[[], None],
    functions: List[str],
    limits: Limits,
) -> None:
    digest = checked.digest()
    state = store.graph_state(digest)
    if state in (TRIED[-1], REFUSED):
        raise GraphError(
            f"{what} {digest[:16]} ended or overran its process here before, and is not loaded again: "
            "`edgeward node graph forget` lets it be tried once more"
        )
    check_declared()
    if state == RUNS:
        return
    store.note_graph(digest, TRIED[TRIED.index(state) + 1 if state in TRIED else 0])
    try:
        try_graph(checked, functions, limits)
    except GraphError:
        store.note_graph(digest, REFUSED)
        raise
    except BaseException:  # not the graph's doing: a missing runtime, Ctrl-C
        store.note_graph(digest, None)
        raise
    store.note_graph(digest, RUNS)


def refuse_graph(store: NodeStore, graph: bytes) -> None:
    """Notes that a graph failed in a round: it is declined from now on."""
    store.note_graph(check_graph(graph).digest(), REFUSED)


def refuse_model(store: NodeStore, model: bytes, analysis: Analysis) -> None:
    """The same of the model file of an analysis, where a process runs it."""
    if not of_whole_numbers(analysis):
        store.note_graph(check_model(model).digest(), REFUSED)


def try_graph(graph: CheckedGraph, names: List[str], limits: Limits = Limits()) -> None:  # noqa: B008 (immutable)
    """Runs random rows through these functions, in a process of its own. Raises GraphError when it fails."""
    process = GraphProcess(graph, limits)
    try:
        for name in names:
            if name == "grad" and process.batch_rows():
                continue
            process.seconds(name)
            if name == "grad1":
                process.rows()
    finally:
        process.close()


def functions_of(graph: CheckedGraph, task: Task) -> List[str]:
    """The signatures a task runs: record by record where it promises something about records or patients."""
    gradient, inference = "grad", "infer"
    if task.privacy.within_node:
        gradient, inference = "grad1", "infer1" if "infer1" in graph.functions else "infer"
    return [gradient, *([inference] if task.evaluation.on else [])]


def _check_declared(graph: CheckedGraph, task: Task) -> None:
    declared = task.training.parameters
    if declared and declared != graph.parameters:
        raise GraphError(f"the training graph has {graph.parameters} parameters, the task declares {declared}")
    if graph.input_shape != task.schema.input_shape:
        raise GraphError(
            f"the training graph takes records of {graph.input_shape}, the task's are {task.schema.input_shape}"
        )
    outputs = task.schema.learned.outputs
    if graph.classes != outputs:
        what = "outputs" if task.schema.target else "classes"
        raise GraphError(f"the training graph has {graph.classes} {what}, the task {outputs}")

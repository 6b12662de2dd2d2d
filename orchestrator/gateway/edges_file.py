"""The file of a graph, of which a task holds the edges: nodes see and approve these, and no file of the gateway's."""

from pathlib import Path
from typing import Any, Dict, List, Tuple

from orchestrator.analyses.peer_graph import EDGES, MOST_NODES
from orchestrator.wire.plain import plain
from orchestrator.wire.special_files import read_file

OPTION = "edges_file"
_MOST_LINES = MOST_NODES * MOST_NODES


def with_edges(data: Dict[str, Any], base: Path) -> Tuple[Dict[str, Any], List[str]]:
    """(an edgeward.toml with the edges of the file it names, what is wrong with that). Relative names start at `base`."""
    task = data.get("task")
    analysis = task.get("analysis") if isinstance(task, dict) else None
    if not isinstance(task, dict) or not isinstance(analysis, dict) or OPTION not in analysis:
        return data, []
    named, rest = analysis[OPTION], {name: value for name, value in analysis.items() if name != OPTION}
    edges, wrong = (
        _edges_of(base / named) if isinstance(named, str) and named else ([], ["expected the name of a file"])
    )
    if analysis.get("graph") != EDGES:
        wrong.append(f"graph is {plain(analysis.get('graph', 'not stated'), 40)}: with a file it is {EDGES!r}")
    if "edges" in rest:
        wrong.append("there are edges as well: it is one or the other")
    filled = {**rest, "edges": edges}
    return {**data, "task": {**task, "analysis": filled}}, [f"task.analysis.{OPTION}: {line}" for line in wrong]


def _edges_of(path: Path) -> Tuple[List[List[str]], List[str]]:
    """Two names a line, with blanks between; what follows a # is a comment."""
    try:
        lines = read_file(path).decode("utf-8-sig").split("\n")
    except OSError as error:
        return [], [f"{path}: {error.strerror}"]
    except UnicodeDecodeError:
        return [], [f"{path}: not UTF-8 text"]
    edges, wrong = [], []
    for number, line in enumerate(lines, 1):
        words = line.split("#")[0].split()
        if len(words) not in (0, 2):
            wrong.append(f"{path}:{number}: {len(words)} words, expected the names of two nodes")
        elif words:
            edges.append(words)
    if not edges and not wrong:
        wrong.append(f"{path}: no edge in it")
    return (
        (edges, wrong[:5])
        if len(edges) <= _MOST_LINES
        else ([], [f"{path}: {len(edges)} edges, at most {_MOST_LINES}"])
    )

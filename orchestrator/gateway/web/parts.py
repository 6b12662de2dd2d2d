"""The page's values cut into parts: a stream sends the parts that changed, in events of at most MOST_EVENT_BYTES.

A section is one value (`live`) or a table of them (`nodes`, one part a node). Lists that only grow, such as a curve over
thousands of rounds, are parts of BLOCK rows, so that a new row costs a block and not the list. What an overview of everything
cannot show is left out here; the JSON of /api has it.
"""

import json
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Tuple

MOST_EVENT_BYTES = 10_000
BLOCK = 64
"""Rows of a growing list in one part."""
MOST_NODES, MOST_RUNS = 300, 300
"""Rows of a table the page gets: of more, those that need looking at come first."""
MOST_NAMES = 60
"""Of nodes named in the open round, for each of arrived, awaited and away."""
MOST_POINTS, LEAST_POINTS = 2400, 8
"""Points of the boards' charts, of all together, and of one where they are many."""
WELL = ("arrived", "training", "computing", "waiting", "done")

Key = Tuple[str, str]
Parts = Dict[Key, str]


def to_json(value: Any) -> str:
    """JSON a browser accepts: numbers that are not finite become the texts "nan", "inf" and "-inf"."""
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False, separators=(",", ":"))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and value - value != 0 else value


def parts_of(sections: Mapping[str, Any]) -> Parts:
    """The parts of what DashboardModel.sections (or .run) gives, as JSON texts."""
    found: Dict[Key, Any] = {}
    for name, value in sections.items():
        cut = _CUTS.get(name)
        if cut is None or value is None:
            found[name, ""] = value
        else:
            found.update(cut(value))
    return {key: to_json(value) for key, value in found.items()}


def _run(run: Dict[str, Any]) -> Dict[Key, Any]:
    result = run.get("result")
    if result is not None:
        kept = {name: result.get(name) for name in ("digest", "metrics", "analysis")}
        result = {**kept, "clipped": (result.get("privacy") or {}).get("clipped")}
    return {("run", ""): {**run, "result": result}}


def _live(live: Dict[str, Any]) -> Dict[Key, Any]:
    names = {name: live[name][:MOST_NAMES] for name in ("arrived", "awaited", "absent")}
    return {("live", ""): {**live, **names, "counts": {name: len(live[name]) for name in names}}}


def _nodes(rows: List[Dict[str, Any]]) -> Dict[Key, Any]:
    first = sorted(rows, key=lambda row: row["state"] in WELL)[:MOST_NODES]
    return {("known", ""): len(rows), **{("nodes", row["node"]): row for row in first}}


def _rounds(rows: List[Dict[str, Any]]) -> Dict[Key, Any]:
    curve = [[row["round"], *(_short(row.get(name)) for name in ("loss", "accuracy", "auc"))] for row in rows]
    last = {("rounds", str(row["round"])): row for row in rows if "seconds" in row}
    return {**_blocks("curve", "", curve), **last}


def _privacy(privacy: Dict[str, Any]) -> Dict[Key, Any]:
    points = [[number, epsilon] for number, epsilon in privacy.get("points", ())]
    whole = {name: value for name, value in privacy.items() if name != "points"}
    return {("privacy", ""): whole, **_blocks("epsilon", "", points)}


def _boards(said: Dict[str, Any]) -> Dict[Key, Any]:
    boards = said["boards"]
    most = max(LEAST_POINTS, MOST_POINTS // max(1, len(boards)))
    found: Dict[Key, Any] = {("listening", ""): said["state"]}
    for board in boards:
        found["boards", board["board"]] = {name: value for name, value in board.items() if name != "history"}
        points = [[p["n"], p["at"], *(p.get(name) for name in CHARTED)] for p in board["history"][-most:]]
        found.update(_history(board["board"], points))
    return found


CHARTED = ("latency_p50_us", "latency_p99_us", "psi")
_HISTORY_BLOCK = 24


def _history(board: str, points: List[List[Any]]) -> Dict[Key, Any]:
    """Blocks by the number of a point, so that the whole ones stay the same; one that is no longer whole is left out."""
    blocks: Dict[int, List[List[Any]]] = {}
    for point in points:
        blocks.setdefault(point[0] // _HISTORY_BLOCK, []).append(point[1:])
    if len(blocks) > 1 and points[0][0] % _HISTORY_BLOCK:
        del blocks[points[0][0] // _HISTORY_BLOCK]
    return {("history", f"{board} {number:09d}"): rows for number, rows in blocks.items()}


def _runs(runs: List[Dict[str, Any]]) -> Dict[Key, Any]:
    newest = {("runs", run["run"]): {**run, "place": place} for place, run in list(enumerate(runs))[-MOST_RUNS:]}
    return {("all_runs", ""): len(runs), **newest}


def _activity(lines: List[Dict[str, Any]]) -> Dict[Key, Any]:
    found: Dict[Key, Any] = {}
    for line in reversed(lines):  # of one moment, the first to come keeps its number
        same = 0
        while ("activity", f"{line['at']:.6f} {same}") in found:
            same += 1
        found["activity", f"{line['at']:.6f} {same}"] = line
    return found


def _blocks(section: str, name: str, rows: List[List[Any]]) -> Dict[Key, Any]:
    return {
        (section, f"{name}{start // BLOCK:09d}"): rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK)
    }


def _short(value: Any) -> Any:
    """Six digits of a figure: more than a chart or a table shows."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


_CUTS: Dict[str, Callable[[Any], Dict[Key, Any]]] = {
    "run": _run,
    "live": _live,
    "nodes": _nodes,
    "rounds": _rounds,
    "privacy": _privacy,
    "boards": _boards,
    "runs": _runs,
    "activity": _activity,
}


def server_event(name: str, data: str) -> str:
    """A server-sent event; data: JSON on one line."""
    return f"event: {name}\ndata: {data}\n\n"


def events_between(before: Parts, after: Parts) -> Iterator[str]:
    """Server-sent events that make `before` into `after`, each of at most MOST_EVENT_BYTES.

    `parts`: {"set": [[section, key, value], ...], "gone": [[section, key], ...]}. `piece`: [section, key, text, whether it is the
    last], of a part that is too long for one event: JSON in pieces.
    """
    gone = [f"[{json.dumps(section)},{json.dumps(key)}]" for section, key in before if (section, key) not in after]
    for texts in _packed(gone):
        yield server_event("parts", f'{{"set":[],"gone":[{",".join(texts)}]}}')
    changed = [(key, text) for key, text in after.items() if before.get(key) != text]
    short = [_entry(key, text) for key, text in changed if len(text) <= _WHOLE]
    for texts in _packed(short):
        yield server_event("parts", f'{{"set":[{",".join(texts)}],"gone":[]}}')
    for (section, key), text in changed:
        if len(text) > _WHOLE:
            yield from _pieces(section, key, text)


def page_of(parts: Parts) -> str:
    """All parts at once, as /api/page/RUN gives them: {"set": [[section, key, value], ...]}."""
    return f'{{"set":[{",".join(_entry(key, text) for key, text in parts.items())}]}}'


def _entry(key: Key, text: str) -> str:
    return f"[{json.dumps(key[0])},{json.dumps(key[1])},{text}]"


_WHOLE = MOST_EVENT_BYTES - 1000
_PIECE = MOST_EVENT_BYTES // 3
"""Characters of a part that is sent whole, and of a piece of a longer one: as JSON within JSON each may take two."""


def _pieces(section: str, key: str, text: str) -> Iterator[str]:
    for start in range(0, len(text), _PIECE):
        last = start + _PIECE >= len(text)
        yield server_event("piece", json.dumps([section, key, text[start : start + _PIECE], last]))


def _packed(texts: Iterable[str]) -> Iterator[List[str]]:
    """As many together as an event holds."""
    batch: List[str] = []
    size = 0
    for text in texts:
        if batch and size + len(text) > MOST_EVENT_BYTES - 100:
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += len(text) + 1
    if batch:
        yield batch

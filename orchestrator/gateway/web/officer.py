"""The page for a data protection officer: which run and model, what is claimed, on which conditions, and what is not covered.

Its text is that of privacy.md (privacy/statement_page.py), cut into blocks, so that page, paper and bundle say the same.
"""

import time
from typing import Any, Dict, List, Optional

from orchestrator.gateway.web.runview import RunView
from orchestrator.privacy.statement_page import ELSEWHERE, RESULT, markdown
from orchestrator.rounds import state
from orchestrator.wire.plain import many

FINAL, PLANNED, COMPUTING, FAILED = "final", "planned", "computing", "failed"
_MOST_OTHER_RUNS = 6
"""Named of those that spent on the same records; the others are counted, so that the page stays two."""


def officer_page(
    view: RunView, federation: str, report: Optional[Dict[str, Any]], planned: Dict[str, Any]
) -> Dict[str, Any]:
    """What the page shows. Times are Unix seconds.

    report: of the finished run, None before. planned: what EpsilonCurves.statement says; used until there is a report.
    """
    said = (report or {}).get("privacy") or planned.get("statement")
    return {
        "run": view.run,
        "task": view.task.name,
        "federation": federation,
        "digest": (report or {}).get("digest") or None,
        "made": "model" if view.task.trains else RESULT,
        "outcome": _outcome(view, report),
        "began_at": view.began_at or None,
        "ended_at": view.last_event_at if view.over else None,
        "phase": view.coordinator.phase,
        "rounds": view.task.training.rounds,
        "state": FINAL if report else planned["state"],
        "reason": planned.get("reason", ""),
        "blocks": [] if said is None else _bounded(blocks(markdown(said))),
        "words": view.about()["words"],
        "printed_at": time.time(),
    }


def _outcome(view: RunView, report: Optional[Dict[str, Any]]) -> str:
    """What came of the run, as the page identifies it: a model's digest, or how many tables there are."""
    if report is None:
        return "none" if view.coordinator.phase == state.FAILED else "none yet"
    if report.get("analysis"):
        return many(len(report["analysis"]["tables"]), "table")
    return report.get("digest") or "none: every node has its own model"


def _bounded(found: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """The list of other runs, which alone may be of any length, cut to a few and a count."""
    for heading, *following in zip(found, found[1:], found[2:]):
        if heading.get("text") == ELSEWHERE:
            for block in following:
                items = block.get("items", [])
                if len(items) > _MOST_OTHER_RUNS + 1:
                    more = f"and {len(items) - _MOST_OTHER_RUNS} more runs, each named in privacy.md of the bundle"
                    block["items"] = [*items[:_MOST_OTHER_RUNS], more]
    return found


def blocks(text: str) -> List[Dict[str, Any]]:
    """The parts of a page in the few forms of Markdown that statement_page writes.

    {kind: heading, text}, {kind: text, text}, {kind: list, items} or {kind: table, rows}; the title is left out.
    """
    found: List[Dict[str, Any]] = []
    for line in text.splitlines():
        if line.startswith("## "):
            found.append({"kind": "heading", "text": line[3:]})
        elif line.startswith("- "):
            _under(found, "list", "items").append(line[2:])
        elif line.startswith("|"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if set("".join(cells)) != {"-"}:
                _under(found, "table", "rows").append(cells)
        elif line and not line.startswith("# "):
            found.append({"kind": "text", "text": line.replace("**", "")})
        elif not line:
            found.append({"kind": ""})  # ends a list or a table
    return [block for block in found if block["kind"]]


def _under(found: List[Dict[str, Any]], kind: str, name: str) -> List[Any]:
    """Where the next line of a list or table goes: to the block before, if it is one."""
    if not found or found[-1]["kind"] != kind:
        found.append({"kind": kind, name: []})
    lines: List[Any] = found[-1][name]
    return lines

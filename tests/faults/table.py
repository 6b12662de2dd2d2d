"""The table of docs/operations.md, between two markers."""

from pathlib import Path
from typing import Dict, Iterable, List, Tuple

from .cells import FAILED, NEVER, PROCESSES, TITLES, VARIANTS, Outcome, why_not
from .kinds import FAULTS

BEGIN, END = (
    "<!-- fault matrix: python -m tests.faults --write docs/operations.md -->",
    "<!-- end of the fault matrix -->",
)
MISSING = "not run"


def cell(fault: str, process: str, outcomes: Dict[Tuple[str, str, str], Outcome]) -> str:
    """One word where all variants agree; else each word with its variants."""
    words: Dict[str, List[str]] = {}
    for variant in VARIANTS:
        if why_not(fault, process, variant):
            continue
        found = outcomes.get((fault, process, str(variant)))
        words.setdefault(MISSING if found is None else found.word, []).append(str(variant))
    if not words:
        return "n/a"
    if len(words) == 1:
        return next(iter(words))
    return "; ".join(f"{word} ({', '.join(variants)})" for word, variants in words.items())


def render(outcomes: Iterable[Outcome]) -> str:
    found = {(o.fault, o.process, o.variant): o for o in outcomes}
    head = "| | " + " | ".join(TITLES.get(name, name) for name in PROCESSES) + " |"
    rows = [
        f"| {kind.title} | " + " | ".join(cell(name, process, found) for process in PROCESSES) + " |"
        for name, kind in FAULTS.items()
    ]
    return "\n".join([head, "|---" * (len(PROCESSES) + 1) + "|", *rows])


def write(path: Path, outcomes: Iterable[Outcome]) -> None:
    """Puts the table between the markers of a file."""
    text = path.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    path.write_text(f"{before}{BEGIN}\n{render(outcomes)}\n{END}{after}", encoding="utf-8")


def committed(path: Path) -> List[List[str]]:
    """The rows of the table in a file, head first, as lists of cells."""
    text = path.read_text(encoding="utf-8").split(BEGIN, 1)[1].split(END, 1)[0]
    lines = [line for line in text.strip().splitlines() if not line.startswith("|---")]
    return [[part.strip() for part in line.strip().strip("|").split("|")] for line in lines]


__all__ = ["BEGIN", "END", "FAILED", "MISSING", "NEVER", "cell", "committed", "render", "write"]

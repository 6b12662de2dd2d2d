"""What simulations are tried on: files of three nodes, and a power cut in the middle of a run."""

from pathlib import Path
from typing import Any, Callable, Dict, List

from harness import RECORDS


class CutOffError(Exception):
    """The power goes."""


def cut_off_in_round_two(rounds: List[int]) -> Callable[[Dict[str, Any]], None]:
    """Notes each aggregated round in `rounds`; raises CutOffError in the second."""

    def progress(event: Dict[str, Any]) -> None:
        if event["event"] == "aggregated":
            rounds.append(event["round"])
            if event["round"] == 2:
                raise CutOffError

    return progress


def data_of(folder: Path, empty: str = "") -> Dict[str, Path]:
    """A file for each of three nodes; those in `empty` have no rows."""
    for name in "abc":
        (folder / f"{name}.csv").write_text("x,y\n" + "0.5,1\n" * (0 if name in empty else RECORDS[name]))
    return {name: folder / f"{name}.csv" for name in "abc"}

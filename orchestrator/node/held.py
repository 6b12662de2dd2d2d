"""Answers that wait for their owner's word: what would leave, in STATE/held, and the word on it in the ledger.

An answer is known by a digest of the task and of all its numbers: the word is for these and no others.
"""

import hashlib
import json
import time
from pathlib import Path
from typing import Any, Dict, List, NamedTuple

import numpy as np

from orchestrator.analyses.base import Analysis
from orchestrator.analyses.blocks import MARGINS
from orchestrator.errors import UsageError
from orchestrator.files import replace_file
from orchestrator.wire.json_text import from_json
from orchestrator.wire.plain import hex_name

FOLDER = "held"
MOST_HELD = 200
"""Answers that are kept. The owner makes room by deleting files of that folder; words are in the ledger."""


class HeldAnswer(NamedTuple):
    """What an owner decides on. task: its name; at: seconds since 1970; values: block -> the numbers of it that would leave."""

    digest: str
    run: str
    task: str
    at: float
    values: Dict[str, List[Any]]


def digest_of_answer(task: str, answer: np.ndarray) -> str:
    """SHA-256 of an answer (float64) to a task of this digest."""
    return hashlib.sha256(task.encode() + answer.astype("<f8").tobytes()).hexdigest()


class Held:
    """The folder below a node's state folder."""

    def __init__(self, state: Path) -> None:
        self._folder = state / FOLDER

    def put(self, digest: str, run: str, task: str, analysis: Analysis, answer: np.ndarray) -> bool:
        """Writes the answer for its owner, once however often it comes; False where there are too many."""
        path = self._folder / f"{hex_name(digest)}.json"
        if path.exists():
            return True
        if self._folder.is_dir() and len(list(self._folder.iterdir())) >= MOST_HELD:
            return False
        blocks = analysis.blocks(analysis.question(analysis.begin(0)))
        blocks = [block for block in blocks if block.rule != MARGINS]  # of the same values
        values = {f"{at + 1} {block.name}": answer[block.at].tolist() for at, block in enumerate(blocks)}
        held = HeldAnswer(digest, run, task, round(time.time(), 3), values)
        self._folder.mkdir(parents=True, exist_ok=True)
        replace_file(path, json.dumps(held._asdict()).encode())
        return True

    def answers(self) -> List[HeldAnswer]:
        """All that were ever held, the oldest first."""
        paths = self._folder.glob("*.json") if self._folder.is_dir() else ()
        return sorted((self._read(path) for path in paths), key=lambda held: held.at)

    def find(self, beginning: str) -> HeldAnswer:
        """The one whose digest begins so; UsageError where none or several do."""
        fitting = [held for held in self.answers() if held.digest.startswith(beginning)]
        if len(fitting) != 1:
            many = f"begins {len(fitting)} of them: say more" if fitting else "is not one of them"
            raise UsageError(f"{self._folder}: {beginning!r} {many}; see `edgeward node held`")
        return fitting[0]

    @staticmethod
    def _read(path: Path) -> HeldAnswer:
        try:
            held = HeldAnswer(**from_json(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise UsageError(f"{path}: is no held answer: {error}") from error
        if held.digest != path.stem:
            raise UsageError(f"{path}: speaks of {held.digest!r}: it was changed or renamed")
        return held

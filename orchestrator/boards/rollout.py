"""A new model, or program, to many boards, in stages, with an end as soon as too many of them fail."""

from __future__ import annotations

import hashlib
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Callable, Dict, List, Optional, Sequence

from orchestrator.boards.conversation import BoardError, NoAnswerError
from orchestrator.boards.firmware_file import Firmware
from orchestrator.boards.fleet_link import FleetLink
from orchestrator.boards.network_board import NetworkBoard
from orchestrator.errors import BrokerError, UsageError

_STARTS = 5
"""Of one board's update: a board that is lost more often has another problem."""
AT_ONCE = 16
"""Boards that are updated at a time."""


class Outcome(Enum):
    """What became of a board."""

    UPDATED = "updated"
    """It runs the new model, and gave all its known answers."""
    UNCHANGED = "unchanged"
    """It ran the model already."""
    FAILED = "failed"
    """It refused the model, went back to the one before, or was lost on the way."""
    ABSENT = "absent"
    """It was not connected when its turn came; nothing was sent."""
    HELD = "held"
    """Its turn never came: the roll-out ended before."""


@dataclass(frozen=True)
class BoardResult:
    board: str
    outcome: Outcome
    why: str = ""
    stage: int = 0
    """Counted from 1; 0 for a board whose turn never came."""


@dataclass
class Rollout:
    """What is rolled out to whom. `update` does it to one board: BoardError where that failed."""

    digest: str
    """Of the model or program, as boards name it."""
    stages: Sequence[float] = (5, 25, 100)
    """Percent of the boards that have the model at the end of each; rising, the last is 100."""
    most_failures: int = 0
    """More than these end it."""
    watch_s: float = 10.0
    """After a stage, for so long its boards have to go on with the new model."""
    retry_s: float = 120.0
    """How long a board that goes away in the middle of its update, by a power cut say, is waited for."""
    halted: threading.Event = field(default_factory=threading.Event)
    """Set by anybody: boards whose update has begun finish it, no other begins."""

    def __post_init__(self) -> None:
        rising = list(self.stages) == sorted(set(self.stages))
        if not self.stages or not rising or not self.stages[0] > 0 or self.stages[-1] != 100:
            raise UsageError(f"stages {list(self.stages)}: percentages that rise, the last of them 100")
        if self.most_failures < 0:
            raise UsageError(f"{self.most_failures} failures: a whole number from 0 on")

    def order(self, boards: Sequence[str]) -> List[str]:
        """Whose turn is when: by chance, another one for each model, so that no board is always the first to try."""
        return sorted(boards, key=lambda name: hashlib.sha256(f"{self.digest} {name}".encode()).digest())

    def plan(self, boards: Sequence[str]) -> List[List[str]]:
        """The boards of each stage."""
        queue = self.order(boards)
        ends = [math.ceil(len(queue) * percent / 100) for percent in self.stages]
        return [queue[begin:end] for begin, end in zip([0, *ends], ends)]

    def run(
        self,
        boards: Sequence[str],
        update: Callable[[str], BoardResult],
        still_well: Callable[[str], str],
        report: Callable[[BoardResult], None] = lambda result: None,
    ) -> List[BoardResult]:
        """A result for each board. `update` never raises; `still_well` gives why a board is not, or nothing."""
        results: Dict[str, BoardResult] = {}
        for stage, names in enumerate(self.plan(boards), 1):
            for result in self._stage(names, update, stage):
                results[result.board] = result
                report(result)
            self._watch(results, still_well, stage, report)
            if self.ended(results):
                break
        for name in boards:
            results.setdefault(name, BoardResult(name, Outcome.HELD, "the roll-out ended before its turn"))
        return [results[name] for name in sorted(results)]

    def ended(self, results: Dict[str, BoardResult]) -> bool:
        """Whether no further board begins."""
        failed = sum(result.outcome is Outcome.FAILED for result in results.values())
        if failed > self.most_failures:
            self.halted.set()
        return self.halted.is_set()

    def _stage(self, boards: Sequence[str], update: Callable[[str], BoardResult], stage: int) -> List[BoardResult]:
        failures = 0
        lock = threading.Lock()

        def one(name: str) -> Optional[BoardResult]:
            nonlocal failures
            if self.halted.is_set():
                return None
            result = update(name)
            with lock:
                failures += result.outcome is Outcome.FAILED
                if failures > self.most_failures:
                    self.halted.set()  # within a stage as well: with many boards one stage is many failures
            return BoardResult(name, result.outcome, result.why, stage)

        with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
            return [result for result in pool.map(one, boards) if result is not None]

    def _watch(
        self,
        results: Dict[str, BoardResult],
        still_well: Callable[[str], str],
        stage: int,
        report: Callable[[BoardResult], None],
    ) -> None:
        """Of boards that were updated in this stage: whether they go on with the model."""
        fresh = [
            name for name, result in results.items() if result.stage == stage and result.outcome is Outcome.UPDATED
        ]
        if not fresh or self.halted.wait(self.watch_s):
            return
        with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
            for name, why in zip(fresh, pool.map(still_well, fresh)):
                if why:
                    results[name] = BoardResult(name, Outcome.FAILED, why, stage)
                    report(results[name])


@dataclass(frozen=True)
class Cargo:
    """What boards get."""

    digest: str
    """As a board names it in the field `kind` of its info."""
    kind: str
    """`model` or `program`."""
    send: Callable[[NetworkBoard], Dict[str, Any]]
    """Gives the board's info afterwards."""


def model_cargo(model_bin: bytes, digest: str) -> Cargo:
    return Cargo(digest, "model", lambda board: board.update(model_bin))


def firmware_cargo(firmware: Firmware) -> Cargo:
    return Cargo(firmware.digest, "program", lambda board: board.update_firmware(firmware))


class Updater:
    """Updates boards over a network, one call a board, from any number of threads."""

    def __init__(self, link: FleetLink, board_of: Callable[[str], NetworkBoard], cargo: Cargo, retry_s: float) -> None:
        self._link, self._board_of, self._cargo, self._retry_s = link, board_of, cargo, retry_s

    def update(self, name: str) -> BoardResult:
        """Again from the beginning where the board, or the broker, went away meanwhile and comes back in time."""
        seen = self._link.presence(name)
        if not seen.here and not (seen.awaited and self._back(name)):
            return BoardResult(name, Outcome.ABSENT, "it is not connected")
        for left in reversed(range(_STARTS)):
            try:
                return self._once(name)
            except (NoAnswerError, BrokerError) as error:
                why = f"it was lost on the way: {error}"
                if not left or not self._back(name):
                    break
            except BoardError as error:
                why = str(error)
                break
        return BoardResult(name, Outcome.FAILED, why)

    def still_well(self, name: str) -> str:
        """Why a board does not go on with it, or nothing."""
        for left in reversed(range(_STARTS)):
            try:
                info = self._board_of(name).info()
                break
            except BrokerError as error:  # says nothing about the board
                if not left or not self._back(name):
                    return f"after the update it does not answer: {error}"
            except BoardError as error:
                return f"after the update it does not answer: {error}"
        now = info.get(self._cargo.kind)
        if now != self._cargo.digest:
            return f"after the update it went to {self._cargo.kind} {now}: {info.get('state')}"
        return ""

    def _once(self, name: str) -> BoardResult:
        board = self._board_of(name)
        before = board.info()
        info = self._cargo.send(board)
        same = before.get(self._cargo.kind) == self._cargo.digest and not before.get("on_trial")
        place = info.get("program_slot" if self._cargo.kind == "program" else "slot")
        return BoardResult(name, Outcome.UNCHANGED if same else Outcome.UPDATED, f"slot {place}")

    def _back(self, name: str) -> bool:
        """Waits from the loss on until the broker is there, and says that the board is."""
        deadline = time.monotonic() + self._retry_s
        while time.monotonic() < deadline:
            if self._link.connected and self._link.presence(name).here:
                return True
            time.sleep(0.1)
        return False

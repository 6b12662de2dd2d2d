"""Rows for a model that keeps state: none runs twice or out of turn, whatever the line loses."""

from typing import Any, Callable, List, Optional, cast

import numpy as np
import pytest

from orchestrator.boards.conversation import BoardError, Conversation
from orchestrator.boards.protocol import Record, RecordParser
from orchestrator.boards.rows import run_rows

ROWS = np.arange(1, 10, dtype=np.int8).reshape(-1, 1)
SUMS = np.cumsum(ROWS).astype(np.int8).reshape(-1, 1)


class SummingBoard:
    """A board whose model adds up what it was given. `loses`: which of all answers, or frames, it never gives or gets."""

    port, timeout_s = "here", 0.2

    def __init__(self, answers: Callable[[int], bool], frames: Callable[[int], bool], state_bytes: int = 4) -> None:
        self._loses_answer, self._loses_frame, self._state_bytes = answers, frames, state_bytes
        self.total, self.resets, self.infos, self._ids, self._frames, self._answers = 0, 0, 0, 0, 0, 0
        self._said: List[Record] = []
        self.stats = RecordParser().stats

    def info(self) -> Any:
        self.infos += 1
        return {"state_bytes": self._state_bytes}

    def ask(self, command: str, answer: str) -> None:
        assert (command, answer) == ("reset", "ok")
        self.resets += 1
        self.total = 0

    def forget_unread(self) -> None:
        self._said.clear()

    def new_ids(self, count: int) -> range:
        self._ids += count
        return range(self._ids - count, self._ids)

    def write(self, frame: bytes) -> None:
        self._frames += 1
        if self._loses_frame(self._frames):
            return
        number, value = decoded(frame)
        self.total += value
        self._answers += 1
        if not self._loses_answer(self._answers):
            out = np.array([self.total], np.int8).tobytes().hex()
            fields = {"id": number, "latency_us": 1, "out": out}
            self._said.append(Record("00", self._answers, "m", 0, "result", 1, fields))

    def read(self) -> List[Record]:
        said, self._said = self._said, []
        return said


def decoded(frame: bytes) -> Any:
    """(id, first value) of an infer frame."""
    content, at = bytearray(), 1
    while frame[at]:
        code = frame[at]
        content += frame[at + 1 : at + code]
        at += code
        if code < 255 and frame[at]:
            content.append(0)
    return int.from_bytes(content[1:5], "little"), int.from_bytes(content[5:6], "little", signed=True)


def never(_: int) -> bool:
    return False


def run(board: SummingBoard) -> Optional[np.ndarray]:
    return run_rows(cast(Conversation, board), ROWS).outputs


@pytest.mark.parametrize(
    ("answers", "frames"),
    [
        (lambda n: n == 4, never),
        (never, lambda n: n == 4),
        (lambda n: n == 9, never),
        (never, lambda n: n in (1, 10, 20)),
    ],
)
def test_after_a_loss_all_rows_start_again_from_the_initial_state(
    answers: Callable[[int], bool], frames: Callable[[int], bool]
) -> None:
    board = SummingBoard(answers, frames)
    board.total = 77  # of whatever ran before
    np.testing.assert_array_equal(run(board), SUMS)
    assert board.resets >= 2


def test_without_a_loss_there_is_one_reset() -> None:
    board = SummingBoard(never, never)
    np.testing.assert_array_equal(run(board), SUMS)
    assert board.resets == 1


def test_a_line_that_loses_a_row_each_time_is_an_error() -> None:
    with pytest.raises(BoardError, match="rows of a model with state must arrive in order"):
        run(SummingBoard(never, lambda n: n % 9 == 5))


def test_without_state_a_row_is_sent_again_and_nothing_is_reset() -> None:
    board = SummingBoard(lambda n: n == 4, never, state_bytes=0)
    outputs = run(board)
    assert outputs is not None
    assert board.resets == 0
    assert len(outputs) == len(ROWS)

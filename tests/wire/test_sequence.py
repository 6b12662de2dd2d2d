"""Records that come twice, late or from several boards are no loss and no restart."""

from typing import Iterable, List, Tuple

import pytest

from orchestrator.gateway.web.boards import Board
from orchestrator.wire.sequence import Sequence

HIGHEST = 2**32 - 1


def counted(records: Iterable[Tuple[str, int]]) -> Tuple[int, int]:
    """(lost, boots), by a sequence and by a dashboard's board alike."""
    sequence, board = Sequence(), Board("x")
    for boot, number in records:
        sequence.take(boot, number)
        board.take({"kind": "ok", "boot": boot, "seq": number}, 0.0)
    shown = board.shown()
    assert (shown["lost"], shown["boots"]) == (sequence.lost, sequence.boots)
    return sequence.lost, sequence.boots


def of(boot: str, *numbers: int) -> List[Tuple[str, int]]:
    return [(boot, number) for number in numbers]


@pytest.mark.parametrize(
    ("records", "lost", "boots"),
    [
        (of("a", *range(10)), 0, 1),
        (of("a", 5, 6, 9, 10), 2, 1),
        (of("a", HIGHEST - 1, HIGHEST, 0, 1), 0, 1),
        (of("a", *range(1000), 5, 1000, 1001), 0, 1),  # one came again
        (of("a", *range(1000), 999, 1000), 0, 1),
        (of("a", *range(1000), 5, 6, 7, 1000), 0, 1),  # a few did
        (of("a", *range(1000), *range(900, 1000), 1000), 0, 1),  # all that was not acknowledged did
        (of("a", 0, 1, 3, 2, 4), 1, 1),  # late: it was counted as lost already
        ([*of("a", 0, 1), *of("b", 0, 1), *of("a", 1), *of("b", 2)], 0, 2),  # of the boot before
        ([pair for n in range(50) for pair in (("a", n), ("b", n + 7))], 0, 2),  # two boards on one name
        ([*of("a", *range(10)), *of("b", *range(3))], 0, 2),
    ],
)
def test_what_is_lost_and_what_is_not(records: List[Tuple[str, int]], lost: int, boots: int) -> None:
    assert counted(records) == (lost, boots)


def test_one_number_far_ahead_does_not_end_the_counting() -> None:
    numbers = [*range(10), 1_000_000, *range(10, 30), 32]
    lost, _ = counted(of("a", *numbers))
    assert lost == 1_000_000 - 10 + 2


def test_memory_is_bounded() -> None:
    sequence = Sequence()
    for number in range(10_000):
        sequence.take(f"{number:08x}", 7)
    assert (sequence.lost, sequence.boots) == (0, 10_000)
    assert len(sequence._places) <= 16

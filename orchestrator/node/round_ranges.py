"""Numbers of rounds, of which many come one after the other: a few bytes however many there are."""

from typing import Collection, Iterator, Tuple


class RoundRanges(Collection[int]):
    """Distinct numbers in ascending order, as (first, last) of each gapless part; never changed."""

    __slots__ = ("_ranges",)

    def __init__(self, ranges: Tuple[Tuple[int, int], ...] = ()) -> None:
        self._ranges = ranges

    def adding(self, number: int) -> "RoundRanges":
        """These and one more."""
        if number in self:
            return self
        before = [r for r in self._ranges if r[1] < number - 1]
        after = [r for r in self._ranges if r[0] > number + 1]
        beside = self._ranges[len(before) : len(self._ranges) - len(after)]
        joined = (min([number, *(r[0] for r in beside)]), max([number, *(r[1] for r in beside)]))
        return RoundRanges((*before, joined, *after))

    def part_of(self, number: int) -> Tuple[int, int]:
        """(first, last) of the gapless part that `number` is in."""
        return next(part for part in self._ranges if part[0] <= number <= part[1])

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and any(first <= number <= last for first, last in self._ranges)

    def __iter__(self) -> Iterator[int]:
        return (number for first, last in self._ranges for number in range(first, last + 1))

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self._ranges)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RoundRanges) and self._ranges == other._ranges

    def __hash__(self) -> int:
        return hash(self._ranges)

    def __repr__(self) -> str:
        return f"RoundRanges({self._ranges})"

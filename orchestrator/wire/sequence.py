"""How many of a board's records never came, and how often it began again: from boot id and sequence number of those that came.

Records may come twice, or late, since a broker delivers again what was not acknowledged; that is no loss, and no boot.
"""

from collections import OrderedDict
from typing import NamedTuple

_MOST_BOOTS = 16
"""Boots that are remembered; a record of an earlier one counts as another boot."""
_MOST_LATE = 8
"""Late records in a row after which their numbers are what counts: the one that was ahead of them was wrong."""
_NUMBERS = 2**32


class _Place(NamedTuple):
    """Of one boot. due: the number after the highest that came; late, run: the number after the last late one, and how many."""

    due: int
    late: int = -1
    run: int = 0


class Sequence:
    """Of what one name, or port, sends: of one board, or of several that share it."""

    def __init__(self) -> None:
        self.lost = 0
        """Numbers that were skipped."""
        self.boots = 0
        """Different boots seen."""
        self._places: OrderedDict[str, _Place] = OrderedDict()

    def take(self, boot: str, number: int) -> None:
        """Counts a record; `number`: u32, which begins again at 0 after the highest."""
        after = (number + 1) % _NUMBERS
        place = self._places.pop(boot, None)
        if place is None:
            self.boots += 1
            place = _Place(after)
        else:
            skipped = (number - place.due) % _NUMBERS
            run = place.run + 1 if number == place.late else 1
            if skipped < _NUMBERS // 2:
                self.lost += skipped
                place = _Place(after)
            elif run >= _MOST_LATE:
                place = _Place(after)
            else:
                place = _Place(place.due, after, run)
        self._places[boot] = place
        if len(self._places) > _MOST_BOOTS:
            self._places.popitem(last=False)

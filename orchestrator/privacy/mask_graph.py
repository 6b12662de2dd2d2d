"""Who masks with whom in a secure sum, and with how few neighbours that holds (Bell et al. 2020, section 3).

Where there are few parties everybody is everybody's neighbour. Of many, each has the next degree / 2 on either side of a ring.
The order of the ring follows from all keys and from a nonce of every party. Each party commits to its nonce with its keys and
reveals it only when it has everybody's commitments, so when an aggregator learns the first nonce of an honest party, all that
its accomplices could choose is chosen: to everyone the order is drawn at random.

Except for one thing: having seen the nonces, the aggregator may say that some parties did not reveal theirs, and each set it
leaves out gives another order. A party goes on only if at most `may_withhold` are missing: as many as may help the aggregator,
three at most. Of n parties these are sum_{i <= 3} C(n, i) orders to choose from, 2^17 of 100 and 2^28 of 1,000 parties; with
`colluding` 0 there is one. All probabilities below are multiplied by that number. Another attempt at the round is another draw
as well; a node takes part in as many as its task allows, 16 at most, and reveals once in each.
"""

import hashlib
from functools import lru_cache
from math import comb
from typing import Iterable, Mapping, Tuple

import numpy as np

from orchestrator.errors import PrivacyError
from orchestrator.privacy.secure_session import LEAST_SURVIVORS, NO_NONCES, Advert, Session

NEGLIGIBLE_BITS = 40
"""What happens with a probability below 2^-40 in a session is not planned for."""

_MOST_WITHHELD = 3


def complete_up_to(degree: int) -> int:
    """How many parties at most are all neighbours of each other."""
    return 2 * -(-degree // 2) + 1


def may_withhold(colluding: int) -> int:
    """How many of those who committed to a nonce may be missing when all are revealed."""
    return min(colluding, _MOST_WITHHELD)


def orders_to_choose_from(parties: int, colluding: int) -> int:
    """How many orders of the ring an aggregator can choose from that ends up with `parties`, by leaving parties out."""
    left_out = may_withhold(colluding)
    return sum(comb(parties + left_out, i) for i in range(left_out + 1))


@lru_cache(maxsize=256)
def colluding_nearby(parties: int, colluding: int, degree: int) -> int:
    """The most of those who collude that are among any `degree` places of the ring that matter, but with 2^-40.

    These are two runs of degree / 2 places, everyone's neighbours among them: fewer than n^2 / 2. The number at given places is
    hypergeometric; the union bound is over all of them and over the orders to choose from. Whole numbers throughout, so that
    all parties get the same. Where there are few who collude they may simply all be there, and nothing is left to chance.
    """
    most = min(colluding, degree)
    others = parties - 1 - colluding
    if most == 0 or others < 0 or degree >= parties - 1:
        return most
    chances = parties * (parties - 1) // 2 * orders_to_choose_from(parties, colluding) << NEGLIGIBLE_BITS
    everything, beyond = comb(parties - 1, degree), 0
    for count in range(most, 0, -1):
        beyond += comb(colluding, count) * comb(others, degree - count)
        if beyond * chances > everything:
            return count
    return 0


def enough_neighbours(parties: int, colluding: int, degree: int) -> bool:
    """Whether more than half of every honest party's neighbours are honest, but with 2^-40.

    Then those who collude can neither rebuild a neighbour's secret nor surround it, and a threshold that counts all of them
    is still reached when a sixth of the neighbours are gone. Where all are neighbours nothing depends on an order.
    """
    return parties <= complete_up_to(degree) or 2 * colluding_nearby(parties, colluding, degree) < degree


def least_neighbours(parties: int, colluding: int) -> int:
    """The least even degree with which `parties`, of whom `colluding` may help the aggregator, have `enough_neighbours`."""
    return next(degree for degree in range(2, parties + 2, 2) if enough_neighbours(parties, colluding, degree))


class Graph:
    """Who is whose neighbour in one session. nonces: party -> what it revealed, of all parties of a sparse graph.

    Without them (keys alone) the order is one that who draws keys last has chosen: parties accept that of a complete graph only.
    """

    def __init__(
        self, session: Session, adverts: Mapping[str, Advert], nonces: Mapping[str, bytes] = NO_NONCES
    ) -> None:
        names = sorted(adverts)
        drawn = b"".join(
            part for n in names for part in (adverts[n].channel_key, adverts[n].mask_key, nonces.get(n, b""))
        )
        seed = hashlib.sha256(b"edgeward ring\0" + session.id + drawn).digest()
        self.order = sorted(names, key=lambda n: hashlib.sha256(seed + n.encode()).digest())
        self.place = {name: i for i, name in enumerate(self.order)}
        self._session = session
        self._half = min(-(-session.degree // 2), len(self.order))
        self._numbers = {name: i for i, name in enumerate(names, 1)}

    def neighbours(self, party: str) -> Tuple[str, ...]:
        count, here = len(self.order), self.place[party]
        if self.complete:
            return tuple(sorted(n for n in self.order if n != party))
        steps = [s for s in range(-self._half, self._half + 1) if s]
        return tuple(sorted(self.order[(here + s) % count] for s in steps))

    @property
    def complete(self) -> bool:
        """Whether everybody is everybody's neighbour."""
        return 2 * self._half >= len(self.order) - 1

    @property
    def nearby(self) -> int:
        """How many of those who help the aggregator may be among a party's neighbours."""
        count, colluding = len(self.order), self._session.colluding
        return colluding if self.complete else colluding_nearby(count, colluding, 2 * self._half)

    def threshold(self, party: str) -> int:
        """How many of a party's neighbours and itself can rebuild its secrets together.

        More than half of them and those who collude where all are neighbours (Bonawitz et al. 2017, section 4). More than a
        third and those who collude nearby on a sparse graph, where half of so few would too often be gone; that no party's two
        secrets are both rebuilt rests on the signed list of survivors there.
        """
        holders = len(self.neighbours(party)) + 1
        return self._session.majority(holders) if self.complete else holders // 3 + 1 + self.nearby

    def holds_together(self, survivors: Iterable[str]) -> bool:
        """Whether the honest among the survivors are all connected by masks, whichever of them collude.

        If not, the masks of each piece cancel by themselves, and the aggregator reads a sum for each. A ring comes apart where
        two runs of half the degree are empty of honest survivors, with some on both sides.
        """
        if self.complete:
            return True
        here = np.zeros(len(self.order), np.int64)
        here[[self.place[name] for name in survivors]] = 1
        count, half, total = len(here), self._half, int(here.sum())
        before = np.concatenate(
            [[0], np.cumsum(np.concatenate([here, here]))]
        )  # survivors before a place, twice around
        starts = np.arange(count)
        in_run = before[starts + half] - before[starts]
        for apart in range(half + 1, count - half):
            others = np.roll(in_run, -apart)
            between = before[starts + apart] - before[starts + half]
            beyond = total - in_run - others - between
            if bool(((in_run + others <= self.nearby) & (between > 0) & (beyond > 0)).any()):
                return False
        return True

    def number(self, party: str) -> int:
        """The party's abscissa in Shamir's scheme."""
        return self._numbers[party]


def check_parties(session: Session, count: int) -> None:
    """Raises PrivacyError unless a session of so many parties can hide what each of them sends."""
    if count < LEAST_SURVIVORS:
        raise PrivacyError(f"a sum over {count} parties shows what each of them sent")
    if count < session.least:
        raise PrivacyError(f"{count} parties, the task declares at least {session.least}")
    degree = 2 * -(-session.degree // 2)
    if not enough_neighbours(count, session.colluding, degree):
        raise PrivacyError(
            f"{degree} neighbours are too few where {session.colluding} parties may help the aggregator: of {count} parties "
            f"each needs {least_neighbours(count, session.colluding)}"
        )

"""The gateway's side of a secure sum: it adds masked vectors, and takes off what masks are left once neighbours gave shares.

What the parties do, and why it protects them, is in privacy/secure_sum.py.
"""

from typing import Dict, List, Mapping, Sequence, Tuple

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from orchestrator.errors import PrivacyError
from orchestrator.privacy.mask_graph import Graph
from orchestrator.privacy.masks import PAIR, SELF, Ring, mask_from, pair_mask
from orchestrator.privacy.ring import mask_of, unpack, word_of
from orchestrator.privacy.secure_session import NO_NONCES, Advert, Session
from orchestrator.privacy.shamir import combine_shares


class Aggregator:
    """The side that learns the sum. Adds masked vectors as they come: memory does not grow with the number of parties."""

    def __init__(
        self,
        session: Session,
        adverts: Sequence[Advert],
        ring: Ring,
        announced: bytes = b"",
        nonces: Mapping[str, bytes] = NO_NONCES,
    ) -> None:
        """`adverts`: on a sparse graph, of those whose `nonces` are here."""
        self._session, self._ring = session.among(announced, adverts, nonces), ring
        self._adverts = {advert.party: advert for advert in adverts}
        self._graph = Graph(session, self._adverts, nonces)
        self._shared: Dict[str, Dict[str, bytes]] = {}
        self._total = np.zeros(ring.size, word_of(ring.bits))
        self._survivors: List[str] = []

    def take_shares(self, party: str, shares: Mapping[str, bytes]) -> None:
        if set(shares) != set(self._graph.neighbours(party)):
            raise PrivacyError(f"{party} did not share with exactly its neighbours")
        self._shared[party] = dict(shares)

    def shares_for(self, party: str) -> Dict[str, bytes]:
        """What the parties that have shared encrypted for `party`: the same answer must go out only once all have come."""
        return {n: self._shared[n][party] for n in self._graph.neighbours(party) if n in self._shared}

    def take_masked(self, party: str, masked: bytes) -> None:
        if party not in self._shared or party in self._survivors:
            raise PrivacyError(f"{party} sent a vector {'twice' if party in self._survivors else 'without shares'}")
        self._total += unpack(masked, self._ring.bits, self._ring.size)
        self._survivors.append(party)

    @property
    def survivors(self) -> List[str]:
        return sorted(self._survivors)

    def open(self, answers: Mapping[str, Mapping[str, Tuple[bytes, bytes]]]) -> np.ndarray:
        """Words (size,): the sum in the ring. `answers`: party -> what its `unmask` gave.

        Raises PrivacyError naming the party whose mask cannot be removed when too few of its neighbours answered.
        """
        total = self._total.copy()
        alive = set(self._survivors)
        for party in sorted(self._shared):
            kind = SELF if party in alive else PAIR
            shares = {
                self._graph.number(holder): given[party][1]
                for holder, given in answers.items()
                if party in given and given[party][0] == kind
            }
            try:
                secret = combine_shares(shares, self._graph.threshold(party))
            except ValueError as error:
                raise PrivacyError(f"the mask of {party} cannot be removed: {error}") from error
            if kind == SELF:
                total -= mask_from(self._session.key(secret, SELF), self._ring)
                continue
            private = X25519PrivateKey.from_private_bytes(secret)
            if private.public_key().public_bytes_raw() != self._adverts[party].mask_key:
                raise PrivacyError(f"the shares of {party}'s key do not give its key: somebody sent a wrong one")
            for other in self._graph.neighbours(party):
                if other in alive:
                    pairwise = pair_mask(self._session, private, self._adverts[other].mask_key, self._ring)
                    (np.subtract if other < party else np.add)(total, pairwise, out=total)
        return np.asarray(total & mask_of(self._ring.bits))

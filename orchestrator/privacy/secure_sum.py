"""A sum that shows no summand: double masking (Bonawitz et al. 2017) on a k-regular graph (Bell et al. 2020, SecAgg+).

Every party hides its vector under a mask of its own and one for each neighbour; the neighbours' masks cancel in the sum, and what
dropouts leave is removed with Shamir shares that neighbours hold. Each step is one message up and one down:

    advertise  two public keys and a commitment to a nonce, signed with the party's long-term key
    reveal     the nonce, once all adverts are known; only where not everybody is everybody's neighbour
    share      shares of both secrets, encrypted for each neighbour
    mask       the vector, masked
    confirm    a signature under the list of survivors;   then   unmask   one share for each neighbour, and its own

On a sparse graph the nonces decide who is whose neighbour (privacy/mask_graph.py has what that gives, and how much choice it
leaves the aggregator), and a party signs no list of survivors among whom the masks would come apart into several sums. Shares
are encrypted under the adverts and nonces that their sender was shown: a party that was shown others cannot read them. So all
who hold shares of a party sign lists of the same session, and honest parties give shares of one kind.

Where everybody is everybody's neighbour, a party also signs with its vector whom it expects in the sum (`foresee`). If all of
them sent theirs, those signatures stand in for the step "confirm". There are two lists then that a party may have signed, but
it helps with one, once: it gives one share of each party, and to rebuild a secret it takes so many that two such groups have an
honest party in common. So of nobody are both secrets rebuilt, and a list that all on it foresaw is one among whom all of them
masked.

What it assumes: no more than `Session.colluding` parties help the aggregator, who do so from the beginning, and signatures are
authentic. Where all are neighbours it then holds for certain, on a sparse graph but with a probability of 2^-40 in a session.
What it does not hide: the sum, and who took part. What it does not stop: a party that sends nonsense. Keys are fresh in every
session.

Masks also depend on what was announced to parties: an aggregator that gives some another model, or another scale for their
values, so that their part in the sum vanishes and another's stands alone (Pasquini et al. 2022), gets masks that do not cancel.
"""

import os
from dataclasses import replace
from typing import Dict, FrozenSet, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from orchestrator.errors import PrivacyError
from orchestrator.privacy.aggregator import Aggregator
from orchestrator.privacy.mask_graph import (
    Graph,
    check_parties,
    complete_up_to,
    may_withhold,
)
from orchestrator.privacy.masks import PAIR, SELF, Ring, mask_from, pair_mask
from orchestrator.privacy.pair_keys import PairKeys
from orchestrator.privacy.ring import mask_of, pack, to_ring
from orchestrator.privacy.secure_session import (
    CERTIFICATES,
    LEAST_SURVIVORS,
    MODEL,
    NO_NONCES,
    Advert,
    Session,
    Sign,
    Verify,
    commitment_to,
    digest_of_announced,
    session_id,
    survivors_message,
    usable_key,
)
from orchestrator.privacy.shamir import SECRET_BYTES, split_secret
from orchestrator.wire.secure_steps import COMMITMENT_BYTES, NONCE_BYTES

__all__ = [
    "CERTIFICATES",
    "MODEL",
    "PAIR",
    "SELF",
    "Advert",
    "Aggregator",
    "Graph",
    "Party",
    "Ring",
    "Session",
    "Verify",
    "digest_of_announced",
    "mask_from",
    "pair_mask",
    "session_id",
    "usable_key",
]


class Party:
    """One side of one session. Each step once, in order; PrivacyError for anything that would give the vector away."""

    def __init__(self, session: Session, name: str, sign: Sign, verify: Verify) -> None:
        self._session, self._name, self._sign, self._verify = session, name, sign, verify
        self._keys = PairKeys(name)
        self._own_seed, self._nonce = os.urandom(SECRET_BYTES), os.urandom(NONCE_BYTES)
        self._nonces: Mapping[str, bytes] = NO_NONCES
        self._adverts: Dict[str, Advert] = {}
        self._committed = b""
        self._graph: Optional[Graph] = None
        self._shown = session  # with the adverts and nonces this party was shown
        self._held: Dict[str, Tuple[bytes, bytes]] = {}  # neighbour -> shares of (its own seed, its pairwise key)
        self._expected: FrozenSet[str] = frozenset()
        self._foreseen: Optional[FrozenSet[str]] = None
        self._survivors: Optional[FrozenSet[str]] = None
        self._done: List[str] = []

    def advertise(self, ahead: bool = False) -> Advert:
        """ahead: for the next round, which has no step to reveal nonces in: then only a complete graph will do."""
        self._once("advertise", ())
        bare = self._advert(b"" if ahead else commitment_to(self._session, self._name, self._nonce))
        return replace(bare, signature=self._sign(bare.signed(self._session)))

    def reveal(self, adverts: Sequence[Advert]) -> bytes:
        """This party's nonce, from the adverts of all parties: with them all others have committed to theirs."""
        self._once("reveal", ("advertise",))
        self._take_adverts(adverts)
        check_parties(self._session, len(self._adverts))
        if len(self._adverts) <= complete_up_to(self._session.degree):
            raise PrivacyError(f"{len(self._adverts)} parties are all neighbours: there is no nonce to reveal")
        for advert in self._adverts.values():
            if len(advert.commitment) != COMMITMENT_BYTES:
                raise PrivacyError(f"{advert.party} has not committed to a nonce")
        return self._nonce

    def share(self, adverts: Sequence[Advert], nonces: Mapping[str, bytes] = NO_NONCES) -> Dict[str, bytes]:
        """neighbour -> encrypted shares, from the adverts of all parties of the session.

        `nonces`: what they revealed, where the graph is sparse. The adverts must then be those this party saw before it revealed
        its own; who revealed nothing is out, and if these are more than `may_withhold` the session is.
        """
        self._once("share", ("advertise",))
        if "reveal" in self._done:
            self._take_nonces(adverts, nonces)
        else:
            self._take_adverts(adverts)
        check_parties(self._session, len(self._adverts))
        if "reveal" not in self._done and (nonces or len(self._adverts) > complete_up_to(self._session.degree)):
            raise PrivacyError(
                f"{len(self._adverts)} parties with {self._session.degree} neighbours each, and this one was not asked to "
                "reveal its nonce: who is whose neighbour could have been chosen"
            )
        graph = self._graph = Graph(self._session, self._adverts, self._nonces)
        self._shown = self._session.among(b"", self._adverts.values(), self._nonces)
        neighbours, threshold = graph.neighbours(self._name), graph.threshold(self._name)
        if threshold > len(neighbours) + 1:
            raise PrivacyError(
                f"{len(neighbours)} neighbours are too few where {self._session.colluding} parties may help the aggregator"
            )
        for name in neighbours:
            self._keys.agree(self._adverts[name])
        numbers = [graph.number(n) for n in (*neighbours, self._name)]
        own = split_secret(self._own_seed, numbers, threshold)
        pair = split_secret(self._keys.mask_secret, numbers, threshold)
        number = graph.number(self._name)
        self._held[self._name] = (own[number], pair[number])
        return {n: self._keys.encrypt(self._shown, n, own[graph.number(n)] + pair[graph.number(n)]) for n in neighbours}

    def check_signatures(self) -> None:
        """Raises PrivacyError unless all other parties' keys are signed by who they are now believed to be."""
        for advert in self._adverts.values():
            known = advert.party == self._name  # its keys are compared in `share`
            if not known and not self._verify(advert.party, advert.signed(self._session), advert.signature):
                raise PrivacyError(f"the keys of {advert.party} are not signed by {advert.party}")

    def mask(self, values: np.ndarray, shares: Mapping[str, bytes], bits: int, announced: bytes = b"") -> bytes:
        """Whole numbers (size,), masked and packed in `bits` each. `shares`: what the neighbours still here encrypted for it.

        `announced`: digest of what must have gone to all parties alike; what follows fits only those of whom it is the same.
        """
        self._once("mask", ("advertise", "share"))
        self.open_shares(shares)
        self._session = self._session.among(announced, self._adverts.values(), self._nonces)
        self._expected = frozenset([*shares, self._name])
        ring = Ring(bits, values.size)
        total = to_ring(values, bits) + mask_from(self._session.key(self._own_seed, SELF), ring)
        for other in sorted(shares):
            pairwise = mask_from(self._session.key(self._keys.shared_with(other), PAIR), ring)
            (np.add if self._name < other else np.subtract)(total, pairwise, out=total)
        return pack(total & mask_of(bits), bits)

    def open_shares(self, shares: Mapping[str, bytes]) -> None:
        """Checks and keeps what neighbours encrypted for this party; to be called before `values` of a `mask` are computed.

        Raises PrivacyError, so that shares that were changed on the way stop nothing that rests on a secret sample.
        """
        if "share" not in self._done:
            raise PrivacyError("shares of other parties before this one gave its own: each step comes once, in order")
        graph = self._need_graph()
        neighbours = set(graph.neighbours(self._name))
        if not set(shares) <= neighbours:
            raise PrivacyError(f"shares of {', '.join(sorted(set(shares) - neighbours))}, which is no neighbour")
        # Those it does not mask with must not be enough to give its own mask away, or an aggregator that loses all others
        # would have its vector. It need not be in the sum for that.
        apart, threshold = len(neighbours) - len(shares) + graph.nearby, graph.threshold(self._name)
        if len(shares) + 1 < threshold or apart >= threshold:
            raise PrivacyError(f"{len(shares)} of {len(neighbours)} neighbours left: too few to mask under")
        for sender, cipher in shares.items():
            self._held[sender] = self._keys.decrypt(self._shown, sender, cipher)

    def foresee(self) -> Optional[bytes]:
        """A signature under those whose vectors this party expects in the sum; None where that must be seen first."""
        self._once("foresee", ("mask",))
        if self.sparse or len(self._expected) < max(LEAST_SURVIVORS, self._session.least):
            return None
        self._foreseen = self._expected
        return self._sign(survivors_message(self._session, self._foreseen, foreseen=True))

    def confirm(self, survivors: Sequence[str]) -> bytes:
        """A signature under the list of parties whose vectors are in the sum; only ever for one list."""
        if "unmask" in self._done:
            raise PrivacyError("this party has helped to open the sum already")
        self._once("confirm", ("mask",))
        names = frozenset(name for name in survivors if isinstance(name, str))
        if len(names) != len(survivors) or not names <= set(self._adverts):
            raise PrivacyError("the list of survivors names someone twice, or a stranger")
        if self._name not in names:
            raise PrivacyError("this party's vector is not in the sum: it will not help to open it")
        apart = (names & set(self._need_graph().neighbours(self._name))) - self._expected
        if apart:
            raise PrivacyError(
                f"with {', '.join(sorted(apart))} in the sum this party shares no mask: they were announced as gone"
            )
        if len(names) < LEAST_SURVIVORS:
            raise PrivacyError(f"a sum over {len(names)} parties shows what each of them sent")
        if len(names) < self._session.least:
            raise PrivacyError(
                f"{len(names)} parties are in the sum; fewer than the declared {self._session.least} carry too little noise"
            )
        if not self._need_graph().holds_together(names):
            raise PrivacyError(
                f"a sum over {len(names)} of {len(self._adverts)} parties between which the masks come apart: it would be several"
            )
        self._survivors = names
        return self._sign(survivors_message(self._session, names))

    def unmask(self, signatures: Mapping[str, bytes], foreseen: bool = False) -> Dict[str, Tuple[bytes, bytes]]:
        """party -> (kind, share): of its own mask if it survived, else of its pairwise key. Never both of one party.

        `signatures`: of survivors under the same list. Unless more than half of all parties signed it this one refuses: with
        honest parties signing one list only, there cannot be two such lists. `foreseen`: the list is the one this party
        foresaw, which everybody on it must have signed, and this one confirmed no other.
        """
        if foreseen and "confirm" in self._done:
            raise PrivacyError("this party has confirmed a list of survivors: what it foresaw does not count any more")
        self._once("unmask", ("foresee" if foreseen else "confirm",))
        survivors = self._foreseen if foreseen else self._survivors
        if survivors is None:
            raise PrivacyError("this party foresaw no list of survivors")
        message = survivors_message(self._session, survivors, foreseen)
        agreeing = [
            n
            for n, signature in signatures.items()
            if n in survivors and (n == self._name or self._verify(n, message, signature))
        ]
        needed = max(self._session.majority(len(self._adverts)), len(survivors) if foreseen else 0)
        if len(agreeing) < needed:
            raise PrivacyError(f"{len(agreeing)} parties signed this list of survivors, {needed} are needed")
        return {n: (SELF, own) if n in survivors else (PAIR, pair) for n, (own, pair) in self._held.items()}

    @property
    def sparse(self) -> bool:
        """Whether this session's parties are not all neighbours of each other."""
        return self._graph is not None and not self._graph.complete

    @property
    def parties(self) -> FrozenSet[str]:
        """All of the session: who advertised keys and, on a sparse graph, revealed a nonce."""
        return frozenset(self._adverts)

    @property
    def agreed(self) -> FrozenSet[str]:
        """The survivors this party signed for: those it confirmed, or else foresaw."""
        return self._survivors or self._foreseen or frozenset()

    def _advert(self, commitment: bytes) -> Advert:
        self._committed = commitment
        return Advert(self._name, *self._keys.public, b"", commitment)

    def _take_adverts(self, adverts: Sequence[Advert]) -> None:
        for advert in adverts:
            if advert.party in self._adverts:
                raise PrivacyError(f"two sets of keys for {advert.party}")
            self._adverts[advert.party] = advert
        self.check_signatures()
        mine = self._adverts.get(self._name)
        if mine is None or replace(mine, signature=b"") != self._advert(self._committed):
            raise PrivacyError("the aggregator changed this party's own keys")

    def _take_nonces(self, adverts: Sequence[Advert], nonces: Mapping[str, bytes]) -> None:
        if len(adverts) != len(self._adverts) or {advert.party: advert for advert in adverts} != self._adverts:
            raise PrivacyError("these are not the keys this party was shown before it revealed its nonce")
        for name, nonce in nonces.items():
            if name not in self._adverts or not self._adverts[name].commits_to(self._session, nonce):
                raise PrivacyError(f"what {name} is said to have revealed is not what it committed to")
        if self._name not in nonces:
            raise PrivacyError("this party has revealed its nonce, and is not in the session")
        missing, most = sorted(set(self._adverts) - set(nonces)), may_withhold(self._session.colluding)
        if len(missing) > most:
            raise PrivacyError(
                f"{len(missing)} parties ({', '.join(missing[:5])}) committed to a nonce that is missing, at most {most} may be: "
                "by leaving some out, who is whose neighbour can be chosen"
            )
        self._adverts = {name: self._adverts[name] for name in nonces}
        self._nonces = dict(nonces)

    def _once(self, step: str, before: Tuple[str, ...]) -> None:
        if step in self._done or any(b not in self._done for b in before):
            raise PrivacyError(f"step {step!r} after {self._done}: each step comes once, in order")
        self._done.append(step)

    def _need_graph(self) -> Graph:
        if self._graph is None:
            raise PrivacyError("no keys of the other parties yet")
        return self._graph

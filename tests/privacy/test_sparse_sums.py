"""Sums on sparse graphs against an aggregator that lies: about nonces, keys, who revealed, and who is in the sum."""

import math
import os
import random
from dataclasses import replace
from typing import Dict, List, Optional, Sequence, Set

import numpy as np
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from orchestrator.errors import PrivacyError
from orchestrator.privacy.mask_graph import Graph
from orchestrator.privacy.ring import from_ring
from orchestrator.privacy.secure_session import Advert, Session, commitment_to
from orchestrator.privacy.secure_sum import Aggregator, Party, Ring

RING = Ring(24, 5)
SIGNING = {f"n{i:02}": Ed25519PrivateKey.generate() for i in range(33)}
NAMES = sorted(SIGNING)[:12]


def verify(party: str, message: bytes, signature: bytes) -> bool:
    try:
        SIGNING[party].public_key().verify(signature, message)
    except InvalidSignature:
        return False
    return True


class Sparse:
    """Parties of one session, up to where a test wants them."""

    def __init__(self, session: Optional[Session] = None, names: Sequence[str] = tuple(NAMES)) -> None:
        self.session = session or Session(os.urandom(8), 4)
        self.parties = {n: Party(self.session, n, SIGNING[n].sign, verify) for n in names}
        self.adverts = [party.advertise() for party in self.parties.values()]
        self.nonces: Dict[str, bytes] = {}
        self.shares: Dict[str, Dict[str, bytes]] = {}
        self.masked: Dict[str, bytes] = {}

    def reveal(self) -> "Sparse":
        self.nonces = {n: party.reveal(self.adverts) for n, party in self.parties.items()}
        return self

    def used(self, withheld: Sequence[str] = ()) -> List[Advert]:
        return [a for a in self.adverts if a.party not in withheld]

    def mask(self, withheld: Sequence[str] = ()) -> None:
        """From shares to masked vectors, of all who revealed."""
        given = {n: nonce for n, nonce in self.nonces.items() if n not in withheld}
        self.aggregator = Aggregator(self.session, self.used(withheld), RING, nonces=given)
        self.graph = Graph(self.session, {a.party: a for a in self.used(withheld)}, given)
        for name in given:
            self.shares[name] = self.parties[name].share(self.adverts, given)
            self.aggregator.take_shares(name, self.shares[name])
        self.values = {n: np.full(RING.size, i + 1) for i, n in enumerate(given)}
        for name in given:
            shares = self.aggregator.shares_for(name)
            self.masked[name] = self.parties[name].mask(self.values[name], shares, RING.bits)
            self.aggregator.take_masked(name, self.masked[name])


# Nonces


def test_a_sum_of_those_who_revealed_is_theirs() -> None:
    for withheld, colluding in (((), 0), (("n03",), 1)):
        played = Sparse(Session(os.urandom(8), 4, 3, colluding)).reveal()
        played.mask(withheld)
        names = played.aggregator.survivors
        assert set(names) == set(NAMES) - set(withheld)
        signatures = {n: played.parties[n].confirm(names) for n in names}
        answers = {n: played.parties[n].unmask(signatures) for n in names}
        opened = from_ring(played.aggregator.open(answers), RING.bits)
        np.testing.assert_array_equal(opened, sum(played.values.values()))


def test_without_the_step_no_shares_are_given() -> None:
    """As it was: an aggregator that has seen all keys draws its puppets' until their places suit it."""
    played = Sparse()
    with pytest.raises(PrivacyError, match="12 parties with 4 neighbours each, and this one was not asked to reveal"):
        played.parties["n00"].share(played.adverts)
    with pytest.raises(PrivacyError, match="was not asked to reveal"):
        played.parties["n01"].share(played.adverts, {n: bytes(32) for n in NAMES})


def test_keys_sent_a_round_ahead_serve_for_no_sparse_graph() -> None:
    session = Session(b"ahead", 4)
    parties = {n: Party(session, n, SIGNING[n].sign, verify) for n in NAMES}
    adverts = [party.advertise(ahead=True) for party in parties.values()]
    assert {a.commitment for a in adverts} == {b""}
    with pytest.raises(PrivacyError, match="has not committed to a nonce"):
        parties["n00"].reveal(adverts)
    with pytest.raises(PrivacyError, match="was not asked to reveal"):
        parties["n01"].share(adverts)


def test_where_all_are_neighbours_no_nonce_is_revealed_nor_wanted() -> None:
    played = Sparse(names=NAMES[:5])
    with pytest.raises(PrivacyError, match="5 parties are all neighbours"):
        played.parties["n00"].reveal(played.adverts)
    with pytest.raises(PrivacyError, match="was not asked to reveal"):
        played.parties["n01"].share(played.adverts, {n: bytes(32) for n in NAMES[:5]})
    assert set(played.parties["n02"].share(played.adverts)) == set(NAMES[:5]) - {"n02"}


@pytest.mark.parametrize("lie", ["wrong", "short", "swapped", "stranger", "own", "not own"])
def test_nonces_that_are_not_those_committed_to_are_refused(lie: str) -> None:
    played = Sparse().reveal()
    nonces = dict(played.nonces)
    if lie in ("wrong", "short"):
        nonces["n05"] = bytes(32) if lie == "wrong" else b""
    elif lie == "swapped":
        nonces["n05"], nonces["n06"] = nonces["n06"], nonces["n05"]
    elif lie == "stranger":
        nonces["n30"] = bytes(32)
    elif lie == "own":
        nonces["n00"] = bytes(32)
    else:
        del nonces["n00"]
    with pytest.raises(PrivacyError, match="is not what it committed to|is not in the session"):
        played.parties["n00"].share(played.adverts, nonces)


@pytest.mark.parametrize(
    "lie", ["another key", "another commitment", "one more", "one less", "repeated", "in place", "signature"]
)
def test_keys_that_are_not_those_seen_before_revealing_are_refused(lie: str) -> None:
    played = Sparse().reveal()
    drawn = Party(played.session, "n05", SIGNING["n05"].sign, verify)
    again, nonces = drawn.advertise(), {**played.nonces}
    adverts, rest = list(played.adverts), [a for a in played.adverts if a.party != "n05"]
    if lie == "another key":
        adverts = [*rest, again]
        nonces["n05"] = drawn._nonce
    elif lie == "another commitment":
        nonces["n05"] = bytes(32)
        adverts = [*rest, replace(adverts[5], commitment=commitment_to(played.session, "n05", bytes(32)))]
    elif lie == "one more":
        adverts.append(Party(played.session, "n20", SIGNING["n20"].sign, verify).advertise())
    elif lie == "one less":
        adverts = rest
        del nonces["n05"]
    elif lie == "repeated":
        adverts.append(adverts[5])
    elif lie == "in place":
        adverts = [*rest, adverts[3]]
    else:
        adverts = [*rest, replace(adverts[5], signature=b"other")]
    with pytest.raises(PrivacyError, match="are not the keys this party was shown before it revealed"):
        played.parties["n00"].share(adverts, nonces)


@pytest.mark.parametrize("colluding", [0, 1, 3])
def test_withheld_nonces_are_a_choice_and_bounded(colluding: int) -> None:
    names = sorted(SIGNING)[:20]
    played = Sparse(Session(os.urandom(8), 12, 3, colluding), names).reveal()
    for count, name in ((colluding, "n00"), (colluding + 1, "n01")):
        nonces = {n: played.nonces[n] for n in names[: 20 - count]}
        if count <= colluding:
            assert played.parties[name].share(played.adverts, nonces)
        else:
            with pytest.raises(
                PrivacyError, match=f"{count} parties .* committed to a nonce that is missing, at most {colluding}"
            ):
                played.parties[name].share(played.adverts, nonces)


def test_a_nonce_is_revealed_once_whatever_else_is_shown() -> None:
    played = Sparse()
    nonce = played.parties["n00"].reveal(played.adverts)
    for adverts in (played.adverts, played.adverts[:11]):
        with pytest.raises(PrivacyError, match="each step comes once"):
            played.parties["n00"].reveal(adverts)
    assert len(nonce) == 32
    early = Party(played.session, "n00", SIGNING["n00"].sign, verify)
    with pytest.raises(PrivacyError, match="each step comes once, in order"):
        early.reveal(played.adverts)


@pytest.mark.parametrize("lie", ["own commitment", "none", "unsigned", "short"])
def test_nothing_is_revealed_to_adverts_that_do_not_hold(lie: str) -> None:
    played = Sparse()
    adverts = list(played.adverts)
    if lie == "own commitment":
        adverts[0] = replace(adverts[0], commitment=bytes(32))
    elif lie == "none":
        bare = replace(adverts[5], commitment=b"")
        adverts[5] = replace(bare, signature=SIGNING["n05"].sign(bare.signed(played.session)))
    elif lie == "unsigned":
        adverts[5] = replace(adverts[5], commitment=bytes(32))
    else:
        bare = replace(adverts[5], commitment=bytes(31))
        adverts[5] = replace(bare, signature=SIGNING["n05"].sign(bare.signed(played.session)))
    with pytest.raises(PrivacyError, match="changed this party's own keys|has not committed|are not signed"):
        played.parties["n00"].reveal(adverts)


def test_too_few_neighbours_for_those_who_collude_reveal_nothing() -> None:
    played = Sparse(Session(b"few", 4, 5, 2))
    with pytest.raises(PrivacyError, match="4 neighbours are too few .* of 12 parties each needs 6"):
        played.parties["n00"].reveal(played.adverts)


@pytest.mark.parametrize("real", [2, 3])
def test_puppets_that_choose_last_surround_a_party_no_more_often_than_chance(real: int) -> None:
    """30 puppets, in sessions as a party sees them. They draw keys and nonces until, were the victim's nonce what they guess, it
    would be surrounded; then its nonce comes, and every later choice is refused. Without nonces they always have it.
    """
    names = sorted(SIGNING)[: 30 + real]
    honest, victim = set(names[:real]), names[0]
    chance = math.comb(30, 12) / math.comb(29 + real, 12)
    rng, hits, sessions = random.Random(real), 0, 300
    key = X25519PrivateKey.generate().public_key().public_bytes_raw()
    for _ in range(sessions):
        session = Session(rng.getrandbits(64).to_bytes(8, "big"), 12)
        party = Party(session, victim, SIGNING[victim].sign, lambda *_: True)
        nonces = {n: rng.getrandbits(256).to_bytes(32, "big") for n in names[1:]}
        own, guess = party.advertise(), bytes(32)
        while True:
            nonces[names[-1]] = rng.getrandbits(256).to_bytes(32, "big")
            others = [Advert(n, key, key, b"", commitment_to(session, n, nonces[n])) for n in names[1:]]
            adverts = [own, *others]
            known = {a.party: a for a in adverts}
            if not set(Graph(session, known, {**nonces, victim: guess}).neighbours(victim)) & honest:
                break
        nonces[victim] = party.reveal(adverts)
        hits += not set(party.share(adverts, nonces)) & honest
    assert abs(hits - sessions * chance) <= 5 * math.sqrt(sessions * chance * (1 - chance))


# Two lists


def test_shares_made_for_one_list_are_not_read_by_a_party_shown_another() -> None:
    """Some are shown that n11 revealed nothing. Were their lists of survivors to differ too, these would give shares of n00's key
    and the others shares of its own mask. So shares are readable only by those who were shown the same.
    """
    played = Sparse(Session(b"two lists", 6, 3, 1)).reveal()
    graph = Graph(played.session, {a.party: a for a in played.adverts}, played.nonces)
    fewer = {n: nonce for n, nonce in played.nonces.items() if n != "n11"}
    theirs = Graph(played.session, {a.party: a for a in played.used(["n11"])}, fewer)
    near = set(graph.neighbours("n00")) & set(theirs.neighbours("n00"))
    shares = played.parties["n00"].share(played.adverts, played.nonces)
    given = {n: played.parties[n].share(played.adverts, fewer) for n in NAMES[1:11]}
    assert near
    for name in near:
        own = {n: shared[name] for n, shared in given.items() if name in shared}
        with pytest.raises(PrivacyError, match="shares of n00 were changed on the way"):
            played.parties[name].mask(np.zeros(RING.size, np.int64), {**own, "n00": shares[name]}, RING.bits)


# Pieces


def pieces(played: Sparse) -> Set[str]:
    """Survivors in two pieces of the ring: four in a row, two left out on either side of them, and all others."""
    order = played.graph.order
    return set(order) - {order[0], order[1], order[6], order[7]}


def test_a_sum_that_would_be_two_is_not_confirmed() -> None:
    """An aggregator that says those around four parties dropped out reads what these four sent, and the rest, apart."""
    played = Sparse(Session(os.urandom(8), 4), sorted(SIGNING)[:20]).reveal()
    played.mask()
    survivors = sorted(pieces(played))
    inside = next(n for n in survivors)
    with pytest.raises(PrivacyError, match="a sum over 16 of 20 parties between which the masks come apart"):
        played.parties[inside].confirm(survivors)
    whole = sorted(set(survivors) | {played.graph.order[7]})
    assert played.parties[next(n for n in whole if n != inside)].confirm(whole)


def test_what_such_a_sum_would_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attack as it worked: the masks of the four cancel among themselves and with those left out, so theirs is a sum too."""
    monkeypatch.setattr(Graph, "holds_together", lambda *_: True)
    played = Sparse(Session(os.urandom(8), 4), sorted(SIGNING)[:20]).reveal()
    played.mask()
    survivors, four = sorted(pieces(played)), played.graph.order[2:6]
    signatures = {n: played.parties[n].confirm(survivors) for n in survivors}
    answers = {n: played.parties[n].unmask(signatures) for n in survivors}
    part = Aggregator(played.session, played.adverts, RING, nonces=played.nonces)
    for name in {*four, *played.graph.order} - (set(survivors) - set(four)):
        part.take_shares(name, played.shares[name])
    for name in four:
        part.take_masked(name, played.masked[name])
    seen = from_ring(part.open(answers), RING.bits)
    np.testing.assert_array_equal(seen, sum(played.values[n] for n in four))

"""Attack: the aggregator draws its puppets' keys again and again until a node's only neighbours are puppets, and reads it.
Promise: the order of a sparse graph follows from nonces to which everybody committed before any was known."""

import os
from dataclasses import replace
from typing import Any, Dict, List, Optional

import pytest

from orchestrator.errors import PrivacyError
from orchestrator.privacy.secure_sum import Advert, Graph, Party, Session, session_id

HONEST, PUPPETS = [f"node-{i}" for i in range(6)], [f"puppet-{i}" for i in range(6)]
VICTIM = HONEST[0]
TRIES = 2000


def session(colluding: int = 0) -> Session:
    return Session(session_id("test", "run", 1, 1), degree=4, least=3, colluding=colluding)


def party(name: str, where: Optional[Session] = None) -> Party:
    return Party(where or session(), name, lambda message: b"signed", lambda *_: True)


class Ring:
    """All parties of a session, their adverts, and the nonces of all: honest ones reveal theirs when asked."""

    def __init__(self, where: Optional[Session] = None) -> None:
        self.parties = {name: party(name, where) for name in (*HONEST, *PUPPETS)}
        self.adverts: Dict[str, Advert] = {name: p.advertise() for name, p in self.parties.items()}

    def revealed(self) -> Dict[str, bytes]:
        return {name: p.reveal(list(self.adverts.values())) for name, p in self.parties.items()}


def test_a_node_shares_nothing_in_an_order_that_keys_alone_decide() -> None:
    """The attack as it was: only mask keys decide, so new ones for a puppet are another order. A few tries are enough."""
    ring = Ring()
    for _ in range(TRIES):
        if set(Graph(session(), ring.adverts).neighbours(VICTIM)) <= set(PUPPETS):
            break
        ring.adverts[PUPPETS[0]] = replace(ring.adverts[PUPPETS[0]], mask_key=os.urandom(32))
    with pytest.raises(PrivacyError):
        ring.parties[VICTIM].share(list(ring.adverts.values()))


def test_all_revealed_nonces_decide_and_none_can_be_exchanged() -> None:
    """Once the victim has revealed its nonce, a puppet's other nonce is not the one it committed to."""
    ring = Ring()
    nonces = ring.revealed()
    other = {**nonces, PUPPETS[0]: os.urandom(len(nonces[PUPPETS[0]]))}
    with pytest.raises(PrivacyError):
        ring.parties[VICTIM].share(list(ring.adverts.values()), other)


def test_keys_and_commitments_cannot_change_after_the_victim_revealed() -> None:
    ring = Ring()
    nonces = ring.revealed()
    late = party(PUPPETS[0])
    adverts = {**ring.adverts, PUPPETS[0]: late.advertise()}
    with pytest.raises(PrivacyError):
        ring.parties[VICTIM].share(list(adverts.values()), nonces)


@pytest.mark.parametrize(("colluding", "missing"), [(0, 1), (0, 3), (1, 2)])
def test_leaving_nonces_out_is_no_second_draw(colluding: int, missing: int) -> None:
    """Each set left out is another order: more than a few, and the session ends."""
    where = replace(session(colluding), degree=8)
    ring = Ring(where)
    nonces = ring.revealed()
    kept = {name: nonce for name, nonce in nonces.items() if name not in PUPPETS[:missing]}
    with pytest.raises(PrivacyError):
        ring.parties[VICTIM].share(list(ring.adverts.values()), kept)


def test_a_nonce_is_revealed_once_and_only_for_commitments() -> None:
    ring = Ring()
    adverts: List[Any] = list(ring.adverts.values())
    bare = [replace(a, commitment=b"") if a.party == PUPPETS[0] else a for a in adverts]
    with pytest.raises(PrivacyError):
        ring.parties[VICTIM].reveal(bare)
    other = Ring()
    other.parties[VICTIM].reveal(list(other.adverts.values()))
    with pytest.raises(PrivacyError):
        other.parties[VICTIM].reveal(list(other.adverts.values()))


def test_the_victim_is_surrounded_no_more_often_than_by_chance() -> None:
    """Honest draws: all four neighbours among six puppets of eleven others in 15 of 330; far from certain."""
    surrounded = 0
    for _ in range(150):
        ring = Ring()
        graph = Graph(session(), ring.adverts, ring.revealed())
        surrounded += set(graph.neighbours(VICTIM)) <= set(PUPPETS)
    assert surrounded <= 30  # 7 are expected; more than 30 once in 10^9


def test_with_the_nonces_a_session_goes_on() -> None:
    """So that the refusals above are of what was changed."""
    ring = Ring()
    nonces = ring.revealed()
    shares = ring.parties[VICTIM].share(list(ring.adverts.values()), nonces)
    assert set(shares) == set(Graph(session(), ring.adverts, nonces).neighbours(VICTIM))

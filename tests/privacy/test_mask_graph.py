"""Who is whose neighbour: how few neighbours are enough, when a ring comes apart, and that nobody can choose its order."""

import hashlib
import itertools
import math
import random
from typing import Any, Dict, List, Sequence, Set

import numpy as np
import pytest

from orchestrator.privacy.mask_graph import (
    Graph,
    colluding_nearby,
    complete_up_to,
    enough_neighbours,
    least_neighbours,
    may_withhold,
    orders_to_choose_from,
)
from orchestrator.privacy.secure_session import Advert, Session, commitment_to


def graph_of(parties: int, degree: int, colluding: int = 0, seed: int = 0) -> Graph:
    names = [f"n{i:03}" for i in range(parties)]
    nonces = {n: hashlib.sha256(f"{seed}{n}".encode()).digest() for n in names}
    return Graph(Session(b"g", degree, 3, colluding), {n: Advert(n, b"c", b"m", b"") for n in names}, nonces)


# How few are enough


@pytest.mark.parametrize(
    ("parties", "colluding", "least"),
    [(100, 0, 2), (100, 1, 4), (100, 5, 12), (100, 20, 42), (1000, 10, 22), (1000, 100, 94), (10_000, 1000, 132)],
)
def test_the_least_neighbours(parties: int, colluding: int, least: int) -> None:
    assert least_neighbours(parties, colluding) == least
    assert enough_neighbours(parties, colluding, least)
    assert not enough_neighbours(parties, colluding, least - 2)


def log_comb(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def log2_more_than(count: int, parties: int, colluding: int, degree: int) -> float:
    """Of the probability that anywhere, in any order there is to choose from, more than `count` collude."""
    honest = parties - 1 - colluding
    terms = (
        log_comb(colluding, j) + log_comb(honest, degree - j) - log_comb(parties - 1, degree)
        for j in range(count + 1, min(degree, colluding) + 1)
    )
    places = math.log(parties * (parties - 1) / 2) + math.log(orders_to_choose_from(parties, colluding))
    return (math.log(sum(map(math.exp, terms))) + places) / math.log(2)


@pytest.mark.parametrize(("parties", "colluding", "degree"), [(1000, 100, 94), (1000, 50, 60), (10_000, 1000, 132)])
def test_many_who_collude_are_counted_by_the_tail(parties: int, colluding: int, degree: int) -> None:
    """Summed here in logarithms."""
    nearby = colluding_nearby(parties, colluding, degree)
    assert nearby < min(colluding, degree)
    assert log2_more_than(nearby, parties, colluding, degree) <= -40
    assert log2_more_than(nearby - 1, parties, colluding, degree) > -40


def test_few_who_collude_may_all_be_there() -> None:
    assert [colluding_nearby(100, c, 20) for c in (0, 1, 5, 10)] == [0, 1, 5, 10]
    assert colluding_nearby(20, 8, 20) == 8


def test_how_many_may_withhold_and_the_choice_it_gives() -> None:
    assert [may_withhold(c) for c in (0, 1, 2, 3, 4, 50)] == [0, 1, 2, 3, 3, 3]
    assert orders_to_choose_from(33, 0) == 1
    assert orders_to_choose_from(33, 1) == 1 + 34
    assert orders_to_choose_from(33, 9) == 1 + 36 + 36 * 35 // 2 + 36 * 35 * 34 // 6


# A ring that comes apart


def in_pieces(graph: Graph, honest: Set[str]) -> bool:
    if not honest:
        return False
    reached, todo = set(), [min(honest)]
    while todo:
        name = todo.pop()
        if name not in reached:
            reached.add(name)
            todo += [n for n in graph.neighbours(name) if n in honest]
    return reached != honest


@pytest.mark.parametrize(("parties", "degree", "colluding"), [(7, 4, 0), (9, 4, 0), (12, 6, 0), (9, 4, 1), (11, 6, 2)])
def test_a_ring_holds_together_exactly_if_no_accomplices_can_part_it(parties: int, degree: int, colluding: int) -> None:
    """Against a search of the graph, over every choice of those who collude among the survivors."""
    rng, seen = random.Random(3), {True: 0, False: 0}
    for case in range(150):
        graph = graph_of(parties, degree, colluding, case)
        survivors = set(rng.sample(sorted(graph.place), rng.randint(3, parties)))
        groups = itertools.combinations(sorted(survivors), min(colluding, len(survivors)))
        apart = any(in_pieces(graph, survivors - set(group)) for group in groups)
        holds = graph.holds_together(survivors)
        assert not (holds and apart)
        if colluding == 0:
            assert holds != apart
        seen[holds] += 1
    assert min(seen.values()) > 5


def test_where_all_are_neighbours_nothing_comes_apart() -> None:
    assert complete_up_to(5) == complete_up_to(6) == 7
    assert graph_of(7, 6).holds_together({"n000", "n001"})


# Nobody chooses


def keys_drawn(parties: Sequence[str], drawn: Dict[str, bytes]) -> Dict[str, Advert]:
    return {n: Advert(n, b"channel", drawn.get(n, n.encode()), b"") for n in parties}


@pytest.mark.parametrize("real", [1, 2, 3])
def test_an_aggregator_with_puppets_that_draws_keys_after_all_others_gets_no_order_it_wants(real: int) -> None:
    """With keys alone a few draws surround the victim; with its nonce, which comes last, it is left to chance."""
    honest, puppets = [f"real{i}" for i in range(real)], [f"puppet{i:02}" for i in range(30)]
    names, session, victim = [*honest, *puppets], Session(b"ground", 12), "real0"

    def surrounded(graph: Graph) -> bool:
        return not set(graph.neighbours(victim)) & set(honest)

    chance = math.comb(30, 12) / math.comb(29 + real, 12)
    ground, draws = False, 0
    while not ground and draws < 2000:  # keys alone: it stops when it has what it wants
        draws += 1
        ground = surrounded(Graph(session, keys_drawn(names, {"puppet00": draws.to_bytes(4, "big")})))
    assert ground
    # With nonces: whatever keys and nonces the puppets settled on, the victim's nonce decides.
    drawn = {"puppet00": draws.to_bytes(4, "big")}
    rng, hits, sessions = random.Random(real), 0, 1500
    for _ in range(sessions):
        nonces = {n: rng.getrandbits(256).to_bytes(32, "big") for n in names}
        hits += surrounded(Graph(session, keys_drawn(names, drawn), nonces))
    spread = math.sqrt(sessions * chance * (1 - chance))
    assert abs(hits - sessions * chance) <= 5 * spread


def test_nothing_says_before_it_is_revealed_what_a_nonce_is_and_no_other_fits() -> None:
    session, nonce = Session(b"s", 12), bytes(range(32))
    advert = Advert("a", b"c", b"m", b"", commitment_to(session, "a", nonce))
    assert advert.commits_to(session, nonce)
    for other in (bytes(32), b"", nonce[:-1], nonce + b"\0"):
        assert not advert.commits_to(session, other)
    assert not advert.commits_to(Session(b"t", 12), nonce)
    copied = Advert("b", b"c", b"m", b"", advert.commitment)
    assert not copied.commits_to(session, nonce), "another's commitment cannot be revealed as one's own"
    assert advert.signed(session) != Advert("a", b"c", b"m", b"").signed(session)


def test_all_nonces_keys_and_the_session_decide_the_order() -> None:
    names = [f"n{i:02}" for i in range(40)]
    adverts = keys_drawn(names, {})
    nonces = {n: n.encode() * 8 for n in names}
    base = Graph(Session(b"s", 12), adverts, nonces).order

    def changed(**other: Any) -> List[str]:
        given: Dict[str, Any] = {"session": Session(b"s", 12), "adverts": adverts, "nonces": nonces, **other}
        return Graph(given["session"], given["adverts"], given["nonces"]).order

    assert changed() == base
    assert changed(session=Session(b"t", 12)) != base
    for name in names:
        assert changed(nonces={**nonces, name: bytes(32)}) != base
        assert changed(adverts={**adverts, name: Advert(name, b"channel", b"k", b"")}) != base
        assert changed(adverts={**adverts, name: Advert(name, b"other", name.encode(), b"")}) != base
    assert np.mean([graph_of(40, 12, seed=i).order[0] == "n000" for i in range(2000)]) < 0.05

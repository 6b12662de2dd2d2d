"""What commonly goes wrong with sums in secret, and the test that fails when the protection against it is taken away.

    (1) an aggregator that lies about who dropped out and asks for both kinds of shares
    (2) too low a threshold, sums over one or two, two sums that differ in one party
    (3) keys or masks used in two sessions
    (4) an aggregator that puts its own keys in others' places
    (5) means: clipping, scale, rounding, wrapping around, weights
    (6) values only one node has
    (7) poisoned updates, against which only robust strategies help, which need to see them
    (8) a drop-out's own mask used again

and one more, found on the way: (9) an aggregator that tells parties different things, so that all but one vanish from the sum.
How a node meets (1) to (4), (8) and (9) in messages is in tests/node/test_masked_round.py; here the protocol itself and the task.
"""

from typing import Any, Dict, List, Set

import numpy as np
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrator.errors import PrivacyError
from orchestrator.privacy.mask_graph import complete_up_to
from orchestrator.privacy.ring import from_ring, to_ring, unpack
from orchestrator.privacy.secure_sum import PAIR, SELF, Advert, Aggregator, Graph, Party, Ring, Session, session_id
from orchestrator.privacy.shamir import SHARE_BYTES
from orchestrator.privacy.vector_layout import Layout, Part, bits_for
from orchestrator.rounds.declared import MEAN_STRATEGIES
from orchestrator.rounds.strategies import STRATEGIES
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Evaluation, Rounds, Selection, Task
from orchestrator.wire.training import Training

NAMES = [f"n{i}" for i in range(7)]
SIGNING = {name: Ed25519PrivateKey.generate() for name in NAMES}
RING = Ring(24, 500)


def verify(party: str, message: bytes, signature: bytes) -> bool:
    try:
        SIGNING[party].public_key().verify(signature, message)
    except InvalidSignature:
        return False
    return True


class Played:
    """A session up to the masked vectors. told: party -> what it was told, where it is not the same for all; "": what the
    aggregator opens the sum with."""

    def __init__(self, session: Session, names: List[str], told: Dict[str, bytes], lost: Set[str]) -> None:
        self.session = session
        self.parties = {name: Party(session, name, SIGNING[name].sign, verify) for name in names}
        self.adverts = [party.advertise() for party in self.parties.values()]
        self.aggregator = Aggregator(session, self.adverts, RING, told.get("", b"told"))
        for name, party in self.parties.items():
            self.aggregator.take_shares(name, party.share(self.adverts))
        rng = np.random.default_rng(5)
        self.values = {name: rng.integers(-1000, 1000, RING.size) for name in names}
        self.masked: Dict[str, bytes] = {}
        for name, party in self.parties.items():
            if name not in lost:
                shares = self.aggregator.shares_for(name)
                self.masked[name] = party.mask(self.values[name], shares, 24, told.get(name, b"told"))
                self.aggregator.take_masked(name, self.masked[name])

    def open(self, silent: Set[str]) -> np.ndarray:
        """The sum, opened with the help of all parties that sent a vector but `silent`."""
        survivors = self.aggregator.survivors
        signatures = {n: self.parties[n].confirm(survivors) for n in survivors}
        answers = {}
        for name in survivors:
            if name not in silent:
                answers[name] = self.parties[name].unmask(signatures)
        return from_ring(self.aggregator.open(answers), 24)


def play(identifier: bytes = b"1", names: List[str] = NAMES, degree: int = 20, **more: Any) -> Played:
    return Played(Session(identifier, degree), names, more.get("told", {}), more.get("lost", set()))


def test_1_no_party_gives_both_kinds_of_shares_of_any_other() -> None:
    """And not of itself: with both, a vector that was sent could be unmasked."""
    played = play(lost={"n6"})
    survivors = played.aggregator.survivors
    signatures = {n: played.parties[n].confirm(survivors) for n in survivors}
    for name in survivors:
        given = played.parties[name].unmask(signatures)
        assert {n: kind for n, (kind, _) in given.items()} == {**{n: SELF for n in survivors}, "n6": PAIR}
        assert {len(share) for _, share in given.values()} == {SHARE_BYTES}, "one share of each, not two"


def test_1_without_signatures_of_more_than_half_nothing_is_given() -> None:
    for signing, enough in ((3, False), (4, True)):
        played = play(f"half/{signing}".encode())
        signatures = {n: played.parties[n].confirm(NAMES) for n in NAMES}
        some = {n: signatures[n] for n in NAMES[:signing]}
        if enough:
            assert played.parties["n0"].unmask(some)
        else:
            with pytest.raises(PrivacyError, match="3 parties signed this list of survivors, 4 are needed"):
                played.parties["n0"].unmask(some)
    played = play(b"of whom")
    signatures = {n: played.parties[n].confirm(NAMES) for n in NAMES}
    repeated = {n: signatures["n0"] for n in NAMES}
    with pytest.raises(PrivacyError, match="1 parties signed"):
        played.parties["n0"].unmask(repeated)


def masked_apart(session: Session, names: List[str]) -> Any:
    """A session whose first party is given the shares of as few neighbours as it masks with: parties, graph, those it got."""
    parties = {n: Party(session, n, SIGNING[n].sign, verify) for n in names}
    adverts = {n: p.advertise() for n, p in parties.items()}
    nonces: Dict[str, bytes] = {}
    if len(names) > complete_up_to(session.degree):
        nonces = {n: p.reveal(list(adverts.values())) for n, p in parties.items()}
    shares = {n: p.share(list(adverts.values()), nonces) for n, p in parties.items()}
    graph, values = Graph(session, adverts, nonces), np.arange(RING.size)
    others = graph.neighbours(names[0])
    for count in range(len(others) + 1):
        try:
            parties[names[0]].mask(values, {o: shares[o][names[0]] for o in others[:count]}, 24)
        except PrivacyError:  # refused before anything was sent: a fresh one tries with one more
            parties[names[0]]._done.remove("mask")
            continue
        break
    for name in names[1:]:
        parties[name].mask(values, {o: shares[o][name] for o in graph.neighbours(name)}, 24)
    return parties, graph, set(others[:count])


@pytest.mark.parametrize(("count", "degree"), [(3, 20), (4, 20), (5, 20), (7, 20), (7, 4)])
def test_1_a_party_is_in_no_sum_with_those_it_was_told_are_gone(count: int, degree: int) -> None:
    """Given the shares of few, and all of these left out of the sum, it would be alone under its masks."""
    parties, graph, given = masked_apart(Session(f"apart/{count}/{degree}".encode(), degree), NAMES[:count])
    target, others = NAMES[0], set(graph.neighbours(NAMES[0]))
    survivors = [n for n in NAMES[:count] if n not in given]
    if len(survivors) >= 3 and others - given:
        with pytest.raises(PrivacyError, match="in the sum this party shares no mask"):
            parties[target].confirm(survivors)
    # Nor without its help: those that could say it survived, and are not among the few, are too few.
    assert len(others - given) < graph.threshold(target)


def test_1_so_it_is_where_parties_were_shown_different_keys() -> None:
    played = play(b"keys/a")
    one, other = (Session(b"keys/b", 20).among(b"told", adverts) for adverts in (played.adverts, played.adverts[1:]))
    assert one.id != other.id
    assert Session(b"keys/b", 20).among(b"told", played.adverts[::-1]) == one


@pytest.mark.parametrize("colluding", [0, 1, 2, 3])
@pytest.mark.parametrize("honest", [3, 4, 5, 6])
def test_1_with_those_who_collude_no_two_groups_rebuild_both_secrets(honest: int, colluding: int) -> None:
    """Whoever colludes gives shares of both kinds, and signs any list; honest parties give one share, and sign one list."""
    count = honest + colluding
    names = [f"n{i:02}" for i in range(count)]
    session = Session(b"colluding", 20, honest + colluding, colluding)
    graph = Graph(session, {n: Advert(n, b"", n.encode(), b"") for n in names})
    for needed in (graph.threshold(names[0]), session.majority(count)):
        assert needed <= count, "all together can"
        for one_way in range(honest + 1):
            assert min(one_way, honest - one_way) + colluding < needed


def test_1_neighbours_that_are_too_few_for_those_who_collude_are_refused() -> None:
    session = Session(b"few neighbours", 4, 3, 4)
    parties = [Party(session, n, SIGNING[n].sign, verify) for n in NAMES]
    adverts = [p.advertise() for p in parties]
    with pytest.raises(PrivacyError, match="4 neighbours are too few where 4 parties may help the aggregator"):
        parties[0].share(adverts)


def test_2_more_than_half_must_help_and_any_more_than_half_can() -> None:
    played = play(b"threshold")
    graph = Graph(played.session, {a.party: a for a in played.adverts})
    for name in NAMES:
        assert 2 * graph.threshold(name) > len(NAMES)
    np.testing.assert_array_equal(played.open({"n0", "n1", "n2"}), sum(played.values.values()))
    again = play(b"threshold again")
    with pytest.raises(PrivacyError, match="cannot be removed"):
        again.open({"n0", "n1", "n2", "n3"})


@pytest.mark.parametrize("count", [1, 2])
def test_2_a_sum_over_one_or_two_is_never_opened(count: int) -> None:
    played = play(b"few", NAMES[:3], lost=set(NAMES[count:3]))
    with pytest.raises(PrivacyError, match=f"a sum over {count} parties"):
        played.parties["n0"].confirm(played.aggregator.survivors)
    parties = [Party(Session(b"fewer", 20), n, SIGNING[n].sign, verify) for n in NAMES[:count]]
    adverts = [party.advertise() for party in parties]
    with pytest.raises(PrivacyError, match=f"a sum over {count} parties"):
        parties[0].share(adverts)
    with pytest.raises(ValueError, match="a sum over one node is its update"):
        Aggregation("masked", honest=count)


def test_2_one_party_helps_to_open_one_sum_of_its_session() -> None:
    played = play(b"one sum")
    played.parties["n0"].confirm(NAMES)
    with pytest.raises(PrivacyError, match="each step comes once"):
        played.parties["n0"].confirm(NAMES[:6])


def test_2_a_poisson_sample_or_a_relay_cannot_make_sums_small() -> None:
    for change in ({"selection": Selection(sampling_rate=0.5)}, {"rounds": Rounds(5, 5, provided=True)}):
        with pytest.raises(ValueError, match="neither through a relay nor with selection.sampling_rate"):
            make_task(**change)
    with pytest.raises(ValueError, match="fewer than the 5 nodes"):
        make_task(aggregation=Aggregation("masked", honest=3, colluding=2), rounds=Rounds(5, 4))


def test_3_nothing_of_one_session_serves_in_another() -> None:
    base, others = ("f", "r", 1, 1), [("g", "r", 1, 1), ("f", "s", 1, 1), ("f", "r", 2, 1), ("f", "r", 1, 2)]
    assert len({session_id(*which) for which in (base, *others)}) == 5
    one, other = play(b"one"), play(b"other")
    keys = [{a.mask_key for a in p.adverts} | {a.channel_key for a in p.adverts} for p in (one, other)]
    assert len(keys[0]) == len(keys[1]) == 2 * len(NAMES)
    assert not keys[0] & keys[1]
    secret = bytes(range(32))
    assert Session(b"one", 20).key(secret, SELF) != Session(b"other", 20).key(secret, SELF)
    assert not any(verify(a.party, a.signed(other.session), a.signature) for a in one.adverts)
    assert all(verify(a.party, a.signed(one.session), a.signature) for a in one.adverts)


def test_3_what_two_sessions_masked_has_nothing_in_common() -> None:
    """The same values twice: were a mask used twice, the difference would be zero."""
    one, other = play(b"one"), play(b"other")
    for name in NAMES:
        np.testing.assert_array_equal(one.values[name], other.values[name])
        difference = unpack(one.masked[name], 24, RING.size) != unpack(other.masked[name], 24, RING.size)
        assert difference.mean() > 0.98


def test_4_keys_that_are_not_signed_by_their_party_are_refused() -> None:
    session = Session(b"4", 20)
    parties = {n: Party(session, n, SIGNING[n].sign, verify) for n in NAMES}
    adverts = {n: party.advertise() for n, party in parties.items()}
    middle = Party(session, "n3", Ed25519PrivateKey.generate().sign, verify).advertise()
    with pytest.raises(PrivacyError, match="the keys of n3 are not signed by n3"):
        parties["n0"].share([*(a for n, a in adverts.items() if n != "n3"), middle])


def test_5_the_bits_chosen_keep_the_sum_from_wrapping_and_one_less_would_not() -> None:
    """The largest gradients of many records, all alike: with the bits below, the sum comes out with another sign."""
    part = Part("update", 3, True, 1.0, 1000.0, 2000)
    for units in (20, 4000):
        bits = bits_for([part], units, 4)
        layout = Layout([part], bits, 4, units, units)
        limit = layout.limit(part, units // 4)
        assert limit == 1000 * (units // 4)
        total = sum(to_ring(np.full(3, limit), bits) for _ in range(4))
        assert (from_ring(np.asarray(total) & np.uint32((1 << bits) - 1), bits) == 4 * limit).all()
    assert bits_for([part], 20, 4) == 24
    with pytest.raises(PrivacyError, match="too few"):
        bits_for([part], 20, 4, fixed=16)
    total = sum(to_ring(np.full(3, 8000), 16) for _ in range(5))
    assert (from_ring(np.asarray(total) & np.uint32(0xFFFF), 16) < 0).all(), "what would happen"


def test_5_weights_are_in_the_masked_part_and_rounding_has_no_bias() -> None:
    layout = Layout([Part("update", 2000, False, reach=1.0)], 16, 3, 30, 30)
    small = 0.3 / 32764 * 3  # less than half a step: rounded to nearest it would vanish
    rounded = layout.encode({"update": np.full(2000, small)}, {"update": 10}, np.random.default_rng(0))
    assert 0.2 < rounded[:2000].mean() < 0.4
    assert layout.size == 2000 + 2 * 5
    assert rounded[2000:].tolist() == [10, 0, 0, 0, 0, 0, 0, 0, 0, 0]


def test_6_what_one_node_alone_has_is_in_the_sum_and_only_noise_hides_it() -> None:
    """Documented rather than prevented: the task's schema is one for all nodes, so no node has a column of its own; but where
    only one node's records have a category, its weights in the sum are that node's. Distributed noise covers these as all others.
    """
    played = play(b"6")
    for name in NAMES:
        assert np.abs(played.values[name]).max() > 0
    part = Part("update", 4, False, reach=1.0)
    layout, rng = Layout([part], 24, 3, 30, 30), np.random.default_rng(0)
    own = np.array([0, 0, 0, 0.5])
    vectors = [layout.encode({"update": own if i == 0 else np.zeros(4)}, {"update": 10}, rng) for i in range(3)]
    opened = layout.decode(np.sum(vectors, axis=0))["update"].values
    np.testing.assert_allclose(opened, own / 3, atol=1e-5)


def make_task(**changes: Any) -> Task:
    schema = Schema("table", "y", ("n", "p"), {"0": 0, "1": 1}, (Feature("x", 0, 1),), standardization="range")
    rest = {"privacy": Privacy(unit="none"), "rounds": Rounds(5, 5), "aggregation": Aggregation("masked")}
    return Task("t", schema, {}, **{**rest, **changes})


def test_7_robust_strategies_and_sums_in_secret_exclude_each_other() -> None:
    """A poisoned update cannot be seen in a sum; a strategy that would notice it must see single ones. One or the other."""
    for strategy in STRATEGIES:
        if strategy in MEAN_STRATEGIES:
            assert make_task(training=Training(strategy)).aggregation.secure
        else:
            with pytest.raises(ValueError, match=f"strategy '{strategy}' needs each of them"):
                make_task(training=Training(strategy))
            plain = {"aggregation": Aggregation(), "codec": "int8", "evaluation": Evaluation(share=0.2)}
            make_task(training=Training(strategy), **plain)
    assert {"median", "trimmed-mean", "krum"} <= set(STRATEGIES) - set(MEAN_STRATEGIES)


def test_7_what_a_node_can_do_to_a_sum_is_bounded_without_seeing_it() -> None:
    """Of what an honest program sends: values beyond the declared range are cut before they are masked."""
    layout = Layout([Part("update", 3, False, reach=2.0)], 24, 3, 30, 30)
    vector = layout.encode({"update": np.array([1e30, -1e30, 1.0])}, {"update": 30}, np.random.default_rng(0))
    np.testing.assert_allclose(layout.decode(vector)["update"].values, [2, -2, 1], atol=1e-5)


def test_8_every_party_draws_a_mask_of_its_own_for_every_session() -> None:
    """Opened in one session, a mask that served again would show the vector that a drop-out sends in the next."""
    seeds = {Party(Session(b"8", 20), "n0", SIGNING["n0"].sign, verify)._own_seed for _ in range(20)}
    assert len(seeds) == 20
    first = play(b"8/1")
    survivors = first.aggregator.survivors
    signatures = {n: first.parties[n].confirm(survivors) for n in survivors}
    shares = [party.unmask(signatures) for party in first.parties.values()]
    second = play(b"8/2")
    held = {pair for party in second.parties.values() for pair in party._held.values()}
    known = {share for given in shares for _, share in given.values()}
    assert not known & {share for pair in held for share in pair}


def test_9_parties_that_were_told_different_things_have_no_sum() -> None:
    told = play(b"9", told={name: b"vanish" for name in ("", *NAMES[1:])})
    survivors = told.aggregator.survivors
    signatures = {n: told.parties[n].confirm(survivors) for n in survivors}
    with pytest.raises(PrivacyError, match="1 parties signed"):
        told.parties["n0"].unmask(signatures)
    answers = {n: told.parties[n].unmask(signatures) for n in NAMES[1:]}
    opened = from_ring(told.aggregator.open(answers), 24)
    assert (opened == sum(told.values.values())).mean() < 0.1
    assert (np.abs(opened) > 1 << 20).mean() > 0.5, "all of the ring, not a sum of small values"

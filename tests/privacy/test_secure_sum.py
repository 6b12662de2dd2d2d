"""The masked sum equals the plain sum whoever drops out when; and each way to cheat it is refused."""

import random
from typing import Any, Dict, List, Optional, Set

import numpy as np
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from series import of_cases

from orchestrator.errors import PrivacyError
from orchestrator.privacy.mask_graph import complete_up_to
from orchestrator.privacy.ring import fits, from_ring, pack, to_ring, unpack
from orchestrator.privacy.secure_sum import PAIR, SELF, Advert, Aggregator, Graph, Party, Ring, Session, mask_from
from orchestrator.privacy.shamir import combine_shares, split_secret

SESSION = Session(b"federation/run/1", 20)
RING = Ring(24, 7)
KEYS = {f"n{i:02}": Ed25519PrivateKey.generate() for i in range(40)}


def verify(party: str, message: bytes, signature: bytes) -> bool:
    try:
        KEYS[party].public_key().verify(signature, message)
    except InvalidSignature:
        return False
    return True


class Sum:
    """A session played in memory. `lost`: step -> parties that drop out right before they would answer it."""

    def __init__(
        self, session: Session, names: List[str], lost: Optional[Dict[str, Set[str]]] = None, ring: Ring = RING
    ) -> None:
        self.session, self.lost, self.ring = session, lost or {}, ring
        rng = np.random.default_rng(len(names))
        self.values = {n: rng.integers(-1000, 1000, ring.size) for n in names}
        self.parties = {n: Party(session, n, KEYS[n].sign, verify) for n in names}
        self.here = list(names)

    def alive(self, step: str) -> List[str]:
        self.here = [n for n in self.here if n not in self.lost.get(step, ())]
        return self.here

    def share(self) -> None:
        self.adverts = [self.parties[n].advertise() for n in self.alive("advertise")]
        nonces: Dict[str, bytes] = {}
        if len(self.adverts) > complete_up_to(self.session.degree):
            nonces = {n: self.parties[n].reveal(self.adverts) for n in self.here}
        self.aggregator = Aggregator(self.session, self.adverts, self.ring, nonces=nonces)
        for name in self.alive("share"):
            self.aggregator.take_shares(name, self.parties[name].share(self.adverts, nonces))

    def mask(self) -> None:
        self.foreseen: Dict[str, Optional[bytes]] = {}
        self.expected = sorted(self.here)
        for name in self.alive("mask"):
            masked = self.parties[name].mask(self.values[name], self.aggregator.shares_for(name), self.ring.bits)
            self.aggregator.take_masked(name, masked)
            self.foreseen[name] = self.parties[name].foresee()

    def open(self) -> np.ndarray:
        survivors = self.aggregator.survivors
        signed = {n: signature for n, signature in self.foreseen.items() if signature is not None}
        if sorted(signed) == survivors == self.expected and self.session.id[-1] % 2:
            answers = {n: self.parties[n].unmask(signed, foreseen=True) for n in self.alive("unmask")}
            self.lost["foreseen"] = set()
            return from_ring(self.aggregator.open(answers), self.ring.bits)
        signatures = {n: self.parties[n].confirm(survivors) for n in self.alive("confirm")}
        answers = {n: self.parties[n].unmask(signatures) for n in self.alive("unmask")}
        return from_ring(self.aggregator.open(answers), self.ring.bits)

    def run(self) -> np.ndarray:
        self.share()
        self.mask()
        return self.open()


@pytest.mark.slow
def test_the_sum_is_exact_in_a_thousand_cases_with_dropouts_at_every_step() -> None:
    rng = random.Random(11)
    dropped: Dict[str, int] = {}
    cases = of_cases(1000)
    for case in range(cases):
        names = rng.sample(sorted(KEYS), rng.randint(4, 7))
        session = Session(f"case {case}".encode(), rng.choice([4, 6, 100]))
        ring = Ring(rng.choice([16, 20, 24, 32]), rng.randint(1, 9))
        lost: Dict[str, Set[str]] = {}
        for _ in range(rng.randint(0, (len(names) - 3) // 3 + 1)):
            step = rng.choice(["advertise", "share", "mask", "confirm", "unmask"])
            lost.setdefault(step, set()).add(rng.choice(names))
        played = Sum(session, names, lost, ring)
        try:
            total = played.run()
        except PrivacyError as error:
            reasons = [
                word for word in ("too few", "cannot be removed", "are needed", "a sum over") if word in str(error)
            ]
            if not reasons:
                raise
            dropped["refused"] = dropped.get("refused", 0) + 1
            continue
        survivors = played.aggregator.survivors
        np.testing.assert_array_equal(total, sum(played.values[n] for n in survivors))
        for step in lost:
            dropped[step] = dropped.get(step, 0) + 1
    assert all(dropped[step] > 0.05 * cases for step in ("advertise", "share", "mask", "confirm", "unmask", "foreseen"))
    assert dropped.get("refused", 0) < 0.3 * cases


def test_a_masked_vector_looks_uniform_and_differs_every_time() -> None:
    ring = Ring(16, 20_000)
    seen = []
    for _ in range(2):
        played = Sum(Session(b"once", 10), ["n00", "n01", "n02"], ring=ring)
        played.values = {n: np.zeros(ring.size, np.int64) for n in played.values}
        played.share()
        shares = played.aggregator.shares_for("n00")
        masked = unpack(played.parties["n00"].mask(played.values["n00"], shares, 16), 16, 20_000)
        counts = np.bincount(masked >> 12, minlength=16)
        chi2 = float(((counts - 1250) ** 2 / 1250).sum())
        assert chi2 < 45, "16 bins, 15 degrees of freedom: one in 10,000"
        seen.append(masked)
    assert (seen[0] != seen[1]).mean() > 0.99


def test_the_graph_is_symmetric_regular_and_follows_from_all_keys() -> None:
    played = Sum(Session(b"graph", 6), sorted(KEYS)[:30])
    adverts = {n: played.parties[n].advertise() for n in played.parties}
    graph = Graph(played.session, adverts)
    for name in adverts:
        near = graph.neighbours(name)
        assert len(near) == 6
        assert name not in near
        assert all(name in graph.neighbours(n) for n in near)
        assert graph.threshold(name) == 3
    changed = {**adverts, "n00": Advert("n00", adverts["n00"].channel_key, bytes(32), b"")}
    assert any(Graph(played.session, changed).neighbours(n) != graph.neighbours(n) for n in adverts)


# Each protection, and what happens without it


def test_keys_nobody_signed_are_refused() -> None:
    """Without this, the aggregator could put its own keys in everybody's place and read everything."""
    played = Sum(SESSION, ["n00", "n01", "n02", "n03"])
    adverts = [p.advertise() for p in played.parties.values()]
    stranger = Party(SESSION, "n01", KEYS["n09"].sign, verify).advertise()
    with pytest.raises(PrivacyError, match="not signed by n01"):
        played.parties["n00"].share([adverts[0], stranger, *adverts[2:]])


def test_keys_of_another_session_are_refused() -> None:
    """Without this, masks of two sessions could be made to cancel."""
    old = Party(Session(b"federation/run/0", 20), "n01", KEYS["n01"].sign, verify).advertise()
    played = Sum(SESSION, ["n00", "n01", "n02", "n03"])
    adverts = [p.advertise() for p in played.parties.values()]
    with pytest.raises(PrivacyError, match="not signed by n01"):
        played.parties["n00"].share([adverts[0], old, *adverts[2:]])


def test_masks_of_two_sessions_have_nothing_in_common() -> None:
    other = Session(b"federation/run/2", 20)
    assert SESSION.key(bytes(32), SELF) != other.key(bytes(32), SELF)
    assert SESSION.key(bytes(32), SELF) != SESSION.key(bytes(32), PAIR)
    assert (
        mask_from(SESSION.key(bytes(32), SELF), Ring(24, 7)) != mask_from(other.key(bytes(32), SELF), Ring(24, 7))
    ).any()


def opened(names: int = 5, lost: Optional[Dict[str, Set[str]]] = None) -> Sum:
    played = Sum(SESSION, [f"n{i:02}" for i in range(names)], lost)
    played.share()
    played.mask()
    return played


def test_a_party_never_gives_both_shares_of_another() -> None:
    """Without this, an aggregator that says a party dropped out after it sent its vector could unmask it."""
    played = opened()
    victim = played.parties["n00"]
    truth = played.aggregator.survivors
    signatures = {n: played.parties[n].confirm(truth) for n in played.parties}
    first = victim.unmask(signatures)
    assert {kind for kind, _ in first.values()} == {SELF}
    with pytest.raises(PrivacyError, match="each step comes once"):
        victim.unmask(signatures)
    with pytest.raises(PrivacyError, match="helped to open the sum already"):
        victim.confirm(truth[1:])


def test_an_aggregator_that_tells_different_survivors_gets_no_share() -> None:
    """Half the parties hear that n04 survived, half that it did not: the second list is signed by too few."""
    played = opened()
    everyone, without = played.aggregator.survivors, played.aggregator.survivors[:4]
    signatures = {n: played.parties[n].confirm(everyone if n in ("n00", "n01", "n04") else without) for n in everyone}
    for name in ("n02", "n03"):
        with pytest.raises(PrivacyError, match="2 parties signed this list of survivors, 3 are needed"):
            played.parties[name].unmask(signatures)


# Survivors that were foreseen


def foreseen_by(played: Sum) -> Dict[str, bytes]:
    return {n: signature for n, signature in played.foreseen.items() if signature is not None}


def test_a_list_counts_as_foreseen_only_if_everybody_on_it_signed() -> None:
    played = opened(5)
    signatures = foreseen_by(played)
    some = {n: s for n, s in signatures.items() if n != "n04"}
    with pytest.raises(PrivacyError, match="4 parties signed this list of survivors, 5 are needed"):
        played.parties["n00"].unmask(some, foreseen=True)
    with pytest.raises(PrivacyError, match="4 parties signed"):
        played.parties["n01"].unmask({**some, "n04": signatures["n03"]}, foreseen=True)
    assert {kind for kind, _ in played.parties["n02"].unmask(signatures, foreseen=True).values()} == {SELF}


def test_a_party_helps_with_what_it_foresaw_or_with_what_it_confirmed_never_with_both() -> None:
    played = opened(5)
    signatures = foreseen_by(played)
    first, second = played.parties["n00"], played.parties["n01"]
    first.unmask(signatures, foreseen=True)
    with pytest.raises(PrivacyError, match="helped to open the sum already"):
        first.confirm(["n00", "n01", "n02"])
    with pytest.raises(PrivacyError, match="each step comes once"):
        first.unmask(signatures, foreseen=True)
    second.confirm(["n00", "n01", "n02"])
    with pytest.raises(PrivacyError, match="has confirmed a list of survivors"):
        second.unmask(signatures, foreseen=True)


def test_a_signature_of_one_kind_does_not_serve_as_the_other() -> None:
    played = opened(5)
    everyone = played.aggregator.survivors
    played.parties["n00"].confirm(everyone)
    with pytest.raises(PrivacyError, match="1 parties signed"):
        played.parties["n00"].unmask(foreseen_by(played))
    confirmed = {n: played.parties[n].confirm(everyone) for n in everyone if n not in ("n00", "n01")}
    with pytest.raises(PrivacyError, match="0 parties signed"):
        played.parties["n01"].unmask(confirmed, foreseen=True)


def test_an_aggregator_that_opens_both_lists_gets_neither() -> None:
    """All foresaw n04. Some are told that it came, the others that it dropped out, and these confirm that."""
    for foreseeing in range(6):
        played = opened(5, {})
        names = played.aggregator.survivors
        by_foresight, without = names[:foreseeing], [n for n in names if n != "n04"]
        confirming = [n for n in names if n not in by_foresight and n != "n04"]
        signatures = foreseen_by(played)
        confirmed = {n: played.parties[n].confirm(without) for n in confirming}
        kinds = {SELF: 0, PAIR: 0}
        for name in by_foresight:
            kinds[played.parties[name].unmask(signatures, foreseen=True)["n04"][0]] += 1
        for name in confirming:
            if len(confirmed) >= 3:
                kinds[played.parties[name].unmask(confirmed)["n04"][0]] += 1
            else:
                with pytest.raises(PrivacyError, match="are needed"):
                    played.parties[name].unmask(confirmed)
        assert min(kinds.values()) < 3, "three shares of each kind would give n04's vector"


def test_with_few_neighbours_or_too_few_parties_nothing_is_foreseen() -> None:
    names = [f"n{i:02}" for i in range(7)]
    sparse = Sum(Session(b"sparse", 4), names)
    sparse.share()
    sparse.mask()
    assert set(sparse.foreseen.values()) == {None}
    few = Sum(Session(b"few", 20, least=6), names, {"share": {"n05", "n06"}})
    few.share()
    few.mask()
    assert set(few.foreseen.values()) == {None}
    with pytest.raises(PrivacyError, match="foresaw no list"):
        few.parties["n00"].unmask({n: b"s" for n in names}, foreseen=True)


def test_a_party_left_out_of_the_sum_does_not_help_to_open_it() -> None:
    played = opened()
    with pytest.raises(PrivacyError, match="not in the sum"):
        played.parties["n04"].confirm(["n00", "n01", "n02"])


def test_a_sum_over_two_is_refused_at_the_beginning_and_at_the_end() -> None:
    played = Sum(SESSION, ["n00", "n01"])
    adverts = [p.advertise() for p in played.parties.values()]
    with pytest.raises(PrivacyError, match="over 2 parties"):
        played.parties["n00"].share(adverts)
    with pytest.raises(PrivacyError, match="over 2 parties"):
        opened(5).parties["n00"].confirm(["n00", "n01"])


def test_a_sum_over_fewer_than_declared_is_refused_at_the_beginning_and_at_the_end() -> None:
    """Without this, an aggregator could open sums that carry too few shares of the noise."""
    session = Session(b"declared", 20, least=5)
    few = Sum(session, ["n00", "n01", "n02", "n03"])
    adverts = [p.advertise() for p in few.parties.values()]
    with pytest.raises(PrivacyError, match="4 parties, the task declares at least 5"):
        few.parties["n00"].share(adverts)
    played = Sum(session, [f"n{i:02}" for i in range(6)], {"mask": {"n04", "n05"}})
    played.share()
    played.mask()
    with pytest.raises(PrivacyError, match="fewer than the declared 5 carry too little noise"):
        played.parties["n00"].confirm(played.aggregator.survivors)


def test_shares_changed_on_the_way_are_noticed() -> None:
    played = Sum(SESSION, ["n00", "n01", "n02", "n03"])
    played.share()
    shares: Dict[str, Any] = played.aggregator.shares_for("n00")
    shares["n01"] = shares["n01"][:-1] + bytes([shares["n01"][-1] ^ 1])
    with pytest.raises(PrivacyError, match="shares of n01 were changed"):
        played.parties["n00"].mask(played.values["n00"], shares, 24)
    swapped = played.aggregator.shares_for("n02")
    swapped["n01"], swapped["n03"] = swapped["n03"], swapped["n01"]
    with pytest.raises(PrivacyError, match="were changed"):
        played.parties["n02"].mask(played.values["n02"], swapped, 24)


def test_a_wrong_share_of_a_key_is_noticed() -> None:
    played = opened(5, {"mask": {"n04"}})
    survivors = played.aggregator.survivors
    signatures = {n: played.parties[n].confirm(survivors) for n in survivors}
    answers = {n: dict(played.parties[n].unmask(signatures)) for n in survivors}
    kind, share = answers["n00"]["n04"]
    assert kind == PAIR
    answers["n00"]["n04"] = (kind, share[:-1] + bytes([share[-1] ^ 1]))
    with pytest.raises(PrivacyError, match="n04's key do not give its key|n04 cannot be removed"):
        played.aggregator.open(answers)


def test_the_aggregator_alone_or_with_too_few_helpers_learns_nothing() -> None:
    played = opened(7)
    signatures = {n: played.parties[n].confirm(played.aggregator.survivors) for n in played.parties}
    few = {n: played.parties[n].unmask(signatures) for n in ("n00", "n01", "n02")}
    with pytest.raises(PrivacyError, match="cannot be removed: .* are needed"):
        played.aggregator.open(few)


# The parts


@pytest.mark.parametrize("bits", [8, 13, 16, 20, 24, 31, 32])
def test_packing_costs_the_bits_it_says_and_loses_nothing(bits: int) -> None:
    vector = np.random.default_rng(bits).integers(0, 1 << bits, 1001, dtype=np.uint64).astype(np.uint32)
    assert len(pack(vector, bits)) == -(-1001 * bits // 8)
    np.testing.assert_array_equal(unpack(pack(vector, bits), bits, 1001), vector)
    with pytest.raises(ValueError, match="are not 1000 values"):
        unpack(pack(vector, bits), bits, 1000)


def test_wrap_around_is_foreseen() -> None:
    assert fits(16, 1000, 32)
    assert not fits(16, 1000, 33)
    largest = np.full(1, 1000)
    assert from_ring(to_ring(32 * largest, 16), 16) == 32_000
    assert from_ring(to_ring(33 * largest, 16), 16) != 33_000


def test_shamir_needs_its_threshold_and_no_more() -> None:
    rng = random.Random(3)
    for _ in range(50):
        holders = rng.sample(range(1, 60), rng.randint(2, 20))
        threshold = rng.randint(1, len(holders))
        secret = bytes(rng.randrange(256) for _ in range(32))
        shares = split_secret(secret, holders, threshold)
        some = dict(rng.sample(sorted(shares.items()), threshold))
        assert combine_shares(some, threshold) == secret
        if threshold > 1:
            some.popitem()
            with pytest.raises(ValueError, match="are needed"):
                combine_shares(some, threshold)
    # One share less than the threshold is consistent with any secret: two secrets, one common share.
    share = split_secret(bytes(32), [1, 2], 2)[1]
    assert share != split_secret(bytes(32), [1, 2], 2)[1]
    with pytest.raises(ValueError, match="threshold 3 of the 2"):
        split_secret(bytes(32), [1, 2], 3)

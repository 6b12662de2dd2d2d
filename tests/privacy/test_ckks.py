"""Sums under CKKS: exact, of the promised size, and closed to whoever has no business with them."""

import hashlib
import math
import random
import sys
from typing import Dict, List, Tuple

import numpy as np
import psutil
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

pytest.importorskip("tenseal", reason="TenSEAL has no wheel for this Python")

from orchestrator.errors import PrivacyError, WireError
from orchestrator.privacy import ckks_blocks
from orchestrator.privacy.ckks import Adder, Encryptor, KeyHolder, Summand, SumPlan, sign_summand
from orchestrator.privacy.ckks_blocks import NOISE_STD, SLOTS, Parameters, decrypt_block, encrypt_block, secret_bytes

SESSION = b"icu/run 1/round 3"
NAMES = ("north", "south", "east", "west")
KEYS = {name: Ed25519PrivateKey.generate() for name in NAMES}
SMALL = SumPlan(size=5000, parties=4, bound=1e6, step=1.0)


def verify(party: str, message: bytes, signature: bytes) -> bool:
    try:
        KEYS[party].public_key().verify(signature, message)
    except (InvalidSignature, KeyError):
        return False
    return True


@pytest.fixture(scope="module")
def holder() -> KeyHolder:
    return KeyHolder(SMALL)


@pytest.fixture(scope="module")
def vectors() -> Dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.integers(-(10**6), 10**6, SMALL.size).astype(np.float64) for name in NAMES}


@pytest.fixture(scope="module")
def sent(holder: KeyHolder, vectors: Dict[str, np.ndarray]) -> Dict[str, bytes]:
    encryptor = Encryptor(holder.public_context())
    return {name: encryptor.encrypt(vectors[name]) for name in NAMES}


def added(holder: KeyHolder, ciphertexts: List[bytes]) -> bytes:
    adder = Adder(holder.public_context())
    for ciphertext in ciphertexts:
        adder.add(ciphertext)
    return adder.total()


def signed(sent: Dict[str, bytes], session: bytes) -> List[Summand]:
    return [sign_summand(name, sent[name], session, KEYS[name].sign) for name in sent]


def summed(plan: SumPlan, vectors: List[np.ndarray]) -> Tuple[np.ndarray, int]:
    """The opened sum, and the bytes of one ciphertext."""
    holder = KeyHolder(plan)
    encryptor = Encryptor(holder.public_context())
    adder = Adder(holder.public_context())
    summands = []
    for i, vector in enumerate(vectors):
        ciphertext = encryptor.encrypt(vector)
        adder.add(ciphertext)
        summands.append(sign_summand(f"party {i}", ciphertext, SESSION, lambda message: b""))
    return holder.decrypt_sum(adder.total(), SESSION, summands, lambda *_: True), len(ciphertext)


@pytest.mark.parametrize("magnitude", [1e-3, 1.0, 1e3])
def test_100k_floats_are_summed_within_a_millionth_in_8_5_times_the_bytes(magnitude: float) -> None:
    rng = np.random.default_rng(1)
    vectors = [np.clip(rng.normal(0, magnitude / 4, 100_000), -magnitude, magnitude) for _ in range(4)]
    total, size = summed(SumPlan(100_000, 4, magnitude, 2.0**-22), vectors)
    assert np.abs(total - sum(vectors)).max() < 1e-6
    assert size <= 8.5 * 4 * 100_000


@pytest.mark.parametrize("bits", [10, 30, 33])
def test_sums_of_integers_are_exact_up_to_the_limit(bits: int) -> None:
    """Alike values are the worst case: all of the sum is in one coefficient."""
    rng = np.random.default_rng(2)
    most = float(2**bits)
    mixed = rng.integers(-(2**bits), 2**bits, SLOTS).astype(np.float64)
    vectors = [np.concatenate([np.full(SLOTS, most), np.full(SLOTS, -most), mixed]) for _ in range(4)]
    total, _ = summed(SumPlan(3 * SLOTS, 4, most, 1.0), vectors)
    assert np.array_equal(total, sum(vectors))


def test_a_plan_that_cannot_be_exact_is_refused() -> None:
    SumPlan(10, 4, 2.0**33, 1.0)
    with pytest.raises(PrivacyError, match="2\\^36.0 steps; CKKS sums are exact to 2\\^35"):
        SumPlan(10, 4, 2.0**34, 1.0)
    with pytest.raises(PrivacyError, match="0 < step <= bound"):
        SumPlan(10, 4, 1.0, 0.0)
    with pytest.raises(PrivacyError, match="2 parties"):
        SumPlan(10, 2, 1.0, 0.5)


@pytest.mark.parametrize("bits", [21, 40, 50])
def test_the_error_of_a_block_is_as_small_as_the_rounding_relies_on(bits: int) -> None:
    """It is known to 0.7 % from 40,960 errors under one key, and the bound is 8 % above what it should be. The largest is
    beyond 25 times that with probability 2e-11."""
    context = ckks_blocks.make_keys(Parameters((60, 60), bits))
    values = np.random.default_rng(3).integers(-100, 100, SLOTS).astype(np.float64)
    errors = [decrypt_block(context, encrypt_block(context, values)) - values for _ in range(10)]
    assert 0.5 * NOISE_STD < np.std(errors) * 2.0**bits < 1.04 * NOISE_STD
    assert np.abs(errors).max() * 2.0**bits < 25 * NOISE_STD


def test_what_the_key_holder_says_is_on_the_grid() -> None:
    total, _ = summed(SumPlan(100, 3, 8.0, 0.25), [np.linspace(-8, 8, 100)] * 3)
    assert np.array_equal(total * 4, np.rint(total * 4))


def test_a_thousand_additions_stay_exact() -> None:
    """100 ciphertexts ten times over: their errors grow three times as much as those of 1000 would, to NOISE_STD 100. Half a
    step is 30 of those, so one of the 4,096 values is off with probability 2e-15 at the most."""
    keys = KeyHolder(SumPlan(SLOTS, 1000, 2.0**25, 1.0))
    encryptor, adder = Encryptor(keys.public_context()), Adder(keys.public_context())
    ciphertexts = [encryptor.encrypt(np.full(SLOTS, 2.0**25)) for _ in range(100)]
    for ciphertext in ciphertexts * 10:
        adder.add(ciphertext)
    with pytest.raises(PrivacyError, match="no more"):
        adder.add(ciphertexts[0])
    summands = [Summand(str(i), bytes([i % 256, i // 256]), b"") for i in range(1000)]
    total = keys.decrypt_sum(adder.total(), SESSION, summands, lambda *_: True)
    assert np.array_equal(total, np.full(SLOTS, 1000 * 2.0**25))


def test_the_public_context_holds_no_secret(holder: KeyHolder, sent: Dict[str, bytes]) -> None:
    public = holder.public_context()
    context = Encryptor(public)._context
    assert not context.is_private()
    with pytest.raises(PrivacyError, match="holds no secret key"):
        ckks_blocks.load_secret(public[28:], SMALL.parameters)
    with pytest.raises(ValueError, match="secret_key"):
        Encryptor(public)._format.load(sent["north"][40 : 40 + SMALL.parameters.block_bytes]).decrypt()


def test_a_context_with_the_secret_key_inside_is_refused(holder: KeyHolder) -> None:
    private = holder.public_context()[:28] + secret_bytes(holder._context)
    for side in (Encryptor, Adder):
        with pytest.raises(PrivacyError, match="holds the secret key"):
            side(private)


def test_damaged_and_foreign_contexts_are_refused(holder: KeyHolder) -> None:
    public = holder.public_context()
    other = KeyHolder(SumPlan(5000, 4, 1e3, 1.0)).public_context()
    rotations = ckks_blocks.make_keys(SMALL.parameters)
    rotations.generate_relin_keys()
    rotations.make_context_public()
    for bad in (b"", public[:27], public[:-1], public[:28], b"EWK1" + bytes(1000), bytes(len(public)), bytes(1 << 21)):
        with pytest.raises((WireError, PrivacyError)):
            Encryptor(bad)
    with pytest.raises(WireError, match="other parameters"):
        Encryptor(public[:28] + other[28:])
    with pytest.raises(WireError, match="which nothing here uses"):
        Encryptor(public[:28] + rotations.serialize())


def test_damaged_ciphertexts_are_refused(holder: KeyHolder, sent: Dict[str, bytes]) -> None:
    adder = Adder(holder.public_context())
    good = sent["north"]
    cases = [
        b"",
        b"EWC1",
        good[:-1],
        good + b"\0",
        bytes(len(good)),
        b"EWC2" + good[4:],
        good[:40] + b"\xff" * (len(good) - 40),
    ]
    for bad in [*cases, good[:40] + bytes(len(good) - 40)]:
        with pytest.raises(WireError):
            adder.add(bad)
        with pytest.raises((WireError, PrivacyError)):
            holder.decrypt_sum(bad, b"damaged", signed(sent, b"damaged"), verify)
    assert adder.count == 0


def test_random_damage_never_crashes(holder: KeyHolder, sent: Dict[str, bytes]) -> None:
    """SEAL takes any numbers below its modulus: those are caught by the signatures, and by the size of what comes out."""
    rng = random.Random(4)
    opened = 0
    for _ in range(60):
        bad = bytearray(sent["north"])
        for _ in range(rng.randrange(1, 20)):
            bad[rng.randrange(len(bad))] = rng.randrange(256)
        try:
            total = added(holder, [bytes(bad), sent["south"], sent["east"]])
        except (WireError, PrivacyError):
            continue
        session = rng.randbytes(8)
        summands = signed({n: sent[n] for n in NAMES[:3]}, session)
        with pytest.raises(PrivacyError, match="no sum of such vectors"):
            holder.decrypt_sum(total, session, summands, verify)
        opened += 1
    assert opened  # a third of them on average


def test_another_key_is_named(holder: KeyHolder) -> None:
    foreign = Encryptor(KeyHolder(SMALL).public_context()).encrypt(np.zeros(SMALL.size))
    with pytest.raises(PrivacyError, match="encrypted for key"):
        Adder(holder.public_context()).add(foreign)


def test_another_key_under_a_forged_id_is_found_in_the_sum(holder: KeyHolder, sent: Dict[str, bytes]) -> None:
    foreign = Encryptor(KeyHolder(SMALL).public_context()).encrypt(np.zeros(SMALL.size))
    forged = foreign[:4] + holder.key_id + foreign[36:]
    total = added(holder, [sent["north"], sent["south"], forged])
    summands = signed({"north": sent["north"], "south": sent["south"], "east": forged}, b"forged")
    with pytest.raises(PrivacyError, match="no sum of such vectors under this key"):
        holder.decrypt_sum(total, b"forged", summands, verify)


def test_a_node_refuses_what_does_not_fit_the_plan(holder: KeyHolder) -> None:
    encryptor = Encryptor(holder.public_context())
    for bad in (np.zeros(4999), np.zeros((1, 5000))):
        with pytest.raises(PrivacyError, match="shape"):
            encryptor.encrypt(bad)
    for value in (1e6 + 1, -np.inf, np.nan):
        with pytest.raises(PrivacyError, match="clip before"):
            encryptor.encrypt(np.full(5000, value))


def test_a_sum_in_place_of_a_vector_is_refused(holder: KeyHolder, sent: Dict[str, bytes]) -> None:
    with pytest.raises(PrivacyError, match="is a sum already"):
        Adder(holder.public_context()).add(added(holder, list(sent.values())))
    with pytest.raises(PrivacyError, match="no ciphertext"):
        Adder(holder.public_context()).total()


def test_both_ways_of_decrypting_give_the_sum(
    holder: KeyHolder, vectors: Dict[str, np.ndarray], sent: Dict[str, bytes]
) -> None:
    right = sum(vectors.values())
    cheap = holder.decrypt_sum(added(holder, list(sent.values())), b"cheap", signed(sent, b"cheap"), verify)
    safe = holder.decrypt_sum_of(sent.values(), b"safe", signed(sent, b"safe"), verify)
    assert np.array_equal(cheap, right)
    assert np.array_equal(safe, right)


def test_a_single_update_is_never_opened(holder: KeyHolder, sent: Dict[str, bytes]) -> None:
    two = {n: sent[n] for n in NAMES[:2]}
    with pytest.raises(PrivacyError, match="a sum over 2 parties"):
        holder.decrypt_sum_of(two.values(), b"two", signed(two, b"two"), verify)
    with pytest.raises(PrivacyError, match="a sum of 1 ciphertexts with the signatures of 4 nodes"):
        holder.decrypt_sum(sent["north"], b"one", signed(sent, b"one"), verify)


def test_a_lying_aggregator_gets_nothing_from_the_safe_mode(holder: KeyHolder, sent: Dict[str, bytes]) -> None:
    session = b"lying"
    summands = signed(sent, session)
    zero = Encryptor(holder.public_context()).encrypt(np.zeros(SMALL.size))
    with pytest.raises(PrivacyError, match="no node of this sum signed"):
        holder.decrypt_sum_of([sent["north"], zero, zero, zero], session, summands, verify)
    with pytest.raises(PrivacyError, match="or the same one again"):
        holder.decrypt_sum_of([sent["north"], sent["north"]], session, summands, verify)
    with pytest.raises(PrivacyError, match="of east, west is missing"):
        holder.decrypt_sum_of([sent["north"], sent["south"]], session, summands, verify)
    invented = [sign_summand(n, c, session, KEYS["north"].sign) for n, c in zip(NAMES, sent.values())]
    with pytest.raises(PrivacyError, match="south is not signed by south"):
        holder.decrypt_sum_of(sent.values(), session, invented, verify)
    with pytest.raises(PrivacyError, match="not signed by north"):
        holder.decrypt_sum_of(sent.values(), session, signed(sent, b"another round"), verify)
    with pytest.raises(PrivacyError, match="twice"):
        holder.decrypt_sum_of(sent.values(), session, summands[:1] * 4, verify)


def test_one_party_cannot_stand_for_three(holder: KeyHolder, sent: Dict[str, bytes]) -> None:
    session = b"alone"
    summands = [sign_summand("north", ciphertext, session, KEYS["north"].sign) for ciphertext in sent.values()]
    with pytest.raises(PrivacyError, match="north is in the sum twice"):
        holder.decrypt_sum_of(sent.values(), session, summands, verify)


def test_values_beside_the_vector_are_found() -> None:
    """A vector of one value leaves 4,095 slots of its block empty, and a foreign key's garbage would fill them."""
    holder = KeyHolder(SumPlan(1, 3, 8.0, 1.0))
    encryptor = Encryptor(holder.public_context())
    sent = {name: encryptor.encrypt(np.ones(1)) for name in NAMES[:3]}
    full = encrypt_block(encryptor._context, np.ones(SLOTS))
    sent["north"] = sent["north"][:40] + encryptor._format.dump(full)
    with pytest.raises(PrivacyError, match="no sum of such vectors"):
        holder.decrypt_sum_of(sent.values(), SESSION, signed(sent, SESSION), verify)


def test_one_sum_for_each_session(holder: KeyHolder, sent: Dict[str, bytes]) -> None:
    """The sum of all but one beside the sum of all is that one's vector."""
    holder.decrypt_sum_of(sent.values(), b"once", signed(sent, b"once"), verify)
    three = {n: sent[n] for n in NAMES[:3]}
    with pytest.raises(PrivacyError, match="decrypted already"):
        holder.decrypt_sum_of(three.values(), b"once", signed(three, b"once"), verify)


def test_a_sender_cannot_choose_the_framing(holder: KeyHolder) -> None:
    """Nothing of a block is compressed or describes itself, so every byte of it is a number of the ciphertext."""
    ciphertext = Encryptor(holder.public_context()).encrypt(np.zeros(SMALL.size))
    assert len(ciphertext) == 40 + 2 * 2 * 8192 * 8
    numbers = np.frombuffer(ciphertext, "<u8", offset=40)
    assert numbers.max() < 2**60
    assert math.isclose(numbers.mean() / 2**59, 1.0, abs_tol=0.03)  # uniform: 0.0032 is one standard deviation
    assert (
        hashlib.sha256(ciphertext).digest()
        != hashlib.sha256(Encryptor(holder.public_context()).encrypt(np.zeros(SMALL.size))).digest()
    )


def test_adding_takes_no_more_memory_for_more_parties() -> None:
    keys = KeyHolder(SumPlan(100_000, 100, 1.0, 2.0**-20))
    adder, ciphertext = Adder(keys.public_context()), Encryptor(keys.public_context()).encrypt(np.zeros(100_000))
    adder.add(ciphertext)
    adder.add(ciphertext)
    before = psutil.Process().memory_info().rss
    for _ in range(40):
        adder.add(ciphertext)
    assert psutil.Process().memory_info().rss - before < 40 * len(ciphertext) / 4


def test_without_tenseal_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tenseal", None)
    with pytest.raises(PrivacyError, match=r"pip install 'edgeward\[he\]'"):
        KeyHolder(SMALL)

"""Sums under CKKS: exact, of the promised size, and closed to those who have no business with them."""

import random
import subprocess
import sys
from typing import Any, Dict, List

import numpy as np
import psutil
import pytest

pytest.importorskip("tenseal", reason="TenSEAL has no wheel for this Python")

from ckks_parties import HEADER_BYTES, KEYS, NAMES, SESSION, Ward, total_of, verify

from orchestrator.errors import PrivacyError, WireError
from orchestrator.privacy import ckks_blocks
from orchestrator.privacy.ckks import (
    BOUND,
    GRID_STDS,
    PARAMETERS,
    TOLERANCE,
    CheckedSum,
    Encryptor,
    Hidden,
    KeyHolder,
    Receiver,
    Summand,
    SumPlan,
    UnsoundSumError,
    sign_summand,
)
from orchestrator.privacy.ckks_blocks import NOISE_STD, SLOTS, Parameters, decrypt_block, encrypt_block, secret_bytes

CONTEXT_HEADER = 12


@pytest.fixture(scope="module")
def ward() -> Ward:
    """Its keys are never used up: for what is refused before that."""
    return Ward()


def opened(ward: Ward) -> np.ndarray:
    receiver = Receiver(ward.holder.public_context())
    return receiver.open((hidden.masked for hidden in ward.hidden.values()), ward.pads())


def test_100k_values_are_summed_exactly_in_9_2_times_the_bytes_of_float32() -> None:
    ward = Ward(100_000)
    assert np.array_equal(opened(ward), total_of(ward.vectors))
    assert len(ward.hidden["east"].ciphertext) + len(ward.hidden["east"].masked) <= 9.2 * 4 * 100_000


@pytest.mark.parametrize("size", [1, SLOTS - 8, SLOTS - 7, 3 * SLOTS])
def test_sums_are_exact_to_the_ends_of_the_ring(size: int) -> None:
    """Alike pads are the worst case for the encoder and cannot be asked for; alike vectors, and vectors of any size, can."""
    ward = Ward(size)
    share = (BOUND - 1) // len(NAMES)
    rng = np.random.default_rng(2)
    for vectors in (
        [np.full(size, share)] * 4,
        [np.full(size, -share)] * 4,
        list(rng.integers(-share, share, (4, size))),
        [np.full(size, BOUND - 1), np.full(size, -BOUND), np.full(size, 5), np.full(size, -7)],
    ):
        ward.begin_again()
        ward.hidden = {name: ward.hide(name, vector) for name, vector in zip(NAMES, vectors)}
        assert np.array_equal(opened(ward), sum(vectors))


def test_a_plan_that_makes_no_sense_is_refused() -> None:
    for size, parties in ((0, 4), (1 << 29, 4), (10, 2), (10, 1001)):
        with pytest.raises(PrivacyError, match=f"a sum of {size} values from {parties} parties"):
            SumPlan(size, parties)


@pytest.mark.parametrize("bits", [21, 40, 50])
def test_the_error_of_a_block_is_as_small_as_the_tolerance_relies_on(bits: int) -> None:
    """It is known to 0.7 % from 40,960 errors under one key, and the bound is 8 % above what it should be. The largest is
    beyond 25 times that with probability 2e-11."""
    context = ckks_blocks.make_keys(Parameters((60, 60), bits))
    values = np.random.default_rng(3).integers(-100, 100, SLOTS).astype(np.float64)
    errors = [decrypt_block(context, encrypt_block(context, values)) - values for _ in range(10)]
    assert 0.5 * NOISE_STD < np.std(errors) * 2.0**bits < 1.04 * NOISE_STD
    assert np.abs(errors).max() * 2.0**bits < 25 * NOISE_STD


@pytest.mark.parametrize("pattern", ["alike", "alternating", "uniform"])
def test_the_largest_pads_stay_within_the_tolerance_and_that_is_far_from_half_a_step(pattern: str) -> None:
    """An honest error does not grow with the pad's size, as the encoder's own could, nor with the parties."""
    context = ckks_blocks.make_keys(PARAMETERS)
    alternating = np.where(np.arange(SLOTS) % 2, -1.0, 1.0)
    uniform = np.random.default_rng(4).integers(-BOUND, BOUND, SLOTS).astype(np.float64)
    pad = {"alike": np.full(SLOTS, -float(BOUND)), "alternating": BOUND * alternating, "uniform": uniform}[pattern]
    errors = [decrypt_block(context, encrypt_block(context, pad)) - pad for _ in range(10)]
    assert np.std(errors) * 2.0**PARAMETERS.scale_bits < 1.04 * NOISE_STD
    assert np.abs(errors).max() < TOLERANCE == GRID_STDS * NOISE_STD / 2**27 < 0.5 / 1000


@pytest.mark.slow
def test_a_thousand_parties_are_exact_and_one_more_is_refused() -> None:
    keys = KeyHolder(SumPlan(10, 1000))
    encryptor = Encryptor(keys.public_context())
    vector = np.arange(-5, 5) * 10**5
    names = [f"n{i}" for i in range(1001)]
    hidden = [encryptor.hide(vector, name, SESSION) for name in names]
    summands = [sign_summand(name, one, SESSION, lambda _: b"") for name, one in zip(names, hidden)]
    with pytest.raises(PrivacyError, match="a sum over 1001 parties, its keys are for 1000"):
        keys.check(SESSION, summands, lambda *_: True)
    pads = keys.sum_pads((one.ciphertext for one in hidden[:1000]), SESSION, summands[:1000], lambda *_: True)
    total = Receiver(keys.public_context()).open((one.masked for one in hidden[:1000]), pads)
    assert np.array_equal(total, 1000 * vector)


def test_the_public_context_holds_no_secret(ward: Ward) -> None:
    public = ward.holder.public_context()
    context = Encryptor(public).context
    assert not context.is_private()
    with pytest.raises(PrivacyError, match="holds no secret key"):
        ckks_blocks.load_secret(public[CONTEXT_HEADER:], PARAMETERS)
    block = ward.hidden["north"].ciphertext[HEADER_BYTES : HEADER_BYTES + PARAMETERS.block_bytes]
    with pytest.raises(ValueError, match="secret_key"):
        Encryptor(public).format.load(block).decrypt()


def test_a_context_with_the_secret_key_inside_is_refused(ward: Ward) -> None:
    private = ward.holder.public_context()[:CONTEXT_HEADER] + secret_bytes(ward.holder.context)
    for side in (Encryptor, Receiver):
        with pytest.raises(PrivacyError, match="holds the secret key"):
            side(private)


def test_damaged_and_foreign_contexts_are_refused(ward: Ward) -> None:
    public, head = ward.holder.public_context(), CONTEXT_HEADER
    other = ckks_blocks.public_bytes(ckks_blocks.make_keys(Parameters((60, 60), 40)))
    rotations = ckks_blocks.make_keys(PARAMETERS)
    rotations.generate_relin_keys()
    rotations.make_context_public()
    cases = (b"", public[: head - 1], public[:-1], public[:head], b"EWK2" + bytes(1000), b"EWK1" + public[4:])
    for bad in (*cases, bytes(len(public)), bytes(1 << 21)):
        with pytest.raises((WireError, PrivacyError)):
            Encryptor(bad)
    with pytest.raises(WireError, match="other parameters"):
        Encryptor(public[:head] + other)
    with pytest.raises(WireError, match="which nothing here uses"):
        Encryptor(public[:head] + rotations.serialize())


def damaged(good: bytes) -> List[bytes]:
    body = len(good) - HEADER_BYTES
    heads = [b"", b"EWC2", good[:-1], good + b"\0", bytes(len(good)), b"EWC1" + good[4:]]
    return [*heads, good[:HEADER_BYTES] + b"\xff" * body, good[:HEADER_BYTES] + bytes(body)]


def test_damaged_ciphertexts_are_refused_at_once_by_gateway_and_key_holder() -> None:
    """Anybody can see what is wrong with these, so nothing is told by saying it."""
    ward = Ward()
    receiver = Receiver(ward.holder.public_context())
    good = ward.hidden["north"]
    for bad in damaged(good.ciphertext):
        if len(bad) < 36:
            continue  # nobody can sign for it, see below
        ward.hidden["north"] = good._replace(ciphertext=bad)
        summands = ward.signed()
        with pytest.raises(WireError):
            receiver.check(good.masked, bad, (summands[0].digest, summands[0].masked_digest))
        ward.begin_again()
        # Signed for a key it does not name: as the node that sends it would.
        summand = sign_summand("north", ward.hidden["north"], SESSION, KEYS["north"].sign)
        checked = ward.holder.check(SESSION, [summand, *summands[1:]], lambda *_: True)
        with pytest.raises(PrivacyError, match="the ciphertext of north: "):
            checked.add(bad)
    for masked in (b"", good.masked[:-1], good.masked + b"\0"):
        summand = sign_summand("north", good._replace(masked=masked), SESSION, KEYS["north"].sign)
        with pytest.raises(WireError, match="a masked vector of"):
            receiver.check(masked, good.ciphertext, (summand.digest, summand.masked_digest))


def test_random_damage_is_refused_and_never_crashes() -> None:
    """SEAL takes any numbers below its modulus: those are caught by what comes out, signed or not."""
    ward = Ward()
    rng = random.Random(4)
    good, read = ward.hidden["north"], 0
    for _ in range(60):
        bad = bytearray(good.ciphertext)
        for _ in range(rng.randrange(1, 20)):
            bad[rng.randrange(HEADER_BYTES, len(bad))] ^= rng.randrange(1, 256)
        ward.replace("north", bytes(bad), foreseen=False)
        checked = ward.holder.check(SESSION, ward.signed(), verify)
        ward.begin_again()
        try:
            for ciphertext in ward.ciphertexts():
                checked.add(ciphertext)
        except PrivacyError:
            continue
        with pytest.raises(UnsoundSumError) as caught:
            checked.open()
        assert caught.value.faults["north"].startswith("values off the grid")
        read += 1
    assert read  # a third of them on average


def test_another_key_is_named(ward: Ward) -> None:
    foreign = Ward(seed=1).hidden["north"]
    summand = sign_summand("north", foreign, SESSION, KEYS["north"].sign)
    with pytest.raises(PrivacyError, match="encrypted for key"):
        Receiver(ward.holder.public_context()).check(
            foreign.masked, foreign.ciphertext, (summand.digest, summand.masked_digest)
        )


def test_another_key_under_a_forged_id_is_found(ward: Ward) -> None:
    ours, foreign = Ward(), Ward(seed=1).hidden["east"].ciphertext
    ours.replace("east", foreign[:4] + ours.holder.key_id + foreign[36:], foreseen=False)
    with pytest.raises(UnsoundSumError) as caught:
        ours.pads()
    assert "off the grid" in caught.value.faults["east"]


@pytest.mark.parametrize(
    ("vector", "why"),
    [
        (np.zeros(4999, np.int64), "shape"),
        (np.zeros((1, 5000), np.int64), "shape"),
        (np.full(5000, np.nan), "whole numbers"),
        (np.full(5000, np.inf), "whole numbers"),
        (np.zeros(5000), "whole numbers"),
        (np.full(5000, BOUND), "clip before"),
        (np.full(5000, -BOUND - 1), "clip before"),
    ],
)
def test_a_node_refuses_what_does_not_fit_the_plan(ward: Ward, vector: np.ndarray, why: str) -> None:
    with pytest.raises(PrivacyError, match=why):
        ward.encryptor.hide(vector, "north", SESSION)


def test_a_sum_of_pads_that_is_none_is_refused(ward: Ward) -> None:
    receiver = Receiver(ward.holder.public_context())
    masked = [hidden.masked for hidden in ward.hidden.values()]
    for wrong in (np.zeros(4999, np.uint32), np.zeros(5000, np.int64), np.zeros(5000)):
        with pytest.raises(PrivacyError, match="the key holder's sum has"):
            receiver.open(masked, wrong)
    with pytest.raises(PrivacyError, match="a masked vector"):
        receiver.open([masked[0], masked[1][:-4]], np.zeros(5000, np.uint32))


def test_a_single_update_is_never_opened(ward: Ward) -> None:
    for names in (NAMES[:2], NAMES[:1], ()):
        with pytest.raises(PrivacyError, match=f"a sum over {len(names)} parties"):
            ward.holder.check(SESSION, ward.signed(names=names), verify)


def test_a_lying_gateway_gets_nothing() -> None:
    ward = Ward()
    north, south, *_ = ward.ciphertexts()
    zero = ward.hide("east", np.zeros(5000, np.int64)).ciphertext

    def begin() -> CheckedSum:
        ward.begin_again()
        return ward.holder.check(SESSION, ward.signed(), verify)

    for sent, why in (
        ([north, zero], "no node of this sum signed"),
        ([north, north], "or the same one again"),
    ):
        checked = begin()
        checked.add(sent[0])
        with pytest.raises(PrivacyError, match=why):
            checked.add(sent[1])
    checked = begin()
    checked.add(north)
    checked.add(south)
    with pytest.raises(PrivacyError, match="of east, west is missing"):
        checked.open()
    invented = [sign_summand(n, ward.hidden[n], SESSION, KEYS["north"].sign) for n in NAMES]
    with pytest.raises(PrivacyError, match="south is not signed by south"):
        ward.holder.check(SESSION, invented, verify)
    with pytest.raises(PrivacyError, match="not signed by north"):
        ward.holder.check(SESSION, ward.signed(b"another round"), verify)
    with pytest.raises(PrivacyError, match="twice"):
        ward.holder.check(SESSION, ward.signed()[:1] * 4, verify)


@pytest.mark.parametrize("field", ["digest", "masked_digest", "check"])
def test_all_that_is_signed_counts_and_digests_cannot_run_together(ward: Ward, field: str) -> None:
    summands = ward.signed()

    def with_field(content: bytes) -> Summand:
        fields: Dict[str, Any] = {field: content}
        return summands[0]._replace(**fields)

    changed = with_field(bytes(32))
    with pytest.raises(PrivacyError, match="north is not signed by north"):
        ward.holder.check(SESSION, [changed, *summands[1:]], verify)
    for wrong in (b"", getattr(summands[0], field) + b"\0"):
        with pytest.raises(WireError, match="are no digests"):
            ward.holder.check(SESSION, [with_field(wrong), *summands[1:]], verify)


def test_who_was_told_another_model_is_in_no_sum_with_the_rest(ward: Ward) -> None:
    summands = [sign_summand(n, ward.hidden[n], SESSION, KEYS[n].sign, n[:1].encode()) for n in NAMES]
    with pytest.raises(PrivacyError, match="it was sent another model"):
        ward.holder.check(SESSION, summands, verify, b"n")


def test_one_party_cannot_stand_for_three(ward: Ward) -> None:
    summands = [sign_summand("north", hidden, SESSION, KEYS["north"].sign) for hidden in ward.hidden.values()]
    with pytest.raises(PrivacyError, match="north is in the sum twice"):
        ward.holder.check(SESSION, summands, verify)


def test_keys_serve_one_sum() -> None:
    """The sum of all but one beside the sum of all is that one's vector. Refused or not: an answer is an answer."""
    ward = Ward()
    ward.pads()
    for session in (SESSION, b"another"):
        with pytest.raises(PrivacyError, match="was begun already"):
            ward.holder.check(session, ward.signed(session, NAMES[:3]), verify)


def test_a_sender_cannot_choose_the_framing(ward: Ward) -> None:
    """Nothing of a block is compressed or describes itself, so every byte of it is a number of the ciphertext."""
    first, second = (ward.hide("north", np.zeros(5000, np.int64)) for _ in range(2))
    assert len(first.ciphertext) == HEADER_BYTES + 2 * 2 * 8192 * 8
    numbers = np.frombuffer(first.ciphertext, "<u8", offset=HEADER_BYTES)
    assert numbers.max() < 2**60
    assert abs(numbers.mean() / 2**59 - 1) < 0.03  # uniform: 0.0032 is one standard deviation
    assert first != second
    assert isinstance(first, Hidden)


def test_summing_takes_no_more_memory_for_more_parties() -> None:
    keys = KeyHolder(SumPlan(100_000, 100))
    encryptor = Encryptor(keys.public_context())
    names = [f"n{i}" for i in range(12)]
    hidden = [encryptor.hide(np.zeros(100_000, np.int64), name, SESSION) for name in names]
    summands = [sign_summand(name, one, SESSION, lambda _: b"") for name, one in zip(names, hidden)]
    checked = keys.check(SESSION, summands, lambda *_: True)
    for one in hidden[:2]:
        checked.add(one.ciphertext)
    before = psutil.Process().memory_info().rss
    for one in hidden[2:]:
        checked.add(one.ciphertext)
    assert psutil.Process().memory_info().rss - before < 10 * len(hidden[0].ciphertext) / 4


@pytest.mark.parametrize("first", ["tenseal", "tensorflow"])
def test_the_wrong_order_of_libraries_is_an_error_and_no_end_of_the_process(first: str) -> None:
    """As in a notebook that has imported TensorFlow."""
    pytest.importorskip("tensorflow", reason="what comes in the wrong order")
    begin = f"import {first}; " + "from orchestrator.privacy import ckks_blocks as blocks; "
    make = "import tensorflow; print(len(blocks.public_bytes(blocks.make_keys(blocks.Parameters((60, 40, 60), 40)))))"
    done = subprocess.run([sys.executable, "-c", begin + make], capture_output=True, text=True, timeout=300)
    assert done.returncode == (0 if first == "tenseal" else 1), done.stderr
    assert ("import tenseal before tensorflow" in done.stderr) == (first == "tensorflow")


def test_without_tenseal_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tenseal", None)
    with pytest.raises(PrivacyError, match=r"pip install 'edgeward\[he\]'"):
        KeyHolder(SumPlan(10, 3))

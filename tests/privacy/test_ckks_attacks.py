"""Sums under CKKS attacked: by nodes whose ciphertexts are no encryptions, by the gateway, and by the key holder on its own.

The key holder's refusals are asserted to the word where the gateway sees them: a text that varied would be an answer.
"""

import numpy as np
import pytest

pytest.importorskip("tenseal", reason="TenSEAL has no wheel for this Python")

from ckks_parties import HEADER_BYTES, KEYS, NAMES, SESSION, Ward, check_of, total_of, verify

from orchestrator.errors import PrivacyError, WireError
from orchestrator.privacy.ckks import BOUND, TOLERANCE, Receiver, UnsoundSumError, sign_summand
from orchestrator.privacy.ckks_blocks import MODULUS, SLOTS, _times, decrypt_block, encrypt_block, turned

DEGREE = 2 * SLOTS
SCALE = 1 << 27
TEXT = "no sum: not every ciphertext is what its node signed for; the key holder's log has more"
CHI_SQUARE_255 = 415.0
"""Beyond it with probability 1e-9, with 255 degrees of freedom."""


def refused(ward: Ward) -> "dict[str, str]":
    """What the key holder notes for itself."""
    with pytest.raises(UnsoundSumError) as caught:
        ward.pads()
    assert str(caught.value) == TEXT
    return caught.value.faults


def is_prime(number: int) -> bool:
    return all(pow(base, number - 1, number) == 1 for base in (2, 3, 5, 7, 11, 13))


def modulus() -> int:
    """Of ciphertexts: SEAL gives out the largest primes of 60 bits with 2N-th roots of one, and the last is for keys alone."""
    candidates = (number for number in range((1 << 60) - 2 * DEGREE + 1, 0, -2 * DEGREE) if is_prime(number))
    _, second = next(candidates), next(candidates)
    return second


def times_secret(ward: Ward, name: str, factor: int) -> bytes:
    """The party's ciphertext with `factor` scale s added to its first block, s the secret key, and factor scale X^(N/2) s to
    its second: polynomials are kept at the roots of X^N + 1, where constants are constant and X^(N/2) is a root of -1."""
    q = modulus()
    assert q == MODULUS
    k = factor * SCALE % q
    root = next(pow(x, (q - 1) // 4, q) for x in range(2, 100) if pow(x, (q - 1) // 2, q) == q - 1)
    turned = k * root % q
    header, raw = ward.numbers(name)
    modular = np.uint64(q)
    raw[0, 1] = (raw[0, 1] + np.uint64(k)) % modular
    raw[1, 1, : DEGREE // 2] = (raw[1, 1, : DEGREE // 2] + np.uint64(turned)) % modular
    raw[1, 1, DEGREE // 2 :] = (raw[1, 1, DEGREE // 2 :] + np.uint64(q - turned)) % modular
    return header + raw.astype("<u8").tobytes()


def secret_from(real: np.ndarray, turned: np.ndarray) -> np.ndarray:
    """float64 (N,): the polynomial of which the two blocks' slots are told. Slot j is its value at zeta^(3^j)."""
    exponents = np.array([pow(3, j, 2 * DEGREE) for j in range(SLOTS)])
    values = np.zeros(2 * DEGREE, complex)
    values[exponents] = real - 1j * turned * np.where(exponents % 4 == 1, 1, -1)
    values[2 * DEGREE - exponents] = np.conj(values[exponents])
    return np.fft.fft(values).real[:DEGREE] / DEGREE


def test_one_node_gets_the_secret_key_out_of_one_ciphertext_if_it_is_rounded_and_so_it_is_refused() -> None:
    """The node knows its own pad, so what is said of its ciphertext tells it factor s at 8,192 places: the key."""
    ward, factor = Ward(2 * SLOTS), 1 << 20
    quiet = np.zeros(SLOTS)
    form, context = ward.encryptor.format, ward.encryptor.context
    own = ward.hidden["west"].ciphertext[:HEADER_BYTES] + 3 * form.dump(encrypt_block(context, quiet))
    ward.replace("west", own, foreseen=True)
    ward.replace("west", times_secret(ward, "west", factor), foreseen=True)
    told = ward.words(ward.hidden["west"].ciphertext)[: 2 * SLOTS].astype(np.int32) / factor
    key = secret_from(told[:SLOTS], told[SLOTS:])
    assert np.abs(key - np.rint(key)).max() < 0.01
    assert set(np.rint(key)) == {-1.0, 0.0, 1.0}  # so the attack works on who rounds, and adds
    faults = refused(ward)
    assert list(faults) == ["west"]
    assert faults["west"].startswith("values off the grid, by up to 0.5")


def test_two_nodes_whose_parts_of_the_key_cancel_are_both_named() -> None:
    ward = Ward(2 * SLOTS)
    before = total_of({name: ward.decrypted(ward.hidden[name].ciphertext) for name in NAMES})
    for name, factor in (("east", 1 << 10), ("west", -(1 << 10))):
        ward.replace(name, times_secret(ward, name, factor), foreseen=True)
    after = total_of({name: ward.decrypted(ward.hidden[name].ciphertext) for name in NAMES})
    assert np.abs(after - before).max() < TOLERANCE  # nothing is to be seen in the sum
    assert sorted(refused(ward)) == ["east", "west"]


@pytest.mark.parametrize("off", [0.1, 0.001])
def test_the_smallest_thing_off_the_grid_is_refused(off: float) -> None:
    """Nothing of it would be said, but whether it is rounded away is an answer, too."""
    ward = Ward()
    moved = np.rint(ward.decrypted(ward.hidden["west"].ciphertext)) + off
    moved[ward.holder.plan.encrypted :] = 0.0
    ward.replace("west", encrypted(ward, moved), foreseen=True)
    (fault,) = refused(ward).values()
    assert fault.startswith("values off the grid, by up to")
    assert fault.count(",") == 1  # and nothing else is wrong with it


def test_a_part_of_another_nodes_ciphertext_that_is_imaginary_is_refused() -> None:
    """Times X^(N/2) it is: then all slots are read as 0, which anybody can name, while much of the plaintext is another's."""
    ward = Ward()
    theirs = ward.hidden["north"].ciphertext
    step = ward.holder.format.block_bytes
    blocks = [turned(theirs[start : start + step]) for start in range(HEADER_BYTES, len(theirs), step)]
    ward.replace("west", theirs[:HEADER_BYTES] + b"".join(blocks), foreseen=True)
    assert not ward.words(ward.hidden["west"].ciphertext).any()
    faults = refused(ward)
    assert list(faults) == ["west"]
    assert faults["west"].startswith("values that are not real, by up to 2.1e+09")


def test_a_turned_block_is_what_was_beside_its_real_part() -> None:
    ward = Ward(SLOTS - 8)
    numbers = ward.hidden["north"].ciphertext[HEADER_BYTES:]
    holder = ward.holder
    there = [decrypt_block(holder.context, holder.format.load(block)) for block in (numbers, turned(numbers))]
    back = decrypt_block(holder.context, holder.format.load(turned(turned(numbers))))
    assert np.abs(there[1]).max() < TOLERANCE
    assert np.abs(there[0] + back).max() < 2 * TOLERANCE
    assert np.abs(there[0]).max() > BOUND / 2
    assert turned(turned(turned(turned(numbers)))) == numbers


@pytest.mark.parametrize("factor", [0, 1, 1 << 30, (1 << 30) - 1, MODULUS - 1, 0x9E3779B97F4A7C1])
def test_products_modulo_the_modulus_are_those_of_whole_numbers(factor: int) -> None:
    rng = np.random.default_rng(factor % 1000)
    numbers = np.concatenate([[0, 1, MODULUS - 1, 1 << 59], rng.integers(0, MODULUS, 5000)]).astype(np.uint64)
    assert _times(numbers, factor).tolist() == [int(number) * factor % MODULUS for number in numbers]


def encrypted(ward: Ward, values: np.ndarray) -> bytes:
    """Under the holder's key, whatever the values."""
    form, context = ward.encryptor.format, ward.encryptor.context
    blocks = (encrypt_block(context, values[start : start + SLOTS]) for start in range(0, len(values), SLOTS))
    return ward.hidden["west"].ciphertext[:HEADER_BYTES] + b"".join(form.dump(block) for block in blocks)


@pytest.mark.parametrize(
    ("place", "value", "fault"),
    [
        (3, BOUND + 1.0, "values beyond the ring"),
        (3, -1.5 * BOUND, "values beyond the ring"),
        (5000 + 8, 1.0, "values beside the vector"),
        (2 * SLOTS - 1, -7.0, "values beside the vector"),
    ],
)
def test_values_out_of_place_are_refused_even_with_the_right_check(place: int, value: float, fault: str) -> None:
    ward = Ward(5000)
    whole = np.rint(ward.decrypted(ward.hidden["west"].ciphertext))
    whole[place] = value
    ward.replace("west", encrypted(ward, whole), foreseen=True)
    assert refused(ward)["west"].startswith(fault)


def sum_of(ward: Ward, first: str, values: np.ndarray) -> bytes:
    """A ciphertext of another party's pad with `values` added to it: whoever sees it can make that."""
    form, context = ward.encryptor.format, ward.encryptor.context
    theirs = ward.hidden[first].ciphertext
    parts = [theirs[:HEADER_BYTES]]
    for index, start in enumerate(range(HEADER_BYTES, len(theirs), form.block_bytes)):
        block = form.load(theirs[start : start + form.block_bytes])
        block.add_(encrypt_block(context, values[index * SLOTS : (index + 1) * SLOTS]))
        parts.append(form.dump(block))
    return b"".join(parts)


@pytest.mark.parametrize("there", [-1, 1])
def test_a_ciphertext_made_of_another_nodes_is_refused_whatever_is_in_that(there: int) -> None:
    """Were it in the sum, or refused for its range alone, the answer would tell of the other's pad, and so of its vector. It is
    moved so that one value would leave the ring, or would not, by the sign of the victim's pad."""
    ward = Ward()
    pad = ward.words(ward.hidden["north"].ciphertext).astype(np.int32)
    place = int(np.flatnonzero(np.sign(pad[:5000]) == there)[0])
    values = np.zeros(2 * SLOTS)
    values[place] = BOUND - 1
    ward.replace("west", sum_of(ward, "north", values), foreseen=False)
    faults = refused(ward)
    assert list(faults) == ["west"]
    assert ("beyond the ring" in faults["west"]) == (there == 1)
    assert "another plaintext than its node signed for" in faults["west"]


def test_the_very_ciphertext_of_another_node_under_fresh_randomness_is_refused() -> None:
    """Its check is public, and names its node: the sum must not count one pad twice."""
    ward = Ward()
    ward.replace("west", sum_of(ward, "north", np.zeros(2 * SLOTS)), foreseen=False)
    ward.hidden["west"] = ward.hidden["west"]._replace(check=ward.hidden["north"].check)
    assert refused(ward) == {"west": "another plaintext than its node signed for"}


def test_a_ciphertext_for_another_attempt_is_refused_by_signature_and_by_check() -> None:
    ward = Ward()
    stale = ward.hide("west", ward.vectors["west"], b"the attempt before")
    ward.hidden["west"] = stale
    signed = ward.signed()
    signed[-1] = sign_summand("west", stale, b"the attempt before", KEYS["west"].sign)
    with pytest.raises(PrivacyError, match="west is not signed by west for this sum"):
        ward.holder.check(SESSION, signed, verify)
    assert refused(ward) == {"west": "another plaintext than its node signed for"}  # signed for this one


def test_a_gateway_that_swaps_masked_vectors_is_refused() -> None:
    """Both by who checks the signature, and by an honest gateway that got an answer changed on its way."""
    ward, other = Ward(), Ward(seed=1)
    swapped = {**ward.hidden, "west": ward.hidden["west"]._replace(masked=other.hidden["west"].masked)}
    signed = ward.signed()
    lie = sign_summand("west", swapped["west"], SESSION, lambda _: signed[-1].signature)
    with pytest.raises(PrivacyError, match="west is not signed by west"):
        ward.holder.check(SESSION, [*signed[:-1], lie], verify)
    receiver = Receiver(ward.holder.public_context())
    digests = (signed[-1].digest, signed[-1].masked_digest)
    receiver.check(ward.hidden["west"].masked, ward.hidden["west"].ciphertext, digests)
    with pytest.raises(WireError, match="not what its node signed"):
        receiver.check(swapped["west"].masked, ward.hidden["west"].ciphertext, digests)
    with pytest.raises(WireError, match="not what its node signed"):
        receiver.check(ward.hidden["west"].masked, ward.hidden["east"].ciphertext, digests)


def test_nothing_is_said_before_all_ciphertexts_are_in_and_then_one_word() -> None:
    """Were the offender refused on arrival, a gateway would learn which of many questions was answered with no."""
    ward = Ward(2 * SLOTS)
    ward.replace("north", times_secret(ward, "north", 1 << 10), foreseen=False)
    checked = ward.holder.check(SESSION, ward.signed(), verify)
    for ciphertext in ward.ciphertexts():
        checked.add(ciphertext)
    with pytest.raises(UnsoundSumError, match="the key holder's log has more"):
        checked.open()
    with pytest.raises(PrivacyError, match="was begun already"):
        ward.pads()


def chi_square(words: np.ndarray) -> float:
    counts = np.bincount(words.astype("<u4").view(np.uint8), minlength=256)
    expected = counts.sum() / 256
    return float(((counts - expected) ** 2 / expected).sum())


def test_the_key_holder_alone_sees_uniform_pads_that_have_nothing_to_do_with_the_vector() -> None:
    """It is sent ciphertexts, digests, checks and signatures: with its key it reads this, for the plainest vectors."""
    ward = Ward(60_000)
    for vector in (np.zeros(60_000, np.int64), np.full(60_000, BOUND - 1), np.full(60_000, -BOUND)):
        first, second = (ward.hide("north", vector) for _ in range(2))
        pads = [ward.words(hidden.ciphertext)[:60_000] for hidden in (first, second)]
        masked = [np.frombuffer(hidden.masked, ">u4") for hidden in (first, second)]
        for seen in (*pads, *masked, pads[0] - pads[1], pads[0] + pads[1], masked[0] - masked[1]):
            assert chi_square(seen) < CHI_SQUARE_255
        assert np.count_nonzero(pads[0] == pads[1]) <= 2  # 1.4e-5 are expected
        assert np.count_nonzero(pads[0][1:] == pads[0][:-1]) <= 2
        for pad, under in zip(pads, masked):
            assert np.array_equal((under - pad).astype(np.uint32), vector.astype(np.uint32))


def test_what_the_key_holder_says_has_no_carry_in_it() -> None:
    """The sum of pads as whole numbers would tell how often vector and pad wrapped around: a bit about single vectors."""
    ward = Ward()
    pads = ward.pads()
    assert pads.dtype == np.uint32
    expected = total_of({name: ward.words(ward.hidden[name].ciphertext)[:5000] for name in NAMES})
    assert np.array_equal(pads, expected.astype(np.uint32))
    assert chi_square(pads) < CHI_SQUARE_255


def test_a_check_cannot_be_used_to_try_vectors() -> None:
    """The gateway knows v + r and the check of r: a vector it can guess would be confirmed, were there no salt."""
    ward = Ward(5)
    hidden = [ward.hide("north", np.zeros(5, np.int64)) for _ in range(2)]
    salts = [ward.words(one.ciphertext)[5:] for one in hidden]
    assert [len(salt) for salt in salts] == [8, 8]  # 256 bits that are nowhere else
    assert not np.any(salts[0] == salts[1])
    for one, salt in zip(hidden, salts):
        pad = np.frombuffer(one.masked, ">u4").astype(np.uint32)  # of a vector of zeros, as the gateway guessed
        assert check_of(ward.holder.key_id, SESSION, "north", np.concatenate([pad, salt])) == one.check
        assert check_of(ward.holder.key_id, SESSION, "north", pad) != one.check

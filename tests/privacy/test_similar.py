"""Encrypted search for similar patients: distances are exact, and a querier that lies gets noise."""

import math
from typing import List, Tuple

import numpy as np
import pytest

pytest.importorskip("tenseal", reason="TenSEAL has no wheel for this Python")

from orchestrator.errors import PrivacyError, WireError
from orchestrator.privacy.bfv_blocks import LINEAR_BYTES, PRODUCT_BYTES, QUESTION_BYTES, uppers
from orchestrator.privacy.bfv_keys import (
    DEGREE,
    MODULI,
    NONCE_BYTES,
    PLAIN,
    PUBLIC_BYTES,
    evenly,
    load_secret,
    make_keys,
)
from orchestrator.privacy.ckks_blocks import tenseal
from orchestrator.privacy.secure_random import SecureRandom
from orchestrator.privacy.similar import KEY, Answerer, Querier, answer_bytes, cells_in_a_block, pads_of
from orchestrator.privacy.similar_cells import (
    ALWAYS,
    COUNTS,
    DISTANCES,
    NEVER,
    Cells,
    Group,
    Near,
    Shown,
    cells_for,
    drawn,
    half_width,
    hits_of,
    near_of,
    plainly_near,
    shift_of,
    votes,
)

pytestmark = pytest.mark.slow

BITS, CLASSES = 64, ("no", "yes")


@pytest.fixture(scope="module")
def querier() -> Querier:
    return Querier.make()


@pytest.fixture(scope="module")
def owner(querier: Querier) -> Answerer:
    return Answerer(querier.public)


def patients(count: int, seed: int) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(a code that is asked about, codes at distances of 0 to 20 from it, their classes, of some none)."""
    draw = np.random.default_rng(seed)
    code = draw.integers(0, 2, BITS)
    codes = np.tile(code, (count, 1))
    for row in codes:
        row[draw.choice(BITS, draw.integers(0, 21), replace=False)] ^= 1
    return code, codes.astype(np.uint8), draw.integers(-1, 2, count)


def each_at(distance: int, codes: np.ndarray) -> Cells:
    return Cells(np.arange(len(codes)), np.full(len(codes), distance))


@pytest.mark.parametrize("seed", range(2))
def test_distances_are_those_of_the_plain_codes(querier: Querier, owner: Answerer, seed: int) -> None:
    code, codes, levels = patients(70, seed)
    asked = cells_for(levels, CLASSES, Shown(DISTANCES, 6, 5, 1.0), SecureRandom())
    answer = owner.answer(querier.ask(code), codes, asked.cells)
    found = near_of(querier.read(answer, BITS, len(asked.cells.patients)), asked.groups)
    plain = plainly_near(code, codes, levels, CLASSES)
    assert found == {label: {d: n for d, n in each.items() if d <= 6} for label, each in plain.items()}
    assert sum(sum(each.values()) for each in found.values()) > 5


def test_a_count_is_that_of_the_plain_codes_and_its_noise(querier: Querier, owner: Answerer) -> None:
    code, codes, levels = patients(40, 5)
    shown = Shown(COUNTS, 6, 5, 8.0)
    asked = cells_for(levels, CLASSES, shown, SecureRandom())
    answer = owner.answer(querier.ask(code), codes, asked.cells)
    hits = hits_of(querier.read(answer, BITS, len(asked.cells.patients)), asked.groups)
    for group, found in zip(asked.groups, hits):
        plain = plainly_near(code, codes, levels, CLASSES)[group.label]
        assert group.distance is None
        assert abs(found - asked.shift - sum(n for d, n in plain.items() if d <= 6)) <= asked.shift == shift_of(8.0)


def test_tests_of_codes_of_other_lengths(querier: Querier, owner: Answerer) -> None:
    for bits in (8, 100, 256):
        codes = np.random.default_rng(bits).integers(0, 2, (3, bits)).astype(np.uint8)
        distances = (codes != codes[0]).sum(axis=1)
        answer = owner.answer(querier.ask(codes[0]), codes, Cells(np.array([0, 1, 1, 2]), distances[[0, 1, 2, 2]]))
        found = querier.read(answer, bits, 4) == 0
        np.testing.assert_array_equal(found, [True, True, distances[1] == distances[2], True])


# What a querier that lies is after.


def reading_query(codes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Numbers in place of bits, for which a "distance" is the sum of weights times the owner's bits."""
    half = pow(2, -1, PLAIN)
    return (1 - weights) * half % PLAIN


def test_numbers_in_place_of_bits_read_nothing(querier: Querier, owner: Answerer) -> None:
    """With weights 1, 2, 4, 8 a distance would be four bits of a code, of every patient, however unlike. Red without the term
    that is 0 for bits alone: then each cell whose number fits is a hit.
    """
    draw = np.random.default_rng(3)
    codes = draw.integers(0, 2, (120, BITS)).astype(np.uint8)
    weights = np.zeros(BITS, np.int64)
    weights[:4] = 1, 2, 4, 8
    weights[4] = BITS - 15  # so that what is added to every "distance", (64 - sum of weights) / 2, is 0
    query = reading_query(codes, weights)
    would_be = (codes.astype(np.int64) @ (1 - 2 * query) + query.sum()) % PLAIN
    np.testing.assert_array_equal(would_be, codes.astype(np.int64) @ weights)
    read = codes[:, 4] == 0
    assert read.sum() > 40, "four bits of each of these"
    cells = Cells(np.arange(120), would_be)
    question = querier.ask_slots(np.tile(query, cells_in_a_block(BITS)))
    sums = querier.read(owner.answer(question, codes, cells), BITS, 120)
    assert (sums == 0).sum() <= 2, "one in 65,537 by chance"
    assert len(np.unique(sums)) > 115


@pytest.mark.parametrize("value", [2, PLAIN - 1, (PLAIN + 1) // 2])
def test_one_number_that_is_no_bit_opens_nothing(querier: Querier, owner: Answerer, value: int) -> None:
    code, codes, _ = patients(20, 1)
    everywhere = code.copy()
    everywhere[17] = value
    in_one_cell = np.tile(code, cells_in_a_block(BITS))
    in_one_cell[5 * BITS + 17] = value
    for slots in (np.tile(everywhere, cells_in_a_block(BITS)), in_one_cell):
        query = slots.reshape(-1, BITS)[:20]
        would_be = ((codes * (1 - 2 * query)).sum(axis=1) + query.sum(axis=1)) % PLAIN
        cells = Cells(np.arange(20), would_be)
        sums = querier.read(owner.answer(querier.ask_slots(slots), codes, cells), BITS, 20)
        assert (sums == 0).sum() <= 1


def test_a_question_about_two_codes_opens_nothing(querier: Querier, owner: Answerer) -> None:
    """A patient has a cell for each distance: with another code in each of them it could be a hit several times, for which
    noise on a count is not made. Red without the term that is 0 where all cells have the same bits.
    """
    code, codes, _ = patients(20, 2)
    slots = np.tile(code, cells_in_a_block(BITS))
    slots[7 * BITS + 3] ^= 1
    cells = Cells(np.arange(20), (codes != code).sum(axis=1))
    assert (querier.read(owner.answer(querier.ask(code), codes, cells), BITS, 20) == 0).all()
    assert (querier.read(owner.answer(querier.ask_slots(slots), codes, cells), BITS, 20) == 0).sum() <= 1


def test_each_number_of_a_key_is_hidden_by_itself(querier: Querier) -> None:
    """Eight terms that were multiples of one another would leave 65,537 keys to try."""
    code, codes, _ = patients(1, 2)
    question = querier.ask_slots(np.append(code ^ 1, np.tile(code, cells_in_a_block(BITS) - 1)))
    keys = []
    for _ in range(2):
        owner = Answerer(querier.public)
        keys.append(querier.opened(owner.answer(question, codes, each_at(0, codes)), BITS, 1)[0])
    assert len(np.unique(np.concatenate(keys))) >= 2 * KEY - 1
    assert (pads_of(keys[0], 500) != pads_of(keys[1], 500)).mean() > 0.99


def test_single_slots_say_nothing_of_a_bit(querier: Querier, owner: Answerer) -> None:
    """Without masks that add up to 0 each slot would be r times whether two bits differ: which of them are 0 shows the code."""
    code, codes, _ = patients(100, 2)
    answer = owner.answer(querier.ask(code), codes, each_at(3, codes))
    (_, slots), differ = querier.opened(answer, BITS, 100), codes != code
    assert (slots == 0).mean() < 0.01
    for some in (slots[differ], slots[~differ]):
        assert abs(some.mean() / (PLAIN - 1) - 0.5) < 6 / np.sqrt(12 * some.size)


def test_a_distance_that_is_no_hit_is_even_over_all_numbers(querier: Querier, owner: Answerer) -> None:
    """Without the factor r it could be read: it would be D - j. Two answers to the same question have nothing in common."""
    code, codes, _ = patients(128, 4)
    distances = (codes != code).sum(axis=1)
    question, beyond = querier.ask(code), each_at(40, codes)
    sums = [querier.read(owner.answer(question, codes, beyond), BITS, 128) for _ in range(2)]
    for each in sums:
        assert (each != 0).all()
        assert len(np.unique(each)) > 120
        assert abs(np.corrcoef(each, distances)[0, 1]) < 0.5
        assert abs(each.mean() / PLAIN - 0.5) < 6 / np.sqrt(12 * 128)
    assert (sums[0] != sums[1]).all()


def test_hits_stand_elsewhere_in_every_answer() -> None:
    _, codes, levels = patients(60, 6)
    orders = []
    for _ in range(2):
        asked = cells_for(levels, CLASSES, Shown(DISTANCES, 2, 5, 1.0), SecureRandom())
        orders.append(asked.cells.patients)
        for group, part in zip(
            asked.groups, np.split(asked.cells.patients, np.cumsum([g.cells for g in asked.groups]))
        ):
            own = np.flatnonzero(levels == CLASSES.index(group.label))
            assert sorted(part[part >= 0]) == own.tolist()
            assert len(part) % 32 == 0
    assert (orders[0] != orders[1]).any()
    assert codes.shape == (60, BITS)


def test_a_triangulation_reads_a_code_in_as_many_questions_as_it_has_bits() -> None:
    """Why an owner counts questions: exact distances within reach read the code of the nearest patient, bit by bit."""
    _, codes, _ = patients(1, 9)
    target, guess = codes[0], codes[0].copy()
    guess[[3, 20, 41]] ^= 1
    near = int((target != guess).sum())
    read = guess.copy()
    for bit in range(BITS):
        asked = guess.copy()
        asked[bit] ^= 1
        read[bit] = asked[bit] if (target != asked).sum() < near else guess[bit]
    np.testing.assert_array_equal(read, target)


def test_a_class_of_few_patients_is_left_out_and_nobody_is_answered_of_nobody() -> None:
    levels = np.array([0] * 30 + [1] * 4 + [-1] * 9)
    for show in (COUNTS, DISTANCES):
        asked = cells_for(levels, CLASSES, Shown(show, 2, 5, 1.0), SecureRandom())
        assert {group.label for group in asked.groups} == {"no"}
        assert asked.cells.patients.max() < 30
    with pytest.raises(PrivacyError, match="minimum_cell"):
        cells_for(levels[30:], CLASSES, Shown(COUNTS, 2, 5, 1.0), SecureRandom())


@pytest.mark.parametrize("show", [COUNTS, DISTANCES])
@pytest.mark.parametrize("within", [0, 12, 40])
def test_how_many_cells_there_are_tells_patients_to_the_next_multiple_alone(show: str, within: int) -> None:
    """A patient is within + 1 cells: filled up as cells, 32 of them are less than one patient."""
    sizes = set()
    for patients in (33, 34, 41, 63, 64):
        asked = cells_for(np.zeros(patients, np.int64), ("no",), Shown(show, within, 5, 1.0), SecureRandom())
        sizes.add(tuple(group.cells for group in asked.groups))
        assert (asked.cells.patients >= 0).sum() == patients * (within + 1)
        assert sum(sizes.copy().pop()) == len(asked.cells.patients)
    assert len(sizes) == 1


def test_how_many_cells_there_are_does_not_tell_the_noise() -> None:
    """Hits that are none are drawn for every answer; what fills up hides how many they are."""
    levels, sizes, hits = np.zeros(40, np.int64), set(), set()
    for _ in range(30):
        asked = cells_for(levels, ("no",), Shown(COUNTS, 1, 5, 0.5), SecureRandom())
        sizes.add(len(asked.cells.patients))
        hits.add(int((asked.cells.patients == ALWAYS).sum()))
        assert (asked.cells.patients == NEVER).any()
    assert len(sizes) == 1
    assert len(hits) > 3


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 8.0])
def test_noise_on_a_count_is_as_strong_as_it_says(epsilon: float) -> None:
    random, shift = SecureRandom(), shift_of(epsilon)
    found = np.array([drawn(epsilon, random) for _ in range(4000)]) - shift
    assert np.abs(found).max() <= shift
    base = np.exp(-epsilon)
    deviation = np.sqrt(2 * base) / (1 - base)
    assert abs(found.mean()) < 6 * deviation / np.sqrt(4000)
    # A part of 4,000 draws errs by sqrt(p / 4000); six of that.
    share = (1 - base) / (1 + base)
    assert abs((found == 0).mean() - share) < 6 * np.sqrt(share / 4000)
    assert (np.abs(found) <= half_width(epsilon)).mean() > 0.93


# What comes from strangers.


def test_only_what_a_key_file_is_makes_a_querier(querier: Querier) -> None:
    again = Querier.from_secret(querier.secret_key(), querier.public)
    code = np.ones(BITS, np.int64)
    answer = Answerer(querier.public).answer(querier.ask(code), code[np.newaxis].astype(np.uint8), each_at(0, code[:1]))
    assert again.read(answer, BITS, 1).tolist() == [0]
    with pytest.raises(PrivacyError, match="different pairs"):
        Querier.from_secret(querier.secret_key(), Querier.make().public)
    library = tenseal()
    other = library.context(library.SCHEME_TYPE.BFV, 4096, 1032193)
    ckks = library.context(library.SCHEME_TYPE.CKKS, 8192, -1, [60, 60, 60])
    for data in (b"", b"\0" * 100, other.serialize(save_secret_key=True), ckks.serialize(save_secret_key=True)):
        with pytest.raises((WireError, PrivacyError)):
            load_secret(bytes(data))
    with pytest.raises(PrivacyError, match="no secret key"):
        load_secret(bytes(make_keys().serialize(save_public_key=True)))


def test_a_key_from_a_stranger_is_numbers_alone(querier: Querier) -> None:
    """No framing, no parameters, no keys for products: nothing that TenSEAL would read as it says."""
    for data in (b"", querier.public[:-1], querier.public + b"\0", querier.secret_key()):
        with pytest.raises(WireError):
            Answerer(data)
    with pytest.raises(WireError, match="beyond their moduli"):
        Answerer(querier.public[:-8] + b"\xff" * 8)
    nonce = querier.public[:NONCE_BYTES]
    drawn = evenly(nonce)
    assert (drawn != evenly(bytes(NONCE_BYTES))).mean() > 0.999
    assert abs((drawn / 2.0**54).mean() - 0.5) < 6 / np.sqrt(12 * drawn.size)


@pytest.mark.parametrize("flat", ["key", "key and question"])
def test_a_key_that_hides_nothing_shows_nothing_of_an_answer(querier: Querier, flat: str) -> None:
    """With a public key of nothing but zeros fresh encryptions of 0 would be noise alone. The second polynomial of an answer
    would then be the question's times r (1 - 2 d): all codes at once. Red where a key's second half is the querier's choice.
    """
    code, codes, _ = patients(100, 3)
    question = querier.ask(code)
    if flat == "key and question":  # whose second half is the number 1
        numbers = np.frombuffer(question, "<u8").reshape(2, 3, DEGREE).copy()
        numbers[1], numbers[1, :, 0] = 0, 1
        question = numbers.tobytes()
    owner = Answerer(querier.public[:NONCE_BYTES] + bytes(PUBLIC_BYTES - NONCE_BYTES))
    answer = owner.answer(question, codes, each_at(3, codes))
    for part in (answer[:PRODUCT_BYTES], answer[-LINEAR_BYTES:]):
        for polynomial in uppers(part)[1:] / 2.0**56:
            assert abs(polynomial.mean() - 0.5) < 6 / np.sqrt(12 * DEGREE)
            assert (np.minimum(polynomial, 1 - polynomial) < 1e-3).mean() < 0.01


def test_damaged_ciphertexts_are_refused_or_read_as_noise(querier: Querier, owner: Answerer) -> None:
    """Never a crash: the process is the owner's."""
    code, codes, _ = patients(3, 0)
    question = querier.ask(code)
    for data in (b"", question[:-1], question + b"\0", b"\xff" * QUESTION_BYTES, bytes(QUESTION_BYTES)):
        with pytest.raises(WireError):
            owner.answer(data, codes, each_at(0, codes))
    half = question[: QUESTION_BYTES // 2]
    with pytest.raises(WireError, match="anybody can read"):
        owner.answer(half + bytes(QUESTION_BYTES // 2), codes, each_at(0, codes))
    swapped = question[QUESTION_BYTES // 2 :] + half
    sums = querier.read(owner.answer(swapped, codes, each_at(0, codes)), BITS, 3)
    assert sums.shape == (3,)
    answer = owner.answer(question, codes, each_at(0, codes))
    for data in (b"", answer[:-1], answer * 2):
        with pytest.raises(WireError):
            querier.read(data, BITS, 3)
    noise = np.random.default_rng(0).bytes(answer_bytes(BITS, 128))
    assert (querier.read(noise, BITS, 128) != 0).mean() > 0.9


def test_another_key_reads_nothing(querier: Querier, owner: Answerer) -> None:
    code, codes, _ = patients(60, 7)
    answer = owner.answer(querier.ask(code), codes, Cells(np.arange(60), (codes != code).sum(axis=1)))
    assert (querier.read(answer, BITS, 60) == 0).all()
    assert (Querier.make().read(answer, BITS, 60) == 0).sum() <= 2


class Repeated(SecureRandom):
    """The same numbers each time."""

    def words(self, size: int) -> np.ndarray:
        return np.random.default_rng(size).integers(0, 1 << 63, size).astype(np.uint64)


def test_no_part_of_a_ciphertext_is_a_function_of_what_an_owner_drew(querier: Querier) -> None:
    """The third polynomial is of the two factors of the product alone. Without fresh encryptions in them it could be divided by
    the question's, which gives the numbers by which bits are checked. Nor is the first part, which is flooded.
    """
    code, codes, _ = patients(2, 8)
    owner, question = Answerer(querier.public, Repeated()), querier.ask(code)
    one, other = (np.frombuffer(owner.answer(question, codes, each_at(1, codes)), np.uint8) for _ in range(2))
    for place in range(0, len(one), LINEAR_BYTES // 2):  # a polynomial
        assert (one == other)[place : place + LINEAR_BYTES // 2].mean() < 0.01


@pytest.mark.parametrize("shift", [1e-9, 1e-8, 1e-5, 0.25])
def test_a_question_off_the_grid_loses_its_key_before_its_cells_move(querier: Querier, shift: float) -> None:
    """A share of a plain step, added to the plain text of zeros, moves what is multiplied twice far more than what is once: by
    1e-9 one ciphertext of cells in ten has a carry, and each number of the key has moved by thousands.
    """
    codes = np.random.default_rng(0).integers(0, 2, (128, BITS)).astype(np.uint8)
    question, cells = querier.ask(np.zeros(BITS)), Cells(np.arange(128), codes.sum(axis=1))
    whole = math.prod(MODULI)
    numbers = np.frombuffer(question, "<u8").reshape(2, len(MODULI), DEGREE).copy()
    for limb, modulus in enumerate(MODULI):
        numbers[0, limb, 0] = (int(numbers[0, limb, 0]) + int(shift * (whole // PLAIN))) % modulus
    owner = Answerer(querier.public, Repeated())
    answers = [owner.answer(each, codes, cells) for each in (question, numbers.tobytes())]
    (key, slots), (found, _) = (querier.opened(each, BITS, 128) for each in answers)
    assert ((slots.sum(axis=1) - pads_of(key, 128)) % PLAIN == 0).all()
    carried = ((found - key) * pow(DEGREE, -1, PLAIN) + PLAIN // 2) % PLAIN - PLAIN // 2
    assert np.median(np.abs(carried)) > 30, "of each number there are many to try, and eight have to be right at once"


def test_neighbours_at_the_same_distance_count_in_parts() -> None:
    near: List[Near] = [{"no": {1: 1, 4: 2}, "yes": {4: 1}}, {"yes": {2: 1, 4: 1}}]
    found = votes(near, CLASSES, 3)
    assert found is not None
    assert found[1] == 3
    assert found[0] == pytest.approx({"no": (1 + 0.5) / 3, "yes": (1 + 0.5) / 3})
    assert votes(near, CLASSES, 100) == ({"no": 0.5, "yes": 0.5}, 6)
    assert votes([{}, {}], CLASSES, 3) is None
    assert votes(near, CLASSES, 3, reach=1) == ({"no": 1.0, "yes": 0.0}, 1)
    assert votes(near, CLASSES, 3, reach=0) is None
    assert hits_of(np.array([0, 1, 0, 0]), [Group("no", 0, 2), Group("no", 1, 2)]) == [1, 2]
    assert cells_in_a_block(BITS) == 128

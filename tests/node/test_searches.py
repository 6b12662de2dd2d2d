"""Who may search an owner's patients, and how often: decided by policy and ledger before data are opened."""

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np
import pytest
from analysed_coder import coder
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from orchestrator.analyses.codes import Coder
from orchestrator.errors import LedgerError, PeerError, PrivacyError, UsageError, WireError
from orchestrator.node.anchor import StoreAnchor
from orchestrator.node.ledger import Ledger
from orchestrator.node.policy import Policy, Require, load_policy
from orchestrator.node.policy_words import describe
from orchestrator.node.searches import answered, check_answer, check_coder, note_answered, note_search, read_asked
from orchestrator.node.similar_rules import Similar
from orchestrator.node.store import NodeStore
from orchestrator.privacy.bfv_blocks import QUESTION_BYTES
from orchestrator.privacy.bfv_keys import PUBLIC_BYTES
from orchestrator.privacy.similar import answer_bytes
from orchestrator.privacy.similar_cells import COUNTS, DISTANCES, Cells, Group, Shown
from orchestrator.privacy.similar_files import (
    Party,
    read_answer,
    read_key,
    read_question,
    write_answer,
    write_key,
    write_question,
)

A, B = "a" * 64, "b" * 64
RULES = Similar(DISTANCES, 8, queries=5, a_day=3, queriers={"icu-a": A, "icu-b": B})


class Key:
    """Of a party."""

    def __init__(self, name: str) -> None:
        self._key = Ed25519PrivateKey.generate()
        self.party = Party(name, self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
        self.fingerprint = hashlib.sha256(self.party.credential).hexdigest()

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)

    def question(self, by: Coder, patients: int = 2) -> bytes:
        """One that nobody encrypted."""
        return write_question(
            self.party, by.digest, by.bits, bytes(PUBLIC_BYTES), [bytes(QUESTION_BYTES)] * patients, self.sign
        )


def test_questions_are_counted_for_each_querier_over_restarts(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path)
    note_search(ledger, RULES, A, "1" * 64, 2)
    ledger.close()
    ledger = Ledger(path)
    with pytest.raises(PrivacyError, match=r"a_day: 3 in 24 hours .* asked about 2 patients"):
        note_search(ledger, RULES, A, "2" * 64, 2)
    note_search(ledger, RULES, B, "2" * 64, 3)
    note_search(ledger, RULES, A, "3" * 64, 1)
    ledger.close()
    assert [entry["kind"] for entry in Ledger(path).entries()] == ["opened", "search", "search", "search"]


def test_a_day_later_the_whole_budget_still_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, now = Ledger(tmp_path / "ledger.sqlite"), time.time()
    for day, patients in ((0, 3), (1.01, 2)):
        monkeypatch.setattr(time, "time", lambda at=now + day * 86_400: at)
        note_search(ledger, RULES, A, f"{patients}" * 64, patients)
    monkeypatch.setattr(time, "time", lambda: now + 99 * 86_400)
    with pytest.raises(PrivacyError, match=r"queries: 5 in all .* asked about 5 patients"):
        note_search(ledger, RULES, A, "9" * 64, 1)
    monkeypatch.setattr(time, "time", lambda: now - 5 * 86_400)  # a clock that was set back begins no new day
    with pytest.raises(PrivacyError, match="a_day"):
        note_search(ledger, Similar(DISTANCES, queries=99, a_day=5, queriers={"a": A}), A, "8" * 64, 1)


def test_a_question_is_answered_once(tmp_path: Path) -> None:
    """The mean of the noise on many answers would be none; and who copies a question would spend another's budget."""
    ledger = Ledger(tmp_path / "ledger.sqlite")
    note_search(ledger, RULES, A, "1" * 64, 1)
    note_answered(ledger, A, "1" * 64)
    asked_again: List[Callable[[], object]] = [
        lambda: note_search(ledger, RULES, A, "1" * 64, 1),
        lambda: note_answered(ledger, A, "1" * 64),
    ]
    for again in asked_again:
        with pytest.raises(PrivacyError, match="answered before"):
            again()
    assert len(ledger.entries()) == 3


def test_a_question_of_which_no_answer_came_is_counted_once(tmp_path: Path) -> None:
    """An owner who names another file by mistake spends nobody's budget twice; nor does a failed question leave room for more."""
    ledger = Ledger(tmp_path / "ledger.sqlite")
    for _ in range(3):
        note_search(ledger, RULES, A, "1" * 64, 3)
    with pytest.raises(PrivacyError, match="asked about 3 patients"):
        note_search(ledger, RULES, A, "2" * 64, 1)
    note_search(ledger, RULES, B, "1" * 64, 3)  # the same file of another is another's
    note_answered(ledger, B, "1" * 64)
    note_search(ledger, RULES, A, "1" * 64, 3)


def test_nobody_searches_unless_the_owner_says_so(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    for rules, said in ((Similar(), "show"), (Similar(COUNTS, 8, queries=5, a_day=5), "queriers")):
        with pytest.raises(PeerError, match=said):
            note_search(ledger, rules, A, "1" * 64, 1)
    assert Policy().similar.show == "nothing"
    with pytest.raises(PrivacyError, match="queries: 0"):
        note_search(ledger, Similar(COUNTS, 8, queriers={"a": A}), A, "1" * 64, 1)


def test_a_ledger_that_was_put_back_is_noticed_as_for_runs(tmp_path: Path) -> None:
    store, path = NodeStore(tmp_path / "node.sqlite"), tmp_path / "ledger.sqlite"
    ledger = Ledger(path, [StoreAnchor(store)])
    ledger.close()
    before = path.read_bytes()
    ledger = Ledger(path, [StoreAnchor(store)])
    note_search(ledger, RULES, A, "1" * 64, 1)
    ledger.close()
    path.write_bytes(before)
    with pytest.raises(LedgerError):
        Ledger(path, [StoreAnchor(store)])
    store.close()


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ('show = "count"', "did you mean 'counts'"),
        ("within = 300", "within: 300"),
        ("epsilon_count = 0.0", "epsilon_count"),
        ("queries = -1", "queries: -1"),
        ('queriers = { a = "12" }', "64 hex digits"),
        ("querys = 5", "queries"),
        ('coders = ["12"]', "`edgeward similar coder` prints"),
    ],
)
def test_mistakes_in_a_policy_are_named(tmp_path: Path, written: str, said: str) -> None:
    (tmp_path / "policy.toml").write_text(f"[similar]\n{written}\n")
    with pytest.raises(UsageError, match=said):
        load_policy(tmp_path / "policy.toml")


def test_a_policy_says_in_words_what_a_search_shows() -> None:
    lines = "\n".join(describe(Policy(similar=RULES)))
    assert "patients of each class at each distance up to 8 bits, exactly" in lines
    assert "icu-a, icu-b, each for 5 patients in all and 3 a day" in lines
    assert "with noise of epsilon 1 a question" in "\n".join(describe(Policy(similar=Similar(COUNTS, 8))))
    assert "search: by the coders none" in lines
    assert "nobody may" in "\n".join(describe(Policy()))


def test_a_question_is_read_once_its_signature_and_coder_are_right() -> None:
    key, own = Key("icu-a"), coder()
    data = key.question(own)
    asked = read_asked(data, own, None)
    assert (asked.fingerprint, asked.question.party.name) == (key.fingerprint, "icu-a")
    assert len(asked.question.blocks) == 2
    with pytest.raises(WireError, match="both sides take the same file"):
        read_asked(data, coder(seed=2), None)
    for place in (60, 200, len(data) // 2, len(data) - 20):
        damaged = bytearray(data)
        damaged[place] ^= 1
        with pytest.raises((WireError, PeerError)):
            read_asked(bytes(damaged), own, None)
    other = Key("icu-a")
    forged = write_question(key.party, own.digest, own.bits, bytes(PUBLIC_BYTES), [bytes(QUESTION_BYTES)], other.sign)
    with pytest.raises(PeerError, match="does not hold"):
        read_asked(forged, own, None)


def test_nonsense_is_no_question_and_no_answer() -> None:
    data = Key("icu-a").question(coder())
    for nonsense in (b"", data[:8], data[:30], data[:-3], b"x" + data, data + b"x", b"EWSIMQ1\n" + b"\xff" * 100):
        with pytest.raises(WireError):
            read_question(nonsense)
        with pytest.raises(WireError):
            read_answer(nonsense)
        with pytest.raises(WireError):
            read_key(nonsense)


SAID: Dict[str, Any] = {"show": DISTANCES, "within": 8, "epsilon": 1.0, "shift": 0}


def answer_of(key: Key, own: Coder, question: str, groups: List[Group], patients: int = 1, **said: Any) -> bytes:
    whole = {"question": question, "coder": own.digest, "bits": own.bits, **SAID, **said}
    return write_answer(key.party, whole, groups, [bytes(answer_bytes(64, 32))] * patients, key.sign)


def test_an_answer_to_another_question_or_by_another_coder_is_refused() -> None:
    own, asking, owner = coder(), Key("icu-a"), Key("icu-b")
    question, other = (read_question(asking.question(own, 1)) for _ in range(2))
    groups = [Group("yes", 3, 32)]
    right = read_answer(answer_of(owner, own, question.digest, groups))
    assert check_answer(right, question, own, None, "answer.bin") == owner.fingerprint
    two = read_answer(answer_of(owner, own, question.digest, groups, 2))
    for wrong, said in (
        (read_answer(answer_of(owner, own, "0" * 64, groups)), "another question"),
        (two, "another question"),
        (right._replace(signature=right.signature[::-1]), "does not hold"),
        (right._replace(party=Key("icu-b").party), "does not hold"),
        (read_answer(answer_of(owner, coder(seed=2), question.digest, groups)), "both sides take the same file"),
        (read_answer(answer_of(owner, own, question.digest, [Group("maybe", 3, 32)])), "classes that the coder"),
        (read_answer(answer_of(owner, own, question.digest, groups * 2)), "or of one twice"),
    ):
        with pytest.raises((WireError, PeerError), match=said):
            check_answer(wrong, question, own, None, "answer.bin")
    assert other.digest == question.digest, "the same blocks, and Ed25519 is a function of them"


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ([Group("yes", 9, 32)], {}),
        ([Group("yes", None, 32)], {}),
        ([Group("yes", 3, 0)], {}),
        ([Group("yes", 3, 4000)], {}),
        ([Group("ye\x1bs", 3, 32)], {}),
        ([], {}),
        ([Group("yes", 3, 32)], {"show": "everything"}),
        ([Group("yes", 3, 32)], {"show": COUNTS}),
        ([Group("yes", 3, 32)], {"epsilon": "1"}),
        ([Group("yes", 3, 32)], {"epsilon": 1e-9}),
        ([Group("yes", None, 32)], {"show": COUNTS, "shift": 13}),
        ([Group("yes", 3, 32)], {"within": True}),
        ([Group("yes", 3, 32)], {"shift": -1}),
        ([Group("yes", 3, 32)], {"bits": 7}),
        ([Group("yes", 3, 32)], {"coder": "zz"}),
    ],
)
def test_an_answer_that_contradicts_itself_is_refused(groups: List[Group], said: Dict[str, Any]) -> None:
    data = answer_of(Key("icu-b"), coder(), "0" * 64, groups, **said)
    with pytest.raises(WireError):
        read_answer(data)


class Cellar:
    """In place of who encrypts: keeps what would be answered with."""

    def __init__(self) -> None:
        self.codes, self.cells = np.zeros((0, 64)), [Cells(np.zeros(0), np.zeros(0))]

    def answer(self, question: bytes, codes: np.ndarray, cells: Cells) -> bytes:
        self.codes = codes
        self.cells.append(cells)
        return bytes(answer_bytes(codes.shape[1], len(cells.patients)))


def by_patient(tmp_path: Path, lines: List[str], show: str) -> Cells:
    """The cells for a file of (patient, age, class), by a coder whose schema names the patient."""
    plain = coder()
    own = replace(plain, schema=replace(plain.schema, patient="who"))
    file = tmp_path / "rows.csv"
    file.write_text("\n".join(["who,age,sex,ill", *lines]) + "\n")
    asked, cellar = read_asked(Key("icu-a").question(own, 1), own, None), Cellar()
    answered(asked, cellar, own, file, Shown(show, 3, 5, 1.0), Key("icu-b").party, Key("icu-b").sign)  # type: ignore[arg-type]
    return cellar.cells[-1]


@pytest.mark.parametrize("show", [COUNTS, DISTANCES])
def test_a_patient_with_many_records_is_one_patient(tmp_path: Path, show: str) -> None:
    """Else noise for one hit would cover twenty of one person, and minimum_cell be met by one person alone."""
    lines = [f"p{patient},{20 + patient},f,no" for patient in range(8)] + ["p3,70,f,yes", "p3,23,f,no"] * 20
    tested = by_patient(tmp_path, ["p8,50,m,", "p8,51,m,no", *lines], show).patients
    found, times = np.unique(tested[tested >= 0], return_counts=True)
    assert found.tolist() == list(range(1, 10)), "the first record with a class of each patient"
    assert set(times) == {4}, "one for each distance"
    with pytest.raises(PrivacyError, match="minimum_cell"):
        by_patient(tmp_path, ["p1,50,f,no"] * 30, show)


def test_a_coder_that_the_owner_does_not_name_is_refused() -> None:
    """Who makes a coder chooses what a distance says: with bits that are steps of one column it is that column's number."""
    own = coder()
    policy = Policy(similar=Similar(COUNTS, 8, coders=(own.digest,)))
    check_coder(policy, own)
    other = replace(own, thresholds=own.thresholds + 1e-9)
    for rules in (policy, Policy(similar=Similar(COUNTS, 8))):
        with pytest.raises(PrivacyError, match=rf"coders: {other.digest} is not one of them"):
            check_coder(rules, other)


def test_a_coder_tells_patients_apart_by_the_column_the_owner_requires() -> None:
    own = coder()
    for required, named, why in (
        ("who", "", "names none"),
        ("who", "row", "names 'row'"),
        ("who", "who", ""),
        ("*", "", ""),
    ):
        some = replace(own, schema=replace(own.schema, patient=named))
        policy = Policy(require=Require(patient=required), similar=Similar(COUNTS, 8, coders=(some.digest,)))
        if why:
            with pytest.raises(PrivacyError, match=rf"\[require\] patient: 'who' .* {why}"):
                check_coder(policy, some)
        else:
            check_coder(policy, some)


def test_two_processes_at_once_do_not_spend_the_same_budget(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    Ledger(path).close()
    rules = Similar(DISTANCES, 8, queries=5, a_day=5, queriers={"icu-a": A})
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda number: _noted(path, rules, f"{number:064x}"), range(16)))
    assert sum(done) == 5
    assert len(Ledger(path).entries()) == 6


def test_two_processes_that_begin_a_question_at_once_count_it_once(tmp_path: Path) -> None:
    """The second one looks for the question before the first one notes it, and has its turn after."""
    path = tmp_path / "ledger.sqlite"
    first, second = Ledger(path), Ledger(path)
    before = second.entries()
    note_search(first, RULES, A, "1" * 64, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(second, "entries", lambda: before)
        with pytest.raises(PrivacyError, match="another process"):
            note_search(second, RULES, A, "1" * 64, 2)
    note_search(second, RULES, A, "1" * 64, 2)
    assert sum(entry.get("patients", 0) for entry in first.entries()) == 2
    note_answered(first, A, "1" * 64)
    with pytest.raises(PrivacyError, match="answered before"):
        note_answered(second, A, "1" * 64)


def _noted(path: Path, rules: Similar, question: str) -> bool:
    ledger = Ledger(path)  # read before the others write
    try:
        note_search(ledger, rules, A, question, 1)
    except PrivacyError:
        return False
    finally:
        ledger.close()
    return True


def test_numbers_that_are_none_are_refused_in_a_head() -> None:
    data = answer_of(Key("icu-b"), coder(), "0" * 64, [Group("yes", 3, 32)])
    assert read_answer(data).within == 8
    changed = data.replace(b'"epsilon": 1.0', b'"epsilon": NaN')
    assert changed != data
    with pytest.raises(WireError, match="damaged head"):
        read_answer(changed)


def test_a_key_file_holds_the_codes_and_the_secret() -> None:
    codes = np.random.default_rng(0).integers(0, 2, (3, 64))
    again, secret = read_key(write_key(codes, b"secret"))
    np.testing.assert_array_equal(again, codes)
    assert secret == b"secret"

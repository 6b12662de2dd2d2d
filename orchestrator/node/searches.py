"""An owner's side of a search for similar patients (privacy/similar.py): who may ask how often, and the answer."""

import time
from pathlib import Path
from typing import NamedTuple, Optional

from cryptography import x509

from orchestrator.analyses.codes import Coder
from orchestrator.data.dataset import load_dataset
from orchestrator.errors import PeerError, PrivacyError, WireError
from orchestrator.node.credentials import read_credential
from orchestrator.node.ledger import Entries, Ledger
from orchestrator.node.policy import Policy
from orchestrator.node.similar_rules import Similar
from orchestrator.privacy.secure_random import SecureRandom
from orchestrator.privacy.similar import Answerer
from orchestrator.privacy.similar_cells import Shown, cells_for
from orchestrator.privacy.similar_files import Answer, Party, Question, Sign, read_question, write_answer

SEARCH, DAY_S = "search", 86_400.0


def check_querier(rules: Similar, querier: str) -> None:
    """PeerError for a fingerprint of somebody who may not ask at all."""
    why = rules.objection(querier)
    if why:
        raise PeerError(why)


def check_coder(policy: Policy, coder: Coder) -> None:
    """PrivacyError for a coder this owner does not answer by, or one that does not tell patients apart as the owner does."""
    why = policy.similar.objection_to_coder(coder.digest) or policy.objection_to_search(coder.schema)
    if why:
        raise PrivacyError(why)


def note_search(ledger: Ledger, rules: Similar, querier: str, question: str, patients: int) -> None:
    """Notes durably that a question about so many patients is about to be answered, before data are opened.

    querier: the fingerprint of who asks. question: its digest. PeerError for somebody who may not ask at all; PrivacyError for a
    question that was answered before, and for more patients than the owner allows, in all and within 24 hours. One that was
    noted, and of which no answer came, is not counted again.
    """
    check_querier(rules, querier)
    noted = any(
        (entry["kind"], entry.get("digest"), entry.get("question")) == (SEARCH, querier, question)
        for entry in ledger.entries()
    )
    patients = 0 if noted else patients

    def objection(before: Entries) -> str:
        if noted:
            return _answered_before(before, question)
        if any(entry["question"] == question for entry in before):  # since it was looked for
            return "another process has just begun to answer this question; wait for its answer"
        today = [entry for entry in before if entry["at"] > time.time() - DAY_S]
        for some, limit, what in (
            (before, rules.queries, "queries: {} in all"),
            (today, rules.a_day, "a_day: {} in 24 hours"),
        ):
            asked = sum(entry["patients"] for entry in some)
            if asked + patients > limit:
                return (
                    f"[similar] {what.format(limit)} for one querier; it has asked about {asked} patients, and now asks about "
                    f"{patients}"
                )
        return ""

    ledger.note(SEARCH, querier, objection, digest=querier, question=question, patients=patients, answered=False)


def note_answered(ledger: Ledger, querier: str, question: str) -> None:
    """Notes durably that there is an answer, before it is written; PrivacyError where there was one before."""

    def objection(before: Entries) -> str:
        return _answered_before(before, question)

    ledger.note(SEARCH, querier, objection, digest=querier, question=question, patients=0, answered=True)


def _answered_before(before: Entries, question: str) -> str:
    if any(entry["question"] == question and entry["answered"] for entry in before):
        return "this question was answered before, and no question is answered twice"
    return ""


class Asked(NamedTuple):
    """A question whose signature holds. fingerprint: of the key that signed it."""

    question: Question
    fingerprint: str


def read_asked(data: bytes, coder: Coder, authority: Optional[x509.Certificate]) -> Asked:
    """A question by this coder. WireError for anything else, PeerError where its signature does not hold. authority: of this
    federation, where parties have identities.
    """
    question = read_question(data)
    _same_coder("the question", question.coder, question.bits, coder)
    return Asked(question, _signer("the question", question.party, question.signed, question.signature, authority))


def answered(
    asked: Asked, answerer: Answerer, coder: Coder, data: Path, shown: Shown, party: Party, sign: Sign
) -> bytes:
    """The answer from an owner's data; the question has been noted before. DataError for data that do not fit the coder.

    answerer: by the question's key.
    """
    random = SecureRandom()
    rows = load_dataset(data, coder.schema, gaps=True)
    codes, levels = coder.codes(rows.x, coder.schema), coder.levels(rows.x, rows.patients)
    blocks = []
    for block in asked.question.blocks:
        tested = cells_for(levels, coder.classes, shown, random)
        blocks.append(answerer.answer(block, codes, tested.cells))
    said = {
        "question": asked.question.digest,
        "coder": coder.digest,
        "bits": coder.bits,
        "show": shown.show,
        "within": shown.within,
        "epsilon": shown.epsilon,
        "shift": tested.shift,
    }
    return write_answer(party, said, tested.groups, blocks, sign)


def check_answer(
    answer: Answer, question: Question, coder: Coder, authority: Optional[x509.Certificate], where: str
) -> str:
    """The fingerprint of who answered this question. WireError for an answer to another one, or by another coder; PeerError where
    its signature does not hold.
    """
    _same_coder(where, answer.coder, answer.bits, coder)
    if answer.question != question.digest or len(answer.blocks) != len(question.blocks):
        raise WireError(f"{where}: is an answer to another question")
    kinds = [(group.label, group.distance) for group in answer.groups]
    if not {label for label, _ in kinds} <= set(coder.classes) or len(set(kinds)) < len(kinds):
        raise WireError(f"{where}: speaks of classes that the coder does not have, or of one twice")
    return _signer(where, answer.party, answer.signed, answer.signature, authority)


def _same_coder(what: str, digest: str, bits: int, coder: Coder) -> None:
    if digest != coder.digest or bits != coder.bits:
        raise WireError(
            f"{what}: by the coder {digest[:16]}, this one is {coder.digest[:16]}: both sides take the same file"
        )


def _signer(what: str, party: Party, signed: bytes, signature: bytes, authority: Optional[x509.Certificate]) -> str:
    shown = read_credential(party.name, party.credential, authority)
    if not shown.check(signed, signature):
        raise PeerError(f"{what}: the signature of {party.name} does not hold: the file was changed, or is not its own")
    return shown.fingerprint

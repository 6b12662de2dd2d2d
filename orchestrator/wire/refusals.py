"""What a node says when it does not do what it was asked: a code from a closed list, and nothing else.

A node's reasons stay in its own log. What travels is one of these codes, so that no error text can carry a cell, a count or a
spent epsilon out of a hospital. The gateway reads the sentence for people off this table; it keeps no text that a node sent.
All that is wrong with private data has the one code "data", but for data that changed in the middle of a run; all that depends on
what was spent, "policy.budget". A graph whose process ends on a record is "graph": one bit, after which it is declined.
"""

from typing import Any, Dict

TEXTS: Dict[str, str] = {
    # Why a node takes no part in a run.
    "policy.budget": "its owner's limits on epsilon or delta leave no room for this task",
    "policy.unit": "the privacy unit is not one its owner accepts",
    "policy.patient": "the patient column is not the one its owner named",
    "policy.stage": "the task lacks noise, clipping or secure aggregation that its owner requires",
    "policy.cohort": "a round may be of fewer nodes than its owner requires",
    "policy.sampling": "the sampling rate is above its owner's limit",
    "policy.noise": "this node alone would add less noise than its owner requires",
    "policy.peers": "its owner has not confirmed enough of the other nodes, or of the key holder",
    "policy.messages": "its owner does not let nodes send each other so many messages made of its records",
    "policy.models": "its owner does not let single other nodes see its models",
    "policy.task": "the task's name is not one its owner accepts",
    "policy.signer": "the gateway's key is not one its owner accepts",
    "policy.approval": "its owner has to approve the task",
    "policy.approvals": "so many tasks were put before its owner that no other is",
    "policy.approval-denied": "its owner denied the task",
    "policy.release": "its owner has to release its answer, which is for tasks of one round",
    "policy.withheld": "its owner withheld its answer",
    "policy.unreadable": "its policy cannot be read, so it accepts nothing",
    "policy.accountant": "its policy limits epsilon, and nothing there can count this task's",
    "policy.tries": "it has looked at its data for as many different tasks as its owner allows in a day",
    "peers.log": "the certificate log it was shown is not the one it saw before",
    # Of an exact answer, by its owner's [disclosure].
    "disclosure.patients": "its answer would be of fewer patients than its owner requires",
    "disclosure.cell": "a cell or sum of its answer would be of fewer patients than its owner requires",
    "disclosure.parameters": "the model has more parameters than its owner allows for so few patients",
    "disclosure.dominance": "a sum of its answer would be that of one or two patients for the most part",
    "disclosure.difference": "its answer and one before it would differ in fewer patients than its owner requires",
    "disclosure.questions": "it has answered as many tasks of these patients without noise as its owner allows",
    "ledger.run": "the run was reserved for another task, or closed by its owner",
    "ledger.lost": "its ledger is lost or damaged",
    "ledger.rollback": "its ledger is older than it was",
    "claim": "the task's privacy claim does not hold, or cannot be stated",
    "graph": "the training graph is not one it runs",
    "data": "its data do not fit the task",
    "data.changed": "its data changed since it accepted the run",
    "data.away": "the server that has its data cannot be reached; the node tries again",
    "task": "the task cannot be read, or not served by this version or role",
    # Why a message was refused.
    "message": "a message could not be read, or did not fit what was announced",
    "message.signature": "a message was not signed by its gateway for it",
    "message.peer": "another node sent it a message that had to be refused",
    "message.stale": "a message was of an older or finished run or round",
    "round": "a round was not one it may answer",
    # Why a node is out of a secure round.
    "sum": "it does not help with this sum",
    "sum.keys": "it has no keys for this attempt",
    "sum.peers": "the identity of another party is not confirmed",
    "internal": "it could not compute its answer",
    # What a gateway says of a node; no node says it of itself.
    "gateway.messages": "it kept sending messages that had to be refused, and is not listened to any more",
    "gateway.updates": "too many of its answers had to be refused",
    "gateway.answer": "its answer had to be refused",
}

UNKNOWN = "unknown"
_UNKNOWN_TEXT = "for a reason this version does not know"


def code_in(header: Dict[str, Any], default: str = UNKNOWN) -> str:
    """The code of a node's message; UNKNOWN for anything that is not on the list. Whatever else it says is left unread."""
    return known_code(header.get("code", default))


def known_code(code: Any) -> str:
    """`code`, if it is one that a node may say; UNKNOWN otherwise."""
    return code if isinstance(code, str) and code in TEXTS and not code.startswith("gateway.") else UNKNOWN


def text_of(code: str) -> str:
    """The sentence for people."""
    return TEXTS.get(code, _UNKNOWN_TEXT)

"""Who sends what has to be refused: after MOST_REFUSED messages a sender is dropped, after MOST_ANSWERS answers a node is out.

A refusal of a message is forgiven after FORGIVEN_AFTER_S, or TO_FORGIVE messages that make sense, so that a node behind a bad
line is not dropped after weeks. One of an answer is not: each may cost the others a round's deadline. Nothing here is
journalled; what follows from it is.
"""

from typing import Dict, Set, Tuple

MOST_REFUSED = 20
"""Messages of one sender that are refused before it is dropped."""

FORGIVEN_AFTER_S = 60.0
"""How long one refused message is held against its sender."""

TO_FORGIVE = 10
"""Or how many messages that make sense."""

MOST_SAID = 100
"""Refusals of one sender that are logged and shown, however many there are."""

MOST_ANSWERS = 3
"""Refused updates, or answers to steps, after which a node is out of the run."""

MOST_SENDERS = 10_000
"""Names a gateway listens to. There is no broker that limits them where there are no identities."""

MESSAGES, ANSWERS, ANSWER = "gateway.messages", "gateway.updates", "gateway.answer"
"""Codes of wire/refusals.py: of a dropped sender, of a node that is out, of one refused answer."""


class Refused:
    """Of one gateway process."""

    def __init__(self) -> None:
        self._messages: Dict[str, Tuple[float, float]] = {}  # sender -> (refusals held against it, as of when)
        self._said: Dict[str, int] = {}
        self._answers: Dict[str, Set[bytes]] = {}  # node -> transfers
        self._known: Set[str] = set()
        self._dropped: Set[str] = set()

    def listens_to(self, sender: str) -> bool:
        """Whether what this sender says is looked at."""
        if sender in self._dropped or (sender not in self._known and len(self._known) >= MOST_SENDERS):
            return False
        self._known.add(sender)
        return True

    def says_more(self, sender: str) -> bool:
        """Whether another refusal of this sender is to be logged; counts it."""
        self._said[sender] = self._said.get(sender, 0) + 1
        return self._said[sender] <= MOST_SAID

    def accepted(self, sender: str) -> None:
        """Notes a message that made sense."""
        if sender in self._messages:
            held, at = self._messages[sender]
            self._messages[sender] = max(0.0, held - 1 / TO_FORGIVE), at

    def message(self, sender: str, now: float) -> bool:
        """Notes a refused message; True with the one that drops its sender."""
        held, at = self._messages.get(sender, (0.0, now))
        held = max(0.0, held - (now - at) / FORGIVEN_AFTER_S) + 1.0
        self._messages[sender] = held, now
        if held < MOST_REFUSED:
            return False
        self._dropped.add(sender)
        return True

    def answer(self, node: str, transfer: bytes) -> bool:
        """Notes a refused answer, however often it comes; True with the one that puts its node out of the run."""
        before = self._answers.setdefault(node, set())
        before.add(transfer)
        return len(before) >= MOST_ANSWERS

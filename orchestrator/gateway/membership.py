"""Whom a running gateway listens to, by what its identity folder says at the moment."""

import time
from typing import Optional

from orchestrator.gateway.authority import Authority

LIST_S = 2.0
"""At most so long after a revocation was stored its list is there."""


class Membership:
    """Whom a running gateway listens to: re-read when a revocation or an enrolment changed the authority."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._crl = authority.folder / "crl.pem"
        self._seen = self._stamp()
        self._revoked = authority.revoked_count()

    def objection(self, node: str) -> Optional[str]:
        """Why messages of this name are refused; None where they are not."""
        if node in self._authority.active():
            return None
        return f"{node} holds no valid certificate of this federation (revoked, or never enrolled)"

    def revocations_changed(self) -> bool:
        """True once after every rewrite of the revocation list.

        Where the store is ahead of the list, which is written next, it is waited for, once: a broker that begins again
        before would let a revoked node in.
        """
        count = self._authority.revoked_count()
        deadline = time.monotonic() + (LIST_S if count != self._revoked else 0.0)
        while self._stamp() == self._seen and time.monotonic() < deadline:
            time.sleep(0.01)
        self._revoked = count
        before, self._seen = self._seen, self._stamp()
        return before != self._seen

    def _stamp(self) -> int:
        return self._crl.stat().st_mtime_ns

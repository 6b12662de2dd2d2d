"""Whom a running gateway listens to, by what its identity folder says at the moment."""

from typing import Optional

from orchestrator.gateway.authority import Authority


class Membership:
    """Whom a running gateway listens to: re-read when a revocation or an enrolment changed the authority."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._crl = authority.folder / "crl.pem"
        self._seen = self._stamp()

    def objection(self, node: str) -> Optional[str]:
        """Why messages of this name are refused; None where they are not."""
        if node in self._authority.active():
            return None
        return f"{node} holds no valid certificate of this federation (revoked, or never enrolled)"

    def revocations_changed(self) -> bool:
        """True once after every rewrite of the revocation list."""
        before, self._seen = self._seen, self._stamp()
        return before != self._seen

    def _stamp(self) -> int:
        return self._crl.stat().st_mtime_ns

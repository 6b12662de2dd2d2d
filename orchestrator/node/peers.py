"""Who the other nodes of a secure sum are, so that the gateway cannot stand between them.

With an identity a node shows its enrolment certificate and signs with its key; it believes others whose certificates the same
authority gave out, under the name in them. Without one it makes an Ed25519 key of its own and keeps to the first key it saw of
every name: a gateway that lied from the very first round on is then not found out, and statements say so.
"""

import datetime
from typing import Callable, Dict, Optional, Tuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from orchestrator.errors import PrivacyError
from orchestrator.node.identity import NodeIdentity
from orchestrator.node.store import NodeStore
from orchestrator.wire.pki import common_name

_MOST_BYTES = 8192
_Check = Callable[[bytes, bytes], bool]
"""(message, signature) -> whether it is that peer's."""


class Peers:
    """This node's credential and signature, and those of others: `admit` comes before `verify`."""

    def __init__(self, name: str, store: NodeStore, identity: Optional[NodeIdentity] = None) -> None:
        self._name, self._store = name, store
        self._admitted: Dict[str, Tuple[bytes, _Check]] = {}
        self._authority: Optional[x509.Certificate] = None
        if identity is None:
            own = Ed25519PrivateKey.from_private_bytes(store.secret("peer-signing"))
            self.credential = own.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
            self.sign: Callable[[bytes], bytes] = own.sign
        else:
            key, certificate, self._authority = identity.for_peers()
            self.credential = certificate.public_bytes(Encoding.DER)
            self.sign = lambda message: key.sign(message, ec.ECDSA(hashes.SHA256()))

    @property
    def certified(self) -> bool:
        return self._authority is not None

    def admit(self, party: str, credential: bytes) -> None:
        """Raises PrivacyError when `credential` is not one this node can believe to be `party`'s."""
        known = self._admitted.get(party)
        if known is not None and known[0] == credential:
            return
        if len(credential) > _MOST_BYTES:
            raise PrivacyError(
                f"the credential of {party} has {len(credential)} bytes, at most {_MOST_BYTES} make sense"
            )
        check = (
            self._certified_key(party, credential) if self._authority is not None else self._pinned(party, credential)
        )
        self._admitted[party] = (credential, check)

    def verify(self, party: str, message: bytes, signature: bytes) -> bool:
        known = self._admitted.get(party)
        return known is not None and known[1](message, signature)

    def _certified_key(self, party: str, credential: bytes) -> _Check:
        assert self._authority is not None
        try:
            certificate = x509.load_der_x509_certificate(credential)
            certificate.verify_directly_issued_by(self._authority)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise PrivacyError(f"{party} shows no certificate of this federation's authority") from error
        name = common_name(certificate.subject)
        if name != party:
            raise PrivacyError(f"{party} shows the certificate of {name}")
        now, until = datetime.datetime.now(datetime.timezone.utc), certificate.not_valid_after_utc
        if not certificate.not_valid_before_utc <= now <= until:
            raise PrivacyError(f"the certificate of {party} is not valid now (until {until:%Y-%m-%d})")
        key = certificate.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise PrivacyError(f"the certificate of {party} is for another kind of key than this federation uses")

        def check(message: bytes, signature: bytes) -> bool:
            return _holds(lambda: key.verify(signature, message, ec.ECDSA(hashes.SHA256())))

        return check

    def _pinned(self, party: str, credential: bytes) -> _Check:
        try:
            key = Ed25519PublicKey.from_public_bytes(credential)
        except ValueError as error:
            raise PrivacyError(f"the key of {party} is none") from error
        if self._store.pin_peer(party, credential) != credential:
            raise PrivacyError(
                f"{party} has another key than when this node first met it: another node, or the gateway lies"
            )
        return lambda message, signature: _holds(lambda: key.verify(signature, message))


def _holds(verify: Callable[[], None]) -> bool:
    try:
        verify()
    except (InvalidSignature, ValueError):
        return False
    return True

"""What another party of a secure sum shows for itself: an Ed25519 key, or a certificate of the federation's authority."""

import hashlib
from typing import Callable, NamedTuple, Optional

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from orchestrator.errors import PeerError, UsageError
from orchestrator.wire.pki import UNSIGNED, common_name
from orchestrator.wire.topics import check_name

_MOST_BYTES = 8192
Check = Callable[[bytes, bytes], bool]
"""(message, signature) -> whether it is that peer's."""


class Shown(NamedTuple):
    """A credential that was read. key: what is pinned; certificate: None without identities; seen: see `Peers.admit_all`."""

    credential: bytes
    key: bytes
    fingerprint: str
    certificate: Optional[x509.Certificate]
    check: Check
    key_holder: bool = False
    seen: Optional[int] = None


def read_credential(party: str, credential: bytes, authority: Optional[x509.Certificate]) -> Shown:
    """An Ed25519 public key of 32 bytes or, where there is an authority, a certificate of it; PeerError for anything else."""
    try:
        check_name(party, "node")
    except (UsageError, TypeError) as error:
        raise PeerError("a party has a name that no node can have") from error
    if len(credential) > _MOST_BYTES:
        raise PeerError(f"the credential of {party} has {len(credential)} bytes, at most {_MOST_BYTES} make sense")
    if authority is not None:
        return _read_certificate(party, credential, authority)
    try:
        key = Ed25519PublicKey.from_public_bytes(credential)
    except ValueError as error:
        raise PeerError(f"the key of {party} is invalid") from error
    fingerprint = hashlib.sha256(credential).hexdigest()
    return Shown(credential, credential, fingerprint, None, lambda m, s: _holds(lambda: key.verify(s, m)))


def _read_certificate(party: str, credential: bytes, authority: x509.Certificate) -> Shown:
    try:
        certificate = x509.load_der_x509_certificate(credential)
        certificate.verify_directly_issued_by(authority)
        key = certificate.public_key()
    except UNSIGNED as error:
        raise PeerError(f"{party} shows no certificate of this federation's authority") from error
    name = common_name(certificate.subject)
    if name != party:
        raise PeerError(f"{party} shows the certificate of {name!r}")
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise PeerError(f"the certificate of {party} is for another kind of key than this federation uses")
    public = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def check(message: bytes, signature: bytes) -> bool:
        return _holds(lambda: key.verify(signature, message, ec.ECDSA(hashes.SHA256())))

    return Shown(credential, public, hashlib.sha256(public).hexdigest(), certificate, check)


def _holds(verify: Callable[[], None]) -> bool:
    try:
        verify()
    except UNSIGNED:
        return False
    return True

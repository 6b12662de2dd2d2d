"""Keys, certificate requests and key files: what gateway and node do alike.

TLS keys are ECDSA on P-256 (NIST SP 800-186), message keys Ed25519 (RFC 8032); docs/design.md section 9 says why.
"""

import hashlib
import os
from pathlib import Path
from typing import Any, Dict, Tuple, Type

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

from orchestrator.errors import IdentityError, writing
from orchestrator.wire import pem
from orchestrator.wire.json_text import from_json

CA_FILE = "ca.crt"
SIGNING_PUBLIC_FILE = "signing.pub"
SETTINGS_FILE = "identity.json"

COPY = "copy it from its backup (a node's can be made again: revoke its name and enrol it)"
"""What to do about a file of an identity that changed."""

UNSIGNED: Tuple[Type[Exception], ...] = (InvalidSignature, *pem.UNREADABLE)
"""What the check of a signature may raise where it does not hold."""


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def subject(name: str, federation: str) -> x509.Name:
    """The common name is what the broker takes as the user; the organization is the federation."""
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, federation), x509.NameAttribute(NameOID.COMMON_NAME, name)]
    )


def common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if len(found) == 1 else ""


def organization(name: x509.Name) -> str:
    """The federation a certificate is of."""
    found = name.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return str(found[0].value) if len(found) == 1 else ""


def make_request(key: ec.EllipticCurvePrivateKey, name: str, federation: str) -> bytes:
    """A certificate signing request, PEM."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject(name, federation))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def fingerprint(certificate_pem: bytes) -> str:
    """SHA-256 of the certificate (DER), hex. Raises IdentityError for an invalid one."""
    return read_certificate(certificate_pem, "the certificate").fingerprint(hashes.SHA256()).hex()


def key_fingerprint(key: Any) -> str:
    """SHA-256 of a public key (SubjectPublicKeyInfo, DER), hex: the same in every certificate for that key."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def read_certificate(content: bytes, what: str) -> x509.Certificate:
    """A certificate whose key can be read, too. `what`: how to call it in the IdentityError there is otherwise."""
    certificate: x509.Certificate = pem.loaded(pem.CERTIFICATE, content, what, COPY, IdentityError)
    return certificate


def read_certificate_file(path: Path) -> x509.Certificate:
    return read_certificate(pem.content_of(path, pem.CERTIFICATE, COPY, IdentityError), str(path))


def read_pair(certificate: Path, key: Path) -> x509.Certificate:
    """The certificate in one file, which has to be for the private key in the other; IdentityError otherwise."""
    found = read_certificate_file(certificate)
    if not is_for(found, key):
        raise IdentityError(
            f"{certificate}: not for the key in {key.name} beside it, or one of the two was changed since; {COPY}"
        )
    return found


def is_for(certificate: x509.Certificate, key: Path) -> bool:
    """Whether a certificate is for the private key in a file."""
    return key_fingerprint(certificate.public_key()) == key_fingerprint(read_private(key).public_key())


def check_issued(certificate: x509.Certificate, authority: x509.Certificate, what: str) -> None:
    """IdentityError where a certificate was not signed with the authority's key, or was changed since."""
    try:
        certificate.verify_directly_issued_by(authority)
    except UNSIGNED as error:
        raise IdentityError(
            f"{what}: not signed by the authority of this identity, or changed since; {COPY}"
        ) from error


def private_pem(key: Any) -> bytes:
    data: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return data


def public_pem(key: Any) -> bytes:
    data: bytes = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return data


def read_private(path: Path) -> Any:
    return pem.loaded(
        pem.PRIVATE_KEY, pem.content_of(path, pem.PRIVATE_KEY, COPY, IdentityError), path, COPY, IdentityError
    )


def read_signing_key(path: Path) -> Ed25519PrivateKey:
    key = read_private(path)
    if not isinstance(key, Ed25519PrivateKey):
        raise IdentityError(f"{path}: {pem.not_ed25519(key)}; {COPY}")
    return key


def read_signing_public(path: Path) -> Ed25519PublicKey:
    key = pem.loaded(
        pem.PUBLIC_KEY, pem.content_of(path, pem.PUBLIC_KEY, COPY, IdentityError), path, COPY, IdentityError
    )
    if not isinstance(key, Ed25519PublicKey):
        raise IdentityError(f"{path}: {pem.not_ed25519(key)}; {COPY}")
    return key


def create_file(path: Path, data: bytes, private: bool = False) -> None:
    """Writes a new file, 0600 where it is private; IdentityError where one is already there: keys are never overwritten."""
    try:
        handle = os.open(str(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o644)
    except FileExistsError:
        raise IdentityError(
            f"{path} exists: an identity is never overwritten. Use it, or give another --identity"
        ) from None
    except OSError as error:
        raise IdentityError(f"{path}: {error.strerror}") from error
    try:
        with writing(path), os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink()  # half a key is in the way of a whole one
        raise


def read_settings(folder: Path) -> Dict[str, Any]:
    """identity.json of a gateway's or node's identity folder."""
    path = folder / SETTINGS_FILE
    try:
        settings = from_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise IdentityError(
            f"{folder}: no identity is there: name the folder that `edgeward gateway init` or `edgeward node enroll` made"
        ) from error
    except OSError as error:
        raise IdentityError(f"{path}: no identity can be read there: {error.strerror}") from error
    except ValueError as error:
        raise IdentityError(f"{path}: no identity can be read there: {error}") from error
    if not isinstance(settings, dict) or not isinstance(settings.get("federation"), str):
        raise IdentityError(f"{path}: not an identity's settings, or damaged")
    return settings

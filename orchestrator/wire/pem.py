"""Keys, certificates and requests in PEM (RFC 7468), and in words what a file is in place of the one that was expected."""

import re
import ssl
from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple, Tuple, Type

from cryptography import x509
from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from orchestrator.errors import EdgewardError, UsageError
from orchestrator.wire.special_files import open_file

UNREADABLE: Tuple[Type[Exception], ...] = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    InternalError,
    x509.InvalidVersion,
)
"""What reading a key, certificate, request or revocation list that makes no sense may raise."""

MOST_BYTES = 1 << 20
"""Of a file of certificates: all that a system knows are a quarter of it."""

OF_MODELS = "name the FILE.pub that `edgeward model keygen FILE` wrote, or a gateway's signing.pub"
TO_SIGN = "name the private key that `edgeward model keygen FILE` wrote to FILE"
OF_NODES = (
    "name the .csr that `edgeward node request` wrote; a gateway's is for `edgeward authority sign --name gateway`"
)
AUTHORITY = "name the certificate of the authority that signed the broker's, which the people who run it have"
WITHOUT_PASSWORD = "write the key without its password: openssl pkey -in FILE -out NEW"


class Kind(NamedTuple):
    """Of PEM. words: what was expected. labels: what stands after BEGIN."""

    words: str
    labels: Tuple[str, ...]


CERTIFICATE = Kind("a certificate in PEM", ("CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE"))
REQUEST = Kind("a certificate request in PEM", ("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"))
REVOCATIONS = Kind("a revocation list in PEM", ("X509 CRL",))
PRIVATE_KEY = Kind(
    "a private key in PEM without a password", ("PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY", "DSA PRIVATE KEY")
)
PUBLIC_KEY = Kind("a public key in PEM", ("PUBLIC KEY", "RSA PUBLIC KEY"))

_HELD = {
    **{label: "a certificate" for label in CERTIFICATE.labels},
    **{label: "a certificate request" for label in REQUEST.labels},
    **{label: "a revocation list" for label in REVOCATIONS.labels},
    **{label: "a private key" for label in PRIVATE_KEY.labels},
    **{label: "a public key" for label in PUBLIC_KEY.labels},
    "ENCRYPTED PRIVATE KEY": "a private key with a password",
    "OPENSSH PRIVATE KEY": "a private key of OpenSSH",
}
_BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----")
_OPENSSH = re.compile(rb"\s*(ssh-|ecdsa-sha2-|sk-)")


def instead(kind: Kind, content: bytes) -> str:
    """What a content is that cannot be read as a kind of PEM, as 'it is empty'."""
    if not content.strip():
        return "it is empty"
    labels = [label.decode() for label in _BEGIN.findall(content)]
    if b"Proc-Type: 4,ENCRYPTED" in content:
        return f"it holds {_HELD['ENCRYPTED PRIVATE KEY']}"
    own = next((label for label in labels if label in kind.labels), "")
    if own:
        whole = f"-----END {own}-----".encode() in content
        return f"it holds {_HELD[own]} that is {'damaged, or of a sort that is not read' if whole else 'cut off'}"
    if labels:
        return f"it holds {_HELD.get(labels[0], f'PEM of another kind, {labels[0]}')}"
    if _OPENSSH.match(content):
        return "it holds a public key of OpenSSH, which is no PEM"
    if content[:1] == b"\x30" and not content.isascii():
        return "it is binary, as DER is, and no PEM"
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    return (
        "it is binary, and no PEM" if "\0" in text else "it is text without PEM: no line of it says -----BEGIN ...-----"
    )


def refusal(what: Any, kind: Kind, content: bytes, cure: str) -> str:
    """The message of an error: which file or text, what was expected, what it is, and what to do."""
    found = instead(kind, content)
    locked = kind is PRIVATE_KEY and _HELD["ENCRYPTED PRIVATE KEY"] in found
    return f"{what}: cannot be read as {kind.words}: {found}; {WITHOUT_PASSWORD if locked else cure}"


def loaded(kind: Kind, content: bytes, what: Any, cure: str, refuses: Type[EdgewardError]) -> Any:
    """The object in a content of PEM. Raises an error of the given class, in words, for anything else."""
    try:
        return _READ[kind](content)
    except UNREADABLE as error:
        raise refuses(refusal(what, kind, content, cure)) from error


def content_of(path: Path, kind: Kind, cure: str, refuses: Type[EdgewardError]) -> bytes:
    """At most MOST_BYTES of a file that is to hold PEM."""
    try:
        with open_file(path) as file:
            return file.read(MOST_BYTES)
    except OSError as error:
        raise refuses(f"{path}: cannot be read: {error.strerror}; expected is {kind.words}: {cure}") from error


def model_public_key(path: Path) -> Ed25519PublicKey:
    """The key that an option names to check models with; of a private one the public half. UsageError for anything else."""
    content = content_of(path, PUBLIC_KEY, OF_MODELS, UsageError)
    try:
        held = _READ[PRIVATE_KEY](content).public_key() if b"PRIVATE KEY-----" in content else None
    except UNREADABLE as error:
        raise UsageError(refusal(path, PUBLIC_KEY, content, OF_MODELS)) from error
    key = loaded(PUBLIC_KEY, content, path, OF_MODELS, UsageError) if held is None else held
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError(f"{path}: {not_ed25519(key)}; {OF_MODELS}")
    return key


def model_private_key(path: Path) -> Ed25519PrivateKey:
    """The key that an option names to sign models with. UsageError for anything else."""
    key = loaded(PRIVATE_KEY, content_of(path, PRIVATE_KEY, TO_SIGN, UsageError), path, TO_SIGN, UsageError)
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{path}: {not_ed25519(key)}; {TO_SIGN}")
    return key


def not_ed25519(key: Any) -> str:
    """Of a key for something else."""
    sort = re.sub(r"(?i)^_?(openssl|rust)?", "", type(key).__name__)
    return f"expected an Ed25519 key, and it holds one of another algorithm ({sort})"


def request_in(path: Path) -> bytes:
    """A file that a command is given to sign. UsageError where it holds no certificate request."""
    content = content_of(path, REQUEST, OF_NODES, UsageError)
    loaded(REQUEST, content, path, OF_NODES, UsageError)
    return content


def authorities(ca_file: Path, refuses: Type[EdgewardError] = UsageError, cure: str = AUTHORITY) -> ssl.SSLContext:
    """What trusts the certificates in a file, and nothing else."""
    content = content_of(ca_file, CERTIFICATE, cure, refuses)
    try:
        return ssl.create_default_context(cafile=str(ca_file))
    except OSError as error:  # ssl.SSLError is one
        raise refuses(refusal(ca_file, CERTIFICATE, content, cure)) from error


def check_server_pair(certificate: Path, key: Path) -> None:
    """UsageError unless a server can show the one, and prove it with the other. Nobody is asked for a password."""
    cure = "name the server's certificate, with those between it and its authority after it"
    shown = content_of(certificate, CERTIFICATE, cure, UsageError)
    public = loaded(CERTIFICATE, shown, certificate, cure, UsageError).public_key()
    cure = f"name the key that {certificate} was made for"
    private = loaded(PRIVATE_KEY, content_of(key, PRIVATE_KEY, cure, UsageError), key, cure, UsageError)
    if private.public_key() != public:
        raise UsageError(f"{key}: is not the key of {certificate}: name the one that its certificate was made for")
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key)
    except OSError as error:
        raise UsageError(f"certificate {certificate} with key {key}: no server can use them: {error}") from error


def _certificate(content: bytes) -> x509.Certificate:
    certificate = x509.load_pem_x509_certificate(content)
    certificate.public_key()
    return certificate


_READ: Dict[Kind, Callable[[bytes], Any]] = {
    CERTIFICATE: _certificate,
    REQUEST: x509.load_pem_x509_csr,
    REVOCATIONS: x509.load_pem_x509_crl,
    PRIVATE_KEY: lambda content: load_pem_private_key(content, None),
    PUBLIC_KEY: load_pem_public_key,
}

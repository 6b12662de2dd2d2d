"""The files of a gateway's or an authority's identity folder, and what certificate requests have to be."""

import json
import os
from pathlib import Path
from typing import List, Sequence

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrator.errors import IdentityError, UsageError
from orchestrator.wire import pki
from orchestrator.wire.bounds import host_name


def addresses(hosts: Sequence[str]) -> List[str]:
    """What a gateway's certificate is for: `hosts`, and this machine itself; UsageError for what no host is called."""
    wrong = [reason for name in hosts for reason in host_name("host", name)]
    if wrong:
        raise UsageError("; ".join(wrong))
    return list(dict.fromkeys([*hosts, "localhost", "127.0.0.1"]))


def new_folder(folder: Path) -> None:
    """Makes it, for its owner alone; IdentityError where something is in it already."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise IdentityError(f"{folder} is not empty: an identity is never overwritten. Choose a new folder")
    os.chmod(str(folder), 0o700)


def make_gateway_keys(folder: Path) -> ec.EllipticCurvePrivateKey:
    """Makes a gateway's keys: for TLS, which is returned, and for signing."""
    key, signing = pki.new_key(), Ed25519PrivateKey.generate()
    pki.create_file(folder / "gateway.key", pki.private_pem(key), private=True)
    pki.create_file(folder / "signing.key", pki.private_pem(signing), private=True)
    pki.create_file(folder / pki.SIGNING_PUBLIC_FILE, pki.public_pem(signing.public_key()))
    return key


def write_settings(folder: Path, federation: str, hosts: Sequence[str]) -> None:
    settings = {"federation": federation, "gateway_hosts": list(hosts)}
    pki.create_file(folder / pki.SETTINGS_FILE, (json.dumps(settings, indent=2) + "\n").encode())


def requested_key(request_pem: bytes, name: str) -> ec.EllipticCurvePublicKey:
    """The public key of a certificate request for `name`. Raises IdentityError for anything else."""
    try:
        request = x509.load_pem_x509_csr(request_pem)
    except ValueError as error:
        raise IdentityError(f"not a certificate request in PEM: {error}") from error
    if not request.is_signature_valid:
        raise IdentityError("the certificate request is not signed by its own key")
    if pki.common_name(request.subject) != name:
        raise IdentityError(f"the request is for {pki.common_name(request.subject)!r}, not {name!r}")
    key = request.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise IdentityError("the request's key is not ECDSA on P-256")
    return key

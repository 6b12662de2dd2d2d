"""The files of a gateway's or an authority's identity folder, and what certificate requests have to be."""

import json
import os
from pathlib import Path
from typing import Any, FrozenSet, List, Mapping, Sequence

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrator.errors import IdentityError, UsageError
from orchestrator.wire import pem, pki
from orchestrator.wire.bounds import host_name

CA_KEY_FILE, CRL_FILE, STORE_FILE, SIGNING_KEY_FILE = "ca.key", "crl.pem", "authority.sqlite", "signing.key"


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
    pki.create_file(folder / SIGNING_KEY_FILE, pki.private_pem(signing), private=True)
    pki.create_file(folder / pki.SIGNING_PUBLIC_FILE, pki.public_pem(signing.public_key()))
    return key


def write_settings(folder: Path, federation: str, hosts: Sequence[str]) -> None:
    settings = {"federation": federation, "gateway_hosts": list(hosts)}
    pki.create_file(folder / pki.SETTINGS_FILE, (json.dumps(settings, indent=2) + "\n").encode())


def requested_key(request_pem: bytes, name: str, what: str = "the request") -> ec.EllipticCurvePublicKey:
    """The public key of a certificate request for `name`. Raises IdentityError, which calls it `what`, for anything else."""
    request = pem.loaded(pem.REQUEST, request_pem, what, pem.OF_NODES, IdentityError)
    try:
        signed, key = request.is_signature_valid, request.public_key()
    except pem.UNREADABLE as error:
        raise IdentityError(pem.refusal(what, pem.REQUEST, request_pem, pem.OF_NODES)) from error
    if not signed:
        raise IdentityError("the certificate request is not signed by its own key")
    if pki.common_name(request.subject) != name:
        raise IdentityError(f"the request is for {pki.common_name(request.subject)!r}, not {name!r}")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise IdentityError("the request's key is not ECDSA on P-256")
    return key


def hosts_in(settings: Mapping[str, Any], folder: Path) -> List[str]:
    """The addresses a gateway's certificate is for, out of its settings."""
    hosts = settings["gateway_hosts"]
    if not isinstance(hosts, list) or not all(isinstance(host, str) for host in hosts):
        raise IdentityError(f"{folder / pki.SETTINGS_FILE}: gateway_hosts is no list of names: damaged?")
    return list(hosts)


def check_files(folder: Path, federation: str) -> FrozenSet[int]:
    """Serial numbers in the folder's list of revoked certificates, if there is one.

    IdentityError, with the file's name, unless what is in a gateway's or an authority's folder fits together.
    """
    authority = pki.read_certificate_file(folder / pki.CA_FILE)
    pki.check_issued(authority, authority, str(folder / pki.CA_FILE))
    if (folder / CA_KEY_FILE).exists():
        pki.read_pair(folder / pki.CA_FILE, folder / CA_KEY_FILE)
    if (folder / "gateway.crt").exists() or (folder / "gateway.key").exists():
        own = pki.read_pair(folder / "gateway.crt", folder / "gateway.key")
        pki.check_issued(own, authority, str(folder / "gateway.crt"))
    if pki.organization(authority.subject) != federation:
        raise IdentityError(
            f"{folder / pki.SETTINGS_FILE}: says {federation!r}, the authority's certificate beside it is of "
            f"{pki.organization(authority.subject)!r}: one of the two was changed since; {pki.COPY}"
        )
    signing, public = folder / SIGNING_KEY_FILE, folder / pki.SIGNING_PUBLIC_FILE
    if signing.exists():
        ours = pki.read_signing_key(signing).public_key()
        if pki.public_pem(ours) != pki.public_pem(pki.read_signing_public(public)):
            raise IdentityError(
                f"{public}: not for the key in {signing.name} beside it, or one of the two was changed since; {pki.COPY}"
            )
    return _revocations(folder, authority) if (folder / CRL_FILE).exists() else frozenset()


def _revocations(folder: Path, authority: x509.Certificate) -> FrozenSet[int]:
    """A list of them was made with the store beside it, which alone knows what was issued."""
    path, store = folder / CRL_FILE, folder / STORE_FILE
    content = pem.content_of(path, pem.REVOCATIONS, pki.COPY, IdentityError)
    crl = pem.loaded(pem.REVOCATIONS, content, path, pki.COPY, IdentityError)
    try:
        signed = crl.is_signature_valid(authority.public_key())
        listed = frozenset(entry.serial_number for entry in crl)
    except pem.UNREADABLE as error:
        raise IdentityError(pem.refusal(path, pem.REVOCATIONS, content, pki.COPY)) from error
    if not signed:
        raise IdentityError(f"{path}: not signed by the authority of this identity, or changed since; {pki.COPY}")
    if not store.exists() or not store.stat().st_size:
        raise IdentityError(
            f"{store}: is missing or empty, and with it all that was issued and revoked: copy it from its backup; without one "
            "make a new identity, for certificates that were revoked would be valid again"
        )
    return listed

"""The certificates of a federation before they are signed: the authority's, a gateway's, a node's; and its revocation list."""

import datetime
import ipaddress
from pathlib import Path
from typing import Any, Sequence, Tuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from orchestrator.gateway.identity_files import (
    CA_KEY_FILE,
    new_folder,
)
from orchestrator.wire import pki

GATEWAY_NAME = "gateway"

CA_DAYS, CERTIFICATE_DAYS = 3650, 825

_SKEW = datetime.timedelta(days=1)
"""Certificates hold from a day before now: nodes' clocks differ."""


def make_authority(folder: Path, federation: str) -> ec.EllipticCurvePrivateKey:
    """Makes ca.key and ca.crt in a new folder."""
    new_folder(folder)
    ca_key, issuer = pki.new_key(), pki.subject("Edgeward authority", federation)
    ca = _builder(issuer, issuer, ca_key.public_key(), CA_DAYS)
    ca = ca.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    ca = ca.add_extension(_usage(authority=True), critical=True)
    pki.create_file(folder / CA_KEY_FILE, pki.private_pem(ca_key), private=True)
    pki.create_file(folder / pki.CA_FILE, ca.sign(ca_key, hashes.SHA256()).public_bytes(Encoding.PEM))
    return ca_key


def gateway_certificate(issuer: x509.Name, federation: str, key: Any, hosts: Sequence[str]) -> x509.CertificateBuilder:
    """For TLS as a server under these names and addresses, and as the broker's user `gateway`."""
    builder = leaf(issuer, pki.subject(GATEWAY_NAME, federation), key, server=True)
    return builder.add_extension(x509.SubjectAlternativeName([_general_name(h) for h in hosts]), critical=False)


def _builder(issuer: x509.Name, subject: x509.Name, key: Any, days: int) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder().issuer_name(issuer).subject_name(subject).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    return builder.not_valid_before(now - _SKEW).not_valid_after(now + datetime.timedelta(days=days))


def leaf(issuer: x509.Name, subject: x509.Name, key: Any, server: bool) -> x509.CertificateBuilder:
    """A node may not act as a server: otherwise it could pose as the gateway to those who enrol."""
    uses = [ExtendedKeyUsageOID.CLIENT_AUTH] + ([ExtendedKeyUsageOID.SERVER_AUTH] if server else [])
    builder = _builder(issuer, subject, key, CERTIFICATE_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=True)
    return builder.add_extension(_usage(authority=False), critical=True)


def _usage(authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(not authority, False, False, False, False, authority, authority, False, False)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def revocation_list(issuer: x509.Name, revoked: Sequence[Tuple[str, float]]) -> x509.CertificateRevocationListBuilder:
    """`revoked`: (serial in hex digits, when in seconds since 1970) of every certificate that is."""
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer).last_update(now - _SKEW)
    builder = builder.next_update(now + datetime.timedelta(days=CA_DAYS))
    for serial, at in revoked:
        when = datetime.datetime.fromtimestamp(at, datetime.timezone.utc)
        entry = x509.RevokedCertificateBuilder().serial_number(int(serial, 16)).revocation_date(when)
        builder = builder.add_revoked_certificate(entry.build())
    return builder

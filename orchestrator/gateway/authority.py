"""The certificate authority of a federation: an identity folder with its keys, its invitations, and who was revoked.

ca.key ca.crt           the authority             signing.key signing.pub  Ed25519, signs messages and models
gateway.key gateway.crt the gateway, for TLS      crl.pem                  revoked certificates
authority.sqlite        invitations, certificates identity.json            federation and addresses
audit.jsonl             what was done here
"""

import datetime
import hashlib
import ipaddress
import json
import os
import secrets
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Set

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from orchestrator.database import open_database
from orchestrator.errors import IdentityError, UsageError
from orchestrator.gateway.audit import AUDIT_FILE, AuditLog
from orchestrator.wire import pki
from orchestrator.wire.envelope import EVERYONE, Sealer, key_id
from orchestrator.wire.link import BrokerAddress
from orchestrator.wire.token import Token
from orchestrator.wire.topics import check_name

GATEWAY_NAME = "gateway"
MONITOR = "monitor:"
"""Prefix of the certificate names of `edgeward monitor --forward`; no node can have it, names have no colon."""

CA_DAYS, CERTIFICATE_DAYS = 3650, 825
_RESERVED = (GATEWAY_NAME, EVERYONE)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS invitations (
    secret TEXT PRIMARY KEY, name TEXT NOT NULL, expires REAL NOT NULL, used REAL
);
CREATE TABLE IF NOT EXISTS certificates (
    serial TEXT PRIMARY KEY, name TEXT NOT NULL, issued REAL NOT NULL, revoked REAL
);
"""


class Authority:
    """An opened identity folder of a gateway."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        settings = pki.read_settings(folder)
        if "gateway_hosts" not in settings:
            raise IdentityError(f"{folder}: a node's identity; a gateway's is made by `edgeward gateway init`")
        self.federation = str(settings["federation"])
        self.hosts: List[str] = list(settings["gateway_hosts"])
        self._db = open_database(folder / "authority.sqlite", _SCHEMA, "authority")
        self.audit = AuditLog(folder / AUDIT_FILE, self._db)

    @classmethod
    def create(cls, folder: Path, federation: str, hosts: Sequence[str]) -> "Authority":
        """Makes every key and certificate; IdentityError, with nothing changed, where an identity is already there."""
        check_name(federation, "federation")
        names = list(dict.fromkeys([*hosts, "localhost", "127.0.0.1"]))
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise IdentityError(f"{folder} is not empty: an identity is never overwritten. Choose a new folder")
        os.chmod(str(folder), 0o700)
        ca_key, key, signing = pki.new_key(), pki.new_key(), Ed25519PrivateKey.generate()
        issuer = pki.subject("Edgeward authority", federation)
        ca = _builder(issuer, issuer, ca_key.public_key(), CA_DAYS)
        ca = ca.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        ca = ca.add_extension(_usage(authority=True), critical=True)
        ca_certificate = ca.sign(ca_key, hashes.SHA256())
        mine = _leaf(issuer, pki.subject(GATEWAY_NAME, federation), key.public_key(), server=True)
        mine = mine.add_extension(x509.SubjectAlternativeName([_general_name(h) for h in names]), critical=False)
        pki.create_file(folder / "ca.key", pki.private_pem(ca_key), private=True)
        pki.create_file(folder / pki.CA_FILE, ca_certificate.public_bytes(Encoding.PEM))
        pki.create_file(folder / "gateway.key", pki.private_pem(key), private=True)
        pki.create_file(folder / "gateway.crt", mine.sign(ca_key, hashes.SHA256()).public_bytes(Encoding.PEM))
        pki.create_file(folder / "signing.key", pki.private_pem(signing), private=True)
        pki.create_file(folder / pki.SIGNING_PUBLIC_FILE, pki.public_pem(signing.public_key()))
        settings = {"federation": federation, "gateway_hosts": names}
        pki.create_file(folder / pki.SETTINGS_FILE, (json.dumps(settings, indent=2) + "\n").encode())
        authority = cls(folder)
        authority._write_crl()
        authority.audit.append("identity_made", federation=federation, hosts=names, ca=authority.ca_fingerprint)
        return authority

    @property
    def ca_pem(self) -> bytes:
        return (self.folder / pki.CA_FILE).read_bytes()

    @property
    def ca_fingerprint(self) -> str:
        return pki.fingerprint(self.ca_pem)

    @property
    def signing_key(self) -> Path:
        return self.folder / "signing.key"

    @property
    def key_id(self) -> str:
        """How signed messages and the audit log call the signing key, 16 hex digits."""
        return key_id(pki.read_signing_public(self.folder / pki.SIGNING_PUBLIC_FILE)).hex()

    def sealer(self) -> Sealer:
        return Sealer(pki.read_signing_key(self.signing_key), self.federation)

    def secure(self, address: BrokerAddress) -> BrokerAddress:
        """`address` reached over TLS as the gateway."""
        files = (str(self.folder / name) for name in (pki.CA_FILE, "gateway.crt", "gateway.key"))
        return address.secured(*files)

    def invite(self, name: str, gateway: str, hours: float = 24.0) -> Token:
        """A one-time token for one name; only its hash is kept."""
        self._check_free(name)
        if not hours > 0:
            raise UsageError(f"--hours {hours}: expected more than 0")
        secret = secrets.token_urlsafe(24)
        expires = time.time() + 3600 * hours
        self._db.execute("INSERT INTO invitations VALUES (?, ?, ?, NULL)", (_hash(secret), name, expires))
        self.audit.append("invited", node=name, expires=round(expires))
        return Token(gateway, self.ca_fingerprint, self.federation, name, secret)

    def enroll(self, name: str, secret: str, request_pem: bytes) -> Dict[str, str]:
        """Redeems an invitation. Every refusal is recorded with its own reason, and raised as IdentityError."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._redeem(name, secret)
            answer = self._issue(name, request_pem)
        except (IdentityError, UsageError) as error:
            self._db.execute("ROLLBACK")
            self.audit.append("enrolment_refused", node=name[:64], reason=str(error))
            raise
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
        return answer

    def sign(self, request_pem: bytes, name: str) -> Dict[str, str]:
        """The offline way: certificate for a request that came by another channel; `name` must be the request's."""
        try:
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                return self._issue(name, request_pem)
        except (IdentityError, UsageError) as error:
            self.audit.append("signing_refused", node=name[:64], reason=str(error))
            raise

    def _redeem(self, name: str, secret: str) -> None:
        row = self._db.execute(
            "SELECT name, expires, used FROM invitations WHERE secret = ?", (_hash(secret),)
        ).fetchone()
        if row is None:
            raise IdentityError("this token is not known here: wrong gateway, or it was altered")
        if row[0] != name:
            raise IdentityError(f"this token invites {row[0]!r}, not {name!r}")
        if row[2] is not None:
            raise IdentityError(f"this token was used before; invite {name!r} again if that was not you: and revoke it")
        if row[1] < time.time():
            raise IdentityError(f"this token has expired; ask for another with `edgeward gateway invite {name}`")
        self._db.execute("UPDATE invitations SET used = ? WHERE secret = ?", (time.time(), _hash(secret)))

    def _issue(self, name: str, request_pem: bytes) -> Dict[str, str]:
        self._check_free(name)
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
        ca = pki.read_certificate(self.ca_pem, str(self.folder / pki.CA_FILE))
        builder = _leaf(ca.subject, pki.subject(name, self.federation), key, server=False)
        certificate = builder.sign(pki.read_private(self.folder / "ca.key"), hashes.SHA256())
        serial = format(certificate.serial_number, "x")
        self._db.execute("INSERT INTO certificates VALUES (?, ?, ?, NULL)", (serial, name, time.time()))
        self.audit.append("enrolled", node=name, serial=serial)
        return {
            "certificate": certificate.public_bytes(Encoding.PEM).decode(),
            "ca": self.ca_pem.decode(),
            "signing": (self.folder / pki.SIGNING_PUBLIC_FILE).read_text(),
            "federation": self.federation,
            "name": name,
        }

    def revoke(self, name: str) -> int:
        """Revokes every certificate of a name and its open invitations; returns how many certificates."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            query = "UPDATE certificates SET revoked = ? WHERE name = ? AND revoked IS NULL"
            count = self._db.execute(query, (time.time(), name)).rowcount
            query = "UPDATE invitations SET used = 0 WHERE name = ? AND used IS NULL"
            opened = self._db.execute(query, (name,)).rowcount
            if not count and not opened:
                raise IdentityError(f"{name!r} has neither a certificate nor an open invitation")
            self._write_crl()
            self.audit.append("revoked", node=name, certificates=count, invitations=opened)
        return count

    def nodes(self) -> List[Dict[str, Any]]:
        rows = self._db.execute("SELECT name, serial, issued, revoked FROM certificates ORDER BY issued")
        return [dict(zip(("name", "serial", "issued", "revoked"), row)) for row in rows]

    def active(self) -> Set[str]:
        """Names with a certificate that is not revoked."""
        rows = self._db.execute("SELECT DISTINCT name FROM certificates WHERE revoked IS NULL")
        return {row[0] for row in rows}

    def _check_free(self, name: str) -> None:
        plain = name[len(MONITOR) :] if name.startswith(MONITOR) else name
        check_name(plain, "node")
        if name in _RESERVED:
            raise UsageError(f"node {name!r}: this name has a meaning of its own, choose another")
        if name in self.active():
            raise IdentityError(f"{name!r} has a certificate; revoke it first: edgeward gateway revoke {name}")

    def _write_crl(self) -> None:
        ca = pki.read_certificate(self.ca_pem, str(self.folder / pki.CA_FILE))
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = x509.CertificateRevocationListBuilder().issuer_name(ca.subject).last_update(now - _SKEW)
        builder = builder.next_update(now + datetime.timedelta(days=CA_DAYS))
        for serial, revoked in self._db.execute("SELECT serial, revoked FROM certificates WHERE revoked IS NOT NULL"):
            when = datetime.datetime.fromtimestamp(revoked, datetime.timezone.utc)
            entry = x509.RevokedCertificateBuilder().serial_number(int(serial, 16)).revocation_date(when)
            builder = builder.add_revoked_certificate(entry.build())
        crl = builder.sign(pki.read_private(self.folder / "ca.key"), hashes.SHA256())
        temporary = self.folder / "crl.tmp"
        temporary.write_bytes(crl.public_bytes(Encoding.PEM))
        os.replace(str(temporary), str(self.folder / "crl.pem"))

    def close(self) -> None:
        self._db.close()


_SKEW = datetime.timedelta(days=1)
"""Certificates hold from a day before now: nodes' clocks differ."""


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _builder(issuer: x509.Name, subject: x509.Name, key: Any, days: int) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder().issuer_name(issuer).subject_name(subject).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    return builder.not_valid_before(now - _SKEW).not_valid_after(now + datetime.timedelta(days=days))


def _leaf(issuer: x509.Name, subject: x509.Name, key: Any, server: bool) -> x509.CertificateBuilder:
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

"""A node's identity folder: its key (made here, never sent), its certificate, and whom it trusts.

node.key node.crt ca.crt signing.pub identity.json
"""

import http.client
import json
import os
import socket
import ssl
from pathlib import Path
from typing import Any, Dict, Tuple
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from orchestrator.errors import EnrolmentError, IdentityError
from orchestrator.files import whole_folder
from orchestrator.wire import pki
from orchestrator.wire.enrolling import NodeAnswer, NodeRequest
from orchestrator.wire.envelope import Opener, key_id
from orchestrator.wire.json_text import from_json
from orchestrator.wire.link import BrokerAddress
from orchestrator.wire.token import Token
from orchestrator.wire.topics import check_name, check_party

KEY_FILE, CERTIFICATE_FILE = "node.key", "node.crt"
_MAX_ANSWER_BYTES = 1 << 20
_TIMEOUT_S = 30.0


class NodeIdentity:
    """An enrolled node's folder, opened. Raises IdentityError where something is missing or does not fit together."""

    def __init__(self, folder: Path) -> None:
        settings = pki.read_settings(folder)
        if "name" not in settings:
            raise IdentityError(f"{folder}: not a node's identity (a gateway's?); get one with `edgeward node enroll`")
        self._folder = folder
        self.name, self.federation = str(settings["name"]), str(settings["federation"])
        self.broker = str(settings.get("broker") or "")
        self._signing = pki.read_signing_public(folder / pki.SIGNING_PUBLIC_FILE)
        certificate = pki.read_pair(folder / CERTIFICATE_FILE, folder / KEY_FILE)
        authority = pki.read_certificate_file(folder / pki.CA_FILE)
        pki.check_issued(authority, authority, str(folder / pki.CA_FILE))
        pki.check_issued(certificate, authority, str(folder / CERTIFICATE_FILE))
        of = (pki.common_name(certificate.subject), pki.organization(certificate.subject))
        if of != (self.name, self.federation):
            raise IdentityError(
                f"{folder / pki.SETTINGS_FILE}: says {self.name!r} of {self.federation!r}, the certificate beside it is of "
                f"{of[0]!r} of {of[1]!r}: one of the two was changed since; {pki.COPY}"
            )

    def opener(self) -> Opener:
        return Opener(self._signing, self.federation, self.name)

    def for_peers(self) -> Tuple[Any, x509.Certificate, x509.Certificate]:
        """(private key, certificate, the authority's certificate): what other nodes know this one by."""
        files = (self._folder / name for name in (CERTIFICATE_FILE, pki.CA_FILE))
        certificate, authority = map(pki.read_certificate_file, files)
        return pki.read_private(self._folder / KEY_FILE), certificate, authority

    @property
    def folder(self) -> Path:
        return self._folder

    @property
    def signer(self) -> str:
        """Key id of the gateway whose messages this node believes, 16 hex digits."""
        return key_id(self._signing).hex()

    def secure(self, address: BrokerAddress) -> BrokerAddress:
        files = (str(self._folder / name) for name in (pki.CA_FILE, CERTIFICATE_FILE, KEY_FILE))
        return address.secured(*files)


def make_node_request(folder: Path, name: str, federation: str) -> bytes:
    """The certificate request (PEM) of this node; makes its key the first time. UsageError for what is no name."""
    check_party(name, "node")
    check_name(federation, "federation")
    folder.mkdir(parents=True, exist_ok=True)
    os.chmod(str(folder), 0o700)
    if (folder / pki.SETTINGS_FILE).exists():
        raise IdentityError(f"{folder} holds an identity already; it is never overwritten. Choose another --identity")
    if not (folder / KEY_FILE).exists():
        pki.create_file(folder / KEY_FILE, pki.private_pem(pki.new_key()), private=True)
    key: ec.EllipticCurvePrivateKey = pki.read_private(folder / KEY_FILE)
    return pki.make_request(key, name, federation)


def install(folder: Path, answer: Dict[str, Any], ca_fingerprint: str = "") -> NodeIdentity:
    """Puts what the gateway answered into the folder. With `ca_fingerprint`, from that authority only."""
    given = NodeAnswer.read(answer)
    if ca_fingerprint and pki.fingerprint(given.ca.encode()) != ca_fingerprint:
        raise IdentityError("the answer comes from another authority than the one that was named")
    certificate = pki.read_certificate(given.certificate.encode(), "the gateway's answer")
    if not pki.is_for(certificate, folder / KEY_FILE):
        raise IdentityError(f"{folder}: the certificate is not for the key there")
    settings = {"name": given.name, "federation": given.federation, "broker": given.broker or ""}
    with whole_folder(folder):
        pki.create_file(folder / CERTIFICATE_FILE, given.certificate.encode())
        pki.create_file(folder / pki.CA_FILE, given.ca.encode())
        pki.create_file(folder / pki.SIGNING_PUBLIC_FILE, given.signing.encode())
        pki.create_file(folder / pki.SETTINGS_FILE, (json.dumps(settings, indent=2) + "\n").encode())
    return NodeIdentity(folder)


def enroll(folder: Path, token: Token, gateway: str = "") -> NodeIdentity:
    """Redeems a token over TLS. The token's secret is sent only to a server with a certificate of the token's authority."""
    host, port = _address(gateway or token.gateway)
    request = make_node_request(folder, token.name, token.federation)
    ca_pem = _fetch_authority(host, port, token.ca)
    context = ssl.create_default_context(cadata=ca_pem)
    asked = NodeRequest(token.name, token.secret, request.decode())
    answer = _exchange(host, port, context, "POST", "/enroll", json.dumps(asked.written()))
    try:
        return install(folder, from_json(answer), token.ca)
    except ValueError as error:
        raise EnrolmentError(f"{host}:{port} gave an answer that is not JSON: {error}") from error


def _fetch_authority(host: str, port: int, expected: str) -> str:
    """The authority's certificate, over a connection nobody is trusted on: its fingerprint decides."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    pem = _exchange(host, port, context, "GET", "/ca", None)
    found = pki.fingerprint(pem)
    if found != expected:
        raise EnrolmentError(
            f"{host}:{port} has the authority {found[:16]}, the token names {expected[:16]}: a wrong address, or someone "
            "in between. Nothing was sent"
        )
    return pem.decode()


def _exchange(host: str, port: int, context: ssl.SSLContext, method: str, path: str, body: Any) -> bytes:
    connection = http.client.HTTPSConnection(host, port, context=context, timeout=_TIMEOUT_S)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        answer = connection.getresponse()
        data = answer.read(_MAX_ANSWER_BYTES + 1)
    except ssl.SSLCertVerificationError as error:
        raise EnrolmentError(f"{host}:{port}: its certificate is not one for this address: {error.reason}") from error
    except (OSError, http.client.HTTPException, socket.timeout) as error:
        raise EnrolmentError(
            f"no enrolment at https://{host}:{port}: {error}. Is `gateway enroll-server` up?"
        ) from error
    finally:
        connection.close()
    if answer.status != 200:
        raise EnrolmentError(f"{host}:{port} refused: {data.decode('utf-8', 'replace')[:500].strip()}")
    if len(data) > _MAX_ANSWER_BYTES:
        raise EnrolmentError(f"{host}:{port} answered more than {_MAX_ANSWER_BYTES} bytes")
    return data


def _address(url: str) -> Tuple[str, int]:
    parts = urlsplit(url if "://" in url else f"https://{url}")
    try:
        port = parts.port
    except ValueError as error:
        raise IdentityError(f"gateway address {url!r}: {error}") from error
    if parts.scheme != "https" or not parts.hostname or port is None:
        raise IdentityError(f"gateway address {url!r}: expected https://HOST:PORT")
    return parts.hostname, port

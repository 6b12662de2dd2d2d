"""A gateway whose authority is on another machine: what it asks for, what the authority answers, what it installs.

The authority's key never comes near the gateway. Three files are carried between the two, by people: the gateway's request,
the authority's answer, and after every certificate or revocation `certificates.json`.
"""

import json
from pathlib import Path
from typing import Any, Dict, Mapping, Sequence

from cryptography.hazmat.primitives.serialization import Encoding

from orchestrator.errors import IdentityError
from orchestrator.files import replace_file, whole_folder
from orchestrator.gateway.authority import Authority
from orchestrator.gateway.certificate_log import check_certificates
from orchestrator.gateway.certificates import GATEWAY_NAME, make_authority
from orchestrator.gateway.identity_files import addresses, make_gateway_keys, new_folder, write_settings
from orchestrator.wire import pki
from orchestrator.wire.enrolling import GatewayAnswer, GatewayRequest
from orchestrator.wire.json_text import from_json
from orchestrator.wire.topics import check_name
from orchestrator.wire.transparency import EMPTY

CERTIFICATES_FILE = "certificates.json"


def create_authority(folder: Path, federation: str) -> Authority:
    """An authority without a gateway. IdentityError, with nothing changed, where something is in the folder already."""
    check_name(federation, "federation")
    with whole_folder(folder):
        make_authority(folder, federation)
        write_settings(folder, federation, ())
        authority = Authority(folder)
        authority.write_crl()
        authority.audit.append("identity_made", federation=federation, hosts=[], ca=authority.ca_fingerprint)
    return authority


def request_gateway(folder: Path, federation: str, hosts: Sequence[str]) -> Dict[str, Any]:
    """Makes a gateway's keys in a new folder; what the authority has to know of it."""
    check_name(federation, "federation")
    new_folder(folder)
    request = pki.make_request(make_gateway_keys(folder), GATEWAY_NAME, federation)
    signing = (folder / pki.SIGNING_PUBLIC_FILE).read_text(encoding="utf-8")
    return GatewayRequest(federation, addresses(hosts), request.decode(), signing).written()


def sign_gateway(authority: Authority, request: Mapping[str, Any]) -> Dict[str, Any]:
    """The authority's answer to `request_gateway`. Raises IdentityError for a request that is not of this federation."""
    asked = GatewayRequest.read(request)
    if asked.federation != authority.federation:
        raise IdentityError(f"the request is of federation {asked.federation!r}, not {authority.federation!r}")
    certificate = authority.certify_gateway(asked.request.encode(), asked.hosts, asked.signing)
    pem, certificates = certificate.public_bytes(Encoding.PEM).decode(), authority.certificates()
    return GatewayAnswer(pem, authority.ca_pem.decode(), asked.hosts, authority.federation, certificates).written()


def install_gateway(folder: Path, answer: Mapping[str, Any], ca_fingerprint: str) -> Authority:
    """Makes the folder of `request_gateway` a gateway's identity. The authority has to be the one that was named."""
    given = GatewayAnswer.read(answer)
    if pki.fingerprint(given.ca.encode()) != ca_fingerprint:
        raise IdentityError("the answer comes from another authority than the one that was named")
    ca = pki.read_certificate(given.ca.encode(), "the authority's certificate")
    certificate = pki.read_certificate(given.certificate.encode(), "the gateway's certificate")
    pki.check_issued(certificate, ca, "the gateway's certificate")
    if not pki.is_for(certificate, folder / "gateway.key"):
        raise IdentityError(f"{folder}: the certificate is not for the key there")
    if pki.common_name(certificate.subject) != GATEWAY_NAME:
        raise IdentityError("the certificate is not a gateway's")
    check_certificates(given.certificates, ca, EMPTY)
    with whole_folder(folder):
        pki.create_file(folder / pki.CA_FILE, given.ca.encode())
        pki.create_file(folder / "gateway.crt", given.certificate.encode())
        write_settings(folder, given.federation, given.hosts)
        authority = Authority(folder)
        hosts = authority.hosts
        authority.audit.append("identity_made", federation=authority.federation, hosts=hosts, ca=ca_fingerprint)
        authority.install_certificates(given.certificates)
    return authority


def publish(authority: Authority) -> Path:
    """Writes certificates.json, which a gateway apart installs; returns its path."""
    path = authority.folder / CERTIFICATES_FILE
    replace_file(path, (json.dumps(authority.certificates(), indent=1) + "\n").encode())
    return path


def read_answer(path: Path) -> Dict[str, Any]:
    """What is in a file that was carried here. Raises IdentityError for what is no JSON object."""
    try:
        found = from_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise IdentityError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise IdentityError(
            f"{path}: not a request, answer or list of certificates: name what `edgeward gateway init --request` or `edgeward "
            "authority sign` wrote, or certificates.json of the authority"
        )
    return found

"""A gateway whose authority is on another machine: what it asks for, what the authority answers, what it installs.

The authority's key never comes near the gateway. Three files are carried between the two, by people: the gateway's request,
the authority's answer, and after every certificate or revocation `certificates.json`.
"""

import json
from pathlib import Path
from typing import Any, Dict, Mapping, Sequence

from cryptography.hazmat.primitives.serialization import Encoding

from orchestrator.errors import IdentityError
from orchestrator.files import replace_file
from orchestrator.gateway.authority import Authority
from orchestrator.gateway.certificate_log import check_certificates
from orchestrator.gateway.certificates import GATEWAY_NAME, make_authority
from orchestrator.gateway.identity_files import addresses, make_gateway_keys, new_folder, write_settings
from orchestrator.wire import pki
from orchestrator.wire.json_text import from_json
from orchestrator.wire.topics import check_name
from orchestrator.wire.transparency import EMPTY

CERTIFICATES_FILE = "certificates.json"


def create_authority(folder: Path, federation: str) -> Authority:
    """An authority without a gateway. IdentityError, with nothing changed, where something is in the folder already."""
    check_name(federation, "federation")
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
    return {"federation": federation, "hosts": addresses(hosts), "request": request.decode(), "signing": signing}


def sign_gateway(authority: Authority, request: Mapping[str, Any]) -> Dict[str, Any]:
    """The authority's answer to `request_gateway`. Raises IdentityError for a request that is not of this federation."""
    fields = ("federation", "request", "signing")
    hosts = request.get("hosts")
    if not all(isinstance(request.get(field), str) for field in fields) or not isinstance(hosts, list):
        raise IdentityError("not what `edgeward gateway init --request` writes")
    if request["federation"] != authority.federation:
        raise IdentityError(f"the request is of federation {request['federation']!r}, not {authority.federation!r}")
    certificate = authority.certify_gateway(request["request"].encode(), list(map(str, hosts)), request["signing"])
    answer = {"certificate": certificate.public_bytes(Encoding.PEM).decode(), "ca": authority.ca_pem.decode()}
    return {**answer, "hosts": hosts, **authority.certificates()}


def install_gateway(folder: Path, answer: Mapping[str, Any], ca_fingerprint: str) -> Authority:
    """Makes the folder of `request_gateway` a gateway's identity. The authority has to be the one that was named."""
    wanted = ("certificate", "ca", "federation", "crl")
    if not all(isinstance(answer.get(key), str) for key in wanted) or not isinstance(answer.get("hosts"), list):
        raise IdentityError(f"the authority's answer lacks one of {', '.join(wanted)}, hosts")
    if pki.fingerprint(answer["ca"].encode()) != ca_fingerprint:
        raise IdentityError("the answer comes from another authority than the one that was named")
    ca = pki.read_certificate(answer["ca"].encode(), "the authority's certificate")
    certificate = pki.read_certificate(answer["certificate"].encode(), "the gateway's certificate")
    pki.check_issued(certificate, ca, "the gateway's certificate")
    if not pki.is_for(certificate, folder / "gateway.key"):
        raise IdentityError(f"{folder}: the certificate is not for the key there")
    if pki.common_name(certificate.subject) != GATEWAY_NAME:
        raise IdentityError("the certificate is not a gateway's")
    check_certificates(answer, ca, EMPTY)
    pki.create_file(folder / pki.CA_FILE, answer["ca"].encode())
    pki.create_file(folder / "gateway.crt", answer["certificate"].encode())
    write_settings(folder, answer["federation"], list(map(str, answer["hosts"])))
    authority = Authority(folder)
    authority.audit.append("identity_made", federation=authority.federation, hosts=authority.hosts, ca=ca_fingerprint)
    authority.install_certificates(answer)
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
    except (OSError, ValueError) as error:
        raise IdentityError(f"{path}: cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise IdentityError(f"{path}: not a request, answer or list of certificates")
    return found

"""The certificates and keys of an identity folder: NAME.crt with NAME.key, and the federation's ca.crt."""

import datetime
import os
import stat
from pathlib import Path
from typing import Any, List, Optional

from orchestrator.doctor.finding import OK, PROBLEM, WARNING, Finding, problem_of
from orchestrator.errors import IdentityError

CA = "ca.crt"
_SOON = datetime.timedelta(days=30)
_CHECK = "certificates"


def check_identity(folder: Path, now: Optional[datetime.datetime] = None) -> List[Finding]:
    """Every certificate and key of the folder, now or at another time (with a time zone)."""
    if not folder.is_dir():
        error = IdentityError(f"{folder}: no such folder")
        return [problem_of(_CHECK, error, "edgeward node enroll (node), edgeward gateway init (gateway)")]
    now = now or datetime.datetime.now(datetime.timezone.utc)
    certificates = {path: _certificate(path) for path in sorted(folder.glob("*.crt"))}
    if not certificates:
        error = IdentityError(f"{folder}: holds no certificate (*.crt)")
        return [problem_of(_CHECK, error, "enroll again, or copy the folder from its backup")]
    ca = certificates.get(folder / CA)
    found: List[Finding] = []
    if ca is None:
        found.append(
            _problem(f"{folder / CA}: is missing: nobody's certificate can be checked", "copy it from the gateway")
        )
    for path, certificate in certificates.items():
        if isinstance(certificate, Exception):
            found.append(problem_of(_CHECK, certificate, "copy it again"))
            continue
        found += _validity(path, certificate, now)
        if path.name != CA and ca is not None and not isinstance(ca, Exception):
            found += _chain(path, certificate, ca)
        if path.name != CA:
            found += _key(path.with_suffix(".key"), certificate)
    for path in sorted(folder.glob("*.key")):
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            found.append(_problem(f"{path}: others on this machine can use it (mode {mode:04o})", f"chmod 600 {path}"))
        if not os.access(path, os.R_OK):
            found.append(_problem(f"{path}: this user may not read it", f"run as its owner, or chown it: ls -l {path}"))
    return found or [Finding(OK, _CHECK, f"{folder}: {len(certificates)} valid, keys match and are private")]


def _certificate(path: Path) -> Any:
    from orchestrator.wire.pki import read_certificate_file

    try:
        return read_certificate_file(path)
    except IdentityError as error:
        return error


def _validity(path: Path, certificate: Any, now: datetime.datetime) -> List[Finding]:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < begin:
        message = f"{path}: valid from {begin:%Y-%m-%d %H:%M} UTC, and this machine's clock says {now:%Y-%m-%d %H:%M}"
        return [_problem(message, "set the clock: timedatectl set-ntp true")]
    if now > end:
        return [_problem(f"{path}: expired on {end:%Y-%m-%d}, if the clock is right", "enroll again for a new one")]
    if now > end - _SOON:
        return [Finding(WARNING, _CHECK, f"{path}: expires on {end:%Y-%m-%d}", "enroll again before that day")]
    return []


def _chain(path: Path, certificate: Any, ca: Any) -> List[Finding]:
    from orchestrator.wire.pki import check_issued

    try:
        check_issued(certificate, ca, str(path))
    except IdentityError:
        return [_problem(f"{path}: was not signed by {CA} beside it", "enroll again, or copy the right ca.crt")]
    return []


def _key(path: Path, certificate: Any) -> List[Finding]:
    from orchestrator.wire.pki import key_fingerprint, read_private

    if not path.is_file():
        return [_problem(f"{path}: the certificate's key is missing", "enroll again: a key is never sent anywhere")]
    try:
        key = read_private(path)
    except IdentityError as error:
        return [problem_of(_CHECK, error, "enroll again")]
    if key_fingerprint(key.public_key()) != key_fingerprint(certificate.public_key()):
        return [_problem(f"{path}: does not belong to the certificate beside it", "enroll again")]
    return []


def _problem(message: str, fix: str) -> Finding:
    return Finding(PROBLEM, _CHECK, message, fix)

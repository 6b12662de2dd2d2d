"""Enrolments while the authority's store cannot be written: the reason is given, and the token is good afterwards."""

import http.client
import json
import sqlite3
import ssl
from pathlib import Path
from typing import Tuple

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from orchestrator.database import StoreError
from orchestrator.errors import IdentityError
from orchestrator.gateway.authority import Authority
from orchestrator.gateway.enrolment import EnrolmentServer
from orchestrator.gateway.identity_files import STORE_FILE
from orchestrator.wire import pki


def test_a_busy_store_is_named_and_spends_no_token(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "identity", "test", ["127.0.0.1"])
    authority.database.execute("PRAGMA busy_timeout = 1")
    token = authority.invite("a", "https://127.0.0.1:1", 1.0)
    request = pki.make_request(ec.generate_private_key(ec.SECP256R1()), "a", "test")
    other = sqlite3.connect(str(authority.folder / STORE_FILE), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked"):
        authority.enroll("a", token.secret, request)
    other.execute("ROLLBACK")
    other.close()
    assert "CERTIFICATE" in authority.enroll("a", token.secret, request).certificate
    with pytest.raises(IdentityError, match="used before"):
        authority.enroll("a", token.secret, request)
    authority.close()


@pytest.mark.parametrize("damage", ["gone", "empty", "of another kind"])
def test_a_stranger_reads_nothing_of_what_is_wrong_with_the_folder(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "identity"
    authority = Authority.create(folder, "test", ["127.0.0.1"])
    token = authority.invite("a", "https://127.0.0.1:1", 1.0)
    authority.close()
    server = EnrolmentServer(folder, ("127.0.0.1", 0), "mqtts://127.0.0.1:1")
    store = folder / STORE_FILE
    kept = store.read_bytes()
    store.unlink()
    if damage != "gone":
        store.write_bytes(b"" if damage == "empty" else b"x" * 8192)
    request = pki.make_request(ec.generate_private_key(ec.SECP256R1()), "a", "test").decode()
    body = json.dumps({"name": "a", "secret": token.secret, "request": request})
    try:
        status, text = asked(server.port, body)
        assert status == 500
        assert "authority" not in text
        assert str(tmp_path) not in text
        assert any(STORE_FILE in line for line in caplog.messages)
        store.write_bytes(kept)
        assert asked(server.port, body)[0] == 200
    finally:
        server.close()


def asked(port: int, body: str) -> Tuple[int, str]:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    link = http.client.HTTPSConnection("127.0.0.1", port, timeout=600, context=context)
    link.request("POST", "/enroll", body)
    answer = link.getresponse()
    text = answer.read().decode()
    link.close()
    return answer.status, text

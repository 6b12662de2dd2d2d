"""Enrolments while the authority's store cannot be written: the reason is told, and the token is good afterwards."""

import sqlite3
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from orchestrator.database import StoreError
from orchestrator.errors import IdentityError
from orchestrator.gateway.authority import STORE_FILE, Authority
from orchestrator.wire import pki


def test_a_busy_store_is_named_and_spends_no_token(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "identity", "test", ["127.0.0.1"])
    authority._db.execute("PRAGMA busy_timeout = 1")
    token = authority.invite("a", "https://127.0.0.1:1", 1.0)
    request = pki.make_request(ec.generate_private_key(ec.SECP256R1()), "a", "test")
    other = sqlite3.connect(str(authority.folder / STORE_FILE), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked"):
        authority.enroll("a", token.secret, request)
    other.execute("ROLLBACK")
    other.close()
    assert "CERTIFICATE" in authority.enroll("a", token.secret, request)["certificate"]
    with pytest.raises(IdentityError, match="used before"):
        authority.enroll("a", token.secret, request)
    authority.close()

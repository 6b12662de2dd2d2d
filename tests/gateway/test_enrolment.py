"""Invitations and certificates: the ways in, and every way that is refused."""

import json
import stat
import subprocess
import sys
from pathlib import Path
from typing import Iterator, List, Tuple

import pytest

from orchestrator.errors import IdentityError, UsageError
from orchestrator.gateway.authority import Authority
from orchestrator.gateway.enrolment import EnrolmentServer
from orchestrator.node.identity import NodeIdentity, enroll, make_node_request
from orchestrator.wire.pki import make_request, new_key
from orchestrator.wire.token import Token

MAIN = [sys.executable, "-m", "orchestrator.cli.main"]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "gateway", "icu", ["127.0.0.1"])


@pytest.fixture
def server(authority: Authority) -> Iterator[str]:
    running = EnrolmentServer(authority.folder, ("127.0.0.1", 0), "mqtts://127.0.0.1:8883")
    yield f"https://127.0.0.1:{running.port}"
    running.close()


def audited(authority: Authority) -> List[Tuple[str, str]]:
    lines = map(json.loads, authority.audit.path.read_text().splitlines())
    return [(line["event"], line.get("reason", "")) for line in lines]


def test_a_token_brings_an_identity_and_the_key_stays_on_the_node(
    authority: Authority, server: str, tmp_path: Path
) -> None:
    token = authority.invite("a", server)
    identity = enroll(tmp_path / "a", Token.parse(str(token)))
    assert (identity.name, identity.federation, identity.broker) == ("a", "icu", "mqtts://127.0.0.1:8883")
    assert stat.S_IMODE((tmp_path / "a" / "node.key").stat().st_mode) == 0o600
    key = (tmp_path / "a" / "node.key").read_text().splitlines()[1]
    assert not any(key in p.read_text(errors="ignore") for p in authority.folder.iterdir())
    assert not any(token.secret in p.read_text(errors="ignore") for p in authority.folder.iterdir())
    assert authority.active() == {"a"}
    assert [event for event, _ in audited(authority)] == ["identity_made", "invited", "enrolled"]


def test_private_keys_are_private_and_nothing_is_overwritten(authority: Authority) -> None:
    for name in ("ca.key", "gateway.key", "signing.key"):
        assert stat.S_IMODE((authority.folder / name).stat().st_mode) == 0o600
    with pytest.raises(IdentityError, match="never overwritten"):
        Authority.create(authority.folder, "icu", [])


def test_every_wrong_token_has_its_own_reason(authority: Authority, server: str, tmp_path: Path) -> None:
    request = make_request(new_key(), "a", "icu")
    token = authority.invite("a", server)
    with pytest.raises(IdentityError, match="invites 'a', not 'b'"):
        authority.enroll("b", token.secret, make_request(new_key(), "b", "icu"))
    with pytest.raises(IdentityError, match="the request is for 'b', not 'a'"):
        authority.enroll("a", token.secret, make_request(new_key(), "b", "icu"))
    authority.enroll("a", token.secret, request)
    with pytest.raises(IdentityError, match="used before"):
        authority.enroll("a", token.secret, request)
    with pytest.raises(IdentityError, match="not known here"):
        authority.enroll("a", "guess", request)
    late = authority.invite("late", server, hours=1e-9)
    with pytest.raises(IdentityError, match="expired"):
        enroll(tmp_path / "late", late)
    refused = [reason for event, reason in audited(authority) if event == "enrolment_refused"]
    assert len(refused) == 5
    assert len(set(refused)) == 5


def test_a_wrong_authority_gets_no_secret(authority: Authority, server: str, tmp_path: Path) -> None:
    other = Authority.create(tmp_path / "other", "icu", [])
    token = other.invite("a", server)
    with pytest.raises(IdentityError, match="Nothing was sent"):
        enroll(tmp_path / "a", token)
    assert audited(authority)[-1][0] == "identity_made"


def test_a_monitor_enrolls_as_a_node_does(authority: Authority, server: str, tmp_path: Path) -> None:
    assert enroll(tmp_path / "m", authority.invite("monitor:ward", server)).name == "monitor:ward"


def test_names_that_mean_something_else_are_refused(authority: Authority) -> None:
    for name in ("gateway", "all", "a/b", "monitor:", "+", "Big"):
        with pytest.raises(UsageError):
            authority.invite(name, "https://x:1")


def test_a_revoked_name_can_be_invited_anew(authority: Authority, tmp_path: Path) -> None:
    authority.sign(make_request(new_key(), "a", "icu"), "a")
    with pytest.raises(IdentityError, match="revoke it first"):
        authority.invite("a", "https://x:1")
    with pytest.raises(IdentityError, match="revoke it first"):
        authority.sign(make_request(new_key(), "a", "icu"), "a")
    assert audited(authority)[-1][0] == "signing_refused"
    before = (authority.folder / "crl.pem").read_bytes()
    assert authority.revoke("a") == 1
    assert (authority.folder / "crl.pem").read_bytes() != before
    assert authority.active() == set()
    with pytest.raises(IdentityError, match="neither a certificate"):
        authority.revoke("a")
    authority.invite("a", "https://x:1")


def test_a_request_for_an_identity_that_exists_is_refused(authority: Authority, server: str, tmp_path: Path) -> None:
    enroll(tmp_path / "a", authority.invite("a", server))
    with pytest.raises(IdentityError, match="never overwritten"):
        make_node_request(tmp_path / "a", "a", "icu")


def test_the_offline_way_through_the_commands(tmp_path: Path) -> None:
    def edgeward(*words: object) -> str:
        done = subprocess.run([*MAIN, *map(str, words)], capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        return done.stdout

    made = edgeward("gateway", "init", tmp_path / "g", "--federation", "icu", "--host", "10.0.0.1")
    fingerprint = made.splitlines()[0].split()[-1]
    edgeward(
        "node",
        "request",
        "--name",
        "a",
        "--federation",
        "icu",
        "--identity",
        tmp_path / "a",
        "--out",
        tmp_path / "a.csr",
    )
    signed = ["--identity", tmp_path / "g", "--name", "a", "--broker", "mqtts://10.0.0.1:8883"]
    edgeward("gateway", "sign", tmp_path / "a.csr", *signed, "--out", tmp_path / "a.json")
    wrong = [*MAIN, "node", "install", str(tmp_path / "a.json"), "--identity", str(tmp_path / "a"), "--ca", "00"]
    done = subprocess.run(wrong, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    assert "another authority" in done.stderr
    edgeward("node", "install", tmp_path / "a.json", "--identity", tmp_path / "a", "--ca", fingerprint)
    assert NodeIdentity(tmp_path / "a").broker == "mqtts://10.0.0.1:8883"
    assert "whole" in edgeward("gateway", "audit", tmp_path / "g", "--verify")
    assert "enrolled" in edgeward("gateway", "audit", tmp_path / "g")

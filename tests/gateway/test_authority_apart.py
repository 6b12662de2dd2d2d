"""An authority that is not on the gateway's machine: what the gateway can do without its key, and cannot."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Tuple

import pytest

from orchestrator.errors import IdentityError
from orchestrator.gateway.apart import (
    CERTIFICATES_FILE,
    create_authority,
    install_gateway,
    publish,
    read_answer,
    request_gateway,
    sign_gateway,
)
from orchestrator.gateway.authority import Authority
from orchestrator.gateway.membership import Membership
from orchestrator.gateway.mosquitto import access_list, write_configuration
from orchestrator.node.identity import NodeIdentity, install, make_node_request
from orchestrator.wire.envelope import EVERYONE
from orchestrator.wire.pki import make_request, new_key

MAIN = [sys.executable, "-m", "orchestrator.cli.main"]


def made(folder: Path) -> Tuple[Authority, Authority]:
    """(authority, gateway)"""
    authority = create_authority(folder / "authority", "icu")
    request = request_gateway(folder / "gateway", "icu", ["10.0.0.1"])
    gateway = install_gateway(folder / "gateway", sign_gateway(authority, request), authority.ca_fingerprint)
    return authority, gateway


def enrolled(authority: Authority, folder: Path, name: str) -> NodeIdentity:
    return install(folder / name, authority.sign(make_node_request(folder / name, name, "icu"), name))


def test_a_gateway_works_without_the_authoritys_key(tmp_path: Path) -> None:
    authority, gateway = made(tmp_path)
    assert not list(gateway.folder.glob("ca.key"))
    assert not (authority.folder / "signing.key").exists()
    assert gateway.hosts == ["10.0.0.1", "localhost", "127.0.0.1"]
    node = enrolled(authority, tmp_path, "a")
    authority.sign(make_request(new_key(), "monitor:m", "icu"), "monitor:m")
    membership = Membership(gateway)
    assert "no valid certificate" in str(membership.objection("a")), "not before the gateway was brought the news"
    assert gateway.install_certificates(authority.certificates()) == 2
    assert membership.objection("a") is None
    assert membership.revocations_changed()
    assert "user monitor:m" in access_list(gateway)
    assert "crl.pem" in write_configuration(gateway, 8883).read_text()
    opened = node.opener().open(gateway.sealer().seal(b"task", EVERYONE, 1))
    assert opened.content == b"task"
    assert gateway.log.entries() == authority.log.entries()
    authority.revoke("a")
    gateway.install_certificates(authority.certificates())
    assert membership.objection("a") is not None
    assert membership.revocations_changed()
    assert Authority(gateway.folder).active() == {"monitor:m"}


def test_a_gateway_apart_certifies_nobody_and_says_where_that_is_done(tmp_path: Path) -> None:
    _, gateway = made(tmp_path)
    request = make_request(new_key(), "a", "icu")
    for attempt in (
        lambda: gateway.sign(request, "a"),
        lambda: gateway.invite("a", "https://x:1"),
        lambda: gateway.revoke("a"),
        lambda: gateway.write_crl(),
        lambda: gateway.check_online(),
    ):
        with pytest.raises(IdentityError, match="on another machine.*edgeward authority sign"):
            attempt()
    assert gateway.active() == set()


def test_an_authority_apart_invites_nobody_and_signs_nodes_once_it_knows_the_gateway(tmp_path: Path) -> None:
    authority = create_authority(tmp_path / "authority", "icu")
    with pytest.raises(IdentityError, match="sign the gateway's request first"):
        authority.sign(make_request(new_key(), "a", "icu"), "a")
    with pytest.raises(IdentityError, match="nodes bring requests"):
        authority.invite("a", "https://x:1")
    request = request_gateway(tmp_path / "gateway", "icu", [])
    sign_gateway(authority, request)
    with pytest.raises(IdentityError, match="has a certificate; revoke it first"):
        sign_gateway(authority, request)
    assert authority.revoke("gateway") == 1
    sign_gateway(authority, request)
    with pytest.raises(IdentityError, match="of federation 'other'"):
        sign_gateway(authority, {**request, "federation": "other"})


def test_a_gateway_takes_an_answer_for_its_key_from_the_named_authority_only(tmp_path: Path) -> None:
    authority, other = create_authority(tmp_path / "authority", "icu"), create_authority(tmp_path / "other", "icu")
    request = request_gateway(tmp_path / "gateway", "icu", [])
    answer, wrong = sign_gateway(authority, request), sign_gateway(other, request)
    strange = sign_gateway(other, request_gateway(tmp_path / "strange", "icu", [])) if other.revoke("gateway") else {}
    lies: Dict[str, Dict[str, Any]] = {
        "another authority": wrong,
        "not signed by the authority": {**answer, "certificate": wrong["certificate"]},
        "not the authority's, or does not fit": {**answer, "crl": wrong["crl"]},
        "not the authority's, or were changed": {**answer, "log": wrong["log"]},
        "lacks one of": {key: value for key, value in answer.items() if key != "crl"},
    }
    for why, lie in lies.items():
        with pytest.raises(IdentityError, match=why):
            install_gateway(tmp_path / "gateway", lie, authority.ca_fingerprint)
        assert not (tmp_path / "gateway" / "ca.crt").exists(), "nothing is installed by halves"
    with pytest.raises(IdentityError, match="not for the key there"):
        install_gateway(tmp_path / "gateway", strange, other.ca_fingerprint)
    node = authority.sign(make_request(new_key(), "a", "icu"), "a")
    with pytest.raises(IdentityError, match="not for the key there"):
        install_gateway(tmp_path / "gateway", {**answer, "certificate": node["certificate"]}, authority.ca_fingerprint)
    install_gateway(tmp_path / "gateway", answer, authority.ca_fingerprint)


def test_old_or_changed_certificates_are_not_installed(tmp_path: Path) -> None:
    authority, gateway = made(tmp_path)
    enrolled(authority, tmp_path, "a")
    old = authority.certificates()
    authority.revoke("a")
    new = authority.certificates()
    gateway.install_certificates(new)
    head, crl = gateway.log.head, (gateway.folder / "crl.pem").read_bytes()
    forged = [*new["log"][:-1], {**new["log"][-1], "name": "b"}]
    for lie in (old, {**new, "crl": old["crl"]}, {**new, "log": forged}, {**new, "log": new["log"][1:]}, {}):
        with pytest.raises(IdentityError):
            gateway.install_certificates(lie)
        assert (gateway.log.head, (gateway.folder / "crl.pem").read_bytes()) == (head, crl)
    assert gateway.active() == set()
    assert gateway.install_certificates(new) == 0
    with pytest.raises(IdentityError, match="its own authority"):
        Authority.create(tmp_path / "single", "icu", []).install_certificates(new)


def test_every_certificate_is_in_the_log_with_its_key(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "single", "icu", [])
    enrolled(authority, tmp_path, "a")
    authority.revoke("a")
    entries = authority.log.entries()
    assert [(e.event, e.name) for e in entries] == [("issued", "gateway"), ("issued", "a"), ("revoked", "a")]
    assert entries[1].key == entries[2].key
    assert entries[1].serial == entries[2].serial
    with pytest.raises(IdentityError):
        authority.sign(make_request(new_key(), "b", "icu"), "c")
    assert authority.log.entries() == entries, "what was not issued is not in it"


@pytest.mark.slow
def test_the_whole_way_through_the_commands(tmp_path: Path) -> None:
    def edgeward(*words: object, code: int = 0) -> str:
        done = subprocess.run([*MAIN, *map(str, words)], capture_output=True, text=True, timeout=850, cwd=tmp_path)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    ca = edgeward("authority", "init", "authority", "--federation", "icu").splitlines()[0].split()[-1]
    edgeward("gateway", "init", "identity", "--federation", "icu", "--host", "10.0.0.1", "--request", "gateway.json")
    apart = ["--authority", "authority"]
    edgeward("authority", "sign", "gateway.json", "--name", "gateway", *apart, "--out", "answer.json")
    assert "--ca" in edgeward("gateway", "install", "answer.json", "--identity", "identity", code=2)
    edgeward("gateway", "install", "answer.json", "--identity", "identity", "--ca", ca)
    edgeward("node", "request", "--name", "a", "--federation", "icu", "--identity", "a", "--out", "a.csr")
    signed = edgeward("authority", "sign", "a.csr", "--name", "a", *apart, "--out", "a.json")
    edgeward("node", "install", "a.json", "--identity", "a", "--ca", ca)
    assert edgeward("node", "fingerprint", "--identity", "a").strip() in signed
    assert "2 in all" in edgeward("gateway", "install", "authority/certificates.json", "--identity", "identity")
    assert Authority(tmp_path / "identity").active() == {"a"}
    for verb in (["invite", "b"], ["revoke", "a"], ["sign", "a.csr", "--name", "b", "--out", "b.json"]):
        refused = edgeward("gateway", verb[0], *verb[1:], "--identity", "identity", code=2)
        assert "authority is on another machine" in refused
    edgeward("authority", "revoke", "a", *apart)
    edgeward("gateway", "install", "authority/certificates.json", "--identity", "identity")
    assert Authority(tmp_path / "identity").active() == set()
    log = json.loads(edgeward("authority", "log", "--json", *apart))
    assert [(entry["event"], entry["name"]) for entry in log] == [
        ("issued", "gateway"),
        ("issued", "a"),
        ("revoked", "a"),
    ]
    assert "revoked" in edgeward("authority", "log", *apart)
    assert read_answer(tmp_path / "authority" / CERTIFICATES_FILE)["log"] == log
    assert "whole" in edgeward("gateway", "audit", "identity", "--verify")


def test_what_is_carried_is_a_file_of_this_kind(tmp_path: Path) -> None:
    authority, _ = made(tmp_path)
    assert read_answer(publish(authority)) == authority.certificates()
    for content in ("", "[]", "{"):
        (tmp_path / "x.json").write_text(content)
        with pytest.raises(IdentityError):
            read_answer(tmp_path / "x.json")
    with pytest.raises(IdentityError):
        read_answer(tmp_path / "none.json")

"""When a running gateway hears of a revocation."""

import threading
import time
from pathlib import Path

import pytest

from orchestrator.gateway import membership
from orchestrator.gateway.authority import Authority
from orchestrator.gateway.membership import Membership
from orchestrator.wire.pki import make_request, new_key


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority.create(tmp_path / "id", "ward", ["127.0.0.1"])
    made.sign(make_request(new_key(), "a", "ward"), "a")
    return made


def test_the_list_that_is_written_after_the_store_is_waited_for(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker reads the list: to end a node's connection before it is there would let the node in again."""
    monkeypatch.setattr(membership, "LIST_S", 300.0)
    members, write = Membership(authority), authority.write_crl
    with monkeypatch.context() as between:
        between.setattr(authority, "write_crl", lambda: None)
        authority.revoke("a")
    assert members.objection("a") is not None
    heard = []

    def ask() -> None:
        other = Authority(
            authority.folder
        )  # SQLite's connections are of one thread; it writes the list that is missing
        other.close()

    writer = threading.Timer(0.3, ask)
    writer.start()
    heard.append(members.revocations_changed())
    writer.join()
    assert heard == [True]
    assert not members.revocations_changed()
    write()
    assert members.revocations_changed()


def test_a_list_that_does_not_come_is_waited_for_once(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "LIST_S", 0.2)
    members = Membership(authority)
    monkeypatch.setattr(authority, "write_crl", lambda: None)
    authority.revoke("a")
    assert not members.revocations_changed()
    monkeypatch.setattr(membership, "LIST_S", 3600.0)
    began = time.monotonic()
    assert not members.revocations_changed()
    assert time.monotonic() - began < 3600.0

"""What a node makes of the certificate log a gateway shows it: nobody else under its name, nobody outside it, one for all."""

from pathlib import Path
from typing import Any, List, Tuple

import pytest

from orchestrator.errors import PrivacyError
from orchestrator.gateway.authority import Authority
from orchestrator.node.identity import NodeIdentity, install, make_node_request
from orchestrator.node.peers import NO_LOG, NOT_LOGGED, OTHER_LOG, Peers
from orchestrator.node.store import NodeStore
from orchestrator.wire.transparency import EMPTY, Entry, view_of


def enrol(authority: Authority, folder: Path, name: str) -> NodeIdentity:
    return install(folder / name, authority.sign(make_node_request(folder / name, name, "icu"), name))


def opened(folder: Path, name: str) -> Peers:
    """At first sight, so that what is refused is refused by the log."""
    return Peers(name, NodeStore(folder / f"{name}.sqlite"), NodeIdentity(folder / name), first_sight=True)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "ca", "icu", [])


@pytest.fixture
def pair(authority: Authority, tmp_path: Path) -> Tuple[Peers, Peers]:
    for name in "ab":
        enrol(authority, tmp_path, name)
    return opened(tmp_path, "a"), opened(tmp_path, "b")


def refused(peers: Peers, entries: Any, why: str) -> None:
    before = peers.view()
    with pytest.raises(PrivacyError, match=why):
        peers.see_log(entries)
    assert peers.view() == before, "nothing of it is kept"


def test_nodes_who_saw_the_same_log_have_the_same_view_over_restarts(
    authority: Authority, pair: Tuple[Peers, Peers], tmp_path: Path
) -> None:
    a, b = pair
    assert a.view() == b.view() == view_of(EMPTY)
    log = authority.log.entries()
    for peers in (a, b, a):
        assert peers.see_log(log) == 3
    assert a.view() == b.view() == view_of(authority.log.head)
    assert opened(tmp_path, "a").view() == a.view()
    enrol(authority, tmp_path, "c")
    a.see_log(authority.log.entries()[3:])
    assert a.view() != b.view()
    assert a.view(3) == b.view(3) == b.view(), "who saw more can go back to what the others saw"
    for seen in (-1, 4):
        with pytest.raises(PrivacyError, match="that this node has not seen"):
            b.view(seen)


def test_a_log_that_forgets_or_changes_is_refused_also_after_a_restart(
    authority: Authority, pair: Tuple[Peers, Peers], tmp_path: Path
) -> None:
    a, _ = pair
    log = authority.log.entries()
    a.see_log(log)
    other = Authority.create(tmp_path / "other", "icu", [])
    forged: List[Entry] = [*log[:-1], log[-1]._replace(key="0" * 64)]
    shorter = [log[0], log[1]._replace(at=7)]
    for peers in (a, opened(tmp_path, "a")):
        for shown in (shorter, forged, other.log.entries(), (*log[:2], log[1])):
            refused(peers, shown, "does not continue the one this node saw before")


def test_a_run_goes_by_the_log_it_began_with_and_what_was_revoked_since_stays_revoked(
    authority: Authority, pair: Tuple[Peers, Peers]
) -> None:
    """Another run showed this node more, or the gateway shows less than it could."""
    a, b = pair
    log = authority.log.entries()
    authority.revoke("b")
    a.see_log(authority.log.entries())
    assert a.see_log(log) == 3
    assert a.see_log(()) == 0
    with pytest.raises(PrivacyError, match=NO_LOG):
        a.see_log((), needed=True)
    assert a.view() == view_of(authority.log.head)
    for seen in (0, 3, 4):
        with pytest.raises(PrivacyError, match=NOT_LOGGED):
            a.admit_all({"b": b.credential}, seen=seen)


def test_a_log_of_somebody_who_is_not_the_authority_is_refused(
    authority: Authority, pair: Tuple[Peers, Peers], tmp_path: Path
) -> None:
    """A gateway whose authority is elsewhere cannot lengthen the log either."""
    a, _ = pair
    a.see_log(authority.log.entries())
    added = Entry(4, "issued", "c", "1" * 64, "5", 1, authority.log.head.hash, authority.log.entries()[-1].signature)
    refused(a, (added,), "does not continue the one")


def test_nobody_else_gets_this_nodes_name(authority: Authority, pair: Tuple[Peers, Peers], tmp_path: Path) -> None:
    a, b = pair
    a.see_log(authority.log.entries())
    authority.revoke("a")
    refused(
        a, authority.log.entries(), "as the only one under its name"
    )  # a node whose certificate is revoked stays out
    (tmp_path / "puppet").mkdir()
    enrol(authority, tmp_path / "puppet", "a")
    refused(a, authority.log.entries(), "as the only one under its name")
    authority.revoke("a")
    refused(a, authority.log.entries(), "as the only one under its name")
    b.see_log(authority.log.entries())


def test_a_log_without_this_node_is_refused(authority: Authority, tmp_path: Path) -> None:
    enrol(authority, tmp_path, "b")
    log = authority.log.entries()
    enrol(authority, tmp_path, "a")
    a = opened(tmp_path, "a")
    refused(a, log, "as the only one under its name")
    a.see_log(authority.log.entries())


def test_a_node_that_was_enrolled_again_is_the_one_under_its_name(authority: Authority, tmp_path: Path) -> None:
    enrol(authority, tmp_path / "old", "a")
    authority.revoke("a")
    enrol(authority, tmp_path, "a")
    opened(tmp_path, "a").see_log(authority.log.entries())


def test_a_peer_is_believed_with_its_newest_certificate_in_the_log_only(
    authority: Authority, pair: Tuple[Peers, Peers], tmp_path: Path
) -> None:
    """Certified beside the log, left out of it, revoked in it, or replaced by another."""
    a, b = pair
    a.see_log(authority.log.entries())
    a.admit("b", b.credential)
    enrol(authority, tmp_path, "c")
    c = opened(tmp_path, "c")
    with pytest.raises(PrivacyError, match=NOT_LOGGED):
        a.admit("c", c.credential)
    a.see_log(authority.log.entries())
    a.admit("c", c.credential)
    authority.revoke("b")
    a.see_log(authority.log.entries())
    with pytest.raises(PrivacyError, match=NOT_LOGGED):
        a.admit("b", b.credential)
    assert not a.verify("b", b"m", b.sign(b"m"))


def test_a_peer_beyond_what_all_nodes_of_a_sum_were_shown_is_not_in_it(
    authority: Authority, pair: Tuple[Peers, Peers], tmp_path: Path
) -> None:
    """A gateway that shows one node more than the others: the entries all of them have bound who may be in their sum."""
    a, b = pair
    enrol(authority, tmp_path, "c")
    c = opened(tmp_path, "c")
    a.see_log(authority.log.entries())
    credentials = {"b": b.credential, "c": c.credential}
    with pytest.raises(PrivacyError, match=NOT_LOGGED):
        a.admit_all(credentials, seen=3)
    a.admit_all(credentials, seen=4)
    assert a.verify("c", b"m", c.sign(b"m"))


def test_certificates_older_than_the_log_are_known_by_their_serial(
    authority: Authority, tmp_path: Path, pair: Tuple[Peers, Peers]
) -> None:
    """An authority that an older version made did not note keys."""
    _, b = pair
    authority.database.execute("DELETE FROM certificate_log")
    authority.close()
    again = Authority(tmp_path / "ca")
    entries = again.log.entries()
    assert [(entry.name, bool(entry.key)) for entry in entries] == [("gateway", True), ("a", False), ("b", False)]
    a = opened(tmp_path, "a")
    a.see_log(entries)
    a.admit("b", b.credential)
    again.revoke("b")
    puppet = install(tmp_path / "p", again.sign(make_node_request(tmp_path / "p", "b", "icu"), "b"))
    a.see_log(again.log.entries())
    with pytest.raises(PrivacyError, match=NOT_LOGGED):
        a.admit("b", b.credential)
    with pytest.raises(PrivacyError, match="another key than when"):
        a.admit("b", Peers("b", NodeStore(tmp_path / "p.sqlite"), puppet).credential)


def test_a_certificate_whose_key_the_log_hides_is_refused_once_the_log_names_keys(
    authority: Authority, pair: Tuple[Peers, Peers]
) -> None:
    """Under one serial an authority can certify any number of keys: such an entry would show no puppet."""
    a, _ = pair
    with authority.database:
        authority.log.append(authority.ca_key(), "issued", "c", "", "1234")
    refused(a, authority.log.entries(), OTHER_LOG)


def test_without_an_identity_there_is_no_log(tmp_path: Path, authority: Authority) -> None:
    a = Peers("a", NodeStore(tmp_path / "a.sqlite"))
    a.see_log(authority.log.entries())
    assert a.view() == a.view(5) == view_of(EMPTY)

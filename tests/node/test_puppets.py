"""A gateway that is the authority, and would be all the peers of one node: certified puppets under enrolled names."""

import shutil
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest
from encrypted_federation import Federation as EncryptedFederation
from encrypted_federation import everybody
from masked_federation import NODES, Federation, make_task, mean_of

from orchestrator.errors import PrivacyError
from orchestrator.gateway.authority import Authority
from orchestrator.node.identity import NodeIdentity, install, make_node_request
from orchestrator.node.peers import UNCONFIRMED, Peers
from orchestrator.node.roster import Roster
from orchestrator.node.secure import MaskedRound
from orchestrator.node.store import NodeStore
from orchestrator.privacy.ckks import KeyHolder, SumPlan, context_message
from orchestrator.privacy.secure_sum import session_id
from orchestrator.rounds.steps import KEYS, MASKED, NEXT, PREPARED, SHARES, UNMASK
from orchestrator.wire.transparency import write_log


def certified(authority: Authority, folder: Path, name: str) -> NodeIdentity:
    """What the gateway makes for a puppet as well as for a node: for any key, under any name."""
    if name in authority.active():
        authority.revoke(name)
    return install(folder / name, authority.sign(make_node_request(folder / name, name, "test"), name))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "ca", "test", [])


def with_puppets(folder: Path, authority: Authority, confirmed: Dict[str, str], victim: str = "a") -> Federation:
    """A federation whose every node but the victim, enrolled before, is the gateway's."""
    federation = Federation(folder)
    real = {name: certified(authority, folder / "real", name) for name in NODES}
    confirmed.update({name: Peers(name, NodeStore(folder / "x.sqlite"), i).fingerprint for name, i in real.items()})
    for name, store in federation.stores.items():
        identity = real[name] if name == victim else certified(authority, folder / "puppets", name)
        federation.peers[name] = Peers(name, store, identity, lambda: Roster(confirmed), first_sight=name != victim)
    return federation


def test_puppets_under_enrolled_names_get_no_share_and_no_vector(tmp_path: Path, authority: Authority) -> None:
    """Each certificate is the authority's, and the node has met nobody before."""
    federation = with_puppets(tmp_path, authority, {})
    federation.until(SHARES)
    with pytest.raises(PrivacyError) as caught:
        federation.step(SHARES, ["a"])
    assert str(caught.value) == UNCONFIRMED
    assert not federation.computed
    assert {peer.name for peer in federation.stores["a"].peers.pending()} >= {"b"}


def test_one_puppet_among_confirmed_peers_is_enough_to_refuse(tmp_path: Path) -> None:
    confirmed: Dict[str, str] = {}
    federation = confirmed_federation(tmp_path, confirmed)
    federation.until(MASKED)
    federation.attempt, confirmed["c"] = 2, "0" * 64
    federation.until(SHARES)
    with pytest.raises(PrivacyError, match=UNCONFIRMED[:30]):
        federation.step(SHARES, ["a"])


def confirmed_federation(folder: Path, confirmed: Dict[str, str], **aggregation: Any) -> Federation:
    """Without identities; all nodes go by the same list, which may change while they run."""
    federation = Federation(folder, make_task(**aggregation))
    for name, store in federation.stores.items():
        federation.peers[name] = Peers(name, store, roster=lambda: Roster(confirmed))
    confirmed.update({name: peers.fingerprint for name, peers in federation.peers.items()})
    return federation


@pytest.mark.parametrize("word", ["", "0" * 64])
def test_a_peer_withdrawn_after_keys_were_exchanged_gets_no_vector(tmp_path: Path, word: str) -> None:
    confirmed: Dict[str, str] = {}
    federation = confirmed_federation(tmp_path, confirmed)
    federation.until(MASKED)
    confirmed["b"] = word
    with pytest.raises(PrivacyError, match="keys of b are not signed by b"):
        federation.step(MASKED, ["a"])
    assert not federation.computed


def test_a_peer_withdrawn_after_vectors_were_sent_is_not_counted_among_those_who_confirm(tmp_path: Path) -> None:
    confirmed: Dict[str, str] = {}
    federation = confirmed_federation(tmp_path, confirmed)
    federation.until(MASKED)
    federation.step(MASKED)
    confirmed["b"] = ""
    with pytest.raises(PrivacyError, match="4 parties signed this list of survivors, 5 are needed"):
        federation.step(UNMASK, ["a"])


def test_a_peer_withdrawn_between_rounds_is_in_no_prepared_sum(tmp_path: Path) -> None:
    confirmed: Dict[str, str] = {}
    federation = confirmed_federation(tmp_path, confirmed)
    federation.begin()
    for step in (KEYS, SHARES):
        federation.step(step)
    coming = {name: header[NEXT] for name, (header, _) in federation.step(MASKED).items()}
    opened = federation.step(UNMASK, lie=lambda _, message: {**message, NEXT: coming})
    shares = {name: header[NEXT]["shares"]["a"] for name, (header, _) in opened.items() if name != "a"}
    first = federation.rounds["a"]
    message = {"round": 2, "attempt": PREPARED}
    rest = (dict(federation.model), "a", federation.peers["a"], federation.stores["a"], federation.contribute_of("a"))
    following = MaskedRound("test", first.run, message, *rest, first.following)
    confirmed["b"] = "0" * 64
    form = {"bits": 32, "parties": 5, "units": 150, "records": 150}
    with pytest.raises(PrivacyError, match="keys of b are not signed by b"):
        following.answer({"step": MASKED, "shares": shares, **form})
    confirmed["b"] = federation.peers["b"].fingerprint


# Encrypted sums


def strict(federation: EncryptedFederation, roster: Roster) -> None:
    for name, store in federation.stores.items():
        federation.peers[name] = Peers(name, store, federation.identity(name), lambda: roster)


JOURNAL = bytes(32)


def test_a_gateway_that_certifies_a_key_holder_of_its_own_gets_nothing_encrypted(
    tmp_path: Path, authority: Authority
) -> None:
    pytest.importorskip("tenseal")
    federation = EncryptedFederation(tmp_path, authority=authority)
    true = federation.context()
    puppet = Peers("keys", NodeStore(tmp_path / "evil.sqlite"), certified(authority, tmp_path / "evil", "keys"))
    plan = SumPlan(federation.layout().size, 4)
    public = KeyHolder(plan, 3).public_context()
    signature = puppet.sign(context_message(session_id("test", "run", 1, 1), public, 3, JOURNAL))
    evil = (
        {"signature": signature, "credential": puppet.credential, "journal": JOURNAL},
        {"context": np.frombuffer(public, np.uint8)},
    )
    for roster in (Roster({}), Roster({}, federation.agent.peers.fingerprint)):
        strict(federation, roster)
        with pytest.raises(PrivacyError, match=UNCONFIRMED[:30]):
            federation.node("a", evil)
    assert not federation.computed
    federation.node("a", true)


def test_a_key_holder_opens_sums_of_confirmed_nodes_only(tmp_path: Path, authority: Authority) -> None:
    """With three puppets that encrypt zeros beside one victim, the opened sum would be the victim's vector."""
    pytest.importorskip("tenseal")
    federation = EncryptedFederation(tmp_path, authority=authority)
    words = {name: peers.fingerprint for name, peers in federation.peers.items()}
    held = federation.agent
    state = NodeStore(tmp_path / "keys" / "node.sqlite")
    held.peers = Peers("keys", state, federation.identity("keys"), lambda: Roster(words))
    answers = everybody(federation, federation.context())
    assert "sum" in federation.decrypt(answers)[1]
    words["d"] = "0" * 64
    answers = everybody(federation, federation.context(number=2), number=2)
    with pytest.raises(PrivacyError, match=UNCONFIRMED[:30]):
        federation.decrypt(answers, number=2)


# The certificate log


def logged_federation(folder: Path, authority: Authority) -> Federation:
    federation = Federation(folder)
    for name, store in federation.stores.items():
        identity = certified(authority, folder / "real", name)
        federation.peers[name] = Peers(name, store, identity, first_sight=True)
    federation.store.keep_certificates("run", write_log(authority.log.entries()))
    federation.begin()  # makes the nodes' runs
    return federation


def test_nodes_who_were_shown_the_same_log_open_their_sum(tmp_path: Path, authority: Authority) -> None:
    federation = logged_federation(tmp_path, authority)
    for name, peers in federation.peers.items():
        federation.runs[name].certificates = peers.see_log(authority.log.entries())
    federation.until(UNMASK)
    federation.step(UNMASK)
    np.testing.assert_allclose(federation.open(), mean_of(NODES), atol=5e-3)


@pytest.mark.parametrize("shown", ["another", "none"])
def test_a_gateway_that_shows_one_node_another_log_opens_nothing(
    tmp_path: Path, authority: Authority, shown: str
) -> None:
    """It is the authority, so both logs are signed; one of them has a certificate that the other hides."""
    federation = logged_federation(tmp_path, authority)
    shutil.copytree(authority.folder, tmp_path / "fork")
    fork = Authority(tmp_path / "fork")
    for one in (authority, fork):
        certified(one, tmp_path / one.folder.name / "later", "z")
    for name, peers in federation.peers.items():
        log = fork.log.entries() if name == "b" else authority.log.entries()
        hidden = name == "b" and shown == "none"
        federation.runs[name].certificates = None if hidden else peers.see_log(log)
    federation.until(UNMASK)
    with pytest.raises(PrivacyError, match="1 parties signed this list of survivors, 3 are needed"):
        federation.step(UNMASK, ["b"])
    federation.step(UNMASK, [name for name in NODES if name != "b"])
    with pytest.raises(PrivacyError, match="the sum of 'update' is over"):
        federation.open()  # what comes out is under masks that did not cancel

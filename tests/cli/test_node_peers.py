"""The owner's word on peers, as typed, and that a running node goes by it."""

import json
from pathlib import Path
from typing import Any, Tuple

import pytest

from orchestrator.cli.main import main
from orchestrator.errors import PrivacyError
from orchestrator.gateway.authority import Authority
from orchestrator.node.gatekeeper import Gatekeeper
from orchestrator.node.identity import NodeIdentity, install, make_node_request
from orchestrator.node.ledger import LEDGER_FILE, Ledger
from orchestrator.node.peers import Peers
from orchestrator.node.roster import grouped
from orchestrator.node.store import NodeStore


class Node:
    """A running node: its gatekeeper and peers are open while the owner types."""

    def __init__(self, folder: Path, name: str, identity: NodeIdentity) -> None:
        self.state, self.name = folder / f"state-{name}", name
        self.store = NodeStore(self.state / "node.sqlite")
        self.keeper = Gatekeeper(self.state, self.store, None, identity)
        self.peers = Peers(name, self.store, identity, self.keeper.roster)


@pytest.fixture
def nodes(tmp_path: Path) -> Tuple[Node, Node]:
    authority = Authority.create(tmp_path / "ca", "icu", [])

    def enrol(name: str) -> NodeIdentity:
        request = make_node_request(tmp_path / f"id-{name}", name, "icu")
        return install(tmp_path / f"id-{name}", authority.sign(request, name))

    return Node(tmp_path, "a", enrol("a")), Node(tmp_path, "b", enrol("b"))


def said(capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    assert main(["node", *map(str, words), "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def test_owners_compare_confirm_and_withdraw_while_the_node_runs(
    nodes: Tuple[Node, Node], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    a, b = nodes
    own = said(capsys, "fingerprint", "--identity", tmp_path / "id-b")
    assert own == {"name": "b", "fingerprint": b.peers.fingerprint}
    with pytest.raises(PrivacyError):
        a.peers.admit("b", b.peers.credential)
    shown = said(capsys, "peers", "--state", a.state)
    assert [(p["name"], p["fingerprint"]) for p in shown["pending"]] == [("b", own["fingerprint"])]
    assert main(["node", "peers", "--state", str(a.state)]) == 0
    assert grouped(own["fingerprint"]) in capsys.readouterr().out
    blocks = grouped(own["fingerprint"][:32].upper()).split()
    shown = said(capsys, "peers", "trust", "b", *blocks, "--state", a.state)
    assert (shown["confirmed"], shown["pending"]) == ({"b": own["fingerprint"]}, [])
    a.peers.admit("b", b.peers.credential)
    shown = said(capsys, "peers", "distrust", "b", "--state", a.state)
    assert (shown["confirmed"], shown["distrusted"]) == ({}, ["b"])
    with pytest.raises(PrivacyError):
        a.peers.admit("b", b.peers.credential)
    kinds = [entry["kind"] for entry in Ledger(a.state / LEDGER_FILE).entries()]
    assert kinds == ["opened", "trust", "distrust"], "what the owner said is evidence, in the chain"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["c", "ab" * 16], "no key of c was shown here yet: give all 64"),
        (["b", "ab" * 16], "this is not the key that was shown as b's"),
        (["b", "ab" * 15], "expected 64 hex digits"),
        (["b", "zz" * 32], "expected 64 hex digits"),
        (["B!", "ab" * 32], "peer 'B!'"),
        (["b"], "trust NAME FINGERPRINT"),
    ],
)
def test_what_is_mistyped_confirms_nobody(
    nodes: Tuple[Node, Node], capsys: pytest.CaptureFixture[str], words: Any, why: str
) -> None:
    a, b = nodes
    with pytest.raises(PrivacyError):
        a.peers.admit("b", b.peers.credential)
    assert main(["node", "peers", "trust", *words, "--state", str(a.state)]) == 2
    assert why in capsys.readouterr().err
    assert a.keeper.roster().peers == {}


def test_a_key_is_confirmed_for_one_name_only_and_before_it_was_seen_in_full(
    nodes: Tuple[Node, Node], capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = nodes
    said(capsys, "peers", "trust", "b", b.peers.fingerprint, "--state", a.state)
    a.peers.admit("b", b.peers.credential)
    assert main(["node", "peers", "trust", "c", b.peers.fingerprint, "--state", str(a.state)]) == 1
    assert "confirmed as that of b" in capsys.readouterr().err


def test_keys_a_gateway_shows_do_not_keep_the_owner_from_confirming_the_right_one(
    nodes: Tuple[Node, Node], capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = nodes
    for number in range(10):
        a.store.peers.note_pending("b", str(number) * 64)
    said(capsys, "peers", "trust", "b", b.peers.fingerprint, "--state", a.state)
    a.peers.admit("b", b.peers.credential)


def test_whom_the_certificate_log_names_can_be_confirmed_before_any_sum(
    nodes: Tuple[Node, Node], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    a, b = nodes
    a.peers.see_log(Authority(tmp_path / "ca").log.entries())
    shown = said(capsys, "peers", "--state", a.state)
    assert shown["enrolled"]["b"] == b.peers.fingerprint
    shown = said(capsys, "peers", "trust", "b", b.peers.fingerprint[:32], "--state", a.state)
    assert "b" not in shown["enrolled"]
    a.peers.admit("b", b.peers.credential)


def test_a_node_without_an_identity_has_a_fingerprint_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["node", "fingerprint", "--state", str(tmp_path)]) == 2
    assert "no node has run there" in capsys.readouterr().err
    store = NodeStore(tmp_path / "node.sqlite")
    assert said(capsys, "fingerprint", "--state", tmp_path)["fingerprint"] == Peers("a", store).fingerprint

"""Attack: the gateway is all the peers, under the names of real nodes, and shares the noise among as many as it likes. Promise: a
node sums only with keys its owner confirmed, and with at least the noise, neighbours and few sharers its owner asks for."""

import hashlib
import math
from dataclasses import replace
from typing import Any, Dict, List

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from inside import INPUTS, csv_of, make_task, model
from malicious import Attack, Victim
from watch import OpenWatch

from orchestrator.privacy.secure_sum import Party, Session, session_id
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.task import Rounds, Task

NAMES = ("icu-2", "icu-3", "icu-4")
NOISE: Dict[str, Any] = {name: 4.0 for name in Privacy.__dataclass_fields__ if name.endswith("noise_multiplier")}


class Peer:
    """Somebody with a key of their own, under any name: a real node elsewhere, or the gateway's puppet."""

    def __init__(self, name: str) -> None:
        self.name, self.key = name, Ed25519PrivateKey.generate()
        self.credential = self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.fingerprint = hashlib.sha256(self.credential).hexdigest()

    def keys(self, session: Session) -> Dict[str, bytes]:
        """As a node's answer to the step "keys"."""
        advert = Party(session, self.name, self.key.sign, lambda *_: True).advertise()
        known = {"channel": advert.channel_key, "mask": advert.mask_key, "signature": advert.signature}
        return {**known, "commitment": advert.commitment, "credential": self.credential}


REAL, PUPPETS = ({name: Peer(name) for name in NAMES} for _ in range(2))
CONFIRMED = '[require]\nstages = ["masked"]\n[require.peers]\n' + "".join(
    f'"{name}" = "{peer.fingerprint}"\n' for name, peer in REAL.items()
)


def task(privacy: Privacy = Privacy(), **aggregation: Any) -> Task:  # noqa: B008 (immutable)
    asked = Aggregation(**{"method": "masked", "honest": 4, **aggregation})
    shared = replace(privacy, epsilon=50.0, delta=1e-4, noise="distributed", **NOISE)
    return make_task(privacy=shared, aggregation=asked, rounds=Rounds(asked.least, asked.least))


@pytest.fixture(scope="module")
def node(victim: Victim, linear_graph: bytes) -> Attack:
    rows = [(*(0.01 * ((i * k) % 40) for k in (1, 3, 7)), i % 2, f"p{i}") for i in range(40)]
    attack = victim(csv_of([*(f"x{i}" for i in range(INPUTS)), "y", "who"], rows), CONFIRMED)
    attack.gateway.graph = linear_graph
    return attack


def shares_asked(node: Attack, run: str, peers: List[Peer]) -> Dict[str, Any]:
    """A round's first two steps with these peers; the node's answer to the second."""
    gateway, process = node
    process.rule(CONFIRMED)
    asked = task()
    assert gateway.offer(process.name, run, asked)["kind"] == "ready"
    about = {"run": run, "round": 1, "attempt": 1}
    own = gateway.ask(process.name, {"kind": "round", **about}, model()).header
    assert own.get("step") == "keys", own
    secure = asked.aggregation
    session = Session(session_id(gateway.federation, run, 1, 1), secure.neighbours, secure.least, secure.colluding)
    fields = ("channel", "mask", "signature", "commitment", "credential")
    adverts = {process.name: {name: own[name] for name in fields}, **{p.name: p.keys(session) for p in peers}}
    return gateway.ask(process.name, {"kind": "step", **about, "step": "shares", "adverts": adverts}).header


def test_puppets_under_confirmed_names_get_no_shares(node: Attack) -> None:
    word = shares_asked(node, "puppets", list(PUPPETS.values()))
    assert (word["kind"], word.get("code")) == ("abstain", "sum.peers")
    assert "reason" not in word


@pytest.mark.parametrize("name", NAMES)
def test_one_puppet_among_real_peers_is_enough_to_abstain(node: Attack, name: str) -> None:
    word = shares_asked(node, f"one-{name}", list({**REAL, name: PUPPETS[name]}.values()))
    assert (word["kind"], word.get("code")) == ("abstain", "sum.peers")


def test_one_more_than_the_owner_confirmed_is_enough_to_abstain(node: Attack) -> None:
    word = shares_asked(node, "more", [*REAL.values(), Peer("icu-5")])
    assert (word["kind"], word.get("code")) == ("abstain", "sum.peers")


def test_a_real_peer_twice_under_two_names_is_enough_to_abstain(node: Attack) -> None:
    twice = Peer("icu-3")
    twice.key, twice.credential = REAL["icu-2"].key, REAL["icu-2"].credential
    word = shares_asked(node, "twice", [REAL["icu-2"], twice, REAL["icu-4"]])
    assert (word["kind"], word.get("code")) == ("abstain", "sum.peers")


def test_confirmed_peers_get_shares(node: Attack) -> None:
    """So that the refusals above are of the keys alone."""
    word = shares_asked(node, "real", list(REAL.values()))
    assert (word["kind"], word.get("step")) == ("step", "shares"), word
    assert sorted(word["shares"]) == sorted(NAMES)


NOBODY = '[require]\nstages = ["masked"]\n'
OWN = NOISE["noise_multiplier"] / math.sqrt(4)
LIMITS = {
    "peers": (NOBODY, task(), ("waiting", "policy.peers")),
    "too few peers": (CONFIRMED, task(honest=5), ("waiting", "policy.peers")),
    "honest": (CONFIRMED + "[allow]\nhonest = 3\n", task(), ("declined", "policy.noise")),
    "neighbours": (
        CONFIRMED.replace("[require]\n", "[require]\nneighbours = 30\n"),
        task(neighbours=20),
        ("declined", "policy.noise"),
    ),
    "own noise": (
        CONFIRMED.replace("[require]\n", f"[require]\nown_noise = {OWN * 1.01}\n"),
        task(),
        ("declined", "policy.noise"),
    ),
    "own noise, thinned by a large number of sharers": (
        CONFIRMED.replace("[require]\n", f"[require]\nown_noise = {OWN}\n"),
        task(honest=4000),
        ("declined", "policy.noise"),
    ),
}


@pytest.mark.parametrize("which", LIMITS)
def test_what_the_owner_asks_for_is_asked_before_the_file_is_opened(node: Attack, which: str) -> None:
    gateway, process = node
    policy, asked, expected = LIMITS[which]
    process.rule(policy)
    run = which.replace(" ", "-").replace(",", "")
    with OpenWatch(process.data) as watch:
        word = gateway.offer(process.name, run, asked)
        assert (word["kind"], word.get("code")) == expected
        assert watch.opened == 0


def test_a_task_within_all_limits_is_taken(node: Attack) -> None:
    gateway, process = node
    rules = f"[require]\nneighbours = 10\nown_noise = {OWN * 0.99}\n"
    process.rule(CONFIRMED.replace("[require]\n", rules) + "[allow]\nhonest = 4\n")
    assert gateway.offer(process.name, "fits", task())["kind"] == "ready"


def test_a_key_holder_the_owner_did_not_name_gets_no_ciphertext(node: Attack) -> None:
    """Under CKKS the gateway's own key holder would read every node: the task waits until its key is confirmed."""
    pytest.importorskip("tenseal")
    gateway, process = node
    policy = CONFIRMED.replace('"masked"', '"ckks"')
    asked = task(method="ckks", key_holder="keys")
    for i, rules in enumerate((policy, policy.replace("[require]\n", f'[require]\nkey_holder = "{"0" * 64}"\n'))):
        process.rule(rules)
        with OpenWatch(process.data) as watch:
            word = gateway.offer(process.name, f"ckks-{i}", asked)
            if i == 0:
                assert (word["kind"], word.get("code")) == ("waiting", "policy.peers")
                assert watch.opened == 0
    about = {"run": "ckks-1", "round": 1, "attempt": 1, "step": "encrypted"}
    form = {"bits": 24, "parties": 4, "units": 100, "records": 100, "signature": b"s" * 64}
    header = {"kind": "round", **about, **form, "credential": PUPPETS["icu-2"].credential}
    import numpy as np

    answer = gateway.ask(process.name, header, {**model(), "context": np.zeros(100, np.uint8)}).header
    assert answer["kind"] == "abstain"
    assert "reason" not in answer

"""Attack: a gateway asks a key holder, a real process, to open what would show one node's pad: sums of too few, of one node under
several names, of ciphertexts of another attempt, of nodes that were told different things, or a second sum of a round. Promise:
it says one sum of a round, over as many nodes as the task names, each of which signed its part for this attempt; else a code."""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple

import numpy as np
import pytest

pytest.importorskip("tenseal", reason="TenSEAL is not installed here")

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from inside import make_task
from malicious import MaliciousGateway, Transfer

from orchestrator.gateway.broker import OwnBroker
from orchestrator.privacy.ckks import Encryptor, Hidden, Receiver, Summand, sign_summand
from orchestrator.privacy.secure_sum import session_id
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.refusals import TEXTS
from orchestrator.wire.task import Rounds
from orchestrator.wire.training import Training

FEDERATION, RUN, SIZE = "key-holder", "run", 8
TOLD = b"t" * 32


class Puppet:
    """A node of the gateway's making."""

    def __init__(self, name: str) -> None:
        self.name, self._key = name, Ed25519PrivateKey.generate()
        self.credential = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def part(self, context: Transfer, told: bytes = TOLD, name: str = "") -> "Part":
        session = session_id(FEDERATION, RUN, context.header["round"], context.header["attempt"])
        hidden = Encryptor(context.tensors["context"].tobytes()).hide(np.arange(SIZE), name or self.name, session)
        signed = sign_summand(name or self.name, hidden, session, self._key.sign, told)
        return Part(hidden, {**{f: getattr(signed, f) for f in Summand._fields[1:]}, "credential": self.credential})


class Part(NamedTuple):
    hidden: Hidden
    signed: Dict[str, Any]


PUPPETS = [Puppet(f"p{i}") for i in range(3)]


class Attacked:
    """One key holder and the gateway that attacks it."""

    def __init__(self, gateway: MaliciousGateway) -> None:
        self.gateway = gateway

    def ask(self, number: int, attempt: int = 1, tensors: Any = None, **header: Any) -> Transfer:
        about = {"kind": "step", "run": RUN, "round": number, "attempt": attempt, **header}
        return self.gateway.ask("keys", about, tensors)

    def context(self, number: int, attempt: int = 1) -> Transfer:
        return self.ask(number, attempt, step="context", parties=5, size=SIZE)

    def open(self, number: int, parts: Dict[str, Part], attempt: int = 1, told: bytes = TOLD) -> Transfer:
        """Its answer: to the signatures where it refuses these, else to the last ciphertext."""
        before = len(self.gateway.transfers)
        header = {"kind": "step", "run": RUN, "round": number, "attempt": attempt, "step": "decrypt"}
        self.gateway.send("keys", {**header, "summands": {n: p.signed for n, p in parts.items()}, "told": told})
        for name, part in parts.items():
            ciphertext = np.frombuffer(part.hidden.ciphertext, np.uint8)
            self.gateway.send("keys", {**header, "party": name}, {"ciphertext": ciphertext})
        return self.gateway.until(lambda: next(iter(self.gateway.transfers[before:]), None), "an answer", "keys")


@pytest.fixture(scope="module")
def attacked(attacked_broker: OwnBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    """It has no policy, so it accepts puppets; their pads are the gateway's own, and nothing may be learned beside them."""
    state: Path = tmp_path_factory.mktemp("keys")
    where = [
        "--broker",
        str(attacked_broker.address),
        "--federation",
        FEDERATION,
        "--name",
        "keys",
        "--state",
        str(state),
    ]
    with ExitStack() as running:
        gateway = running.enter_context(MaliciousGateway(attacked_broker.address, FEDERATION))
        process = subprocess.Popen([sys.executable, "-m", "orchestrator.cli.main", "keyholder", "run", *where])
        running.callback(process.wait)
        running.callback(process.kill)
        gateway.until(lambda: gateway.seen("keys"), "the key holder")
        aggregation = Aggregation("ckks", key_holder="keys")
        training, rules = Training("fedsgd", rounds=20), Rounds(5, 5)
        task = make_task(training=training, privacy=Privacy(unit="none"), aggregation=aggregation, rounds=rules)
        assert gateway.offer("keys", RUN, task)["kind"] == "ready"
        yield Attacked(gateway)


def parts_of(context: Transfer, puppets: List[Puppet] = PUPPETS) -> Dict[str, Part]:
    return {puppet.name: puppet.part(context) for puppet in puppets}


def refused(answer: Transfer) -> None:
    """A code, and nothing else."""
    assert not answer.tensors
    assert set(answer.header) == {"kind", "run", "round", "attempt", "code"}
    assert answer.header["code"] in TEXTS


def test_a_sum_of_all_who_signed_is_opened_and_no_second_one_of_its_round(attacked: Attacked) -> None:
    context = attacked.context(1)
    parts = parts_of(context)
    answer = attacked.open(1, parts)
    masked = [part.hidden.masked for part in parts.values()]
    total = Receiver(context.tensors["context"].tobytes()).open(masked, answer.tensors["sum"])
    np.testing.assert_array_equal(total, 3 * np.arange(SIZE))
    refused(attacked.context(1, attempt=2))


def test_a_sum_of_two_is_refused_and_another_attempt_has_other_keys(attacked: Attacked) -> None:
    context = attacked.context(2)
    refused(attacked.open(2, parts_of(context, PUPPETS[:2])))
    again = attacked.context(2, attempt=2)
    assert again.tensors["context"].tobytes() != context.tensors["context"].tobytes()
    assert attacked.open(2, parts_of(again), attempt=2).tensors["sum"].size == SIZE


def test_one_node_under_three_names_is_no_three_nodes(attacked: Attacked) -> None:
    context = attacked.context(3)
    refused(attacked.open(3, {name: PUPPETS[0].part(context, name=name) for name in ("p0", "q", "r")}))


def test_ciphertexts_of_another_attempt_or_round_are_refused(attacked: Attacked) -> None:
    earlier = parts_of(attacked.context(4))
    context = attacked.context(4, attempt=2)
    refused(attacked.open(4, {**parts_of(context), "p1": earlier["p1"]}, attempt=2))
    context = attacked.context(5)
    refused(attacked.open(5, {**parts_of(context), "p1": earlier["p1"]}))


def test_nodes_that_were_told_different_things_are_in_no_sum(attacked: Attacked) -> None:
    context = attacked.context(6)
    refused(attacked.open(6, {**parts_of(context), "p2": PUPPETS[2].part(context, told=b"other".ljust(32))}))


def test_the_same_ciphertext_twice_is_refused(attacked: Attacked) -> None:
    context = attacked.context(7)
    parts = parts_of(context)
    swapped = parts["p1"]._replace(hidden=parts["p0"].hidden)
    refused(attacked.open(7, {**parts, "p1": swapped}))

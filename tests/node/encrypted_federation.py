"""Nodes and a key holder in one process, and between them a gateway that says what a test wants."""

from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional

import numpy as np
from agent_at_post import AtPost, Body
from agent_at_post import logged as log_of

from orchestrator.data.dataset import Dataset
from orchestrator.errors import PrivacyError
from orchestrator.gateway.authority import Authority
from orchestrator.node.contribution import Contribution
from orchestrator.node.encrypted import EncryptedRound
from orchestrator.node.identity import NodeIdentity, install, make_node_request
from orchestrator.node.key_holder import KeyHolderAgent
from orchestrator.node.peers import Peers
from orchestrator.node.run import Run
from orchestrator.node.store import NodeStore
from orchestrator.privacy.ckks import (
    BITS,
    Receiver,
    Summand,
)
from orchestrator.privacy.secure_sum import digest_of_announced
from orchestrator.privacy.vector_layout import Layout, parts_of
from orchestrator.wire.post import Post
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.refusals import TEXTS
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Task, task_to_dict
from orchestrator.wire.training import Training
from orchestrator.wire.transparency import write_log

SIZE, RECORDS = 5, 10
NODES = ("a", "b", "c", "d")


def task(honest: int = 3, holder: str = "keys") -> Task:
    schema = Schema(
        "table", "y", ("no", "yes"), {"0": 0, "1": 1}, features=(Feature("x", 0, 1),), standardization="range"
    )
    aggregation = Aggregation("ckks", honest=honest, key_holder=holder, update_range=8.0)
    rules = Rounds(nodes=4, quorum=4)
    return Task("t", schema, {"kind": "none"}, Training(rounds=3), Privacy(unit="none"), rules, aggregation=aggregation)


class Federation:
    """Key holder and nodes, and the gateway's messages between them, which a test may change."""

    def __init__(self, folder: Path, a_task: Optional[Task] = None, authority: Optional[Authority] = None) -> None:
        self.folder, self.task, self.authority = folder, a_task or task(), authority
        self.asked = 0
        self.stores = {name: NodeStore(folder / f"{name}.sqlite") for name in NODES}
        self.peers = {n: Peers(n, store, self.identity(n), first_sight=True) for n, store in self.stores.items()}
        self.key_holder()
        self.computed: List[str] = []

    def identity(self, name: str) -> Optional[NodeIdentity]:
        if self.authority is None:
            return None
        folder = self.folder / f"id-{name}"
        if folder.exists():
            return NodeIdentity(folder)
        request = make_node_request(folder, name, "test")
        return install(folder, self.authority.sign(request, name), self.authority.ca_fingerprint)

    def key_holder(self, told: Optional[Task] = None, logged: bool = True) -> None:
        """Begins it, or begins it again with what it left on the disk."""
        identity = self.identity("keys")
        self.agent = KeyHolderAgent(Post(), "test", "keys", self.folder / "keys", identity=identity)
        self.holder = AtPost(self.agent, self.authority)
        self.announce(told, logged)

    def announce(self, told: Optional[Task] = None, logged: bool = True) -> None:
        header: Dict[str, Any] = {"kind": "task", "run": "run", "task": task_to_dict(told or self.task)}
        if self.authority is not None and logged:
            header["certificates"] = write_log(self.authority.log.entries())
        self.holder.hear(header, {"graph": np.zeros(1, np.uint8)})

    @property
    def sent(self) -> List[Body]:
        """What the key holder sent since it began, but for its presence."""
        return [body for body in self.holder.heard if "instance" not in body[0]]

    def ask(self, step: str, attempt: int = 1, number: int = 1, **fields: Any) -> Body:
        """The key holder's answer; for an abstention, whose code travels, what its log says is raised."""
        tensors = {name: value for name, value in fields.items() if isinstance(value, np.ndarray)}
        header = {name: value for name, value in fields.items() if name not in tensors}
        about = {"kind": "step", "run": "run", "round": number, "attempt": attempt, "step": step}
        self.asked += 1  # or the same question again would be the same transfer
        with log_of("edgeward.node") as lines:
            answers = self.holder.hear({**about, **header, "asked": self.asked}, tensors)
        if not answers:
            return {}, {}
        (answer,) = answers
        if answer[0]["kind"] == "abstain":
            assert set(answer[0]) == {"kind", "run", "round", "attempt", "code"}
            assert answer[0]["code"] in TEXTS
            (reason,) = [line.split(" abstained: ")[1] for line in lines if " abstained: " in line]
            raise PrivacyError(reason)
        return answer

    def context(self, attempt: int = 1, number: int = 1) -> Body:
        return self.ask("context", attempt, number, parties=4, size=self.layout(number).size)

    def mean(self, context: Body, answers: Dict[str, Body], opened: Body, number: int = 1) -> np.ndarray:
        """What the gateway reads."""
        masked = (tensors["masked"].tobytes() for _, tensors in answers.values())
        total = Receiver(context[1]["context"].tobytes()).open(masked, opened[1]["sum"])
        return np.asarray(self.layout(number).decode(total)["update"].values)

    def layout(self, number: int = 1) -> Layout:
        return Layout(parts_of(self.task, number, SIZE), BITS, 4, 4 * RECORDS, 4 * RECORDS)

    def node(self, name: str, context: Body, attempt: int = 1, number: int = 1, **lies: Any) -> Body:
        """A node's answer to the round's message."""
        header, tensors = context
        form = {"bits": BITS, "parties": 4, "units": 4 * RECORDS, "records": 4 * RECORDS}
        told = {name: header[name] for name in ("journal", "signature", "credential")}
        about = {"run": "run", "round": number, "attempt": attempt, "step": "encrypted"}
        weights = lies.pop("weights", np.zeros(SIZE, np.float32))
        message = {**about, **form, **told, **lies}
        data = Dataset(np.zeros((RECORDS, 1), np.float32), np.zeros(RECORDS, np.int32))
        run = Run("run", "digest", self.task, b"", data, data)

        def contribute(*_: Any) -> Contribution:
            self.computed.append(name)
            return Contribution({"update": value_of(name)}, {}, {})

        shown = {"weights": weights, "context": tensors["context"]}
        one = EncryptedRound("test", run, message, shown, name, self.peers[name], self.stores[name], contribute)
        return one.answer(message)

    def decrypt(
        self, answers: Dict[str, Body], attempt: int = 1, number: int = 1, left_out: Iterable[str] = ()
    ) -> Body:
        """Shows the key holder signatures and ciphertexts; its last answer."""
        fields = (*Summand._fields[1:], "credential")
        summands = {name: {field: header[field] for field in fields} for name, (header, _) in answers.items()}
        told = digest_of_announced("digest", self.layout(number).form, {"weights": np.zeros(SIZE, np.float32)})
        last = self.ask("decrypt", attempt, number, summands=summands, told=told)
        for name, (_, tensors) in answers.items():
            if name not in left_out:
                last = self.ask("decrypt", attempt, number, party=name, ciphertext=tensors["ciphertext"])
        return last


def value_of(name: str) -> np.ndarray:
    return np.full(SIZE, 0.1 * (1 + NODES.index(name)), np.float32)


def everybody(federation: Federation, context: Body, attempt: int = 1, number: int = 1) -> Dict[str, Body]:
    return {name: federation.node(name, context, attempt, number) for name in NODES}

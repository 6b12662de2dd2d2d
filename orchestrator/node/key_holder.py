"""Who holds the key of encrypted sums: `edgeward keyholder run`, on a machine of somebody who is not the gateway.

It joins a run like a node, without data. Every attempt at a round has keys of its own, in this process's memory only: who
takes this machine later opens nothing of what was recorded, and a restart needs a new attempt, nothing else. It opens a sum of
as many nodes as the task says, each of whom signed its ciphertext, and one sum of a round, whatever the gateway asks: two of
them differ in what single nodes sent. The opened sum is stored before it is sent, and sent again when it is asked for again.
"""

import logging
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional, Tuple

import numpy as np

from orchestrator.errors import EdgewardError, PrivacyError, UsageError, WireError
from orchestrator.node.agent import MAX_MESSAGE_BYTES, NodeAgent
from orchestrator.node.approval import digest_of
from orchestrator.node.contribution import Run
from orchestrator.node.data import Dataset
from orchestrator.node.identity import NodeIdentity
from orchestrator.privacy.ckks import CheckedSum, KeyHolder, Summand, SumPlan, context_message, most_bits
from orchestrator.privacy.ckks_blocks import tenseal
from orchestrator.privacy.secure_sum import Verify, session_id
from orchestrator.rounds.secure import CONTEXT, DECRYPT
from orchestrator.wire.body import decode_body, encode_body, require
from orchestrator.wire.link import BrokerAddress
from orchestrator.wire.process import peak_memory_mib
from orchestrator.wire.task import Task, task_from_dict

log = logging.getLogger("edgeward.keyholder")

Tensors = Dict[str, np.ndarray]
Key = Tuple[str, int, int]
"""(run, round, attempt)"""


class _Attempt(NamedTuple):
    """Keys of one attempt, and the answer that made them known."""

    key: Key
    holder: KeyHolder
    answer: bytes


class KeyHolderAgent(NodeAgent):
    """Serves the runs whose tasks name it, until `stop`, or until the first is over with `once`."""

    def __init__(
        self,
        broker: BrokerAddress,
        federation: str,
        name: str,
        state: Path,
        once: bool = False,
        identity: Optional[NodeIdentity] = None,
    ) -> None:
        super().__init__(broker, federation, name, state, state, once=once, identity=identity)
        self._store.before_release = None  # sums are other people's releases: their ledgers count them
        self._attempt: Optional[_Attempt] = None
        self._sum: Optional[CheckedSum] = None
        self._refused: Optional[Key] = None
        self._before_task: Optional[Tuple[Dict[str, Any], Tensors]] = None  # a step that came before its task

    def _take_task(self, header: Dict[str, Any], tensors: Tensors) -> None:
        run = require(header, "run", str)
        if "graph" not in tensors:
            raise WireError("the task came without its training graph")
        if self._run is not None and self._run.id != run:
            self._forget()
        self._run = None
        try:
            task = task_from_dict(require(header, "task", dict), "the gateway's task")
            self._check_role(task)
        except (UsageError, PrivacyError) as error:
            log.error("declined run %s: %s", run, error)
            self._set_presence(kind="declined", run=run, code="task")
            return
        graph = tensors["graph"].tobytes()
        nothing = Dataset(np.zeros((0, *task.schema.input_shape), np.float32), np.zeros(0, np.int32))
        self._run = Run(run, digest_of(header["task"], graph), task, graph, nothing, nothing)
        log.info("run %s: key holder of task %r, at least %d nodes a sum", run, task.name, task.aggregation.least)
        self._set_presence(kind="ready", run=run, records=0, units=0, role="key holder")
        early, self._before_task = self._before_task, None
        if early is not None:
            self._take_step(*early)

    def _check_role(self, task: Task) -> None:
        if task.aggregation.key_holder != self._name:
            named = task.aggregation.key_holder or "nobody"
            raise UsageError(f"task {task.name!r} names {named} as its key holder, not {self._name}")
        tenseal()

    def _answer_round(self, header: Dict[str, Any], tensors: Tensors) -> None:
        """What a gateway broadcasts to its nodes; a key holder waits for its own steps."""

    def _take_step(self, header: Dict[str, Any], tensors: Tensors) -> None:
        told = tuple(require(header, name, kind) for name, kind in (("run", str), ("round", int), ("attempt", int)))
        key: Key = (told[0], told[1], told[2])
        step = require(header, "step", str)
        if step not in (CONTEXT, DECRYPT):
            raise WireError(f"a key holder has no step {step!r} in this version")
        if key == self._refused and step == DECRYPT:
            return  # what was under way when it said no
        if self._run is None or self._run.id != key[0]:
            self._before_task = (header, tensors)  # it was acknowledged, so it does not come again
            return
        try:
            body = self._context(key, header) if step == CONTEXT else self._decrypt(key, header, tensors)
        except EdgewardError as error:
            # Nothing of this attempt will be opened from here on: the gateway may begin another.
            self._forget()
            self._refused = key
            self._abstain(header, error)
            return
        if body is not None:
            self._send(body)

    def _forget(self) -> None:
        self._attempt = self._sum = None

    def _opened(self, key: Key) -> Optional[bytes]:
        """The answer that said the sum of this attempt; PrivacyError where that of another attempt was said."""
        assert self._run is not None
        body = self._store.released(key[0], key[1], self._run.digest)
        if body is None:
            return None
        attempt = int(decode_body(body, MAX_MESSAGE_BYTES)[0]["attempt"])
        if attempt != key[2]:
            raise PrivacyError(
                f"the sum of attempt {attempt} at round {key[1]} was opened; with another, single nodes' values could be told"
            )
        return body

    def _context(self, key: Key, header: Dict[str, Any]) -> bytes:
        if self._attempt is not None and self._attempt.key == key:
            return self._attempt.answer
        assert self._run is not None
        if self._opened(key) is not None:
            raise PrivacyError(f"the sum of round {key[1]} was opened, and its keys are gone")
        size, parties, bits = (require(header, name, int) for name in ("size", "parties", "bits"))
        aggregation = self._run.task.aggregation
        if parties < aggregation.least or not 2 <= bits <= most_bits(parties):
            raise PrivacyError(f"keys for {parties} nodes and {bits} bits were asked for")
        holder = KeyHolder(SumPlan(size, parties, float((1 << (bits - 1)) - 1), 1.0), aggregation.least)
        public = holder.public_context()
        message = context_message(self._session(key), public, aggregation.least, aggregation.checked)
        fields = {"signature": self._peers.sign(message), "credential": self._peers.credential}
        answer = self._answer(key, CONTEXT, fields, {"context": np.frombuffer(public, np.uint8)})
        self._forget()
        self._attempt = _Attempt(key, holder, answer)
        log.info("round %d, attempt %d: keys for %d values", key[1], key[2], size)
        return answer

    def _decrypt(self, key: Key, header: Dict[str, Any], tensors: Tensors) -> Optional[bytes]:
        """The answer with the sum; None while ciphertexts of it are missing."""
        opened = self._opened(key)
        if opened is not None:
            return opened
        if self._attempt is None or self._attempt.key != key:
            raise PrivacyError("the keys of this attempt are gone: this key holder began anew, or has made newer ones")
        assert self._run is not None
        if not self._run.task.aggregation.checked:
            terms = self._terms(key, header)
            return self._say(key, self._attempt.holder.decrypt_sum(_bytes(tensors, "total"), *terms))
        if "party" not in header:
            if self._sum is None:
                self._sum = self._attempt.holder.check(*self._terms(key, header))
            return None  # asked by a gateway that began anew: what is in stays in
        if self._sum is None:
            raise PrivacyError("a ciphertext came before the signatures")
        party = require(header, "party", str)
        if party in self._sum.missing:
            self._sum.add(_bytes(tensors, "ciphertext"))
        if self._sum.missing:
            return None
        return self._say(key, self._sum.open())

    def _terms(self, key: Key, header: Dict[str, Any]) -> Tuple[bytes, Tuple[Summand, ...], Verify, bytes]:
        """What a sum has to answer to: session, who signed what, by which keys, and what all of them were told."""
        return self._session(key), self._summands(header), self._peers.verify, require(header, "told", bytes)

    def _summands(self, header: Dict[str, Any]) -> Tuple[Summand, ...]:
        found = []
        for name, told in require(header, "summands", dict).items():
            if name == self._name or not isinstance(told, dict):
                raise PrivacyError(f"a vector of {name} does not belong into a sum this key holder opens")
            self._peers.admit(name, require(told, "credential", bytes))
            found.append(Summand(name, require(told, "digest", bytes), require(told, "signature", bytes)))
        return tuple(found)

    def _say(self, key: Key, values: np.ndarray) -> bytes:
        assert self._run is not None
        body = self._answer(key, DECRYPT, {}, {"sum": np.rint(values).astype(np.int64)})
        self._store.release(key[0], key[1], self._run.digest, body)
        self._forget()
        log.info("round %d, attempt %d: the sum is opened", key[1], key[2])
        return body

    def _answer(self, key: Key, step: str, fields: Dict[str, Any], tensors: Tensors) -> bytes:
        about = {"kind": "step", "run": key[0], "round": key[1], "attempt": key[2], "step": step}
        return encode_body({**about, **fields, "memory_mib": peak_memory_mib()}, tensors, level=1)

    def _session(self, key: Key) -> bytes:
        return session_id(self._federation, *key)


def _bytes(tensors: Tensors, name: str) -> bytes:
    tensor = tensors.get(name)
    if tensor is None:
        raise WireError(f"a sum was to be opened without its {name}")
    return tensor.tobytes()

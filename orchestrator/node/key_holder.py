"""Who holds the key of encrypted sums: `edgeward keyholder run`, on a machine of somebody who is not the gateway.

It joins a run like a node, without data. What it decrypts are nodes' one-time pads (privacy/ckks.py), and what it says is their
sum: of the vectors it sees nothing, as long as nobody shows it the masked ones.

Every attempt at a round has keys of its own, in this process's memory only: who takes this machine later opens nothing of what
was recorded, and a restart needs a new attempt, nothing else. Keys are made for as many attempts at a round as the task allows,
once for each, and are gone after a sum or a refusal. It opens a sum of as many nodes as the task says, each of whom signed its
ciphertext, and one sum of a round, whatever the gateway asks: two of them differ in what single nodes sent. The opened sum is
stored before it is sent, and sent again when it is asked for again.

A ciphertext that does not pass (privacy/ckks.py) is named here, in this log, with its node. The gateway gets one text, whichever
and however many it were, once all are in: anything more would tell of the secret key.
"""

import logging
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional, Tuple

import numpy as np

from orchestrator.data.dataset import Dataset
from orchestrator.errors import EdgewardError, PeerError, PrivacyError, UsageError, WireError
from orchestrator.node.identity import NodeIdentity
from orchestrator.node.intake import MAX_MESSAGE_BYTES, most_for_key_holder, training_graph
from orchestrator.node.key_journal import KeyJournal, second_sum
from orchestrator.node.member import Member, Tensors
from orchestrator.node.run import Run
from orchestrator.privacy.ckks import CheckedSum, KeyHolder, Summand, SumPlan, UnsoundSumError, context_message
from orchestrator.privacy.ckks_blocks import tenseal
from orchestrator.privacy.secure_sum import Verify, session_id
from orchestrator.rounds.steps import CONTEXT, DECRYPT
from orchestrator.wire.announcing import TaskAnnounced
from orchestrator.wire.body import decode_body, encode_body
from orchestrator.wire.encrypted_steps import Ciphertext, KeysAsked, KeysMade, Terms, Vouched
from orchestrator.wire.link import Broker
from orchestrator.wire.presence import RunDeclined, RunReady
from orchestrator.wire.secure_steps import Attempt, Step
from orchestrator.wire.task import Task, digest_of, task_from_dict
from orchestrator.wire.transparency import read_log

log = logging.getLogger("edgeward.keyholder")
milestones = logging.getLogger("edgeward.keyholder.milestones")

Key = Tuple[str, int, int]
"""(run, round, attempt)"""


class _Attempt(NamedTuple):
    """Keys of one attempt, and the answer that made them known."""

    key: Key
    holder: KeyHolder
    answer: bytes


class KeyHolderAgent(Member):
    """Serves the runs whose tasks name it. The sums it says are other people's releases: their ledgers count them."""

    def __init__(
        self,
        broker: Broker,
        federation: str,
        name: str,
        state: Path,
        once: bool = False,
        identity: Optional[NodeIdentity] = None,
        policy: Optional[Path] = None,
    ) -> None:
        """`policy`: whose [require] peers, with the ledger's confirmations, are all whose vectors are opened."""
        super().__init__(broker, federation, name, state, once, identity=identity, policy=policy)
        self._journal = KeyJournal(state / "keys.sqlite")
        self._attempt: Optional[_Attempt] = None
        self._sum: Optional[CheckedSum] = None
        self._refused: Optional[Key] = None
        self._before_task: Optional[Tuple[Dict[str, Any], Tensors]] = None  # a step that came before its task

    def _close(self) -> None:
        self._journal.close()
        super()._close()

    def _most_unpacked(self, header: Dict[str, Any]) -> int:
        return most_for_key_holder(header, None if self._attempt is None else self._attempt.holder.plan)

    def _take_task(self, header: Dict[str, Any], tensors: Tensors) -> None:
        announced = TaskAnnounced.read(header)
        run = announced.run
        try:
            task = task_from_dict(announced.task, "the gateway's task")
            graph = training_graph(task, tensors)
            self._check_role(task)
            certificates = self.peers.see_log(read_log(announced.certificates), needed=True)
        except (UsageError, PrivacyError) as error:
            log.error("declined run %s: %s", run, error)
            self.runs.end(run)
            self.presence.say(RunDeclined(run, error.code if isinstance(error, PeerError) else "task"))
            return
        nothing = Dataset(np.zeros((0, *task.schema.input_shape), np.float32), np.zeros(0, np.int32))
        if self._run is not None and self._run.id != run:
            self._forget()
        self.runs.begin(Run(run, digest_of(announced.task, graph), task, graph, nothing, nothing, certificates))
        milestones.info(
            "run %s: key holder of task %r, at least %d nodes a sum", run, task.name, task.aggregation.least
        )
        self.presence.say(RunReady(run, 0, 0, "key holder"))
        early, self._before_task = self._before_task, None
        if early is not None:
            self._take_step(*early)

    def _check_role(self, task: Task) -> None:
        if task.aggregation.key_holder != self.name:
            named = task.aggregation.key_holder or "nobody"
            raise UsageError(f"task {task.name!r} names {named} as its key holder, not {self.name}")
        tenseal()

    def _answer_round(self, header: Dict[str, Any], tensors: Tensors) -> None:
        """What a gateway broadcasts to its nodes; a key holder waits for its own steps."""

    def _take_step(self, header: Dict[str, Any], tensors: Tensors) -> None:
        asked = Step.read(header)
        key: Key = (asked.run, asked.round, asked.attempt)
        step = asked.step
        if step not in (CONTEXT, DECRYPT):
            raise WireError(f"a key holder has no step {step!r} in this version")
        if key == self._refused and step == DECRYPT:
            return  # what was under way when it said no
        if self._run is not None and self._run.id != key[0] and self.runs.find(key[0]) is not None:
            self._forget()  # keys are for one attempt of one run at a time
        if not self.runs.turn_to(key[0]):
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
        body = self.store.released(key[0], key[1], self._run.digest)
        if body is None:
            self._journal.check_unopened(key[0], key[1])
            return None
        attempt = Attempt.read(decode_body(body, MAX_MESSAGE_BYTES)[0]).attempt
        if attempt != key[2]:
            raise second_sum(attempt, key[1])
        return body

    def _context(self, key: Key, header: Dict[str, Any]) -> bytes:
        if self._attempt is not None and self._attempt.key == key:
            return self._attempt.answer
        assert self._run is not None
        if self._opened(key) is not None:
            raise PrivacyError(f"the sum of round {key[1]} was opened, and its keys are gone")
        wanted, task = KeysAsked.read(header), self._run.task
        if not (task.stages.of(key[1]) and 1 <= key[2] <= task.rounds.attempts):
            raise PrivacyError(
                f"keys for attempt {key[2]} at round {key[1]} were asked for: the task has {task.last_round} rounds and "
                f"{task.rounds.attempts} attempts at each"
            )
        plan, least = SumPlan(wanted.size, wanted.parties), task.aggregation.least
        if plan.parties < least:
            raise PrivacyError(f"keys for {plan.parties} nodes were asked for, the task declares at least {least}")
        self._journal.make_keys(*key)
        holder = KeyHolder(plan, least)
        public = holder.public_context()
        message = context_message(self._session(key), public, least, self._journal.id)
        made = KeysMade(self._journal.id, self.peers.sign(message), self.peers.credential)
        answer = self._answer(key, CONTEXT, made.written(), {"context": np.frombuffer(public, np.uint8)})
        self._forget()
        self._attempt = _Attempt(key, holder, answer)
        log.info("round %d, attempt %d: keys for %d values", key[1], key[2], plan.size)
        return answer

    def _decrypt(self, key: Key, header: Dict[str, Any], tensors: Tensors) -> Optional[bytes]:
        """The answer with the sum; None while ciphertexts of it are missing."""
        opened = self._opened(key)
        if opened is not None:
            return opened
        if self._attempt is None or self._attempt.key != key:
            raise PrivacyError("the keys of this attempt are gone: this key holder began again, or has made newer ones")
        if "party" not in header:
            if self._sum is None:
                self._sum = self._attempt.holder.check(*self._terms(key, header))
            return None  # asked by a gateway that began again: what is in stays in
        if self._sum is None:
            raise PrivacyError("a ciphertext came before the signatures")
        if Ciphertext.read(header).party in self._sum.missing:
            self._sum.add(_bytes(tensors, "ciphertext"))
        if self._sum.missing:
            return None
        try:
            return self._say(key, self._sum.open())
        except UnsoundSumError as unsound:
            for name, fault in sorted(unsound.faults.items()):
                log.error("round %d, attempt %d: the ciphertext of %r has %s", key[1], key[2], name, fault)
            raise

    def _terms(self, key: Key, header: Dict[str, Any]) -> Tuple[bytes, Tuple[Summand, ...], Verify, bytes]:
        """What a sum has to answer to: session, who signed what, by which keys, and what was announced to all of them."""
        terms = Terms.read(header)
        return self._session(key), self._summands(terms.summands), self.peers.verify, terms.told

    def _summands(self, vouched: Dict[str, Vouched]) -> Tuple[Summand, ...]:
        if self.name in vouched:
            raise PrivacyError(f"a vector of {self.name} does not belong into a sum this key holder opens")
        credentials = {name: said.credential for name, said in vouched.items()}
        self.peers.admit_all(credentials, None if self._run is None else self._run.certificates)
        return tuple(
            Summand(name, said.digest, said.masked_digest, said.check, said.signature) for name, said in vouched.items()
        )

    def _say(self, key: Key, values: np.ndarray) -> bytes:
        assert self._run is not None
        self._journal.open(*key)
        body = self._answer(key, DECRYPT, {}, {"sum": values})
        self.store.release(key[0], key[1], self._run.digest, body)
        self._forget()
        log.info("round %d, attempt %d: the sum is opened", key[1], key[2])
        return body

    def _answer(self, key: Key, step: str, fields: Dict[str, Any], tensors: Tensors) -> bytes:
        return encode_body(
            {**Step(*key, step).written(), **fields, "memory_mib": self._memory.peak_mib()}, tensors, level=1
        )

    def _session(self, key: Key) -> bytes:
        return session_id(self._federation, *key)


def _bytes(tensors: Tensors, name: str) -> bytes:
    tensor = tensors.get(name)
    if tensor is None:
        raise WireError(f"a sum was to be opened without its {name}")
    return tensor.tobytes()

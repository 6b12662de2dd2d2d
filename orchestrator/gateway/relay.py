"""A gateway as a node of a higher one: hospital -> region -> centre.

Two halves. The upper one is a node agent that has no records: it joins with those of its nodes, and answers a round with what
its nodes made of it, as one weighted partial sum. The lower one is a gateway whose rounds begin when the higher gateway begins
them (`rounds.provided`). It runs in a thread of its own, with a store of its own, and both keep what they must not lose: a
relay that is killed continues the open round and answers with the same bytes.

Noise is made at the leaves, so privacy per record is what the task says, towards the region's gateway too.
"""

import hashlib
import json
import logging
import math
import queue
import threading
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple

import numpy as np

from orchestrator.data.dataset import Dataset
from orchestrator.errors import EdgewardError, UsageError, WireError
from orchestrator.gateway.authority import Authority
from orchestrator.gateway.broker import KINDS, OwnBroker
from orchestrator.gateway.course import MOST_RECORDS
from orchestrator.gateway.gateway import Gateway
from orchestrator.gateway.progress import Progress
from orchestrator.gateway.run import open_run, strategy_of
from orchestrator.gateway.store import Store
from orchestrator.gateway.supply import Supply
from orchestrator.mishaps import sentence
from orchestrator.node.identity import NodeIdentity
from orchestrator.node.intake import training_graph
from orchestrator.node.member import Member, Tensors
from orchestrator.node.run import Run
from orchestrator.privacy.terms import setting
from orchestrator.rounds.declared import declared
from orchestrator.rounds.stages import STATISTICS
from orchestrator.wire.address import check_ca
from orchestrator.wire.announcing import OfRound, TaskAnnounced
from orchestrator.wire.answering import Update
from orchestrator.wire.body import encode_body
from orchestrator.wire.codec import ERROR_FEEDBACK, EXACT, decode_update, encode_update
from orchestrator.wire.link import Broker, BrokerAddress
from orchestrator.wire.presence import RunDeclined, RunReady
from orchestrator.wire.task import Rounds, Selection, Task, task_from_dict
from orchestrator.wire.topics import check_name

log = logging.getLogger("edgeward.relay")


@dataclass(frozen=True)
class Region:
    """The lower side: where its nodes meet, and when a round of theirs is complete.

    broker: `embedded` or `mosquitto` for an own one on host:port, or an mqtt(s):// address. identity: folder of
    `edgeward gateway init`.
    """

    federation: str
    rounds: Rounds
    broker: str = "embedded"
    host: str = "127.0.0.1"
    port: int = 1883
    ca_file: Optional[str] = None
    identity: Optional[Path] = None
    progress: Progress = lambda event: None

    def check(self) -> None:
        """Raises a GivenError for what the region's gateway would refuse, before a higher one is asked for a task."""
        check_name(self.federation, "federation")
        check_ca(self.ca_file)
        if self.broker not in KINDS:
            BrokerAddress.parse(self.broker)
        if self.identity is not None:
            Authority(self.identity).close()


def objection_to_relaying(task: Task) -> str:
    """Why a task cannot go through a relay; empty when it can."""
    if not task.trains:
        return "an analysis does not go through relays"
    if not declared(task.training.strategy).of_mean:
        return f"strategy {task.training.strategy!r} needs single nodes' updates; a relay forwards their mean"
    if task.codec in ERROR_FEEDBACK:
        return f"codec {task.codec!r} carries over what it leaves out, which a relay does not keep"
    if task.training.personal_parameters:
        return "personal parts stay on nodes, and a relay has none"
    if task.evaluation.on:
        return "federated evaluation does not go through relays yet"
    if task.aggregation.secure:
        return (
            f"aggregation {task.aggregation.method!r}: nodes behind a relay cannot exchange keys with those of others"
        )
    if task.privacy.of_patients or task.privacy.of_nodes:
        return f"{setting(task.privacy)}: a relay counts and bounds records only"
    if task.selection.sampling_rate:
        return "a Poisson sample of relays is not one of nodes"
    return ""


class Lower:
    """The region's gateway in its thread: rounds go in through `supply`, answers come out of `answers`."""

    def __init__(self, path: Path, run: str, task: Task, graph: bytes, region: Region) -> None:
        self.answers: queue.Queue[Tuple[int, np.ndarray, int]] = queue.Queue()
        self.failure: Optional[BaseException] = None
        self.records: Dict[str, int] = {}
        self._gateway: Optional[Gateway] = None
        self._waiting: queue.Queue[Supply] = queue.Queue()
        self._lock = threading.Lock()
        arguments = (path, run, replace(task, rounds=region.rounds, selection=Selection()), graph, region)
        self._thread = threading.Thread(target=self._serve, args=arguments, name="region", daemon=True)
        self._thread.start()

    def _serve(self, path: Path, run: str, task: Task, graph: bytes, region: Region) -> None:
        try:
            with ExitStack() as stack:  # SQLite, and a broker's life, belong to the thread that opened them
                store = Store(path)
                stack.callback(store.close)
                authority = None if region.identity is None else Authority(region.identity)
                if authority is not None:
                    stack.callback(authority.close)
                own = None
                if region.broker in KINDS:
                    own = OwnBroker(region.broker, region.host, region.port, authority, path.parent)
                    stack.enter_context(own)
                    address = own.address
                else:
                    address = BrokerAddress.parse(region.broker, region.ca_file)
                    address = address if authority is None else authority.secure(address)
                open_run(store, run, task, graph, np.zeros(0, np.float32))

                def progress(event: Dict[str, Any]) -> None:
                    self.records = gateway.records
                    region.progress(event)

                def hand_up(number: int, vector: np.ndarray, records: int) -> None:
                    self.answers.put((number, np.array(vector), records))

                gateway = Gateway(store, run, region.federation, address, own, None, progress, authority, hand_up)
                with self._lock:
                    self._gateway = gateway
                    while not self._waiting.empty():
                        gateway.supply(self._waiting.get())
                gateway.run()
        except BaseException as error:  # whatever it is, the main thread ends with it
            self.failure = error

    def supply(self, supply: Supply) -> None:
        with self._lock:
            if self._gateway is None:
                self._waiting.put(supply)
            else:
                self._gateway.supply(supply)

    def end(self, timeout_s: float) -> None:
        self.supply(Supply(-1, None))
        self._thread.join(timeout_s)


class Relay(Member):
    """Serves the higher gateway as a node called `name`, and `region` as a gateway.

    It has no data of its own: each node below charges its own ledger.
    """

    def __init__(
        self,
        upstream: Broker,
        federation: str,
        name: str,
        state: Path,
        region: Region,
        once: bool = False,
        identity: Optional[NodeIdentity] = None,
        lower: Callable[[Path, str, Task, bytes, Region], Lower] = Lower,
    ) -> None:
        """lower: begins the region's gateway, for a run."""
        super().__init__(upstream, federation, name, state, once, identity=identity)
        self._region, self._begin_lower = region, lower
        self._lower: Optional[Lower] = None
        self._joined_with = 0
        self._sizes: Dict[str, int] = {}  # of each run's weights

    def step(self, longest_s: float = math.inf) -> None:
        super().step(longest_s)
        self._look_below()

    def _look_below(self) -> None:
        """Joins above when enough nodes are here, and again when there are more."""
        if self._lower is None or self._run is None:
            return
        if isinstance(self._lower.failure, UsageError):  # a task it cannot serve, or a run it knows as another one
            log.error("declined run %s: %s", self._run.id, self._lower.failure)
            self.presence.say(RunDeclined(self._run.id, "task"))
            self._lower = None
            self.runs.end(self._run.id)
            return
        if self._lower.failure is not None:
            raise EdgewardError(
                f"the region's gateway failed: {sentence(self._lower.failure)}"
            ) from self._lower.failure
        records = self._lower.records
        total = min(MOST_RECORDS, sum(records.values()))  # one node's claim must not put its whole region out
        if len(records) >= self._region.rounds.nodes and total > self._joined_with:
            self._joined_with = total
            log.info("joined above with %d records of %d nodes", total, len(records))
            self.presence.say(RunReady(self._run.id, total))

    def _take_task(self, header: Dict[str, Any], tensors: Tensors) -> None:
        announced = TaskAnnounced.read(header)
        run = announced.run
        if self._run is not None and self._run.id == run:
            self.presence.announce()
            return
        try:
            task = task_from_dict(announced.task, "the higher gateway's task")
            graph = training_graph(task, tensors)
            objection = objection_to_relaying(task)
            if objection:
                raise UsageError(objection)
            strategy_of(task)  # what it cannot serve below it declines above
        except UsageError as error:
            log.error("declined run %s: %s", run, error)
            self.presence.say(RunDeclined(run, "task"))
            return
        if self._lower is not None:  # of a run whose end did not get here
            self._lower.end(30.0)
            self._lower = None
        digest = hashlib.sha256(graph + json.dumps(announced.task, sort_keys=True).encode()).hexdigest()
        nothing = Dataset(np.zeros((0, *task.schema.input_shape), np.float32), np.zeros(0, np.int32))
        if self._run is not None:
            self.runs.end(self._run.id)
        self.runs.begin(Run(run, digest, task, graph, nothing, nothing))
        self._joined_with = 0
        self._lower = self._begin_lower(self._state / "region.sqlite", run, task, graph, self._region)

    def _answer_round(self, header: Dict[str, Any], tensors: Tensors) -> None:
        run, number = self._run, OfRound.read(header).round
        if run is None:
            return
        body = self._released(run, number)
        if body is None:
            body = self._partial_sum(run, number, tensors)
        log.info("round %d: partial sum of %d bytes", number, len(body))
        self._send(body)

    def _take_step(self, header: Dict[str, Any], tensors: Tensors) -> None:
        raise WireError("secure rounds do not go through relays")

    def _partial_sum(self, run: Run, number: int, tensors: Tensors) -> bytes:
        vector, records = self._ask_below(number, self._for_below(run, number, tensors))
        of_statistics = "float32" if run.task.privacy.on else EXACT
        codec = of_statistics if run.task.stages.of(number) == STATISTICS else run.task.codec
        sent = encode_update(vector if codec == EXACT else vector.astype(np.float32), codec, np.random.default_rng())
        error = np.linalg.norm(decode_update(sent, codec, vector.size) - vector) / max(
            float(np.linalg.norm(vector)), 1e-30
        )
        header = Update(run.id, number, records).written()
        body = encode_body(
            {**header, "codec": codec, "codec_error": float(error), "memory_mib": self._memory.peak_mib()}, sent
        )
        self.store.release(run.id, number, run.digest, body, {})
        return body

    def _for_below(self, run: Run, number: int, tensors: Tensors) -> Tensors:
        """What the region's gateway gets of a round's tensors; WireError where a run could not go on with them."""
        if run.task.stages.of(number) == STATISTICS:
            return {}
        shape, given = run.task.schema.input_shape, {name: tensors.get(name) for name in ("weights", "mean", "std")}
        for name, tensor in given.items():
            if tensor is None or tensor.dtype != np.float32 or not np.isfinite(tensor).all():
                raise WireError(f"round {number} came without {name} of finite float32 numbers")
            if (tensor.ndim != 1 or not tensor.size) if name == "weights" else tensor.shape != shape:
                raise WireError(f"round {number} came with {name} of shape {tensor.shape}")
        weights = np.asarray(given["weights"])
        size = self._sizes.setdefault(run.id, run.task.training.parameters or weights.size)
        if weights.size != size:
            raise WireError(f"round {number} came with {weights.size} weights, the run has {size}")
        return {name: np.asarray(tensor) for name, tensor in given.items()}

    def _ask_below(self, number: int, tensors: Tensors) -> Tuple[np.ndarray, int]:
        """(vector, records) of the region's round. Gives up, with WireError, when the higher gateway has gone on."""
        lower = self._lower
        if lower is None:
            raise WireError(f"round {number} came before its task")
        work = self._at
        lower.supply(Supply(number, dict(tensors)))
        while True:
            try:
                answered, vector, records = lower.answers.get(timeout=0.02)
            except queue.Empty:
                self._look_below()
                self.link.pump()
                self._hear()
                newest = None if work.round is None else work.round[0].get("round")
                if self._at is not work or self.stopping or (isinstance(newest, int) and newest > number):
                    raise WireError(f"round {number} is over above; its answer is not needed any more") from None
                continue
            if answered == number:
                return vector, min(MOST_RECORDS, records)

    def _hear(self) -> None:
        """Takes what came from above meanwhile. What makes no sense is refused as always, and does not end the round at hand."""
        while not self.link.events.empty():
            try:
                self._handle(self.link.events.get())
            except WireError as error:
                self._refuse("a message", error)

    def _over(self, run: str) -> None:
        if self._run is not None and run == self._run.id and self._lower is not None:
            self._lower.end(30.0)
            self._lower = None

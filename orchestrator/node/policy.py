"""policy.toml: what the owner of the data lets others do with it. Read whole, every mistake reported at once.

The node decides by it alone, whatever a gateway says; docs/policy.toml shows every rule.
"""

import hashlib
import math
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Dict, Iterator, NamedTuple, Optional, Tuple

from orchestrator.analyses.registry import exchange_of
from orchestrator.errors import UsageError
from orchestrator.node.disclosure import Disclosure
from orchestrator.node.models_to_nodes import (
    ANY_MODELS,
    MODELS_TO_NODES,
    NO_MODELS,
    NOISED_MODELS,
    objection_to_models,
)
from orchestrator.node.similar_rules import Similar
from orchestrator.privacy.noisy_sum import parties_of
from orchestrator.privacy.releases import noise_multipliers, releases_of
from orchestrator.wire.bounds import near
from orchestrator.wire.claims import oversized, too_likely
from orchestrator.wire.plain import many
from orchestrator.wire.protection import LEAST_NOISE, UNITS
from orchestrator.wire.schema import Schema
from orchestrator.wire.structure import structure
from orchestrator.wire.task import Task
from orchestrator.wire.toml_file import read_toml

STAGES = ("noise", "clip", "masked", "ckks")
NO_STAGE = "require.stages"
"""The one list that may be empty: no stage is required."""
ANY_COLUMN, PLACE = "*", "#"
"""[require] patient = "*": the column the task names; "#3": the third, of a file without a header."""


ANY_MESSAGES = 1_000_000_000


class Refusal(NamedTuple):
    """Why this node takes no part in a run. code: of wire/refusals.py, which travels; reason: for this node's owner."""

    code: str
    reason: str


@dataclass(frozen=True)
class Budget:
    """`[budget]`: epsilon at `delta`, of one task (all runs of it) and of everything ever released; 0 sets no limit."""

    epsilon_task: float = 0.0
    epsilon_total: float = 0.0
    delta: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("epsilon_task", "epsilon_total"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: {getattr(self, name)}, expected 0 (no limit) or more")
        if not 0 < self.delta < 1:
            raise ValueError(f"delta: {self.delta}, expected a number between 0 and 1, below 1/records")

    @property
    def limited(self) -> bool:
        return bool(self.epsilon_task or self.epsilon_total)


@dataclass(frozen=True)
class Require:
    """`[require]`: what a task must declare.

    units: privacy units it may name; "none", with `stages` empty, lets tasks without privacy pass. stages: "noise" (this node
    adds noise before anything leaves it, all of it or a share), "clip" (each unit's part is bounded), "masked" or "ckks" (only
    sums are opened, under the conditions docs/threat-model.md names; both named: either). minimum_cohort: answers a round is
    made of at least. signed: only from a gateway this node is enrolled with. patient: the column that says whose a record is;
    without it no task may speak of patients, since a gateway could name one that differs in every row ("#3": the third of a file
    without a header; "*": the task's word is accepted). peers, key_holder: fingerprints of other parties' keys, as their owners
    gave them (docs/identity.md); the only ones accepted in secure sums, beside those confirmed with `edgeward node peers`.
    neighbours: of this node in the graph of masks, at least. own_noise: noise multiplier of what this node alone adds to anything
    it releases, at least: what is left should all others work with the gateway. steady: sums without noise are opened over the
    same nodes throughout a run only, since the difference of two shows what single nodes sent; under CKKS, where a node does
    not see whose they are, none.
    """

    units: Tuple[str, ...] = ("record", "patient", "node")
    stages: Tuple[str, ...] = ("noise",)
    minimum_cohort: int = 1
    signed: bool = False
    patient: str = ""
    peers: Dict[str, str] = field(default_factory=dict)
    key_holder: str = ""
    neighbours: int = 0
    own_noise: float = 0.0
    steady: bool = True

    def __post_init__(self) -> None:
        for name, known in (("units", UNITS), ("stages", STAGES)):
            for value in getattr(self, name):
                if value not in known:
                    raise ValueError(f"{name}: {value!r}, expected of {', '.join(known)}{near(value, known)}")
        if not self.units:
            raise ValueError("units: empty, so that no task could be accepted; leave it out or name some")
        if self.minimum_cohort < 1:
            raise ValueError(f"minimum_cohort: {self.minimum_cohort}, at least 1")
        for name, fingerprint in [*self.peers.items(), *([("key_holder", self.key_holder)] if self.key_holder else [])]:
            if len(fingerprint) != 64 or not set(fingerprint) <= set("0123456789abcdef"):
                raise ValueError(
                    f"{name}: {fingerprint!r}, expected the 64 hex digits `edgeward node fingerprint` prints there"
                )
        if self.neighbours < 0 or not (math.isfinite(self.own_noise) and self.own_noise >= 0):
            raise ValueError("neighbours and own_noise: expected 0 (no demand) or more")


@dataclass(frozen=True)
class Allow:
    """`[allow]`: names of tasks (shell patterns), key ids of gateways (16 hex digits), largest sampling rate of a step.

    honest: among so many nodes noise may be shared at most; 0: no limit. schemas_a_day: different declarations for which the
    data are opened within 24 hours; whether they fit is an answer about them. peer_messages: made of these records, without
    noise, that an analysis may have this node send each of its neighbours (node/peer_talk.py); 0: none. models_to_nodes: which of
    the models this node comes to a gateway may pass on to single other nodes, which score them, and whether this node scores
    theirs (strategy fuala): none; those with all of this node's noise; any.
    """

    tasks: Tuple[str, ...] = ("*",)
    signers: Tuple[str, ...] = ()
    sampling_rate: float = 1.0
    honest: int = 0
    schemas_a_day: int = 10
    peer_messages: int = 0
    models_to_nodes: str = NO_MODELS

    def __post_init__(self) -> None:
        for signer in self.signers:
            if len(signer) != 16 or not set(signer) <= set("0123456789abcdef"):
                raise ValueError(f"signers: {signer!r}, expected the 16 hex digits `edgeward gateway init` prints")
        if not 0 < self.sampling_rate <= 1:
            raise ValueError(f"sampling_rate: {self.sampling_rate}, expected a number in (0, 1]")
        if self.honest < 0 or not 1 <= self.schemas_a_day <= 100_000:
            raise ValueError("honest: expected 0 (no limit) or more; schemas_a_day: 1 to 100000")
        if not 0 <= self.peer_messages <= ANY_MESSAGES:
            raise ValueError(f"peer_messages: {self.peer_messages}, expected 0 (none) to {ANY_MESSAGES}")
        if self.models_to_nodes not in MODELS_TO_NODES:
            raise ValueError(f"models_to_nodes: {self.models_to_nodes!r}, expected {', '.join(MODELS_TO_NODES)}")


@dataclass(frozen=True)
class Approval:
    """`[approval]`: whether a person must approve each task before this node takes part (`edgeward node approve`)."""

    required: bool = False


@dataclass(frozen=True)
class Policy:
    """The whole file. The default lets everything pass that a task may declare; a file refuses tasks without privacy."""

    budget: Budget = field(default_factory=Budget)
    require: Require = field(default_factory=Require)
    allow: Allow = field(default_factory=Allow)
    approval: Approval = field(default_factory=Approval)
    disclosure: Disclosure = field(default_factory=Disclosure)
    similar: Similar = field(default_factory=Similar)

    def objection(self, task: Task, signer: str) -> Optional[Refusal]:
        """What the task's declaration alone breaks; `signer`: key id of the gateway, empty without an identity."""
        checks = (
            self._signer,
            self._task,
            self._privacy,
            self._stages,
            self._cohort,
            self._alone,
            self._messages,
            self._models,
        )
        for check in checks:
            refusal = check(task, signer)
            if refusal is not None:
                return refusal
        return None

    def objection_to_search(self, schema: Schema) -> str:
        """Why a coder over this schema does not tell patients apart as this owner does; "" where it does."""
        column = self.require.patient
        if column in ("", ANY_COLUMN) or _is_column(column, schema):
            return ""
        said = f"names {schema.patient!r}" if schema.patient else "names none"
        return f"[require] patient: {column!r} tells patients apart, the coder's schema {said}"

    @property
    def bounds_noise(self) -> bool:
        """Whether epsilon, or a person, bounds how often answers with noise are given: the mean of many has next to none."""
        return bool(self.budget.epsilon_total) or self.approval.required

    def objection_to_size(self, task: Task, stated: int) -> str:
        """Why task or policy declare a delta that is too large for a node that states so many units; "" where neither does."""
        units = task.privacy.most_units(stated)
        return oversized(task, units) or self.oversized(units, task)

    def oversized(self, units: int, task: Task) -> str:
        """Why the policy's own delta means nothing for so many units; "" where it does. For the owner's eyes only."""
        why = too_likely(task, self.budget.delta, units) if self.budget.limited else None
        return f"[budget] {why}" if why else ""

    def _signer(self, task: Task, signer: str) -> Optional[Refusal]:
        if (self.require.signed or self.allow.signers) and not signer:
            return Refusal(
                "policy.signer", "only signed tasks are accepted, and this node was started without --identity"
            )
        if self.allow.signers and signer not in self.allow.signers:
            return Refusal("policy.signer", f"the gateway's key {signer} is not among [allow] signers")
        return None

    def _task(self, task: Task, signer: str) -> Optional[Refusal]:
        if any(fnmatchcase(task.name, pattern) for pattern in self.allow.tasks):
            return None
        return Refusal("policy.task", f"task {task.name!r} is not one of [allow] tasks: {', '.join(self.allow.tasks)}")

    def _privacy(self, task: Task, signer: str) -> Optional[Refusal]:
        unit, rate = task.privacy.unit, task.privacy.sampling_rate
        if unit not in self.require.units:
            reason = f"privacy unit {unit!r}, [require] units are {', '.join(self.require.units)}"
            return Refusal("policy.unit", reason)
        if unit == "patient" and not _is_column(self.require.patient, task.schema):
            named = f"names {self.require.patient!r}" if self.require.patient else "names none"
            reason = f"the task says column {task.schema.patient!r} tells patients apart, [require] patient {named}"
            return Refusal("policy.patient", reason)
        counts = self.disclosure.on and not task.trains and self.require.patient not in ("", ANY_COLUMN)
        if counts and not _is_column(self.require.patient, task.schema):
            reason = f"[disclosure] counts patients by column {self.require.patient!r}, which the task's schema does not name"
            return Refusal("policy.patient", reason)
        if self.disclosure.hold and not (task.trains or task.privacy.on) and task.training.rounds > 1:
            reason = f"[disclosure] hold: an answer is held, and this task has up to {task.training.rounds} rounds"
            return Refusal("policy.release", reason)
        if task.privacy.on and rate > self.allow.sampling_rate:
            reason = f"sampling rate {rate:g}, [allow] sampling_rate is {self.allow.sampling_rate:g}"
            return Refusal("policy.sampling", reason)
        return None

    def _stages(self, task: Task, signer: str) -> Optional[Refusal]:
        wanted = set(self.require.stages)
        if "noise" in wanted and (not task.privacy.on or task.privacy.noise == "gateway"):
            return Refusal("policy.stage", "this node's answers would leave it without any noise ('noise' is required)")
        weak = {kind: z for kind, z in noise_multipliers(task).items() if 0 < z < LEAST_NOISE}
        if "noise" in wanted and weak:
            kind, least = min(weak.items(), key=lambda item: item[1])
            reason = f"noise of multiplier {least:g} on {kind} is next to none ('noise' is required: {LEAST_NOISE:g} at least)"
            return Refusal("policy.stage", reason)
        if "clip" in wanted and not task.privacy.on:
            return Refusal("policy.stage", "nothing bounds what one unit adds to an answer ('clip' is required)")
        sums = wanted & {"masked", "ckks"}
        if sums and task.aggregation.method not in sums:
            reason = f"aggregation {task.aggregation.method!r}, required is {' or '.join(sorted(sums))}"
            return Refusal("policy.stage", reason)
        return None

    def _alone(self, task: Task, signer: str) -> Optional[Refusal]:
        """What is left of the protection if all other parties work with the gateway, which chooses these numbers."""
        privacy, aggregation, require = task.privacy, task.aggregation, self.require
        shared = privacy.distributed
        if aggregation.secure and not aggregation.key_holder and aggregation.neighbours < require.neighbours:
            some = many(aggregation.neighbours, "neighbour")
            reason = f"{some} in the graph of masks, [require] neighbours is {require.neighbours}"
            return Refusal("policy.noise", reason)
        if shared and self.allow.honest and aggregation.honest > self.allow.honest:
            reason = f"noise in shares of {many(aggregation.honest, 'node')}, [allow] honest is {self.allow.honest}"
            return Refusal("policy.noise", reason)
        if aggregation.key_holder and require.steady and not privacy.on:
            reason = "under CKKS a node does not see over whom sums are, which without noise [require] steady asks for"
            return Refusal("policy.noise", reason)
        alone = own_noise(task)
        if privacy.on and alone < require.own_noise:
            reason = (
                f"this node alone adds noise of multiplier {alone:.3g}, [require] own_noise is {require.own_noise:g}"
            )
            return Refusal("policy.noise", reason)
        return None

    def _messages(self, task: Task, signer: str) -> Optional[Refusal]:
        """What nodes send each other is hidden from the gateway, not from them."""
        exchange = exchange_of(task)
        if exchange is None or exchange.messages <= self.allow.peer_messages:
            return None
        most = self.allow.peer_messages
        reason = f"{exchange.messages} messages to each neighbour, without noise, [allow] peer_messages is {most}"
        return Refusal("policy.messages", reason)

    def _models(self, task: Task, signer: str) -> Optional[Refusal]:
        reason = objection_to_models(task, self.allow.models_to_nodes)
        return Refusal("policy.models", reason) if reason else None

    def _cohort(self, task: Task, signer: str) -> Optional[Refusal]:
        least = smallest_cohort(task)
        if least >= self.require.minimum_cohort:
            return None
        reason = f"a round may be of {least} nodes only, [require] minimum_cohort is {self.require.minimum_cohort}"
        return Refusal("policy.cohort", reason)


OPEN = Policy(
    require=Require(units=UNITS, stages=(), patient=ANY_COLUMN, steady=False),
    allow=Allow(schemas_a_day=100, peer_messages=ANY_MESSAGES, models_to_nodes=NOISED_MODELS),
)
"""Of a node without a policy file: every task is accepted, its budget is recorded and not limited; but no other node gets to see
its models without noise: that takes an owner's word."""

WITHIN = replace(OPEN, allow=replace(OPEN.allow, models_to_nodes=ANY_MODELS))
"""Of a simulated node, whose neighbours are in its own process."""


class PolicyFile:
    """A policy that is read again for every task, so that the owner's changes count at once."""

    def __init__(self, path: Optional[Path], otherwise: Policy = OPEN) -> None:
        """otherwise: where there is no file."""
        self._path, self._otherwise = path, otherwise
        self.read()

    def read(self) -> Tuple[Policy, str]:
        """(policy, SHA-256 of the file, empty without one). Raises UsageError for a file that is missing or wrong."""
        return (self._otherwise, "") if self._path is None else load_policy(self._path)


def load_policy(path: Path) -> Tuple[Policy, str]:
    """(policy, SHA-256 of the file). Raises UsageError naming the file and every mistake in it."""
    data, content = read_toml(path)
    empty = list(_empty(data, ""))
    if empty:
        raise UsageError(f"{path}:\n  " + "\n  ".join(empty))
    policy: Policy = structure(data, Policy, str(path))
    return policy, hashlib.sha256(content).hexdigest()


def _empty(data: Any, place: str) -> Iterator[str]:
    """What is given and names nothing: an owner who empties a list means that nothing is allowed, not that everything is."""
    for name, value in data.items():
        here = f"{place}.{name}" if place else str(name)
        if here == NO_STAGE:
            continue
        if value in ([], "", {}) and place:
            yield f"{here}: empty; name what is allowed, or leave it out for the default (docs/policy.md)"
        elif isinstance(value, dict):
            yield from _empty(value, here)
        elif isinstance(value, list) and "" in value:
            yield f"{here}: an empty text in it names nothing"


def own_noise(task: Task) -> float:
    """Least noise multiplier of what one node adds to anything it releases; 0.0 where it adds none.

    The number of units it states has all of its noise from that node, sums have a share of theirs.
    """
    if not task.privacy.on or task.privacy.noise == "gateway":
        return 0.0
    share = 1 / math.sqrt(parties_of(task))
    return min(r.noise_multiplier * (1.0 if r.alone else share) for r in releases_of(task))


def smallest_cohort(task: Task) -> int:
    """Fewest nodes whose answers a round's result may be made of. `rounds.nodes` only says when a run starts."""
    if task.selection.sampling_rate:
        return 1  # a Poisson sample may be of one node
    least = task.rounds.quorum
    return min(least, task.aggregation.least) if task.aggregation.secure else least


def _is_column(named: str, schema: Schema) -> bool:
    """Whether the schema's patients are those of the column the owner named.

    A schema may name the columns of a file without a header. Then a name says nothing, and the owner has to give the place.
    """
    if named.startswith(PLACE):
        place = named[len(PLACE) :]
        return bool(schema.columns) and place == str(schema.columns.index(schema.patient) + 1)
    return named == ANY_COLUMN or (named == schema.patient and not schema.columns)

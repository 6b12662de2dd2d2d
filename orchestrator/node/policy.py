"""policy.toml: what the owner of the data lets others do with it. Read whole, every mistake reported at once.

The node decides by it alone, whatever a gateway says; docs/policy.toml shows every rule.
"""

import hashlib
import sys
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from orchestrator.errors import UsageError
from orchestrator.wire.protection import UNITS
from orchestrator.wire.structure import structure
from orchestrator.wire.task import Task

STAGES = ("noise", "clip", "masked", "ckks")


class Refusal(NamedTuple):
    """Why this node takes no part in a run. code: for programs, such as "policy.epsilon-total"; reason: for people."""

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
    adds noise before anything leaves it, all of it or a share), "clip" (each unit's part is bounded), "masked" or "ckks" (nobody
    sees this node's own answer; both named: either). minimum_cohort: answers a round is made of at least. signed: only from a
    gateway this node is enrolled with.
    """

    units: Tuple[str, ...] = ("record", "patient", "node")
    stages: Tuple[str, ...] = ("noise",)
    minimum_cohort: int = 1
    signed: bool = False

    def __post_init__(self) -> None:
        for name, known in (("units", UNITS), ("stages", STAGES)):
            for value in getattr(self, name):
                if value not in known:
                    raise ValueError(f"{name}: {value!r}, expected of {', '.join(known)}")
        if not self.units:
            raise ValueError("units: empty, so that no task could be taken; leave it out or name some")
        if self.minimum_cohort < 1:
            raise ValueError(f"minimum_cohort: {self.minimum_cohort}, at least 1")


@dataclass(frozen=True)
class Allow:
    """`[allow]`: names of tasks (shell patterns), key ids of gateways (16 hex digits), largest sampling rate of a step."""

    tasks: Tuple[str, ...] = ("*",)
    signers: Tuple[str, ...] = ()
    sampling_rate: float = 1.0

    def __post_init__(self) -> None:
        for signer in self.signers:
            if len(signer) != 16 or not set(signer) <= set("0123456789abcdef"):
                raise ValueError(f"signers: {signer!r}, expected the 16 hex digits `edgeward gateway init` prints")
        if not 0 < self.sampling_rate <= 1:
            raise ValueError(f"sampling_rate: {self.sampling_rate}, expected a number in (0, 1]")


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

    def objection(self, task: Task, signer: str, records: int) -> Optional[Refusal]:
        """What the task's declaration alone breaks; `signer`: key id of the gateway, empty without an identity."""
        for check in (self._signer, self._task, self._privacy, self._stages, self._cohort):
            refusal = check(task, signer)
            if refusal is not None:
                return refusal
        if self.budget.limited and self.budget.delta * records >= 1:
            reason = f"[budget] delta {self.budget.delta:g} is not below 1/records = 1/{records}: lower it"
            return Refusal("policy.delta", reason)
        return None

    def _signer(self, task: Task, signer: str) -> Optional[Refusal]:
        if (self.require.signed or self.allow.signers) and not signer:
            return Refusal("policy.signer", "only signed tasks are taken, and this node was started without --identity")
        if self.allow.signers and signer not in self.allow.signers:
            return Refusal("policy.signer", f"the gateway's key {signer} is not among [allow] signers")
        return None

    def _task(self, task: Task, signer: str) -> Optional[Refusal]:
        if any(fnmatchcase(task.name, pattern) for pattern in self.allow.tasks):
            return None
        return Refusal("policy.task", f"task {task.name!r} is none of [allow] tasks: {', '.join(self.allow.tasks)}")

    def _privacy(self, task: Task, signer: str) -> Optional[Refusal]:
        unit, rate = task.privacy.unit, task.privacy.sampling_rate
        if unit not in self.require.units:
            reason = f"privacy unit {unit!r}, [require] units are {', '.join(self.require.units)}"
            return Refusal("policy.unit", reason)
        if task.privacy.on and rate > self.allow.sampling_rate:
            reason = f"sampling rate {rate:g}, [allow] sampling_rate is {self.allow.sampling_rate:g}"
            return Refusal("policy.sampling", reason)
        return None

    def _stages(self, task: Task, signer: str) -> Optional[Refusal]:
        wanted = set(self.require.stages)
        if "noise" in wanted and (not task.privacy.on or task.privacy.noise == "gateway"):
            return Refusal("policy.stage", "this node's answers would leave it without any noise ('noise' is required)")
        if "clip" in wanted and not task.privacy.on:
            return Refusal("policy.stage", "nothing bounds what one unit adds to an answer ('clip' is required)")
        sums = wanted & {"masked", "ckks"}
        if sums and task.aggregation.method not in sums:
            reason = f"aggregation {task.aggregation.method!r}, required is {' or '.join(sorted(sums))}"
            return Refusal("policy.stage", reason)
        return None

    def _cohort(self, task: Task, signer: str) -> Optional[Refusal]:
        least = smallest_cohort(task)
        if least >= self.require.minimum_cohort:
            return None
        reason = f"a round may be of {least} nodes only, [require] minimum_cohort is {self.require.minimum_cohort}"
        return Refusal("policy.cohort", reason)


OPEN = Policy(require=Require(units=UNITS, stages=()))
"""Of a node without a policy file: every task is taken, its budget is recorded and not limited."""


class PolicyFile:
    """A policy that is read anew for every task, so that the owner's changes count at once."""

    def __init__(self, path: Optional[Path]) -> None:
        self._path = path
        self.read()

    def read(self) -> Tuple[Policy, str]:
        """(policy, SHA-256 of the file, empty without one). Raises UsageError for a file that is missing or wrong."""
        return (OPEN, "") if self._path is None else load_policy(self._path)


def load_policy(path: Path) -> Tuple[Policy, str]:
    """(policy, SHA-256 of the file). Raises UsageError naming the file and every mistake in it."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        content = path.read_bytes()
        data: Dict[str, Any] = tomllib.loads(content.decode("utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not TOML: {error}") from error
    policy: Policy = structure(data, Policy, str(path))
    return policy, hashlib.sha256(content).hexdigest()


def smallest_cohort(task: Task) -> int:
    """Fewest nodes whose answers a round's result may be made of. `rounds.nodes` only says when a run starts."""
    if task.selection.sampling_rate:
        return 1  # a Poisson sample may be of one node
    least = task.rounds.quorum
    return min(least, task.aggregation.least) if task.aggregation.secure else least


def describe(policy: Policy) -> List[str]:
    """One line a rule, for people."""
    budget, require, allow = policy.budget, policy.require, policy.allow

    def limit(value: float) -> str:
        return f"at most epsilon {value:g} at delta {budget.delta:g}" if value else "no limit"

    return [
        f"one task: {limit(budget.epsilon_task)}",
        f"in total: {limit(budget.epsilon_total)}",
        f"privacy units: {', '.join(require.units)}",
        f"stages: {', '.join(require.stages) or 'none required'}",
        f"nodes in a round: at least {require.minimum_cohort}",
        f"tasks: {', '.join(allow.tasks) or 'none'}",
        f"gateways: {', '.join(allow.signers) or ('any it is enrolled with' if require.signed else 'any')}",
        f"sampling rate: at most {allow.sampling_rate:g}",
        f"a person must approve: {'yes' if policy.approval.required else 'no'}",
    ]

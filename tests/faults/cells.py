"""The matrix: which fault hits which process under which setting, and what came of it."""

import time
from dataclasses import asdict, dataclass, field
from typing import Any, Dict, Iterator, List, Optional, Tuple

from . import checks
from .federation import Federation, Setting
from .kinds import BROKERS, FAULTS, Fault

PROCESSES = ("gateway", "embedded", "mosquitto", "node", "key holder", "relay", "dashboard", "monitor")
TITLES = {"embedded": "embedded broker", "mosquitto": "mosquitto of the gateway"}

GOES_ON, AGAIN, REFUSES, NEVER = "goes on", "starts again", "refuses with advice", "not applicable"
FAILED = "FAILED"

_OPENS_NO_PORT = "it opens no port"
_KEEPS_NOTHING = "it keeps nothing on disk"
NOT_APPLICABLE: Dict[Tuple[str, str], str] = {
    **{("port", kind): _OPENS_NO_PORT for kind in ("node", "key holder")},
    **{(fault, kind): _KEEPS_NOTHING for fault in ("full", "eio", "damage") for kind in BROKERS},
    ("damage", "monitor"): "its file is read by others, not by itself",
}


@dataclass(frozen=True)
class Variant:
    """A user and a kind of federation: one of four."""

    user: bool
    identities: bool

    def __str__(self) -> str:
        return f"{'ordinary user' if self.user else 'root'}, {'identities' if self.identities else 'plain'}"


VARIANTS = [Variant(user, identities) for identities in (False, True) for user in (False, True)]


@dataclass
class Outcome:
    """Of one cell. `word` is what the table says, `read` what a user read, `wrong` what did not hold."""

    fault: str
    process: str
    variant: str
    word: str
    read: List[str] = field(default_factory=list)
    wrong: List[str] = field(default_factory=list)
    seconds: float = 0.0

    def as_dict(self) -> Dict[str, Any]:
        return asdict(self)


def why_not(fault: str, process: str, variant: Variant) -> str:
    """Why there is no such cell; empty where there is one."""
    if process == "embedded" and variant.identities:
        return "it checks no certificates, so there are no identities with it"
    return NOT_APPLICABLE.get((fault, process), "")


def setting_of(process: str, variant: Variant) -> Setting:
    kind = {"key holder": "keys", "relay": "regions"}.get(process, "nodes")
    broker = "mosquitto" if variant.identities or process == "mosquitto" else "embedded"
    return Setting(kind, broker, variant.user, variant.identities)


def cells(
    variants: List[Variant], only: Optional[List[str]] = None
) -> Iterator[Tuple[Setting, List[Tuple[str, str]], Variant]]:
    """(setting, its cells, variant): cells that can share a federation are together. `only`: names of faults and processes."""
    for variant in variants:
        shared: Dict[Setting, List[Tuple[str, str]]] = {}
        for process in PROCESSES:
            for fault in FAULTS:
                if _chosen(fault, process, only) and not why_not(fault, process, variant):
                    shared.setdefault(setting_of(process, variant), []).append((fault, process))
        for setting, some in shared.items():
            yield setting, some, variant


def _chosen(fault: str, process: str, only: Optional[List[str]]) -> bool:
    """Named by every kind of word that is there: faults, and processes."""
    words = set(only or ())
    faults, processes = words & set(FAULTS), words & set(PROCESSES)
    return (not faults or fault in faults) and (not processes or process in processes)


def run(federation: Federation, fault: str, process: str, variant: Variant) -> Outcome:
    """One cell: the fault comes, and goes; then the same command, if it ended, and all the checks."""
    begun = time.monotonic()
    federation.mark()
    done = FAULTS[fault](federation, process)
    outcome = Outcome(fault, process, str(variant), FAILED)
    try:
        done.hit()
        done.lift()
        outcome.word = _word(done)
        _again(federation, done)
        outcome.wrong += checks.goes_on(federation, process)
    except AssertionError as error:
        outcome.wrong.append(str(error))
    outcome.wrong += done.wrong
    outcome.read = done.read
    for one in federation.processes.values():
        outcome.wrong += checks.speaks_clearly(one)
    outcome.wrong += checks.keeps_what_counts(federation)
    if outcome.wrong:
        outcome.word = FAILED
    outcome.seconds = round(time.monotonic() - begun, 1)
    return outcome


def _word(done: Fault) -> str:
    if done.refused:
        return REFUSES
    return GOES_ON if done.process.alive else AGAIN


def _again(federation: Federation, done: Fault) -> None:
    """The same command for what ended. If anything else ended, that is a fault."""
    for process in federation.processes.values():
        if not process.alive:
            if (
                process is not done.process
                and process is federation.gateway
                and done.on_disk
                and process.state == done.process.state
            ):
                done.wrong += checks.says_why(process)  # it is the gateway's disk
            elif process is not done.process:
                done.wrong.append(f"{process.name} ended, too: {checks.advice(process)!r}")
            done.wrong += checks.nothing_is_left(process)
            process.start()


def finish(federation: Federation) -> List[str]:
    """All are asked to stop, as by a service manager: nobody objects, and nothing is left."""
    wrong = []
    for process in federation.processes.values():
        process.mark()
        try:
            process.stop()
        except AssertionError as error:
            wrong.append(str(error))
        if process.code not in (0, 130):
            wrong.append(f"{process.name} ended with {process.code} when it was asked to: {checks.advice(process)!r}")
        wrong += checks.speaks_clearly(process)
    for process in federation.processes.values():
        wrong += checks.nothing_is_left(process)
    return wrong

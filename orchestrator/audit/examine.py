"""All probes of a task's build in order: the task itself and, where asked for, what else the build can do."""

from typing import Any, Dict, Iterator, List, Sequence

from orchestrator.audit.bench import Bench
from orchestrator.audit.laws import LEVEL
from orchestrator.audit.probes import Probe, probe, rounding, training_noise, training_probes, training_reach, variants
from orchestrator.audit.processes import can_fork, generators, two_processes
from orchestrator.audit.sum_probes import sum_probes
from orchestrator.node.store import NodeStore
from orchestrator.wire.task import Task

DEEP = 10
"""How many times as much is drawn in a deep audit."""


def examine(
    task: Task, store: NodeStore, parameters: int, layers: Sequence[slice], deep: bool
) -> Iterator[List[Probe]]:
    """A kind of release at a time. parameters: of the model; layers: where its tensors lie."""
    effort = DEEP if deep else 1
    yield from _of(Bench(task, store), parameters, layers, effort, deep)
    if deep:
        for name, other in variants(task):
            for found in _of(Bench(other, store), parameters, layers, 1, True):
                yield [p._replace(name=f"{name}, {p.name}", said=f"with {name}, {p.said}") for p in found]


def examine_analysis(bench: Bench, size: int, deep: bool) -> Iterator[List[Probe]]:
    """The same of a task with an analysis, whose vectors have `size` values."""
    effort = DEEP if deep else 1
    yield probe("noise of the analysis", lambda: training_noise(bench, size, effort).items())
    yield probe("rounding", lambda: rounding(bench, size))
    yield probe("one unit in the analysis", lambda: training_reach(bench, size, (), "vector"))
    yield probe("generators", generators)
    if can_fork():
        yield probe("two processes", lambda: two_processes(bench))


def _of(bench: Bench, parameters: int, layers: Sequence[slice], effort: int, deep: bool) -> Iterator[List[Probe]]:
    yield from training_probes(bench, parameters, layers, effort)
    yield from sum_probes(bench, effort, deep)
    yield probe("generators", generators)
    if can_fork():
        yield probe("two processes", lambda: two_processes(bench))


def summary(probes: Sequence[Probe]) -> Dict[str, Any]:
    """{tests, level, wrong, kinds: [{kind, tests, least_p, wrong}]}, the kinds of release in the order they were examined."""
    kinds: Dict[str, List[Probe]] = {}
    for one in probes:
        kinds.setdefault(one.name.split(": ")[0], []).append(one)
    rows = [
        {
            "kind": kind,
            "tests": len(found),
            "least_p": min(p.p for p in found),
            "wrong": [p._asdict() for p in found if not p.holds],
        }
        for kind, found in kinds.items()
    ]
    wrong = [p.said for p in probes if not p.holds]
    return {"tests": len(probes), "level": LEVEL, "wrong": wrong, "kinds": rows}

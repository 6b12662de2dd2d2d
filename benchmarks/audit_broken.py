"""Which builds that are broken on purpose `edgeward attack` finds, by what, and whether it leaves honest ones alone.

    python benchmarks/audit_broken.py --out benchmarks/results/audit_broken.json
    python benchmarks/audit_broken.py --honest 10
    python benchmarks/audit_broken.py --analysis

scikit-learn's breast cancer data, 427 records on 2 nodes, 530 weights, epsilon 1 at delta 1e-3. The first audit is quick, of
a task that has what the mistake is about. Where that is not the plain task, or nothing was found, a deep audit of the plain task
follows. Prints docs/audit.md's table. --analysis: of a task with an analysis, `statistics` of the 30 numbers, quick audits of the
task that has what the mistake is about.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import numpy as np

import orchestrator.audit.run as run_module
from orchestrator.audit.broken import KINDS, NEEDS
from orchestrator.audit.measured import wrong
from orchestrator.audit.run import BROKEN, Prepared, Request, audit, prepare
from orchestrator.demo.tasks import Request as DemoRequest
from orchestrator.demo.tasks import breast_cancer, under_secure_sums
from orchestrator.gateway.settings import Config
from orchestrator.privacy.accounting_process import plan_apart
from orchestrator.wire.protection import Aggregation
from orchestrator.wire.schema import Schema
from orchestrator.wire.task import Evaluation, Rounds, Task
from orchestrator.wire.training import Training


def fitting(task: Task, needs: str) -> Task:
    """The plain task, or one like it that has what a mistake is about."""
    fits = NEEDS[needs][0]
    patient = replace(task, schema=replace(task.schema, patient="who"), privacy=replace(task.privacy, unit="patient"))
    secure = under_secure_sums(replace(task, rounds=replace(task.rounds, nodes=3, quorum=3)))
    others = [task, *(replace(t, evaluation=Evaluation(0.2)) for t in (task, patient)), secure]
    return next(other for other in others if fits(other))


def as_analysis(task: Task) -> Task:
    """Statistics of the same columns, by the same claim."""
    schema = Schema("table", "", (), {}, task.schema.features, standardization="range")
    privacy = replace(task.privacy, sampling_rate=1.0, clip_norm=0.0, clip_tally=False)
    analysis = {"kind": "statistics", "bins": 5}
    return replace(
        task,
        schema=schema,
        model={},
        training=Training(rounds=1),
        privacy=privacy,
        rounds=Rounds(2, 2),
        analysis=analysis,
    )


def of_analysis(task: Task, files: Sequence[Path], patients: Sequence[Path], kinds: Sequence[str], honest: int) -> None:
    """Prints a row for each mistake that a task with an analysis has a place for, or what so many audits of none found."""
    for number in range(honest):
        print(f"honest {number}", one(task, files, None, Request()), flush=True)
    patient = replace(task, schema=replace(task.schema, patient="who"), privacy=replace(task.privacy, unit="patient"))
    rounds, privacy = replace(task.rounds, nodes=3, quorum=3), replace(task.privacy, noise="distributed")
    masked = replace(task, rounds=rounds, privacy=privacy, aggregation=Aggregation("masked"))
    for kind in [] if honest else kinds:
        fits = [other for other in (task, patient, masked) if NEEDS[KINDS[kind].needs][0](other)]
        if fits:
            own = patients if fits[0].schema.patient else files
            found = {"quick": one(fits[0], own, None, Request(broken=kind))}
            print(_row(kind, found).replace(" |  | ", " | "), flush=True)


def with_patients(path: Path) -> Path:
    """The same file with a column that says whose record it is, of three patients' records each."""
    header, *rows = path.read_text().splitlines()
    other = path.with_name(f"patients-{path.name}")
    other.write_text("\n".join([f"{header},who", *(f"{row},{i // 3}" for i, row in enumerate(rows))]) + "\n")
    return other


def found_by(report: Dict[str, Any]) -> List[str]:
    """The detectors, by what they watch."""
    found = []
    canaries = report["canaries"]
    if canaries is None:
        found.append("failure")
    else:
        if any(bound["epsilon"] > bound["claimed"] for bound in canaries["bounds"]):
            found.append("canaries")
        found += [f"measured {name}" for name in wrong(canaries["measured"])]
    if report["masks"] is not None and not report["masks"]["holds"]:
        found.append("masks")
    return found + [test["name"] for kind in report["probes"]["kinds"] for test in kind["wrong"]]


def one(task: Task, files: Sequence[Path], ready: Optional[Prepared], request: Request) -> Dict[str, Any]:
    began = time.monotonic()
    report = audit(Config(task), Path(), files, request, lambda what, done, of: None, ready)
    return {
        "broken": report["verdict"] == BROKEN,
        "by": found_by(report),
        "seconds": round(time.monotonic() - began, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="where everything goes as JSON")
    parser.add_argument("--honest", type=int, default=0, help="so many audits of the build as it is, instead")
    parser.add_argument("--deep", action="store_true", help="with --honest: deep ones")
    parser.add_argument("--analysis", action="store_true", help="of a task with an analysis")
    parser.add_argument("kinds", nargs="*", help="some kinds only")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        demo = breast_cancer(DemoRequest(2, None, 1.0, 0, None, Path(folder)))
        files = list(demo.node_files.values())
        patients = [with_patients(path) for path in files]
        if arguments.analysis:
            wanted = arguments.kinds or list(KINDS)
            of_analysis(as_analysis(demo.task), files, patients, wanted, arguments.honest)
            return
        ready = prepare(demo.task, Path())
        plan = plan_apart
        planned: Dict[str, Any] = {}

        def plan_once(task: Task) -> Any:
            if repr(task) not in planned:
                planned[repr(task)] = plan(task)
            return planned[repr(task)]

        vars(run_module)["plan_apart"] = plan_once
        results: Dict[str, Any] = {}
        for number in range(arguments.honest):
            results[f"honest {number}"] = one(demo.task, files, ready, Request(deep=arguments.deep))
            print(f"honest {number}", results[f"honest {number}"], flush=True)
        for kind in [] if arguments.honest else arguments.kinds or KINDS:
            task = fitting(demo.task, KINDS[kind].needs)
            own = patients if task.schema.patient else files
            entry = {"quick": one(task, own, ready, Request(broken=kind))}
            if (task != demo.task or not entry["quick"]["broken"]) and KINDS[kind].needs != "masks":
                entry["deep"] = one(demo.task, files, ready, Request(broken=kind, deep=True))
            results[kind] = entry
            print(_row(kind, entry), flush=True)
        if arguments.out:
            arguments.out.write_text(json.dumps(results, indent=1))


def _row(kind: str, entry: Dict[str, Any]) -> str:
    quick, deep = entry["quick"], entry.get("deep")
    by = list(dict.fromkeys(name.split(" moves ")[0] for name in (quick["by"] or (deep or quick)["by"])))
    cells = ["yes" if quick["broken"] else "no", "" if deep is None else "yes" if deep["broken"] else "no"]
    return f"| `{kind}` | {KINDS[kind].about} | {cells[0]} | {cells[1]} | {len(by)}: {'; '.join(by[:3])} |"


if __name__ == "__main__":
    np.seterr(all="ignore")  # broken builds divide and overflow
    main()

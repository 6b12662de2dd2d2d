"""The whole audit of a task: probes of its build, canaries, membership, inversion, masks, each beside what the task claims.

Of a task with an analysis: canaries, probes and masks.
"""

import json
import tempfile
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from model_export.client import run_worker
from model_export.errors import ExportError
from orchestrator.analyses.registry import analysis_of, check, spelled_out
from orchestrator.audit.analysed import AnalysisBench, PlayingAnalysis
from orchestrator.audit.broken import broken_build, check_broken
from orchestrator.audit.examine import examine, examine_analysis, summary
from orchestrator.audit.inversion import first_layer, inversion
from orchestrator.audit.masks import mask_reuse
from orchestrator.audit.measured import Measured, wrong
from orchestrator.audit.membership import losses, membership
from orchestrator.audit.one_run import best_bound, reach
from orchestrator.audit.probes import Probe, probe, variants
from orchestrator.audit.training import Playing, Progress, check_playable
from orchestrator.data.dataset import Dataset, hold_out, load_dataset, load_for
from orchestrator.errors import EdgewardError, UsageError
from orchestrator.gateway.settings import Config
from orchestrator.node.runtime import TrainingGraph
from orchestrator.node.scores import with_scores
from orchestrator.node.store import NodeStore
from orchestrator.privacy import terms
from orchestrator.privacy.accounting import epsilon_spent
from orchestrator.privacy.accounting_process import plan_apart
from orchestrator.privacy.standardization import standardize
from orchestrator.privacy.terms import unit_of
from orchestrator.wire.claims import objection_to, oversized
from orchestrator.wire.stated import export_spec
from orchestrator.wire.task import Evaluation, Task

CONFIDENCE = 0.95
SHARP_DELTAS = (1e-4, 1e-5, 1e-6, 1e-7)
"""A claim at one delta is a claim at every other. Delta counts once for every canary, so little can be refuted at the usual ones.
So the claim is tested at one of these too: where so many canaries reach farthest above it, which is known before any guess."""

_COARSE = 1e-3
"""Discretization of the privacy loss."""

HELD_OUT = 0.25
"""Share of the nodes' records kept from training for membership inference where the configuration names no other rows."""

CONSISTENT, BROKEN, NO_CLAIM = "consistent with the claim", "CLAIM BROKEN", "no claim to hold it against"

TOO_FEW = (
    "So few canaries cannot contradict this claim even if every guess is right: more canaries or seeds reach farther. What is "
    "measured directly (noise, sensitivity, sampling) does not depend on their number."
)

LIMITS = (
    "A lower bound proves what was lost at least. A bound far below the claim does not prove the claim.",
    "A claim rests on the accountant and on tests of the noise; an audit only contradicts it. Mistakes below its resolution, and "
    "generators that can be predicted but look random, pass (docs/audit.md has a measured table).",
    "This machine's build was audited, not that of each node; what travels (codecs, MQTT, encryption) was left out.",
    "Leaks that need another attacker than these, such as timing, do not show.",
)


class Prepared(NamedTuple):
    """What the worker makes of a task's model. weights: float32 (P,). tensors: where each lies in it."""

    graph: bytes
    weights: np.ndarray
    tensors: List[Dict[str, Any]]


class Request(NamedTuple):
    """canaries: in each training; of an analysis runs, each with one. seeds: trainings, or times so many runs.

    broken: a kind of broken.KINDS, empty for the build as it is. deep: draw more, and probe what the build can do beside what the
    task asks for.
    """

    canaries: int = 1000
    seeds: int = 1
    broken: str = ""
    deep: bool = False


Attack = Callable[[int, Measured], Tuple[np.ndarray, np.ndarray]]
"""(canaries, what is measured beside) -> (scores, included)."""


def audit(
    config: Config,
    base: Path,
    files: Sequence[Path],
    request: Request,
    progress: Progress,
    prepared: Optional[Prepared] = None,
    model: bytes = b"",
) -> Dict[str, Any]:
    """Attacks the task of `config` on the data of `files`, one node each. Relative paths of the configuration start at `base`.

    prepared: where the model was prepared already. model: of an analysis, the model file by which it scores records. Raises
    EdgewardError subclasses for what a user can fix.
    """
    task = config.task
    if not task.trains:
        return _audit_analysis(task, files, request, progress, model)
    check_playable(task)
    if request.broken:
        check_broken(request.broken, [task, *_imagined(task, request.deep)])
    datasets = _datasets(task, files)
    progress("preparing the model", 0, 1)
    ready = prepared or prepare(task, base)
    progress("planning noise", 0, 1)
    task = replace(task, training=replace(task.training, parameters=ready.weights.size))
    task, _ = plan_apart(task)
    _check_declined(task, datasets)
    outside, trained = _membership_data(config, base, datasets)
    playing = Playing(task, ready.graph, ready.weights, trained, progress)
    units = (
        min(len(d.units(unit_of(task.privacy))) for d in trained.values()) if task.privacy.within_node else len(trained)
    )
    with broken_build(request.broken, units) if request.broken else nullcontext():
        report = _begun(task, trained, playing.parameters, request)
        measured, part = Measured(), _Parts()
        claim, on = report["claim"], task.privacy.on
        attack = playing.train_with
        report["canaries"] = part("training", lambda: _canaries(attack, request, claim, measured)) if on else None
        report["probes"] = summary(_probes(task, ready, request, measured, progress)) if on else None
        report["masks"] = part("masking", lambda: _masks(task, trained, playing.parameters))
        attacks = part("training", lambda: _attacks(playing, ready, outside, trained, claim))
        report.update(attacks or {"membership": None, "inversion": None})
    return _judged(report, part.failures)


def _audit_analysis(
    task: Task, files: Sequence[Path], request: Request, progress: Progress, model: bytes
) -> Dict[str, Any]:
    """Of a task with an analysis: canaries in many runs, and probes. There is no model to attack; one by which records are scored
    (`model`) is run on them first, as a node does before a round.
    """
    if request.broken:
        check_broken(request.broken, [task])
    scored = partial(with_scores, analysis_of(task), model)
    datasets, task = {name: scored(data) for name, data in _datasets(task, files).items()}, spelled_out(task)
    progress("planning noise", 0, 1)
    task, _ = plan_apart(replace(task, training=replace(task.training, parameters=analysis_of(task).sums.size)))
    check(task)
    _check_declined(task, datasets)
    playing = PlayingAnalysis(task, datasets, progress, scored)
    with broken_build(request.broken, playing.fewest) if request.broken else nullcontext():
        report = _begun(task, datasets, playing.parameters, request)
        measured, part, claim = Measured(), _Parts(), report["claim"]
        attack = playing.attack
        report["canaries"] = part("the analysis", lambda: _canaries(attack, request, claim, measured))
        report["probes"] = summary(_analysis_probes(task, playing.parameters, request, measured, progress))
        report["masks"] = part("masking", lambda: _masks(task, datasets, playing.parameters))
        report.update(membership=None, inversion=None)
    return _judged(report, part.failures)


class _Parts:
    """Plays one part of an audit after another. `failures`: what kept the nodes' code from ending, in words."""

    def __init__(self) -> None:
        self.failures: List[str] = []

    def __call__(self, what: str, play: Callable[[], Any]) -> Any:
        """None where the nodes' code fails, which is a finding: an honest build does not."""
        try:
            return play()
        except Exception as error:
            self.failures.append(f"{what} fails with {type(error).__name__}: {error}")
            return None


def _begun(task: Task, datasets: Dict[str, Dataset], parameters: int, request: Request) -> Dict[str, Any]:
    """The report's first part: what is audited, and what it claims."""
    return {
        "task": task.name,
        **terms.declared(task.privacy),
        "nodes": {name: dataset.records for name, dataset in datasets.items()},
        "parameters": parameters,
        "broken": request.broken or None,
        "confidence": CONFIDENCE,
        "deep": request.deep,
        "claim": _claim(task, request.canaries * request.seeds),
    }


def _judged(report: Dict[str, Any], failures: Sequence[str]) -> Dict[str, Any]:
    """The report with its verdict."""
    reasons = [*_contradictions(report), *dict.fromkeys(failures)]
    fine = NO_CLAIM if report["claim"]["epsilon"] is None else CONSISTENT
    few = report["canaries"] is not None and not _enough(report["canaries"]["bounds"])
    limits = [TOO_FEW, *LIMITS] if few else list(LIMITS)
    report.update(verdict=BROKEN if reasons else fine, because=reasons, limits=limits)
    return report


def _check_declined(task: Task, datasets: Dict[str, Dataset]) -> None:
    """UsageError where a node would not take part."""
    for name, dataset in datasets.items():
        reason = objection_to(task) or oversized(task, len(dataset.units(unit_of(task.privacy))))
        if reason is not None:
            raise UsageError(f"{name} would decline this task: {reason}")


def prepare(task: Task, base: Path) -> Prepared:
    """Training graph and first weights, as the gateway makes them: in a process of its own, which has TensorFlow."""
    model = dict(task.model)
    if model.get("kind") == "keras" and isinstance(model.get("path"), str):
        model["path"] = str((base / model["path"]).resolve())
    spec = export_spec(task, model)
    with tempfile.TemporaryDirectory(prefix="edgeward-audit-") as folder:
        try:
            run_worker("prepare", spec, Path(folder))
        except ExportError as error:
            raise EdgewardError(str(error)) from error
        made = Path(folder)
        tensors = json.loads((made / "tensors.json").read_text(encoding="utf-8"))
        return Prepared((made / "training.tflite").read_bytes(), np.load(made / "weights.npy"), tensors)


def _datasets(task: Task, files: Sequence[Path]) -> Dict[str, Dataset]:
    """By node. Where a sum needs more honest nodes than there are files, files serve again."""
    wanted = task.aggregation.honest if task.privacy.distributed else len(files)
    loaded = [load_for(path, task) for path in files[:wanted]]
    return {f"node-{i + 1}": loaded[i % len(loaded)] for i in range(wanted)}


def _membership_data(config: Config, base: Path, datasets: Dict[str, Dataset]) -> Tuple[Dataset, Dict[str, Dataset]]:
    """(raw records that are not trained on, those that are by node)."""
    if config.evaluation:
        rows = [load_dataset(base / path, config.task.schema) for _, path in sorted(config.evaluation.items())]
        return _joined(rows), datasets
    key = b"membership inference of an audit"
    split = {name: hold_out(dataset, HELD_OUT, key) for name, dataset in datasets.items()}
    return _joined([held for _, held in split.values()]), {name: kept for name, (kept, _) in split.items()}


def _joined(parts: Sequence[Dataset]) -> Dataset:
    return Dataset(np.concatenate([d.x for d in parts]), np.concatenate([d.y for d in parts]))


def _claim(task: Task, canaries: int) -> Dict[str, Any]:
    """{epsilon, delta, unit, curve: [{delta, epsilon}]}; epsilon of one training of the task."""
    privacy = task.privacy
    if not privacy.on:
        return {"unit": "none", "epsilon": None, "delta": None, "curve": []}
    curve = [{"delta": privacy.delta, "epsilon": epsilon_spent(task)}]
    smaller = [replace(task, privacy=replace(privacy, delta=delta)) for delta in SHARP_DELTAS if delta < privacy.delta]
    # Computed coarsely, which overstates the claim by a little: the audit can only become milder by it.
    points = [{"delta": t.privacy.delta, "epsilon": epsilon_spent(t, discretization=_COARSE)} for t in smaller]
    if points:
        curve.append(max(points, key=lambda p: reach(canaries, p["delta"], (1 - CONFIDENCE) / 2) / p["epsilon"]))
    return {"unit": terms.unit_of(privacy), "epsilon": curve[0]["epsilon"], "delta": privacy.delta, "curve": curve}


def _imagined(task: Task, deep: bool) -> List[Task]:
    """Other tasks that a deep audit probes the build with."""
    others = [task, *(other for _, other in variants(task))] if deep else []
    return [replace(other, evaluation=Evaluation(HELD_OUT)) if not other.privacy.central else other for other in others]


def _probes(task: Task, ready: Prepared, request: Request, measured: Measured, progress: Progress) -> List[Probe]:
    layers = [slice(tensor["offset"], tensor["offset"] + tensor["size"]) for tensor in ready.tensors]
    found = probe("training on the nodes' records", lambda: measured.noise_laws().items())
    with tempfile.TemporaryDirectory(prefix="edgeward-audit-") as folder:
        store = NodeStore(Path(folder) / "node.sqlite")
        try:
            for some in examine(task, store, ready.weights.size, layers, request.deep):
                progress(f"probing {some[0].name.split(': ')[0]}", 0, 1)
                found += some
        finally:
            store.close()
    return found


def _analysis_probes(task: Task, size: int, request: Request, measured: Measured, progress: Progress) -> List[Probe]:
    found = probe("runs of the analysis", lambda: measured.noise_laws().items())
    with tempfile.TemporaryDirectory(prefix="edgeward-audit-") as folder:
        store = NodeStore(Path(folder) / "node.sqlite")
        try:
            for some in examine_analysis(AnalysisBench(task, store), size, request.deep):
                progress(f"probing {some[0].name.split(': ')[0]}", 0, 1)
                found += some
        finally:
            store.close()
    return found


def _canaries(attack: Attack, request: Request, claim: Dict[str, Any], measured: Measured) -> Dict[str, Any]:
    runs = []
    for _ in range(request.seeds):
        runs.append(attack(request.canaries, measured))
    alpha = (1 - CONFIDENCE) / len(claim["curve"])
    pooled = (np.concatenate([scores for scores, _ in runs]), np.concatenate([included for _, included in runs]))
    bounds = [
        {
            "delta": point["delta"],
            "claimed": point["epsilon"],
            **best_bound(*pooled, point["delta"], alpha)._asdict(),
            "reach": reach(len(pooled[0]), point["delta"], alpha),
        }
        for point in claim["curve"]
    ]
    each = [[best_bound(*run, point["delta"], alpha).epsilon for point in claim["curve"]] for run in runs]
    return {
        "per_run": request.canaries,
        "runs": request.seeds,
        "bounds": bounds,
        "bounds_per_run": each,
        "measured": measured.report(),
        "scores": {"in": pooled[0][pooled[1]].tolist(), "out": pooled[0][~pooled[1]].tolist()},
    }


def _enough(bounds: List[Dict[str, Any]]) -> bool:
    return any(bound["reach"] > bound["claimed"] for bound in bounds)


def _masks(task: Task, trained: Dict[str, Dataset], parameters: int) -> Optional[Dict[str, Any]]:
    if task.aggregation.method != "masked":
        return None
    return mask_reuse(task, next(iter(trained.values())), parameters - task.training.personal_parameters)


def _attacks(
    playing: Playing, ready: Prepared, outside: Dataset, trained: Dict[str, Dataset], claim: Dict[str, Any]
) -> Dict[str, Any]:
    model, graph = playing.train(), TrainingGraph(ready.graph)

    def scaled(data: Dataset) -> Dataset:
        return data._replace(x=standardize(data.x, model.mean, model.std))

    members, others = scaled(_joined(list(trained.values()))), scaled(outside)
    epsilon, delta = (float("inf"), 0.0) if claim["epsilon"] is None else (claim["epsilon"], claim["delta"])
    told_apart = membership(
        losses(graph, model.weights, members.x, members.y),
        losses(graph, model.weights, others.x, others.y),
        epsilon,
        delta,
    )
    layer = first_layer(ready.tensors, int(np.prod(playing.task.schema.input_shape)))
    return {
        "membership": told_apart,
        "inversion": inversion(playing.task, graph, ready.weights.astype(np.float32), members, layer),
    }


def _contradictions(report: Dict[str, Any]) -> List[str]:
    """What the measurements and the claim cannot both be true of, in words."""
    found: List[str] = []
    canaries = report["canaries"]
    if canaries is not None:
        for bound in canaries["bounds"]:
            if bound["epsilon"] > bound["claimed"]:
                found.append(
                    f"epsilon is at least {bound['epsilon']:.3g} at delta {bound['delta']:g}, claimed are {bound['claimed']:.3g} "
                    f"({bound['correct']} of {bound['guesses']} guesses about canaries were right)"
                )
        words = {
            "noise": "the noise in released sums is {measured:.3g} times the declared",
            "sensitivity": "one canary moves a sum by {measured:.3g} clip norms, declared is 1",
            "sampling": "canaries are sampled {measured:.3g} times as often as declared",
        }
        found += [words[name].format(**canaries["measured"][name]) for name in wrong(canaries["measured"])]
    if report["probes"] is not None:
        found += report["probes"]["wrong"]
    if report["masks"] is not None and not report["masks"]["holds"]:
        found.append(
            f"{report['masks']['agreeing']} of {report['masks']['values']} masked values are alike in two rounds: masks are "
            "reused, so the difference of two rounds shows the difference of a node's vectors"
        )
    return found

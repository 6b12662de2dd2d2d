"""Tasks of every shape the privacy core knows, and all that follows from each declaration alone."""

import itertools
import json
from dataclasses import replace
from typing import Any, Dict, Iterator, List, Tuple

from orchestrator.analyses.registry import analysis_of, spelled_out
from orchestrator.errors import EdgewardError
from orchestrator.gateway.run import run_id
from orchestrator.node.approval import summary_of
from orchestrator.node.gatekeeper import uses_of
from orchestrator.privacy.accounting import epsilon_by_round, plan_noise
from orchestrator.privacy.charges import charges_of
from orchestrator.privacy.clipping import default_clip_norm, with_clipping
from orchestrator.privacy.grids import on_grids
from orchestrator.privacy.statement import statement
from orchestrator.privacy.statement_page import markdown
from orchestrator.privacy.vector_layout import bits_for, parts_of
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Evaluation, Rounds, Selection, Task, digest_of, task_to_dict
from orchestrator.wire.training import Training

NODES, UNITS = 6, 400
PLANNED = ("record distributed masked", "node gateway plain")
"""Tasks whose noise is planned; the others state it, since planning takes long."""
FEATURES = (
    Feature("age", 18, 95),
    Feature("ferritin", 1, 5000, transform="log"),
    Feature("sex", categories=("f", "m")),
)
EVERYBODY = Selection()
ANALYSES: Tuple[Dict[str, Any], ...] = (
    {"kind": "statistics", "bins": 4, "crosstabs": [["sex", "ward"]]},
    {"kind": "kmeans", "clusters": 2, "rounds": 5},
    {"kind": "survival", "time": "age", "event": "sex", "by": "ward", "steps": 5},
    {"kind": "pca"},
    {"kind": "compare", "by": "ward"},
    {"kind": "cox", "time": "age", "event": "sex", "steps": 4},
    {"kind": "regression", "outcome": "sex", "family": "logistic", "rounds": 6},
)
LATER: Tuple[Dict[str, Any], ...] = (
    {"kind": "quantiles", "columns": ["age"], "bins": 8},
    {"kind": "performance", "outcome": "sex", "coefficients": {"age": 0.05}, "bins": 9, "by": "ward"},
    {"kind": "mixture", "components": 2, "rounds": 3},
    {"kind": "hashing", "outcome": "sex", "bits": 8, "bins": 8},
    {"kind": "dosing", "weight": "age", "doses": 2, "pairs": 3, "rounds": 3},
    {"kind": "policy", "action": "ward", "reward": "age", "episodes": True, "pairs": 3, "rounds": 3},
    {"kind": "forest", "outcome": "sex", "trees": 6, "depth": 3, "bins": 4},
    {"kind": "boosted", "outcome": "sex", "trees": 3, "depth": 2, "bins": 4},
)
"""Those that came later, under masks alone."""
METHODS: Tuple[Tuple[str, Dict[str, Any]], ...] = (
    ("plain", {}),
    ("masked", {"honest": 4, "colluding": 1}),
    ("ckks", {"honest": 3, "key_holder": "keeper"}),
)
STRATEGIES: Tuple[Tuple[str, Dict[str, float]], ...] = (
    ("fedavg", {}),
    ("fedprox", {"mu": 0.1}),
    ("fedadam", {}),
    ("scaffold", {}),
    ("median", {}),
    ("fedbuff", {}),
)


def make(
    name: str,
    privacy: Privacy,
    method: int = 0,
    strategy: int = 0,
    share: float = 0.2,
    steps: int = 1,
    selection: Selection = EVERYBODY,
) -> Task:
    ways, options = METHODS[method]
    standardization = "federated" if privacy.unit != "node" else "range"
    return Task(
        name,
        Schema(
            "table",
            "died",
            ("no", "yes"),
            {"0": 0, "1": 1},
            FEATURES,
            patient="patient",
            standardization=standardization,
        ),
        {"kind": "mlp", "hidden": [4]},
        Training(STRATEGIES[strategy][0], 8, steps, options=STRATEGIES[strategy][1], parameters=30),
        privacy,
        Rounds(NODES, min(5, selection.cohort or 5)),
        evaluation=Evaluation(share, every=4),
        aggregation=Aggregation(ways, **options),
        selection=selection,
    )


def declared() -> Iterator[Task]:
    """About 90 tasks: unit x noise x method x strategy, and the rarer fields one at a time."""
    for (method, (way, _)), (strategy, (kind, _)) in itertools.product(enumerate(METHODS), enumerate(STRATEGIES)):
        if not (method and kind in ("scaffold", "median", "fedbuff")):
            yield make(f"open {way} {kind}", Privacy("none"), method, strategy)
    noises = (("node", 0), ("distributed", 1), ("distributed", 2))
    for unit, (noise, method) in itertools.product(("record", "patient"), noises):
        yield make(f"{unit} {noise} {METHODS[method][0]}", Privacy(unit, 3.0, 1e-4, noise=noise), method)
    for noise, method in (("node", 0), ("distributed", 1), ("distributed", 2), ("gateway", 0)):
        yield make(f"node {noise} {METHODS[method][0]}", Privacy("node", 50.0, 1e-3, noise=noise), method, share=0.0)
    yield make("two runs", Privacy(epsilon=4.0, delta=1e-4, runs=2))
    yield make("five steps", Privacy(epsilon=4.0, delta=1e-4), steps=5)
    yield make("skellam", Privacy(epsilon=4.0, delta=1e-4, mechanism="skellam", noise="distributed"), 1)
    yield make("skellam alone", Privacy(epsilon=4.0, delta=1e-4, mechanism="skellam"))
    yield make("no evaluation", Privacy(epsilon=1.0, delta=1e-4), share=0.0)
    yield make("clip tally", Privacy(epsilon=4.0, delta=1e-4, clip_tally=True, noise="distributed"), 1)
    yield make("clip tally alone", Privacy(epsilon=4.0, delta=1e-4, clip_tally=True))
    yield make("median", Privacy(epsilon=4.0, delta=1e-4), strategy=4)
    yield make("scaffold", Privacy(epsilon=4.0, delta=1e-4), strategy=3)
    yield make("quantile", Privacy("node", 50.0, 1e-3, noise="gateway", clip_quantile=0.5), share=0.0)
    yield make("bands", Privacy("node", 50.0, 1e-3, noise="gateway", bands=2), share=0.0, selection=Selection(cohort=3))
    sample = Selection(sampling_rate=0.9)
    yield make("sample", Privacy("node", 50.0, 1e-3, noise="gateway"), share=0.0, selection=sample)
    yield make("weighed", Privacy("none"), strategy=0)
    for method, noise in ((0, "node"), (1, "distributed"), (2, "distributed")):
        private = Privacy(
            "patient" if method == 2 else "record", 1.0, 1e-4, noise=noise, sampling_rate=1.0, clip_norm=0.0
        )
        for kind, privacy in (("open", Privacy("none")), ("private", private)):
            for analysis in ANALYSES:
                if analysis["kind"] == "cox" and privacy.on:
                    continue  # refused
                yield analysed(f"{analysis['kind']} {METHODS[method][0]} {kind}", analysis, privacy, method)
    shared = Privacy("record", 1.0, 1e-4, noise="distributed", sampling_rate=1.0, clip_norm=0.0)
    for analysis in LATER:
        yield analysed(f"{analysis['kind']} masked open", analysis, Privacy("none"), 1)
        if analysis["kind"] != "boosted":  # refused
            yield analysed(f"{analysis['kind']} masked private", analysis, shared, 1)


def analysed(name: str, analysis: Dict[str, Any], privacy: Privacy, method: int) -> Task:
    way, options = METHODS[method]
    features = (*FEATURES, Feature("ward", categories=("icu", "er", "obs")))
    schema, aggregation = Schema("table", "", (), {}, features, patient="patient"), Aggregation(way, **options)
    task = Task(name, schema, {}, privacy=privacy, rounds=Rounds(NODES, 5), aggregation=aggregation, analysis=analysis)
    found = analysis_of(task)
    return replace(task, training=Training(rounds=found.rounds, parameters=found.sums.size))


def planned(task: Task) -> Task:
    if not task.trains:
        task = with_clipping(spelled_out(task))
        return replace(task, privacy=replace(task.privacy, noise_multiplier=1.7)) if task.privacy.on else task
    if task.privacy.on and task.name in PLANNED:
        task = plan_noise(replace(task, privacy=replace(task.privacy, clip_norm=default_clip_norm(task))))
    elif task.privacy.on:
        stated: Dict[str, Any] = {
            "noise_multiplier": 1.7,
            "statistics_noise_multiplier": 9.0,
            "statistics_clip_norm": 1.3,
        }
        task = replace(task, privacy=replace(task.privacy, clip_norm=0.8, evaluation_noise_multiplier=11.0, **stated))
    if task.name == "weighed":
        task = replace(task, training=replace(task.training, class_weights=(1.0, 3.0)))
    return task


def follows(task: Task) -> Dict[str, Any]:
    """What gateway and nodes make of a task: names, charges, vectors, uses, epsilon, texts."""
    found: Dict[str, Any] = {"run": run_id(task), "digest": digest_of(task_to_dict(task), b"graph")}
    try:
        task = planned(task)
    except EdgewardError as error:
        return {**found, "refused": str(error)}
    found["charges"] = [charge.to_dict() for charge in on_grids(task, charges_of(task, 2))]
    last = task.training.rounds + 1
    layouts: Dict[str, List[Any]] = {}
    for number in (0, 1, 4, last):
        parts = parts_of(task, number, task.training.parameters)
        fields = [[p.name, p.size, p.noisy, p.unit, p.per_unit, p.std, p.reach, p.times] for p in parts]
        layouts[str(number)] = [fields, bits_for(parts, NODES * UNITS, NODES) if parts else 0]
    found.update(
        layouts=layouts, uses={str(n): uses_of(task, n) for n in (0, 1, 4, last)}, leaves=summary_of(task, 1.5)
    )
    if task.privacy.on and task.name in PLANNED:
        found["by_round"] = [list(each) for each in epsilon_by_round(task, most_points=3)]
    claim = statement(task, {f"n{i}": UNITS for i in range(NODES)}, max(1, task.privacy.runs), {"least_survivors": 5})
    return {**found, "statement": claim, "page": markdown(claim)}


def everything() -> Dict[str, Any]:
    found: Dict[str, Any] = json.loads(json.dumps({task.name: follows(task) for task in declared()}))
    return found

"""`edgeward privacy`: what a privacy budget costs before anyone trains, and what a model's statement says."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

from orchestrator.cli.commands import COMMANDS
from orchestrator.cli.privacy_outlook import of_clipping, of_evaluation, plot, show

if TYPE_CHECKING:
    from orchestrator.privacy.evaluation_outlook import EvaluationOutlook
    from orchestrator.privacy.planning import Fleet
    from orchestrator.wire.task import Task

_EPILOG = """examples:
  edgeward privacy plan edgeward.toml --rows 486
  edgeward privacy plan --unit record --nodes 4 --rows 486 --parameters 14 --rounds 30 --rate 0.25 --epsilon 3
  edgeward privacy plan --unit node --noise gateway --nodes 1000 --cohort 100 --bands 10 --parameters 5000 --rounds 30
  edgeward privacy statement federation

Noise-to-signal is the length of the noise on the sum of all steps beside that of the longest sum of all steps. Up to 0.1 it
costs little; above 0.3 little is learned (docs/privacy.md). Exit code 1: the budget asked for is impossible."""


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "privacy",
        help=COMMANDS["privacy"],
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    plan = verbs.add_parser(
        "plan",
        help="noise, and what it costs, for epsilon 1, 3, 8 and yours",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    plan.add_argument(
        "config", nargs="?", type=Path, metavar="edgeward.toml", help="options below go before what it says"
    )
    plan.add_argument("--unit", choices=("record", "patient", "node"), help="what is protected (default: record)")
    plan.add_argument("--noise", choices=("node", "distributed", "gateway"), help="who adds it (default: node)")
    plan.add_argument(
        "--mechanism", choices=("discrete-gaussian", "skellam"), help="law of the noise (default: discrete-gaussian)"
    )
    plan.add_argument("--epsilon", type=float, metavar="E", help="the budget to judge by (default: 8)")
    plan.add_argument(
        "--delta", type=float, metavar="D", help="probability of a larger loss (default: units to the power -1.1)"
    )
    plan.add_argument("--nodes", type=int, metavar="N", help="how many nodes the federation has")
    plan.add_argument("--rows", type=int, metavar="R", help="records of all nodes together")
    plan.add_argument("--patients", type=int, metavar="M", help="of all nodes together, for unit patient")
    plan.add_argument("--rounds", type=int, metavar="T", help="rounds of training (default: 20)")
    plan.add_argument("--local-steps", type=int, metavar="S", help="gradient steps a round (default: 1)")
    plan.add_argument(
        "--rate", type=float, metavar="Q", help="of records (patients) in a step; unit node: of nodes in a round"
    )
    plan.add_argument("--cohort", type=int, metavar="C", help="nodes a round, in turn")
    plan.add_argument("--bands", type=int, metavar="B", help="noise at the gateway correlated over so many rounds")
    plan.add_argument("--clip-quantile", type=float, metavar="G", help="unit node: the clip norm follows this quantile")
    plan.add_argument(
        "--honest", type=int, metavar="H", help="distributed: nodes whose noise is counted on (default: 3)"
    )
    plan.add_argument("--colluding", type=int, metavar="K", help="distributed: nodes that may work with the gateway")
    plan.add_argument("--runs", type=int, metavar="K", help="trainings the budget must last for (default: 1)")
    plan.add_argument("--parameters", type=int, metavar="P", help="how many weights the model has")
    plan.add_argument("--plot", type=Path, metavar="X.png|X.svg", help="noise-to-signal over epsilon")
    plan.add_argument("--json", action="store_true", help="as JSON")
    plan.set_defaults(run=_plan)
    statement = verbs.add_parser(
        "statement", help="the privacy page of a bundle, or of the bundle in a gateway's folder"
    )
    statement.add_argument("folder", type=Path, metavar="BUNDLE|OUT", help="a bundle, or the --out folder of a gateway")
    statement.add_argument("--json", action="store_true", help="the statement as it is in the manifest")
    statement.set_defaults(run=_statement)


def _plan(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from orchestrator.privacy.clipping import with_clipping
    from orchestrator.privacy.planning import plan
    from orchestrator.privacy.terms import declared

    task, fleet = _asked(arguments)
    found = plan(task, fleet)
    evaluated = _evaluations(task, fleet, [each.epsilon for each in found])
    if arguments.plot:
        plot(task, fleet, arguments.plot)
    if arguments.json:
        print(
            json.dumps(
                {
                    **declared(task.privacy),
                    "nodes": fleet.nodes,
                    "units": fleet.units,
                    "parameters": fleet.parameters,
                    "steps": task.steps,
                    "clip_norm": with_clipping(task).privacy.clip_norm,
                    "plans": [each.to_dict() for each in found],
                    "evaluation": [asdict(each) for each in evaluated],
                },
                indent=1,
            )
        )
    else:
        show(task, fleet, found)
        hint = of_clipping(task) if arguments.config else ""
        if hint:
            print(hint)
        for each, outlook in zip(found, evaluated):
            print(of_evaluation(task, each.epsilon, outlook))
    own = next(each for each in found if each.epsilon == task.privacy.epsilon)
    return 1 if own.verdict == "impossible" else 0


def _asked(arguments: argparse.Namespace) -> Tuple[Task, Fleet]:
    """Raises UsageError for what is missing or does not go together."""
    from dataclasses import replace

    from orchestrator.errors import UsageError
    from orchestrator.privacy.planning import Fleet, delta_for
    from orchestrator.privacy.terms import setting, unit_of

    task = _base(arguments)
    given = {name: value for name, value in vars(arguments).items() if value is not None}
    privacy: Dict[str, Any] = {
        name: given[name]
        for name in ("unit", "noise", "mechanism", "epsilon", "bands", "clip_quantile", "runs", "delta")
        if name in given
    }
    unit = privacy.get("unit", unit_of(task.privacy))
    if unit == "none":
        raise UsageError(f"{setting(task.privacy)}: there is no budget to plan; choose --unit record, patient or node")
    nodes: Optional[int] = given.get("nodes", task.rounds.nodes if arguments.config else None)
    size: Dict[str, Tuple[str, Optional[int]]] = {
        "record": ("rows", given.get("rows")),
        "patient": ("patients", given.get("patients")),
        "node": ("nodes", nodes),
    }
    units = size[unit][1]
    for other in {"rows", "patients"} & set(given) - {size[unit][0]}:
        count = size[unit][0]
        raise UsageError(f"--{other}: unit {unit!r} counts {count}; give --{count} alone, or choose another --unit")
    parameters: Optional[int] = given.get("parameters", _parameters(task) if arguments.config else None)
    lacking = [
        f"--{name}" for name, value in (("nodes", nodes), size[unit], ("parameters", parameters)) if value is None
    ]
    if nodes is None or units is None or parameters is None:
        raise UsageError(f"privacy plan with unit {unit!r} needs {', '.join(dict.fromkeys(lacking))}")
    if "delta" not in privacy and not arguments.config:
        privacy["delta"] = delta_for(units)
    selection = {"cohort": given["cohort"]} if "cohort" in given else {}
    if "rate" in given:
        if unit == "node":
            selection["sampling_rate"] = given["rate"]
        else:
            privacy["sampling_rate"] = given["rate"]
    training = {name: given[name] for name in ("rounds", "local_steps") if name in given}
    aggregation = {name: given[name] for name in ("honest", "colluding") if name in given}
    try:
        shared = replace(task.aggregation, **aggregation)
        if privacy.get("noise") == "distributed" and not shared.secure:
            shared = replace(shared, method="masked")
        quorum = min(nodes, shared.least) if shared.secure else 1
        asked = replace(
            task,
            privacy=replace(task.privacy, **privacy),
            training=replace(task.training, parameters=parameters, **training),
            selection=replace(task.selection, **selection),
            rounds=replace(task.rounds, nodes=max(nodes, quorum), quorum=quorum),
            aggregation=shared,
        )
    except ValueError as error:
        raise UsageError(f"privacy plan: {error}") from error
    return asked, Fleet(nodes, units, parameters)


def _base(arguments: argparse.Namespace) -> Task:
    from orchestrator.wire.protection import Privacy
    from orchestrator.wire.schema import Feature, Schema
    from orchestrator.wire.task import Rounds, Task
    from orchestrator.wire.training import Training

    if arguments.config:
        from orchestrator.errors import UsageError
        from orchestrator.gateway.config import load_config

        task = load_config(arguments.config).task
        if not task.trains:
            raise UsageError(
                f"{arguments.config}: has an analysis; its noise is planned, and its intervals shown, by `edgeward gateway run`: "
                "this command is about training"
            )
        return task
    schema = Schema(
        "table", "y", ("no", "yes"), {"0": 0, "1": 1}, (Feature("x", 0, 1),), standardization="range", patient="patient"
    )
    return Task("plan", schema, {"kind": "mlp"}, Training(), Privacy(), Rounds(nodes=1))


def _parameters(task: Task) -> Optional[int]:
    """Of a model of dense layers; None where only TensorFlow could tell."""
    if task.model.get("kind") != "mlp":
        return None
    widths = [*task.schema.input_shape, *task.model.get("hidden", [16]), task.schema.learned.outputs]
    return sum(before * after + after for before, after in zip(widths, widths[1:]))


def _evaluations(task: Task, fleet: Fleet, epsilons: List[float]) -> List[EvaluationOutlook]:
    """What federated evaluation will be worth, for each epsilon; nothing for a task without it."""
    from dataclasses import replace

    from orchestrator.gateway.scores import STEERS_WITHIN
    from orchestrator.privacy.evaluation_outlook import outlook

    if not task.evaluation.on or task.schema.target:  # an outlook is of histograms over classes
        return []
    shared = (
        task.aggregation,
        len(task.schema.classes),
        fleet.nodes,
        fleet.units * task.evaluation.share,
        STEERS_WITHIN,
    )
    stated = replace(task.privacy, evaluation_noise_multiplier=0.0)
    return [
        outlook(
            task.privacy if each == task.privacy.epsilon else replace(stated, epsilon=each),
            task.training,
            task.evaluation,
            *shared,
        )
        for each in epsilons
    ]


def _statement(arguments: argparse.Namespace) -> int:
    import hashlib

    from model_export.errors import BundleError
    from model_export.manifest import MANIFEST, PRIVACY_PAGE, read_manifest
    from orchestrator.cli.tables import say
    from orchestrator.errors import GivenError, UsageError
    from orchestrator.privacy.statement_page import markdown

    folder = arguments.folder
    places = [place for place in (folder, folder / "bundle") if (place / MANIFEST).is_file()]
    if not places:
        raise UsageError(f"{folder}: neither a bundle nor a gateway's folder with one")
    try:
        said = read_manifest(places[0])["privacy"]
    except BundleError as error:
        raise GivenError(f"{places[0]}: {error}") from error
    if said is None:
        raise UsageError(f"{places[0]}: this model was not made by a federation, so nothing is said about privacy")
    if arguments.json:
        print(json.dumps(said, indent=1))
        return 0
    if "page_sha256" not in said:  # a bundle of before there were pages
        try:
            text = markdown(said) if "holds_against" in said or said["unit"] == "none" else str(said["claim"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise GivenError(f"{places[0] / MANIFEST}: privacy: is no statement: {error!r}") from error
        say(text.rstrip("\n"))
        return 0
    path = places[0] / PRIVACY_PAGE
    page = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(page).hexdigest() != said["page_sha256"]:
        raise GivenError(f"{path}: is not the page the manifest records: it is missing, or was changed")
    say(page.decode(errors="replace").rstrip("\n"))
    return 0

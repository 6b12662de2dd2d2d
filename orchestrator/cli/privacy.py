"""`edgeward privacy`: what a privacy budget costs before anyone trains, and what a model's statement says."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

from orchestrator.cli.commands import COMMANDS

if TYPE_CHECKING:
    from orchestrator.privacy.evaluation_outlook import EvaluationOutlook
    from orchestrator.privacy.planning import Fleet, Outlook
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

    task, fleet = _asked(arguments)
    found = plan(task, fleet)
    evaluated = _evaluations(task, fleet, [each.epsilon for each in found])
    if arguments.plot:
        _plot(task, fleet, arguments.plot)
    if arguments.json:
        print(
            json.dumps(
                {
                    "unit": task.privacy.unit,
                    "noise": task.privacy.noise,
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
        _show(task, fleet, found)
        hint = _of_clipping(task) if arguments.config else ""
        if hint:
            print(hint)
        for each, outlook in zip(found, evaluated):
            print(_of_evaluation(task, each.epsilon, outlook))
    own = next(each for each in found if each.epsilon == task.privacy.epsilon)
    return 1 if own.verdict == "impossible" else 0


def _asked(arguments: argparse.Namespace) -> Tuple[Task, Fleet]:
    """Raises UsageError for what is missing or does not go together."""
    from dataclasses import replace

    from orchestrator.errors import UsageError
    from orchestrator.privacy.planning import Fleet, delta_for

    task = _base(arguments)
    given = {name: value for name, value in vars(arguments).items() if value is not None}
    privacy: Dict[str, Any] = {
        name: given[name]
        for name in ("unit", "noise", "mechanism", "epsilon", "bands", "clip_quantile", "runs", "delta")
        if name in given
    }
    unit = privacy.get("unit", task.privacy.unit)
    if unit == "none":
        raise UsageError("privacy.unit is 'none': there is no budget to plan; choose --unit record, patient or node")
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
    from orchestrator.wire.schema import Feature, Schema
    from orchestrator.wire.task import Privacy, Rounds, Task
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
    widths = [*task.schema.input_shape, *task.model.get("hidden", [16]), len(task.schema.classes)]
    return sum(before * after + after for before, after in zip(widths, widths[1:]))


def _show(task: Task, fleet: Fleet, found: List[Outlook]) -> None:
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    from orchestrator.cli.screen import console
    from orchestrator.privacy.planning import COSTLY, IMPOSSIBLE

    privacy = task.privacy
    units = {"record": "records", "patient": "patients", "node": "nodes"}[privacy.unit]
    screen = console()
    of = "" if privacy.unit == "node" else f" on {fleet.nodes:,} nodes"
    screen.print(
        f"unit {privacy.unit}, noise at {privacy.noise}: {fleet.units:,} {units}{of}, {fleet.parameters:,} parameters, "
        f"{task.steps} steps, delta {privacy.delta:g}",
    )
    table = Table(box=SIMPLE, pad_edge=False)
    for head in ("epsilon", "noise", "each\nnode", f"{units}\na step", "deviation\nof mean"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("noise to\nsignal", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    colours = {"possible": "green", "costly": "yellow", "impossible": "red"}
    for each in found:
        figures = (
            ["-"] * 5
            if each.noise_to_signal is None
            else [
                f"{each.noise_multiplier:.3f}",
                f"{each.node_multiplier:.3f}" if each.node_multiplier else "-",
                f"{each.units_a_step:,.4g}",
                f"{each.mean_deviation:.3g}",
                f"{each.noise_to_signal:.3g}",
            ]
        )
        mark = " *" if each.epsilon == privacy.epsilon else ""
        verdict = Text(each.verdict, colours[each.verdict])
        table.add_row(f"{each.epsilon:g}{mark}", *figures, verdict)
    screen.print(table)
    print(
        "Noise (of a step's sum, and what each node adds) and deviation are in clip norms; * is the budget asked for."
    )
    print(
        f"Noise to signal: up to {COSTLY:g} possible, up to {IMPOSSIBLE:g} costly, above it impossible (docs/privacy.md)."
    )
    for line in dict.fromkeys(_remark(task, units, each) for each in found if each.verdict != "possible"):
        print(line)


def _evaluations(task: Task, fleet: Fleet, epsilons: List[float]) -> List[EvaluationOutlook]:
    """What federated evaluation will be worth, for each epsilon; nothing for a task without it."""
    from dataclasses import replace

    from orchestrator.gateway.scores import STEERS_WITHIN
    from orchestrator.privacy.evaluation_outlook import outlook

    if not task.evaluation.on:
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


def _of_clipping(task: Task) -> str:
    """What the clip norm means for gradients of this model; "" where that cannot be computed."""
    from orchestrator.privacy.clipping import default_clip_norm, gradient_length

    privacy, chosen = task.privacy, default_clip_norm(task)
    if not privacy.within_node or task.schema.kind != "table":
        return ""
    length = f"a record's gradient is about {gradient_length(task.schema):.2g} long at first"
    if not privacy.clip_norm:
        return f"clip norm {chosen:g}, chosen by the model's inputs and classes: {length}"
    if privacy.clip_norm < chosen / 2:
        return (
            f"clip norm {privacy.clip_norm:g}: {length}, so most are shortened, which leaves the model too unsure of itself; "
            f"without clip_norm it is {chosen:g}"
        )
    if privacy.clip_norm > 3 * chosen:
        return f"clip norm {privacy.clip_norm:g}: {length}, so most of the noise is wasted; without clip_norm it is {chosen:g}"
    return f"clip norm {privacy.clip_norm:g}: {length}; without clip_norm it is {chosen:g}"


def _of_evaluation(task: Task, epsilon: float, found: EvaluationOutlook) -> str:
    from orchestrator.gateway.scores import SHOWN, SHOWN_WITHIN, STEERS_WITHIN

    shown = {"accuracy": SHOWN, "loss": SHOWN_WITHIN["loss"], "auc": SHOWN}
    labels = {"auc": "AUC"}
    moved = {name: found.about(name) or 0.0 for name in shown}
    hidden = [labels.get(name, name) for name, most in shown.items() if moved[name] > most]
    lost = [labels.get(name, name) for name in shown if moved[name] > STEERS_WITHIN]
    words = f"; {_listed(hidden, 'and')} will be too noisy to show" if hidden else ""
    if lost:
        words += f"; best and patience cannot go by {_listed(lost, 'or')}: about {found.enough:,} held out would do"
    area = (
        ""
        if found.auc is None
        else f", and AUC by about {found.auc:.2g} where both classes are as frequent (more where one is rare)"
    )
    return (
        f"epsilon {epsilon:g}: evaluated on about {found.records:,.0f} held out, noise alone moves accuracy by "
        f"{found.accuracy:.2g} and loss by {found.loss:.2g}{area} (95 %){words}"
    )


def _listed(names: List[str], last: str) -> str:
    return f" {last} ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _remark(task: Task, units: str, each: Outlook) -> str:
    if each.reason:
        return f"epsilon {each.epsilon:g}: {each.reason}"
    if each.enough is None:
        return f"epsilon {each.epsilon:g}: no number of {units} would make it possible"
    a_round = " a round" if task.privacy.unit == "node" else ""
    delta = "" if each.enough_delta == task.privacy.delta else f", at delta {each.enough_delta:g},"
    return f"epsilon {each.epsilon:g}: {each.enough:,} {units}{a_round}{delta} would make it possible"


def _plot(task: Task, fleet: Fleet, path: Path) -> None:
    from dataclasses import replace

    from orchestrator.cli.arguments import check_output
    from orchestrator.errors import UsageError
    from orchestrator.privacy.planning import COSTLY, IMPOSSIBLE, outlook

    if path.suffix not in (".png", ".svg"):
        raise UsageError(f"{path}: a plot is a .png or .svg")
    check_output(path, "--plot")
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    bare = replace(task.privacy, noise_multiplier=0.0, statistics_noise_multiplier=0.0, evaluation_noise_multiplier=0.0)
    points: Dict[float, float] = {}
    for epsilon in (0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0):
        ratio = outlook(replace(task, privacy=replace(bare, epsilon=epsilon)), fleet).noise_to_signal
        if ratio is not None:
            points[epsilon] = ratio
    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    if points:
        axes.loglog(list(points), list(points.values()), "o-", color="#1f5fa8")
    low, high = axes.get_ylim()
    low, high = min(low, COSTLY / 2), max(high, 2 * IMPOSSIBLE)
    for start, end, colour, name in (
        (low, COSTLY, "#dff0df", "possible"),
        (COSTLY, IMPOSSIBLE, "#fdf1d0", "costly"),
        (IMPOSSIBLE, high, "#f6d9d9", "impossible"),
    ):
        axes.axhspan(start, end, color=colour, zorder=0)
        axes.text(0.99, (start * end) ** 0.5, name, transform=axes.get_yaxis_transform(), ha="right", va="center")
    axes.axvline(task.privacy.epsilon, color="#777777", linestyle=":")
    axes.set(xlabel="epsilon", ylabel="noise to signal", ylim=(low, high), yscale="log", xscale="log")
    axes.set_title(f"unit {task.privacy.unit}, noise at {task.privacy.noise}, delta {task.privacy.delta:g}")
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _statement(arguments: argparse.Namespace) -> int:
    import hashlib

    from model_export.errors import BundleError
    from model_export.manifest import MANIFEST, PRIVACY_PAGE, read_manifest
    from orchestrator.cli.tables import say
    from orchestrator.errors import EdgewardError, UsageError
    from orchestrator.privacy.statement_page import markdown

    folder = arguments.folder
    places = [place for place in (folder, folder / "bundle") if (place / MANIFEST).is_file()]
    if not places:
        raise UsageError(f"{folder}: neither a bundle nor a gateway's folder with one")
    try:
        said = read_manifest(places[0])["privacy"]
    except BundleError as error:
        raise EdgewardError(f"{places[0]}: {error}") from error
    if said is None:
        raise UsageError(f"{places[0]}: this model was not made by a federation, so nothing is said about privacy")
    if arguments.json:
        print(json.dumps(said, indent=1))
        return 0
    if "page_sha256" not in said:  # a bundle of before there were pages
        try:
            text = markdown(said) if "holds_against" in said or said["unit"] == "none" else str(said["claim"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise EdgewardError(f"{places[0] / MANIFEST}: privacy: is no statement: {error!r}") from error
        say(text.rstrip("\n"))
        return 0
    path = places[0] / PRIVACY_PAGE
    page = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(page).hexdigest() != said["page_sha256"]:
        raise EdgewardError(f"{path}: is not the page the manifest records: it is missing, or was changed")
    say(page.decode(errors="replace").rstrip("\n"))
    return 0

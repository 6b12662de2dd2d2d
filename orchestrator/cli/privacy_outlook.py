"""What `edgeward privacy plan` shows: a table of budgets, what clipping and evaluation come to, a plot."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Dict, List

from orchestrator.wire.plain import many

if TYPE_CHECKING:
    from orchestrator.privacy.evaluation_outlook import EvaluationOutlook
    from orchestrator.privacy.planning import Fleet, Outlook
    from orchestrator.wire.task import Task


def show(task: Task, fleet: Fleet, found: List[Outlook]) -> None:
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    from orchestrator.cli.screen import console
    from orchestrator.privacy import terms
    from orchestrator.privacy.planning import COSTLY, IMPOSSIBLE

    privacy = task.privacy
    units, named = terms.units_of(privacy), terms.declared(privacy)
    screen = console()
    of = "" if privacy.of_nodes else f" on {many(fleet.nodes, 'node')}"
    screen.print(
        f"unit {named['unit']}, noise at {named['noise']}: {fleet.units:,} {units}{of}, {fleet.parameters:,} parameters, "
        f"{many(task.steps, 'step')}, delta {privacy.delta:g}",
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


def of_clipping(task: Task) -> str:
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


def of_evaluation(task: Task, epsilon: float, found: EvaluationOutlook) -> str:
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
    a_round = " a round" if task.privacy.of_nodes else ""
    delta = "" if each.enough_delta == task.privacy.delta else f", at delta {each.enough_delta:g},"
    return f"epsilon {each.epsilon:g}: {each.enough:,} {units}{a_round}{delta} would make it possible"


def plot(task: Task, fleet: Fleet, path: Path) -> None:
    from dataclasses import replace

    from orchestrator.cli.arguments import check_output
    from orchestrator.errors import UsageError
    from orchestrator.files import new_file
    from orchestrator.privacy import terms
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
    named = terms.declared(task.privacy)
    axes.set_title(f"unit {named['unit']}, noise at {named['noise']}, delta {task.privacy.delta:g}")
    with new_file(path, replaces=True) as fresh:
        figure.savefig(fresh, dpi=150)
    pyplot.close(figure)

"""What the demo shows at the end: report.json, one table, one picture of the rounds."""

from pathlib import Path
from typing import Any, Dict, List

from rich.console import Console
from rich.table import Table

from orchestrator.gateway.score_tables import LABELS, cell
from orchestrator.wire.plain import many


def assemble(result: Dict[str, Any], board: Dict[str, Any], metrics: Dict[str, Any], seconds: float) -> Dict[str, Any]:
    """The contract of report.json from the gateway's result and the board's run; `metrics` is that of the board."""
    return {
        "task": result["task"],
        "nodes": result["nodes"],
        "rounds": result["rounds"],
        "seconds": seconds,
        "privacy": {"accountant": None, "noise_multiplier": None, "clip_norm": None, **result["privacy"]},
        "metrics": {**result["metrics"], "board": metrics},
        "per_round": result["per_round"],
        "wire": result["wire"],
        "memory_mib": result["memory_mib"],
        "node_processes": result["node_processes"],
        "arena": result["arena"],
        "board": board,
        "bundle": result["bundle"],
    }


def print_table(report: Dict[str, Any], console: Console) -> None:
    metrics, wire, memory, board = (report[k] for k in ("metrics", "wire", "memory_mib", "board"))
    table = Table(
        title=f"{report['task']}: {many(report['nodes'], 'node')}, {many(report['rounds'], 'round')}, {report['seconds']:.0f} s"
    )
    table.add_column("")
    for name in ("float", "int8", "TFLM", "board"):
        table.add_column(name, justify="right")
    engines = [metrics[name] for name in ("float", "int8", "tflm", "board")]
    for name, label in LABELS.items():
        if any(m.get(name) is not None for m in engines):
            table.add_row(label, *(_engine_cell(m, name, i == 0) for i, m in enumerate(engines)))
    groups, figure = list(engines[0].get("sites", {})), main_figure(report)
    if len(groups) > 1:
        for group in groups:
            sites = [m["sites"][group] for m in engines]
            table.add_row(
                f"{LABELS[figure]} at {group}", *(_engine_cell(m, figure, i == 0) for i, m in enumerate(sites))
            )
    if len(groups) > 1 and "per_node" in engines[0]:
        table.add_row("mean over nodes", *(f"{sum(m['per_node'].values()) / len(m['per_node']):.3f}" for m in engines))
    console.print(table)
    facts = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, text in _facts(report, wire, memory, board):
        facts.add_row(f"[bold]{name}[/bold]", text)
    console.print(facts)
    if metrics["board"]["warning"]:
        console.print(f"[yellow]warning[/yellow]: {metrics['board']['warning']}", highlight=False)


def main_figure(report: Dict[str, Any]) -> str:
    """Name of the figure that says most of how good the model is."""
    return "accuracy" if "accuracy" in report["metrics"]["board"] else "r2"


def _engine_cell(figures: Dict[str, Any], name: str, whole: bool) -> str:
    """With its interval in the first column: the others are of the same rows."""
    return cell(figures if whole else {name: figures.get(name)}, name)


def _facts(report: Dict[str, Any], wire: Dict[str, Any], memory: Dict[str, Any], board: Dict[str, Any]) -> List[Any]:
    privacy = report["privacy"]
    spent = (
        f"epsilon {privacy['epsilon']:.2f} at delta {privacy['delta']:g} per {privacy['unit']} ({privacy['accountant']})"
        if privacy["unit"] != "none"
        else "none: trained without differential privacy"
    )
    share = wire["bytes_up_per_node_round"] / wire["float32_bytes"]
    records = board["records"]
    rows = f"{board['rows']}, of which {board['mismatches_vs_tflm']} differ from TFLM; arena {board['arena_bytes']} B"
    broker = f"broker {memory['broker']:.0f}, " if memory["broker"] else ""
    return [
        ("privacy", spent),
        (
            "bytes per node and round",
            f"up {wire['bytes_up_per_node_round']:,.0f} ({share:.2f}x of float32's {wire['float32_bytes']:,}), "
            f"down {wire['bytes_down_per_node_round']:,.0f}",
        ),
        (
            "peak memory, MiB",
            f"gateway {memory['gateway']:.0f}, {broker}nodes {', '.join(f'{n:.0f}' for n in memory['nodes'])}"
            f"{'' if privacy['unit'] == 'none' else ' before they opened data'}",
        ),
        ("board rows", rows),
        ("board records", f"{records['received']} received, {records['lost']} lost, {records['corrupt']} corrupt"),
        ("board", board["simulated"]),
    ]


def plot_rounds(report: Dict[str, Any], path: Path) -> None:
    """Loss and accuracy (of a number R2) on held-out rows over the rounds, as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rounds, figure_name = [r["round"] for r in report["per_round"]], main_figure(report)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), constrained_layout=True)
    left.plot(rounds, [r["loss"] for r in report["per_round"]], color="#b2182b")
    left.set(xlabel="round", ylabel="loss on held-out rows", ylim=(0, None))
    right.plot(rounds, [r[figure_name] for r in report["per_round"]], color="#2166ac", label="federated, each round")
    board = report["metrics"]["board"][figure_name]
    right.axhline(board, color="#4d4d4d", linestyle="--", label=f"int8 on the board: {board:.3f}")
    right.set(xlabel="round", ylabel=f"{LABELS[figure_name]} on held-out rows", ylim=(None, 1))
    right.legend(frameon=False, loc="lower right")
    privacy = report["privacy"]
    claim = (
        f"ε = {privacy['epsilon']:.2f} per {privacy['unit']}"
        if privacy["unit"] != "none"
        else "no differential privacy"
    )
    figure.suptitle(f"{report['task']}: {many(report['nodes'], 'node')}, {claim}")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)

"""What `edgeward gateway run` shows of a finished run: how good, at what price, where it is, and what to do with it."""

import shlex
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from orchestrator.cli.tables import scores, table, tables
from orchestrator.gateway.score_tables import LABELS
from orchestrator.wire.plain import many

Facts = List[Tuple[str, str]]


def outcome(report: Dict[str, Any], out: Path, classes: Sequence[str] = ()) -> str:
    """Tables for a person of what is also in OUT/result.json. classes: their names."""
    simulated = ", simulated: all in one process, nothing was protected" if report["privacy"].get("simulated") else ""
    parts = [f"{report['task']}: {many(report['nodes'], 'node')}, {many(report['rounds'], 'round')}{simulated}"]
    shown = scores(_columns(report), classes)
    parts += [shown] if shown else []
    parts += [tables(report["analysis"])] if "analysis" in report else []
    parts.append(table([*_facts(report, out), *_next(report, out)]))
    return "\n\n".join(parts)


def _columns(report: Dict[str, Any]) -> Dict[str, Dict[str, Any]]:
    """Of the gateway's own rows in each form of the model; of records the nodes held out, in the form they trained.

    Forms that are of the same rows as the first have no intervals, sites or warnings of their own.
    """
    engines = {name: report["metrics"][name] for name in ("float", "int8", "tflm") if name in report.get("metrics", {})}
    columns: Dict[str, Dict[str, Any]] = {}
    for name, found in engines.items():
        own = found if not columns else {key: found.get(key) for key in LABELS}
        columns[{"tflm": "TFLM"}.get(name, name)] = own
    held_out = _held_out(report)
    return {**columns, "float, held-out records": held_out} if held_out else columns


def _held_out(report: Dict[str, Any]) -> Optional[Dict[str, Any]]:
    """The newest federated evaluation, if there was one."""
    found = [figures["federated"] for figures in report.get("per_round", ()) if figures.get("federated")]
    return found[-1] if found else None


def _facts(report: Dict[str, Any], out: Path) -> Facts:
    return [
        ("privacy", _privacy(report["privacy"])),
        *([("clipping", report["privacy"]["clipped"])] if report["privacy"].get("clipped") else []),
        ("bytes", _bytes(report["wire"], "analysis" not in report)),
        ("memory", _memory(report.get("memory_mib", {}), private=report["privacy"]["unit"] != "none")),
        ("tables", report["analysis"]["folder"])
        if "analysis" in report
        else ("bundle", report["bundle"] or f"none: {report['no_bundle']}"),
        ("figures", str(out / "result.json")),
    ]


def _privacy(claim: Dict[str, Any]) -> str:
    if claim["unit"] == "none":
        return f"none: {'computed' if 'of' in claim else 'trained'} without differential privacy"
    return f"epsilon {claim['epsilon']:.2f} at delta {claim['delta']:g} per {claim['unit']} ({claim['accountant']})"


def _bytes(wire: Dict[str, Any], trained: bool) -> str:
    if "bytes_up_per_node_round" not in wire:
        return str(wire["counted"])
    up, down, plain = (wire[name] for name in ("bytes_up_per_node_round", "bytes_down_per_node_round", "float32_bytes"))
    share = f" ({up / plain:.2f} of float32's {plain:,})" if trained else ""
    return f"a node and round: {up:,.0f} up{share}, {down:,.0f} down; {wire['counted']}"


def _memory(memory: Dict[str, Any], private: bool) -> str:
    known = {name: memory.get(name) for name in ("gateway", "broker", "all in one process") if memory.get(name)}
    nodes = [value for value in memory.get("nodes", ()) if value]
    parts = [f"{name} {value:.0f} MiB" for name, value in known.items()]
    when = " before they opened data" if private else ""
    parts += [f"nodes {min(nodes):.0f} to {max(nodes):.0f} MiB{when}"] if nodes else []
    return ", ".join(parts) or "unknown"


def _next(report: Dict[str, Any], out: Path) -> Facts:
    """Commands that go on from here."""
    run, folder = shlex.quote(report["run"]), shlex.quote(str(out))
    looks = ("next", f"edgeward runs show {run} --out {folder}")
    if "analysis" in report:
        return [
            looks,
            ("", f"read what is promised, and what is not: {Path(report['analysis']['folder']) / 'privacy.md'}"),
        ]
    if not report["bundle"]:
        return [looks, ("", "edgeward model personalize STATE/personal-RUN.npz --out DIR      (each node's owner)")]
    bundle = shlex.quote(str(report["bundle"]))
    return [
        looks,
        ("", f"edgeward predict {bundle} --data new.csv"),
        ("", f"edgeward flash --port /dev/ttyUSB0 --model {bundle}"),
        ("", f"read what is promised, and what is not: {Path(report['bundle']) / 'privacy.md'}"),
    ]

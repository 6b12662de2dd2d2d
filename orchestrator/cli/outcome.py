"""What `edgeward gateway run` shows of a finished run: how good, at what price, where it is, and what to do with it."""

import shlex
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from orchestrator.cli.tables import table

Facts = List[Tuple[str, str]]
_SHOWN = (("accuracy", "accuracy"), ("auc", "AUC"))


def outcome(report: Dict[str, Any], out: Path) -> str:
    """Tables for a person of what is also in OUT/result.json."""
    parts = [f"{report['task']}: {report['nodes']} nodes, {report['rounds']} rounds"]
    scores = _scores(report)
    parts += [table(scores)] if len(scores) > 1 else []
    parts.append(table([*_facts(report, out), *_next(report, out)]))
    return "\n\n".join(parts)


def _scores(report: Dict[str, Any]) -> List[Tuple[str, ...]]:
    """Of the gateway's own rows in each form of the model; of records the nodes held out, in the form they trained."""
    engines = {name: report["metrics"][name] for name in ("float", "int8", "tflm") if name in report.get("metrics", {})}
    held_out = _held_out(report)
    columns = [*(({"tflm": "TFLM"}.get(name, name), found) for name, found in engines.items())]
    columns += [("float, held-out records", held_out)] if held_out else []
    rows: List[Tuple[str, ...]] = [("", *(title for title, _ in columns))]
    for name, label in _SHOWN:
        if any(found.get(name) is not None for _, found in columns):
            rows.append((label, *(_figure(found.get(name)) for _, found in columns)))
    return rows if len(rows) > 1 else []


def _held_out(report: Dict[str, Any]) -> Optional[Dict[str, Any]]:
    """The newest federated evaluation, if there was one."""
    found = [figures["federated"] for figures in report.get("per_round", ()) if figures.get("federated")]
    return found[-1] if found else None


def _figure(value: Optional[float]) -> str:
    return "-" if value is None else f"{value:.3f}"


def _facts(report: Dict[str, Any], out: Path) -> Facts:
    return [
        ("privacy", _privacy(report["privacy"])),
        ("bytes", _bytes(report["wire"])),
        ("memory", _memory(report.get("memory_mib", {}))),
        ("bundle", report["bundle"] or f"none: {report['no_bundle']}"),
        ("figures", str(out / "result.json")),
    ]


def _privacy(claim: Dict[str, Any]) -> str:
    if claim["unit"] == "none":
        return "none: trained without differential privacy"
    return f"epsilon {claim['epsilon']:.2f} at delta {claim['delta']:g} per {claim['unit']} ({claim['accountant']})"


def _bytes(wire: Dict[str, Any]) -> str:
    if "bytes_up_per_node_round" not in wire:
        return str(wire["counted"])
    up, down, plain = (wire[name] for name in ("bytes_up_per_node_round", "bytes_down_per_node_round", "float32_bytes"))
    return (
        f"a node and round: {up:,.0f} up ({up / plain:.2f} of float32's {plain:,}), {down:,.0f} down; {wire['counted']}"
    )


def _memory(memory: Dict[str, Any]) -> str:
    known = {name: memory.get(name) for name in ("gateway", "broker") if memory.get(name)}
    nodes = [value for value in memory.get("nodes", ()) if value]
    parts = [f"{name} {value:.0f} MiB" for name, value in known.items()]
    parts += [f"nodes {min(nodes):.0f} to {max(nodes):.0f} MiB"] if nodes else []
    return ", ".join(parts) or "unknown"


def _next(report: Dict[str, Any], out: Path) -> Facts:
    """Commands that go on from here."""
    run, folder = shlex.quote(report["run"]), shlex.quote(str(out))
    looks = ("next", f"edgeward runs show {run} --out {folder}")
    if not report["bundle"]:
        return [looks, ("", "edgeward model personalize STATE/personal-RUN.npz --out DIR      (each node's owner)")]
    bundle = shlex.quote(str(report["bundle"]))
    return [
        looks,
        ("", f"edgeward predict {bundle} --data new.csv"),
        ("", f"edgeward flash --port /dev/ttyUSB0 --model {bundle}"),
        ("", f"read what is promised, and what is not: {Path(report['bundle']) / 'privacy.md'}"),
    ]

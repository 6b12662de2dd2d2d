"""Which nodes may be asked: what a task demands of a node, held against what the node last said of itself."""

from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping

from orchestrator.wire.presence import stated_labels, stated_numbers
from orchestrator.wire.task import Selection


@dataclass
class Standing:
    """What a node says: its owner's labels, its health, and when it last said so (seconds, any steady clock)."""

    labels: Dict[str, str] = field(default_factory=dict)
    health: Dict[str, float] = field(default_factory=dict)
    seen: float = 0.0


class Standings:
    """The standing of every node, kept up to date from its presence messages."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._nodes: Dict[str, Standing] = {}

    def heard(self, node: str, header: Mapping[str, Any], now: float) -> None:
        standing = self._nodes.setdefault(node, Standing())
        standing.seen = now
        if "labels" in header:
            standing.labels = stated_labels(header)
        if "health" in header:
            standing.health = stated_numbers(header, "health")

    def of(self, node: str) -> Standing:
        return self._nodes.get(node, Standing())

    def objection(self, node: str, now: float) -> str:
        """Why the node may not be asked now; empty when it may."""
        standing = self._nodes.get(node)
        return "" if standing is None else "; ".join(self._objections(standing, now))

    def _objections(self, standing: Standing, now: float) -> List[str]:
        rule, reasons = self._selection, []
        for name, wanted in sorted(rule.labels.items()):
            found = standing.labels.get(name)
            if found != wanted:
                reasons.append(
                    f"label {name} is {found!r}, the task wants {wanted!r}" if found else f"no label {name}={wanted}"
                )
        limits = [
            ("battery", "%", rule.minimum_battery, True),
            ("free_memory_mib", " MiB", rule.minimum_free_memory_mib, True),
            ("temperature_c", " °C", rule.maximum_temperature_c, False),
        ]
        for name, unit, limit, least in limits:
            value = standing.health.get(name)
            if limit and value is None:
                reasons.append(f"it does not report {name}")
            elif limit and value is not None and (value < limit if least else value > limit):
                reasons.append(f"{name} is {value:g}{unit}, {'at least' if least else 'at most'} {limit:g} is wanted")
        if rule.seen_within_s and now - standing.seen > rule.seen_within_s:
            reasons.append(f"not heard of for {now - standing.seen:.0f} s")
        return reasons

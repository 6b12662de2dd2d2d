"""A page of metrics for Prometheus: text exposition format 0.0.4.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from typing import Dict, List, Tuple

from orchestrator.wire.plain import plain

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Sample = Tuple[Dict[str, str], float]


class Page:
    """Samples by metric: all lines of one metric must stand together."""

    def __init__(self) -> None:
        self._metrics: Dict[str, Tuple[str, str, List[Sample]]] = {}

    def add(self, name: str, kind: str, about: str, labels: Dict[str, str], value: float) -> None:
        self._metrics.setdefault(name, (kind, about, []))[2].append((labels, value))

    def text(self) -> str:
        lines = []
        for name, (kind, about, samples) in self._metrics.items():
            lines += [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]
            for labels, value in samples:
                shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
                lines.append(f"{name}{{{shown}}} {value}" if shown else f"{name} {value}")
        return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    """As the format has it; what cannot be printed is an escape already, also a line end."""
    return plain(text).replace("\\", "\\\\").replace('"', '\\"')

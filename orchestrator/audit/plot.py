"""An audit as a picture: how far canaries that were in stand apart from those that were not, and the bounds beside the claim."""

from pathlib import Path
from typing import Any, Dict

import numpy as np

from orchestrator.errors import UsageError


def plot_audit(report: Dict[str, Any], path: Path) -> None:
    """Writes .png or .svg. Raises UsageError for another suffix, and for a task without a claim."""
    if path.suffix not in (".png", ".svg"):
        raise UsageError(f"{path}: a plot is written as .png or .svg")
    canaries = report["canaries"]
    if canaries is None:
        raise UsageError("the task claims no privacy: there are no canaries to plot")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    both = np.array(canaries["scores"]["in"] + canaries["scores"]["out"])
    bins = np.linspace(both.min(), both.max(), 41)
    left.hist(canaries["scores"]["out"], bins, alpha=0.6, label="not in")
    left.hist(canaries["scores"]["in"], bins, alpha=0.6, label="in")
    left.set(xlabel="score, in clip norms", ylabel="canaries", title="What the sums say of each canary")
    left.legend()
    names = [f"delta {bound['delta']:g}" for bound in canaries["bounds"]]
    places = np.arange(len(names))
    right.bar(places - 0.2, [bound["epsilon"] for bound in canaries["bounds"]], 0.4, label="measured, at least")
    right.bar(places + 0.2, [bound["claimed"] for bound in canaries["bounds"]], 0.4, label="claimed, at most")
    right.set(ylabel="epsilon", title=report["verdict"])
    right.set_xticks(places, names)
    right.legend()
    figure.savefig(path)

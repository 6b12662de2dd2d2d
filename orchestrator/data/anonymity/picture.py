"""A picture of an anonymous table: its classes over its first two quasi-identifiers, and how large they are. Needs matplotlib."""

from pathlib import Path

import numpy as np

from orchestrator.data.anonymity.anonymize import Anonymized
from orchestrator.data.anonymity.rules import Rules
from orchestrator.wire.plain import many


def draw(found: Anonymized, rules: Rules, path: Path) -> None:
    """Writes .png or .svg. No row is shown: boxes of classes, and a histogram of their sizes."""
    from matplotlib.collections import PatchCollection
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = list(rules.quasi)
    low, high = (np.unique(each, axis=0) if len(names) == 1 else each for each in (found.low, found.high))
    boxes = np.unique(np.column_stack([low, high]), axis=0)
    width = boxes.shape[1] // 2
    second = 1 if width > 1 else 0
    patches = [
        Rectangle(
            (box[0], box[second] if width > 1 else 0),
            box[width] - box[0],
            (box[width + 1] - box[1]) if width > 1 else 1,
        )
        for box in boxes
    ]
    left.add_collection(PatchCollection(patches, facecolor="#4477aa", edgecolor="#223355", alpha=0.25))
    left.autoscale_view()
    left.set_xlabel(names[0])
    left.set_ylabel(names[1] if width > 1 else "")
    left.set_title(f"{many(len(found.classes), 'class', 'classes')} of at least {found.after.k}")
    sizes = [len(rows) for rows in found.classes]
    right.hist(sizes, bins=range(min(sizes), max(sizes) + 2), color="#4477aa")
    right.axvline(rules.k, color="#aa3344", linestyle="--", label=f"k = {rules.k}")
    right.set_xlabel("rows of a class")
    right.set_ylabel("classes")
    right.legend()
    figure.savefig(path, dpi=120)

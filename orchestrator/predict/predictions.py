"""Predictions as rows for a file, and how right they are where the data say what is right."""

import csv
from typing import Any, Dict, Iterator, List, NamedTuple, TextIO

import numpy as np

from orchestrator.data.dataset import UNLABELLED, Dataset
from orchestrator.gateway.evaluation import score
from orchestrator.wire.schema import Schema


class Predictions(NamedTuple):
    """Of the records of a data file, in its order. probabilities: float32 (n, classes)."""

    schema: Schema
    data: Dataset
    probabilities: np.ndarray

    @property
    def place(self) -> str:
        """What a record's place is called: the line of a table, the index in x of a signal."""
        return "line" if self.schema.kind == "table" else "record"

    @property
    def labelled(self) -> np.ndarray:
        """bool (n,): which records have a label."""
        return np.asarray(self.data.y != UNLABELLED)

    def rows(self) -> Iterator[Dict[str, Any]]:
        """{line or record, predicted, probabilities {class: share}[, label]} of each record; label None where it has none."""
        classes, any_label = self.schema.classes, bool(self.labelled.any())
        assert self.data.places is not None
        best = self.probabilities.argmax(axis=1)
        for place, label, chosen, shares in zip(self.data.places, self.data.y, best, self.probabilities):
            row: Dict[str, Any] = {
                self.place: int(place),
                "predicted": classes[chosen],
                "probabilities": {name: float(f"{share:.6g}") for name, share in zip(classes, shares)},
            }
            if any_label:
                row["label"] = None if label == UNLABELLED else classes[label]
            yield row

    def figures(self) -> Dict[str, Any]:
        """evaluation.score over the labelled records, and majority; empty without any.

        majority: share of the most frequent class, which is the accuracy of always saying that one (also base_rate).
        """
        labelled = self.labelled
        if not labelled.any():
            return {}
        y, shares = self.data.y[labelled], self.probabilities[labelled].astype(np.float64)
        found = score(y, shares, classes=self.schema.classes)
        return {**found, "records": len(y), "majority": found["base_rate"]}

    def counts(self) -> Dict[str, int]:
        """How many records each class was predicted for."""
        found = np.bincount(self.probabilities.argmax(axis=1), minlength=len(self.schema.classes))
        return {name: int(count) for name, count in zip(self.schema.classes, found)}


def write_csv(predictions: Predictions, file: TextIO) -> None:
    """One line a record: its place, the class, a probability for each class, and its label where the data have labels."""
    labelled = bool(predictions.labelled.any())
    writer = csv.writer(file, lineterminator="\n")
    shares: List[str] = [f"probability {name}" for name in predictions.schema.classes]
    writer.writerow([predictions.place, "predicted", *shares, *(["label"] if labelled else [])])
    for row in predictions.rows():
        label = [row["label"] or ""] if labelled else []
        writer.writerow([row[predictions.place], row["predicted"], *row["probabilities"].values(), *label])

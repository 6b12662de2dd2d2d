"""Predictions as rows for a file, and how right they are where the data say what is right."""

import csv
from typing import Any, Dict, Iterator, NamedTuple, Optional, TextIO

import numpy as np

from orchestrator.data.cells import UNLABELLED
from orchestrator.data.dataset import Dataset
from orchestrator.gateway.evaluation import judge
from orchestrator.wire.schema import Schema


class Predictions(NamedTuple):
    """Of the records of a data file, in its order.

    outputs: float32 (n, outputs) as the exported model gives them, of classes their probabilities; (n, 1) of a model with scores.
    threshold: the largest score that is not unusual. spread: float32 (n,), of a model with several heads: the standard deviation
    over them of the probability of the class that is predicted. codes: float32 (n, width), where they are asked for.
    """

    schema: Schema
    data: Dataset
    outputs: np.ndarray
    threshold: Optional[float] = None
    spread: Optional[np.ndarray] = None
    codes: Optional[np.ndarray] = None

    @property
    def place(self) -> str:
        """What a record's place is called: the line of a table, the index in x of a signal."""
        return "line" if self.schema.kind == "table" else "record"

    @property
    def labelled(self) -> np.ndarray:
        """bool (n,): which records have a label."""
        return np.asarray(self.data.y != UNLABELLED)

    def rows(self) -> Iterator[Dict[str, Any]]:
        """{line or record, predicted[, probabilities {class: share}][, codes {number: value}][, label]} of each record; label
        None where it has none.
        """
        learned, any_label = self.schema.learned, bool(self.labelled.any())
        assert self.data.places is not None
        for at, (place, label, values) in enumerate(zip(self.data.places, self.data.y, self.outputs)):
            row: Dict[str, Any] = {self.place: int(place), **learned.said(values)}
            if self.spread is not None:
                row["spread"] = float(f"{self.spread[at]:.6g}")
            if self.threshold is not None:
                row["unusual"] = bool(values[0] > np.float32(self.threshold))
            if self.codes is not None:
                row["codes"] = {str(number): float(f"{code:.6g}") for number, code in enumerate(self.codes[at], 1)}
            if any_label:
                row["label"] = None if label == UNLABELLED else learned.label(int(label))
            yield row

    def figures(self) -> Dict[str, Any]:
        """evaluation.judge over the labelled records, and of classes majority; empty without any.

        majority: share of the most frequent class, which is the accuracy of always saying that one (also base_rate).
        """
        labelled = self.labelled
        if not labelled.any():
            return {}
        y, outputs = self.data.y[labelled], self.outputs[labelled].astype(np.float64)
        found = judge(self.schema, y, self.schema.learned.exported_answers(outputs, y, self.data.x[labelled]))
        return {**found, "records": len(y), **({} if self.schema.target else {"majority": found["base_rate"]})}

    def counts(self) -> Dict[str, Any]:
        """How many records each class was predicted for; of another target what its predictions are in all."""
        found = self.schema.learned.summary(self.outputs)
        if self.threshold is not None:
            found["unusual"] = int((self.outputs[:, 0] > np.float32(self.threshold)).sum())
        return found


def write_csv(predictions: Predictions, file: TextIO) -> None:
    """One line a record: its place, what is predicted, of classes a probability for each, and its label where there are any."""
    writer = csv.writer(file, lineterminator="\n")
    for number, row in enumerate(predictions.rows()):
        flat = _flat(row)
        if number == 0:
            writer.writerow(list(flat))
        writer.writerow(["" if value is None else value for value in flat.values()])


def _flat(row: Dict[str, Any]) -> Dict[str, Any]:
    """With a column for each entry of a map."""
    flat: Dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, dict):
            one = {"probabilities": "probability", "codes": "code"}.get(name, name)
            flat.update({f"{one} {of}": each for of, each in value.items()})
        else:
            flat[name] = value
    return flat

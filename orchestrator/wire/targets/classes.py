"""One of several classes: what a task learns where its schema has no `target`."""

import math
from typing import Any, Dict, List, Tuple

import numpy as np

from orchestrator.wire import evaluation
from orchestrator.wire.targets.base import LOSS, Quoted, Target

MOST_SHOWN = 5
"""Classes that words name."""


class Classes(Target):
    """The label, a text that stands for a class; the model has an output for each, a logit. Codes are numbers of classes.

    The figures of a classifier are made by gateway/scores.py.
    """

    kind = "classes"
    ending = "softmax"
    fine = 1

    @property
    def metrics(self) -> Tuple[str, ...]:  # type: ignore[override]
        return (LOSS, "accuracy", "auc") if self.outputs == 2 else (LOSS, "accuracy")

    @property
    def outputs(self) -> int:
        return len(self.schema.classes)

    @property
    def names(self) -> Tuple[str, ...]:
        return tuple(self.schema.classes)

    @property
    def loss(self) -> Dict[str, Any]:
        return {"kind": "crossentropy"}

    @property
    def steepness(self) -> float:
        """Of the error of its probabilities, of a classifier that names all classes alike."""
        return math.sqrt(1 - 1 / self.outputs)

    def invented(self, draw: np.random.Generator) -> List[str]:
        return [str(draw.choice(list(self.schema.label_values)))]

    def words(self, quoted: Quoted) -> str:
        shown, more = self.schema.classes[:MOST_SHOWN], len(self.schema.classes) - MOST_SHOWN
        named = " or ".join([*map(quoted, shown), *([f"{more} more"] if more > 0 else [])])
        return f"{quoted(self.schema.label)} ({named})"

    def answers(self, outputs: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """float64 (n, classes), softmax of each row."""
        finite = np.isfinite(outputs).all(axis=1)
        clean = np.where(finite[:, np.newaxis], outputs, 0.0)
        probabilities = softmax(clean)
        wrong = np.flatnonzero(~finite)
        probabilities[wrong] = 0.0
        probabilities[wrong, (y[wrong] + 1) % outputs.shape[1]] = 1.0
        return probabilities

    def exported_answers(self, values: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        return values

    def size(self, bins: int) -> int:
        return evaluation.vector_size(self.outputs, bins)

    def count(self, y: np.ndarray, answers: np.ndarray, bins: int) -> np.ndarray:
        return evaluation.count(y, answers, bins)

    def said(self, values: np.ndarray) -> Dict[str, Any]:
        return {
            "predicted": self.schema.classes[int(values.argmax())],
            "probabilities": {name: float(f"{share:.6g}") for name, share in zip(self.schema.classes, values)},
        }

    def summary(self, values: np.ndarray) -> Dict[str, Any]:
        found = np.bincount(values.argmax(axis=1), minlength=self.outputs)
        return {name: int(count) for name, count in zip(self.schema.classes, found)}

    def label(self, code: int) -> Any:
        return self.schema.classes[code]


def softmax(logits: np.ndarray) -> np.ndarray:
    """float64 probabilities (n, classes), of finite logits."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))

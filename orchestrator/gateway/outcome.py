"""What a round comes to, before any of it is kept."""

from dataclasses import dataclass, field
from typing import Any, Dict, Optional, Tuple

import numpy as np


@dataclass
class Outcome:
    """What a round leaves: vectors to store, figures of it, figures it brought of an earlier round, whether to stop, and what
    people should know, said once."""

    vectors: Dict[str, np.ndarray] = field(default_factory=dict)
    figures: Dict[str, Any] = field(default_factory=dict)
    evaluated: Optional[Tuple[int, Dict[str, Any]]] = None
    stop: bool = False
    notice: str = ""

    def not_finite(self) -> str:
        """The first of what is no finite number: a vector, or a figure such as the loss; empty where all are."""
        for name, vector in self.vectors.items():
            if not np.isfinite(vector).all():
                return name
        for said in (self.figures, {} if self.evaluated is None else self.evaluated[1]):
            named = _not_finite_in(said)
            if named:
                return named
        return ""


def _not_finite_in(said: Dict[str, Any]) -> str:
    for name, value in said.items():
        inner = _not_finite_in(value) if isinstance(value, dict) else ""
        if inner or (isinstance(value, float) and not np.isfinite(value)):
            return inner or name
    return ""

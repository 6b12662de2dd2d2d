"""A coder of two columns, for tests of what is done with one."""

import numpy as np

from orchestrator.analyses.codes import Coder
from orchestrator.wire.schema import Feature, Schema

COLUMNS = Feature("age", 0.0, 100.0), Feature("sex", categories=("f", "m")), Feature("ill", categories=("no", "yes"))
SCHEMA = Schema("table", "", (), {}, COLUMNS)


def coder(bits: int = 64, seed: int = 1) -> Coder:
    """With thresholds all over the age."""
    draw = np.random.default_rng(seed)
    weights = np.column_stack([np.ones(bits), np.zeros(bits), draw.normal(0, 0.1, (bits, 2))])
    return Coder(SCHEMA, "ill", (), weights, np.linspace(-1, 1, bits))

"""Codes of records: bits of which each says on which side of a threshold a linear function of the record's columns is.

A shared coder (analysis "hashing") gives records of several hospitals codes that can be compared: how many bits of two differ,
the Hamming distance, is how unlike the records are (Lee et al. 2018, JMIR Med Inform 6(2):e20).
"""

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from orchestrator.analyses.inputs import columns_of
from orchestrator.errors import DataError, UsageError
from orchestrator.wire.bounds import near, twice
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.structure import structure, unstructure

LEAST_BITS, MOST_BITS = 8, 256
MOST_TERMS = 256
MOST_BYTES = 16 << 20
"""Of a coder's file."""

_MOST = 1e7
"""Of a weight or threshold: a learned one is below it (hashing.py), and sums of larger ones may be no numbers."""

VERSION = 1
_FILE = "edgeward_coder"


class Terms:
    """Columns as terms of a linear function: of a number its place in [-1, 1], 0 where it is missing, and 1 where it is missing;
    of a category 1 for its level. Whatever a record is, each column adds at most 1 to the square of its length.
    """

    def __init__(self, schema: Schema, named: Sequence[str], outcome: str) -> None:
        self._schema, self._named, self._outcome = schema, tuple(named), outcome
        by_name = {feature.name: feature for feature in schema.features}
        chosen = self._named or tuple(name for name in by_name if name != outcome)
        self.features: List[Feature] = [by_name[name] for name in chosen if name in by_name]

    def objections(self) -> Iterator[str]:
        """Why these columns make no code."""
        names = [feature.name for feature in self._schema.features]
        for name in self._named:
            if name not in names:
                yield f"inputs: no column {name!r} in the schema{near(name, names)}"
            elif name == self._outcome:
                yield f"inputs: {name!r} is the outcome, which the code does not know"
        yield from twice("inputs", self._named)
        if not self.features:
            yield "inputs: no column is left to make a code of"
        if self.size > MOST_TERMS:
            yield f"inputs: {self.size} terms, at most {MOST_TERMS}: name fewer columns"

    @property
    def size(self) -> int:
        """How many there are."""
        return sum(len(feature.categories) or 2 for feature in self.features)

    def names(self) -> Tuple[str, ...]:
        """As tables have them."""
        found: List[str] = []
        for feature in self.features:
            levels = [f"{feature.name} = {level}" for level in feature.categories]
            found += levels or [feature.name, f"{feature.name} missing"]
        return tuple(found)

    def read(self, x: np.ndarray) -> np.ndarray:
        """float64 (n, terms), each within -1 to 1; x as of `Analysis.vectors`."""
        columns = columns_of(x, self._schema)
        found = []
        for feature in self.features:
            values = columns[feature.name]
            if feature.categories:
                found.append(values)
            else:
                lacking = np.isnan(values)
                found.append(np.concatenate([np.where(lacking, 0.0, values), lacking], axis=1))
        return np.concatenate(found, axis=1)


@dataclass(frozen=True)
class Coder:
    """weights: float64 (bits, terms). thresholds: float64 (bits,). Bit b of a record is whether weights[b] times its terms is
    above thresholds[b].
    """

    schema: Schema
    outcome: str
    inputs: Tuple[str, ...]
    weights: np.ndarray
    thresholds: np.ndarray

    @property
    def bits(self) -> int:
        """Of a code."""
        return len(self.thresholds)

    @property
    def unlabelled(self) -> Schema:
        """What a record needs for its code: all but the outcome, and whose it is."""
        return replace(
            self.schema, features=tuple(f for f in self.schema.features if f.name != self.outcome), patient=""
        )

    @property
    def classes(self) -> Tuple[str, ...]:
        """Of the outcome."""
        return next(feature.categories for feature in self.schema.features if feature.name == self.outcome)

    def codes(self, x: np.ndarray, schema: Schema) -> np.ndarray:
        """uint8 (n, bits) of 0 and 1; x as `load_dataset` reads it with gaps by `schema`, which has the coder's inputs."""
        found = Terms(schema, self.inputs, self.outcome).read(x)
        return np.asarray(found @ self.weights.T > self.thresholds, np.uint8)

    def levels(self, x: np.ndarray, patients: Optional[np.ndarray] = None) -> np.ndarray:
        """int64 (n,): the class of each record that was read by the coder's whole schema, -1 where it is missing.

        patients (n,): as of `Dataset`; where they are given, a patient's first record with a class stands for it, and its others
        have -1.
        """
        outcome = columns_of(x, self.schema)[self.outcome]
        found = np.where(outcome.sum(axis=1) > 0.5, outcome.argmax(axis=1), -1)
        if patients is None:
            return found
        known = np.flatnonzero(found >= 0)
        first = known[np.unique(patients[known], return_index=True)[1]]
        return np.where(np.isin(np.arange(len(found)), first), found, -1)

    @property
    def digest(self) -> str:
        """SHA-256 of all that a code depends on: codes of two coders are compared by nobody."""
        return hashlib.sha256(self._content()).hexdigest()

    def _content(self) -> bytes:
        content = {
            "schema": unstructure(structure(unstructure(self.schema), Schema, "coder")),  # 18 is 18.0
            "outcome": self.outcome,
            "inputs": list(self.inputs),
            "weights": self.weights.tolist(),
            "thresholds": self.thresholds.tolist(),
        }
        return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()

    def written(self) -> bytes:
        """A file for those who search."""
        return json.dumps({_FILE: VERSION, **json.loads(self._content())}, allow_nan=False).encode() + b"\n"


def read_coder(content: bytes, where: str) -> Coder:
    """The coder of a file. DataError for anything else."""
    try:
        said = json.loads(content) if len(content) <= MOST_BYTES else None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: no coder of `edgeward similar coder`, or a damaged one") from error
    if not isinstance(said, dict) or said.get(_FILE) != VERSION:
        raise DataError(f"{where}: no coder of `edgeward similar coder`, or one of another version")
    return coder_of(said, where)


def coder_of(said: Dict[str, Any], where: str) -> Coder:
    """From plain data. DataError where it makes no codes."""
    try:
        schema: Schema = structure(said["schema"], Schema, where)
        outcome, inputs = str(said["outcome"]), tuple(map(str, said["inputs"]))
        weights, thresholds = (np.array(said[name], np.float64) for name in ("weights", "thresholds"))
    except (KeyError, TypeError, ValueError, OverflowError, UsageError) as error:
        raise DataError(f"{where}: no coder: {error}") from error
    terms = Terms(schema, inputs, outcome)
    wrong = list(terms.objections())
    if outcome not in [feature.name for feature in schema.features if feature.categories]:
        wrong.append(f"outcome: {outcome!r} is no column with categories")
    if thresholds.ndim != 1 or weights.shape != (len(thresholds), terms.size):
        wrong.append(f"weights: of shape {weights.shape}, expected (bits, {terms.size}), and a threshold for each bit")
    elif not LEAST_BITS <= len(thresholds) <= MOST_BITS:
        wrong.append(f"thresholds: {len(thresholds)} bits, expected {LEAST_BITS} to {MOST_BITS}")
    elif not (np.isfinite(weights).all() and np.isfinite(thresholds).all()):
        wrong.append("weights, thresholds: not all of them are finite")
    elif max(np.abs(weights).max(), np.abs(thresholds).max()) > _MOST:
        wrong.append(f"weights, thresholds: beyond {_MOST:g}, which no analysis learns")
    if wrong:
        raise DataError(f"{where}: no coder: {wrong[0]}")
    return Coder(schema, outcome, inputs, weights, thresholds)

"""From the tables of a forest or of boosted trees to a bundle for boards: `edgeward model export result.json`.

Every threshold is a cut of an input: the least float32 of a column that the analysis itself sends to the right. So a record goes
the ways it went in the analysis, if its numbers have six significant digits or fewer; of others those that are nearer to a
threshold than a float32 can tell may go the other way.
"""

import json
import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from model_export.errors import ExportError
from model_export.input_profile import MOST_CUTS
from model_export.manifest import LARGEST, MOST_LEVELS
from model_export.trees import (
    AT_LEAST,
    CLASSES,
    CODES,
    FEW_LEVELS,
    LEVELS,
    MISSING_RIGHT,
    MOST_CHANNELS,
    PAIR,
    PROBABILITIES,
    SET,
    VALUE,
    Tree,
    Trees,
    numbered,
)
from model_export.trees_bundle import SHARES, write_trees_bundle
from orchestrator.analyses.grown import Grown, Node, OfTrees, Split
from orchestrator.analyses.registry import KIND, make
from orchestrator.data.dataset import load_dataset
from orchestrator.errors import GivenError, UsageError
from orchestrator.gateway.analysed import is_of_trees
from orchestrator.gateway.trees_inputs import codes_of
from orchestrator.privacy.statement_page import markdown
from orchestrator.wire.logarithm import logarithm
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.structure import structure
from orchestrator.wire.targets.number import Number
from orchestrator.wire.task import plain_data

MOST_RESULT_BYTES = 256 << 20
_MOST_SUM = (1 << 31) - 1
_LEAST_SUM = 2.0**-100
_MOST_SETS = 1 << 16
"""That a node can name."""


class Finished(NamedTuple):
    """A result of trees. schema: of the data they predict for. kind: of the analysis."""

    grown: Grown
    schema: Schema
    kind: str
    name: str
    claim: Optional[Dict[str, Any]]


class Integers(NamedTuple):
    """A model for boards, with what a manifest says of its inputs and of its output."""

    model: Trees
    features: List[Dict[str, Any]]
    output: str


def export_trees(result: Path, out: Path, name: str = "", rows: Optional[Path] = None) -> Dict[str, Any]:
    """Writes a bundle for a result.json, or for the folder with one; returns its manifest. rows: representative ones, a table.

    Raises EdgewardError.
    """
    found = read_result(result)
    made = integers(found.grown, found.schema)
    reference = None
    if rows is not None:
        data = load_dataset(rows, found.schema, unlabelled=True, gaps=True)
        reference = codes_of(data, found.schema, made.features)
    page = None if found.claim is None else _page(found.claim, result)
    try:
        return write_trees_bundle(
            out,
            model=made.model,
            name=name or found.name,
            of=found.kind,
            features=made.features,
            labels=list(found.grown.classes) or None,
            output=made.output,
            privacy=found.claim,
            privacy_page=page,
            reference_rows=reference,
            data_schema={key: said for key, said in plain_data(found.schema).items() if key != "target" or said},
        )
    except ExportError as error:
        raise GivenError(str(error)) from error


def _page(claim: Dict[str, Any], where: Path) -> str:
    try:
        return markdown(claim)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise GivenError(f"{where}: privacy: not the statement that a run writes") from error


def read_result(path: Path) -> Finished:
    """The trees of a result.json. Raises EdgewardError for one that holds none."""
    file = path / "result.json" if path.is_dir() else path
    try:
        with open(file, "rb") as stream:
            content = stream.read(MOST_RESULT_BYTES + 1)
    except OSError as error:
        raise GivenError(f"{file}: cannot be read: {error.strerror}") from error
    if len(content) > MOST_RESULT_BYTES:
        raise GivenError(f"{file}: is larger than {MOST_RESULT_BYTES} bytes, which no result is")
    try:
        report = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise GivenError(f"{file}: not JSON: {error}") from error
    found = parse_result(report, str(file))
    if found.claim is None and report.get("tried") is not True:
        raise GivenError(
            f"{file}: privacy: missing: a bundle has the statement that a run writes, whatever it promises"
        )
    return found


def parse_result(report: Any, where: str) -> Finished:
    """The same of what such a file holds; where: what errors name."""
    try:
        analysis = report["analysis"]
        kind = analysis["kind"]
        tables = {str(table["name"]): [tuple(row) for row in table["rows"]] for table in analysis["tables"]}
    except (KeyError, TypeError, AttributeError) as error:
        raise GivenError(f"{where}: not the result of an analysis, as `edgeward gateway run` writes it") from error
    if not is_of_trees(kind):
        raise GivenError(f"{where}: is of {kind!r}; a bundle can be made of a forest and of boosted trees")
    said = analysis.get("of")
    if (
        not isinstance(said, dict)
        or set(said) != {"task", "schema", "analysis"}
        or not isinstance(said["analysis"], dict)
    ):
        raise GivenError(f"{where}: does not say of which columns it is: run the analysis again with this version")
    schema: Schema = structure(said["schema"], Schema, f"{where}: schema")
    try:
        computed = make(said["analysis"], schema)
        grown = computed.grown(tables) if isinstance(computed, OfTrees) else None
        if grown is None or said["analysis"][KIND] != kind or not grown.trees:
            raise ValueError("has no tree")
        return Finished(grown, predicted(schema, grown), kind, str(said["task"]), report.get("privacy"))
    except (UsageError, ValueError) as error:
        raise GivenError(f"{where}: {error}") from error
    except (KeyError, TypeError, IndexError) as error:
        raise GivenError(f"{where}: its tables are not those of {kind!r}, as a run writes them") from error


def predicted(schema: Schema, grown: Grown) -> Schema:
    """The schema of a bundle: the inputs of the trees, and what they predict as its label."""
    outcome = grown.outcome
    changes: Dict[str, Any] = {"features": tuple(grown.inputs), "label": outcome.name, "patient": ""}
    if grown.classes:
        changes.update(classes=grown.classes, label_values={name: at for at, name in enumerate(grown.classes)})
    else:
        low, high = outcome.range
        changes["target"] = {"kind": "number", "minimum": low, "maximum": high}
        changes["target"].update({"transform": "log"} if outcome.transform else {})
    return replace(schema, standardization="range", **changes)


def integers(grown: Grown, schema: Schema) -> Integers:
    """The trees in whole numbers; schema: as `predicted` gives it. Raises EdgewardError for what the format has no place for."""
    channels = _Channels(grown)
    leaves = [[_values(node) for node in tree.values() if not isinstance(node, Split)] for tree in grown.trees]
    scores = 1 if len(grown.classes) <= 2 else len(grown.classes)
    largest = sum(float(np.abs(np.array(each)).max()) for each in leaves) + abs(grown.base)
    if not largest <= LARGEST:
        raise GivenError(f"the leaves of these trees add up to {largest:g}, which is no number a float32 holds")
    # As many bits as 32 leave room for, whether leaves are billions or billionths: rounded, each may be one half larger.
    unit = 2.0 ** math.floor(math.log2((_MOST_SUM - len(grown.trees) - 1) / max(largest, _LEAST_SUM)))
    trees = [_tree(tree, channels, unit) for tree in grown.trees]
    base = np.full(scores, round(grown.base * unit), np.int32)
    output, scale, zero_point = SHARES, *PROBABILITIES
    if grown.classes:
        cuts, mode = _of_probabilities(grown, unit), PAIR if scores == 1 else CLASSES
    elif isinstance(schema.learned, Number):
        mode = VALUE
        cuts, scale, zero_point, output = _of_numbers(grown, schema.learned, leaves, unit)
    else:
        raise GivenError(f"trees of a target of kind {schema.learned.kind!r}: neither classes nor a number")
    model = Trees(mode, len(channels.features), tuple(trees), base, cuts, channels.sets, scale, zero_point)
    return Integers(model, channels.features, output)


def _values(node: Node) -> Tuple[float, ...]:
    assert not isinstance(node, Split)
    return node


class _Channels:
    """Which inputs a model has: of a number its thresholds as cuts, so many an input that a code tells them apart."""

    def __init__(self, grown: Grown) -> None:
        self.features: List[Dict[str, Any]] = []
        self._sets: Dict[Tuple[int, ...], int] = {}
        self._known: Dict[Split, Tuple[int, int]] = {}
        splits: List[List[Split]] = [[] for _ in grown.inputs]
        for split in {node for tree in grown.trees for node in tree.values() if isinstance(node, Split)}:
            splits[split.column].append(split)
        for feature, mine in zip(grown.inputs, splits):
            self._levels(feature, mine) if feature.categories else self._cuts(feature, mine)
        for what, found, most in (
            ("inputs", len(self.features), MOST_CHANNELS),
            ("sets of categories", len(self._sets), _MOST_SETS),
        ):
            if found > most:
                raise GivenError(
                    f"these trees need {found} {what}, a board has at most {most}: use fewer trees, or less depth"
                )

    @property
    def sets(self) -> np.ndarray:
        """uint8 (sets, 32), by number."""
        return np.array(list(self._sets), np.uint8).reshape(-1, 32)

    def field(self, split: Split) -> Tuple[int, int]:
        """(channel, kind and where a missing value goes; test) of a node."""
        field, test = self._known[split]
        return field + (MISSING_RIGHT if split.missing else 0), test

    def _levels(self, feature: Feature, splits: Sequence[Split]) -> None:
        if len(feature.categories) > MOST_LEVELS:
            raise GivenError(f"{feature.name}: {len(feature.categories)} categories, a board tells {MOST_LEVELS} apart")
        channel = len(self.features)
        self.features.append({"name": feature.name, "categories": list(feature.categories)})
        for split in sorted(splits, key=lambda each: (each.levels or (), each.missing)):
            levels = split.levels or ()
            if len(feature.categories) <= FEW_LEVELS:
                self._known[split] = channel + (LEVELS << 12), sum(1 << level for level in levels)
                continue
            bits = np.zeros(256, np.uint8)
            bits[list(levels)] = 1
            packed = tuple(np.packbits(bits, bitorder="little").tolist())
            self._known[split] = channel + (SET << 12), self._sets.setdefault(packed, len(self._sets))

    def _cuts(self, feature: Feature, splits: Sequence[Split]) -> None:
        found = {split: cut_of(split, feature) for split in splits}
        least, most = ends_of(feature)
        cuts = sorted({cut for cut in found.values() if least < cut <= most})
        first = len(self.features)
        described: Dict[str, Any] = {"name": feature.name}
        if feature.transform:
            low, high = feature.range
            described.update(transform="log", minimum=low, maximum=high)
        for at in range(0, max(len(cuts), 1), MOST_CUTS):
            self.features.append({**described, "cuts": cuts[at : at + MOST_CUTS]})
        places = {cut: place for place, cut in enumerate(cuts)}
        for split, cut in found.items():
            if cut in places:
                channel, place = divmod(places[cut], MOST_CUTS)
                self._known[split] = first + channel + (AT_LEAST << 12), place + 2
            else:
                self._known[split] = first + (AT_LEAST << 12), 1 if cut <= least else CODES + 1


def ends_of(feature: Feature) -> Tuple[float, float]:
    """Least and largest value of a number as a board reads it, in the units of the model."""
    if not max(map(abs, feature.range)) < LARGEST:
        raise GivenError(f"{feature.name}: its range is beyond what a float32 holds")
    ends = np.array(feature.range, np.float32)
    found = logarithm(ends) if feature.transform else ends
    return float(found[0]), float(found[1])


def cut_of(split: Split, feature: Feature) -> float:
    """The least float32 that goes right; infinity where none of the range does.

    Of two doubles that are one float32 it stands for the one that is written with fewer digits.
    """
    least, most = (np.float32(end) for end in ends_of(feature))

    def right(value: np.float32) -> bool:
        return split.beyond(float(value) if feature.transform else float(str(value)))

    if not right(most):
        return math.inf
    low, high = _number_of(least), _number_of(most)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if right(_numbered(middle)) else (middle + 1, high)
    return float(_numbered(low))


def _number_of(value: np.float32) -> int:
    """Which of all float32 it is, in their order: 0 is number 0."""
    bits = int(value.view(np.int32))
    return bits if bits >= 0 else -(bits & 0x7FFFFFFF)


def _numbered(number: int) -> np.float32:
    found = np.int32(abs(number)).view(np.float32)
    return found if number >= 0 else -found


def _tree(nodes: Dict[int, Node], channels: _Channels, unit: float) -> Tree:
    """Without splits that part nothing: of two equal leaves, and where all values go left."""
    kept: Dict[int, Any] = {}
    for number in sorted(nodes, reverse=True):
        node = nodes[number]
        if not isinstance(node, Split):
            kept[number] = tuple(round(value * unit) for value in node)
            continue
        field, test = channels.field(node)
        left, right = kept[2 * number], kept[2 * number + 1]
        kind = field >> 12 & 3
        nothing = (kind == AT_LEAST and test == CODES + 1) or (kind == LEVELS and test == 0)
        same = not isinstance(left, list) and left == right
        if same or (nothing and not node.missing):
            kept[number] = left
        elif kind == AT_LEAST and test == 1 and node.missing:
            kept[number] = right
        else:
            kept[number] = [field, test, left, right]
    splits: List[Any] = []
    leaves: List[Tuple[int, ...]] = []
    order = [kept[1]] if isinstance(kept[1], list) else []
    for parent in order:  # it grows while it is read
        places = []
        for below in parent[2:]:
            if isinstance(below, list):
                order.append(below)
                places.append(len(order) - 1)
            else:
                leaves.append(below)
                places.append(-len(leaves))
        splits.append((*parent[:2], *places))
    leaves = leaves or [kept[1]]
    table, places = numbered(splits, list(range(len(leaves))))
    return Tree(table, np.array([leaves[place] for place in places], np.int32))


def _of_probabilities(grown: Grown, unit: float) -> np.ndarray:
    """From which sum on a probability has each code: the nearest, but more than half of all from 128 on, and no less."""
    if grown.mean:
        whole = Fraction(len(grown.trees)) * Fraction(unit)
        found = [math.ceil(Fraction(2 * code - 1, 512) * whole) for code in range(1, 256)]
        found[127] = math.floor(whole / 2) + 1
    else:
        found = [math.ceil(math.log((2 * code - 1) / (513 - 2 * code)) * unit) for code in range(1, 256)]
        found[127] = 1
    return np.clip(found, -_MOST_SUM, _MOST_SUM).astype(np.int32)


def _of_numbers(grown: Grown, said: Number, leaves: List[Any], unit: float) -> Tuple[np.ndarray, float, int, str]:
    """(cuts, scale, zero point, what the output is) of a number: 256 steps over what these trees can say of its range."""
    low, high = said.range
    least, most = (grown.base + sum(float(end(np.array(each))) for each in leaves) for end in (np.min, np.max))
    least, most = min(max(least, low), said.base), max(min(most, high), said.base)
    scale = float(np.float32(max(most - least, 1e-6 * (high - low)) / 255))
    zero_point = int(np.clip(-128 - round((least - said.base) / scale), -128, 127))
    cuts = [math.ceil((said.base + scale * (code - 128 - zero_point - 0.5)) * unit) for code in range(1, 256)]
    return np.clip(cuts, -_MOST_SUM, _MOST_SUM).astype(np.int32), scale, zero_point, said.exported_words

"""What columns mean, apart from any rows: a codebook (CSV), or a Table Schema (JSON, of the Frictionless specification).

A codebook has a line a column (COLUMNS names its own); lists in it are separated by `|`.
"""

import csv
import io
import json
import math
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from orchestrator.data.cells import finite
from orchestrator.errors import DataError
from orchestrator.wire.bounds import near
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.special_files import read_file

TYPES = ("number", "integer", "boolean", "category", "date", "text")
ROLES = ("feature", "label", "patient", "none")
COLUMNS = ("name", "type", "unit", "minimum", "maximum", "levels", "labels", "missing", "role")
BETWEEN = "|"
MOST_BYTES = 8 << 20

_OF_TABLE_SCHEMA = {"number": "number", "integer": "integer", "boolean": "boolean", "date": "date", "datetime": "date"}


class Entry(NamedTuple):
    """A column. levels: cells that may stand in it; labels: what these mean, in the same order, or none."""

    name: str
    type: str
    unit: str = ""
    minimum: Optional[float] = None
    maximum: Optional[float] = None
    levels: Tuple[str, ...] = ()
    labels: Tuple[str, ...] = ()
    missing: Tuple[str, ...] = ()
    role: str = "feature"


def read_codebook(path: Path) -> List[Entry]:
    """Reads .json as a Table Schema and anything else as a codebook. DataError with every mistake, by its place."""
    try:
        content = read_file(path)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    if len(content) > MOST_BYTES:
        raise DataError(f"{path}: {len(content)} bytes, expected a codebook of at most {MOST_BYTES}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text; save it as UTF-8") from error
    found = list(_of_json(path, text) if path.suffix == ".json" else _of_csv(path, text))
    wrong = [f"{place}: {why}" for place, entry in found for why in _wrong(entry)]
    names = [entry.name for _, entry in found]
    wrong += [f"{place}: column {entry.name!r} is named twice" for place, entry in found if names.count(entry.name) > 1]
    if wrong:
        raise DataError(f"{path}:\n  " + "\n  ".join(wrong[:20]))
    if not found:
        raise DataError(f"{path}: no column in it")
    return [entry for _, entry in found]


def _of_csv(path: Path, text: str) -> Iterator[Tuple[str, Entry]]:
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        names = [name.strip() for name in reader.fieldnames or ()]
        unknown = [name for name in names if name not in COLUMNS]
        if unknown or not {"name", "type"} <= set(names):
            lacking = f"{unknown[0]!r}: unknown{near(unknown[0], COLUMNS)}" if unknown else "no column name or type"
            raise DataError(f"{path}:1: {lacking}; a codebook has the columns {', '.join(COLUMNS)}")
        reader.fieldnames = names
        for row in reader:
            if None in row or None in row.values():
                raise DataError(
                    f"{path}:{reader.line_num}: as many values are expected as the first line names columns"
                )
            yield f"line {reader.line_num}", _entry({key: value.strip() for key, value in row.items()})
    except csv.Error as error:
        raise DataError(f"{path}: not CSV: {error}") from error


def _entry(row: Dict[str, str]) -> Entry:
    def several(name: str) -> Tuple[str, ...]:
        cells = row.get(name, "")
        return tuple(cell.strip() for cell in cells.split(BETWEEN)) if cells else ()

    def bound(name: str) -> Optional[float]:
        cell = row.get(name, "")
        value = finite(cell)
        return None if not cell else math.nan if value is None else value

    return Entry(
        row["name"],
        row["type"],
        row.get("unit", ""),
        bound("minimum"),
        bound("maximum"),
        several("levels"),
        several("labels"),
        several("missing"),
        row.get("role", "") or "feature",
    )


def _of_json(path: Path, text: str) -> Iterator[Tuple[str, Entry]]:
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON: {str(error)[:80]}") from error
    fields = schema.get("fields") if isinstance(schema, dict) else None
    if not isinstance(fields, list) or not all(isinstance(each, dict) for each in fields):
        raise DataError(f"{path}: no Table Schema: expected an object with `fields`, a list of objects")
    missing = schema.get("missingValues", [""])
    key = schema.get("primaryKey", "")
    for number, each in enumerate(fields):
        entry = _of_field(each, missing if isinstance(missing, list) else [""])
        yield f"fields[{number}]", entry._replace(role="none") if key == entry.name else entry


def _of_field(field: Dict[str, Any], missing: Sequence[Any]) -> Entry:
    limits = field.get("constraints", {})
    limits = limits if isinstance(limits, dict) else {}
    levels = limits.get("enum", field.get("categories", []))
    plain = (
        [each.get("value") if isinstance(each, dict) else each for each in levels] if isinstance(levels, list) else []
    )
    labels = [str(each.get("label", each.get("value"))) for each in levels if isinstance(each, dict)] if plain else []
    kind = _OF_TABLE_SCHEMA.get(str(field.get("type", "string")), "text")

    def bound(name: str) -> Optional[float]:
        value = limits.get(name)
        return None if value is None else finite(str(value)) if finite(str(value)) is not None else math.nan

    return Entry(
        str(field.get("name", "")),
        "category" if plain else kind,
        str(field.get("unit", "")),
        bound("minimum") if kind != "date" else None,
        bound("maximum") if kind != "date" else None,
        tuple(str(each) for each in plain),
        tuple(labels),
        tuple(str(each) for each in missing if each != ""),
        "feature" if plain or kind in ("number", "integer", "boolean") else "none",
    )


def _wrong(entry: Entry) -> Iterator[str]:
    if not entry.name or not entry.name.isprintable():
        yield f"name {entry.name!r}: expected printable text"
    if entry.type not in TYPES:
        yield f"type {entry.type!r}: expected of {', '.join(TYPES)}{near(entry.type, TYPES)}"
    if entry.role not in ROLES:
        yield f"role {entry.role!r}: expected of {', '.join(ROLES)}{near(entry.role, ROLES)}"
    for name, value in (("minimum", entry.minimum), ("maximum", entry.maximum)):
        if value is not None and not math.isfinite(value):
            yield f"{name}: expected a finite number"
    if entry.type == "category" and len(set(entry.levels)) != max(len(entry.levels), 2):
        yield f"levels of {entry.name!r}: a category has two or more, each once, separated by {BETWEEN}"
    if entry.labels and len(entry.labels) != len(entry.levels):
        yield f"labels of {entry.name!r}: {len(entry.labels)} for {len(entry.levels)} levels"


def write_codebook(entries: Sequence[Entry], path: Path) -> None:
    """Writes .json as a Table Schema, anything else as a codebook."""
    if path.suffix == ".json":
        path.write_text(json.dumps(table_schema(entries), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        return
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows([_cell(value) for value in entry] for entry in entries)


def _cell(value: Any) -> str:
    if isinstance(value, tuple):
        return BETWEEN.join(value)
    return "" if value is None else str(value) if isinstance(value, str) else _number(value)


def _number(value: float) -> str:
    return repr(int(value)) if value.is_integer() else repr(value)


def table_schema(entries: Sequence[Entry]) -> Dict[str, Any]:
    """The same as a Table Schema. Missing codes are those of all columns together: it has one list for the table."""
    fields = []
    for entry in entries:
        limits = {
            name: value for name, value in (("minimum", entry.minimum), ("maximum", entry.maximum)) if value is not None
        }
        field: Dict[str, Any] = {
            "name": entry.name,
            "type": {"category": "string", "text": "string"}.get(entry.type, entry.type),
        }
        if entry.unit:
            field["unit"] = entry.unit
        if entry.levels:
            pairs = zip(entry.levels, entry.labels)
            field["categories"] = (
                [{"value": value, "label": label} for value, label in pairs] if entry.labels else list(entry.levels)
            )
            limits["enum"] = list(entry.levels)  # type: ignore[assignment]
        if limits:
            field["constraints"] = limits
        fields.append(field)
    codes = sorted({code for entry in entries for code in entry.missing})
    return {"fields": fields, "missingValues": ["", *codes]}


def schema_of(entries: Sequence[Entry]) -> Schema:
    """The schema of a task with these columns. DataError where a feature lacks its range, or there are two labels or patients."""
    labels, patients = ([entry for entry in entries if entry.role == role] for role in ("label", "patient"))
    for role, found in (("label", labels), ("patient", patients)):
        if len(found) > 1:
            raise DataError(f"role {role}: columns {found[0].name!r} and {found[1].name!r}; a task has one")
    features, wrong = [], []
    for entry in entries:
        if entry.role == "feature":
            try:
                features.append(_feature(entry))
            except ValueError as error:
                wrong += str(error).split("\n")
    if wrong or not features:
        raise DataError("\n".join(wrong) or "no column with role feature")
    label = labels[0] if labels else None
    markers = ["", *sorted({code for entry in entries for code in entry.missing})]
    try:
        return Schema(
            "table",
            label.name if label else "",
            (label.labels or label.levels) if label else (),
            {value: number for number, value in enumerate(label.levels)} if label else {},
            tuple(features),
            missing_markers=tuple(markers),
            patient=patients[0].name if patients else "",
        )
    except ValueError as error:
        raise DataError(str(error)) from error


def _feature(entry: Entry) -> Feature:
    if entry.type == "category":
        return Feature(entry.name, categories=entry.levels)
    if entry.type == "boolean":
        return Feature(entry.name, 0.0, 1.0)
    if entry.type not in ("number", "integer"):
        raise ValueError(
            f"feature {entry.name!r}: a {entry.type} is no input; make a number of it, or give it the role none"
        )
    return Feature(entry.name, entry.minimum, entry.maximum)

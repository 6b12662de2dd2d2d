"""What the columns of a table are, one rule after another: numbers, categories, the label, whose record it is, or of no use.

It looks at every value, so what it finds is derived from the data: ranges are rounded outward, and still show about how far the
values go. It is for rows that are public or synthetic, or for an author who replaces what it suggests.
"""

import math
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any, Dict, List, Optional, Sequence, Set, Tuple

import numpy as np

from model_export.evaluation import area_under_roc
from orchestrator.data.cells import MARKERS, canonical, names_nobody, number_hint, shown
from orchestrator.errors import UsageError
from orchestrator.gateway.checks import distinguishable
from orchestrator.gateway.delimited import Table
from orchestrator.gateway.missing_codes import missing_codes
from orchestrator.gateway.odd_cells import amounts, said, written
from orchestrator.gateway.odd_texts import bad_name, bad_value, first_line, listed, nearly_alike, unusable
from orchestrator.wire.bounds import near, skeleton

MISSING = ("", "?", *MARKERS)
"""In lower case: how tables say that there is no value. Of words some may be levels all the same, such as "none"."""

_SURELY_MISSING = ("", "?", "na", "n/a", "nan", "null", "#n/a")
MOST_LEVELS = 20
MOST_CLASSES = 20
LONGEST_LEVEL = 100
MOST_AMOUNT = 1e30
EXACT = 2.0**53
"""From here on a float does not tell each whole number from the next."""

FEW_CODES = 8
LEAST_PATIENTS = 10
LEAST_COMPLETE = 0.8
"""Share of rows that must be left when those lacking a value are dropped; columns with gaps go first."""

LEAST_ROWS = 20
FEW_ROWS = 20
"""Of a class: what is learned from fewer is chance."""

TELLING = 0.99
"""Area under the ROC curve of one column of numbers: few that are known before an outcome reach it."""

_ID_NAME = re.compile(r"(?:^|[ _.-])(?:id|nr|no|num|number|mrn|uuid|guid|key|index|idx|row)$|(?:Id|ID)$", re.IGNORECASE)
_PERSON = re.compile(r"patient|subject|person|participant|(?:^|[ _.-])(?:pat|pid|mrn)(?:$|[ _.-])", re.IGNORECASE)
_LABEL_NAME = re.compile(
    r"label|target|outcome|class|diagnos|died|death|dead|mortality|surviv|event|status|readmi|result|^y$", re.IGNORECASE
)
_DATE = re.compile(
    r"(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}|\d{1,2}[- ][A-Za-z]{3,9}[- ]\d{2,4})"
    r"(?:[T ]\d{1,2}:\d{2}.*)?|\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?"
)
_COMPACT_DATE = re.compile(r"(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])")


@dataclass(frozen=True)
class Column:
    """One that a model can use. kind: number, integer, boolean, category. note: what its author should look at."""

    name: str
    kind: str
    minimum: float = 0.0
    maximum: float = 0.0
    categories: Tuple[str, ...] = ()
    note: str = ""
    missing: int = 0  # rows without a value of it


@dataclass(frozen=True)
class Survey:
    """classes: (name, the value of the file that stands for it), in order. left_out: (column, why).

    complete: rows that lack no value that is used. markers: cells that stand for a missing value.
    """

    rows: int
    complete: int
    label: str
    classes: List[Tuple[str, str]]
    columns: List[Column]
    left_out: List[Tuple[str, str]]
    markers: List[str]
    patient: str = ""
    patients: int = 0
    rows_a_patient: int = 0  # that nine of ten patients have at most, rounded up to a power of two
    warnings: List[str] = field(default_factory=list)


def label_candidates(table: Table) -> List[str]:
    """Columns with a few values, the likeliest first."""
    found = []
    for position, name in enumerate(table.header):
        levels = _levels(_present(table.column(name)))
        few = 2 <= len(levels) <= MOST_CLASSES and len(levels) * 2 <= len(table.rows)
        if few and not bad_name(name) and not any(map(unusable, levels)):
            found.append((not _LABEL_NAME.search(name), len(levels) > 2, -position, name))
    return [name for *_, name in sorted(found)]


def survey(table: Table, label: str, patient: str = "") -> Survey:
    """Raises UsageError for a label or patient column that is not there, or cannot be one."""
    for option, name in (("--label", label), ("--patient", patient)):
        if name and name not in table.header:
            raise UsageError(
                f"{option} {shown(name)}: no such column{near(name, table.header)}; the file has {listed(table.header)}"
            )
        if name and bad_name(name):
            raise UsageError(f"{option} {shown(name)}: {bad_name(name)} in the file, with a shorter or plainer one")
    if len(table.rows) < LEAST_ROWS:
        raise UsageError(
            f"a table of {len(table.rows)} rows does not show what a column holds: give one of at least {LEAST_ROWS}"
        )
    if patient and patient == label:
        raise UsageError(f"--patient {patient!r}: it is the label")
    classes = _classes(table, label)
    patient, unsure = (patient, {}) if patient else _patient(table, label)
    columns, left_out = [], []
    for name in table.header:
        if name and name in (label, patient):
            continue
        column, why = (None, "it seems to say whose record it is") if name in unsure else describe(table, name)
        clash = {value for _, value in classes if is_missing(value)} & set(table.column(name))
        if column is not None and not column.categories and clash:
            column, why = None, f"a missing value is {clash.pop()!r} there, which is a class of the label"
        if column is None:
            left_out.append((name, why))
        else:
            columns.append(
                replace(column, missing=_of_all(table, sum(_lacks(cell, column) for cell in table.column(name))))
            )
    values = {value for _, value in classes}
    records = table.counts(patient) if patient else {}
    nobodys = sum(records.pop(cell) for cell in list(records) if names_nobody(cell))
    columns, gaps, complete = _without_gaps(
        table, columns, [v in values or not is_missing(v) for v in table.column(label)]
    )
    levels = [(column.name, set(column.categories) | values) for column in columns]
    markers = {
        cell
        for name, own in [*levels, (label, values)]
        for cell in table.column(name)
        if is_missing(cell) and cell not in own
    }
    return Survey(
        table.total,
        _of_all(table, complete),
        label,
        classes,
        columns,
        left_out + gaps,
        sorted(markers | {""}),
        patient,
        len(records),
        _rows_a_patient(records) if records else 0,
        [*unsure.values(), *_of_nobody(patient, nobodys), *_warnings(table, label, classes, columns)],
    )


def _of_nobody(patient: str, rows: int) -> List[str]:
    if not rows:
        return []
    return [
        f"{rows:,} rows do not say whose they are (column {patient!r} is empty, or has a word for no value): nodes refuse them, "
        "so fill them in or remove them"
    ]


def _of_all(table: Table, count: int) -> int:
    """What is counted in the rows that are looked at, for the whole file."""
    return round(count / table.share)


def is_missing(cell: str) -> bool:
    return cell.lower() in MISSING


def _present(cells: Sequence[str]) -> List[str]:
    return [cell for cell in cells if not is_missing(cell)]


def _levels(cells: Sequence[str]) -> Dict[str, int]:
    """One spelling of each value -> how many rows have it; 1 and 1.0 are the same value, as nodes see it."""
    spelling: Dict[str, str] = {}
    counts: Counter[str] = Counter()
    for cell in cells:
        counts[spelling.setdefault(canonical(cell), cell)] += 1
    return dict(counts)


def describe(table: Table, name: str) -> Tuple[Optional[Column], str]:
    """(the column, "") or (None, why no model can use it)."""
    if bad_name(name):
        return None, bad_name(name)
    cells = table.column(name)
    present = _present(cells)
    if not present:
        return None, _NO_VALUE if not any(cells) else f"{_NO_VALUE}: what its cells hold are words for a missing one"
    numbers = [table.number(cell) for cell in present]
    if all(number is not None for number in numbers):
        return _number_column(table, name, present, [number for number in numbers if number is not None])
    words = [cell for cell in cells if cell.lower() not in _SURELY_MISSING]
    return _text_column(table, name, words)


def _number_column(table: Table, name: str, cells: List[str], numbers: List[float]) -> Tuple[Optional[Column], str]:
    distinct = set(numbers)
    beyond = sum(not abs(number) <= MOST_AMOUNT for number in numbers)
    if beyond:
        some = f"{beyond:,} of its {len(numbers):,} values {'is' if beyond == 1 else 'are'}"
        many_of = "its values are" if beyond == len(numbers) else some
        return None, f"{many_of} too large to compute with: beyond {MOST_AMOUNT:g}"
    whole = all(number == int(number) for number in numbers)
    exact = _in_full(table, cells) if whole and max(map(abs, numbers)) >= EXACT else numbers
    different = len(set(exact))
    if whole and different == len(numbers) >= 10 and _numbers_rows(name, exact):
        return None, "it numbers the rows: an id says nothing about a new record"
    if len(distinct) == 1:
        alike = len(set(_in_full(table, cells))) == 1
        return None, _same_value(table, len(cells)) if alike else _TOO_CLOSE
    if whole and all(map(_COMPACT_DATE.fullmatch, cells)):
        return None, f"it is a date, {_NO_DATES}"
    if whole and different > MOST_LEVELS and _ID_NAME.search(name) and name.lower().endswith("id"):
        return None, "its name says that it is an id, and these say nothing about a new record"
    if distinct == {0.0, 1.0}:
        return Column(name, "boolean", 0.0, 1.0), ""
    low, high = rounded_outward(min(numbers), max(numbers))
    if whole:
        low, high = float(math.floor(low)), float(math.ceil(high))
    if not distinguishable(low, high):
        return None, _TOO_CLOSE
    note = missing_codes(cells, numbers)
    if whole and len(distinct) <= FEW_CODES and not note:
        note = f"{len(distinct)} whole numbers: if they are codes and not amounts, write categories instead of a range"
    return Column(name, "integer" if whole else "number", low, high, (), note), ""


def _in_full(table: Table, cells: List[str]) -> List[Decimal]:
    """The numbers as they are written, which floats round to some 16 digits."""
    return [Decimal(cell.replace(",", ".") if table.decimal_comma else cell) for cell in cells]


def _same_value(table: Table, present: int) -> str:
    return "it has the same value in every row" + (" that has one" if present < len(table.rows) else "")


_NO_VALUE = "it holds no value"
_TOO_CLOSE = "its values are too close together for float32: take off what they have in common, or scale them"
_NO_DATES = "and models read numbers and categories: make an age or a number of days of it"


def _numbers_rows(name: str, numbers: Sequence[Any]) -> bool:
    """Whether whole numbers that are different in every row are ids: by their name, their order, or their look."""
    if _ID_NAME.search(name) or _PERSON.search(name):
        return True
    steps = [after - before for before, after in zip(numbers, numbers[1:])]
    if min(steps) > 0 or max(steps) < 0 or max(numbers) - min(numbers) == len(numbers) - 1:
        return True
    return min(numbers) >= 1e5 and len({len(str(int(number))) for number in numbers}) == 1 and len(numbers) >= 50


def rounded_outward(low: float, high: float) -> Tuple[float, float]:
    """A range of one or two digits that holds [low, high], from 0 where that is near; shares and percentages have their own."""
    for natural in (1.0, 100.0):
        if 0 <= low <= high - low and natural / 2 < high <= natural:
            return 0.0, natural
    span = Decimal(repr(high)) - Decimal(repr(low))
    step = Decimal(1).scaleb(span.adjusted())
    step /= 5 if span < 2 * step else 2 if span < 5 * step else 1
    room = span / 20
    bottom = ((Decimal(repr(low)) - room) / step).to_integral_value(ROUND_FLOOR) * step
    top = ((Decimal(repr(high)) + room) / step).to_integral_value(ROUND_CEILING) * step
    if 0 <= low <= float(span):
        bottom = Decimal(0)
    if 0 <= -high <= float(span):
        top = Decimal(0)
    return float(bottom), float(top)


def _text_column(table: Table, name: str, words: List[str]) -> Tuple[Optional[Column], str]:
    levels = _levels(words)
    if not levels:
        return None, _NO_VALUE
    if len(levels) == 1:
        return None, _same_value(table, len(words))
    dates = sum(_DATE.fullmatch(word) is not None for word in words)
    if dates * 10 >= 9 * len(words):
        return None, f"it is a date or a time, {_NO_DATES}"
    found = written(table, name, [not is_missing(cell) for cell in table.column(name)])
    if found.of_numbers and len(levels) > FEW_CODES:
        return None, said(found)
    if 0 < found.texts * 5 <= len(words) and found.plain > MOST_LEVELS:
        return (
            None,
            f"all but {found.texts} of its values are numbers: correct the others, the first is in line {found.lines['']}",
        )
    if len(levels) == len(words) >= 10:
        spaces = sum(" " in word for word in words) * 2 > len(words)
        return (
            None,
            "it is free text" if spaces else "it is different in every row: an id says nothing about a new record",
        )
    if len(levels) > MOST_LEVELS or len(levels) * 2 > len(words):
        if found.numbers * 2 >= found.present:
            return None, said(found)
        hint, count = Counter(map(number_hint, words)).most_common(1)[0]
        if hint and count * 2 >= len(words):
            return None, f"{count:,} of its {len(words):,} values are no plain numbers: {hint}"
        return (
            None,
            f"it has {len(levels)} different texts: free text, or more levels than the {MOST_LEVELS} of a category",
        )
    unfit = bad_value(table, name, list(levels), LONGEST_LEVEL)
    if unfit:
        return None, f"{unfit}: replace it by a short code"
    note = f"{said(found)}; as levels they have no order" if found.of_numbers else _spelling(levels)
    return Column(name, "category", categories=tuple(sorted(levels)), note=note), ""


def _spelling(levels: Dict[str, int]) -> str:
    folded: Counter[str] = Counter(level.casefold() for level in levels)
    alike = sorted(level for level in levels if folded[level.casefold()] > 1)
    if alike:
        return f"{', '.join(alike)} differ in case only and count as different"
    same = look_alikes(list(levels))
    return f"{', '.join(map(ascii, same))} look the same and count as different" if same else ""


def look_alikes(names: Sequence[str]) -> List[str]:
    """Those that a reader takes for another one: composed otherwise, or with letters of another alphabet that look alike."""
    skeletons: Counter[str] = Counter(map(skeleton, names))
    return [name for name in names if skeletons[skeleton(name)] > 1]


def _classes(table: Table, label: str) -> List[Tuple[str, str]]:
    cells = _labels(table, label)
    levels = _levels(cells)
    if len(levels) < 2:
        found = f"it has the value {shown(next(iter(levels)))} only" if levels else "it holds no value"
        raise UsageError(f"--label {label!r}: {found}, and at least two classes are needed to learn")
    known = amounts(table, list(levels))
    many = len(levels) > MOST_CLASSES or len(levels) * 2 > len(cells)
    if known is not None and (many or any(value != int(value) for value in known)):
        raise UsageError(_amount(label, levels, known))
    if many:
        raise UsageError(
            f"--label {label!r}: it has {len(levels)} different values in {len(cells)} rows, too many for classes: "
            f"make a column of at most {MOST_CLASSES} levels of it, such as above and below a limit"
        )
    for level in filter(unusable, levels):
        raise UsageError(
            f"--label {label!r}: its value {shown(level)} (first in line {first_line(table, label, level)}) has "
            f"{unusable(level)}, and would be the name of a class: replace it in the file by a short code"
        )
    if {canonical(level) for level in levels} == {"0", "1"}:
        return [("no", "0"), ("yes", "1")]
    numbers = [table.number(level) for level in levels]
    if all(number is not None for number in numbers):
        order = sorted(levels, key=lambda level: table.number(level) or 0.0)
        return [(canonical(level), level) for level in order]
    return [(level, level) for level in sorted(levels)]


def _labels(table: Table, label: str) -> List[str]:
    """Of all rows that have one. Among numbers, a word or a sign for no value is no class."""
    cells = [cell for cell in table.column(label) if cell.lower() not in _SURELY_MISSING]
    present = _present(cells)
    return present if present and all(table.number(cell) is not None for cell in present) else cells


def _amount(label: str, levels: Dict[str, int], known: List[float]) -> str:
    """What to do with a number as the label, with a limit that splits its different values in halves."""
    limit = known[len(known) // 2]
    fractions = " with fractions" if any(value != int(value) for value in known) else ""
    return (
        f"--label {label!r}: it holds numbers{fractions} ({len(levels)} different ones, from {known[0]:g} to {known[-1]:g}), an "
        "amount, and a draft is of classes. For the amount draft with another --label, and put `target` in the place of "
        "classes (docs/data.md of the project, What a task learns). For classes add a column with its bands to the file, such "
        f"as 'low' below {limit:g} and 'high' from there on, name that with --label, and take {label!r} out: it holds the answer"
    )


def _patient(table: Table, label: str) -> Tuple[str, Dict[str, str]]:
    """The column that says whose record it is, where a patient has several; empty where there is no such.

    Also those that would be it but for rows of nobody, and what is said of each.
    """
    usable = [name for name in table.header if not bad_name(name)]
    named = [name for name in usable if name != label and (_PERSON.search(name) or name.lower() == "id")]
    unsure: Dict[str, str] = {}
    for name in sorted(named, key=lambda name: not _PERSON.search(name)):
        cells = [cell for cell in table.column(name) if not names_nobody(cell)]
        nobodys = len(table.rows) - len(cells)
        if not (_ID_NAME.search(name) or _PERSON.fullmatch(name)):
            continue
        if not LEAST_PATIENTS <= len(set(cells)) < len(cells):
            continue
        if not nobodys:
            return name, {}
        unsure[name] = (
            f"column {name!r} seems to say whose record it is, and {_of_all(table, nobodys):,} rows have none: nodes would "
            f"refuse them, so a record is protected. Fill them in or remove them, and give --patient {name} to protect patients"
        )
    return "", unsure


def _rows_a_patient(records: Dict[str, int]) -> int:
    counts = sorted(records.values())
    return 1 << (counts[len(counts) * 9 // 10] - 1).bit_length()


def _without_gaps(
    table: Table, columns: List[Column], labelled: List[bool]
) -> Tuple[List[Column], List[Tuple[str, str]], int]:
    """(columns, those left out for their gaps, rows that lack nothing)."""
    kept = list(columns)
    gaps: List[Tuple[str, str]] = []
    lacking = {c.name: {i for i, v in enumerate(table.column(c.name)) if _lacks(v, c)} for c in columns}
    rows = {i for i, has in enumerate(labelled) if has}
    while True:
        incomplete = set().union(*(lacking[c.name] for c in kept)) if kept else set()
        complete = len(rows - incomplete)
        worst = max(kept, key=lambda c: len(lacking[c.name]), default=None)
        if worst is None or complete >= LEAST_COMPLETE * len(rows) or not lacking[worst.name]:
            return kept, gaps, complete
        kept.remove(worst)
        share = len(lacking[worst.name]) / len(table.rows)
        gaps.append((worst.name, f"{share:.0%} of its values are missing, and rows that lack one are dropped"))


def _lacks(cell: str, column: Column) -> bool:
    return is_missing(cell) and cell not in column.categories


def _warnings(table: Table, label: str, classes: List[Tuple[str, str]], columns: List[Column]) -> List[str]:
    """What a person should look at before anybody trains."""
    key = {canonical(value): name for name, value in classes}
    labels = [key.get(canonical(cell)) for cell in table.column(label)]
    found = []
    counts = Counter(filter(None, labels))
    rare = [f"{name!r} ({count})" for name, count in sorted(counts.items()) if count < FEW_ROWS]
    if rare:
        found.append(f"few rows are of class {', '.join(rare)}: little can be learned of it")
    same = look_alikes([name for name in table.header if name])
    if same:
        found.append(
            f"columns {', '.join(map(ascii, same))} look the same, and are not: nodes need each as it is written"
        )
    found += nearly_alike([name for name in table.header if name])
    if len(classes) > FEW_CODES and amounts(table, [value for _, value in classes]) is not None:
        found.append(
            f"the label has {len(classes)} whole numbers as classes: if it is an amount, make a column of its bands instead"
        )
    alike = _spelling({name: 0 for name, _ in classes})
    if alike:
        found.append(f"classes {alike}: write them alike in the file if they are one")
    found += filter(None, (_answer(table, column, labels) for column in columns))
    return found


def _answer(table: Table, column: Column, labels: Sequence[Optional[str]]) -> str:
    """A word on a column that alone tells a class from the others, as what was measured after the outcome does."""
    seen: Dict[str, Set[Optional[str]]] = {}
    pairs = [
        (cell, of) for cell, of in zip(table.column(column.name), labels) if of is not None and not is_missing(cell)
    ]
    for cell, of_class in pairs:
        seen.setdefault(canonical(cell), set()).add(of_class)
    classes = Counter(of_class for _, of_class in pairs)
    if len(seen) <= max(MOST_LEVELS, len(classes)):
        if len(seen) >= 2 and all(len(names) == 1 for names in seen.values()):
            return f"column {column.name!r} alone tells the label in every row: does it hold the answer?"
        return ""
    if column.categories or len(classes) < 2:
        return ""
    values, names = np.array([table.number(cell) for cell, _ in pairs]), np.array([of_class for _, of_class in pairs])
    for name, count in sorted(classes.items()):
        area = area_under_roc(values, names == name) if FEW_ROWS <= count <= len(pairs) - FEW_ROWS else 0.5
        if max(area, 1 - area) >= TELLING:
            return (
                f"column {column.name!r} alone tells {name!r} in nearly every row: does it hold the answer, or was it measured "
                "after the outcome? Then take it out, for a new record has no such value yet"
            )
    return ""

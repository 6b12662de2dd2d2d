"""A table made anonymous by rules: read, cut into classes, written again, and measured before and after."""

from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from orchestrator.data.anonymity.domains import Domain, domain_of
from orchestrator.data.anonymity.measures import Anonymity, measure
from orchestrator.data.anonymity.mondrian import Demands, Sensitive, mondrian, written
from orchestrator.data.anonymity.rules import Rules
from orchestrator.data.anonymity.utility import area
from orchestrator.data.cells import folded, names_nobody, nobody
from orchestrator.data.columns import column_at
from orchestrator.data.formats import wrong_count
from orchestrator.data.problems import Problems
from orchestrator.data.sources.base import Row
from orchestrator.errors import DataError

_MISSING = frozenset(("", "?", "na", "n/a", "nan", "null", "#n/a"))


def _lacks(cell: str) -> bool:
    """Whether a cell surely stands for no value, unless it is a level."""
    return cell.casefold() in _MISSING


_NO_VALUE = "empty; every row must have a value: fill it in, or write a level of its own, such as unknown"


class Read(NamedTuple):
    """Rows that have a value in every quasi-identifier. codes: float64 (rows, quasi-identifiers)."""

    header: List[str]
    rows: List[Row]
    codes: np.ndarray
    suppressed: int

    def column(self, name: str) -> List[str]:
        """The cells of a column; nothing for no name."""
        place = self.header.index(name) if name else -1
        return [cells[place] for _, cells in self.rows] if name else []


class Anonymized(NamedTuple):
    """header, rows: what is written. low, high: float64 (rows, quasi-identifiers), each row's class."""

    header: List[str]
    rows: List[List[str]]
    read: Read
    classes: List[np.ndarray]
    low: np.ndarray
    high: np.ndarray
    before: Anonymity
    after: Anonymity
    ncp: float
    """The mean share of the domains that is written (GCP): 0 as it was, 1 nothing left."""
    discernibility: int
    """Sum of the squares of the classes' rows, and of all rows for each that is suppressed."""
    average_class: float
    """Rows of a class in units of k: 1 is the least."""
    area: Optional[Tuple[Optional[float], Optional[float]]]
    """Of a model's ROC curve, before and after; None without a label."""
    unnamed: List[str]
    """Columns that the rules do not name, which are left out."""


def domains_of(rules: Rules, folder: Path) -> Dict[str, Domain]:
    """folder: that of the rules."""
    return {name: domain_of(name, quasi, folder) for name, quasi in rules.quasi.items()}


def read_for(path: Path, rows: Iterator[Row], rules: Rules, domains: Dict[str, Domain]) -> Read:
    """Takes the rows of a table, names first. DataError, by line and column, for what is not of a domain."""
    first = next(rows, None)
    if first is None:
        raise DataError(f"{path}: the file is empty")
    header = first[1]
    wanted = [*rules.quasi, *(name for name in (rules.sensitive, rules.patient, rules.label, *rules.keep) if name)]
    for name in wanted:
        column_at(str(path), name, header)
    places = [(header.index(name), name, domain) for name, domain in domains.items()]
    problems = Problems(path)
    kept: List[Row] = []
    codes: List[List[float]] = []
    suppressed = 0
    for line, cells in rows:
        found = _codes(line, cells, places, problems)
        if len(cells) != len(header):
            problems.add(f":{line}", wrong_count(cells, header))
        elif found is None:
            suppressed += 1
        else:
            kept.append((line, cells))
            codes.append(found)
    for line, cells in kept if rules.patient or rules.sensitive else []:
        for name in filter(None, (rules.patient, rules.sensitive)):
            cell = cells[header.index(name)]
            if _lacks(cell) or (name == rules.patient and names_nobody(cell)):
                problems.add(f":{line}", f"column {name!r}: {nobody(cell) if name == rules.patient else _NO_VALUE}")
    problems.refuse()
    total = suppressed + len(kept)
    if suppressed > rules.suppression * total:
        raise DataError(
            f"{path}: {suppressed} of {total} rows lack a value in a quasi-identifier, and `suppression` allows for "
            f"{rules.suppression:g} of them: fill them in, or allow for more"
        )
    return Read(header, kept, np.array(codes, np.float64).reshape(len(kept), len(places)), suppressed)


def _codes(
    line: int, cells: Sequence[str], places: Sequence[Tuple[int, str, Domain]], problems: Problems
) -> Optional[List[float]]:
    """None where one is missing; what is wrong is among the problems."""
    found: List[float] = []
    for place, name, domain in places:
        cell = cells[place] if place < len(cells) else ""
        try:
            found.append(domain.code(cell))
        except ValueError as error:
            if _lacks(cell):
                return None
            problems.add(f":{line}", f"column {name!r}: {error}")
            found.append(0.0)
    return found


class _Classes(NamedTuple):
    """rows: int (rows,) of each class. low, high: float64 (classes, quasi-identifiers). number: int (rows,), each row's class."""

    rows: List[np.ndarray]
    low: np.ndarray
    high: np.ndarray
    number: np.ndarray


def _classes(path: Path, read: Read, rules: Rules, domains: Sequence[Domain]) -> _Classes:
    """DataError where the table as a whole does not have what is demanded. path: for messages."""
    sensitive, persons = read.column(rules.sensitive), read.column(rules.patient)
    demands = Demands(rules, Sensitive(sensitive) if sensitive else None, _numbered(persons))
    if not demands.met(np.arange(len(read.rows))):
        of = "persons" if persons else "rows"
        raise DataError(
            f"{path}: as a whole it has fewer than k = {rules.k} {of}, or less diversity than "
            f"l_diversity = {rules.l_diversity:g} ({rules.diversity}) asks for"
        )
    classes = mondrian(read.codes, domains, demands, rules.mode == "relaxed")
    number = np.zeros(len(read.rows), np.int64)
    for each, rows in enumerate(classes):
        number[rows] = each
    return _Classes(classes, *written(read.codes, classes), number)


def anonymize(path: Path, read: Read, rules: Rules, domains: Dict[str, Domain]) -> Anonymized:
    """With all that is said of it. DataError where the table as a whole does not have what is demanded. path: for messages."""
    sensitive, persons = read.column(rules.sensitive), read.column(rules.patient)
    every = list(domains.values())
    classes, lows, highs, number = _classes(path, read, rules, every)
    texts = [tuple(d.written(a, b) for d, a, b in zip(every, low, high)) for low, high in zip(lows, highs)]
    quasi = [texts[each] for each in number]
    kept = [name for name in read.header if name in (rules.sensitive, rules.label, *rules.keep) and name]
    others = [(name, read.column(name)) for name in kept]
    rows_written = sorted([*quasi[row], *(cells[row] for _, cells in others)] for row in range(len(quasi)))
    before = measure([tuple(map(str, codes)) for codes in read.codes.tolist()], sensitive, persons)
    after = measure(quasi, sensitive, persons)
    total = len(read.rows) + read.suppressed
    shares = [sum(d.extent(a, b) for d, a, b in zip(every, low, high)) / len(every) for low, high in zip(lows, highs)]
    named = {*rules.quasi, rules.patient, *kept}
    low, high = lows[number], highs[number]
    label = read.column(rules.label)
    return Anonymized(
        [*rules.quasi, *kept],
        rows_written,
        read,
        classes,
        low,
        high,
        before,
        after,
        float(np.dot(shares, [len(rows) for rows in classes]) / len(read.rows)),
        after.squares + read.suppressed * total,
        len(read.rows) / (len(classes) * rules.k),
        (area(read.codes, label), area((low + high) / 2, label)) if label else None,
        [name for name in read.header if name not in named],
    )


def _numbered(cells: Sequence[str]) -> Optional[np.ndarray]:
    """int (rows,), of each row the person; None where it is not said."""
    return np.unique(np.array([folded(cell) for cell in cells]), return_inverse=True)[1].ravel() if cells else None


def generalized(path: Path, rows: Iterator[Row], rules: Rules, folder: Path) -> Iterator[Row]:
    """The same table, names first, with the middle of its class for every quasi-identifier: rows of a class are alike in these.

    Rows that lack one are left out. All else stays, also columns that the rules do not name: it is for computing on the node.
    """
    domains = domains_of(rules, folder)
    read = read_for(path, rows, rules, domains)
    every = list(domains.values())
    found = _classes(path, read, rules, every)
    middles = [[d.middle(a, b) for d, a, b in zip(every, low, high)] for low, high in zip(found.low, found.high)]
    places = [read.header.index(name) for name in domains]
    yield 0, read.header
    for (line, cells), number in zip(read.rows, found.number):
        changed = list(cells)
        for place, middle in zip(places, middles[number]):
            changed[place] = middle
        yield line, changed


NOT_PROMISED = (
    "It hides a person among k who look alike to those who know these columns and no others: not from somebody who knows more, "
    "or has another table of the same persons.",
    "Where all rows of a class have one sensitive value, that value is known of each of them: l_diversity is against that.",
    "It has no epsilon: it is no differential privacy, and what is computed from the table later spends no budget for it.",
    "Two anonymous tables of the same rows, by other rules or at another time, can show together what neither does.",
)
"""What k-anonymity does not give, for those who get the table."""


def report(found: Anonymized, rules: Rules) -> Dict[str, Any]:
    """All figures as JSON can hold them, with what is not promised."""

    def figures(each: Anonymity) -> Dict[str, Any]:
        values = {name: value for name, value in each._asdict().items() if name != "squares"}
        return {**values, "risk": each.risks()}

    areas = dict(zip(("before", "after"), found.area)) if found.area else None
    return {
        "asked": {
            "k": rules.k,
            "l_diversity": rules.l_diversity,
            "diversity": rules.diversity,
            "t_closeness": rules.t_closeness,
            "quasi_identifiers": list(rules.quasi),
            "sensitive": rules.sensitive or None,
            "counted": "persons" if rules.patient else "rows",
            "mode": rules.mode,
        },
        "before": figures(found.before),
        "after": figures(found.after),
        "suppressed": found.read.suppressed,
        "ncp": found.ncp,
        "discernibility": found.discernibility,
        "average_class": found.average_class,
        "auc": areas,
        "left_out": found.unnamed,
        "not_promised": list(NOT_PROMISED),
    }

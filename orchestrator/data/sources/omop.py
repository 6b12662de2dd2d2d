"""An OMOP common data model (CDM 5.3 and 5.4) in PostgreSQL or SQLite: one row a person, its columns declared by concepts.

https://ohdsi.github.io/CommonDataModel/cdm54.html has the tables and their columns. One query is made of the declaration. Numbers
and dates go to the database as parameters; of texts only the names of schemas are written into it, quoted.
"""

import datetime
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple
from urllib.parse import quote

from orchestrator.data.dates import day_alone
from orchestrator.data.sources.base import Row, Service, cells
from orchestrator.data.sources.postgresql import Server, fetched, quoted, reading
from orchestrator.errors import AwayError, DataError
from orchestrator.wire.bounds import count, one_of, refuse

PERSON = "person_id"
"""The column that says whose a row is, beside those that are declared."""

MOST_COLUMNS = 50
"""SQLite joins at most 64 tables."""
MOST_CONCEPTS = 100


class _Table(NamedTuple):
    """A table of the CDM that has what happened to persons: `name`, and the columns of it that are used."""

    name: str
    concept: str
    date: str
    moment: str  # date and time, which may be missing in a row; "" where there is no such column
    key: str
    number: bool = False  # has value_as_number and unit_concept_id


TABLES: Dict[str, _Table] = {
    "condition": _Table(
        "condition_occurrence",
        "condition_concept_id",
        "condition_start_date",
        "condition_start_datetime",
        "condition_occurrence_id",
    ),
    "drug": _Table(
        "drug_exposure",
        "drug_concept_id",
        "drug_exposure_start_date",
        "drug_exposure_start_datetime",
        "drug_exposure_id",
    ),
    "procedure": _Table(
        "procedure_occurrence",
        "procedure_concept_id",
        "procedure_date",
        "procedure_datetime",
        "procedure_occurrence_id",
    ),
    "visit": _Table(
        "visit_occurrence",
        "visit_concept_id",
        "visit_start_date",
        "visit_start_datetime",
        "visit_occurrence_id",
    ),
    "measurement": _Table(
        "measurement", "measurement_concept_id", "measurement_date", "measurement_datetime", "measurement_id", True
    ),
    "observation": _Table(
        "observation", "observation_concept_id", "observation_date", "observation_datetime", "observation_id", True
    ),
    "death": _Table("death", "cause_concept_id", "death_date", "", ""),
}
OF_PERSON = ("year_of_birth", "gender_concept_id", "race_concept_id", "ethnicity_concept_id", "age")
OF_EVENTS = ("any", "count", "first_date", "last_date")
OF_NUMBERS = ("first", "last", "mean", "minimum", "maximum")


@dataclass(frozen=True)
class OmopColumn:
    """`[[source.columns]]`: a column, made of what one table of the CDM has of a person."""

    name: str  # the column's [text]
    table: str  # [person, condition, drug, procedure, visit, measurement, observation, death]
    take: str  # see docs/data.md [such as "any", "count", "first_date", "last", "mean"; of a person "age", "year_of_birth"]
    concepts: Tuple[
        int, ...
    ] = ()  # which rows: those of any of these concepts [ids; of visit and death every row without]
    descendants: bool = True  # and of all that concept_ancestor has below them [true, false]
    units: Tuple[
        int, ...
    ] = ()  # only values of these units [ids, 0 for none given; all must be of one where it is left out]
    since: str = ""  # the first day that counts [such as "2025-01-01"]
    until: str = ""  # the last day that counts; of an age the day on which it is [such as "2025-12-31"]

    def __post_init__(self) -> None:
        refuse(self._wrong())

    def _wrong(self) -> Iterator[str]:
        if not self.name or self.name == PERSON:
            yield f"name {self.name!r}: expected a name of its own; {PERSON} is there without being declared"
        yield from one_of("table", self.table, ("person", *TABLES))
        for key, day in (("since", self.since), ("until", self.until)):
            if day and _day(day) is None:
                yield f"{key} {day!r}: expected a day as 2025-12-31"
        if any(concept <= 0 for concept in self.concepts) or any(unit < 0 for unit in self.units):
            yield "concepts, units: ids of concepts are positive; as a unit, 0 stands for none given"
        yield from count("concepts and units: their number", len(self.concepts) + len(self.units), 0, MOST_CONCEPTS)
        if self.table == "person":
            yield from self._wrong_of_person()
        elif self.table in TABLES:
            yield from self._wrong_of_events(TABLES[self.table])

    def _wrong_of_person(self) -> Iterator[str]:
        yield from one_of("take", self.take, OF_PERSON)
        if self.concepts or self.units or self.since or not self.descendants:
            yield "concepts, units, since, descendants: not of a person"
        if (self.take == "age") != bool(self.until):
            yield 'until: the day on which a person has that age; with take = "age" it must be there, without it may not'

    def _wrong_of_events(self, table: _Table) -> Iterator[str]:
        yield from one_of("take", self.take, (*OF_EVENTS, *(OF_NUMBERS if table.number else ())))
        if not self.concepts and self.table not in ("visit", "death"):
            yield "concepts: which ones? [ids]"
        if not self.descendants and not self.concepts:
            yield "descendants: of concepts, and none are named; take it out"
        if self.units and self.take not in OF_NUMBERS:
            yield "units: only of values, as last and mean"


def _day(text: str) -> Optional[datetime.date]:
    try:
        return day_alone(text)
    except ValueError:
        return None


@dataclass(frozen=True)
class Omop:
    """`[source]` with kind = "omop"."""

    columns: Tuple[OmopColumn, ...]
    postgresql: Optional[Server] = None  # where the tables are: [source.postgresql]
    sqlite: str = ""  # or this file [path beside the description]
    schema: str = ""  # of the tables, in PostgreSQL [text; what search_path finds where it is left out]
    vocabulary: str = ""  # of concept_ancestor, in PostgreSQL [text; that of the tables]
    results: str = ""  # of cohort, in PostgreSQL [text; that of the tables]
    cohort: int = 0  # only persons of this cohort [cohort_definition_id; every person where it is left out]

    def __post_init__(self) -> None:
        refuse(self._wrong())

    def _wrong(self) -> Iterator[str]:
        if bool(self.sqlite) == (self.postgresql is not None):
            yield "either sqlite, a file, or [source.postgresql], a server"
        if self.sqlite and (self.schema or self.vocabulary or self.results):
            yield "schema, vocabulary, results: not of an SQLite file, whose tables have no schema"
        yield from count("columns: their number", len(self.columns), 1, MOST_COLUMNS)
        names = [column.name for column in self.columns]
        yield from (f"columns: {name!r} twice" for name in sorted({each for each in names if names.count(each) > 1}))
        if self.cohort < 0:
            yield f"cohort: {self.cohort}, expected an id"


class _Dialect(NamedTuple):
    """In what the SQL of databases differs. mark: stands for a parameter; day: of a date or a moment; mean: of numbers."""

    mark: str
    day: Callable[[str], str]
    mean: Callable[[str], str]


def _sqlite_day(column: str) -> str:
    """A text begins with its day; a number is of seconds since 1970, as OHDSI's tools for SQLite write dates."""
    return f"CASE WHEN typeof({column}) = 'text' THEN substr({column}, 1, 10) ELSE date({column}, 'unixepoch') END"


_POSTGRESQL = _Dialect(
    "%s", lambda column: f"CAST({column} AS date)", lambda column: f"AVG(CAST({column} AS double precision))"
)
_SQLITE = _Dialect(
    "?",
    _sqlite_day,
    # SQLite counts a text as 0; the greatest value is a text where there is one, and is refused as a cell.
    lambda column: f"CASE WHEN typeof(MAX({column})) = 'text' THEN MAX({column}) ELSE AVG({column}) END",
)

Sql = Tuple[str, List[Any]]
"""(a piece of SQL, the parameters in it)"""
Ask = Callable[[str, Sequence[Any]], Iterator[Row]]
"""The rows of a query with these parameters, names first."""


class _Query:
    """The SQL of a declaration."""

    def __init__(self, options: Omop, dialect: _Dialect) -> None:
        self._options, self._dialect = options, dialect

    def all(self) -> Sql:
        """One row a person."""
        shown, joined = ["p.person_id"], [f"FROM {self._table('person')} p"]
        first: List[Any] = []
        then: List[Any] = []
        for place, column in enumerate(self._options.columns):
            if column.table == "person":
                text, parameters = self._of_person(column)
                first += parameters
            else:
                inner, parameters = self._of_events(column)
                text = _where_there_is_none(column.take, f"c{place}.v")
                joined.append(f"LEFT JOIN ({inner}) c{place} ON c{place}.person_id = p.person_id")
                then += parameters
            shown.append(text)
        if self._options.cohort:
            cohort = quoted([*_named(self._options.results or self._options.schema), "cohort"])
            joined.append(
                f"WHERE p.person_id IN (SELECT subject_id FROM {cohort} WHERE cohort_definition_id = {self._dialect.mark})"
            )
            then.append(self._options.cohort)
        named = ", ".join(f"{text} AS c{place}" for place, text in enumerate(shown))
        return f"SELECT {named} {' '.join(joined)} ORDER BY p.person_id", first + then

    def units(self, column: OmopColumn) -> Sql:
        """The units in which a column's values are; 0 where none is given."""
        table = TABLES[column.table]
        where, parameters = self._where(column, table)
        return (
            f"SELECT DISTINCT COALESCE(unit_concept_id, 0) AS unit FROM {self._table(table.name)} {where}",
            parameters,
        )

    def vocabulary(self) -> Sql:
        """A row where concept_ancestor has any."""
        return f"SELECT ancestor_concept_id AS any FROM {self._ancestors()} LIMIT 1", []

    def _ancestors(self) -> str:
        return quoted([*_named(self._options.vocabulary or self._options.schema), "concept_ancestor"])

    def _table(self, name: str) -> str:
        return quoted([*_named(self._options.schema), name])

    def _of_person(self, column: OmopColumn) -> Sql:
        """An age in whole years; where month or day of birth is missing, the first counts."""
        day = _day(column.until)
        if column.take != "age" or day is None:
            return f"p.{column.take}", []
        mark = self._dialect.mark
        birthday = "COALESCE(p.month_of_birth, 1) * 100 + COALESCE(p.day_of_birth, 1)"
        text = f"{mark} - p.year_of_birth - CASE WHEN {birthday} > {mark} THEN 1 ELSE 0 END"
        return text, [day.year, day.month * 100 + day.day]

    def _of_events(self, column: OmopColumn) -> Sql:
        """person_id and v, the value, of all who have one."""
        table, take = TABLES[column.table], column.take
        where, parameters = self._where(column, table)
        day, name = self._dialect.day(table.date), self._table(table.name)
        if take in ("first", "last"):
            down = " DESC" if take == "last" else ""
            order = f"{day}{down}, COALESCE({table.moment}, {table.date}){down}, {table.key}{down}"
            ranked = (
                "SELECT person_id, value_as_number AS v, "
                f"ROW_NUMBER() OVER (PARTITION BY person_id ORDER BY {order}) AS place FROM {name} {where}"
            )
            return f"SELECT person_id, v FROM ({ranked}) ranked WHERE place = 1", parameters
        value = {
            "any": "COUNT(*)",
            "count": "COUNT(*)",
            "first_date": f"MIN({day})",
            "last_date": f"MAX({day})",
            "mean": self._dialect.mean("value_as_number"),
            "minimum": "MIN(value_as_number)",
            "maximum": "MAX(value_as_number)",
        }[take]
        return f"SELECT person_id, {value} AS v FROM {name} {where} GROUP BY person_id", parameters

    def _where(self, column: OmopColumn, table: _Table) -> Sql:
        conditions, parameters = ["1 = 1"], []  # type: Tuple[List[str], List[Any]]
        mark, day = self._dialect.mark, self._dialect.day(table.date)
        if column.concepts:
            listed = ", ".join([mark] * len(column.concepts))
            of = f"{table.concept} IN ({listed})"
            parameters += column.concepts
            if column.descendants:
                below = f"SELECT descendant_concept_id FROM {self._ancestors()} WHERE ancestor_concept_id IN ({listed})"
                of = f"({of} OR {table.concept} IN ({below}))"
                parameters += column.concepts
            conditions.append(of)
        for sign, text in ((">=", column.since), ("<=", column.until)):
            if text:
                conditions.append(f"{day} {sign} {mark}")
                parameters.append(text)
        if column.take in OF_NUMBERS:
            conditions.append("value_as_number IS NOT NULL")
        if column.units:
            conditions.append(f"COALESCE(unit_concept_id, 0) IN ({', '.join([mark] * len(column.units))})")
            parameters += column.units
        return "WHERE " + " AND ".join(conditions), parameters


def _named(schema: str) -> List[str]:
    return [schema] if schema else []


def _where_there_is_none(take: str, value: str) -> str:
    """Of a person without such a row nothing happened, and no value is known."""
    if take == "any":
        return f"CASE WHEN {value} IS NULL THEN 0 ELSE 1 END"
    return f"COALESCE({value}, 0)" if take == "count" else value


def _rows(options: Omop, folder: Path) -> Iterator[Row]:
    if options.postgresql is not None:
        query, where = _Query(options, _POSTGRESQL), str(options.postgresql)
        with _hinted(where), reading(options.postgresql, folder) as connection:
            yield from _of(options, query, where, lambda text, parameters: fetched(connection, text, parameters))
        return
    path = folder / options.sqlite
    with _hinted(str(path)), _opened(path) as database:
        yield from _of(options, _Query(options, _SQLITE), str(path), lambda *asked: _selected(database, *asked))


def _of(options: Omop, query: _Query, where: str, ask: Ask) -> Iterator[Row]:
    below = next((column.name for column in options.columns if column.concepts and column.descendants), "")
    if below and not list(ask(*query.vocabulary()))[1:]:
        raise DataError(
            f"{where}: column {below!r}: concept_ancestor is empty, so what is below its concepts is unknown"
        )
    for column in options.columns:
        if column.take in OF_NUMBERS and not column.units:
            units = [row[0] for _, row in list(ask(*query.units(column)))[1:]]
            if len(units) > 1:
                raise DataError(
                    f"{where}: column {column.name!r}: values in {len(units)} units (concepts {', '.join(sorted(units)[:12])}; "
                    "0 for none given); name those to use as units"
                )
    rows = ask(*query.all())
    line, _ = next(rows)
    yield line, [PERSON, *(column.name for column in options.columns)]
    yield from rows


@contextmanager
def _hinted(where: str) -> Iterator[None]:
    """Says what to do where the vocabulary is not there, and what SQLite has against a query."""
    try:
        yield
    except (DataError, sqlite3.Error) as error:
        hint = "; without the vocabulary, set descendants = false" if "concept_ancestor" in str(error) else ""
        if isinstance(error, sqlite3.Error):
            kind = AwayError if "is locked" in str(error) else DataError
            raise kind(f"{where}: {error}{hint}") from error
        if hint:
            raise DataError(f"{error}{hint}") from error
        raise


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """To read only, and one state of the file."""
    if sqlite3.sqlite_version_info < (3, 25):
        raise DataError(f"{path}: SQLite {sqlite3.sqlite_version} of this machine is too old for OMOP; 3.25 is needed")
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    with closing(sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True)) as database:
        database.isolation_level = None
        database.execute("BEGIN")
        yield database


def _selected(database: sqlite3.Connection, text: str, parameters: Sequence[Any]) -> Iterator[Row]:
    found = database.execute(text, list(parameters))
    names = [column[0] for column in found.description]
    yield 0, names
    for number, values in enumerate(found, 1):
        yield number, cells(number, names, values)


OMOP = Service(Omop, _rows, files=("sqlite",))

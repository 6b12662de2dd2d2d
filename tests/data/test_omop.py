"""An OMOP CDM in SQLite and in PostgreSQL gives what a plain count in Python over the same invented rows gives."""

import datetime
import math
import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import pytest
from descriptions import describe
from documents import described

from orchestrator.data.dataset import load_dataset
from orchestrator.data.described import is_live, read_description, versions_of
from orchestrator.data.sources.registry import service_rows
from orchestrator.errors import AwayError, DataError
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.toml_file import read_toml

DDL = {
    "person": (
        "person_id integer primary key, gender_concept_id integer, year_of_birth integer, month_of_birth integer, "
        "day_of_birth integer, race_concept_id integer, ethnicity_concept_id integer"
    ),
    "condition_occurrence": (
        "condition_occurrence_id integer, person_id integer, condition_concept_id integer, condition_start_date date, "
        "condition_start_datetime timestamp"
    ),
    "drug_exposure": (
        "drug_exposure_id integer, person_id integer, drug_concept_id integer, drug_exposure_start_date date, "
        "drug_exposure_start_datetime timestamp"
    ),
    "visit_occurrence": (
        "visit_occurrence_id integer, person_id integer, visit_concept_id integer, visit_start_date date, "
        "visit_start_datetime timestamp"
    ),
    "procedure_occurrence": (
        "procedure_occurrence_id integer, person_id integer, procedure_concept_id integer, procedure_date date, "
        "procedure_datetime timestamp"
    ),
    "measurement": (
        "measurement_id integer, person_id integer, measurement_concept_id integer, measurement_date date, "
        "measurement_datetime timestamp, value_as_number numeric, unit_concept_id integer"
    ),
    "observation": (
        "observation_id integer, person_id integer, observation_concept_id integer, observation_date date, "
        "observation_datetime timestamp, value_as_number numeric, unit_concept_id integer"
    ),
    "death": "person_id integer, death_date date, cause_concept_id integer",
    "concept_ancestor": "ancestor_concept_id integer, descendant_concept_id integer",
    "cohort": "cohort_definition_id integer, subject_id integer",
}
COLUMNS = {table: [each.split()[0] for each in columns.split(", ")] for table, columns in DDL.items()}

DIABETES, TYPE_1, TYPE_2, ASTHMA = 201820, 201254, 201826, 317009
HBA1C, GLUCOSE, PERCENT, MMOL = 3004410, 3004501, 8554, 8753
DAYS = [datetime.date(2025, 1, 1) + datetime.timedelta(days=40 * i) for i in range(9)]

Rows = Dict[str, List[Dict[str, Any]]]


def invented() -> Rows:
    draw = random.Random(3)
    rows: Rows = {table: [] for table in DDL}

    def add(table: str, *values: Any) -> None:
        rows[table].append(dict(zip(COLUMNS[table], values)))

    def moment(day: datetime.date) -> Optional[str]:
        return None if draw.random() < 0.4 else f"{day} {draw.randrange(24):02d}:30:00"

    for person in range(1, 61):
        month = draw.choice([None, 1, 6, 12])
        day = draw.choice([None, 1, 2, 15]) if month else None
        add("person", person, draw.choice([8507, 8532, 0]), draw.randrange(1920, 2020), month, day, 0, 38003564)
        if draw.random() < 0.2:
            add("death", person, str(draw.choice(DAYS)), draw.choice([None, TYPE_2]))
        for _ in range(draw.randrange(4)):
            add("cohort", draw.choice([17, 18]), person)
    kinds = {
        "condition_occurrence": (DIABETES, TYPE_1, TYPE_2, ASTHMA),
        "drug_exposure": (1503297, 1503298),
        "visit_occurrence": (9201, 9202),
        "procedure_occurrence": (4002,),
        "measurement": (HBA1C, GLUCOSE),
        "observation": (4275495,),
    }
    for table, concepts in kinds.items():
        for key in draw.sample(range(1000), 150):
            when = draw.choice(DAYS)
            values = [key, draw.randrange(1, 61), draw.choice(concepts), str(when), moment(when)]
            unit = PERCENT if values[2] == HBA1C else draw.choice([MMOL, MMOL, PERCENT, None])
            number = None if draw.random() < 0.2 else round(draw.uniform(3, 15), 1)
            add(table, *values, *([number, unit] if table in ("measurement", "observation") else []))
    for above, below in ((DIABETES, DIABETES), (DIABETES, TYPE_1), (DIABETES, TYPE_2), (HBA1C, HBA1C)):
        add("concept_ancestor", above, below)
    return rows


ROWS = invented()


def column(name: str, table: str, take: str, *concepts: int, **more: Any) -> Dict[str, Any]:
    return {"name": name, "table": table, "take": take, "concepts": concepts, **more}


UNITS = {"units": [MMOL]}
ALL = [
    column("age", "person", "age", until="2025-06-15"),
    column("born", "person", "year_of_birth"),
    column("sex", "person", "gender_concept_id"),
    column("ethnicity", "person", "ethnicity_concept_id"),
    column("diabetes", "condition", "any", DIABETES),
    column("diabetes itself", "condition", "count", DIABETES, descendants=False),
    column("diagnoses", "condition", "count", DIABETES, ASTHMA, since=str(DAYS[1]), until=str(DAYS[4])),
    column("first diagnosis", "condition", "first_date", TYPE_2),
    column("last diagnosis", "condition", "last_date", TYPE_2, until=str(DAYS[6])),
    column("metformin", "drug", "any", 1503297, since=str(DAYS[3])),
    column("stays", "visit", "count"),
    column("inpatient", "visit", "any", 9201, descendants=False),
    column("operation", "procedure", "last_date", 4002),
    column("dead", "death", "any"),
    column("died", "death", "first_date"),
    column("of diabetes", "death", "any", DIABETES),
    *(
        column(f"{take} {name}", "measurement", take, *concepts, **more)
        for take in ("first", "last", "mean", "minimum", "maximum")
        for name, concepts, more in (
            ("hba1c", (HBA1C,), {}),
            ("glucose", (GLUCOSE,), {**UNITS, "since": str(DAYS[2])}),
            ("without unit", (GLUCOSE,), {"units": [0]}),
        )
    ),
    column("measured", "measurement", "count", GLUCOSE, HBA1C),
    column("score", "observation", "mean", 4275495, units=[MMOL, PERCENT, 0]),
    column("last score", "observation", "last", 4275495, units=[MMOL, PERCENT, 0], until=str(DAYS[5])),
]

OF = {
    "condition": ("condition_occurrence", "condition_start_date", "condition_start_datetime"),
    "drug": ("drug_exposure", "drug_exposure_start_date", "drug_exposure_start_datetime"),
    "visit": ("visit_occurrence", "visit_start_date", "visit_start_datetime"),
    "procedure": ("procedure_occurrence", "procedure_date", "procedure_datetime"),
    "measurement": ("measurement", "measurement_date", "measurement_datetime"),
    "observation": ("observation", "observation_date", "observation_datetime"),
    "death": ("death", "death_date", ""),
}


def counted(person: Dict[str, Any], asked: Dict[str, Any]) -> Any:
    """The value of a declared column, by going through all rows."""
    take = asked["take"]
    if take == "age":
        on = datetime.date.fromisoformat(asked["until"])
        born = (person["year_of_birth"], person["month_of_birth"] or 1, person["day_of_birth"] or 1)
        return sum(1 for year in range(born[0] + 1, on.year + 1) if (year, *born[1:]) <= (on.year, on.month, on.day))
    if asked["table"] == "person":
        return person[take]
    table, date, moment = OF[asked["table"]]
    concept, wanted = (
        next((name for name in COLUMNS[table] if name.endswith("_concept_id")), ""),
        set(asked["concepts"]),
    )
    if asked.get("descendants", True):
        pairs = [tuple(each.values()) for each in ROWS["concept_ancestor"]]
        wanted |= {below for above, below in pairs if above in wanted}
    rows = [row for row in ROWS[table] if row["person_id"] == person["person_id"]]
    rows = [row for row in rows if not asked["concepts"] or row[concept] in wanted]
    rows = [row for row in rows if asked.get("since", "0") <= row[date] <= asked.get("until", "9")]
    if take in ("any", "count"):
        return len(rows) if take == "count" else int(bool(rows))
    if take in ("first_date", "last_date"):
        days = sorted(row[date] for row in rows)
        return days[0 if take == "first_date" else -1] if days else ""
    rows = [row for row in rows if row["value_as_number"] is not None]
    rows = [row for row in rows if not asked.get("units") or (row["unit_concept_id"] or 0) in asked["units"]]
    rows.sort(key=lambda row: (row[date], row[moment] or f"{row[date]} 00:00:00", row[f"{table}_id"]))
    values = [row["value_as_number"] for row in rows]
    if not values:
        return ""
    summed = {"first": values[0], "last": values[-1], "minimum": min(values), "maximum": max(values)}
    return summed[take] if take in summed else math.fsum(values) / len(values)


def same(cell: str, value: Any) -> bool:
    return math.isclose(float(cell), value, rel_tol=1e-12) if isinstance(value, float) else cell == str(value)


def seconds(value: Optional[str]) -> Optional[float]:
    """A day or moment as OHDSI's tools write it into SQLite."""
    if value is None:
        return None
    return datetime.datetime.fromisoformat(value).replace(tzinfo=datetime.timezone.utc).timestamp()


def cdm_file(path: Path, form: Callable[[Optional[str]], Any] = str, rows: Rows = ROWS) -> Path:
    with closing(sqlite3.connect(path)) as database:
        for table, columns in DDL.items():
            database.execute(f"CREATE TABLE {table} ({columns})")
            marks = ", ".join("?" for _ in COLUMNS[table])
            dated = [name for name in COLUMNS[table] if name.endswith(("_date", "_datetime"))]
            database.executemany(
                f"INSERT INTO {table} VALUES ({marks})",
                [
                    [form(row[k]) if k in dated and row[k] is not None else row[k] for k in COLUMNS[table]]
                    for row in rows[table]
                ],
            )
        database.commit()
    return path


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[Dict[str, Any]]:
    """[source] of the same CDM in PostgreSQL: tables, vocabulary and cohorts in schemas of their own."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    postgres = request.getfixturevalue("postgres")
    schemas = {"concept_ancestor": "vocabulary", "cohort": "results of 2026"}
    with postgres.connect() as connection:
        for schema in ("cdm", *schemas.values()):
            connection.execute(f'CREATE SCHEMA "{schema}"'.encode())
        for table, columns in DDL.items():
            name = f'"{schemas.get(table, "cdm")}".{table}'
            connection.execute(f"CREATE TABLE {name} ({columns})".encode())
            marks = ", ".join("%s" for _ in COLUMNS[table])
            connection.cursor().executemany(
                f"INSERT INTO {name} VALUES ({marks})".encode(), [list(row.values()) for row in ROWS[table]]
            )
    reached = {key: value for key, value in postgres.source().items() if key != "kind"}
    yield {"schema": "cdm", "vocabulary": "vocabulary", "results": "results of 2026", "postgresql": reached}
    for schema in ("cdm", *schemas.values()):
        postgres.run(f'DROP SCHEMA "{schema}" CASCADE')


def read(folder: Path, where: Dict[str, Any], columns: List[Dict[str, Any]], **more: Any) -> List[List[str]]:
    path = describe(folder, {"kind": "omop", **where, "columns": columns, **more})
    return [cells for _, cells in service_rows(path, read_description(path).service)]


def check(found: List[List[str]], persons: List[Dict[str, Any]]) -> None:
    assert found[0] == ["person_id", *(asked["name"] for asked in ALL)]
    assert [row[0] for row in found[1:]] == [str(person["person_id"]) for person in persons]
    for row, person in zip(found[1:], persons):
        for asked, cell in zip(ALL, row[1:]):
            assert same(cell, counted(person, asked)), (person, asked, cell, counted(person, asked))


def test_every_column_is_what_a_plain_count_gives(tmp_path: Path) -> None:
    cdm_file(tmp_path / "cdm.sqlite")
    found = read(tmp_path, {"sqlite": "cdm.sqlite"}, ALL)
    check(found, ROWS["person"])
    for place, asked in enumerate(ALL, 1):  # every column says something, or the count above shows nothing
        least = 1 if asked["name"] == "ethnicity" else 2
        assert len({row[place] for row in found[1:]}) >= least, asked


def test_days_in_seconds_as_ohdsi_writes_them(tmp_path: Path) -> None:
    cdm_file(tmp_path / "cdm.sqlite", seconds)
    check(read(tmp_path, {"sqlite": "cdm.sqlite"}, ALL), ROWS["person"])


def test_postgresql_gives_the_same(server: Dict[str, Any], tmp_path: Path) -> None:
    check(read(tmp_path, server, ALL), ROWS["person"])


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_cohort(request: pytest.FixtureRequest, tmp_path: Path, kind: str) -> None:
    where = request.getfixturevalue("server") if kind == "postgresql" else {"sqlite": "cdm.sqlite"}
    if kind == "sqlite":
        cdm_file(tmp_path / "cdm.sqlite")
    inside = {row["subject_id"] for row in ROWS["cohort"] if row["cohort_definition_id"] == 17}
    persons = [person for person in ROWS["person"] if person["person_id"] in inside]
    assert 0 < len(persons) < 60
    check(read(tmp_path, where, ALL, cohort=17), persons)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_units_are_not_mixed(request: pytest.FixtureRequest, tmp_path: Path, kind: str) -> None:
    where = request.getfixturevalue("server") if kind == "postgresql" else {"sqlite": "cdm.sqlite"}
    if kind == "sqlite":
        cdm_file(tmp_path / "cdm.sqlite")
    with pytest.raises(DataError, match=r"column 'g': values in 3 units \(concepts 0, 8554, 8753; 0 for none"):
        read(tmp_path, where, [column("g", "measurement", "last", GLUCOSE)])


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_without_a_vocabulary_it_is_said_what_to_do(request: pytest.FixtureRequest, tmp_path: Path, kind: str) -> None:
    if kind == "postgresql":
        where = {**request.getfixturevalue("server"), "vocabulary": "nowhere"}
    else:
        where = {"sqlite": "cdm.sqlite"}
        with closing(sqlite3.connect(cdm_file(tmp_path / "cdm.sqlite"))) as database:
            database.execute("DROP TABLE concept_ancestor")
    with pytest.raises(DataError, match=r"concept_ancestor.*; without the vocabulary, set descendants = false$"):
        read(tmp_path, where, [column("d", "condition", "any", DIABETES)])
    if kind == "sqlite":  # as the scripts that make a CDM leave it, before a vocabulary is loaded
        with closing(sqlite3.connect(tmp_path / "cdm.sqlite")) as database:
            database.execute(
                "CREATE TABLE concept_ancestor (ancestor_concept_id integer, descendant_concept_id integer)"
            )
        with pytest.raises(
            DataError, match=r"'d': concept_ancestor is empty.*; without the vocabulary, set descendants"
        ):
            read(tmp_path, where, [column("d", "condition", "any", DIABETES)])
    assert len(read(tmp_path, where, [column("d", "condition", "any", DIABETES, descendants=False)])) == 61


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_names_are_only_names(request: pytest.FixtureRequest, tmp_path: Path, kind: str) -> None:
    where = request.getfixturevalue("server") if kind == "postgresql" else {"sqlite": "cdm.sqlite"}
    if kind == "sqlite":
        cdm_file(tmp_path / "cdm.sqlite")
    names = ['x"; DROP TABLE cdm.person; --', "%s", "?", "'", "c0"]
    found = read(tmp_path, where, [column(name, "death", "any") for name in names])
    assert found[0] == ["person_id", *names]
    assert len({tuple(row[1:]) for row in found[1:]}) == 2
    if kind == "postgresql":
        with pytest.raises(DataError, match="does not exist"):
            read(tmp_path, {**where, "schema": 'cdm".person; --'}, [column("a", "death", "any")])
    assert len(read(tmp_path, where, ALL)) == 61


def test_a_text_among_numbers_is_no_number(tmp_path: Path) -> None:
    rows = {**ROWS, "measurement": [dict(row) for row in ROWS["measurement"]]}
    wrong = next(row for row in rows["measurement"] if row["measurement_concept_id"] == HBA1C)
    wrong["value_as_number"] = "about 7"
    cdm_file(tmp_path / "cdm.sqlite", rows=rows)
    path = describe(
        tmp_path, {"kind": "omop", "sqlite": "cdm.sqlite", "columns": [column("h", "measurement", "mean", HBA1C)]}
    )
    schema = Schema("table", "", (), {}, (Feature("h", 0, 30),), missing_markers=("",))
    with pytest.raises(DataError, match=rf"ward\.toml:{wrong['person_id']}: column 'h': 'about 7' is not a number"):
        load_dataset(path, schema, gaps=True)


def test_a_file_that_another_program_locks_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *words, **more: real(*words, **{**more, "timeout": 0.0}))
    with closing(real(cdm_file(tmp_path / "cdm.sqlite"))) as database:
        database.execute("BEGIN EXCLUSIVE")
        with pytest.raises(AwayError, match=r"cdm\.sqlite: database is locked"):
            read(tmp_path, {"sqlite": "cdm.sqlite"}, ALL)


GOOD = column("a", "condition", "any", DIABETES)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"table": "conditions"}, "table 'conditions': expected one of .*, did you mean 'condition'"),
        ({"take": "mean"}, "take 'mean': expected one of any, count, first_date, last_date"),
        ({"take": "anny"}, "did you mean 'any'"),
        ({"concepts": []}, "concepts: which ones"),
        ({"concepts": [0]}, "ids of concepts are positive"),
        ({"concepts": list(range(1, 102))}, "their number: 101, expected 0 to 100"),
        ({"concepts": ["a'; DROP TABLE person"]}, "is not a whole number"),
        ({"since": "2025-13-01"}, "since '2025-13-01': expected a day as 2025-12-31"),
        ({"until": "20251231"}, "until '20251231': expected a day"),
        ({"until": "2025-W48-5"}, "until '2025-W48-5': expected a day"),
        ({"units": [8840]}, "units: only of values"),
        ({"name": "person_id"}, "name 'person_id': expected a name of its own"),
        ({"name": ""}, "name '': expected a name"),
        ({"table": "person", "take": "age", "concepts": []}, "until: the day on which a person has that age"),
        ({"table": "person", "take": "year_of_birth"}, "concepts, units, since, descendants: not of a person"),
        ({"table": "visit", "concepts": [], "descendants": False}, "descendants: of concepts, and none are named"),
        ({"concept": 5}, "concept: unknown, did you mean 'concepts'"),
    ],
)
def test_a_wrong_column_says_what_to_change(tmp_path: Path, change: Dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        read(tmp_path, {"sqlite": "cdm.sqlite"}, [{**GOOD, **change}])


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({}, "either sqlite, a file, or "),
        ({"sqlite": "a", "postgresql": {"database": "d"}}, "either sqlite, a file, or "),
        ({"sqlite": "a", "schema": "cdm"}, "schema, vocabulary, results: not of an SQLite file"),
        ({"sqlite": "a", "columns": []}, "columns: their number: 0"),
        ({"sqlite": "a", "columns": [GOOD, GOOD]}, "columns: 'a' twice"),
        ({"sqlite": "a", "columns": [{**GOOD, "name": f"c{i}"} for i in range(51)]}, "51, expected 1 to 50"),
        ({"sqlite": "a", "cohort": -1}, "cohort: -1"),
        ({"postgresql": {"database": "d", "password": "secret!"}}, "password: not in this file"),
        ({"postgresql": {"database": "d", "table": "t"}}, "table: unknown"),
        ({"sqlite": "none.sqlite"}, r"none\.sqlite: no such file"),
        ({"sqlite": "ward.toml"}, r"ward\.toml: file is not a database"),
    ],
)
def test_a_wrong_source_says_what_to_change(tmp_path: Path, source: Dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        read(tmp_path, {"columns": [GOOD], **source}, source.get("columns", [GOOD]))
    assert "secret!" not in str(caught.value)


def test_fifty_columns_are_joined(tmp_path: Path) -> None:
    cdm_file(tmp_path / "cdm.sqlite")
    found = read(tmp_path, {"sqlite": "cdm.sqlite"}, [{**GOOD, "name": f"c{i}"} for i in range(50)])
    assert all(len(set(row[1:])) == 1 for row in found[1:])


def test_the_file_is_one_of_the_files_of_the_data_and_stays_as_it_is(tmp_path: Path) -> None:
    file = cdm_file(tmp_path / "cdm.sqlite")
    file.chmod(0o444)
    before = file.read_bytes()
    path = describe(tmp_path, {"kind": "omop", "sqlite": "cdm.sqlite", "columns": ALL})
    assert versions_of(path) == [path, file]
    assert not is_live(path), "a file has a version"
    log = tmp_path / f"{file.name}-wal"
    log.touch()
    assert versions_of(path) == [path, file]
    log.write_bytes(b"more")
    assert versions_of(path) == [path, file, log], "what was written last may stand there alone"
    assert versions_of(file) == [file, log]
    log.unlink()
    read(tmp_path, {"sqlite": "cdm.sqlite"}, ALL)
    assert file.read_bytes() == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["cdm.sqlite", "ward.toml"]


def test_the_example_of_the_documents(tmp_path: Path) -> None:
    """The second description of docs/data.md, section "PostgreSQL and OMOP", as it stands."""
    cdm_file(tmp_path / "cdm.sqlite")
    path = tmp_path / "cohort.toml"
    path.write_text(described("PostgreSQL and OMOP", 1).replace('"f" }', '"f", "0" = "" }'))
    declared = read_toml(path)[0]["source"]["columns"]
    inside = {row["subject_id"] for row in ROWS["cohort"] if row["cohort_definition_id"] == 17}
    persons = [person for person in ROWS["person"] if person["person_id"] in inside]
    features: Tuple[Feature, ...] = (Feature("age", 0, 120), Feature("sex", categories=("f", "m")))
    features += (Feature("diabetes", categories=("0", "1")), Feature("hba1c", 0, 30))
    found = load_dataset(
        path, Schema("table", "", (), {}, features, patient="person_id", missing_markers=("",)), gaps=True
    )
    assert found.x[:, 0].tolist() == [counted(person, declared[0]) for person in persons]
    assert found.x[:, 4].tolist() == [counted(person, {**declared[2], "descendants": True}) for person in persons]
    assert len(set(found.x[:, 4])) == 2
    values = [counted(person, declared[3]) for person in persons]
    assert [None if math.isnan(x) else x for x in found.x[:, 5]] == [None if value == "" else value for value in values]
    assert len({value for value in values if value != ""}) > 5

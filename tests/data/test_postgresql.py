"""A table of a PostgreSQL server gives the records that the same table as CSV gives, and the server is never written to."""

import csv
import datetime
import os
import random
import struct
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np
import pytest
from descriptions import describe
from documents import described, statements
from postgres_server import PASSWORD, READER, PostgresServer

from orchestrator.data.dataset import Dataset, load_dataset
from orchestrator.data.described import read_description, versions_of
from orchestrator.data.sources.base import Row, RowError
from orchestrator.data.sources.postgresql import PostgreSql, _parameters, fetched, identifiers, quoted, reading
from orchestrator.data.sources.registry import service_rows
from orchestrator.doctor.files import check_data
from orchestrator.errors import AwayError, DataError
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.toml_file import read_toml

pytest.importorskip("psycopg", reason="psycopg is not installed")

SCHEMA = Schema(
    "table",
    "dead",
    ("no", "yes"),
    {"0": 0, "1": 1},
    (Feature("age", 0, 120), Feature("weight", -1e38, 1e38), Feature("ward", categories=("a", "b,c", 'd"', "ü"))),
    patient="whose",
    drop_missing=True,
)
NAMES = ("age", "weight", "ward", "dead", "whose")


def made_up(count: int) -> List[Tuple[Any, ...]]:
    draw = random.Random(7)
    rows: List[Tuple[Any, ...]] = []
    while len(rows) < count:
        weight = struct.unpack("<d", struct.pack("<Q", draw.getrandbits(64)))[0]
        if abs(weight) < 1e38:
            age = None if draw.random() < 0.05 else Decimal(draw.randrange(12000)) / 100
            rows.append(
                (age, weight, draw.choice(SCHEMA.features[2].categories), draw.randrange(2), f"p{len(rows) // 3}")
            )
    return rows


def rows_of(postgres: PostgresServer, folder: Path, **options: Any) -> Iterator[Row]:
    path = describe(folder, postgres.source(**options))
    return service_rows(path, read_description(path).service)


def asked(postgres: PostgresServer, folder: Path, query: str, **options: Any) -> List[Row]:
    (folder / "ward.sql").write_text(query)
    return list(rows_of(postgres, folder, query_file="ward.sql", **options))


def refusal(postgres: PostgresServer, folder: Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        list(rows_of(postgres, folder, **options))
    said = str(caught.value)
    assert PASSWORD not in said
    return said


@pytest.fixture
def ward(postgres: PostgresServer) -> Iterator[str]:
    """A table of five rows, and a counter."""
    postgres.run("CREATE SCHEMA hospital")
    postgres.run("CREATE TABLE hospital.ward (age integer, note text)")
    postgres.run("INSERT INTO hospital.ward SELECT i, 'note ' || i FROM generate_series(1, 5) i")
    postgres.run("CREATE SEQUENCE hospital.calls")
    yield "hospital.ward"
    postgres.run("DROP SCHEMA hospital CASCADE")


def alike(one: Dataset, other: Dataset) -> bool:
    pairs = ((one.x, other.x), (one.y, other.y), (one.patients, other.patients))
    same = all(a is not None and b is not None and a.tobytes() == b.tobytes() for a, b in pairs)
    return same and (one.dropped, one.clamped) == (other.dropped, other.clamped)


@pytest.mark.parametrize("gaps", [False, True])
def test_records_are_those_of_the_same_table_as_csv(postgres: PostgresServer, tmp_path: Path, gaps: bool) -> None:
    rows = made_up(400)
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([NAMES, *rows])
    with postgres.connect() as connection:
        connection.execute(
            "CREATE TABLE same (age numeric, weight double precision, ward text, dead smallint, whose varchar(8))"
        )
        connection.cursor().executemany("INSERT INTO same VALUES (%s, %s, %s, %s, %s)", rows)
        try:
            found = load_dataset(describe(tmp_path, postgres.source(table="same")), SCHEMA, gaps=gaps)
            assert asked(postgres, tmp_path, "SELECT count(*)::int AS n FROM same")[1] == (1, ["400"])
        finally:
            connection.execute("DROP TABLE same")
    expected = load_dataset(tmp_path / "t.csv", SCHEMA, gaps=gaps)
    assert expected.records > 300
    assert bool(expected.dropped) != gaps
    assert alike(found, expected)


NOON = datetime.datetime(2026, 11, 27, 12, 30, 5)
TEXTS: Dict[str, str] = {
    "12345678901234567890.50::numeric": "12345678901234567890.50",
    "(-7)::bigint": "-7",
    "3::double precision": "3",
    "0.1::real": "0.1",
    "1e300::double precision": "1e+300",
    "'NaN'::double precision": "",
    "'NaN'::numeric": "",
    "true": "true",
    "NULL::boolean": "",
    "'a,\"b'::text": 'a,"b',
    "date '2026-11-27'": NOON.date().isoformat(),
    "timestamp '2026-11-27 12:30:05'": NOON.isoformat(),
    "timestamp '2026-11-27 12:30:05.5'": NOON.replace(microsecond=500000).isoformat(),
    "time '12:30:05'": NOON.time().isoformat(),
    "date 'infinity'": "infinity",
    "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
}


def test_values_become_the_texts_of_the_other_sources(postgres: PostgresServer, tmp_path: Path) -> None:
    found = asked(postgres, tmp_path, "SELECT " + ", ".join(f"{each} AS c{i}" for i, each in enumerate(TEXTS)))
    assert dict(zip(TEXTS, found[1][1])) == TEXTS
    postgres.run("ALTER ROLE owner SET TimeZone = 'Asia/Kathmandu'")
    postgres.run("ALTER ROLE owner SET DateStyle = 'SQL, DMY'")
    try:
        moment = NOON.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=5, minutes=45)))
        found = asked(postgres, tmp_path, f"SELECT timestamptz '{moment.isoformat()}' AS at, date '2026-11-27' AS day")
    finally:
        postgres.run("ALTER ROLE owner RESET ALL")
    assert found[1][1] == [moment.isoformat(), "2026-11-27"]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("ARRAY[1, 2]", "integer[]"),
        ("ARRAY['infinity'::date]", "date[]"),  # of which psycopg makes no Python value
        ("'5'::json", "json"),
        ("'\"text\"'::jsonb", "jsonb"),
        ("'abc'::bytea", "bytea"),
        ("interval '1 day'", "interval"),
        ("5::money", "money"),
        ("ROW(1, 2)", "record"),
    ],
)
def test_what_is_no_cell_is_named_by_row_and_column(
    postgres: PostgresServer, tmp_path: Path, value: str, kind: str
) -> None:
    query = f"SELECT CASE WHEN i = 3 THEN {value} END AS odd FROM generate_series(1, 5) i ORDER BY i"
    with pytest.raises(RowError) as caught:
        asked(postgres, tmp_path, query)
    assert caught.value.args[0] == 3
    assert f"column 'odd' holds {kind}, expected a number or a text" in caught.value.args[1]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT nextval('hospital.calls')", "cannot execute nextval"),
        ("DELETE FROM hospital.ward RETURNING *", "syntax error"),
        ("WITH gone AS (DELETE FROM hospital.ward RETURNING *) SELECT * FROM gone", "data-modifying"),
        ("SELECT * FROM hospital.ward FOR UPDATE", "cannot execute SELECT FOR UPDATE"),
        ("SELECT 1; DELETE FROM hospital.ward", "multiple commands"),
        ("SELECT 1 AS a; COMMIT; DELETE FROM hospital.ward", "multiple commands"),
        ("COPY hospital.ward TO STDOUT", "syntax error"),
        ("COMMIT", "syntax error"),
        ("SELECT age INTO hospital.copy FROM hospital.ward", "INTO"),
        ("SELECT hospital.adds()", "cannot execute INSERT"),
        ("SELECT hospital.adds_after_all()", "read-write mode"),
        ("SELECT set_config('transaction_read_only', 'off', false), nextval('hospital.calls')", "read-write mode"),
    ],
)
def test_the_server_refuses_what_writes(
    postgres: PostgresServer, ward: str, tmp_path: Path, query: str, said: str
) -> None:
    body = "BEGIN {} INSERT INTO hospital.ward SELECT nextval('hospital.calls'), 'x'; RETURN 1; END"
    for name, before in (("adds", ""), ("adds_after_all", "SET transaction_read_only = off;")):
        postgres.run(f"CREATE FUNCTION hospital.{name}() RETURNS int LANGUAGE plpgsql AS $${body.format(before)}$$")
    with pytest.raises(DataError, match=said):
        asked(postgres, tmp_path, query)
    assert postgres.run("SELECT count(*)::int FROM hospital.ward") == [(5,)]
    assert postgres.run("SELECT is_called FROM hospital.calls") == [(False,)]


def test_nothing_is_committed(postgres: PostgresServer, tmp_path: Path) -> None:
    """What a read-only transaction lets through: large objects, up to PostgreSQL 15."""
    before = postgres.run("SELECT count(*)::int FROM pg_largeobject_metadata")
    with suppress(DataError):
        asked(postgres, tmp_path, "SELECT lo_create(0)::int AS made")
    assert postgres.run("SELECT count(*)::int FROM pg_largeobject_metadata") == before


def test_one_state_of_the_database_is_read(postgres: PostgresServer, ward: str, tmp_path: Path) -> None:
    postgres.run("INSERT INTO hospital.ward SELECT i, 'more' FROM generate_series(6, 3000) i")
    rows = rows_of(postgres, tmp_path, table=ward)
    assert next(rows) == (0, ["age", "note"])
    postgres.run("UPDATE hospital.ward SET age = age + 10000")
    postgres.run("DELETE FROM hospital.ward WHERE age % 2 = 0")
    assert sorted(int(cells[0]) for _, cells in rows) == list(range(1, 3001))
    options = {key: value for key, value in postgres.source(table=ward).items() if key != "kind"}
    with reading(PostgreSql(**options), tmp_path) as connection:
        query = "SELECT count(*)::int AS n, sum(age)::int AS of FROM hospital.ward"
        before = list(fetched(connection, query))
        postgres.run("DELETE FROM hospital.ward")
        assert list(fetched(connection, query)) == before
    assert asked(postgres, tmp_path, query)[1][1] == ["0", ""]


def resident() -> int:
    """Bytes of memory this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_many_rows_take_no_memory_and_their_mistakes_are_named(postgres: PostgresServer, tmp_path: Path) -> None:
    """200,000 rows of 60 MB together: what is in memory does not grow with them."""
    wide = "SELECT i AS age, repeat('x', 300) AS note FROM generate_series(1, 200000) i"
    (tmp_path / "ward.sql").write_text(wide)
    before, most = resident(), 0
    for number, _ in rows_of(postgres, tmp_path, query_file="ward.sql"):
        most = max(most, resident()) if number % 5000 == 0 else most
    assert number == 200000
    assert most - before < 16 << 20
    schema = Schema("table", "", (), {}, (Feature("age", 0, 120),))
    (tmp_path / "ward.sql").write_text(
        "SELECT CASE WHEN i % 9000 = 0 THEN 'about ' || i ELSE '60' END AS age FROM generate_series(1, 200000) i ORDER BY i"
    )
    with pytest.raises(DataError) as caught:
        load_dataset(describe(tmp_path, postgres.source(query_file="ward.sql")), schema, gaps=True)
    said = str(caught.value).splitlines()
    assert "22 problems, the first 20" in said[0]
    assert said[1].startswith("  ward.toml:9000: column 'age': 'about 9000' is not a number")
    assert said[20].startswith("  ward.toml:180000: column 'age'")


def test_a_server_that_ends_is_away_and_not_half_a_table(postgres: PostgresServer, ward: str, tmp_path: Path) -> None:
    postgres.run("INSERT INTO hospital.ward SELECT i, 'more' FROM generate_series(6, 9000) i")
    rows = rows_of(postgres, tmp_path, table=ward)
    assert next(rows)[0] == 0
    postgres.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'edgeward'")
    with pytest.raises(AwayError, match="ended before all rows were read"):
        list(rows)
    rows = rows_of(postgres, tmp_path, table=ward)
    assert next(rows)[0] == 0
    postgres.end()
    try:
        with pytest.raises(AwayError, match="ended before all rows were read"):
            list(rows)
        with pytest.raises(AwayError, match="no connection"):
            list(rows_of(postgres, tmp_path, table=ward))
        with pytest.raises(AwayError, match=r"at 127\.0\.0\.1:\d+, database 'postgres'.*Connection refused"):
            list(rows_of(postgres, tmp_path, table=ward, host="127.0.0.1"))
    finally:
        postgres.start()
    assert len(list(rows_of(postgres, tmp_path, table=ward))) == 9001


def test_a_password_is_read_from_a_file_of_its_owner(postgres: PostgresServer, ward: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    over_tcp = {"host": "127.0.0.1", "user": READER, "table": ward, "password_file": "secret"}
    secret.write_text(PASSWORD + "\n")
    secret.chmod(0o600)
    assert "permission denied for schema hospital: this user may not read it" in refusal(postgres, tmp_path, **over_tcp)
    postgres.run("GRANT USAGE ON SCHEMA hospital TO reader")
    assert "permission denied for table ward" in refusal(postgres, tmp_path, **over_tcp)
    postgres.run("GRANT SELECT ON hospital.ward TO reader")
    assert len(list(rows_of(postgres, tmp_path, **over_tcp))) == 6
    for mode in (0o640, 0o604, 0o620):
        secret.chmod(mode)
        assert f"others on this machine can use the password (mode {mode:04o})" in refusal(
            postgres, tmp_path, **over_tcp
        )
    secret.chmod(0o600)
    for wrong in ("", "\n", f"{PASSWORD}\nmore\n", "\0"):
        secret.write_text(wrong)
        assert "expected one line of text" in refusal(postgres, tmp_path, **over_tcp)
    secret.write_text("wrong")
    assert "refused this user or its password" in refusal(postgres, tmp_path, **over_tcp)
    assert "no password_file is named" in refusal(postgres, tmp_path, **{**over_tcp, "password_file": ""})
    assert "secret2: No such file" in refusal(postgres, tmp_path, **{**over_tcp, "password_file": "secret2"})


def test_libpqs_own_password_file_is_read(
    postgres: PostgresServer, ward: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pass").write_text(f"127.0.0.1:{postgres.port}:*:{READER}:{PASSWORD}\n")
    (tmp_path / "pass").chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "pass"))
    monkeypatch.setenv("PGUSER", READER)
    source = {key: value for key, value in postgres.source(table=ward, host="127.0.0.1").items() if key != "user"}
    path = describe(tmp_path, source)
    with pytest.raises(DataError, match="permission denied"):
        list(service_rows(path, read_description(path).service))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"password": PASSWORD}, "password: not in this file; write it alone into a file that only its owner can read"),
        ({"database": ""}, "database: empty"),
        ({"database": f"postgresql://u:{PASSWORD}@host/db"}, "database: a name; host, port and user have keys"),
        ({"query_file": "q.sql"}, "either `table`, or `query_file`"),
        ({"table": ""}, "either `table`, or `query_file`"),
        ({"table": "a.b.c"}, "expected NAME or SCHEMA.NAME"),
        ({"table": 'a"b'}, "expected NAME or SCHEMA.NAME"),
        ({"port": 70000}, "port: 70000, expected 0 to 65535"),
        ({"sslmode": "yes"}, "sslmode 'yes': expected one of disable"),
        ({"statement_timeout_s": 0}, "statement_timeout_s: 0"),
        ({"tabel": "ward"}, "tabel: unknown, did you mean 'table'"),
    ],
)
def test_a_wrong_description_says_what_to_change(
    postgres: PostgresServer, tmp_path: Path, options: Dict[str, Any], said: str
) -> None:
    assert said in refusal(postgres, tmp_path, **{"table": "ward", **options})


def test_what_is_not_there_or_takes_too_long_is_said(postgres: PostgresServer, ward: str, tmp_path: Path) -> None:
    assert "did you mean 'hospital.ward'?" in refusal(postgres, tmp_path, table="hospital.wards")
    assert "did you mean 'hospital.ward'?" in refusal(postgres, tmp_path, table="Hospital.Ward")
    assert "this user may read hospital.ward" in refusal(postgres, tmp_path, table="zzz")
    assert 'database "nothing" does not exist' in refusal(postgres, tmp_path, table=ward, database="nothing")
    (tmp_path / "q.sql").write_text("SELECT agee FROM hospital.ward")
    assert 'column "agee" does not exist' in refusal(postgres, tmp_path, query_file="q.sql")
    (tmp_path / "q.sql").write_text("SELECT pg_sleep(60)::text AS slept")
    said = refusal(postgres, tmp_path, query_file="q.sql", statement_timeout_s=1)
    assert "longer than statement_timeout_s = 1" in said
    (tmp_path / "q.sql").write_text("SELECT note::integer AS note FROM hospital.ward")
    said = refusal(postgres, tmp_path, query_file="q.sql")
    assert "the query failed (22P02)" in said
    assert "note 1" not in said
    for content in (b"", b" \n", b"SELECT '\xff'", b"SELECT 1\0"):
        (tmp_path / "q.sql").write_bytes(content)
        assert f"{tmp_path / 'q.sql'}: " in refusal(postgres, tmp_path, query_file="q.sql")
    assert "none.sql: No such file" in refusal(postgres, tmp_path, query_file="none.sql")


HOSTILE = ['x"; DROP TABLE hospital.ward; --', "%s %(a)s %", "'", "$1", "a.b", "Ä {x}", "c" * 63]


def test_names_and_values_are_only_names_and_values(postgres: PostgresServer, ward: str, tmp_path: Path) -> None:
    table = quoted(["hospital", HOSTILE[0]])
    columns = ", ".join(f"{quoted([name])} text" for name in HOSTILE)
    values = [*HOSTILE[:-2], "\\N", 'a\t"b",\r\nc']
    postgres.run(f"CREATE TABLE {table} ({columns.replace('%', '%%')})".replace("%%", "%"))
    with postgres.connect() as connection:
        marks = ", ".join(f"${i + 1}" for i in range(len(values)))
        connection.pgconn.exec_params(f"INSERT INTO {table} VALUES ({marks})".encode(), [v.encode() for v in values])
    rows = list(rows_of(postgres, tmp_path, table=table))
    assert rows == [(0, HOSTILE), (1, values)]
    assert len(list(rows_of(postgres, tmp_path, table=ward))) == 6
    columns_of = {f"c{i}": {"column": name} for i, name in enumerate(HOSTILE)}
    schema = Schema(
        "table", "", (), {}, tuple(Feature(f"c{i}", categories=(v.strip(), "z")) for i, v in enumerate(values))
    )
    found = load_dataset(describe(tmp_path, postgres.source(table=table), columns=columns_of), schema)
    assert np.array_equal(found.x, [[1, 0] * len(values)])


def test_identifiers() -> None:
    assert [identifiers(text) for text in ("a", "a.b", '"a.b"', '"a""b".c', "Ward 3.x y")] == [
        ["a"],
        ["a", "b"],
        ["a.b"],
        ['a"b', "c"],
        ["Ward 3", "x y"],
    ]
    for text in ("", ".", "a.", ".a", "a.b.c", '"a', 'a"b"', '""', '"a"b'):
        with pytest.raises(ValueError, match="expected NAME"):
            identifiers(text)


def test_no_word_of_a_task_reaches_the_server(postgres: PostgresServer, ward: str, tmp_path: Path) -> None:
    path = describe(tmp_path, postgres.source(table=ward))

    def statements(feature: str) -> List[str]:
        before = len(postgres.log.read_bytes())
        schema = Schema("table", "", (), {}, (Feature(feature, 0, 10),), missing_markers=("secret marker",))
        with suppress(DataError):
            load_dataset(path, schema, gaps=True)
        lines = postgres.log.read_bytes()[before:].decode().splitlines()
        return [line.partition("] ")[2] for line in lines]

    first = statements("age")
    assert any("SELECT * FROM" in line for line in first)
    assert statements("note") == first
    ended = statements("no such column")  # known from the names: no more rows are fetched
    assert ended == first[: len(ended)]
    assert len(ended) >= len(first) - 2


def test_the_query_is_one_of_the_files_of_the_data(postgres: PostgresServer, tmp_path: Path) -> None:
    path = describe(tmp_path, postgres.source(query_file="q.sql"))
    assert versions_of(path) == [path, tmp_path / "q.sql"]
    path = describe(tmp_path, postgres.source(table="ward"))
    assert versions_of(path) == [path]


def test_doctor_says_whether_the_table_is_reached(postgres: PostgresServer, ward: str, tmp_path: Path) -> None:
    found = check_data(describe(tmp_path, postgres.source(table=ward)), None)
    assert (found.level, "columns age, note are there" in found.message) == ("not checked", True)
    found = check_data(describe(tmp_path, postgres.source(table="hospital.wards")), None)
    assert (found.level, "did you mean 'hospital.ward'?" in found.message) == ("problem", True)
    found = check_data(describe(tmp_path, postgres.source(table=ward, host="127.0.0.1", port=1)), None)
    assert (found.level, found.fix) == ("problem", "see whether the server runs and listens there")
    found = check_data(describe(tmp_path, {"file": "t.csv"}), None)
    assert (found.level, f"{tmp_path / 't.csv'}: no such file" in found.message) == ("problem", True)
    (tmp_path / "t.csv").write_text("a,b\n")
    found = check_data(tmp_path / "ward.toml", None)
    assert (found.level, f"{tmp_path / 't.csv'} is there" in found.message) == ("not checked", True)


def test_another_machines_certificate_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGSSLMODE", raising=False)
    hosts: Dict[str, Optional[str]] = {
        "": None,
        "/run/postgresql": None,
        "localhost": None,
        "127.0.0.1": None,
        "::1": None,
    }
    hosts.update({"db.hospital": "verify-full", "10.0.0.5": "verify-full"})
    found = {host: _parameters(PostgreSql("d", host, table="t"), Path("/x")).get("sslmode") for host in hosts}
    assert found == hosts
    said = _parameters(PostgreSql("d", "db", sslmode="require", sslrootcert="ca.pem", table="t"), Path("/x"))
    assert (said["sslmode"], said["sslrootcert"]) == ("require", "/x/ca.pem")


def test_the_example_of_the_documents(postgres: PostgresServer, tmp_path: Path) -> None:
    """The first description of docs/data.md, section "PostgreSQL and OMOP", read as it stands but for where the server is."""
    for statement in statements("PostgreSQL and OMOP"):
        postgres.run(statement)
    try:
        postgres.run(
            "INSERT INTO ward.visits VALUES (61, 'female', 96.0, '2026-03-01'), (70, 'male', NULL, '2026-03-02')"
        )
        (tmp_path / "ward.toml").write_text(described("PostgreSQL and OMOP", 0))
        more, _ = read_toml(tmp_path / "ward.toml")
        source = {**more.pop("source"), "host": "127.0.0.1", "port": postgres.port}
        (tmp_path / source["password_file"]).write_text("a long one")
        (tmp_path / source["password_file"]).chmod(0o600)
        path = describe(tmp_path, source, **more)
        schema = Schema(
            "table",
            "",
            (),
            {},
            (Feature("age", 0, 120), Feature("sex", categories=("f", "m")), Feature("glucose", 0, 50)),
        )
        found = load_dataset(path, schema, gaps=True)
        assert found.x[:, :3].tolist() == [[61, 1, 0], [70, 0, 1]]
        assert found.x[0, 3] == pytest.approx(96 / 18.016, rel=1e-3)
        assert np.isnan(found.x[1, 3])
    finally:
        postgres.run("DROP SCHEMA ward CASCADE")
        postgres.run("DROP ROLE edgeward")

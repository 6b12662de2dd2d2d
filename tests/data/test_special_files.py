"""A pipe in the place of a file that an owner names is refused at once: nobody may ever write to it."""

import os
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest

from orchestrator.data.anonymity.cuts import with_cuts
from orchestrator.data.anonymity.rules import Quasi, Rules, read_rules
from orchestrator.data.codebook import read_codebook
from orchestrator.data.dataset import load_dataset
from orchestrator.data.described import read_description
from orchestrator.data.sources import postgresql
from orchestrator.data.table import every_row
from orchestrator.errors import EdgewardError
from orchestrator.gateway.any_table import read_any
from orchestrator.gateway.delimited import read_delimited
from orchestrator.privacy import linkage
from orchestrator.wire.schema import Feature, Schema

SCHEMA = Schema("table", "y", ("a", "b"), {"0": 0, "1": 1}, (Feature("age", 0, 120),))
RULES = '[quasi.age]\nminimum = 0\nmaximum = 120\n[quasi.place]\nhierarchy = "pipe"\n'
TABLE = 'file = "t.csv"\n'


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Path]:
    """Whose writer writes nothing and leaves, so that who reads it without looking does not wait, but is not refused as here."""
    path = tmp_path / "pipe"
    os.mkfifo(path, 0o600)
    writer = threading.Thread(target=lambda: path.open("wb").close())
    writer.start()
    yield path
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer.join()
    os.close(reader)


def described(pipe: Path, source: str, rest: str = "") -> Path:
    (pipe.parent / "t.csv").write_text("patient,age,y\np,1,0\nq,2,1\n")
    path = pipe.parent / "ward.toml"
    path.write_text(f"[source]\n{source}{rest}")
    return path


def loaded(source: str, rest: str = "", top: str = "") -> Callable[[Path], Any]:
    def load(pipe: Path) -> Any:
        path = described(pipe, source, rest)
        path.write_text(top + path.read_text())
        return load_dataset(path, SCHEMA)

    return load


def rules(pipe: Path) -> Any:
    (pipe.parent / "rules.toml").write_text(RULES)
    return loaded(TABLE, top='anonymize = "rules.toml"\n')(pipe)


def server(**options: Any) -> Callable[[Path], Any]:
    def read(pipe: Path) -> List[Any]:
        asked = postgresql.PostgreSql("d", host="127.0.0.1", port=1, table="t", **options)
        with postgresql.reading(asked, pipe.parent):
            return []

    return read


EVENTS = """
[rows]
patient = "patient"
[tables.labs]
key = "patient"
file = "pipe"
[columns.n]
table = "labs"
take = "count"
"""

READERS: Dict[str, Callable[[Path], Any]] = {
    "the data": lambda pipe: load_dataset(pipe, SCHEMA),
    "the data of signals": lambda pipe: load_dataset(
        pipe, Schema("signal", "y", ("a", "b"), {"0": 0, "1": 1}, samples=4)
    ),
    "rows": lambda pipe: list(every_row(pipe)),
    "source.file": loaded('file = "pipe"\n'),
    "tables.file": loaded(TABLE, EVENTS),
    "leave_out": loaded(TABLE, '[rows]\npatient = "patient"\nleave_out = "pipe"\n'),
    "anonymize": loaded(TABLE, top='anonymize = "pipe"\n'),
    "hierarchy": rules,
    "rules": read_rules,
    "cuts": lambda pipe: with_cuts(Rules({"age": Quasi(0, 120)}), pipe, 4),
    "codebook": read_codebook,
    "link": linkage.read,
    "description": read_description,
    "a table to draft from": read_delimited,
    "a table to describe": read_any,
    "password_file": server(password_file="pipe"),
    "sslrootcert": server(sslrootcert="pipe"),
    "ca_file": loaded(
        'kind = "fhir"\nserver = "https://127.0.0.1:1"\nca_file = "pipe"\n'
        + "".join(
            f'[[source.columns]]\nname = "{name}"\nfrom = "Patient"\npath = "{path}"\n'
            for name, path in (("age", "gender"), ("y", "id"))
        )
    ),
    "query_file": lambda pipe: postgresql.query_of(pipe),
}


@pytest.mark.parametrize("what", READERS)
def test_a_pipe_is_no_file(pipe: Path, what: str) -> None:
    if what in ("password_file", "sslrootcert"):
        pytest.importorskip("psycopg")
    with pytest.raises(EdgewardError, match="a pipe, a socket or a device, which may never end; name a file"):
        READERS[what](pipe)

"""Files that people have: each is read right, or refused with one error that says where and what to do."""

import bz2
import contextlib
import gzip
import lzma
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Tuple, Union

import numpy as np
import pytest

from orchestrator.data import table
from orchestrator.data.cells import UNLABELLED, canonical
from orchestrator.data.dataset import load_dataset
from orchestrator.data.problems import MOST_PROBLEMS
from orchestrator.data.table import every_row
from orchestrator.errors import DataError
from orchestrator.gateway.any_table import read_any
from orchestrator.wire.schema import Feature, Schema

TABLE = Schema(
    "table", "y", ("no", "yes"), {"0": 0, "1": 1}, (Feature("a", 0, 10), Feature("c", categories=("u", "v")))
)
BARE = Schema("table", "y", TABLE.classes, TABLE.label_values, TABLE.features, columns=("a", "c", "y"))
SIGNAL = Schema("signal", "y", ("N", "V"), {"0": 0, "1": 1}, samples=4)
OK = "a,c,y\n" + "".join(f"{i % 10}.5,{'uv'[i % 2]},{i % 2}\n" for i in range(20))
ROWS = "3.5,u,0\n4.5,v,1\n"

READ = {
    "as it should be": (OK, 20),
    "byte order mark": ("\ufeff" + OK, 20),
    "Windows line ends": (OK.replace("\n", "\r\n"), 20),
    "old Mac line ends": (OK.replace("\n", "\r"), 20),
    "quoted": ('"a","c","y"\n"3.5","u","0"\n"4.5","v","1"\n', 2),
    "line end in quotes": ('a,c,y,note\n3.5,u,0,"one\ntwo"\n4.5,v,1,"x"\n', 2),
    "blank lines": ("\n\na,c,y\n3.5,u,0\n\n4.5,v,1\n\n", 2),
    "a column twice that nobody needs": ("a,c,y,z,z\n3.5,u,0,1,1\n4.5,v,1,1,1\n", 2),
    "one record": ("a,c,y\n3.5,u,0\n", 1),
    "spaces in cells": ("a,c,y\n3.5, u ,0\n4.5,v,1\n", 2),
    "spaces in the header": (" a , c ,y\n" + ROWS, 2),
    "labels as floats": ("a,c,y\n3.5,u,0.0\n4.5,v,1.0\n", 2),
    "an empty last column": ("a,c,y,\n3.5,u,0,\n4.5,v,1,\n", 2),
    "the index of pandas": (",a,c,y\n0,3.5,u,0\n1,4.5,v,1\n", 2),
    "other order": ("y,note,c,a\n0,x,u,3.5\n1,y,v,4.5\n", 2),
    "the end mark of DOS": (OK + "\x1a", 20),
    "the end mark of DOS in a line": (OK + "\x1a\n\x1a", 20),
    "exponents": ("a,c,y\n35e-1,u,0\n+.45E1,v,1\n", 2),
}


def written(tmp_path: Path, content: Union[str, bytes], name: str = "data.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("kind", READ)
def test_is_read_right(tmp_path: Path, kind: str) -> None:
    content, records = READ[kind]
    data = load_dataset(written(tmp_path, content), TABLE)
    assert data.records == records
    first = 0.5 if records == 20 else 3.5
    assert data.x[:2].tolist() == [[first, 1, 0], [first + 1, 0, 1]][: min(records, 2)]
    assert data.y[:2].tolist() == [0, 1][: min(records, 2)]


SEMICOLONS = "^{0}:1: values are separated by semicolons; save the table as CSV: comma-separated, UTF-8"
REFUSED: Dict[str, Tuple[Union[str, bytes], str]] = {
    "semicolons": (OK.replace(",", ";"), SEMICOLONS),
    "semicolons and decimal commas": (
        OK.replace(",", ";").replace(".", ","),
        "^{0}:1: values are separated by semicolons and decimals have commas; save",
    ),
    "semicolons in quotes": ('"a";"c";"y"\n"3.5";"u";"0"\n', SEMICOLONS),
    "tabs": (OK.replace(",", "\t"), "^{0}:1: values are separated by tabs"),
    "vertical bars": (OK.replace(",", "|"), "^{0}:1: values are separated by vertical bars"),
    "UTF-16": (OK.encode("utf-16"), "^{0}: UTF-16 text.*iconv -f UTF-16 -t UTF-8"),
    "UTF-16 without a mark": (OK.encode("utf-16-be"), "^{0}: UTF-16 text without.*iconv -f UTF-16BE -t UTF-8"),
    "UTF-32": (OK.encode("utf-32"), "^{0}: UTF-32 text.*iconv"),
    "Latin-1": ("a,c,y,Größe\n3.5,u,0,ä\n".encode("latin-1"), "^{0}:1: not UTF-8 text.*Latin-1.*iconv -f WINDOWS-1252"),
    "Latin-1 far below": ((OK * 500 + "1,ü,0\n").encode("latin-1"), "^{0}:10501: not UTF-8 text"),
    "cut off in a character": ("a,c,y,ü".encode()[:-1], "^{0}:1: not UTF-8 text"),
    "binary": (bytes(range(256)) * 4, "^{0}: a binary file"),
    "gzip": (gzip.compress(OK.encode()), "^{0}: compressed with gzip; unpack it first: gunzip"),
    "bzip2": (bz2.compress(OK.encode()), "^{0}: compressed with bzip2"),
    "xz": (lzma.compress(OK.encode()), "^{0}: compressed with xz"),
    "Excel": (b"PK\x03\x04xxxx", r"^{0}: a zip archive, as \.xlsx.*save the table as CSV"),
    "old Excel": (bytes.fromhex("d0cf11e0a1b11ae1") + bytes(512), r"^{0}: an old Excel workbook"),
    "Parquet": (
        b"PAR1xxxx",
        "^{0}: (Parquet, which is read where pyarrow is installed; or read it with pandas|cannot be read as)",
    ),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "^{0}: HDF5; read it with pandas"),
    "SQLite": (b"SQLite format 3\x00" + bytes(100), "^{0}: cannot be read as what it begins like"),
    "JSON": ('[{"a": 3.5, "c": "u", "y": 0}]', "^{0}:1: looks like JSON; read it with pandas"),
    "JSON lines": ('{"a": 3.5}\n{"a": 4.5}', "^{0}:1: no column 'c'; no column 'y'"),
    "indented JSON": ('[\n  {\n"a": 3.5}]', "^{0}:1: looks like JSON"),
    "HTML": ("<table><tr><td>a</td></tr></table>", "^{0}:1: looks like HTML or XML; save"),
    "a comment": ("# exported\n" + OK, "^{0}:1: the first line is a comment; take out"),
    "no header": (ROWS, "^{0}:1: no column 'a'.*is the line with their names missing"),
    "header in capitals": (
        "A,C,Y\n" + ROWS,
        "^{0}:1: no column 'a', did you mean 'A'.; no column 'c', did you mean 'C'",
    ),
    "another header": ("a,group,y\n" + ROWS, "^{0}:1: no column 'c'; the task needs it and the file has a, group, y$"),
    "a column twice": ("a,c,y,a\n3.5,u,0,1\n", "^{0}:1: column 'a' occurs twice"),
    "empty": ("", "^{0}: the file is empty$"),
    "header only": ("a,c,y\n", "^{0}: no usable record in it$"),
    "decimal commas": ('a,c,y\n"3,5",u,0\n', "^{0}:2: column 'a': '3,5' is not a number; a decimal comma. write 3.5$"),
    "bare decimal commas": (
        "a,c,y\n3,5,u,0\n",
        r"^{0}:2: 4 values, expected 3 \(a, c, y\); a value with a comma in it",
    ),
    "thousands": ('a,c,y\n"1,234.5",u,0\n', "^{0}:2: .* is not a number; thousands are not separated: write 1234.5$"),
    "thousands or decimals": ('a,c,y\n"1,234",u,0\n', "^{0}:2: .*a decimal comma, or thousands. write 1.234 or 1234$"),
    "a unit": ("a,c,y\n5 mg/dl,u,0\n", "^{0}:2: .*'5 mg/dl' is not a number; write the number without its unit$"),
    "a percentage": ("a,c,y\n5%,u,0\n", "^{0}:2: .*'5%' is not a number; write the number without its unit$"),
    "a bound": ("a,c,y\n<0.5,u,0\n", "^{0}:2: .*'<0.5' is not a number; a bound is no value"),
    "a date": ("a,c,y\n2026-01-31,u,0\n", "^{0}:2: .*is not a number; a date"),
    "a month": ("a,c,y\n2026-01,u,0\n", "^{0}:2: .*is not a number; a date"),
    "a time": ("a,c,y\n12:30,u,0\n", "^{0}:2: .*'12:30' is not a number; a time; make it a number"),
    "two numbers": ("a,c,y\n120/80,u,0\n", "^{0}:2: .*'120/80' is not a number; two numbers; give each a column"),
    "a range": ("a,c,y\n5-9,u,0\n", "^{0}:2: .*'5-9' is not a number; a range; decide on one value"),
    "brackets": ("a,c,y\n(5),u,0\n", "^{0}:2: .*a negative number in brackets. write -5$"),
    "hexadecimal": ("a,c,y\n0x1f,u,0\n", "^{0}:2: .*'0x1f' is not a number; write it in decimal digits$"),
    "an apostrophe": ("a,c,y\n'5,u,0\n", "^{0}:2: .*is not a number; take out what stands round the number$"),
    "a formula of Excel": ('a,c,y\n="5",u,0\n', "^{0}:2: .*is not a number; take out what stands round the number$"),
    "lines in quotation marks": (
        '"a,c,y"\n"3.5,u,0"\n',
        "^{0}:1: each line stands in quotation marks as one value; save the table as CSV",
    ),
    "underscores": ("a,c,y\n1_000,u,0\n", "^{0}:2: .*'1_000' is not a number; write it with the digits"),
    "other digits": ("a,c,y\n٣,u,0\n", "^{0}:2: .*is not a number; write it with the digits"),
    "another minus": ("a,c,y\n\u22125,u,0\n", "^{0}:2: .*is not a number; write it with the digits"),
    "infinite": ("a,c,y\ninf,u,0\n", "^{0}:2: column 'a': 'inf' is not a finite number: correct it"),
    "huge": ("a,c,y\n1e400,u,0\n", "^{0}:2: column 'a': '1e400' is not a finite number: correct it"),
    "a missing value": ("a,c,y\n,u,0\n", "^{0}:2: column 'a' is missing .''.; fill it in.*drop_missing"),
    "NaN": ("a,c,y\nnan,u,0\n", "^{0}:2: column 'a' is missing .'nan'.; fill it in"),
    "a missing label": ("a,c,y\n3.5,u,NA\n", "^{0}:2: column 'y' is missing"),
    "n/a": ("a,c,y\nn/a,u,0\n", "^{0}:2: .*'n/a' is not a number; .*missing_markers"),
    "None": ("a,c,y\nNone,u,0\n", "^{0}:2: .*'None' is not a number; .*missing_markers"),
    "NULL": ("a,c,y\n3.5,NULL,0\n", "^{0}:2: .*'NULL' is not one of u, v; .*missing_markers"),
    "another category": ("a,c,y\n3.5,U,0\n", "^{0}:2: column 'c': 'U' is not one of u, v, did you mean 'u'"),
    "a zero byte": ("a,c,y\n3.5,u\x00,0\n", "^{0}:2: "),
    "labels as text": ("a,c,y\n3.5,u,yes\n", "^{0}:2: .*label 'yes' is not in the task's schema.*the name of a class"),
    "labels as booleans": (
        "a,c,y\n3.5,u,True\n",
        r"^{0}:2: column 'y': label 'True' is not in .*\(known: 0, 1\); correct it, or say with `recode`",
    ),
    "a short row": ("a,c,y\n3.5,u\n4.5,v,1\n", r"^{0}:2: 2 values, expected 3 \(a, c, y\); is the line cut off"),
    "a comma too many": ("a,c,y\n3.5,u,0,\n", "^{0}:2: 4 values, expected 3.*a comma too many at its end$"),
    "an open quote": ('a,c,y\n3.5,"u,0\n4.5,v,1\n', "^{0}:3: not CSV: .*a quotation mark of line 2 never closed"),
    "an open quote in a large file": (
        f'a,c,y\n3.5,"u,0\n{OK * 500}',
        "^{0}:.*: not CSV: .*mark of line 2 never closed",
    ),
    "a shifted row": ("a,c,y,name\n4.5,v,1,x\nMeier,3.5,u,0\n", "^{0}: 3 problems:\n  data.csv:3: column 'a': 'Meier'"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_is_refused_with_where_and_what_to_do(tmp_path: Path, kind: str) -> None:
    content, reason = REFUSED[kind]
    path = written(tmp_path, content)
    with pytest.raises(DataError, match=reason.format(path)):
        load_dataset(path, TABLE)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (ROWS.replace(",", ";"), ":1: values are separated by semicolons"),
        ("A,C,Y\n" + ROWS, ":1: a line of names; the task's schema names the columns already"),
        ("3.5,u\n", ":1: 2 values, expected 3"),
    ],
)
def test_a_table_without_a_header_line(tmp_path: Path, content: str, reason: str) -> None:
    assert load_dataset(written(tmp_path, ROWS), BARE).records == 2
    with pytest.raises(DataError, match=reason):
        load_dataset(written(tmp_path, content), BARE)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (OK, r"not a \.npz file.*The task needs \.npz"),
        (gzip.compress(b"x", mtime=0), "gunzip"),
        (b"\x93NUMPYx", r"\(\.npy\)"),
    ],
)
def test_a_signal_in_another_format(tmp_path: Path, content: Union[str, bytes], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        load_dataset(written(tmp_path, content, "data.npz"), SIGNAL)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a folder; name the file in it"):
        load_dataset(tmp_path, TABLE)


def test_the_first_problems_of_a_file_are_told_and_the_rest_counted(tmp_path: Path) -> None:
    path = written(tmp_path, "a,c,y\nold,w,7\n" + "3.5,u,0\n" + "x,u,0\n" * 50)
    with pytest.raises(DataError) as caught:
        load_dataset(path, TABLE)
    head, *told = str(caught.value).split("\n")
    assert head == f"{path}: 53 problems, the first {MOST_PROBLEMS}:"
    assert [line.split(":")[1] for line in told] == ["2", "2", "2", *(str(line) for line in range(4, 21))]
    signal = tmp_path / "data.npz"
    np.savez(signal, x=np.zeros((30, 4)), y=np.arange(30))
    with pytest.raises(DataError, match="28 problems, the first 20:\n  data.npz: record 2 of y: label '2'"):
        load_dataset(signal, SIGNAL)


@pytest.mark.parametrize(
    "content", [OK, OK.replace(",", ";"), OK.encode("latin-1") + b"\xe4", gzip.compress(b"x", mtime=0), '"a";"b"\n']
)
def test_a_file_is_opened_once(tmp_path: Path, content: Union[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is wrong with it: a policy counts how often the data were looked at."""
    path, opened, real = written(tmp_path, content), [], Path.open

    def noted(self: Path, *rest: Any, **named: Any) -> Any:
        opened.append(self)
        return real(self, *rest, **named)

    monkeypatch.setattr(Path, "open", noted)
    with contextlib.suppress(DataError):
        load_dataset(path, TABLE)
    assert opened == [path]


def test_a_long_cell_is_cut_in_what_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_dataset(written(tmp_path, f"a,c,y\n{'x' * 9999},u,0\n"), TABLE)
    assert len(str(caught.value)) < 200 + len(str(tmp_path))


def test_dropped_rows_are_counted(tmp_path: Path) -> None:
    schema = Schema("table", "y", TABLE.classes, TABLE.label_values, TABLE.features, drop_missing=True)
    data = load_dataset(written(tmp_path, "a,c,y\n,u,0\n4.5,v,1\n3.5,u,?\n"), schema)
    assert (data.records, data.dropped) == (1, 2)
    assert data.places is not None
    assert data.places.tolist() == [3]


def test_records_without_labels_where_they_are_allowed(tmp_path: Path) -> None:
    path = written(tmp_path, "a,c\n3.5,u\n4.5,v\n")
    with pytest.raises(DataError, match="no column 'y'"):
        load_dataset(path, TABLE)
    assert load_dataset(path, TABLE, unlabelled=True).y.tolist() == [UNLABELLED] * 2
    some = written(tmp_path, "a,c,y\n3.5,u,\n4.5,v,1\n")
    assert load_dataset(some, TABLE, unlabelled=True).y.tolist() == [UNLABELLED, 1]
    assert load_dataset(written(tmp_path, "3.5,u\n"), BARE, unlabelled=True).y.tolist() == [UNLABELLED]
    signal = tmp_path / "data.npz"
    np.savez(signal, x=np.zeros((2, 4)))
    assert load_dataset(signal, SIGNAL, unlabelled=True).y.tolist() == [UNLABELLED] * 2


@pytest.mark.parametrize(("one", "other"), [("1234567", "1234568"), ("123456789012345678", "123456789012345679")])
def test_long_codes_stay_apart(one: str, other: str) -> None:
    """Codes of diagnoses have up to 18 digits: as floats in a few of them, neighbours would be one category."""
    assert canonical(one) != canonical(other)
    assert canonical(f"0{one}") == canonical(one)


def test_ways_to_write_a_category() -> None:
    assert canonical("1") == canonical("1.0") == canonical("01") == canonical("1e0") == canonical("+1")
    assert canonical("0.5") == canonical(".50")
    assert canonical("1_0") != canonical("10")
    assert canonical("A") == "A"


def test_the_names_of_the_columns_again_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data.csv:22: the names of the columns again.*take the line out$"):
        load_dataset(written(tmp_path, OK + OK), TABLE)


@pytest.mark.parametrize("cell", ["", "NA", "?", "n/a", "None", "NULL", "unknown", "-"])
def test_records_of_nobody_are_not_one_patients(tmp_path: Path, cell: str) -> None:
    """What people write for no value is not the name of a patient: records of many would count as one's."""
    schema = replace(TABLE, patient="who", drop_missing=True)
    text = f"a,c,y,who\n3.5,u,0,{cell}\n4.5,v,1,{cell}\n4.5,v,1,p1\n"
    with pytest.raises(
        DataError, match="2 problems.*\n.*data.csv:2: column 'who': .*every record must say whose it is"
    ):
        load_dataset(written(tmp_path, text), schema)
    signal = tmp_path / "data.npz"
    np.savez(signal, x=np.zeros((2, 4)), y=np.zeros(2), who=np.array(["p1", cell]))
    with pytest.raises(DataError, match="record 1 of who: .*every record must say whose it is"):
        load_dataset(signal, replace(SIGNAL, patient="who"))
    np.savez(signal, x=np.zeros((2, 4)), y=np.zeros(2), who=np.array([1.0, np.nan]))
    with pytest.raises(DataError, match="record 1 of who: 'nan' stands for no value"):
        load_dataset(signal, replace(SIGNAL, patient="who"))


def test_labels_of_a_signal_as_bytes_or_padded(tmp_path: Path) -> None:
    for labels in (np.array([b"0", b"1"]), np.array([" 0", "1 "]), np.array([0.0, 1.0])):
        np.savez(tmp_path / "data.npz", x=np.zeros((2, 4)), y=labels)
        assert load_dataset(tmp_path / "data.npz", SIGNAL).y.tolist() == [0, 1]


@pytest.mark.filterwarnings("error")
def test_numbers_of_a_signal_beyond_float32_are_named_and_nothing_else_is_printed(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.full((2, 4), 1e300), y=np.zeros(2))
    with pytest.raises(DataError, match="record 1 of x holds a value that is not a finite number"):
        load_dataset(tmp_path / "data.npz", SIGNAL)


def test_a_signal_file_without_records(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.zeros((0, 4)), y=np.zeros(0))
    with pytest.raises(DataError, match="no usable record"):
        load_dataset(tmp_path / "data.npz", SIGNAL)


def test_a_long_file_is_read_with_news_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "t.csv").write_text(OK)
    caplog.set_level("INFO", "edgeward.data.milestones")
    load_dataset(tmp_path / "t.csv", TABLE)
    assert not caplog.messages
    monkeypatch.setattr(table, "LOOK_ROWS", 5)
    monkeypatch.setattr(table, "NEWS_S", 0.0)
    load_dataset(tmp_path / "t.csv", TABLE)
    assert caplog.messages == [f"{tmp_path}/t.csv: {count} rows read, and on" for count in (5, 10, 15, 20)]


def test_who_waits_for_doctor_sees_how_far_it_is(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(OK)
    (tmp_path / "e.toml").write_text(
        '[task]\nname = "t"\n[task.schema]\nkind = "table"\nlabel = "y"\nclasses = ["no", "yes"]\n'
        'label_values = {"0" = 0, "1" = 1}\n'
        '[[task.schema.features]]\nname = "a"\nminimum = 0\nmaximum = 10\n[task.model]\nkind = "mlp"\nhidden = [4]\n'
    )
    program = (
        "import sys, orchestrator.data.table as t; t.NEWS_S, t.LOOK_ROWS = 0, 5; from orchestrator.cli.main import main"
    )
    command = [
        "doctor",
        str(tmp_path / "e.toml"),
        "--node",
        "--data",
        str(tmp_path / "t.csv"),
        "--state",
        str(tmp_path / "s"),
    ]
    done = subprocess.run(
        [sys.executable, "-c", f"{program}; sys.exit(main(sys.argv[1:]))", *command], capture_output=True, text=True
    )
    assert f"{tmp_path}/t.csv: 20 rows read, and on" in done.stderr.splitlines(), done.stderr
    assert "20 records fit the schema" in done.stdout


@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf", b"\r\n", b"\n \n"], ids=["none", "mark", "line", "lines"])
def test_a_column_that_is_called_like_a_format_is_a_column(tmp_path: Path, before: bytes) -> None:
    """`PAR1` is a receptor, and how Parquet begins: a file that begins otherwise is text, for all who read it."""
    path = written(tmp_path, before + b"PAR1_level,y\n1,0\n2,1\n3,0\n")
    schema = Schema("table", "y", ("no", "yes"), {"0": 0, "1": 1}, features=(Feature("PAR1_level", 0, 10),))
    if not before:
        with pytest.raises(DataError, match="Parquet"):
            load_dataset(path, schema)
        return
    assert load_dataset(path, schema).x[:, 0].tolist() == [1, 2, 3]
    assert [cells for _, cells in every_row(path)] == [["PAR1_level", "y"], ["1", "0"], ["2", "1"], ["3", "0"]]
    assert read_any(path).header == ["PAR1_level", "y"]

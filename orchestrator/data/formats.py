"""Recognizes files that are not what a node reads, and says how to make of them what it does."""

import codecs
import csv
import re
from pathlib import Path
from typing import BinaryIO, Iterable, List, Optional, Sequence

from orchestrator.errors import DataError

HEAD_BYTES = 65536
"""As much of a file is looked at to say what it is."""

NAMES_AGAIN = "the names of the columns again, as where files were put together; take the line out"
_SAVE = "save the table as CSV: comma-separated, UTF-8, points in decimals (Excel: 'CSV UTF-8')"
_PANDAS = "read it with pandas and write it with to_csv(..., index=False)"
_SIGNATURES = (
    (b"\x1f\x8b", "compressed with gzip; unpack it first: gunzip FILE"),
    (b"BZh", "compressed with bzip2; unpack it first: bunzip2 FILE"),
    (b"\xfd7zXZ\x00", "compressed with xz; unpack it first: unxz FILE"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd; unpack it first: unzstd FILE"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive; unpack it first: 7z x FILE"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", f"an old Excel workbook (.xls); {_SAVE}"),
    (b"PAR1", f"Parquet, which is read where pyarrow is installed; or {_PANDAS}"),
    (b"ARROW1", f"Arrow (Feather); {_PANDAS}"),
    (b"FEA1", f"Feather; {_PANDAS}"),
    (b"Obj\x01", f"Avro; {_PANDAS}"),
    (b"ORC", f"ORC; {_PANDAS}"),
    (b"\x89HDF\r\n\x1a\n", f"HDF5; {_PANDAS}"),
    (b"SQLite format 3\x00", "an SQLite database; export the table: sqlite3 -header -csv FILE 'SELECT ...'"),
    (b"$FL2", f"SPSS; {_PANDAS}"),
    (b"$FL3", f"SPSS; {_PANDAS}"),
    (b"<stata_dta>", f"Stata; {_PANDAS}"),
    (b"\x93NUMPY", "a single NumPy array (.npy)"),
    (b"%PDF", "a PDF; ask for the table it was made from"),
)
_CONTROLS = [code for code in range(32) if code not in b"\t\n\r\f\x1a"]
_SEPARATORS = ((";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars"), (" ", "spaces"))


def head_of(file: BinaryIO) -> bytes:
    """The first bytes, after which the file is at its beginning again."""
    head = file.read(HEAD_BYTES)
    file.seek(0)
    return head


def beginning(head: bytes) -> bytes:
    """What of the first bytes says which format a file has: of a text all to the end of its first line that holds something."""
    if b"\0" in head:
        return head
    blank_before = len(head) - len(head.lstrip(b"\xef\xbb\xbf \t\r\n"))
    end = head.find(b"\n", blank_before)
    return head if end < 0 else head[:end]


def text_format(head: bytes) -> str:
    """What the first bytes are, and the cure, where a format other than text is recognized, or text in UTF-32; else nothing."""
    found = _format_of(head, "table")
    return "" if found.startswith(("UTF-16", "a binary file")) else found


def refuse_other_formats(path: Path, head: bytes, kind: str) -> None:
    """Raises DataError naming the format and the cure, where the first bytes are of another one than `kind`: table or signal."""
    wanted = "CSV" if kind == "table" else ".npz with the arrays of the task"
    found = _format_of(head, kind)
    if found:
        raise DataError(f"{path}: {found}. The task needs {wanted}")


def _format_of(head: bytes, kind: str) -> str:
    for signature, what in _SIGNATURES:
        if head.startswith(signature):
            return what
    if kind != "table":
        return "" if head.startswith(b"PK") or not head else "not a .npz file, which numpy.savez writes"
    if head.startswith(b"PK\x03\x04"):
        return f"a zip archive, as .xlsx, .ods and .npz are (.xlsx is read where openpyxl is installed); unpack it, or {_SAVE}"
    if head[:4] in (b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff"):
        return f"UTF-32 text; {_converted('UTF-32')}"
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return f"UTF-16 text, as Excel's 'Unicode Text' is; {_converted('UTF-16')}"
    nulls = head.count(0)
    if nulls * 4 > len(head) and max(head[0::2].count(0), head[1::2].count(0)) * 10 > nulls * 9:
        big = head[0::2].count(0) * 2 > nulls
        return f"UTF-16 text without a byte order mark; {_converted('UTF-16BE' if big else 'UTF-16LE')}"
    controls = sum(head.count(code) for code in _CONTROLS)
    return f"a binary file, not text; {_SAVE}" if controls > 3 and controls * 50 > len(head) else ""


def _converted(encoding: str) -> str:
    return f"convert it: iconv -f {encoding} -t UTF-8 FILE > NEW"


def not_utf8(path: Path, file: BinaryIO) -> DataError:
    """Which line holds the first bytes that are not UTF-8, and what the file probably is."""
    file.seek(0)
    for line, text in enumerate(file, 1):
        try:
            text.decode("utf-8")
        except UnicodeDecodeError as error:
            return DataError(
                f"{path}:{line}: not UTF-8 text (byte 0x{text[error.start]:02x}); if it is Windows-1252 or Latin-1, as "
                f"older programs write, {_converted('WINDOWS-1252')}"
            )
    return DataError(f"{path}: not UTF-8 text: it ends inside a character; is it cut off?")


def not_text(path: Path, file: BinaryIO, encoding: str) -> DataError:
    """Which line holds the first bytes that are not of an encoding."""
    file.seek(0)
    head = head_of(file)
    reader, line, piece = codecs.getincrementaldecoder(encoding)(), 1, b""
    begun = reader.getstate()
    try:
        for piece in iter(lambda: file.read(HEAD_BYTES), b""):
            begun = reader.getstate()
            line += reader.decode(piece).count("\n")
        reader.setstate(begun)
        reader.decode(piece, final=True)
    except UnicodeError as error:
        if not isinstance(error, UnicodeDecodeError):  # UTF-16 and UTF-32, which begin with a mark of their order
            big = head[0::2].count(0) > head[1::2].count(0)
            return DataError(
                f"{path}: not {encoding} text, as the description declares: {str(error)[:80]}; name the right `encoding`, "
                f"perhaps {'utf-16-be' if big else 'utf-16-le'}"
            )
        reader.setstate(begun)
        within = _lines_before_error(reader, piece)
        if within is None:
            return DataError(
                f"{path}:{line}: not {encoding} text, as the description declares: it ends inside a character; is it cut off? "
                "Copy the file again, or name the right `encoding`"
            )
        line += within
    return DataError(
        f"{path}:{line}: not {encoding} text, as the description declares: name the right `encoding`, or correct that line"
    )


def _lines_before_error(reader: codecs.IncrementalDecoder, piece: bytes) -> Optional[int]:
    """None where there is no error but at the end of the piece."""
    lines = 0
    try:
        for place in range(len(piece)):
            lines += reader.decode(piece[place : place + 1]) == "\n"
    except UnicodeDecodeError:
        return lines
    return None


def not_csv(error: csv.Error, begun: int) -> str:
    """What is wrong with a record that begins in line `begun`."""
    open_quote = any(words in str(error) for words in ("unexpected end", "field larger"))
    return f"not CSV: {error}" + (f"; is a quotation mark of line {begun} never closed?" if open_quote else "")


def blank(cells: Iterable[str]) -> bool:
    """Whether a row holds nothing, or only the mark with which DOS ended files."""
    return not any(cell.strip().strip("\x1a") for cell in cells)


def other_text(head: bytes, wanted: Sequence[str], first: Sequence[str], columns: int = 0) -> str:
    """Why the first cells of a text are not the wanted columns, or so many values; empty where nothing is recognized."""
    line = ",".join(first).strip()
    if line.startswith("#"):
        return "the first line is a comment; take out what stands before the names of the columns"
    if re.fullmatch(r'"?sep=.?.?"?', line, re.IGNORECASE):
        return "a line for Excel that names the separator; take it out"
    found = marked_up(line)
    if found:
        return found
    if len(first) == 1 and len(set(wanted) & set(_split(first[0].strip(), ","))) > len(set(wanted) & set(first)):
        return f"each line stands in quotation marks as one value; {_SAVE}"
    for separator, name in _SEPARATORS:
        cells = [cell.strip() for cell in _split(line, separator)]
        better = len(set(wanted) & set(cells)) > len(set(wanted) & set(first))
        if better or (columns and columns == len(cells) != len(first)):
            decimals = " and decimals have commas" if _decimal_commas(head, separator) else ""
            return f"values are separated by {name}{decimals}; {_SAVE}"
    return ""


def marked_up(line: str) -> str:
    """What the first line of a text begins that is no table, and the cure; empty where it may be one."""
    if line[:1] in ("[", "{") and re.match(r"[\[{]\s*([\"\[{]|$)", line):
        return f"looks like JSON; {_PANDAS}"
    return f"looks like HTML or XML; {_SAVE}" if line.startswith("<") else ""


def refuse_other_text(path: Path, head: bytes, wanted: Sequence[str]) -> None:
    """Raises DataError where a text of which not even the first line is CSV is recognized."""
    first = head.split(b"\n")[0].decode("utf-8-sig", "replace")
    why = other_text(head, wanted, [first])
    if why:
        raise DataError(f"{path}:1: {why}")


def _split(line: str, separator: str) -> List[str]:
    try:
        return next(csv.reader([line], delimiter=separator), [])
    except csv.Error:
        return []


def _decimal_commas(head: bytes, separator: str) -> bool:
    lines = head.decode("utf-8", "replace").splitlines()[:50]
    cells = (cell.strip() for line in lines for cell in _split(line, separator))
    return any(re.fullmatch(r"[+-]?[\d.]*\d,\d+", cell) for cell in cells)


def wrong_count(cells: Sequence[str], header: Sequence[str]) -> str:
    """Why a row with another number of values than there are columns is invalid, and what to do."""
    expected = (
        f"{len(cells)} values, expected {len(header)} ({', '.join(header[:4])}{', ...' if len(header) > 4 else ''})"
    )
    if len(cells) < len(header):
        return f"{expected}; is the line cut off?"
    if not any(cell.strip() for cell in cells[len(header) :]):
        return f"{expected}; there is a comma too many at its end"
    return f"{expected}; a value with a comma in it (a decimal comma, or text) needs quotation marks"

"""Reads a delimited text file that nobody prepared: its encoding, separator and decimal mark are found out, and said."""

import codecs
import csv
import random
import re
from collections import Counter
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Callable, Dict, Iterator, List, NamedTuple, Sequence, Tuple

from orchestrator.data.cells import shown
from orchestrator.data.formats import HEAD_BYTES, NAMES_AGAIN, blank, marked_up, not_csv, text_format
from orchestrator.errors import DataError
from orchestrator.wire.special_files import open_file

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
MOST_ROWS = 200_000
"""That are looked at; of a longer file so many, drawn at random: files are often sorted."""

MOSTLY = 0.8
"""Share of lines that must have as many values as a first line with # before it, for that to be names and no comment."""

_SAMPLE_LINES = 200
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+", re.ASCII)
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}", re.ASCII)
_NAMED_SEPARATOR = re.compile(r"\ufeff?\"?sep=.\"?", re.IGNORECASE)
COMMAS = "decimals are written with commas"
_SAVE_AS = "export it as CSV (comma-separated, UTF-8), with a first line that names the columns"


class Table(NamedTuple):
    """rows: (line or row of the file, stripped cells), each as long as the header. assumed: what was found out, for people.

    plain: whether nodes read the file as it is: of a text, commas, UTF-8 and points in decimals. total: rows of the file; of many
    `rows` are some drawn at random. every: the cells of all of them, read again. encoding, separator: of a text.
    """

    header: List[str]
    rows: List[Tuple[int, List[str]]]
    decimal_comma: bool
    plain: bool
    assumed: List[str]
    total: int
    every: Callable[[], Iterator[List[str]]]
    encoding: str = ""
    separator: str = ","

    @property
    def share(self) -> float:
        """Of the file's rows that are looked at."""
        return len(self.rows) / self.total

    def column(self, name: str) -> List[str]:
        index = self.header.index(name)
        return [cells[index] for _, cells in self.rows]

    def counts(self, name: str) -> Dict[str, int]:
        """In how many rows each value of a column is, of the whole file: one with many rows is read again."""
        if len(self.rows) == self.total:
            return Counter(self.column(name))
        index = self.header.index(name)
        return Counter(cells[index].strip() for cells in self.every())

    def number(self, cell: str) -> "float | None":
        """The cell as a number; None where it is not one."""
        if self.decimal_comma and _DECIMAL_COMMA.fullmatch(cell):
            cell = cell.replace(",", ".")
        return float(cell) if _NUMBER.fullmatch(cell) else None


def read_delimited(path: Path) -> Table:
    """Raises DataError, with the line, for what is not a table with a header line."""
    encoding, said = _encoding(path)
    try:
        with path.open(newline="", encoding=encoding) as file:
            separator = _separator(path, list(islice(file, _SAMPLE_LINES)))
            file.seek(0)
            header, rows, total = _rows(path, file, separator)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not text in {encoding}: {error.reason}; {_SAVE_AS}") from error
    assumed = [f"values are separated by {SEPARATORS[separator]}", said]
    decimal_comma = separator != "," and decimal_commas(rows)
    if decimal_comma:
        assumed.append(COMMAS)
    assumed += of_drawn(len(rows), total)
    plain = separator == "," and encoding == "utf-8-sig"
    every = partial(_every, path, encoding, separator)
    return Table(header, rows, decimal_comma, plain, assumed, total, every, encoding, separator)


def of_drawn(looked_at: int, total: int) -> List[str]:
    """What is to be said where not all rows are looked at."""
    if total <= looked_at:
        return []
    return [f"{looked_at:,} rows drawn at random were looked at, and what is counted is about so for all"]


def _every(path: Path, encoding: str, separator: str) -> Iterator[List[str]]:
    with path.open(newline="", encoding=encoding) as file:
        yield from islice((row for row in csv.reader(file, delimiter=separator) if not blank(row)), 1, None)


def decimal_commas(rows: List[Tuple[int, List[str]]]) -> bool:
    """Whether numbers with commas are decimals: not where all look like thousands and others have decimal points."""
    commas = points = surely = False
    for _, cells in rows:
        for cell in cells:
            if "," in cell and _DECIMAL_COMMA.fullmatch(cell):
                commas, surely = True, surely or _THOUSANDS.fullmatch(cell) is None
            points = points or ("." in cell and _NUMBER.fullmatch(cell) is not None)
    return surely or (commas and not points)


def both_decimals(cells: Sequence[str]) -> bool:
    """Whether a column has numbers with a decimal comma and others with a point."""
    commas = any("," in cell and _DECIMAL_COMMA.fullmatch(cell) for cell in cells)
    return commas and any("." in cell and _NUMBER.fullmatch(cell) for cell in cells)


def _encoding(path: Path) -> Tuple[str, str]:
    """(codec, what to say of it)."""
    try:
        with open_file(path) as file:
            head = file.read(1 << 20)
            rest = file.read(1) != b""
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    if not head.strip():
        raise DataError(f"{path}: the file is empty")
    other = text_format(head[:HEAD_BYTES])
    if other:
        raise DataError(f"{path}: {other}")
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16", "the text is UTF-16"
    if b"\0" in head:
        raise DataError(f"{path}: not text, such as a spreadsheet or a compressed file; {_SAVE_AS}")
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head, final=not rest)
    except UnicodeDecodeError:
        return "cp1252", "the text is not UTF-8, and was read as Windows-1252"
    return "utf-8-sig", "the text is UTF-8"


def _separator(path: Path, lines: List[str]) -> str:
    """The one that gives most lines as many values as the first has; of several, the one that gives most."""
    if lines and _NAMED_SEPARATOR.fullmatch(lines[0].strip()):
        raise DataError(f"{path}:1: a line for Excel that names the separator; take it out")
    other = marked_up(lines[0].strip().lstrip("\ufeff")) if lines else ""
    if other:
        raise DataError(f"{path}:1: {other}")
    long = next((number for number, line in enumerate(lines, 1) if len(line) > csv.field_size_limit()), 0)
    best, found = (0.0, 1), ""
    for separator in SEPARATORS:
        try:
            widths = [len(cells) for cells in csv.reader(lines, delimiter=separator) if any(map(str.strip, cells))]
        except csv.Error:
            continue  # of the one that is chosen it is reported with its line
        if not widths or widths[0] < 2:
            continue
        score = (round(widths.count(widths[0]) / len(widths), 1), widths[0])
        if score > best:
            best, found = score, separator
    if lines and lines[0].startswith("#") and best[0] < MOSTLY:
        raise DataError(f"{path}:1: a comment; take out what stands before the names of the columns")
    if not found and long:
        raise DataError(f"{path}:{long}: {len(lines[long - 1]):,} characters; is a quotation mark never closed?")
    if not found:
        raise DataError(
            f"{path}: no table is recognized: its lines are not split by {', '.join(SEPARATORS.values())}; {_SAVE_AS}"
        )
    return found


def _rows(path: Path, file: Iterator[str], separator: str) -> Tuple[List[str], List[Tuple[int, List[str]]], int]:
    """(header, rows in the order of the file, how many there are)."""
    header: List[str] = []
    reader = csv.reader(file, delimiter=separator, strict=True)

    def checked() -> Iterator[Tuple[int, List[str]]]:
        begun = 1
        try:
            for cells in reader:
                begun = reader.line_num + 1
                if blank(cells):
                    continue
                if not header:
                    header.extend(checked_header(path, reader.line_num, cells))
                    continue
                cells = [cell.strip() for cell in cells]
                if len(cells) != len(header):
                    raise DataError(
                        f"{path}:{reader.line_num}: {len(cells)} values, the first line names {len(header)} columns"
                    )
                if cells == header:
                    raise DataError(f"{path}:{reader.line_num}: {NAMES_AGAIN}")
                yield reader.line_num, cells
        except csv.Error as error:
            raise DataError(f"{path}:{reader.line_num}: {not_csv(error, begun)}") from error

    rows, total = drawn(checked())
    if not rows:
        raise DataError(f"{path}: no rows under the names of the columns")
    return header, rows, total


def drawn(rows: Iterator[Tuple[int, List[str]]]) -> Tuple[List[Tuple[int, List[str]]], int]:
    """(rows in their order, how many there are). Of more than MOST_ROWS each is as likely to be among them."""
    draw, kept, total = random.Random(MOST_ROWS), [], 0
    for row in rows:
        total += 1
        if total <= MOST_ROWS:
            kept.append(row)
            continue
        place = draw.randrange(total)  # Vitter 1985, algorithm R
        if place < MOST_ROWS:
            kept[place] = row
    return sorted(kept, key=lambda row: row[0]), total


def checked_header(path: Path, line: int, written: List[str]) -> List[str]:
    """The names of the columns, stripped. DataError where they are no names, or one occurs twice."""
    cells = [cell.strip() for cell in written]
    if all(_NUMBER.fullmatch(cell) or not cell for cell in cells):
        raise DataError(
            f"{path}:{line}: the first line holds numbers, not the names of the columns: add a line with these"
        )
    nameless = [str(number) for number, cell in enumerate(cells, 1) if not cell]
    if len(nameless) > 1:
        raise DataError(
            f"{path}:{line}: columns {', '.join(nameless[:10])} have no name; give each one, or take them out"
        )
    twice = sorted(cell for cell, count in Counter(cells).items() if count > 1)
    if twice:
        places = [number for number, cell in enumerate(cells, 1) if cell == twice[0]]
        spaces = ", but for the spaces around it" if len({written[place - 1] for place in places}) > 1 else ""
        raise DataError(
            f"{path}:{line}: column {shown(twice[0])} occurs twice{spaces} (columns {', '.join(map(str, places[:10]))}); every "
            "column needs a name of its own"
        )
    return cells

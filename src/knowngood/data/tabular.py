"""Tables that people give us: one reader for manifests, verdicts, lists of photographs and sample submissions.

It takes what spreadsheets and cameras write: `,` `;` tab or `|` between the cells, a byte-order mark or none, UTF-8,
UTF-16, UTF-32 or a Windows code page, capitals and spaces in the names of columns, quoted cells, empty columns at the
end, decimal commas, and paths with the backslashes and drive letters of Windows.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import itertools
import json
import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

import polars as pl

from knowngood.errors import DataError
from knowngood.tables import read_parquet, unprotected

TABLES = (".csv", ".tsv", ".txt", ".parquet", ".pq")
SPREADSHEETS = (".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".numbers")
SEPARATORS = ",;\t|"
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_PIECE = 1 << 20  # bytes
_NOT_CP1252 = frozenset([0x81, 0x8D, 0x8F, 0x90, 0x9D])  # bytes that this code page does not have
csv.field_size_limit(1 << 24)  # a cell with hundreds of boxes is longer than Python's own limit

# Column names that mean the same, the first that is there counts.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "image": (
        "image", "path", "image_path", "imagepath", "img_path", "filepath", "file_path", "file_name", "filename",
        "file", "image_name", "imagename", "img", "picture", "photo", "photograph", "bild", "datei", "dateiname",
    ),
    "label": ("label", "class", "target", "category", "verdict", "class_name", "klasse", "urteil"),
    "defect": ("defect", "defect_type", "defecttype", "defect_class", "fehlerart"),
    "split": ("split", "subset", "partition"),
    "mask": ("mask", "mask_path", "maskpath", "mask_file", "ground_truth", "gt"),
    "unit": ("unit", "unit_id", "part_id", "serial", "serial_number"),
    "lot": ("lot", "lot_id", "batch_id", "charge"),
    "machine": ("machine", "machine_id", "maschine"),
}  # fmt: skip


@dataclass(frozen=True)
class OpenTable:
    """A table whose rows are read as they are taken.

    Attributes:
        file: Where it lies.
        header: Names of the columns as they stand in the file, stripped.
        columns: The same in lower case, with "_" for spaces and hyphens.
        rows: Cells of each row as text, stripped; None where a cell is empty. As many as there are columns.
    """

    file: Path
    header: tuple[str, ...]
    columns: tuple[str, ...]
    rows: Iterator[list[str | None]]

    def place(self, name: str) -> int | None:
        """Returns which column holds what `SYNONYMS` calls `name`, or None."""
        for word in SYNONYMS.get(name, (name,)):
            if word in self.columns:
                return self.columns.index(word)
        return None

    def needed(self, name: str) -> int:
        """Does what `place` does.

        Raises:
            DataError: There is no such column.
        """
        place = self.place(name)
        if place is None:
            words = SYNONYMS.get(name, (name,))
            raise DataError(
                f"The table {str(self.file)!r} has no column {' or '.join(words[:2])}; "
                f"its columns are {', '.join(self.header)}.",
                expected=f"a header row with a column that is called {', '.join(words)}",
                fix=f"Rename the column to {name}, or look whether the first row is the header.",
            )
        return place


def is_table(path: Path) -> bool:
    """Returns whether a file is a table by its ending; a .txt only when its first line names a column of images."""
    ending = path.suffix.lower()
    if ending in SPREADSHEETS:
        return True
    if ending != ".txt":
        return ending in TABLES
    try:
        table = open_table(path)
    except (DataError, OSError):
        return False
    return len(table.columns) > 1 and table.place("image") is not None


def open_table(file: Path) -> OpenTable:
    """Opens a table and reads its header.

    Args:
        file: .csv, .tsv, .txt, .parquet or .pq; any other file is read as text.

    Raises:
        DataError: It cannot be read, is a spreadsheet, is empty, or names two columns alike. Taking rows raises it too,
            when a row has more cells than the header.
    """
    ending = file.suffix.lower()
    if ending in SPREADSHEETS:
        raise DataError(
            f"{str(file)!r} is a spreadsheet, which is not read.",
            expected="a table as text, or Parquet",
            fix='Save it as "CSV UTF-8" and give that file.',
        )
    header, rows = _parquet(file) if ending in (".parquet", ".pq") else _text(file)
    shown = [name.strip() for name in header]
    while shown and not shown[-1]:  # a separator at the end of every line
        shown.pop()
    columns = [_column(name) for name in shown]
    twice = next((name for name in columns if name and columns.count(name) > 1), None)
    if twice is not None:
        called = [name for name in shown if _column(name) == twice]
        raise DataError(
            f"{str(file)!r} has two columns {twice!r} ({', '.join(map(repr, called))}); "
            f"its columns are {', '.join(shown)}.",
            fix="Remove or rename one of them.",
        )
    if not any(columns):
        raise DataError(
            f"{str(file)!r} cannot be read as a table: it has no header.",
            expected="a first row with the names of the columns",
        )
    return OpenTable(file, tuple(shown), tuple(columns), _cleaned(rows, len(shown), file))


def read_frame(file: Path) -> pl.DataFrame:
    """Reads a whole table.

    Returns:
        Text columns, named as in `OpenTable.columns`; null where a cell is empty.

    Raises:
        DataError: As `open_table`.
    """
    table = open_table(file)
    rows = list(table.rows)
    named = [(name, place) for place, name in enumerate(table.columns) if name]
    return pl.DataFrame({name: pl.Series([row[place] for row in rows], dtype=pl.String) for name, place in named})


def number_of(text: str) -> float:
    """Reads a number that may have a decimal comma.

    Raises:
        ValueError: It is none.
    """
    text = text.strip()
    return float(text.replace(",", ".") if text.count(",") == 1 and "." not in text else text)


def located(text: str, folder: Path) -> str:
    """Returns the absolute path of a file that a table in `folder` names, also when it was written on Windows.

    A path that is not there as it stands is looked for with its backslashes as separators, then, where it begins with a
    drive, by its last parts below `folder`.
    """
    plain = os.path.normpath(folder / text)
    if "\\" not in text or os.path.lexists(plain):
        return plain
    windows = PureWindowsPath(text)
    parts = [part for part in windows.parts if part != windows.anchor]
    if not windows.anchor:
        return os.path.normpath(folder.joinpath(*parts))
    for start in range(len(parts)):
        there = folder.joinpath(*parts[start:])
        if there.exists():
            return os.path.normpath(there)
    return os.path.normpath(folder.joinpath(*parts))


def same_names(names: Sequence[str], known: Collection[str]) -> list[str]:
    """Returns names of images as a set calls them: as they stand, else with the backslashes of Windows turned."""
    return [name if name in known else name.replace("\\", "/") for name in names]


def _column(name: str) -> str:
    return re.sub(r"[\s\-]+", "_", name.strip().lower())


def _cleaned(rows: Iterator[Sequence[str | None]], width: int, file: Path) -> Iterator[list[str | None]]:
    for number, row in enumerate(rows, 2):
        cells = [None if cell is None else unprotected(cell.strip()) or None for cell in row]
        if any(cell is not None for cell in cells[width:]):
            raise DataError(
                f"Row {number} of {str(file)!r} has {len(cells)} cells, the header {width} (the header is row 1).",
                expected="as many cells in a row as there are columns",
                fix="Put cells that hold the separator into quotation marks.",
            )
        if any(cell is not None for cell in cells):
            yield [*cells[:width], *[None] * (width - len(cells))]


def _parquet(file: Path) -> tuple[list[str], Iterator[Sequence[str | None]]]:
    try:
        frame = read_parquet(file)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise _unreadable(file, str(error).splitlines()[0]) from error
    series = []
    for column in frame.get_columns():
        if isinstance(column.dtype, pl.List | pl.Array):
            cells = [None if value is None else json.dumps(value) for value in column.to_list()]
            series.append(pl.Series(column.name, cells, dtype=pl.String))
        elif not column.dtype.is_nested() and column.dtype != pl.Binary:  # nothing that is read has such a type
            with contextlib.suppress(pl.exceptions.PolarsError):  # nor one that has no text, such as a duration
                series.append(column.cast(pl.String))
    text = pl.DataFrame(series)
    return text.columns, text.iter_rows()


def _text(file: Path) -> tuple[list[str], Iterator[Sequence[str | None]]]:
    try:
        encoding = _encoding(file)
        lines = _lines(file, encoding)
        first = next((line for line in lines if line.strip("\r\n ,;|\t")), "")
        separator = None
        if re.match(r"sep=.\s*$", first, re.IGNORECASE):  # Excel's own first line
            separator, first = first[4], next(lines, "")
        separator = separator or _separator(first)
        rows = csv.reader(itertools.chain([first], lines), delimiter=separator)
        header = next(rows, [])
    except (OSError, UnicodeError, csv.Error) as error:
        raise _unreadable(file, str(error)) from error
    if "\0" in "".join(header):
        raise _unreadable(file, "it holds bytes that are no text")
    return header, _guarded(rows, file)


def _guarded(rows: Iterator[list[str]], file: Path) -> Iterator[Sequence[str | None]]:
    try:
        yield from rows
    except (OSError, UnicodeError, csv.Error) as error:
        raise _unreadable(file, str(error)) from error


def _lines(file: Path, encoding: str) -> Iterator[str]:
    with file.open(encoding=encoding, newline="") as handle:
        yield from handle


def _separator(header: str) -> str:
    """Returns what stands most often between the names of the columns, outside of quotation marks."""
    bare = re.sub(r'"[^"]*"', "", header)
    return max(SEPARATORS, key=bare.count)


def _encoding(file: Path) -> str:
    """Returns how a text file is encoded: by its mark, by the zeros of UTF-16, as UTF-8, else as Windows has it."""
    with file.open("rb") as handle:
        head = handle.read(4096)
        for mark, name in _BOMS:
            if head.startswith(mark):
                return name
        zeros = [head[0::2].count(0), head[1::2].count(0)]
        if len(head) >= 4 and max(zeros) > 0.3 * (len(head) // 2) and min(zeros) <= 0.05 * (len(head) // 2):
            return "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
        decoder, piece, is_utf8, windows = codecs.getincrementaldecoder("utf-8")(), head, True, True
        while True:
            try:
                if is_utf8:
                    decoder.decode(piece, final=not piece)
            except UnicodeDecodeError:
                is_utf8 = False
            windows = windows and not _NOT_CP1252.intersection(piece)
            if not piece:
                break
            piece = handle.read(_PIECE)
    return "utf-8" if is_utf8 else "cp1252" if windows else "latin-1"


def _unreadable(file: Path, why: str) -> DataError:
    return DataError(
        f"{str(file)!r} cannot be read as a table: {why}.",
        expected="CSV with a header row (separated by , ; | or tab), or Parquet",
        fix='Save it again as "CSV UTF-8".',
    )

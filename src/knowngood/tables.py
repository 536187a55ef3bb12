"""Tables on disk, whole or not at all."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl

from knowngood.files import whole_file

PIECE = 4096  # rows of CSV that are text at once
_MOST_ROWS = 10**10  # of a Parquet file that is read at all
_MOST_BYTES = 1 << 31  # of one page, unpacked
_MOST_WORDS = 1 << 24  # of a dictionary page
_HEAD = 1 << 16  # bytes of a page header at most
_FORMULA = r"^'*[=+\-@\t\r]"  # what a spreadsheet would compute, or what was protected from that
_PROTECTED = re.compile(r"'+[=+\-@\t\r]")


def read_parquet(file: Path) -> pl.DataFrame:
    """Returns a table that anybody may have written.

    Raises:
        OSError: It cannot be opened.
        polars.exceptions.PolarsError: It is no Parquet, or damaged; also where polars itself panics at it.
    """
    try:
        check_parquet(file)
        return pl.read_parquet(file)
    except (ValueError, LookupError, TypeError, AttributeError, struct.error, RecursionError) as error:
        raise pl.exceptions.ComputeError(f"its bytes are damaged ({error})") from error
    except pl.exceptions.PanicException as error:  # no Exception of Python's, so that nobody would catch it
        raise pl.exceptions.ComputeError("its bytes are damaged") from error


def check_parquet(file: Path) -> None:
    """Compares the numbers that a Parquet file claims with each other, before polars makes room for them.

    polars takes the numbers in page headers at their word: a file of four kilobytes can ask for 2^61 bytes, and the
    process then ends without an exception. The footer and every page header are read; no values are.

    Args:
        file: Its bytes may be anything.

    Raises:
        OSError: It cannot be opened.
        ValueError: It claims more values than rows allow, or pages that do not lie in it.
        LookupError, TypeError, AttributeError, struct.error, RecursionError: Its headers are damaged otherwise.

    Reference:
        Apache Parquet, parquet.thrift: FileMetaData (2 schema, 3 num_rows, 4 row_groups), RowGroup (1 columns,
        3 num_rows), ColumnChunk (3 meta_data), ColumnMetaData (5 num_values, 7 total_compressed_size,
        9 data_page_offset, 11 dictionary_page_offset), PageHeader (1 type, 2 uncompressed size, 3 compressed size,
        5 data page, 7 dictionary page, 8 data page of version 2; num_values is their field 1).
    """
    with file.open("rb") as handle:
        size = handle.seek(0, io.SEEK_END)
        handle.seek(max(0, size - 8))
        tail = handle.read(8)
        if size < 12 or tail[4:] != b"PAR1":
            raise ValueError("it has no end as Parquet has it")
        length = int.from_bytes(tail[:4], "little")
        if length > size - 12:
            raise ValueError("its footer is longer than the file")
        handle.seek(size - 8 - length)
        footer = _Thrift(handle.read(length)).struct()
        rows = 0
        for group in footer.get(4, ()):
            rows += group.get(3, -1)
            for column in group.get(1, ()):
                facts = column.get(3)
                if facts is None or not 0 <= group.get(3, -1) <= _MOST_ROWS or not 0 <= facts[5] <= _MOST_ROWS:
                    raise ValueError("the numbers of its rows and values are impossible")
                _check_pages(handle, facts, size)
        if rows != footer.get(3):
            raise ValueError("its row groups have another number of rows than the file")


def _check_pages(handle: BinaryIO, facts: dict[int, Any], size: int) -> None:
    """Looks at the header of every page of one column chunk."""
    at = min(facts[9], facts.get(11, facts[9]))
    if not 4 <= at <= size or not 0 <= facts[7] <= size - at:
        raise ValueError("a column does not lie in the file")
    end, values = at + facts[7], 0
    while at < end:
        handle.seek(at)
        reader = _Thrift(handle.read(_HEAD))
        page = reader.struct()
        packed, unpacked = page[3], page[2]
        held = page.get(5) or page.get(8) or page.get(7) or {1: 0}
        at += reader.at + packed
        if packed < 0 or at > end or not 0 <= unpacked <= _MOST_BYTES or not 0 <= held[1] <= facts[5] + _MOST_WORDS:
            raise ValueError("a page is larger than its column")
        if 7 not in page:
            values += held[1]
    if values != facts[5]:
        raise ValueError("its pages have another number of values than their column")


class _Thrift:
    """Reads structures of Thrift's compact protocol as dictionaries from field number to value."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def struct(self) -> dict[int, Any]:
        found: dict[int, Any] = {}
        number = 0
        while kind := self._byte():
            number = number + (kind >> 4) if kind >> 4 else self._zigzag()
            found[number] = self._value(kind & 15)
        return found

    def _byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 63:
                raise ValueError("a number in it is too long")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _value(self, kind: int) -> Any:
        if kind in (1, 2):
            return kind == 1
        if kind == 3:
            return self._byte()
        if kind in (4, 5, 6):
            return self._zigzag()
        if kind == 7:
            self.at += 8
            return struct.unpack_from("<d", self.data, self.at - 8)[0]
        if kind == 8:
            length = self._varint()
            self.at += length
            if self.at > len(self.data):
                raise ValueError("a text in it is longer than the file")
            return self.data[self.at - length : self.at]
        if kind in (9, 10):
            head = self._byte()
            count = head >> 4 if head >> 4 < 15 else self._varint()
            if count > len(self.data):
                raise ValueError("a list in it is longer than the file")
            inner = head & 15
            return [self._byte() == 1 if inner in (1, 2) else self._value(inner) for _ in range(count)]
        if kind == 11:
            count = self._varint()
            if count > len(self.data):
                raise ValueError("a list in it is longer than the file")
            kinds = self._byte() if count else 0
            return {str(self._value(kinds >> 4)): self._value(kinds & 15) for _ in range(count)}
        if kind == 12:
            return self.struct()
        raise ValueError("a value in it is of no known type")


def write_table(frame: pl.DataFrame, target: Path, *, protect: bool = True) -> None:
    """Writes a table whole, as CSV if `target` ends in .csv, else as Parquet.

    Args:
        frame: Any table.
        target: File to write.
        protect: In CSV, put an apostrophe before text that a spreadsheet would take for a formula (it begins with
            =, +, - or @); `knowngood.data.tabular` takes it away again. Numbers stay as they are.

    Raises:
        StorageError: It cannot be written; what was there before is unchanged.
    """
    csv = target.suffix.lower() == ".csv"
    with whole_file(target) as scratch, scratch.open("wb") as handle:
        for encoded in _encoded(protected(frame) if csv and protect else frame, csv):
            handle.write(encoded.getbuffer())


def protected(frame: pl.DataFrame) -> pl.DataFrame:
    """Returns the table with an apostrophe before every text cell that a spreadsheet would compute."""
    texts = [name for name, dtype in frame.schema.items() if dtype == pl.String]
    return frame.with_columns(
        pl.when(pl.col(name).str.contains(_FORMULA)).then(pl.concat_str(pl.lit("'"), pl.col(name)))
        .otherwise(pl.col(name)).alias(name)
        for name in texts
    )  # fmt: skip


def protected_text(text: str) -> str:
    """Returns one cell as `protected` writes it."""
    return f"'{text}" if re.match(_FORMULA, text) else text


def unprotected(text: str) -> str:
    """Returns a cell as it was before `protected`."""
    return text[1:] if _PROTECTED.match(text) else text


def _encoded(frame: pl.DataFrame, csv: bool) -> Iterator[io.BytesIO]:
    """Yields a table's bytes; polars, writing to the disk itself, says of a full one "invalid thrift"."""
    if not csv:
        encoded = io.BytesIO()
        frame.write_parquet(encoded)
        yield encoded
        return
    for start in range(0, max(1, len(frame)), PIECE):  # a piece at a time: the text is as large as the table
        encoded = io.BytesIO()
        frame.slice(start, PIECE).write_csv(encoded, include_header=start == 0)
        yield encoded

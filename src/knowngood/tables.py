"""Tables on disk, whole or not at all."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from knowngood.files import whole_file

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for the beginning of a formula
PIECE = 4096  # rows of CSV that are text at once


def write_table(frame: pl.DataFrame, target: Path) -> None:
    """Writes a table whole, as CSV if `target` ends in .csv, else as Parquet.

    Raises:
        StorageError: It cannot be written; what was there before is unchanged.
    """
    with whole_file(target) as scratch, scratch.open("wb") as handle:
        for encoded in _encoded(frame, target.suffix.lower() == ".csv"):
            handle.write(encoded.getbuffer())


def guarded_cell(text: str) -> str:
    """Returns a cell of a CSV that no spreadsheet takes for a formula: with a ' before it where it looks like one."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def plain_cell(text: str) -> str:
    """Returns what was given to `guarded_cell`."""
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA) else text


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

"""Tables on disk, whole or not at all."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from knowngood.files import whole_file

_FORMULA = r"^'*[=+\-@\t\r]"  # what a spreadsheet would compute, or what was protected from that
_PROTECTED = re.compile(r"'+[=+\-@\t\r]")
PIECE = 4096  # rows of CSV that are text at once


def write_table(frame: pl.DataFrame, target: Path) -> None:
    """Writes a table whole, as CSV if `target` ends in .csv, else as Parquet.

    Raises:
        StorageError: It cannot be written; what was there before is unchanged.
    """
    with whole_file(target) as scratch, scratch.open("wb") as handle:
        for encoded in _encoded(frame, target.suffix.lower() == ".csv"):
            handle.write(encoded.getbuffer())


def protected_text(text: str) -> str:
    """Returns a cell of a CSV with an apostrophe before it where a spreadsheet would compute it."""
    return f"'{text}" if re.match(_FORMULA, text) else text


def unprotected(text: str) -> str:
    """Returns a cell as it was before `protected_text`."""
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

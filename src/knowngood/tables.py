"""Tables on disk, whole or not at all."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from knowngood.files import whole_file

PIECE = 4096  # rows of CSV that are text at once
_FORMULA = r"^'*[=+\-@\t\r]"  # what a spreadsheet would compute, or what was protected from that
_PROTECTED = re.compile(r"'+[=+\-@\t\r]")


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

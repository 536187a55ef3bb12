"""The `manifest` source: one CSV or Parquet table that names the images and says what they are."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl

from knowngood.data.records import BAD, GOOD, table
from knowngood.data.sources import Listing
from knowngood.data.sources.walking import defect_of, is_good_name, split_of
from knowngood.errors import DataError
from knowngood.tables import unprotected

_LABELS = {
    **dict.fromkeys(("good", "ok", "pass", "0", "0.0"), GOOD),
    **dict.fromkeys(("bad", "ng", "nok", "fail", "1", "1.0"), BAD),
}
_TRUTH = {
    **dict.fromkeys(("true", "yes", "1", "1.0"), True),
    **dict.fromkeys(("false", "no", "0", "0.0"), False),
}
_PLAIN = ("lot", "machine", "product")
_NAMES = ("manifest.csv", "manifest.parquet")
ABOUT = "about.json"
_SUFFIXES = (".csv", ".tsv", ".parquet", ".pq")


class ManifestSource:
    """Reads `image,label` and the optional columns defect, split, lot, machine, product, mask, box,
    probability, generated, made_from, also_from, known_as; every other column is ignored.

    A file about.json beside the table may hold `licence` and `notes`: what the reader of the set should know.
    """

    summary = "a CSV or Parquet file with the columns image,label and optional defect,split,lot,mask,box ..."

    def recognises(self, path: Path) -> bool:
        """Says whether `path` is a table, or a folder with manifest.csv or manifest.parquet."""
        if path.is_dir():
            return any((path / name).is_file() for name in _NAMES)
        return path.suffix.lower() in _SUFFIXES and path.is_file()

    def read(self, path: Path) -> Listing:
        """Reads the table; a missing image file becomes a row with an error later, not an error here.

        Raises:
            DataError: The table cannot be read, lacks a column, or holds a value that means nothing.
        """
        file = _file_of(path)
        raw = _normalised(_read_table(file), file)
        cells = _Cells(raw, file)
        folder = file.parent.absolute()
        names = _names(cells, folder)
        columns: dict[str, list[object]] = {
            "image": list(names),
            "path": cells.each("image", lambda text: os.path.normpath(folder / text), "a path", True),
            "label": cells.each("label", lambda text: _LABELS[text.lower()], "good or bad (ok, ng, 0, 1)"),
            "split": cells.each("split", _split, "train, val, calibration or test"),
            "mask": cells.each("mask", lambda text: os.path.normpath(folder / text), "the path of a mask"),
            "probability": cells.each("probability", _probability, "a number from 0 to 1"),
            "generated": cells.each("generated", lambda text: _TRUTH[text.lower()], "true or false"),
            "made_from": _made_from(cells, names),
            "also_from": cells.each("also_from", _names_in, '["image", ...]'),
            "box": cells.each("box", parse_boxes, "[[x0, y0, x1, y1], ...] or x0,y0,x1,y1 in pixels, x0<x1, y0<y1"),
            **{name: cells.each(name, str, "text") for name in _PLAIN},
        }
        columns["defect"] = _defects(cells, columns["label"])
        licence, notes = _about(folder)
        return Listing(table(columns), licence, notes, root=folder)


class _Cells:
    """The table's cells as text, and how to complain about one of them."""

    def __init__(self, raw: pl.DataFrame, file: Path) -> None:
        self.raw, self.file = raw, file

    def text(self, name: str) -> list[str | None]:
        if name not in self.raw.columns:
            return [None] * self.raw.height
        return [unprotected(text.strip()) or None if text else None for text in self.raw[name].to_list()]

    def each(self, name: str, parse: Callable[[str], object], expected: str, required: bool = False) -> list[object]:
        values: list[object] = []
        for row, text in enumerate(self.text(name)):
            try:
                if text is None and required:
                    raise ValueError
                values.append(None if text is None else parse(text))
            except (ValueError, KeyError, TypeError) as error:
                raise self.complaint(row, name, text, expected) from error
        return values

    def complaint(self, row: int, name: str, text: str | None, expected: str) -> DataError:
        shown = "is empty" if text is None else f"holds {text!r}"
        return DataError(
            f"Column {name!r} of row {row + 2} of {str(self.file)!r} {shown} (the header is row 1).",
            expected=expected,
            fix="Correct that cell.",
        )


def parse_boxes(text: str) -> list[list[float]]:
    """Reads defect boxes from one cell.

    Args:
        text: "[[x0, y0, x1, y1], ...]", "[x0, y0, x1, y1]" or "x0,y0,x1,y1"; pixels, half-open.

    Returns:
        One list of four numbers a box; empty for "[]".

    Raises:
        ValueError: It is something else, or a box is empty or turned inside out.
    """
    value = json.loads(text if text.lstrip().startswith("[") else f"[{text}]")
    boxes = [value] if value and not isinstance(value[0], list) else value
    result = [[float(number) for number in box] for box in boxes]
    for box in result:
        if len(box) != 4 or not all(map(math.isfinite, box)) or box[0] >= box[2] or box[1] >= box[3]:
            raise ValueError(f"not a box: {box}")
    return result


def _file_of(path: Path) -> Path:
    if not path.is_dir():
        return path
    there = [path / name for name in _NAMES if (path / name).is_file()]
    if len(there) != 1:
        seen = "both manifest.csv and manifest.parquet" if there else "neither manifest.csv nor manifest.parquet"
        raise DataError(f"{str(path)!r} holds {seen}.", fix="Name the table itself instead of its folder.")
    return there[0]


def _about(folder: Path) -> tuple[str | None, tuple[str, ...]]:
    """Returns the licence and the notes that stand beside a table; a file that is about something else says nothing."""
    try:
        told = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None, ()
    licence, notes = (told.get("licence"), told.get("notes")) if isinstance(told, dict) else (None, None)
    sentences = tuple(map(str, notes)) if isinstance(notes, list) else ()
    return (licence if isinstance(licence, str) else None), sentences


def _read_table(file: Path) -> pl.DataFrame:
    try:
        if file.suffix.lower() in (".parquet", ".pq"):
            return pl.read_parquet(file)
        with file.open("rb") as handle:
            header = handle.readline(1 << 16).removeprefix(b"\xef\xbb\xbf")
        separator = max(",;\t", key=lambda mark: header.count(mark.encode()))  # some Excels write ";"
        return pl.read_csv(file, infer_schema=False, separator=separator)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(
            f"{str(file)!r} cannot be read as a table: {str(error).splitlines()[0]}.",
            expected="CSV in UTF-8 with a header row, or Parquet",
            fix='Save it again as "CSV UTF-8".',
        ) from error


def _normalised(raw: pl.DataFrame, file: Path) -> pl.DataFrame:
    """Brings names to lower case and cells to text, and looks for the two needed columns."""
    names = [name.strip().lower() for name in raw.columns]
    twice = sorted({name for name in names if names.count(name) > 1})
    missing = [name for name in ("image", "label") if name not in names]
    if twice or missing:
        problem = f"has two columns {twice[0]!r}" if twice else f"has no column {' and no column '.join(missing)}"
        raise DataError(
            f"{str(file)!r} {problem}; its columns are {', '.join(raw.columns)}.",
            expected="the columns image,label and any of defect,split,lot,machine,product,mask,box,"
            "probability,generated,made_from,also_from,known_as",
        )
    if not raw.height:
        raise DataError(f"{str(file)!r} has a header but no rows.", expected="one row an image")
    series = []
    for column, name in zip(raw.get_columns(), names, strict=True):
        if isinstance(column.dtype, pl.List | pl.Array):
            cells = [None if v is None else json.dumps(v) for v in column.to_list()]
            series.append(pl.Series(name, cells, dtype=pl.String))
        elif column.dtype.is_nested() or column.dtype == pl.Binary:
            continue  # nothing that we read is of such a type
        else:
            series.append(column.cast(pl.String).alias(name))
    return pl.DataFrame(series)


def _image_name(text: str, folder: Path) -> str:
    path = Path(os.path.normpath(folder / text))
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()


def _names(cells: _Cells, folder: Path) -> list[str]:
    """Returns what the images are called: their column known_as, else their path below the folder."""
    paths = cells.each("image", lambda text: _image_name(text, folder), "the path of an image", True)
    return [known or str(path) for known, path in zip(cells.text("known_as"), paths, strict=True)]


def _made_from(cells: _Cells, names: list[str]) -> list[object]:
    """Returns the names of the images that generated ones were made from, which may be given as in column image."""
    called = {text: name for text, name in zip(cells.text("image"), names, strict=True) if text}
    return [None if text is None else called.get(text, text) for text in cells.text("made_from")]


def _names_in(text: str) -> list[str]:
    value = json.loads(text)
    if not isinstance(value, list):
        raise ValueError
    return [str(name) for name in value]


def _split(text: str) -> str:
    split = split_of(text)
    if split is None:
        raise ValueError
    return split


def _probability(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError
    return value


def _defects(cells: _Cells, labels: Sequence[object]) -> list[object]:
    defects: list[object] = []
    for row, (text, label) in enumerate(zip(cells.text("defect"), labels, strict=True)):
        none = text is None or is_good_name(text) or text.lower() == "none"
        if not none and label == GOOD:
            raise cells.complaint(row, "defect", text, "no defect in a row whose label is good")
        defects.append(None if none or text is None else defect_of(text))
    return defects

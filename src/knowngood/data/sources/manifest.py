"""The `manifest` source: one CSV or Parquet table that names the images and says what they are."""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from knowngood.data.pages import is_tiff, pages_of
from knowngood.data.records import BAD, GOOD, FolderFact, table
from knowngood.data.sources import Listing
from knowngood.data.tabular import OpenTable, is_table, located, number_of, open_table
from knowngood.data.words import LabelNames, defect_of, is_good_name, meaning_of, split_of
from knowngood.errors import DataError

_TRUTH = {
    **dict.fromkeys(("true", "yes", "1", "1.0"), True),
    **dict.fromkeys(("false", "no", "0", "0.0"), False),
}
_NUMBERS = {"true": BAD, "false": GOOD}  # of a column that says whether a unit is bad, as 1 and 0 do
_NO_LABEL = ("nan", "null", "n/a", "na", "-", "?")
_PLAIN = ("lot", "unit", "machine", "product")
_NAMES = ("manifest.csv", "manifest.parquet")
ABOUT = "about.json"


class ManifestSource:
    """Reads `image,label` and the optional columns defect, split, lot, unit, machine, product, mask, box,
    probability, generated, made_from, also_from, known_as; every other column is ignored.

    Columns may have the other names of `knowngood.data.tabular.SYNONYMS`, and labels may be any words that
    `knowngood.data.words` knows, as 0 and 1, or as false and true (1 and true are bad). A file about.json beside the
    table may hold `licence` and `notes`: what the reader of the set should know.
    """

    summary = "a CSV or Parquet file with the columns image,label and optional defect,split,lot,mask,box ..."

    def __init__(self) -> None:
        self.names = LabelNames()

    def recognises(self, path: Path) -> bool:
        """Returns whether `path` is a table, or a folder with manifest.csv or manifest.parquet."""
        if path.is_dir():
            return any((path / name).is_file() for name in _NAMES)
        return path.is_file() and is_table(path)

    def read(self, path: Path) -> Listing:
        """Reads the table; a missing image file becomes a row with an error later, not an error here.

        Raises:
            DataError: The table cannot be read, lacks a column, or holds a value that means nothing.
        """
        file = _file_of(path)
        cells = _Cells(open_table(file))
        folder = Path(os.path.abspath(file.parent))  # without .., so that ../set and /here/set name images alike
        names = _names(cells, folder)
        labels = _Labels(cells, self.names)
        columns: dict[str, list[object]] = {
            "image": list(names),
            "path": cells.each("image", lambda text: located(text, folder), "a path", True),
            "label": labels.values,
            "split": cells.each("split", _split, "train, val, calibration or test"),
            "mask": cells.each("mask", lambda text: located(text, folder), "the path of a mask"),
            "probability": cells.each("probability", _probability, "a number from 0 to 1"),
            "generated": cells.each("generated", lambda text: _TRUTH[text.lower()], "true or false"),
            "made_from": _made_from(cells, names),
            "also_from": cells.each("also_from", _names_in, '["image", ...]'),
            "box": cells.each("box", parse_boxes, "[[x0, y0, x1, y1], ...] or x0,y0,x1,y1 in pixels, x0<x1, y0<y1"),
            **{name: cells.each(name, str, "text") for name in _PLAIN},
        }
        columns["defect"] = _defects(cells, columns["label"], labels)
        licence, notes = _about(folder)
        facts = labels.facts(columns["defect"], columns["mask"])
        notes = (*notes, *labels.guesses(), *_without_page(columns["path"]))
        return Listing(table(columns), licence, notes, root=folder, folders=facts)


def column_of(path: Path, name: str, rows: int) -> list[str | None] | None:
    """Returns the cells of any column of a manifest; None where there is no manifest with so many rows and that column.

    Args:
        path: Table, or folder that holds one.
        name: Of the column, in any case.
        rows: How many the manifest has.
    """
    source = ManifestSource()
    if not source.recognises(path):
        return None
    cells = _Cells(open_table(_file_of(path)))
    column = name.strip().lower().replace(" ", "_").replace("-", "_")
    return cells.text(column) if column in cells.table.columns and len(cells.rows) == rows else None


class _Cells:
    """The table's cells as text, and how to complain about one of them.

    Raises:
        DataError: One of the two needed columns is missing, or there are no rows.
    """

    def __init__(self, table: OpenTable) -> None:
        self.table, self.file = table, table.file
        table.needed("image"), table.needed("label")
        self.rows = list(table.rows)
        if not self.rows:
            raise DataError(f"{str(self.file)!r} has a header but no rows.", expected="one row an image")

    def text(self, name: str) -> list[str | None]:
        place = self.table.place(name)
        return [None if place is None else row[place] for row in self.rows]

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
        place = self.table.place(name)
        name = name if place is None else self.table.columns[place]
        return DataError(
            f"Column {name!r} of row {row + 2} of {str(self.file)!r} {shown} (the header is row 1).",
            expected=expected,
            fix="Correct that cell.",
        )


class _Labels:
    """The labels of a table's rows, and how each value was read.

    Attributes:
        values: (N,) GOOD, BAD or None.
    """

    def __init__(self, cells: _Cells, names: LabelNames) -> None:
        self.names, self.decided = names, dict[str, tuple[int | None, str]]()
        self.texts = cells.text("label")
        self.values: list[object] = []
        for row, text in enumerate(self.texts):
            if text is not None and text not in self.decided:
                found = self._of(text)
                if found is None:
                    raise self._complaint(cells, row, text)
                self.decided[text] = found
            self.values.append(None if text is None else self.decided[text][0])
        unused = names.unused()
        if unused:
            raise DataError(
                f"No label in {str(cells.file)!r} is {unused[0]!r}, as --good or --bad says.",
                expected=f"one of {', '.join(map(repr, sorted(self.decided)[:20]))}",
                fix="Check the spelling.",
            )

    def _of(self, text: str) -> tuple[int | None, str] | None:
        given = self.names.label_of(text)
        if given is not None:
            return (GOOD if given == "good" else BAD), f"--{given}"
        if text.lower() in _NUMBERS:
            return _NUMBERS[text.lower()], "its value (true is bad)"
        if text.lower() in _NO_LABEL:
            return None, "its value"
        try:
            number = number_of(text)
        except ValueError:
            pass
        else:
            return (int(number), "its value (1 is bad)") if number in (GOOD, BAD) else None
        meaning = meaning_of(text)
        if meaning.kind in ("good", "bad", "unlabelled"):
            label = {"good": GOOD, "bad": BAD}.get(meaning.kind)
            return label, "its value" if meaning.sure else f"guessed: {meaning.why}"
        if self.names.good and meaning.kind is None:
            return BAD, "not among --good"
        return None

    def _complaint(self, cells: _Cells, row: int, text: str) -> DataError:
        error = cells.complaint(
            row, "label", text, "good or bad, in any usual words (ok, ng, pass, fail ...), or 0 and 1"
        )
        return DataError(
            error.what, expected=error.expected, fix=f"Say what it means: --good {text!r} or --bad {text!r}."
        )

    def defect_of(self, row: int) -> str | None:
        """Returns what the label of a bad row says of its defect, where it says more than that it is bad."""
        text = self.texts[row]
        if text is None or self.decided[text][1].startswith("its value"):
            return None
        defect = defect_of(text)
        return None if defect == "bad" else defect

    def facts(self, defects: Sequence[object], masks: Sequence[object]) -> tuple[FolderFact, ...]:
        """Returns what each value of the column was taken for."""
        images: Counter[str] = Counter(text or "" for text in self.texts)
        having: Counter[str] = Counter(t or "" for t, mask in zip(self.texts, masks, strict=True) if mask is not None)
        kinds: dict[str, set[object]] = {}
        for text, defect in zip(self.texts, defects, strict=True):
            kinds.setdefault(text or "", set()).add(defect)
        facts = []
        for text, count in images.items():
            label, decided = self.decided.get(text, (None, "the cell is empty"))
            named = ", ".join(sorted(str(kind) for kind in kinds[text] if kind is not None)[:4]) or "bad"
            shown = "unlabelled" if label is None else "good" if label == GOOD else f"bad: {named}"
            facts.append(FolderFact(text, shown, count, having[text], decided))
        return tuple(facts)

    def guesses(self) -> list[str]:
        """Returns a sentence for each value that was only guessed."""
        words = {GOOD: "good", BAD: "bad", None: "unlabelled"}
        return [
            f"The label {text!r} is taken as {words[label]}, which is guessed ({how.removeprefix('guessed: ')}); "
            "--good or --bad says otherwise."
            for text, (label, how) in self.decided.items()
            if how.startswith("guessed")
        ]


def parse_boxes(text: str) -> list[list[float]]:
    """Reads defect boxes from one cell.

    Args:
        text: "[[x0, y0, x1, y1], ...]", "[x0, y0, x1, y1]" or "x0,y0,x1,y1"; pixels, half-open. Four numbers may also
            be separated by ";" or spaces, and then have decimal commas.

    Returns:
        One list of four numbers a box; empty for "[]".

    Raises:
        ValueError: It is something else, or a box is empty or turned inside out.
    """
    text = text.strip()
    loose = [part for part in re.split(r"[;\s]+", text) if part]
    if not text.startswith("[") and len(loose) == 4 and not any(part.endswith(",") for part in loose):
        value: Any = [number_of(part) for part in loose]
    else:
        value = _json(text if text.startswith("[") else f"[{text}]")
    boxes = [value] if value and not isinstance(value[0], list) else value
    try:
        result = [[float(number) for number in box] for box in boxes]
    except OverflowError as error:
        raise ValueError("not a box: a number is too large") from error
    for box in result:
        if len(box) != 4 or not all(map(math.isfinite, box)) or box[0] >= box[2] or box[1] >= box[3]:
            raise ValueError(f"not a box: {box}")
    return result


def _without_page(paths: list[object]) -> tuple[str, ...]:
    """Returns a remark on TIFF files of several pages of which a table names none."""
    several = [path for path in map(str, paths) if is_tiff(path) and pages_of(Path(path))[0] != [Path(path)]]
    if not several:
        return ()
    count = "1 TIFF file has" if len(several) == 1 else f"{len(several)} TIFF files have"
    return (f"{count} several pages, of which only the first counts: {several[0]}#page=2 would name the second.",)


def _file_of(path: Path) -> Path:
    if not path.is_dir():
        return path
    there = [path / name for name in _NAMES if (path / name).is_file()]
    if len(there) != 1:
        seen = "both manifest.csv and manifest.parquet" if there else "neither manifest.csv nor manifest.parquet"
        raise DataError(f"{str(path)!r} holds {seen}.", fix="Name the table itself instead of its folder.")
    return there[0]


def _json(text: str) -> Any:
    """Returns a document of JSON.

    Raises:
        ValueError: It is none, or is nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _about(folder: Path) -> tuple[str | None, tuple[str, ...]]:
    """Returns the licence and the notes that stand beside a table; a file that is about something else says nothing."""
    try:
        about = _json((folder / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None, ()
    licence, notes = (about.get("licence"), about.get("notes")) if isinstance(about, dict) else (None, None)
    sentences = tuple(map(str, notes)) if isinstance(notes, list) else ()
    return (licence if isinstance(licence, str) else None), sentences


def _image_name(text: str, folder: Path) -> str:
    path = Path(located(text, folder))
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
    value = _json(text)
    if not isinstance(value, list):
        raise ValueError
    return [str(name) for name in value]


def _split(text: str) -> str:
    split = split_of(text)
    if split is None:
        raise ValueError
    return split


def _probability(text: str) -> float:
    value = number_of(text)
    if not 0 <= value <= 1:
        raise ValueError
    return value


def _defects(cells: _Cells, labels: Sequence[object], read: _Labels) -> list[object]:
    defects: list[object] = []
    for row, (cell, label) in enumerate(zip(cells.text("defect"), labels, strict=True)):
        text = read.defect_of(row) if cell is None and label == BAD else cell
        none = text is None or is_good_name(text) or text.lower() == "none"
        if not none and label == GOOD:
            raise cells.complaint(row, "defect", text, "no defect in a row whose label is good")
        defects.append(None if none or text is None else defect_of(text))
    return defects

"""Scores in the form that a contest asks for: the columns and the ids of its sample submission."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath

import polars as pl

from knowngood.data.tabular import open_table
from knowngood.errors import DataError
from knowngood.progress import reporter

UNREADABLE = 1.0  # defect score of a photograph that cannot be read: what was not inspected is not passed as good


@dataclass(frozen=True)
class Sample:
    """What a submission has to look like.

    Attributes:
        path: Of the file that says so.
        columns: Names of the id column and of the score column.
        ids: In the order that is wanted.
    """

    path: Path
    columns: tuple[str, str]
    ids: tuple[str, ...]


def read_sample(path: Path) -> Sample:
    """Reads the header and the ids of a sample submission.

    Args:
        path: CSV with a header; the first column holds ids, the second scores.

    Raises:
        DataError: It is missing or no such table.
    """
    try:
        sample = open_table(path)
        rows = list(sample.rows)
    except DataError as error:
        raise DataError(f"The sample submission {path} cannot be read: {error.what}", fix="Check --sample.") from error
    if not rows or len(sample.header) < 2 or any(row[0] is None for row in rows):
        raise DataError(
            f"{path} is no sample submission.",
            expected="a CSV with a header and two columns, such as id,label",
            fix="Check --sample.",
        )
    return Sample(path, (sample.header[0], sample.header[1]), tuple(str(row[0]) for row in rows))


def plain_sample(images: Iterable[str]) -> Sample:
    """Returns what a submission looks like when no sample says so: id,label with file names as ids."""
    return Sample(Path("id,label"), ("id", "label"), tuple(PurePath(image).name for image in images))


def as_submission(frame: pl.DataFrame, sample: Sample) -> pl.DataFrame:
    """Returns the defect scores with the columns, ids and order of a sample submission.

    An id names a photograph by its path, its file name or its file name without ending. A photograph that
    could not be read has score 1.

    Args:
        frame: Columns image, defect_score.
        sample: What is wanted.

    Raises:
        DataError: An id names no photograph, or several.
    """
    scores: dict[str, float | None] = dict(frame.select("image", "defect_score").iter_rows())
    found: dict[str, list[str]] = {}
    for image in scores:
        path = PurePath(image)
        for word in {image, path.name, path.stem}:
            found.setdefault(word, []).append(image)
    missing = [word for word in sample.ids if word not in found]
    if missing:
        raise DataError(
            f"{len(missing)} of the {len(sample.ids)} ids in {sample.path} name no photograph, first {missing[0]!r}.",
            expected="a photograph for every id, named by its path, its file name or its file name without ending",
            fix="Give the folder with all test images.",
        )
    several = next((word for word in sample.ids if len(found[word]) > 1), None)
    if several is not None:
        raise DataError(
            f"The id {several!r} in {sample.path} names {len(found[several])} photographs, "
            f"among them {found[several][0]} and {found[several][1]}.",
            fix="Give only the folder with the test images.",
        )
    chosen = [scores[found[word][0]] for word in sample.ids]
    unread = sum(score is None for score in chosen)
    if unread:
        reporter().say(f"{unread} photographs of the submission cannot be read; they have score {UNREADABLE:g}")
    values = [UNREADABLE if score is None else score for score in chosen]
    return pl.DataFrame({sample.columns[0]: list(sample.ids), sample.columns[1]: values})

"""Verdicts of a person on images after an audit, and how records take them over."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from knowngood.data.records import BAD, GOOD, Records
from knowngood.data.tabular import open_table, same_names
from knowngood.data.words import meaning_of
from knowngood.errors import DataError
from knowngood.tables import read_parquet

VERDICTS = ("good", "bad", "drop", "keep")  # keep, or nothing at all: as it was
_AUDITED: dict[str, pl.DataType] = {  # types of columns of audit.parquet
    "image": pl.String(),
    "outlier": pl.Boolean(),
    "suspect": pl.Boolean(),
    "suspect_score": pl.Float64(),
}
_DROP = frozenset(["drop", "remove", "delete", "discard", "exclude", "out"])
_KEEP = frozenset(["keep", "leave", "unchanged", "same", "as it was"])


def read_verdicts(path: Path) -> pl.DataFrame:
    """Reads the verdicts that a person filled in.

    Args:
        path: Table with columns image and verdict; optional defect. A verdict is good or bad in any words that
            `knowngood.data.words` knows, drop (remove, delete ...) or keep; an empty or unsure one means that
            nobody has decided.

    Returns:
        Columns image, verdict, defect, without the empty ones.

    Raises:
        DataError: Columns are missing, a verdict is not known, or an image has two verdicts.
    """
    table = open_table(path)
    if "verdict" not in table.columns:
        raise DataError(
            f"{path} has columns {', '.join(table.header)}.", expected="image and verdict, and perhaps defect"
        )
    image, verdict, defect = table.needed("image"), table.columns.index("verdict"), table.place("defect")
    rows: list[tuple[str, str, str | None]] = []
    for row in table.rows:
        answer = _verdict(row[verdict] or "")
        if answer is None:
            raise DataError(
                f"The verdict {row[verdict]!r} of {row[image]!r} in {path} is not known.",
                expected=", ".join(VERDICTS) + ", or nothing",
            )
        if answer and row[image] is not None:
            rows.append((str(row[image]), answer, None if defect is None else row[defect]))
    schema = {"image": pl.String(), "verdict": pl.String(), "defect": pl.String()}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    twice = frame.filter(pl.col("image").is_duplicated())
    if twice.height:
        raise DataError(f"{path} has two verdicts on {twice['image'][0]!r}.", fix="Leave one of them.")
    return frame


def _verdict(text: str) -> str | None:
    """Returns one of `VERDICTS`, "" where nobody has decided, None for what is not known."""
    word = " ".join(text.lower().split())
    if not word or word in _KEEP or word in _DROP:
        return "" if not word else "keep" if word in _KEEP else "drop"
    kind = meaning_of(text).kind
    return {"good": "good", "bad": "bad", "unlabelled": ""}.get(kind or "")


def with_verdicts(records: Records, verdicts: pl.DataFrame) -> Records:
    """Returns the records as a person corrected them: labels changed, dropped images gone.

    The verdict on an image holds for its generated copies too, unless they have one of their own.

    Args:
        records: Any rows.
        verdicts: From `read_verdicts`.

    Raises:
        DataError: A verdict is about an image that is not in the set.
    """
    known = set(records.frame["image"].to_list())
    verdicts = verdicts.with_columns(image=pl.Series(same_names(verdicts["image"].to_list(), known), dtype=pl.String))
    stray = [image for image in verdicts["image"].to_list() if image not in known]
    if stray:
        raise DataError(
            f"{len(stray)} of {verdicts.height} verdicts are about images that are not in this set, "
            f"first {stray[0]!r}.",
            fix="Give the verdicts of an audit of the same data.",
        )
    own = pl.col("image").is_in(verdicts["image"].to_list())
    about = pl.when(own).then("image").otherwise(pl.coalesce("made_from", "image"))
    said_of = verdicts.rename({"image": "about", "defect": "said_defect"})
    joined = records.frame.with_columns(about=about).join(said_of, on="about", how="left", maintain_order="left")
    answer = pl.col("verdict")
    changed = joined.filter(answer.fill_null("") != "drop").with_columns(
        label=pl.when(answer == "good").then(GOOD).when(answer == "bad").then(BAD).otherwise(pl.col("label")),
        defect=pl.when(answer == "good")
        .then(None)
        .when(answer == "bad")
        .then(pl.coalesce("said_defect", "defect", pl.lit("bad")))
        .otherwise(pl.col("defect")),
        probability=pl.when(answer.is_in(["good", "bad"])).then(None).otherwise(pl.col("probability")),
    )
    return records.with_frame(changed)


_COLUMNS_0_1 = {"opposing": "conflicting_duplicate", "out_of_sample_score": "out_of_fold_score"}  # old name: new name


def read_audit(audit: Path, needed: Sequence[str]) -> pl.DataFrame:
    """Returns audit.parquet of an audit, one row an image; columns that version 0.1 named otherwise have today's names.

    Raises:
        DataError: The file is no audit, or one of the columns that are needed is not there or of another type.
    """
    try:
        frame = read_parquet(audit)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"The audit {audit} cannot be read: {error}", expected="audit.parquet of an audit") from error
    frame = frame.rename({old: new for old, new in _COLUMNS_0_1.items() if old in frame.columns})
    if not set(needed) <= set(frame.columns):
        raise DataError(f"{audit} has columns {frame.columns}.", expected=", ".join(needed))
    for name in needed:
        kind, expected = frame.schema[name], _AUDITED.get(name)
        fits = kind == expected or (name != "image" and kind == pl.Null) or (kind.is_float() and expected == pl.Float64)
        if expected is not None and not fits:
            raise DataError(
                f"The column {name} of {audit} holds {kind}.", expected=f"{expected}, as an audit writes it"
            )
    return frame


def without_outliers(records: Records, audit: Path) -> Records:
    """Returns the records without the training images (and their copies) that an audit called outliers; other splits
    stay whole.

    Args:
        records: With splits.
        audit: audit.parquet of the same set.

    Raises:
        DataError: The file is no audit, or it is about other images.
    """
    frame = read_audit(audit, ("image", "outlier"))
    flagged = set(frame.filter(pl.col("outlier"))["image"].to_list())
    if flagged and not flagged & set(records.frame["image"].to_list()):
        raise DataError(f"None of the outliers in {audit} is in this set.", fix="Give the audit of the same data.")
    doubted = pl.col("image").is_in(list(flagged)) | pl.col("made_from").is_in(list(flagged)).fill_null(False)
    leaves = doubted & (pl.col("split") == "train").fill_null(False)
    return records.with_frame(records.frame.filter(~leaves))

"""Rows of the score table as pictures."""

from __future__ import annotations

import polars as pl

from knowngood import wording
from knowngood.report.page import Picture
from knowngood.report.thumbnails import thumbnail


def pictures(rows: pl.DataFrame) -> list[Picture]:
    """Returns one picture a row, in the table's order; unreadable files become placeholders."""
    made = []
    for row in rows.iter_rows(named=True):
        small = thumbnail(row["path"] or "")
        bad = row["label"] == 1
        made.append(
            Picture(
                uri=small.uri,
                name=row["image"],
                score=wording.score(row["score"]),
                tag=(row["defect"] or "bad") if bad else "good",
                bad=bad,
                trouble=small.trouble,
            )
        )
    return made

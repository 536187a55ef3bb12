"""What an audit holds against images, put before a person: outliers, suspected labels, opposing copies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from knowngood.data.verdicts import read_audit
from knowngood.errors import DataError
from knowngood.review.store.record import Record

_NEEDED = ("image", "outlier", "suspect", "suspect_score")
AUDITED = 3.0  # doubt from which on audited images come: before all that a threshold alone doubts


def queue_audit(record: Record, audit: Path, scoring: str) -> int:
    """Puts the images that an audit doubts into the queue; those that are judged already stay as they are.

    Args:
        record: With labels and inspections of the same images.
        audit: audit.parquet of `knowngood audit`.
        scoring: Hash of the scores of the recipe whose inspections are shown.

    Returns:
        How many were put there.

    Raises:
        DataError: The file is no audit, or it is about other images.
    """
    frame = read_audit(audit, _NEEDED)
    doubted = {row["image"]: found for row in frame.iter_rows(named=True) if (found := _doubt(row)) is not None}
    inspected = record.labels.inspected(scoring)
    if doubted and not set(doubted) & {row["image"] for row in inspected}:
        raise DataError(f"None of the images that {audit} doubts is in the record.", fix="Serve the data of the audit.")
    rows = []
    for row in inspected:
        if row["image"] in doubted:
            doubt, reason = doubted[row["image"]]
            rows.append((row["id"], doubt, f"generated; {reason}" if row["generated"] else reason))
    return record.queue.add(rows)


def _doubt(row: dict[str, Any]) -> tuple[float, str] | None:
    score = float(row["suspect_score"] or 0.0)
    if row["suspect"]:
        return AUDITED + 1 + score, "audit: suspected label"
    if row.get("opposing"):
        return AUDITED + 0.5 + score / 2, "audit: a copy with the other label"
    return (AUDITED + score / 2, "audit: outlier") if row["outlier"] else None

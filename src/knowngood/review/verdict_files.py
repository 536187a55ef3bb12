"""Adds the findings of an audit, and flagged generated images, to the review queue."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import polars as pl

from knowngood.data.images import read_bytes
from knowngood.data.labels import read_audit
from knowngood.data.pages import without_suffix
from knowngood.errors import DataError, ImageError
from knowngood.review.station import Job, Station
from knowngood.review.store.inspections import Row
from knowngood.review.store.record import Record
from knowngood.tables import read_parquet

_NEEDED = ("image", "outlier", "suspect", "suspect_score")
AUDITED = 3.0  # lowest priority of an audit's findings: above every priority that a threshold gives


def queue_audit(record: Record, audit: Path, scoring: str) -> int:
    """Adds the images that an audit found to the queue; images with a verdict stay settled.

    Args:
        record: With labels and inspections of the same images.
        audit: audit.parquet of `knowngood audit`.
        scoring: Hash of the scores of the recipe whose inspections are shown.

    Returns:
        How many were added.

    Raises:
        DataError: The file is no audit, or is about other images.
    """
    frame = read_audit(audit, _NEEDED)
    findings = {row["image"]: found for row in frame.iter_rows(named=True) if (found := _priority_of(row)) is not None}
    inspected = record.labels.inspected(scoring)
    if findings and not set(findings) & {row["image"] for row in inspected}:
        raise DataError(f"None of the images that {audit} found is in the record.", fix="Serve the data of the audit.")
    rows = []
    for row in inspected:
        if row["image"] in findings:
            priority, reason = findings[row["image"]]
            rows.append((row["id"], priority, f"generated; {reason}" if row["generated"] else reason))
    return record.queue.add(rows)


def _priority_of(row: dict[str, Any]) -> tuple[float, str] | None:
    score = float(row["suspect_score"] or 0.0)
    if row["suspect"]:
        return AUDITED + 1 + score, "audit: suspected label"
    if row.get("conflicting_duplicate"):
        return AUDITED + 0.5 + score / 2, "audit: a copy with the other label"
    return (AUDITED + score / 2, "audit: outlier") if row["outlier"] else None


_NEEDED_JUDGEMENT = {"image", "path", "label", "defect", "drop"}
_CHUNK = 64
GENERATED = AUDITED + 0.1  # priority of flagged generated images: among the outliers of an audit


def queue_generated(station: Station, folder: Path) -> int:
    """Inspects the generated images that `synthesize judge` flagged and adds them to the queue; verdicts stay.

    Args:
        station: To inspect with.
        folder: Of `knowngood synthesize judge`, with judge.parquet and judge.json.

    Returns:
        How many were added.

    Raises:
        DataError: The folder holds no judgement.
    """
    table, made = read_judgement(folder)
    dropped = table.filter(pl.col("drop").is_not_null()).rows(named=True)
    numbers = station.record.inspections.numbers(station.scoring)
    rows: list[Row] = []
    for start in range(0, len(dropped), _CHUNK):
        read = [(row, data) for row in dropped[start : start + _CHUNK] if (data := _bytes_of(row["path"])) is not None]
        for row, data in read:
            row["sha256"] = hashlib.sha256(data).hexdigest()
        new = [(row, data) for row, data in read if row["sha256"] not in numbers]
        outcomes = station.inspect([_job(row, data, station.settings.user) for row, data in new]) if new else []
        numbers |= {outcome.filed.sha256: outcome.number for outcome in outcomes}
        rows += [row for row, _ in read]
    named = ("image", "sha256", "label", "defect")
    station.record.labels.take_over(made, [{n: r[n] for n in named} | {"split": None, "generated": 1} for r in rows])
    return station.record.queue.add([(numbers[r["sha256"]], GENERATED, f"generated: {_kind(r['drop'])}") for r in rows])


def read_judgement(folder: Path) -> tuple[pl.DataFrame, str]:
    """Returns the table of `synthesize judge`, and the absolute path of the generated images.

    Raises:
        DataError: The folder holds none.
    """
    fix = "Give the --out folder of `knowngood synthesize judge`."
    try:
        table = read_parquet(folder / "judge.parquet")
        made = str(Path(json.loads((folder / "judge.json").read_text("utf-8"))["generated"]).absolute())
    except (OSError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
        raise DataError(
            f"There is no judgement in {folder}: {error}", expected="judge.parquet and judge.json", fix=fix
        ) from error
    if not set(table.columns) >= _NEEDED_JUDGEMENT:
        raise DataError(
            f"{folder / 'judge.parquet'} has columns {table.columns}.",
            expected=", ".join(sorted(_NEEDED_JUDGEMENT)),
            fix=fix,
        )
    return table, made


def _job(row: Row, data: bytes, who: str) -> Job:
    unit = without_suffix(row["image"])
    return Job(data, row["image"], unit, None, None, "data", who, row["path"], row["label"])


def _bytes_of(path: str) -> bytes | None:
    try:
        return read_bytes(path)
    except ImageError:
        return None  # gone since then


def _kind(drop: str) -> str:
    """Returns copy, repeat or broken: why a judgement drops an image begins with it."""
    return drop.split(maxsplit=1)[0].rstrip(":")

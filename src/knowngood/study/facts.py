"""What a run writes down of itself: its data, its scores, the versions, the command that repeats it."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel

from knowngood.data.records import BAD, GOOD, Records
from knowngood.decide.threshold import Thresholds, decide

_PACKAGES = (
    "knowngood",
    "torch",
    "timm",
    "lightning",
    "scikit-learn",
    "numpy",
    "polars",
    "opencv-python-headless",
)


def score_table(
    records: Records,
    scores: npt.NDArray[np.float64],
    out_of_fold: npt.NDArray[np.float64],
    thresholds: Thresholds,
    margins: npt.NDArray[np.float32],
    reasons: Sequence[str | None] | None = None,
) -> pl.DataFrame:
    """Returns a row an image with scores (0..1), decisions and margin; null where there is none.

    Args:
        records: (N rows).
        scores: (N,) of the finished recipe, which has learned from some of the images.
        out_of_fold: (N,) of a machine that has not seen the image; NaN where the run has none.
        thresholds: Of the decisions.
        margins: (N,) of the finished recipe.
        reasons: (N,) why a person must look whatever the score, or None for each; None for no reasons.

    Returns:
        Columns of the records, `score` and `decision` of the recipe, `out_of_fold_score` and `out_of_fold_decision`,
        `reason`, `margin`. Images that nothing was learned from have the same in both.
    """
    columns = ["image", "path", "split", "label", "defect", "lot", "unit", "machine", "product", "sha256"]
    why = [None] * len(scores) if reasons is None else list(reasons)
    return records.frame.select(columns).with_columns(
        pl.Series("score", scores).fill_nan(None),
        pl.Series("decision", _decisions(scores, thresholds, why), dtype=pl.String),
        pl.Series("out_of_fold_score", out_of_fold).fill_nan(None),
        pl.Series("out_of_fold_decision", _decisions(out_of_fold, thresholds, why), dtype=pl.String),
        pl.Series("reason", why, dtype=pl.String),
        pl.Series("margin", margins).fill_nan(None),
    )


def _decisions(
    scores: npt.NDArray[np.float64], thresholds: Thresholds, reasons: Sequence[str | None]
) -> list[str | None]:
    decisions: list[str | None] = [None] * len(scores)
    known = np.flatnonzero(~np.isnan(scores))
    decided = decide(scores[known], thresholds, [reasons[int(row)] for row in known]).tolist()
    for row, decision in zip(known, decided, strict=True):
        decisions[row] = decision
    return decisions


def unseen(table: pl.DataFrame) -> pl.DataFrame:
    """Returns a run's scores, `score` and `decision` those of a machine that had not seen the image, where it has them.

    Args:
        table: scores.parquet of a run, also of one that was made before it had the two columns.
    """
    if "out_of_fold_score" not in table.columns:
        return table
    known = pl.col("out_of_fold_score").is_not_null()
    return table.with_columns(
        pl.when(known).then("out_of_fold_score").otherwise("score").alias("score"),
        pl.when(known).then("out_of_fold_decision").otherwise("decision").alias("decision"),
    )


def data_facts(records: Records, fingerprint: str) -> dict[str, Any]:
    """Returns source, terms and counts of a divided set, and the hash of its contents."""
    frame = records.frame
    counts: dict[str, dict[str, int]] = {}
    kind = (
        pl.when(pl.col("label") == GOOD)
        .then(pl.lit("good"))
        .otherwise(
            pl.coalesce(
                pl.col("defect"),
                pl.when(pl.col("label") == BAD).then(pl.lit("bad")).otherwise(pl.lit("unlabelled")),
            )
        )
    )
    grouped = frame.filter(pl.col("split").is_not_null()).group_by("split", kind.alias("kind")).len()
    for name, what, number in grouped.sort("split", "kind").iter_rows():
        counts.setdefault(name, {})[what] = number
    return {
        "source": records.source,
        "root": str(records.root),
        "licence": records.licence,
        "notes": list(records.notes),
        "repeated_parts": None if records.repeated is None else records.repeated.to_dict(),
        "folders": [asdict(fact) for fact in records.folders],
        **records.passed_over.to_dict(),
        "images": len(frame),
        "unreadable": int(frame["error"].is_not_null().sum()),
        "counts": counts,
        "sha256": fingerprint,
    }


def versions() -> dict[str, str]:
    """Returns what decides a result besides data and configuration: Python, and the packages that compute it."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def command_for(
    data: object,
    out: Path | None,
    config: BaseModel,
    source: str | None,
    verb: str = "train",
    *,
    good: Sequence[str] = (),
    bad: Sequence[str] = (),
) -> str:
    """Returns the command that repeats a run: only options that differ from their defaults; `data` may be several."""
    named = data if isinstance(data, tuple) else (data,)
    parts = ["knowngood", *verb.split(), *map(str, named), *(() if out is None else ("--out", str(out)))]
    if source:
        parts += ["--source", source]
    for flag, names in (("--good", good), ("--bad", bad)):
        parts += [flag, ",".join([names] if isinstance(names, str) else names)] if names else []
    default = type(config)().model_dump(mode="json")
    for name, value in config.model_dump(mode="json").items():
        if value == default[name]:
            continue
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            parts.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            parts += [f"--{flag}", ",".join(value) if isinstance(value, list) else str(value)]
    return shlex.join(parts)


def shown(data: str | Path | Records) -> str:
    """Returns what to call a set of photographs in a command."""
    return str(data.root if isinstance(data, Records) else data)


def count_words(records: Records) -> str:
    """Returns "30 good, 16 bad"."""
    counts = records.counts()
    return ", ".join(f"{number} {name}" for name, number in counts.items() if number)

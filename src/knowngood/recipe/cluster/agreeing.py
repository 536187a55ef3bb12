"""Equal photographs get equal scores, whatever batch of whatever part they were in."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from knowngood.recipe.predicting import SCHEMA
from knowngood.tables import write_table

AT_ONCE = 10_000_000  # rows whose hashes are looked at in one pass: some 2 GB


def agreed(files: list[Path], count: int, at_once: int = AT_ONCE) -> int:
    """Gives photographs with equal bytes the higher of their scores, and the decision that goes with it.

    A score's last bits depend on what else was in its batch (1e-8 was seen). Parts without such photographs are not
    touched; others are replaced whole. Called twice it does nothing more.

    Args:
        files: Of rows; columns of `knowngood.predict`.
        count: How many rows there are.
        at_once: Rows whose hashes are compared at once; what is beyond is done in further passes.

    Returns:
        How many files were changed.
    """
    passes = -(-count // at_once)
    rows = pl.scan_parquet(files).select("sha256", "defect_score", "decision").drop_nulls("defect_score")
    share = pl.col("sha256").str.slice(0, 7).str.to_integer(base=16) % passes
    several: list[pl.DataFrame] = []
    for number in range(passes):
        some = rows if passes == 1 else rows.filter(share == number)
        apart = (
            some.group_by("sha256")
            .agg(
                highest=pl.col("defect_score").max(),
                lowest=pl.col("defect_score").min(),
                said=pl.col("decision").sort_by("defect_score").last(),
            )
            .filter(pl.col("highest") != pl.col("lowest"))
        )
        several.append(apart.collect(engine="streaming"))
    right = pl.concat(several)
    return sum(_mended(file, right) for file in files) if len(right) else 0


def _mended(file: Path, right: pl.DataFrame) -> bool:
    frame = pl.read_parquet(file)
    joined = frame.join(right, "sha256", "left", maintain_order="left")
    new = joined.with_columns(
        defect_score=pl.coalesce("highest", "defect_score"), decision=pl.coalesce("said", "decision")
    ).select(list(SCHEMA))
    if new.equals(frame):
        return False
    write_table(new, file)
    return True

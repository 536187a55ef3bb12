"""Equal photographs get equal scores, in one pass or several."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from knowngood.recipe.cluster import agreed
from knowngood.recipe.predicting import SCHEMA


def written(folder: Path) -> tuple[list[Path], pl.DataFrame]:
    """Returns three files of 40 rows about 25 photographs, whose scores are a little apart, and two unreadable ones."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(120):
        which = int(rng.integers(25))
        score = which / 25 + (rng.integers(3) * 1e-8 if which else 0.0)
        decision = "accept" if score <= 0.4 else "reject"  # photograph 10 lies on both sides
        rows.append((f"{number:03}", score, decision, None, None, f"{which * 97 % 256:02x}" * 32, "r1", "torch"))
    rows[7] = ("7", None, "error", None, "broken", "aa" * 32, "r1", "torch")
    rows[60] = ("60", None, "error", None, "not there", None, "r1", "torch")
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    files = [folder / f"{number}.parquet" for number in range(3)]
    for number, file in enumerate(files):
        frame.slice(40 * number, 40).write_parquet(file)
    return files, frame


@pytest.mark.parametrize("at_once", [1000, 17])
def test_the_higher_score_counts(tmp_path: Path, at_once: int) -> None:
    files, before = written(tmp_path)
    assert agreed(files, 120, at_once) == 3
    after = pl.read_parquet(files)
    assert after.drop("defect_score", "decision").equals(before.drop("defect_score", "decision"))
    highest = {}
    for digest, score in before["sha256", "defect_score"].iter_rows():
        if score is not None:
            highest[digest] = max(score, highest.get(digest, 0))
    columns = ("defect_score", "decision", "sha256")
    for score, decision, digest in after.drop_nulls("defect_score").select(columns).iter_rows():
        assert score == highest[digest]
        assert decision == ("accept" if score <= 0.4 else "reject")
    assert agreed(files, 120, at_once) == 0


def test_files_without_copies_are_not_touched(tmp_path: Path) -> None:
    files, _ = written(tmp_path)
    frame = pl.read_parquet(files[1]).unique("sha256")
    frame.write_parquet(files[1])
    before = files[1].stat().st_mtime_ns
    assert agreed([files[1]], len(frame)) == 0
    assert files[1].stat().st_mtime_ns == before

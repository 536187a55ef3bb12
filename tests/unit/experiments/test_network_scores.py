"""Scores out of sample by trained networks: honest, resumable, refused when the set is too small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from knowngood.data.loading import load
from knowngood.data.records import BAD
from knowngood.data.splits import groups_of
from knowngood.errors import DataError
from knowngood.experiments.audit import network_scores
from knowngood.metrics.figures import auroc
from knowngood.training.config import TrainConfig

CONFIG = TrainConfig(model="efficientnet_lite0", image_size=64)


def test_scores_are_probabilities_of_images_that_were_not_seen(parts: Path, tmp_path: Path) -> None:
    records = load(parts).usable()
    rows = np.arange(len(records)) == 3
    unknown = pl.when(pl.Series(rows)).then(None).otherwise(pl.col("label"))
    records = records.with_frame(records.frame.with_columns(label=unknown))
    scores = network_scores(records, groups_of(records), CONFIG, tmp_path)
    assert np.isnan(scores[3])
    held = ~rows
    assert ((scores[held] >= 0) & (scores[held] <= 1)).all()
    assert auroc(records.frame["label"].to_numpy()[held].astype(np.uint8), scores[held]) > 0.9
    assert not list(tmp_path.iterdir())
    # With labels turned at random there is nothing to learn, and a score that had seen its own label would know it.
    labels = np.random.default_rng(0).permutation(records.frame["label"].fill_null(0).to_numpy())
    mixed = records.with_frame(records.frame.with_columns(label=pl.Series(labels, dtype=pl.UInt8)))
    blind = network_scores(mixed, groups_of(mixed), CONFIG, tmp_path)
    assert auroc(labels.astype(np.uint8), blind) < 0.75


def test_generated_images_teach_and_are_not_scored(parts: Path, tmp_path: Path) -> None:
    """One of no known source teaches always, a copy only while what it shows is not held out."""
    records = load(parts).usable()
    bads = records.frame.filter(pl.col("label") == BAD).head(3)
    copies = bads.with_columns(
        image=pl.lit("made/") + pl.col("image"),
        generated=pl.lit(True),
        split=pl.lit("train"),
        made_from=pl.Series([bads["image"][0], bads["image"][1], None], dtype=pl.String),
    )
    records = records.with_frame(pl.concat([records.frame.with_columns(split=pl.lit("train")), copies]))
    scores = network_scores(records, np.arange(len(records)), CONFIG, tmp_path)
    made = records.frame["generated"].to_numpy()
    assert np.isnan(scores[made]).all()
    assert np.isfinite(scores[~made]).all()


def test_too_few_images_are_refused(parts: Path, tmp_path: Path) -> None:
    records = load(parts).usable()
    few = pl.concat([records.frame.filter(pl.col("label") == label).head(2) for label in (0, 1)])
    with pytest.raises(DataError):
        network_scores(records.with_frame(few), np.arange(4), CONFIG, tmp_path)

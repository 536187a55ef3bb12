"""Rows of a comparison that are conventional classifiers: taught and tested on the networks' own splits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from knowngood.data.records import Records
from knowngood.models.classical import CLASSIFIERS
from knowngood.models.classical.config import ClassicalConfig
from knowngood.study.classical import Classical, classical
from knowngood.study.comparison.config import CompareConfig
from knowngood.study.comparison.rows import Outcome, Row

FOLDER = "conventional"


def check_conventional(config: CompareConfig) -> None:
    """Tells of a classifier that is not known before anything is read."""
    for name in config.conventional:
        CLASSIFIERS.get(name)


def conventional_rows(sets: Mapping[int, Records], config: CompareConfig, folder: Path) -> list[Row]:
    """Returns one row a classifier, on the features of the pretrained network `config.outlier_backbone`.

    Args:
        sets: Seed to the divided set that the networks of that seed were trained on.
        config: Of the comparison.
        folder: Of the comparison; each seed leaves its own page there.
    """
    if not config.conventional:
        return []
    done = {seed: _fitted(divided, config, seed, folder) for seed, divided in sorted(sets.items())}
    rows = []
    for name in config.conventional:
        made = [(seed, one, next(r for r in one.rows if r["model"] == name)) for seed, one in done.items()]
        rows.append(
            Row(
                key=name,
                kind="conventional",
                model=name,
                variant=f"{config.outlier_backbone} features",
                weights=made[0][1].features.origin,
                outcomes=tuple(
                    Outcome(
                        seed=seed,
                        train_accuracy=row["train_accuracy"],
                        test=row["test"],
                        scores=one.scores.filter(pl.col("model") == name).select("image", "label", "score"),
                        minutes=row["seconds"] / 60,
                        changes=("features of a pretrained network that stays as it is",),
                        folder=one.folder,
                    )
                    for seed, one, row in made
                ),
                images_per_second=made[0][2]["images_per_second"],
            )
        )
    return rows


def _fitted(divided: Records, config: CompareConfig, seed: int, folder: Path) -> Classical:
    placed = divided.with_frame(divided.frame.filter(pl.col("split").is_not_null()))
    options = ClassicalConfig(
        backbone=config.outlier_backbone,
        models=",".join(config.conventional),
        seed=seed,
        test=config.test,
        val=config.val,
        calibration=config.calibration,
    )
    return classical(placed, folder / FOLDER / f"seed-{seed}", options)

"""Dividing a set for an inspector that learns from good images alone."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from knowngood.data.records import BAD, GOOD, Records
from knowngood.data.splits import Ids, split


def split_good_only(
    records: Records,
    *,
    test: float,
    calibration: float,
    seed: int,
    keep_given: bool,
    groups: Ids,
) -> Records:
    """Divides the good images into train, calibration and test, and puts every bad image into the test.

    Goods are divided as by `split`. Nothing is chosen on a validation split, so one that the source gave counts as
    calibration. A bad image stays in the test even when a lot ties it to good ones in train: that makes the test
    harder, never easier. Generated bad images get no split.

    Args:
        records: (N rows).
        test: Share of the goods, 0..1.
        calibration: Share of the goods that are not test, 0..1.
        seed: As in `split`.
        keep_given: As in `split`.
        groups: int64 (N,), as in `split`.

    Raises:
        DataError: There are too few good images (or lots).
    """
    label, sound = pl.col("label"), pl.col("error").is_null()
    frame = bads_to_test(records).frame.with_columns(pl.col("split").replace("val", "calibration"))
    good = frame.select((sound & (label == GOOD)).fill_null(False)).to_series()
    goods = split(
        replace(records.with_frame(frame.filter(good)), notes=()),
        test=test,
        val=0,
        calibration=calibration,
        seed=seed,
        keep_given=keep_given,
        groups=groups[good.to_numpy()],
        classes=(GOOD,),
    )
    told = frame["split"].to_numpy().copy()
    told[good.to_numpy()] = goods.frame["split"].to_numpy()
    done = records.with_frame(frame.with_columns(pl.Series("split", told.tolist(), dtype=pl.String)))
    bads = int(((frame["label"] == BAD) & (frame["split"] == "test")).sum())
    said = f"Learned from good images alone; the {bads} bad ones are all in the test split." if bads else ""
    return replace(done, notes=(*records.notes, *goods.notes, *filter(None, [said])))


def bads_to_test(records: Records) -> Records:
    """Returns the records with every readable bad image in the test split; generated ones get none."""
    bad = pl.col("error").is_null() & (pl.col("label") == BAD)
    to = pl.when(pl.col("generated")).then(None).otherwise(pl.lit("test"))
    return records.with_frame(records.frame.with_columns(split=pl.when(bad).then(to).otherwise("split")))

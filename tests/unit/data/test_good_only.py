"""Dividing for one class: goods by the rules of `split`, every bad in the test, nothing lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from knowngood.data.records import Records, table
from knowngood.data.splits import Shares, split_good_only
from knowngood.errors import DataError


def made(goods: int, bads: int, **columns: list[object]) -> Records:
    count = goods + bads
    base: dict[str, list[object]] = {
        "image": [f"{i}.png" for i in range(count)],
        "path": [f"/{i}.png" for i in range(count)],
        "label": [0] * goods + [1] * bads,
        "sha256": [f"{i:064x}" for i in range(count)],
    }
    return Records(table(base | columns), "test", Path("/"))


def divided(records: Records, resplit: bool = False, groups: np.ndarray | None = None) -> pl.DataFrame:
    ids = np.arange(len(records)) if groups is None else groups
    done = split_good_only(records, Shares(val=0, calibration=0.3, resplit=resplit), seed=0, groups=ids)
    assert done.frame["image"].to_list() == records.frame["image"].to_list()
    return done.frame


def counts(frame: pl.DataFrame, label: int) -> dict[str, int]:
    return dict(frame.filter(pl.col("label") == label)["split"].value_counts().iter_rows())


def test_goods_are_divided_and_bads_are_test() -> None:
    frame = divided(made(200, 30))
    goods = counts(frame, 0)
    assert set(goods) == {"train", "calibration", "test"}
    assert abs(goods["test"] - 50) <= 50**0.5
    assert abs(goods["calibration"] - 45) <= 45**0.5
    assert counts(frame, 1) == {"test": 30}
    assert counts(divided(made(200, 0)), 0) == goods  # bads change nothing of how goods fall


def test_a_given_test_is_kept_and_a_given_val_calibrates() -> None:
    given: list[object] = ["train"] * 60 + ["val"] * 20 + ["test"] * 20 + ["train"] * 5 + ["test"] * 5
    frame = divided(made(100, 10, split=given))
    assert counts(frame, 0) == {"train": 60, "calibration": 20, "test": 20}
    assert counts(frame, 1) == {"test": 10}
    again = divided(made(100, 10, split=given), resplit=True)
    assert abs(counts(again, 0)["test"] - 25) <= 25**0.5


def test_lots_of_goods_stay_together() -> None:
    lots = np.arange(120) // 4
    frame = divided(made(120, 0), groups=lots).with_columns(lot=pl.Series(lots))
    assert frame.group_by("lot").agg(pl.col("split").n_unique())["split"].max() == 1


def test_unlabelled_unreadable_and_generated_images() -> None:
    records = made(40, 4, generated=[False] * 43 + [True])
    frame = records.frame.with_columns(
        label=pl.when(pl.col("image") == "0.png").then(None).otherwise(pl.col("label")),
        split=pl.when(pl.col("image") == "0.png").then(pl.lit("test")).otherwise(None),
        error=pl.when(pl.col("image").is_in(["1.png", "40.png"])).then(pl.lit("broken")).otherwise(None),
    )
    placed = dict(divided(records.with_frame(frame)).select("image", "split").iter_rows())
    assert placed["0.png"] == "test"
    assert placed["1.png"] is None
    assert placed["40.png"] is None
    assert placed["41.png"] == "test"
    assert placed["43.png"] is None  # a generated bad can be neither learned from nor tested on


def test_too_few_goods() -> None:
    with pytest.raises(DataError, match="too few") as caught:
        divided(made(2, 9))
    assert "bad ones, one" not in str(caught.value)
    with pytest.raises(DataError, match="only 2 lots"):
        divided(made(40, 0), groups=np.arange(40) % 2)

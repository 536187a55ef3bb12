"""Limits: about as many as asked for, every class and defect in its share, the test split whole."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from knowngood.data.records import SPLITS, Records, table
from knowngood.errors import DataError
from knowngood.experiments.configs import CompareConfig
from knowngood.experiments.training_sets import divide, limited


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """1,000 rows: 100 bad ones of three defects, in all splits."""
    random = np.random.default_rng(0)
    label = np.arange(1000) % 10 == 0
    defect = np.where(label, random.choice(["chip", "scratch", "glue"], 1000, p=[0.6, 0.3, 0.1]), None)
    return Records(
        table(
            {
                "image": [f"{i}.png" for i in range(1000)],
                "path": [f"/x/{i}.png" for i in range(1000)],
                "sha256": [f"{i:064x}" for i in range(1000)],
                "label": label.astype(int).tolist(),
                "defect": defect.tolist(),
                "split": random.choice(SPLITS, 1000, p=[0.6, 0.1, 0.1, 0.2]).tolist(),
            }
        ),
        "made",
        tmp_path_factory.getbasetemp(),
    )


def shares(frame: pl.DataFrame) -> dict[str, int]:
    return dict(frame.group_by(pl.col("defect").fill_null("good")).len().rows())


def test_training_shrinks_in_proportion_and_the_test_stays(records: Records) -> None:
    small = limited(records, 200, None, 0)
    assert len(small.of_split("train")) == 200
    before, after = shares(records.of_split("train").frame), shares(small.of_split("train").frame)
    factor = 200 / len(records.of_split("train"))
    for kind, count in before.items():
        assert after[kind] == pytest.approx(count * factor, abs=1.5), kind
    assert len(small.of_split("val")) == pytest.approx(len(records.of_split("val")) * factor, abs=1)
    assert small.of_split("test").frame.equals(records.of_split("test").frame)


def test_the_seed_draws_and_the_order_does_not_matter(records: Records) -> None:
    turned = records.with_frame(records.frame.reverse())
    first, same, other = limited(records, 100, 50, 1), limited(turned, 100, 50, 1), limited(records, 100, 50, 2)
    assert set(first.frame["image"]) == set(same.frame["image"])
    assert set(first.frame["image"]) != set(other.frame["image"])
    assert len(first.of_split("test")) == 50


def test_more_than_there_is_changes_nothing(records: Records) -> None:
    assert limited(records, 10_000, 10_000, 0).frame.equals(records.frame)


def test_a_split_of_one_class_is_refused_by_name(records: Records) -> None:
    good_only = records.frame.filter((pl.col("split") != "test") | (pl.col("label") == 0))
    with pytest.raises(DataError, match="test has 0 bad"):
        divide(records.with_frame(good_only), np.arange(good_only.height), CompareConfig(), 0)

"""The splits of a comparison: the same for every row, one division a seed, smaller where the user asks for it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from knowngood.data.records import BAD, GOOD, SPLITS, Records
from knowngood.errors import DataError
from knowngood.study.comparison.config import CompareConfig
from knowngood.study.dividing import divided_as

LEAST = 2  # of each class in each split: DeLong's test needs two, and so does a calibration


def divide(records: Records, groups: npt.NDArray[np.int64], config: CompareConfig, seed: int) -> Records:
    """Returns the labelled, readable rows with the splits of one seed.

    Args:
        records: Labelled and readable rows.
        groups: (N,) what is never divided, from `groups_of`.
        config: Shares and limits.
        seed: Of the division and of the choice under a limit.

    Raises:
        DataError: A split has fewer than two images of a class.
    """
    whole = divided_as(records, groups, config, seed)
    smaller = limited(whole, config.limit, config.limit_test, seed)
    for name in SPLITS:
        counts = smaller.of_split(name).counts()
        for kind in ("good", "bad"):
            if counts[kind] < LEAST:
                raise DataError(
                    f"With seed {seed} the split {name} has {counts[kind]} {kind} images.",
                    expected=f"at least {LEAST} of each class in every split",
                    fix="Add images, raise --limit or --limit-test, or divide anew with --resplit.",
                )
    return smaller


def limited(records: Records, train: int | None, test: int | None, seed: int) -> Records:
    """Returns at most so many training and test images; the shares of classes and defects stay what they were.

    Args:
        records: Labelled rows with splits.
        train: Images of the training split; validation and calibration shrink in the same proportion.
        test: Images of the test split.
        seed: Which are drawn; the order of the rows does not matter.
    """
    frame = records.frame
    sizes = {name: int((frame["split"] == name).sum()) for name in SPLITS}
    share = 1.0 if train is None else min(1.0, train / max(sizes["train"], 1))
    wanted = {name: round(share * sizes[name]) for name in SPLITS}
    wanted["test"] = sizes["test"] if test is None else min(test, sizes["test"])
    kept = [_drawn(frame.filter(pl.col("split") == name), wanted[name], seed) for name in SPLITS]
    return records.with_frame(frame.filter(pl.col("image").is_in(pl.concat(kept).to_list())))


def _drawn(rows: pl.DataFrame, count: int, seed: int) -> pl.Series:
    """Returns the names of about `count` rows, each class and each defect in its share."""
    if count >= rows.height:
        return rows["image"]
    bads = rows.filter(pl.col("label") == BAD)
    few = round(count * bads.height / max(rows.height, 1))
    few = min(bads.height, max(few, LEAST))
    goods = rows.filter(pl.col("label") == GOOD)
    return pl.concat([spread_over_defects(bads, few, seed), spread_over_defects(goods, max(count - few, LEAST), seed)])


def spread_over_defects(rows: pl.DataFrame, count: int, seed: int) -> pl.Series:
    """Draws `count` rows so that every defect keeps its share: the k-th of n of a kind stands at (k + u) / n."""
    random = np.random.default_rng(seed)
    places = []
    ordered = rows.with_columns(pl.col("defect").fill_null("")).sort("defect", "image")
    for part in ordered.partition_by("defect", maintain_order=True):
        ranks = random.permutation(part.height)
        places.append((ranks + random.random()) / part.height)
    order = np.argsort(np.concatenate(places) if places else np.empty(0), kind="stable")
    return ordered["image"].gather(order[:count])

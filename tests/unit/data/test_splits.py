"""Splits are stratified, repeatable, keep together what belongs together, and respect the source."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knowngood.data.records import Records, table
from knowngood.data.splits import Shares, kfold, settle, split
from knowngood.errors import ConfigError, DataError


def made(
    good: int, defects: dict[str, int], *, lots: int | None = None, seed: int = 0, **columns: list[object]
) -> Records:
    """Records without files, as a source would list them."""
    kinds: list[str | None] = [None] * good + [name for name, count in defects.items() for _ in range(count)]
    rng = np.random.default_rng(seed)
    names = [f"{i:05}.png" for i in range(len(kinds))]
    frame = table(
        {
            "image": names,
            "path": [f"/nowhere/{name}" for name in names],
            "label": [0 if kind is None else 1 for kind in kinds],
            "defect": kinds,
            "lot": [f"lot {n}" for n in rng.integers(0, lots, len(kinds))] if lots else [None] * len(kinds),
            "sha256": [f"{n:016x}" for n in rng.permutation(len(kinds))],
            **columns,
        }
    )
    return Records(frame, "made", Path("/nowhere"))


def alone(records: Records) -> np.ndarray:
    return np.arange(len(records))


def test_shares_and_strata() -> None:
    records = made(900, {"scratch": 80, "chip": 20})
    frame = split(records, groups=alone(records)).frame
    sizes = dict(frame.group_by("split").len().iter_rows())
    for name, size in {"test": 250, "val": 75, "calibration": 150, "train": 525}.items():
        assert abs(sizes[name] - size) <= size**0.5
    for name, share in (("test", 0.25), ("train", 0.525)):
        part = frame.filter(pl.col("split") == name)
        assert abs((part["defect"] == "scratch").sum() - 80 * share) <= (80 * share) ** 0.5
        assert abs((part["defect"] == "chip").sum() - 20 * share) <= (20 * share) ** 0.5


def test_rare_defects_are_spread() -> None:
    records = made(100, {"chip": 40, "pocket": 5, "twice": 2})
    frame = split(records, groups=alone(records)).frame
    assert {"train", "test"} <= set(frame.filter(pl.col("defect") == "pocket")["split"])
    assert set(frame.filter(pl.col("defect") == "twice")["split"]) == {"train", "test"}


@given(
    good=st.integers(30, 120),
    bad=st.integers(10, 60),
    rare=st.integers(0, 3),
    lots=st.integers(20, 60),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_lots_stay_whole_and_order_is_irrelevant(good: int, bad: int, rare: int, lots: int, seed: int) -> None:
    records = made(good, {"chip": bad, **({"rare": rare} if rare else {})}, lots=lots, seed=seed)
    try:
        done = split(records, seed=seed)
    except DataError as error:
        if "lot" not in str(error):
            raise
        return  # so few lots that one of them would have to be divided
    assert done.frame.group_by("lot").agg(pl.col("split").n_unique())["split"].max() == 1
    for name in ("train", "val", "calibration", "test"):
        counts = done.of_split(name).counts()
        assert counts["good"]
        assert counts["bad"]
    shuffled = records.with_frame(records.frame.sample(fraction=1, shuffle=True, seed=seed))
    again = dict(split(shuffled, seed=seed).frame.select("image", "split").iter_rows())
    assert again == dict(done.frame.select("image", "split").iter_rows())


def test_seed_matters() -> None:
    records = made(100, {"chip": 40})
    one, two = (split(records, seed=s, groups=alone(records)).frame["split"].to_list() for s in (0, 1))
    assert one != two


def test_given_splits_are_kept() -> None:
    given_splits = [["train", "test"][i % 4 == 0] for i in range(140)]
    records = made(100, {"chip": 40}, split=given_splits)
    frame = split(records, groups=alone(records)).frame
    assert [s == "test" for s in frame["split"]] == [s == "test" for s in given_splits]
    assert set(frame["split"]) == {"train", "val", "calibration", "test"}
    anew = split(records, Shares(resplit=True), groups=alone(records)).frame
    assert [s == "test" for s in anew["split"]] != [s == "test" for s in given_splits]


def test_unlabelled_test_stays_and_a_labelled_one_is_carved() -> None:
    records = made(100, {"chip": 40}, split=["train"] * 110 + ["test"] * 30)
    hidden = records.frame.with_columns(
        label=pl.when(pl.col("split") == "test").then(None).otherwise(pl.col("label")).cast(pl.UInt8)
    )
    hidden = hidden.with_columns(defect=pl.when(pl.col("label") == 1).then(pl.col("defect")))
    done = split(records.with_frame(hidden), groups=alone(records))
    assert done.of_split("test").counts()["unlabelled"] == 30
    assert done.of_split("test").counts()["bad"] >= 2
    assert not done.of_split("train").counts()["unlabelled"]


def test_given_test_without_bads_is_noted() -> None:
    records = made(100, {"chip": 40}, split=["test"] * 20 + ["train"] * 120)
    assert any("test" in note and "no bad" in note for note in split(records, groups=alone(records)).notes)


def test_generated_images_and_their_kin_train() -> None:
    records = made(100, {"chip": 40}, generated=[False] * 130 + [True] * 10)
    groups = alone(records)
    groups[130:] = groups[100:110]  # each generated image is a copy of a real bad one
    splits = split(records, groups=groups).frame["split"].to_list()
    assert set(splits[130:]) == {"train"}
    assert set(splits[100:110]) == {"train"}
    assert set(splits[110:130]) == {"train", "val", "calibration", "test"}


def test_unreadable_rows_are_left_out() -> None:
    records = made(100, {"chip": 40}, error=["truncated"] * 5 + [None] * 135)
    assert split(records, groups=alone(records)).frame["split"][:5].null_count() == 5


@pytest.mark.parametrize(
    ("records", "words"),
    [
        (made(3, {}), "no bad"),
        (made(0, {"chip": 9}), "no good"),
        (made(2, {"chip": 1}), "3 images are too few"),
        (made(50, {"chip": 20}, lots=1), "only 1 lot or unit"),
        (made(50, {"chip": 20}, split=["train"] * 50 + ["test"] * 20), "no bad"),
    ],
)
def test_what_cannot_be_divided(records: Records, words: str) -> None:
    with pytest.raises(DataError, match=words):
        split(records, groups=None if records.frame["lot"][0] else alone(records))


@pytest.mark.parametrize("shares", [{"test": 1.0}, {"val": -0.1}, {"val": 0.5, "calibration": 0.5}])
def test_shares_are_checked(shares: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        split(made(50, {"chip": 20}), Shares(**shares))


def test_zero_shares_make_no_part() -> None:
    records = made(50, {"chip": 20})
    done = split(records, Shares(test=0, val=0, calibration=0.2), groups=alone(records))
    assert set(done.frame["split"]) == {"train", "calibration"}


def test_folds() -> None:
    records = made(100, {"chip": 40, "rare": 5}, lots=60, error=["gone"] + [None] * 144)
    folds = kfold(records, 5, seed=3)
    assert folds[0] == -1
    assert set(folds[1:]) == set(range(5))
    lots = records.frame["lot"].to_numpy()
    for lot in set(lots[1:]):
        assert len(set(folds[1:][lots[1:] == lot])) == 1
    bads = np.bincount(folds[1:], weights=records.frame["label"].to_numpy()[1:])
    assert bads.min() >= 7
    assert bads.max() <= 11
    with pytest.raises(ConfigError):
        kfold(records, 1)


def test_another_seed_is_another_division_of_lots_as_well() -> None:
    """Lots all differ in weight; dealt out by weight alone, every seed would give the same test lots."""
    records = made(1800, {"chip": 150, "scratch": 50}, lots=40, seed=4)
    tests, trains = [], []
    for seed in range(5):
        frame = split(records, seed=seed).frame
        parts = frame.group_by("lot").agg(pl.col("split").n_unique())
        assert parts["split"].max() == 1
        tests.append(frozenset(frame.filter(pl.col("split") == "test")["lot"]))
        trains.append(frame.filter(pl.col("split") == "train").height / len(records))
        assert abs(frame.filter(pl.col("split") == "test").height / len(records) - 0.25) < 0.05
    assert len(set(tests)) == 5
    shared = [len(a & b) / len(a) for a, b in pairwise(tests)]
    assert np.mean(shared) < 0.6


def placed(records: Records, seed: int = 0) -> dict[str, str]:
    return dict(split(records, seed=seed, groups=alone(records)).frame.select("image", "split").iter_rows())


def shas(count: int) -> list[object]:
    return [hashlib.sha256(str(number).encode()).hexdigest() for number in range(count)]


def test_corrected_labels_move_no_photograph() -> None:
    before = split(made(200, {"chip": 40, "scratch": 12}, sha256=shas(252)))
    rng = np.random.default_rng(0)
    wrong = np.isin(np.arange(252), rng.choice(252, 12, replace=False))
    turned = before.frame.with_columns(
        label=pl.when(pl.Series(wrong)).then(1 - pl.col("label")).otherwise(pl.col("label")).cast(pl.UInt8)
    )
    after = settle(before.with_frame(turned), before)
    assert after.frame["split"].to_list() == before.frame["split"].to_list()


def test_a_part_that_lost_its_last_bad_gets_one_unit_and_what_is_labelled_late_gets_a_part() -> None:
    records = made(60, {"chip": 6}, sha256=shas(66))
    late = records.frame.with_columns(label=pl.when(pl.col("image") == "00007.png").then(None).otherwise("label"))
    before = split(records.with_frame(late))
    last = (before.frame["split"] == "calibration") & (before.frame["label"] == 1).fill_null(False)
    assert last.sum() == 1
    turned = before.frame.with_columns(
        label=pl.when(last | (pl.col("image") == "00007.png")).then(0).otherwise("label").cast(pl.UInt8)
    )
    after = settle(before.with_frame(turned), before)
    moved = [a != b for a, b in zip(after.frame["split"], before.frame["split"], strict=True)]
    assert sum(moved) == 2
    assert after.frame.filter(pl.col("image") == "00007.png")["split"].item() is not None
    assert after.of_split("calibration").counts()["bad"] == 1
    assert "last bad image of calibration" in after.notes[-1]


@pytest.mark.parametrize("kinds", [(900, {"chip": 300}), (92, {"chip": 5, "scratch": 3})])
def test_photographs_that_come_go_or_change_folder_move_few_others(kinds: tuple[int, dict[str, int]]) -> None:
    good, defects = kinds
    total = good + sum(defects.values())
    few = max(1, total // 100)
    moved: dict[str, list[int]] = {"removed": [], "relabelled": []}  # removed, or added: the same seen the other way
    for seed in range(10):
        whole = made(good, defects, sha256=shas(total))
        rng = np.random.default_rng(seed)
        before = placed(whole, seed)
        left = whole.with_frame(whole.frame[np.sort(rng.permutation(total)[few:])])
        after = placed(left, seed)
        moved["removed"].append(sum(after[name] != before[name] for name in after))
        bad = pl.Series(np.isin(np.arange(total), rng.choice(good, few, replace=False)))
        other = whole.frame.with_columns(
            label=pl.when(bad).then(1).otherwise("label").cast(pl.UInt8),
            defect=pl.when(bad).then(pl.lit("chip")).otherwise("defect"),
        )
        after = placed(whole.with_frame(other), seed)
        moved["relabelled"].append(sum(after[name] != before[name] for name in after))
    assert np.mean(moved["removed"]) < 3
    assert np.mean(moved["relabelled"]) < 5
    assert max(max(counts) for counts in moved.values()) <= 12


def test_eight_bads_are_everywhere_and_the_test_hardly_depends_on_the_other_shares() -> None:
    records = made(92, {"chip": 5, "scratch": 3}, sha256=shas(100))
    for seed in range(20):
        done = split(records, seed=seed, groups=alone(records))
        assert [done.of_split(name).counts()["bad"] for name in ("val", "calibration")] == [1, 1]
        assert done.of_split("test").counts()["bad"] == 2
    large = made(900, {"chip": 300}, sha256=shas(1200))
    one = split(large, groups=alone(large)).of_split("test").frame["image"]
    two = split(large, Shares(val=0.2, calibration=0.3), groups=alone(large)).of_split("test").frame["image"]
    assert len(set(one) ^ set(two)) <= 0.05 * len(one)


def test_a_given_split_that_cannot_be_read_is_not_carved_anew() -> None:
    given_splits: list[object] = ["train"] * 110 + ["test"] * 30
    records = made(100, {"chip": 40}, split=given_splits, error=[None] * 110 + ["truncated"] * 30)
    with pytest.raises(DataError, match="30 labelled images of the split test"):
        split(records, groups=alone(records))
    assert split(records, Shares(resplit=True), groups=alone(records)).of_split("test").counts()["bad"]

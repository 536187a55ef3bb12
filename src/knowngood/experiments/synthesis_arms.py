"""The sets that made images are judged against: real bads that their maker knew, and others, goods, blurred bads."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import polars as pl

from knowngood.data.images import decode
from knowngood.data.loading import inspected
from knowngood.data.processes import write_png
from knowngood.data.records import BAD, GOOD, Records, table
from knowngood.data.sources.manifest import ABOUT
from knowngood.errors import DataError, ImageError, KnownGoodError
from knowngood.experiments.configs import ALL
from knowngood.experiments.training_sets import read_generated, spread_over_defects, with_generated
from knowngood.files import storage_errors
from knowngood.synthesis.generators import open_maker
from knowngood.synthesis.writing import taught_in, write_set

Pixels: TypeAlias = npt.NDArray[np.uint8]
LEAST = 5  # real bads that the maker did not know: fewer say nothing about likeness
_GOODS = 1000  # a reference point needs no more
BLUR = 0.04  # standard deviation of the blur, share of the shorter side


@dataclass(frozen=True)
class Sets:
    """What is compared. Test images are in none of them.

    Attributes:
        made: The made images.
        known: Real bads that the maker learned from.
        unseen: Real bads that it did not learn from: the measure of likeness.
        good: Real good images.
        notes: How they came about.
    """

    made: Records
    known: Records
    unseen: Records
    good: Records
    notes: tuple[str, ...]


def sets_of(made: Records, divided: Records, taught: pl.DataFrame | None, most: int, seed: int) -> Sets:
    """Finds the sets.

    Args:
        made: Made images, labelled; only the bad ones are judged.
        divided: Photographs with splits; test images are left out.
        taught: What the maker learned from; None takes the whole training split for it.
        most: Images of each kind.
        seed: Which are drawn where there are more.

    Raises:
        DataError: No made image is bad, or too few real bads were kept from the maker.
    """
    frame = divided.frame.filter(
        ~pl.col("generated") & pl.col("split").is_in(["train", "val", "calibration"]) & pl.col("error").is_null()
    )
    bads = frame.filter(pl.col("label") == BAD)
    learned = pl.col("split") == "train" if taught is None else pl.col("sha256").is_in(taught["sha256"].to_list())
    known, unseen = bads.filter(learned), bads.filter(~learned)
    shown = made.frame.filter(pl.col("label") == BAD)
    if not shown.height:
        raise DataError("None of the made images is labelled bad.", expected="made bad images")
    if taught is not None and bads.height and not known.height:
        raise DataError(
            "The made images were made of other photographs: none of these real bads taught their maker.",
            expected="the photographs, and the splits and --seed, that they were made with",
        )
    if unseen.height < LEAST or known.height < 2:
        raise DataError(
            f"Of {bads.height} real bad images outside of the test {known.height} taught the maker and {unseen.height} "
            "did not.",
            expected=f"at least 2 and {LEAST}: likeness is measured on real bads that the maker did not see",
            fix="A larger --val and --calibration, for the maker's training too; or the splits that it was made with.",
        )
    whose = unseen["split"].unique().sort().to_list()
    notes = [f"Likeness is measured against {unseen.height} real bads that the maker did not see ({', '.join(whose)})."]
    if taught is None:
        notes.append("What the maker learned from is not written down: the whole training split is taken for it.")
    goods = frame.filter((pl.col("label") == GOOD) & ~learned)
    return Sets(
        made.with_frame(_some(shown, most, seed)),
        divided.with_frame(_some(known, most, seed)),
        divided.with_frame(_some(unseen, most, seed)),
        divided.with_frame(_some(goods, min(most, _GOODS), seed)),
        (*notes, "No test image was looked at for this."),
    )


def _some(frame: pl.DataFrame, most: int, seed: int) -> pl.DataFrame:
    if frame.height <= most:
        return frame
    chosen = np.sort(np.random.default_rng(seed).permutation(frame.height)[:most])
    return frame.sort("image")[chosen]


def blurred(pixels: Pixels) -> Pixels:
    """Returns a picture that is clearly too blurred: what a made one has to be better than."""
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), BLUR * min(pixels.shape[:2])), np.uint8)


def sized(height: int, width: int) -> Callable[[Pixels], Pixels]:
    """Returns what brings a picture to a size, area averages."""

    def change(pixels: Pixels) -> Pixels:
        if pixels.shape[:2] == (height, width):
            return pixels
        return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)

    return change


def changed(records: Records, change: Callable[[Pixels], Pixels], folder: Path) -> Records:
    """Returns the same images changed, written as PNG into a folder; those that cannot be decoded are left out."""
    rows: dict[str, list[object]] = {"image": [], "path": [], "label": [], "defect": []}
    with storage_errors(folder):
        for number, row in enumerate(records.frame.iter_rows(named=True)):
            try:
                pixels = decode(row["path"])
            except ImageError:
                continue
            target = folder / f"{number:06d}.png"
            write_png(target, change(pixels), 1)
            for name, value in (("image", row["image"]), ("path", os.fspath(target.absolute()))):
                rows[name].append(value)
            rows["label"].append(row["label"])
            rows["defect"].append(row["defect"])
    return records.with_frame(inspected(table(rows)))


def joined(parts: Mapping[str, Records]) -> Records:
    """Returns several sets as one, each image's name behind the set's: a network sees them at one size."""
    first = next(iter(parts.values()))
    frames = [
        one.frame.with_columns(image=pl.lit(f"{name}/") + pl.col("image"), split=pl.lit(None), generated=pl.lit(False))
        for name, one in parts.items()
    ]
    return first.with_frame(table(pl.concat([table(frame) for frame in frames])))


NONE, EVERYTHING, ALONE = "none", "all of these", "made alone"
OURS = ("transforms", "transplant")  # made anew of the bads of each regime


@dataclass(frozen=True)
class GivenSet:
    """A made set that the user brought.

    Attributes:
        place: Folder or manifest.
        maker: Name of its arm.
        taught: SHA-256 of the bads that its maker learned from; None where that is not written down.
        bads: How many bad images it holds.
    """

    place: Path
    maker: str
    taught: frozenset[str] | None
    bads: int

    def knew(self) -> int:
        """Returns how many bads its maker learned from; a set that does not say is taken to know all."""
        return 1 << 60 if self.taught is None else len(self.taught)


@dataclass(frozen=True)
class Arm:
    """A training set of one regime and seed.

    Attributes:
        name: Of the arm.
        records: With splits; made images are of the split train.
        said: What was done, in a sentence.
    """

    name: str
    records: Records
    said: str


def given_set(place: Path) -> GivenSet:
    """Reads what a made set says of itself.

    Raises:
        DataError: It cannot be read, or holds no bad image.
    """
    frame = read_generated(place)
    bads = int((frame["label"] == BAD).sum())
    if not bads:
        raise DataError(f"None of the images in {str(place)!r} is labelled bad.", expected="made bad images")
    taught = taught_in(place)
    known = None if taught is None else frozenset(taught.filter(pl.col("label") == BAD)["sha256"].drop_nulls())
    return GivenSet(place, _maker_of(place), known, bads)


def _maker_of(place: Path) -> str:
    try:
        about = json.loads(((place if place.is_dir() else place.parent) / ABOUT).read_text(encoding="utf-8"))
        return str(about["config"]["maker"])
    except (OSError, ValueError, KeyError, TypeError):
        return "generated"


def chosen_for(regime: str, given: Sequence[GivenSet]) -> dict[str, GivenSet]:
    """Returns for each maker the set to use in a regime: taught on as many bads as there are, or else on fewest.

    What can be made here, anew of the bads of the regime, is not taken from a set whose maker knew more.
    """
    room = 1 << 61 if regime == ALL else int(regime)
    chosen: dict[str, GivenSet] = {}
    for one in sorted(given, key=lambda each: each.knew()):
        if one.knew() <= room or (one.maker not in chosen and one.maker not in OURS):
            chosen[one.maker] = one
    return chosen


def thinned(divided: Records, regime: str, first: frozenset[str], seed: int, *, whole_val: bool) -> Records:
    """Returns the set with so many real bads in the training split; the others have no split.

    Args:
        divided: With splits.
        regime: A number, or "all".
        first: SHA-256 of bads that are kept before others: those that a maker learned from.
        seed: Which others are kept; every defect keeps its share.
        whole_val: Whether bads of the split val stay (they choose an epoch), or go too (they would teach).
    """
    if regime == ALL:
        return divided
    frame = divided.frame
    bads = frame.filter((pl.col("split") == "train") & (pl.col("label") == BAD))
    known = bads.filter(pl.col("sha256").is_in(list(first)))
    if known.height > int(regime):
        known = known.clear()  # the maker saw more than there are: these are drawn as if it had seen none
    others = bads.join(known, on="image", how="anti")
    kept = pl.concat([known["image"], spread_over_defects(others, int(regime) - known.height, seed)]).to_list()
    goes = (pl.col("label") == BAD) & (
        ((pl.col("split") == "train") & ~pl.col("image").is_in(kept)) | ((pl.col("split") == "val") & (not whole_val))
    )
    return divided.with_frame(frame.with_columns(split=pl.when(goes.fill_null(False)).then(None).otherwise("split")))


def arms_of(
    records: Records, given: dict[str, GivenSet], count: int, seed: int, work: Path
) -> tuple[list[Arm], dict[str, str]]:
    """Returns the arms of one regime and seed, none first, and why others cannot be had.

    Args:
        records: With splits, thinned.
        given: Maker to the set that was brought.
        count: Images that each arm adds.
        seed: Of the makers.
        work: Folder for what is made here.
    """
    places: dict[str, Path] = {}
    left_out: dict[str, str] = {}
    for name in OURS:
        if name in given:
            continue
        try:
            maker = open_maker(name, records, seed)
            places[name] = write_set(name, maker, work / name, count, seed, force=True).folder
        except KnownGoodError as refused:
            left_out[name] = refused.what
    places |= {name: one.place for name, one in given.items()}
    arms = [Arm(NONE, records, "nothing added")]
    for name, place in places.items():
        arms.append(Arm(name, *with_generated(records, place, called=name, most=count)))
    if len(places) > 1:
        together = records
        for name, place in places.items():
            together, _ = with_generated(together, place, called=name, most=count)
        arms.append(Arm(EVERYTHING, together, f"{' and '.join(places)} added"))
    whose = [*given] or [name for name in places if name == "transplant"]
    arms += [_alone(arm) for arm in list(arms) if arm.name in whose]
    return arms, left_out


def _alone(arm: Arm) -> Arm:
    """Returns the arm without real bads: what made images teach by themselves."""
    learning = pl.col("split").is_in(["train", "val"])
    real = (pl.col("label") == BAD) & ~pl.col("generated") & learning
    frame = arm.records.frame.with_columns(
        split=pl.when(real.fill_null(False)).then(None).otherwise("split"),
        generated=pl.lit(False),  # folds hold them out as they would real ones
    )
    return Arm(f"{arm.name}, {ALONE}", arm.records.with_frame(frame), "no real bad image in training")


def groups_with(records: Records, groups: dict[str, int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Returns what belongs together (N,): made images with what they were made from, else each alone."""
    frame, free = records.frame, max(groups.values(), default=0) + 1
    numbers = []
    for row, (image, source) in enumerate(frame.select("image", "made_from").iter_rows()):
        own = groups.get(image)
        numbers.append(own if own is not None else groups.get(source, free + row))
    return np.array(numbers, np.int64)

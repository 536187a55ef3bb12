"""What a trial of made images compares: the same few real bads, alone and with images added from each maker."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from knowngood.data.records import BAD, Records
from knowngood.data.sources.manifest import ABOUT
from knowngood.errors import DataError, KnownGoodError
from knowngood.study.comparison.sets import spread_over_defects
from knowngood.study.comparison.variants.generated import read_generated, with_generated
from knowngood.study.judging.config import ALL
from knowngood.synthesis.makers import open_maker
from knowngood.synthesis.writing import taught_in, write_set

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

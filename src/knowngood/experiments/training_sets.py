"""The splits of a comparison: the same for every row, one division a seed, smaller where the user asks for it."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from knowngood.data.augmentation import policy_named
from knowngood.data.loading import load
from knowngood.data.records import BAD, GOOD, SPLITS, Records
from knowngood.data.sources import SOURCES
from knowngood.data.splits import split
from knowngood.data.tabular import read_frame
from knowngood.errors import ConfigError, DataError
from knowngood.experiments.configs import CompareConfig
from knowngood.files import cache_folder
from knowngood.models.backbones import BACKBONES
from knowngood.models.features import features
from knowngood.outliers.audit_table import machine_for, study_outliers
from knowngood.outliers.detectors import DETECTORS
from knowngood.registry import Registry
from knowngood.synthesis.generators import open_maker
from knowngood.synthesis.writing import taught_in, write_set
from knowngood.wording import counted

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
    whole = split(records, config, seed=seed, groups=groups)
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


@dataclass(frozen=True)
class TrainingSet:
    """What a training is given.

    Attributes:
        records: Every split; a row an image.
        augment: Policy of the transforms on the fly.
        changes: One sentence for each change that was made.
    """

    records: Records
    augment: str = "none"
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ChangeOptions:
    """What the user chose that changes of the training set may need.

    Attributes:
        augment: Policy for transforms on the fly.
        generated: Folder or manifest of generated images.
        model: Pretrained network in whose features outliers are looked for.
        seed: Of everything drawn.
    """

    augment: str = "study"
    generated: Path | None = None
    model: str = "resnet50"
    seed: int = 0


class TrainingSetChange(Protocol):
    """One change to a training set. Implementations are plain classes without arguments."""

    summary: str

    def check(self, options: ChangeOptions) -> None:
        """Looks at the options before anything is read.

        Raises:
            KnownGoodError: Something is missing that `apply` will need.
        """
        ...

    def apply(self, given: TrainingSet, options: ChangeOptions) -> TrainingSet:
        """Returns the changed set; rows of other splits than train stay as they are, new rows are marked generated."""
        ...


TRAINING_SET_CHANGES: Registry[type[TrainingSetChange]] = Registry(
    "training set",
    "knowngood.training_set_changes",
    {
        "as-is": "knowngood.experiments.training_sets:AsIs",
        "transforms": "knowngood.experiments.training_sets:Transforms",
        "without-outliers": "knowngood.experiments.training_sets:WithoutOutliers",
        "generated": "knowngood.experiments.training_sets:Generated",
        "transplant": "knowngood.experiments.training_sets:Transplant",
    },
)


def changes_named(name: str) -> tuple[TrainingSetChange, ...]:
    """Returns the changes behind a name; "a+b" makes a, then b.

    Raises:
        UnknownNameError: No such training set; the nearest names are suggested.
    """
    return tuple(TRAINING_SET_CHANGES.get(part)() for part in name.split("+"))


class AsIs:
    """Changes nothing."""

    summary = "the images as they are, without transforms"

    def check(self, options: ChangeOptions) -> None:
        """Needs nothing."""

    def apply(self, given: TrainingSet, options: ChangeOptions) -> TrainingSet:
        """Returns what was given."""
        return given


class Transforms:
    """Turns on transforms on the fly."""

    summary = "the study's transforms on the fly: small rotations, shifts, brightness, contrast, saturation"

    def check(self, options: ChangeOptions) -> None:
        """Looks for the policy.

        Raises:
            UnknownNameError: There is no such policy.
        """
        policy_named(options.augment)

    def apply(self, given: TrainingSet, options: ChangeOptions) -> TrainingSet:
        """Returns the same images with the policy."""
        change = f"transforms on the fly ({options.augment})"
        return replace(given, augment=options.augment, changes=(*given.changes, change))


_PARENTS = ("made_from", "source", "parent")  # columns of a manifest that name the image one was made from


class Generated:
    """Adds images of `--generated` to the training split, marked as generated."""

    summary = "with the images of --generated added to the training split, and to no other"

    def check(self, options: ChangeOptions) -> None:
        """Looks whether there is anything to add.

        Raises:
            ConfigError: `--generated` is not given.
            DataError: There is nothing there.
        """
        if options.generated is None:
            raise ConfigError(
                "The training set generated needs generated images, and there is no --generated.",
                expected="a folder of images for each defect beside good/, or a manifest with image,label",
                fix="--generated FOLDER, or leave generated out of --training-sets.",
            )
        if not any(source().recognises(options.generated) for _, source in SOURCES.items()):
            load(options.generated)  # says what is there, and what was expected

    def apply(self, given: TrainingSet, options: ChangeOptions) -> TrainingSet:
        """Returns the set with them; one that was made from a held-out image, or is one, stays out.

        Raises:
            DataError: They cannot be read, or have no labels.
        """
        assert options.generated is not None
        both, said = with_generated(given.records, options.generated)
        return replace(given, records=both, changes=(*given.changes, said))


def with_generated(
    records: Records, place: Path, *, called: str = "generated", most: int | None = None
) -> tuple[Records, str]:
    """Adds generated images to the training split; one that was made from a held-out image, or is one, stays out.

    Args:
        records: With splits.
        place: Folder or manifest of the images.
        called: What their names begin with.
        most: How many are added at most, the first of those that may be.

    Returns:
        The larger set, and what was done in a sentence.

    Raises:
        DataError: They cannot be read, have no labels, or their maker learned from test images.
    """
    made = read_generated(place)
    frame = records.frame
    known = frame.select("image", "path", "split", "sha256")
    held_out = known.filter((pl.col("split") != "train").fill_null(True))
    names = set(held_out["image"].to_list()) | set(held_out["path"].to_list())
    leaks = pl.col("sha256").is_in(held_out["sha256"].drop_nulls().to_list()) | pl.col("parent").is_in(list(names))
    shows = pl.Series([bool(names.intersection(also or ())) for also in made["also_from"].to_list()], dtype=pl.Boolean)
    safe = (
        made.filter(~leaks.fill_null(False) & ~shows)
        .drop("parent")
        .with_columns(image=pl.lit(f"{called}/") + pl.col("image"), split=pl.lit("train"), generated=pl.lit(True))
    )
    added = safe if most is None else safe.head(most)
    bads = int((added["label"] == BAD).sum())
    said = f"{added.height} generated images added to training ({added.height - bads} good, {bads} bad)"
    if safe.height < made.height:
        said += f"; {made.height - safe.height} left out, made from images that are held out"
    elif made["parent"].null_count():
        said += _learning(place, held_out)
    return records.with_frame(pl.concat([frame, added.select(frame.columns)])), said


def _learning(place: Path, held_out: pl.DataFrame) -> str:
    """Says what is known of the images that the maker of images without parents learned from.

    Raises:
        DataError: It learned from test images.
    """
    taught = taught_in(place)
    if taught is None:
        return "; what they were made from is not known here: let it be no test images"
    seen = held_out.filter(pl.col("sha256").is_in(taught["sha256"].drop_nulls().to_list()))
    tests = int((seen["split"] == "test").sum())
    if tests:
        raise DataError(
            f"What made the images in {str(place)!r} learned from {tests} images that are test images here.",
            expected="a generator that learned from the training split of these splits",
            fix="Make them anew with the seed and the splits that they are compared with.",
        )
    return f"; their maker learned from {seen.height} held-out images (none of the test)" if seen.height else ""


def read_generated(place: Path) -> pl.DataFrame:
    """Returns the records table of the generated images with one more column, the image each was made from.

    Of a manifest that says which of its images are generated, the others are not new and are passed over.

    Raises:
        DataError: They cannot be read, or have no labels.
    """
    found: Records = load(place).usable()
    if found.frame["generated"].any():
        found = found.with_frame(found.frame.filter("generated"))
    unlabelled = found.counts()["unlabelled"]
    if not len(found) or unlabelled:
        raise DataError(
            f"Of the {len(found)} readable images in {str(place)!r}, {unlabelled} have no label.",
            expected="generated images with a label each",
            fix="Put them into folders named good or after their defect, or name them in a manifest with image,label.",
        )
    return found.frame.join(_parents(place), on="image", how="left", maintain_order="left")


def _parents(place: Path) -> pl.DataFrame:
    """Reads which image each was made from, where the set has a manifest that says so."""
    nothing = pl.DataFrame(schema={"image": pl.String, "parent": pl.String})
    files = [place] if place.is_file() else [place / "manifest.csv", place / "manifest.parquet"]
    file = next((f for f in files if f.is_file()), None)
    if file is None:
        return nothing
    raw = read_frame(file)
    column = next((name for name in _PARENTS if name in raw.columns), None)
    if column is None:
        return nothing
    paths = pl.Series("image", [os.path.normpath(str(name)) for name in raw["image"].to_list()], dtype=pl.String)
    called = raw["known_as"].cast(pl.String).fill_null(paths) if "known_as" in raw.columns else paths
    both = pl.concat([called, paths]).alias("image")  # a source may call an image by either name
    return pl.DataFrame({"image": both, "parent": pl.concat([raw[column].cast(pl.String)] * 2)}).unique("image")


class Transplant:
    """Adds as many transplants as the training split has bad images."""

    summary = "with as many transplants added as there are bad training images: their defects, in good ones"

    def check(self, options: ChangeOptions) -> None:
        """Needs nothing; whether a mask or box says where defects are is known once the images are read."""

    def apply(self, given: TrainingSet, options: ChangeOptions) -> TrainingSet:
        """Returns the set with them; they are kept in the cache.

        Raises:
            DataError: No bad training image says where its defect is.
        """
        maker = open_maker("transplant", given.records, options.seed)
        count = int((maker.taught["label"] == BAD).sum())
        key = json.dumps([maker.identity, options.seed, count], sort_keys=True)
        place = cache_folder("transplants") / hashlib.sha256(key.encode()).hexdigest()[:16]
        made = write_set("transplant", maker, place, count, options.seed)
        both, said = with_generated(given.records, made.folder, called="generated/transplant")
        return replace(given, records=both, changes=(*given.changes, f"transplants: {said}"))


class WithoutOutliers:
    """Leaves out training images that a one-class machine and an isolation forest both call outliers."""

    summary = "without the images that a one-class SVM and an isolation forest both call outliers"

    def check(self, options: ChangeOptions) -> None:
        """Looks for the network.

        Raises:
            UnknownNameError: There is no such network.
        """
        BACKBONES.get(options.model)

    def apply(self, given: TrainingSet, options: ChangeOptions) -> TrainingSet:
        """Returns the set without them; only training images are looked at, and no generated ones.

        Raises:
            WeightsError: The network's weights are not to be had.
        """
        frame = given.records.frame
        looked_at = (frame["split"] == "train").fill_null(False) & ~frame["generated"]
        training = given.records.with_frame(frame.filter(looked_at))
        rows = features(training, options.model).rows
        sound = np.isfinite(rows).all(axis=1)  # what cannot be decoded is not trained on anyway
        machine = DETECTORS.get(machine_for(int(sound.sum())))(seed=options.seed)
        flagged = study_outliers(rows[sound], options.seed, machine=machine).outlier
        out = training.frame.filter(pl.Series(sound)).filter(pl.Series(flagged))
        bads = int((out["label"] == BAD).sum())
        change = f"{counted(out.height, 'outlier')} left out of training ({out.height - bads} good, {bads} bad)"
        kept = given.records.with_frame(frame.filter(~pl.col("image").is_in(out["image"].to_list())))
        return replace(given, records=kept, changes=(*given.changes, change))

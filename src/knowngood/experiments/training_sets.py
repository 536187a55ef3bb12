"""The splits of a comparison, the same for all its rows, and the changes of the training set that it compares."""

from __future__ import annotations

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
from knowngood.files import cache_folder, cache_key
from knowngood.models.backbones import BACKBONES
from knowngood.models.features import features
from knowngood.outliers.audit_table import machine_for, study_outliers
from knowngood.outliers.detectors import DETECTORS
from knowngood.registry import Registry
from knowngood.synthesis.generators import open_image_generator
from knowngood.synthesis.writing import training_images_of, write_set
from knowngood.wording import counted

LEAST = 2  # of each class in each split: DeLong's test needs two, and so does a calibration


def divide(records: Records, groups: npt.NDArray[np.int64], config: CompareConfig, seed: int) -> Records:
    """Returns the labelled, readable rows with the splits of one seed.

    Args:
        records: Labelled and readable rows.
        groups: (N,) rows with equal numbers stay in one split, from `groups_of`.
        config: Shares and limits.
        seed: Of the splits and of the choice under a limit.

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
    """Returns a set with fewer training and test images and the same shares of classes and defects.

    Args:
        records: Labelled rows with splits.
        train: Most images of the training split; validation and calibration shrink in the same proportion.
        test: Most images of the test split.
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
    """Returns the names of about `count` rows with the same shares of classes and defects."""
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
    """A set with splits, and how it is augmented.

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
    """Options of the changes of a training set.

    Attributes:
        augment: Policy for transforms on the fly.
        generated: Folder or manifest of generated images.
        model: Pretrained network for the features in which outliers are found.
        seed: Of everything drawn.
    """

    augment: str = "study"
    generated: Path | None = None
    model: str = "resnet50"
    seed: int = 0


class TrainingSetChange(Protocol):
    """One change of a training set. Implementations are plain classes without arguments."""

    summary: str

    def check(self, options: ChangeOptions) -> None:
        """Checks the options before anything is read.

        Raises:
            KnownGoodError: An option that `apply` needs is missing.
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
    """Returns the changes of a training set by its name; "a+b" applies a, then b.

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
    """Augments the training images on the fly."""

    summary = "the study's transforms on the fly: small rotations, shifts, brightness, contrast, saturation"

    def check(self, options: ChangeOptions) -> None:
        """Checks that the policy exists.

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
        """Checks that there are images to add.

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
        """Returns the set with them, without those that were made from, or are, held-out images.

        Raises:
            DataError: They cannot be read, or have no labels.
        """
        assert options.generated is not None
        both, change = with_generated(given.records, options.generated)
        return replace(given, records=both, changes=(*given.changes, change))


def with_generated(
    records: Records, place: Path, *, called: str = "generated", most: int | None = None
) -> tuple[Records, str]:
    """Adds generated images to the training split, without those that were made from, or are, held-out images.

    Args:
        records: With splits.
        place: Folder or manifest of the images.
        called: Prefix of their names.
        most: How many are added at most, the first ones.

    Returns:
        The larger set, and a sentence on the change.

    Raises:
        DataError: They cannot be read, have no labels, or their generator was trained on test images.
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
    change = f"{added.height} generated images added to training ({added.height - bads} good, {bads} bad)"
    if safe.height < made.height:
        change += f"; {made.height - safe.height} left out, made from images that are held out"
    elif made["parent"].null_count():
        change += _trained_on(place, held_out)
    return records.with_frame(pl.concat([frame, added.select(frame.columns)])), change


def _trained_on(place: Path, held_out: pl.DataFrame) -> str:
    """Returns a clause on the images that the generator of images without parents was trained on.

    Raises:
        DataError: It was trained on test images.
    """
    trained_on = training_images_of(place)
    if trained_on is None:
        return "; which images they were made from is not known; make sure that none is a test image"
    seen = held_out.filter(pl.col("sha256").is_in(trained_on["sha256"].drop_nulls().to_list()))
    tests = int((seen["split"] == "test").sum())
    if tests:
        raise DataError(
            f"The generator of the images in {str(place)!r} was trained on {tests} images that are test images here.",
            expected="a generator that was trained on the training split of these splits",
            fix="Make them again with the seed and the splits that they are compared with.",
        )
    return f"; their generator was trained on {seen.height} held-out images (none of the test)" if seen.height else ""


def read_generated(place: Path) -> pl.DataFrame:
    """Returns the records table of the generated images with one more column, the image each was made from.

    Of a manifest that marks its generated images, only these are returned.

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
    """Returns the columns image and parent of a generated set whose manifest has them, else an empty table."""
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
            DataError: No bad training image has a located defect.
        """
        generator = open_image_generator("transplant", given.records, options.seed)
        count = int((generator.training_images["label"] == BAD).sum())
        place = cache_folder("transplants") / cache_key(generator.identity, options.seed, count)
        made = write_set("transplant", generator, place, count, options.seed)
        both, change = with_generated(given.records, made.folder, called="generated/transplant")
        return replace(given, records=both, changes=(*given.changes, f"transplants: {change}"))


class WithoutOutliers:
    """Removes training images that a one-class SVM and an isolation forest both call outliers."""

    summary = "without the images that a one-class SVM and an isolation forest both call outliers"

    def check(self, options: ChangeOptions) -> None:
        """Checks that the network exists.

        Raises:
            UnknownNameError: There is no such network.
        """
        BACKBONES.get(options.model)

    def apply(self, given: TrainingSet, options: ChangeOptions) -> TrainingSet:
        """Returns the set without them; outliers are searched among real training images only.

        Raises:
            WeightsError: The weights of the network are not available.
        """
        frame = given.records.frame
        looked_at = (frame["split"] == "train").fill_null(False) & ~frame["generated"]
        training = given.records.with_frame(frame.filter(looked_at))
        rows = features(training, options.model).rows
        sound = np.isfinite(rows).all(axis=1)  # what cannot be decoded is not trained on anyway
        detector = DETECTORS.get(machine_for(int(sound.sum())))(seed=options.seed)
        flagged = study_outliers(rows[sound], options.seed, machine=detector).outlier
        out = training.frame.filter(pl.Series(sound)).filter(pl.Series(flagged))
        bads = int((out["label"] == BAD).sum())
        change = f"{counted(out.height, 'outlier')} left out of training ({out.height - bads} good, {bads} bad)"
        kept = given.records.with_frame(frame.filter(~pl.col("image").is_in(out["image"].to_list())))
        return replace(given, records=kept, changes=(*given.changes, change))

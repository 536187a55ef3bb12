"""Dividing a set into train, val, calibration and test so that the test figures can be believed.

The division is a property of the photographs. What is never divided (a lot, a unit, copies of one photograph) has a
name that neither labels nor the order of the rows change, and a hash of that name and the seed says into which part it
falls. The hash alone would leave small classes to chance, so a class and a defect may stray from their shares by about
one standard deviation of that chance, and not at all where a part would get fewer than nine of them: what would stray
farther falls into the part that its next hash names. Hence:

- Corrections that are taken over after the division (`--verdicts`) move nothing.
- Photographs that are added, removed, or put into another folder move no others but a few where a class is at its
  limit: at most about one in each part for each class and defect that changes.
- The test part hardly depends on the shares of val and calibration, and not at all on where the folder lies or how its
  path is spelled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from knowngood.data.allocation import CLASS_NAMES, ORDER, allocate, hash_of
from knowngood.data.records import BAD, GOOD, SPLITS, Records, shows_held_out, source_rows
from knowngood.data.units import groups_of, identities
from knowngood.errors import ConfigError, DataError
from knowngood.wording import counted

Ids: TypeAlias = npt.NDArray[np.int64]


class SplitShares(Protocol):
    """What the configurations of training, comparing, classifying and generating say of splits."""

    @property
    def test(self) -> float: ...
    @property
    def val(self) -> float: ...
    @property
    def calibration(self) -> float: ...
    @property
    def resplit(self) -> bool: ...


@dataclass(frozen=True)
class Shares:
    """How large the splits are.

    Attributes:
        test: Share of all images, 0..1.
        val: Share of what is not test, 0..1.
        calibration: Share of what is not test, 0..1.
        resplit: Whether the splits that the source gave to labelled images are forgotten.
    """

    test: float = 0.25
    val: float = 0.1
    calibration: float = 0.2
    resplit: bool = False


DEFAULT_SHARES = Shares()


def split(
    records: Records,
    shares: SplitShares = DEFAULT_SHARES,
    *,
    seed: int = 0,
    groups: Ids | None = None,
    classes: Sequence[int] = (GOOD, BAD),
) -> Records:
    """Gives every usable, labelled image a split.

    Splits that the source gave are kept; those it did not give are carved out of its training part.
    Unlabelled test images stay in the test, and labelled ones are carved beside them, so that there are test figures.
    What is guaranteed when labels or photographs change is described on top of this module.
    Generated images go to train, and so does all that is grouped with them. Copies that say what they were made
    from decide nothing: they train where all that they show parts of does, and otherwise they are left out.

    Args:
        records: (N rows).
        shares: Sizes of the splits, such as those of a `TrainConfig`.
        seed: Equal seeds, shares and sets give equal splits.
        groups: int64 (N,), equal numbers stay together; by default those of `groups_of`.
        classes: Labels that every part must have; see `knowngood.data.splits`.

    Returns:
        The same rows with `split` filled; it stays null for unlabelled or unreadable images that had none.

    Raises:
        ConfigError: A share is out of range.
        DataError: There is one class only, there are too few images (or lots) of a class, or no image of a split that
            the source gave can be read.
    """
    _check_shares(shares)
    frame = records.frame
    if shares.resplit:
        again = pl.when(pl.col("label").is_null()).then(pl.col("split")).otherwise(None)
        frame = frame.with_columns(split=again)
        records = records.with_frame(frame)
    usable = (frame["label"].is_not_null() & frame["error"].is_null()).to_numpy()
    given = frame["split"].to_numpy()
    labels = frame["label"].fill_null(255).to_numpy()
    has = {name: bool((usable & (given == name)).any()) for name in ("test", "val", "calibration")}
    _check_readable(frame, has)
    generated = frame["generated"].to_numpy()
    pool = usable & ~generated & ((given == "train") | frame["split"].is_null().to_numpy())
    parts = _parts_to_carve(shares, has)
    ids = groups_of(records) if groups is None else np.asarray(groups, np.int64)
    made_from = source_rows(frame)
    pinned = generated & (made_from < 0)
    places = allocate(records, ids, pool, list(parts.values()), seed, pinned=pinned, parts=list(parts), classes=classes)
    result = np.where(pool, np.array([*parts, None], dtype=object)[places], given)
    result[usable & generated & frame["split"].is_null().to_numpy()] = "train"
    strays = ((made_from >= 0) & (result[made_from] != "train")) | shows_held_out(frame, result)
    result[strays] = None
    done = records.with_frame(frame.with_columns(pl.Series("split", result.tolist(), dtype=pl.String)))
    notes = _notes(labels, usable, result, classes)
    if strays.any():
        left_out = counted(int(strays.sum()), "generated copy is", "generated copies are")
        notes += (f"{left_out} left out: what was copied is not in train.",)
    return replace(done, notes=(*records.notes, *notes))


def _parts_to_carve(shares: SplitShares, has: Mapping[str, bool]) -> dict[str, float]:
    """Returns the share of the training part that each split gets, but for those that the source gave."""
    rest = 1 - (0 if has["test"] else shares.test)
    wanted = {
        "test": 0 if has["test"] else shares.test,
        "val": 0 if has["val"] else shares.val * rest,
        "calibration": 0 if has["calibration"] else shares.calibration * rest,
    }
    return {"train": 1 - sum(wanted.values()), **{name: share for name, share in wanted.items() if share > 0}}


def settle(
    divided: Records,
    before: Records,
    shares: SplitShares = DEFAULT_SHARES,
    *,
    seed: int = 0,
    classes: Sequence[int] = (GOOD, BAD),
) -> Records:
    """Completes splits whose labels were corrected afterwards, so that corrections move no photograph.

    What was labelled only now joins its unit, or the part that its hash names. Where a part has lost the last image of
    a class, and only there, one unit of that class moves to it.

    Args:
        divided: (N rows) with the corrected labels and the splits that they had before.
        before: The same division with the labels that it was made with; more rows are no matter.
        shares: As in `split`.
        seed: As in `split`.
        classes: As in `split`.
    """
    frame = divided.frame
    groups = groups_of(divided)
    names = identities(divided, groups)
    result = np.array(frame["split"].to_list(), dtype=object)
    usable = (frame["label"].is_not_null() & frame["error"].is_null() & ~frame["generated"]).to_numpy()
    there: dict[int, str] = {int(g): s for g, s in zip(groups, result, strict=True) if s is not None}
    rest = 1 - shares.test
    ends = np.cumsum([shares.test, shares.calibration * rest, shares.val * rest])
    for row in np.flatnonzero(usable & np.array([one is None for one in result], bool)):
        drawn = int(np.searchsorted(ends, hash_of(names[groups[row]], seed), side="right"))
        result[row] = there.setdefault(int(groups[row]), ORDER[drawn])
    labels = frame["label"].fill_null(255).to_numpy()
    had = before.frame.filter(pl.col("error").is_null())
    notes = []
    for part in SPLITS:
        for label in classes:
            if not ((had["split"] == part) & (had["label"] == label)).any():
                continue
            if (usable & (result == part) & (labels == label)).any():
                continue
            moved = _spare(groups, names, result, usable & (labels == label))
            if moved is not None:
                result[groups == moved] = part
                notes.append(
                    f"The corrections took the last {CLASS_NAMES[label]} image of {part}: one unit was moved there."
                )
    done = divided.with_frame(frame.with_columns(pl.Series("split", result.tolist(), dtype=pl.String)))
    return replace(done, notes=(*divided.notes, *notes))


def _spare(
    groups: Ids, names: list[str], splits: npt.NDArray[np.object_], of_class: npt.NDArray[np.bool_]
) -> int | None:
    """Returns a small group of a class from the part that has most of them; None where no part has two."""
    holders = {part: set(groups[of_class & (splits == part)].tolist()) for part in SPLITS}
    most = max(holders.values(), key=len)
    whole = [g for g in most if len(set(splits[groups == g].tolist()) - {None}) == 1]
    if len(most) < 2 or not whole:
        return None
    return int(min(whole, key=lambda g: (int((groups == g).sum()), names[g])))


def kfold(records: Records, folds: int, seed: int = 0, *, groups: Ids | None = None) -> Ids:
    """Divides the usable, labelled images into folds for cross-validation.

    Args:
        records: (N rows).
        folds: How many, at least 2.
        seed: Equal seeds and equal sets give equal folds.
        groups: As in `split`.

    Returns:
        int64 (N,), fold 0..folds-1 in which the image is held out; negative for images that are never held out
        (unlabelled, unreadable or generated): -1 always trains, -2 - k not while fold k is held out, since it is a
        copy of an image there. `trains_on` reads them.

    Raises:
        ConfigError: Fewer than two folds.
        DataError: There is one class only, or a class has fewer images (or lots) than folds.
    """
    if folds < 2:
        raise ConfigError(f"{folds} folds cannot be made.", expected="at least 2")
    frame = records.frame
    pool = (frame["label"].is_not_null() & frame["error"].is_null() & ~frame["generated"]).to_numpy()
    ids = groups_of(records) if groups is None else np.asarray(groups, np.int64)
    nobody = np.zeros(len(records), bool)
    names = [f"fold {k}" for k in range(folds)]
    result = allocate(records, ids, pool, [1 / folds] * folds, seed, pinned=nobody, parts=names)
    made_from = source_rows(frame)
    copies = (made_from >= 0) & (result[made_from] >= 0)
    result[copies] = -2 - result[made_from[copies]]
    return result


def trains_on(folds: Ids, fold: int) -> npt.NDArray[np.bool_]:
    """Returns which rows (N,) train while `fold` is held out, bool: not its own, and no generated copies of them."""
    return np.asarray(~np.isin(folds, (fold, -2 - fold)), np.bool_)


def kfold_up_to(records: Records, most: int, seed: int = 0, *, groups: Ids | None = None) -> Ids:
    """Divides as `kfold` does, into as many folds (two at least) as the rarer class and its lots allow.

    Raises:
        DataError: Not even two folds can be made.
    """
    groups = groups_of(records) if groups is None else groups
    for folds in range(most, 1, -1):
        try:
            return kfold(records, folds, seed, groups=groups)
        except DataError as error:
            refused = error
    raise DataError(
        f"The {len(records)} images are too few for cross-validation: {refused.what}",
        expected="good and bad images from at least two lots each",
        fix="Add images, or leave the column lot out if lots do not matter here.",
    ) from refused


def _check_readable(frame: pl.DataFrame, has: dict[str, bool]) -> None:
    """Refuses to carve a split anew in silence when the one that the source gave cannot be read."""
    for name, there in has.items():
        lost = frame.filter((pl.col("split") == name) & pl.col("label").is_not_null() & ~pl.col("generated"))
        if lost.height and not there:
            raise DataError(
                f"The {lost.height} labelled images of the split {name} that the source gave cannot be read, first "
                f"{lost['image'][0]!r}: {lost['error'][0]}",
                expected=f"readable images in {name}",
                fix="Mend the files (knowngood check lists them), or divide the others anew with --resplit.",
            )


def _check_shares(shares: SplitShares) -> None:
    for name, share in (("test", shares.test), ("val", shares.val), ("calibration", shares.calibration)):
        if not 0 <= share < 1:
            raise ConfigError(f"The share {name}={share} is out of range.", expected="0 <= share < 1")
    if shares.val + shares.calibration >= 1:
        raise ConfigError(
            f"val={shares.val} and calibration={shares.calibration} leave nothing to train on.",
            expected="a sum below 1",
        )


def _notes(
    labels: npt.NDArray[Any],
    usable: npt.NDArray[np.bool_],
    result: npt.NDArray[np.object_],
    classes: Sequence[int],
) -> tuple[str, ...]:
    notes = []
    for name in ("train", "val", "calibration", "test"):
        inside = usable & (result == name)
        for label in classes:
            if inside.any() and not (inside & (labels == label)).any():
                notes.append(f"The split {name} that the source gave has no {CLASS_NAMES[label]} images.")
    return tuple(notes)


def split_good_only(records: Records, shares: SplitShares, *, seed: int, groups: Ids) -> Records:
    """Divides the good images into train, calibration and test, and puts every bad image into the test.

    Goods are divided as by `split`. Nothing is chosen on a validation split, so one that the source gave counts as
    calibration. A bad image stays in the test even when a lot ties it to good ones in train: that makes the test
    harder, never easier. Generated bad images get no split.

    Args:
        records: (N rows).
        shares: Of the goods, without val, see `good_only_shares`.
        seed: As in `split`.
        groups: int64 (N,), as in `split`.

    Raises:
        DataError: There are too few good images (or lots).
    """
    label, sound = pl.col("label"), pl.col("error").is_null()
    frame = bads_to_test(records).frame.with_columns(pl.col("split").replace("val", "calibration"))
    good = frame.select((sound & (label == GOOD)).fill_null(False)).to_series()
    goods = split(
        replace(records.with_frame(frame.filter(good)), notes=()),
        shares,
        seed=seed,
        groups=groups[good.to_numpy()],
        classes=(GOOD,),
    )
    splits = frame["split"].to_numpy().copy()
    splits[good.to_numpy()] = goods.frame["split"].to_numpy()
    done = records.with_frame(frame.with_columns(pl.Series("split", splits.tolist(), dtype=pl.String)))
    bads = int(((frame["label"] == BAD) & (frame["split"] == "test")).sum())
    verb = "is" if bads == 1 else "are all"
    note = f"Trained on good images alone; {counted(bads, 'bad one')} {verb} in the test split." if bads else ""
    return replace(done, notes=(*records.notes, *goods.notes, *filter(None, [note])))


def good_only_shares(shares: SplitShares) -> Shares:
    """Returns the shares of a training on good images: nothing is chosen on val, so it helps to set the threshold."""
    return Shares(shares.test, 0, shares.val + shares.calibration, shares.resplit)


def bads_to_test(records: Records) -> Records:
    """Returns the records with every readable bad image in the test split; generated ones get none."""
    bad = pl.col("error").is_null() & (pl.col("label") == BAD)
    to = pl.when(pl.col("generated")).then(None).otherwise(pl.lit("test"))
    return records.with_frame(records.frame.with_columns(split=pl.when(bad).then(to).otherwise("split")))

"""Dividing a set into train, val, calibration and test so that the test figures can be believed.

Stratified by label and defect, seeded, independent of the order of the rows, and with everything that belongs
together (a lot, or copies of one photograph) on one side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from knowngood.data.duplicates import near_clusters
from knowngood.data.records import BAD, GOOD, Records, shows_held_out, source_rows
from knowngood.errors import ConfigError, DataError

Ids: TypeAlias = npt.NDArray[np.int64]
_CLASS = {GOOD: "good", BAD: "bad"}
_LARGE = 0.01  # share of the images from which a group is a lot, and not a few copies


def split(
    records: Records,
    *,
    test: float = 0.25,
    val: float = 0.1,
    calibration: float = 0.2,
    seed: int = 0,
    keep_given: bool = True,
    groups: Ids | None = None,
    classes: Sequence[int] = (GOOD, BAD),
) -> Records:
    """Gives every usable, labelled image a split.

    Splits that the source gave are kept; those it did not give are carved out of its training part.
    Unlabelled test images stay in the test, and labelled ones are carved beside them for honest figures.
    Generated images go to train, and so does all that is grouped with them. Copies that say what they were made
    from decide nothing: they train where all that they show parts of does, and otherwise they are left out.

    Args:
        records: (N rows).
        test: Share of all images, 0..1.
        val: Share of what is not test, 0..1.
        calibration: Share of what is not test, 0..1.
        seed: Equal seeds and equal sets give equal splits.
        keep_given: False divides anew and forgets the splits that the source gave to labelled images.
        groups: int64 (N,), equal numbers stay together; by default lots, or near-duplicates without lot.
        classes: Labels that every part must have; see `knowngood.data.good_only`.

    Returns:
        The same rows with `split` filled; it stays null for unlabelled or unreadable images that had none.

    Raises:
        ConfigError: A share is out of range.
        DataError: There is one class only, or there are too few images (or lots) of a class.
    """
    _check_shares(test, val, calibration)
    frame = records.frame
    if not keep_given:
        again = pl.when(pl.col("label").is_null()).then(pl.col("split")).otherwise(None)
        frame = frame.with_columns(split=again)
        records = records.with_frame(frame)
    usable = (frame["label"].is_not_null() & frame["error"].is_null()).to_numpy()
    given = frame["split"].to_numpy()
    labels = frame["label"].fill_null(255).to_numpy()
    has = {name: bool((usable & (given == name)).any()) for name in ("test", "val", "calibration")}
    generated = frame["generated"].to_numpy()
    pool = usable & ~generated & ((given == "train") | frame["split"].is_null().to_numpy())
    rest = 1 - (0 if has["test"] else test)
    shares = {
        "test": 0 if has["test"] else test,
        "val": 0 if has["val"] else val * rest,
        "calibration": 0 if has["calibration"] else calibration * rest,
    }
    shares = {
        "train": 1 - sum(shares.values()),
        **{name: share for name, share in shares.items() if share > 0},
    }
    ids = groups_of(records) if groups is None else np.asarray(groups, np.int64)
    made_from = source_rows(frame)
    pinned = generated & (made_from < 0)
    parts = _assign(records, ids, pool, list(shares.values()), seed, pinned=pinned, parts=list(shares), classes=classes)
    names = np.array([*shares, None], dtype=object)
    result = np.where(pool, names[parts], given)
    result[usable & generated & frame["split"].is_null().to_numpy()] = "train"
    strays = ((made_from >= 0) & (result[made_from] != "train")) | shows_held_out(frame, result)
    result[strays] = None
    done = records.with_frame(frame.with_columns(pl.Series("split", result.tolist(), dtype=pl.String)))
    notes = _notes(labels, usable, result, classes)
    if strays.any():
        notes += (f"{strays.sum()} generated copies are left out, since what they were made from does not train.",)
    return replace(done, notes=(*records.notes, *notes))


def kfold(records: Records, folds: int, seed: int = 0, *, groups: Ids | None = None) -> Ids:
    """Divides the usable, labelled images into folds for cross-validation.

    Args:
        records: (N rows).
        folds: How many, at least 2.
        seed: Equal seeds and equal sets give equal folds.
        groups: As in `split`.

    Returns:
        int64 (N,), fold 0..folds-1 in which the image is held out; negative for images that are never held out
        (unlabelled, unreadable or generated): -1 teaches always, -2 - k not while fold k is held out, since it is a
        copy of an image there. `teaches` reads them.

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
    result = _assign(records, ids, pool, [1 / folds] * folds, seed, pinned=nobody, parts=names)
    made_from = source_rows(frame)
    copies = (made_from >= 0) & (result[made_from] >= 0)
    result[copies] = -2 - result[made_from[copies]]
    return result


def teaches(folds: Ids, fold: int) -> npt.NDArray[np.bool_]:
    """Returns which rows (N,) may teach while `fold` is held out: not its own, and no generated copies of them."""
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
        f"The {len(records)} images are too few to judge a machine on images that it has not seen: {refused.what}",
        expected="good and bad images from at least two lots each",
        fix="Add images, or leave the column lot out if lots do not matter here.",
    ) from refused


def _check_shares(test: float, val: float, calibration: float) -> None:
    for name, share in (("test", test), ("val", val), ("calibration", calibration)):
        if not 0 <= share < 1:
            raise ConfigError(f"The share {name}={share} is out of range.", expected="0 <= share < 1")
    if val + calibration >= 1:
        raise ConfigError(
            f"val={val} and calibration={calibration} leave nothing to train on.", expected="a sum below 1"
        )


def groups_of(records: Records) -> Ids:
    """Returns one number (N,) for what belongs together: the lot, or the near-duplicates; copies with their source."""
    made_from = source_rows(records.frame)
    if (copies := made_from >= 0).any():
        ids = np.zeros(len(records), np.int64)
        ids[~copies] = groups_of(records.with_frame(records.frame.filter(pl.Series(~copies))))
        return np.where(copies, ids[made_from], ids)
    lots = records.frame["lot"]
    if not lots.null_count():
        return lots.rank("dense").to_numpy().astype(np.int64)
    missing = lots.is_null().to_numpy()
    clusters = near_clusters(records.with_frame(records.frame.filter(lots.is_null())))
    ids = np.zeros(len(records), np.int64)
    ids[missing] = clusters
    ids[~missing] = lots.drop_nulls().rank("dense").to_numpy().astype(np.int64) + len(records)
    return ids


def _strata(records: Records, pool: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Returns (N, S) membership in the strata good, bad and each defect type; zero outside the pool."""
    labels = records.frame["label"].fill_null(255).to_numpy()
    defects = records.frame["defect"].fill_null("").to_numpy()
    columns = [labels == GOOD, labels == BAD]
    columns += [(defects == name) & (labels == BAD) for name in sorted(set(defects[pool & (labels == BAD)]))]
    return np.stack(columns, axis=1) * pool[:, None].astype(np.float64)


def _assign(
    records: Records,
    ids: Ids,
    pool: npt.NDArray[np.bool_],
    shares: Sequence[float],
    seed: int,
    *,
    pinned: npt.NDArray[np.bool_],
    parts: Sequence[str],
    classes: Sequence[int] = (GOOD, BAD),
) -> Ids:
    """Deals the groups out, the heaviest and rarest first, each to the part that lacks most of its strata.

    Returns:
        int64 (N,), number of the part; -1 outside the pool.
    """
    strata = _strata(records, pool)
    totals = strata.sum(axis=0)
    order = _canonical_order(records, pool)
    group_of = np.full(len(ids), -1, np.int64)
    seen: dict[int, int] = {}
    for row in order:
        group_of[row] = seen.setdefault(int(ids[row]), len(seen))
    counts = np.zeros((len(seen), strata.shape[1]))
    np.add.at(counts, group_of[order], strata[order])
    _check_enough(totals, counts, parts, classes)
    pins = {seen[int(g)] for g in np.unique(ids[pinned]) if int(g) in seen}
    needs = np.outer(shares, totals)
    importance = 1 / np.maximum(totals, 1)
    importance[BAD] *= 0.1  # defect types decide, the sum of bads only breaks ties: else rare types all go to train
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(seen))
    weight = (counts / np.maximum(totals, 1)).sum(axis=1)
    lots = np.bincount(group_of[order], minlength=len(seen)) > _LARGE * len(order)  # no two of one weight: by it alone
    weight = weight * np.where(lots, np.exp(0.5 * rng.standard_normal(len(seen))), 1)  # a seed would change nothing
    part_of = np.zeros(len(seen), np.int64)
    for group in shuffled[np.argsort(-weight[shuffled], kind="stable")]:
        lack = (needs * importance) @ counts[group]
        part = 0 if group in pins else int(np.argmax(lack))
        part_of[group] = part
        needs[part] -= counts[group]
    _repair(part_of, counts, len(parts), pins, classes)
    _check_filled(part_of, counts, parts, classes)
    return np.where(pool, part_of[group_of], -1)


def _canonical_order(records: Records, pool: npt.NDArray[np.bool_]) -> Ids:
    """Sorts the rows of the pool by content and name, so that the order of the table does not matter."""
    hashes = records.frame["sha256"].fill_null("").to_list()
    names = records.frame["image"].to_list()
    return np.array(sorted(np.flatnonzero(pool), key=lambda row: (hashes[row], names[row])), np.int64)


def _check_enough(
    totals: npt.NDArray[np.float64], counts: npt.NDArray[np.float64], parts: Sequence[str], classes: Sequence[int]
) -> None:
    need, named = len(parts), [(label, _CLASS[label]) for label in classes]
    fix = "--one-class learns from good images alone; or add" if len(classes) > 1 and totals[GOOD] else "Add"
    for label, name in named:
        if totals[label] == 0:
            raise DataError(
                f"There are no {name} images to divide ({int(totals[GOOD])} good, {int(totals[BAD])} bad).",
                expected="good and bad images in the part that is divided",
                fix=f"{fix} {name} images, or divide anew (--resplit) when they are all in a split that the source "
                "gave.",
            )
    if min(totals[label] for label, _ in named) < need:
        each = " and ".join(f"{need} {name}" for _, name in named)
        raise DataError(
            f"{int(totals[GOOD] + totals[BAD])} images are too few ({int(totals[GOOD])} good, {int(totals[BAD])} bad).",
            expected=f"at least {each} ones, one of each for {', '.join(parts)}",
            fix="Add images; hundreds of good and dozens of bad ones make a useful inspector.",
        )
    for label, name in named:
        groups = int((counts[:, label] > 0).sum())
        if groups < need:
            raise DataError(
                f"The {int(totals[label])} {name} images are of only {groups} lots or sets of copies, which "
                "are never divided.",
                expected=f"at least {need}, one for each of {', '.join(parts)}",
                fix="Add images of other lots, or leave the column lot out.",
            )


def _repair(part_of: Ids, counts: npt.NDArray[np.float64], parts: int, pins: set[int], classes: Sequence[int]) -> None:
    """Moves the smallest fitting group into a part that has none of a class, from where there are several."""
    for _ in range(2 * parts):
        missing = [
            (part, label) for part in range(parts) for label in classes if not counts[part_of == part, label].any()
        ]
        if not missing:
            return
        part, label = missing[0]
        holders = [int((counts[part_of == p, label] > 0).sum()) for p in range(parts)]
        donor = int(np.argmax(holders))
        free = [g for g in np.flatnonzero((part_of == donor) & (counts[:, label] > 0)) if int(g) not in pins]
        if holders[donor] < 2 or not free:
            return
        part_of[min(free, key=lambda g: float(counts[g].sum()))] = part


def _check_filled(part_of: Ids, counts: npt.NDArray[np.float64], parts: Sequence[str], classes: Sequence[int]) -> None:
    for part, name in enumerate(parts):
        for label in classes:
            kind = _CLASS[label]
            if not counts[part_of == part, label].any():
                raise DataError(
                    f"No way was found to give {name} any {kind} images without dividing a lot.",
                    expected="enough lots with good and with bad images",
                    fix="Add images of other lots, or leave the column lot out.",
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
                notes.append(f"The split {name} that the source gave has no {_CLASS[label]} images.")
    return tuple(notes)

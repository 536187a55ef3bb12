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

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from knowngood.data.records import BAD, GOOD, SPLITS, Records, shows_held_out, source_rows
from knowngood.data.units import groups_of, identities
from knowngood.errors import ConfigError, DataError
from knowngood.wording import counted

Ids: TypeAlias = npt.NDArray[np.int64]
_CLASS = {GOOD: "good", BAD: "bad"}
_LARGE = 0.01  # share of the images from which a group is a lot, and not a few copies: large ones are placed first
_CLASSES = 2  # the first strata: good and bad; those after them are defects
_ORDER = ("test", "calibration", "val", "train")  # of the hash's range, so that the test does not depend on the others


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
    places = _assign(records, ids, pool, list(parts.values()), seed, pinned=pinned, parts=list(parts), classes=classes)
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
        drawn = int(np.searchsorted(ends, _hash(names[groups[row]], seed), side="right"))
        result[row] = there.setdefault(int(groups[row]), _ORDER[drawn])
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
                    f"The corrections took the last {_CLASS[label]} image of {part}: one unit was moved there."
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
    result = _assign(records, ids, pool, [1 / folds] * folds, seed, pinned=nobody, parts=names)
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
    """Gives each group the part that its hash names, unless a class or a defect would stray too far from its shares.

    Returns:
        int64 (N,), number of the part; -1 outside the pool.
    """
    _, ids = np.unique(ids, return_inverse=True)
    names = identities(records, ids)
    rows = np.flatnonzero(pool)
    inside = sorted(set(ids[rows].tolist()), key=lambda group: names[group])
    place = {group: number for number, group in enumerate(inside)}
    group_of = np.array([place.get(int(group), -1) for group in ids], np.int64)
    strata = _strata(records, pool)
    counts = np.zeros((len(inside), strata.shape[1]))
    np.add.at(counts, group_of[rows], strata[rows])
    _check_enough(strata.sum(axis=0), counts, parts, classes)
    pins = {place[int(g)] for g in np.unique(ids[pinned]) if int(g) in place}
    drawn = np.array([_hash(names[group], seed) for group in inside])
    part_of = _placed(counts, drawn, shares, parts, pins)
    _repair(part_of, counts, drawn, len(parts), pins, classes)
    _check_filled(part_of, counts, parts, classes)
    return np.where(pool, part_of[group_of], -1)


def _hash(name: str, seed: int) -> float:
    """Returns a number in [0, 1) that looks drawn at random, and is always the same."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:7], "big") / 2**56


def _placed(
    counts: npt.NDArray[np.float64],
    drawn: npt.NDArray[np.float64],
    shares: Sequence[float],
    parts: Sequence[str],
    pins: set[int],
) -> Ids:
    """Returns the part (G,) of each group: large ones are placed first, the others in the order of their hashes."""
    by_range = sorted(range(len(parts)), key=lambda p: _ORDER.index(parts[p]) if parts[p] in _ORDER else p)
    ends = np.cumsum([shares[p] for p in by_range])
    named = np.array([by_range[min(int(np.searchsorted(ends, u, side="right")), len(parts) - 1)] for u in drawn])
    sizes = counts[:, :_CLASSES].sum(axis=1)
    rank = np.where(sizes > max(1.0, _LARGE * sizes.sum()), np.floor(np.log2(np.maximum(sizes, 1))), 0)
    limits = _Limits.of(counts.sum(axis=0), np.asarray(shares))
    part_of = np.zeros(len(counts), np.int64)
    order = np.array([_hash(repr(float(u)), 1) for u in drawn])  # another draw than the part's
    pinned = np.array([group in pins for group in range(len(counts))], bool)
    for group in np.lexsort((order, -rank, ~pinned)):
        part_of[group] = 0 if pinned[group] else limits.choose(counts[group], int(named[group]), float(drawn[group]))
        limits.take(counts[group], int(part_of[group]))
    return part_of


class _Limits:
    """How many of each stratum every part has, may have and has to have.

    Args:
        most: (P, S) largest counts.
        least: (P, S) smallest counts.
        goal: (P, S) counts by share.
        left: (S,) what is still to be placed.
    """

    def __init__(
        self,
        most: npt.NDArray[np.float64],
        least: npt.NDArray[np.float64],
        goal: npt.NDArray[np.float64],
        left: npt.NDArray[np.float64],
    ) -> None:
        self.most, self.least, self.goal, self.left = most, least, goal, left.copy()
        self.placed = np.zeros_like(goal)
        self.weight = np.where(np.arange(goal.shape[1]) < _CLASSES, 100.0, 1.0)  # classes go before defects
        self.weight[_CLASSES:][left[_CLASSES:] < 2] = 0  # a lone defect falls where it falls

    @classmethod
    def of(cls, totals: npt.NDArray[np.float64], shares: npt.NDArray[np.float64]) -> _Limits:
        """Returns the limits of strata of so many images (S,) in parts of such shares (P,)."""
        goal = np.outer(shares, totals)
        whole = np.stack([_apportioned(n, shares, each=k < _CLASSES) for k, n in enumerate(totals.tolist())], axis=1)
        slack = np.floor(np.maximum(np.sqrt(goal) - 2, 0))
        return cls(whole + slack, np.maximum(whole - slack, np.minimum(whole, 1)), goal, totals)

    def choose(self, count: npt.NDArray[np.float64], named: int, drawn: float) -> int:
        """Returns the part for a group with so many images of each stratum (S,): the named one if it can be.

        Otherwise it is drawn among those that can, by share and by a hash for each part (weighted rendezvous), so
        that it does not depend on how full they are.
        """
        then = self.placed[None] + np.eye(len(self.placed))[:, :, None] * count  # (P if placed there, P, S)
        over = np.maximum(then - self.most, 0).sum(axis=1)
        lacking = np.maximum(self.least - then, 0).sum(axis=1)
        short = np.maximum(lacking - (self.left - count), 0)  # what could no longer be made good
        cost = ((over + short) * self.weight).sum(axis=1)
        cheapest = np.flatnonzero(cost <= cost.min() + 1e-9)
        if named in cheapest:
            return named
        share = self.goal.sum(axis=1)
        luck = [share[part] / -np.log(max(_hash(f"{drawn!r} {part}", 2), 1e-12)) for part in cheapest]
        return int(cheapest[int(np.argmax(luck))])

    def take(self, count: npt.NDArray[np.float64], part: int) -> None:
        """Counts a group as placed."""
        self.placed[part] += count
        self.left -= count


def _apportioned(total: float, shares: npt.NDArray[np.float64], *, each: bool) -> npt.NDArray[np.float64]:
    """Returns whole numbers (P,) near `shares * total` that add up to it: the largest remainders are rounded up.

    With `each`, every part gets one where there are enough.
    """
    exact = shares * total
    whole = np.floor(exact)
    missing = round(total - whole.sum())
    whole[np.argsort(-(exact - whole), kind="stable")[:missing]] += 1
    while each and total >= len(shares) and not whole.all():
        whole[int(np.argmin(whole))] += 1
        whole[int(np.argmax(whole))] -= 1
    return whole


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
                f"The {int(totals[label])} {name} images are of only {counted(groups, 'lot or unit', 'lots or units')} "
                "(or sets of copies), and none of these is ever divided.",
                expected=f"at least {need}, one for each of {', '.join(parts)}",
                fix="Add images of other lots, or leave the column lot out.",
            )


def _repair(
    part_of: Ids,
    counts: npt.NDArray[np.float64],
    drawn: npt.NDArray[np.float64],
    parts: int,
    pins: set[int],
    classes: Sequence[int],
) -> None:
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
        part_of[min(free, key=lambda g: (float(counts[g].sum()), drawn[g]))] = part


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

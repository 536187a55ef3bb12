"""Which part each group of photographs goes into: the one that its hash names, within limits for classes and defects.

A group is never divided. A class and a defect may stray from their shares by about one standard deviation of what the
hash leaves to chance, and not at all where a part would get fewer than nine of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from knowngood.data.records import BAD, GOOD, Records
from knowngood.data.units import identities
from knowngood.errors import DataError
from knowngood.wording import counted

Ids: TypeAlias = npt.NDArray[np.int64]
CLASS_NAMES = {GOOD: "good", BAD: "bad"}
ORDER = ("test", "calibration", "val", "train")  # of the hash's range, so that the test does not depend on the others
_LARGE = 0.01  # share of the images from which a group is a lot, and not a few copies: large ones are placed first
_CLASSES = 2  # the first strata: good and bad; those after them are defects


def allocate(
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

    Args:
        records: (N rows).
        ids: int64 (N,), equal numbers stay together.
        pool: (N,) bool, which rows are allocated.
        shares: Of the parts, summing to 1.
        seed: Of the hash.
        pinned: (N,) bool, rows whose group goes into the first part.
        parts: Names of the parts.
        classes: Labels that every part must have.

    Returns:
        int64 (N,), number of the part; -1 outside the pool.

    Raises:
        DataError: There are too few images or groups of a class.
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
    drawn = np.array([hash_of(names[group], seed) for group in inside])
    part_of = _placed(counts, drawn, shares, parts, pins)
    _repair(part_of, counts, drawn, len(parts), pins, classes)
    _check_filled(part_of, counts, parts, classes)
    return np.where(pool, part_of[group_of], -1)


def hash_of(name: str, seed: int) -> float:
    """Returns a number in [0, 1) that looks drawn at random, and is always the same."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:7], "big") / 2**56


def _strata(records: Records, pool: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Returns (N, S) membership in the strata good, bad and each defect type; zero outside the pool."""
    labels = records.frame["label"].fill_null(255).to_numpy()
    defects = records.frame["defect"].fill_null("").to_numpy()
    columns = [labels == GOOD, labels == BAD]
    columns += [(defects == name) & (labels == BAD) for name in sorted(set(defects[pool & (labels == BAD)]))]
    return np.stack(columns, axis=1) * pool[:, None].astype(np.float64)


def _placed(
    counts: npt.NDArray[np.float64],
    drawn: npt.NDArray[np.float64],
    shares: Sequence[float],
    parts: Sequence[str],
    pins: set[int],
) -> Ids:
    """Returns the part (G,) of each group: large ones are placed first, the others in the order of their hashes."""
    by_range = sorted(range(len(parts)), key=lambda p: ORDER.index(parts[p]) if parts[p] in ORDER else p)
    ends = np.cumsum([shares[p] for p in by_range])
    named = np.array([by_range[min(int(np.searchsorted(ends, u, side="right")), len(parts) - 1)] for u in drawn])
    sizes = counts[:, :_CLASSES].sum(axis=1)
    rank = np.where(sizes > max(1.0, _LARGE * sizes.sum()), np.floor(np.log2(np.maximum(sizes, 1))), 0)
    limits = _Limits.of(counts.sum(axis=0), np.asarray(shares))
    part_of = np.zeros(len(counts), np.int64)
    order = np.array([hash_of(repr(float(u)), 1) for u in drawn])  # another draw than the part's
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
        luck = [share[part] / -np.log(max(hash_of(f"{drawn!r} {part}", 2), 1e-12)) for part in cheapest]
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
    need, named = len(parts), [(label, CLASS_NAMES[label]) for label in classes]
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
            kind = CLASS_NAMES[label]
            if not counts[part_of == part, label].any():
                raise DataError(
                    f"No way was found to give {name} any {kind} images without dividing a lot.",
                    expected="enough lots with good and with bad images",
                    fix="Add images of other lots, or leave the column lot out.",
                )

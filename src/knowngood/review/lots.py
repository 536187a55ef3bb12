"""Drift from lot to lot on control charts (scores, features, brightness, contrast, sharpness), and maps of lots."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import logit

from knowngood.metrics.thresholds import ACCEPT
from knowngood.review.store.inspections import Row

QUANTITIES = ("score", "features", "brightness", "contrast", "sharpness")
SIGMAS = 3.0
FEWEST = 5  # units that a lot needs to be charted
WEIGHT = 0.25  # of the newest lot in the running mean
_BASE_SHARE, _BASE_MOST = 0.5, 20  # the first lots are what later ones are compared with
_EDGE = 1e-6


@dataclass(frozen=True)
class LotFacts:
    """One lot.

    Attributes:
        lot: Its name.
        machines: Where it was shot.
        units: Inspected.
        accepted: At the first pass.
        means: Quantity to the lot's mean; without those that were not measured (a run that was taken over).
        trend: Quantity to the running mean of the lots up to here, where it can be computed.
        alarms: Quantities whose mean, or whose running mean, is beyond its alarm lines.
    """

    lot: str
    machines: tuple[str, ...]
    units: int
    accepted: int
    means: dict[str, float]
    trend: dict[str, float]
    alarms: tuple[str, ...]

    @property
    def first_pass_yield(self) -> float:
        """Share of the units that were accepted at once."""
        return self.accepted / self.units


@dataclass(frozen=True)
class Limits:
    """Centre and alarm lines of one quantity, for a lot of usual size.

    Attributes:
        centre: Of the first lots.
        low: Lower alarm line.
        high: Upper alarm line.
    """

    centre: float
    low: float
    high: float


def drift(rows: Sequence[dict[str, Any]], group: str = "lot") -> tuple[list[LotFacts], dict[str, Limits]]:
    """Returns the lots in the order in which they came, and the alarm lines of their charts.

    Two charts are combined: a jump of one lot, and a shift of all lots from some day on, which no single lot shows.

    A lot's mean alarms when it is more than three standard errors from the mean of the first lots (half of them, at
    most 20). Its error holds both how units differ within a lot and how sound lots differ among themselves, so that
    large lots do not alarm for nothing. A single first lot has only the first of the two. The running mean of the
    lots' distances, in standard errors, alarms beyond three of its own, the uncertainty of the centre included.

    Args:
        rows: Inspections with lot, machine, decision, defect_score, brightness, contrast and sharpness, oldest first;
            features, where `strangeness` has measured them.
        group: "lot" or "machine".

    Reference:
        Shewhart's chart of means with a between-subgroup component (Wheeler 1995, three-way chart); exponentially
        weighted moving average (Roberts 1959) with the exact variance of its beginning.
    """
    lots: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row[group] is not None and row["defect_score"] is not None:
            lots.setdefault(str(row[group]), []).append(row)
    values = {name: {q: _values(own, q) for q in QUANTITIES} for name, own in lots.items()}
    spread, limits, running = {}, {}, {}
    for q in QUANTITIES:
        charted = [own[q] for own in values.values() if own[q].size >= FEWEST]
        if charted:
            base = charted[: _base_count(len(charted))]
            spread[q], running[q] = _spread(base), _Running(len(base))
            limits[q] = _limits(*spread[q], int(np.median([one.size for one in charted])))
    facts = []
    for name, own in lots.items():
        means = {q: float(found.mean()) for q, found in values[name].items() if found.size}
        lines = {q: _limits(*spread[q], found.size) for q, found in values[name].items() if found.size >= FEWEST}
        trend, alarms = {}, []
        for q, line in lines.items():
            error = (line.high - line.centre) / SIGMAS
            shift, far = running[q].after((means[q] - line.centre) / error)
            trend[q] = line.centre + shift * error
            if far or not line.low <= means[q] <= line.high:
                alarms.append(q)
        accepted = sum(row["decision"] == ACCEPT for row in own)
        machines = tuple(sorted({str(row["machine"]) for row in own if row["machine"] is not None}))
        facts.append(LotFacts(name, machines, len(own), accepted, means, trend, tuple(alarms)))
    return facts, limits


def base_of(groups: Sequence[str]) -> list[str]:
    """Returns the first lots, which later ones are compared with, of each unit's lot (N,), oldest first."""
    units: dict[str, int] = {}
    for name in groups:
        units[name] = units.get(name, 0) + 1
    charted = [name for name, count in units.items() if count >= FEWEST]
    return charted[: _base_count(len(charted))]


class _Running:
    """The running mean of lots' distances from the centre, in standard errors.

    Args:
        base: Lots from which the centre was estimated.
    """

    def __init__(self, base: int) -> None:
        self.base, self.count, self.mean = base, 0, 0.0

    def after(self, distance: float) -> tuple[float, bool]:
        """Adds one lot; returns the running mean and whether it is beyond its alarm line."""
        self.count += 1
        self.mean += WEIGHT * (distance - self.mean)
        variance = WEIGHT / (2 - WEIGHT) * (1 - (1 - WEIGHT) ** (2 * self.count))
        return self.mean, abs(self.mean) > SIGMAS * float(np.sqrt(variance + 1 / self.base))


def _base_count(charted: int) -> int:
    return min(_BASE_MOST, max(1, int(_BASE_SHARE * charted)))


def _values(rows: Sequence[dict[str, Any]], quantity: str) -> npt.NDArray[np.float64]:
    if quantity != "score":
        found = (row.get(quantity) for row in rows)
        return np.array([value for value in found if value is not None], np.float64)
    scores = np.clip([row["defect_score"] for row in rows], _EDGE, 1 - _EDGE)
    return np.asarray(logit(scores), np.float64)  # where scores crowd at 0 and 1, a mean of them would see nothing


def _spread(lots: Sequence[npt.NDArray[np.float64]]) -> tuple[float, float, float]:
    """Returns centre, variance within lots and variance between lots."""
    means = np.array([lot.mean() for lot in lots])
    within = float(np.mean([lot.var(ddof=1) for lot in lots]))
    sampling = within * float(np.mean([1 / lot.size for lot in lots]))
    between = max(0.0, float(means.var(ddof=1)) - sampling) if means.size > 1 else 0.0
    return float(means.mean()), within, between


def _limits(centre: float, within: float, between: float, units: int) -> Limits:
    reach = SIGMAS * float(np.sqrt(within / units + between)) + 1e-9
    return Limits(centre, centre - reach, centre + reach)


WIDE, DEEP = 200, 400  # columns and rows of a grid at most: beyond it a number is no place
_PLACES = (
    # r3c12, row_03-col_12, R03 C12
    re.compile(r"(?<![a-z])r(?:ow)?[ _-]?(?P<row>\d{1,4})[ _-]?c(?:ol(?:umn)?)?[ _-]?(?P<column>\d{1,4})(?!\d)", re.I),
    # x12y3, x-12_y-3
    re.compile(r"(?<![a-z])x[ _-]?(?P<column>\d{1,4})[ _-]?y[ _-]?(?P<row>\d{1,4})(?!\d)", re.I),
)


@dataclass(frozen=True)
class LotMap:
    """A lot's units at their places.

    Attributes:
        cells: Rows of the grid from the top, each from the left; None where there is no unit.
        top: Number of the first row, as names count.
        left: Number of the first column.
    """

    cells: list[list[Row | None]]
    top: int
    left: int


def place_in(name: str) -> tuple[int, int] | None:
    """Returns row and column from a unit's name, or None: r3c12, row03_col12, x12y3; the last one counts."""
    for pattern in _PLACES:
        found = list(pattern.finditer(name))
        if found:
            return int(found[-1]["row"]), int(found[-1]["column"])
    return None


def lot_map(rows: Sequence[Row]) -> LotMap | None:
    """Returns the map of a lot, or None where names hold no places.

    Names count only where all of them hold a place and no two the same one: half a map would mislead.

    Args:
        rows: Inspections with unit.
    """
    places = [place_in(row["unit"]) for row in rows]
    found = [place for place in places if place is not None]
    if not rows or len(found) < len(rows) or len(set(found)) < len(found):
        return None
    top, left = min(row for row, _ in found), min(column for _, column in found)
    deep, wide = max(row for row, _ in found) - top + 1, max(column for _, column in found) - left + 1
    if deep > DEEP or wide > WIDE:
        return None
    cells: list[list[Row | None]] = [[None] * wide for _ in range(deep)]
    for one, (row, column) in zip(rows, found, strict=True):
        cells[row - top][column - left] = one
    return LotMap(cells, top, left)

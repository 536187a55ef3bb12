"""Has something drifted? Lot by lot, on a control chart: the score, and how bright, rich and sharp the pictures are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import logit

from knowngood.decide.threshold import ACCEPT

QUANTITIES = ("score", "brightness", "contrast", "sharpness")
SIGMAS = 3.0
FEWEST = 5  # units of a lot that is judged
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
        means: Quantity to the lot's mean.
        alarms: Quantities whose mean is beyond the alarm lines.
    """

    lot: str
    machines: tuple[str, ...]
    units: int
    accepted: int
    means: dict[str, float]
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
    """Returns the lots in the order in which they came, and the lines that they are held against.

    A lot's mean alarms when it is more than three standard errors from the mean of the first lots (half of them, at
    most 20). Its error holds both how units differ within a lot and how sound lots differ among themselves, so that
    large lots do not alarm for nothing. A single first lot has only the first of the two.

    Args:
        rows: Inspections with lot, machine, decision, defect_score, brightness, contrast and sharpness, oldest first.
        group: "lot" or "machine".

    Reference:
        Shewhart's chart of means with a between-subgroup component (Wheeler 1995, three-way chart).
    """
    lots: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row[group] is not None and row["defect_score"] is not None and row["brightness"] is not None:
            lots.setdefault(str(row[group]), []).append(row)
    values = {name: {q: _values(own, q) for q in QUANTITIES} for name, own in lots.items()}
    judged = [name for name, own in lots.items() if len(own) >= FEWEST]
    base = judged[: min(_BASE_MOST, max(1, int(_BASE_SHARE * len(judged))))]
    spread = {q: _spread([values[name][q] for name in base]) for q in QUANTITIES} if base else {}
    usual = int(np.median([len(lots[name]) for name in judged])) if judged else FEWEST
    limits = {q: _limits(*spread[q], usual) for q in spread}
    facts = []
    for name, own in lots.items():
        means = {q: float(values[name][q].mean()) for q in QUANTITIES}
        held = {q: _limits(*spread[q], len(own)) for q in spread} if name in judged else {}
        alarms = tuple(q for q, line in held.items() if not line.low <= means[q] <= line.high)
        accepted = sum(row["decision"] == ACCEPT for row in own)
        machines = tuple(sorted({str(row["machine"]) for row in own if row["machine"] is not None}))
        facts.append(LotFacts(name, machines, len(own), accepted, means, alarms))
    return facts, limits


def _values(rows: Sequence[dict[str, Any]], quantity: str) -> npt.NDArray[np.float64]:
    if quantity != "score":
        return np.array([row[quantity] for row in rows], np.float64)
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

"""An alarm for explanations: does a recipe look beside the part more often than when it was calibrated?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from knowngood.errors import DataError

LEVEL, LEAST = 0.01, 0.05  # of the test; of the rise in share that is worth an alarm
ROUNDS = 9_999
_FEWEST = 5  # on each side: four against four cannot reach the level


@dataclass(frozen=True)
class AttentionDrift:
    """Two samples of the share of attention that falls outside the part.

    Attributes:
        alarm: The rise is real (p value at most the level) and large (at least the least rise).
        rise: Median of the new shares minus median at calibration, in -1..1.
        p_value: One-sided: the chance of shares that stand as high among all if nothing has changed.
        medians: At calibration, new.
        images: How many, at calibration and new, that have a share at all.
    """

    alarm: bool
    rise: float
    p_value: float
    medians: tuple[float, float]
    images: tuple[int, int]


def attention_drift(
    calibration: npt.ArrayLike, new: npt.ArrayLike, *, level: float = LEVEL, least: float = LEAST, seed: int = 0
) -> AttentionDrift:
    """Compares where a recipe looks on new images with where it looked on its calibration images.

    Both conditions have to hold for an alarm, because with thousands of images the smallest rise is real and with a few
    the largest can be chance. Ranks and medians: a few strange pictures move neither. Compare like with like: all
    images with all images, or rejected ones with rejected ones.

    Args:
        calibration: (N,) from `outside_shares`; NaN is left out.
        new: (M,) likewise.
        level: Largest p value that gives an alarm; the rate of false alarms if nothing changes.
        least: Smallest rise of the median share that gives an alarm.
        seed: Of the permutations.

    Raises:
        DataError: Fewer than five shares on either side.

    Reference:
        Wilcoxon's rank sum, by random permutations (Phipson and Smyth 2010): exact at any size and with any ties.
    """
    before, after = (_sound(shares) for shares in (calibration, new))
    if min(len(before), len(after)) < _FEWEST:
        raise DataError(
            f"There are {len(before)} shares at calibration and {len(after)} new ones.",
            expected=f"at least {_FEWEST} of each",
            fix="Draw the maps of more images.",
        )
    ranks = rankdata(np.concatenate([before, after]))
    random, seen = np.random.default_rng(seed), ranks[len(before) :].sum() - 1e-9
    above = sum(bool(random.permutation(ranks)[: len(after)].sum() >= seen) for _ in range(ROUNDS))
    p_value = (above + 1) / (ROUNDS + 1)
    medians = float(np.median(before)), float(np.median(after))
    rise = medians[1] - medians[0]
    alarm = p_value <= level and rise >= least
    return AttentionDrift(alarm, rise, p_value, medians, (len(before), len(after)))


def _sound(shares: npt.ArrayLike) -> npt.NDArray[np.float64]:
    values = np.asarray(shares, np.float64)
    return values[~np.isnan(values)]

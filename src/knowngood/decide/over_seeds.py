"""One answer out of several seeds, and honest p values out of many pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm
from scipy.stats import t as student

from knowngood.decide.tally import Floats
from knowngood.errors import KnownGoodError

_NO_ERROR = 1e-12


@dataclass(frozen=True)
class Combined:
    """A figure, or a difference of two, over seeds.

    Attributes:
        mean: Over the seeds.
        error: Standard error of that mean: of the images and of the trainings.
        interval: (low, high).
        p_value: Two-sided, for nought.
        seeds: How many.
    """

    mean: float
    error: float
    interval: tuple[float, float]
    p_value: float
    seeds: int


def over_seeds(values: npt.ArrayLike, errors: npt.ArrayLike, *, confidence: float = 0.95) -> Combined:
    """Combines a figure that was measured with several seeds.

    Two things make it uncertain: which images were tested, and how the training went. The seeds share test images, so
    that the error of the images is not averaged away (as if they shared all of them, the careful side); the spread
    between seeds is, by the square root of their number:
    error^2 = (mean of errors)^2 + variance of values / number. One seed leaves the error of the images alone.

    Args:
        values: (K,) the figure with each seed.
        errors: (K,) its standard error for the images with each seed (DeLong's, McNemar's).
        confidence: Of the interval, in (0, 1).

    Raises:
        KnownGoodError: No seed, or lengths that differ.

    Reference:
        Degrees of freedom by Welch 1947 and Satterthwaite 1946, with infinitely many for the error of the images.
    """
    value, each = np.asarray(values, np.float64), np.asarray(errors, np.float64)
    if value.ndim != 1 or value.shape != each.shape or not value.size:
        raise KnownGoodError(f"Figures of shape {value.shape} and errors of shape {each.shape} do not go together.")
    count = value.size
    training = float(value.var(ddof=1)) / count if count > 1 else 0.0
    mean, squared = float(value.mean()), float(each.mean()) ** 2 + training
    error = float(np.sqrt(squared))
    if error < _NO_ERROR:  # without any spread a difference is either nought or certain
        return Combined(mean, 0.0, (mean, mean), float(abs(mean) < _NO_ERROR), count)
    law = student(squared**2 / (training**2 / (count - 1))) if training > _NO_ERROR**2 else norm
    reach = float(law.ppf((1 + confidence) / 2)) * error
    return Combined(mean, error, (mean - reach, mean + reach), 2 * float(law.sf(abs(mean) / error)), count)


def holm(p_values: npt.ArrayLike) -> Floats:
    """Returns p values that may be compared with one level although there are many of them.

    Args:
        p_values: (M,) in [0, 1], of any dependence.

    Returns:
        (M,) in [0, 1]: the chance of a single false alarm among all M stays below the level.

    Reference:
        Holm 1979.
    """
    given = np.asarray(p_values, np.float64)
    order = np.argsort(given, kind="stable")
    stepped = np.maximum.accumulate(given[order] * np.arange(given.size, 0, -1)) if given.size else given
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted

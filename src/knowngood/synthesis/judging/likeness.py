"""KID: how far apart two sets of images are, with an interval; small sets are no excuse, it is unbiased."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from knowngood.errors import DataError
from knowngood.outliers.blocks import row_blocks

Rows: TypeAlias = npt.NDArray[np.floating[Any]]
Floats: TypeAlias = npt.NDArray[np.float64]
DEGREE, OFFSET = 3, 1.0  # of the kernel (x.y / D + 1)^3
LEAST = 3  # rows of each set: leaving one out must leave two


@dataclass(frozen=True)
class Kid:
    """Kernel distance of two sets.

    Attributes:
        value: Squared maximum mean discrepancy, unbiased: near nought for equal distributions, then also below it.
        error: Its standard error.
        interval: (low, high).
        sizes: Images of the first and the second set.
    """

    value: float
    error: float
    interval: tuple[float, float]
    sizes: tuple[int, int]

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON-ready values."""
        return {"value": self.value, "error": self.error, "interval": list(self.interval), "images": list(self.sizes)}


def kid(first: Rows, second: Rows, *, confidence: float = 0.95) -> Kid:
    """Returns the kernel inception distance of two sets, on the features of whatever network.

    Args:
        first: (M, D) features.
        second: (N, D) features.
        confidence: Of the interval, in (0, 1).

    Raises:
        DataError: Fewer than three rows, widths that differ, or values that are not finite.

    Reference:
        Binkowski et al. 2018, "Demystifying MMD GANs", section 4: the unbiased estimator (Gretton et al. 2012,
        equation 3) with the kernel (x.y / D + 1)^3. Here over all pairs at once instead of over random subsets; the
        error is that of the two-sample jackknife.
    """
    x, y = _checked(first, second)
    own_x, own_y, across_x, across_y = _row_sums(x, x), _row_sums(y, y), _row_sums(x, y), _row_sums(y, x)
    own_x, own_y = own_x - _kernel_of_self(x), own_y - _kernel_of_self(y)
    m, n = len(x), len(y)
    within_x, within_y, between = own_x.sum(), own_y.sum(), across_x.sum()
    value = within_x / (m * (m - 1)) + within_y / (n * (n - 1)) - 2 * between / (m * n)
    without_x = (
        (within_x - 2 * own_x) / ((m - 1) * (m - 2))
        + within_y / (n * (n - 1))
        - 2 * (between - across_x) / ((m - 1) * n)
    )
    without_y = (
        within_x / (m * (m - 1))
        + (within_y - 2 * own_y) / ((n - 1) * (n - 2))
        - 2 * (between - across_y) / (m * (n - 1))
    )
    error = float(np.sqrt(_jackknife(without_x) + _jackknife(without_y)))
    reach = float(norm.ppf((1 + confidence) / 2)) * error
    return Kid(float(value), error, (float(value) - reach, float(value) + reach), (m, n))


def _jackknife(values: Floats) -> float:
    """Returns the variance that leaving out each of n images in turn shows."""
    return float((len(values) - 1) / len(values) * np.square(values - values.mean()).sum())


def _row_sums(first: Floats, second: Floats) -> Floats:
    sums = [_kernel(first[block] @ second.T, first.shape[1]).sum(axis=1) for block in row_blocks(first, len(second))]
    return np.concatenate(sums)


def _kernel_of_self(rows: Floats) -> Floats:
    return _kernel(np.square(rows).sum(axis=1), rows.shape[1])


def _kernel(products: Floats, width: int) -> Floats:
    return np.asarray((products / width + OFFSET) ** DEGREE, np.float64)


def _checked(first: Rows, second: Rows) -> tuple[Floats, Floats]:
    x, y = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < LEAST:
        raise DataError(
            f"Features {x.shape} and {y.shape} have no KID.", expected=f"(M, D), (N, D), M and N >= {LEAST}"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise DataError("Features that are not finite have no KID.", fix="Leave images that cannot be decoded out.")
    return x, y

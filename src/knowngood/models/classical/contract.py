"""What a conventional classifier is: scikit-learn estimators, the settings to choose from, and a margin."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from knowngood.errors import DataError

Rows: TypeAlias = npt.NDArray[np.float32]
Margins: TypeAlias = npt.NDArray[np.float64]
Setting: TypeAlias = Mapping[str, Any]


class Conventional(ABC):
    """One kind of classifier; a subclass says how to build it and what cross-validation may choose from.

    Attributes:
        summary: One line for tables and help.
        most_rows: More rows than these are drawn from, bad ones first; None where any number can be taken.
    """

    summary: ClassVar[str]
    most_rows: ClassVar[int | None] = None

    @abstractmethod
    def settings(self, rows: int) -> Sequence[Setting]:
        """Returns what cross-validation may choose from, the most trusted first: JSON types by name.

        Args:
            rows: How many teach where the largest fold is held out.
        """

    @abstractmethod
    def build(self, setting: Setting, width: int, seed: int) -> Any:
        """Returns a scikit-learn classifier with `decision_function` or `predict_proba`, not fitted.

        Args:
            setting: One of `settings`.
            width: Number of features.
            seed: Of whatever it draws.
        """


def margins_of(estimator: Any, features: Rows) -> Margins:
    """Returns how far each image lies on the bad side, float64 (N,): the decision function, else P(bad).

    Args:
        estimator: Fitted on labels 0 and 1.
        features: (N, D), with the fitted D.
    """
    if hasattr(estimator, "decision_function"):
        return np.asarray(estimator.decision_function(features), np.float64)
    return np.asarray(estimator.predict_proba(features)[:, 1], np.float64)


def checked_rows(features: Any, width: int | None = None) -> Rows:
    """Returns features as float32 (N, D).

    Raises:
        DataError: They have another shape, hold NaN or infinity, or are not of the fitted width.
    """
    rows = np.asarray(features)
    if rows.ndim != 2 or rows.dtype.kind not in "fiu":
        raise DataError(f"Features have shape {rows.shape} and type {rows.dtype}.", expected="float32 (N, D)")
    if width is not None and rows.shape[1] != width:
        raise DataError(
            f"Features have length {rows.shape[1]}, the classifier was fitted on length {width}.",
            expected="features of the same backbone and image size",
            fix="Make the features anew with the backbone that was used for fitting.",
        )
    if not np.isfinite(rows).all():
        raise DataError("The features hold NaN or infinity.", fix="Leave out the images that cannot be decoded.")
    return np.asarray(rows, np.float32)

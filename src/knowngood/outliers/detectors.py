"""The contract of outlier detectors, their registry, and checks of the features that they get."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from knowngood.errors import ConfigError, DataError
from knowngood.parameters import checked_parameters
from knowngood.registry import Registry
from knowngood.scale.mapping import mapped

VALUES = 1 << 23  # of one block: 64 MB as float64


def row_blocks(rows: npt.NDArray[Any], width: int | None = None) -> Iterator[slice]:
    """Yields slices that cover the rows, each of at most `VALUES` values (one row at least).

    Args:
        rows: (N, ...).
        width: Values that a row costs while it is worked on; by default its own size.
    """
    cost = max(1, width if width is not None else rows[:1].size)
    step = max(1, VALUES // cost)
    for start in range(0, len(rows), step):
        yield slice(start, start + step)


DETECTORS: Registry[type[Detector]] = Registry(
    "outlier detector",
    "knowngood.detectors",
    {
        "ocsvm": "knowngood.outliers.ocsvm:OneClassSvm",
        "iforest": "knowngood.outliers.neighbour_detectors:Forest",
        "knn": "knowngood.outliers.neighbour_detectors:NearestNeighbours",
        "mahalanobis": "knowngood.outliers.neighbour_detectors:Mahalanobis",
        "patch_memory": "knowngood.outliers.patchcore:PatchCore",
        "ocsvm_chunking": "knowngood.outliers.ocsvm:ChunkingSvm",
        "ocsvm_nystroem": "knowngood.outliers.ocsvm:NystroemSvm",
    },
)


Features: TypeAlias = npt.NDArray[np.floating[Any]]
Scores: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]
Takes: TypeAlias = Literal["rows", "patches"]
Itself = TypeVar("Itself", bound="Detector")

_SHAPES: dict[Takes, tuple[int, str]] = {"rows": (2, "(N, D)"), "patches": (3, "(N, P, D)")}


class Parameters(BaseModel):
    """Parameters that every detector has; the descriptions become the command line's help."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    seed: int = Field(default=0, ge=0, lt=2**32, description="Decides whatever the detector draws at random.")


class Detector(ABC):
    """Base class of outlier detectors: fits mostly normal images and scores how abnormal an image is.

    A subclass names its parameters in `fields` and writes `fit_rows` and `score_rows`. Higher scores are more abnormal;
    `threshold_` is set by `fit_rows`, may be changed afterwards, and never touches the scores.

    Args:
        parameters: Values of `fields` by name; stored, nothing else.

    Raises:
        ConfigError: There is no such parameter, or its value is out of range.
    """

    fields: ClassVar[type[Parameters]] = Parameters
    takes: ClassVar[Takes] = "rows"  # features (N, D), or "patches" (N, P, D)
    order_free: ClassVar[bool] = False  # promises that the order of the fitted rows does not matter
    least_rows: ClassVar[int] = 2

    parameters: Parameters
    threshold_: float
    width_: int

    def __init__(self, **parameters: Any) -> None:
        self.parameters = checked_parameters(self.fields, parameters)

    def get_params(self) -> dict[str, Any]:
        """Returns the parameters by name, so that `type(d)(**d.get_params())` is the same detector, not fitted."""
        return self.parameters.model_dump()

    def fit(self: Itself, features: Any) -> Itself:
        """Fits the detector to the features.

        Args:
            features: (N, D), or (N, P, D) where `takes` is "patches"; finite; float32 or float64, left as it is.

        Returns:
            Itself.

        Raises:
            DataError: The features have another shape, are not finite, or are too few.
        """
        rows = checked_features(features, self.takes, least=self.least_rows)
        self.width_ = rows.shape[-1]
        self.fit_rows(rows)
        return self

    def score(self, features: Any) -> Scores:
        """Returns how abnormal each image is.

        Args:
            features: As in `fit`, with the fitted D.

        Returns:
            float64 (N,), higher = more abnormal; a row's score does not depend on the other rows.

        Raises:
            ConfigError: Nothing has been fitted.
            DataError: The features are not like the fitted ones.
        """
        rows = checked_features(features, self.takes, width=self.fitted_width())
        return self.score_blocks(rows)

    def fit_score(self, features: Any) -> Scores:
        """Fits, and returns the scores of the fitted images themselves, (N,) float64.

        Detectors in which an image would be its own nearest neighbour leave the image itself out.
        """
        return self.fit(features).score(features)

    def predict(self, features: Any) -> Bools:
        """Returns which images do not belong, bool (N,): `score > threshold_`."""
        return self.score(features) > self.threshold_

    def fitted_width(self) -> int:
        """Returns the D that was fitted.

        Raises:
            ConfigError: Nothing has been fitted.
        """
        if not hasattr(self, "width_"):
            raise ConfigError(f"{type(self).__name__} is not fitted.", fix="Call fit(features) first.")
        return self.width_

    def score_blocks(self, rows: Features) -> Scores:
        """Returns the scores of any number of checked features, block by block; on a cluster inside `at_cluster`."""
        return np.concatenate(list(mapped(self.score_rows, (rows[block] for block in row_blocks(rows)))))

    @abstractmethod
    def fit_rows(self, rows: Features) -> None:
        """Fits checked features and sets `threshold_`."""

    @abstractmethod
    def score_rows(self, rows: Features) -> Scores:
        """Returns the scores of one bounded block of checked features."""


def checked_features(features: Any, takes: Takes = "rows", *, least: int = 1, width: int | None = None) -> Features:
    """Returns the features as float32 or float64 without changing them.

    Raises:
        DataError: The shape, the number of rows, the length of a row or a value cannot be right.
    """
    given = np.asarray(features)
    dimensions, shape = _SHAPES[takes]
    if given.dtype.kind not in "fiub":
        raise DataError(f"Features of type {given.dtype} are no numbers.", expected=f"float32 {shape}")
    if given.ndim != dimensions:
        raise DataError(
            f"Features have shape {given.shape}.",
            expected=f"{shape}, one row an image" + (" of P patches" if takes == "patches" else ""),
            fix="Give one image as features[None]." if given.ndim == dimensions - 1 else None,
        )
    if 0 in given.shape:
        raise DataError(f"Features of shape {given.shape} are empty.", expected=f"{shape}, all at least 1")
    if len(given) < least:
        raise DataError(
            f"{len(given)} images are too few for this detector.",
            expected=f"at least {least}",
            fix="Add images; hundreds make a useful detector.",
        )
    if width is not None and given.shape[-1] != width:
        raise DataError(
            f"Features have length {given.shape[-1]}, the detector was fitted on length {width}.",
            expected="features of the same backbone, stages and image size",
            fix="Make the features anew with the backbone that was used for fitting.",
        )
    rows = given if given.dtype in (np.float32, np.float64) else given.astype(np.float32)
    _check_finite(rows)
    return rows


def fraction_threshold(scores: Scores, contamination: float) -> float:
    """Returns the score that about this share of the images is above: numpy's quantile of what is finite."""
    return float(np.quantile(scores[np.isfinite(scores)], 1 - contamination))


def _check_finite(rows: Features) -> None:
    start = 0
    for block in row_blocks(rows):
        piece = rows[block]
        finite = np.atleast_1d(np.isfinite(piece).reshape(len(piece), -1).all(axis=1))
        if not finite.all():
            raise DataError(
                f"Row {start + int(np.argmin(finite))} of the features holds NaN or infinity.",
                expected="finite numbers",
                fix="Make that row's features again; a damaged image should be left out (knowngood check).",
            )
        start += len(finite)

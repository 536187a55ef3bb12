"""The study's outliers: images that a one-class machine and an isolation forest both set apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from knowngood.outliers.detectors.contract import Detector, Features
from knowngood.outliers.detectors.iforest import Forest
from knowngood.outliers.detectors.ocsvm import OneClassSvm

Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class StudyOutliers:
    """Both single verdicts and their agreement, a value an image.

    Attributes:
        ocsvm_score: float64 (N,), higher = more abnormal.
        ocsvm_outlier: bool (N,), as scikit-learn's predict() == -1.
        iforest_score: float64 (N,), in (0, 1], higher = more abnormal.
        iforest_outlier: bool (N,), as scikit-learn's predict() == -1.
        outlier: bool (N,), flagged by both.
    """

    ocsvm_score: Floats
    ocsvm_outlier: Bools
    iforest_score: Floats
    iforest_outlier: Bools
    outlier: Bools


def study_outliers(
    features: Features, seed: int = 0, *, nu: float = 0.01, contamination: float = 0.01, machine: Detector | None = None
) -> StudyOutliers:
    """Flags what the one-class machine and the isolation forest both flag.

    Args:
        features: (N, D) finite, penultimate features; float32 keeps memory low.
        seed: Of the forest; the machine draws nothing.
        nu: Of the one-class machine (RBF, gamma = 1 / (D var)).
        contamination: Of the forest.
        machine: In place of the exact machine, for instance `ocsvm_chunking` on very many images.

    Returns:
        Scores and verdicts in the order of the rows.

    Raises:
        DataError: The features cannot be used.
        ConfigError: A parameter is out of range.
    """
    first = (machine or OneClassSvm(nu=nu, seed=seed)).fit(features)
    second = Forest(contamination=contamination, seed=seed).fit(features)
    ocsvm, iforest = first.score(features), second.score(features)
    by_machine, by_forest = ocsvm > first.threshold_, iforest > second.threshold_
    return StudyOutliers(ocsvm, by_machine, iforest, by_forest, by_machine & by_forest)

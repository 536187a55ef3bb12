"""Support-vector machine with an RBF kernel."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from sklearn.metrics.pairwise import rbf_kernel
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from knowngood.models.classical.contract import Conventional, Setting

MOST_ROWS = 8000  # the kernel matrix of more would take minutes and over 0.5 GB


class Svm(Conventional):
    """One-norm soft margin, standardised features, C and kernel width chosen."""

    summary = "support-vector machine, RBF kernel"
    most_rows = MOST_ROWS

    def settings(self, rows: int) -> Sequence[Setting]:
        return [{"C": cost, "width": width} for width in (1.0, 0.5) for cost in (1.0, 5.0, 25.0)]

    def build(self, setting: Setting, width: int, seed: int) -> Any:
        """Takes the kernel as a function: its products go through BLAS, many times faster than libsvm's own."""
        kernel = partial(rbf_kernel, gamma=setting["width"] / width)  # width 1 is gamma="scale" once standardised
        return make_pipeline(
            StandardScaler(), SVC(C=setting["C"], kernel=kernel, class_weight="balanced", cache_size=500)
        )

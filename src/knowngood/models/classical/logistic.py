"""Logistic regression with an L2 penalty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from knowngood.models.classical.contract import Conventional, Setting


class Logistic(Conventional):
    """L2 penalty on standardised features; C is chosen."""

    summary = "logistic regression"

    def settings(self, rows: int) -> Sequence[Setting]:
        return [{"C": cost} for cost in (1e-3, 1e-4, 1e-2, 1e-1)]

    def build(self, setting: Setting, width: int, seed: int) -> Any:
        return make_pipeline(
            StandardScaler(), LogisticRegression(C=setting["C"], class_weight="balanced", max_iter=3000)
        )

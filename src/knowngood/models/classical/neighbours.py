"""k nearest neighbours by the angle between features, nearer ones counting more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from knowngood.models.classical.contract import Conventional, Setting


class Neighbours(Conventional):
    """P(bad) among the k nearest by angle; k is chosen."""

    summary = "k nearest neighbours"

    def settings(self, rows: int) -> Sequence[Setting]:
        return [{"neighbours": count} for count in (15, 5, 45) if count < rows] or [{"neighbours": 1}]

    def build(self, setting: Setting, width: int, seed: int) -> Any:
        return make_pipeline(Normalizer(), KNeighborsClassifier(setting["neighbours"], weights="distance"))

"""Random forest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sklearn.ensemble import RandomForestClassifier

from knowngood.models.classical.contract import Conventional, Setting

_TREES = 300


class Forest(Conventional):
    """Trees on random parts of images and features; the size of leaves is chosen."""

    summary = f"random forest of {_TREES} trees"

    def settings(self, rows: int) -> Sequence[Setting]:
        return [{"min_samples_leaf": leaf} for leaf in (1, 5)]

    def build(self, setting: Setting, width: int, seed: int) -> Any:
        return RandomForestClassifier(
            _TREES,
            min_samples_leaf=setting["min_samples_leaf"],
            class_weight="balanced_subsample",
            n_jobs=-1,
            random_state=seed,
        )

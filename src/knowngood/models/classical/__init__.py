"""Conventional classifiers on deep features: one file each; add one line to register another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from knowngood.registry import Registry

if TYPE_CHECKING:  # numpy: too heavy for a word of help
    from knowngood.models.classical.contract import Conventional

CLASSIFIERS: Registry[type[Conventional]] = Registry(
    "conventional classifier",
    "knowngood.classifiers",
    {
        "svm": "knowngood.models.classical.svm:Svm",
        "random_forest": "knowngood.models.classical.forest:Forest",
        "lda": "knowngood.models.classical.lda:Lda",
        "logistic": "knowngood.models.classical.logistic:Logistic",
        "knn": "knowngood.models.classical.neighbours:Neighbours",
    },
)

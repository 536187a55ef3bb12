"""Detectors of what does not belong: one file each; add one line to register another.

`knowngood.outliers.checking.check_detector` says whether a detector keeps the contract of `Detector`.
"""

from __future__ import annotations

from knowngood.outliers.detectors.contract import Detector
from knowngood.registry import Registry

DETECTORS: Registry[type[Detector]] = Registry(
    "outlier detector",
    "knowngood.detectors",
    {
        "ocsvm": "knowngood.outliers.detectors.ocsvm:OneClassSvm",
        "iforest": "knowngood.outliers.detectors.iforest:Forest",
        "knn": "knowngood.outliers.detectors.knn:NearestNeighbours",
        "mahalanobis": "knowngood.outliers.detectors.mahalanobis:Mahalanobis",
        "patch_memory": "knowngood.outliers.detectors.patch_memory:PatchMemory",
        "ocsvm_chunking": "knowngood.outliers.detectors.ocsvm_chunking:ChunkingSvm",
        "ocsvm_nystroem": "knowngood.outliers.detectors.ocsvm_nystroem:NystroemSvm",
    },
)

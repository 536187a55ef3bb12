"""What a worker on a cluster does for `features`: loads the network once, computes one part after the other."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from knowngood.data.preprocessing import Preprocessing
from knowngood.errors import WeightsError
from knowngood.models.classifier import NetworkConfig
from knowngood.models.cluster.listing import FIRST
from knowngood.models.feature_making import FeatureMaker, Rows, tensors_digest
from knowngood.models.weights.finding import find
from knowngood.scale.parts import list_of
from knowngood.scale.workers import PartWorker, Task, unseen

KINDS = ("features", "stages")  # columns


@dataclass(frozen=True, kw_only=True)
class FeatureTask(Task):
    """What every worker is told.

    Attributes:
        network: What to build.
        weights: File or folder with its weights; None for the usual places.
        tensors: SHA-256 of the weights' tensors.
        preprocessing: What is done to the photographs first.
    """

    network: NetworkConfig
    weights: str | None
    tensors: str
    preprocessing: Preprocessing


class PartFeatures(PartWorker[FeatureTask]):
    """Computes the features of parts."""

    _maker: FeatureMaker | None = None

    def rows_of(self, number: int) -> pl.DataFrame:
        """Returns image, sha256, features, stages where the network has them, and error: a row a photograph.

        A copy has its original's row; where the original is in an earlier part that is null, to be filled in later.
        """
        listed = list_of(Path(self.task.out), number)
        first = listed.filter(FIRST)
        made, failed = self._made_by().rows(first["path"].to_list(), f"part {number}")
        if len(failed) == len(first):
            self.refuse_unreadable(number, failed[0])
        computed = first.select("sha256").with_columns(
            *(as_column(kind, rows) for kind, rows in zip(KINDS, made, strict=False)),
            pl.Series("error", [failed.get(place) for place in range(len(first))], dtype=pl.String),
        )
        if len(first) == len(listed):
            return computed.insert_column(0, first["image"])
        return listed.select("image", "sha256").join(computed, on="sha256", how="left", maintain_order="left")

    def _made_by(self) -> FeatureMaker:
        if self._maker is None:
            import torch

            torch.set_num_threads(self.task.cores)
            task = self.task
            if task.weights is not None and not Path(task.weights).exists():
                raise unseen(f"weights {task.weights}", "--weights")
            found = find(task.network.backbone, None if task.weights is None else Path(task.weights))
            if tensors_digest(found) != task.tensors:
                raise WeightsError(
                    f"The weights of {task.network.backbone} on {socket.gethostname()}, from {found.origin}, are not "
                    "those of the machine that asks.",
                    expected="the same tensors on all machines",
                    fix="Put one file on shared storage and give it as --weights.",
                )
            self._maker = FeatureMaker(task.network, found, task.preprocessing)
        return self._maker


def as_column(name: str, rows: Rows) -> pl.Series:
    """Returns (N, D) float32 as a column."""
    return pl.Series(name, np.ascontiguousarray(rows), dtype=pl.Array(pl.Float32, rows.shape[1]))

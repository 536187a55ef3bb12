"""The training set without its outliers, as in the study: what two detectors both set apart is left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from knowngood.data.records import BAD
from knowngood.models.backbones import BACKBONES
from knowngood.models.features import features
from knowngood.outliers.agreement import study_outliers
from knowngood.outliers.audit import machine_for
from knowngood.outliers.detectors import DETECTORS
from knowngood.study.comparison.variants import TrainingSet, VariantOptions
from knowngood.wording import counted


class WithoutOutliers:
    """Leaves out training images that a one-class machine and an isolation forest both call outliers."""

    summary = "without the images that a one-class SVM and an isolation forest both call outliers"

    def check(self, options: VariantOptions) -> None:
        """Looks for the network.

        Raises:
            UnknownNameError: There is no such network.
        """
        BACKBONES.get(options.backbone)

    def apply(self, given: TrainingSet, options: VariantOptions) -> TrainingSet:
        """Returns the set without them; only training images are looked at, and no generated ones.

        Raises:
            WeightsError: The network's weights are not to be had.
        """
        frame = given.records.frame
        looked_at = (frame["split"] == "train").fill_null(False) & ~frame["generated"]
        training = given.records.with_frame(frame.filter(looked_at))
        rows = features(training, options.backbone).rows
        sound = np.isfinite(rows).all(axis=1)  # what cannot be decoded is not trained on anyway
        machine = DETECTORS.get(machine_for(int(sound.sum())))(seed=options.seed)
        flagged = study_outliers(rows[sound], options.seed, machine=machine).outlier
        out = training.frame.filter(pl.Series(sound)).filter(pl.Series(flagged))
        bads = int((out["label"] == BAD).sum())
        change = f"{counted(out.height, 'outlier')} left out of training ({out.height - bads} good, {bads} bad)"
        kept = given.records.with_frame(frame.filter(~pl.col("image").is_in(out["image"].to_list())))
        return replace(given, records=kept, changes=(*given.changes, change))

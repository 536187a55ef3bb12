"""The classifiers of one inspector, and how their margins become one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from knowngood.decide.calibration import fit_calibration
from knowngood.decide.metrics import auroc
from knowngood.models.classifier import Classifier, Inspector
from knowngood.models.training.batches import Rows, Targets


@dataclass(frozen=True)
class Member:
    """One classifier of an inspector with its margins for all rows, and for those that folds had not seen."""

    classifier: Classifier
    margins: npt.NDArray[np.float32]
    honest: npt.NDArray[np.float64]  # NaN where no fold left the row out

    def unseen(self, rows: Rows) -> npt.NDArray[np.float64]:
        """Returns the margins of rows as a machine that had not seen them gives them."""
        honest = self.honest[rows]
        return np.where(np.isnan(honest), self.margins[rows].astype(np.float64), honest)


def combine(
    members: list[Member], val: Rows, targets: Targets, notes: dict[str, object]
) -> tuple[Inspector, npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Adds the members' margins, each in units of its own validation temperature; one member passes unscaled.

    Validation rows that a member was taught on count with the margin of the fold that had not seen them.
    """
    scales = [1.0]
    bad = targets.bad[val] >= 0.5
    if len(members) > 1:
        unseen = [member.unseen(val) for member in members]
        scales = [1 / fit_calibration(margins, bad).temperature / len(members) for margins in unseen]
        notes["members, val AUC"] = [auroc(bad, margins) for margins in unseen]
        both = sum(scale * margins for scale, margins in zip(scales, unseen, strict=True))
        notes["combined, val AUC"] = auroc(bad, both)
    inspector = Inspector(tuple(member.classifier.config for member in members))
    inspector.members = torch.nn.ModuleList([member.classifier for member in members])
    inspector.scales.copy_(torch.tensor(scales))
    pairs = list(zip(scales, members, strict=True))
    combined = np.sum([scale * member.margins for scale, member in pairs], axis=0)
    honest = np.sum([scale * member.honest for scale, member in pairs], axis=0)  # NaN where any member has none
    return inspector, combined.astype(np.float32), honest

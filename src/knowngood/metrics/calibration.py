"""Logits to defect scores that mean what they say: temperature and bias, fitted on the calibration split."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from scipy.optimize import minimize
from scipy.special import expit

from knowngood.metrics.curves import Bools, Floats, checked, finite
from knowngood.wording import counted

FEW = 10  # of either class; below it the fit leans on the smoothing, and says so
_NO_SPREAD = 1e-9  # of logits: rounding alone
_LOWEST, _HIGHEST = 1e-3, 1e3  # temperature, in units of the logits' spread


class Calibration(BaseModel):
    """score = sigmoid(logit / temperature + bias); strictly rising, so no two units change order."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    temperature: float = Field(default=1.0, ge=1e-12, le=1e12, description="What logits are divided by.")
    bias: float = Field(default=0.0, ge=-1e9, le=1e9, description="What is added after the division.")
    note: str | None = Field(default=None, max_length=4096, description="What the user should know of the fit.")

    def apply(self, logits: npt.ArrayLike) -> Floats:
        """Returns defect scores in [0, 1], (N,) float64, from logits (N,), bad minus good."""
        return np.asarray(expit(finite(logits) / self.temperature + self.bias), dtype=np.float64)


def fit_calibration(logits: npt.ArrayLike, labels: npt.ArrayLike) -> Calibration:
    """Fits temperature and bias by maximum likelihood on smoothed targets.

    Platt's targets, (n1 + 1) / (n1 + 2) for bad and 1 / (n0 + 2) for good, keep the fit finite on separable
    data; the temperature is bounded to 1e-3 .. 1e3 times the spread of the logits, so scores never fall as
    logits rise.

    Args:
        logits: (N,) finite, bad minus good, higher = more likely bad.
        labels: (N,) 0 good, 1 bad.

    Returns:
        The calibration; the identity, with a note, when only one class is there or all logits are equal.

    Reference:
        Guo et al. 2017, section 4.2 (temperature; we add a bias, because class-balanced training shifts the
        prior); Platt 1999, section 2.2 (targets).
    """
    label, logit = checked(labels, logits)
    bads, goods = int(label.sum()), int((~label).sum())
    both = f"{counted(goods, 'good image')} and {counted(bads, 'bad image')}"
    if not (bads and goods):
        return Calibration(note=f"Not calibrated: {both}; both classes are needed.")
    spread = float(logit.std())
    if spread < _NO_SPREAD:
        return Calibration(note="Not calibrated: all calibration images have the same logit.")
    slope, bias = _fit(logit / spread, label)
    notes = []
    if min(bads, goods) < FEW:
        notes.append(f"Calibrated on {both}: take the scores as an order only.")
    if slope <= 1.01 / _HIGHEST:
        notes.append("The logits do not rise from good to bad on the calibration images.")
    return Calibration(temperature=spread / slope, bias=bias, note=" ".join(notes) or None)


def _fit(logit: Floats, label: Bools) -> tuple[float, float]:
    """Returns slope and bias that minimise the mean cross-entropy, a convex problem in two unknowns."""
    bads = int(label.sum())
    goods = label.size - bads
    target = np.where(label, (bads + 1) / (bads + 2), 1 / (goods + 2))

    def loss(at: Floats) -> tuple[float, Floats]:
        z = at[0] * logit + at[1]
        gap = expit(z) - target
        value = float(np.mean(np.logaddexp(0, z) - target * z))
        return value, np.array([np.mean(gap * logit), np.mean(gap)])

    prior = float(np.log((bads + 1) / (goods + 1)))
    bounds = [(1 / _HIGHEST, 1 / _LOWEST), (None, None)]
    found = minimize(loss, np.array([1.0, prior]), jac=True, method="L-BFGS-B", bounds=bounds)
    return float(found.x[0]), float(found.x[1])

"""KID, precision and recall equal torch-fidelity's on the same features."""

from __future__ import annotations

import knowngood.models.torchvision_ops  # noqa: F401  (torch-fidelity imports torchvision, see the module)

import numpy as np
import pytest
import torch

from knowngood.synthesis.likeness import among, kid, overlap

metric_kid = pytest.importorskip("torch_fidelity.metric_kid")
metric_prc = pytest.importorskip("torch_fidelity.metric_prc")


def sets(shift: float, sizes: tuple[int, int] = (180, 180), width: int = 96) -> list[np.ndarray]:
    rng = np.random.default_rng(4)
    return [np.abs(rng.normal(k * shift, 1 + 0.2 * k, (n, width))).astype(np.float32) for k, n in enumerate(sizes)]


@pytest.mark.parametrize("shift", [0.0, 0.05, 1.0])
def test_kid(shift):
    one, two = sets(shift)
    theirs = metric_kid.kid_features_to_metric(
        *map(torch.from_numpy, (one.astype(np.float64), two.astype(np.float64))),
        kid_subsets=1,
        kid_subset_size=180,  # the one subset is the whole set
        verbose=False,
    )
    assert kid(one, two).value == pytest.approx(theirs[metric_kid.KEY_METRIC_KID_MEAN], rel=1e-9, abs=1e-12)


def test_kid_of_unequal_sizes_is_what_subsets_come_to():
    one, two = sets(0.1, (400, 150))
    theirs = metric_kid.kid_features_to_metric(
        torch.from_numpy(one), torch.from_numpy(two), kid_subsets=400, kid_subset_size=100, verbose=False
    )
    assert kid(one, two).value == pytest.approx(theirs[metric_kid.KEY_METRIC_KID_MEAN], rel=0.03)


def test_precision_and_recall():
    one, two = sets(0.15)
    theirs = metric_prc.prc_features_to_metric(
        torch.from_numpy(one),
        torch.from_numpy(two),
        prc_neighborhood=3,
        prc_batch_size=64,
        save_cpu_ram=False,
        verbose=False,
    )
    ours = overlap(one, two)
    assert ours.precision == pytest.approx(theirs[metric_prc.KEY_METRIC_PRECISION], abs=1e-6)
    assert ours.recall == pytest.approx(theirs[metric_prc.KEY_METRIC_RECALL], abs=1e-6)
    assert ours.recall != ours.precision
    assert 0 < ours.precision < 1
    assert ours.precision == among(one, two).mean()

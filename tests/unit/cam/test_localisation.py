"""Localisation figures, against sums written out."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from knowngood.cam.regions import aupro, best_iou, box_iou, pixel_auroc, pointing_hit
from knowngood.errors import KnownGoodError


def test_pointing_game_and_its_tolerance() -> None:
    mask = np.zeros((20, 20), bool)
    mask[5:8, 5:8] = True
    heat = np.zeros((20, 20))
    heat[9, 7] = 1
    assert not pointing_hit(heat, mask)
    assert not pointing_hit(heat, mask, tolerance=1)
    assert pointing_hit(heat, mask, tolerance=2)
    heat[6, 6] = 2
    assert pointing_hit(heat, mask)


def test_iou_of_boxes() -> None:
    assert box_iou((0, 0, 10, 10), (0, 0, 10, 10)) == 1
    assert box_iou((0, 0, 10, 10), (10, 0, 20, 10)) == 0
    assert box_iou((0, 0, 10, 10), (5, 5, 15, 15)) == pytest.approx(25 / 175)
    assert box_iou((3, 3, 3, 3), (3, 3, 3, 3)) == 0
    assert best_iou((0, 0, 2, 2), [(5, 5, 6, 6), (0, 0, 2, 1)]) == 0.5
    assert best_iou(None, [(0, 0, 1, 1)]) == 0


def sets() -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(0)
    maps, masks = [], []
    for number in range(4):
        mask = np.zeros((24, 30), bool)
        if number:
            mask[3:6, 4 : 6 + number] = True
            mask[12:20, 15 : 18 + 2 * number] = True
        maps.append(rng.normal(size=mask.shape) + 1.5 * mask)
        masks.append(mask)
    return maps, masks


def test_pixel_auroc_equals_scikit_learn() -> None:
    maps, masks = sets()
    wanted = roc_auc_score(np.concatenate([m.ravel() for m in masks]), np.concatenate([m.ravel() for m in maps]))
    assert pixel_auroc(maps, masks) == pytest.approx(wanted)
    assert pixel_auroc(maps, masks, most=1500) == pytest.approx(wanted, abs=0.05)
    assert pixel_auroc(maps[:1], masks[:1]) is None


def test_aupro_equals_the_sum_written_out() -> None:
    maps, masks = sets()
    sound = np.concatenate([h[~m] for h, m in zip(maps, masks, strict=True)])
    parts = []
    for heat, mask in zip(maps[1:], masks[1:], strict=True):
        parts += [heat[:8][mask[:8]], heat[8:][mask[8:]]]  # each mask has one part above row 8 and one below
    rates, overlaps = [], []
    for cut in np.unique(np.concatenate([h.ravel() for h in maps]))[::-1]:
        rates.append((sound >= cut).mean())
        overlaps.append(np.mean([(part >= cut).mean() for part in parts]))
    rates, overlaps = np.array([0, *rates]), np.array([0, *overlaps])
    grid = np.linspace(0, 0.3, 20_001)
    wanted = np.trapezoid(np.interp(grid, rates, overlaps), grid) / 0.3
    assert aupro(maps, masks) == pytest.approx(wanted, abs=0.005)


def test_aupro_of_a_perfect_and_of_a_constant_map() -> None:
    _, masks = sets()
    assert aupro([m.astype(float) for m in masks], masks) == pytest.approx(1.0)
    assert aupro([np.zeros(m.shape) for m in masks], masks) == pytest.approx(0.0)
    with pytest.raises(KnownGoodError, match="no defect"):
        aupro([np.zeros((3, 3))], [np.zeros((3, 3), bool)])

"""Every registered defect type on every registered family: exact masks, filled boxes, severity that means something."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from knowngood.lookalike.config import TapeConfig
from knowngood.lookalike.defects import DEFECTS
from knowngood.lookalike.families import FAMILIES
from knowngood.lookalike.units import Drawn, draw_planned, plan_unit

EVERY = [(family, kind) for family in FAMILIES for kind in DEFECTS]


def drawn(family: str, defects: tuple[tuple[str, float], ...], index: int) -> Drawn:
    """A unit with the defects that we want instead of those that its plan would have."""
    config = TapeConfig(family=family if family in ("sod", "sot23") else "mixed", seed=4, abnormal=0)
    plan = replace(plan_unit(index, "train", config), family=family, bad=bool(defects), defects=defects)
    return draw_planned(plan, index, "train", config)


@pytest.mark.parametrize(("family", "kind"), EVERY)
@pytest.mark.parametrize("severity", [0.1, 0.6, 1.0])
def test_the_mask_is_where_picture_and_twin_differ(family, kind, severity):
    for index in range(3):
        unit = drawn(family, ((kind, severity),), index)
        (defect,) = unit.defects
        differs = unit.image != unit.twin
        assert not differs[~defect.mask].any()
        if severity > 0.5:  # a faint one changes a pixel by less than one grey level here and there
            assert differs[defect.mask].mean() > 0.7
        assert differs[defect.mask].any()
        sound = drawn(family, (), index)
        assert np.array_equal(unit.twin, sound.image)
        assert np.array_equal(unit.parts, sound.parts)


@pytest.mark.parametrize(("family", "kind"), EVERY)
def test_the_box_is_around_the_mask(family, kind):
    unit = drawn(family, ((kind, 0.8),), 5)
    (defect,) = unit.defects
    x0, y0, x1, y1 = defect.box
    assert 0 <= x0 < x1 <= unit.image.shape[1]
    assert 0 <= y0 < y1 <= unit.image.shape[0]
    inside = defect.mask[y0:y1, x0:x1]
    assert inside.sum() == defect.mask.sum()
    assert inside[0].any()
    assert inside[-1].any()
    assert inside[:, 0].any()
    assert inside[:, -1].any()


@pytest.mark.parametrize(("family", "kind"), EVERY)
def test_a_worse_defect_is_seen_better(family, kind):
    if DEFECTS.get(kind).whole:
        pytest.skip("a missing or turned part has no faint form")
    seen = []
    for severity in (0.05, 0.45, 0.95):
        total = 0.0
        for index in range(6):
            unit = drawn(family, ((kind, severity),), index)
            total += np.abs(unit.image.astype(float) - unit.twin).sum()
        seen.append(total)
    assert seen[0] < seen[1] < seen[2]
    assert seen[2] > 4 * seen[0]


@pytest.mark.parametrize("kind", DEFECTS)
def test_a_type_says_what_it_stands_for(kind):
    defect = DEFECTS.get(kind)()
    assert defect.summary.endswith(".")
    assert defect.count > 0


@pytest.mark.parametrize(("family", "kind"), EVERY)
def test_the_defect_does_not_change_the_scene_it_is_drawn_on(family, kind):
    first = drawn(family, ((kind, 0.9),), 8)
    again = drawn(family, ((kind, 0.9),), 8)
    assert np.array_equal(first.image, again.image)


def test_two_defects_have_two_masks():
    unit = drawn("sot23", (("scratch", 0.9), ("lead_glue", 0.8)), 3)
    assert [d.kind for d in unit.defects] == ["scratch", "lead_glue"]
    union = unit.defects[0].mask | unit.defects[1].mask
    assert not (unit.image != unit.twin)[~union].any()

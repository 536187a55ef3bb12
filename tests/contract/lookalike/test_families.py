"""Every registered package family: size, grey levels, geometry and a map of parts that agrees with the picture."""

from __future__ import annotations

import numpy as np
import pytest

from knowngood.lookalike.config import TapeConfig
from knowngood.lookalike.families import FAMILIES
from knowngood.lookalike.units import BODY, FLOOR, LEAD, TAPE, Drawn, draw_unit


@pytest.fixture(scope="module", params=list(FAMILIES))
def units(request: pytest.FixtureRequest) -> tuple[str, list[Drawn]]:
    config = TapeConfig(family=request.param, seed=2, bad_rate=0, abnormal=0, lots=400, machines=46)
    return request.param, [draw_unit(index, "train", config) for index in range(40)]


def test_size(units):
    name, drawn = units
    family = FAMILIES.get(name)()
    assert {unit.image.shape for unit in drawn} == {(family.height, family.width)}
    assert {unit.image.dtype for unit in drawn} == {np.dtype(np.uint8)}
    assert family.summary


def test_grey_levels_are_those_of_real_pictures(units):
    """LOOK.md: median 32-62, mean about 58-61, 1st percentile 23-25, 95th 130-150, 0.5-0.9 % saturated."""
    _, drawn = units
    pixels = np.stack([unit.image for unit in drawn])
    medians = np.median(pixels, axis=(1, 2))
    assert medians.min() > 30
    assert medians.max() < 64
    assert 52 < pixels.mean() < 64
    assert 20 < np.percentile(pixels, 1) < 28
    assert 115 < np.percentile(pixels, 95) < 160
    assert 0.004 < (pixels >= 250).mean() < 0.0115


def test_leads_are_the_brightest_and_body_is_flat(units):
    _, drawn = units
    for unit in drawn:
        assert set(np.unique(unit.parts)) == {LEAD, BODY, TAPE, FLOOR}
        lead, body = unit.image[unit.parts == LEAD], unit.image[unit.parts == BODY]
        assert lead.mean() > 1.6 * body.mean()
        assert 40 < np.median(body) < 80
    burnt = [((unit.image >= 250) & (unit.parts == LEAD)).sum() for unit in drawn]
    assert sum(burnt) > 0.9 * sum((unit.image >= 250).sum() for unit in drawn)


def test_every_product_belongs_to_one_lot(units):
    _, drawn = units
    products: dict[str, set[str]] = {}
    for unit in drawn:
        products.setdefault(unit.lot, set()).add(unit.product)
    assert all(len(names) == 1 for names in products.values())


def test_later_batch_is_another(units):
    name, drawn = units
    config = TapeConfig(family=name, seed=2, bad_rate=0, abnormal=0, lots=400, machines=46, drift=1, drift_on="all")
    later = draw_unit(0, "train", config)
    assert later.lot != drawn[0].lot
    assert not np.array_equal(later.image, drawn[0].image)

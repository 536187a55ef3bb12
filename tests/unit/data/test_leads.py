"""Leads are found without a mask: most of them, little else, nothing where there is no part."""

from __future__ import annotations

import numpy as np
import pytest

from knowngood.data.preprocessing import find_leads, without_leads
from knowngood.lookalike.config import TapeConfig
from knowngood.lookalike.units import draw_unit


def units(family, want, count=16, **options):
    config = TapeConfig(family=family, seed=3, **options)
    found = []
    for index in range(400):
        unit = draw_unit(index, "train", config)
        if want(unit):
            found.append(unit)
        if len(found) == count:
            break
    return found


def ordinary(unit):
    return unit.plan.abnormal is None and (unit.parts == 255).any()


@pytest.mark.parametrize("family", ["sod", "sot23"])
def test_most_of_the_leads_are_found_and_little_else(family):
    recall, precision = [], []
    for unit in units(family, ordinary):
        truth, found = unit.parts == 255, find_leads(unit.image)
        recall.append((truth & found).sum() / truth.sum())
        precision.append((truth & found).sum() / max(found.sum(), 1))
    assert np.mean(recall) >= 0.9
    assert np.mean(precision) >= 0.7


def test_an_empty_pocket_has_no_leads():
    def empty(unit):
        return any(d.kind == "empty_pocket" for d in unit.defects) and unit.plan.abnormal is None

    found = units("sod", empty, 3, bad_rate=1) + units("sot23", empty, 3, bad_rate=1)
    assert found
    assert [find_leads(unit.image).sum() for unit in found] == [0] * len(found)


@pytest.mark.parametrize("family", ["sod", "sot23"])
@pytest.mark.parametrize("kind", ["empty_frame", "burnt_out"])
def test_a_picture_without_a_part_has_no_leads(family, kind):
    found = units(family, lambda unit: unit.plan.abnormal == kind, 2, abnormal=1)
    assert found
    assert [find_leads(unit.image).sum() for unit in found] == [0] * len(found)


@pytest.mark.parametrize("colour", [False, True])
def test_merging_leads_changes_them_and_nothing_else(colour):
    image = units("sod", ordinary, 1)[0].image
    image = np.repeat(image[..., None], 3, axis=2) if colour else image
    before, leads, made = image.copy(), find_leads(image), without_leads(image)
    assert np.array_equal(image, before)
    assert made.shape == image.shape
    assert made.dtype == np.uint8
    assert np.array_equal(made[~leads], image[~leads])
    assert made[leads].mean() < image[leads].mean() - 20  # metal shines, what surrounds it does not


def test_a_picture_without_leads_comes_back_as_it_is():
    flat = np.full((80, 90), 60, np.uint8)
    assert without_leads(flat) is flat

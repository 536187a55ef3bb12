"""A region of interest: nothing outside has a say, no edge is made, wrong ones are told by their flag."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knowngood.data.preprocessing import Preprocessing, find_leads, parse_roi, preprocessing_for
from knowngood.errors import ConfigError
from knowngood.lookalike.config import TapeConfig
from knowngood.lookalike.units import draw_unit
from knowngood.parameters import checked_parameters
from knowngood.training.config import TrainConfig

fraction = st.floats(0, 1, allow_nan=False)


@settings(max_examples=30, deadline=None)
@given(
    corners=st.lists(st.tuples(fraction, fraction, fraction, fraction), min_size=1, max_size=3),
    colour=st.booleans(),
    leads=st.booleans(),
    seed=st.integers(0, 99),
)
def test_what_is_outside_has_no_say_and_what_is_inside_stays(corners, colour, leads, seed):
    boxes = [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in corners]
    boxes = [box for box in boxes if box[0] < box[2] and box[1] < box[3]] or [(0.2, 0.2, 0.8, 0.8)]
    made = Preprocessing(roi=tuple(boxes), mask_leads=leads)
    rng = np.random.default_rng(seed)
    shape = (47, 60, 3) if colour else (47, 60)
    one, inside = rng.integers(0, 256, shape, dtype=np.uint8), made.inside(47, 60)
    if inside is None:
        return
    other = np.where(inside[..., None] if colour else inside, one, rng.integers(0, 256, shape, dtype=np.uint8))
    assert inside.any()
    assert np.array_equal(made.apply(one), made.apply(other))
    if not leads:
        assert np.array_equal(made.apply(one)[inside], one[inside])


def test_the_rim_of_the_region_is_no_edge_and_far_away_is_the_mean():
    ramp = np.repeat(np.linspace(40, 220, 200)[None], 200, axis=0).astype(np.uint8)
    made = Preprocessing(roi=((0.25, 0.25, 0.75, 0.75),)).apply(ramp).astype(int)
    steps = [np.abs(made[60:140, 49] - made[60:140, 50]), np.abs(made[60:140, 150] - made[60:140, 149])]
    assert max(step.max() for step in steps) <= 12  # the plain mean would make steps of 44
    assert abs(int(made[0, 0]) - ramp[50:150, 50:150].mean()) < 2


def test_boxes_are_joined_and_the_whole_picture_is_no_region():
    two = Preprocessing(roi=((0, 0, 0.5, 0.5), (0.5, 0.5, 1, 1))).inside(10, 20)
    assert two[:5, :10].all()
    assert two[5:, 10:].all()
    assert two.sum() == 100
    image = np.zeros((10, 20), np.uint8)
    assert Preprocessing(roi=((0, 0, 1, 1),)).apply(image) is image
    assert Preprocessing().apply(image) is image


def test_pixels_become_fractions_that_give_the_same_pixels_back():
    for width in (97, 224, 275):
        boxes = preprocessing_for("3,5,90,31; 1,1,2,2", False, [(50, width)] * 3)
        inside = boxes.inside(50, width)
        wanted = np.zeros((50, width), bool)
        wanted[5:31, 3:90] = wanted[1:2, 1:2] = True
        assert np.array_equal(inside, wanted)


def test_leads_are_merged_within_a_region_too():
    unit = next(u for u in (draw_unit(i, "train", TapeConfig(seed=2)) for i in range(9)) if not u.plan.bad)
    made = Preprocessing(roi=((0.05, 0.02, 0.95, 0.98),), mask_leads=True).apply(unit.image)
    assert find_leads(unit.image).sum() > 500
    assert made[unit.parts == 255].mean() < unit.image[unit.parts == 255].mean() - 20


@pytest.mark.parametrize(
    ("roi", "said"),
    [
        ("", "names no box"),
        ("a,b,c,d", "not numbers"),
        ("0.1,0.2,0.3", "3 numbers"),
        ("0.5,0.5,0.5,0.9", "is empty"),
        ("0.9,0.1,0.2,0.9", "is empty"),
        ("-0.1,0,0.5,0.5", "reaches out"),
        ("nan,0,1,1", "not finite"),
        ("0,0,inf,1", "not finite"),
    ],
)
def test_a_wrong_region_is_told_by_its_flag(roi, said):
    with pytest.raises(ConfigError, match=f"--roi.*{said}"):
        checked_parameters(TrainConfig, {"roi": roi})


def test_pixels_must_lie_in_photographs_of_one_size():
    with pytest.raises(ConfigError, match=r"--roi.*sizes") as told:
        preprocessing_for("10,10,50,50", False, [(60, 60), (60, 80)])
    assert "60x60" in str(told.value)
    assert "80x60" in str(told.value)
    with pytest.raises(ConfigError, match=r"--roi.*reaches out"):
        preprocessing_for("10,10,61,50", False, [(60, 60)])
    assert preprocessing_for("0.1,0.1,0.9,0.9", False, [(60, 60), (60, 80)]).roi == parse_roi("0.1,0.1,0.9,0.9")

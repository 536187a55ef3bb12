"""Defects come from bad training images and end where they are marked; what cannot be cut is said."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest

from knowngood.cam.regions import boxes_of
from knowngood.data.config import SplitConfig
from knowngood.data.loading import load
from knowngood.data.records import Records
from knowngood.errors import ConfigError, DataError
from knowngood.synthesis.config import TransplantParameters
from knowngood.synthesis.generators import open_image_generator
from knowngood.synthesis.transplant import Transplant
from knowngood.workflows.generate import divided_by


def draw(root: Path, spot, *, shapes=((40, 56),), colour=False, by="mask", bads=6, goods=8) -> Records:
    """Draws flat parts; bad ones have a black spot (rows, columns); all train."""
    rng, rows = np.random.default_rng(1), []
    for number in range(bads + goods):
        shape, bad = shapes[number % len(shapes)], number < bads
        pixels = rng.normal(120 + 3 * number, 2, (*shape, 3) if colour and number % 2 else shape)
        pixels[shape[0] // 5 : -shape[0] // 5, shape[1] // 4 : -shape[1] // 4] += 30  # the part
        mask = np.zeros(shape, bool)
        if bad:
            mask[spot] = True
            pixels[mask] = 10
        cv2.imwrite(str(root / f"{number}.png"), np.clip(pixels, 0, 255).astype(np.uint8))
        cv2.imwrite(str(root / f"m{number}.png"), mask.astype(np.uint8) * 255)
        known = bad and by == "mask"
        box = str([list(b) for b in boxes_of(mask)]) if bad and by == "box" else None
        label, split = "bad" if bad else "good", "train"
        rows.append((f"{number}.png", label, split, f"m{number}.png" if known else None, box, f"p{number % 2}"))
    schema = ["image", "label", "split", "mask", "box", "product"]
    pl.DataFrame(rows, schema=schema, orient="row").write_csv(root / "manifest.csv")
    return load(root)


SPOTS = {
    "middle": (slice(15, 22), slice(20, 30)),
    "corner": (slice(0, 6), slice(0, 6)),
    "edge": (slice(30, 40), slice(10, 20)),
    "pixel": (slice(9, 10), slice(9, 10)),
}


@pytest.mark.parametrize("blend", ["poisson", "feather"])
@pytest.mark.parametrize("spot", list(SPOTS))
def test_the_mask_is_where_the_defect_is(tmp_path, spot, blend):
    records = draw(tmp_path, SPOTS[spot])
    for made in open_image_generator("transplant", records, 2, blend=blend, zoom=1.0, rotate=0).make(range(8)):
        assert made.mask is not None
        dark = made.pixels < 80
        assert (dark & made.mask).any()
        assert (dark & ~cv2.dilate(made.mask.astype(np.uint8), np.ones((5, 5))).astype(bool)).sum() == 0
        assert made.boxes == boxes_of(made.mask)
        assert made.pixels[~dark].min() > 100  # no seam


def test_jitter_turn_scale_and_flip_move_it(tmp_path):
    records = draw(tmp_path, SPOTS["middle"])
    still = open_image_generator("transplant", records, 0, shift=0, rotate=0, zoom=1).make(range(4))
    assert all(one.boxes == ((20.0, 15.0, 30.0, 22.0),) for one in still)
    moved = open_image_generator("transplant", records, 0, shift=0.1, rotate=40, zoom=1.5, flip=True).make(range(12))
    assert len({one.boxes for one in moved}) > 8
    assert {one.facts["mirrored"] for one in moved} == {True, False}


def test_a_defect_goes_to_its_own_product_and_names_its_parents(tmp_path):
    records = draw(tmp_path, SPOTS["middle"])
    product = dict(records.frame.select("image", "product").iter_rows())
    label = dict(records.frame.select("image", "label").iter_rows())
    for made in open_image_generator("transplant", records).make(range(10)):
        donor, host = made.parents
        assert (label[donor], label[host]) == (1, 0)
        assert product[donor] == product[host]


def test_sizes_and_colour_may_differ(tmp_path):
    records = draw(tmp_path, SPOTS["middle"], shapes=((40, 56), (80, 112), (44, 44)), colour=True)
    made = open_image_generator("transplant", records, zoom=1, rotate=0).make(range(12))
    assert {one.pixels.ndim for one in made} == {3}
    assert all(one.mask is not None and (one.pixels[one.mask] < 80).mean() > 0.5 for one in made)


def test_boxes_give_boxes_and_no_mask(tmp_path):
    made = open_image_generator("transplant", draw(tmp_path, SPOTS["middle"], by="box")).make([0, 1])
    assert all(one.mask is None and len(one.boxes) == 1 and one.facts["cut_by"] == "box" for one in made)


def test_without_a_place_it_is_refused_and_a_map_may_give_one(tmp_path):
    records = draw(tmp_path, SPOTS["middle"], by="nothing")
    with pytest.raises(DataError, match="mask or box") as refused:
        open_image_generator("transplant", records)
    assert "--recipe" in str(refused.value)

    def shown(path: str, image: str):
        return cv2.imread(path, cv2.IMREAD_GRAYSCALE) < 60

    made = Transplant(records, TransplantParameters(), 0, shown).make([3])[0]
    assert made.facts["cut_by"] == "map"
    assert made.boxes


def test_large_defects_are_not_copied_whole(tmp_path):
    records = draw(tmp_path, (slice(0, 36), slice(0, 56)))
    with pytest.raises(DataError, match="6 cover more than 50%"):
        open_image_generator("transplant", records)
    assert open_image_generator("transplant", records, largest=1).make([0])


def test_a_parameter_out_of_range_names_the_flag(tmp_path):
    with pytest.raises(ConfigError, match="--blend"):
        open_image_generator("transplant", draw(tmp_path, SPOTS["middle"]), blend="glue")


def test_it_takes_what_splits_leave_it(parts):
    divided = divided_by(load(parts), SplitConfig())
    made = open_image_generator("transforms", divided).make(range(4))
    assert all(one.mask is None and one.boxes == () for one in made)

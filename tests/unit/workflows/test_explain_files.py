"""Boxes for programs: run lengths that can be read back, names of files that never clash, rows for everything."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from knowngood.cam.regions import regions_of
from knowngood.workflows.explain_output import Looked, box_table, coco, keys_for, run_lengths, without_masks


@given(arrays.arrays(np.bool_, arrays.array_shapes(min_dims=2, max_dims=2, max_side=9)))
def test_run_lengths_give_the_mask_again(mask: np.ndarray) -> None:
    counts = run_lengths(mask)
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    np.testing.assert_array_equal(flat.reshape(mask.shape, order="F"), mask)


@given(st.lists(st.text(min_size=1), max_size=8))
def test_names_of_files_are_safe_and_different(names: list[str]) -> None:
    keys = keys_for(names)
    assert len({key.lower() for key in keys}) == len(names)
    assert all(key and "/" not in key and not key.startswith(".") for key in keys)


def test_names_stay_what_they_were_where_they_can() -> None:
    assert keys_for(["a/one.png", "b/one.png", "c/ONE.jpg", "../x y.bmp"]) == ["one", "one_2", "ONE_3", "x_y"]


def test_every_photograph_has_a_row_and_boxes_are_equal_in_both_files() -> None:
    heat = np.zeros((20, 30), np.float32)
    heat[2:6, 3:9], heat[10:12, 20:30] = 1.0, 2.0
    regions, runs = without_masks(regions_of(heat))
    assert all(region.mask.size == 0 for region in regions)
    looked = [
        Looked("a.png", "a", (20, 30), 0.9, "reject", regions, runs),
        Looked("b.png", "b", error="'b.png' is empty"),
        Looked("c.png", "c", (5, 5), 0.1, "accept"),
    ]
    rows = box_table(looked).to_dicts()
    assert [(row["image"], row["rank"]) for row in rows] == [
        ("a.png", 1),
        ("a.png", 2),
        ("b.png", None),
        ("c.png", None),
    ]
    document = coco(looked, "test")
    assert [image["file_name"] for image in document["images"]] == ["a.png", "c.png"]
    assert [category["name"] for category in document["categories"]] == ["defect"]
    for row, one in zip(rows, document["annotations"], strict=False):
        x, y, width, height = one["bbox"]
        assert (row["x0"], row["y0"], row["x1"], row["y1"]) == (x, y, x + width, y + height)
        assert sum(one["segmentation"]["counts"][1::2]) == one["area"] == row["area"]
    assert rows[0]["mean"] == pytest.approx(1.0)

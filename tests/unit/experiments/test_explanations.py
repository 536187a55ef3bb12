"""The study's step of maps: shown by type, held against masks, and nothing claimed where there are none."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from knowngood.data.loading import load
from knowngood.experiments.configs import StudyConfig
from knowngood.experiments.study_steps import ExplanationsStep, Material


@pytest.fixture
def material(trained_run: Path, parts: Path, tmp_path: Path) -> Material:
    shutil.copytree(trained_run, tmp_path / "inspector")
    return Material(load(parts), tmp_path, StudyConfig(), "resnet18", {"inspector": {}})


def with_masks(folder: Path) -> int:
    """Gives every chip a mask of the whole picture and every scratch one of a corner; returns the test's chips."""
    path = folder / "inspector" / "records.parquet"
    records = pl.read_parquet(path)
    masks = []
    for row, kind in enumerate(records["defect"]):
        pixels = np.zeros((96, 96), np.uint8)
        pixels[: 96 if kind == "chip" else 1, : 96 if kind == "chip" else 1] = 255
        Image.fromarray(pixels).save(folder / f"mask_{row}.png")
        masks.append(str(folder / f"mask_{row}.png") if kind else None)
    records.with_columns(pl.Series("mask", masks, dtype=pl.String)).write_parquet(path)
    return records.filter((pl.col("defect") == "chip") & (pl.col("split") == "test")).height


def test_without_masks_it_shows_and_measures_nothing(material: Material) -> None:
    step = ExplanationsStep()
    assert step.skipped(material) is None
    found = step.run(material)
    assert set(found["kinds"]) == {"chip", "scratch"}
    assert all(one["masks"] == 0 and one["iou"] is None for one in found["kinds"].values())
    (section,) = step.sections(material, found)
    assert section.body.count('<img class="strip"') == 4
    assert "<table" not in section.body
    assert step.advice(found) == []


def test_masks_are_what_maps_are_held_against(material: Material) -> None:
    chips = with_masks(material.folder)
    step = ExplanationsStep()
    found = step.run(material)
    chip = found["kinds"]["chip"]
    assert chip["masks"] == chips == chip["hits"]  # nothing can miss a mask of the whole picture
    assert 0 < chip["iou"] <= 1
    assert found["kinds"]["scratch"]["iou"] < 0.1
    (section,) = step.sections(material, found)
    assert "IoU of the largest box" in section.body
    poor = {"kinds": {"scratch": {**found["kinds"]["scratch"], "masks": 20, "hits": 3}}}
    assert "scratch" in step.advice(poor)[0]


def test_it_is_left_out_where_there_is_nothing_to_show(material: Material) -> None:
    step = ExplanationsStep()
    assert step.skipped(Material(material.records, material.folder, material.config, material.model, {})) is not None
    path = material.folder / "inspector" / "scores.parquet"
    pl.read_parquet(path).filter(pl.col("label") == 0).write_parquet(path)
    assert "no bad unit" in (step.skipped(material) or "")

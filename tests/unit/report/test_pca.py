"""The scatter: few enough pictures, hostile names, one class, no spread."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from PIL import Image

from knowngood import wording
from knowngood.report.chart import linear
from knowngood.report.experiments import MOST_POINTS, PcaSummary, line_ends, pca_section
from knowngood.report.page import page

HOSTILE = '"><script>alert(1)</script>.png'


def summary(count: int, bads: int, path: str, **changed: object) -> PcaSummary:
    rng = np.random.default_rng(0)
    points = pl.DataFrame(
        {
            "image": [f"{i}{HOSTILE}" for i in range(count)],
            "path": [path] * count,
            "label": [int(i < bads) for i in range(count)],
            "defect": ["chip" if i < bads else None for i in range(count)],
            "pc1": rng.normal(size=count),
            "pc2": rng.normal(size=count),
        },
        schema_overrides={"label": pl.UInt8, "defect": pl.String},
    )
    values = {"explained": [0.5, 0.2, 0.1], "line": (1.0, 1.0, 0.0), "two": (0.8, 0.7), "whole": (0.9, 0.8)}
    return PcaSummary(points, **{**values, "larger": 0.6, "fitted_on": count, "features": "features", **changed})


@pytest.fixture
def picture(tmp_path):
    Image.new("L", (20, 20), 90).save(tmp_path / "p.png")
    return str(tmp_path / "p.png")


def test_more_than_fit_are_drawn_from_and_it_is_said(picture):
    body = str(pca_section(summary(4000, 300, picture)).body)
    assert body.count('<g class="point') == MOST_POINTS
    assert body.count('class="point bad"') == 300
    assert "1,500 photographs of 4,000" in body
    few = str(pca_section(summary(30, 10, picture)).body)
    assert few.count('<g class="point') == 30
    assert "drawn at random" not in few


def test_names_stay_names(picture):
    html = page("t", "s", [pca_section(summary(5, 2, picture))])
    assert html.count("<script>") == 1
    assert "&lt;script&gt;" in html


def test_missing_pictures_and_one_class_and_one_place(tmp_path):
    bare = summary(6, 0, str(tmp_path / "gone.png"), line=None, two=None, whole=None)
    same = bare.points.with_columns(pc1=pl.lit(1.0), pc2=pl.lit(2.0))
    body = str(pca_section(summary(6, 0, "", line=None, two=None, whole=None)).body) + str(
        pca_section(PcaSummary(same, [1.0], None, None, None, 1.0, 6, "features")).body
    )
    assert 'data-picture=""' in body
    assert "nan" not in body
    assert "linear discriminant on" not in body


def test_the_line_ends_at_the_frame():
    x, y = linear("x", -1, 1), linear("y", -2, 2)
    assert sorted(line_ends((1.0, 0.0, 0.0), x, y)) == [(0.0, -2), (0.0, 2)]
    assert sorted(line_ends((1.0, 1.0, 0.0), x, y)) == [(-1, 1), (1, -1)]
    assert line_ends((1.0, 0.0, 9.0), x, y) == []


def test_several_figures_are_mean_and_deviation():
    assert wording.several([0.5], wording.decimal) == "0.5000"
    assert wording.several([0.4, 0.6], wording.decimal) == "0.5000 ± 0.1414"
    assert wording.several([0.1, 0.3], wording.percent) == "20.0 % ± 14.1 %"
    assert wording.several([None], wording.percent) == wording.NONE

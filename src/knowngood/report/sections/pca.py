"""The photographs by their first two principal components, hovered for the picture, and what a line can tell there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from markupsafe import Markup

from knowngood import wording
from knowngood.report.chart import Axis, Chart, Point, linear
from knowngood.report.page import Section, render
from knowngood.report.thumbnails import thumbnail

MOST_POINTS = 1500  # pictures embedded in the page: about 5 MB
_MOST_BAD = 500  # of them, so that a common class does not hide a rare one, nor the other way round
_CROWD = 400  # points above which the marks are smaller
_SIDE = 112  # pixels of an embedded picture


@dataclass(frozen=True)
class PcaSummary:
    """Principal components of a set's features, as plain data.

    Attributes:
        points: A row an image: image, path, label (may be null), defect, pc1, pc2.
        explained: Share of the variance of each component, greatest first.
        line: (a, b, c) of the line a pc1 + b pc2 + c = 0 that separates the classes, or None.
        two: (AUC, accuracy) of a line in two components, cross-validated, or None.
        whole: The same of a plane in all features.
        larger: Share of the larger class: the accuracy of calling everything that.
        fitted_on: How many images the components and the line were learned from.
        features: What the features are, in words.
    """

    points: pl.DataFrame
    explained: Sequence[float]
    line: tuple[float, float, float] | None
    two: tuple[float, float] | None
    whole: tuple[float, float] | None
    larger: float
    fitted_on: int
    features: str


def pca_section(pca: PcaSummary, seed: int = 0) -> Section:
    """Makes the scatter, the curve of explained variance, and the table of what a line separates.

    Args:
        pca: What to show.
        seed: Decides which images are shown when there are more than 1,500.
    """
    labelled = pca.points.filter(pl.col("label").is_not_null())
    shown = _at_most(labelled, seed)
    body = render(
        "sections/pca.html",
        scatter=_scatter(pca, shown),
        curve=_curve(pca.explained),
        pca=pca,
        shown=shown.height,
        bads=int((shown["label"] == 1).sum()),
        of=labelled.height,
        first_two=float(sum(pca.explained[:2])),
    )
    lead = "Each mark is one photograph: put the pointer on it to see it."
    return Section("pca", "How the photographs vary (PCA)", body, lead)


def _at_most(points: pl.DataFrame, seed: int) -> pl.DataFrame:
    if points.height <= MOST_POINTS:
        return points
    bad, good = points.filter(pl.col("label") == 1), points.filter(pl.col("label") == 0)
    bads = min(bad.height, max(_MOST_BAD, MOST_POINTS - good.height))
    goods = min(good.height, MOST_POINTS - bads)
    return pl.concat([good.sample(goods, seed=seed), bad.sample(bads, seed=seed)])


def _scatter(pca: PcaSummary, shown: pl.DataFrame) -> Markup:
    share = [wording.percent(float(part)) for part in (*pca.explained, 0.0, 0.0)[:2]]
    x = _axis(f"first component ({share[0]} of the variance)", shown["pc1"])
    y = _axis(f"second component ({share[1]})", shown["pc2"])
    chart = Chart(x, y, width=900, height=560)
    if pca.line is not None and len(ends := _ends(pca.line, x, y)) == 2:
        chart.line(ends, "cut")
    size = 3.6 if shown.height <= _CROWD else 2.8
    for row in shown.sort("label").iter_rows(named=True):
        bad = row["label"] == 1
        said = f"{(row['defect'] or 'bad') if bad else 'good'}: {row['image']}"
        uri = thumbnail(row["path"], _SIDE).uri
        chart.picture_point(row["pc1"], row["pc2"], "bad" if bad else "good", uri, said, size)
    return chart.svg("Scatter of the photographs by their first two principal components, good and bad marked apart")


def _axis(title: str, values: pl.Series) -> Axis:
    numbers = values.to_numpy()
    low, high = (float(numbers.min()), float(numbers.max())) if len(numbers) else (0.0, 1.0)
    room = 0.04 * (high - low)
    return linear(title, low - room, high + room)


def _ends(line: tuple[float, float, float], x: Axis, y: Axis) -> list[Point]:
    """Returns where a x + b y + c = 0 enters and leaves the chart."""
    a, b, c = line
    ends = []
    for edge in (x.low, x.high):
        if b and y.low <= (at := -(a * edge + c) / b) <= y.high:
            ends.append((edge, at))
    for edge in (y.low, y.high):
        if a and x.low < (at := -(b * edge + c) / a) < x.high:
            ends.append((at, edge))
    return ends[:2]


def _curve(explained: Sequence[float]) -> Markup:
    total = np.cumsum(explained)
    points = [(float(i), float(v)) for i, v in enumerate(total, 1)]
    x = linear("components", 1, max(2, len(points)), whole=True)
    chart = Chart(x, linear("variance explained", 0, 1, percent=True), height=250)
    chart.line(points, "ink").dots(points, "ink", 2)
    return chart.svg("Share of the variance that the first components explain together")

"""Sections of experiments: PCA scatter, conventional classifiers, removal of suspects, effect of generated images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup

from knowngood import wording
from knowngood.report.chart import Axis, Chart, Point, linear
from knowngood.report.page import Section, render
from knowngood.report.pictures import thumbnail

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
        fitted_on: How many images the components and the line were fitted on.
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
    if pca.line is not None and len(ends := line_ends(pca.line, x, y)) == 2:
        chart.line(ends, "cut")
    size = 3.6 if shown.height <= _CROWD else 2.8
    for row in shown.sort("label").iter_rows(named=True):
        bad = row["label"] == 1
        caption = f"{(row['defect'] or 'bad') if bad else 'good'}: {row['image']}"
        uri = thumbnail(row["path"], _SIDE).uri
        chart.picture_point(row["pc1"], row["pc2"], "bad" if bad else "good", uri, caption, size)
    return chart.svg("Scatter of the photographs by their first two principal components, good and bad marked apart")


def _axis(title: str, values: pl.Series) -> Axis:
    numbers = values.to_numpy()
    low, high = (float(numbers.min()), float(numbers.max())) if len(numbers) else (0.0, 1.0)
    room = 0.04 * (high - low)
    return linear(title, low - room, high + room)


def line_ends(line: tuple[float, float, float], x: Axis, y: Axis) -> list[Point]:
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


Rows = Sequence[dict[str, Any]]


def conventional_section(rows: Rows) -> Section:
    """Makes the table; several seeds become mean and standard deviation.

    Args:
        rows: One a model and seed: model, seed, cv_auroc, train_accuracy, test (`Metrics.to_dict()`), seconds,
            images_per_second, setting.
    """
    models = list(dict.fromkeys(row["model"] for row in rows))
    first = rows[0]
    body = render(
        "sections/conventional.html",
        tprs=[f"{100 * float(tpr):g} %" for tpr in first["test"]["fpr_at_tpr"]],
        table=[_words(name, [row for row in rows if row["model"] == name]) for name in models],
        settings=[(row["model"], row["seed"], row["setting"], row["grid"]) for row in rows],
        seeds=len({row["seed"] for row in rows}),
        test=(first["test"]["n_good"], first["test"]["n_bad"]),
    )
    lead = "Fitted on the features of a pretrained, frozen network; tested on images that were not used in training."
    return Section("conventional", "Conventional classifiers", body, lead)


def _words(name: str, rows: Rows) -> dict[str, Any]:
    """Returns one model's figures in words: with one seed the AUC has its interval, with several its spread."""
    tests = [row["test"] for row in rows]
    return {
        "name": name,
        "cv": wording.several([row["cv_auroc"] for row in rows], wording.decimal),
        "train": wording.several([row["train_accuracy"] for row in rows], wording.percent),
        "test": wording.several([test["accuracy"] for test in tests], wording.percent),
        "auroc": wording.several([test["auroc"] for test in tests], wording.decimal),
        "interval": wording.decimal_range(tests[0]["auroc_ci"]) if len(tests) == 1 else "",
        "overkill": [
            wording.several([test["fpr_at_tpr"][t] for test in tests], wording.percent) for t in tests[0]["fpr_at_tpr"]
        ],
        "fit": f"{sum(row['seconds'] for row in rows) / len(rows):.1f}",
        "speed": f"{sum(row['images_per_second'] for row in rows) / len(rows):.1f}",
    }


_WIDTH, _HEIGHT = 160, 18
_LABELS = {
    "given": "Measured on the given labels",
    "corrected": "Measured on the labels as corrected by a person",
    "true": "Measured on the true labels",
}
_LEAD = (
    "Each arm changes the training part only, decided without the test images; differences are to the set as it is, "
    "paired over seeds, with a 95 % interval."
)


def removal(document: dict[str, Any]) -> Section:
    """Makes the section out of what removal.json holds."""
    reach = max((abs(end) for effect in document["effects"] for end in effect["auroc"]["interval"]), default=0.0) or 1.0
    blocks = []
    for labels, title in _LABELS.items():
        arms = [arm for arm in document["arms"] if arm["judged_by"] == labels]
        found = {effect["arm"]: effect for effect in document["effects"] if effect["judged_by"] == labels}
        if arms:
            rows = [
                (arm, found.get(arm["arm"]), whisker((found.get(arm["arm"]) or {}).get("auroc"), reach)) for arm in arms
            ]
            blocks.append((title, rows, [effect["sentence"] for effect in found.values()]))
    body = render(
        "sections/removal.html",
        blocks=blocks,
        seeds=len(document["seeds"]),
        preset=document["config"]["preset"],
        notes=document["notes"],
    )
    return Section("removal", "Does removing or relabelling help?", body, _LEAD)


def whisker(change: dict[str, Any] | None, reach: float) -> Markup:
    """Draws a difference with its interval around nought.

    Args:
        change: With `difference`, `interval` and `outcome` (helped, hurt or cannot tell); None draws nothing.
        reach: Value at the right end; that at the left is its negative.
    """
    if change is None:
        return Markup("")
    low, high = change["interval"]
    middle, scale = _WIDTH / 2, (_WIDTH / 2 - 6) / reach
    places = [middle + scale * value for value in (low, high, change["difference"])]
    tone = {"helped": "good", "hurt": "bad"}.get(change["outcome"], "ink")
    return Markup(
        '<svg viewBox="0 0 {w} {h}" class="effect" aria-hidden="true">'
        '<line x1="{m}" x2="{m}" y1="0" y2="{h}" class="axis"/>'
        '<line x1="{a:.1f}" x2="{b:.1f}" y1="{y}" y2="{y}" class="line {t}"/>'
        '<circle cx="{c:.1f}" cy="{y}" r="4" class="{t}"/></svg>'
    ).format(w=_WIDTH, h=_HEIGHT, m=middle, y=_HEIGHT / 2, a=places[0], b=places[1], c=places[2], t=tone)


_LEAD_SYNTHESIS = (
    "Real bads are thinned in the training split only, the test is always the same real images. Differences are to the "
    "same real bads without made images, paired over seeds, with 95 % intervals over seeds and test images."
)


def classifier_section(document: dict[str, Any]) -> Section:
    """Makes the section out of what judge.json holds under `classifier`."""
    effects = {(one["regime"], one["arm"]): one for one in document["effects"]}
    reach = max((abs(end) for one in effects.values() for end in one["overkill"]["interval"]), default=0.0) or 1.0
    blocks = []
    for regime in dict.fromkeys(arm["regime"] for arm in document["arms"]):
        arms = [arm for arm in document["arms"] if arm["regime"] == regime]
        found = [effects.get((regime, arm["arm"]), {}) for arm in arms]
        rows = [(arm, one, whisker(_better_right(one), reach)) for arm, one in zip(arms, found, strict=True)]
        blocks.append((regime, rows, [one["sentence"] for one in found if one]))
    body = render("sections/synthesis_classifier.html", document=document, blocks=blocks)
    return Section("classifier", "Do they help?", body, _LEAD_SYNTHESIS)


def _better_right(effect: dict[str, Any]) -> dict[str, Any] | None:
    """Turns an overkill's difference round, so that better is to the right."""
    if not effect:
        return None
    overkill = effect["overkill"]
    low, high = overkill["interval"]
    return {**overkill, "difference": -overkill["difference"], "interval": [-high, -low]}

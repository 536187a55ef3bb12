"""How well the scores keep good and bad apart: ROC near TPR 1, overkill at fixed escape rates, histogram."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
from markupsafe import Markup

from knowngood import wording
from knowngood.decide.curves import RocCurve, roc_curve
from knowngood.decide.threshold import UNKNOWN
from knowngood.report.chart import Axis, Chart, linear, log_counts, logit
from knowngood.report.page import Section, render
from knowngood.report.run import RunSummary

_BINS = 36
_LABEL = 80  # room that one label of the close-up needs, in SVG units
_ZOOM = 0.95  # TPR at which the close-up begins


def separation(run: RunSummary) -> Section | None:
    """Makes the ROC close-up, the whole ROC, the overkill table and the two histograms."""
    if run.shown["label"].n_unique() < 2:
        if not run.config.get("one_class") or not run.shown.height:
            return None
        body = render("sections/scores.html", good=_histogram(run, 0), unknown=UNKNOWN.capitalize())
        return Section("separation", "How good units score", body)
    curve = roc_curve(run.shown["label"].to_numpy(), run.shown["score"].to_numpy())
    point = _operating_point(run)
    marks = {float(t): fpr for t, fpr in (run.figures.get("fpr_at_tpr") or {}).items() if fpr is not None}
    intervals = run.figures.get("fpr_at_tpr_ci") or {}
    body = render(
        "sections/separation.html",
        close=_close_up(curve, point, marks),
        whole=_whole(curve, point),
        table=[(tpr, fpr, intervals.get(f"{tpr:g}")) for tpr, fpr in marks.items()],
        bads=int((run.shown["label"] == 1).sum()),
        good=_histogram(run, 0),
        bad=_histogram(run, 1),
    )
    return Section("separation", "How well good and bad are kept apart", body)


def _operating_point(run: RunSummary) -> tuple[float, float] | None:
    if not run.threshold:
        return None
    reject = run.shown["score"] >= run.threshold["threshold"]
    bad = run.shown["label"] == 1
    return float((reject & ~bad).sum() / (~bad).sum()), float((reject & bad).sum() / bad.sum())


def _close_up(curve: RocCurve, point: tuple[float, float] | None, marks: dict[float, float]) -> Markup:
    low = min(_ZOOM, math.floor(100 * point[1] - 0.5) / 100) if point else _ZOOM
    right = min(1.0, 1.5 * max([*marks.values(), point[0] if point else 0, 0.02]))
    chart = Chart(linear("overkill (FPR)", 0, right, percent=True), linear("bads caught (TPR)", low, 1, percent=True))
    inside = curve.fpr <= right
    start = max(int(np.searchsorted(curve.tpr, low)) - 1, 0)
    points = list(zip(curve.fpr[inside][start:], curve.tpr[inside][start:], strict=True))
    if not inside.all() and points:
        points.append((right, points[-1][1]))
    chart.line(_stairs(points), "ink")
    before, drop = -math.inf, 0
    for fpr, tprs in _together(marks).items():
        chart.dots([(fpr, t) for t in tprs], "mark", 3.5)
        drop = drop + 16 if chart.px(fpr) - before < _LABEL else 0  # steps down where labels would collide
        before = chart.px(fpr)
        if point and abs(chart.px(fpr) - chart.px(point[0])) < _LABEL:
            drop = max(drop, 22)  # clear of the large mark
        label = "–".join(dict.fromkeys([f"{100 * tprs[0]:g}", f"{100 * tprs[-1]:g}"])) + "%"
        flip = chart.x.share(fpr) > 0.75
        chart.note(fpr, tprs[0], label, dx=-9 if flip else 9, dy=16 + drop, anchor="end" if flip else "start")
    if point:
        chart.dots([point], "here", 6)
    return chart.svg("ROC curve near a true positive rate of 1, with the overkill at five fixed escape rates")


def _stairs(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Keeps corners only: thousands of points on one level are one line."""
    kept = points[:1]
    for before, at, after in zip(points, points[1:], points[2:], strict=False):
        if not (before[0] == at[0] == after[0] or before[1] == at[1] == after[1]):
            kept.append(at)
    return kept + points[-1:] if len(points) > 1 else kept


def _together(marks: dict[float, float]) -> dict[float, list[float]]:
    grouped: dict[float, list[float]] = {}
    for tpr, fpr in sorted(marks.items()):
        grouped.setdefault(fpr, []).append(tpr)
    return grouped


def _whole(curve: RocCurve, point: tuple[float, float] | None) -> Markup:
    chart = Chart(linear("overkill (FPR)", 0, 1, percent=True), linear("bads caught (TPR)", 0, 1, percent=True))
    chart.line([(0, 0), (1, 1)], "faint").line(_stairs(list(zip(curve.fpr, curve.tpr, strict=True))), "ink")
    if point:
        chart.dots([point], "here", 6)
    return chart.svg("The whole ROC curve")


def _histogram(run: RunSummary, label: int) -> Markup:
    scores = run.shown["score"].to_numpy()
    axis = logit(
        "defect score",
        float(max(scores.min(), 1e-4)) * 0.9,
        1 - 0.9 * (1 - min(float(scores.max()), 1 - 1e-4)),
    )
    cuts = _cuts(run)
    edges = _edges(axis, [value for value, _ in cuts])
    own = run.shown.filter(pl.col("label") == label)["score"].to_numpy()
    inside = np.clip(own, edges[0], np.nextafter(edges[-1], 0))
    counts = np.histogram(inside, edges)[0]
    name, css = ("bad", "bad") if label else ("good", "good")
    chart = Chart(axis, log_counts(f"{name} images (log)", int(counts.max(initial=1))), height=230)
    for left, right, count in zip(edges, edges[1:], counts, strict=False):
        if count:
            chart.bar(left, right, float(count), f"{css} {'wrong' if _wrong(label, left, cuts) else 'right'}")
    _draw_cuts(chart, cuts)
    return chart.svg(f"Histogram of the defect scores of {name} images, counts on a log scale")


def _cuts(run: RunSummary) -> list[tuple[float, str]]:
    if not run.threshold:
        return []
    low = float(run.threshold["threshold"])
    high = float(run.threshold.get("reject_from") or low)
    return [(low, "reject from")] if high == low else [(low, "review from"), (high, "reject from")]


def _draw_cuts(chart: Chart, cuts: list[tuple[float, str]]) -> None:
    """Labels the lower cut to its left and the upper one to its right, as long as both find room there."""
    taken = ""
    for value, said in cuts:
        share = chart.x.share(value)
        if len(cuts) == 1 or taken:
            anchor = "end" if share > 0.62 else "start"
        else:
            anchor = "start" if share < 0.38 else "end"
        row = 0 if taken in ("", "end") and anchor != taken else 1
        chart.vertical(value, f"{said} {wording.score(value)}", anchor=anchor, row=row)
        taken = anchor


def _wrong(label: int, left: float, cuts: list[tuple[float, str]]) -> bool:
    if not cuts:
        return False
    return left < cuts[0][0] if label else left >= cuts[-1][0]


def _edges(axis: Axis, cuts: list[float]) -> list[float]:
    """Returns bins of equal width on the axis and the thresholds as edges: no bar straddles one."""
    low, high = axis.warp(axis.low), axis.warp(axis.high)
    even = [1 / (1 + math.exp(-(low + (high - low) * i / _BINS))) for i in range(1, _BINS)]
    cuts = [c for c in cuts if axis.low < c < axis.high]
    gap = (high - low) / _BINS / 2
    even = [e for e in even if all(abs(axis.warp(e) - axis.warp(c)) > gap for c in cuts)]
    return sorted({axis.low, *even, *cuts, axis.high})

"""The report's second half: data, ROC near TPR 1, overkill at fixed escape rates, histograms, calibration, training."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup
from sklearn.metrics import roc_curve

from knowngood import wording
from knowngood.metrics.curves import Floats, reliability
from knowngood.metrics.thresholds import UNKNOWN, proportion_interval
from knowngood.report.chart import Axis, Chart, linear, log_counts, logit
from knowngood.report.page import Origin, Section, origin_section, render
from knowngood.report.pictures import row_pictures
from knowngood.report.run_summary import RunSummary

_BINS = 36
_LABEL = 80  # room that one label of the close-up needs, in SVG units
_ZOOM = 0.95  # TPR at which the close-up begins


def separation(run: RunSummary) -> Section | None:
    """Makes the ROC close-up, the whole ROC, the overkill table and the two histograms."""
    if run.shown["label"].n_unique() < 2:
        return _one_histogram(run) if run.shown.height else None
    fpr, tpr, _ = roc_curve(run.shown["label"].to_numpy(), run.shown["score"].to_numpy(), drop_intermediate=False)
    curve = fpr, tpr
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


def _one_histogram(run: RunSummary) -> Section:
    label = int(run.shown["label"][0])
    name = "bad" if label else "good"
    body = render(
        "sections/scores.html",
        name=name,
        chart=_histogram(run, label),
        one_class=run.config.get("one_class"),
        unknown="" if label else UNKNOWN.capitalize(),
    )
    return Section("separation", f"How {name} units score", body)


def _operating_point(run: RunSummary) -> tuple[float, float] | None:
    if not run.threshold:
        return None
    reject = run.shown["score"] >= run.threshold["threshold"]
    bad = run.shown["label"] == 1
    return float((reject & ~bad).sum() / (~bad).sum()), float((reject & bad).sum() / bad.sum())


def _close_up(curve: tuple[Floats, Floats], point: tuple[float, float] | None, marks: dict[float, float]) -> Markup:
    low = min(_ZOOM, math.floor(100 * point[1] - 0.5) / 100) if point else _ZOOM
    right = min(1.0, 1.5 * max([*marks.values(), point[0] if point else 0, 0.02]))
    chart = Chart(linear("overkill (FPR)", 0, right, percent=True), linear("bads caught (TPR)", low, 1, percent=True))
    rates, shares = curve
    inside = rates <= right
    start = max(int(np.searchsorted(shares, low)) - 1, 0)
    points = list(zip(rates[inside][start:], shares[inside][start:], strict=True))
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


def _whole(curve: tuple[Floats, Floats], point: tuple[float, float] | None) -> Markup:
    chart = Chart(linear("overkill (FPR)", 0, 1, percent=True), linear("bads caught (TPR)", 0, 1, percent=True))
    chart.line([(0, 0), (1, 1)], "faint").line(_stairs(list(zip(*curve, strict=True))), "ink")
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
    for value, caption in cuts:
        share = chart.x.share(value)
        if len(cuts) == 1 or taken:
            anchor = "end" if share > 0.62 else "start"
        else:
            anchor = "start" if share < 0.38 else "end"
        row = 0 if taken in ("", "end") and anchor != taken else 1
        chart.vertical(value, f"{caption} {wording.score(value)}", anchor=anchor, row=row)
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


def calibration(run: RunSummary) -> Section | None:
    """Makes the reliability plot, bins of equal counts with exact intervals."""
    if run.shown["label"].n_unique() < 2 or run.config.get("one_class"):  # scores of distances are no probabilities
        return None
    found = reliability(run.shown["label"].to_numpy(), run.shown["score"].to_numpy())
    chart = Chart(linear("mean score of the bin", 0, 1), linear("share of bads in the bin", 0, 1))
    chart.line([(0, 0), (1, 1)], "faint")
    for mean, share, count in zip(found.score, found.share_bad, found.count, strict=True):
        chart.whisker(mean, *proportion_interval(round(share * count), int(count)), "ink")
    chart.dots(list(zip(found.score.tolist(), found.share_bad.tolist(), strict=True)), "mark", 4.5)
    body = render(
        "sections/calibration.html",
        plot=chart.svg("Reliability plot: share of bads over mean score, bins of equal counts"),
        figures=run.figures,
        count=int(found.count.mean()),
    )
    return Section("calibration", "Are the scores calibrated?", body)


History = list[dict[str, float]]


def training(run: RunSummary) -> Section | None:
    """Makes the curves of loss and AUC and says what was chosen on the way; nothing when nothing was."""
    said = _chosen(run.metrics.get("training") or {})
    if not run.history and not said:
        return None
    charts = [
        (
            "Loss",
            _curves(run.history, "loss", [("train_loss", "good", "training"), ("val_loss", "bad", "validation")]),
        ),
        ("AUC on the validation split", _curves(run.history, "AUC", [("val_auroc", "ink", "validation")])),
    ]
    made = [(name, chart) for name, chart in charts if chart is not None]
    kept = [row for row in run.history if row.get("kept")]
    lead = ""
    if kept:
        lead = (
            f"The weights of epoch {kept[-1]['epoch']:g} are kept, with a validation AUC of "
            f"{kept[-1]['val_auroc']:.4f}: the latest epoch that is no worse than the best but for chance."
        )
    return Section("training", "Training", render("sections/training.html", charts=made, said=said), lead)


def _chosen(notes: dict[str, Any]) -> list[str]:
    """Returns a sentence on each thing that a training chose or was given, from its notes."""
    said = []
    if size := notes.get("image size"):
        said.append(f"Image size {size['side']} (--image-size auto): {size['sentence']}.")
    if views := notes.get("views"):
        many, one = (wording.decimal(views[name]) for name in ("AUC", "AUC with one"))
        said.append(
            f"{views['views']} views: AUC {many} on {wording.counted(views['images'], 'calibration image')}, "
            f"{one} with one view; they take {views['views']} times as long."
        )
    if members := notes.get("members, val AUC"):
        tried = "; ".join(f"{' + '.join(row['members'])} {wording.decimal(row['auroc'])}" for row in members)
        said.append(f"Members, the best set on the validation split is used: {tried}.")
    if masks := notes.get("masks"):
        said.append(f"{wording.counted(masks, 'mask')} say where defects are.")
    return said


def _points(history: History, name: str) -> list[tuple[float, float]]:
    rows = [(float(row.get("epoch", i)), row.get(name)) for i, row in enumerate(history)]
    return [(x, float(y)) for x, y in rows if y is not None and math.isfinite(y)]


def _curves(history: History, title: str, wanted: list[tuple[str, str, str]]) -> Markup | None:
    series = [(points, css, caption) for name, css, caption in wanted if (points := _points(history, name))]
    if not series:
        return None
    epochs = [x for points, _, _ in series for x, _ in points]
    values = [y for points, _, _ in series for _, y in points]
    room = 0.06 * (max(values) - min(values)) or 0.05 * abs(max(values)) or 1.0
    low = 0.0 if title != "AUC" else min(values) - room
    high = min(max(values) + room, 1.0) if title == "AUC" else max(values) + room
    chart = Chart(linear("epoch", min(epochs), max(epochs), whole=True), linear(title, low, high), height=250)
    for points, css, caption in series:
        chart.line(points, css).dots(points, css, 2.5)
        if caption and len(series) > 1:
            last = points[-1]
            other = next(p for p, c, _ in series if c != css)[-1]
            chart.note(*last, caption, dx=-2, dy=-9 if last[1] >= other[1] else 18, anchor="end")
    return chart.svg(f"{title} over the epochs")


_EXAMPLES = 8
_ORDER = ("train", "val", "calibration", "test")


def data_at_a_glance(run: RunSummary) -> Section | None:
    """Makes the table of counts and shows a few good and bad images."""
    counts = run.data.get("counts") or _counted(run.scores)
    splits = sorted(counts, key=lambda s: _ORDER.index(s) if s in _ORDER else len(_ORDER))
    kinds: dict[str, int] = {}
    for split in splits:
        for kind, number in counts[split].items():
            kinds[kind] = kinds.get(kind, 0) + number
    bads = sorted((kind for kind in kinds if kind != "good"), key=lambda kind: -kinds[kind])
    rows = [(kind, [counts[s].get(kind, 0) for s in splits], kinds[kind]) for kind in ["good", *bads] if kind in kinds]
    shown = run.shown
    body = render(
        "sections/data.html",
        splits=splits,
        rows=rows,
        totals=[sum(counts[s].values()) for s in splits],
        total=sum(kinds.values()),
        data=run.data,
        good=row_pictures(_spread(shown.filter(pl.col("label") == 0))),
        bad=row_pictures(_one_of_each(shown.filter(pl.col("label") == 1))),
    )
    return Section("data", "The data at a glance", body)


def _counted(scores: pl.DataFrame) -> dict[str, dict[str, int]]:
    kind = pl.when(pl.col("label") == 0).then(pl.lit("good")).otherwise(pl.col("defect").fill_null("bad"))
    table = scores.filter(pl.col("label").is_not_null()).group_by(pl.col("split"), kind.alias("kind")).len()
    counts: dict[str, dict[str, int]] = {}
    for split, name, number in table.sort("split", "kind").iter_rows():
        counts.setdefault(split or "no split", {})[name] = number
    return counts


def _spread(rows: pl.DataFrame) -> pl.DataFrame:
    """Takes examples evenly over the scores: neither the easiest nor the hardest alone."""
    if rows.height <= _EXAMPLES:
        return rows.sort("score")
    places = [round((i + 0.5) * rows.height / _EXAMPLES - 0.5) for i in range(_EXAMPLES)]
    return rows.sort("score")[places]


def _one_of_each(rows: pl.DataFrame) -> pl.DataFrame:
    """Takes the middle one of each defect, the most frequent first, then fills up."""
    named = rows.with_columns(pl.col("defect").fill_null("bad")).sort("score", "image")
    frequent = named["defect"].value_counts(sort=True)["defect"].to_list()[:_EXAMPLES]
    if not frequent:
        return named
    each, more = divmod(_EXAMPLES, len(frequent))
    parts = []
    for number, kind in enumerate(frequent):
        of_kind = named.filter(pl.col("defect") == kind)
        take = min(each + (number < more), of_kind.height)
        parts.append(of_kind[[round((i + 0.5) * of_kind.height / take - 0.5) for i in range(take)]])
    return pl.concat(parts)


def provenance(run: RunSummary) -> Section:
    """Makes the last section of a training's report."""
    seconds = run.metrics.get("seconds") or {}
    return origin_section(Origin(run.command, run.seed, run.data, run.versions, run.config, seconds))

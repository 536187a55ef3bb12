"""How the training went, epoch by epoch."""

from __future__ import annotations

import math

from markupsafe import Markup

from knowngood.report.chart import Chart, linear
from knowngood.report.page import Section, render
from knowngood.report.run import RunSummary

History = list[dict[str, float]]


def training(run: RunSummary) -> Section | None:
    """Makes the curves of loss and AUC; nothing when no epoch was trained."""
    if not run.history:
        return None
    charts = [
        (
            "Loss",
            _curves(run.history, "loss", [("train_loss", "good", "training"), ("val_loss", "bad", "validation")]),
        ),
        ("AUC on the validation split", _curves(run.history, "AUC", [("val_auroc", "ink", "validation")])),
    ]
    made = [(name, chart) for name, chart in charts if chart is not None]
    if not made:
        return None
    best = max(_points(run.history, "val_auroc"), key=lambda p: p[1], default=None)
    lead = f"Best validation AUC {best[1]:.4f} in epoch {best[0]:g}." if best else ""
    return Section("training", "Training", render("sections/training.html", charts=made), lead)


def _points(history: History, name: str) -> list[tuple[float, float]]:
    rows = [(float(row.get("epoch", i)), row.get(name)) for i, row in enumerate(history)]
    return [(x, float(y)) for x, y in rows if y is not None and math.isfinite(y)]


def _curves(history: History, title: str, wanted: list[tuple[str, str, str]]) -> Markup | None:
    series = [(points, css, said) for name, css, said in wanted if (points := _points(history, name))]
    if not series:
        return None
    epochs = [x for points, _, _ in series for x, _ in points]
    values = [y for points, _, _ in series for _, y in points]
    room = 0.06 * (max(values) - min(values)) or 0.05 * abs(max(values)) or 1.0
    low = 0.0 if title != "AUC" else min(values) - room
    high = min(max(values) + room, 1.0) if title == "AUC" else max(values) + room
    chart = Chart(linear("epoch", min(epochs), max(epochs), whole=True), linear(title, low, high), height=250)
    for points, css, said in series:
        chart.line(points, css).dots(points, css, 2.5)
        if said and len(series) > 1:
            last = points[-1]
            other = next(p for p, c, _ in series if c != css)[-1]
            chart.note(*last, said, dx=-2, dy=-9 if last[1] >= other[1] else 18, anchor="end")
    return chart.svg(f"{title} over the epochs")

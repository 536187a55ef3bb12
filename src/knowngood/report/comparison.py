"""The page of a comparison, drawn from its document: the table, which differences are real, figures, curves."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from knowngood import wording
from knowngood.report.chart import Axis, Chart, linear
from knowngood.report.page import Section, page, render

SERIES = 8  # colours that can be told apart
_ROOM = 15  # SVG units between two labels, one above the other
_ZOOM = 0.95  # TPR at which the close-up begins
_LETTER = 6.6  # width of a letter of a label

Document = dict[str, Any]


def comparison_page(document: Document) -> str:
    """Returns the whole HTML page of a comparison.

    Args:
        document: As in compare.json.
    """
    rows = document["rows"]
    counts = f"{document['data']['good']:,} good and {document['data']['bad']:,} bad images"
    seeds = wording.counted(len(rows[0]["seeds"]), "seed")
    sections = [_verdict(document), _table(document), _figures(rows), _training(rows), _provenance(document)]
    subtitle = f"{document['created']} · {counts} of {document['data']['source']} · {seeds}"
    return page(f"Comparison: {wording.counted(len(rows), 'row')}", subtitle, [s for s in sections if s is not None])


def comparison_sections(document: Document, key: str, title: str, link: str) -> list[Section]:
    """Returns verdict and table of a comparison as one section of a larger page.

    Args:
        document: As in compare.json.
        key: Anchor of the section.
        title: Its heading.
        link: Where the comparison's own page is.
    """
    table = _table(document)
    more = render("sections/study_step.html", sentences=[], rows=[], link=(link, "The whole page of this comparison"))
    return [Section(key, title, _verdict(document).body + table.body + more, table.lead)]


def _verdict(document: Document) -> Section:
    body = render(
        "sections/comparison_verdict.html",
        document=document,
        level=f"{100 * document['pairs']['level']:g} %",
    )
    return Section("verdict", "Which differences are real", body)


def _table(document: Document) -> Section:
    rows = [(_colour(place), row) for place, row in enumerate(document["rows"])]
    tests = [row["seeds"][0]["test"] for row in document["rows"]]
    each = " of each seed" if len(document["rows"][0]["seeds"]) > 1 else ""
    lead = (
        f"Measured on {tests[0]['n_good']:,} good and {tests[0]['n_bad']:,} bad test images{each}; the highest AUC "
        "first. Overkill is the share of good units rejected when so many bads are caught."
    )
    body = render("sections/comparison_table.html", rows=rows, document=document)
    return Section("table", "The table", body, lead)


def _figures(rows: Sequence[Document]) -> Section:
    body = render(
        "sections/comparison_figures.html",
        legend=[(_colour(place), row["name"]) for place, row in enumerate(rows[:SERIES])],
        more=len(rows) - SERIES,
        speed=_speed(rows),
        close=_close_up(rows[:SERIES]),
    )
    return Section("figures", "Skill against speed, and where it counts", body)


def _training(rows: Sequence[Document]) -> Section | None:
    shown = [row for row in rows if any(seed["history"] for seed in row["seeds"])]
    if not shown:
        return None
    values = [e["val_auroc"] for row in shown for seed in row["seeds"] for e in seed["history"]]
    last = max(e["epoch"] for row in shown for seed in row["seeds"] for e in seed["history"])
    charts = [(row["name"], _curve(row, min(values), last)) for row in shown]
    lead = "AUC on the validation split after each epoch, a line a seed; epoch 0 is before training. All on one scale."
    return Section("training", "Training", render("sections/training.html", charts=charts, said=[]), lead)


def _provenance(document: Document) -> Section:
    body = render(
        "sections/comparison_provenance.html",
        document=document,
        config=json.dumps(document["config"], indent=2),
    )
    return Section("again", "How to run it again", body)


def _colour(place: int) -> str:
    return f"s{place}" if place < SERIES else "s7"


def _speed(rows: Sequence[Document]) -> Markup | None:
    """Draws AUC over photographs a second; up and to the right is better."""
    placed = [(i, row) for i, row in enumerate(rows) if row["images_per_second"]]
    if not placed:
        return None
    speeds = [row["images_per_second"] for _, row in placed]
    ends = [end for _, row in placed for end in row["auroc_ci"]]
    room = 0.06 * (max(ends) - min(ends)) + 1e-4
    chart = Chart(
        _log("photographs a second in prediction (log)", min(speeds) / 1.5, max(speeds) * 1.5),
        linear("AUC", max(min(ends) - room, 0.0), min(max(ends) + room, 1.0)),
        height=340,
    )
    for place, row in placed:
        x, (low, high) = row["images_per_second"], row["auroc_ci"]
        chart.whisker(x, low, high, f"whisker {_colour(place)}")
        chart.dots([(x, row["auroc"])], _colour(place), 5)
    taken: list[tuple[float, float, float]] = []  # left, right, y of labels
    for _, row in sorted(placed, key=lambda pair: chart.py(pair[1]["auroc"])):
        _label(chart, row, taken)
    return chart.svg("AUC with its interval over photographs a second, a point a row")


def _label(chart: Chart, row: Document, taken: list[tuple[float, float, float]]) -> None:
    """Writes the name beside a point, below labels that are in the way."""
    x, y = row["images_per_second"], row["auroc"]
    width, right_side = _LETTER * len(row["name"]), chart.x.share(x) < 0.55
    left = chart.px(x) + 9 if right_side else chart.px(x) - 9 - width
    at = chart.py(y) + 4
    while any(abs(at - other) < _ROOM and left < end and start < left + width for start, end, other in taken):
        at += 3
    taken.append((left, left + width, at))
    dx, anchor = (9, "start") if right_side else (-9, "end")
    chart.note(x, y, row["name"], dx=dx, dy=at - chart.py(y), anchor=anchor)


def _close_up(rows: Sequence[Document]) -> Markup:
    """Draws the ROC curves near a TPR of 1, the highest AUC on top."""
    far = [row["fpr_at_tpr"][tpr] for row in rows for tpr in ("0.991", "0.995") if tpr in row["fpr_at_tpr"]]
    right = min(1.0, 1.3 * max([*far, 0.02]))
    chart = Chart(
        linear("overkill (FPR)", 0, right, percent=True),
        linear("bads caught (TPR)", _ZOOM, 1, percent=True),
        height=340,
    )
    for place, row in reversed(list(enumerate(rows))):
        inside = [(x, y) for x, y in row["roc"] if x <= right]
        above = next((i for i, (_, y) in enumerate(inside) if y >= _ZOOM), len(inside))
        points = inside[max(above - 1, 0) :]
        if points and points[-1][0] < right:
            points.append((right, points[-1][1]))
        chart.line(points, f"{_colour(place)}")
    return chart.svg("ROC curves near a true positive rate of 1, a line a row")


def _curve(row: Document, low: float, epochs: float) -> Markup:
    chart = Chart(linear("epoch", 0, max(epochs, 1), whole=True), linear("AUC", max(low - 0.02, 0), 1), height=210)
    for place, seed in enumerate(row["seeds"]):
        points = [(entry["epoch"], entry["val_auroc"]) for entry in seed["history"]]
        chart.line(points, _colour(place)).dots(points, _colour(place), 2.5)
    return chart.svg(f"Validation AUC of {row['name']} over the epochs")


def _log(title: str, low: float, high: float) -> Axis:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [(step * 10.0**decade, f"{step * 10.0**decade:,.6g}") for decade in decades for step in (1, 2, 5)]
    return Axis(title, low, high, ticks, math.log10)

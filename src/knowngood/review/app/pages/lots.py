"""Lots: first-pass yield, and the control charts that tell of drift."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response
from markupsafe import Markup

from knowngood.report.chart import Axis, Chart, linear
from knowngood.review.app.access import AtStation, Known
from knowngood.review.app.pages.shared import shown
from knowngood.review.drift import QUANTITIES, Limits, LotFacts, drift

router = APIRouter()
_TITLES = {
    "score": "defect score, log-odds",
    "brightness": "brightness, grey levels",
    "contrast": "contrast, grey levels",
    "sharpness": "sharpness, grey levels",
}
_DRAWN = 80  # lots of a chart, the newest


@router.get("/lots")
def page(request: Request, station: AtStation, person: Known, by: Literal["lot", "machine"] = "lot") -> Response:
    """Shows lots or machines, and where they have drifted."""
    facts, limits = drift(station.record.inspections.by_lot(), by)
    charts = [(name, chart_of(facts[-_DRAWN:], limits[name], name)) for name in QUANTITIES if name in limits]
    alarms = [lot for lot in facts if lot.alarms]
    return shown(request, "lots.html", person, lots=facts[::-1], charts=charts, alarms=alarms[::-1], by=by)


def chart_of(lots: list[LotFacts], limits: Limits, quantity: str) -> Markup:
    """Draws the lots' means in order with centre and alarm lines; an alarm is a larger, filled mark."""
    lots = [lot for lot in lots if quantity in lot.means]
    values = [lot.means[quantity] for lot in lots]
    low, high = min([*values, limits.low]), max([*values, limits.high])
    room = 0.08 * (high - low) or 1.0
    across: Axis = linear("lot, in order", 0.5, len(lots) + 0.5, whole=True)
    chart = Chart(across, linear(_TITLES[quantity], low - room, high + room), 460, 250)
    for value, css in ((limits.centre, "faint"), (limits.low, "cut"), (limits.high, "cut")):
        chart.line([(0.5, value), (len(lots) + 0.5, value)], css)
    points = list(enumerate(values, 1))
    chart.line(points, "thin")
    chart.line([(n, lot.trend[quantity]) for n, lot in enumerate(lots, 1) if quantity in lot.trend], "trend")
    chart.dots([p for p, lot in zip(points, lots, strict=True) if quantity not in lot.alarms], "good", 3)
    chart.dots([p for p, lot in zip(points, lots, strict=True) if quantity in lot.alarms], "bad", 5.5)
    count = sum(quantity in lot.alarms for lot in lots)
    return chart.svg(f"Control chart of {_TITLES[quantity]}: {count} of {len(lots)} lots beyond the alarm lines")

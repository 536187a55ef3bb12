"""Lots: first-pass yield, the map of one, and the control charts for drift."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import Response
from markupsafe import Markup

from knowngood.report.chart import Axis, Chart, linear
from knowngood.review.lots import QUANTITIES, Limits, LotFacts, drift, lot_map
from knowngood.review.station import tidy
from knowngood.review.web.access import AtStation, Known, Together
from knowngood.review.web.pages.shared import shown

router = APIRouter()
_TITLES = {
    "score": "defect score, log-odds",
    "features": "distance of deep features",
    "brightness": "brightness, grey levels",
    "contrast": "contrast, grey levels",
    "sharpness": "sharpness, grey levels",
}
PAGE = 2_000  # units of a map without places
_DRAWN = 80  # lots of a chart, the newest


@router.get("/lots")
def page(
    request: Request, station: AtStation, person: Known, together: Together, by: Literal["lot", "machine"] = "lot"
) -> Response:
    """Shows lots or machines, and those beyond an alarm line."""
    strange = together.view.strange.get(by, {})
    rows = [row | {"features": strange.get(row["id"])} for row in station.record.inspections.by_lot()]
    facts, limits = drift(rows, by)
    charts = [(name, chart_of(facts[-_DRAWN:], limits[name], name, by)) for name in QUANTITIES if name in limits]
    alarms = [lot for lot in facts if lot.alarms]
    deep = "features" in limits
    return shown(request, "lots.html", person, lots=facts[::-1], charts=charts, alarms=alarms[::-1], by=by, deep=deep)


@router.get("/lots/map")
def tray(
    request: Request,
    station: AtStation,
    person: Known,
    lot: Annotated[str, Query(max_length=1000)],
    start: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
) -> Response:
    """Shows one lot as a grid of its units."""
    rows = station.record.inspections.of_lot(tidy(lot) or "")
    if not rows:
        raise HTTPException(404, "There is no such lot in the record.")
    whole = lot_map(rows)
    drawn = rows if whole is not None else rows[start : start + PAGE]
    counts = {word: sum(row["decision"] == word for row in rows) for word in ("accept", "review", "reject")}
    counts["unread"] = len(rows) - sum(counts.values())
    return shown(
        request,
        "lot.html",
        person,
        lot=lot,
        map=whole,
        rows=drawn,
        total=len(rows),
        start=start,
        counts=counts,
        machines=sorted({row["machine"] for row in rows if row["machine"] is not None}),
        more=start + PAGE if whole is None and start + PAGE < len(rows) else None,
        before=max(0, start - PAGE) if whole is None and start else None,
    )


def chart_of(lots: list[LotFacts], limits: Limits, quantity: str, by: str = "lot") -> Markup:
    """Draws the lots' means in order with centre and alarm lines; an alarm is a larger, filled mark."""
    lots = [lot for lot in lots if quantity in lot.means]
    values = [lot.means[quantity] for lot in lots]
    low, high = min([*values, limits.low]), max([*values, limits.high])
    room = 0.08 * (high - low) or 1.0
    across: Axis = linear(f"{by}, in order", 0.5, len(lots) + 0.5, whole=True)
    chart = Chart(across, linear(_TITLES[quantity], low - room, high + room), 460, 250)
    for value, css in ((limits.centre, "faint"), (limits.low, "cut"), (limits.high, "cut")):
        chart.line([(0.5, value), (len(lots) + 0.5, value)], css)
    points = list(enumerate(values, 1))
    chart.line(points, "thin")
    chart.line([(n, lot.trend[quantity]) for n, lot in enumerate(lots, 1) if quantity in lot.trend], "trend")
    chart.dots([p for p, lot in zip(points, lots, strict=True) if quantity not in lot.alarms], "good", 3)
    chart.dots([p for p, lot in zip(points, lots, strict=True) if quantity in lot.alarms], "bad", 5.5)
    count = sum(quantity in lot.alarms for lot in lots)
    return chart.svg(f"Control chart of {_TITLES[quantity]}: {count} of {len(lots)} {by}s beyond the alarm lines")

"""Units: search, and the history of one."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Form, HTTPException, Query, Request
from fastapi.responses import RedirectResponse, Response

from knowngood.errors import DataError
from knowngood.review.station import tidy
from knowngood.review.store.verdicts import NewVerdict
from knowngood.review.web.access import Anybody, AtStation, FromPage, Known, Worker
from knowngood.review.web.pages.shared import inspection, shown

router = APIRouter()
PAGE = 30


@router.get("/units")
def search(
    request: Request,
    station: AtStation,
    person: Known,
    q: Annotated[str, Query(max_length=1000)] = "",
    lot: Annotated[str | None, Query(max_length=1000)] = None,
    start: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
) -> Response:
    """Searches by unit, image, hash or lot."""
    words, lot = tidy(q) or "", tidy(lot)
    rows = station.record.inspections.search(words, lot, most=PAGE + 1, start=start)
    more = start + PAGE if len(rows) > PAGE else None
    before = max(0, start - PAGE) if start else None
    return shown(request, "units.html", person, rows=rows[:PAGE], q=words, lot=lot, more=more, before=before)


@router.get("/units/of/{number}", dependencies=[Anybody])
def of(station: AtStation, number: int) -> Response:
    """Redirects to the unit of an inspection."""
    row = inspection(station, number)
    return _story_of(row["unit"], row["lot"])


@router.get("/units/story")
def story(
    request: Request,
    station: AtStation,
    person: Known,
    unit: Annotated[str, Query(max_length=1000)],
    lot: Annotated[str | None, Query(max_length=1000)] = None,
) -> Response:
    """Shows all inspections and verdicts of one unit; a name that occurs in several lots lists all of them."""
    name = tidy(unit) or ""
    lots = station.record.inspections.lots_of(name)
    if not lots or (lot is not None and tidy(lot) not in lots):
        raise HTTPException(404, "There is no such unit in the record.")
    if lot is None and len(lots) > 1:
        return RedirectResponse(f"/units?q={quote(name, safe='')}", 303)
    rows = station.record.inspections.story(name, lots[0] if lot is None else tidy(lot))
    labels = [
        label for digest in {row["sha256"] for row in rows} for label in station.record.inspections.labels_of(digest)
    ]
    defects = station.record.queue.defects()
    return shown(request, "unit.html", person, unit=name, lot=rows[0]["lot"], rows=rows, labels=labels, defects=defects)


@router.post("/units/replay", dependencies=[FromPage])
def replay(request: Request, station: AtStation, person: Known, number: Annotated[int, Form()]) -> Response:
    """Repeats an inspection and shows whether the result agrees."""
    result = station.replay(inspection(station, number))
    return shown(request, "replay.html", person, result=result)


@router.post("/units/verdict", dependencies=[FromPage])
def correct(
    station: AtStation,
    person: Worker,
    number: Annotated[int, Form()],
    verdict: Annotated[str, Form(max_length=8)],
    defect: Annotated[str, Form(max_length=80)] = "",
    note: Annotated[str, Form(max_length=1000)] = "",
) -> Response:
    """Adds a verdict outside of the queue."""
    row = inspection(station, number)
    bad = verdict == "bad"
    if not verdict:
        raise DataError("No verdict was chosen.", fix="Choose one.")
    new = NewVerdict(number, verdict, person.name, (defect.strip() or None) if bad else None, note=note.strip() or None)
    station.record.verdicts.add(new)
    return _story_of(row["unit"], row["lot"])


def _story_of(unit: str, lot: str | None) -> Response:
    return RedirectResponse(f"/units/story?unit={quote(unit, safe='')}&lot={quote(lot or '', safe='')}", 303)

"""The review queue: one image after the other, verdicts by single keys."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from knowngood.review.station import Station, box_of
from knowngood.review.store.inspections import Row
from knowngood.review.store.people import Person
from knowngood.review.store.verdicts import NewVerdict
from knowngood.review.web.access import Anybody, AtStation, FromPage, Known, Together, Worker
from knowngood.review.web.pages.shared import inspection, shown

router = APIRouter()
AHEAD = 8  # images that a window holds: the one on the screen and those that are loaded already
_TYPES = 9  # defects with a number key
_WORDS = (("good", 0), ("bad", 1))

Tab = Annotated[str, Field(pattern=r"^[0-9a-zA-Z-]{8,64}$", description="One browser window.")]
Key = Annotated[str | None, Field(max_length=64, pattern=r"^[0-9a-zA-Z-]+$")]


class Window(BaseModel):
    """One browser window."""

    model_config = ConfigDict(extra="forbid")
    tab: Tab


class VerdictForm(Window):
    """A verdict from the page."""

    inspection: int = Field(gt=0, lt=1 << 31)
    verdict: str = Field(max_length=8)
    defect: str | None = Field(None, max_length=80)
    note: str | None = Field(None, max_length=1000)
    region: tuple[int, int, int, int] | None = None
    key: Key = None
    seconds: float | None = Field(None, ge=0, le=86_400, allow_inf_nan=False)


class Skipped(Window):
    """An image that is skipped."""

    inspection: int = Field(gt=0, lt=1 << 31)


class Undone(Window):
    """Undo of the last verdict."""

    key: Key = None


@router.get("/")
def home() -> Response:
    """Redirects to the queue."""
    return RedirectResponse("/queue", 303)


@router.get("/queue")
def page(request: Request, station: AtStation, person: Known) -> Response:
    """Shows the queue."""
    defects = station.record.queue.defects()[:_TYPES]
    counts, reasons = station.record.queue.counts(), station.record.queue.reasons()
    return shown(
        request, "queue.html", person, defects=defects, counts=counts, reasons=reasons, progress=station.progress
    )


@router.post("/queue/next", dependencies=[FromPage])
def take(station: AtStation, person: Worker, window: Window) -> dict[str, Any]:
    """Assigns images to the window."""
    return _state(station, person, window.tab)


@router.get("/queue/near/{number}", dependencies=[Anybody])
def near(station: AtStation, together: Together, number: int) -> dict[str, Any]:
    """Returns the nearest known good and the nearest known bad of an inspection's photograph."""
    found, why = together.neighbours(inspection(station, number))
    names = ("id", "unit", "image", "lot", "defect", "split")
    neighbours = {word: None if (row := found[label]) is None else {n: row[n] for n in names} for word, label in _WORDS}
    return {**neighbours, "why": why}


@router.post("/queue/verdict", dependencies=[FromPage])
def give_verdict(request: Request, station: AtStation, person: Worker, given: VerdictForm) -> dict[str, Any]:
    """Adds a verdict and hands out the next image; the answer comes when the verdict is on the disk."""
    new = NewVerdict(
        given.inspection,
        given.verdict,
        person.name,
        given.defect or None,
        box_of(given.region),
        given.note,
        given.key,
        given.seconds,
    )
    number = station.record.verdicts.add(new, holder_of(person, given.tab))
    request.app.state.figures.verdicts.labels(given.verdict).inc()
    return _state(station, person, given.tab) | {"verdict": number}


@router.post("/queue/skip", dependencies=[FromPage])
def skip(station: AtStation, person: Worker, skipped: Skipped) -> dict[str, Any]:
    """Moves an image to the end of the queue."""
    station.record.queue.give_back(holder_of(person, skipped.tab), skipped.inspection, skip=True)
    return _state(station, person, skipped.tab)


@router.post("/queue/undo", dependencies=[FromPage])
def undo(request: Request, station: AtStation, person: Worker, undone: Undone) -> dict[str, Any]:
    """Undoes the last verdict of this person and assigns its image to them again."""
    holder = holder_of(person, undone.tab)
    row = station.record.verdicts.undo(person.name, holder, key=undone.key, seconds=station.record.queue.hold_seconds)
    if row is None:
        return _state(station, person, undone.tab) | {"undone": None}
    request.app.state.figures.verdicts.labels("undo").inc()
    again = station.record.inspections.one(row["inspection_id"])
    assert again is not None
    return _state(station, person, undone.tab) | {"undone": _item(again)}


@router.post("/queue/keep", dependencies=[FromPage])
def keep(station: AtStation, person: Worker, window: Window) -> dict[str, int]:
    """Renews the assignment of the images of an open window."""
    return {"held": station.record.queue.keep(holder_of(person, window.tab))}


@router.post("/queue/release", dependencies=[FromPage])
def release(station: AtStation, person: Worker, tab: Annotated[str, Form(max_length=64)]) -> dict[str, int]:
    """Frees the images of a closed window."""
    return {"freed": station.record.queue.give_back(holder_of(person, tab))}


def holder_of(person: Person, tab: str) -> str:
    """Returns the holder: a window of a person, so that nobody can speak for somebody else's."""
    return f"{person.name}|{tab}"


def _state(station: Station, person: Person, tab: str) -> dict[str, Any]:
    items = station.record.queue.take(holder_of(person, tab), AHEAD)
    counts = station.record.queue.counts()
    return {
        "items": [_item(row) for row in items],
        "counts": counts,
        "today": station.record.verdicts.today(person.name),
    }


def _item(row: Row) -> dict[str, Any]:
    names = ("id", "unit", "image", "lot", "machine", "defect_score", "decision", "reason", "error", "accept_below")
    return {name: row[name] for name in (*names, "reject_from")}

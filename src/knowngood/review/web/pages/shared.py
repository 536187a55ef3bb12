"""Parts of all pages: templates, pictures of the record, the error page."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import ChoiceLoader, Environment, PackageLoader

from knowngood.data.images import decode
from knowngood.errors import DataError, StorageError
from knowngood.report.page import environment
from knowngood.report.pictures import small_picture
from knowngood.review.batching import Pool
from knowngood.review.inspector import Pixels, png
from knowngood.review.station import Station
from knowngood.review.store.inspections import Row
from knowngood.review.store.people import Person
from knowngood.review.web.access import COOKIE, LOCAL, Anybody, AtStation, Pictures, csrf_of, new_local

log = logging.getLogger("knowngood.review")
router = APIRouter()
KEPT = {"cache-control": "private, max-age=3600"}  # an inspection's picture never changes
THUMB = 160  # pixels
_NO_PICTURE = Response(  # a photograph that was not kept, has changed or cannot be read
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 160 160"><text x="80" y="86" text-anchor="middle" '
    'font-family="sans-serif" font-size="17" fill="#888">no picture</text></svg>',
    404,
    media_type="image/svg+xml",
)


@cache
def templates() -> Environment:
    """Returns the station's templates over the report's: the same filters, everything escaped."""
    own = PackageLoader("knowngood.review", "templates")
    below = environment().loader
    assert below is not None
    return environment().overlay(loader=ChoiceLoader([own, below]))


def shown(request: Request, name: str, person: Person | None, *, status: int = 200, **values: Any) -> Response:
    """Returns a page, and a cookie for a browser that has none."""
    local = new_local(request)
    fragment = bool(request.headers.get("hx-request"))
    station: Station = request.app.state.station
    text = (
        templates()
        .get_template(name)
        .render(
            **values,
            person=person,
            csrf=csrf_of(request),
            recipe=station.inspector.name,
            fragment=fragment,
            signed=COOKIE in request.cookies,
            here=request.url.path,
        )
    )
    answer = HTMLResponse(text, status)
    if local is not None:
        answer.set_cookie(LOCAL, local, httponly=True, samesite="strict", path="/")
    return answer


def trouble(
    request: Request, status: int, title: str, what: str, fix: str | None, headers: dict[str, str] | None
) -> Response:
    """Returns the error page: what went wrong and what to do."""
    answer = shown(request, "trouble.html", None, status=status, title=title, what=what, fix=fix)
    for name, value in (headers or {}).items():
        answer.headers[name] = value
    return answer


def inspection(station: Station, number: int) -> Row:
    """Returns an inspection.

    Raises:
        HTTPException: 404.
    """
    return there(station.record.inspections.one, number)


def there(one: Callable[[int], Row | None], number: int) -> Row:
    """Returns the row of a number that somebody asks for.

    Raises:
        HTTPException: 404.
    """
    row = one(number) if 0 < number < 1 << 31 else None
    if row is None:
        raise HTTPException(404, f"There is no number {number} in the record.")
    return row


@router.get("/report.css")
def style() -> Response:
    """Returns the style of the reports, which the station's own stands on."""
    text = resources.files("knowngood.report").joinpath("templates/style.css").read_text("utf-8")
    return Response(text, media_type="text/css", headers=KEPT)


@router.get("/pictures/{number}/photo.png", dependencies=[Anybody])
async def photo(station: AtStation, pictures: Pictures, number: int) -> Response:
    """Returns the photograph of an inspection, decoded and encoded again."""

    def made() -> Response:
        return Response(png(_pixels(station, number)), media_type="image/png", headers=KEPT)

    return await _picture(pictures, made)


@router.get("/pictures/{number}/small.jpg", dependencies=[Anybody])
async def small(station: AtStation, pictures: Pictures, number: int) -> Response:
    """Returns a small picture of an inspection's photograph."""

    def made() -> Response:
        return Response(small_picture(_pixels(station, number), THUMB), media_type="image/jpeg", headers=KEPT)

    return await _picture(pictures, made)


@router.get("/pictures/{number}/heat.png", dependencies=[Anybody])
async def heat(station: AtStation, pictures: Pictures, number: int) -> Response:
    """Returns the photograph under its map with the boxes; the header x-region holds the largest box."""

    def made() -> Response:
        row = inspection(station, number)
        data = station.bytes_of(row["sha256"])
        explained = station.explained(row, data)
        if explained is None:
            return Response(status_code=204)
        headers = KEPT | ({} if explained.box is None else {"x-region": json.dumps(explained.box)})
        overlay = station.inspector.overlay(data, explained, station.settings.max_pixels)
        return Response(png(overlay), media_type="image/png", headers=headers)

    return await _picture(pictures, made)


async def _picture(pictures: Pool, made: Callable[[], Response]) -> Response:
    """Returns a picture, drawn by few threads: each takes the memory of a whole photograph."""
    try:
        return await pictures.run(made)
    except (HTTPException, StorageError):
        raise
    except DataError:
        return _NO_PICTURE
    except (MemoryError, RuntimeError, ValueError, OSError) as error:
        log.warning("a picture cannot be drawn", exc_info=error)
        return _NO_PICTURE


def _pixels(station: Station, number: int) -> Pixels:
    row = inspection(station, number)
    return decode(station.bytes_of(row["sha256"]), name=row["image"], max_pixels=station.settings.max_pixels)

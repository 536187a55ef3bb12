"""Creates the station's web application."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from knowngood.errors import ConflictError, KnownGoodError, RecipeError, StorageError, UnsignedError
from knowngood.review.batching import Batcher, BusyError, Pool
from knowngood.review.overview import Overview
from knowngood.review.station import Job, Outcome, Station, tidy
from knowngood.review.web import api, kserve, pages
from knowngood.review.web.access import SignInError
from knowngood.review.web.api import RETRY, Ascii, Figures
from knowngood.review.web.guard import LOOPBACK, Guard
from knowngood.review.web.health import Health

log = logging.getLogger("knowngood.review")
_NO_STORE = "The record or the disk for photographs cannot be used now."


def make_app(station: Station, *, hosts: tuple[str, ...] = LOOPBACK) -> FastAPI:
    """Returns the application of a station.

    Args:
        station: What it serves.
        hosts: Names under which an open station may be spoken to.
    """
    from knowngood import __version__

    overview = Overview(station)

    @contextlib.asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        batcher: Batcher[Job, Outcome] = Batcher(station.inspect, station.settings.batch, station.settings.queue_size)
        batcher.start()
        health = Health(station, batcher, [overview])
        app.state.batcher, app.state.health, app.state.loop = batcher, health, asyncio.get_running_loop()
        app.state.pictures, app.state.parsing = Pool(2, 512, "pictures"), Pool(1, 64, "parsing")
        overview.start()
        caring = asyncio.create_task(health.keep_working())
        try:
            yield
        finally:
            health.stop()
            caring.cancel()
            await batcher.stop()  # what was accepted is finished and filed
            app.state.pictures.stop()
            app.state.parsing.stop()
            await asyncio.to_thread(overview.stop)

    app = FastAPI(
        title="knowngood review station",
        version=__version__,
        summary="Photographs of parts in, decisions out, one record.",
        lifespan=life,
        docs_url=None,  # those pages come from elsewhere; ours is /api
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    app.state.station, app.state.figures = station, Figures()
    app.state.overview = overview
    app.include_router(api.router)
    app.include_router(kserve.router)
    for router in pages.ROUTERS:
        app.include_router(router, include_in_schema=False)
    app.mount("/static", StaticFiles(packages=[("knowngood.review", "static")]), "static")
    app.add_exception_handler(KnownGoodError, _known_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(SignInError, _sign_in)
    app.add_exception_handler(BusyError, _busy)
    app.add_middleware(Guard, settings=station.settings, hosts=hosts)
    return app


def _known_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, KnownGoodError)
    status = (
        409 if isinstance(error, ConflictError) else 503 if isinstance(error, (StorageError, UnsignedError)) else 400
    )
    headers = {"retry-after": "5"} if status == 503 else None
    if isinstance(error, (StorageError, RecipeError)):  # its words name places of this machine
        log.warning("a request was refused: %s", error.what)
        return _answer(
            request, status, _NO_STORE, None, "Try again in a moment; the station's log has the details.", headers
        )
    return _answer(request, status, error.what, error.expected, error.fix, headers)


def _busy(request: Request, _: Exception) -> Response:
    headers = {"retry-after": str(RETRY)}
    return _answer(request, 503, "Too much waits already.", None, "Come again in a moment.", headers)


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _answer(request, error.status_code, str(error.detail), None, None, dict(error.headers or {}))


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = " ".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
    return _answer(request, 422, f"{where[:100]}: {first['msg']}", None, "See /api for what is taken.", None)


def _answer(
    request: Request, status: int, what: str, expected: str | None, fix: str | None, headers: dict[str, str] | None
) -> Response:
    if "text/html" in request.headers.get("accept", "") or request.headers.get("hx-request"):
        return pages.trouble(request, status, HTTPStatus(status).phrase, tidy(what, 1000) or "", fix, headers)
    document: dict[str, object] = {"error": {"what": what, "expected": expected, "fix": fix}}
    if request.url.path.startswith("/v2"):
        document = {"error": what}  # as the protocol has it
    return Ascii(document, status, headers)


def _sign_in(request: Request, _: Exception) -> Response:
    if request.headers.get("hx-request") or request.method != "GET":
        return Ascii({"error": {"what": "Sign in first.", "expected": None, "fix": "Load the page."}}, 401)
    return RedirectResponse("/sign-in", HTTPStatus.SEE_OTHER)

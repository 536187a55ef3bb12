"""Puts the station's web application together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from knowngood.errors import ConflictError, KnownGoodError, StorageError, UnsignedError
from knowngood.review.app import api, kserve, pages
from knowngood.review.app.access import SignInError
from knowngood.review.app.batching import Batcher
from knowngood.review.app.guard import LOOPBACK, Guard
from knowngood.review.app.metrics import Figures
from knowngood.review.app.overview import Overview
from knowngood.review.app.station import Job, Outcome, Station


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
        batcher: Batcher[Job, Outcome] = Batcher(station.inspect, station.settings.batch, station.settings.waiting)
        batcher.start()
        app.state.batcher, app.state.ready, app.state.loop = batcher, True, asyncio.get_running_loop()
        overview.start()
        try:
            yield
        finally:
            app.state.ready = False
            await batcher.stop()  # what was accepted is finished and filed
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
    app.state.station, app.state.figures, app.state.ready = station, Figures(), False
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
    app.add_middleware(Guard, settings=station.settings, hosts=hosts)
    return app


def _known_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, KnownGoodError)
    status = (
        409 if isinstance(error, ConflictError) else 503 if isinstance(error, (StorageError, UnsignedError)) else 400
    )
    headers = {"retry-after": "5"} if status == 503 else None
    return _answer(request, status, error.what, error.expected, error.fix, headers)


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
        return pages.trouble(request, status, HTTPStatus(status).phrase, what, fix, headers)
    document: dict[str, object] = {"error": {"what": what, "expected": expected, "fix": fix}}
    if request.url.path.startswith("/v2"):
        document = {"error": what}  # as the protocol has it
    return JSONResponse(document, status, headers)


def _sign_in(request: Request, _: Exception) -> Response:
    if request.headers.get("hx-request") or request.method != "GET":
        return JSONResponse({"error": {"what": "Sign in first.", "expected": None, "fix": "Load the page."}}, 401)
    return RedirectResponse("/sign-in", HTTPStatus.SEE_OTHER)

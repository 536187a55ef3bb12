"""Signing in with a token, and out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from knowngood.review.store.people import HOURS
from knowngood.review.web.access import COOKIE, Anybody, AtStation, FromPage, Known
from knowngood.review.web.guard import Rate
from knowngood.review.web.pages.shared import shown

router = APIRouter()
_TRIES = Rate(1 / 6, 10)  # of one address: ten at once, then one in six seconds


@router.get("/sign-in")
def page(request: Request) -> Response:
    """Shows the form for the token."""
    return shown(request, "signin.html", None, wrong="")


@router.post("/sign-in", dependencies=[FromPage])
def sign_in(request: Request, station: AtStation, token: Annotated[str, Form(max_length=200)]) -> Response:
    """Checks the token and starts a session of the browser."""
    address = request.client.host if request.client else "?"
    if _TRIES.wait(address):
        return shown(request, "signin.html", None, status=429, wrong="Too many tries; wait a little.")
    secret = station.record.people.sign_in(token.strip())
    if secret is None:
        return shown(request, "signin.html", None, status=401, wrong="That token is not known.")
    answer = RedirectResponse("/", 303)
    safe = request.url.scheme == "https"
    answer.set_cookie(COOKIE, secret, max_age=3600 * HOURS, httponly=True, samesite="strict", secure=safe, path="/")
    return answer


@router.post("/sign-out", dependencies=[Anybody, FromPage])
def sign_out(request: Request, station: AtStation) -> Response:
    """Ends the browser's session."""
    secret = request.cookies.get(COOKIE)
    if secret:
        station.record.people.sign_out(secret)
    answer = RedirectResponse("/sign-in", 303)
    answer.delete_cookie(COOKIE, path="/")
    return answer


@router.get("/api")
def api(request: Request, person: Known) -> Response:
    """Shows the API, from its own OpenAPI document."""
    return shown(request, "api.html", person, document=request.app.openapi())

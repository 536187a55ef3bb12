"""Authentication and roles: by token, by a signed-in browser, or as the person at this computer."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import secrets
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute

from knowngood.review.batching import Pool
from knowngood.review.overview import Overview
from knowngood.review.station import Station
from knowngood.review.store.people import Person

COOKIE, LOCAL = "kg_session", "kg_local"


class SignInError(Exception):
    """A page was requested without authentication; the answer leads to the sign-in."""


def station_of(request: Request) -> Station:
    """Returns the station that a request is for."""
    station: Station = request.app.state.station
    return station


def overview_of(request: Request) -> Overview:
    """Returns the view of all photographs together."""
    overview: Overview = request.app.state.overview
    return overview


def pictures_of(request: Request) -> Pool:
    """Returns the few threads that draw pictures."""
    pool: Pool = request.app.state.pictures
    return pool


Pictures = Annotated[Pool, Depends(pictures_of)]
AtStation = Annotated[Station, Depends(station_of)]
Together = Annotated[Overview, Depends(overview_of)]


def person_of(request: Request) -> Person:
    """Returns who asks.

    Raises:
        HTTPException: 401, nobody that is known.
        SignInError: The same of a page.
    """
    station = station_of(request)
    header = request.headers.get("authorization", "")
    if header:
        kind, _, token = header.partition(" ")
        found = station.record.people.by_token(token.strip()) if kind.lower() == "bearer" else None
        if found is None:
            raise HTTPException(401, "The token is not known.", {"www-authenticate": "Bearer"})
        request.state.by_token = True
        return found
    secret = request.cookies.get(COOKIE)
    if secret:
        found = station.record.people.by_session(secret)
        if found is not None:
            return found
    if station.settings.open:
        request.state.by_nobody = True
        return Person(station.settings.user, "engineer")
    if request.url.path.startswith(("/v1", "/v2", "/metrics")):
        raise HTTPException(401, "A token is needed: Authorization: Bearer TOKEN.", {"www-authenticate": "Bearer"})
    raise SignInError


Anybody = Depends(person_of)
Known = Annotated[Person, Anybody]


def one_of(*roles: str) -> Callable[..., Person]:
    """Returns a dependency that lets only some roles through."""

    def check(person: Known) -> Person:
        if person.role not in roles:
            raise HTTPException(403, f"This is for {' and '.join(roles)}; {person.name} is {person.role}.")
        return person

    return check


def may_approve_own(request: Request) -> bool:
    """Returns whether a person may approve their own revision: where that is allowed, or where there is nobody else.

    An unprotected station on this computer knows one person only, without a token; the record marks own approvals.
    """
    return station_of(request).settings.allow_own_approval or getattr(request.state, "by_nobody", False)


class KnownFirst(APIRoute):
    """A route of the API whose sender is known, and may send, before the first byte of the body is read."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Returns what answers a request."""
        answer = super().get_route_handler()
        if "POST" not in (self.methods or ()):
            return answer

        async def known_first(request: Request) -> Response:
            await run_in_threadpool(lambda: by_token_or_page(request, person_of(request)))
            if request.headers.get("content-type", "").startswith("multipart/form-data"):
                with contextlib.suppress(ValueError, HTTPException):  # reported by the route itself
                    await request.form()  # here, so that a full disk is reported as such
            return await answer(request)

        return known_first


Worker = Annotated[Person, Depends(one_of("operator", "engineer"))]
Engineer = Annotated[Person, Depends(one_of("engineer"))]


def csrf_of(request: Request) -> str:
    """Returns the word that a page must send back with every change; only a page of ours can know it."""
    secret = request.cookies.get(COOKIE) or request.cookies.get(LOCAL) or getattr(request.state, "local", "")
    return hashlib.sha256(b"csrf:" + secret.encode()).hexdigest() if secret else ""


def new_local(request: Request) -> str | None:
    """Returns a secret for the cookie of a browser that has none yet."""
    if request.cookies.get(COOKIE) or request.cookies.get(LOCAL):
        return None
    request.state.local = secrets.token_urlsafe(24)
    return str(request.state.local)


async def same_page(request: Request) -> None:
    """Refuses a change that does not come from one of the station's own pages (CSRF).

    Raises:
        HTTPException: 403.
    """
    if request.headers.get("authorization"):
        return  # no other site can send one; whether it is a good one is `person_of`'s question
    sent = request.headers.get("x-csrf-token")
    if sent is None and request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        sent = str((await request.form()).get("csrf", ""))
    wanted = csrf_of(request)
    if not wanted or not hmac.compare_digest(wanted.encode(), (sent or "").encode("utf-8", "replace")):
        raise HTTPException(403, "The page is too old, or the request is not from it. Load it again.")


FromPage = Depends(same_page)


def by_token_or_page(request: Request, person: Known) -> Person:
    """Refuses an API request that is authenticated by a browser's cookie: the API takes tokens, or this computer.

    Raises:
        HTTPException: 403.
    """
    if not getattr(request.state, "by_token", False) and request.cookies.get(COOKIE):
        raise HTTPException(403, "The API takes a token, not a browser's cookie.")
    if person.role not in ("operator", "engineer"):
        raise HTTPException(403, f"{person.name} is {person.role} and may not inspect.")
    return person


Sender = Annotated[Person, Depends(by_token_or_page)]

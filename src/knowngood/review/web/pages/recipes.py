"""Recipes: revisions, requalification on a golden set, approvals, and the agreement of people."""

from __future__ import annotations

import json
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response

from knowngood.recipe.manifest import seal
from knowngood.review.requalify import agreements, requalify
from knowngood.review.station import Station
from knowngood.review.store.inspections import Row
from knowngood.review.web.access import Anybody, AtStation, Engineer, FromPage, Known, may_approve_own
from knowngood.review.web.pages.shared import shown, there

router = APIRouter()
Number = Annotated[int, Query(gt=0, lt=1 << 31)]
Split = Annotated[str, Query(pattern="^(test|calibration|val|all)$")]


@router.get("/recipes")
def page(request: Request, station: AtStation, person: Known) -> Response:
    """Shows the revisions, the newest first, and the agreement of people."""
    revisions = station.record.revisions.everything()
    labels = {r["sha256"]: r["given"] for r in station.record.labels.scored(station.scoring) if r["given"] is not None}
    agreed = agreements(station.record.verdicts.standing(), labels)
    served = station.served()
    return shown(
        request,
        "recipes.html",
        person,
        revisions=revisions,
        served=served["id"] if served else None,
        approved=served is not None and station.record.revisions.signed(served["id"]),
        waiting=station.record.revisions.waiting(station.scoring, served["id"] if served else 0),
        first=revisions[-1]["id"],
        agreed=agreed,
        signature={"scoring": station.scoring, "by": station.signed_by},
    )


@router.get("/recipes/requalify")
def compare(
    request: Request, station: AtStation, person: Known, old: Number, new: Number, split: Split = "test"
) -> Response:
    """Compares two revisions on a golden set."""
    told = requalify(station.record, revision(station, old), revision(station, new), None if split == "all" else split)
    return shown(request, "requalify.html", person, told=told, old=old, new=new, split=split)


@router.post("/recipes/sign", dependencies=[FromPage])
def sign(
    request: Request,
    station: AtStation,
    person: Engineer,
    old: Annotated[int, Form(gt=0, lt=1 << 31)],
    new: Annotated[int, Form(gt=0, lt=1 << 31)],
    agrees: Annotated[bool, Form()],
    split: Annotated[str, Form(pattern="^(test|calibration|val|all)$")],
    why: Annotated[str, Form(max_length=1000)] = "",
) -> Response:
    """Adds a person's word on a revision, with the figures that they saw."""
    told = requalify(station.record, revision(station, old), revision(station, new), None if split == "all" else split)
    result = {"split": split, "figures": told.figures, "p_value": told.p_value, "flipped": len(told.flipped)}
    own = may_approve_own(request)
    station.record.revisions.sign(old, new, agrees=agrees, result=result, who=person.name, why=why.strip(), own=own)
    station.refresh_revision()
    return RedirectResponse("/recipes", 303)


@router.get("/recipes/{number}/recipe.json", dependencies=[Anybody])
def manifest(station: AtStation, number: int) -> Response:
    """Returns a revision's recipe.json, sealed: beside the other files it is the recipe as it is served."""
    document = json.loads(revision(station, number)["manifest"])
    text = json.dumps(document | {"seal": seal(document)}, indent=2)
    headers = {"content-disposition": 'attachment; filename="recipe.json"'}
    return Response(text, media_type="application/json", headers=headers)


def revision(station: Station, number: int) -> Row:
    """Returns a revision.

    Raises:
        HTTPException: 404.
    """
    return there(station.record.revisions.one, number)

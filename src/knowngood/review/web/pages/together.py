"""Views over all data: the map of the photographs, and the copies among them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from knowngood.review.overview import Overview
from knowngood.review.web.access import Anybody, Known, Together
from knowngood.review.web.pages.shared import shown

router = APIRouter()
PAGE = 24  # groups of copies
_DIGITS = 4  # of a coordinate: finer than a screen


@router.get("/data/map")
def page(request: Request, person: Known, together: Together) -> Response:
    """Shows the map; the browser fetches and draws the points."""
    view = together.view
    shown_now = 0 if view.known is None or view.known.plane is None else len(view.known.rows)
    why = "" if shown_now else _why(together)
    return shown(request, "map.html", person, shown=shown_now, labelled=view.labelled, why=why)


@router.get("/data/map/points", dependencies=[Anybody])
def points(together: Together) -> dict[str, Any]:
    """Returns the photographs by their first two principal components, a list a fact, in one order."""
    known = together.view.known
    if known is None or known.plane is None:
        return {"x": [], "y": [], "label": [], "defect": [], "defects": [], "id": [], "image": [], "explained": [0, 0]}
    defects = sorted({row["defect"] for row in known.rows if row["defect"]})
    number = {name: place for place, name in enumerate(defects)}
    at = known.plane.points.round(_DIGITS)
    return {
        "x": at[:, 0].tolist(),
        "y": at[:, 1].tolist(),
        "label": [row["label"] for row in known.rows],
        "defect": [number.get(row["defect"], -1) for row in known.rows],
        "defects": defects,
        "id": [row["id"] for row in known.rows],
        "image": [row["image"] for row in known.rows],
        "explained": known.plane.explained,
    }


@router.get("/data/copies")
def copies(
    request: Request,
    person: Known,
    together: Together,
    start: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
) -> Response:
    """Shows the groups of copies, those with different labels first."""
    view = together.view
    groups = view.copies or []
    return shown(
        request,
        "copies.html",
        person,
        groups=groups[start : start + PAGE],
        total=len(groups),
        contradict=sum(one.contradict for one in groups),
        across=sum(one.across for one in groups),
        searched=view.copies is not None,
        left_out=view.left_out,
        more=start + PAGE if start + PAGE < len(groups) else None,
        before=max(0, start - PAGE) if start else None,
    )


def _why(together: Overview) -> str:
    done, everything = together.progress
    if done < everything:
        return f"Photographs are being compared: {done} of {everything}. Load the page again in a while."
    if together.view.known is None:
        return "The photographs are being compared. Load the page again in a moment."
    return "Fewer than three labelled photographs can be read: serve with --data, or give some verdicts."

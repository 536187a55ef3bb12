"""The threshold page: change the thresholds, see the consequences, save them with a reason."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response

from knowngood.metrics.thresholds import Thresholds, decide, escape_upper_bound
from knowngood.review.station import Station
from knowngood.review.store.inspections import Row
from knowngood.review.web.access import Anybody, AtStation, Engineer, FromPage, Known
from knowngood.review.web.pages.shared import shown

router = APIRouter()
Share = Annotated[float, Query(ge=0, le=1, allow_inf_nan=False)]
SETS = {
    "calibration": "calibration images",
    "test": "test images",
    "held-out": "calibration and test images",
    "verdicts": "images with a verdict",
    "all": "everything with a label",
}
CONFIDENCE = 0.95
_SHOWN = 24
_NO_TRAINING = ("calibration", "test", "val")


@router.get("/threshold")
def page(request: Request, station: AtStation, person: Known) -> Response:
    """Shows the page; the browser fetches the scores and computes the figures."""
    counts = {name: len(rows_of(station, name)) for name in SETS}
    chosen = next((name for name in SETS if counts[name]), "all")
    revision = station.served() or station.last
    at_once = station.settings.allow_unapproved
    return shown(
        request, "threshold.html", person, sets=SETS, counts=counts, chosen=chosen, revision=revision, at_once=at_once
    )


@router.get("/threshold/scores", dependencies=[Anybody])
def scores(station: AtStation, of: str = "calibration") -> dict[str, Any]:
    """Returns the scores of a set by class, and the certified escape bound for every number of escapes."""
    rows = rows_of(station, of)
    good = sorted(row["defect_score"] for row in rows if row["label"] == 0)
    bad = sorted(row["defect_score"] for row in rows if row["label"] == 1)
    bound = [escape_upper_bound(k, len(bad), CONFIDENCE) for k in range(len(bad) + 1)] if bad else []
    return {"good": good, "bad": bad, "bound": bound, "confidence": CONFIDENCE}


@router.get("/threshold/cell")
def cell(
    request: Request,
    station: AtStation,
    person: Known,
    low: Share,
    high: Share,
    label: Annotated[int, Query(ge=0, le=1)],
    decision: Literal["accept", "review", "reject"],
    of: str = "calibration",
) -> Response:
    """Shows the images behind one cell of the confusion matrix, those nearest to the threshold first."""
    cuts = Thresholds(min(low, high), max(low, high))
    rows = [row for row in rows_of(station, of) if row["label"] == label]
    reasons = [row["input_reason"] for row in rows]
    decided: list[str] = decide([row["defect_score"] for row in rows], cuts, reasons).tolist() if rows else []
    inside = [row for row, found in zip(rows, decided, strict=True) if found == decision]
    inside.sort(key=lambda row: row["defect_score"], reverse=decision == "accept")
    caption = f"{'bad' if label else 'good'}, {decision}"
    return shown(request, "pictures.html", person, rows=inside[:_SHOWN], total=len(inside), caption=caption)


@router.post("/threshold", dependencies=[FromPage])
def save(
    station: AtStation,
    person: Engineer,
    low: Annotated[float, Form(allow_inf_nan=False)],
    high: Annotated[float, Form(allow_inf_nan=False)],
    why: Annotated[str, Form(max_length=1000)],
) -> Response:
    """Saves the thresholds as a new revision, which is served when it is approved."""
    station.move_threshold(low, high, person.name, why)
    return RedirectResponse("/recipes", 303)


def rows_of(station: Station, name: str) -> list[Row]:
    """Returns the scored images of a set, see `SETS`; what was made from others counts nowhere."""
    rows = [row for row in station.record.labels.scored(station.scoring) if not row["generated"]]
    if name == "all":
        return rows
    if name == "verdicts":
        return [row for row in rows if row["split"] is None and row["given"] is None]
    if name == "held-out":
        return [row for row in rows if row["split"] in _NO_TRAINING]
    return [row for row in rows if row["split"] == name]

"""The JSON API, OpenAPI models, and metrics for Prometheus."""

from __future__ import annotations

import base64
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, HTTPException, Path, Query, Request, Response, UploadFile
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import BaseModel, Field

from knowngood.review.batching import Batcher, BusyError, Pool
from knowngood.review.inspector import png
from knowngood.review.station import Job, Outcome, Station, tidy
from knowngood.review.store.inspections import ANY_LOT
from knowngood.review.web.access import Anybody, AtStation, KnownFirst, Sender
from knowngood.review.web.health import Health

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Figures:
    """Counters of one station; each station has its own, so that two in one process do not add up."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.inspections = Counter(
            "knowngood_inspections", "Photographs inspected.", ["decision", "source"], registry=self.registry
        )
        self.refused = Counter("knowngood_refused", "Photographs answered 503.", registry=self.registry)
        self.verdicts = Counter("knowngood_verdicts", "Verdicts of people.", ["verdict"], registry=self.registry)
        self.seconds = Histogram(
            "knowngood_inspect_seconds", "From a request to its answer.", buckets=_SECONDS, registry=self.registry
        )
        self.pending = Gauge("knowngood_pending", "Photographs that wait or are scored.", registry=self.registry)
        self.waiting = Gauge("knowngood_review_waiting", "Images in the queue for people.", registry=self.registry)

    def text(self) -> bytes:
        """Returns all of them in Prometheus' format."""
        return generate_latest(self.registry)


RETRY = 1  # seconds after which a refused sender may come again


class Ascii(JSONResponse):
    """JSON response in ASCII, so that any text of a request can be repeated in it."""

    def render(self, content: Any) -> bytes:
        """Returns the bytes."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


async def inspected(request: Request, jobs: Sequence[Job]) -> list[Outcome]:
    """Returns what was found, after it is in the record.

    Raises:
        HTTPException: 503 when too many wait, 413 when there are more than will ever fit.
    """
    batcher: Batcher[Job, Outcome] = request.app.state.batcher
    figures: Figures = request.app.state.figures
    if len(jobs) > batcher.most:
        raise HTTPException(413, f"{len(jobs)} photographs in one request; at most {batcher.most} are taken.")
    started = time.perf_counter()
    try:
        outcomes = await batcher.submit(jobs)
    except BusyError:
        figures.refused.inc(len(jobs))
        raise HTTPException(503, "Too many photographs wait already.", {"retry-after": str(RETRY)}) from None
    figures.seconds.observe(time.perf_counter() - started)
    for outcome in outcomes:
        figures.inspections.labels(outcome.filed.decision or "unreadable", outcome.filed.source).inc()
    return outcomes


log = logging.getLogger("knowngood.review")

router = APIRouter(tags=["inspection"], route_class=KnownFirst)
Name = Annotated[str | None, Form(max_length=200)]
_NO = {"description": "An error: `what` was wrong, what was `expected`, and how to `fix` it."}
REFUSALS: dict[int | str, dict[str, Any]] = dict.fromkeys((400, 401, 403, 404, 413, 415, 421, 429, 503), _NO)


class Found(BaseModel):
    """The result of one photograph."""

    inspection: int = Field(description="Number in the record.")
    image: str = Field(description="Name of the file, as it was sent.")
    unit: str = Field(description="Name of the part.")
    sha256: str = Field(description="Of the bytes.")
    defect_score: float | None = Field(description="In 0..1, higher is more likely bad; null when it cannot be read.")
    decision: str | None = Field(description="accept, review or reject; null when it cannot be read.")
    reason: str | None = Field(
        None, description='Why the decision is review whatever the score, such as "not this product: ..."; else null.'
    )
    region: tuple[int, int, int, int] | None = Field(
        description="(x0, y0, x1, y1) of the largest region, pixels of the photograph, half-open; null when accepted."
    )
    error: str | None = Field(description="Why it cannot be read.")
    heatmap: str | None = Field(None, description="PNG of the photograph under its map, base64, when asked for.")


class Answer(BaseModel):
    """The answer to one request."""

    recipe: str = Field(description="Name of the recipe.")
    revision: str = Field(description="Hash of the revision that inspected.")
    results: list[Found] = Field(description="One a photograph, in order.")


@router.post("/v1/inspect", responses=REFUSALS)
async def inspect(
    request: Request,
    station: AtStation,
    person: Sender,
    images: Annotated[list[UploadFile], File(description="One photograph or several.")],
    unit: Name = None,
    lot: Name = None,
    machine: Name = None,
    heatmap: Annotated[bool, Form(description="Whether to return the CAM heatmaps as PNG.")] = False,
) -> Answer:
    """Inspects photographs and adds them to the record; answers when they are in it."""
    settings = station.settings
    if len(images) > settings.max_images:
        raise HTTPException(413, f"{len(images)} photographs in one request; at most {settings.max_images} are taken.")
    jobs = []
    for number, upload in enumerate(images):
        data = await upload.read()
        named = unit if unit is None or len(images) == 1 else f"{unit}/{number + 1}"
        name = upload.filename or f"image {number}"
        jobs.append(Job(data, name, named, lot, machine, "api", person.name))
    outcomes = await inspected(request, jobs)
    results = [found(outcome) for outcome in outcomes]
    if heatmap:
        pictures: Pool = request.app.state.pictures
        drawn = await pictures.run(_drawn, station, jobs, outcomes)
        results = [one.model_copy(update={"heatmap": picture}) for one, picture in zip(results, drawn, strict=True)]
    return Answer(recipe=station.inspector.name, revision=outcomes[0].revision, results=results)


def found(outcome: Outcome) -> Found:
    """Returns an outcome in the form of the API."""
    row = outcome.filed
    return Found(
        inspection=outcome.number,
        image=row.image,
        unit=row.unit,
        sha256=row.sha256,
        defect_score=row.defect_score,
        decision=row.decision,
        reason=row.input_reason,
        region=row.region,
        error=row.error,
    )


def _drawn(station: Station, jobs: list[Job], outcomes: list[Outcome]) -> list[str | None]:
    pictures: list[str | None] = []
    for job, outcome in zip(jobs, outcomes, strict=True):
        row = asdict(outcome.filed)
        if outcome.filed.error is not None:
            pictures.append(None)
            continue
        try:
            explained = station.explained(row, job.data)
            most = station.settings.max_pixels
            picture = None if explained is None else png(station.inspector.overlay(job.data, explained, most))
        except Exception as error:  # it is inspected and filed: what fails here costs the picture only
            log.warning("a picture cannot be drawn", exc_info=error)
            picture = None
        pictures.append(None if picture is None else base64.b64encode(picture).decode())
    return pictures


InLot = Annotated[
    str | None, Query(max_length=1000, description="In which it is, empty for none; all lots where it is left out.")
]


@router.get("/v1/units", responses=REFUSALS, dependencies=[Anybody])
def unit_by_name(
    station: AtStation,
    unit: Annotated[str, Query(max_length=1000, description="Name of the part; any name, .. too.")],
    lot: InLot = None,
) -> list[dict[str, Any]]:
    """Returns all inspections and verdicts of one unit, oldest first, as `/v1/units/UNIT` does."""
    return unit_story(station, unit, lot)


@router.get("/v1/units/{unit:path}", responses=REFUSALS, dependencies=[Anybody])
def unit_story(
    station: AtStation,
    unit: Annotated[str, Path(max_length=1000, description="Name of the part; it may hold any characters, / too.")],
    lot: InLot = None,
) -> list[dict[str, Any]]:
    """Returns all inspections and verdicts of one unit, oldest first.

    A unit is a name within a lot: without `lot` the rows of all units of this name come, each with its lot.
    """
    rows = station.record.inspections.story(tidy(unit) or "", ANY_LOT if lot is None else tidy(lot))
    if not rows:
        raise HTTPException(404, "There is no such unit in the record.")
    return rows


@router.get("/v1/recipe", responses=REFUSALS, dependencies=[Anybody])
def recipe(station: AtStation) -> dict[str, Any]:
    """Returns which recipe is served, at which cuts, and whether a person has approved it."""
    row = station.revision
    names = ("name", "hash", "digest", "weights_sha256", "accept_below", "reject_from", "who", "at", "why", "signed_by")
    return {name: row[name] for name in names} | {"signed": station.record.revisions.signed(row["id"])}


@router.get("/health/live", tags=["health"])
async def live() -> dict[str, bool]:
    """Returns that the process answers."""
    return {"live": True}


@router.get("/health/ready", tags=["health"], responses={503: _NO})
async def ready(request: Request) -> dict[str, bool]:
    """Returns whether photographs are accepted: a revision is served, workers run, record and disk can be written."""
    await be_ready(request)
    return {"ready": True}


async def be_ready(request: Request) -> None:
    """Checks whether the station accepts photographs.

    Raises:
        HTTPException: 503, with the reason why not.
    """
    health: Health = request.app.state.health
    why = await health.why_not()
    if why is not None:
        raise HTTPException(503, why, {"retry-after": "5"})


@router.get("/metrics", tags=["health"], responses=REFUSALS, response_class=Response, dependencies=[Anybody])
def metrics(request: Request, station: AtStation) -> Response:
    """Returns figures for Prometheus."""
    figures: Figures = request.app.state.figures
    figures.pending.set(request.app.state.batcher.pending)
    figures.waiting.set(station.record.queue.counts()["waiting"])
    return Response(figures.text(), media_type="text/plain; version=0.0.4")

"""The Open Inference Protocol v2 (KServe, Triton): existing clients can ask without knowing us."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response

from knowngood.review.app.access import Anybody, AtStation, Sender
from knowngood.review.app.api import REFUSALS
from knowngood.review.app.sending import inspected
from knowngood.review.app.station import Job, Station
from knowngood.review.app.tensors import answer, photographs_in

router = APIRouter(prefix="/v2", tags=["open inference protocol v2"])
LENGTH = "inference-header-content-length"
_BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}}


@router.get("")
def server() -> dict[str, Any]:
    """Returns what this server is."""
    from knowngood import __version__

    return {"name": "knowngood", "version": __version__, "extensions": ["binary_tensor_data"]}


@router.get("/health/live")
def live() -> dict[str, bool]:
    """Says that the process answers."""
    return {"live": True}


@router.get("/health/ready", responses={503: {"description": "Not ready."}})
def ready(request: Request) -> dict[str, bool]:
    """Says whether photographs are taken."""
    if not request.app.state.ready:
        raise HTTPException(503, "The station is ending.")
    return {"ready": True}


@router.get("/models/{model}", responses=REFUSALS, dependencies=[Anybody])
@router.get("/models/{model}/versions/{version}", responses=REFUSALS, dependencies=[Anybody])
def metadata(station: AtStation, model: str, version: str | None = None) -> dict[str, Any]:
    """Returns what the model takes and gives."""
    _checked(station, model, version)
    return {
        "name": station.inspector.name,
        "versions": [station.revision["hash"][:12]],
        "platform": "knowngood",
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [
            {"name": "defect_score", "datatype": "FP64", "shape": [-1]},
            {"name": "decision", "datatype": "BYTES", "shape": [-1]},
            {"name": "reason", "datatype": "BYTES", "shape": [-1]},
        ],
    }


@router.get("/models/{model}/ready", responses=REFUSALS, dependencies=[Anybody])
@router.get("/models/{model}/versions/{version}/ready", responses=REFUSALS, dependencies=[Anybody])
def model_ready(request: Request, station: AtStation, model: str, version: str | None = None) -> dict[str, Any]:
    """Says whether the model takes photographs."""
    _checked(station, model, version)
    return {"name": station.inspector.name, "ready": bool(request.app.state.ready)}


@router.post("/models/{model}/infer", responses=REFUSALS, openapi_extra=_BODY)
@router.post("/models/{model}/versions/{version}/infer", responses=REFUSALS, openapi_extra=_BODY)
async def infer(
    request: Request, station: AtStation, person: Sender, model: str, version: str | None = None
) -> Response:
    """Inspects photographs: BYTES [N] (encoded files; base64 in JSON) or UINT8 [N, H, W(, C)]."""
    _checked(station, model, version)
    if request.headers.get("content-encoding", "identity") != "identity":
        raise HTTPException(415, "Compressed requests are not taken.")
    body = await request.body()
    document, binary = _parts(body, request.headers.get(LENGTH))
    settings = station.settings
    photographs = photographs_in(document, binary, min(settings.max_images, settings.waiting), settings.max_pixels)
    called = document.get("id")
    name = called[:150] if isinstance(called, str) and called else "tensor"
    jobs = [Job(data, f"{name} {n}", source="kserve", who=person.name) for n, data in enumerate(photographs)]
    outcomes = await inspected(request, jobs)
    broken = next((one.filed for one in outcomes if one.filed.error is not None), None)
    if broken is not None:
        raise HTTPException(400, f"{broken.image}: {broken.error}")
    head = {"model_name": station.inspector.name, "model_version": outcomes[0].revision[:12]}
    if isinstance(called, str):
        head["id"] = called
    columns: dict[str, Sequence[Any]] = {
        "defect_score": [one.filed.defect_score for one in outcomes],
        "decision": [str(one.filed.decision) for one in outcomes],
        "reason": [one.filed.input_reason or "" for one in outcomes],
    }
    content, length = answer(document, head, columns)
    if length is None:
        return Response(content, media_type="application/json")
    return Response(content, media_type="application/octet-stream", headers={LENGTH: str(length)})


def _parts(body: bytes, length: str | None) -> tuple[Any, bytes]:
    try:
        at = len(body) if length is None else int(length)
        if not 0 <= at <= len(body):
            raise ValueError
        document = json.loads(body[:at])
    except (ValueError, RecursionError):
        raise HTTPException(400, "The request is no JSON of the Open Inference Protocol.") from None
    if not isinstance(document, dict):
        raise HTTPException(400, "The request is no JSON object.")
    return document, body[at:]


def _checked(station: Station, model: str, version: str | None) -> None:
    if model != station.inspector.name:
        raise HTTPException(404, "There is no such model here.")
    if version is not None and version not in ("1", station.revision["hash"][:12]):
        raise HTTPException(404, "That version is not served.")

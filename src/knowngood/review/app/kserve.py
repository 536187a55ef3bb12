"""The Open Inference Protocol v2 (KServe, Triton): existing clients can ask without knowing us."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic_core import from_json

from knowngood.review.app.access import Anybody, AtStation, Sender
from knowngood.review.app.api import REFUSALS, be_ready
from knowngood.review.app.batching import Pool
from knowngood.review.app.sending import inspected
from knowngood.review.app.settings import Settings
from knowngood.review.app.station import Job, Station, tidy
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
async def live() -> dict[str, bool]:
    """Says that the process answers."""
    return {"live": True}


@router.get("/health/ready", responses={503: {"description": "Not ready."}})
async def ready(request: Request) -> dict[str, bool]:
    """Says whether photographs are taken."""
    await be_ready(request)
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
async def model_ready(request: Request, station: AtStation, model: str, version: str | None = None) -> dict[str, Any]:
    """Says whether the model takes photographs."""
    await be_ready(request)
    await run_in_threadpool(_checked, station, model, version)
    return {"name": station.inspector.name, "ready": True}


@router.post("/models/{model}/infer", responses=REFUSALS, openapi_extra=_BODY)
@router.post("/models/{model}/versions/{version}/infer", responses=REFUSALS, openapi_extra=_BODY)
async def infer(
    request: Request, station: AtStation, person: Sender, model: str, version: str | None = None
) -> Response:
    """Inspects photographs: BYTES [N] (encoded files; base64 in JSON) or UINT8 [N, H, W(, C)]."""
    await run_in_threadpool(_checked, station, model, version)
    if request.headers.get("content-encoding", "identity") != "identity":
        raise HTTPException(415, "Compressed requests are not taken.")
    body = await request.body()
    parsing: Pool = request.app.state.parsing  # beside the event loop, which others wait for
    document, photographs = await parsing.run(_read, body, request.headers.get(LENGTH), station.settings)
    called = document.get("id")
    name = (tidy(called, 150) if isinstance(called, str) else None) or "tensor"
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


def _read(body: bytes, length: str | None, settings: Settings) -> tuple[dict[str, Any], list[bytes]]:
    document, binary = _parts(body, length, settings.max_json_values)
    most = min(settings.max_images, settings.waiting)
    return document, photographs_in(document, binary, most, settings.max_pixels)


def _parts(body: bytes, length: str | None, most: int) -> tuple[dict[str, Any], bytes]:
    try:
        at = len(body) if length is None else int(length)
        if not 0 <= at <= len(body):
            raise ValueError
        text = memoryview(body)[:at].tobytes() if at < len(body) else body
        if text.count(b",") + text.count(b"[") > most:
            raise HTTPException(
                413,
                f"A request of more than {most:,} values in JSON is not taken: send the tensor as bytes behind it.",
            )
        document = from_json(text, allow_inf_nan=False)
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

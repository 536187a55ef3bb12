"""Tensors of the Open Inference Protocol v2, in JSON or as bytes behind it, to photographs and back."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic_core import from_json

from knowngood.errors import DataError
from knowngood.review.batching import Pool
from knowngood.review.inspector import png
from knowngood.review.settings import Settings
from knowngood.review.station import Job, Station, tidy
from knowngood.review.web.access import Anybody, AtStation, Sender
from knowngood.review.web.api import REFUSALS, be_ready, inspected

_EXPECTED = 'one input "image": BYTES [N] of encoded photographs, or UINT8 [N, H, W], [N, H, W, 1] or [N, H, W, 3]'


def photographs_in(document: Any, binary: bytes, most: int, max_pixels: int) -> list[bytes]:
    """Returns the photographs of an inference request as encoded bytes.

    Args:
        document: The JSON of the request.
        binary: What follows it, the binary tensors.
        most: Photographs at most.
        max_pixels: Of one of them.

    Raises:
        DataError: It is no such request.
    """
    inputs = document.get("inputs") if isinstance(document, dict) else None
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise DataError("The request has not exactly one input.", expected=_EXPECTED)
    tensor = inputs[0]
    shape, kind = tensor.get("shape"), tensor.get("datatype")
    if not isinstance(shape, list) or not all(type(side) is int and 0 < side < 1 << 31 for side in shape):
        raise DataError("The shape is no list of whole numbers above 0.", expected=_EXPECTED)
    if not 1 <= len(shape) <= 4 or shape[0] > most:
        raise DataError(f"The shape is {shape[:5]}; at most {most} photographs are taken at once.", expected=_EXPECTED)
    parameters = tensor.get("parameters")
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    if size is not None and size != len(binary):
        raise DataError(f"binary_data_size is {str(size)[:20]}, and {len(binary)} bytes follow.")
    data = binary if size is not None else tensor.get("data")
    if kind == "BYTES" and (len(shape) == 1 or shape[1:] == [1]):
        return _encoded(data, shape[0])
    if kind == "UINT8" and (len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3))):
        return _pixels(data, shape, max_pixels)
    raise DataError(f"The input is {str(kind)[:20]} {shape}.", expected=_EXPECTED)


def _encoded(data: Any, count: int) -> list[bytes]:
    if isinstance(data, bytes):
        found: list[bytes] = []
        at = 0
        while at + 4 <= len(data) and len(found) < count:
            (size,) = struct.unpack_from("<I", data, at)
            found.append(data[at + 4 : at + 4 + size])
            at += 4 + size
        if at != len(data) or len(found) != count:
            raise DataError(f"The bytes are not {count} elements, each with its length before it.", expected=_EXPECTED)
        return found
    if not isinstance(data, list) or len(data) != count or not all(isinstance(one, str) for one in data):
        raise DataError(f"The data are not {count} strings.", expected="photographs in base64, in JSON")
    try:
        return [base64.b64decode(one, validate=True) for one in data]
    except ValueError as error:
        raise DataError("The data are not base64.", expected="photographs in base64, in JSON") from error


def _pixels(data: Any, shape: list[int], max_pixels: int) -> list[bytes]:
    count = int(np.prod(shape, dtype=object))
    if shape[1] * shape[2] > max_pixels:
        raise DataError(f"A photograph has {shape[1] * shape[2]:,} pixels.", expected=f"at most {max_pixels:,}")
    try:
        if isinstance(data, bytes):
            array = np.frombuffer(data, np.uint8)
        else:
            array = np.frombuffer(b"".join(_rows(data, shape[-1], len(shape))), np.uint8)
        if array.size != count:
            raise ValueError
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(f"The data are not {count} whole numbers from 0 to 255.", expected=_EXPECTED) from error
    images = array.reshape(shape)
    return [png(one[..., 0] if one.ndim == 3 and one.shape[2] == 1 else one) for one in images]


def _rows(data: Any, wide: int, depth: int) -> Iterator[bytes]:
    """Yields the rows of a tensor in JSON, flat or nested as its shape is.

    Raises:
        TypeError: It is nested otherwise, or holds other than whole numbers.
        ValueError: A number is not in 0..255.
    """
    if not isinstance(data, list) or depth == 0:
        raise TypeError
    if data and isinstance(data[0], list):
        for one in data:
            for row in _rows(one, wide, depth - 1):
                if len(row) != wide:
                    raise ValueError
                yield row
    else:
        yield bytes(data)


def answer(document: Any, head: dict[str, Any], columns: dict[str, Sequence[Any]]) -> tuple[bytes, int | None]:
    """Returns the body of an answer, and the length of its JSON where tensors follow it as bytes.

    Args:
        document: The request, with the wanted outputs and their encoding.
        head: model_name, model_version and id.
        columns: Output name to values: numbers become FP64, strings BYTES.

    Raises:
        DataError: An output is wanted that there is not.
    """
    asked = document.get("outputs")
    every = [{"name": name} for name in columns]
    wanted = asked if isinstance(asked, list) and asked else every
    usual = bool(_parameters(document).get("binary_data_output", False))
    outputs, tail = [], b""
    for one in wanted:
        name = one.get("name") if isinstance(one, dict) else None
        if not isinstance(name, str) or name not in columns:
            raise DataError(f"There is no output {str(name)[:60]!r}.", expected=", ".join(columns))
        values = columns[name]
        numbers = not isinstance(values[0], str)
        output: dict[str, Any] = {"name": name, "datatype": "FP64" if numbers else "BYTES", "shape": [len(values)]}
        if bool(_parameters(one).get("binary_data", usual)):
            packed = _packed(values, numbers)
            output["parameters"] = {"binary_data_size": len(packed)}
            tail += packed
        else:
            output["data"] = list(values)
        outputs.append(output)
    body = json.dumps({**head, "outputs": outputs}).encode()
    return body + tail, len(body) if tail else None


def _parameters(document: dict[str, Any]) -> dict[str, Any]:
    found = document.get("parameters")
    return found if isinstance(found, dict) else {}


def _packed(values: Sequence[Any], numbers: bool) -> bytes:
    if numbers:
        return np.asarray(values, "<f8").tobytes()
    return b"".join(struct.pack("<I", len(word)) + word for word in (str(value).encode() for value in values))


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
    """Returns that the process answers."""
    return {"live": True}


@router.get("/health/ready", responses={503: {"description": "Not ready."}})
async def ready(request: Request) -> dict[str, bool]:
    """Returns whether photographs are accepted."""
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
    """Returns whether the model accepts photographs."""
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
    most = min(settings.max_images, settings.queue_size)
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

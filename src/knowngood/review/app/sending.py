"""From a request to its outcomes: one way for all interfaces."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from fastapi import HTTPException, Request
from fastapi.responses import JSONResponse

from knowngood.review.app.batching import Batcher, BusyError
from knowngood.review.app.metrics import Figures
from knowngood.review.app.station import Job, Outcome

RETRY = 1  # seconds after which a refused sender may come again


class Ascii(JSONResponse):
    """JSON in ASCII: whatever text somebody sent can be answered with."""

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

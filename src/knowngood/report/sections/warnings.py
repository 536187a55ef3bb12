"""What makes the figures of a run untrue, before anything else on the page."""

from __future__ import annotations

from knowngood.report.page import Section, render
from knowngood.report.run import RunSummary


def warnings(run: RunSummary) -> Section | None:
    """Shows each warning in red, and in a plain line what was done about parts that were photographed several times."""
    found = run.metrics.get("warnings") or []
    repeated = run.data.get("repeated_parts") or {}
    kept = repeated.get("units") and repeated.get("status") in ("found", "given")
    estimate = (repeated.get("estimate") or {}).get("sentence", "")
    if not found and not kept:
        return None
    body = render(
        "sections/warnings.html",
        warnings=found,
        repeated=repeated if kept else None,
        estimate=estimate if kept else "",
    )
    return Section("warnings", "Read this first" if found else "Repeated parts", body)

"""What was run, with what, and how to run it again."""

from __future__ import annotations

import json

from knowngood.report.page import Section, render
from knowngood.report.run import RunSummary


def provenance(run: RunSummary) -> Section | None:
    """Makes the last section: command, seed, times, versions, configuration, terms of the data."""
    body = render(
        "sections/provenance.html",
        run=run,
        seconds=run.metrics.get("seconds") or {},
        config=json.dumps(run.config, indent=2, ensure_ascii=False, default=str),
    )
    return Section("provenance", "What was run, and how to run it again", body)

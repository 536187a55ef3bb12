"""What was run, with what, and how to run it again."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from knowngood.report.page import Section, render
from knowngood.report.run import RunSummary


@dataclass(frozen=True)
class Origin:
    """Where the figures of a page come from.

    Attributes:
        command: What to type to run it again.
        seed: Of the run.
        data: Its source, root and licence.
        versions: Package to version.
        config: The resolved configuration.
        seconds: What took how long.
    """

    command: str
    seed: int
    data: dict[str, Any]
    versions: dict[str, str]
    config: dict[str, Any]
    seconds: dict[str, float] = field(default_factory=dict)


def provenance(run: RunSummary) -> Section | None:
    """Makes the last section of a training's report."""
    seconds = run.metrics.get("seconds") or {}
    return origin_section(Origin(run.command, run.seed, run.data, run.versions, run.config, seconds))


def origin_section(origin: Origin) -> Section:
    """Makes a section of command, seed, times, versions, configuration, terms of the data."""
    body = render(
        "sections/provenance.html",
        run=origin,
        seconds=origin.seconds,
        config=json.dumps(origin.config, indent=2, ensure_ascii=False, default=str),
    )
    return Section("provenance", "What was run, and how to run it again", body)

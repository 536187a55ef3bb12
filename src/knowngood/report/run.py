"""The report of one training run: plain data in, one HTML file out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from knowngood.files import write_text
from knowngood.report.page import Section, page
from knowngood.report.run_figures import calibration, data_at_a_glance, provenance, separation, training
from knowngood.report.run_summary import RunSummary
from knowngood.report.run_verdict import by_defect, by_kind, by_lot, decisions, verdict, warnings
from knowngood.wording import counted

# In the order of the page; each returns None where the run has nothing to show there.
FIRST: tuple[Callable[[RunSummary], Section | None], ...] = (warnings, verdict)
SECTIONS: tuple[Callable[[RunSummary], Section | None], ...] = (
    decisions,
    separation,
    by_defect,
    by_kind,
    by_lot,
    data_at_a_glance,
    calibration,
    training,
)


def write_report(
    summary: RunSummary, out: Path, *, maps: Sequence[Section] = (), extra: Sequence[Section] = ()
) -> Path:
    """Writes the report of one run.

    Args:
        summary: The run.
        out: The HTML file to write.
        maps: Where it looks, shown right after the verdict.
        extra: Further sections, shown before the one on how to run it again.

    Returns:
        `out`.

    Raises:
        StorageError: The file cannot be written; what was there before is unchanged.
    """
    first, rest = ([made for make in some if (made := make(summary)) is not None] for some in (FIRST, SECTIONS))
    sections = [*first, *maps, *rest, *extra, provenance(summary)]
    rows = counted(summary.shown.height, f"{summary.split} image")
    write_text(out, page(summary.title, f"{summary.created} · {rows}", sections))
    return out

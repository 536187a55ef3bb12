"""What the report of a run is made of: each file here makes one or two sections; add one line to add one."""

from __future__ import annotations

from knowngood.report.run import SectionMaker
from knowngood.report.sections_figures import calibration, data_at_a_glance, provenance, separation, training
from knowngood.report.sections_inspector import by_defect, by_lot, decisions, mistakes, verdict, warnings

# Each returns None when the run has nothing to show there.
SECTIONS: tuple[SectionMaker, ...] = (
    warnings,
    verdict,
    data_at_a_glance,
    decisions,
    mistakes,
    separation,
    by_defect,
    by_lot,
    calibration,
    training,
)
LAST: tuple[SectionMaker, ...] = (provenance,)

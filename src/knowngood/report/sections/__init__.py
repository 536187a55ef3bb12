"""What the report of a run is made of: each file here makes one or two sections; add one line to add one."""

from __future__ import annotations

from knowngood.report.run import SectionMaker
from knowngood.report.sections.breakdown import by_defect, by_lot
from knowngood.report.sections.data import data_at_a_glance
from knowngood.report.sections.decisions import decisions, mistakes
from knowngood.report.sections.provenance import provenance
from knowngood.report.sections.reliability import calibration
from knowngood.report.sections.separation import separation
from knowngood.report.sections.training import training
from knowngood.report.sections.verdict import verdict
from knowngood.report.sections.warnings import warnings

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

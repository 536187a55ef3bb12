"""The steps of a study: each is one file that asks one question of the data; add one line to register another.

A step may take long, so what it found is kept as JSON, and its section of the report is drawn from that and from the
files that it left in its folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from knowngood.data.records import Records
from knowngood.registry import Registry
from knowngood.report.page import Section
from knowngood.study.study_config import StudyConfig

Found = dict[str, Any]


@dataclass(frozen=True)
class Material:
    """What every step is given.

    Attributes:
        records: The whole set, labelled or not, with the splits that it came with.
        folder: Of the study; a step keeps its own files below `folder / its name`.
        config: Resolved: every field that the preset decides is set.
        found: What earlier steps found, by name.
    """

    records: Records
    folder: Path
    config: StudyConfig
    found: dict[str, Found]


class Step(Protocol):
    """One question."""

    title: str

    def skipped(self, material: Material) -> str | None:
        """Says why this study goes without the step, or None: "the preset quick compares no networks"."""
        ...

    def run(self, material: Material) -> Found:
        """Answers the question; JSON types. Long work goes on where a kill left it."""
        ...

    def sections(self, material: Material, found: Found) -> list[Section]:
        """Draws what was found, for the report of the study; links are relative to `material.folder`."""
        ...

    def advice(self, found: Found) -> list[str]:
        """Says what the engineer should do next, the most important first; whole sentences."""
        ...


STEPS: Registry[type[Step]] = Registry(
    "step of the study",
    "knowngood.steps",
    {
        "data": "knowngood.study.steps.data:DataStep",
        "inspector": "knowngood.study.steps.inspector:InspectorStep",
        "explanations": "knowngood.study.steps.explanations:ExplanationsStep",
        "models": "knowngood.study.steps.models:ModelsStep",
        "training-sets": "knowngood.study.steps.training_sets:TrainingSetsStep",
        "conventional": "knowngood.study.steps.conventional:ConventionalStep",
        "outliers": "knowngood.study.steps.outliers:OutliersStep",
    },
)

"""What to train with: as it is, transformed, without outliers, with generated images; and how imbalance is met."""

from __future__ import annotations

from knowngood.report.page import Section
from knowngood.study.comparison.comparing import compare
from knowngood.study.steps import Found, Material
from knowngood.study.steps.models import comparison, comparison_step

FOLDER = "training-sets"


class TrainingSetsStep:
    """Runs `knowngood compare` over training sets and over balances, with the first of the compared networks."""

    title = "Training sets compared"

    def skipped(self, material: Material) -> str | None:
        if not material.config.compared:
            return f"the preset {material.config.preset} compares no training sets (--models names a network for it)"
        return None

    def run(self, material: Material) -> Found:
        variants = ["as-is", "transforms", "transforms+without-outliers"]
        if material.config.generated is not None:
            variants += ["generated", "transforms+generated"]
        chosen = comparison(
            material,
            models=material.config.compared[:1],
            variants=tuple(variants),
            balance=("sampling", "weights", "none"),
        )
        done = compare(material.records, material.folder / FOLDER, chosen)
        return {"best": done.document["best"], "verdict": done.document["verdict"]}

    def sections(self, material: Material, found: Found) -> list[Section]:
        return comparison_step(material, FOLDER, self.title)

    def advice(self, found: Found) -> list[str]:
        return []

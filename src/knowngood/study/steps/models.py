"""Which network: several trained in the same way, beside conventional classifiers."""

from __future__ import annotations

import json

from knowngood.models.training.config import TrainConfig
from knowngood.models.training.fitting import choose_model
from knowngood.report.comparison import comparison_sections
from knowngood.report.page import Section
from knowngood.study.comparison.comparing import DOCUMENT, compare
from knowngood.study.comparison.config import CompareConfig
from knowngood.study.steps import Found, Material

FOLDER = "models"


class ModelsStep:
    """Runs `knowngood compare` over networks."""

    title = "Networks compared"

    def skipped(self, material: Material) -> str | None:
        if not material.config.compared:
            return f"the preset {material.config.preset} compares no networks (--models names some)"
        return None

    def run(self, material: Material) -> Found:
        done = compare(
            material.records,
            material.folder / FOLDER,
            comparison(material, models=material.config.compared, conventional=("svm", "lda")),
        )
        return {"best": done.document["best"], "verdict": done.document["verdict"]}

    def sections(self, material: Material, found: Found) -> list[Section]:
        return comparison_step(material, FOLDER, self.title)

    def advice(self, found: Found) -> list[str]:
        return []


def comparison(material: Material, **chosen: object) -> CompareConfig:
    """Returns what a comparison of this study does, apart from what is `chosen`."""
    config = material.config
    shared = {
        "image_size": config.compare_size,
        "epochs": config.epochs or None,
        "limit": config.limit or None,
        "seeds": config.seeds,
        "seed": config.seed,
        "resplit": config.resplit,
        "escape_budget": config.escape_budget,
        "generated": config.generated,
        "outlier_backbone": config.model or choose_model(TrainConfig()),
    }
    return CompareConfig.model_validate(shared | chosen)


def comparison_step(material: Material, folder: str, title: str) -> list[Section]:
    """Returns verdict and table of a finished comparison, with a link to its own page."""
    document = json.loads((material.folder / folder / DOCUMENT).read_text(encoding="utf-8"))
    return comparison_sections(document, folder, title, f"{folder}/compare.html")

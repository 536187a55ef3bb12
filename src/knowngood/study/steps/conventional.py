"""Would something simple do as well? Conventional classifiers and principal components of deep features."""

from __future__ import annotations

import json
from typing import Any

from knowngood.models.classical.config import ClassicalConfig
from knowngood.models.training.config import TrainConfig
from knowngood.models.training.fitting import choose_model
from knowngood.report.page import Section
from knowngood.report.sections.conventional import conventional_section
from knowngood.study.classical import classical
from knowngood.study.classical_results import FIGURES, read_pca
from knowngood.study.steps import Found, Material

FOLDER = "conventional"


class ConventionalStep:
    """Runs `knowngood classical`."""

    title = "Conventional classifiers"

    def skipped(self, material: Material) -> str | None:
        return None if material.records.usable().counts()["bad"] else "there is no bad image"

    def run(self, material: Material) -> Found:
        config = material.config
        options = ClassicalConfig(
            backbone=config.model or choose_model(TrainConfig()),
            weights=config.weights,
            image_size=config.image_size,
            seeds=config.seeds or 1,
            seed=config.seed,
            resplit=config.resplit,
        )
        done = classical(material.records, material.folder / FOLDER, options)
        return {"auroc": {row["model"]: row["test"]["auroc"] for row in done.rows if row["seed"] == config.seed}}

    def sections(self, material: Material, found: Found) -> list[Section]:
        from knowngood.report.sections.pca import pca_section

        folder = material.folder / FOLDER
        kept: dict[str, Any] = json.loads((folder / FIGURES).read_text(encoding="utf-8"))
        return [conventional_section(kept["rows"]), pca_section(read_pca(folder), material.config.seed)]

    def advice(self, found: Found) -> list[str]:
        return []

"""Is the training set clean? Outliers, doubtful labels, and whether acting on them helps."""

from __future__ import annotations

import json

import polars as pl

from knowngood.models.training.config import TrainConfig
from knowngood.models.training.fitting import choose_model
from knowngood.report.page import Section
from knowngood.study.audit_page import audit_sections
from knowngood.study.auditing import audit
from knowngood.study.removal_config import RemovalConfig
from knowngood.study.steps import Found, Material
from knowngood.wording import counted

FOLDER = "audit"


class OutliersStep:
    """Runs `knowngood audit`, with the trial where the preset has time for it."""

    title = "Outliers and doubtful labels"

    def skipped(self, material: Material) -> str | None:
        return None

    def run(self, material: Material) -> Found:
        config = material.config
        counts = material.records.usable().counts()
        trial = RemovalConfig(seeds=config.trial_seeds) if config.trial_seeds and counts["bad"] else None
        done = audit(
            material.records,
            material.folder / FOLDER,
            backbone=config.model or choose_model(TrainConfig()),
            weights=config.weights,
            image_size=config.image_size,
            seed=config.seed,
            trial=trial,
        )
        return {"counts": done.counts, "trial": None if done.trial is None else done.trial.document["effects"]}

    def sections(self, material: Material, found: Found) -> list[Section]:
        folder = material.folder / FOLDER
        trial = folder / "removal.json"
        tried = json.loads(trial.read_text(encoding="utf-8")) if found["trial"] is not None else None
        return audit_sections(pl.read_parquet(folder / "audit.parquet"), tried, f"{FOLDER}/audit.html")

    def advice(self, found: Found) -> list[str]:
        counts = found["counts"]
        said = []
        if counts["suspected labels"]:
            said.append(
                f"Look at {counted(counts['suspected labels'], 'image')} whose label is doubted and write what you see "
                f"into {FOLDER}/verdicts.csv; `knowngood train --verdicts` takes it over. Correcting labels has been "
                "worth more than a larger network."
            )
        if counts["outliers"]:
            said.append(f"Look at {counted(counts['outliers'], 'outlier')}; remove none without having seen it.")
        return said

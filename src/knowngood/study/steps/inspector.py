"""The inspector that is to be used, with its threshold."""

from __future__ import annotations

import polars as pl

from knowngood.errors import CalibrationError
from knowngood.models.training.config import TrainConfig
from knowngood.report.page import Section, render
from knowngood.report.run import RunSummary
from knowngood.report.sections.decisions import decisions
from knowngood.report.sections.verdict import verdict
from knowngood.study.facts import unseen
from knowngood.study.steps import Found, Material
from knowngood.study.training import train

FOLDER = "inspector"


class InspectorStep:
    """Runs `knowngood train`; a set without bad images gets an inspector from good images alone."""

    title = "The inspector"

    def skipped(self, material: Material) -> str | None:
        return None

    def run(self, material: Material) -> Found:
        config = material.config
        one_class = not material.records.usable().counts()["bad"]
        options = TrainConfig(
            model=config.model,
            weights=config.weights,
            image_size=config.image_size,
            preset="best" if config.preset == "paper" and not one_class else "quick",
            escape_budget=config.escape_budget,
            resplit=config.resplit,
            seed=config.seed,
            one_class=one_class,
        )
        done = train(material.records, material.folder / FOLDER, options)
        return {"metrics": done.metrics, "one_class": one_class}

    def sections(self, material: Material, found: Found) -> list[Section]:
        run = _summary(material, found)
        link = render(
            "sections/study_step.html",
            sentences=[],
            rows=[],
            link=(f"{FOLDER}/report.html", "The whole report of the inspector, with the images behind every cell"),
        )
        made = [verdict(run), decisions(run)]
        sections = [section for section in made if section is not None]
        if not sections:
            raise CalibrationError("The inspector decided nothing that can be shown.")
        last = sections[-1]
        return [*sections[:-1], Section(last.key, last.title, last.body + link, last.lead)]

    def advice(self, found: Found) -> list[str]:
        threshold = found["metrics"].get("threshold") or {}
        if found["one_class"]:
            return [
                "Keep every bad unit that turns up, with a photograph: without them no escape rate can be measured."
            ]
        if not threshold.get("certified", False):
            return [
                "Do not promise the escape budget yet: it is not proven on the calibration images. More bad images of "
                "the same line prove it; a larger --escape-budget states what is proven now."
            ]
        return []


def _summary(material: Material, found: Found) -> RunSummary:
    """Returns the finished run as the report's sections want it."""
    return RunSummary(
        title=FOLDER,
        command="",
        created="",
        metrics=found["metrics"],
        history=[],
        versions={},
        seed=material.config.seed,
        config={},
        scores=unseen(pl.read_parquet(material.folder / FOLDER / "scores.parquet")),
    )

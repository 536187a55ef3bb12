"""The steps of a study: each is one class that answers one question; one line in `STEPS` registers another.

A step may take long, so its findings are kept as JSON, and its section of the report is drawn from them and from the
files in its folder.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import polars as pl

from knowngood import wording
from knowngood.cam.regions import Mask, best_iou, pointing_hit, regions_above
from knowngood.data.health import check
from knowngood.data.images import read_mask
from knowngood.data.records import BAD, Records
from knowngood.errors import CalibrationError, ImageError
from knowngood.experiments.audit import audit
from knowngood.experiments.audit_page import audit_sections
from knowngood.experiments.classical import FIGURES, classical, read_pca
from knowngood.experiments.compare import DOCUMENT, compare
from knowngood.experiments.configs import CompareConfig, RemovalConfig, StudyConfig
from knowngood.recipe.bundle import Recipe
from knowngood.recipe.maps import HeatMap
from knowngood.registry import Registry
from knowngood.report.comparison import comparison_sections
from knowngood.report.experiments import conventional_section, pca_section
from knowngood.report.page import Section, exact_rate, render
from knowngood.report.pictures import thumbnail
from knowngood.report.run_summary import RunSummary
from knowngood.report.run_verdict import decisions, verdict
from knowngood.training.config import ClassicalConfig, TrainConfig
from knowngood.wording import counted
from knowngood.workflows.explain import PAGE, explain
from knowngood.workflows.maps import mapped, spread
from knowngood.workflows.runs import unseen
from knowngood.workflows.train import train

Found = dict[str, Any]


@dataclass(frozen=True)
class Material:
    """The input of every step.

    Attributes:
        records: The whole set, labelled or not, with the splits that it came with.
        folder: Of the study; a step keeps its own files below `folder / its name`.
        config: Resolved: every field that the preset decides is set.
        model: Network of the features: the one of `config`, or the best with weights on this machine.
        found: Findings of earlier steps, by name.
    """

    records: Records
    folder: Path
    config: StudyConfig
    model: str
    found: dict[str, Found]


class Step(Protocol):
    """One question."""

    title: str

    def skipped(self, material: Material) -> str | None:
        """Returns why this study skips the step, or None: "the preset quick compares no networks"."""
        ...

    def run(self, material: Material) -> Found:
        """Returns the findings as JSON types. Long work that was killed goes on."""
        ...

    def sections(self, material: Material, found: Found) -> list[Section]:
        """Returns sections of the report on the findings; links are relative to `material.folder`."""
        ...

    def advice(self, found: Found) -> list[str]:
        """Returns what the engineer should do next, in sentences, the most important first."""
        ...


STEPS: Registry[type[Step]] = Registry(
    "step of the study",
    "knowngood.steps",
    {
        "data": "knowngood.experiments.study_steps:DataStep",
        "inspector": "knowngood.experiments.study_steps:InspectorStep",
        "explanations": "knowngood.experiments.study_steps:ExplanationsStep",
        "models": "knowngood.experiments.study_steps:ModelsStep",
        "training-sets": "knowngood.experiments.study_steps:TrainingSetsStep",
        "conventional": "knowngood.experiments.study_steps:ConventionalStep",
        "outliers": "knowngood.experiments.study_steps:OutliersStep",
    },
)


class DataStep:
    """Runs `knowngood check`."""

    title = "The data"

    def skipped(self, material: Material) -> str | None:
        return None

    def run(self, material: Material) -> Found:
        return check(material.records).to_dict()

    def sections(self, material: Material, found: Found) -> list[Section]:
        counts = found["counts"]
        counted_classes = ", ".join(f"{number:,} {name}" for name, number in counts.items() if number)
        rows = [
            (f["severity"], f"{f['count']:,}", f["message"], ", ".join(f["examples"][:2])) for f in found["findings"]
        ]
        sentences = [f"{found['images']:,} photographs: {counted_classes}.", *found["notes"]]
        body = render(
            "sections/study_step.html",
            sentences=sentences,
            columns=("severity", "count", "what", "for instance"),
            rows=rows,
            plain=True,
            link=None,
        )
        return [Section("data", self.title, body)]

    def advice(self, found: Found) -> list[str]:
        counts, advice = found["counts"], []
        if 0 < counts["bad"] < 300:
            advice.append(
                f"Collect bad images: {counts['bad']} are too few to prove an escape rate of 1 %, which takes about "
                "300 in the calibration split alone."
            )
        errors = [f for f in found["findings"] if f["severity"] == "error"]
        return advice + [f"Correct the data before you trust a figure: {f['message']}" for f in errors]


INSPECTOR_FOLDER = "inspector"


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
            image_size=config.image_size or "auto",
            preset="best" if config.preset == "best" and not one_class else "quick",
            escape_budget=config.escape_budget,
            resplit=config.resplit,
            seed=config.seed,
            one_class=one_class,
        )
        done = train(material.records, material.folder / INSPECTOR_FOLDER, options)
        return {"metrics": done.metrics, "one_class": one_class}

    def sections(self, material: Material, found: Found) -> list[Section]:
        run = _summary(material, found)
        link = render(
            "sections/study_step.html",
            sentences=[],
            rows=[],
            link=(
                f"{INSPECTOR_FOLDER}/report.html",
                "The whole report of the inspector, with the images behind every cell",
            ),
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
        title=INSPECTOR_FOLDER,
        command="",
        created="",
        metrics=found["metrics"],
        history=[],
        versions={},
        seed=material.config.seed,
        config={},
        scores=unseen(pl.read_parquet(material.folder / INSPECTOR_FOLDER / "scores.parquet")),
    )


MODELS_FOLDER = "models"


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
            material.folder / MODELS_FOLDER,
            comparison(material, models=material.config.compared, classifiers=("svm", "lda")),
        )
        return {"best": done.document["best"], "verdict": done.document["verdict"]}

    def sections(self, material: Material, found: Found) -> list[Section]:
        return comparison_step(material, MODELS_FOLDER, self.title)

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
        "feature_model": material.model,
    }
    return CompareConfig.model_validate(shared | chosen)


def comparison_step(material: Material, folder: str, title: str) -> list[Section]:
    """Returns verdict and table of a finished comparison, with a link to its own page."""
    document = json.loads((material.folder / folder / DOCUMENT).read_text(encoding="utf-8"))
    return comparison_sections(document, folder, title, f"{folder}/compare.html")


TRAINING_SETS_FOLDER = "training-sets"


class TrainingSetsStep:
    """Runs `knowngood compare` over training sets and over balances, with the first of the compared networks."""

    title = "Training sets compared"

    def skipped(self, material: Material) -> str | None:
        if not material.config.compared:
            return f"the preset {material.config.preset} compares no training sets (--models names a network for it)"
        return None

    def run(self, material: Material) -> Found:
        names = ["as-is", "transforms", "transforms+without-outliers"]
        if material.config.generated is not None:
            names += ["generated", "transforms+generated"]
        chosen = comparison(
            material,
            models=material.config.compared[:1],
            training_sets=tuple(names),
            balance=("sampling", "weights", "none"),
        )
        done = compare(material.records, material.folder / TRAINING_SETS_FOLDER, chosen)
        return {"best": done.document["best"], "verdict": done.document["verdict"]}

    def sections(self, material: Material, found: Found) -> list[Section]:
        return comparison_step(material, TRAINING_SETS_FOLDER, self.title)

    def advice(self, found: Found) -> list[str]:
        return []


CONVENTIONAL_FOLDER = "conventional"


class ConventionalStep:
    """Runs `knowngood classical`."""

    title = "Conventional classifiers"

    def skipped(self, material: Material) -> str | None:
        return None if material.records.usable().counts()["bad"] else "there is no bad image"

    def run(self, material: Material) -> Found:
        config = material.config
        options = ClassicalConfig(
            model=material.model,
            weights=config.weights,
            image_size=config.image_size,
            seeds=config.seeds or 1,
            seed=config.seed,
            resplit=config.resplit,
        )
        done = classical(material.records, material.folder / CONVENTIONAL_FOLDER, options)
        return {"auroc": {row["model"]: row["test"]["auroc"] for row in done.rows if row["seed"] == config.seed}}

    def sections(self, material: Material, found: Found) -> list[Section]:

        folder = material.folder / CONVENTIONAL_FOLDER
        kept: dict[str, Any] = json.loads((folder / FIGURES).read_text(encoding="utf-8"))
        return [conventional_section(kept["rows"]), pca_section(read_pca(folder), material.config.seed)]

    def advice(self, found: Found) -> list[str]:
        return []


AUDIT_FOLDER = "audit"


class OutliersStep:
    """Runs `knowngood audit`, with the trial where the preset has time for it."""

    title = "Outliers and suspected labels"

    def skipped(self, material: Material) -> str | None:
        return None

    def run(self, material: Material) -> Found:
        config = material.config
        counts = material.records.usable().counts()
        trial = RemovalConfig(seeds=config.trial_seeds) if config.trial_seeds and counts["bad"] else None
        done = audit(
            material.records,
            material.folder / AUDIT_FOLDER,
            model=material.model,
            weights=config.weights,
            image_size=config.image_size,
            seed=config.seed,
            trial=trial,
        )
        return {"counts": done.counts, "trial": None if done.trial is None else done.trial.document["effects"]}

    def sections(self, material: Material, found: Found) -> list[Section]:
        folder = material.folder / AUDIT_FOLDER
        trial = folder / "removal.json"
        tried = json.loads(trial.read_text(encoding="utf-8")) if found["trial"] is not None else None
        return audit_sections(pl.read_parquet(folder / "audit.parquet"), tried, f"{AUDIT_FOLDER}/audit.html")

    def advice(self, found: Found) -> list[str]:
        counts = found["counts"]
        advice = []
        if counts["suspected labels"]:
            advice.append(
                f"Look at {counted(counts['suspected labels'], 'image')} whose label is suspected and write what you "
                f"see into {AUDIT_FOLDER}/verdicts.csv; `knowngood train --verdicts` applies it. Correcting labels has "
                "been worth more than a larger network."
            )
        if counts["outliers"]:
            advice.append(f"Look at {counted(counts['outliers'], 'outlier')}; remove none without having seen it.")
        return advice


EXPLANATIONS_FOLDER = "explanations"
_SHOWN, _MEASURED = 2, 25  # photographs of each type
_SIDE = 700  # pixels of a strip in the page
_FEW, _POOR = 10, 0.5  # below so many masks nothing is advised; below this pointing game something is


class ExplanationsStep:
    """Makes maps of test bads, and holds them against the masks where there are any."""

    title = "Where the inspector looked"

    def skipped(self, material: Material) -> str | None:
        if "inspector" not in material.found:
            return "there is no inspector to explain"
        return None if _bads(material).height else "no bad unit is in the test"

    def run(self, material: Material) -> Found:
        recipe = Recipe.load(material.folder / INSPECTOR_FOLDER)
        bads = _bads(material)
        kinds = sorted(bads["defect"].unique().to_list())
        of_kind = {kind: spread(bads.filter(pl.col("defect") == kind), _MEASURED) for kind in kinds}
        shown = {kind: spread(rows, _SHOWN)["path"].to_list() for kind, rows in of_kind.items()}
        done = explain(recipe, [p for paths in shown.values() for p in paths], material.folder / EXPLANATIONS_FOLDER)
        files = {one["image"]: one["files"] for one in done.document["images"]}
        return {
            "kinds": {
                kind: {
                    "test": bads.filter(pl.col("defect") == kind).height,
                    "files": [files[path] for path in shown[kind] if files.get(path)],
                    **_measured(recipe, rows),
                }
                for kind, rows in of_kind.items()
            }
        }

    def sections(self, material: Material, found: Found) -> list[Section]:
        kinds = found["kinds"]
        rows = [
            (kind, f"{one['test']:,}", *_cells(one["masks"], one["hits"], one["iou"])) for kind, one in kinds.items()
        ]
        measured = [one for one in kinds.values() if one["masks"]]
        sentences = ["Two bad test photographs of each type, with the map and the boxes of the inspector."]
        if measured:
            masks, hits = (sum(one[name] for one in measured) for name in ("masks", "hits"))
            sentences = [
                f"The hottest place of the map lay on the defect in {hits} of {masks} bad photographs with a mask, "
                f"{exact_rate(hits, masks)}."
            ]
        table = render(
            "sections/study_step.html",
            sentences=sentences,
            columns=("defect", "in the test", "with a mask", "hottest place on it", "IoU of the largest box, median"),
            rows=rows if measured else [],
            plain=False,
            link=(f"{EXPLANATIONS_FOLDER}/{PAGE}", "All of these, larger, with their boxes as a table"),
        )
        strips = [
            (f"{EXPLANATIONS_FOLDER}/strips/{name}.png", small.uri, name, "" if place else kind)
            for kind, one in kinds.items()
            for place, name in enumerate(one["files"])
            if (small := thumbnail(str(material.folder / EXPLANATIONS_FOLDER / "strips" / f"{name}.png"), _SIDE)).uri
        ]
        lead = "Escaped units have a map too: it shows what spoke most for bad, though not enough."
        return [Section("explanations", self.title, table + render("sections/strips.html", strips=strips), lead)]

    def advice(self, found: Found) -> list[str]:
        poor = [
            kind for kind, one in found["kinds"].items() if one["masks"] >= _FEW and one["hits"] / one["masks"] < _POOR
        ]
        if not poor:
            return []
        return [
            f"Do not take the boxes on {', '.join(poor)} for the defect: the map is hottest beside it more often than "
            "on it. Look whether something else in these photographs gives them away."
        ]


def _bads(material: Material) -> pl.DataFrame:
    """Returns the scored bad rows of the test, with their masks."""
    folder = material.folder / INSPECTOR_FOLDER
    masks = pl.read_parquet(folder / "records.parquet").select("path", "mask").unique("path")
    table = pl.read_parquet(folder / "scores.parquet").with_columns(pl.col("defect").fill_null("bad"))
    wanted = (pl.col("split") == "test") & (pl.col("label") == BAD) & pl.col("score").is_not_null()
    return table.filter(wanted).join(masks, on="path", how="left", maintain_order="left")


def _measured(recipe: Recipe, rows: pl.DataFrame) -> dict[str, Any]:
    """Returns how the maps of rows with a mask agree with it."""
    kept, maps = mapped(recipe, rows.filter(pl.col("mask").is_not_null()))
    pairs = [
        (one, mask) for one, path in zip(maps, kept["mask"], strict=True) if (mask := _mask(path, one)) is not None
    ]
    overlaps = [best_iou(one.regions[0].box if one.regions else None, _boxes(mask)) for one, mask in pairs]
    return {
        "masks": len(pairs),
        "hits": sum(bool(one.values.max() > 0) and pointing_hit(one.values, mask) for one, mask in pairs),
        "iou": statistics.median(overlaps) if overlaps else None,
    }


def _mask(path: str, one: HeatMap) -> Mask | None:
    """Reads a mask; None where it cannot be read, is of another size than its photograph, or is empty."""
    height, width = one.values.shape
    try:
        mask = read_mask(path, (height, width))
    except ImageError:
        return None
    return mask if mask.any() else None


def _boxes(mask: Mask) -> Sequence[tuple[int, int, int, int]]:
    return [region.box for region in regions_above(mask.astype(np.float32), 0.5)]


def _cells(masks: int, hits: int, iou: float | None) -> tuple[str, str, str]:
    if not masks:
        return "0", wording.NONE, wording.NONE
    return f"{masks:,}", exact_rate(hits, masks), f"{iou:.2f}"

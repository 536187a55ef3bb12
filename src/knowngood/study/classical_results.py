"""What the conventional classifiers leave behind: tables, figures, one page."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import polars as pl

from knowngood.data.records import Records
from knowngood.files import write_json, write_text
from knowngood.models.classical.config import ClassicalConfig
from knowngood.models.features import Features
from knowngood.report.page import page
from knowngood.report.sections.conventional import conventional_section
from knowngood.report.sections.pca import PcaSummary, pca_section
from knowngood.report.sections.provenance import Origin, origin_section
from knowngood.study.auditing import feature_facts
from knowngood.study.facts import versions
from knowngood.tables import write_table

FIGURES, SCORES, COMPONENTS, PAGE = "classical.json", "classical_scores.parquet", "pca.parquet", "classical.html"


def write_results(
    folder: Path, rows: list[dict[str, Any]], scores: pl.DataFrame, pca: PcaSummary, facts: dict[str, Any]
) -> None:
    """Writes the tables, the page, and last the figures: their presence says that the rest is whole.

    Args:
        folder: Of the results.
        rows: As in `Classical.rows`.
        scores: As in `Classical.scores`.
        pca: As in `Classical.pca`.
        facts: Of `facts_of`.
    """
    write_table(scores, folder / SCORES)
    write_table(pca.points, folder / COMPONENTS)
    data = facts["data"]
    origin = Origin(
        facts["command"],
        facts["config"]["seed"],
        data,
        facts["versions"],
        facts["config"],
        {"total": facts["seconds"]},
    )
    sections = [conventional_section(rows), pca_section(pca, origin.seed), origin_section(origin)]
    subtitle = f"{facts['created']} · {data['images']:,} images of {data['source']} · {pca.features}"
    write_text(folder / PAGE, page("Would something simple do as well?", subtitle, sections))
    found = {
        "explained": list(pca.explained),
        "two_components": _line(pca.two),
        "all_features": _line(pca.whole),
        "larger_class": pca.larger,
        "fitted_on": pca.fitted_on,
        "line": pca.line,
        "features": pca.features,
    }
    write_json(folder / FIGURES, {"rows": rows, "pca": found, **facts})


def read_pca(folder: Path) -> PcaSummary:
    """Returns what the PCA section shows, from the files that `write_results` left."""
    kept = json.loads((folder / FIGURES).read_text(encoding="utf-8"))["pca"]

    def pair(found: dict[str, float] | None) -> tuple[float, float] | None:
        return None if found is None else (found["auroc"], found["accuracy"])

    return PcaSummary(
        points=pl.read_parquet(folder / COMPONENTS),
        explained=kept["explained"],
        line=None if kept["line"] is None else tuple(kept["line"]),
        two=pair(kept["two_components"]),
        whole=pair(kept["all_features"]),
        larger=kept["larger_class"],
        fitted_on=kept["fitted_on"],
        features=kept["features"],
    )


def facts_of(records: Records, deep: Features, config: ClassicalConfig, command: str, seconds: float) -> dict[str, Any]:
    """Returns what decided the figures: data, features, configuration, versions, command; JSON types."""
    return {
        "features": feature_facts(deep),
        "data": {
            "source": records.source,
            "root": str(records.root),
            "licence": records.licence,
            "notes": list(records.notes),
            "images": len(records),
        },
        "config": config.model_dump(mode="json"),
        "command": command,
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "versions": versions(),
        "seconds": round(seconds, 1),
    }


def _line(line: tuple[float, float] | None) -> dict[str, float] | None:
    return None if line is None else {"auroc": line[0], "accuracy": line[1]}

"""Which images of a set do not belong, or are labelled wrongly: tables and pictures for a person to judge."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from knowngood.data.duplicates import near_clusters
from knowngood.data.loading import load
from knowngood.data.records import Records
from knowngood.data.splits import kfold_up_to
from knowngood.errors import DataError
from knowngood.files import write_json, write_text
from knowngood.models.features import Features, features
from knowngood.outliers.audit import audit_table
from knowngood.recipe.predicting import write_table
from knowngood.report.page import Section, page, render
from knowngood.report.sections.pictures import pictures

FOLDS = 5
_SHOWN = 48
_FEW = 1000  # below it a one-class machine with nu = 0.01 lets a lone outlier support itself


@dataclass(frozen=True)
class Audit:
    """A finished audit.

    Attributes:
        folder: With audit.parquet, verdicts.csv, audit.json and audit.html.
        table: A row an image, see `knowngood.outliers.audit.audit_table`.
        counts: How many images each list holds.
    """

    folder: Path
    table: pl.DataFrame
    counts: dict[str, int]


def audit(
    data: str | Path | Records,
    out: str | Path,
    *,
    backbone: str = "resnet50",
    weights: Path | None = None,
    source: str | None = None,
    detectors: Sequence[str] = (),
    one_sided: bool = False,
    seed: int = 0,
) -> Audit:
    """Looks for images that do not belong to a set and for labels that are doubtful; removes and changes nothing.

    Outliers are those that a one-class machine and an isolation forest agree on; suspects are images whose label is
    less likely than the other one by a machine that had not seen them. Verdicts are a person's: `verdicts.csv` has a
    row for every doubt, and `train --verdicts` takes it when it is filled in.

    Args:
        data: Folder, manifest, the word of a source, or records.
        out: Folder for the results; an older audit in it is replaced.
        backbone: Pretrained network whose features are used.
        weights: File or folder with its weights.
        source: Data source, when it should not be guessed.
        detectors: Registered detectors to ask besides the two.
        one_sided: Report doubts about images labelled bad apart: usually the mistakes are bad units among the good.
        seed: Of folds and of everything drawn.

    Raises:
        DataError: There are too few images.
        WeightsError: The network's weights are not to be had.
    """
    folder = Path(out)
    records = (data if isinstance(data, Records) else load(data, source)).usable()
    if len(records) < 2 * FOLDS:
        raise DataError(f"There are {len(records)} readable images.", expected=f"at least {2 * FOLDS} to audit")
    deep = features(records, backbone, weights=weights)
    sound = np.isfinite(deep.rows).all(axis=1)
    judged = records.with_frame(records.frame.filter(pl.Series(sound)))
    clusters = near_clusters(judged)
    table = audit_table(
        judged.frame,
        deep.rows[sound],
        _folds(judged, seed),
        clusters,
        seed,
        detectors=detectors,
        one_sided=one_sided,
        rule="likelier",  # on planted noise confident learning alone misses a third of the wrong labels
    )
    table = table.hstack(judged.frame.select("path", "defect", "split", "lot", "sha256"))
    counts = {name: mask.height for name, _, mask in _lists(table)}
    write_table(table, folder / "audit.parquet")
    write_table(_to_fill_in(table, folder / "verdicts.csv"), folder / "verdicts.csv")
    write_text(folder / "audit.html", _page(records, deep, table))
    write_json(folder / "audit.json", _facts(records, deep, counts, seed))
    return Audit(folder, table, counts)


def _folds(records: Records, seed: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Returns folds by lot or near-duplicate; a set with one class has no labels to doubt and needs none."""
    counts = records.counts()
    if not (counts["good"] and counts["bad"]):
        return np.full(len(records), -1, np.int64)
    return kfold_up_to(records, FOLDS, seed)


def _lists(table: pl.DataFrame) -> list[tuple[str, str, pl.DataFrame]]:
    """Returns the lists of doubts: name, what it means, rows with the greatest doubt first."""
    both = table["ocsvm_score"].rank() + table["iforest_score"].rank()
    ranked = table.with_columns(_both=both)
    lists = [
        (
            "outliers",
            "do not belong to the set: both detectors say so",
            ranked.filter(pl.col("outlier")).sort("_both", descending=True),
        ),
        (
            "suspected labels",
            "the other label is likelier",
            ranked.filter(pl.col("suspect").fill_null(False)).sort("suspect_score", descending=True),
        ),
        (
            "rare defects",
            "bad, unlike other bads and unlike goods: keep them, find more of them",
            ranked.filter(pl.col("rare").fill_null(False)).sort("good_distance", descending=True, nulls_last=True),
        ),
        (
            "opposing copies",
            "near-duplicates that carry different labels: one of them is wrong",
            ranked.filter(pl.col("opposing").is_not_null()).sort("duplicate_of", "image"),
        ),
    ]
    return [(name, said, rows.drop("_both")) for name, said, rows in lists]


def _to_fill_in(table: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Returns a row for every doubt, with the verdicts that a person gave before."""
    parts = [
        rows.select(
            "image",
            verdict=pl.lit(None, pl.String),
            defect=pl.lit(None, pl.String),
            why=pl.lit(name),
            label=pl.when(pl.col("label") == 1).then(pl.lit("bad")).otherwise(pl.lit("good")),
            score=pl.col("out_of_sample_score").cast(pl.Float64),
        )
        for name, _, rows in _lists(table)
    ]
    doubts = (
        pl.concat(parts)
        .group_by("image", maintain_order=True)
        .agg(pl.col("verdict", "defect", "label", "score").first(), pl.col("why").str.join(", "))
    )
    doubts = doubts.select("image", "verdict", "defect", "why", "label", "score")
    if path.is_file():
        from knowngood.data.verdicts import read_verdicts

        before = read_verdicts(path).rename({"verdict": "said", "defect": "said_defect"})
        doubts = doubts.join(before, on="image", how="full", coalesce=True).with_columns(
            verdict=pl.coalesce("verdict", "said"), defect=pl.coalesce("defect", "said_defect")
        )
    return doubts.select("image", "verdict", "defect", "why", "label", "score")


def _page(records: Records, deep: Features, table: pl.DataFrame) -> str:
    sections = []
    for name, said, rows in _lists(table):
        shown = rows.head(_SHOWN).rename({"out_of_sample_score": "score"})
        body = render("sections/mistakes.html", groups=[("", "", rows.height, pictures(shown))])
        title = f"{name.capitalize()}: {rows.height}"
        sections.append(Section(name.replace(" ", "-"), title, body, f"{said.capitalize()}. Most doubtful first."))
    created = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    subtitle = f"{created} · {table.height:,} images of {records.source} · features of {deep.backbone}"
    return page("Audit: what to look at before training", subtitle, sections)


def _facts(records: Records, deep: Features, counts: dict[str, int], seed: int) -> dict[str, Any]:
    notes = []
    if len(records) < _FEW:
        notes.append(
            f"With {len(records)} images the one-class machine is nearly blind to a lone outlier; look at its scores, "
            "not only at its verdicts."
        )
    return {
        "data": {"source": records.source, "root": str(records.root), "images": len(records)},
        "features": feature_facts(deep),
        "counts": counts,
        "seed": seed,
        "notes": notes,
    }


def feature_facts(deep: Features) -> dict[str, Any]:
    """Returns what made a table of features, as JSON types."""
    return {
        "backbone": deep.backbone,
        "weights": deep.origin,
        "size": list(deep.size),
        "computed": deep.computed,
        "unreadable": len(deep.failed),
    }

"""`knowngood synthesize judge`: generated bad images against real ones that their generator did not see."""

from __future__ import annotations

import datetime
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from knowngood import wording
from knowngood.data.loading import loaded
from knowngood.data.records import Records
from knowngood.errors import DataError
from knowngood.experiments.configs import JudgeConfig
from knowngood.experiments.synthesis_likeness import (
    Looked,
    Sets,
    blurred,
    changed,
    joined,
    look,
    sentences,
    sets_of,
    sized,
)
from knowngood.experiments.synthesis_trial import classifier_trial
from knowngood.experiments.training_sets import read_generated
from knowngood.files import check_writable, write_json, write_text
from knowngood.models.backbones import BACKBONES
from knowngood.models.features import Features, features
from knowngood.parameters import configured
from knowngood.report.experiments import classifier_section
from knowngood.report.page import Picture, Section, page, render
from knowngood.report.pictures import row_pictures, thumbnail
from knowngood.synthesis.writing import training_images_of
from knowngood.tables import write_table
from knowngood.workflows.generate import divided_by
from knowngood.workflows.runs import command_for, feature_facts, shown, versions

_SHOWN, _PAIRS = 48, 24
_NUMBER = "The number is the distance to the nearest bad that the generator knew, in those of new real bads (median 1)."


def judge_page(document: dict[str, Any], table: pl.DataFrame, unseen: Records) -> str:
    """Returns the whole page.

    Args:
        document: As in judge.json.
        table: A row a made image.
        unseen: Real bads to show beside them.
    """
    scale = document["memory"]["real_distance"] or 1.0
    shown = table.with_columns(score=pl.col("nearest_distance") / scale)
    sections = [_found(document), _likeness(document), _grid(shown, unseen), _copies(shown), _broken(shown)]
    if "classifier" in document:
        sections.insert(1, classifier_section(document["classifier"]))
    sections.append(_again(document))
    count = wording.counted(document["images"]["made"], "made image")
    subtitle = f"{document['created']} · {count} · features of {document['features']['model']}"
    return page("Made images, judged", subtitle, sections)


def _found(document: dict[str, Any]) -> Section:
    body = render("sections/synthesis_found.html", sentences=document["sentences"], notes=document["notes"])
    return Section("found", "What was found", body)


def _likeness(document: dict[str, Any]) -> Section:
    rows = []
    for row in document["likeness"]:
        low, high = row["kid"]["interval"]
        both = [wording.NONE if row[name] is None else wording.percent(row[name]) for name in ("precision", "recall")]
        value, interval = f"{row['kid']['value']:.4g}", f"{low:.4g} to {high:.4g}"
        rows.append((row["what"], row["kid"]["images"][0], value, interval, *both))
    columns = ("compared with unseen real bads", "images", "KID", "95 % interval", "precision", "recall")
    body = render("sections/study_step.html", sentences=[], columns=columns, rows=rows, plain=True, link=None)
    lead = (
        "KID is zero for images that cannot be told from real ones. Precision: how many lie among the real bads; "
        "recall: how many real bads lie among them. Real bads that the generator knew show what is possible."
    )
    return Section("likeness", "Likeness", body, lead)


def _grid(shown: pl.DataFrame, unseen: Records) -> Section:
    step = max(1, shown.height // _SHOWN)
    real = unseen.frame.head(_SHOWN // 2).with_columns(score=pl.lit(None, pl.Float64))
    groups = [
        ("Made", "over the whole set", shown.height, row_pictures(shown.gather_every(step).head(_SHOWN))),
        ("Real", "bads that the generator did not see", len(unseen), row_pictures(real)),
    ]
    return Section("pictures", "Look at them", render("sections/mistakes.html", groups=groups), _NUMBER)


def _copies(shown: pl.DataFrame) -> Section:
    copied = shown.filter(pl.col("drop").str.starts_with("copy").fill_null(False)).sort("nearest_distance")
    nearest = shown.filter(pl.col("drop").is_null()).sort("nearest_distance")
    groups = [
        ("Copies", "each beside its original, to be dropped", copied.height, _pairs(copied)),
        ("The nearest that are no copies", "each beside the bad it is nearest to", nearest.height, _pairs(nearest, 8)),
    ]
    repeats = shown.filter(pl.col("drop").str.starts_with("repeat").fill_null(False))
    if repeats.height:
        groups.append(("Repeats", "of an earlier made image", repeats.height, row_pictures(repeats.head(_PAIRS))))
    body = render("sections/mistakes.html", groups=groups)
    return Section("copies", "Learned by heart?", body, _NUMBER)


def _pairs(rows: pl.DataFrame, most: int = _PAIRS) -> Sequence[Picture]:
    found: list[Picture] = []
    for row in rows.head(most).iter_rows(named=True):
        for name, path, tag in ((row["image"], row["path"], "made"), (row["nearest"], row["nearest_path"], "real")):
            small = thumbnail(path)
            score = wording.score(row["score"]) if tag == "made" else ""
            found.append(Picture(small.uri, name, score, tag, tag == "made", small.trouble))
    return found


def _broken(shown: pl.DataFrame) -> Section:
    rows = shown.filter(pl.col("drop").str.starts_with("broken").fill_null(False))
    rows = rows.sort("real_distance", descending=True)
    groups = [("Broken", "the farthest from all real bads first", rows.height, row_pictures(rows.head(_SHOWN)))]
    return Section("broken", "Broken, or of a kind that is not real", render("sections/mistakes.html", groups=groups))


def _again(document: dict[str, Any]) -> Section:
    config = json.dumps(document["config"], indent=2)
    body = render("sections/synthesis_again.html", document=document, config=config)
    return Section("again", "How to run it again", body)


@dataclass(frozen=True)
class Judged:
    """Made images that were judged.

    Attributes:
        folder: With judge.json, judge.parquet, drop.csv and judge.html.
        table: A row a made image: the nearest image that its generator knew, distances, and why to drop it, or null.
        document: What judge.json holds: `sentences`, `likeness`, `memory`, `variety`, `broken`, `drop`, and
            `classifier` where it was asked.
    """

    folder: Path
    table: pl.DataFrame
    document: dict[str, Any]


def judge(  # noqa: PLR0913  (a keyword a field of JudgeConfig)
    generated: str | Path,
    data: str | Path | Records,
    out: str | Path,
    config: JudgeConfig | None = None,
    *,
    source: str | None = None,
    good: Sequence[str] = (),
    bad: Sequence[str] = (),
    classifier: bool = False,
    bad_counts: str | Sequence[str] = ("30", "100", "300", "all"),
    seeds: int = 3,
    preset: Literal["quick", "standard"] = "quick",
    classifier_model: str | None = None,
    epochs: int | None = None,
    count: int | None = None,
    also: str | Sequence[str | Path] = (),
    augment: str = "none",
    test: float = 0.25,
    val: float = 0.1,
    calibration: float = 0.2,
    resplit: bool = False,
    unit_from: str | None = None,
    seed: int = 0,
    model: str = "resnet50",
    weights: str | Path | None = None,
    image_size: int | None = None,
    most: int = 3000,
    native: bool = False,
) -> Judged:
    """Compares generated bad images with real ones that their generator did not see; test images are not used.

    Args:
        generated: Folder or manifest of generated images.
        data: The photographs, with the splits that they were made with: folder, manifest, word of a source, records.
        out: Folder for the results; an older judgement in it is replaced.
        config: What to do; keywords below, its fields, beat it where they differ from their defaults.
        source: Data source of the photographs, when it should not be guessed.
        good: Names of folders, or values of a label column, that mean good.
        bad: The same for bad.

    Raises:
        DataError: There are no made bad images, or too few real bads that their generator did not see.
        WeightsError: The weights of the network are not available.
    """
    config, folder = configured(JudgeConfig, config, locals()), Path(out)
    for name in filter(None, (config.model, config.classifier_model)):
        BACKBONES.get(name)  # an unknown name raises before the images are read
    check_writable(folder, folder=True)  # before anything is computed
    records = loaded(data, source, good=good, bad=bad, unit_from=config.unit_from, out=out)
    divided = divided_by(records, config)
    place = Path(generated)
    found = read_generated(place)
    made = Records(found.drop("parent"), "manifest", place.absolute())
    sets = sets_of(made, divided, training_images_of(place), config.most, config.seed)
    try:
        parts, notes = _at_one_size(sets, config, folder / "work")
        deep, parts, rows = _features(parts, config)
        looked = look(parts, rows, config.seed)
    finally:
        shutil.rmtree(folder / "work", ignore_errors=True)
    table = _with_own_paths(looked, sets)
    given = (generated, shown(data))
    document = {
        "command": command_for(given, folder, config, source, "synthesize judge", good=good, bad=bad),
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "config": config.model_dump(mode="json"),
        "generated": str(generated),
        "data": {"source": divided.source, "root": str(divided.root), "licence": divided.licence},
        "features": feature_facts(deep),
        "notes": [*sets.notes, *notes],
        "versions": versions(),
        **looked.document,
    }
    if config.classifier:
        document["classifier"] = classifier_trial(place, divided, folder, config)
    document["sentences"] = sentences(document)
    return _written(folder, document, table, sets.unseen)


def _written(folder: Path, document: dict[str, Any], table: pl.DataFrame, unseen: Records) -> Judged:
    write_table(table, folder / "judge.parquet")
    write_table(table.filter(pl.col("drop").is_not_null()).select("image", "drop"), folder / "drop.csv")
    write_text(folder / "judge.html", judge_page(document, table, unseen))
    write_json(folder / "judge.json", document)
    shutil.rmtree(folder / "trial.work", ignore_errors=True)
    return Judged(folder, table, document)


def _at_one_size(sets: Sets, config: JudgeConfig, work: Path) -> tuple[dict[str, Records], list[str]]:
    """Brings real images to the size of the made ones, and makes the blurred ones."""
    sizes = sets.made.frame.select("height", "width").unique().rows()
    real = {"known": sets.known, "unseen": sets.unseen, "good": sets.good}
    others = {size for one in real.values() for size in one.frame.select("height", "width").unique().rows()}
    notes = []
    if len(sizes) == 1 and others - set(sizes) and not config.native:
        height, width = sizes[0]
        real = {name: changed(one, sized(height, width), work / name) for name, one in real.items()}
        notes.append(f"Real images were brought to {width} x {height}, the size of the made ones (--native does not).")
    return {"made": sets.made, **real, "blurred": changed(real["known"], blurred, work / "blurred")}, notes


def _features(
    parts: dict[str, Records], config: JudgeConfig
) -> tuple[Features, dict[str, Records], dict[str, np.ndarray[Any, np.dtype[np.float32]]]]:
    """Returns the features of every set from one pass, and the sets without what could not be decoded."""
    deep = features(joined(parts), config.model, weights=config.weights, image_size=config.image_size)
    rows, kept, start = {}, {}, 0
    for name, one in parts.items():
        own = deep.rows[start : start + len(one)]
        sound = np.isfinite(own).all(axis=1)
        rows[name], kept[name] = own[sound], one.with_frame(one.frame.filter(pl.Series(sound)))
        start += len(one)
    if not len(rows["made"]):
        raise DataError("None of the made images can be decoded.")
    return deep, kept, rows


def _with_own_paths(looked: Looked, sets: Sets) -> pl.DataFrame:
    """Names the photographs themselves, not the smaller pictures that were compared."""
    paths = sets.known.frame.select(nearest="image", own="path")
    both = looked.table.join(paths, on="nearest", how="left", maintain_order="left")
    return both.with_columns(nearest_path="own").drop("own")

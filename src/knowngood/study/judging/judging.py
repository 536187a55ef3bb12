"""`knowngood synthesize judge`: are made images like real ones, and are they new? Tables, a page, what to drop."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from knowngood.data.loading import loaded
from knowngood.data.records import Records
from knowngood.errors import DataError
from knowngood.files import check_writable, write_json, write_text
from knowngood.models.backbones import BACKBONES
from knowngood.models.features import Features, features
from knowngood.parameters import checked_parameters
from knowngood.study.auditing import feature_facts
from knowngood.study.comparison.variants.generated import read_generated
from knowngood.study.facts import command_for, shown, versions
from knowngood.study.generating import divided_by
from knowngood.study.judging.config import JudgeConfig
from knowngood.study.judging.figures import Looked, look
from knowngood.study.judging.page import judge_page
from knowngood.study.judging.sets import Sets, blurred, changed, joined, sets_of, sized
from knowngood.study.judging.trial import classifier_trial
from knowngood.study.judging.wording import sentences
from knowngood.synthesis.writing import taught_in
from knowngood.tables import write_table


@dataclass(frozen=True)
class Judged:
    """Made images that were judged.

    Attributes:
        folder: With judge.json, judge.parquet, drop.csv and judge.html.
        table: A row a made image: the nearest image that its maker knew, distances, and why to drop it, or null.
        document: What judge.json holds: `sentences`, `likeness`, `memory`, `variety`, `broken`, `drop`, and
            `classifier` where it was asked.
    """

    folder: Path
    table: pl.DataFrame
    document: dict[str, Any]


def judge(
    generated: str | Path,
    data: str | Path | Records,
    out: str | Path,
    config: JudgeConfig | None = None,
    *,
    source: str | None = None,
    good: Sequence[str] = (),
    bad: Sequence[str] = (),
    **options: Any,
) -> Judged:
    """Judges made bad images against real ones that their maker did not see; test images are not looked at.

    Args:
        generated: Folder or manifest of made images.
        data: The photographs, with the splits that they were made with: folder, manifest, word of a source, records.
        out: Folder for the results; an older judgement in it is replaced.
        config: How; or give its fields as `options`.
        source: Data source of the photographs, when it should not be guessed.
        good: Names of folders, or values of a label column, that mean good.
        bad: The same for bad.
        **options: Fields of `JudgeConfig`.

    Raises:
        DataError: There are no made bad images, or too few real bads that their maker did not see.
        WeightsError: The network's weights are not to be had.
    """
    config, folder = checked_parameters(JudgeConfig, (config or JudgeConfig()).model_dump() | options), Path(out)
    for name in filter(None, (config.backbone, config.model)):
        BACKBONES.get(name)  # a name that is not known is told before the images are read
    check_writable(folder, folder=True)  # before anything is computed
    records = loaded(data, source, good=good, bad=bad, unit_from=config.unit_from, out=out)
    divided = divided_by(records, config)
    place = Path(generated)
    found = read_generated(place)
    made = Records(found.drop("parent"), "manifest", place.absolute())
    sets = sets_of(made, divided, taught_in(place), config.most, config.seed)
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
    deep = features(joined(parts), config.backbone, weights=config.weights, image_size=config.image_size)
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

"""Judged images as a page: what was found, the figures beside their reference points, pictures beside originals."""

from __future__ import annotations

import datetime
import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from knowngood import wording
from knowngood.data.loading import loaded
from knowngood.data.records import BAD, Records
from knowngood.data.units import groups_of
from knowngood.errors import DataError, KnownGoodError
from knowngood.experiments.audit import feature_facts
from knowngood.experiments.configs import ALL, JudgeConfig
from knowngood.experiments.synthesis_arms import (
    Arm,
    GivenSet,
    Sets,
    arms_of,
    blurred,
    changed,
    chosen_for,
    given_set,
    groups_with,
    joined,
    sets_of,
    sized,
    thinned,
)
from knowngood.experiments.synthesis_figures import TPR, Looked, helped, look, sentences
from knowngood.experiments.training_sets import read_generated
from knowngood.files import check_writable, sha256_of, write_json, write_text
from knowngood.metrics.figures import auroc, fpr_at_tpr
from knowngood.models.backbones import BACKBONES
from knowngood.models.features import Features, features
from knowngood.parameters import configured
from knowngood.progress import reporter
from knowngood.report.page import Picture, Section, page, render
from knowngood.report.pictures import thumbnail
from knowngood.report.sections_experiments import classifier_section
from knowngood.report.sections_inspector import pictures
from knowngood.synthesis.writing import taught_in
from knowngood.tables import write_table
from knowngood.training.config import TrainConfig
from knowngood.training.fit import fit_inspector
from knowngood.training.svm_head import fit_svm_on
from knowngood.wording import counted
from knowngood.workflows.generate import divided_by
from knowngood.workflows.runs import command_for, fingerprint_of, shown, versions

_SHOWN, _PAIRS = 48, 24
_NUMBER = "The number is the distance to the nearest bad that the maker knew, in those of new real bads (median 1)."


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
        "KID is nought for images that cannot be told from real ones. Precision: how many lie among the real bads; "
        "recall: how many real bads lie among them. Real bads that the maker knew show what is possible."
    )
    return Section("likeness", "Likeness", body, lead)


def _grid(shown: pl.DataFrame, unseen: Records) -> Section:
    step = max(1, shown.height // _SHOWN)
    real = unseen.frame.head(_SHOWN // 2).with_columns(score=pl.lit(None, pl.Float64))
    groups = [
        ("Made", "over the whole set", shown.height, pictures(shown.gather_every(step).head(_SHOWN))),
        ("Real", "bads that the maker did not see", len(unseen), pictures(real)),
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
        groups.append(("Repeats", "of an earlier made image", repeats.height, pictures(repeats.head(_PAIRS))))
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
    groups = [("Broken", "the farthest from all real bads first", rows.height, pictures(rows.head(_SHOWN)))]
    return Section("broken", "Broken, or of a kind that is not real", render("sections/mistakes.html", groups=groups))


def _again(document: dict[str, Any]) -> Section:
    config = json.dumps(document["config"], indent=2)
    body = render("sections/synthesis_again.html", document=document, config=config)
    return Section("again", "How to run it again", body)


Floats: TypeAlias = npt.NDArray[np.float64]
_MOST = 1000  # images that an arm adds when nobody says how many
_LEAST = 2  # of each class in the test: DeLong's test needs them


def classifier_trial(generated: Path, divided: Records, folder: Path, config: JudgeConfig) -> dict[str, Any]:
    """Trains with and without made images and says what that did, paired over seeds.

    Real bads are thinned in the training split only; every arm of a regime and seed has the same ones. A trial that
    was killed goes on with the training that it was at.

    Args:
        generated: The made set that is judged.
        divided: Photographs with splits.
        folder: For what is kept between calls, `trial.work`.
        config: Of the judgement.

    Returns:
        JSON-ready: `table` (a row a regime, seed and arm), `arms`, `effects` with sentences, `verdict`, `notes`.

    Raises:
        DataError: The test has too few images, or a set was made by a maker that learned from test images.
        WeightsError: The network's weights are not to be had.
    """
    divided = divided.labelled()
    counts = divided.of_split("test").counts()
    if min(counts["good"], counts["bad"]) < _LEAST:
        raise DataError(
            f"The test has {counts['good']} good and {counts['bad']} bad images.", expected=f"at least {_LEAST} of each"
        )
    given = [given_set(place) for place in (generated, *config.also)]
    trial = _Trial(divided, given, folder / "trial.work", config)
    rows: list[dict[str, Any]] = []
    for regime in _regimes(divided, config):
        for seed in range(config.seed, config.seed + config.seeds):
            reporter().say(f"classifier with {regime} real bads, seed {seed}")
            rows += trial.rows(regime, seed)
    shutil.rmtree(folder / "trial.work" / "sets", ignore_errors=True)
    done = helped(rows, trial.labels, given[0].maker)
    return done | {
        "counts": counts,
        "seeds": config.seeds,
        "preset": config.preset,
        "model": config.classifier_model or config.model,
        "added": trial.count,
        "notes": [*trial.notes, *done["notes"]],
        "table": [{name: value for name, value in row.items() if name != "margins"} for row in rows],
    }


def _regimes(divided: Records, config: JudgeConfig) -> list[str]:
    there = divided.of_split("train").counts()["bad"]
    wanted = [one for one in config.bad_counts if one == ALL or int(one) < there]
    return wanted or [ALL]  # more than there are is all


class _Trial:
    """What all regimes, seeds and arms share."""

    def __init__(self, divided: Records, given: Sequence[GivenSet], work: Path, config: JudgeConfig) -> None:
        self.divided, self.given, self.work, self.config = divided, given, work, config
        names = divided.frame["image"].to_list()
        self.groups = dict(zip(names, groups_of(divided).tolist(), strict=True))
        self.count = config.count or min(_MOST, *(one.bads for one in given))
        tests = divided.of_split("test").frame.sort("image")
        self.tests = tests["image"].to_list()
        self.labels = tests["label"].to_numpy().astype(np.uint8)
        self.training = TrainConfig(
            model=config.classifier_model or config.model,
            preset=config.preset,
            epochs=config.epochs if config.preset == "standard" else None,
            image_size=config.image_size,
            weights=config.weights,
            augment=config.augment,
        )
        self.notes: list[str] = []
        self._facts = [
            fingerprint_of(divided),
            self.training.model_dump(mode="json"),
            self.count,
            [sha256_of(file) for one in given for file in _files_of(one.place)],
        ]

    def rows(self, regime: str, seed: int) -> list[dict[str, Any]]:
        """Returns the figures of every arm of one regime and seed; those that a killed call had found are read."""
        chosen = chosen_for(regime, self.given)
        for name, one in chosen.items():
            self._say_if_it_knew_more(regime, name, one)
        first = frozenset().union(*(one.taught or frozenset() for one in chosen.values()))
        fine = self.config.preset == "standard"
        records = thinned(self.divided, regime, first, seed, whole_val=fine)
        key = hashlib.sha256(json.dumps([self._facts, regime, seed]).encode()).hexdigest()[:16]
        kept = self.work / f"{key}.json"
        if kept.is_file():
            found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
            self.notes += [said for said in found["notes"] if said not in self.notes]
            return list(found["rows"])
        arms, left_out = arms_of(records, chosen, self.count, seed, self.work / "sets")
        notes = [f"{name} is left out with {regime} bads: {why}" for name, why in left_out.items()]
        rows = [row for arm in arms if (row := self._row(regime, seed, arm, notes)) is not None]
        self.notes += [said for said in notes if said not in self.notes]
        write_json(kept, {"rows": rows, "notes": notes})
        return rows

    def _say_if_it_knew_more(self, regime: str, name: str, one: GivenSet) -> None:
        if regime == ALL or one.knew() <= int(regime):
            return
        knew = "an unknown number of bad images" if one.taught is None else counted(one.knew(), "bad image")
        said = f"{name} learned from {knew}, more than the {regime} of that row: an upper bound of what it can do."
        self.notes += [said] if said not in self.notes else []

    def _row(self, regime: str, seed: int, arm: Arm, notes: list[str]) -> dict[str, Any] | None:
        try:
            margins = self._margins(arm, seed)
        except KnownGoodError as refused:
            notes.append(f"{arm.name} with {regime} bads: no training was possible ({refused.what})")
            return None
        training = arm.records.of_split("train").frame
        return {
            "regime": regime,
            "seed": seed,
            "arm": arm.name,
            "bads": int(((training["label"] == BAD) & training["image"].is_in(list(self.groups))).sum()),
            "added": int((~training["image"].is_in(list(self.groups))).sum()),
            "auroc": auroc(self.labels, margins),
            "overkill": fpr_at_tpr(self.labels, margins, TPR),
            "said": arm.said,
            "margins": [round(float(value), 6) for value in margins],
        }

    def _margins(self, arm: Arm, seed: int) -> Floats:
        """Returns the margins (T,) of the test images, sorted by name."""
        placed = arm.records.with_frame(arm.records.frame.filter(pl.col("split").is_not_null()))
        groups = groups_with(placed, self.groups)
        config = self.training.model_copy(update={"seed": seed})
        if self.config.preset == "standard":
            folder = self.work / "training"
            shutil.rmtree(folder, ignore_errors=True)
            margins = fit_inspector(placed, groups, config, folder).margins
            shutil.rmtree(folder, ignore_errors=True)
        else:
            margins = self._kernel_margins(placed, groups, seed)
        by_name = dict(zip(placed.frame["image"].to_list(), margins.tolist(), strict=True))
        return np.nan_to_num(np.array([by_name[name] for name in self.tests], np.float64))

    def _kernel_margins(self, placed: Records, groups: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.float32]:
        """Fits an SVM head as the preset quick does, with features from the cache: few images are new in an arm."""
        import torch

        deep = features(
            placed,
            str(self.training.model),
            weights=self.config.weights,
            image_size=self.config.image_size,
            stages=True,
        )
        assert deep.stages is not None
        sound = np.isfinite(deep.stages).all(axis=1)
        teaches = placed.frame["split"].is_in(["train", "val"]).to_numpy() & sound
        fit = fit_svm_on(deep.stages, placed, groups, np.flatnonzero(teaches), seed)
        with torch.inference_mode():
            return np.asarray(fit.head(torch.from_numpy(np.nan_to_num(deep.stages))).numpy(), np.float32)


def _files_of(place: Path) -> list[Path]:
    """Returns the tables that say what is in a made set, or else its images."""
    if place.is_file():
        return [place]
    tables = sorted(place.glob("manifest.*"))
    return tables or sorted(path for path in place.rglob("*") if path.is_file())


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
    """Judges made bad images against real ones that their maker did not see; test images are not looked at.

    Args:
        generated: Folder or manifest of made images.
        data: The photographs, with the splits that they were made with: folder, manifest, word of a source, records.
        out: Folder for the results; an older judgement in it is replaced.
        config: What to do; keywords below, its fields, beat it where they differ from their defaults.
        source: Data source of the photographs, when it should not be guessed.
        good: Names of folders, or values of a label column, that mean good.
        bad: The same for bad.

    Raises:
        DataError: There are no made bad images, or too few real bads that their maker did not see.
        WeightsError: The network's weights are not to be had.
    """
    config, folder = configured(JudgeConfig, config, locals()), Path(out)
    for name in filter(None, (config.model, config.classifier_model)):
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

"""`knowngood classical`: conventional classifiers on deep features, tested as the networks are."""

from __future__ import annotations

import datetime
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from knowngood.data.loading import loaded
from knowngood.data.records import BAD, Records
from knowngood.data.splits import Ids, kfold, split
from knowngood.data.units import groups_of, with_units
from knowngood.errors import ConfigError, DataError
from knowngood.experiments.runner import Arm, Outcome, SeedPlan, run_arms
from knowngood.files import check_writable, write_json, write_text
from knowngood.metrics.calibration import fit_calibration
from knowngood.metrics.figures import compute_metrics
from knowngood.models.classical import (
    FittedClassifier,
    fit_classifier,
    fit_components,
    line_through,
    separating_line,
)
from knowngood.models.features import Features, features
from knowngood.parameters import configured
from knowngood.report.experiments import PcaSummary, conventional_section, pca_section
from knowngood.report.page import Origin, origin_section, page
from knowngood.tables import write_table
from knowngood.training.config import CLASSIFIERS, ClassicalConfig
from knowngood.workflows.runs import command_for, feature_facts, fingerprint_of, shown, versions
from knowngood.workflows.train import CLASS_THRESHOLD

FIGURES, SCORES, COMPONENTS, PAGE = "classical.json", "classical_scores.parquet", "pca.parquet", "classical.html"


def write_results(
    folder: Path, rows: list[dict[str, Any]], scores: pl.DataFrame, pca: PcaSummary, facts: dict[str, Any]
) -> None:
    """Writes the tables, the page, and last the figures, whose presence means that the other files are complete.

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
    """Returns data, features, configuration, versions and command of the figures, as JSON types."""
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


_TIMED = 64  # images whose features are computed again, to time it
_WARM = 4

_KEPT = ".work"  # folder for the models that an interrupted call has finished

Rows = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Classical:
    """Finished conventional classifiers.

    Attributes:
        folder: With classical.json, classical_scores.parquet, pca.parquet and classical.html.
        rows: One dict a model and seed: model, kind ("conventional"), seed, cv_auroc, train_accuracy, test (the
            figures of `Metrics.to_dict()` on the test split), seconds (of choosing and fitting), images_per_second
            (features included), setting, grid (setting to cross-validated AUC).
        scores: A row a test image, model and seed: image, model, seed, label, score (0..1).
        pca: What the PCA section shows; `knowngood.report.experiments.pca_section` makes it.
        features: On which the classifiers are fitted.
    """

    folder: Path
    rows: list[dict[str, Any]]
    scores: pl.DataFrame
    pca: PcaSummary
    features: Features


@dataclass(frozen=True)
class _Part:
    """The splits of one seed: rows for fitting with their folds, rows for calibration, rows of the test."""

    learn: Ids
    folds: Ids
    calibration: Ids
    test: Ids


def classical(  # noqa: PLR0913  (a keyword a field of ClassicalConfig)
    data: str | Path | Records,
    out: str | Path,
    config: ClassicalConfig | None = None,
    *,
    source: str | None = None,
    good: Sequence[str] = (),
    bad: Sequence[str] = (),
    model: str = "resnet50",
    weights: str | Path | None = None,
    image_size: int | None = None,
    classifiers: str | None = None,
    folds: int = 4,
    seeds: int = 1,
    seed: int = 0,
    test: float = 0.25,
    val: float = 0.1,
    calibration: float = 0.2,
    resplit: bool = False,
    unit_from: str | None = None,
) -> Classical:
    """Fits conventional classifiers on deep features and tests them on the images that `train` tests on.

    Settings are chosen by cross-validation on the training and validation splits, by lot or near-duplicate; scores
    are calibrated on the calibration split. Features come from the cache where it has them; a call that was killed goes
    on with the model and seed at which it was.

    Args:
        data: Folder, manifest, the word of a source, or records.
        out: Folder for the results; earlier ones are replaced.
        config: What to do; keywords below, its fields, beat it where they differ from their defaults.
        source: Data source, when it should not be guessed.
        good: Names of folders, or values of a label column, that mean good.
        bad: The same for bad.

    Raises:
        DataError: One class only, or fewer images (or lots) of a class than folds.
        UnknownNameError: No such classifier or network.
        WeightsError: The network's weights are not to be had.
    """
    started = time.perf_counter()
    config = configured(ClassicalConfig, config, locals())
    names = _names(config)
    check_writable(Path(out), folder=True)  # before anything is computed
    whole = loaded(data, source, good=good, bad=bad, unit_from=config.unit_from, out=out)
    whole = with_units(whole, config.unit_from)
    records = whole.usable()
    groups = groups_of(whole)[whole.frame["error"].is_null().to_numpy()]
    parts = {seed: _part(records, groups, config, seed) for seed in range(config.seed, config.seed + config.seeds)}
    deep = features(records, config.model, weights=config.weights, image_size=config.image_size)
    sound = np.atleast_1d(np.isfinite(deep.rows).all(axis=1))
    parts = {seed: _sound(part, sound) for seed, part in parts.items()}
    is_bad = (records.frame["label"] == BAD).fill_null(False).to_numpy()
    kept = Path(out) / _KEPT
    rows, scores = _fit_all(names, records, deep, is_bad, parts, _seconds_an_image(records, config), kept)
    pca = _pca(records, deep, is_bad, parts[config.seed], sound, config)
    command = command_for(shown(data), Path(out), config, source, "classical", good=good, bad=bad)
    write_results(Path(out), rows, scores, pca, facts_of(whole, deep, config, command, time.perf_counter() - started))
    shutil.rmtree(kept, ignore_errors=True)
    return Classical(Path(out), rows, scores, pca, deep)


def _fit_all(
    names: list[str],
    records: Records,
    deep: Features,
    bad: npt.NDArray[np.bool_],
    parts: dict[int, _Part],
    feature_time: float,
    kept: Path,
) -> tuple[list[dict[str, Any]], pl.DataFrame]:
    """Returns the rows and the scores of every model and seed."""

    def plan(seed: int) -> SeedPlan:
        fits = {
            name: partial(_fitted, name, records, deep.rows, bad, parts[seed], seed, feature_time) for name in names
        }
        return SeedPlan([Arm(name, fit) for name, fit in fits.items()])

    places = [[array.tolist() for array in vars(part).values()] for part in parts.values()]
    key = ["classical", names, fingerprint_of(records), deep.origin, deep.size, places]
    done = run_arms(list(parts), plan, work=kept, key=key)
    if done.refused:
        raise DataError("; ".join(f"{name} cannot be fitted {reason}" for name, reason in done.refused.items()))
    found = [(name, done.outcomes[name][place]) for place in range(len(parts)) for name in names]
    tables = [
        one.scores.select("image", model=pl.lit(name), seed=pl.lit(one.seed), label="label", score="score")
        for name, one in found
    ]
    return [{"model": name, "kind": "conventional", "seed": one.seed, **one.facts} for name, one in found], pl.concat(
        tables
    )


def _names(config: ClassicalConfig) -> list[str]:
    if config.classifiers is None:
        return CLASSIFIERS.names()
    names = [name.strip() for name in config.classifiers.split(",") if name.strip()]
    for name in names:
        CLASSIFIERS.get(name)
    if not names:
        raise ConfigError("--models names no classifier.", expected=", ".join(CLASSIFIERS))
    return list(dict.fromkeys(names))


def _part(records: Records, groups: Ids, config: ClassicalConfig, seed: int) -> _Part:
    divided = split(records, config, seed=seed, groups=groups)
    frame = divided.frame
    known = frame["label"].is_not_null().to_numpy()
    places = {name: np.flatnonzero(known & (frame["split"] == name).fill_null(False).to_numpy()) for name in _PLACES}
    learn = np.sort(np.concatenate([places["train"], places["val"]]))
    counts = divided.with_frame(frame[places["test"]]).counts()
    if not (counts["good"] and counts["bad"]):
        raise DataError(
            f"The test split has {counts['good']} good and {counts['bad']} bad images.",
            expected="both, to measure anything",
            fix="Divide anew with --resplit.",
        )
    try:
        folds = kfold(divided.with_frame(frame[learn]), config.folds, seed, groups=groups[learn])
    except DataError as error:
        raise DataError(error.what, expected=error.expected, fix=f"{error.fix} Or fewer --folds.") from error
    return _Part(learn, folds, places["calibration"], places["test"])


_PLACES = ("train", "val", "calibration", "test")


def _sound(part: _Part, sound: npt.NDArray[np.bool_]) -> _Part:
    """Returns the part without images that cannot be decoded."""
    kept = sound[part.learn]
    return _Part(
        part.learn[kept], part.folds[kept], part.calibration[sound[part.calibration]], part.test[sound[part.test]]
    )


def _fitted(
    name: str,
    records: Records,
    rows: Rows,
    bad: npt.NDArray[np.bool_],
    part: _Part,
    seed: int,
    feature_time: float,
) -> Outcome:
    """Fits, calibrates and tests one classifier; nothing is fitted on the test images."""
    before = time.perf_counter()
    fitted = fit_classifier(CLASSIFIERS.get(name)(), rows[part.learn], bad[part.learn], part.folds, seed)
    seconds = time.perf_counter() - before
    calibration = fit_calibration(fitted.raw_scores(rows[part.calibration]), bad[part.calibration])
    before = time.perf_counter()
    raw_scores = fitted.raw_scores(rows[part.test])
    each = (time.perf_counter() - before) / len(part.test)
    scores = calibration.apply(raw_scores)
    as_fitted = calibration.apply(fitted.raw_scores(rows[part.learn]))
    facts = {
        "cv_auroc": fitted.auroc,
        "train_accuracy": float(np.mean((as_fitted >= CLASS_THRESHOLD) == bad[part.learn])),
        "test": compute_metrics(bad[part.test], scores, threshold=CLASS_THRESHOLD, seed=seed).to_dict(),
        "seconds": round(seconds, 2),
        "images_per_second": round(1 / (feature_time + each), 2),
        "rows": fitted.rows,
        "setting": _in_words(fitted.setting),
        "grid": _grid(fitted),
    }
    return Outcome(seed, records.frame[part.test].select("image", "label", score=pl.Series(scores)), facts)


def _grid(fitted: FittedClassifier) -> list[list[Any]]:
    tried = ({name: value for name, value in row.items() if name != "auroc"} for row in fitted.table)
    return [[_in_words(setting), row["auroc"]] for setting, row in zip(tried, fitted.table, strict=True)]


def _in_words(setting: Any) -> str:
    return ", ".join(f"{name} {value}" for name, value in setting.items())


def _seconds_an_image(records: Records, config: ClassicalConfig) -> float:
    """Returns the seconds for decoding and the network, measured on a few images without the cache."""
    sample = records.frame.with_columns(sha256=pl.lit(None, pl.String))
    took = []
    for count in (_WARM, _WARM + _TIMED):
        few = records.with_frame(sample.head(count))
        before = time.perf_counter()
        features(few, config.model, weights=config.weights, image_size=config.image_size)
        took.append((time.perf_counter() - before, len(few)))
    (first, few_images), (second, images) = took
    if images > few_images and second > first:  # the cost of building the network is in both
        return (second - first) / (images - few_images)
    return second / images


def _pca(
    records: Records,
    deep: Features,
    bad: npt.NDArray[np.bool_],
    part: _Part,
    sound: npt.NDArray[np.bool_],
    config: ClassicalConfig,
) -> PcaSummary:
    """Fits components and line on the training images of the first seed, and projects every real image."""
    fitted_rows, labels = deep.rows[part.learn], bad[part.learn]
    components = fit_components(fitted_rows, config.seed)
    real = sound & ~records.frame["generated"].to_numpy()
    points = components.project(deep.rows[real])
    frame = records.frame.filter(pl.Series(real)).select("image", "path", "label", "defect")
    lines = [
        separating_line(fitted_rows, labels, part.folds, components=count, seed=config.seed) for count in (2, None)
    ]
    return PcaSummary(
        points=frame.with_columns(pc1=pl.Series(points[:, 0]), pc2=pl.Series(points[:, 1])),
        explained=components.explained.tolist(),
        line=line_through(components.project(fitted_rows), labels),
        two=(lines[0].auroc, lines[0].accuracy),
        whole=(lines[1].auroc, lines[1].accuracy),
        larger=float(max(labels.mean(), 1 - labels.mean())),
        fitted_on=len(labels),
        features=f"{deep.rows.shape[1]:,} penultimate features of {deep.model}",
    )

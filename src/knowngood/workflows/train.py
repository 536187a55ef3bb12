"""`knowngood train`: data to a calibrated, certified and measured recipe in a run folder."""

from __future__ import annotations

import datetime
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from knowngood.data.health import Finding, falsifying
from knowngood.data.labels import read_verdicts, with_verdicts, without_outliers
from knowngood.data.loading import loaded
from knowngood.data.records import BAD, GOOD, SPLITS, Records
from knowngood.data.splits import bads_to_test, good_only_shares, settle, split, split_good_only
from knowngood.data.units import groups_of, suspicion, with_units
from knowngood.errors import DataError
from knowngood.files import check_writable, write_json
from knowngood.metrics.calibration import Calibration, fit_calibration
from knowngood.metrics.figures import metrics_at
from knowngood.metrics.thresholds import (
    Threshold,
    choose_threshold,
)
from knowngood.outliers.one_class import calibrated, escapes, fit_one_class
from knowngood.parameters import configured
from knowngood.progress import reporter
from knowngood.recipe.bundle import Recipe
from knowngood.recipe.evidence import Evidence
from knowngood.recipe.manifest import RecipeManifest
from knowngood.report.run import write_report
from knowngood.report.run_summary import UNKNOWN_KIND, RunSummary
from knowngood.tables import write_table
from knowngood.training.config import TrainConfig
from knowngood.training.fit import Fitted, fit_inspector
from knowngood.training.start import check_names, choose_model, preprocessing_of
from knowngood.wording import counted
from knowngood.workflows.input_check import LearnedInputs, learn_inputs
from knowngood.workflows.maps import cam_history_images, map_sections
from knowngood.workflows.repeated_parts import leakage
from knowngood.workflows.runs import (
    FIGURES,
    call_of,
    command_for,
    count_words,
    data_facts,
    fingerprint_of,
    open_run,
    score_table,
    shown,
    unseen,
    versions,
)

CLASS_THRESHOLD = 0.5  # of a calibrated score: more likely bad than good; accuracy is measured there


@dataclass(frozen=True)
class Trained:
    """A finished training.

    Attributes:
        folder: With recipe/, metrics.json, report.html, scores.parquet and records.parquet.
        recipe: Ready to score.
        metrics: What metrics.json holds.
    """

    folder: Path
    recipe: Recipe
    metrics: dict[str, Any]


def train(  # noqa: PLR0913  (a keyword a field of TrainConfig)
    data: str | Path | Records,
    out: str | Path,
    config: TrainConfig | None = None,
    *,
    source: str | None = None,
    good: Sequence[str] = (),
    bad: Sequence[str] = (),
    force: bool = False,
    model: str | None = None,
    preset: Literal["quick", "standard", "best"] = "quick",
    epochs: int | None = None,
    image_size: int | Literal["auto", "own"] = "auto",
    head: Literal["cells", "pooled"] = "cells",
    views: int = 1,
    batch_size: int = 32,
    learning_rate: float | None = None,
    weight_decay: float | None = None,
    balance: Literal["sampling", "weights", "none"] = "sampling",
    freeze: Literal["none", "stem", "all-but-last-stage", "all-but-head"] = "none",
    augment: str = "standard",
    pretrained: bool = True,
    weights: str | Path | None = None,
    patience: int = 6,
    precision: Literal["auto", "bf16", "fp32"] = "auto",
    roi: str | None = None,
    mask_leads: bool = False,
    verdicts: str | Path | None = None,
    without: str | Path | None = None,
    test: float = 0.25,
    val: float = 0.1,
    calibration: float = 0.2,
    resplit: bool = False,
    unit_from: str | None = None,
    escape_budget: float = 0.01,
    one_class: bool = False,
    detector: Literal["patch_memory", "knn"] = "patch_memory",
    coreset_size: int = 4000,
    overkill_budget: float = 0.01,
    confidence: float = 0.95,
    review_overkill: float | None = None,
    seed: int = 0,
    cam_history: str | Path | None = None,
    devices: int = 1,
) -> Trained:
    """Trains an inspector on a set of images and writes a run folder with recipe, figures, scores and report.

    A run that was killed goes on when the same call is made again. A finished run is returned as it is.

    Args:
        data: Folder, manifest, the word of a source ("elpv"), or loaded records.
        out: Folder for the run.
        config: What to do; keywords below, its fields, beat it where they differ from their defaults.
        source: Data source; recognised from the files if None.
        good: Names of folders, or values of a label column, that mean good.
        bad: The same for bad.
        force: Replace whatever run is in `out`.

    Raises:
        DataError: The images cannot be trained on (one class only, too few, nothing readable).
        ConfigError: `out` holds another run, or an option is impossible.
        WeightsError: Pretrained weights are needed and not available.
    """
    config = configured(TrainConfig, config, locals())
    check_names(config)  # before the images are read
    folder = Path(out)
    check_writable(folder, folder=True)  # before anything is computed
    records = loaded(data, source, good=good, bad=bad, unit_from=config.unit_from, out=out)
    records = with_units(records, config.unit_from)
    reporter().say(f"{counted(len(records), 'image')}, {count_words(records)} (source: {records.source})")
    for sentence in (f"Licence of the data: {records.licence}" if records.licence else None, *records.notes):
        if sentence:
            reporter().say(sentence)
    if config.verdicts is None:
        check_trainable(records, config.one_class)
        divided = _divided(records, groups_of(records), config)
    else:
        records, divided = _corrected(records, read_verdicts(config.verdicts), config)
    warnings = falsifying(_as_given(records, config), groups_of(records))
    if config.without is not None:
        before, divided = len(divided), without_outliers(divided, config.without)
        reporter().say(f"{counted(before - len(divided), 'outlier')} left out of training")
    command = command_for(shown(data), folder, config, source, good=good, bad=bad)
    call = call_of(data, source, good, bad, model=choose_model(config))
    groups = groups_of(divided)
    return train_divided(divided, groups, folder, config, command, force=force, warnings=warnings, call=call)


def train_divided(
    divided: Records,
    groups: npt.NDArray[np.int64],
    folder: Path,
    config: TrainConfig,
    command: str,
    *,
    force: bool = False,
    pixels: Path | None = None,
    warnings: Sequence[Finding] = (),
    call: Mapping[str, Any] | None = None,
) -> Trained:
    """Trains as `train` does, on a set with splits.

    Args:
        divided: With a split in every row that is used.
        groups: (N,) what belongs together in cross-validation, from `groups_of`.
        folder: For the run.
        config: What to do; its shares of the splits are not used.
        command: That repeats the run, for the report.
        force: Replace whatever run is in `folder`.
        pixels: Folder for decoded images that other runs share; otherwise the run has its own and deletes it.
        warnings: Findings that make figures untrue, for the top of the report; suspected repeated parts are added.
        call: Arguments that repeat the run from its folder, from `call_of`.

    Raises:
        ConfigError: `folder` holds another run.
        WeightsError: Pretrained weights are needed and not available.
        TrainingError: Fine-tuning failed.
    """
    started = time.perf_counter()
    preprocessing = preprocessing_of(divided, config)  # checks the region, before anything is written
    fingerprint = fingerprint_of(divided)
    if open_run(folder, config, fingerprint, force, call=call):
        return Trained(folder, Recipe.load(folder / "recipe"), json.loads((folder / FIGURES).read_text("utf-8")))
    watched = cam_history_images(config.cam_history)
    kept = divided.frame["error"].is_null() & divided.frame["split"].is_not_null()
    placed = divided.with_frame(divided.frame.filter(kept))
    write_table(divided.frame, folder / "records.parquet")
    if config.one_class:
        fitted = fit_one_class(placed, config, folder / "work", preprocessing)
    else:
        goes_on = (folder / "work" / "last.ckpt").is_file()
        history = None if watched is None else watched.recorder(folder, goes_on=goes_on)
        fitted = fit_inspector(
            placed,
            groups[kept.to_numpy()],
            config,
            folder / "work",
            pixels=pixels,
            watcher=history,
            preprocessing=preprocessing,
        )
    learned = learn_inputs(placed, fitted, pixels or folder / "work" / "pixels", config.seed)
    recipe, metrics, table = _evaluated(placed, divided, fitted, config, fingerprint, folder, learned)
    if learned.warning is not None:
        reporter().say(learned.warning)
    metrics["warnings"] = _warnings(placed, groups[kept.to_numpy()], fitted, metrics, warnings, config)
    metrics["seconds"] = fitted.seconds | {"total": round(time.perf_counter() - started, 2)}
    recipe.save(folder / "recipe")
    write_table(table, folder / "scores.parquet")
    extra = watched.sections(folder, fitted.history) if watched else []
    summary = _summary(folder, command, config, fitted, metrics, table)
    write_report(summary, folder / "report.html", maps=map_sections(recipe, table), extra=extra)
    write_json(folder / "metrics.json", metrics)  # last: its presence means that the run is complete
    shutil.rmtree(folder / "work", ignore_errors=True)
    return Trained(folder, recipe, metrics)


def _divided(records: Records, groups: npt.NDArray[np.int64], config: TrainConfig) -> Records:
    if config.one_class:
        return split_good_only(records, good_only_shares(config), seed=config.seed, groups=groups)
    return split(records, config, seed=config.seed, groups=groups)


def _corrected(records: Records, verdicts: pl.DataFrame, config: TrainConfig) -> tuple[Records, Records]:
    """Applies verdicts after the split, so that they move no image; returns the records without and with splits."""
    corrected = with_verdicts(records, verdicts)
    reporter().say(f"{verdicts.height} verdicts applied, {len(records) - len(corrected)} images dropped")
    check_trainable(corrected, config.one_class)
    try:
        before = _divided(records, groups_of(records), config)
    except DataError:  # the set can be split only with the verdicts
        return corrected, _divided(corrected, groups_of(corrected), config)
    divided = settle(
        with_verdicts(before, verdicts),
        before,
        good_only_shares(config) if config.one_class else config,
        seed=config.seed,
        classes=(GOOD,) if config.one_class else (GOOD, BAD),
    )
    return corrected, bads_to_test(divided) if config.one_class else divided


def _as_given(records: Records, config: TrainConfig) -> Records:
    """Returns the records with the splits that are kept."""
    if not config.resplit:
        return records
    return records.with_frame(records.frame.with_columns(split=pl.lit(None, pl.String)))


def _warnings(
    placed: Records,
    groups: npt.NDArray[np.int64],
    fitted: Fitted,
    metrics: dict[str, Any],
    known: Sequence[Finding],
    config: TrainConfig,
) -> list[dict[str, Any]]:
    """Returns the warnings as JSON types; adds the effect of repeated parts to the data facts."""
    found = [{**asdict(one), "examples": list(one.examples)} for one in known]
    repeated = placed.repeated
    if repeated is None or not (repeated.units or repeated.suspected_images):
        return found
    measured = None
    if fitted.features is not None and not config.one_class:
        measured = leakage(fitted.features, placed, groups, config.seed)
    metrics["data"]["repeated_parts"]["estimate"] = measured
    if sentence := suspicion(repeated):
        sentence += f" {measured['sentence']}" if measured else ""
        examples = [name for members in repeated.suspected_examples for name in members]
        code, count = "repeated-parts-suspected", repeated.suspected_images
        found.append({"severity": "warning", "code": code, "message": sentence, "count": count, "examples": examples})
    return found


def check_trainable(records: Records, one_class: bool = False) -> None:
    """Checks that there are images to train on.

    Raises:
        DataError: Nothing can be read, or one class only (without `one_class`: no good image).
    """
    usable = records.usable()
    if not len(usable):
        first = records.frame["error"].drop_nulls().to_list()
        raise DataError(
            f"None of the {len(records)} images can be read; the first says: {first[0] if first else 'no image'}",
            fix="Run `knowngood check` on the folder.",
        )
    broken = len(records) - len(usable)
    if broken:
        reporter().say(f"{broken} images cannot be read and are left out (`knowngood check` lists them)")
    counts = usable.counts()
    if not counts["good"] or not (counts["bad"] or one_class):
        missing = "bad" if counts["good"] else "good"
        alone = "--one-class learns from good images alone. Or add some, " if counts["good"] else "Add some, "
        raise DataError(
            f"There is no {missing} image among the {len(usable)} readable ones.",
            expected="both good and bad images: a folder good/ beside folders named after defects",
            fix=f"{alone}or check the names of the folders with `knowngood check`.",
        )


def _evaluated(
    placed: Records,
    divided: Records,
    fitted: Fitted,
    config: TrainConfig,
    fingerprint: str,
    folder: Path,
    learned: LearnedInputs,
) -> tuple[Recipe, dict[str, Any], pl.DataFrame]:
    """Calibrates and certifies on the calibration split, then measures every split; nothing is fitted on the test."""
    frame = placed.frame
    as_fitted = fitted.raw_scores.astype(np.float64)
    raw_scores = np.where(
        np.isnan(fitted.out_of_fold), as_fitted, fitted.out_of_fold
    )  # not from a classifier that saw the image
    ok = ~np.isnan(raw_scores) & frame["label"].is_not_null().to_numpy()
    labels = frame["label"].fill_null(GOOD).to_numpy()
    calibrating = ok & (frame["split"] == "calibration").to_numpy()
    calibrate = calibrated if config.one_class else _calibrated
    calibration, threshold = calibrate(labels[calibrating], raw_scores[calibrating], config)
    scores, unseen_scores = _applied(calibration, as_fitted), _applied(calibration, raw_scores)
    fitted_on = frame["split"].is_in(["train", *(() if config.fine_tuning_epochs or config.one_class else ("val",))])
    unseen_scores[fitted_on.to_numpy() & np.isnan(fitted.out_of_fold)] = np.nan
    metrics: dict[str, Any] = {}
    for name in SPLITS:
        rows = ok & (frame["split"] == name).to_numpy()
        if rows.any():
            unseen_ = ~np.isnan(unseen_scores[rows])
            shown = unseen_scores[rows][unseen_] if unseen_.any() else scores[rows]
            metrics[name] = figures(labels[rows][unseen_ | ~unseen_.any()], shown, threshold, config)
            if name == "train":
                metrics[name]["out_of_fold"] = bool(unseen_.any())
                metrics["train_as_fitted"] = figures(labels[rows], scores[rows], threshold, config)
    metrics["threshold"] = threshold.to_dict()
    if config.one_class:
        metrics["threshold"]["escape_rate"] = escapes(metrics.get("test"))
    metrics["calibration_fit"] = calibration.model_dump()
    metrics["input_check"] = learned.figures
    metrics["data"] = data_facts(divided, fingerprint)
    metrics["training"] = fitted.notes
    metrics["history"] = fitted.history
    manifest = RecipeManifest(
        kind="one-class" if config.one_class else "classifier",
        name=folder.name,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        networks=fitted.inspector.configs,
        preprocessing=fitted.preprocessing,
        calibration=calibration,
        threshold=metrics["threshold"],
        metrics={k: v for k, v in metrics.items() if k in SPLITS},
        seed=config.seed,
        config=config.model_dump(mode="json"),
        data=metrics["data"],
        licences=tuple(filter(None, (placed.licence, fitted.provenance.get("licence")))),
        provenance=fitted.provenance,
        versions=versions(),
        weights_sha256="",
        input_check=learned.check.facts,
    )
    table = score_table(placed, scores, unseen_scores, threshold.pair, fitted.raw_scores, learned.reasons)
    if fitted.kinds:
        said = [fitted.kinds[row] or UNKNOWN_KIND if row in fitted.kinds else None for row in range(len(placed))]
        table = table.with_columns(pl.Series("kind", said, dtype=pl.String))
    seen = frame.filter(pl.col("split").is_in(["train", "val", "calibration"]))["sha256"]
    evidence = Evidence.of(labels[calibrating], raw_scores[calibrating], seen)
    return Recipe(manifest, fitted.inspector, evidence, learned.check), metrics, table


def _applied(calibration: Calibration, raw_scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Returns scores (N,) in [0, 1] of raw_scores (N,); NaN stays NaN."""
    scores = np.full(len(raw_scores), np.nan)
    readable = ~np.isnan(raw_scores)
    scores[readable] = calibration.apply(raw_scores[readable])
    return scores


def _calibrated(
    labels: npt.NDArray[np.uint8], raw_scores: npt.NDArray[np.float64], config: TrainConfig
) -> tuple[Calibration, Threshold]:
    """Returns calibration and threshold from the calibration split of a set with both classes."""
    calibration = fit_calibration(raw_scores, labels)
    return calibration, choose_threshold(
        labels,
        calibration.apply(raw_scores),
        escape_budget=config.escape_budget,
        overkill_budget=config.review_overkill,
        confidence=config.confidence,
    )


def figures(
    labels: npt.NDArray[np.uint8], scores: npt.NDArray[np.float64], threshold: Threshold, config: TrainConfig
) -> dict[str, Any]:
    """Returns the figures of one split, as JSON types.

    Escape rate, overkill rate, the confusion matrix and what begins with `at_threshold_` are counted at the recipe's
    threshold; accuracy, balanced accuracy, F1 and precision from score 0.5 (`class_threshold`), as the literature does.
    """
    cut = threshold.threshold if config.one_class else CLASS_THRESHOLD
    document, usual = (
        one.to_dict()
        for one in metrics_at(
            labels, scores, thresholds=(threshold.threshold, cut), confidence=config.confidence, seed=config.seed
        )
    )
    for name in ("accuracy", "balanced_accuracy", "f1", "precision"):
        for key in (name, f"{name}_ci"):
            document["at_threshold_" + key] = document[key]
            document[key] = usual[key]
    if config.one_class:  # its scores order units and are no probabilities
        document |= dict.fromkeys(("ece", "ece_ci", "brier", "brier_ci"))
    return document | {"class_threshold": cut}


def _summary(
    folder: Path, command: str, config: TrainConfig, fitted: Fitted, metrics: dict[str, Any], table: pl.DataFrame
) -> RunSummary:
    return RunSummary(
        title=f"{folder.name}: {fitted.notes['network']} on {metrics['data']['source']}",
        command=command,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        metrics=metrics,
        history=fitted.history,
        versions=versions(),
        seed=config.seed,
        config=config.model_dump(mode="json"),
        scores=unseen(table),
    )

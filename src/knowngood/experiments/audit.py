"""`knowngood audit`: outliers, suspected wrong labels, rare defects and conflicting duplicates of a set."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from knowngood.data.duplicates import near_clusters
from knowngood.data.labels import read_verdicts, with_verdicts
from knowngood.data.loading import loaded
from knowngood.data.records import Records
from knowngood.data.splits import kfold_up_to, trains_on
from knowngood.data.units import groups_of, with_units
from knowngood.errors import DataError
from knowngood.experiments.audit_page import audit_page, lists_of
from knowngood.experiments.configs import RemovalConfig
from knowngood.experiments.removal import FOLDS, RemovalTrial, find_issues, removal_trial
from knowngood.files import cache_key, check_writable, storage_errors, whole_file, write_json, write_text
from knowngood.metrics.calibration import fit_calibration
from knowngood.models.features import Features, features
from knowngood.models.features_on_cluster import OnCluster
from knowngood.parameters import checked_parameters
from knowngood.progress import reporter
from knowngood.scale.cluster import at_cluster
from knowngood.scale.config import ClusterConfig
from knowngood.tables import write_table
from knowngood.training.config import TrainConfig
from knowngood.training.fit import fit_inspector
from knowngood.workflows.runs import feature_facts, fingerprint_of

Ids: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
TRAININGS = 3
PIECES = 12  # of the set: a third of them is scored, one chooses the epoch, the others are trained on


def network_scores(records: Records, groups: Ids, config: TrainConfig, folder: Path) -> Floats:
    """Fine-tunes a network three times, each time without the third of the images that it then scores.

    Args:
        records: (N rows), decodable; rows without a label get no score.
        groups: int64 (N,), equal numbers are never on both sides.
        config: Of the trainings; splits are its own here.
        folder: For what a killed call goes on from.

    Returns:
        float64 (N,) out-of-fold probability of being bad, calibrated on the given labels for each training; NaN for
        a row without a label.

    Raises:
        DataError: There are too few images or lots of a class.
        WeightsError: The network's weights are not to be had.
    """
    known = records.frame["label"].is_not_null().to_numpy()
    labelled, labels = records.labelled(), records.frame["label"].drop_nulls().to_numpy()
    pieces = kfold_up_to(labelled, PIECES, config.seed, groups=groups[known])
    if pieces.max() < TRAININGS - 1:
        raise DataError(
            "The images or their lots are too few for three trainings that do not see what they score.",
            fix="Leave --fine-tune out: an SVM on features needs fewer.",
        )
    facts = [fingerprint_of(labelled), groups[known].tolist(), config.model_dump(mode="json")]
    work = folder / f"scores-{cache_key(facts)}.work"
    found = np.full(len(labels), np.nan)
    for number in range(TRAININGS):
        held = _held(pieces, number)
        reporter().say(f"out-of-fold scores: training {number + 1} of {TRAININGS}")
        raw_scores = _raw_scores(labelled, groups[known], pieces, number, config, work)[held]
        sound = np.isfinite(raw_scores)
        calibration = fit_calibration(raw_scores[sound], labels[held][sound].astype(np.uint8))
        found[held] = np.where(sound, calibration.apply(np.where(sound, raw_scores, 0.0)), np.nan)
    shutil.rmtree(work, ignore_errors=True)
    scores = np.full(len(records), np.nan)
    scores[known] = found
    return scores


def _held(pieces: Ids, number: int) -> npt.NDArray[np.bool_]:
    """Returns which rows (N,) a training scores; rows without a piece (generated ones) are scored by none."""
    return np.asarray((pieces >= 0) & (pieces % TRAININGS == number), np.bool_)


def _raw_scores(
    records: Records, groups: Ids, pieces: Ids, number: int, config: TrainConfig, work: Path
) -> npt.NDArray[np.float64]:
    """Returns the raw scores (N,) of all rows from the training that does not see the pieces of its number."""
    kept = work / f"{number}.npy"
    if kept.is_file():
        return np.asarray(np.load(kept), np.float64)
    held, chooses = _held(pieces, number), (number + 1) % TRAININGS
    learns = np.all([trains_on(pieces, piece) for piece in {chooses, *np.unique(pieces[held]).tolist()}], axis=0)
    split = np.select([held, pieces == chooses, learns], ["test", "val", "train"], "")
    divided = records.with_frame(
        records.frame.with_columns(
            split=pl.Series(split).replace("", None)
        )  # near-copies of held-out images are not trained on
    )
    fitted = fit_inspector(divided, groups, config, work / str(number), pixels=work / "pixels")
    raw_scores = fitted.raw_scores.astype(np.float64)
    with storage_errors(kept), whole_file(kept) as scratch, scratch.open("wb") as handle:
        np.save(handle, raw_scores)
    shutil.rmtree(work / str(number), ignore_errors=True)
    return raw_scores


PARTS = "features"  # folder for parts from a cluster, until the audit is written
_HERE = ClusterConfig()
_FEW = 1000  # below it a one-class SVM with nu = 0.01 makes a single outlier its own support vector


@dataclass(frozen=True)
class Audit:
    """A finished audit.

    Attributes:
        folder: With audit.parquet, verdicts.csv, audit.json and audit.html.
        table: A row an image, see `knowngood.outliers.audit_table.audit_table`.
        counts: How many images each list holds.
        trial: The removal trial, where there was one.
    """

    folder: Path
    table: pl.DataFrame
    counts: dict[str, int]
    trial: RemovalTrial | None = None


def audit(  # noqa: PLR0913  (an argument each for what the command has options for)
    data: str | Path | Records,
    out: str | Path,
    *,
    model: str = "resnet50",
    weights: Path | None = None,
    image_size: int | None = None,
    source: str | None = None,
    unit_from: str | None = None,
    good: Sequence[str] = (),
    bad: Sequence[str] = (),
    detectors: Sequence[str] = (),
    one_sided: bool = False,
    seed: int = 0,
    fine_tune: int = 0,
    trial: RemovalConfig | None = None,
    cluster: ClusterConfig = _HERE,
) -> Audit:
    """Finds images that do not belong to a set and labels that are likely wrong; removes and changes nothing.

    Outliers are the images on which a one-class SVM and an isolation forest agree; suspects are images whose label is
    less likely than the other one by out-of-fold scores. A person decides: `verdicts.csv` has a row for every issue,
    and `train --verdicts` reads it when it is filled in.

    Args:
        data: Folder, manifest, the word of a source, or records.
        out: Folder for the results; an older audit in it is replaced.
        model: Pretrained network whose features are used.
        weights: File or folder with its weights.
        image_size: Side of the square with as many pixels as the network sees; its own by default.
        source: Data source, when it should not be guessed.
        unit_from: What says which photographs show the same part, see `knowngood.data.units.with_units`.
        good: Names of folders, or values of a label column, that mean good.
        bad: The same for bad.
        detectors: Registered detectors to run besides the two.
        one_sided: List suspected labels of images labelled bad apart: usually bad units are among the good.
        seed: Of folds and of everything drawn.
        fine_tune: Epochs of three trainings whose out-of-fold scores decide which labels are suspected; 0 for an SVM
            on the features, which takes seconds.
        trial: Also measure whether removing or relabelling helps, see `removal_trial`.
        cluster: Where images are read, features made, and blocks of scores and neighbours computed; classifiers are
            fitted, and networks tuned, in this process. All machines of a cluster must see `out`.

    Raises:
        ConfigError: No cluster answers, or its workers have other versions.
        DataError: There are too few images.
        WeightsError: The network's weights are not to be had.
    """
    folder = Path(out)
    check_writable(folder, folder=True)  # before anything is computed
    with at_cluster(cluster):
        whole = loaded(data, source, good=good, bad=bad, unit_from=unit_from, out=out)
        records = with_units(whole, unit_from).usable()
        if len(records) < 2 * FOLDS:
            raise DataError(f"There are {len(records)} readable images.", expected=f"at least {2 * FOLDS} to audit")
        if trial is not None and trial.verdicts is not None:
            with_verdicts(records, read_verdicts(trial.verdicts))  # refused now, not after the audit
        tuned = {
            "model": model,
            "epochs": fine_tune,
            "weights": weights,
            "image_size": image_size or "own",
            "seed": seed,
        }
        training = checked_parameters(TrainConfig, tuned | {"preset": "standard"}) if fine_tune else None
        network: dict[str, Any] = {"model": model, "weights": weights, "image_size": image_size}
        there = None if cluster.engine == "local" else OnCluster(folder / PARTS, cluster, weights)
        deep = features(records, **network, stages=True, elsewhere=there)
        table = _audited(records, deep, detectors, one_sided, seed, training, folder)
    counts = {name: rows.height for name, rows in lists_of(table).items()}
    facts = _facts(records, deep, counts, seed) | {"fine_tuned_epochs": fine_tune}
    write_table(table, folder / "audit.parquet")
    write_table(_to_fill_in(table, folder / "verdicts.csv"), folder / "verdicts.csv")
    write_text(folder / "audit.html", audit_page(facts, table))
    write_json(folder / "audit.json", facts)
    if there is not None:
        there.clear()
    tried = None
    if trial is not None:
        tried = removal_trial(records, folder, trial, **network, one_sided=one_sided, seed=seed)
        write_text(folder / "audit.html", audit_page(facts, table, tried.document))
    return Audit(folder, table, counts, tried)


def _audited(
    records: Records,
    deep: Features,
    detectors: Sequence[str],
    one_sided: bool,
    seed: int,
    training: TrainConfig | None,
    work: Path,
) -> pl.DataFrame:
    """Returns the table of the images that have features; `training` is that of the out-of-fold scores, if any."""
    sound = np.isfinite(deep.rows).all(axis=1)
    decodable = records.with_frame(records.frame.filter(pl.Series(sound)))
    clusters = near_clusters(decodable)
    groups = groups_of(decodable)
    table = find_issues(
        decodable,
        deep if sound.all() else deep.of(np.flatnonzero(sound)),
        groups,
        clusters,
        seed,
        detectors=detectors,
        one_sided=one_sided,
        scores=None if training is None else network_scores(decodable, groups, training, work),
    )
    return table.hstack(decodable.frame.select("path", "defect", "split", "lot", "sha256"))


def _to_fill_in(table: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Returns a row for every issue, with the verdicts that a person gave before."""
    parts = [
        rows.select(
            "image",
            verdict=pl.lit(None, pl.String),
            defect=pl.lit(None, pl.String),
            why=pl.lit(name),
            label=pl.when(pl.col("label") == 1).then(pl.lit("bad")).otherwise(pl.lit("good")),
            score=pl.col("out_of_fold_score").cast(pl.Float64),
        )
        for name, rows in lists_of(table).items()
    ]
    issues = (
        pl.concat(parts)
        .group_by("image", maintain_order=True)
        .agg(pl.col("verdict", "defect", "label", "score").first(), pl.col("why").str.join(", "))
    )
    issues = issues.select("image", "verdict", "defect", "why", "label", "score")
    if path.is_file():
        before = read_verdicts(path).rename({"verdict": "given", "defect": "given_defect"})
        issues = issues.join(before, on="image", how="full", coalesce=True).with_columns(
            verdict=pl.coalesce("verdict", "given"), defect=pl.coalesce("defect", "given_defect")
        )
    return issues.select("image", "verdict", "defect", "why", "label", "score")


def _facts(records: Records, deep: Features, counts: dict[str, int], seed: int) -> dict[str, Any]:
    notes = []
    if len(records) < _FEW:
        notes.append(
            f"With {len(records)} images the one-class SVM can hardly find a single outlier; look at its scores, not "
            "only at its verdicts."
        )
    return {
        "data": {"source": records.source, "root": str(records.root), "images": len(records)},
        "features": feature_facts(deep),
        "counts": counts,
        "seed": seed,
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "notes": notes,
    }

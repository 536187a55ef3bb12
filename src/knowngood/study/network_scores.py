"""Scores out of sample by fine-tuned networks: slower than a machine on features, and sharper where parts are alike."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from knowngood.data.records import Records
from knowngood.data.splits import kfold_up_to, teaches
from knowngood.decide.calibration import fit_calibration
from knowngood.errors import DataError
from knowngood.files import storage_errors, whole_file
from knowngood.models.training.config import TrainConfig
from knowngood.models.training.fitting import fit_inspector
from knowngood.progress import reporter
from knowngood.study.runs import fingerprint_of

Ids: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
TRAININGS = 3
PIECES = 12  # of the set: a third of them is scored, one chooses the epoch, the rest teaches


def network_scores(records: Records, groups: Ids, config: TrainConfig, folder: Path) -> Floats:
    """Fine-tunes a network three times, each time without the third of the images that it then scores.

    Args:
        records: (N rows), decodable; rows without a label get no score.
        groups: int64 (N,), equal numbers are never on both sides.
        config: Of the trainings; splits are its own here.
        folder: For what a killed call goes on from.

    Returns:
        float64 (N,) probability of being bad, calibrated on the given labels, each training by itself; NaN without.

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
            fix="Leave --fine-tune out: a machine on features needs fewer.",
        )
    facts = [fingerprint_of(labelled), groups[known].tolist(), config.model_dump(mode="json")]
    work = folder / f"scores-{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]}.work"
    found = np.full(len(labels), np.nan)
    for number in range(TRAININGS):
        held = _held(pieces, number)
        reporter().say(f"scores out of sample: training {number + 1} of {TRAININGS}")
        margins = _margins(labelled, groups[known], pieces, number, config, work)[held]
        sound = np.isfinite(margins)
        calibration = fit_calibration(margins[sound], labels[held][sound].astype(np.uint8))
        found[held] = np.where(sound, calibration.apply(np.where(sound, margins, 0.0)), np.nan)
    shutil.rmtree(work, ignore_errors=True)
    scores = np.full(len(records), np.nan)
    scores[known] = found
    return scores


def _held(pieces: Ids, number: int) -> npt.NDArray[np.bool_]:
    """Returns which rows a training scores; those of no piece, generated ones, are scored by none."""
    return np.asarray((pieces >= 0) & (pieces % TRAININGS == number), np.bool_)


def _margins(
    records: Records, groups: Ids, pieces: Ids, number: int, config: TrainConfig, work: Path
) -> npt.NDArray[np.float64]:
    """Returns the margins of all rows by the training that has not seen the pieces of its number."""
    kept = work / f"{number}.npy"
    if kept.is_file():
        return np.asarray(np.load(kept), np.float64)
    held, chooses = _held(pieces, number), (number + 1) % TRAININGS
    learns = np.all([teaches(pieces, piece) for piece in {chooses, *np.unique(pieces[held]).tolist()}], axis=0)
    split = np.select([held, pieces == chooses, learns], ["test", "val", "train"], "")
    divided = records.with_frame(
        records.frame.with_columns(split=pl.Series(split).replace("", None))  # copies of what is held out learn nothing
    )
    fitted = fit_inspector(divided, groups, config, work / str(number), pixels=work / "pixels")
    margins = fitted.margins.astype(np.float64)
    with storage_errors(kept), whole_file(kept) as scratch, scratch.open("wb") as handle:
        np.save(handle, margins)
    shutil.rmtree(work / str(number), ignore_errors=True)
    return margins

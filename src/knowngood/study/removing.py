"""Does it help to remove or relabel what an audit doubts? Measured with paired seeds, before anyone believes it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from knowngood.data.loading import loaded
from knowngood.data.records import BAD, GOOD, Records
from knowngood.data.units import groups_of, with_units
from knowngood.data.verdicts import read_verdicts, with_verdicts
from knowngood.decide.metrics import auroc, fpr_at_tpr
from knowngood.errors import DataError
from knowngood.files import write_json
from knowngood.models.features import Features, features
from knowngood.models.training.config import TrainConfig
from knowngood.models.training.fitting import fit_inspector
from knowngood.progress import reporter
from knowngood.study.dividing import divided_as
from knowngood.study.doubts import doubts
from knowngood.study.effects import TPR, effects
from knowngood.study.removal_arms import Change, changes
from knowngood.study.removal_config import RemovalConfig
from knowngood.study.runs import fingerprint_of

PART = ("train", "val")  # what an inspector is taught on; calibration and test are never changed
Ids: TypeAlias = npt.NDArray[np.int64]
Labels: TypeAlias = npt.NDArray[np.uint8]
_NOBODY = 255


@dataclass(frozen=True)
class RemovalTrial:
    """A finished trial.

    Attributes:
        folder: With removal.json.
        table: A row a seed, an arm and a set of labels to judge by: auroc, overkill, images changed.
        document: What removal.json holds: `arms` with their means, `effects` with intervals and sentences, `notes`.
    """

    folder: Path
    table: pl.DataFrame
    document: dict[str, Any]


def removal_trial(  # noqa: PLR0913  (an argument each for what the command has options for)
    data: str | Path | Records,
    out: str | Path,
    config: RemovalConfig | None = None,
    *,
    backbone: str = "resnet50",
    weights: Path | None = None,
    image_size: int | None = None,
    source: str | None = None,
    good: Sequence[str] = (),
    bad: Sequence[str] = (),
    one_sided: bool = False,
    seed: int = 0,
    truth: Mapping[str, int] | None = None,
) -> RemovalTrial:
    """Measures whether removing or relabelling what an audit doubts makes a better inspector.

    For each seed the labelled images are divided anew (whatever splits the source gave). The audit then sees the
    training part alone, and only that part is changed; the test images and their labels stay as given. Every arm
    of a seed has the same split. A trial that was killed goes on with the seed it was at.

    Args:
        data: Folder, manifest, the word of a source, or records.
        out: Folder for removal.json.
        config: Seeds, preset, verdicts to try.
        backbone: Network of the audit and of the trainings.
        weights: File or folder with its weights.
        image_size: Side of the square with as many pixels as the network sees; its own by default.
        source: Data source, when it should not be guessed.
        good: Names of folders, or values of a label column, that mean good.
        bad: The same for bad.
        one_sided: Leave images labelled bad alone.
        seed: The first of the seeds.
        truth: Image to true label (0 good, 1 bad), where it is known: test images are judged by it as well.

    Raises:
        DataError: There are too few images, or a verdict is about an image that is not in the set.
        WeightsError: The network's weights are not to be had.
    """
    config, folder = config or RemovalConfig(), Path(out)
    records = with_units(loaded(data, source, good=good, bad=bad, out=out)).usable().labelled()
    verdicts = None if config.verdicts is None else read_verdicts(config.verdicts)
    if verdicts is not None:
        with_verdicts(records, verdicts)  # refuses those of another set before the long work
    deep = features(records, backbone, weights=weights, image_size=image_size, stages=True)
    sound = np.isfinite(deep.rows).all(axis=1)
    trial = _Trial(
        records.with_frame(records.frame.filter(pl.Series(sound))),
        deep.of(np.flatnonzero(sound)),
        TrainConfig(model=backbone, preset=config.train_preset, weights=weights, image_size=image_size, resplit=True),
        one_sided,
        verdicts,
        folder / "removal.work",
    )
    judges = _judges(trial.records, verdicts, truth)
    rows: list[dict[str, Any]] = []
    for number in range(seed, seed + config.seeds):
        reporter().say(f"removal trial: seed {number} ({number - seed + 1} of {config.seeds})")
        rows += trial.rows(number, judges)
    table = pl.DataFrame(rows, infer_schema_length=None)
    overlap = trial.config.test / (1 - trial.config.test) / (1 - trial.config.calibration)
    document = _document(trial, config, table, seed, one_sided) | effects(table, overlap)
    write_json(folder / "removal.json", document)
    shutil.rmtree(trial.work, ignore_errors=True)
    return RemovalTrial(folder, table, document)


class _Trial:
    """What all seeds and arms share."""

    def __init__(
        self,
        records: Records,
        deep: Features,
        config: TrainConfig,
        one_sided: bool,
        verdicts: pl.DataFrame | None,
        work: Path,
    ) -> None:
        self.records, self.deep, self.config, self.work = records, deep, config, work
        self.one_sided, self.verdicts = one_sided, verdicts
        self.groups = groups_of(records)

    def rows(self, seed: int, judges: Mapping[str, Labels]) -> list[dict[str, Any]]:
        """Returns the figures of every arm of one seed; those that a killed call had found are read."""
        facts = [fingerprint_of(self.records), self.config.model_dump(mode="json"), self.deep.origin, self.one_sided]
        said = [] if self.verdicts is None else self.verdicts.rows()
        by = {name: labels.tolist() for name, labels in judges.items()}
        key = hashlib.sha256(json.dumps([facts, said, by, seed]).encode()).hexdigest()[:16]
        kept = self.work / f"{key}.json"
        if kept.is_file():
            found: list[dict[str, Any]] = json.loads(kept.read_text(encoding="utf-8"))
            return found
        divided = divided_as(self.records, self.groups, self.config, seed)
        test = (divided.frame["split"] == "test").to_numpy()
        rows = []
        for arm, change in self._changes(divided, seed).items():
            margins, trouble = self._taught(divided, change, seed)
            for judge, labels in judges.items():
                asked = test & (labels != _NOBODY) & np.isfinite(margins)
                rows.append(_row(seed, arm, judge, change, labels[asked], margins[asked]) | {"trouble": trouble})
        write_json(kept, rows)
        return rows

    def _changes(self, divided: Records, seed: int) -> dict[str, Change]:
        """Audits the training part alone, so that nothing of the other images decides what is changed."""
        part = np.flatnonzero(divided.frame["split"].is_in(PART).to_numpy())
        learning = divided.with_frame(divided.frame[part])
        alone = np.arange(len(part))  # copies are not among the arms
        found = doubts(learning, self.deep.of(part), self.groups[part], alone, seed, one_sided=self.one_sided)
        return changes(found, part, len(divided), seed, self.verdicts)

    def _taught(self, divided: Records, change: Change, seed: int) -> tuple[npt.NDArray[np.float64], str]:
        """Trains on the changed part; returns the margins of all rows, and why there are none."""
        config = self.config.model_copy(update={"seed": seed})
        folder = self.work / f"{change.name.replace(' ', '-')}-{seed}" if config.fine_tuning_epochs else self.work
        try:
            fitted = fit_inspector(changed(divided, change), self.groups, config, folder)
        except DataError as refused:
            return np.zeros(len(divided)), refused.what
        finally:
            if folder != self.work:
                shutil.rmtree(folder, ignore_errors=True)
        return fitted.margins.astype(np.float64), ""


def changed(records: Records, change: Change) -> Records:
    """Returns the records with some labels changed; images that leave have no split and teach nothing."""
    label = pl.Series(change.labels, dtype=pl.Int16)
    other, was_bad = pl.Series(change.relabelled), pl.col("label") == BAD
    frame = records.frame.with_columns(
        split=pl.when(pl.Series(change.leaves)).then(None).otherwise(pl.col("split")),
        label=pl.when(other).then(label).otherwise(pl.col("label")),
        defect=pl.when(~other).then(pl.col("defect")).when(was_bad).then(None).otherwise(pl.lit("bad")),
        probability=pl.when(other).then(None).otherwise(pl.col("probability")),
    )
    return records.with_frame(frame)


def _judges(records: Records, verdicts: pl.DataFrame | None, truth: Mapping[str, int] | None) -> dict[str, Labels]:
    """Returns the labels that the test images are judged by; 255 where there is none."""
    frame = records.frame
    judges = {"given": frame["label"].to_numpy().astype(np.uint8)}
    if verdicts is not None:
        said = dict(verdicts.select("image", "verdict").iter_rows())
        meaning = {"good": GOOD, "bad": BAD, "drop": _NOBODY}
        pairs = zip(frame["image"], judges["given"], strict=True)
        judges["corrected"] = np.array([meaning.get(said.get(name, ""), label) for name, label in pairs], np.uint8)
    if truth is not None:
        judges["true"] = np.array([truth.get(name, _NOBODY) for name in frame["image"]], np.uint8)
    return judges


def _row(
    seed: int, arm: str, judge: str, change: Change, labels: Labels, margins: npt.NDArray[np.float64]
) -> dict[str, Any]:
    return {
        "seed": seed,
        "arm": arm,
        "judged_by": judge,
        "removed": int(change.leaves.sum()),
        "relabelled": int(change.relabelled.sum()),
        "auroc": auroc(labels, margins),
        "overkill": fpr_at_tpr(labels, margins, TPR),
        "good": int((labels == GOOD).sum()),
        "bad": int((labels == BAD).sum()),
    }


def _document(trial: _Trial, config: RemovalConfig, table: pl.DataFrame, seed: int, one_sided: bool) -> dict[str, Any]:
    records = trial.records
    return {
        "data": {"source": records.source, "root": str(records.root), "images": len(records)},
        "config": config.model_dump(mode="json"),
        "backbone": trial.deep.backbone,
        "weights": trial.deep.origin,
        "seeds": list(range(seed, seed + config.seeds)),
        "one_sided": one_sided,
        "table": table.to_dicts(),
    }

"""What an audit holds against the photographs of a set, before a person has looked: one table, a row an image."""

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

from knowngood.data.labels import read_verdicts, with_verdicts
from knowngood.data.loading import loaded
from knowngood.data.records import BAD, GOOD, Records
from knowngood.data.splits import kfold_up_to, split
from knowngood.data.units import groups_of, with_units
from knowngood.errors import DataError
from knowngood.experiments.configs import RemovalConfig
from knowngood.files import write_json
from knowngood.metrics.comparisons import RepeatedDifference, compare_repeats
from knowngood.metrics.figures import auroc, fpr_at_tpr
from knowngood.models.features import Features, features
from knowngood.outliers.audit_table import audit_table
from knowngood.outliers.label_issues import out_of_fold_scores
from knowngood.progress import reporter
from knowngood.training.config import TrainConfig
from knowngood.training.fit import fit_inspector
from knowngood.wording import counted
from knowngood.workflows.runs import fingerprint_of

FOLDS = 5
Ids: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]


def doubts(
    records: Records,
    deep: Features,
    groups: Ids,
    clusters: Ids,
    seed: int,
    *,
    detectors: Sequence[str] = (),
    one_sided: bool = False,
    scores: Floats | None = None,
) -> pl.DataFrame:
    """Audits some photographs, knowing nothing but them.

    Args:
        records: (N rows), decodable.
        deep: Features of the same rows, with stages.
        groups: int64 (N,), equal numbers are never on both sides of a fold.
        clusters: int64 (N,), equal numbers are near-duplicates.
        seed: Of folds and of everything drawn.
        detectors: Registered detectors to ask besides the two.
        one_sided: Report doubts about images labelled bad apart.
        scores: (N,) probabilities of being bad, out of sample, from elsewhere; by a machine on the features if None.

    Returns:
        As `audit_table`; labels are doubted by the likelier class, on scores out of sample.
    """
    folds = _folds(records, groups, seed)
    if scores is None and (folds >= 0).any():
        scores = suspicion(records, deep, folds, seed)
    return audit_table(
        records.frame,
        deep.rows,
        folds,
        clusters,
        seed,
        detectors=detectors,
        one_sided=one_sided,
        rule="likelier",  # on planted noise confident learning alone misses a third of the wrong labels
        scores=scores,
    )


def suspicion(records: Records, deep: Features, folds: Ids, seed: int) -> Floats:
    """Returns the probability of being bad, out of sample, float64 (N,); NaN without label or fold."""
    assert deep.stages is not None
    labels = records.frame["label"].fill_null(255).to_numpy()
    known = np.isin(labels, (0, 1))
    scores = np.full(len(labels), np.nan)
    scores[known] = out_of_fold_scores(deep.stages[known], labels[known], folds[known], seed).scores
    return scores


def _folds(records: Records, groups: Ids, seed: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Returns folds by group; a set with one class has no labels to doubt and needs none."""
    counts = records.counts()
    if not (counts["good"] and counts["bad"]):
        return np.full(len(records), -1, np.int64)
    return kfold_up_to(records, FOLDS, seed, groups=groups)


Bools: TypeAlias = npt.NDArray[np.bool_]
AS_IT_IS = "as it is"
_LABEL = {"good": GOOD, "bad": BAD}


@dataclass(frozen=True)
class Change:
    """One arm.

    Attributes:
        name: Of the arm.
        leaves: bool (N,), images that teach no more.
        relabelled: bool (N,), images that get `labels`.
        labels: int16 (N,), the new label where relabelled; anything elsewhere.
    """

    name: str
    leaves: Bools
    relabelled: Bools
    labels: npt.NDArray[np.int16]


def changes(found: pl.DataFrame, part: Ids, count: int, seed: int, verdicts: pl.DataFrame | None) -> dict[str, Change]:
    """Returns the arms by name, the unchanged set first.

    Args:
        found: Audit of the training part (P rows), see `audit_table`.
        part: int64 (P,), its rows among all.
        count: N, of all images.
        seed: Of the random removal.
        verdicts: From `read_verdicts`; those about the training part are applied, the others are not.
    """
    given = found["label"].to_numpy()
    outlier = found["outlier"].to_numpy()
    suspect = found["suspect"].fill_null(False).to_numpy()
    nobody, labels = np.zeros(len(part), bool), np.where(suspect, 1 - given.astype(np.int16), given)
    arms = {
        AS_IT_IS: (nobody, nobody, given),
        "outliers removed": (outlier, nobody, given),
        "suspects relabelled": (nobody, suspect, labels),
        "suspects removed": (suspect, nobody, given),
        "as many removed at random": (_as_many(suspect, given, seed), nobody, given),
    }
    if verdicts is not None:
        said = found.select("image").join(verdicts, on="image", how="left", maintain_order="left")["verdict"].to_list()
        told = np.array([_LABEL.get(word, old) for word, old in zip(said, given, strict=True)], np.int16)
        arms["verdicts applied"] = (np.array([word == "drop" for word in said]), told != given, told)
    return {name: _spread(name, part, count, *arm) for name, arm in arms.items()}


def _as_many(suspect: Bools, given: npt.NDArray[np.uint8], seed: int) -> Bools:
    """Draws as many images of each label as there are suspects: what removal costs that is not about labels."""
    random = np.random.default_rng([seed, 1])
    drawn = np.zeros(len(suspect), bool)
    for label in (GOOD, BAD):
        rows = np.flatnonzero(given == label)
        drawn[random.permutation(rows)[: int((suspect & (given == label)).sum())]] = True
    return drawn


def _spread(
    name: str, part: Ids, count: int, leaves: Bools, relabelled: Bools, labels: npt.NDArray[np.int16]
) -> Change:
    everything = Change(name, np.zeros(count, bool), np.zeros(count, bool), np.zeros(count, np.int16))
    everything.leaves[part], everything.relabelled[part], everything.labels[part] = leaves, relabelled, labels
    return everything


TPR = 0.995
FIGURES = {"auroc": True, "overkill": False}  # and whether higher is better
JUDGES = {"given": "the given labels", "corrected": "labels as a person corrected them", "true": "the true labels"}


def effects(table: pl.DataFrame, overlap: float) -> dict[str, Any]:
    """Compares every arm with the set as it is.

    Args:
        table: A row a seed, an arm and a judge.
        overlap: Test images for each training image.

    Returns:
        `arms` (means over seeds), `effects` (difference, interval, outcome and sentence of each arm and judge) and
        `notes`.
    """
    arms, found, notes = [], [], []
    for (judge, arm), rows in table.group_by("judged_by", "arm", maintain_order=True):
        trouble = [text for text in rows["trouble"].to_list() if text]
        if trouble:
            notes.append(f"{str(arm).capitalize()}: no training was possible ({trouble[0]})")
            continue
        means = {name: rows[name].mean() for name in (*FIGURES, "removed", "relabelled")}
        arms.append({"arm": arm, "judged_by": judge, **means})
        if arm != AS_IT_IS:
            before = table.filter(judged_by=judge, arm=AS_IT_IS)
            found.append(_effect(str(arm), str(judge), rows, before, overlap))
    bads = table["bad"].min()
    if isinstance(bads, int) and bads * (1 - TPR) < 1:
        notes.append(
            f"With {bads} bad test images a TPR of {100 * TPR:g} % means that none may escape: one image decides."
        )
    return {"arms": arms, "effects": found, "notes": list(dict.fromkeys(notes))}


def _effect(arm: str, judge: str, rows: pl.DataFrame, before: pl.DataFrame, overlap: float) -> dict[str, Any]:
    compared = {
        name: compare_repeats(rows[name].to_numpy(), before[name].to_numpy(), overlap=overlap, higher_is_better=better)
        for name, better in FIGURES.items()
    }
    touched = float((rows["removed"] + rows["relabelled"]).mean() or 0)  # type: ignore[arg-type]
    one = {"arm": arm, "judged_by": judge, "images": touched, "seeds": rows.height}
    for name, found in compared.items():
        one[name] = {"difference": found.difference, "interval": list(found.interval), "outcome": found.outcome}
    return one | {"sentence": _sentence(arm, judge, touched, compared)}


def _sentence(arm: str, judge: str, touched: float, compared: dict[str, RepeatedDifference]) -> str:
    if not touched:
        return f"{arm.capitalize()}: there was nothing to change."
    auc, overkill = compared["auroc"], compared["overkill"]
    first = _clause("AUC", auc, "{:+.4f}", 1)
    second = _clause(f"overkill at TPR {100 * TPR:g} %", overkill, "{:+.1f}", 100, " points")
    changed = counted(round(touched), "image")
    return f"{arm.capitalize()} ({changed}): {first}; {second}; {auc.repeats} seeds, judged by {JUDGES[judge]}."


def _clause(name: str, found: RepeatedDifference, form: str, scale: float, unit: str = "") -> str:
    low, high = (form.format(scale * end) for end in found.interval)
    return f"{name} {form.format(scale * found.difference)}{unit} ({low} to {high}): {found.outcome}"


PART = ("train", "val")  # what an inspector is taught on; calibration and test are never changed
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
    model: str = "resnet50",
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
        model: Network of the audit and of the trainings.
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
    deep = features(records, model, weights=weights, image_size=image_size, stages=True)
    sound = np.isfinite(deep.rows).all(axis=1)
    trial = _Trial(
        records.with_frame(records.frame.filter(pl.Series(sound))),
        deep.of(np.flatnonzero(sound)),
        TrainConfig(model=model, preset=config.preset, weights=weights, image_size=image_size, resplit=True),
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
        divided = split(self.records, self.config, seed=seed, groups=self.groups)
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
        "model": trial.deep.model,
        "weights": trial.deep.origin,
        "seeds": list(range(seed, seed + config.seeds)),
        "one_sided": one_sided,
        "table": table.to_dicts(),
    }

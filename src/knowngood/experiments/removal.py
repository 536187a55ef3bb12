"""The removal trial: is an inspector better when outliers and suspected labels of its training part are changed?"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
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
from knowngood.experiments.effects import LEAST, clauses, effect_of, mean_of, notes_on, relabelled, table_of
from knowngood.experiments.runner import Arm, Outcome, SeedPlan, run_arms, scored
from knowngood.files import write_json
from knowngood.models.features import Features, features
from knowngood.outliers.audit_table import audit_table
from knowngood.outliers.label_issues import out_of_fold_scores
from knowngood.training.config import TrainConfig
from knowngood.training.fit import fit_inspector
from knowngood.wording import counted
from knowngood.workflows.runs import fingerprint_of

FOLDS = 5
Ids: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]


def find_issues(
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
    """Finds outliers and suspected labels among some images, and looks at no others.

    Args:
        records: (N rows), decodable.
        deep: Features of the same rows, with stages.
        groups: int64 (N,), rows with equal numbers are never on both sides of a fold.
        clusters: int64 (N,), rows with equal numbers are near-duplicates.
        seed: Of the folds and of everything that is drawn.
        detectors: Registered detectors to run besides the two of the study.
        one_sided: List suspected labels of images labelled bad apart.
        scores: (N,) out-of-fold probabilities of being bad; from an SVM on the features if None.

    Returns:
        As `audit_table`; a label is suspected where the other class is likelier out of fold.
    """
    folds = _folds(records, groups, seed)
    if scores is None and (folds >= 0).any():
        scores = bad_probabilities(records, deep, folds, seed)
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


def bad_probabilities(records: Records, deep: Features, folds: Ids, seed: int) -> Floats:
    """Returns the out-of-fold probability of being bad, float64 (N,) in [0, 1]; NaN for a row without label or fold."""
    assert deep.stages is not None
    labels = records.frame["label"].fill_null(255).to_numpy()
    known = np.isin(labels, (0, 1))
    scores = np.full(len(labels), np.nan)
    scores[known] = out_of_fold_scores(deep.stages[known], labels[known], folds[known], seed).scores
    return scores


def _folds(records: Records, groups: Ids, seed: int) -> Ids:
    """Returns folds by group, int64 (N,); -1 everywhere for a set with one class, which has no label to suspect."""
    counts = records.counts()
    if not (counts["good"] and counts["bad"]):
        return np.full(len(records), -1, np.int64)
    return kfold_up_to(records, FOLDS, seed, groups=groups)


AS_IT_IS = "as it is"
_LABEL = {"good": GOOD, "bad": BAD}


@dataclass(frozen=True)
class Change:
    """What one arm changes in the training part.

    Attributes:
        name: Of the arm.
        removed: bool (N,), images that are not trained on.
        relabelled: bool (N,), images that get another label.
        labels: int16 (N,), the new label where `relabelled`; meaningless elsewhere.
    """

    name: str
    removed: Bools
    relabelled: Bools
    labels: npt.NDArray[np.int16]


def changes(issues: pl.DataFrame, part: Ids, count: int, seed: int, verdicts: pl.DataFrame | None) -> list[Change]:
    """Returns the change of every arm, the unchanged set first.

    Args:
        issues: Of the training part (P rows), from `find_issues`.
        part: int64 (P,), its rows among all.
        count: N, of all images.
        seed: Of the random removal.
        verdicts: From `read_verdicts`; those on the training part are applied, the others are not.
    """
    given = issues["label"].to_numpy()
    outlier = issues["outlier"].to_numpy()
    suspect = issues["suspect"].fill_null(False).to_numpy()
    nothing, flipped = np.zeros(len(part), bool), np.where(suspect, 1 - given.astype(np.int16), given)
    arms = {
        AS_IT_IS: (nothing, nothing, given),
        "outliers removed": (outlier, nothing, given),
        "suspects relabelled": (nothing, suspect, flipped),
        "suspects removed": (suspect, nothing, given),
        "as many removed at random": (_as_many(suspect, given, seed), nothing, given),
    }
    if verdicts is not None:
        joined = issues.select("image").join(verdicts, on="image", how="left", maintain_order="left")
        words = joined["verdict"].to_list()
        corrected = np.array([_LABEL.get(word, old) for word, old in zip(words, given, strict=True)], np.int16)
        arms["verdicts applied"] = (np.array([word == "drop" for word in words]), corrected != given, corrected)
    return [_for_all_rows(name, part, count, *arm) for name, arm in arms.items()]


def _as_many(suspect: Bools, given: npt.NDArray[np.uint8], seed: int) -> Bools:
    """Draws as many images of each label as there are suspects: what removal costs that is not about labels."""
    random = np.random.default_rng([seed, 1])
    drawn = np.zeros(len(suspect), bool)
    for label in (GOOD, BAD):
        rows = np.flatnonzero(given == label)
        drawn[random.permutation(rows)[: int((suspect & (given == label)).sum())]] = True
    return drawn


def _for_all_rows(
    name: str, part: Ids, count: int, removed: Bools, relabelled: Bools, labels: npt.NDArray[np.int16]
) -> Change:
    change = Change(name, np.zeros(count, bool), np.zeros(count, bool), np.zeros(count, np.int16))
    change.removed[part], change.relabelled[part], change.labels[part] = removed, relabelled, labels
    return change


def changed(records: Records, change: Change) -> Records:
    """Returns the records with some labels changed; removed images have no split and are not trained on."""
    label = pl.Series(change.labels, dtype=pl.Int16)
    other, was_bad = pl.Series(change.relabelled), pl.col("label") == BAD
    frame = records.frame.with_columns(
        split=pl.when(pl.Series(change.removed)).then(None).otherwise(pl.col("split")),
        label=pl.when(other).then(label).otherwise(pl.col("label")),
        defect=pl.when(~other).then(pl.col("defect")).when(was_bad).then(None).otherwise(pl.lit("bad")),
        probability=pl.when(other).then(None).otherwise(pl.col("probability")),
    )
    return records.with_frame(frame)


PART = ("train", "val")  # what an inspector is trained on; calibration and test are never changed
REFERENCES = {"given": "the given labels", "corrected": "labels as a person corrected them", "true": "the true labels"}


@dataclass(frozen=True)
class RemovalTrial:
    """A finished trial.

    Attributes:
        folder: With removal.json.
        table: One row for each seed, arm and reference (the labels of the test images): auroc, overkill, images
            changed.
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
    """Measures whether an inspector is better when the issues of its training part are removed or relabelled.

    For each seed the labelled images are split anew (whatever splits the source gave). The audit then sees the
    training part only, and only that part is changed; the test images and their labels stay as given. All arms of a
    seed have the same split. A trial that was killed goes on with the training at which it was.

    Args:
        data: Folder, manifest, the word of a source, or records.
        out: Folder for removal.json.
        config: Seeds, preset, verdicts.
        model: Network of the audit and of the trainings.
        weights: File or folder with its weights.
        image_size: Side of the square with as many pixels as the network sees; its own by default.
        source: Data source, when it should not be guessed.
        good: Names of folders, or values of a label column, that mean good.
        bad: The same for bad.
        one_sided: Suspect no label of an image labelled bad.
        seed: The first of the seeds.
        truth: Image to true label (0 good, 1 bad), where it is known: the test images are also evaluated with it.

    Raises:
        DataError: There are too few images, or a verdict is on an image that is not in the set.
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
        TrainConfig(
            model=model,
            preset=config.preset,
            head="pooled",
            weights=weights,
            image_size=image_size or "own",
            resplit=True,
        ),
        one_sided,
        verdicts,
        folder / "removal.work",
    )
    seeds = range(seed, seed + config.seeds)
    done = run_arms(seeds, trial.plan, work=trial.work, key=trial.key())
    if AS_IT_IS not in done.outcomes:
        raise DataError(f"The set as it is cannot be trained on {done.refused.get(AS_IT_IS, '')}.")
    references = _references(trial.records, verdicts, truth)
    found = _effects(done.outcomes, references)
    notes = [f"{arm.capitalize()}: no training was possible ({reason})" for arm, reason in done.refused.items()]
    document = {
        "data": {"source": records.source, "root": str(records.root), "images": len(trial.records)},
        "config": config.model_dump(mode="json"),
        "model": deep.model,
        "weights": deep.origin,
        "seeds": list(seeds),
        "one_sided": one_sided,
        **found,
        "notes": [*notes, *found["notes"]],
    }
    write_json(folder / "removal.json", document)
    shutil.rmtree(trial.work, ignore_errors=True)
    return RemovalTrial(folder, pl.DataFrame(found["table"], infer_schema_length=None), document)


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

    def key(self) -> list[object]:
        """Returns everything besides the seed that decides an outcome, as JSON types."""
        verdicts = [] if self.verdicts is None else self.verdicts.rows()
        config = self.config.model_dump(mode="json")
        return ["removal", fingerprint_of(self.records), config, self.deep.origin, self.one_sided, verdicts]

    def plan(self, seed: int) -> SeedPlan:
        """Returns the arms of one seed; the audit sees the training part only, so that no other image decides."""
        divided = split(self.records, self.config, seed=seed, groups=self.groups)
        part = np.flatnonzero(divided.frame["split"].is_in(PART).to_numpy())
        learning = divided.with_frame(divided.frame[part])
        alone = np.arange(len(part))  # no arm is about near-duplicates
        issues = find_issues(learning, self.deep.of(part), self.groups[part], alone, seed, one_sided=self.one_sided)
        return SeedPlan(
            [
                Arm(change.name, partial(self._train, divided, change, seed))
                for change in changes(issues, part, len(divided), seed, self.verdicts)
            ]
        )

    def _train(self, divided: Records, change: Change, seed: int) -> Outcome:
        """Trains on the changed part and scores the test images, whose labels are as given."""
        config = self.config.model_copy(update={"seed": seed})
        folder = self.work / f"{change.name.replace(' ', '-')}-{seed}"
        changed_set, pixels = changed(divided, change), self.work / "pixels"  # decoded once for all arms
        fitted = fit_inspector(changed_set, self.groups, config, folder, pixels=pixels)
        shutil.rmtree(folder, ignore_errors=True)
        test = divided.frame.with_columns(raw_score=fitted.raw_scores).filter(pl.col("split") == "test")
        facts = {"removed": int(change.removed.sum()), "relabelled": int(change.relabelled.sum())}
        return scored(seed, test["image"].to_list(), test["label"], test["raw_score"], facts)


def _references(
    records: Records, verdicts: pl.DataFrame | None, truth: Mapping[str, int] | None
) -> dict[str, dict[str, int]]:
    """Returns the labels that the test images are evaluated with: image to label; an image without one is left out."""
    given = dict(records.frame.select("image", "label").iter_rows())
    references = {"given": given}
    if verdicts is not None:
        words = dict(verdicts.select("image", "verdict").iter_rows())
        kept = {image: label for image, label in given.items() if words.get(image) != "drop"}
        references["corrected"] = {image: _LABEL.get(words.get(image, ""), label) for image, label in kept.items()}
    if truth is not None:
        references["true"] = {image: truth[image] for image in given if image in truth}
    return references


def _effects(
    outcomes: Mapping[str, Sequence[Outcome]], references: Mapping[str, Mapping[str, int]]
) -> dict[str, list[Any]]:
    """Returns `table`, `arms` (means over the seeds), `effects` against the set as it is, and `notes`; JSON types."""
    document: dict[str, list[Any]] = {"table": [], "arms": [], "effects": [], "notes": []}
    for reference, labels in references.items():
        own = {arm: [relabelled(one, labels) for one in found] for arm, found in outcomes.items()}
        counts = [one.scores["label"].eq(label).sum() for one in own[AS_IT_IS] for label in (GOOD, BAD)]
        if min(counts) < LEAST:
            document["notes"].append(f"Too few test images of a class have {REFERENCES[reference]}.")
            continue
        of = {"judged_by": reference}
        document["table"] += [row | of for row in table_of(own)]
        document["arms"] += [mean_of(arm, found) | of for arm, found in own.items()]
        document["effects"] += [
            {"arm": arm, **of, **effect} for arm, effect in _against_as_it_is(own, REFERENCES[reference])
        ]
        document["notes"] += [note for note in notes_on(own) if note not in document["notes"]]
    return document


def _against_as_it_is(outcomes: Mapping[str, Sequence[Outcome]], labels: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for arm, found in outcomes.items():
        if arm == AS_IT_IS:
            continue
        images = float(np.mean([one.facts["removed"] + one.facts["relabelled"] for one in found]))
        effect = {"images": images, **effect_of(found, outcomes[AS_IT_IS])}
        start = f"{arm.capitalize()} ({counted(round(images), 'image')})"
        sentence = f"{start}: {clauses(effect)}; {effect['seeds']} seeds, judged by {labels}."
        yield arm, effect | {"sentence": sentence if images else f"{arm.capitalize()}: there was nothing to change."}

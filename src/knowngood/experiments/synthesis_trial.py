"""Do generated images help a classifier? Trainings with and without them, paired over seeds, on the same real test."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from knowngood.data.records import BAD, Records
from knowngood.data.sources.manifest import ABOUT
from knowngood.data.units import groups_of
from knowngood.errors import DataError, KnownGoodError
from knowngood.experiments.configs import ALL, JudgeConfig
from knowngood.experiments.effects import LEAST, clauses, effect_of, mean_of, notes_on, table_of
from knowngood.experiments.runner import Arm, Outcome, SeedPlan, run_arms, scored
from knowngood.experiments.training_sets import TrainingSet, read_generated, spread_over_defects, with_generated
from knowngood.files import sha256_of
from knowngood.models.features import features
from knowngood.progress import reporter
from knowngood.synthesis.generators import open_image_generator
from knowngood.synthesis.writing import training_images_of, write_set
from knowngood.training.config import TrainConfig
from knowngood.training.fit import fit_inspector
from knowngood.training.svm_head import fit_svm_on
from knowngood.wording import counted
from knowngood.workflows.runs import fingerprint_of

NONE, EVERYTHING, ALONE = "none", "all of these", "made alone"
OURS = ("transforms", "transplant")  # generated anew from the bads of each regime
_MOST = 1000  # images that an arm adds by default
Ids: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class GivenSet:
    """A made set that the user brought.

    Attributes:
        place: Folder or manifest.
        generator: Name of its arm.
        trained_on: SHA-256 of the bads that its generator was trained on; None where that is unknown.
        bads: How many bad images it holds.
    """

    place: Path
    generator: str
    trained_on: frozenset[str] | None
    bads: int

    def knew(self) -> int:
        """Returns how many bads its generator learned from; a set that does not say is taken to know all."""
        return 1 << 60 if self.trained_on is None else len(self.trained_on)


def given_set(place: Path) -> GivenSet:
    """Reads what a made set says of itself.

    Raises:
        DataError: It cannot be read, or holds no bad image.
    """
    frame = read_generated(place)
    bads = int((frame["label"] == BAD).sum())
    if not bads:
        raise DataError(f"None of the images in {str(place)!r} is labelled bad.", expected="made bad images")
    trained_on = training_images_of(place)
    known = None if trained_on is None else frozenset(trained_on.filter(pl.col("label") == BAD)["sha256"].drop_nulls())
    return GivenSet(place, _generator_of(place), known, bads)


def _generator_of(place: Path) -> str:
    try:
        about = json.loads(((place if place.is_dir() else place.parent) / ABOUT).read_text(encoding="utf-8"))
        config = about["config"]
        return str(config["generator"] if "generator" in config else config["maker"])  # "maker" in sets of version 0.1
    except (OSError, ValueError, KeyError, TypeError):
        return "generated"


def chosen_for(regime: str, given: Sequence[GivenSet]) -> dict[str, GivenSet]:
    """Returns for each generator the set to use in a regime: trained on as many bads as there are, or on the fewest.

    What can be made here, anew of the bads of the regime, is not taken from a set whose generator knew more.
    """
    room = 1 << 61 if regime == ALL else int(regime)
    chosen: dict[str, GivenSet] = {}
    for one in sorted(given, key=lambda each: each.knew()):
        if one.knew() <= room or (one.generator not in chosen and one.generator not in OURS):
            chosen[one.generator] = one
    return chosen


def thinned(divided: Records, regime: str, first: frozenset[str], seed: int, *, whole_val: bool) -> Records:
    """Returns the set with so many real bads in the training split; the others have no split.

    Args:
        divided: With splits.
        regime: A number, or "all".
        first: SHA-256 of bads that are kept before others: those that a generator learned from.
        seed: Which others are kept; every defect keeps its share.
        whole_val: Whether bads of the split val stay (they choose an epoch), or go too (an SVM head is fitted on them).
    """
    if regime == ALL:
        return divided
    frame = divided.frame
    bads = frame.filter((pl.col("split") == "train") & (pl.col("label") == BAD))
    known = bads.filter(pl.col("sha256").is_in(list(first)))
    if known.height > int(regime):
        known = known.clear()  # the generator saw more than there are: these are drawn as if it had seen none
    others = bads.join(known, on="image", how="anti")
    kept = pl.concat([known["image"], spread_over_defects(others, int(regime) - known.height, seed)]).to_list()
    goes = (pl.col("label") == BAD) & (
        ((pl.col("split") == "train") & ~pl.col("image").is_in(kept)) | ((pl.col("split") == "val") & (not whole_val))
    )
    return divided.with_frame(frame.with_columns(split=pl.when(goes.fill_null(False)).then(None).otherwise("split")))


def arms_of(
    records: Records, given: Mapping[str, GivenSet], count: int, seed: int, work: Path
) -> tuple[dict[str, TrainingSet], dict[str, str]]:
    """Returns the training sets of one regime and seed by the name of their arm, and why generators are left out.

    Args:
        records: With splits, thinned.
        given: Generator to the set that the user brought.
        count: Images that each arm adds.
        seed: Of the generators.
        work: Folder for the images that are generated here.
    """
    places: dict[str, Path] = {}
    left_out: dict[str, str] = {}
    for name in OURS:
        if name in given:
            continue
        try:
            generator = open_image_generator(name, records, seed)
            places[name] = write_set(name, generator, work / name, count, seed, force=True).folder
        except KnownGoodError as refused:
            left_out[name] = refused.what
    places |= {name: one.place for name, one in given.items()}
    arms = {NONE: TrainingSet(records, changes=("nothing added",))}
    for name, place in places.items():
        larger, change = with_generated(records, place, called=name, most=count)
        arms[name] = TrainingSet(larger, changes=(change,))
    if len(places) > 1:
        together = records
        for name, place in places.items():
            together, _ = with_generated(together, place, called=name, most=count)
        arms[EVERYTHING] = TrainingSet(together, changes=(f"{' and '.join(places)} added",))
    alone = [*given] or [name for name in places if name == "transplant"]
    return arms | {f"{name}, {ALONE}": _without_real_bads(arms[name]) for name in alone}, left_out


def _without_real_bads(given: TrainingSet) -> TrainingSet:
    """Returns the training set without real bads, so that generated ones are all that is known of bads."""
    learning = pl.col("split").is_in(["train", "val"])
    real = (pl.col("label") == BAD) & ~pl.col("generated") & learning
    frame = given.records.frame.with_columns(
        split=pl.when(real.fill_null(False)).then(None).otherwise("split"),
        generated=pl.lit(False),  # folds hold them out as they would real ones
    )
    return replace(given, records=given.records.with_frame(frame), changes=("no real bad image in training",))


def groups_with(records: Records, groups: dict[str, int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Returns what belongs together (N,): made images with what they were made from, else each alone."""
    frame, free = records.frame, max(groups.values(), default=0) + 1
    numbers = []
    for row, (image, source) in enumerate(frame.select("image", "made_from").iter_rows()):
        own = groups.get(image)
        numbers.append(own if own is not None else groups.get(source, free + row))
    return np.array(numbers, np.int64)


def classifier_trial(generated: Path, divided: Records, folder: Path, config: JudgeConfig) -> dict[str, Any]:
    """Trains with and without generated images and measures the difference, paired over seeds.

    Real bads are thinned in the training split only; every arm of a regime and seed has the same ones. A trial that
    was killed goes on with the training at which it was.

    Args:
        generated: The generated set that is judged.
        divided: Images with splits.
        folder: For what is kept between calls, `trial.work`.
        config: Of the judgement.

    Returns:
        JSON types: `table` (one row for each regime, seed and arm), `arms`, `effects` with sentences, `verdict`,
        `notes`.

    Raises:
        DataError: The test has too few images, or a generator learned from test images.
        WeightsError: The weights of the network are not available.
    """
    divided = divided.labelled()
    counts = divided.of_split("test").counts()
    if min(counts["good"], counts["bad"]) < LEAST:
        raise DataError(
            f"The test has {counts['good']} good and {counts['bad']} bad images.", expected=f"at least {LEAST} of each"
        )
    given = [given_set(place) for place in (generated, *config.also)]
    trial = _Trial(divided, given, folder / "trial.work", config)
    outcomes: dict[str, dict[str, tuple[Outcome, ...]]] = {}
    notes: list[str] = []
    for regime in _regimes(divided, config):
        reporter().say(f"classifier with {regime} real bads")
        seeds = range(config.seed, config.seed + config.seeds)
        done = run_arms(seeds, partial(trial.plan, regime), work=trial.work, key=[trial.key, regime])
        outcomes[regime] = done.outcomes
        notes += done.notes
        notes += [f"{arm} with {regime} bads: no training was possible ({why})" for arm, why in done.refused.items()]
    shutil.rmtree(trial.work / "sets", ignore_errors=True)
    found = helped(outcomes, given[0].generator)
    return found | {
        "counts": counts,
        "seeds": config.seeds,
        "preset": config.preset,
        "model": config.classifier_model or config.model,
        "added": trial.count,
        "notes": [*dict.fromkeys(notes), *found["notes"]],
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
        self.training = TrainConfig(
            model=config.classifier_model or config.model,
            preset=config.preset,
            head="pooled",  # the features of all sets are computed once
            epochs=config.epochs if config.preset == "standard" else None,
            image_size=config.image_size or "own",
            weights=config.weights,
            augment=config.augment,
        )
        self.key = [
            "synthesis",
            fingerprint_of(divided),
            self.training.model_dump(mode="json"),
            self.count,
            [sha256_of(file) for one in given for file in _files_of(one.place)],
        ]

    def plan(self, regime: str, seed: int) -> SeedPlan:
        """Returns the arms of one regime and seed, and notes on generators that are left out or knew more bads."""
        chosen = chosen_for(regime, self.given)
        first = frozenset().union(*(one.trained_on or frozenset() for one in chosen.values()))
        records = thinned(self.divided, regime, first, seed, whole_val=self.config.preset == "standard")
        arms, left_out = arms_of(records, chosen, self.count, seed, self.work / "sets")
        notes = [note for name, one in chosen.items() if (note := _knew_more(regime, name, one))]
        notes += [f"{name} is left out with {regime} bads: {why}" for name, why in left_out.items()]
        return SeedPlan([Arm(name, partial(self._train, one, seed)) for name, one in arms.items()], notes)

    def _train(self, given: TrainingSet, seed: int) -> Outcome:
        placed = given.records.with_frame(given.records.frame.filter(pl.col("split").is_not_null()))
        groups = groups_with(placed, self.groups)
        if self.config.preset == "standard":
            config, folder = self.training.model_copy(update={"seed": seed}), self.work / "training"
            shutil.rmtree(folder, ignore_errors=True)
            raw_scores = fit_inspector(placed, groups, config, folder).raw_scores
            shutil.rmtree(folder, ignore_errors=True)
        else:
            raw_scores = self._svm_scores(placed, groups, seed)
        training = given.records.of_split("train").frame
        real = training["image"].is_in(list(self.groups))
        facts = {
            "bads": int(((training["label"] == BAD) & real).sum()),
            "added": int((~real).sum()),
            "change": given.changes[0],
        }
        test = placed.frame.with_columns(raw_score=raw_scores).filter(pl.col("split") == "test")
        return scored(seed, test["image"].to_list(), test["label"], test["raw_score"], facts)

    def _svm_scores(self, placed: Records, groups: Ids, seed: int) -> npt.NDArray[np.float32]:
        """Fits an SVM head as the preset quick does, with features from the cache: few images of an arm are new."""
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
        trained_on = placed.frame["split"].is_in(["train", "val"]).to_numpy() & sound
        fit = fit_svm_on(deep.stages, placed, groups, np.flatnonzero(trained_on), seed)
        with torch.inference_mode():
            raw_scores = np.array(fit.head(torch.from_numpy(np.nan_to_num(deep.stages))).numpy(), np.float32)
        raw_scores[~sound] = np.nan
        return raw_scores


def _knew_more(regime: str, name: str, one: GivenSet) -> str | None:
    if regime == ALL or one.knew() <= int(regime):
        return None
    knew = "an unknown number of bad images" if one.trained_on is None else counted(one.knew(), "bad image")
    return f"{name} learned from {knew}, more than the {regime} of that row: an upper bound of what it can do."


def _files_of(place: Path) -> list[Path]:
    """Returns the tables that say what is in a made set, or else its images."""
    if place.is_file():
        return [place]
    tables = sorted(place.glob("manifest.*"))
    return tables or sorted(path for path in place.rglob("*") if path.is_file())


def helped(outcomes: Mapping[str, Mapping[str, Sequence[Outcome]]], generator: str) -> dict[str, Any]:
    """Compares every arm with the arm without generated images, of the same regime and seeds.

    Args:
        outcomes: Regime to arm to outcomes, with the facts `bads` and `added`.
        generator: Generator whose images the verdict is on.

    Returns:
        JSON types: `table`, `arms` (means over seeds with intervals), `effects`, `verdict` and `notes`.
    """
    table, arms, effects, notes = [], [], [], []
    for regime, found in outcomes.items():
        table += [{"regime": regime} | row for row in table_of(found)]
        arms += [{"regime": regime} | mean_of(arm, own) for arm, own in found.items()]
        base = {one.seed: one for one in found.get(NONE, ())}
        for arm, own in found.items():
            if arm != NONE and len(own) > 1 and [one.seed for one in own] == list(base):
                added = round(float(np.mean([one.facts["added"] for one in own])))
                effect = {"regime": regime, "arm": arm, "added": added, **effect_of(own, list(base.values()))}
                effects.append(effect | {"sentence": _sentence(effect)})
        notes += [note for note in (notes_on(found) if found else ()) if note not in notes]
    if len(effects) > 1:
        notes.append(f"{len(effects)} differences at 95 %: about one in twenty would seem real by chance.")
    return {"table": table, "arms": arms, "effects": effects, "verdict": _verdict(effects, generator), "notes": notes}


def _sentence(effect: Mapping[str, Any]) -> str:
    bads = "all real bads" if effect["regime"] == ALL else f"{effect['regime']} real bads"
    relation = "instead of" if effect["arm"].endswith(ALONE) else "beside"
    start = f"{effect['arm'].capitalize()} {relation} {bads} ({effect['added']} images)"
    return f"{start}: {effect['outcome']}; {clauses(effect)}; {effect['seeds']} seeds."


def _verdict(effects: Sequence[dict[str, Any]], generator: str) -> str:
    """Returns in one sentence whether a generator's images helped beside all real bads, or else beside the most."""
    own = [one for one in effects if one["arm"] == generator]
    if not own:
        return f"Cannot tell whether the images of {generator} help: no pair of trainings was possible."
    one = max(own, key=lambda each: float("inf") if each["regime"] == ALL else int(each["regime"]))
    beside = "all real bads" if one["regime"] == ALL else f"{one['regime']} real bads"
    images = f"{one['added']} images of {generator} beside {beside}"
    start = f"Cannot tell whether {images} help" if one["outcome"] == "cannot tell" else f"{images} {one['outcome']}"
    return f"{start}: {clauses(one)}; {one['seeds']} paired seeds, 95 % intervals."

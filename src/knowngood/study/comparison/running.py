"""The trainings of a comparison, one folder each: those that are finished are taken over, a broken one goes on."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import polars as pl

from knowngood.data.records import Records
from knowngood.errors import TrainingError
from knowngood.files import write_json
from knowngood.models.classifier import NetworkConfig
from knowngood.models.training.config import Balance, Freeze, TrainConfig
from knowngood.models.weights.finding import available, find
from knowngood.models.weights.hub import hub_answers
from knowngood.progress import reporter
from knowngood.study.comparison.config import CompareConfig
from knowngood.study.comparison.rows import Outcome
from knowngood.study.comparison.variants import TrainingSet, VariantOptions, variant_named
from knowngood.study.training import Trained, train_divided

RANDOM = "random weights"
_STARTS = "starts.json"


@dataclass(frozen=True)
class Plan:
    """One row that is to be made."""

    model: str
    variant: str
    freeze: Freeze
    balance: Balance
    pretrained: bool

    @property
    def key(self) -> str:
        """Name of the row and of its folder; it stays the same when other rows join."""
        parts = [self.model, self.variant]
        parts += [f"freeze-{self.freeze}"] if self.freeze != "none" else []
        parts += [f"balance-{self.balance}"] if self.balance != "sampling" else []
        return ".".join(parts)


@dataclass(frozen=True)
class Made:
    """A row whose trainings are done."""

    plan: Plan
    weights: str
    network: NetworkConfig
    outcomes: tuple[Outcome, ...]


def find_starts(config: CompareConfig, folder: Path) -> dict[str, bool]:
    """Says for each model whether it starts from pretrained weights; what was decided in a run stays decided.

    Raises:
        WeightsError: There are none and `require_pretrained` is set.
    """
    path = folder / _STARTS
    known: dict[str, bool] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    hub: bool | None = None
    for model in config.models:
        if not config.pretrained:
            known[model] = False
        if model in known and (known[model] or not config.require_pretrained):
            continue
        here = available(model) is not None
        if not here and hub is None:
            hub = hub_answers()
        if config.require_pretrained or (not here and hub):
            find(model)
            here = True
        known[model] = here
        if not here:
            reporter().say(f"{model}: no pretrained weights are to be had here, it starts from random ones")
    write_json(path, known)
    return {model: known[model] for model in config.models}


def plan_rows(config: CompareConfig, starts: dict[str, bool]) -> tuple[list[Plan], dict[str, str]]:
    """Returns the rows to make, and those that make no sense with the reason."""
    plans, left_out = [], {}
    for variant, model, freeze, balance in product(config.variants, config.models, config.freeze, config.balance):
        plan = Plan(model, variant, freeze, balance, starts[model])
        if freeze != "none" and not plan.pretrained:
            left_out[plan.key] = "frozen layers with random weights would stay random"
        else:
            plans.append(plan)
    return plans, left_out


class Trainings:
    """Makes the trainings of all rows.

    Args:
        config: Of the comparison.
        folder: Of the comparison.
        command: That repeats it, for the reports.
    """

    def __init__(self, config: CompareConfig, folder: Path, command: str) -> None:
        self.config, self.folder, self.command = config, folder, command
        self.pixels = folder / "work" / "pixels"
        self.failed: dict[str, str] = {}
        self._done: dict[str, list[Outcome]] = {}
        self._facts: dict[str, tuple[str, NetworkConfig]] = {}
        self._stored = ""

    def add(self, divided: Records, plans: Sequence[Plan], seed: int) -> None:
        """Trains every row on the splits of one seed."""
        variants = dict.fromkeys(plan.variant for plan in plans)
        sets = {variant: self._varied(divided, variant, seed) for variant in variants}  # errors before hours of work
        for variant, training_set in sets.items():
            self._clear_other_pixels(training_set.records)
            for plan in plans:
                if plan.variant == variant and plan.key not in self.failed:
                    self._train(plan, training_set, seed)

    def made(self, plans: Sequence[Plan]) -> Iterator[Made]:
        """Yields the rows with an outcome for every seed."""
        for plan in plans:
            if plan.key not in self.failed:
                yield Made(plan, *self._facts[plan.key], tuple(self._done[plan.key]))

    def _varied(self, divided: Records, variant: str, seed: int) -> TrainingSet:
        options = VariantOptions(self.config.augment, self.config.generated, self.config.outlier_backbone, seed)
        training_set = TrainingSet(divided)
        for change in variant_named(variant):
            training_set = change.apply(training_set, options)
        for said in training_set.changes:
            reporter().say(f"{variant}, seed {seed}: {said}")
        return training_set

    def _train(self, plan: Plan, given: TrainingSet, seed: int) -> None:
        run = self.folder / "models" / plan.key / f"seed-{seed}"
        reporter().say(f"{plan.key}, seed {seed}")
        config = train_config(self.config, plan, given.augment, seed)
        alone = np.arange(len(given.records))  # only heads that are cross-validated ask for groups
        try:
            done = train_divided(given.records, alone, run, config, self.command, pixels=self.pixels)
        except TrainingError as error:
            self.failed[plan.key] = f"with seed {seed}: {error.what}"
            reporter().say(f"{plan.key} is left out, {self.failed[plan.key]}")
            return
        weights = done.recipe.manifest.provenance["weights"] if plan.pretrained else RANDOM
        self._facts[plan.key] = (weights, done.recipe.manifest.networks[0])
        self._done.setdefault(plan.key, []).append(outcome_of(done, seed, given.changes))

    def _clear_other_pixels(self, records: Records) -> None:
        """Decoded photographs are shared by all that trains on the same images, and are large: others go."""
        names = json.dumps(records.frame["sha256"].to_list())
        images = hashlib.sha256(names.encode()).hexdigest()
        if self._stored and images != self._stored:
            shutil.rmtree(self.pixels, ignore_errors=True)
        self._stored = images


def train_config(config: CompareConfig, plan: Plan, augment: str, seed: int) -> TrainConfig:
    """Returns the training of one row with one seed: the preset standard, equal but for what the row is about."""
    own = {"model", "preset", "augment", "pretrained", "freeze", "balance", "seed"}
    shared = {
        name: getattr(config, name) for name in TrainConfig.model_fields if name not in own and hasattr(config, name)
    }
    return TrainConfig(
        model=plan.model,
        preset="standard",
        augment=augment,
        pretrained=plan.pretrained,
        freeze=plan.freeze,
        balance=plan.balance,
        seed=seed,
        **shared,
    )


def outcome_of(done: Trained, seed: int, changes: tuple[str, ...]) -> Outcome:
    """Reads the figures of a finished training."""
    scores = pl.read_parquet(done.folder / "scores.parquet").filter(
        (pl.col("split") == "test") & pl.col("label").is_not_null() & pl.col("score").is_not_null()
    )
    history = tuple(done.metrics["history"])
    return Outcome(
        seed=seed,
        train_accuracy=done.metrics.get("train_as_fitted", done.metrics["train"])["accuracy"],
        test=done.metrics["test"],
        scores=scores.select("image", "label", "score"),
        minutes=sum(row.get("seconds", 0.0) for row in history) / 60,
        history=history,
        changes=changes,
        folder=done.folder,
    )

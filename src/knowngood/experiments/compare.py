"""`knowngood compare`: networks x training sets x freezing x balance x seeds, all on the same splits."""

from __future__ import annotations

import datetime
import json
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from knowngood.data.augmentation import policy_named
from knowngood.data.loading import loaded
from knowngood.data.records import Records
from knowngood.data.units import groups_of, with_units
from knowngood.errors import ConfigError, TrainingError
from knowngood.experiments.comparison_table import (
    Row,
    as_table,
    check_conventional,
    compare_rows,
    conventional_rows,
    describe,
)
from knowngood.experiments.configs import GROWS, CompareConfig
from knowngood.experiments.runner import Arm, Outcome, SeedPlan, run_arms
from knowngood.experiments.training_sets import ChangeOptions, TrainingSet, changes_named, divide
from knowngood.files import cache_key, check_writable, write_json, write_text
from knowngood.models.backbones import BACKBONES
from knowngood.models.classifier import NetworkConfig
from knowngood.models.cost import cost_of, images_per_second
from knowngood.models.weights.search import available, find, hub_answers
from knowngood.parameters import configured
from knowngood.progress import reporter
from knowngood.report.comparison import comparison_page
from knowngood.tables import write_table
from knowngood.training.config import Balance, Freeze, TrainConfig
from knowngood.workflows.runs import call_of, command_for, fingerprint_of, open_run, shown, versions
from knowngood.workflows.train import Trained, check_trainable, train_divided

RANDOM = "random weights"
_STARTS = "starts.json"


@dataclass(frozen=True)
class Plan:
    """One row of the table, before it is trained."""

    model: str
    training_set: str
    freeze: Freeze
    balance: Balance
    pretrained: bool

    @property
    def key(self) -> str:
        """Name of the row and of its folder; it does not depend on the other rows."""
        parts = [self.model, self.training_set]
        parts += [f"freeze-{self.freeze}"] if self.freeze != "none" else []
        parts += [f"balance-{self.balance}"] if self.balance != "sampling" else []
        return ".".join(parts)


def find_starts(config: CompareConfig, folder: Path) -> dict[str, bool]:
    """Returns for each model whether it starts from pretrained weights; a continued run keeps its decisions.

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
            reporter().say(f"{model}: no pretrained weights are available, it starts from random ones")
    write_json(path, known)
    return {model: known[model] for model in config.models}


def plan_rows(config: CompareConfig, starts: dict[str, bool]) -> tuple[list[Plan], dict[str, str]]:
    """Returns the rows to train, and the key of every row that is left out with the reason."""
    plans, left_out = [], {}
    for training_set, model, freeze, balance in product(
        config.training_sets, config.models, config.freeze, config.balance
    ):
        plan = Plan(model, training_set, freeze, balance, starts[model])
        if freeze != "none" and not plan.pretrained:
            left_out[plan.key] = "frozen layers with random weights would stay random"
        else:
            plans.append(plan)
    return plans, left_out


class _Trainings:
    """The arms of a comparison. Each training keeps a run folder of its own, from which a killed comparison goes on.

    Args:
        config: Of the comparison.
        folder: Of the comparison.
        command: That repeats it, for the reports.
        sets: Seed to the set with the splits of that seed.
        plans: The rows.
    """

    def __init__(
        self, config: CompareConfig, folder: Path, command: str, sets: dict[int, Records], plans: Sequence[Plan]
    ) -> None:
        self.config, self.folder, self.command, self.sets, self.plans = config, folder, command, sets, plans
        self.pixels = folder / "work" / "pixels"
        self._decoded = ""

    def plan(self, seed: int) -> SeedPlan:
        """Returns the arms of one seed; all training sets are built before the first training starts."""
        training_sets = {
            name: self._training_set(name, seed) for name in dict.fromkeys(p.training_set for p in self.plans)
        }
        return SeedPlan(
            [
                Arm(plan.key, partial(self._train, plan, training_set, seed))
                for name, training_set in training_sets.items()
                for plan in self.plans
                if plan.training_set == name
            ]
        )

    def _training_set(self, name: str, seed: int) -> TrainingSet:
        options = ChangeOptions(self.config.augment, self.config.generated, self.config.feature_model, seed)
        training_set = TrainingSet(self.sets[seed])
        for change in changes_named(name):
            training_set = change.apply(training_set, options)
        for sentence in training_set.changes:
            reporter().say(f"{name}, seed {seed}: {sentence}")
        return training_set

    def _train(self, plan: Plan, training_set: TrainingSet, seed: int) -> Outcome:
        self._clear_other_pixels(training_set.records)
        run = self.folder / "models" / plan.key / f"seed-{seed}"
        config = train_config(self.config, plan, training_set.augment, seed)
        alone = np.arange(len(training_set.records))  # only heads that are cross-validated need groups
        done = train_divided(training_set.records, alone, run, config, self.command, pixels=self.pixels)
        return outcome_of(done, seed, training_set.changes)

    def _clear_other_pixels(self, records: Records) -> None:
        """Keeps the decoded images, which are large, only while one training set is trained on."""
        images = cache_key(records.frame["sha256"].to_list())
        if self._decoded and images != self._decoded:
            shutil.rmtree(self.pixels, ignore_errors=True)
        self._decoded = images


def train_config(config: CompareConfig, plan: Plan, augment: str, seed: int) -> TrainConfig:
    """Returns the training of one row with one seed: the preset standard with the settings of the row."""
    own = {"model", "preset", "head", "image_size", "augment", "pretrained", "freeze", "balance", "seed"}
    shared = {
        name: getattr(config, name) for name in TrainConfig.model_fields if name not in own and hasattr(config, name)
    }
    return TrainConfig(
        model=plan.model,
        preset="standard",
        image_size=config.image_size or "own",
        head="pooled",  # of all networks the same, as in the study, and CAM is defined
        augment=augment,
        pretrained=plan.pretrained,
        freeze=plan.freeze,
        balance=plan.balance,
        seed=seed,
        **shared,
    )


def outcome_of(done: Trained, seed: int, changes: tuple[str, ...]) -> Outcome:
    """Returns the test scores and the figures of a finished training."""
    test = pl.read_parquet(done.folder / "scores.parquet").filter(
        (pl.col("split") == "test") & pl.col("label").is_not_null() & pl.col("score").is_not_null()
    )
    history, manifest = done.metrics["history"], done.recipe.manifest
    facts = {
        "train_accuracy": done.metrics.get("train_as_fitted", done.metrics["train"])["accuracy"],
        "test": done.metrics["test"],
        "minutes": sum(row.get("seconds", 0.0) for row in history) / 60,
        "history": history,
        "changes": list(changes),
        "folder": str(done.folder),
        "weights": manifest.provenance["weights"],
        "network": manifest.networks[0].model_dump(mode="json"),
    }
    return Outcome(seed, test.select("image", "label", "score"), facts)


DOCUMENT = "compare.json"  # the last thing that a comparison writes


@dataclass(frozen=True)
class Compared:
    """A finished comparison.

    Attributes:
        folder: With compare.json, compare.parquet, compare.csv, compare.html and models/, a run for each training.
        table: One line for each row of the comparison, the highest AUC first.
        document: What compare.json holds: the rows, all pairs, every seed.
    """

    folder: Path
    table: pl.DataFrame
    document: dict[str, Any]


def compare(  # noqa: PLR0913  (a keyword a field of CompareConfig)
    data: str | Path | Records,
    out: str | Path,
    config: CompareConfig | None = None,
    *,
    source: str | None = None,
    good: Sequence[str] = (),
    bad: Sequence[str] = (),
    force: bool = False,
    models: str | Sequence[str] = ("resnet18", "resnet50", "wide_resnet50_2", "resnext50_32x4d", "vgg16"),
    seeds: int = 1,
    training_sets: str | Sequence[str] = ("transforms",),
    freeze: str | Sequence[str] = ("none",),
    balance: str | Sequence[str] = ("sampling",),
    augment: str = "study",
    generated: str | Path | None = None,
    classifiers: str | Sequence[str] = (),
    feature_model: str = "resnet50",
    limit: int | None = None,
    limit_test: int | None = None,
    require_pretrained: bool = False,
    image_size: int | None = None,
    epochs: int | None = None,
    batch_size: int = 32,
    learning_rate: float | None = None,
    weight_decay: float | None = None,
    pretrained: bool = True,
    patience: int = 6,
    precision: Literal["auto", "bf16", "fp32"] = "auto",
    test: float = 0.25,
    val: float = 0.1,
    calibration: float = 0.2,
    resplit: bool = False,
    unit_from: str | None = None,
    escape_budget: float = 0.01,
    confidence: float = 0.95,
    seed: int = 0,
    devices: int = 1,
) -> Compared:
    """Trains several models in the same way on the same splits and tests which differences are significant.

    A comparison that was killed goes on when the same call is made again, at the epoch that it was at. A later call
    may ask for more models, training sets, kinds of freezing, balances or seeds: finished trainings are used again.

    Args:
        data: Folder, manifest, the word of a source ("elpv"), or loaded records.
        out: Folder for the comparison.
        config: What to do; keywords below, its fields, beat it where they differ from their defaults.
        source: Data source, when it should not be guessed.
        good: Names of folders, or values of a label column, that mean good.
        bad: The same for bad.
        force: Replace whatever comparison is in `out`.

    Raises:
        UnknownNameError: No such model, training set or policy; raised before anything is read.
        ConfigError: `out` holds another comparison, or options do not go together.
        DataError: The photographs cannot be trained on.
        WeightsError: Pretrained weights are required and not to be had.
        TrainingError: Not one row could be trained.
    """
    config = configured(CompareConfig, config, locals())
    _check_names(config)
    folder = Path(out)
    check_writable(folder, folder=True)  # before anything is computed
    records = loaded(data, source, good=good, bad=bad, unit_from=config.unit_from, out=out)
    records = with_units(records, config.unit_from)
    check_trainable(records)
    records = records.usable().labelled()
    finished = _finished(folder, config)
    call = call_of(data, source, good, bad)
    seen = fingerprint_of(records)
    there = open_run(folder, config, seen, force, finished=finished is not None, grows=GROWS, call=call)
    if there and finished is not None:
        return Compared(folder, as_table(finished), finished)
    command = command_for(shown(data), folder, config, source, "compare", good=good, bad=bad)
    starts = find_starts(config, folder)
    plans, left_out = plan_rows(config, starts)
    if not plans:
        raise ConfigError(
            "No row is left: only pretrained networks can be frozen, and none of these has weights here.",
            fix="Add none to --freeze, or other --models (knowngood weights lists them).",
        )
    groups = groups_of(records)
    every = range(config.seed, config.seed + config.seeds)
    sets = {one: divide(records, groups, config, one) for one in every}
    done = run_arms(every, _Trainings(config, folder, command, sets, plans).plan)
    left_out |= done.refused
    if not done.outcomes:
        raise TrainingError(f"No row could be trained: {'; '.join(f'{k} {v}' for k, v in left_out.items())}.")
    rows = [*_rows(plans, done.outcomes), *conventional_rows(sets, config, folder)]
    document = _facts(records, config, command, left_out) | describe(
        rows, compare_rows(rows, config.confidence), config.confidence
    )
    return _written(folder, document)


def _check_names(config: CompareConfig) -> None:
    """Raises for an unknown name or a missing option, before the images are read."""
    for model in config.models:
        BACKBONES.get(model)
    policy_named(config.augment)
    options = ChangeOptions(config.augment, config.generated, config.feature_model, config.seed)
    for name in config.training_sets:
        for change in changes_named(name):
            change.check(options)
    check_conventional(config)


def _finished(folder: Path, config: CompareConfig) -> dict[str, Any] | None:
    """Returns the document of a finished comparison with the same configuration, or None."""
    try:
        document = json.loads((folder / DOCUMENT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    same = isinstance(document, dict) and document.get("config") == config.model_dump(mode="json")
    return document if same else None


def _rows(plans: Sequence[Plan], outcomes: Mapping[str, tuple[Outcome, ...]]) -> list[Row]:
    """Adds to the trainings the cost of the networks; networks of one shape are measured once."""
    trained = [plan for plan in plans if plan.key in outcomes]
    networks = {p.key: NetworkConfig.model_validate(outcomes[p.key][-1].facts["network"]) for p in trained}
    speeds = images_per_second({network.model_dump_json(): network for network in networks.values()})
    rows = []
    for plan in trained:
        network = networks[plan.key]
        cost = cost_of(network)
        rows.append(
            Row(
                key=plan.key,
                kind="network",
                model=plan.model,
                training_set=plan.training_set,
                weights=outcomes[plan.key][-1].facts["weights"] if plan.pretrained else RANDOM,
                pretrained=plan.pretrained,
                outcomes=outcomes[plan.key],
                freeze=plan.freeze,
                balance=plan.balance,
                parameters=cost.parameters,
                multiply_adds=cost.multiply_adds,
                images_per_second=speeds[network.model_dump_json()],
                input_shape=(network.channels, network.height, network.width),
            )
        )
    return rows


def _facts(records: Records, config: CompareConfig, command: str, left_out: dict[str, str]) -> dict[str, Any]:
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    notes = list(records.notes)
    if config.seeds == 1:
        notes.append(
            "One seed: the tests say whether these trained networks differ on other images, not whether the same "
            "models trained again would. --seeds 3 or more says that too."
        )
    if not config.pretrained:
        notes.append("Every model started from random weights.")
    return {
        "command": command,
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "config": config.model_dump(mode="json"),
        "data": {
            "source": records.source,
            "root": str(records.root),
            "licence": records.licence,
            **records.counts(),
        },
        "notes": notes,
        "left_out": left_out,
        "machine": {
            "cores": os.cpu_count(),
            "machine": platform.machine(),
            "gpu": gpu,
            "threads": torch.get_num_threads(),
        },
        "versions": versions(),
    }


def _written(folder: Path, document: dict[str, Any]) -> Compared:
    document = json.loads(json.dumps(document))  # as it will be read again
    table = as_table(document)
    write_table(table, folder / "compare.parquet")
    write_table(table, folder / "compare.csv")
    write_text(folder / "compare.html", comparison_page(document))
    write_json(folder / DOCUMENT, document)  # last: its presence says that the comparison is whole
    shutil.rmtree(folder / "work", ignore_errors=True)
    return Compared(folder, table, document)

"""The runner of every experiment: each arm is trained with each seed, and an experiment that was killed goes on.

An arm is one way to train: a network, a change of the training set, a conventional classifier. All arms of a seed are
tested on the same images, so that `knowngood.experiments.effects` can compare them in pairs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from knowngood.errors import DataError, TrainingError
from knowngood.files import cache_key, write_json
from knowngood.progress import reporter

_SCHEMA = {"image": pl.String, "label": pl.UInt8, "score": pl.Float64}


@dataclass(frozen=True)
class Outcome:
    """One arm with one seed.

    Attributes:
        seed: Of the splits and of the training.
        scores: Columns image, label (0 good, 1 bad) and score (float64, higher is more likely bad, in any finite
            range); one row for each labelled test image that could be decoded.
        facts: What else is reported, as JSON types.
    """

    seed: int
    scores: pl.DataFrame
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Arm:
    """One way to train with one seed.

    Attributes:
        name: Unique among the arms of a seed, and the same with every seed.
        train: Trains and scores the test images. A DataError or a TrainingError leaves the arm out of the experiment.
    """

    name: str
    train: Callable[[], Outcome]


@dataclass(frozen=True)
class SeedPlan:
    """What is trained with one seed.

    Attributes:
        arms: In the order in which they are trained.
        notes: Sentences for the report, such as why an arm is missing.
    """

    arms: Iterable[Arm]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Trials:
    """The outcomes of an experiment.

    Attributes:
        outcomes: Name of an arm to its outcomes, seeds ascending; the first arm of the first seed first.
        refused: Name of an arm that could not be trained to the reason: "with seed 1: ...".
        notes: Those of all seeds, each once.
    """

    outcomes: dict[str, tuple[Outcome, ...]]
    refused: dict[str, str]
    notes: tuple[str, ...]


def scored(seed: int, images: Sequence[str], labels: Any, scores: Any, facts: dict[str, Any]) -> Outcome:
    """Returns an outcome without the images whose score is not finite, in the order of their names.

    Args:
        seed: Of splits and training.
        images: (T,) names of the labelled test images.
        labels: (T,) 0 good, 1 bad.
        scores: (T,) higher is more likely bad; NaN where an image could not be decoded.
        facts: What else is reported, as JSON types.
    """
    columns = {"image": list(images), "label": labels, "score": np.asarray(scores, np.float64)}
    table = pl.DataFrame(columns, schema_overrides=_SCHEMA)
    return Outcome(seed, table.filter(pl.col("score").is_finite()).sort("image"), facts)


def run_arms(
    seeds: Sequence[int],
    plan_of: Callable[[int], SeedPlan],
    *,
    work: Path | None = None,
    key: object = None,
) -> Trials:
    """Trains every arm with every seed.

    An arm that cannot be trained with one seed is left out of the experiment and not tried with later seeds. With
    `work`, every outcome is written when it is there: the same call goes on after the last one, and does not ask for
    the plan of a seed that is complete.

    Args:
        seeds: In the order in which they are run.
        plan_of: Returns what is trained with a seed.
        work: Folder for the outcomes, to be removed by the caller when the report is written. None keeps nothing, for
            arms that keep a folder of their own.
        key: Everything besides the seed that decides an outcome, as JSON types.
    """
    paths = {seed: None if work is None else work / f"{cache_key(key, seed)}.json" for seed in seeds}
    if work is not None and any(work.glob("*.json")) and not any(path and path.is_file() for path in paths.values()):
        reporter().say(f"{work} holds trainings of other images, options or versions: they are not used")
    refused: dict[str, str] = {}
    done: dict[str, list[Outcome]] = {}
    notes: dict[str, None] = {}
    for place, seed in enumerate(seeds):
        if len(seeds) > 1:
            reporter().say(f"seed {seed} ({place + 1} of {len(seeds)})")
        kept = _KeptSeed(paths[seed], seed)
        if not kept.complete:
            _train(kept, plan_of(seed), seed, refused)
        refused = kept.refused | refused
        notes |= dict.fromkeys(kept.notes)
        for name, outcome in kept.outcomes().items():
            done.setdefault(name, []).append(outcome)
    return Trials({name: tuple(found) for name, found in done.items() if name not in refused}, refused, tuple(notes))


def _train(kept: _KeptSeed, plan: SeedPlan, seed: int, refused: dict[str, str]) -> None:
    kept.notes = list(plan.notes)
    for arm in plan.arms:
        if arm.name in refused or kept.has(arm.name):
            continue
        reporter().say(f"{arm.name}, seed {seed}")
        try:
            kept.add(arm.name, arm.train())
        except (DataError, TrainingError) as error:
            kept.refuse(arm.name, f"with seed {seed}: {error.what}")
            reporter().say(f"{arm.name} is left out, with seed {seed}: {error.what}")
    kept.finish()


class _KeptSeed:
    """The outcomes of one seed, written to `path` after every training."""

    def __init__(self, path: Path | None, seed: int) -> None:
        self.path, self.seed = path, seed
        self.notes: list[str] = []
        self.refused: dict[str, str] = {}
        self.complete = False
        self._outcomes: dict[str, dict[str, Any]] = {}
        if path is not None and path.is_file():
            document = json.loads(path.read_text(encoding="utf-8"))
            self.notes, self.refused = document["notes"], document["refused"]
            self.complete, self._outcomes = document["complete"], document["outcomes"]

    def has(self, name: str) -> bool:
        return name in self._outcomes or name in self.refused

    def add(self, name: str, outcome: Outcome) -> None:
        self._outcomes[name] = {"scores": outcome.scores.select(*_SCHEMA).to_dict(as_series=False)} | {
            "facts": json.loads(json.dumps(outcome.facts))  # the same whether it was interrupted or not
        }
        self._write()

    def refuse(self, name: str, reason: str) -> None:
        self.refused[name] = reason
        self._write()

    def finish(self) -> None:
        self.complete = True
        self._write()

    def outcomes(self) -> dict[str, Outcome]:
        return {
            name: Outcome(self.seed, pl.DataFrame(found["scores"], schema=_SCHEMA), found["facts"])
            for name, found in self._outcomes.items()
        }

    def _write(self) -> None:
        if self.path is not None:
            document = {"notes": self.notes, "refused": self.refused, "complete": self.complete}
            write_json(self.path, document | {"outcomes": self._outcomes})

"""Do made images help? The classifier with and without them, paired by seed, on the same real test images."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from knowngood.data.records import BAD, Records
from knowngood.data.units import groups_of
from knowngood.decide.metrics import auroc, fpr_at_tpr
from knowngood.errors import DataError, KnownGoodError
from knowngood.files import sha256_of, write_json
from knowngood.models.features import features
from knowngood.models.training.config import TrainConfig
from knowngood.models.training.fitting import fit_inspector
from knowngood.models.training.kernel import fit_kernel
from knowngood.progress import reporter
from knowngood.study.judging.arms import Arm, GivenSet, arms_of, chosen_for, given_set, groups_with, thinned
from knowngood.study.judging.config import ALL, JudgeConfig
from knowngood.study.judging.helped import TPR, helped
from knowngood.study.runs import fingerprint_of
from knowngood.wording import counted

Floats: TypeAlias = npt.NDArray[np.float64]
_MOST = 1000  # images that an arm adds when nobody says how many
_LEAST = 2  # of each class in the test: DeLong's test needs them


def classifier_trial(generated: Path, divided: Records, folder: Path, config: JudgeConfig) -> dict[str, Any]:
    """Trains with and without made images and says what that did, paired over seeds.

    Real bads are thinned in the training split only; every arm of a regime and seed has the same ones. A trial that
    was killed goes on with the training that it was at.

    Args:
        generated: The made set that is judged.
        divided: Photographs with splits.
        folder: For what is kept between calls, `trial.work`.
        config: Of the judgement.

    Returns:
        JSON-ready: `table` (a row a regime, seed and arm), `arms`, `effects` with sentences, `verdict`, `notes`.

    Raises:
        DataError: The test has too few images, or a set was made by a maker that learned from test images.
        WeightsError: The network's weights are not to be had.
    """
    divided = divided.labelled()
    counts = divided.of_split("test").counts()
    if min(counts["good"], counts["bad"]) < _LEAST:
        raise DataError(
            f"The test has {counts['good']} good and {counts['bad']} bad images.", expected=f"at least {_LEAST} of each"
        )
    given = [given_set(place) for place in (generated, *config.also)]
    trial = _Trial(divided, given, folder / "trial.work", config)
    rows: list[dict[str, Any]] = []
    for regime in _regimes(divided, config):
        for seed in range(config.seed, config.seed + config.seeds):
            reporter().say(f"classifier with {regime} real bads, seed {seed}")
            rows += trial.rows(regime, seed)
    shutil.rmtree(folder / "trial.work" / "sets", ignore_errors=True)
    done = helped(rows, trial.labels, given[0].maker)
    return done | {
        "counts": counts,
        "seeds": config.seeds,
        "preset": config.preset,
        "model": config.model or config.backbone,
        "added": trial.count,
        "notes": [*trial.notes, *done["notes"]],
        "table": [{name: value for name, value in row.items() if name != "margins"} for row in rows],
    }


def _regimes(divided: Records, config: JudgeConfig) -> list[str]:
    there = divided.of_split("train").counts()["bad"]
    wanted = [one for one in config.bads if one == ALL or int(one) < there]
    return wanted or [ALL]  # more than there are is all


class _Trial:
    """What all regimes, seeds and arms share."""

    def __init__(self, divided: Records, given: Sequence[GivenSet], work: Path, config: JudgeConfig) -> None:
        self.divided, self.given, self.work, self.config = divided, given, work, config
        names = divided.frame["image"].to_list()
        self.groups = dict(zip(names, groups_of(divided).tolist(), strict=True))
        self.count = config.count or min(_MOST, *(one.bads for one in given))
        tests = divided.of_split("test").frame.sort("image")
        self.tests = tests["image"].to_list()
        self.labels = tests["label"].to_numpy().astype(np.uint8)
        self.training = TrainConfig(
            model=config.model or config.backbone,
            preset=config.preset,
            epochs=config.epochs if config.preset == "standard" else None,
            image_size=config.image_size,
            weights=config.weights,
            augment=config.augment,
        )
        self.notes: list[str] = []
        self._facts = [
            fingerprint_of(divided),
            self.training.model_dump(mode="json"),
            self.count,
            [sha256_of(file) for one in given for file in _files_of(one.place)],
        ]

    def rows(self, regime: str, seed: int) -> list[dict[str, Any]]:
        """Returns the figures of every arm of one regime and seed; those that a killed call had found are read."""
        chosen = chosen_for(regime, self.given)
        for name, one in chosen.items():
            self._say_if_it_knew_more(regime, name, one)
        first = frozenset().union(*(one.taught or frozenset() for one in chosen.values()))
        fine = self.config.preset == "standard"
        records = thinned(self.divided, regime, first, seed, whole_val=fine)
        key = hashlib.sha256(json.dumps([self._facts, regime, seed]).encode()).hexdigest()[:16]
        kept = self.work / f"{key}.json"
        if kept.is_file():
            found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
            self.notes += [said for said in found["notes"] if said not in self.notes]
            return list(found["rows"])
        arms, left_out = arms_of(records, chosen, self.count, seed, self.work / "sets")
        notes = [f"{name} is left out with {regime} bads: {why}" for name, why in left_out.items()]
        rows = [row for arm in arms if (row := self._row(regime, seed, arm, notes)) is not None]
        self.notes += [said for said in notes if said not in self.notes]
        write_json(kept, {"rows": rows, "notes": notes})
        return rows

    def _say_if_it_knew_more(self, regime: str, name: str, one: GivenSet) -> None:
        if regime == ALL or one.knew() <= int(regime):
            return
        knew = "an unknown number of bad images" if one.taught is None else counted(one.knew(), "bad image")
        said = f"{name} learned from {knew}, more than the {regime} of that row: an upper bound of what it can do."
        self.notes += [said] if said not in self.notes else []

    def _row(self, regime: str, seed: int, arm: Arm, notes: list[str]) -> dict[str, Any] | None:
        try:
            margins = self._margins(arm, seed)
        except KnownGoodError as refused:
            notes.append(f"{arm.name} with {regime} bads: no training was possible ({refused.what})")
            return None
        training = arm.records.of_split("train").frame
        return {
            "regime": regime,
            "seed": seed,
            "arm": arm.name,
            "bads": int(((training["label"] == BAD) & training["image"].is_in(list(self.groups))).sum()),
            "added": int((~training["image"].is_in(list(self.groups))).sum()),
            "auroc": auroc(self.labels, margins),
            "overkill": fpr_at_tpr(self.labels, margins, TPR),
            "said": arm.said,
            "margins": [round(float(value), 6) for value in margins],
        }

    def _margins(self, arm: Arm, seed: int) -> Floats:
        """Returns the margins (T,) of the test images, sorted by name."""
        placed = arm.records.with_frame(arm.records.frame.filter(pl.col("split").is_not_null()))
        groups = groups_with(placed, self.groups)
        config = self.training.model_copy(update={"seed": seed})
        if self.config.preset == "standard":
            folder = self.work / "training"
            shutil.rmtree(folder, ignore_errors=True)
            margins = fit_inspector(placed, groups, config, folder).margins
            shutil.rmtree(folder, ignore_errors=True)
        else:
            margins = self._kernel_margins(placed, groups, seed)
        by_name = dict(zip(placed.frame["image"].to_list(), margins.tolist(), strict=True))
        return np.nan_to_num(np.array([by_name[name] for name in self.tests], np.float64))

    def _kernel_margins(self, placed: Records, groups: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.float32]:
        """Fits a kernel head as the preset quick does, with features from the cache: few images are new in an arm."""
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
        teaches = placed.frame["split"].is_in(["train", "val"]).to_numpy() & sound
        fit = fit_kernel(deep.stages, placed, groups, np.flatnonzero(teaches), seed)
        with torch.inference_mode():
            return np.asarray(fit.head(torch.from_numpy(np.nan_to_num(deep.stages))).numpy(), np.float32)


def _files_of(place: Path) -> list[Path]:
    """Returns the tables that say what is in a made set, or else its images."""
    if place.is_file():
        return [place]
    tables = sorted(place.glob("manifest.*"))
    return tables or sorted(path for path in place.rglob("*") if path.is_file())

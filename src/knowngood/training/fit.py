"""The whole of a training: split photographs in, one inspector with its raw scores of every photograph out."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from knowngood.data.pixels import PixelStore
from knowngood.data.preprocessing import Preprocessing
from knowngood.data.records import BAD, Records
from knowngood.errors import WeightsError
from knowngood.metrics.calibration import fit_calibration
from knowngood.metrics.figures import auroc
from knowngood.models.backbones import BACKBONES
from knowngood.models.batching import over_batches
from knowngood.models.classifier import (
    Classifier,
    Inspector,
    NetworkConfig,
    cells_beside_svm,
    cells_config,
    svm_config,
    with_views,
)
from knowngood.models.features import cached_rows, stages_cache_key
from knowngood.models.weights.files import Weights
from knowngood.progress import reporter
from knowngood.training.cell_head import fit_frozen_heads
from knowngood.training.config import TrainConfig
from knowngood.training.epochs import Watcher, kept_epoch
from knowngood.training.fine_tuning import fine_tune
from knowngood.training.start import Start, chosen_size, frozen_models, start_training
from knowngood.training.svm_head import SvmFit, fit_svm_on
from knowngood.training.targets import Rows, Targets, kind_numbers, kinds_of, masks_of, targets_of
from knowngood.wording import counted


@dataclass(frozen=True)
class Fitted:
    """What came out of a training.

    Attributes:
        inspector: Trained; its raw scores are not calibrated yet.
        raw_scores: (N,) float32, the inspector's raw score of every row of the records; NaN where decoding failed.
        out_of_fold: (N,) float64, like `raw_scores`, but training rows scored out of fold
            where cross-validation gave that; NaN elsewhere.
        failed: Row to message, for photographs that could not be decoded.
        history: One row an epoch of fine-tuning; empty without.
        notes: How settings were chosen, for the report.
        provenance: Origin and licence of the starting weights.
        seconds: Stage to seconds.
        preprocessing: What was done to every photograph first, and has to be done to those that come.
        features: (N, S) float32, stage features of a frozen network, NaN where decoding failed; None without one.
        kinds: Row to the defect that the network sees, or None where no kind fits, of the bad photographs of the
            calibration and test split; empty where one kind is known.
    """

    inspector: Inspector
    raw_scores: npt.NDArray[np.float32]
    out_of_fold: npt.NDArray[np.float64]
    failed: dict[int, str]
    history: list[dict[str, float]]
    notes: dict[str, object]
    provenance: dict[str, str]
    seconds: dict[str, float] = field(default_factory=dict)
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    features: npt.NDArray[np.float32] | None = None
    kinds: Mapping[int, str | None] = field(default_factory=dict)


def fit_inspector(
    records: Records,
    groups: Rows,
    config: TrainConfig,
    folder: Path,
    *,
    pixels: Path | None = None,
    watcher: Watcher | None = None,
    preprocessing: Preprocessing | None = None,
) -> Fitted:
    """Trains an inspector as the preset says.

    Args:
        records: Usable rows with labels where known and a split in every row.
        groups: (N,) what belongs together in cross-validation, from `groups_of`.
        config: What to do.
        folder: For decoded photographs and checkpoints; a killed run continues from there.
        pixels: For decoded photographs instead, shared by trainings on the same images.
        watcher: Is shown the fine-tuned network after each epoch, see `fine_tune`.
        preprocessing: Of `preprocessing_of`, where the caller has it already.

    Raises:
        ConfigError: The region of interest does not fit the photographs.
        UnknownNameError: No such network.
        WeightsError: Pretrained weights are asked for and not to be had.
        TrainingError: Fine-tuning failed.
    """
    if config.preset == "quick" and not config.pretrained:
        raise WeightsError(
            "The preset quick stands on a pretrained network, and --no-pretrained was given.",
            fix="--preset standard --no-pretrained (needs thousands of images), or leave --no-pretrained out.",
        )
    clock = Clock()
    chosen = None
    if config.image_size == "auto":
        chosen = chosen_size(records, groups, config, folder, preprocessing)
        clock.lap("image size")
    torch.manual_seed(config.seed)  # after the tries, which a run that goes on does not make again
    start = start_training(
        records, config, pixels or folder / "pixels", preprocessing, side=None if chosen is None else chosen.side
    )
    clock.lap("decode")
    store, main = start.store, start.main
    job = _Job(records, groups, config, store, folder, start.preprocessing)
    notes: dict[str, object] = {"network": main, "input": list(start.shape)}
    if chosen is not None:
        notes["image size"] = asdict(chosen)
    members, history = job.members(start, notes, clock, watcher)
    inspector, combined, out_of_fold = combine(members, job.rows("val"), job.targets, notes)
    combined[list(store.failed)] = np.nan
    if config.views > 1:
        notes["views"] = job.gain_of_views(inspector, combined)
    kinds = job.kinds_seen(inspector)
    clock.lap("views and kinds")
    return Fitted(
        inspector,
        combined,
        out_of_fold,
        store.failed,
        history,
        notes,
        start.provenance,
        clock.laps,
        start.preprocessing,
        job.features,
        kinds,
    )


class _Job:
    """The photographs of one training and what its members share."""

    def __init__(
        self,
        records: Records,
        groups: Rows,
        config: TrainConfig,
        store: PixelStore,
        folder: Path,
        preprocessing: Preprocessing,
    ) -> None:
        self.records, self.groups, self.config = records, groups, config
        self.store, self.folder, self.preprocessing = store, folder, preprocessing
        self.everything = np.arange(len(records))
        self.features: npt.NDArray[np.float32] | None = None
        self.targets = targets_of(records)

    def rows(self, split: str) -> Rows:
        """Returns the decodable, labelled rows of a split."""
        frame = self.records.frame
        chosen = (frame["split"] == split).fill_null(False) & frame["label"].is_not_null()
        rows = np.flatnonzero(chosen.to_numpy())
        return rows[~np.isin(rows, list(self.store.failed))]

    def members(
        self, start: Start, notes: dict[str, object], clock: Clock, watcher: Watcher | None
    ) -> tuple[list[Member], list[dict[str, float]]]:
        """Fits what the preset asks for; returns the members and the epochs of fine-tuning."""
        made: list[Member] = []
        history: list[dict[str, float]] = []
        for name in frozen_models(self.config, start.main):
            weights = start.weights[name]
            assert weights is not None
            made.append(self.frozen(start.bases[name], weights, notes))
            clock.lap(f"heads on frozen {name}")
        if self.config.fine_tuning_epochs > 0:
            member, history = self.fine_tuned(start.bases[start.main], start.weights[start.main], notes, watcher)
            made.append(member)
            clock.lap("fine-tuning")
        return made, history

    def frozen(self, base: NetworkConfig, weights: Weights, notes: dict[str, object]) -> Member:
        """Fits the SVM head, or it and a cell head, on a pretrained trunk."""
        member = (
            self._with_cells(base, weights, notes) if self.config.head == "cells" else self._svm(base, weights, notes)
        )
        return self._viewed(member)

    def _viewed(self, member: Member) -> Member:
        """Returns a member with the views that are asked for; its raw scores are computed anew if there are several."""
        if self.config.views == 1:
            return member
        classifier = member.classifier
        classifier.config = with_views(classifier.config, self.config.views)
        return replace(
            member, raw_scores=over_batches(classifier, classifier, self.store.pixels, self.everything, "views")
        )

    def _fitting_rows(self) -> Rows:
        """Returns the rows that a frozen network's heads are fitted on: folds choose their settings."""
        rows = self.rows("train")
        if self.config.fine_tuning_epochs:  # which chooses its epoch on the validation rows
            return rows
        return np.sort(np.concatenate([rows, self.rows("val")]))

    def _with_cells(self, base: NetworkConfig, weights: Weights, notes: dict[str, object]) -> Member:
        """Fits an SVM head and a cell head from one pass over the photographs, and adds their raw scores."""
        records, pixels, seed = self.records, self.store.pixels, self.config.seed
        rows = self._fitting_rows()
        kinds = kinds_of(records, rows)
        classifier = Classifier(cells_beside_svm(base, kinds))
        classifier.load_trunk(weights)
        masks = masks_of(records, rows, base.height, base.width, self.preprocessing)
        targets = replace(self.targets, kind=kind_numbers(records, kinds), masks=masks)
        self.folder.mkdir(parents=True, exist_ok=True)
        place = self.folder / f"cells-{base.backbone}.f16"
        fit = fit_frozen_heads(classifier, pixels, records, self.groups, rows, targets, place, seed)
        fit.features[list(self.store.failed)] = np.nan
        self.features = fit.features if self.features is None else self.features
        raw_scores = np.zeros(len(records), np.float32)
        raw_scores[rows] = fit.fitted(rows)
        others = np.setdiff1d(self.everything, rows)
        raw_scores[others] = over_batches(classifier, classifier, pixels, others, "scores")
        out_of_fold = np.full(len(records), np.nan)
        out_of_fold[rows] = fit.out_of_fold
        notes[f"SVM and cell head on {base.backbone}"] = _svm_note(fit.svm) | {
            "cells, weight decay": fit.cells.weight_decay,
            "cells, grid": fit.cells.table,
            "share of the cells": fit.table,
        }
        notes["kinds"], notes["masks"] = list(kinds), len(masks)
        return Member(classifier, raw_scores, out_of_fold)

    def _svm(self, base: NetworkConfig, weights: Weights, notes: dict[str, object]) -> Member:
        config = svm_config(base)
        classifier = Classifier(config)
        classifier.load_trunk(weights)
        features = self._features(classifier, weights)
        self.features = features if self.features is None else self.features
        rows = self._fitting_rows()
        fit = fit_svm_on(features, self.records, self.groups, rows, self.config.seed)
        classifier.head = fit.head
        classifier.config = config.model_copy(update={"supports": len(fit.head.alpha)})
        with torch.inference_mode():
            raw_scores = fit.head(torch.from_numpy(features)).numpy()
        out_of_fold = np.full(len(self.records), np.nan)
        out_of_fold[rows] = fit.out_of_fold
        notes[f"SVM head on {base.backbone}"] = _svm_note(fit)
        return Member(classifier, raw_scores, out_of_fold)

    def _features(self, classifier: Classifier, weights: Weights) -> npt.NDArray[np.float32]:
        """Returns the stage features of every row, from the cache where it has them."""
        pixels = self.store.pixels

        def compute(rows: Rows, title: str) -> npt.NDArray[np.float32]:
            return over_batches(classifier, classifier.stage_features, pixels, rows, title)

        cache_key = stages_cache_key(classifier.config, weights.origin, self.preprocessing)
        digests = self.records.frame["sha256"].to_list()
        for row in self.store.failed:
            digests[row] = None
        features = np.empty((len(digests), classifier.feature_length), np.float32)
        cached_rows(digests, cache_key, compute, features)
        return features

    def fine_tuned(
        self, base: NetworkConfig, weights: Weights | None, notes: dict[str, object], watcher: Watcher | None
    ) -> tuple[Member, list[dict[str, float]]]:
        """Fine-tunes all layers; a linear head starts from a linear probe, a cell head at zero."""
        train, targets = self.rows("train"), self.targets
        if self.config.head == "cells":
            kinds = kinds_of(self.records, train)
            base = cells_config(base, kinds=kinds)
            masks = masks_of(self.records, train, base.height, base.width, self.preprocessing)
            targets = replace(targets, kind=kind_numbers(self.records, kinds), masks=masks)
            notes["kinds"], notes["masks"] = list(kinds), len(masks)
        classifier = Classifier(base)
        if weights is not None:
            classifier.load_trunk(weights)
            pooled = BACKBONES.get(base.backbone).pooled_head and classifier.cells is None
            if pooled and not (self.folder / "last.ckpt").is_file():
                start_head(classifier, self.store.pixels, train, self._bad()[train])
        reporter().say(f"fine-tuning {base.backbone} on {counted(len(train), 'image')}")
        history = fine_tune(
            classifier,
            self.config,
            self.store.pixels,
            targets,
            (train, self.rows("val")),
            self.folder,
            watcher=watcher,
        )
        classifier.config = with_views(classifier.config, self.config.views)
        raw_scores = over_batches(classifier, classifier, self.store.pixels, self.everything, "scores")
        kept = kept_epoch(history)
        notes["fine-tuning"] = {
            "epochs": len(history),
            "epoch kept": int(kept["epoch"]),
            "val AUC": kept["val_auroc"],
        }
        return Member(classifier, raw_scores, np.full(len(self.records), np.nan)), history

    def gain_of_views(self, inspector: Inspector, combined: npt.NDArray[np.float32]) -> dict[str, object]:
        """Returns the AUC of the calibration split with the views and with one: what they are worth for their cost."""
        rows = self.rows("calibration")
        alone = [member.one_view() for member in inspector.members if isinstance(member, Classifier)]

        def one_view(images: Tensor) -> Tensor:
            pairs = zip(inspector.scales.tolist(), alone, strict=True)
            return torch.stack([scale * member(images) for scale, member in pairs]).sum(0)

        bad = self._bad()[rows]
        once = over_batches(inspector, one_view, self.store.pixels, rows, "one view")
        aucs = {"AUC": auroc(bad, combined[rows]), "AUC with one": auroc(bad, once)}
        return {"views": self.config.views, "images": len(rows), **aucs}

    def kinds_seen(self, inspector: Inspector) -> dict[int, str | None]:
        """Returns the kind of defect that the last member with cells sees in bad photographs that nothing learned from.

        A kind has to be more likely than all others together; otherwise it is None.
        """
        members = [one for one in inspector.members if isinstance(one, Classifier) and len(one.config.kinds) > 1]
        if not members:
            return {}
        rows = np.concatenate([self.rows(split) for split in ("calibration", "test")])
        rows = np.sort(rows[self._bad()[rows]])
        member = members[-1]
        logits = over_batches(member, lambda images: member.scored(images).kinds, self.store.pixels, rows, "kinds")
        shares = torch.softmax(torch.from_numpy(logits), dim=1).numpy()
        likeliest = [member.config.kinds[kind] for kind in shares.argmax(1)] if len(rows) else []
        sure = shares.max(1) > 0.5 if len(rows) else []
        return {int(row): name if fits else None for row, name, fits in zip(rows, likeliest, sure, strict=True)}

    def _bad(self) -> npt.NDArray[np.bool_]:
        return (self.records.frame["label"] == BAD).fill_null(False).to_numpy()


def start_head(classifier: Classifier, pixels: npt.NDArray[np.uint8], rows: Rows, bad: npt.NDArray[np.bool_]) -> None:
    """Sets the last layer to a logistic regression on the pretrained features, so that they are not torn up first.

    Reference: Kumar et al. 2022, "Fine-tuning can distort pretrained features", linear probing then fine-tuning.
    """
    features = over_batches(classifier, classifier.penultimate, pixels, rows, "linear probe")
    mean, deviation = features.mean(0), features.std(0) + 1e-6
    probe = LogisticRegression(C=0.01, class_weight="balanced", max_iter=500)
    probe.fit((features - mean) / deviation, bad)
    weight = torch.from_numpy(probe.coef_[0] / deviation).float()
    offset = float(probe.intercept_[0]) - float(weight @ torch.from_numpy(mean))
    layer = classifier.head_layer()
    with torch.no_grad():
        layer.weight.copy_(torch.stack([-weight / 2, weight / 2]))
        layer.bias.copy_(torch.tensor([-offset / 2, offset / 2]))


def _svm_note(fit: SvmFit) -> dict[str, object]:
    chosen = {"cost": fit.cost, "width": fit.width, "supports": len(fit.head.alpha)}
    return chosen | {"grid": fit.table, "rows": len(fit.rows)}


class Clock:
    """Seconds that each stage took."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = round(now - self._last, 2)
        self._last = now


@dataclass(frozen=True)
class Member:
    """One classifier of an inspector with its raw scores of all rows, and out-of-fold ones where there are such."""

    classifier: Classifier
    raw_scores: npt.NDArray[np.float32]
    out_of_fold: npt.NDArray[np.float64]  # NaN where no fold left the row out

    def unseen(self, rows: Rows) -> npt.NDArray[np.float64]:
        """Returns the raw scores of rows, out-of-fold ones where there are such."""
        out_of_fold = self.out_of_fold[rows]
        return np.where(np.isnan(out_of_fold), self.raw_scores[rows].astype(np.float64), out_of_fold)


def combine(
    members: list[Member], val: Rows, targets: Targets, notes: dict[str, object]
) -> tuple[Inspector, npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Adds the raw scores of the members that are best together on validation, each in units of its temperature.

    All of them, unless fewer do better there: the inspector is never worse on validation than its best member. One
    member alone passes unscaled. Validation rows that a member was trained on count with their out-of-fold raw score.
    """
    bad = targets.bad[val] >= 0.5
    chosen, scales = tuple(range(len(members))), [1.0]
    if len(members) > 1:
        unseen = np.stack([member.unseen(val) for member in members])
        units = np.array([1 / fit_calibration(raw, bad).temperature for raw in unseen])
        in_units = units[:, None] * unseen
        sets = [some for count in range(len(members), 0, -1) for some in itertools.combinations(chosen, count)]
        aucs = [auroc(bad, in_units[list(some)].mean(0)) or 0.5 for some in sets]
        chosen = sets[int(np.argmax(aucs))]  # the first of equals: the most members
        scales = [float(units[one]) / len(chosen) for one in chosen] if len(chosen) > 1 else [1.0]
        names = [f"{one.classifier.config.backbone}, {one.classifier.config.head}" for one in members]
        notes["members, val AUC"] = [
            {"members": [names[one] for one in some], "auroc": value} for some, value in zip(sets, aucs, strict=True)
        ]
    members = [members[one] for one in chosen]
    inspector = Inspector(tuple(member.classifier.config for member in members))
    inspector.members = torch.nn.ModuleList([member.classifier for member in members])
    inspector.scales.copy_(torch.tensor(scales))
    pairs = list(zip(scales, members, strict=True))
    combined = np.sum([scale * member.raw_scores for scale, member in pairs], axis=0)
    out_of_fold = np.sum([scale * member.out_of_fold for scale, member in pairs], axis=0)
    return inspector, combined.astype(np.float32), out_of_fold

"""Fits the cell head on a frozen trunk: maps compressed by PCA and kept on disk, all folds and settings in one pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from knowngood.data.records import Records
from knowngood.data.splits import kfold_up_to, trains_on
from knowngood.files import storage_errors
from knowngood.metrics.calibration import fit_calibration
from knowngood.metrics.figures import auroc
from knowngood.models.batching import BATCH, batches_of
from knowngood.models.classifier import Classifier
from knowngood.models.heads import CellHead, pool_stages
from knowngood.progress import track
from knowngood.training.svm_head import FOLDS, SvmFit, fit_svm_on
from knowngood.training.targets import NO_KIND, Rows, Targets

COMPONENTS = 320  # of the cells' features that the PCA keeps
_LEARNED_ON = 24_000  # cells that the PCA is learned on
_DECAYS = (0.03, 0.1, 0.3, 1.0)
_EPOCHS, _BATCH, _RATE = 40, 64, 3e-3
_STEPS = 400  # at least, of small sets in more epochs
KIND_WEIGHT, MASK_WEIGHT = 0.5, 1.0  # of the losses of kinds and of marked cells, beside bad against good
_EPSILON = 1e-5  # of the batch norm that standardises the channels


@dataclass(frozen=True)
class CellMaps:
    """Compressed maps of photographs, on disk.

    Attributes:
        values: (N, h * w, P) float16, memory-mapped; rows of photographs that were not asked for are 0.
        pooled: (N, S) float32, average and maximum of the stages, as an SVM head sees them.
    """

    values: npt.NDArray[np.float16]
    pooled: npt.NDArray[np.float32]


@dataclass(frozen=True)
class CellFit:
    """A fitted cell head and how its settings were found.

    Attributes:
        weight_decay: Of the chosen fit.
        table: One row a setting: weight_decay, out-of-fold AUC.
        out_of_fold: (M,) raw scores out of fold, of the rows that were fitted on; NaN for those never held out.
        fitted: (M,) raw scores of the head that was fitted on all of them.
    """

    weight_decay: float
    table: list[dict[str, float]]
    out_of_fold: npt.NDArray[np.float64]
    fitted: npt.NDArray[np.float64]


class Compression:
    """Standardised channels of all stages, projected onto their first principal components on the finest grid.

    Standardising and projecting work cell by cell and resizing works component by component, so each stage is
    projected at its own size and the components are added on the finest one.

    Args:
        classifier: With a cell head on a frozen trunk; its norms are set to the statistics that are learned.
        pixels: (N, C, H, W) uint8.
        rows: Photographs to learn from, in any order.
        seed: Decides which of their cells are used.
    """

    def __init__(self, classifier: Classifier, pixels: npt.NDArray[np.uint8], rows: Rows, seed: int) -> None:
        assert classifier.cells is not None
        self.classifier, self.head = classifier, classifier.cells
        random = np.random.default_rng([seed, 11])
        cells: list[Tensor] = []
        with torch.inference_mode():
            chosen = random.permutation(rows)[:256]
            each = -(-_LEARNED_ON // len(chosen))
            for batch in batches_of(chosen, pixels, "PCA of the cells"):
                stages = classifier.stage_maps(torch.from_numpy(np.ascontiguousarray(pixels[batch])))
                joined = torch.cat(self.head.on_one_grid([one.float() for one in classifier.of_cells(stages)]), dim=1)
                flat = joined.permute(0, 2, 3, 1).flatten(1, 2)
                drawn = torch.from_numpy(random.permuted(np.tile(np.arange(flat.shape[1]), (len(flat), 1)), axis=1))
                drawn = drawn[:, :each, None].expand(-1, -1, flat.shape[2])
                cells.append(flat.gather(1, drawn).flatten(0, 1))
            table = torch.cat(cells)
            mean, variance = table.mean(0), table.var(0)
            standard = (table - mean) / (variance + _EPSILON).sqrt()
            count = min(COMPONENTS, standard.shape[1], max(1, len(standard) - 1))
            generator_state = torch.random.get_rng_state()
            torch.manual_seed(seed)
            _, spread, directions = torch.pca_lowrank(standard, count, center=False, niter=4)
            torch.random.set_rng_state(generator_state)
            self.components = directions.T.contiguous()  # (P, sum C_i)
            # One unit for all components: each in its own would let few photographs be told apart by noise.
            self.unit = float(spread.square().sum().sqrt() / (len(standard) * len(spread)) ** 0.5)
            sizes = list(self.head.channels)
            for norm, centre, square in zip(
                self.head.norms, torch.split(mean, sizes), torch.split(variance, sizes), strict=True
            ):
                norm.load_state_dict({"running_mean": centre, "running_var": square}, strict=False)

    @property
    def parts(self) -> list[Tensor]:
        """The projections of each stage, (P, C_i, 1, 1)."""
        split = torch.split(self.components, list(self.head.channels), dim=1)
        return [part[:, :, None, None].contiguous() for part in split]

    def maps(self, pixels: npt.NDArray[np.uint8], rows: Rows, place: Path) -> CellMaps:
        """Computes the stage features of all photographs, and stores the components of some (mean square: about 1).

        Args:
            pixels: (N, C, H, W) uint8.
            rows: Photographs whose components are wanted; the file has holes for the others.
            place: File for the maps; the caller deletes it.

        Raises:
            StorageError: The disk is full.
        """
        classifier, parts = self.classifier, self.parts
        classifier.eval()
        values: npt.NDArray[np.float16] | None = None
        pooled = np.full((len(pixels), classifier.feature_length), np.nan, np.float32)
        with torch.inference_mode(), storage_errors(place):
            for batch in batches_of(np.arange(len(pixels)), pixels, "maps of the cells"):
                stages = classifier.stage_maps(torch.from_numpy(np.ascontiguousarray(pixels[batch])))
                pooled[batch] = pool_stages(stages).numpy()
                wanted = np.isin(batch, rows)
                layers = zip(self.head.norms, classifier.of_cells(stages), parts, strict=True)
                small = [functional.conv2d(norm(stage[wanted].float()), part) for norm, stage, part in layers]
                total = torch.stack(self.head.on_one_grid(small)).sum(0) / self.unit
                if values is None:
                    shape = (len(pixels), math.prod(self.head.size), total.shape[1])
                    values = np.memmap(place, np.float16, "w+", shape=shape)
                values[batch[wanted]] = total.flatten(2).transpose(1, 2).clamp(-6e4, 6e4).half().numpy()
        assert values is not None
        return CellMaps(values, pooled)

    def install(self, weight: Tensor, bias: Tensor) -> None:
        """Puts a linear map of the components into the head.

        Args:
            weight: (C, P), of the components that `maps` stores.
            bias: (C,).
        """
        rows = weight / self.unit
        made = {
            f"projections.{n}.weight": (rows @ part.flatten(1))[..., None, None] for n, part in enumerate(self.parts)
        }
        self.head.load_state_dict(made | {"bias": bias}, strict=False)


def fit_cell_head(
    compression: Compression,
    maps: CellMaps,
    targets: Targets,
    rows: Rows,
    folds: npt.NDArray[np.int64],
    seed: int,
) -> CellFit:
    """Chooses the weight decay by cross-validation on the training rows, and leaves the fit on all in the head.

    The head is linear in the components, so the fits of all folds and settings are columns of one matrix that learn
    side by side from one pass over the maps.

    Args:
        compression: Of the classifier whose head is fitted.
        maps: Of all rows.
        targets: Of all rows: probabilities, weights, kinds and masks.
        rows: (M,) that train.
        folds: (M,) fold numbers; negative for rows that only train, see `splits.kfold`.
        seed: Of the batches.
    """
    numbers = np.unique(folds[folds >= 0])
    jobs = [(decay, int(fold)) for decay in _DECAYS for fold in (*numbers, -1)]
    learners = _Columns(compression.head, maps, targets, jobs, folds, rows)
    learners.fit(seed)
    raw = learners.raw_scores()
    bad = targets.bad[rows] >= 0.5
    tested = folds >= 0
    out_of_fold, table = {}, []
    for decay in _DECAYS:
        scored = np.full(len(rows), np.nan)
        for fold in numbers:
            held = folds == fold
            scored[held] = raw[held, jobs.index((decay, int(fold)))]
        out_of_fold[decay] = scored
        table.append({"weight_decay": decay, "auroc": auroc(bad[tested], scored[tested]) or 0.5})
    best = max(table, key=lambda row: row["auroc"])["weight_decay"]
    compression.install(*learners.column(jobs.index((best, -1))))
    return CellFit(best, table, out_of_fold[best], raw[:, jobs.index((best, -1))])


_SHARES = (0.5, 0.25, 0.75, 1.0)  # of the cells; the first of equals wins


@dataclass(frozen=True)
class FrozenHeads:
    """An SVM head and a cell head that were fitted on one frozen network.

    Attributes:
        svm: The fitted SVM.
        cells: The fitted cells; they are in the classifier already.
        shares: (2,) factors of the SVM's and of the cells' raw score.
        table: One row a share of the cells that was tried: share, out-of-fold AUC.
        features: (N, S) float32, stage features of all photographs.
    """

    svm: SvmFit
    cells: CellFit
    shares: npt.NDArray[np.float64]
    table: list[dict[str, float]]
    features: npt.NDArray[np.float32]

    @property
    def out_of_fold(self) -> npt.NDArray[np.float64]:
        """(M,) raw scores out of fold."""
        return np.asarray(self.shares @ np.stack([self.svm.out_of_fold, self.cells.out_of_fold]))

    def fitted(self, rows: Rows) -> npt.NDArray[np.float64]:
        """Returns the raw scores (M,) of the rows that both were fitted on."""
        with torch.inference_mode():
            of_svm = self.svm.head(torch.from_numpy(self.features[rows])).numpy()
        return np.asarray(self.shares @ np.stack([of_svm, self.cells.fitted]))


def fit_frozen_heads(
    classifier: Classifier,
    pixels: npt.NDArray[np.uint8],
    records: Records,
    groups: Rows,
    rows: Rows,
    targets: Targets,
    place: Path,
    seed: int,
) -> FrozenHeads:
    """Fits an SVM head and a cell head from one pass over the photographs, and puts them into the classifier.

    Args:
        classifier: Of `cells_beside_svm`, with pretrained weights; changed in place.
        pixels: (N, C, H, W) uint8 of all photographs.
        records: (N rows).
        groups: (N,) what belongs together in cross-validation, from `groups_of`.
        rows: (M,) that train.
        targets: Of all rows.
        place: File for compressed maps, which is deleted again.
        seed: Of folds, batches, and of what the PCA sees.

    Raises:
        StorageError: The disk is full.
    """
    classifier.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    compression = Compression(classifier, pixels, rows, seed)
    try:
        maps = compression.maps(pixels, rows, place)
        svm = fit_svm_on(maps.pooled, records, groups, rows, seed)
        folds = kfold_up_to(records.with_frame(records.frame[rows]), FOLDS, seed, groups=groups[rows])
        cells = fit_cell_head(compression, maps, targets, rows, folds, seed)
    finally:
        place.unlink(missing_ok=True)
    shares, table = _shared(np.stack([svm.out_of_fold, cells.out_of_fold]), targets.bad[rows] >= 0.5)
    classifier.head = svm.head
    classifier.config = classifier.config.model_copy(update={"supports": len(svm.head.alpha)})
    classifier.get_buffer("shares").copy_(torch.from_numpy(shares))
    return FrozenHeads(svm, cells, shares, table, maps.pooled)


def _shared(
    raw: npt.NDArray[np.float64], bad: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float64], list[dict[str, float]]]:
    """Returns how much two heads count, each in units of its own temperature, by the AUC out of fold; and the table.

    The cells always have a share, since the map is theirs.
    """
    held = ~np.isnan(raw).any(axis=0)
    units = np.array([1 / fit_calibration(one[held], bad[held]).temperature for one in raw])
    table = []
    for share in _SHARES:
        both = np.array([1 - share, share]) * units @ raw[:, held]
        table.append({"share": share, "auroc": auroc(bad[held], both) or 0.5})
    best = max(table, key=lambda row: row["auroc"])["share"]
    return np.array([1 - best, best]) * units, table


class _Columns:
    """Linear cell heads that learn side by side: J jobs of C outputs each, a column an output.

    Args:
        head: Gives the outputs and the sharpness.
        maps: Compressed maps.
        targets: Of all rows.
        jobs: Weight decay and the fold that is left out (-1: none).
        folds: (M,) of the rows.
        rows: (M,) that train.
    """

    def __init__(
        self,
        head: CellHead,
        maps: CellMaps,
        targets: Targets,
        jobs: Sequence[tuple[float, int]],
        folds: npt.NDArray[np.int64],
        rows: Rows,
    ) -> None:
        self.head, self.maps, self.targets, self.rows = head, maps, targets, rows
        self.decay = torch.tensor([decay for decay, _ in jobs]).repeat_interleave(head.outputs)
        used = np.stack([np.ones(len(rows), bool) if f < 0 else trains_on(folds, f) for _, f in jobs], axis=1)
        bad = targets.bad[rows] >= 0.5
        weight = used * targets.weight[rows][:, None].astype(np.float64)
        for kind in (bad, ~bad):  # both classes count the same in every fit
            weight[kind] /= np.maximum(weight[kind].sum(0), 1e-9)
        self.weight = torch.from_numpy(weight * len(rows) / 2).float()
        components = maps.values.shape[2]
        self.weights = torch.zeros(components, len(jobs) * head.outputs, requires_grad=True)
        self.bias = torch.zeros(len(jobs) * head.outputs, requires_grad=True)

    def fit(self, seed: int) -> None:
        optimizer = torch.optim.Adam([self.weights, self.bias], lr=_RATE)
        random = np.random.default_rng([seed, 12])
        steps_an_epoch = -(-len(self.rows) // _BATCH)
        epochs = max(_EPOCHS, -(-_STEPS // steps_an_epoch))
        total, warm, step = epochs * steps_an_epoch, max(steps_an_epoch, epochs * steps_an_epoch // 40), 0
        for _ in track(range(epochs), "cell head"):
            order = random.permutation(len(self.rows))
            for start in range(0, len(order), _BATCH):
                rate = _RATE * min(1.0, (step + 1) / warm) * 0.5 * (1 + np.cos(np.pi * step / total))
                optimizer.param_groups[0]["lr"] = rate
                loss = self._loss(order[start : start + _BATCH])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                with torch.no_grad():
                    self.weights *= 1 - rate * self.decay
                step += 1

    def _logits(self, places: npt.NDArray[np.int64]) -> Tensor:
        """Returns the logits (B, J, C, h, w) of places in `rows`."""
        values = torch.from_numpy(self.maps.values[self.rows[places]].astype(np.float32))
        logits = (values @ self.weights + self.bias).transpose(1, 2)
        return logits.reshape(len(places), -1, self.head.outputs, *self.head.size)

    def _loss(self, places: npt.NDArray[np.int64]) -> Tensor:
        rows, head = self.rows[places], self.head
        logits = self._logits(places)
        scores = head.scores(logits)
        raw = head.pooled(scores)
        bad = torch.from_numpy(self.targets.bad[rows])[:, None].expand_as(raw)
        each = functional.binary_cross_entropy_with_logits(raw, bad, reduction="none")
        if head.kinds > 1 and self.targets.kind is not None:
            kind = torch.from_numpy(self.targets.kind[rows])
            guess = head.kind_logits(logits)  # (B, J, K)
            wrong = functional.cross_entropy(
                guess.flatten(0, 1), kind.clamp(min=0).repeat_interleave(raw.shape[1]), reduction="none"
            ).view_as(raw)
            each = each + KIND_WEIGHT * (kind != NO_KIND)[:, None] * wrong
        having = [place for place, row in enumerate(rows.tolist()) if row in self.targets.masks]
        if having:
            masks = torch.from_numpy(np.stack([self.targets.masks[int(rows[place])] for place in having])).float()
            extra = torch.zeros_like(each)
            extra[having] = head.mask_losses(scores[having], masks)
            each = each + MASK_WEIGHT * extra
        return (each * self.weight[places]).mean(0).sum()  # every column minimises its own share

    def raw_scores(self) -> npt.NDArray[np.float64]:
        """Returns the raw scores (M, J) of the rows."""
        made = []
        with torch.inference_mode():
            for start in range(0, len(self.rows), BATCH):
                logits = self._logits(np.arange(start, min(start + BATCH, len(self.rows))))
                made.append(self.head.pooled(self.head.scores(logits)).numpy())
        return np.concatenate(made).astype(np.float64)

    def column(self, job: int) -> tuple[Tensor, Tensor]:
        """Returns weights (C, P) and bias (C,) of one job."""
        own = slice(job * self.head.outputs, (job + 1) * self.head.outputs)
        return self.weights.detach()[:, own].T.contiguous(), self.bias.detach()[own]

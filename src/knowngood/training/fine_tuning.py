"""Fine-tunes all layers with Lightning: soft labels, balanced batches, transforms on the fly, averaged weights."""

from __future__ import annotations

import contextlib
import math
import re
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import knowngood.models.torchvision_ops  # noqa: F401  (before Lightning)

import lightning.pytorch as pl
import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch.callbacks import WeightAveraging
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from knowngood.data.augmentation import Parameters, draw, geometry, policy_named, resampled, transformed
from knowngood.errors import TrainingError
from knowngood.models.classifier import Classifier
from knowngood.training.batches import Batch, EpochBatches, FittedImages, as_is
from knowngood.training.cell_head import KIND_WEIGHT, MASK_WEIGHT
from knowngood.training.config import Freeze, TrainConfig
from knowngood.training.epochs import EpochEnd, Watcher, WholeCheckpoints, read_history
from knowngood.training.processes import Mapped, in_processes, sent, silence_logs
from knowngood.training.targets import NO_KIND, NO_MASK, Rows, Targets, class_weighted


@dataclass(frozen=True)
class Plan:
    """How fine-tuning goes about it, with a cell head; `benchmarks/fine_tuning.py` compares others.

    Attributes:
        rate: Peak learning rate of the trunk, where the user gives none, from pretrained weights.
        head_factor: Times which the head learns faster.
        weight_decay: Of matrices, where the user gives none.
        optimizer: "adamw" or "sgd" (momentum 0.9, Nesterov).
        keep_statistics: Whether batch norms go on using the statistics that they came with. A pooled linear head
            that was fitted on the pretrained features needs them; with a cell head they did better on the tiles (two
            seeds), alike on the look-alike, worse by 0.007 on the solar cells (one seed). The norms of a cell head then
            pass on what comes.
        loss: "cross-entropy", or "generalised": (1 - p^q) / q with q = 0.3, which a wrong label pulls less.

    Reference:
        Zhang & Sabuncu 2018 (generalised cross-entropy, equation 6).
    """

    rate: float = 1e-4
    head_factor: float = 10.0
    weight_decay: float = 0.05
    optimizer: Literal["adamw", "sgd"] = "adamw"
    keep_statistics: bool = True
    loss: Literal["cross-entropy", "generalised"] = "cross-entropy"


LINEAR_PLAN = Plan(rate=3e-5, head_factor=5.0, weight_decay=0.02)  # of a pooled linear head
FROM_NOTHING = 1e-3  # peak learning rate from random weights
_Q = 0.3  # of the generalised cross-entropy


class FineTuning(pl.LightningModule):
    """One classifier under training.

    Args:
        classifier: With a linear head or a cell head; trained in place.
        config: Rates, policy, seed.
        steps: Optimiser steps of the whole training.
        plan: How to go about it.
    """

    def __init__(self, classifier: Classifier, config: TrainConfig, steps: int, plan: Plan) -> None:
        super().__init__()
        self.plan = plan
        self.keep_statistics = plan.keep_statistics
        self.frozen = freeze(classifier, config.freeze)
        self.classifier = classifier
        self.config = config
        self.steps = max(steps, 1)
        self.policy = policy_named(config.augment)
        self.losses: list[float] = []
        self.seen: list[tuple[Tensor, Tensor]] = []

    def train(self, mode: bool = True) -> FineTuning:
        """Switches to training, except for batch norms that keep their statistics."""
        super().train(mode)
        for layer in self.modules() if self.keep_statistics else self.frozen:
            if isinstance(layer, nn.BatchNorm2d):
                layer.eval()
        return self

    def training_step(self, batch: Batch, index: int) -> Tensor:
        key = (self.config.seed, self.current_epoch, index, self.global_rank)
        drawn, dropped = np.random.SeedSequence(key).generate_state(2).tolist()
        generator = torch.Generator().manual_seed(drawn)
        torch.manual_seed(dropped)  # dropout's: checkpoints do not keep the state of torch's generator
        parameters = draw(self.policy, len(batch.images), generator)
        images = transformed(batch.images, self.policy, parameters)
        if self.classifier.cells is None:
            logits = self.classifier.logits(images).float()
            each = self._against_good(logits[:, 1] - logits[:, 0], batch.bad)
        else:
            each = self._cell_losses(images, batch, parameters)
        loss = (each * batch.weight).sum() / batch.weight.sum()
        if not torch.isfinite(loss):
            raise TrainingError(
                f"The loss became {loss.item()} in epoch {self.current_epoch + 1}.",
                expected="a finite loss; the last good epoch is kept",
                fix="Lower --learning-rate, or set --precision fp32, and start again.",
            )
        self.losses.append(loss.item())
        return loss

    def _rate(self) -> float:
        if self.config.learning_rate is not None:
            return self.config.learning_rate
        return self.plan.rate if self.config.pretrained else FROM_NOTHING

    def validation_step(self, batch: Batch, index: int) -> None:
        self.seen.append((self.classifier(batch.images), batch.bad))

    def _against_good(self, raw_scores: Tensor, bad: Tensor) -> Tensor:
        """Returns the loss (B,) of raw scores (B,) against the probability of bad (B,)."""
        if self.plan.loss == "cross-entropy":
            return functional.binary_cross_entropy_with_logits(raw_scores, bad, reduction="none")
        chance = torch.sigmoid(raw_scores)
        return (bad * (1 - chance**_Q) + (1 - bad) * (1 - (1 - chance) ** _Q)) / _Q

    def _cell_losses(self, images: Tensor, batch: Batch, parameters: Parameters) -> Tensor:
        """Returns the loss (B,): bad against good, which kind where it is known, which cells where there is a mask."""
        made = self.classifier.scored(images)
        each = self._against_good(made.raw_scores, batch.bad)
        if made.kinds.shape[1] > 1:
            known = batch.kind != NO_KIND
            wrong = functional.cross_entropy(made.kinds, batch.kind.clamp(min=0), reduction="none")
            each = each + KIND_WEIGHT * known * wrong
        if batch.masks.shape[1]:
            each = each + MASK_WEIGHT * self._mask_losses(made.cell_scores, batch.masks, parameters)
        return each

    def _mask_losses(self, scores: Tensor, masks: Tensor, parameters: Parameters) -> Tensor:
        """Returns the loss (B,) of cell scores (B, h, w) in photographs with a mask, 0 in others."""
        assert self.classifier.cells is not None
        having = masks[:, 0, 0] != NO_MASK
        drawn = (masks == 1).float()[:, None]
        matrices = geometry(self.policy, parameters, masks.shape[2] / masks.shape[1])
        if matrices is not None:
            drawn = resampled(drawn, matrices, "nearest", "reflection")
        return having * self.classifier.cells.mask_losses(scores, drawn[:, 0])

    def configure_optimizers(self) -> Any:
        head = set(head_parameters(self.classifier))
        learning = [p for p in self.parameters() if p.requires_grad]
        decay = self.plan.weight_decay if self.config.weight_decay is None else self.config.weight_decay
        groups = []
        for in_head in (False, True):
            for decays in (False, True):
                chosen = [p for p in learning if (p in head) == in_head and (p.ndim > 1) == decays]
                groups.append(
                    {
                        "params": chosen,
                        "lr": self._rate() * (self.plan.head_factor if in_head else 1),
                        "weight_decay": decay if decays else 0.0,
                    }
                )
        optimizer: torch.optim.Optimizer = (
            torch.optim.AdamW(groups)
            if self.plan.optimizer == "adamw"
            else torch.optim.SGD(groups, momentum=0.9, nesterov=True)
        )
        warm = max(1, min(self.steps // 10, 200))

        def rate(step: int) -> float:
            if step < warm:
                return (step + 1) / warm
            return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, self.steps - warm))))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def fine_tune(
    classifier: Classifier,
    config: TrainConfig,
    pixels: npt.NDArray[np.uint8],
    targets: Targets,
    rows: tuple[Rows, Rows],
    folder: Path,
    *,
    plan: Plan | None = None,
    watcher: Watcher | None = None,
) -> list[dict[str, float]]:
    """Trains all layers; leaves the averaged weights of the epoch that is kept in `classifier`.

    Kept is the latest epoch that is no worse than the best but for chance: one standard error of the difference of the
    validation AUCs by DeLong. The rate falls to zero at the end, and a few bad photographs often call an epoch the best
    in which little was learned yet.

    A `last.ckpt` in `folder` is continued from, with the same batches and transforms as an unbroken run.

    Args:
        classifier: With a linear head or a cell head.
        config: Rates, policy, balance, precision, seed, devices.
        pixels: (N, C, H, W) uint8 of every split.
        targets: Of the N rows.
        rows: Indices of the training rows and of the validation rows.
        folder: For checkpoints.
        plan: How to go about it; what suits the head by default.
        watcher: Called with the classifier, in the weights that validation sees, and the epoch.

    Returns:
        One row an epoch: epoch, train_loss, val_loss, val_auroc, learning_rate, seconds, and kept: 1 where its weights
        replaced those of an earlier one, so that the last such row is that of `classifier`.

    Raises:
        TrainingError: The loss is no longer finite.
        StorageError: The disk is full; the last whole checkpoint stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plan = plan or plan_for(classifier, config)
    given = (config, sent(pixels), targets, rows, folder, plan, watcher)
    if config.devices > 1:
        in_processes(_fit, config.devices, classifier, *given)
    else:
        _fit(classifier, *given)
    classifier.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    classifier.load_state_dict(load_file(folder / "best.safetensors"))
    return read_history(folder)


def plan_for(classifier: Classifier, config: TrainConfig) -> Plan:
    """Returns the plan that suits a head; random weights have no statistics worth keeping."""
    plan = Plan() if classifier.cells is not None else LINEAR_PLAN
    return plan if config.pretrained else replace(plan, keep_statistics=False)


def _fit(
    classifier: Classifier,
    config: TrainConfig,
    pixels: npt.NDArray[np.uint8] | Mapped,
    targets: Targets,
    rows: tuple[Rows, Rows],
    folder: Path,
    plan: Plan,
    watcher: Watcher | None,
) -> None:
    """Trains in this process, one of `config.devices`; the first leaves best.safetensors and history.json."""
    pixels = pixels.opened() if isinstance(pixels, Mapped) else pixels
    epochs = config.fine_tuning_epochs
    bad = targets.bad[rows[0]] >= 0.5
    sampler = EpochBatches(
        bad,
        config.batch_size,
        balanced=config.balance == "sampling",
        seed=config.seed,
        world=config.devices,
    )
    if config.balance == "weights":
        targets = class_weighted(targets, rows[0])
    learn, check = (FittedImages(pixels, targets, part) for part in rows)
    loader = DataLoader(learn, batch_sampler=sampler, collate_fn=as_is)
    val_loader = DataLoader(check, batch_size=config.batch_size, collate_fn=as_is)
    steps = len(sampler) * epochs
    ending = EpochEnd(folder, config.patience, epochs, watcher)
    decay = 1 - 1 / max(10.0, min(1000.0, len(sampler) / 2))  # averages over about half an epoch
    silence_logs()
    trainer = pl.Trainer(
        accelerator="auto",
        devices=config.devices,
        strategy="ddp" if config.devices > 1 else "auto",
        precision="bf16-mixed" if wants_bf16(config.precision) else "32-true",
        max_epochs=epochs,
        callbacks=[ending, WeightAveraging(avg_fn=_Average(decay))],
        plugins=[WholeCheckpoints()],
        gradient_clip_val=1.0,
        num_sanity_val_steps=-1,  # epoch 0: what training has to beat,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    classifier.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    checkpoint = folder / "last.ckpt"
    module = FineTuning(classifier, config, steps, plan)
    module.train()  # Lightning takes layers in the mode that it finds them in, and a linear probe leaves eval behind
    with _ctrl_c_stays_ctrl_c():
        trainer.fit(
            module,
            loader,
            val_loader,
            ckpt_path=checkpoint if checkpoint.is_file() else None,
            weights_only=True,
        )


@dataclass(frozen=True)
class _Average:
    """Exponential moving average of one tensor; a class, since other processes are sent it and closures cannot be."""

    decay: float

    def __call__(self, average: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        return torch.lerp(current, average, self.decay) if average.is_floating_point() else current


def wants_bf16(precision: str) -> bool:
    """Returns whether to train in bfloat16: "auto" does where a GPU, or else the processor, has it in hardware."""
    if precision != "auto":
        return precision == "bf16"
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    supported = [getattr(torch.cpu, f"_is_{kind}_supported", None) for kind in ("avx512_bf16", "amx_tile")]
    return any(ask is not None and ask() for ask in supported)


@contextlib.contextmanager
def _ctrl_c_stays_ctrl_c() -> Iterator[None]:
    """Lightning answers Ctrl-C by leaving the process and by ignoring it from then on; we want our own ending."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as leaving:
        if isinstance(leaving.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


def freeze(classifier: Classifier, what: Freeze) -> list[nn.Module]:
    """Stops a part of a network from learning and lets the rest learn.

    Args:
        classifier: With a linear head; changed in place.
        what: "none"; "stem", the layers before the first stage; "all-but-last-stage"; "all-but-head".

    Returns:
        The frozen layers; their batch norms must keep their statistics.
    """
    wanted = {"none": (), "stem": ("stem",)}.get(what, ("stem", "stages"))
    last = str(classifier.trunk.feature_info[-1]["module"]) if what == "all-but-last-stage" else None
    frozen = []
    for name, layer in classifier.trunk.named_modules():
        own = list(layer.parameters(recurse=False))
        if own:
            fixed = part_of(classifier, name) in wanted and not (last and name.startswith(f"{last}."))
            for parameter in own:
                parameter.requires_grad_(not fixed)
            if fixed:
                frozen.append(layer)
    return frozen


def head_parameters(classifier: Classifier) -> Iterator[nn.Parameter]:
    """Yields the parameters of the head: the last layer, for VGG also the fully connected ones before it."""
    if classifier.cells is not None:
        yield from classifier.cells.parameters()
    for name, layer in classifier.trunk.named_modules():
        if part_of(classifier, name) == "head":
            yield from layer.parameters(recurse=False)


def part_of(classifier: Classifier, layer: str) -> str:
    """Returns "stem", "stages" or "head" for a layer of the trunk, by timm's `group_matcher`."""
    groups = classifier.trunk.group_matcher()
    stages = groups["blocks"] if isinstance(groups["blocks"], list) else [(groups["blocks"], None)]
    if re.match(groups["stem"], f"{layer}."):
        return "stem"
    return "stages" if any(re.match(pattern, f"{layer}.") for pattern, _ in stages) else "head"

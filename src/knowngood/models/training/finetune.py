"""Fine-tunes all layers with Lightning: soft labels, balanced batches, transforms on the fly, averaged weights."""

from __future__ import annotations

import contextlib
import json
import math
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

from knowngood.data.augmentations.policy import augment, policy_named
from knowngood.errors import TrainingError
from knowngood.models.classifier import Classifier
from knowngood.models.training.batches import Batch, EpochBatches, FittedImages, Rows, Targets, as_is, class_weighted
from knowngood.models.training.config import TrainConfig
from knowngood.models.training.epoch_end import EpochEnd, Watcher, WholeCheckpoints
from knowngood.models.training.freezing import freeze, head_parameters
from knowngood.models.training.processes import Mapped, in_processes, sent
from knowngood.models.training.quieting import quieten


class FineTuning(pl.LightningModule):
    """One classifier under training.

    Args:
        classifier: With a linear head; trained in place.
        config: Rates, policy, seed.
        steps: Optimiser steps of the whole training.
        keep_statistics: Whether batch norms go on using the statistics that they came with. With pretrained
            weights they must: a batch of photographs of one part is nothing like ImageNet, and normalising by it
            would undo the features, and the head that was fitted on them, at the first step.
    """

    def __init__(self, classifier: Classifier, config: TrainConfig, steps: int, *, keep_statistics: bool) -> None:
        super().__init__()
        self.keep_statistics = keep_statistics
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
        images, bad, weight = batch
        key = (self.config.seed, self.current_epoch, index, self.global_rank)
        generator = torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
        logits = self.classifier.logits(augment(images, self.policy, generator)).float()
        each = functional.cross_entropy(logits, torch.stack([1 - bad, bad], dim=1), reduction="none")
        loss = (each * weight).sum() / weight.sum()
        if not torch.isfinite(loss):
            raise TrainingError(
                f"The loss became {loss.item()} in epoch {self.current_epoch + 1}.",
                expected="a finite loss; the last good epoch is kept",
                fix="Lower --learning-rate, or set --precision fp32, and start again.",
            )
        self.losses.append(loss.item())
        return loss

    def validation_step(self, batch: Batch, index: int) -> None:
        images, bad, _ = batch
        self.seen.append((self.classifier(images), bad))

    def configure_optimizers(self) -> Any:
        head = set(head_parameters(self.classifier))
        learning = [p for p in self.parameters() if p.requires_grad]
        groups = []
        for in_head in (False, True):
            for decays in (False, True):
                chosen = [p for p in learning if (p in head) == in_head and (p.ndim > 1) == decays]
                groups.append(
                    {
                        "params": chosen,
                        "lr": self.config.peak_rate * (5 if in_head else 1),
                        "weight_decay": self.config.weight_decay if decays else 0.0,
                    }
                )
        optimizer = torch.optim.AdamW(groups)
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
    keep_statistics: bool,
    watcher: Watcher | None = None,
) -> list[dict[str, float]]:
    """Trains all layers; leaves the averaged weights of the best validation epoch in `classifier`.

    A `last.ckpt` in `folder` is continued from, with the same batches and transforms as an unbroken run.

    Args:
        classifier: With a linear head.
        config: Rates, policy, balance, precision, seed, devices.
        pixels: (N, C, H, W) uint8 of every split.
        targets: What the N rows are to be taught.
        rows: Indices of the training rows and of the validation rows.
        folder: For checkpoints.
        keep_statistics: Whether batch norms keep their statistics, as they should with pretrained weights.
        watcher: Called with the classifier, in the weights that validation sees, and the epoch.

    Returns:
        One row an epoch: epoch, train_loss, val_loss, val_auroc, learning_rate, seconds.

    Raises:
        TrainingError: The loss is no longer finite.
        StorageError: The disk is full; the last whole checkpoint stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    given = (config, sent(pixels), targets, rows, folder, keep_statistics, watcher)
    if config.devices > 1:
        in_processes(_fit, config.devices, classifier, *given)
    else:
        _fit(classifier, *given)
    classifier.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    classifier.load_state_dict(load_file(folder / "best.safetensors"))
    return read_history(folder)


def _fit(
    classifier: Classifier,
    config: TrainConfig,
    pixels: npt.NDArray[np.uint8] | Mapped,
    targets: Targets,
    rows: tuple[Rows, Rows],
    folder: Path,
    keep_statistics: bool,
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
    quieten()
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
    module = FineTuning(classifier, config, steps, keep_statistics=keep_statistics)
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


def read_history(folder: Path) -> list[dict[str, float]]:
    """Returns the epochs that a training has behind it; other processes and killed runs leave them in a file."""
    path = folder / "history.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def wants_bf16(precision: str) -> bool:
    """Says whether to train in bfloat16: "auto" does where a GPU, or else the processor, has it in hardware."""
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

"""What happens after each epoch of fine-tuning: validation, which weights are kept, checkpoints, stopping early."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import knowngood.models.torchvision_ops  # noqa: F401  (before Lightning)

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.io import TorchCheckpointIO
from safetensors.torch import save_file
from torch import Tensor

from knowngood.files import whole_file, write_json
from knowngood.metrics.comparisons import compare_auroc
from knowngood.metrics.figures import auroc
from knowngood.models.classifier import Classifier
from knowngood.progress import reporter

Watcher = Callable[[Classifier, int], None]  # is shown the averaged weights at epoch 0, before training, and after each


class EpochEnd(Callback):
    """After each epoch: measures on validation, keeps averaged weights, saves a checkpoint, stops early.

    Stands before the averaging callback, so that its validation hook still sees the averaged weights.
    """

    def __init__(self, folder: Path, patience: int, epochs: int, watcher: Watcher | None = None) -> None:
        self.folder = folder
        self.watcher = watcher
        self.patience = patience
        self.epochs = epochs
        self.history: list[dict[str, float]] = []
        self.best = torch.empty(0)  # raw scores of the validation rows in the best epoch so far
        self._task = 0
        self._began = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history, "best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.history, self.best = state["history"], state["best"]

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._began = time.perf_counter()
        title = f"epoch {trainer.current_epoch + 1}/{self.epochs}"
        self._task = reporter().start(title, int(trainer.num_training_batches))

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, index: int) -> None:
        reporter().advance(self._task, note=f"loss {module.losses[-1]:.3f}")

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        raw = _gathered(trainer, module, [m for m, _ in module.seen])
        bad = _gathered(trainer, module, [b for _, b in module.seen]) >= 0.5
        module.seen.clear()
        row = {
            "epoch": float(0 if trainer.sanity_checking else trainer.current_epoch + 1),
            "val_loss": float(np.mean(np.logaddexp(0, np.where(bad, -raw, raw)))),
            "val_auroc": auroc(bad, raw) or 0.5,  # one class only: nothing to choose by
        }
        if trainer.sanity_checking:
            if self.history:  # a run that goes on has its epoch 0 already
                return
        else:
            row["train_loss"] = float(np.mean(module.losses))
            row["learning_rate"] = float(trainer.optimizers[0].param_groups[0]["lr"])
            row["seconds"] = round(time.perf_counter() - self._began, 3)
            module.losses.clear()
            reporter().finish(self._task)
        if self.watcher is not None and trainer.is_global_zero:
            self.watcher(module.classifier, int(row["epoch"]))
        self._keep_or_stop(row, bad, raw, trainer, module)
        shown = ("val_loss", "val_auroc", "train_loss")
        figures = "  ".join(f"{name.replace('_', ' ')} {row[name]:.4f}" for name in shown if name in row)
        reporter().say(f"epoch {row['epoch']:.0f}/{self.epochs}  {figures}")

    def _keep_or_stop(
        self,
        row: dict[str, float],
        bad: np.ndarray[Any, Any],
        raw: np.ndarray[Any, Any],
        trainer: pl.Trainer,
        module: Any,
    ) -> None:
        """Keeps the averaged weights if none were better but for chance; stops when nothing has improved for long."""
        if row["val_auroc"] > max((r["val_auroc"] for r in self.history), default=-1.0):
            self.best = torch.from_numpy(raw)
        row["kept"] = float(as_good(bad, raw, self.best.numpy()))
        self.history.append(row)
        if trainer.is_global_zero:
            write_json(self.folder / "history.json", self.history)
        if row["kept"] and trainer.is_global_zero:
            with whole_file(self.folder / "best.safetensors") as scratch:
                save_file({n: t.contiguous() for n, t in module.classifier.state_dict().items()}, scratch)
        since = len(self.history) - 1 - int(np.argmax([r["val_auroc"] for r in self.history]))
        if since >= self.patience:
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        trainer.save_checkpoint(self.folder / "last.ckpt")


def as_good(bad: np.ndarray[Any, Any], raw: np.ndarray[Any, Any], best: np.ndarray[Any, Any]) -> bool:
    """Returns whether raw scores are no worse than the best ones by more than a standard error of the difference."""
    if min(bad.sum(), (~bad).sum()) < 2:  # nothing can be said
        return True
    compared = compare_auroc(bad, best, raw)
    return compared.difference <= compared.error


class WholeCheckpoints(TorchCheckpointIO):
    """Writes checkpoints whole or not at all: a kill in the middle leaves the previous epoch's."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        with whole_file(Path(path)) as scratch:
            torch.save(checkpoint, scratch)


def _gathered(trainer: pl.Trainer, module: pl.LightningModule, parts: list[Tensor]) -> np.ndarray[Any, Any]:
    values = torch.cat(parts).float()
    if trainer.world_size > 1:
        values = torch.as_tensor(module.all_gather(values)).flatten()
    return values.cpu().numpy()


def read_history(folder: Path) -> list[dict[str, float]]:
    """Returns the epochs that a training has behind it; other processes and killed runs leave them in a file."""
    path = folder / "history.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def kept_epoch(history: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    """Returns the row of the epoch whose weights a training kept."""
    return [row for row in history if row["kept"]][-1]

"""Trains a StyleGAN with Fabric: phases, checkpoints to resume from, and a grid of samples at each tick."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import knowngood.models.torchvision_ops  # noqa: F401  (before Lightning)

import numpy as np
import numpy.typing as npt
import torch
from lightning.fabric import Fabric
from PIL import Image

from knowngood.errors import ConfigError
from knowngood.files import whole_file, write_json
from knowngood.progress import reporter
from knowngood.synthesis.stylegan.config import NetworksConfig, SynthesisConfig
from knowngood.synthesis.stylegan.generators import GeneratorFacts, TrainedGenerator, save_generator
from knowngood.synthesis.stylegan.stepping import Shown, Training, phases
from knowngood.training.fine_tuning import wants_bf16
from knowngood.training.processes import in_processes, silence_logs

CHECKPOINT, HISTORY, GRIDS = "work/last.ckpt", "history.json", "grids"
ACROSS, DOWN = 8, 6  # pictures of a grid
_GRIDS_MS = 250
Watcher = Callable[[TrainedGenerator, float], dict[str, float]]  # averaged generator, kimg; adds to the history


def train_stylegan(
    shown: Mapping[str, Shown],
    facts: GeneratorFacts,
    folder: Path,
    config: SynthesisConfig,
    watcher: Watcher | None = None,
) -> list[dict[str, float]]:
    """Trains, or resumes a killed training in `folder`, step for step as if it had not been killed.

    Args:
        shown: Photographs by the name of their phase: "good" where `good_kimg` asks for them, and `config.class_`.
        facts: What the pictures will be, with the sizes of the networks.
        folder: For work/last.ckpt, generator.safetensors, history.json and grids/.
        config: Everything else.
        watcher: Asked after each tick.

    Returns:
        A row a tick: kimg, losses, overfitting (r_t), p, seconds a kimg.

    Raises:
        TrainingError: A loss is no longer finite; the last checkpoint stays.
        ConfigError: The checkpoint is of other networks.
        StorageError: The disk is full; the last whole checkpoint stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    given = (shown, facts, folder, config, watcher)
    if config.devices > 1:
        in_processes(_run, config.devices, *given)
    else:
        _run(*given)
    history: list[dict[str, float]] = json.loads((folder / HISTORY).read_text(encoding="utf-8"))
    return history


def _run(
    shown: Mapping[str, Shown],
    facts: GeneratorFacts,
    folder: Path,
    config: SynthesisConfig,
    watcher: Watcher | None,
) -> None:
    silence_logs()
    precision: Any = "bf16-mixed" if wants_bf16(config.precision) else "32-true"
    strategy = "ddp" if config.devices > 1 else "auto"
    fabric = Fabric(accelerator="auto", devices=config.devices, strategy=strategy, precision=precision)
    fabric.launch()
    training = Training(config, facts.networks, fabric)
    _go_on(training, folder / CHECKPOINT, facts.networks)
    plan = [(name, steps) for name, steps in phases(config)]
    total, every = sum(steps for _, steps in plan), max(1, config.steps(config.tick_kimg))
    recorder = _Recorder(training, facts, folder, watcher, total)
    if fabric.is_global_zero and not training.progress.step:
        recorder.grid()
    before = 0
    try:
        for name, steps in plan:
            second = before > 0
            if second:
                training.freeze(config.freeze_blocks)
            for number in range(max(0, training.progress.step - before), steps):
                if second and number == 0:
                    training.progress.p = 0.0  # other photographs, and nothing overfitted yet
                training.step(shown[name], number)
                recorder.step()
                done = training.progress.step
                if fabric.is_global_zero and (done % every == 0 or done == total):
                    recorder.tick()
            before += steps
    finally:
        recorder.close()
    fabric.barrier()


def _go_on(training: Training, checkpoint: Path, networks: NetworksConfig) -> None:
    if not checkpoint.is_file():
        return
    state = torch.load(checkpoint, map_location=training.fabric.device, weights_only=True)
    mine = {discriminator.name for discriminator in training.discriminators}
    if (
        state.pop("networks") != networks.model_dump()
        or (state.get("discriminators") or state.get("judges") or {}).keys() != mine
    ):
        raise ConfigError(
            f"{checkpoint} is of other networks.",
            expected=f"resolution {networks.resolution}, {networks.channels} channels, the same widths, discriminator "
            + " and ".join(sorted(mine)),
            fix="Choose another --out, or replace the run with --force.",
        )
    training.load(state)


class _Recorder:
    """Writes history, grid, generator and checkpoint at each tick, and reports progress."""

    def __init__(
        self, training: Training, facts: GeneratorFacts, folder: Path, watcher: Watcher | None, total: int
    ) -> None:
        self.training, self.facts, self.folder, self.watcher = training, facts, folder, watcher
        self.each = training.config.batch_size / 1000  # kimg a step
        self.started, self.at = time.perf_counter(), training.progress.step
        self.main = training.fabric.is_global_zero
        self.task = reporter().start("StyleGAN", total, self.at) if self.main else 0

    @property
    def kimg(self) -> float:
        return self.training.progress.step * self.each

    def step(self) -> None:
        if self.main:
            reporter().advance(self.task, 1, f"{self.kimg:.1f} kimg")

    def close(self) -> None:
        if self.main:
            reporter().finish(self.task)

    def tick(self) -> None:
        """Row of the history, grid, generator, checkpoint; the checkpoint last."""
        progress, seconds = self.training.progress, time.perf_counter() - self.started
        shown = (progress.step - self.at) * self.each
        row = {name: round(float(value), 5) for name, value in self.training.losses.items()}
        row = {"kimg": round(self.kimg, 3), **row, "p": round(progress.p, 4)}
        row["seconds_per_kimg"] = round(seconds / max(shown, 1e-9), 2)
        generator = self.generator()
        save_generator(generator.network, generator.facts, self.folder)
        self.grid()
        if self.watcher is not None:
            row |= self.watcher(generator, self.kimg)
        progress.history.append(row)
        write_json(self.folder / HISTORY, progress.history)
        state = self.training.state() | {"networks": self.facts.networks.model_dump()}
        with whole_file(self.folder / CHECKPOINT) as scratch:
            torch.save(state, scratch)
        reporter().say("  ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in row.items()))
        self.started, self.at = time.perf_counter(), progress.step

    def generator(self) -> TrainedGenerator:
        facts = self.facts.model_copy(update={"shown": round(self.kimg * 1000)})
        return TrainedGenerator(self.training.average, facts)

    def grid(self) -> None:
        """Adds a picture of the same latents to grids/."""
        pictures = self.generator().pictures(self.training.config.seed, range(ACROSS * DOWN))
        path = self.folder / GRIDS / f"{round(self.kimg * 1000):09d}.png"
        with whole_file(path) as scratch:
            Image.fromarray(grid_of(pictures, ACROSS)).save(scratch, format="PNG")


def grid_of(pictures: npt.NDArray[np.uint8], across: int) -> npt.NDArray[np.uint8]:
    """Lays pictures (N, R, R) or (N, R, R, 3) side by side, `across` a row; N is a multiple of it."""
    rows = [np.concatenate(list(pictures[start : start + across]), axis=1) for start in range(0, len(pictures), across)]
    return np.concatenate(rows, axis=0)


def write_animation(folder: Path) -> Path | None:
    """Joins the grids to one animation, grids.gif; returns None where there are fewer than two."""
    paths = sorted((folder / GRIDS).glob("*.png"))
    if len(paths) < 2:
        return None
    frames = [Image.open(path).convert("P", palette=Image.Palette.ADAPTIVE) for path in paths]
    with whole_file(folder / "grids.gif") as scratch:
        frames[0].save(scratch, format="GIF", save_all=True, append_images=frames[1:], duration=_GRIDS_MS, loop=0)
    return folder / "grids.gif"

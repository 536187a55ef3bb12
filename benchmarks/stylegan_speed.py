"""Seconds a kimg of StyleGAN on this machine, beside a plain path that says the same in the papers' own words.

The plain path works in float32, makes a kernel for each sample (a convolution of as many groups as samples), filters
by a convolution of its own with a gradient that autograd finds, and keeps memory in rows of channels. Ours scales
images instead of kernels, gives the filter its own derivative, orders memory channels-last and takes bfloat16 where the
processor has it. Both take turns, a few steps each; medians. All four parts are also switched on one by one.

    python benchmarks/stylegan_speed.py [--rounds 5]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch, as the command line does

import argparse
import shlex
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import knowngood.models.torchvision_ops  # noqa: F401  (before Lightning)

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor
from torch.nn import functional

from knowngood.files import write_json
from knowngood.synthesis.stylegan import networks
from knowngood.synthesis.stylegan.config import NetworksConfig, SynthesisConfig
from knowngood.synthesis.stylegan.stepping import R1_EVERY, Shown, Training
from knowngood.workflows.runs import versions

RESULT = Path(__file__).parent / "results" / "stylegan_speed.json"
SCALED, FILTERED = networks.modulated_convolution, networks.blur


def plain_blur(images: Tensor, pad: int) -> Tensor:
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    kernel = (torch.outer(taps, taps) / 64).to(images.dtype).expand(images.shape[1], 1, 4, 4)
    return functional.conv2d(functional.pad(images, [pad] * 4), kernel, groups=images.shape[1])


def plain_modulated(
    images: Tensor, weight: Tensor, styles: Tensor, *, demodulate: bool = True, double: bool = False, gain: float = 1.0
) -> Tensor:
    """Equations 1 and 3 of StyleGAN2, a kernel for each sample."""
    count, entries, height, width = images.shape
    kernels = weight[None] * styles.to(weight.dtype)[:, None, :, None, None]
    if demodulate:
        kernels = kernels * (gain * (kernels.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).rsqrt())
    together = images.reshape(1, count * entries, height, width)
    if double:
        turned = kernels.transpose(1, 2).reshape(count * entries, weight.shape[0], 3, 3)
        made = functional.conv_transpose2d(together, 4 * turned, stride=2, groups=count)
        return plain_blur(made.view(count, weight.shape[0], *made.shape[2:]), 1)
    made = functional.conv2d(together, kernels.flatten(0, 1), padding=weight.shape[2] // 2, groups=count)
    return made.view(count, weight.shape[0], *made.shape[2:])


class Way:
    """One path, with networks of its own."""

    def __init__(self, scaled: bool, filtered: bool, last: bool, bf16: bool, given: argparse.Namespace) -> None:
        self.functions = (SCALED if scaled else plain_modulated, FILTERED if filtered else plain_blur)
        size = {"resolution": given.resolution, "base": 1024}
        config = SynthesisConfig(batch_size=given.batch, discriminator="residual", path_length=2.0, **size)
        sizes = NetworksConfig(**size)
        self.training = Training(
            config, sizes, Fabric(accelerator="cpu", precision="bf16-mixed" if bf16 else "32-true")
        )
        if not last:
            for network in (self.training.generator, self.training.discriminators[0].network):
                network.to(memory_format=torch.contiguous_format)
        pixels = np.random.default_rng(0).integers(0, 255, (256, 1, given.resolution, given.resolution))
        self.shown, self.number = Shown(pixels.astype(np.uint8)), 0

    def steps(self, count: int) -> float:
        """Seconds a step."""
        networks.modulated_convolution, networks.blur = self.functions
        start = time.perf_counter()
        for _ in range(count):
            self.training.progress.p = 0.1
            self.training.step(self.shown, self.number)
            self.number += 1
        return (time.perf_counter() - start) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    made: dict[str, Way] = {
        "plain": Way(False, False, False, False, given),
        "images scaled, not kernels": Way(True, False, False, False, given),
        "and the filter's own derivative": Way(True, True, False, False, given),
        "and channels last": Way(True, True, True, False, given),
        "and bfloat16 (ours)": Way(True, True, True, True, given),
    }
    times: dict[str, list[float]] = {name: [] for name in made}
    for way in made.values():
        way.steps(1)
    for _ in range(given.rounds):
        for name, way in made.items():
            times[name].append(way.steps(R1_EVERY // 2))  # two rounds hold every lazy penalty in its share
    seconds = {name: statistics.median(each) for name, each in times.items()}
    plain = seconds["plain"]
    document: dict[str, Any] = {
        "what": __doc__.splitlines()[0],
        "command": "python " + shlex.join(sys.argv),
        "versions": versions(),
        "threads": torch.get_num_threads(),
        "batch": given.batch,
        "resolution": given.resolution,
        "seconds_per_kimg": {name: round(each / given.batch * 1000, 2) for name, each in seconds.items()},
        "times_plain": {name: round(plain / each, 2) for name, each in seconds.items()},
    }
    write_json(given.out, document)
    print(document["seconds_per_kimg"], document["times_plain"])


if __name__ == "__main__":
    main()

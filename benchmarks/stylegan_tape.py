"""StyleGAN on 500 bad parts of the look-alike (SOD, grey, 64 px): KID over training against bads it has not seen.

KID is measured after each tick on features of EfficientNet-Lite0 at 128 px, 500 samples against 500 held-out bads, and
at the end on features of VGG-16 too: a projected discriminator looks through neither, unless --model says so.
Beside it stand the KIDs of the training bads, of good parts, of blurred bads and of the untrained network against the
same held-out bads. The grid of fixed latents and the animation are kept in the run; the last grid is committed.

    python benchmarks/stylegan_tape.py --kimg 160
    python benchmarks/stylegan_tape.py --kimg 200 --discriminator residual
    python benchmarks/stylegan_tape.py --resolution 128 --kimg 2000     # for a GPU
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch, as the command line does: idle threads give way

import argparse
import datetime
import json
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import torch

from knowngood.cli.output import at_work
from knowngood.data.loading import load
from knowngood.data.pixels import fitted
from knowngood.files import write_json
from knowngood.models.batching import over_batches
from knowngood.models.classifier import Classifier, network_for
from knowngood.models.weights.search import find
from knowngood.synthesis.likeness import kid
from knowngood.synthesis.stylegan.generators import TrainedGenerator
from knowngood.synthesis.stylegan.losses import Square
from knowngood.workflows.generate import train_generator
from knowngood.workflows.runs import versions

RESULTS = Path(__file__).parent / "results"
IMAGES = Path(__file__).parents[1] / "docs" / "images"
DATA = "tape:train=1250,test=1250,bad_rate=0.4,family={family},seed=0,masks=false"
BACKBONE, SECOND, SIDE, COUNT = "efficientnet_lite0", "vgg16", 128, 500


class Ruler:
    """Features of square pictures, so that all sets are measured alike: photographs are brought to R x R first."""

    def __init__(self, resolution: int, backbone: str = BACKBONE) -> None:
        weights = find(backbone)
        self.network = Classifier(network_for(backbone, weights, SIDE, SIDE, 1))
        self.network.load_trunk(weights)
        self.resolution = resolution

    def squares(self, frame: pl.DataFrame) -> np.ndarray:
        found = fitted(frame["path"].to_list(), self.resolution, self.resolution, 1, Square())
        return np.concatenate(list(found))  # (N, R, R)

    def features(self, pictures: np.ndarray) -> np.ndarray:
        sized = np.stack([cv2.resize(each, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR) for each in pictures])
        return over_batches(self.network, self.network.penultimate, sized[:, None], np.arange(len(sized)), "features")


class Watch:
    """Measures the generator after each tick; brings no network along when it is sent to a process of its own."""

    def __init__(self, resolution: int, held: np.ndarray) -> None:
        self.resolution, self.held = resolution, held
        self.ruler: Ruler | None = None

    def __call__(self, generator: TrainedGenerator, kimg: float) -> dict[str, float]:
        self.ruler = self.ruler or Ruler(self.resolution)
        found = kid(self.ruler.features(generator.pictures(1, range(COUNT))), self.held)
        return {"kid": round(found.value, 5), "kid_error": round(found.error, 5)}


def minutes(history: list[dict[str, float]]) -> float:
    """How long the training took in all its sittings, without the ruler."""
    shown = np.diff([0.0, *(row["kimg"] for row in history)])
    return round(float(sum(shown * [row["seconds_per_kimg"] for row in history])) / 60, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kimg", type=float, default=160.0)
    parser.add_argument("--good-kimg", type=float, default=0.0)
    parser.add_argument("--freeze-blocks", type=int, default=0)
    parser.add_argument("--discriminator", default="both")
    parser.add_argument("--join-kimg", type=float, default=10.0)
    parser.add_argument("--model", help="resnet50, say; the first at hand by default")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--family", default="sod")
    parser.add_argument("--bads", type=int, help="learn from the first so many bads of the training split only")
    parser.add_argument("--tick", type=float, default=5.0)
    parser.add_argument("--base", type=int, default=2048)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--path-length", type=float, default=0.0, help="the study of few images leaves it out (2020b)")
    parser.add_argument("--devices", type=int, default=1, help="GPUs, or processes on processors")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", type=Path, default=Path("runs/stylegan-tape"))
    parser.add_argument("--out", type=Path, default=RESULTS / "stylegan_tape.json")
    given = parser.parse_args()
    records = load(DATA.format(family=given.family)).usable()
    if given.bads:
        bad = (pl.col("split") == "train") & (pl.col("label") == 1)
        records = records.with_frame(records.frame.filter(~bad | (bad.cum_sum() <= given.bads)))
    ruler = Ruler(given.resolution)
    parts = {name: records.frame.filter(pl.col("split") == split, pl.col("label") == label).head(COUNT)
             for name, split, label in (("held", "test", 1), ("taught", "train", 1), ("good", "test", 0))}  # fmt: skip
    pictures = {name: ruler.squares(frame) for name, frame in parts.items()}
    held = ruler.features(pictures["held"])
    sigma = given.resolution / 32
    sets = {
        "bads it learned from": pictures["taught"],
        "good parts": pictures["good"],
        f"held-out bads blurred, sigma {sigma:g} px": np.stack(
            [cv2.GaussianBlur(each, (0, 0), sigma) for each in pictures["held"]]
        ),
    }
    references = {name: kid(ruler.features(each), held).to_dict() for name, each in sets.items()}
    print(json.dumps({name: each["value"] for name, each in references.items()}), flush=True)

    chosen = ("kimg", "good_kimg", "freeze_blocks", "discriminator", "join_kimg", "model")
    chosen += ("resolution", "base", "batch_size", "path_length", "devices", "seed")
    options: dict[str, Any] = {name: getattr(given, name) for name in chosen}
    with at_work():
        done = train_generator(
            records, given.run, tick_kimg=given.tick, watcher=Watch(given.resolution, held), **options
        )
    made = done.generator.pictures(1, range(COUNT))
    final = kid(ruler.features(made), held)
    from knowngood.synthesis.stylegan.networks import Generator

    torch.manual_seed(given.seed)
    untrained = TrainedGenerator(Generator(done.generator.facts.networks).eval(), done.generator.facts)
    noise = untrained.pictures(1, range(COUNT))
    second = Ruler(given.resolution, SECOND)
    also = second.features(pictures["held"])
    document = {
        "what": __doc__.splitlines()[0],
        "command": "python " + shlex.join(sys.argv),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": {
            "cores": os.cpu_count(),
            "machine": platform.machine(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        "versions": versions(),
        "data": DATA.format(family=given.family),
        "features": f"{BACKBONE} at {SIDE} px",
        "minutes": minutes(done.figures["history"]),
        "references": references,
        "untrained": kid(ruler.features(noise), held).to_dict(),
        "final": final.to_dict(),
        f"by {SECOND}": {
            name: kid(second.features(each), also).to_dict()
            for name, each in (sets | {"untrained": noise, "final": made}).items()
        },
        "history": done.figures["history"],
    }
    write_json(given.out, document)
    if given.out.resolve().parent == RESULTS.resolve():  # what is committed stands in the docs as a picture too
        grid = sorted((given.run / "grids").glob("*.png"))[-1]
        (IMAGES / f"{given.out.stem.replace('_', '-')}.png").write_bytes(grid.read_bytes())
    print(json.dumps({name: document[name] for name in ("references", "untrained", "final", "minutes")}, indent=1))


if __name__ == "__main__":
    main()

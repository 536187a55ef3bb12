"""Maps of a few photographs kept after every epoch of a training, so that one can see where attention moves."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from knowngood.cam.maps import ALL, method_for, placed_maps
from knowngood.data.pixels import fit
from knowngood.files import whole_file
from knowngood.models.classifier import Classifier, device_of

METHOD = "gradcam"
_NAME = re.compile(r"epoch_(\d{3,})\.npz")
Pixels = npt.NDArray[np.uint8]
Map = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Film:
    """Called after each epoch with the network that validation saw; writes epoch_000.npz, epoch_001.npz ...

    Each file holds `margins` (N,) and, for every stage, `map:NAME` (N, H, W) at the network's size, all float32, raw
    Grad-CAMs.

    Attributes:
        folder: For the files.
        photographs: (H, W) or (H, W, 3) uint8 each.
    """

    folder: Path
    photographs: Sequence[Pixels]

    def __call__(self, classifier: Classifier, epoch: int) -> None:
        config, training = classifier.config, classifier.training
        fitted = [fit(one, config.height, config.width, config.channels) for one in self.photographs]
        classifier.eval()
        try:
            batch = torch.from_numpy(np.stack(fitted)).to(device_of(classifier))
            made = placed_maps(classifier, batch, method_for(classifier, METHOD), ALL)
        finally:
            classifier.train(training)
        arrays = {f"map:{name}": heat.cpu().numpy() for name, heat in made.maps.items()}
        encoded = io.BytesIO()
        np.savez_compressed(encoded, margins=made.margins.cpu().numpy(), **arrays)  # type: ignore[arg-type]
        with whole_file(self.folder / f"epoch_{epoch:03}.npz") as scratch:
            scratch.write_bytes(encoded.getbuffer())


@dataclass(frozen=True)
class Frame:
    """One epoch of a film.

    Attributes:
        epoch: 0 is before training.
        margins: (N,) float32, bad over good, uncalibrated.
        maps: Stage to raw maps (N, h, w) float32, the finest stage first.
    """

    epoch: int
    margins: npt.NDArray[np.float32]
    maps: dict[str, Map]


def read_film(folder: Path) -> list[Frame]:
    """Returns the epochs that a folder holds, in order."""
    frames = []
    for path in folder.glob("epoch_*.npz"):
        match = _NAME.fullmatch(path.name)
        if match is None:
            continue
        with np.load(path, allow_pickle=False) as held:
            arrays: dict[str, Any] = {name: held[name] for name in held.files}
        maps = {name.removeprefix("map:"): one for name, one in arrays.items() if name.startswith("map:")}
        frames.append(Frame(int(match[1]), arrays["margins"], maps))
    return sorted(frames, key=lambda frame: frame.epoch)

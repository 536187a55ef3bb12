"""Grad-CAMs of a few photographs, saved after every epoch of a training."""

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
from knowngood.models.batching import device_of
from knowngood.models.classifier import Classifier

METHOD = "gradcam"
_NAME = re.compile(r"epoch_(\d{3,})\.npz")
Pixels = npt.NDArray[np.uint8]
Map = npt.NDArray[np.float32]


@dataclass(frozen=True)
class CamRecorder:
    """Callback of a training: writes epoch_000.npz, epoch_001.npz ... with the maps of the network that is validated.

    Each file holds `raw_scores` (N,) and, for every stage, `map:NAME` (N, H, W), the raw Grad-CAMs at the network's
    input size; all float32.

    Attributes:
        folder: Where the files are written.
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
        np.savez_compressed(encoded, raw_scores=made.raw_scores.cpu().numpy(), **arrays)  # type: ignore[arg-type]
        with whole_file(self.folder / f"epoch_{epoch:03}.npz") as scratch:
            scratch.write_bytes(encoded.getbuffer())


@dataclass(frozen=True)
class CamFrame:
    """The maps of one epoch.

    Attributes:
        epoch: 0 is before training.
        raw_scores: (N,) float32, logit of bad minus logit of good, uncalibrated.
        maps: Stage to raw maps (N, h, w) float32, the finest stage first.
    """

    epoch: int
    raw_scores: npt.NDArray[np.float32]
    maps: dict[str, Map]


def read_cam_history(folder: Path) -> list[CamFrame]:
    """Returns the epochs that are saved in a folder, in order; files of version 0.1 are read too."""
    frames = []
    for path in folder.glob("epoch_*.npz"):
        match = _NAME.fullmatch(path.name)
        if match is None:
            continue
        with np.load(path, allow_pickle=False) as saved:
            arrays: dict[str, Any] = {name: saved[name] for name in saved.files}
        maps = {name.removeprefix("map:"): one for name, one in arrays.items() if name.startswith("map:")}
        frames.append(CamFrame(int(match[1]), arrays["raw_scores" if "raw_scores" in arrays else "margins"], maps))
    return sorted(frames, key=lambda frame: frame.epoch)

"""For benchmarks/leads.py: the share of a map that falls on the leads, the body, the tape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from knowngood.cam.maps import ALL, method_for, placed_maps
from knowngood.models.batching import BATCH, device_of
from knowngood.models.classifier import Classifier

PARTS = {"leads": 255, "body": 128, "tape": 64, "rest": 0}  # values of a part map, as the look-alike writes it
Map = npt.NDArray[np.floating[Any]]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Attention:
    """The share of a map's positive values that falls on one part.

    Attributes:
        share: In 0..1.
        lift: The share divided by the part's share of the area: 1 is as much as chance, 2 twice as much.
    """

    share: float
    lift: float


def attention(heat: Map, parts: Mapping[str, Mask]) -> dict[str, Attention] | None:
    """Returns the share of a map's positive values on each part of a picture.

    Args:
        heat: (H, W) raw map; values below 0 (evidence for good) are left out.
        parts: Name to (H, W) bool; parts need not cover the picture, and may overlap.

    Returns:
        Name to attention, for parts with any pixel; None where the map has no positive value.
    """
    positive = np.maximum(heat, 0)
    whole = float(positive.sum())
    if not whole > 0:
        return None
    spread = {}
    for name, mask in parts.items():
        area = float(mask.mean())
        if area:
            share = float(positive[mask].sum()) / whole
            spread[name] = Attention(share, share / area)
    return spread


def parts_of(part_map: npt.NDArray[np.uint8]) -> dict[str, Mask]:
    """Returns leads, body, tape (with the pocket's walls) and rest (its floor) of a part map (H, W) of `PARTS`."""
    return {name: part_map == value for name, value in PARTS.items()}


def stage_attention(
    classifier: Classifier,
    pixels: npt.NDArray[np.uint8],
    part_maps: Sequence[npt.NDArray[np.uint8]],
    *,
    method: str = "gradcam",
    layers: str | Sequence[str] = ALL,
) -> dict[str, dict[str, npt.NDArray[np.float64]]]:
    """Returns, for each stage and photograph, the share of the map on leads, body, tape and rest.

    Args:
        classifier: In evaluation mode.
        pixels: (N, C, H, W) uint8, preprocessed as the classifier's recipe does.
        part_maps: N times (h, w) with the values of `PARTS`, of the whole photograph at any size.
        method: Of `knowngood.cam.methods`.
        layers: As in `layer_names`; all stages by default.

    Returns:
        Layer to part to shares (N,) in 0..1, which add up to 1; NaN where the map has no positive value, 0 where the
        photograph has no such part.

    Raises:
        UnknownNameError: No such layer or method.
    """
    chosen, size = method_for(classifier, method), (int(pixels.shape[2]), int(pixels.shape[3]))
    found: dict[str, dict[str, npt.NDArray[np.float64]]] = {}
    for start in range(0, len(pixels), BATCH):
        images = torch.from_numpy(np.ascontiguousarray(pixels[start : start + BATCH])).to(device_of(classifier))
        for layer, maps in placed_maps(classifier, images, chosen, layers).maps.items():
            shares = found.setdefault(layer, {name: np.full(len(pixels), np.nan) for name in PARTS})
            for row, heat in enumerate(maps.cpu().numpy(), start):
                seen = cv2.resize(part_maps[row], size[::-1], interpolation=cv2.INTER_NEAREST)
                spread = attention(heat, parts_of(seen))
                for name in PARTS:
                    shares[name][row] = _share(spread, name)
    return found


def _share(spread: Mapping[str, Attention] | None, name: str) -> float:
    """Returns the share of one part: NaN without a map, 0 where the picture has no such part."""
    if spread is None:
        return float("nan")
    return spread[name].share if name in spread else 0.0

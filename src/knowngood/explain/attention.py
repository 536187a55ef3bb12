"""How much of a map falls on which part of the picture: on the leads, the body, the tape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

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
    """Returns how a map's attention is spread over the parts of a picture.

    Args:
        heat: (H, W) raw map; negative values, which speak for good, are left out.
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

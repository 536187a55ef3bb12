"""Where a recipe looked: a map in the photograph's own pixels, and boxes around what stands out."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from knowngood.cam.maps import AUTO, heat_of, method_for
from knowngood.cam.methods import METHODS
from knowngood.cam.regions import Region, regions_above, regions_of
from knowngood.data.preprocessing import Preprocessing
from knowngood.errors import ConfigError
from knowngood.models.classifier import Classifier, Inspector
from knowngood.models.heads import NearestHead, PatchHead, smooth_maps

PEAK_SHARE = 0.8  # a rejected photograph whose map stays below the level gets a box around its peak, down to this

Map = npt.NDArray[np.float32]


@dataclass(frozen=True)
class HeatMap:
    """Where a recipe looked in one photograph.

    Attributes:
        image: Name of the photograph.
        defect_score: In 0..1.
        decision: "accept", "review" or "reject".
        values: (H, W) float32 at the photograph's own size, not rescaled by image, so that values of one recipe's maps
            can be compared. Of a classifier: what the margin of bad over good owes to each place. Of an inspector
            from good images alone: distance to the nearest remembered patch, smoothed. 0 outside the recipe's
            region of interest.
        regions: What stands out, the largest first.
    """

    image: str
    defect_score: float
    decision: str
    values: Map
    regions: tuple[Region, ...]


def drawn(inspector: Inspector, images: Tensor, method: str) -> tuple[Tensor, Tensor]:
    """Returns margins (B,) and maps (B, H, W) float32 of fitted photographs (B, C, H, W) uint8.

    Args:
        inspector: In evaluation mode.
        images: On its device.
        method: Of `knowngood.cam.methods`, or "auto"; an inspector from good images alone has its own.

    Raises:
        ConfigError: This inspector draws no maps, or not by this method.
    """
    memory = checked_method(inspector, method)
    if memory is None:
        return heat_of(inspector, images, method)
    member, head = memory
    with torch.inference_mode():
        distances = head.distances(member.patch_maps(images))
        size = (int(images.shape[2]), int(images.shape[3]))
        return head.margins(distances), smooth_maps(distances, *size)


def checked_method(inspector: Inspector, method: str) -> tuple[Classifier, PatchHead] | None:
    """Looks whether an inspector draws maps by a method; returns member and head if they are distances, else None.

    Raises:
        ConfigError: It draws none, or not by this method.
        UnknownNameError: No such method.
    """
    memory = memory_of(inspector)
    if memory is None:
        for each in inspector.members:
            assert isinstance(each, Classifier)
            method_for(each, method)
        return None
    member, head = memory
    if not isinstance(head, PatchHead):
        raise ConfigError(
            "This recipe draws no maps: it compares whole photographs.",
            expected="a recipe of two classes, or of --one-class --detector patch_memory",
        )
    if method != AUTO:
        METHODS.get(method)
        raise ConfigError(
            f"A recipe from good images alone has no {method}: its maps are distances to what it remembers.",
            fix="Leave --method out.",
        )
    return member, head


def memory_of(inspector: Inspector) -> tuple[Classifier, PatchHead | NearestHead] | None:
    """Returns the only member of an inspector from good images alone, with its head; None for classifiers."""
    member = inspector.members[0]
    assert isinstance(member, Classifier)
    return (member, member.head) if isinstance(member.head, (PatchHead, NearestHead)) else None


def level_of(inspector: Inspector) -> float | None:
    """Returns the value above which a map of an inspector from good images alone stands out; None for classifiers."""
    memory = memory_of(inspector)
    return None if memory is None else float(memory[1].level)


def marked(values: Map, level: float | None, fraction: float, *, rejected: bool) -> tuple[Region, ...]:
    """Returns the regions of one map.

    Without a level they are what lies above `fraction` of the map's maximum. With one they are what lies above it;
    where nothing does and the photograph is not accepted, the part around the peak.
    """
    if level is None:
        return regions_of(values, fraction=fraction)
    found = regions_above(values, level)
    return found if found or not rejected else regions_of(values, fraction=PEAK_SHARE, most=1)


def at_size(values: Map, height: int, width: int) -> Map:
    """Returns a map (h, w) stretched to (height, width), bilinear."""
    if values.shape == (height, width):
        return values
    return np.asarray(cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def within(values: Map, preprocessing: Preprocessing) -> Map:
    """Returns a map (H, W) that is 0 outside the region of interest: nothing there counts, so nothing is boxed."""
    inside = preprocessing.inside(*values.shape)
    return values if inside is None else np.where(inside, values, np.float32(0))

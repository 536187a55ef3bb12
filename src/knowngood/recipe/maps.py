"""Maps of a recipe in the pixels of the photograph, and boxes around what stands out in them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from knowngood.cam.maps import AUTO, cell_layer, heat_of, method_for, over_picture, stage_names
from knowngood.cam.methods import METHODS
from knowngood.cam.regions import Region, regions_above, regions_of
from knowngood.data.preprocessing import Preprocessing
from knowngood.errors import ConfigError
from knowngood.models.classifier import Classifier, Inspector, common_shape
from knowngood.models.heads import NearestHead, PatchHead, smooth_maps
from knowngood.recipe.graphs import MapKind

PEAK_SHARE = 0.8  # a rejected photograph whose map stays below the level gets a box around its peak, down to this

Map = npt.NDArray[np.float32]


@dataclass(frozen=True)
class HeatMap:
    """The map of one photograph, with the score and the decision that it explains.

    Attributes:
        image: Name of the photograph.
        defect_score: In 0..1.
        decision: "accept", "review" or "reject".
        values: (H, W) float32 at the photograph's own size, not rescaled by image, so that values of one recipe's maps
            can be compared. Of a classifier: how much each place adds to the logit of bad less that of good. Of a
            recipe trained on good parts alone: distance to the nearest patch of the coreset, smoothed. 0 outside its
            region of interest.
        regions: What stands out, the largest first.
    """

    image: str
    defect_score: float
    decision: str
    values: Map
    regions: tuple[Region, ...]


def drawn(inspector: Inspector, images: Tensor, method: str) -> tuple[Tensor, Tensor]:
    """Returns raw scores (B,) and maps (B, H, W) float32 of fitted photographs (B, C, H, W) uint8.

    Args:
        inspector: In evaluation mode.
        images: On its device.
        method: Of `knowngood.cam.methods`, or "auto"; an inspector from good images alone has its own.

    Raises:
        ConfigError: This inspector draws no maps, or not by this method.
    """
    good_only = checked_method(inspector, method)
    if good_only is None:
        return heat_of(inspector, images, method)
    member, head = good_only
    with torch.inference_mode():
        distances = head.distances(member.patch_maps(images))
        size = (int(images.shape[2]), int(images.shape[3]))
        return head.raw_scores(distances), smooth_maps(distances, *size)


def checked_method(inspector: Inspector, method: str) -> tuple[Classifier, PatchHead] | None:
    """Looks whether an inspector draws maps by a method; returns member and head if they are distances, else None.

    Raises:
        ConfigError: It draws none, or not by this method.
        UnknownNameError: No such method.
    """
    good_only = good_only_head(inspector)
    if good_only is None:
        for each in inspector.members:
            assert isinstance(each, Classifier)
            method_for(each, method)
        return None
    member, head = good_only
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


def good_only_head(inspector: Inspector) -> tuple[Classifier, PatchHead | NearestHead] | None:
    """Returns the only member of an inspector from good images alone, with its head; None for classifiers."""
    member = inspector.members[0]
    assert isinstance(member, Classifier)
    return (member, member.head) if isinstance(member.head, (PatchHead, NearestHead)) else None


def level_of(inspector: Inspector) -> float | None:
    """Returns the value above which a map of an inspector from good images alone stands out; None for classifiers."""
    good_only = good_only_head(inspector)
    return None if good_only is None else float(good_only[1].level)


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


_SIZES = 32  # sizes of photographs whose matrices are kept


class Placing:
    """Places raw maps over photographs exactly as `Recipe.maps` does, only faster.

    Placing cells, smoothing and stretching are linear and work on rows and columns apart, so all of them together are
    `down @ raw @ across`. The two matrices are read off by placing maps that are 1 in one row, or in one column.

    Args:
        inspector: Of the recipe.
        kind: What its raw maps are.
    """

    def __init__(self, inspector: Inspector, kind: MapKind) -> None:
        self.inspector, self.kind = inspector, kind
        self._known: OrderedDict[tuple[int, int, int, int], tuple[Map, Map]] = OrderedDict()

    def __call__(self, raw: Map, size: tuple[int, int]) -> Map:
        """Returns a map (height, width) float32 of a raw one (h, w).

        Args:
            raw: As the graph puts it out.
            size: Height and width of the photograph in pixels.
        """
        down, across = self._matrices((int(raw.shape[0]), int(raw.shape[1])), size)
        return np.asarray(down @ raw @ across, np.float32)

    def _matrices(self, cells: tuple[int, int], size: tuple[int, int]) -> tuple[Map, Map]:
        key = (*cells, *size)
        found = self._known.get(key)
        if found is None:
            rows, columns = cells
            place = self._placer()
            by_row = torch.eye(rows)[:, :, None].expand(-1, -1, columns).contiguous()
            by_column = torch.eye(columns)[:, None, :].expand(-1, rows, -1).contiguous()
            down = np.stack([at_size(one, *size)[:, 0] for one in place(by_row).numpy()], axis=1)
            across = np.stack([at_size(one, *size)[0] for one in place(by_column).numpy()])
            found = np.ascontiguousarray(down), np.ascontiguousarray(across)
            self._known[key] = found
            while len(self._known) > _SIZES:
                self._known.popitem(last=False)
        return found

    def _placer(self) -> Callable[[Tensor], Tensor]:
        """Returns what brings raw maps (B, h, w) to the size of fitted photographs."""
        size = common_shape(self.inspector.configs)[1:]
        if self.kind == "distances":
            return lambda maps: smooth_maps(maps, *size)
        joined = self.inspector.joined_cells()
        member = self.inspector.members[0 if joined is None else joined.finest]
        assert isinstance(member, Classifier)
        layer = cell_layer(member) if self.kind == "cells" else stage_names(member)[-1]
        return lambda maps: over_picture(member, {layer: maps}, size)[layer]

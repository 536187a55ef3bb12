"""From a graph's raw map to one over the photograph: two small matrix products instead of three resizings."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from knowngood.explain.layers import stage_names
from knowngood.explain.maps import over_picture
from knowngood.models.classifier import Classifier, Inspector, common_shape
from knowngood.models.memory_heads import smooth_maps
from knowngood.recipe.export.graphs import MapKind
from knowngood.recipe.maps import at_size

Map = npt.NDArray[np.float32]
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
        member = self.inspector.members[0]
        assert isinstance(member, Classifier)
        last = stage_names(member)[-1]
        return lambda maps: over_picture(member, {last: maps}, size)[last]

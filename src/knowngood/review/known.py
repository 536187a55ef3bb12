"""The photographs whose truth is known, by their deep features: the nearest good, the nearest bad, and a map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from knowngood.data.records import BAD, GOOD
from knowngood.models.components import fit_components
from knowngood.outliers.neighbours import Neighbours

Rows = npt.NDArray[np.float32]
_SPARE = 8  # neighbours looked at, so that photographs of the same unit can be passed over


@dataclass(frozen=True)
class Plane:
    """Photographs by their first two principal components.

    Attributes:
        points: float64 (N, 2), in the order of the rows.
        explained: Share of the variance of each of the two.
    """

    points: npt.NDArray[np.float64]
    explained: tuple[float, float]


class Known:
    """Labelled photographs with their features.

    Args:
        rows: With unit, sha256, label and generated.
        features: float32 (N, D), in that order.
        doubted: Hashes of what waits in the queue: it is on the map, but nobody is told to compare with it.
    """

    def __init__(self, rows: Sequence[dict[str, Any]], features: Rows, doubted: frozenset[str] = frozenset()) -> None:
        self.rows, self.features = list(rows), features
        self._search: dict[int, tuple[list[int], Neighbours]] = {}
        for label in (GOOD, BAD):
            sound = [
                place
                for place, row in enumerate(self.rows)
                if row["label"] == label and not row["generated"] and row["sha256"] not in doubted
            ]
            if sound:
                self._search[label] = (sound, Neighbours(features[sound]))

    def counts(self) -> dict[int, int]:
        """Returns how many of each label can be compared with."""
        return {label: len(self._search[label][0]) if label in self._search else 0 for label in (GOOD, BAD)}

    def nearest(
        self, features: Rows, unit: str, sha256: str, lot: str | None = None
    ) -> dict[int, dict[str, Any] | None]:
        """Returns the nearest photograph of each label that shows another unit, with its `distance`; None without.

        Args:
            features: float32 (D,) of the photograph that is looked at.
            unit: That it shows.
            sha256: Of its bytes.
            lot: Of the unit.
        """
        found: dict[int, dict[str, Any] | None] = {GOOD: None, BAD: None}
        for label, (places, search) in self._search.items():
            far, near = search.nearest(features[None], min(_SPARE, len(places)))
            others = ((d, self.rows[places[n]]) for d, n in zip(far[0].tolist(), near[0].tolist(), strict=True))
            other = next((one for one in others if _is_other(one[1], unit, lot, sha256)), None)
            if other is not None:
                found[label] = other[1] | {"distance": other[0]}
        return found

    @cached_property
    def plane(self) -> Plane | None:
        """The map; None for fewer than three photographs."""
        if len(self.rows) < 3:
            return None
        components = fit_components(self.features)
        share = [*components.explained.tolist(), 0.0][:2]
        return Plane(components.project(self.features, 2), (share[0], share[1]))


def _is_other(row: dict[str, Any], unit: str, lot: str | None, sha256: str) -> bool:
    """Says whether a photograph shows another unit: a unit is a name within a lot."""
    return row["sha256"] != sha256 and (row["unit"], row.get("lot")) != (unit, lot)

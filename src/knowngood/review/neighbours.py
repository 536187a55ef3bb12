"""Copies among the photographs of data sets, neighbours by deep features, and distances between lots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from knowngood.data.duplicates import near_clusters
from knowngood.data.pages import file_of
from knowngood.data.records import BAD, GOOD, Records, table
from knowngood.models.classical import fit_components
from knowngood.outliers.neighbours import Neighbours
from knowngood.review.lots import base_of
from knowngood.review.store.inspections import Row


@dataclass(frozen=True)
class Copies:
    """A group of photographs with equal bytes, or that are near-duplicates.

    Attributes:
        rows: With id, unit, image, label, defect and split.
        exact: All have the same bytes.
        contradict: They have different labels.
        across: They are in different splits: a test image has a copy among the training images.
    """

    rows: list[Row]
    exact: bool
    contradict: bool
    across: bool


def copies_of(rows: Sequence[Row]) -> list[Copies]:
    """Returns the groups of copies, different labels first, then different splits.

    Args:
        rows: With data, image, sha256, place, label and split; those whose file is gone are passed over.
    """
    there = [row for row in rows if row["place"] is not None and file_of(row["place"]).is_file()]
    if len(there) < 2:
        return []
    columns = {
        "image": [f"{row['data']}/{row['image']}" for row in there],
        "path": [row["place"] for row in there],
        "sha256": [row["sha256"] for row in there],
    }
    clusters = near_clusters(Records(table(columns), "record", Path()))
    groups: dict[int, list[Row]] = {}
    for row, cluster in zip(there, clusters.tolist(), strict=True):
        groups.setdefault(cluster, []).append(row)
    found = [
        Copies(
            group,
            exact=len({row["sha256"] for row in group}) == 1,
            contradict=len({row["label"] for row in group} - {None}) > 1,
            across=len({row["split"] for row in group} - {None}) > 1,
        )
        for group in groups.values()
        if len(group) > 1
    ]
    return sorted(found, key=lambda one: (not one.contradict, not one.across, -len(one.rows)))


_REFERENCES = 4_000  # units of the first lots that others are compared with, evenly taken


def strangeness(rows: Sequence[dict[str, Any]], features: npt.NDArray[np.float32], group: str) -> dict[int, float]:
    """Returns inspection to distance from the nearest unit of *another* lot among the first lots (or machines).

    Units of the first lots are compared with the other first lots only, so that old and new are measured alike: that
    sound lots differ is in the distances of the first ones too. A single first lot is therefore measured by nothing.

    Args:
        rows: Inspections with id, lot and machine, oldest first.
        features: float32 (N, D), in that order.
        group: "lot" or "machine": whose first ones are the reference.
    """
    named = [place for place, row in enumerate(rows) if row[group] is not None]
    base = set(base_of([str(rows[place][group]) for place in named]))
    references = [place for place in named if str(rows[place][group]) in base]
    if len(references) > _REFERENCES:
        references = [references[i] for i in np.linspace(0, len(references) - 1, _REFERENCES).astype(int)]
    owners = {owner: n for n, owner in enumerate(dict.fromkeys(_owner(row) for row in rows))}
    of = np.array([owners[_owner(row)] for row in rows], np.int64)
    if len(set(of[references].tolist())) < 2:
        return {}
    search = Neighbours(features[references], of[references])
    far, _ = search.nearest(features[named], 1, owner=of[named])
    return {
        int(rows[place]["id"]): float(distance)
        for place, distance in zip(named, far[:, 0].tolist(), strict=True)
        if np.isfinite(distance)
    }


def _owner(row: dict[str, Any]) -> str:
    """Returns what a unit is not compared with: its own lot, or its machine where there are no lots."""
    return f"lot {row['lot']}" if row["lot"] is not None else f"machine {row['machine']}"


Rows = npt.NDArray[np.float32]
_SPARE = 8  # neighbours searched, so that photographs of the same unit can be skipped


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
        queued: Hashes of the images in the queue: they are on the map, but are never shown as neighbours.
    """

    def __init__(self, rows: Sequence[dict[str, Any]], features: Rows, queued: frozenset[str] = frozenset()) -> None:
        self.rows, self.features = list(rows), features
        self._search: dict[int, tuple[list[int], Neighbours]] = {}
        for label in (GOOD, BAD):
            sound = [
                place
                for place, row in enumerate(self.rows)
                if row["label"] == label and not row["generated"] and row["sha256"] not in queued
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
            features: float32 (D,) of the photograph.
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
        """The two-dimensional map; None for fewer than three photographs."""
        if len(self.rows) < 3:
            return None
        components = fit_components(self.features)
        share = [*components.explained.tolist(), 0.0][:2]
        return Plane(components.project(self.features, 2), (share[0], share[1]))


def _is_other(row: dict[str, Any], unit: str, lot: str | None, sha256: str) -> bool:
    """Returns whether a photograph shows another unit: a unit is a name within a lot."""
    return row["sha256"] != sha256 and (row["unit"], row.get("lot")) != (unit, lot)

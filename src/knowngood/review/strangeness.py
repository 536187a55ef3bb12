"""How strange a unit looks to the network: how far its deep features are from all that the first lots showed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from knowngood.outliers.neighbours import Neighbours
from knowngood.review.drift import base_of

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

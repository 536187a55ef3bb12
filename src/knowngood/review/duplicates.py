"""Which photographs of the data sets are copies of each other, those that do harm first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from knowngood.data.duplicates import near_clusters
from knowngood.data.pages import file_of
from knowngood.data.records import Records, table
from knowngood.review.store.inspections import Row


@dataclass(frozen=True)
class Copies:
    """Photographs that are copies of each other, byte for byte or nearly.

    Attributes:
        rows: With id, unit, image, label, defect and split.
        exact: All have the same bytes.
        contradict: They have different labels.
        across: They are in different splits, so that one is tested by what another taught.
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

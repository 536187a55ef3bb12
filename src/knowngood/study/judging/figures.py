"""Made images in figures: likeness with its reference points, learned by heart or not, variety, what to drop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from knowngood.data.duplicates import near_clusters
from knowngood.data.records import Records
from knowngood.study.judging.sets import joined
from knowngood.synthesis.judging.likeness import kid
from knowngood.synthesis.judging.manifolds import K, Strange, overlap, strange
from knowngood.synthesis.judging.memory import Memory, memory, spread, vendi

Rows: TypeAlias = npt.NDArray[np.float32]
Ids: TypeAlias = npt.NDArray[np.int64]
NAMES = {
    "made": "the made images",
    "known": "real bads that the maker knew",
    "good": "real good images",
    "blurred": "real bads, heavily blurred",
}
KINDS = ("copy", "repeat", "broken")


@dataclass(frozen=True)
class Looked:
    """What was found.

    Attributes:
        document: Figures, JSON-ready.
        table: A row a made image: nearest taught image, distances, and why it should be dropped, or null.
    """

    document: dict[str, Any]
    table: pl.DataFrame


def look(parts: Mapping[str, Records], rows: Mapping[str, Rows], seed: int) -> Looked:
    """Judges made images by their features and their pixels.

    Args:
        parts: The sets made, known, unseen, good, blurred.
        rows: Features (N, D) of each, finite.
        seed: Of subsets.
    """
    real = np.concatenate([rows["known"], rows["unseen"]])
    broken = strange(rows["made"], real)
    learned = memory(rows["made"], rows["known"], rows["unseen"])
    copies, repeats = _pixel_copies(parts["made"], parts["known"])
    table = _table(parts, learned, copies, repeats, broken)
    why = table["drop"].drop_nulls()
    document = {
        "images": {name: len(one) for name, one in parts.items()},
        "likeness": [_likeness(name, rows, seed) for name in NAMES if len(rows[name]) > K],
        "memory": {
            "nearer": learned.nearer,
            "copies": int((learned.copy | (copies >= 0)).sum()),
            "level": learned.level,
            "distance": float(np.median(learned.distance)),
            "real_distance": float(np.median(learned.real)),
        },
        "variety": _variety(rows, seed) | {"repeats": int((repeats >= 0).sum())},
        "broken": {
            "images": int(broken.odd.sum()),
            "share": float(broken.odd.mean()),
            "real_share": broken.real_share,
            "distance": broken.level,
        },
        "drop": {
            "all": len(why),
            **{kind: int(why.str.starts_with(kind).sum()) for kind in ("copy", "repeat", "broken")},
        },
    }
    return Looked(document, table)


def _likeness(name: str, rows: Mapping[str, Rows], seed: int) -> dict[str, Any]:
    both = overlap(rows[name], rows["unseen"], seed=seed) if len(rows["unseen"]) > K else None
    return {
        "set": name,
        "what": NAMES[name],
        "kid": kid(rows[name], rows["unseen"]).to_dict(),
        "precision": None if both is None else both.precision,
        "recall": None if both is None else both.recall,
        "at": None if both is None else both.images,
    }


def _variety(rows: Mapping[str, Rows], seed: int) -> dict[str, Any]:
    """Compares the spread of made images with that of the known ones, at one number of images."""
    size = min(len(rows["made"]), len(rows["known"]))
    rng, centre = np.random.default_rng(seed), rows["known"].mean(axis=0)
    one, two = (rows[name][rng.permutation(len(rows[name]))[:size]] - centre for name in ("made", "known"))
    return {
        "images": size,
        "spread": spread(one) / max(spread(two), 1e-12),
        "vendi": vendi(one),
        "real_vendi": vendi(two),
    }


def _pixel_copies(made: Records, known: Records) -> tuple[Ids, Ids]:
    """Returns for each made image the known one, and the earlier made one, that it is a near copy of by pixels; -1."""
    clusters = near_clusters(joined({"made": made, "known": known}))
    first: dict[int, int] = {}
    for row, cluster in enumerate(clusters[len(made) :].tolist()):
        first.setdefault(cluster, row)
    copies = np.array([first.get(cluster, -1) for cluster in clusters[: len(made)].tolist()], np.int64)
    seen: dict[int, int] = {}
    repeats = np.full(len(made), -1, np.int64)
    for row, cluster in enumerate(clusters[: len(made)].tolist()):
        repeats[row] = seen.get(cluster, -1)
        seen.setdefault(cluster, row)
    return copies, repeats


def _table(
    parts: Mapping[str, Records],
    learned: Memory,
    copies: Ids,
    repeats: Ids,
    broken: Strange,
) -> pl.DataFrame:
    made, known = parts["made"].frame, parts["known"].frame
    nearest = np.where(copies >= 0, copies, learned.nearest)
    names, paths = known["image"].to_list(), known["path"].to_list()
    copied = learned.copy | (copies >= 0)
    images = made["image"].to_list()
    why: list[str | None] = []
    for row in range(len(images)):
        if copied[row]:
            why.append(f"copy of {names[nearest[row]]}")
        elif repeats[row] >= 0:
            why.append(f"repeat of {images[repeats[row]]}")
        else:
            why.append("broken: far from all real bads" if broken.odd[row] else None)
    return made.select("image", "path", "label", "defect").with_columns(
        drop=pl.Series(why, dtype=pl.String),
        nearest=pl.Series([names[i] for i in nearest]),
        nearest_path=pl.Series([paths[i] for i in nearest]),
        nearest_distance=pl.Series(learned.distance),
        real_distance=pl.Series(broken.distance),
    )

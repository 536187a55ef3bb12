"""What a removal trial changes in the training part: outliers, suspects, as many at random, what a person said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from knowngood.data.records import BAD, GOOD

Ids: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]
AS_IT_IS = "as it is"
_LABEL = {"good": GOOD, "bad": BAD}


@dataclass(frozen=True)
class Change:
    """One arm.

    Attributes:
        name: Of the arm.
        leaves: bool (N,), images that teach no more.
        relabelled: bool (N,), images that get `labels`.
        labels: int16 (N,), the new label where relabelled; anything elsewhere.
    """

    name: str
    leaves: Bools
    relabelled: Bools
    labels: npt.NDArray[np.int16]


def changes(found: pl.DataFrame, part: Ids, count: int, seed: int, verdicts: pl.DataFrame | None) -> dict[str, Change]:
    """Returns the arms by name, the unchanged set first.

    Args:
        found: Audit of the training part (P rows), see `audit_table`.
        part: int64 (P,), its rows among all.
        count: N, of all images.
        seed: Of the random removal.
        verdicts: From `read_verdicts`; those about the training part are applied, the others are not.
    """
    given = found["label"].to_numpy()
    outlier = found["outlier"].to_numpy()
    suspect = found["suspect"].fill_null(False).to_numpy()
    nobody, labels = np.zeros(len(part), bool), np.where(suspect, 1 - given.astype(np.int16), given)
    arms = {
        AS_IT_IS: (nobody, nobody, given),
        "outliers removed": (outlier, nobody, given),
        "suspects relabelled": (nobody, suspect, labels),
        "suspects removed": (suspect, nobody, given),
        "as many removed at random": (_as_many(suspect, given, seed), nobody, given),
    }
    if verdicts is not None:
        said = found.select("image").join(verdicts, on="image", how="left", maintain_order="left")["verdict"].to_list()
        told = np.array([_LABEL.get(word, old) for word, old in zip(said, given, strict=True)], np.int16)
        arms["verdicts applied"] = (np.array([word == "drop" for word in said]), told != given, told)
    return {name: _spread(name, part, count, *arm) for name, arm in arms.items()}


def _as_many(suspect: Bools, given: npt.NDArray[np.uint8], seed: int) -> Bools:
    """Draws as many images of each label as there are suspects: what removal costs that is not about labels."""
    random = np.random.default_rng([seed, 1])
    drawn = np.zeros(len(suspect), bool)
    for label in (GOOD, BAD):
        rows = np.flatnonzero(given == label)
        drawn[random.permutation(rows)[: int((suspect & (given == label)).sum())]] = True
    return drawn


def _spread(
    name: str, part: Ids, count: int, leaves: Bools, relabelled: Bools, labels: npt.NDArray[np.int16]
) -> Change:
    everything = Change(name, np.zeros(count, bool), np.zeros(count, bool), np.zeros(count, np.int16))
    everything.leaves[part], everything.relabelled[part], everything.labels[part] = leaves, relabelled, labels
    return everything

"""What an audit holds against the photographs of a set, before a person has looked: one table, a row an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from knowngood.data.records import Records
from knowngood.data.splits import kfold_up_to
from knowngood.models.features import Features
from knowngood.outliers.audit import audit_table
from knowngood.outliers.out_of_sample import out_of_fold_scores

FOLDS = 5
Ids: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]


def doubts(
    records: Records,
    deep: Features,
    groups: Ids,
    clusters: Ids,
    seed: int,
    *,
    detectors: Sequence[str] = (),
    one_sided: bool = False,
    scores: Floats | None = None,
) -> pl.DataFrame:
    """Audits some photographs, knowing nothing but them.

    Args:
        records: (N rows), decodable.
        deep: Features of the same rows, with stages.
        groups: int64 (N,), equal numbers are never on both sides of a fold.
        clusters: int64 (N,), equal numbers are near-duplicates.
        seed: Of folds and of everything drawn.
        detectors: Registered detectors to ask besides the two.
        one_sided: Report doubts about images labelled bad apart.
        scores: (N,) probabilities of being bad, out of sample, from elsewhere; by a machine on the features if None.

    Returns:
        As `audit_table`; labels are doubted by the likelier class, on scores out of sample.
    """
    folds = _folds(records, groups, seed)
    if scores is None and (folds >= 0).any():
        scores = suspicion(records, deep, folds, seed)
    return audit_table(
        records.frame,
        deep.rows,
        folds,
        clusters,
        seed,
        detectors=detectors,
        one_sided=one_sided,
        rule="likelier",  # on planted noise confident learning alone misses a third of the wrong labels
        scores=scores,
    )


def suspicion(records: Records, deep: Features, folds: Ids, seed: int) -> Floats:
    """Returns the probability of being bad, out of sample, float64 (N,); NaN without label or fold."""
    assert deep.stages is not None
    labels = records.frame["label"].fill_null(255).to_numpy()
    known = np.isin(labels, (0, 1))
    scores = np.full(len(labels), np.nan)
    scores[known] = out_of_fold_scores(deep.stages[known], labels[known], folds[known], seed).scores
    return scores


def _folds(records: Records, groups: Ids, seed: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Returns folds by group; a set with one class has no labels to doubt and needs none."""
    counts = records.counts()
    if not (counts["good"] and counts["bad"]):
        return np.full(len(records), -1, np.int64)
    return kfold_up_to(records, FOLDS, seed, groups=groups)

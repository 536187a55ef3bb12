"""What stands in a comparison: rows of any kind, each with one outcome a seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl


@dataclass(frozen=True)
class Outcome:
    """One training of a row.

    Attributes:
        seed: Of split and training.
        train_accuracy: Of the training split as fitted.
        test: Figures of the test split, as `knowngood.study.training.figures` gives them.
        scores: image, label (0 or 1) and score (0..1) of every labelled test image.
        minutes: That the training took.
        history: One entry an epoch; empty where nothing was trained by epochs.
        changes: What was done to the training set, in sentences.
        folder: Where the whole run is, or None.
    """

    seed: int
    train_accuracy: float | None
    test: dict[str, Any]
    scores: pl.DataFrame
    minutes: float
    history: tuple[dict[str, float], ...] = ()
    changes: tuple[str, ...] = ()
    folder: Path | None = None


@dataclass(frozen=True)
class Row:
    """One line of the table: something that was trained in one way, with every seed.

    Attributes:
        key: Unique among the rows; fit for a file name.
        kind: A network, or a conventional classifier on features.
        model: Its name.
        variant: Of the training set.
        weights: Where the starting weights came from, "random weights" where from nowhere.
        outcomes: One a seed, seeds ascending.
        pretrained: Whether it started from such weights.
        freeze: What stayed as it came.
        balance: How imbalance was met.
        parameters: Learned numbers; None where that says nothing.
        multiply_adds: For one photograph.
        images_per_second: In prediction.
        input_shape: Channels, height, width that it sees.
    """

    key: str
    kind: Literal["network", "conventional"]
    model: str
    variant: str
    weights: str
    outcomes: tuple[Outcome, ...]
    pretrained: bool = True
    freeze: str = "none"
    balance: str = "sampling"
    parameters: int | None = None
    multiply_adds: int | None = None
    images_per_second: float | None = None
    input_shape: tuple[int, int, int] | None = None

"""A finished training run as plain data: what its report is drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl

from knowngood.errors import KnownGoodError

COLUMNS = ("image", "path", "split", "label", "defect", "score", "decision", "lot")
UNKNOWN_KIND = "unknown kind"  # none is more likely than all others together
_SHOWN_FIRST = ("test", "calibration", "val", "train")


@dataclass(frozen=True)
class RunSummary:
    """A finished run, as plain data.

    Attributes:
        title: Heading of the page.
        command: What to type to run it again.
        created: When, ISO 8601.
        metrics: As in metrics.json: train, val, calibration and test each `Metrics.to_dict()`; threshold
            `Threshold.to_dict()`; data with counts {split: {"good" or defect: number}}, source, licence (or
            None) and notes; seconds {what: seconds}. Any of them may be missing.
        history: One dict an epoch with epoch and any of train_loss, val_loss, val_auroc; empty when nothing
            was trained by epochs.
        versions: Package to version.
        seed: Of the run.
        config: The resolved configuration.
        scores: A row an image with image, path, split, label, defect, score, decision and lot; decision,
            defect and lot may be null, rows without a label or a score are not shown. kind, where there is such a
            column, is the defect that the network sees, or `UNKNOWN_KIND`.
    """

    title: str
    command: str
    created: str
    metrics: dict[str, Any]
    history: list[dict[str, float]]
    versions: dict[str, str]
    seed: int
    config: dict[str, Any]
    scores: pl.DataFrame

    def __post_init__(self) -> None:
        missing = [name for name in COLUMNS if name not in self.scores.columns]
        if missing:
            raise KnownGoodError(
                f"The scores of the report have no column {', '.join(missing)}.", expected=", ".join(COLUMNS)
            )

    @cached_property
    def split(self) -> str:
        """The split whose images are shown: test, or the best there is."""
        there = set(self._usable["split"].unique().to_list())
        return next((name for name in _SHOWN_FIRST if name in there), "test")

    @cached_property
    def shown(self) -> pl.DataFrame:
        """The labelled, scored images of `split`."""
        return self._usable.filter(pl.col("split") == self.split)

    @cached_property
    def decided(self) -> pl.DataFrame:
        """Those of them with a decision."""
        return self.shown.filter(pl.col("decision").is_not_null())

    @cached_property
    def figures(self) -> dict[str, Any]:
        """The metrics of `split`."""
        return dict(self.metrics.get(self.split) or {})

    @cached_property
    def threshold(self) -> dict[str, Any] | None:
        """The threshold's fields, or None when none was set."""
        return self.metrics.get("threshold") or None

    @cached_property
    def data(self) -> dict[str, Any]:
        """What is known of the data set."""
        return dict(self.metrics.get("data") or {})

    @cached_property
    def _usable(self) -> pl.DataFrame:
        return self.scores.filter(pl.col("label").is_not_null() & pl.col("score").is_not_null())

    def picked(self, label: int, decision: str) -> pl.DataFrame:
        """Returns one cell of the confusion matrix, worst first: highest scores of goods, lowest of bads."""
        cell = self.decided.filter((pl.col("label") == label) & (pl.col("decision") == decision))
        return cell.sort("score", descending=label == 0)

"""What a recipe's certificate rests on, saved beside it: calibration scores, and which photographs it has seen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl
from safetensors.numpy import load, save

from knowngood.errors import DataError

if TYPE_CHECKING:
    from knowngood.recipe.bundle import Recipe

EVIDENCE = "evidence.safetensors"
MOST_BYTES = 1 << 30
_SEEN = ("train", "val", "calibration")  # splits that a recipe was trained or calibrated on
_PREFIX = 8  # bytes of a SHA-256 that are kept: among a billion photographs one is taken for another by chance of 3 %


@dataclass(frozen=True)
class Evidence:
    """Scores of the calibration split, and hashes of what the recipe learned from or was calibrated on.

    Attributes:
        labels: (N,) uint8 of the calibration split, 0 good, 1 bad.
        raw_scores: (N,) float64 of the same images, before calibration.
        seen: (M, 8) uint8, the first bytes of each SHA-256 of an image of the splits train, val and calibration.
    """

    labels: npt.NDArray[np.uint8]
    raw_scores: npt.NDArray[np.float64]
    seen: npt.NDArray[np.uint8]

    @classmethod
    def of(cls, labels: npt.ArrayLike, raw_scores: npt.ArrayLike, seen: Iterable[str | None] = ()) -> Evidence:
        """Returns the evidence of labels (N,), raw scores (N,), and hex SHA-256 of the images of all three splits."""
        prefixes = sorted({digest[: 2 * _PREFIX] for digest in seen if digest})
        rows = np.frombuffer(bytes.fromhex("".join(prefixes)), np.uint8).reshape(-1, _PREFIX)
        return cls(np.asarray(labels, np.uint8), np.asarray(raw_scores, np.float64), rows)

    def has_seen(self, digests: Iterable[str | None]) -> npt.NDArray[np.bool_]:
        """Says of hex SHA-256 (N,) which of these images the recipe learned from or was calibrated on."""
        known = {row.tobytes().hex() for row in self.seen}
        return np.array([digest is not None and digest[: 2 * _PREFIX] in known for digest in digests], np.bool_)

    def encoded(self) -> bytes:
        """Returns the bytes of evidence.safetensors."""
        return save({"labels": self.labels, "raw_scores": self.raw_scores, "seen": np.ascontiguousarray(self.seen)})

    @classmethod
    def read(cls, path: Path) -> Evidence:
        """Reads evidence.safetensors.

        Raises:
            OSError: It cannot be read.
            ValueError: It holds something else.
        """
        if path.stat().st_size > MOST_BYTES:
            raise ValueError("it is absurdly large")
        try:
            held = load(path.read_bytes())
        except Exception as error:  # besides SafetensorError whatever numpy raises on a type that it lacks
            raise ValueError(str(error) or type(error).__name__) from error
        if set(held) != {"labels", "raw_scores", "seen"}:
            raise ValueError(f"it holds {', '.join(sorted(held)) or 'nothing'}")
        made = cls(**held)
        if not (made.labels.dtype == np.uint8 and made.labels.ndim == 1 and bool((made.labels <= 1).all())):
            raise ValueError("its labels are not (N,) of 0 and 1")
        if made.raw_scores.dtype != np.float64 or made.raw_scores.shape != made.labels.shape:
            raise ValueError("its raw scores do not belong to its labels")
        if not bool(np.isfinite(made.raw_scores).all()):
            raise ValueError("a raw score in it is not finite")
        if made.seen.dtype != np.uint8 or made.seen.ndim != 2 or made.seen.shape[1] != _PREFIX:
            raise ValueError("its hashes are not (M, 8) bytes")
        return made


def seen_by(recipe: Recipe, digests: Sequence[str | None]) -> npt.NDArray[np.bool_] | None:
    """Returns which photographs (N,) a recipe was trained or calibrated on, by their bytes.

    Args:
        recipe: Of an older version it is asked through records.parquet of its run, beside its folder.
        digests: (N,) hex SHA-256 of the photographs' files.

    Returns:
        None where nobody knows: the recipe keeps no hashes and is not in the folder of its run.

    Raises:
        DataError: records.parquet of the run cannot be read.
    """
    if recipe.evidence is not None and len(recipe.evidence.seen):
        return recipe.evidence.has_seen(digests)
    run = None if recipe.folder is None else recipe.folder.parent / "records.parquet"
    if run is None or not run.is_file():
        return None
    try:
        table = pl.read_parquet(run, columns=["sha256", "split"])
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{run} cannot be read: {error}.", fix="Copy the run again, or train again.") from error
    known = set(table.filter(pl.col("split").is_in(_SEEN))["sha256"].drop_nulls())
    return np.array([digest in known for digest in digests], np.bool_)

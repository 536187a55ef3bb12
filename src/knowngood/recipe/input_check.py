"""Whether a photograph is one that a recipe was made for: what was learned of the product, and what of the files.

The descriptors of the training photographs (`knowngood.data.appearance`), each a second time as moved, turned and lit a
little otherwise, have one covariance, shrunk towards the sphere. The distance of a photograph is Mahalanobis's, divided
by the root of the dimensions; one distance is over layout and texture together, one over texture alone. In both all
directions count: those in which training photographs hardly differ tell products apart best. A defect changes a
photograph in some places, another product everywhere: so the photograph's cells are measured too, each with a
covariance of its own, and another product is only what is strange in most of them.

A limit is set on distances of photographs that the covariance has not seen, goods and bads alike: of the held-out
splits, and of the training split out of five folds. It is a high quantile, so that a few strange photographs among them
do not move it, times a factor that is larger where there are few. A photograph of this product with a gross defect all
over it that training has never seen may lie beyond: it goes to a person, as does another product.

Reference:
    Lee et al. 2018, "A simple unified framework for detecting out-of-distribution samples", Mahalanobis distances;
    Rippel et al. 2021, "Modeling the distribution of normal data in pre-trained deep features", why the directions of
    little variance are kept. Here of a descriptor that needs no network, so that every runtime gives the same answer.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from safetensors.numpy import load, save

from knowngood.data.appearance import BY_CELL, CELLS, IN_CELL, LAYOUT, describe, jittered

INPUT_CHECK = "input_check.safetensors"  # beside recipe.json
NOT_THIS_PRODUCT, BIT_DEPTH = "not this product", "bit depth"  # how reasons begin
FEWEST = 10  # photographs that a product is described by; fewer describe nothing
MOST = 1000  # training photographs that are used, drawn at random; of held-out ones as many at most
_FOLDS = 5
_LEAST_SPREAD = 0.05  # share of the mean deviation that every number of a descriptor is given
_SHRINKAGE, _SHRINKAGE_OF_FEW, _SHRINKAGE_MOST = 0.01, 6.0, 0.5  # least; times 1 / photographs; most
_STRANGE = 5  # photographs beyond the quantile, within the two levels below
_LEVELS = (0.9, 0.99)
_MARGIN, _MARGIN_OF_FEW = 1.2, 2.0  # the limit is the quantile times _MARGIN + _MARGIN_OF_FEW / root of the distances
_LEAST_LIMIT = 0.1  # where all photographs are the same
_ORDINARY_CELLS = 6  # of the 16: where so many are ordinary, a photograph is one of the product
_CELL_LEVEL, _CELL_LEVEL_OF_GOODS = 0.9, 0.95  # quantile of held-out photographs up to which they are, bads among them
_PROPORTIONS = 1.1  # how far beyond the range of training width / height may lie, as a factor
_MOST_BYTES = 16 << 20  # of input_check.safetensors, which has a fifth of a megabyte
_COLOURLESS = 12.0  # mean difference of the channels, in grey levels: what JPEG leaves of grey is far below

Pixels = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]


class InputFacts(BaseModel):
    """What recipe.json holds of the input check."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    depths: tuple[int, ...] = Field((), max_length=16, description="Bits a sample of the files; empty if unknown.")
    colour: bool = Field(description="Whether there were colour photographs.")
    narrowest: float = Field(gt=0, le=1e6, description="Least width / height.")
    widest: float = Field(gt=0, le=1e6, description="Greatest width / height.")
    learned_from: int = Field(0, ge=0, description="Training photographs that the covariance is of.")
    held_out: int = Field(0, ge=0, description="Distances that the limits were set on.")
    limits: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (),
        max_length=3,
        description="Largest usual distance, of layout with texture, of texture, and of cells; empty for none.",
    )
    sha256: str | None = Field(None, max_length=64, description=f"Of {INPUT_CHECK}; None where there is none.")


@dataclass(frozen=True)
class Distances:
    """The distances from the training photographs.

    Attributes:
        mean: (D,) float32 of the descriptors.
        scale: (D,) float32, what each number is divided by.
        whole: (W, W) float32: times it, layout and texture of training photographs have the unit covariance.
        texture: (T, T) float32, the same for texture alone; T = D - LAYOUT - BY_CELL and W = LAYOUT + T.
        cells: (CELLS, IN_CELL, IN_CELL) float32, the same for each cell.
    """

    mean: Rows
    scale: Rows
    whole: Rows
    texture: Rows
    cells: Rows

    @classmethod
    def fitted(cls, rows: Rows, photographs: int) -> Distances:
        """Returns the distances from descriptors.

        Args:
            rows: (N, D) of photographs and of changed copies.
            photographs: How many of them are photographs.
        """
        mean, spread = rows.mean(0, dtype=np.float64), rows.std(0, dtype=np.float64)
        scale = spread + _LEAST_SPREAD * math.sqrt(float((spread**2).mean())) + 1e-6
        scaled = (rows - mean) / scale
        shrinkage = min(_SHRINKAGE_MOST, max(_SHRINKAGE, _SHRINKAGE_OF_FEW / photographs))
        whole, texture, cells = _parts(scaled)
        by_cell = np.stack([_whitening(cells[:, number], shrinkage) for number in range(CELLS)])
        least = (mean.astype(np.float32), scale.astype(np.float32))
        return cls(*least, _whitening(whole, shrinkage), _whitening(texture, shrinkage), by_cell)

    def __call__(self, rows: Rows) -> Floats:
        """Returns the distances (N, 3) of descriptors (N, D); those of an ordinary photograph are about 1.

        They are of layout with texture, of texture, and of the most ordinary `_ORDINARY_CELLS` cells the greatest.
        """
        whole, texture, cells = _parts((rows - self.mean) / self.scale)
        made = [
            np.linalg.norm(part @ matrix, axis=1) / math.sqrt(matrix.shape[1])
            for part, matrix in ((whole, self.whole), (texture, self.texture))
        ]
        of_cells = np.linalg.norm(np.einsum("ncd,cde->nce", cells, self.cells), axis=2) / math.sqrt(IN_CELL)
        made.append(np.partition(of_cells, _ORDINARY_CELLS - 1, axis=1)[:, _ORDINARY_CELLS - 1])
        return np.stack(made, axis=1).astype(np.float64)


@dataclass(frozen=True)
class InputCheck:
    """Describes the photographs that a recipe was trained on, and tests others against them.

    Attributes:
        facts: In recipe.json.
        distances: From the training photographs; None where there were too few.
    """

    facts: InputFacts
    distances: Distances | None = None

    def reason(self, image: Pixels, fitted: Pixels, depth: int | None = None) -> str | None:
        """Returns why a person must look at a photograph whatever its score, or None.

        Args:
            image: (H, W) or (H, W, 3) uint8 at its own size.
            fitted: The same as the networks see it, the part that counts, (C, H, W) uint8.
            depth: Bits a sample of its file; None where that is not known, which is not compared.
        """
        facts = self.facts
        if depth is not None and facts.depths and depth not in facts.depths:
            learned = " and ".join(map(str, facts.depths))
            return f"{BIT_DEPTH}: {depth} bits a sample, learned from {learned}"
        found = []
        times = self.times_the_limit(describe(fitted)[None])[0]
        if times > 1:
            found.append(self.in_words(times))
        if not facts.colour and image.ndim == 3 and _colourfulness(image) > _COLOURLESS:
            found.append("in colour, learned from grey ones")
        shape = image.shape[1] / image.shape[0]
        if not facts.narrowest / _PROPORTIONS <= shape <= facts.widest * _PROPORTIONS:
            learned = f"{facts.narrowest:.3g}" + (f" to {facts.widest:.3g}" if facts.widest > facts.narrowest else "")
            found.append(f"width / height is {shape:.3g}, learned from {learned}")
        return f"{NOT_THIS_PRODUCT}: {'; '.join(found)}" if found else None

    @staticmethod
    def in_words(times: float) -> str:
        """Returns a distance in words, given how many times the limit it is."""
        return f"distance {max(times, 1.01):.2f} times the limit set on held-out photographs"

    def times_the_limit(self, rows: Rows) -> Floats:
        """Returns how far photographs with descriptors (N, D) are, (N,): above 1 is another product, 0 is not known."""
        if self.distances is None or not self.facts.limits:
            return np.zeros(len(rows))
        times = self.distances(rows) / np.array(self.facts.limits)
        farther = np.asarray(times[:, :2].max(axis=1), np.float64)
        return np.where(times[:, 2] > 1, farther, np.minimum(farther, 1.0))

    def save(self, folder: Path) -> InputFacts:
        """Writes input_check.safetensors into a folder, where there is something for it; returns what names it."""
        if self.distances is None:
            return self.facts.model_copy(update={"sha256": None})
        data = save(vars(self.distances))
        (folder / INPUT_CHECK).write_bytes(data)
        return self.facts.model_copy(update={"sha256": hashlib.sha256(data).hexdigest()})

    @classmethod
    def load(cls, facts: InputFacts, path: Path) -> InputCheck:
        """Returns the check of a recipe.

        Args:
            facts: Of recipe.json.
            path: Of input_check.safetensors; not read where the facts name none.

        Raises:
            OSError: It cannot be read.
            ValueError: Its bytes are not those that were saved, or hold something else.
        """
        if facts.sha256 is None:
            return cls(facts)
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError("it is absurdly large")
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != facts.sha256:
            raise ValueError("its bytes are not those that were saved")
        try:
            distances = Distances(**load(data))
        except (SafetensorError, TypeError) as error:
            raise ValueError(str(error)) from error
        size = distances.mean.shape[0] if distances.mean.ndim == 1 else 0
        of_texture = size - LAYOUT - BY_CELL
        wanted = [(size,), (size,), (LAYOUT + of_texture,) * 2, (of_texture,) * 2, (CELLS, IN_CELL, IN_CELL)]
        found = [np.shape(one) for one in vars(distances).values()]
        if found != wanted or len(facts.limits) != 3 or not all(np.isfinite(v).all() for v in vars(distances).values()):
            raise ValueError(f"its arrays do not go together: {found}")
        return cls(facts, distances)


def fit_distances(
    train: Sequence[Pixels], held_out: Sequence[Pixels], seed: int = 0, *, bads: bool = True
) -> tuple[Distances, tuple[float, ...], int] | None:
    """Learns what photographs of a product look like.

    Args:
        train: Fitted photographs (C, H, W) uint8 that the networks trained on, good and bad.
        held_out: Others of the same set.
        seed: Of the draw, of the changed copies and of the folds.
        bads: Whether there are bads among them; where there are none, more is left to defects that nobody has seen.

    Returns:
        Distances, the limit of each, and how many photographs these were set on; None with fewer than `FEWEST`.
    """
    if len(train) < FEWEST:
        return None
    random = np.random.default_rng([seed, 7])
    chosen = [train[n] for n in _drawn(len(train), random)]
    rows = described(chosen)
    copies = described(jittered(one, random) for one in chosen)
    others = described(held_out[n] for n in _drawn(len(held_out), random))
    fold = random.permutation(len(rows)) % _FOLDS
    distances = Distances.fitted(np.concatenate([rows, copies]), len(rows))
    unseen = [distances(others)] if len(others) else []
    for number in range(_FOLDS):
        kept = fold != number
        part = Distances.fitted(np.concatenate([rows[kept], copies[kept]]), int(kept.sum()))
        unseen.append(part(rows[~kept]))
    found = np.concatenate(unseen)
    return distances, _limits(found, bads), len(found)


def described(photographs: Iterable[Pixels]) -> Rows:
    """Returns the descriptors (N, D) float32 of fitted photographs (C, H, W) uint8; (0, 0) of none."""
    rows = [describe(np.asarray(one)) for one in photographs]
    return np.stack(rows) if rows else np.empty((0, 0), np.float32)


def _limits(distances: Floats, bads: bool) -> tuple[float, ...]:
    """Returns the limit of each distance, of (N, 3)."""
    count = len(distances)
    level = float(np.clip(1 - _STRANGE / count, *_LEVELS))
    factor = _MARGIN + _MARGIN_OF_FEW / math.sqrt(count)
    far = np.quantile(distances[:, :2], level, axis=0, method="higher") * factor
    of_cells = np.quantile(distances[:, 2], _CELL_LEVEL if bads else _CELL_LEVEL_OF_GOODS, method="higher")
    of_cells *= 1 if bads else 1 + _MARGIN_OF_FEW / math.sqrt(count)
    return tuple(max(float(one), _LEAST_LIMIT) for one in (*far, of_cells))


def _drawn(count: int, random: np.random.Generator) -> list[int]:
    rows = np.arange(count) if count <= MOST else np.sort(random.permutation(count)[:MOST])
    return [int(row) for row in rows]


def _parts(rows: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Returns layout with texture (N, W), texture (N, T) and cells (N, CELLS, IN_CELL) of rows (N, D)."""
    cells, texture = rows[:, LAYOUT : LAYOUT + BY_CELL], rows[:, LAYOUT + BY_CELL :]
    return np.hstack([rows[:, :LAYOUT], texture]), texture, cells.reshape(-1, CELLS, IN_CELL)


def _whitening(rows: Floats, shrinkage: float) -> Rows:
    """Returns the matrix (D, D) times which centred rows (N, D) have the unit covariance."""
    size = rows.shape[1]
    covariance = rows.T @ rows / len(rows)
    covariance *= 1 - shrinkage
    covariance[np.diag_indices(size)] += shrinkage * max(float(np.trace(covariance)) / (1 - shrinkage) / size, 1e-12)
    return np.linalg.cholesky(np.linalg.inv(covariance)).astype(np.float32)


def _colourfulness(image: Pixels) -> float:
    """Returns the mean difference between the strongest and the weakest channel of (H, W, 3), in grey levels."""
    some = image[:: max(1, image.shape[0] // 128), :: max(1, image.shape[1] // 128)]
    return float((some.max(axis=2).astype(np.int16) - some.min(axis=2)).mean())

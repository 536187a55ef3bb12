"""PatchCore: an image is as abnormal as its patch that is farthest from a coreset of normal patches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field

from knowngood.errors import DataError
from knowngood.models.heads import strangest
from knowngood.outliers import detectors as contract
from knowngood.outliers.detectors import Detector, Features, Scores, checked_features, fraction_threshold, row_blocks
from knowngood.outliers.neighbours import Neighbours
from knowngood.progress import track

Ids: TypeAlias = npt.NDArray[np.int64]
PatchSource: TypeAlias = Callable[[], Iterable[Features]]


class Parameters(contract.Parameters):
    """Parameters of PatchCore."""

    share: float = Field(default=0.1, gt=0, le=1, description="Share of the patches that goes into the coreset.")
    most: int = Field(default=10_000, ge=2, description="Largest number of patches in the coreset.")
    pool: int = Field(default=50_000, ge=2, description="Most patches, drawn at random, that they are chosen from.")
    neighbourhood: int = Field(default=9, ge=1, description="Patches of the coreset that weight the image's score.")
    strangest: float = Field(
        default=0.0, ge=0, le=1, description="Share of an image's patches whose mean distance is its score; 0: eq. 5-7."
    )
    contamination: float = Field(default=0.01, gt=0, le=0.5, description="Share of the fitted images flagged.")


class PatchCore(Detector):
    """score = w d: d the largest distance of a patch to its nearest one m in the coreset, w from how crowded m is.

    w = 1 - 1 / sum_b exp(d_b - d) over the `neighbourhood` of m: a patch that is nearest to a lonely m counts more.
    Besides an array (N, P, D), `fit` and `score` take a callable that returns the blocks (B, P, D) afresh each time
    it is called, so that patches of many images never have to be in memory together. The threshold is a quantile of
    scores against the patches of all *other* fitted images. With `strangest` a score is the mean distance of that share
    of the image's patches, as one-class recipes use it.

    Reference:
        Roth et al. 2022, equations 5 to 7 (b = 9). Candidates beyond `pool` are drawn at random first.
    """

    fields = Parameters
    takes = "patches"
    parameters: Parameters

    def fit(self, features: Any) -> PatchCore:
        """Selects the coreset of normal patches; see `Detector.fit`. `features` may be a callable."""
        source = _source(features, least=self.least_rows)
        self.remember(source)
        self._index()
        self.own_score_ = self._scores(source, leave_out=True)
        self.threshold_ = fraction_threshold(self.own_score_, self.parameters.contamination)
        return self

    def remember(self, source: PatchSource) -> npt.NDArray[np.float32]:
        """Selects the coreset, (M, D) float32, reading the blocks once; sets no threshold."""
        self.__dict__.pop("width_", None)
        random = np.random.default_rng(self.parameters.seed)
        rows, owner, total = reservoir(self._blocks(source), self.parameters.pool, random)
        if len(np.unique(owner)) < self.least_rows:
            raise DataError("Patches of one image are too few.", expected=f"at least {self.least_rows} images")
        wanted = int(np.clip(round(self.parameters.share * total), 2, self.parameters.most))
        chosen = k_centres(rows, wanted, random)
        self.memory_, self.owner_ = rows[chosen].astype(np.float32), owner[chosen]
        return self.memory_

    def score(self, features: Any) -> Scores:
        """Returns the images' scores, (N,) float64; `features` may be a callable that returns blocks."""
        self.fitted_width()
        return self._scores(_source(features), leave_out=False)

    def fit_score(self, features: Any) -> Scores:
        """Fits, and returns each image's score against the coreset patches of all *other* images."""
        return self.fit(features).own_score_

    def patch_scores(self, features: Features) -> Scores:
        """Returns each patch's distance to the nearest one of the coreset, (N, P) float64, for maps."""
        rows = checked_features(features, "patches", width=self.fitted_width())
        flat = rows.reshape(-1, rows.shape[-1])
        return self._index_.nearest(flat, 1)[0].reshape(rows.shape[:2])

    def fit_rows(self, rows: Features) -> None:
        self.fit(rows)

    def score_rows(self, rows: Features) -> Scores:
        return self._score_block(rows, None)

    def _index(self) -> None:
        self._index_ = Neighbours(self.memory_, self.owner_)
        crowd = min(self.parameters.neighbourhood, len(self.memory_))
        self._crowd_ = self._index_.nearest(self.memory_, crowd)[1]  # (M, b), m itself among them

    def _blocks(self, source: PatchSource) -> Iterator[Features]:
        """Yields checked blocks; the first decides the length of a patch when nothing is fitted."""
        for block in source():
            rows = checked_features(block, "patches", width=getattr(self, "width_", None))
            self.width_ = rows.shape[-1]
            yield rows

    def _scores(self, source: PatchSource, *, leave_out: bool) -> Scores:
        parts: list[Scores] = []
        images = 0
        for block in self._blocks(source):
            owner = images + np.arange(len(block)) if leave_out else None
            parts.append(self._score_block(block, owner))
            images += len(block)
        return np.concatenate(parts)

    def _score_block(self, rows: Features, owner: Ids | None) -> Scores:
        images, patches, width = rows.shape
        flat = rows.reshape(-1, width)
        own = None if owner is None else np.repeat(owner, patches)
        near, which = (a.reshape(images, patches) for a in self._index_.nearest(flat, 1, owner=own))
        if self.parameters.strangest:
            count = strangest(patches, self.parameters.strangest)
            mean: Scores = np.sort(near, axis=1)[:, -count:].mean(axis=1)
            return mean
        worst = near.argmax(axis=1)
        at = np.arange(images)
        distance: Scores = near[at, worst]
        crowd = self.memory_[self._crowd_[which[at, worst]]].astype(np.float64)  # (N, b, D)
        gaps = np.linalg.norm(crowd - rows[at, worst][:, None].astype(np.float64), axis=2)
        if gaps.shape[1] == 1:
            return distance
        alone = np.isinf(distance)  # the coreset has no patch of another image
        excess = np.where(alone[:, None], 0, gaps - np.where(alone, 0, distance)[:, None])
        weight: Scores = 1 - 1 / np.exp(np.minimum(excess, 700)).sum(axis=1)
        return distance * weight


def _source(features: Any, least: int = 1) -> PatchSource:
    if callable(features):
        return features  # type: ignore[no-any-return]
    rows = checked_features(features, "patches", least=least)
    return lambda: (rows[block] for block in row_blocks(rows))


Rows: TypeAlias = npt.NDArray[np.floating[Any]]
DIMENSIONS = 128  # of the projection; distances keep their order well enough to choose by (Johnson-Lindenstrauss)


def reservoir(stream: Iterable[Rows], size: int, random: np.random.Generator) -> tuple[Rows, Ids, int]:
    """Draws rows from a stream of unknown length, each with the same chance.

    Args:
        stream: Blocks (B, P, D) of B images with P rows each.
        size: Most rows kept.
        random: Draws.

    Returns:
        Rows (R, D) float32, the image that each came from (R,), and how many rows passed by. Memory is `size` rows
        and one block.
    """
    kept: Rows | None = None
    keys, owners = np.empty(0), np.empty(0, np.int64)
    images = total = 0
    for block in stream:
        flat = block.reshape(-1, block.shape[-1])
        total += len(flat)
        owner = images + np.repeat(np.arange(len(block)), block.shape[1])
        images += len(block)
        drawn = random.random(len(flat))
        if kept is not None and len(kept) == size:
            mask = drawn < keys.max()
            flat, owner, drawn = flat[mask], owner[mask], drawn[mask]
        flat = flat.astype(np.float32)  # also copies: a stream may use its block again
        rows = flat if kept is None else np.concatenate([kept, flat])
        keys, owners = np.concatenate([keys, drawn]), np.concatenate([owners, owner])
        if len(rows) > size:
            best = np.sort(np.argpartition(keys, size)[:size])
            rows, keys, owners = rows[best], keys[best], owners[best]
        kept = rows
    return (np.empty((0, 0), np.float32) if kept is None else kept), owners, total


def k_centres(rows: Rows, count: int, random: np.random.Generator) -> Ids:
    """Chooses rows so that every row has a chosen one near by.

    Args:
        rows: (N, D).
        count: How many, at most N.
        random: Draws the projection.

    Returns:
        int64 (count,), in the order of choice: first the row farthest from the mean, then always the row that is
        farthest from all chosen ones.

    Reference:
        Roth et al. 2022, algorithm 1; Gonzalez 1985. Ours: lazy evaluation (Minoux 1978), with the same choice.
    """
    if count >= len(rows):
        return np.arange(len(rows))
    points = np.asarray(rows, np.float32) - rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    if points.shape[1] > DIMENSIONS:
        spread = random.standard_normal((points.shape[1], DIMENSIONS), np.float32) / np.sqrt(np.float32(DIMENSIONS))
        points = points @ spread
    return np.fromiter(track(_farthest_first(points, count), "coreset", count), np.int64, count)


_HOT = 2048  # rows that are compared at a time


def _farthest_first(points: Rows, count: int) -> Iterator[int]:
    """Yields rows of points (N, D), each the farthest from those before it; first the farthest from the origin.

    The distance of a row to the nearest one chosen only falls, so an old one is an upper bound. Only the rows with the
    largest bounds are compared with what was chosen since, many at a time, and rows are chosen among them as long as
    the farthest is farther than the bound of any other row.
    """
    norms = np.square(points).sum(axis=1)
    chosen = [int(np.argmax(norms))]
    yield chosen[0]
    bounds = norms + norms[chosen[0]] - 2 * (points @ points[chosen[0]])  # of the squared distance
    bounds[chosen[0]] = -np.inf
    compared = np.ones(len(points), np.int64)  # with how many of the chosen ones
    while len(chosen) < count:
        hot, rest = np.arange(len(points)), -np.inf
        if len(points) > _HOT:
            order = np.argpartition(bounds, -_HOT - 1)
            hot, rest = order[-_HOT:], float(bounds[order[-_HOT - 1]])
        near, length, bound = points[hot], norms[hot], bounds[hot]
        latest = np.array(chosen[compared[hot].min() :], np.int64)
        for some in np.split(latest, range(_HOT, len(latest), _HOT)) if len(latest) else ():
            bound = np.minimum(bound, (length[:, None] + norms[some] - 2 * (near @ points[some].T)).min(axis=1))
        while len(chosen) < count and bound.max() >= rest:
            farthest = int(np.argmax(bound))
            chosen.append(int(hot[farthest]))
            yield chosen[-1]
            bound = np.minimum(bound, length + length[farthest] - 2 * (near @ near[farthest]))
            bound[farthest] = -np.inf
        bounds[hot], compared[hot] = bound, len(chosen)

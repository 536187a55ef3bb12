"""Defect transplant: the defect of a bad training image, blended into a good one at a plausible place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel

from knowngood.data.images import decode
from knowngood.data.pixels import needs_colour
from knowngood.data.records import BAD, GOOD, Records
from knowngood.errors import DataError, ImageError
from knowngood.explain.regions import boxes_of
from knowngood.synthesis.blending import blended, grown, ring_of
from knowngood.synthesis.config import TransplantParameters
from knowngood.synthesis.cutting import Bools, Donor, Regions, donors_of
from knowngood.synthesis.makers import Made, learned_from
from knowngood.wording import counted

Pixels: TypeAlias = npt.NDArray[np.uint8]
INSIDE = 0.9  # share of the defect that has to be in the picture
_SURE = 0.15  # response from which two pictures are believed to be shifted: noise stays below, parts are above
_TRIES = 8  # places that are looked at; the one whose surroundings fit best is taken


class _Placed(NamedTuple):
    """A defect at its new place, before it is blended."""

    host: Pixels
    piece: Pixels
    mask: Bools  # what is marked
    laid: Bools  # what is laid in
    misfit: float
    facts: dict[str, Any]
    name: str  # of the host


class Transplant:
    """Every bad training image gives its defect in turn; good training images of its product and size take it."""

    summary: ClassVar[str] = "defects of bad training images, cut out and blended into good ones"
    opened_on: ClassVar[Literal["photographs", "run"]] = "photographs"
    parameters: ClassVar[type[BaseModel]] = TransplantParameters

    def __init__(self, records: Records, parameters: TransplantParameters, seed: int, regions: Regions | None = None):
        self._parameters, self._seed = parameters, seed
        self._donors, self.notes = donors_of(records, regions)
        self.taught = learned_from(records, GOOD, BAD)
        goods = self.taught.filter(pl.col("label") == GOOD).select("image")
        self._hosts = goods.join(records.frame, on="image", how="left", maintain_order="left").select(
            "image", "path", "product", "width", "height"
        )
        if not self._hosts.height:
            raise DataError("No good image is in the training split.", fix="Divide anew with --resplit, or add some.")
        self._colour = needs_colour(records)
        self._usable()

    @classmethod
    def open(cls, source: Records | Path, parameters: Any, seed: int) -> Transplant:
        """Returns the maker.

        Raises:
            DataError: No defect has a known place, all cover too much of their image, or there is no good image.
        """
        assert isinstance(source, Records)
        return cls(source, parameters, seed)

    @property
    def identity(self) -> dict[str, Any]:
        """Returns parameters, images, and how each defect is cut."""
        cut = [[donor.sha256, donor.cut_by] for donor in self._donors]
        return {**self._parameters.model_dump(), "defects": cut, "images": self.taught["sha256"].to_list()}

    def make(self, numbers: Sequence[int]) -> list[Made]:
        """Returns the transplants of these numbers."""
        return [self._make(number) for number in numbers]

    def _usable(self) -> None:
        """Leaves out defects that cover too much, and images that cannot be decoded."""
        kept, large = [], 0
        for donor in self._donors:
            try:
                share = donor.region(decode(donor.path).shape[:2]).mean()
            except ImageError:
                continue
            large += share > self._parameters.largest
            if 0 < share <= self._parameters.largest:
                kept.append(donor)
        if not kept:
            raise DataError(
                f"No defect of the {len(self._donors)} bad training images can be cut out: {large} cover more than "
                f"{self._parameters.largest:.0%} of their image, the others cannot be read or have an empty mask.",
                fix="--largest 1 copies such images nearly whole.",
            )
        if len(kept) < len(self._donors):
            unused = counted(len(self._donors) - len(kept), "defect was", "defects were")
            self.notes += (
                f"{unused} not used ({large} covering more than "
                f"{self._parameters.largest:.0%} of their image, the others cannot be read or have an empty mask).",
            )
        self._donors = kept
        self._order = np.random.default_rng([self._seed, len(kept)]).permutation(len(kept))

    def _make(self, number: int) -> Made:
        rng = np.random.default_rng([self._seed, number])
        donor = self._donors[self._order[number % len(self._order)]]
        pixels = self._coloured(decode(donor.path))
        region = donor.region(pixels.shape[:2])
        hosts = self._fitting(donor, pixels.shape)
        best: _Placed | None = None
        for _ in range(_TRIES):
            placed = self._placed(pixels, region, hosts.row(int(rng.integers(hosts.height)), named=True), rng)
            if placed is not None and (best is None or placed.misfit < best.misfit):
                best = placed
        if best is None:  # at the very edge: it goes where it was
            best = self._placed(pixels, region, hosts.row(int(rng.integers(hosts.height)), named=True), None)
        if best is None:
            raise DataError("A good training image cannot be decoded.", fix="Run `knowngood check` on the data.")
        made = blended(best.host, best.piece, best.laid, self._parameters.blend)
        marked = best.mask if donor.cut_by == "mask" else None
        facts = {"blend": self._parameters.blend, "cut_by": donor.cut_by, **best.facts}
        boxes = tuple((float(x0), float(y0), float(x1), float(y1)) for x0, y0, x1, y1 in boxes_of(best.mask))
        return Made(made, BAD, donor.defect, marked, boxes, (donor.image, best.name), facts)

    def _coloured(self, pixels: Pixels) -> Pixels:
        return np.repeat(pixels[..., None], 3, axis=2) if self._colour and pixels.ndim == 2 else pixels

    def _fitting(self, donor: Donor, shape: tuple[int, ...]) -> pl.DataFrame:
        """Returns the good images of the same product and size, as far as there are any."""
        hosts = self._hosts
        same = hosts.filter(pl.col("product") == donor.product) if donor.product is not None else hosts
        hosts = same if same.height else hosts
        same = hosts.filter((pl.col("height") == shape[0]) & (pl.col("width") == shape[1]))
        return same if same.height else hosts

    def _placed(
        self, pixels: Pixels, region: Bools, host: dict[str, Any], rng: np.random.Generator | None
    ) -> _Placed | None:
        """Moves a defect to a drawn place on a host, or to its own; None where too little of it stays inside."""
        try:
            ground = self._coloured(decode(host["path"]))
        except ImageError:
            return None
        height, width = ground.shape[:2]
        stretch = np.array([width / pixels.shape[1], height / pixels.shape[0]])
        facts = {"turn": 0.0, "scale": 1.0, "shift": [0, 0], "mirrored": False}
        if rng is not None:
            facts = self._drawn(rng, (width, height), _part_shift(pixels, ground))
        matrix = _matrix(region, stretch, facts)
        mask, left = _moved_region(region, matrix, (height, width))
        if left < INSIDE or not mask.any():
            return None
        piece = cv2.warpAffine(pixels, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        laid = grown(mask, self._parameters.margin)
        return _Placed(ground, piece, mask, laid, _misfit(ground, piece, laid), facts, host["image"])

    def _drawn(self, rng: np.random.Generator, size: tuple[int, int], part: npt.NDArray[np.float64]) -> dict[str, Any]:
        """Draws how the defect is moved; `part` is how far (dx, dy) the host's part lies from the donor's."""
        (angle, power), shift = rng.uniform(-1, 1, 2), rng.uniform(-1, 1, 2)
        return {
            "turn": round(float(angle * self._parameters.turn), 3),
            "scale": round(float(self._parameters.scale**power), 4),
            # whole pixels: half of one would wash out a defect of one pixel
            "shift": [round(float(v)) for v in part + shift * self._parameters.jitter * np.array(size)],
            "mirrored": bool(self._parameters.flip and rng.random() < 0.5),
        }


def _part_shift(pixels: Pixels, ground: Pixels) -> npt.NDArray[np.float64]:
    """Returns (dx, dy) in the host's pixels by which its part lies elsewhere than the donor's; 0 where unsure."""
    height, width = ground.shape[:2]
    first, second = (_grey(cv2.resize(one, (width, height), interpolation=cv2.INTER_AREA)) for one in (pixels, ground))
    (dx, dy), response = cv2.phaseCorrelate(first, second, cv2.createHanningWindow((width, height), cv2.CV_32F))
    sure = response > _SURE and abs(dx) < 0.15 * width and abs(dy) < 0.15 * height
    return np.array([dx, dy] if sure else [0.0, 0.0])


def _grey(pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    grey = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return np.asarray(grey, np.float32)


def _matrix(region: Bools, stretch: npt.NDArray[np.float64], facts: dict[str, Any]) -> npt.NDArray[np.float64]:
    """Returns (2, 3): about the region's middle turned, scaled and mirrored, then shifted, donor to host pixels."""
    ys, xs = np.nonzero(region)
    middle = np.array([(xs.min() + xs.max()) / 2, (ys.min() + ys.max()) / 2])
    angle = np.deg2rad(facts["turn"])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * facts["scale"]
    mirror = np.diag([-1.0 if facts["mirrored"] else 1.0, 1.0])
    linear = np.diag(stretch) @ turn @ mirror
    target = (middle + 0.5) * stretch - 0.5 + np.array(facts["shift"], np.float64)
    return np.column_stack([linear, target - linear @ middle])


def _moved_region(region: Bools, matrix: npt.NDArray[np.float64], size: tuple[int, int]) -> tuple[Bools, float]:
    """Returns the region at its new place, bool (H, W), and the share of it that is in the picture."""
    height, width = size
    moved = cv2.warpAffine(region.astype(np.uint8), matrix, (width, height), flags=cv2.INTER_NEAREST) > 0
    ys, xs = np.nonzero(region)
    x, y = matrix[:, :2] @ np.stack([xs, ys]) + matrix[:, 2:]
    there = (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)
    if there.any() and not moved.any():  # a defect of a few pixels can fall between the samples
        moved[np.rint(y[there]).astype(int), np.rint(x[there]).astype(int)] = True
    return np.asarray(moved, np.bool_), float(there.mean())


def _misfit(ground: Pixels, piece: Pixels, laid: Bools) -> float:
    """Returns how badly the two agree around the region, in grey levels, a difference in brightness apart."""
    ring = ring_of(laid)
    if not ring.any():
        return 0.0
    difference = ground[ring].astype(np.float64) - piece[ring]
    return float(np.abs(difference - np.median(difference, axis=0)).mean())

"""Transplants: defects cut out of bad training images, blended into good ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import splu

from knowngood.cam.regions import boxes_of
from knowngood.data.images import decode, read_mask
from knowngood.data.pixels import needs_colour
from knowngood.data.records import BAD, GOOD, Records
from knowngood.errors import DataError, ImageError
from knowngood.synthesis.config import Blend, TransplantParameters
from knowngood.synthesis.generators import Made, learned_from
from knowngood.wording import counted

Bools: TypeAlias = npt.NDArray[np.bool_]
# (path of a photograph, its name) -> bool (H, W) where its defect is, or None: the way in for maps of a recipe.
Regions: TypeAlias = Callable[[str, str], "Bools | None"]


@dataclass(frozen=True, eq=False)
class Donor:
    """A bad training image whose defect can be cut out.

    Attributes:
        image: Its name.
        path: Of its file.
        sha256: Of its bytes.
        defect: Type of its defect, or None.
        product: Or None.
        mask: Path of its mask, or None.
        boxes: Of its defects, may be empty.
        shown: bool (H, W) that a caller pointed out, or None.
    """

    image: str
    path: str
    sha256: str
    defect: str | None
    product: str | None
    mask: str | None
    boxes: tuple[tuple[float, ...], ...]
    shown: Bools | None = None

    @classmethod
    def of_row(cls, row: dict[str, Any], shown: Bools | None = None) -> Donor:
        """Returns the donor of one row of a records table."""
        boxes = tuple(tuple(box) for box in row["box"] or ())
        known = {name: row[name] for name in ("image", "path", "sha256", "defect", "product", "mask")}
        return cls(**known, boxes=boxes, shown=shown)

    @property
    def cut_by(self) -> str:
        """Returns "mask", "box" or "map"."""
        return "mask" if self.mask is not None else "box" if self.boxes else "map"

    def region(self, shape: tuple[int, int]) -> Bools:
        """Returns bool (H, W), where the defect is.

        Raises:
            ImageError: The mask has another size than the photograph.
        """
        if self.mask is not None:
            return read_mask(self.mask, shape)
        if self.boxes:
            found = boxed(self.boxes, shape)
        else:
            assert self.shown is not None
            found = self.shown
        if found.shape != shape:
            raise ImageError(f"The mask of {self.image!r} has another size than its image.")
        return found


def donors_of(records: Records, regions: Regions | None = None) -> tuple[list[Donor], tuple[str, ...]]:
    """Returns the bad, real training images whose defect has a place, and what was passed over.

    Args:
        records: With splits.
        regions: Asked where an image has neither mask nor box.

    Raises:
        DataError: There is no bad training image, or the place of no defect is known.
    """
    frame = records.frame.filter(
        (pl.col("split") == "train") & (pl.col("label") == BAD) & ~pl.col("generated") & pl.col("error").is_null()
    ).sort("sha256", "image")
    if not frame.height:
        raise DataError("No bad image is in the training split.", fix="Divide anew with --resplit, or add some.")
    donors: list[Donor] = []
    without = 0
    for row in frame.iter_rows(named=True):
        nowhere = row["mask"] is None and not row["box"]
        shown = regions(row["path"], row["image"]) if nowhere and regions is not None else None
        if nowhere and (shown is None or not shown.any()):
            without += 1
        else:
            donors.append(Donor.of_row(row, shown))
    if not donors:
        raise DataError(
            f"None of the {frame.height} bad training images has a mask or box of its defect.",
            expected="a mask or a box in the manifest (columns mask, box), or a recipe that points it out",
            fix="--recipe RUN of a `knowngood train` on these photographs: its maps locate the defects.",
        )
    note = f"{without} of {frame.height} bad training images have no mask or box of their defect and were not used."
    return donors, (note,) if without else ()


def boxed(boxes: Sequence[Sequence[float]], shape: tuple[int, int]) -> Bools:
    """Returns bool (H, W), true in the boxes (x0, y0, x1, y1)."""
    inside = np.zeros(shape, bool)
    for x0, y0, x1, y1 in boxes:
        inside[max(0, int(y0)) : int(np.ceil(y1)), max(0, int(x0)) : int(np.ceil(x1))] = True
    return inside


Pixels: TypeAlias = npt.NDArray[np.uint8]
Floats: TypeAlias = npt.NDArray[np.float64]
_STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))


def blended(host: Pixels, piece: Pixels, inside: Bools, how: Blend, feather: float = 3.0) -> Pixels:
    """Returns the host with the piece laid in.

    Args:
        host: uint8 (H, W) or (H, W, 3).
        piece: Of the same shape; compared near `inside` only.
        inside: bool (H, W), where the piece is laid.
        how: "poisson" keeps the piece's differences between neighbours and takes the brightness at its edge from the
            host; "feather" keeps its values but for one brightness, and mixes over the edge.
        feather: Width in pixels over which "feather" mixes, inwards.

    Returns:
        uint8, outside of `inside` equal to the host.
    """
    if not inside.any():
        return host.copy()
    planes = [host[..., None], piece[..., None]] if host.ndim == 2 else [host, piece]
    below, above = (plane.astype(np.float64) for plane in planes)
    laid = above + (_membrane if how == "poisson" else _offset)(below - above, inside)
    share = inside.astype(np.float64) if how == "poisson" else _ramp(inside, feather)
    mixed = below + share[..., None] * (laid - below)
    return np.asarray(np.clip(np.rint(mixed), 0, 255), np.uint8).reshape(host.shape)


def ring_of(inside: Bools, width: int = 3) -> Bools:
    """Returns bool (H, W): the pixels outside of a region that are at most `width` away from it."""
    kernel = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    return np.asarray(cv2.dilate(inside.astype(np.uint8), kernel) > 0, np.bool_) & ~inside


def grown(inside: Bools, width: int) -> Bools:
    """Returns a region with all that is at most `width` pixels away from it."""
    return inside | ring_of(inside, width) if width else inside


def _offset(difference: Floats, inside: Bools) -> Floats:
    """Returns (1, 1, C): what brings the piece to the host's brightness around the region, or in it where it is all."""
    ring = ring_of(inside)
    return np.asarray(np.median(difference[ring if ring.any() else inside], axis=0), np.float64)[None, None]


def _ramp(inside: Bools, width: float) -> Floats:
    """Returns (H, W) from 0 outside over the edge to 1, `width` pixels inside; thin regions stay visible."""
    padded = np.pad(inside.astype(np.uint8), 1, mode="edge")  # the picture's own edge is no seam
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1].astype(np.float64)
    reach = max(1.0, min(width, float(depth.max())))
    return np.asarray(np.minimum(depth / reach, 1.0), np.float64)


def _membrane(difference: Floats, inside: Bools) -> Floats:
    """Returns (H, W, C): inside, the smooth function that equals `difference` on the pixels around; 0 elsewhere.

    The picture's own edge holds nothing fast, so that a region may touch it; a part of the region that nothing
    surrounds gets the difference of the means.

    Reference:
        Perez et al. 2003, "Poisson image editing", equation 2 with the piece's own gradient as guidance: what is added
        to the piece is harmonic. OpenCV's seamlessClone needs colour and a frame of pixels around the region.
    """
    corrected = np.zeros_like(difference)
    count, places = cv2.connectedComponents(inside.astype(np.uint8), connectivity=4)
    for part in range(1, count):
        region = places == part
        surrounded = (ring_of(region, 1) & _beside(region)).any()
        mean = np.broadcast_to(difference[region].mean(axis=0), (int(region.sum()), difference.shape[2]))
        corrected[region] = _harmonic(difference, region) if surrounded else mean
    return corrected


def _beside(region: Bools) -> Bools:
    kernel = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    return np.asarray(cv2.dilate(region.astype(np.uint8), kernel) > 0, np.bool_)


def _harmonic(boundary: Floats, region: Bools) -> Floats:
    """Solves Laplace's equation on a region (P pixels) with the values around it; returns (P, C)."""
    ys, xs = np.nonzero(region)
    size, (height, width) = len(ys), region.shape
    number = np.full(region.shape, -1, np.int64)
    number[ys, xs] = np.arange(size)
    own, right = np.zeros(size), np.zeros((size, boundary.shape[2]))
    rows: list[npt.NDArray[Any]] = [np.arange(size)]
    columns: list[npt.NDArray[Any]] = [np.arange(size)]
    for down, across in _STEPS:
        y, x = ys + down, xs + across
        there = np.flatnonzero((y >= 0) & (y < height) & (x >= 0) & (x < width))
        own[there] += 1
        neighbour = number[y[there], x[there]]
        known, free = there[neighbour < 0], there[neighbour >= 0]
        right[known] += boundary[y[known], x[known]]
        rows.append(free)
        columns.append(neighbour[neighbour >= 0])
    values = np.concatenate([own, *(np.full(len(each), -1.0) for each in rows[1:])])
    matrix = coo_matrix((values, (np.concatenate(rows), np.concatenate(columns))), shape=(size, size))
    return np.asarray(splu(matrix.tocsc()).solve(right), np.float64)


INSIDE = 0.9  # share of the defect that has to be in the picture
_SURE = 0.15  # response from which two pictures are believed to be shifted: noise stays below, parts are above
_TRIES = 8  # places that are tried; the one with the best match of the surroundings is taken


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
        self.training_images = learned_from(records, GOOD, BAD)
        goods = self.training_images.filter(pl.col("label") == GOOD).select("image")
        self._hosts = goods.join(records.frame, on="image", how="left", maintain_order="left").select(
            "image", "path", "product", "width", "height"
        )
        if not self._hosts.height:
            raise DataError("No good image is in the training split.", fix="Divide anew with --resplit, or add some.")
        self._colour = needs_colour(records)
        self._usable()

    @classmethod
    def open(cls, source: Records | Path, parameters: Any, seed: int) -> Transplant:
        """Returns the generator.

        Raises:
            DataError: No defect has a known place, all cover too much of their image, or there is no good image.
        """
        assert isinstance(source, Records)
        return cls(source, parameters, seed)

    @property
    def identity(self) -> dict[str, Any]:
        """Returns parameters, images, and how each defect is cut."""
        cut = [[donor.sha256, donor.cut_by] for donor in self._donors]
        return {**self._parameters.model_dump(), "defects": cut, "images": self.training_images["sha256"].to_list()}

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
            "turn": round(float(angle * self._parameters.rotate), 3),
            "scale": round(float(self._parameters.zoom**power), 4),
            # whole pixels: half of one would wash out a defect of one pixel
            "shift": [round(float(v)) for v in part + shift * self._parameters.shift * np.array(size)],
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

"""Defects cut out of bad training images: where each is, by its mask, else its box, else what a caller points out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from knowngood.data.images import read_mask
from knowngood.data.records import BAD, Records
from knowngood.errors import DataError, ImageError

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
            f"None of the {frame.height} bad training images says where its defect is.",
            expected="a mask or a box in the manifest (columns mask, box), or a recipe that points it out",
            fix="--recipe RUN of a `knowngood train` on these photographs: its maps say where it looked.",
        )
    said = f"{without} of {frame.height} bad training images do not say where their defect is, and gave none."
    return donors, (said,) if without else ()


def boxed(boxes: Sequence[Sequence[float]], shape: tuple[int, int]) -> Bools:
    """Returns bool (H, W), true in the boxes (x0, y0, x1, y1)."""
    inside = np.zeros(shape, bool)
    for x0, y0, x1, y1 in boxes:
        inside[max(0, int(y0)) : int(np.ceil(y1)), max(0, int(x0)) : int(np.ceil(x1))] = True
    return inside

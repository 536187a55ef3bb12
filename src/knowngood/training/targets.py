"""What a network is trained towards: bad or good, the kind of defect, and its place where somebody marked it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import numpy.typing as npt
import polars as pl

from knowngood.data.images import read_mask
from knowngood.data.preprocessing import Preprocessing
from knowngood.data.records import BAD, Records
from knowngood.errors import ImageError
from knowngood.progress import reporter
from knowngood.wording import counted

Rows = npt.NDArray[np.int64]
NO_KIND = -1  # of a good photograph, and of a bad one whose kind is not known
NO_MASK = 255  # everywhere in the mask of a photograph that has none
UNNAMED = "bad"  # the one kind of a set that names no defects
_LEAST = 5  # photographs of a kind that has logits of its own
_MOST = 32  # kinds, the most frequent ones


@dataclass(frozen=True)
class Targets:
    """The target and the weight of each row of a pixel store.

    Attributes:
        bad: (N,) float32 in 0..1, probability that the unit is bad: the label, or the annotators' own.
        weight: (N,) float32 > 0, how much the row counts.
        kind: (N,) int64, number of the kind of defect, or `NO_KIND`; None where there are none.
        masks: Row to its mask (H, W) uint8, 1 on the defect, at the size of the pixel store.
    """

    bad: npt.NDArray[np.float32]
    weight: npt.NDArray[np.float32]
    kind: npt.NDArray[np.int64] | None = None
    masks: Mapping[int, npt.NDArray[np.uint8]] = field(default_factory=dict)


def targets_of(records: Records) -> Targets:
    """Returns the target of each row: the annotators' probability where there is one, else the label."""
    frame = records.frame
    label = frame["label"].cast(pl.Float32).fill_null(0.0)
    bad = pl.select(pl.coalesce(frame["probability"], label)).to_series()
    return Targets(bad.to_numpy().astype(np.float32), np.ones(len(frame), np.float32))


def class_weighted(targets: Targets, rows: Rows) -> Targets:
    """Returns targets whose weights make both classes count the same over the given rows.

    Args:
        targets: Of all N rows.
        rows: Indices of the training rows; one class alone keeps its weights.
    """
    bad = targets.bad >= 0.5
    bads = int(bad[rows].sum())
    if bads in (0, len(rows)):
        return targets
    factor = np.where(bad, len(rows) / (2 * bads), len(rows) / (2 * (len(rows) - bads)))
    return replace(targets, weight=(targets.weight * factor).astype(np.float32))


def kinds_of(records: Records, rows: Rows) -> tuple[str, ...]:
    """Returns the names of the defects that are frequent enough to be told apart, the most frequent first.

    Args:
        records: (N rows).
        rows: Indices of the training rows.

    Returns:
        At most 32 names, each of at least five training photographs; ("bad",) where there are not two such.
    """
    frame = records.frame[rows].filter(pl.col("label") == BAD)
    counts = Counter(frame["defect"].drop_nulls().to_list())
    frequent = [name for name, count in counts.most_common(_MOST) if count >= _LEAST]
    return tuple(frequent) if len(frequent) > 1 else (UNNAMED,)


def kind_numbers(records: Records, kinds: tuple[str, ...]) -> npt.NDArray[np.int64]:
    """Returns the number of each row's kind of defect (N,), or `NO_KIND`."""
    numbers = {name: number for number, name in enumerate(kinds)}
    frame = records.frame
    named = [numbers.get(d, NO_KIND) if bad == BAD else NO_KIND for bad, d in frame.select("label", "defect").rows()]
    return np.array(named, np.int64)


def masks_of(
    records: Records, rows: Rows, height: int, width: int, preprocessing: Preprocessing
) -> dict[int, npt.NDArray[np.uint8]]:
    """Returns the masks of bad rows, of boxes where there is no mask, at the network's size.

    A mask that cannot be read, or of another size than its photograph, and one of a good photograph are left out, and
    the first of each is named.

    Args:
        records: (N rows).
        rows: Indices of the training rows.
        height: Of the network's input.
        width: Of the network's input.
        preprocessing: Of the photographs: nothing outside its region of interest is a defect.

    Returns:
        Row to (height, width) uint8, 1 on the defect; a defect keeps one pixel at least.
    """
    found: dict[int, npt.NDArray[np.uint8]] = {}
    passed: list[str] = []
    of_good = 0
    columns = ("label", "mask", "box", "height", "width")
    for row, (label, path, boxes, high, wide) in zip(
        rows.tolist(), records.frame[rows].select(columns).rows(), strict=True
    ):
        if path is None and not boxes:
            continue
        if label != BAD:
            of_good += 1
            continue
        try:
            drawn = read_mask(path, (high, wide)) if path is not None else _boxed(boxes, high, wide)
        except (ImageError, OSError) as error:
            passed.append(str(error))
            continue
        inside = preprocessing.inside(high, wide)
        drawn = drawn if inside is None else drawn & inside
        if drawn.any():
            shrunk = cv2.resize(drawn.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
            found[row] = (shrunk >= min(0.5, float(shrunk.max()))).astype(np.uint8)
    if passed:
        reporter().say(f"{counted(len(passed), 'mask')} cannot be used; the first: {passed[0]}")
    if of_good:
        reporter().say(f"{counted(of_good, 'good image')} with a mask: every place of a good image is good")
    return found


def _boxed(boxes: list[list[float]], height: int, width: int) -> npt.NDArray[np.bool_]:
    drawn = np.zeros((height, width), bool)
    for x0, y0, x1, y1 in boxes:
        left, top = max(int(x0), 0), max(int(y0), 0)
        drawn[top : max(top + 1, round(y1)), left : max(left + 1, round(x1))] = True
    return drawn

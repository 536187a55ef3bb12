"""What the sources of annotation formats share: rows made of photographs and what was drawn on them.

A photograph without a mark is good; one with marks is bad, and its defect is the class of the largest. Classes that
mean good ("ok", "background" ...) mark no defect.
"""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path

from PIL import Image

from knowngood.data.budget import MAX_PIXELS
from knowngood.data.header import SIDEWAYS
from knowngood.data.images import read_bytes
from knowngood.data.pages import split_page
from knowngood.data.records import BAD, GOOD, SPLITS, table
from knowngood.data.sources import Listing
from knowngood.data.sources.annotated_files import Pictures, name_of
from knowngood.data.sources.marks import Box, Frame, Mark, mask_file, placed, write_mask
from knowngood.data.words import defect_of, is_good_name
from knowngood.errors import DataError, ImageError
from knowngood.progress import track

_WORKERS = 2
_ORIENTATION = 0x0112
_SAME_SHAPE = 0.02  # relative difference of aspect ratios up to which a photograph counts as the annotated one, resized
_NO_DEFECT = re.compile(r"_*(background|no[ _-]?(defects?|damage|error)|defect[ _-]?free)_*", re.IGNORECASE)
_SENTENCES = {
    "missing": ("{n} annotated image is not on the disk", "{n} annotated images are not on the disk"),
    "ambiguous": (
        "{n} image name fits several files in different folders and was not resolved",
        "{n} image names fit several files in different folders and were not resolved",
    ),
    "unlisted": (
        "{n} image on the disk is not in the annotations and was left out",
        "{n} images on the disk are not in the annotations and were left out",
    ),
    "no file": (
        "{n} image has no annotation file and counts as good",
        "{n} images have no annotation file and count as good",
    ),
    "unlabelled": (
        "{n} image is listed but nobody has annotated it: it has no label",
        "{n} images are listed but nobody has annotated them: they have no label",
    ),
    "unfinished": (
        "{n} task has no annotation and counts as good: no task of the export was submitted empty",
        "{n} tasks have no annotation and count as good: no task of the export was submitted empty",
    ),
    "orphan": ("{n} annotation belongs to no image", "{n} annotations belong to no image"),
    "class": (
        "{n} annotation has a class that is not in the list of classes",
        "{n} annotations have classes that are not in the list of classes",
    ),
    "ignored": (
        "{n} annotation is flagged to be ignored and was",
        "{n} annotations are flagged to be ignored and were",
    ),
    "clipped": (
        "{n} annotation reached over the edge of its photograph and was clipped",
        "{n} annotations reached over the edge of their photographs and were clipped",
    ),
    "empty": (
        "{n} annotation covers no pixel of its photograph: the image stays bad, without that box",
        "{n} annotations cover no pixel of their photographs: the images stay bad, without those boxes",
    ),
    "damaged": (
        "{n} annotation has coordinates that mean nothing: the image stays bad, without that box",
        "{n} annotations have coordinates that mean nothing: the images stay bad, without those boxes",
    ),
    "resized": (
        "{n} photograph has another size than was annotated: its boxes were scaled",
        "{n} photographs have another size than was annotated: their boxes were scaled",
    ),
    "other picture": (
        "{n} photograph has another shape than was annotated: its boxes were left out",
        "{n} photographs have another shape than was annotated: their boxes were left out",
    ),
    "twice": (
        "{n} image is listed more than once; its annotations were joined",
        "{n} images are listed more than once; their annotations were joined",
    ),
    "two splits": (
        "{n} image is listed in two splits and stays in the first of train, val, calibration, test",
        "{n} images are listed in two splits and stay in the first of train, val, calibration, test",
    ),
    "several": (
        "{n} image was annotated more than once; the accepted or else the latest annotation counts",
        "{n} images were annotated more than once; the accepted or else the latest annotation counts",
    ),
    "embedded": (
        "{n} photograph was taken out of its annotation file, as it is not on the disk",
        "{n} photographs were taken out of their annotation files, as they are not on the disk",
    ),
    "good with marks": (
        "{n} photograph in a good folder has annotated defects; the folder was believed",
        "{n} photographs in good folders have annotated defects; the folders were believed",
    ),
    "foreign": (
        "{n} file is no annotation and was passed over",
        "{n} files are no annotations and were passed over",
    ),
    "kind": (
        "{n} mark of a kind that is not known was passed over",
        "{n} marks of kinds that are not known were passed over",
    ),
}


class Remarks:
    """Counts what a reader of the set should know."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def add(self, code: str, example: str) -> None:
        """Counts one case; the first of a kind becomes the example."""
        self._counts[code] += 1
        self._first.setdefault(code, example)

    def notes(self) -> tuple[str, ...]:
        """Returns one sentence a kind."""
        return tuple(
            f"{_SENTENCES[code][n > 1].format(n=n)} (first: {self._first[code]})." for code, n in self._counts.items()
        )


@dataclass(frozen=True)
class Annotated:
    """One photograph and what was drawn on it.

    Attributes:
        file: Where it lies, or should lie; absolute.
        marks: Of all classes.
        size: Width and height in which coordinates are given; (1, 1) for fractions, None for the photograph's own.
        split: One of `SPLITS`, or None.
        labelled: Whether somebody has looked at it; without, no mark does not mean good.
        name: What the image is called; by default its path below the root.
    """

    file: Path
    marks: tuple[Mark, ...] = ()
    size: tuple[float, float] | None = None
    split: str | None = None
    labelled: bool = True
    name: str | None = None


def means_good(name: str) -> bool:
    """Returns whether a class stands for parts without a defect."""
    return is_good_name(name.strip()) or _NO_DEFECT.fullmatch(name.strip()) is not None


def listing(
    found: Sequence[Annotated], pictures: Pictures, remarks: Remarks, what: str, *, lists_all: bool = False
) -> Listing:
    """Makes the table of annotated photographs, and draws the masks that the user's cache does not hold.

    Args:
        found: Photographs; those that are listed more than once are joined.
        pictures: What is on the disk.
        remarks: Counted so far.
        what: Where the annotations stand, for messages.
        lists_all: Whether the annotations list all photographs: a remark then counts those that are not listed.

    Raises:
        DataError: No photograph is listed, or none of them is there.
        StorageError: The user's cache cannot be written.
    """
    root = pictures.root
    joined = sorted(_joined(found, root, remarks), key=lambda one: one.name or "")
    rows, masks = [], dict[Path, tuple[list[Mark], Frame]]()
    absent = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on headers: whoever decodes the file says what is wrong
        for one in joined:
            header = _header(one.file)
            if header is None and not os.path.isfile(one.file) and one.file not in pictures:
                absent.append(one)
                remarks.add("missing", one.name or "")
            rows.append(_row(one, header, masks, remarks))
    if len(absent) == len(rows):
        first = f"none of the {len(rows)} images of {what} is on the disk, first {absent[0].name}" if absent else ""
        raise DataError(
            f"{str(root)!r}: {first or f'{what} lists no images'}.",
            expected="the photographs below that folder, with the names that the annotations have",
            fix="Copy the photographs beside the annotations.",
        )
    for name in pictures.ambiguous:
        remarks.add("ambiguous", name)
    for name in pictures.besides(one.file for one in found) if lists_all else ():
        remarks.add("unlisted", name)
    with ThreadPoolExecutor(_WORKERS) as pool:
        drawing = [pool.submit(partial(write_mask, file, *job)) for file, job in masks.items() if not file.is_file()]
        for job in track(drawing, "Drawing masks", len(drawing)):
            job.result()
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return Listing(table(columns), notes=(*pictures.walker.notes(), *remarks.notes()), root=root)


def _joined(found: Sequence[Annotated], root: Path, remarks: Remarks) -> Iterable[Annotated]:
    """Returns each photograph once, with the marks of all its entries."""
    by_file: dict[Path, Annotated] = {}
    for one in found:
        named = replace(one, name=one.name or name_of(one.file, root))
        before = by_file.get(one.file)
        if before is not None:
            splits = sorted({s for s in (before.split, one.split) if s is not None}, key=SPLITS.index)
            remarks.add("two splits" if len(splits) > 1 else "twice", named.name or "")
            named = replace(
                before,
                marks=(*before.marks, *one.marks),
                split=splits[0] if splits else None,
                labelled=before.labelled or one.labelled,
                size=before.size or one.size,
            )
        by_file[one.file] = named
    return by_file.values()


def _row(
    one: Annotated,
    header: tuple[int, int, int] | None,
    masks: dict[Path, tuple[list[Mark], Frame]],
    remarks: Remarks,
) -> dict[str, object]:
    name = one.name or ""
    defects = [mark for mark in one.marks if not means_good(mark.name)]
    labelled = one.labelled or bool(one.marks)
    if not labelled:
        remarks.add("unlabelled", name)
    frame = _frame(one, header, remarks) if any(mark.is_placed for mark in defects) else None
    boxes: list[Box] = []
    drawn: list[Mark] = []
    largest, defect = -1.0, None
    for mark in defects:
        area = 0.0
        if mark.damaged:
            remarks.add("damaged", name)
        if mark.is_placed and frame is not None:
            place = placed(mark, frame)
            area = place.area
            if place.box is None:
                remarks.add("empty", name)
            else:
                boxes.append(place.box)
                drawn.append(mark)
                if place.clipped:
                    remarks.add("clipped", name)
        if area > largest:
            largest, defect = area, defect_of(mark.name.strip() or "bad")
    file = None
    small = header is not None and frame is not None and frame.width * frame.height <= MAX_PIXELS
    if frame is not None and small and any(mark.is_drawn for mark in drawn):
        file = mask_file(drawn, frame)
        masks[file] = (drawn, frame)
    return {
        "image": name,
        "path": str(one.file),
        "label": None if not labelled else BAD if defects else GOOD,
        "defect": defect,
        "split": one.split,
        "mask": None if file is None else str(file.absolute()),
        "box": [list(box) for box in boxes] or None,
    }


def _frame(one: Annotated, header: tuple[int, int, int] | None, remarks: Remarks) -> Frame | None:
    """Returns how the annotated picture lies on the photograph; None where that cannot be known."""
    if header is None:  # the row will say that the photograph cannot be read: its boxes are as they were annotated
        return None if one.size is None or one.size == (1, 1) else Frame(int(one.size[0]), int(one.size[1]), one.size)
    width, height, orientation = header
    size = one.size or (float(width), float(height))
    if size == (1.0, 1.0) or size == (float(width), float(height)):
        return Frame(width, height, size)
    shape = size[0] / size[1] * height / width
    if orientation in SIDEWAYS and abs(size[0] / size[1] * width / height - 1) < min(_SAME_SHAPE, abs(shape - 1)):
        return Frame(width, height, size, orientation)  # drawn on the picture as the sensor has it
    if abs(shape - 1) > _SAME_SHAPE:
        remarks.add("other picture", one.name or "")
        return None
    remarks.add("resized", one.name or "")
    return Frame(width, height, size)


def _header(file: Path) -> tuple[int, int, int] | None:
    """Returns width and height of an upright photograph and its EXIF orientation; None where it cannot be read."""
    try:
        source = file if split_page(file)[1] is None or file.is_file() else BytesIO(read_bytes(file))
        with Image.open(source) as image:
            turn = 1
            if image.format != "PNG" or "exif" in image.info:  # of others asking costs a decode
                turn = image.getexif().get(_ORIENTATION, 1)
            width, height = image.size
            if image.format != "TIFF" and turn in SIDEWAYS:  # Pillow turns TIFF sizes itself
                width, height = height, width
    except (ImageError, Exception):  # decoders raise nearly anything on damaged bytes
        return None
    return width, height, turn if turn in range(1, 9) else 1

"""The `cvat` source: "CVAT for images 1.1", one XML file a set."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from knowngood.data.sources import Listing
from knowngood.data.sources.annotated_files import (
    LOOKS,
    Pictures,
    files_in,
    has_class_folders,
    number_of,
    places_in,
    size_of,
    split_above,
    split_in,
    text_head,
    wrong,
    xml_elements,
)
from knowngood.data.sources.annotations import Annotated, Remarks, listing
from knowngood.data.sources.marks import Mark, Runs, box_of, ellipse, points_of, rectangle

_CVAT = 'CVAT for images 1.1: <annotations><image name="..." width="..." height="..."><box label="..." xtl=... />'


class CvatSource:
    """Reads an XML file "CVAT for images 1.1": boxes, polygons, lines, ellipses, masks and tags."""

    summary = "CVAT for images 1.1: annotations.xml, the file itself or the folder with it and the photographs"

    def recognises(self, path: Path) -> bool:
        """Returns whether `path` is such a file, or a folder with one and without class folders."""
        if path.is_file():
            return path.suffix.lower() == ".xml" and _is_cvat(path)
        return path.is_dir() and not has_class_folders(path) and bool(_cvat_files(path))

    def read(self, path: Path) -> Listing:
        """Lists the photographs of all `image` elements; one without shapes and tags is good.

        Raises:
            DataError: There is no such file, or it is damaged or of another of CVAT's formats.
            StorageError: The user's cache cannot be written.
        """
        files = [path] if path.is_file() else _cvat_files(path)
        if not files:
            raise wrong(path, "there is no annotations.xml of CVAT", _CVAT)
        root = path.absolute().parent if path.is_file() else path
        remarks = Remarks()
        pictures = Pictures(root.parent if root.name.lower() == "annotations" else root)
        found = [one for file in files for one in _cvat_images(file, pictures, remarks)]
        return listing(found, pictures, remarks, files[0].name, lists_all=True)


def _is_cvat(file: Path) -> bool:
    head = text_head(file)
    return "<annotations>" in head and re.search(r"<(image|meta|version|track)\b", head) is not None


def _cvat_files(path: Path) -> list[Path]:
    return [f for place in places_in(path, "annotations") for f in files_in(place, ".xml", most=LOOKS) if _is_cvat(f)]


def _cvat_images(file: Path, pictures: Pictures, remarks: Remarks) -> Iterator[Annotated]:
    for one in xml_elements(file, ("image", "track"), _CVAT):
        if one.tag == "track":
            raise wrong(file, "it holds tracks of a video", f'the export "CVAT for images 1.1": {_CVAT}')
        name = one.get("name")
        if not name:
            raise wrong(file, "one of its images has no name", _CVAT)
        marks = []
        for shape in one:
            label = shape.get("label")
            if label is None:
                raise wrong(file, f"a {shape.tag} of image {name!r} has no label", _CVAT)
            if any(a.get("name") == "ignore" and (a.text or "").lower() == "true" for a in shape.findall("attribute")):
                remarks.add("ignored", name)
            elif (mark := _cvat_mark(label, shape)) is not None:
                marks.append(mark)
            else:
                remarks.add("kind", f"{shape.tag} in {name}")
        subset = one.get("subset")
        folders = [file.parent, file.parent / "images", pictures.root / "images"]
        folders += [folder / subset for folder in folders if subset]
        place = pictures.find(name, *reversed(folders)) or pictures.expected(name, file.parent / "images")
        size = size_of(one.get("width"), one.get("height"))
        split = (split_in(subset) if subset else None) or split_above(place, pictures.root)
        yield Annotated(place, tuple(marks), size, split)


def _cvat_mark(name: str, shape: Element) -> Mark | None:
    """Returns one shape; None for a kind that is not known."""
    nowhere = Mark(name, damaged=True)

    def numbers(*keys: str) -> list[float] | None:
        values = [number_of(shape.get(key)) for key in keys]
        return None if None in values else [value for value in values if value is not None]

    turn = number_of(shape.get("rotation")) or 0
    if shape.tag == "tag":
        return Mark(name)
    if shape.tag == "box":
        corners = numbers("xtl", "ytl", "xbr", "ybr")
        box = box_of(corners)
        if box is None or not turn:
            return nowhere if box is None else Mark(name, box)
        x, y, x1, y1 = box
        return Mark(name, polygons=(rectangle(x, y, x1 - x, y1 - y, turn, about_centre=True),))
    if shape.tag == "ellipse":
        values = numbers("cx", "cy", "rx", "ry")
        return (
            nowhere
            if values is None
            else Mark(name, polygons=(ellipse(values[0], values[1], values[2], values[3], turn),))
        )
    if shape.tag == "cuboid":
        keys = [
            f"{axis}{corner}" for corner in ("tl1", "bl1", "tr1", "br1", "tl2", "bl2", "tr2", "br2") for axis in "xy"
        ]
        points = points_of(numbers(*keys))
        if points is None:
            return nowhere
        return Mark(name, box_of([*points.min(axis=0), *points.max(axis=0)]))
    if shape.tag == "mask":
        values = numbers("left", "top", "width", "height")
        try:
            lengths = np.array([int(n) for n in (shape.get("rle") or "").split(",")], np.int64)
            left, top, width, height = (int(value) for value in values or ())
            return Mark(name, runs=Runs(lengths, width, height, left=left, top=top))
        except (ValueError, OverflowError):
            return nowhere
    if shape.tag in ("polygon", "polyline", "points"):
        points = points_of(re.split(r"[,;]", shape.get("points") or ""))
        if points is None:
            return nowhere
        if shape.tag == "polygon" and len(points) >= 3:
            return Mark(name, polygons=(points,))
        return Mark(name, lines=tuple(points[:, None]) if shape.tag == "points" else (points,))
    return None

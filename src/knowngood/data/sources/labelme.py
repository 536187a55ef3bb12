"""The `labelme` source: one JSON file a photograph, in class folders or without them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from knowngood.data.records import BAD, table
from knowngood.data.sources import Listing
from knowngood.data.sources.annotated_files import (
    LOOKS,
    Pictures,
    bits_of,
    embedded,
    files_below,
    files_in,
    has_class_folders,
    read_json,
    size_of,
    split_above,
    text_head,
    wrong,
)
from knowngood.data.sources.annotations import Annotated, Remarks, listing
from knowngood.data.sources.folder import FolderSource
from knowngood.data.sources.marks import Mark, box_of, ellipse, points_of, runs_of
from knowngood.data.sources.walking import folders_in
from knowngood.data.words import defect_of, is_mask_name

_LABELME = 'LabelMe JSON: {"imagePath": "x.png", "shapes": [{"label", "points", "shape_type"}], ...}'
_LABELME_KEYS = re.compile(r'"shapes"\s*:\s*\[')
_FOLDERS = 30  # of one folder that are looked into


class LabelmeSource:
    """Reads one JSON file a photograph, beside it or in a folder of their own.

    Where class folders say what is good and what is bad they are believed, and the files give boxes and masks.
    """

    summary = "LabelMe JSON beside the photographs, which may lie in class folders: these then give the labels"

    def recognises(self, path: Path) -> bool:
        """Returns whether some folder in `path` holds a LabelMe file."""
        return path.is_dir() and any(
            _LABELME_KEYS.search(text_head(file)) or _ends_as_labelme(file)
            for place in _labelme_places(path)
            for file in files_in(place, ".json", most=LOOKS)
        )

    def read(self, path: Path) -> Listing:
        """Lists the photographs; one without a file, or without shapes, is good.

        Raises:
            DataError: A file is damaged, or there are no photographs.
            StorageError: The user's cache cannot be written.
        """
        remarks = Remarks()
        pictures = Pictures(path, _holds_no_photographs)
        marked = {one.file: one for one in _labelme_images(pictures, remarks)}
        if has_class_folders(path):
            return _with_marks(FolderSource().read(path), marked, pictures, remarks)
        found = list(marked.values())
        for file in pictures.files:
            if file not in marked:
                found.append(Annotated(file, split=split_above(file, pictures.root)))
                remarks.add("no file", found[-1].file.name)
        return listing(found, pictures, remarks, "the LabelMe files")


def _labelme_places(path: Path) -> Iterator[Path]:
    """Yields the folders in which annotations may lie: three levels, as in train/chip/labels."""
    yield path
    for first in folders_in(path)[:_FOLDERS]:
        yield first
        for second in folders_in(first)[:_FOLDERS]:
            yield second
            yield from folders_in(second)[:_FOLDERS]


def _ends_as_labelme(file: Path) -> bool:
    """Returns whether the keys stand behind the pixels of the photograph, as some programs write them."""
    try:
        with file.open("rb") as handle:
            if b'"imageData"' not in handle.read(1 << 12):
                return False
            handle.seek(-min(1 << 14, file.stat().st_size), 2)
            return b'"shapes"' in handle.read()
    except OSError:
        return False


def _holds_no_photographs(folder: str) -> bool:
    return is_mask_name(folder) or folder.endswith("_json") or folder.startswith("Segmentation")


def _labelme_images(pictures: Pictures, remarks: Remarks) -> Iterator[Annotated]:
    for file in files_below(pictures.root, ".json"):
        document = read_json(file, _LABELME)
        shapes = document.get("shapes") if isinstance(document, dict) else None
        name = document.get("imagePath") if isinstance(document, dict) else None
        beside = pictures.with_stem(file, file.parent, file.parent.parent / "images", file.parent.parent)
        if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
            if beside is None and not isinstance(name, str):
                remarks.add("foreign", file.name)
                continue
            raise wrong(file, "its key 'shapes' is missing or no list of objects", _LABELME)
        place = (pictures.find(name, file.parent) if isinstance(name, str) and name else None) or beside
        called = None
        if place is None and document.get("imageData"):
            place = embedded(str(document["imageData"]), lambda what, at=file: wrong(at, what, _LABELME))  # type: ignore[misc]
            called = file.with_name(Path(str(name).replace("\\", "/")).name).relative_to(pictures.root).as_posix()
            remarks.add("embedded", file.name)
        place = place or pictures.expected(str(name or file.with_suffix(".png").name), file.parent)
        marks = [mark for shape in shapes if (mark := _labelme_mark(shape, file, remarks)) is not None]
        flags = document.get("flags")
        if not marks and isinstance(flags, dict):
            marks = [Mark(str(word)) for word, is_set in flags.items() if is_set is True and _is_bad_word(str(word))]
        size = size_of(document.get("imageWidth"), document.get("imageHeight"))
        split = split_above(place, pictures.root) or split_above(file, pictures.root)
        yield Annotated(place, tuple(marks), size, split, name=called)


def _is_bad_word(word: str) -> bool:
    return defect_of(word) == "bad"


def _labelme_mark(shape: dict[str, Any], file: Path, remarks: Remarks) -> Mark | None:
    name, kind = shape.get("label"), shape.get("shape_type") or "polygon"
    if not isinstance(name, str) or not isinstance(shape.get("points"), list):
        raise wrong(file, "one of its shapes has no label or no points", _LABELME)
    flags = shape.get("flags")
    if isinstance(flags, dict) and flags.get("ignore") is True:
        remarks.add("ignored", file.name)
        return None
    pairs = shape["points"]
    flat = (
        [n for pair in pairs for n in pair] if all(isinstance(pair, list) and len(pair) == 2 for pair in pairs) else []
    )
    points = points_of(flat)
    nowhere = Mark(name, damaged=True)
    if points is None:
        return nowhere
    if kind == "mask":
        bits = bits_of(str(shape.get("mask") or ""))
        left, top = (round(v) for v in points.min(axis=0).tolist())
        return nowhere if bits is None else Mark(name, runs=runs_of(bits, left, top))
    if kind == "rectangle" and len(points) == 2:
        return Mark(name, box_of(points.ravel().tolist()))
    if kind == "circle" and len(points) == 2:
        radius = float(np.linalg.norm(points[1] - points[0]))
        return Mark(name, polygons=(ellipse(float(points[0, 0]), float(points[0, 1]), radius, radius),))
    if kind in ("point", "points", "line", "linestrip"):
        return Mark(name, lines=tuple(points[:, None]) if kind == "points" else (points,))
    if len(points) < 3:
        return Mark(name, lines=(points,))
    return Mark(name, polygons=(points,))  # polygon, rotation, oriented_rectangle, a rectangle of four corners


def _with_marks(listed: Listing, marked: dict[Path, Annotated], pictures: Pictures, remarks: Remarks) -> Listing:
    """Adds boxes and masks to photographs whose class folders say what they are."""
    frame = listed.frame
    bad = {Path(path) for path, label in frame.select("path", "label").iter_rows() if label == BAD}
    for file, one in marked.items():
        if file not in bad and one.marks and file in pictures:
            remarks.add("good with marks", one.file.name)
    wanted = [replace(one, name=None) for file, one in marked.items() if file in bad and one.marks]
    if not wanted:
        return replace(listed, notes=(*listed.notes, *remarks.notes()))
    made = listing(wanted, pictures, remarks, "the LabelMe files").frame
    places = {row["path"]: row for row in made.iter_rows(named=True)}
    rows = frame.to_dicts()
    for row in rows:
        place = places.get(row["path"])
        if place is not None:
            row["box"] = row["box"] or place["box"]
            row["mask"] = row["mask"] or place["mask"]
    columns = {name: [row[name] for row in rows] for name in frame.columns}
    return replace(listed, frame=table(columns), notes=(*listed.notes, *remarks.notes()))

"""The `coco` source: COCO JSON, one file a set or one a split."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from knowngood.data.sources import Listing
from knowngood.data.sources.annotated_files import (
    LOOKS,
    Pictures,
    files_in,
    has_class_folders,
    places_in,
    read_json,
    root_of,
    size_of,
    split_in,
    text_head,
    wrong,
)
from knowngood.data.sources.annotations import Annotated, Remarks, listing
from knowngood.data.sources.marks import Mark, Points, Runs, box_of, points_of
from knowngood.data.sources.walking import folders_in

_COCO = (
    'COCO JSON: {"images": [{"id", "file_name"}], "annotations": [{"image_id", "category_id", "bbox"}], "categories"}'
)
_COCO_HEAD = re.compile(r'\s*\{.*"(images|annotations|categories)"\s*:\s*\[', re.DOTALL)
_COCO_KEYS = re.compile(r'"(file_name|image_id|category_id|supercategory|licenses|categories)"\s*:')


class CocoSource:
    """Reads `annotations/instances_*.json`, `_annotations.coco.json` in split folders, or a COCO file that is named."""

    summary = "COCO JSON: instances_*.json, train/_annotations.coco.json, or the file itself"

    def recognises(self, path: Path) -> bool:
        """Returns whether `path` is a COCO file, or a folder with one and without class folders."""
        if path.is_file():
            return path.suffix.lower() == ".json" and _is_coco(path)
        return path.is_dir() and not has_class_folders(path) and bool(self._files(path))

    def read(self, path: Path) -> Listing:
        """Lists the images of all COCO files; crowds count, annotations flagged `ignore` do not.

        Raises:
            DataError: There is no COCO file, or one is damaged.
            StorageError: The user's cache cannot be written.
        """
        files = [path] if path.is_file() else self._files(path)
        if not files:
            raise wrong(path, "there is no COCO file", _COCO)
        root = root_of(path) if path.is_file() else path
        remarks = Remarks()
        pictures = Pictures(root)
        found = [one for file in files for one in _coco_images(file, pictures, remarks)]
        return listing(found, pictures, remarks, files[0].name, lists_all=True)

    def _files(self, path: Path) -> list[Path]:
        places = places_in(path, "annotations", "annotation", "labels", "images")
        files = [f for place in places for f in files_in(place, ".json", most=LOOKS) if _is_coco(f)]
        chosen = [f for f in files if f.name.lower().startswith("instances")]
        return chosen or files


def _is_coco(file: Path) -> bool:
    head = text_head(file)
    return _COCO_HEAD.match(head) is not None and _COCO_KEYS.search(head) is not None and '"segments_info"' not in head


def _coco_images(file: Path, pictures: Pictures, remarks: Remarks) -> Iterator[Annotated]:
    document = read_json(file, _COCO)
    if not isinstance(document, dict):
        raise wrong(file, f"it holds a {type(document).__name__}", _COCO)
    images, annotations = document.get("images"), document.pop("annotations", None)
    annotated = annotations is not None
    if not annotated and ("image_info" in file.name.lower() or split_in(file.stem) == "test"):
        annotations = []  # COCO lists the images of a test without saying what is on them
    for name, value in (("images", images), ("annotations", annotations)):
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            raise wrong(file, f"its key {name!r} is missing or no list of objects", _COCO)
    assert isinstance(images, list)
    assert isinstance(annotations, list)
    categories = document.get("categories") or []
    if not isinstance(categories, list):
        raise wrong(file, "its key 'categories' is no list of objects", _COCO)
    classes = {
        one.get("id"): str(one.get("name")) for one in categories if isinstance(one, dict) and _is_plain(one.get("id"))
    }
    marks: dict[object, list[Mark]] = {}
    ignored: set[object] = set()
    ids = Counter(one.get("id") for one in images if _is_plain(one.get("id")))
    if ids and (most := ids.most_common(1)[0])[1] > 1:
        raise wrong(file, f"{most[1]} of its images have the id {most[0]!r}", "an id of its own for each image")
    annotations.reverse()
    while annotations:  # each is dropped as it is read: a file may have millions
        one = annotations.pop()
        image = one.get("image_id")
        if not _is_plain(image) or image not in ids:
            remarks.add("orphan", f"image_id {image!r} in {file.name}")
        elif one.get("ignore"):
            remarks.add("ignored", f"image_id {image!r} in {file.name}")
            ignored.add(image)
        else:
            marks.setdefault(image, []).append(_coco_mark(one, classes, remarks, file))
    split = split_in(file.stem) or split_in(file.parent.name)
    for number, one in enumerate(images):
        name, image = one.get("file_name"), one.get("id")
        if not isinstance(name, str) or not name.strip() or not _is_plain(image):
            raise wrong(file, f"number {number} of its images has no file_name or no id", _COCO)
        folders = (file.parent, pictures.root / "images", *_split_folders(pictures.root, split))
        place = pictures.find(name, *folders) or pictures.expected(name, file.parent)
        its = tuple(marks.get(image, ()))
        size = size_of(one.get("width"), one.get("height"))
        if size is None:
            size = next(((float(m.runs.width), float(m.runs.height)) for m in its if m.runs is not None), None)
        yield Annotated(place, its, size, split, labelled=annotated and (bool(its) or image not in ignored))


def _split_folders(root: Path, split: str | None) -> list[Path]:
    """Returns the folders in which the images of a split usually lie."""
    places = [*folders_in(root), *folders_in(root / "images")]
    return [place for place in places if split is not None and split_in(place.name) == split]


def _is_plain(value: object) -> bool:
    return isinstance(value, (int, float, str))


def _coco_mark(one: dict[str, Any], classes: dict[object, str], remarks: Remarks, file: Path) -> Mark:
    category = one.get("category_id")
    name = classes.get(category) if _is_plain(category) else None
    if name is None:
        remarks.add("class", f"category_id {category!r} in {file.name}")
        name = f"category {category}"
    box, damaged = None, False
    if one.get("bbox"):
        numbers = points_of(one["bbox"]) if isinstance(one["bbox"], list) else None
        if numbers is None or len(numbers) != 2:
            damaged = True
        else:
            (x, y), (width, height) = numbers.tolist()
            box = box_of([x, y, x + width, y + height])
    segments = one.get("segmentation")
    polygons: list[Points] = []
    runs = None
    if isinstance(segments, dict):
        runs = coco_runs(segments)
        damaged = damaged or runs is None
    elif isinstance(segments, list) and segments:
        parts = [points_of(part) for part in (segments if isinstance(segments[0], list) else [segments])]
        polygons = [part for part in parts if part is not None and len(part) >= 3]
        damaged = damaged or len(polygons) < len(parts)
    return Mark(
        name, box, tuple(polygons), runs=runs, damaged=damaged and box is None and not polygons and runs is None
    )


def coco_runs(segment: dict[str, Any]) -> Runs | None:
    """Returns the run lengths of a COCO segmentation, compressed or not; None where they mean nothing.

    Reference:
        cocoapi, maskApi.c, rleFrString: 5 bits a character from "0" on, the sixth says that more follow; from the
        fourth run on the difference to the run before last is stored.
    """
    counts, size = segment.get("counts"), segment.get("size")
    if not (isinstance(size, list) and len(size) == 2 and all(isinstance(side, int) for side in size)):
        return None
    try:
        if isinstance(counts, str):
            lengths: list[int] = []
            value = shift = 0
            for character in counts.encode("ascii"):
                bits = character - 48
                value |= (bits & 31) << shift
                shift += 5
                if shift > 60:
                    return None
                if not bits & 32:
                    value -= (1 << shift) if bits & 16 else 0
                    lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
                    value = shift = 0
            counts = lengths
        if not isinstance(counts, list) or not all(isinstance(count, int) for count in counts):
            return None
        return Runs(np.array(counts, np.int64), size[1], size[0], by_column=True)
    except (ValueError, TypeError, OverflowError):
        return None

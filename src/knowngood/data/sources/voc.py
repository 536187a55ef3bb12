"""The `voc` source: Pascal VOC, an XML file a photograph."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
from PIL import Image

from knowngood.data.sources import Listing
from knowngood.data.sources.annotated_files import (
    LOOKS,
    Pictures,
    files_below,
    files_in,
    has_class_folders,
    number_of,
    places_in,
    read_text,
    size_of,
    split_above,
    text_head,
    wrong,
    xml_elements,
)
from knowngood.data.sources.annotations import Annotated, Remarks, listing
from knowngood.data.sources.marks import Mark, Points, Runs, box_of, points_of, rectangle, runs_of
from knowngood.data.sources.walking import folders_in
from knowngood.data.words import is_mask_name

_VOC = "Pascal VOC: <annotation><filename/><size/><object><name/><bndbox><xmin/>..."
_VOID, _VOID_COLOUR = 255, (224, 224, 192)  # in a VOC mask: the seam between object and background


class VocSource:
    """Reads Pascal VOC: an XML file a photograph, in `Annotations/` or beside it, and the splits of `ImageSets/`.

    Boxes count pixels from 1 and hold their last pixel, as the format has it; where some box begins at 0, they are
    taken as they are. Masks in `SegmentationClass/` or `SegmentationObject/` give the shape within a box.
    """

    summary = "Pascal VOC: Annotations/*.xml, JPEGImages/, optional ImageSets/Main; or each XML beside its image"

    def recognises(self, path: Path) -> bool:
        """Returns whether some folder in `path` holds a VOC file, and no class folders do."""
        if not path.is_dir() or has_class_folders(path):
            return False
        places = places_in(path, "annotations", "xml", "labels", "images", "jpegimages")
        places += [p for folder in folders_in(path)[:LOOKS] for p in folders_in(folder) if p.name == "Annotations"]
        return any(_is_voc(file) for place in places for file in files_in(place, ".xml", most=LOOKS))

    def read(self, path: Path) -> Listing:
        """Lists the photographs of all XML files and of `ImageSets`; one without a file is good.

        Raises:
            DataError: An XML file is damaged, or there are no photographs.
            StorageError: The user's cache cannot be written.
        """
        remarks = Remarks()
        pictures = Pictures(path, _holds_voc_masks)
        splits = _image_sets(pictures.root)
        read = [one for file in files_below(pictures.root, ".xml") for one in _voc_files(file, remarks)]
        from_one = all(min(box) >= 1 for one in read for _, box, _ in one.objects if box is not None)
        found: dict[Path, Annotated] = {}
        for one in read:
            image = _voc_image(one, pictures)
            split = splits.get(one.file.stem) or splits.get(image.stem) or split_above(one.file, pictures.root)
            split = split or split_above(image, pictures.root)
            marks = _voc_marks(one, image, from_one)
            if image in found:
                remarks.add("twice", image.name)
                marks = (*found[image].marks, *marks)
            found[image] = Annotated(image, marks, one.size, split)
        for image in pictures.files:
            listed = splits.get(image.stem)
            if image not in found and (listed is not None or not splits):
                found[image] = Annotated(image, split=listed or split_above(image, pictures.root))
                remarks.add("no file", image.name)
        return listing(list(found.values()), pictures, remarks, "the VOC files", lists_all=True)


@dataclass(frozen=True)
class _VocFile:
    """One XML file: what it says of its photograph, and class, box as written and outline of each object."""

    file: Path
    name: str | None
    size: tuple[float, float] | None
    objects: tuple[tuple[str, tuple[float, ...] | None, Points | None], ...]


def _is_voc(file: Path) -> bool:
    return re.search(r"<annotation[\s>]", text_head(file)[:4096]) is not None


def _holds_voc_masks(folder: str) -> bool:
    return is_mask_name(folder) or folder.lower().startswith("segmentation")


def _voc_files(file: Path, remarks: Remarks) -> Iterator[_VocFile]:
    seen = False
    for root in xml_elements(file, ("annotation",), _VOC):
        seen = True
        objects = []
        for one in root.findall("object"):
            name = (one.findtext("name") or "").strip()
            if not name:
                raise wrong(file, "one of its objects has no name", _VOC)
            corners = [number_of(one.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")]
            box = tuple(corner for corner in corners if corner is not None)
            objects.append((name, box if len(box) == 4 else None, _voc_outline(one)))
        size = size_of(root.findtext("size/width"), root.findtext("size/height"))
        yield _VocFile(file, (root.findtext("filename") or "").strip() or None, size, tuple(objects))
    if not seen:
        remarks.add("foreign", file.name)


def _voc_outline(one: Element) -> Points | None:
    """Returns the polygon x1, y1, x2, y2 ... of an object, or the corners of its turned box (angle in radians)."""
    polygon, turned = one.find("polygon"), one.find("robndbox")
    if polygon is not None:
        values = [polygon.findtext(f"{axis}{i}") for i in range(1, len(polygon) // 2 + 1) for axis in "xy"]
        if not values or None in values:  # LabelMe's older way: <pt><x/><y/></pt>
            values = [pt.findtext(axis) for pt in polygon.findall("pt") for axis in "xy"]
        points = points_of(values)
        return points if points is not None and len(points) >= 3 else None
    if turned is not None:
        x, y, width, height, angle = (number_of(turned.findtext(key)) for key in ("cx", "cy", "w", "h", "angle"))
        if x is not None and y is not None and width is not None and height is not None:
            return rectangle(
                x - width / 2, y - height / 2, width, height, float(np.degrees(angle or 0)), about_centre=True
            )
    return None


def _voc_image(one: _VocFile, pictures: Pictures) -> Path:
    """Returns the photograph of an XML file: that of its stem beside it or among the images, or that which it names."""
    folder = one.file.parent
    beside = [folder, *(folder.parent / name for name in ("JPEGImages", "images", "Images", "img", "imgs"))]
    place = pictures.with_stem(one.file, *beside)
    if place is None and folder.name != "Annotations":  # nested alike: Annotations/a/1.xml and JPEGImages/a/1.jpg
        parts = one.file.relative_to(pictures.root).parts[:-1]
        swapped = ["JPEGImages" if part == "Annotations" else part for part in parts]
        place = pictures.with_stem(one.file, pictures.root.joinpath(*swapped))
    if place is None and one.name is not None:
        place = pictures.find(one.name, *beside)
    return place or pictures.expected(one.name or f"{one.file.stem}.jpg", beside[1] if len(beside) > 1 else folder)


def _voc_marks(one: _VocFile, image: Path, from_one: bool) -> tuple[Mark, ...]:
    marks = []
    whole = _voc_mask(one.file, image)
    for name, box, outline in one.objects:
        if box is None or box_of(box) is None:
            marks.append(Mark(name, polygons=() if outline is None else (outline,), damaged=outline is None))
            continue
        x0, y0, x1, y1 = min(box[0], box[2]), min(box[1], box[3]), max(box[0], box[2]), max(box[1], box[3])
        corners = (x0 - from_one, y0 - from_one, x1, y1)
        runs = None if whole is None or outline is not None else _within(whole, corners)
        marks.append(Mark(name, corners, () if outline is None else (outline,), runs=runs))
    return tuple(marks)


def _voc_mask(file: Path, image: Path) -> np.ndarray[Any, np.dtype[np.bool_]] | None:
    """Returns the pixels (H, W) of all objects of an image, where the set has a bitmap of them."""
    for folder in ("SegmentationClass", "SegmentationObject"):
        place = file.parent.parent / folder / f"{image.stem}.png"
        if place.is_file():
            try:
                with Image.open(place) as bitmap:
                    values = np.asarray(bitmap)
            except Exception:  # decoders raise nearly anything on damaged bytes
                return None
            if values.ndim == 3:
                return np.asarray((values[..., :3] > 0).any(axis=2) & (values[..., :3] != _VOID_COLOUR).any(axis=2))
            return np.asarray((values > 0) & (values != _VOID if values.dtype == np.uint8 else True))
    return None


def _within(whole: np.ndarray[Any, np.dtype[np.bool_]], box: tuple[float, float, float, float]) -> Runs | None:
    """Returns the part of a bitmap that lies in a box; None where it is empty there."""
    height, width = whole.shape
    x0, y0 = (max(0, int(side)) for side in box[:2])
    part = whole[y0 : min(height, int(np.ceil(box[3]))), x0 : min(width, int(np.ceil(box[2])))]
    return runs_of(part, x0, y0) if part.any() else None


def _image_sets(root: Path) -> dict[str, str]:
    """Returns the split of each image that the lists of `ImageSets/` name, by its stem."""
    found: dict[str, str] = {}
    bases = [root, *folders_in(root), *(inner for folder in folders_in(root)[:LOOKS] for inner in folders_in(folder))]
    for base in bases:
        for folder in folders_in(base / "ImageSets"):
            for stem, split in (("train", "train"), ("val", "val"), ("test", "test"), ("trainval", "train")):
                file = folder / f"{stem}.txt"
                for line in read_text(file).splitlines() if file.is_file() else ():
                    image = re.sub(r"\s+-?[01]$", "", line.strip())
                    if image:
                        found.setdefault(Path(image.replace("\\", "/")).name, split)
    return found

"""The sources `yolo`, `voc` and `cvat`: annotations in text and XML files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
import yaml
from PIL import Image

from knowngood.data.sources import Listing
from knowngood.data.sources.annotations import (
    LOOKS,
    Annotated,
    Pictures,
    Remarks,
    files_below,
    files_in,
    has_class_folders,
    head_of,
    is_mask_name,
    listing,
    number_of,
    places_in,
    size_of,
    split_above,
    split_in,
    subfolders,
    wrong,
    xml_elements,
)
from knowngood.data.sources.marks import Mark, Points, Runs, box_of, ellipse, points_of, rectangle, runs_of
from knowngood.data.words import split_of
from knowngood.errors import DataError

_YOLO = '"class x y width height" or "class x1 y1 x2 y2 x3 y3 ..." a line, coordinates as fractions 0..1'
_YOLO_LINE = re.compile(r"\s*\d+(\.0+)?(\s+-?[\d.]+(e-?\d+)?){4,}\s*(\r?\n|$)", re.IGNORECASE)
_YAML = "a YOLO data.yaml: names as a list or as number: name, and optional path, train, val, test"
_YAML_NAMES = re.compile(r"^names\s*:", re.MULTILINE)
_YAML_PARTS = re.compile(r"^(train|val|test|nc|path)\s*:", re.MULTILINE)
_NAME_FILES = ("classes.txt", "obj.names", "_darknet.labels", "predefined_classes.txt")
_FRACTIONS = (1.0, 1.0)
_VOC = "Pascal VOC: <annotation><filename/><size/><object><name/><bndbox><xmin/>..."
_CVAT = 'CVAT for images 1.1: <annotations><image name="..." width="..." height="..."><box label="..." xtl=... />'
_VOID, _VOID_COLOUR = 255, (224, 224, 192)  # in a VOC mask: the seam between object and background


class YoloSource:
    """Reads YOLO label files, one a photograph: boxes and polygons, with `data.yaml`, `classes.txt` or `obj.names`."""

    summary = "YOLO: labels/*.txt beside images/, or each beside its image; data.yaml or classes.txt; optional splits"

    def recognises(self, path: Path) -> bool:
        """Says whether `path` is a data.yaml, or a folder with YOLO label files and without class folders."""
        if path.is_file():
            return path.suffix.lower() in (".yaml", ".yml") and _is_yolo_yaml(path)
        if not path.is_dir() or has_class_folders(path):
            return False
        places = places_in(path, "labels", "images", "obj_train_data", "data")
        return bool(_yaml_in(path)) or any(
            _YOLO_LINE.match(head_of(file)) is not None and _belongs(file)
            for place in places
            for file in files_in(place, ".txt", most=LOOKS)
        )

    def read(self, path: Path) -> Listing:
        """Lists the photographs of all splits; one without a label file is good where its split has such files.

        Raises:
            DataError: A label file or the data.yaml is damaged, or there are no label files.
            StorageError: The user's cache cannot be written.
        """
        remarks = Remarks()
        file = path if path.is_file() else _yaml_in(path)
        root = path.absolute().parent if path.is_file() else path
        facts = _Facts() if file is None else _facts_of(file)
        pictures = Pictures(_root_of(root, facts), remarks, lambda folder: is_mask_name(folder) or folder == "labels")
        names = facts.names or _names_in(pictures.root)
        parts = _yaml_parts(file, facts, pictures) if file is not None else {}
        parts = parts or _listed_parts(pictures) or {one: split_above(one, pictures.root) for one in pictures.files}
        labels = {one: _label_file(one, pictures.root) for one in parts}
        there = {parts[one] for one, label in labels.items() if label is not None}
        if not there:
            expected = f"labels/NAME.txt, or NAME.txt beside each image: {_YOLO}"
            raise wrong(path, "its images have no label files", expected)
        found = []
        for one, split in parts.items():
            label = labels[one]
            if label is None and split in there:
                remarks.add("no file", one.name)
            marks = () if label is None else tuple(_yolo_marks(label, names, facts.keypoints, remarks))
            found.append(Annotated(one, marks, _FRACTIONS, split, labelled=split in there))
        used = {label for label in labels.values() if label is not None}
        for label in files_below(pictures.root, ".txt"):
            if label not in used and _YOLO_LINE.match(head_of(label)) is not None:
                remarks.add("orphan", label.name)
        return listing(found, pictures, remarks, "the YOLO labels", lists_all=True)


@dataclass(frozen=True)
class _Facts:
    """What a data.yaml says."""

    names: dict[int, str] = field(default_factory=dict)
    parts: dict[str, list[str]] = field(default_factory=dict)
    path: str | None = None
    keypoints: bool = False


def _is_yolo_yaml(file: Path) -> bool:
    head = head_of(file)
    return _YAML_NAMES.search(head) is not None and _YAML_PARTS.search(head) is not None


def _yaml_in(path: Path) -> Path | None:
    return next((file for file in files_in(path, ".yaml", ".yml", most=LOOKS) if _is_yolo_yaml(file)), None)


def _belongs(label: Path) -> bool:
    """Says whether a text file is the label file of an image: in a folder labels, or beside an image of its stem."""
    if "labels" in (part.lower() for part in label.parts[-4:-1]):
        return True
    return any(file.suffix != label.suffix for file in label.parent.glob(f"{_escaped(label.stem)}.*"))


def _escaped(stem: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", stem)


def _facts_of(file: Path) -> _Facts:
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{str(file)!r} cannot be read as YAML: {error}.", expected=_YAML, fix="Correct it.") from error
    names = document.get("names") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(names, (list, dict)):
        raise wrong(file, "its key 'names' is missing or no list", _YAML)
    try:
        pairs = enumerate(names) if isinstance(names, list) else names.items()
        classes = {int(number): str(name) for number, name in pairs}
    except (TypeError, ValueError) as error:
        raise wrong(file, "the keys of its 'names' are no numbers", _YAML) from error
    parts = {}
    for key in ("train", "val", "valid", "validation", "test"):
        value, split = document.get(key), split_of(key)
        if value and split is not None:
            parts[split] = [str(one) for one in (value if isinstance(value, list) else [value])]
    place = document.get("path")
    return _Facts(classes, parts, str(place) if place else None, bool(document.get("kpt_shape")))


def _root_of(folder: Path, facts: _Facts) -> Path:
    """Returns the folder with the images: that of the data.yaml, or what it names as path, if that is there."""
    if facts.path is None or any(folder.joinpath(one).exists() for parts in facts.parts.values() for one in parts):
        return folder
    named = folder / facts.path.replace("\\", "/")
    return named if named.is_dir() else folder


def _yaml_parts(file: Path, facts: _Facts, pictures: Pictures) -> dict[Path, str | None]:
    """Returns the images that a data.yaml names, with their splits; none where its paths lead nowhere."""
    found: dict[Path, str | None] = {}
    for split, entries in facts.parts.items():
        for entry in entries:
            place = _place_of(entry.replace("\\", "/"), file.absolute().parent, pictures.root)
            if place is None:
                continue
            if place.is_dir():
                inside = [one for one in pictures.files if place in one.parents]
            else:
                inside = _in_list(place, pictures)
            found |= {one: split for one in inside if one not in found}
    return found


def _place_of(entry: str, *folders: Path) -> Path | None:
    """Returns the folder or list of an entry; of one from another machine its last parts that are here."""
    parts = [part for part in entry.split("/") if part not in ("", ".")]
    for folder in folders:
        for start in range(len(parts)):
            place = folder.joinpath(*parts[start:])
            if place.exists() and ".." not in parts[start:]:
                return place
    plain = folders[0] / entry
    return plain.resolve() if plain.exists() else None


def _in_list(file: Path, pictures: Pictures) -> list[Path]:
    """Returns the images that a text file lists, a path a line."""
    lines = [line.strip() for line in text_of(file).splitlines() if line.strip()]
    found = [pictures.find(line, file.parent) or pictures.expected(line, file.parent) for line in lines]
    return list(dict.fromkeys(found))


def text_of(file: Path) -> str:
    """Returns a whole text file.

    Raises:
        DataError: It cannot be read.
    """
    try:
        return file.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise DataError(f"{str(file)!r} cannot be read: {error.strerror}.", fix="Check its permissions.") from error


def _listed_parts(pictures: Pictures) -> dict[Path, str | None]:
    """Returns the images that train.txt, valid.txt, test.txt ... in the root list, as darknet has it."""
    found: dict[Path, str | None] = {}
    for file in files_in(pictures.root, ".txt"):
        split = split_of(file.stem)
        if split is not None and _YOLO_LINE.match(head_of(file)) is None:
            found |= {one: split for one in _in_list(file, pictures) if one not in found}
    return found


def _names_in(root: Path) -> dict[int, str]:
    """Returns the classes of classes.txt or obj.names, a name a line; none where there is no such file."""
    for folder in (root, root / "labels", root / "data", *subfolders(root), *subfolders(root / "labels")):
        for name in _NAME_FILES:
            if (folder / name).is_file():
                return dict(enumerate(line.strip() for line in text_of(folder / name).splitlines()))
    return {}


def _label_file(image: Path, root: Path) -> Path | None:
    """Returns the label file of an image: in labels/ for one in images/, beside it, or in labels/ beside it."""
    inside = image.relative_to(root) if image.is_relative_to(root) else Path(image.name)
    parts = list(inside.parts)
    name = f"{Path(parts[-1].split('#page=')[0]).stem}.txt"
    tried = []
    for at in range(len(parts) - 2, -1, -1):
        if parts[at].lower() == "images":
            tried.append(root.joinpath(*parts[:at], "labels", *parts[at + 1 : -1], name))
    tried += [image.parent / name, image.parent / "labels" / name, root / "labels" / inside.parent / name]
    return next((file for file in tried if file.is_file()), None)


def _yolo_marks(file: Path, names: dict[int, str], keypoints: bool, remarks: Remarks) -> Iterator[Mark]:
    for number, line in enumerate(text_of(file).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        values = [number_of(word) for word in words]
        numbers = [value for value in values if value is not None]
        if len(numbers) < 5 or len(numbers) < len(values) or numbers[0] != int(numbers[0]):
            raise wrong(file, f"line {number} is {line.strip()[:60]!r}", _YOLO)
        name = names.get(int(numbers[0]))
        if name is None:
            if names:
                remarks.add("class", f"class {int(numbers[0])} in {file.name}")
            name = f"class {int(numbers[0])}"
        x, y, width, height = numbers[1:5]
        if len(numbers) in (5, 6) or keypoints:  # the sixth is a confidence
            yield Mark(name, box_of([x - width / 2, y - height / 2, x + width / 2, y + height / 2]))
        else:
            points = points_of(numbers[1:])
            yield Mark(name, damaged=True) if points is None else Mark(name, polygons=(points,))


class VocSource:
    """Reads Pascal VOC: an XML file a photograph, in `Annotations/` or beside it, and the splits of `ImageSets/`.

    Boxes count pixels from 1 and hold their last pixel, as the format has it; where some box begins at 0, they are
    taken as they are. Masks in `SegmentationClass/` or `SegmentationObject/` give the shape within a box.
    """

    summary = "Pascal VOC: Annotations/*.xml, JPEGImages/, optional ImageSets/Main; or each XML beside its image"

    def recognises(self, path: Path) -> bool:
        """Says whether some folder in `path` holds a VOC file, and no class folders do."""
        if not path.is_dir() or has_class_folders(path):
            return False
        places = places_in(path, "annotations", "xml", "labels", "images", "jpegimages")
        places += [p for folder in subfolders(path)[:LOOKS] for p in subfolders(folder) if p.name == "Annotations"]
        return any(_is_voc(file) for place in places for file in files_in(place, ".xml", most=LOOKS))

    def read(self, path: Path) -> Listing:
        """Lists the photographs of all XML files and of `ImageSets`; one without a file is good.

        Raises:
            DataError: An XML file is damaged, or there are no photographs.
            StorageError: The user's cache cannot be written.
        """
        remarks = Remarks()
        pictures = Pictures(path, remarks, _holds_voc_masks)
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
    return re.search(r"<annotation[\s>]", head_of(file)[:4096]) is not None


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
    bases = [root, *subfolders(root), *(inner for folder in subfolders(root)[:LOOKS] for inner in subfolders(folder))]
    for base in bases:
        for folder in subfolders(base / "ImageSets"):
            for stem, split in (("train", "train"), ("val", "val"), ("test", "test"), ("trainval", "train")):
                file = folder / f"{stem}.txt"
                for line in text_of(file).splitlines() if file.is_file() else ():
                    image = re.sub(r"\s+-?[01]$", "", line.strip())
                    if image:
                        found.setdefault(Path(image.replace("\\", "/")).name, split)
    return found


class CvatSource:
    """Reads an XML file "CVAT for images 1.1": boxes, polygons, lines, ellipses, masks and tags."""

    summary = "CVAT for images 1.1: annotations.xml, the file itself or the folder with it and the photographs"

    def recognises(self, path: Path) -> bool:
        """Says whether `path` is such a file, or a folder with one and without class folders."""
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
        pictures = Pictures(root.parent if root.name.lower() == "annotations" else root, remarks)
        found = [one for file in files for one in _cvat_images(file, pictures, remarks)]
        return listing(found, pictures, remarks, files[0].name, lists_all=True)


def _is_cvat(file: Path) -> bool:
    head = head_of(file)
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

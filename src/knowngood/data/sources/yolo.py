"""The `yolo` source: a text file of boxes and polygons a photograph, as Ultralytics, Roboflow and darknet have it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

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
    split_above,
    text_head,
    wrong,
)
from knowngood.data.sources.annotations import Annotated, Remarks, listing
from knowngood.data.sources.marks import Mark, box_of, points_of
from knowngood.data.sources.walking import folders_in
from knowngood.data.words import is_mask_name, split_of
from knowngood.errors import DataError

_YOLO = '"class x y width height" or "class x1 y1 x2 y2 x3 y3 ..." a line, coordinates as fractions 0..1'
_YOLO_LINE = re.compile(r"\s*\d+(\.0+)?(\s+-?[\d.]+(e-?\d+)?){4,}\s*(\r?\n|$)", re.IGNORECASE)
_YAML = "a YOLO data.yaml: names as a list or as number: name, and optional path, train, val, test"
_YAML_NAMES = re.compile(r"^names\s*:", re.MULTILINE)
_YAML_PARTS = re.compile(r"^(train|val|test|nc|path)\s*:", re.MULTILINE)
_NAME_FILES = ("classes.txt", "obj.names", "_darknet.labels", "predefined_classes.txt")
_FRACTIONS = (1.0, 1.0)


class YoloSource:
    """Reads YOLO label files, one a photograph: boxes and polygons, with `data.yaml`, `classes.txt` or `obj.names`."""

    summary = "YOLO: labels/*.txt beside images/, or each beside its image; data.yaml or classes.txt; optional splits"

    def recognises(self, path: Path) -> bool:
        """Returns whether `path` is a data.yaml, or a folder with YOLO label files and without class folders."""
        if path.is_file():
            return path.suffix.lower() in (".yaml", ".yml") and _is_yolo_yaml(path)
        if not path.is_dir() or has_class_folders(path):
            return False
        places = places_in(path, "labels", "images", "obj_train_data", "data")
        return bool(_yaml_in(path)) or any(
            _YOLO_LINE.match(text_head(file)) is not None and _belongs(file)
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
        pictures = Pictures(_root_of(root, facts), lambda folder: is_mask_name(folder) or folder == "labels")
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
            if label not in used and _YOLO_LINE.match(text_head(label)) is not None:
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
    head = text_head(file)
    return _YAML_NAMES.search(head) is not None and _YAML_PARTS.search(head) is not None


def _yaml_in(path: Path) -> Path | None:
    return next((file for file in files_in(path, ".yaml", ".yml", most=LOOKS) if _is_yolo_yaml(file)), None)


def _belongs(label: Path) -> bool:
    """Returns whether a text file is the label file of an image: in a folder labels, or beside an image of its stem."""
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
    """Returns the folder with the images: that of the data.yaml, or where its paths lead, as far as they are there."""
    entries = [one.replace("\\", "/") for parts in facts.parts.values() for one in parts]
    relative = [one for one in entries if not Path(one).is_absolute()]
    if any(one.startswith("../") and not (folder / one[3:]).exists() and (folder / one).exists() for one in relative):
        return folder.parent
    if any((folder / one).exists() for one in relative):
        return folder
    if facts.path is not None and (named := folder / facts.path.replace("\\", "/")).is_dir():
        return named
    absolute = [one for one in entries if Path(one).is_absolute() and Path(one).is_dir()]
    if not absolute:
        return folder
    top = Path(os.path.commonpath(absolute))
    while top.name.lower() == "images" or split_of(top.name) is not None:
        top = top.parent
    return top if len(top.parts) > 2 else folder  # never a whole disk


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
    lines = [line.strip() for line in read_text(file).splitlines() if line.strip()]
    found = [pictures.find(line, file.parent) or pictures.expected(line, file.parent) for line in lines]
    return list(dict.fromkeys(found))


def _listed_parts(pictures: Pictures) -> dict[Path, str | None]:
    """Returns the images that train.txt, valid.txt, test.txt ... in the root list, as darknet has it."""
    found: dict[Path, str | None] = {}
    for file in files_in(pictures.root, ".txt"):
        split = split_of(file.stem)
        if split is not None and _YOLO_LINE.match(text_head(file)) is None:
            found |= {one: split for one in _in_list(file, pictures) if one not in found}
    return found


def _names_in(root: Path) -> dict[int, str]:
    """Returns the classes of classes.txt or obj.names, a name a line; none where there is no such file."""
    for folder in (root, root / "labels", root / "data", *folders_in(root), *folders_in(root / "labels")):
        for name in _NAME_FILES:
            if (folder / name).is_file():
                return dict(enumerate(line.strip() for line in read_text(folder / name).splitlines()))
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
    for number, line in enumerate(read_text(file).splitlines(), 1):
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

"""The sources `coco`, `labelme` and `label-studio`: annotations in JSON files."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from knowngood.data.budget import MAX_PIXELS
from knowngood.data.images import decode
from knowngood.data.records import BAD, table
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
    read_json,
    size_of,
    split_above,
    split_in,
    subfolders,
    wrong,
)
from knowngood.data.sources.folder import FolderSource
from knowngood.data.sources.marks import Bits, Mark, Points, Runs, box_of, ellipse, points_of, rectangle, runs_of
from knowngood.data.words import defect_of
from knowngood.errors import ImageError
from knowngood.files import cache_folder, whole_file

_COCO = (
    'COCO JSON: {"images": [{"id", "file_name"}], "annotations": [{"image_id", "category_id", "bbox"}], "categories"}'
)
_COCO_HEAD = re.compile(r'\s*\{.*"(images|annotations|categories)"\s*:\s*\[', re.DOTALL)
_COCO_KEYS = re.compile(r'"(file_name|image_id|category_id|supercategory|licenses|categories)"\s*:')
_LABELME = 'LabelMe JSON: {"imagePath": "x.png", "shapes": [{"label", "points", "shape_type"}], ...}'
_LABELME_KEYS = re.compile(r'"shapes"\s*:\s*\[')
_FOLDERS = 30  # of one folder that are looked into
_STUDIO = 'Label Studio\'s export "JSON": [{"data": {"image": "..."}, "annotations": [{"result": [...]}]}]'
_STUDIO_HEAD = re.compile(r'\s*\[\s*\{.*"(annotations|completions)"\s*:.*', re.DOTALL)


class CocoSource:
    """Reads `annotations/instances_*.json`, `_annotations.coco.json` in split folders, or a COCO file that is named."""

    summary = "COCO JSON: instances_*.json, train/_annotations.coco.json, or the file itself"

    def recognises(self, path: Path) -> bool:
        """Says whether `path` is a COCO file, or a folder with one and without class folders."""
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
        root = _root_of(path) if path.is_file() else path
        remarks = Remarks()
        pictures = Pictures(root, remarks)
        found = [one for file in files for one in _coco_images(file, pictures, remarks)]
        return listing(found, pictures, remarks, files[0].name, lists_all=True)

    def _files(self, path: Path) -> list[Path]:
        places = places_in(path, "annotations", "annotation", "labels", "images")
        files = [f for place in places for f in files_in(place, ".json", most=LOOKS) if _is_coco(f)]
        chosen = [f for f in files if f.name.lower().startswith("instances")]
        return chosen or files


def _is_coco(file: Path) -> bool:
    head = head_of(file)
    return _COCO_HEAD.match(head) is not None and _COCO_KEYS.search(head) is not None and '"segments_info"' not in head


def _root_of(file: Path) -> Path:
    """Returns the folder of a set whose annotations may lie in a folder of their own."""
    folder = file.absolute().parent
    return folder.parent if folder.name.lower() in ("annotations", "annotation", "labels") else folder


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
    classes = {
        one.get("id"): str(one.get("name"))
        for one in document.get("categories") or ()
        if isinstance(one, dict) and _is_plain(one.get("id"))
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
    places = [*subfolders(root), *subfolders(root / "images")]
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


class LabelmeSource:
    """Reads one JSON file a photograph, beside it or in a folder of their own.

    Where class folders say what is good and what is bad they are believed, and the files give boxes and masks.
    """

    summary = "LabelMe JSON beside the photographs, which may lie in class folders: these then give the labels"

    def recognises(self, path: Path) -> bool:
        """Says whether some folder in `path` holds a LabelMe file."""
        return path.is_dir() and any(
            _LABELME_KEYS.search(head_of(file)) or _ends_as_labelme(file)
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
        pictures = Pictures(path, remarks, _holds_no_photographs)
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
    for first in subfolders(path)[:_FOLDERS]:
        yield first
        for second in subfolders(first)[:_FOLDERS]:
            yield second
            yield from subfolders(second)[:_FOLDERS]


def _ends_as_labelme(file: Path) -> bool:
    """Says whether the keys stand behind the pixels of the photograph, as some programs write them."""
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
            place = _embedded(file, document["imageData"])
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


def _embedded(file: Path, text: object) -> Path:
    """Writes the photograph that a LabelMe file carries into the user's cache."""
    try:
        data = base64.b64decode(str(text).rsplit(",", 1)[-1], validate=False)
    except (ValueError, binascii.Error) as error:
        raise wrong(file, f"its imageData are no base64 ({error})", _LABELME) from error
    suffix = ".jpg" if data.startswith(b"\xff\xd8") else ".png"
    place = cache_folder("photographs") / f"{hashlib.sha256(data).hexdigest()}{suffix}"
    if not place.is_file():
        with whole_file(place) as scratch:
            scratch.write_bytes(data)
    return place.absolute()


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
        bits = _bits_of(str(shape.get("mask") or ""))
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


def _bits_of(text: str) -> Bits | None:
    """Returns the bitmap (H, W) of a PNG in base64, with or without "data:image/png;base64," before it."""
    try:
        pixels = decode(base64.b64decode(text.rsplit(",", 1)[-1]), name="a mask in an annotation")
    except (ValueError, binascii.Error, ImageError):
        return None
    return np.asarray((pixels if pixels.ndim == 2 else pixels.max(axis=2)) > 0)


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


class LabelStudioSource:
    """Reads Label Studio's export "JSON", beside or above the photographs."""

    summary = 'Label Studio\'s export "JSON", the file itself or the folder with it and the photographs'

    def recognises(self, path: Path) -> bool:
        """Says whether `path` is such an export, or a folder with one and without class folders."""
        if path.is_file():
            return path.suffix.lower() == ".json" and _is_studio(path)
        return path.is_dir() and not has_class_folders(path) and bool(_studio_files(path))

    def read(self, path: Path) -> Listing:
        """Lists the photographs of all tasks; a task that was submitted without a region is good.

        Raises:
            DataError: There is no export, or it is damaged.
            StorageError: The user's cache cannot be written.
        """
        files = [path] if path.is_file() else _studio_files(path)
        if not files:
            raise wrong(path, "there is no export of Label Studio", _STUDIO)
        remarks = Remarks()
        pictures = Pictures(_root_of(path) if path.is_file() else path, remarks)
        skipped: set[Path] = set()
        found = [one for file in files for one in _studio_images(file, pictures, skipped, remarks)]
        return listing(_decided(found, skipped, remarks), pictures, remarks, files[0].name, lists_all=True)


def _is_studio(file: Path) -> bool:
    head = head_of(file)
    return _STUDIO_HEAD.match(head) is not None and ('"data"' in head or '"result"' in head)


def _studio_files(path: Path) -> list[Path]:
    return [
        f for place in places_in(path, "annotations") for f in files_in(place, ".json", most=LOOKS) if _is_studio(f)
    ]


def _decided(found: Sequence[Annotated], skipped: set[Path], remarks: Remarks) -> list[Annotated]:
    """Takes tasks without any annotation for good where nobody submitted an empty one, as people do who only draw."""
    if any(one.labelled and not one.marks for one in found):
        return list(found)
    untouched = [one.file for one in found if not one.labelled and one.file not in skipped]
    for file in untouched:
        remarks.add("unfinished", file.name)
    return [replace(one, labelled=one.labelled or one.file not in skipped) for one in found]


def _studio_images(file: Path, pictures: Pictures, skipped: set[Path], remarks: Remarks) -> Iterator[Annotated]:
    tasks = read_json(file, _STUDIO)
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise wrong(file, "it is no list of tasks", _STUDIO)
    for number, task in enumerate(tasks):
        data, annotations = task.get("data"), task.get("annotations", task.get("completions"))
        if not isinstance(data, dict) or not isinstance(annotations, list):
            raise wrong(file, f"task {number} has no 'data' or no 'annotations'", _STUDIO)
        name = _picture_in(data)
        if name is None:
            raise wrong(file, f"the 'data' of task {number} name no image", _STUDIO)
        done = [a for a in annotations if isinstance(a, dict) and not a.get("was_cancelled") and not a.get("skipped")]
        place = pictures.find(name, file.parent, pictures.root / "images")
        place = place or pictures.expected(name, file.parent)
        if len(done) > 1:
            remarks.add("several", place.name)
        if annotations and not done:
            skipped.add(place)
        chosen = max(done, key=_rank, default=None)
        marks, size = ((), None) if chosen is None else _studio_marks(chosen, file, number, remarks)
        yield Annotated(place, marks, size, split_above(place, pictures.root), labelled=chosen is not None)


def _rank(annotation: dict[str, Any]) -> tuple[bool, str, float]:
    when = annotation.get("updated_at") or annotation.get("created_at") or ""
    return annotation.get("ground_truth") is True, str(when), number_of(annotation.get("id")) or 0


def _picture_in(data: dict[str, Any]) -> str | None:
    """Returns the value that names the photograph: that of the key image, else the first that looks like a file."""
    words = [value for key, value in data.items() if isinstance(value, str) and key in ("image", "img", "$undefined$")]
    words += [value for value in data.values() if isinstance(value, str) and re.search(r"\.\w{3,4}($|[?#])", value)]
    return next((word for word in words if word.strip()), None)


def _studio_marks(
    annotation: dict[str, Any], file: Path, number: int, remarks: Remarks
) -> tuple[tuple[Mark, ...], tuple[float, float] | None]:
    result = annotation.get("result")
    if not isinstance(result, list) or not all(isinstance(one, dict) for one in result):
        raise wrong(file, f"an annotation of task {number} has no list 'result'", _STUDIO)
    named: dict[object, str] = {}  # classes that stand apart from their regions, as with <Labels>
    for one in result:
        if one.get("type") == "labels" and (name := _class_in(one.get("value"))) is not None:
            named[one.get("id")] = name
    marks: list[Mark] = []
    size = None
    for one in result:
        value = one.get("value")
        if not isinstance(value, dict) or one.get("type") in ("labels", "relation"):
            continue
        size = size or size_of(one.get("original_width"), one.get("original_height"))
        name = _class_in(value) or named.get(one.get("id"))
        if name is None and one.get("type") in ("textarea", "rating", "number", "taxonomy", "datetime"):
            continue
        mark = _studio_mark(str(one.get("type")), name or "bad", value, one)
        if mark is None:
            remarks.add("kind", f"{one.get('type')} in task {number} of {file.name}")
        else:
            marks.append(mark)
    return tuple(marks), size


def _class_in(value: object) -> str | None:
    if isinstance(value, dict):
        for key, words in value.items():
            if (key.endswith("labels") or key == "choices") and isinstance(words, list) and words:
                return str(words[0])
    return None


def _studio_mark(kind: str, name: str, value: dict[str, Any], one: dict[str, Any]) -> Mark | None:
    """Returns one region in pixels; None for a kind that is not known."""
    if kind == "choices":
        return Mark(name)
    nowhere = Mark(name, damaged=True)
    size = size_of(one.get("original_width"), one.get("original_height"))
    if size is None:
        return nowhere
    wide, high = size[0] / 100, size[1] / 100  # coordinates are percent
    turn = number_of(value.get("rotation")) or 0
    x, y, width, height, radius_x, radius_y = (
        number_of(value.get(key)) for key in ("x", "y", "width", "height", "radiusX", "radiusY")
    )
    if kind.startswith("rectangle"):
        if x is None or y is None or width is None or height is None:
            return nowhere
        if not turn:
            return Mark(name, box_of([x * wide, y * high, (x + width) * wide, (y + height) * high]))
        corners = rectangle(x * wide, y * high, width * wide, height * high, turn, about_centre=False)
        return Mark(name, polygons=(corners,))
    if kind.startswith("ellipse"):
        if x is None or y is None or radius_x is None or radius_y is None:
            return nowhere
        return Mark(name, polygons=(ellipse(x * wide, y * high, radius_x * wide, radius_y * high, turn),))
    if kind.startswith(("polygon", "keypoint", "vector")):
        pairs = value.get("points") if kind.startswith("polygon") else [[x, y]]
        flat = (
            [n for p in pairs for n in p] if isinstance(pairs, list) and all(isinstance(p, list) for p in pairs) else []
        )
        points = points_of(flat)
        if points is None:
            return nowhere
        points = points * (wide, high)
        return Mark(name, polygons=(points,)) if len(points) >= 3 else Mark(name, lines=(points,))
    if kind.startswith("brush"):
        bits = studio_bits(value.get("rle"), round(size[0]), round(size[1]))
        return nowhere if bits is None else Mark(name, runs=runs_of(bits))
    if kind.startswith("bitmask"):
        bits = _bits_of(str(value.get("imageDataURL") or ""))
        return nowhere if bits is None else Mark(name, runs=runs_of(bits))
    return None


def studio_bits(rle: object, width: int, height: int) -> Bits | None:
    """Returns a bitmap (H, W) that was painted with Label Studio's brush; None where the numbers mean nothing.

    Args:
        rle: Bytes as numbers 0..255.
        width: Of the annotated picture, pixels.
        height: As `width`.

    Reference:
        label-studio-converter, brush.py, decode_rle: 32 bits for the number of values, 5 for their width less 1, four
        times 4 for the widths of lengths less 1; then runs of one bit (repeated?), two bits (which width), the length
        less 1, and one value or as many values. The values are RGBA; opaque is painted.
    """
    if not isinstance(rle, list) or width * height > MAX_PIXELS:
        return None
    try:
        text = "".join(f"{byte:08b}" for byte in bytes(rle))
    except (ValueError, TypeError):
        return None
    at = 0

    def take(count: int) -> int:
        nonlocal at
        at += count
        if at > len(text):
            raise ValueError("the run lengths end early")
        return int(text[at - count : at], 2)

    try:
        total, word = take(32), take(5) + 1
        sizes = [take(4) + 1 for _ in range(4)]
        if total != width * height * 4:
            return None
        values = np.zeros(total, np.uint8)
        place = 0
        while place < total:
            repeated = take(1)
            end = min(place + 1 + take(sizes[take(2)]), total)
            if repeated:
                values[place:end] = take(word) & 255
            else:
                values[place:end] = [take(word) & 255 for _ in range(end - place)]
            place = end
    except ValueError:
        return None
    return np.asarray(values.reshape(height, width, 4)[..., 3] > 0)

"""The `label-studio` source: Label Studio's export "JSON"."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from knowngood.data.budget import MAX_PIXELS
from knowngood.data.sources import Listing
from knowngood.data.sources.annotated_files import (
    LOOKS,
    Pictures,
    bits_of,
    embedded,
    files_in,
    has_class_folders,
    number_of,
    places_in,
    read_json,
    root_of,
    size_of,
    split_above,
    text_head,
    wrong,
)
from knowngood.data.sources.annotations import Annotated, Remarks, listing
from knowngood.data.sources.marks import Bits, Mark, box_of, ellipse, points_of, rectangle, runs_of

_STUDIO = 'Label Studio\'s export "JSON": [{"data": {"image": "..."}, "annotations": [{"result": [...]}]}]'
_IMAGE_NAME = re.compile(r"^data:image/|\.\w{3,4}($|[?#])")
_STUDIO_HEAD = re.compile(r'\s*\[\s*\{.*"(annotations|completions|annotation_id)"\s*:.*', re.DOTALL)


class LabelStudioSource:
    """Reads Label Studio's export "JSON", beside or above the photographs."""

    summary = 'Label Studio\'s export "JSON", the file itself or the folder with it and the photographs'

    def recognises(self, path: Path) -> bool:
        """Returns whether `path` is such an export, or a folder with one and without class folders."""
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
        pictures = Pictures(root_of(path) if path.is_file() else path)
        skipped: set[Path] = set()
        found = [one for file in files for one in _studio_images(file, pictures, skipped, remarks)]
        return listing(_decided(found, skipped, remarks), pictures, remarks, files[0].name, lists_all=True)


def _is_studio(file: Path) -> bool:
    head = text_head(file)
    return _STUDIO_HEAD.match(head) is not None and any(f'"{key}"' in head for key in ("data", "result", "annotator"))


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
        called = None
        if name.startswith("data:image/"):
            place = embedded(name, lambda what: wrong(file, what, _STUDIO))
            called = f"task {task.get('id', number)}{place.suffix}"
            remarks.add("embedded", called)
        else:
            place = pictures.find(name, file.parent, pictures.root / "images") or pictures.expected(name, file.parent)
        if len(done) > 1:
            remarks.add("several", place.name)
        if annotations and not done:
            skipped.add(place)
        chosen = max(done, key=_rank, default=None)
        marks, size = ((), None) if chosen is None else _studio_marks(chosen, file, number, remarks)
        split = split_above(place, pictures.root)
        yield Annotated(place, marks, size, split, labelled=chosen is not None, name=called)


def _rank(annotation: dict[str, Any]) -> tuple[bool, str, float]:
    when = annotation.get("updated_at") or annotation.get("created_at") or ""
    return annotation.get("ground_truth") is True, str(when), number_of(annotation.get("id")) or 0


def _picture_in(data: dict[str, Any]) -> str | None:
    """Returns the value that names the photograph: that of the key image, else the first that looks like a file."""
    words = [value for key, value in data.items() if isinstance(value, str) and key in ("image", "img", "$undefined$")]
    words += [value for value in data.values() if isinstance(value, str) and _IMAGE_NAME.search(value)]
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
        bits = bits_of(str(value.get("imageDataURL") or ""))
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

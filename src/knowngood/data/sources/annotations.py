"""What the sources of annotation formats share: finding their files and photographs, and rows made of their marks.

A photograph without a mark is good; one with marks is bad, and its defect is the class of the largest. Classes that
mean good ("ok", "background" ...) mark no defect.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree
from xml.parsers import expat

from PIL import Image

from knowngood.data.budget import MAX_PIXELS
from knowngood.data.header import SIDEWAYS
from knowngood.data.images import read_bytes
from knowngood.data.pages import split_page
from knowngood.data.records import BAD, GOOD, SPLITS, table
from knowngood.data.sources import Listing
from knowngood.data.sources.folder import FolderSource
from knowngood.data.sources.marks import Box, Frame, Mark, mask_file, placed, write_mask
from knowngood.data.sources.walking import Walker
from knowngood.data.words import defect_of, is_good_name, meaning_of, split_of
from knowngood.errors import DataError, ImageError
from knowngood.progress import track

HEAD = 1 << 16  # bytes of a file by which its format is recognised
LOOKS = 20  # files of one folder that are looked into
_SIDE_FILES = (".json", ".xml", ".txt", ".yaml", ".yml", ".names", ".data")
_WORKERS = 2
_ORIENTATION = 0x0112
_SAME_SHAPE = 0.02  # relative difference of aspect ratios up to which a photograph counts as the annotated one, resized
_NO_DEFECT = re.compile(r"_*(background|no[ _-]?(defects?|damage|error)|defect[ _-]?free)_*", re.IGNORECASE)
_UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)")  # what Label Studio puts before the name of an uploaded file

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


def is_mask_name(name: str) -> bool:
    """Says whether a folder of that name holds masks."""
    return meaning_of(name).kind == "masks"


class Pictures:
    """The image files below a folder, and which of them a name in an annotation means.

    Args:
        root: Folder.
        remarks: Gets the names that fit several files.
        left_out: Says of a folder's name whether no photographs lie in it; folders of masks by default.
    """

    def __init__(self, root: Path, remarks: Remarks, left_out: Callable[[str], bool] = is_mask_name) -> None:
        self.root, self._remarks = root.absolute(), remarks
        self.walker = Walker(expected=_SIDE_FILES)
        found = (file for file in self.walker.images(self.root))
        self.files = [file for file in found if not any(map(left_out, file.relative_to(self.root).parts[:-1]))]
        self._known = {Path(os.path.normpath(file)): file for file in self.files}
        self._suffixes = [s for s, _ in Counter(file.suffix.lower() for file in self.files).most_common()]
        self._named: dict[str, list[Path]] = {}
        for file in self.files:
            plain, page = split_page(file)
            for name in {file.name, Path(plain).name} if page == 1 else {file.name}:
                self._named.setdefault(name.lower(), []).append(file)

    def __contains__(self, file: Path) -> bool:
        return Path(os.path.normpath(file)) in self._known

    def find(self, name: str, *near: Path) -> Path | None:
        """Returns the file that a name in an annotation means, or None where there is none or it is doubtful.

        Args:
            name: A path with slashes or backslashes, relative, absolute or from another machine, or a URL.
            near: Folders to which it may be relative, the likeliest first; the root is tried as well.
        """
        spellings = _spellings(name)
        for spelling in spellings:
            for folder in (*near, self.root):
                file = Path(os.path.normpath(folder.absolute() / spelling))
                if file in self._known:
                    return self._known[file]
                if (first := file.with_name(f"{file.name}#page=1")) in self._known:
                    return self._known[first]
                if file.is_file():  # outside of the root
                    return file
        for spelling in spellings:
            if (file_or := self._by_tail(spelling, near)) is not None:
                return file_or
        return None

    def with_stem(self, file: Path, *folders: Path) -> Path | None:
        """Returns the picture with the stem of `file` in one of the folders, whatever its ending."""
        for folder in folders:
            for suffix in self._suffixes:
                for spelled in (suffix, suffix.upper()):
                    one = self._known.get(Path(os.path.normpath(folder / f"{file.stem}{spelled}")))
                    if one is not None:
                        return one
        return None

    def expected(self, name: str, folder: Path) -> Path:
        """Returns where a picture should lie that is not there."""
        return Path(os.path.normpath(folder.absolute() / (_spellings(name)[-1].lstrip("/") or "nameless")))

    def unlisted(self, found: Iterable[Annotated]) -> None:
        """Remarks on the pictures that no annotation lists."""
        listed = {one.file for one in found}
        for file in self.files:
            if file not in listed:
                self._remarks.add("unlisted", name_of(file, self.root))

    def _by_tail(self, spelling: str, near: Sequence[Path]) -> Path | None:
        """Finds the file that has the most last parts of its path in common with a name."""
        parts = [part for part in spelling.lower().split("/") if part not in ("", ".", "..")]
        if not parts:
            return None
        common: dict[int, list[Path]] = {}
        for file in self._named.get(parts[-1], ()):
            own = [part.lower() for part in file.relative_to(self.root).parts]
            count = next((i for i, (a, b) in enumerate(zip(own[-2::-1], parts[-2::-1], strict=False)) if a != b), None)
            common.setdefault(min(len(own), len(parts)) if count is None else count + 1, []).append(file)
        if not common:
            return None
        best = common[max(common)]
        if len(best) > 1:
            best = [file for file in best if any(folder.absolute() in file.parents for folder in near)] or best
        if len(best) > 1:
            self._remarks.add("ambiguous", spelling)
            return None
        return best[0]


def _spellings(name: str) -> list[str]:
    """Returns what a name may stand for, the likeliest first."""
    plain = name
    if re.match(r"[a-z][a-z0-9+.-]+://|/data/", name, re.IGNORECASE):
        parts = urlsplit(name)
        plain = unquote(parse_qs(parts.query).get("d", [parts.path])[0])
    slashed = plain.replace("\\", "/")
    found = [plain, slashed, unquote(slashed)]
    if (uploaded := _UPLOADED.fullmatch(found[-1].rsplit("/", 1)[-1])) is not None:
        found.append(uploaded[1])
    return [one for one in dict.fromkeys(found) if one and "\0" not in one]


def name_of(file: Path, root: Path) -> str:
    """Returns the name of an image within its set: its path below the root, or the whole path where it lies outside."""
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else file.as_posix()


def means_good(name: str) -> bool:
    """Says whether a class stands for parts without a defect."""
    return is_good_name(name.strip()) or _NO_DEFECT.fullmatch(name.strip()) is not None


def split_in(*names: str) -> str | None:
    """Returns the split that words in names stand for, for example in "instances_val2017.json"."""
    for name in names:
        for word in re.findall(r"[A-Za-z]+", name):
            if (split := split_of(word)) is not None:
                return split
    return None


def split_above(file: Path, root: Path) -> str | None:
    """Returns the split that a folder between the root and a file is named after."""
    parts = file.relative_to(root).parts[:-1] if file.is_relative_to(root) else ()
    return next((split for part in parts if (split := split_of(re.sub(r"[ _-]?\d+$", "", part))) is not None), None)


def has_class_folders(path: Path) -> bool:
    """Says whether the folders at `path` say what is good, so that annotations beside the images are not the labels."""
    return path.is_dir() and FolderSource().recognises(path)


def head_of(file: Path) -> str:
    """Returns the first characters of a text file; "" where it cannot be read."""
    try:
        with file.open("rb") as handle:
            data = handle.read(HEAD)
    except OSError:
        return ""
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    return data.decode(encoding, "replace")


def files_in(folder: Path, *suffixes: str, most: int | None = None) -> list[Path]:
    """Returns the visible files right inside a folder that end so, sorted; at most so many."""
    try:
        with os.scandir(folder) as entries:
            names = [e.name for e in entries if e.name.lower().endswith(suffixes) and not e.name.startswith(".")]
    except OSError:
        return []
    return [file for name in sorted(names)[:most] if (file := folder / name).is_file()]


def subfolders(path: Path) -> list[Path]:
    """Returns the visible folders right inside a folder, sorted, without a look at each of its files."""
    try:
        with os.scandir(path) as entries:
            names = [entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
    except OSError:
        return []
    return [path / name for name in sorted(names)]


def files_below(root: Path, *suffixes: str) -> list[Path]:
    """Returns the visible files below a folder that end so, sorted within each folder."""
    found = []
    for here, folders, files in os.walk(root):
        folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
        found += [Path(here, f) for f in sorted(files) if f.lower().endswith(suffixes) and not f.startswith(".")]
    return found


def places_in(path: Path, *names: str) -> list[Path]:
    """Returns a folder, its folders of the given names, and its split folders with their folders of those names."""
    found = [path]
    for folder in subfolders(path):
        if folder.name.lower() in names:
            found += [folder, *(p for p in subfolders(folder) if split_of(p.name) is not None)]
        elif split_of(folder.name) is not None:
            found += [folder, *(p for p in subfolders(folder) if p.name.lower() in names)]
    return found


def read_json(file: Path, expected: str) -> Any:
    """Reads a JSON file.

    Args:
        file: In UTF-8, -16 or -32.
        expected: What it should be, for the message.

    Raises:
        DataError: It cannot be read or is no JSON.
    """
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{str(file)!r} cannot be read as JSON: {str(error) or 'nested too deeply'}.",
            expected=expected,
            fix="Export it again.",
        ) from error


def wrong(file: Path, what: str, expected: str) -> DataError:
    """Returns the error for a file whose content is not as its format has it."""
    return DataError(f"{str(file)!r}: {what}.", expected=expected, fix="Export it again, or name another --source.")


def xml_elements(file: Path, wanted: Sequence[str], expected: str) -> Iterator[ElementTree.Element]:
    """Yields the elements of some names while an XML file is read; each is emptied when the next is asked for.

    Document type declarations are refused, and with them entities: a photograph's annotation needs neither, and they
    can name other files or expand to gigabytes.

    Raises:
        DataError: It cannot be read, is no XML, or declares a document type.
    """
    builder, ready, depth = ElementTree.TreeBuilder(), list[ElementTree.Element](), Counter[str]()
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def refuse(*_: object) -> None:
        raise wrong(file, "it declares a document type (DTD)", "XML without <!DOCTYPE ...>")

    def start(tag: str, attributes: dict[str, str]) -> None:
        depth["open"] += 1
        if depth["open"] > 200:
            raise wrong(file, "its elements are nested more than 200 deep", expected)
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        depth["open"] -= 1
        element = builder.end(tag)
        if tag in wanted:
            ready.append(element)

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, builder.data
    try:
        with file.open("rb") as handle:
            last = False
            while not last:
                data = handle.read(HEAD)
                last = not data
                parser.Parse(data, last)
                for element in ready:
                    yield element
                    element.clear()
                ready.clear()
    except (OSError, expat.ExpatError, ValueError, LookupError) as error:
        raise DataError(
            f"{str(file)!r} cannot be read as XML: {error}.", expected=expected, fix="Export it again."
        ) from error


def number_of(value: object) -> float | None:
    """Returns a finite number, or None."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if abs(number) < 1e9 else None


def size_of(width: object, height: object) -> tuple[float, float] | None:
    """Returns the annotated size, or None where it is not stated."""
    wide, high = number_of(width), number_of(height)
    return (wide, high) if wide is not None and high is not None and wide >= 1 and high >= 1 else None


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
            if header is None and not one.file.is_file() and one.file not in pictures:
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
    if lists_all:
        pictures.unlisted(found)
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

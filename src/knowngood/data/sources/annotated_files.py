"""Files of annotation formats: which photograph a name means, what lies where, and JSON and XML that may be damaged."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np

from knowngood.data.images import decode
from knowngood.data.pages import split_page
from knowngood.data.sources.folder import FolderSource
from knowngood.data.sources.marks import Bits
from knowngood.data.sources.walking import Walker, folders_in
from knowngood.data.words import is_mask_name, split_of
from knowngood.errors import DataError, ImageError
from knowngood.files import cache_folder, whole_file

HEAD = 1 << 16  # bytes of a file by which its format is recognised
LOOKS = 20  # files of one folder that are looked into
_SIDE_FILES = (".json", ".xml", ".txt", ".yaml", ".yml", ".names", ".data")
_UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)")  # what Label Studio puts before the name of an uploaded file


class Pictures:
    """The image files below a folder, and which of them a name in an annotation means.

    Args:
        root: Folder.
        left_out: Says of a folder's name whether no photographs lie in it; folders of masks by default.

    Attributes:
        files: All of them; absolute.
        ambiguous: Names that fit several files, and were not resolved.
    """

    def __init__(self, root: Path, left_out: Callable[[str], bool] = is_mask_name) -> None:
        self.root = root.absolute()
        self.ambiguous: list[str] = []
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
                if os.path.isfile(file):  # outside of the root
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

    def besides(self, listed: Iterable[Path]) -> list[str]:
        """Returns the names of the pictures that are not listed."""
        known = set(listed)
        return [name_of(file, self.root) for file in self.files if file not in known]

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
            self.ambiguous.append(spelling)
            return None
        return best[0]


def _spellings(name: str) -> list[str]:
    """Returns what a name may stand for, the likeliest first."""
    plain = name
    if re.match(r"[a-z][a-z0-9+.-]+://|/data/", name, re.IGNORECASE):
        parts = urlsplit(name)
        plain = unquote(parse_qs(parts.query).get("d", [parts.path])[0])
    slashed = plain.replace("\\", "/")
    found = [name, plain, slashed, unquote(slashed)]
    if (uploaded := _UPLOADED.fullmatch(found[-1].rsplit("/", 1)[-1])) is not None:
        found.append(uploaded[1])
    return [one for one in dict.fromkeys(found) if one and "\0" not in one]


def name_of(file: Path, root: Path) -> str:
    """Returns the name of an image within its set: its path below the root, or the whole path where it lies outside."""
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else file.as_posix()


def root_of(file: Path) -> Path:
    """Returns the folder of a set whose annotations may lie in a folder of their own."""
    folder = file.absolute().parent
    return folder.parent if folder.name.lower() in ("annotations", "annotation", "labels") else folder


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
    """Returns whether the folders at `path` say what is good: annotations beside the images are then not the labels."""
    return path.is_dir() and FolderSource().recognises(path)


def text_head(file: Path) -> str:
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
    for folder in folders_in(path):
        if folder.name.lower() in names:
            found += [folder, *(p for p in folders_in(folder) if split_of(p.name) is not None)]
        elif split_of(folder.name) is not None:
            found += [folder, *(p for p in folders_in(folder) if p.name.lower() in names)]
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


def read_text(file: Path) -> str:
    """Returns a whole text file.

    Raises:
        DataError: It cannot be read.
    """
    try:
        return file.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise DataError(f"{str(file)!r} cannot be read: {error.strerror}.", fix="Check its permissions.") from error


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


def embedded(text: str, complaint: Callable[[str], DataError]) -> Path:
    """Writes a photograph that an annotation file carries in base64 into the user's cache, and returns where.

    Args:
        text: Base64, with or without "data:image/png;base64," before it.
        complaint: Makes the error from what is wrong.

    Raises:
        DataError: It is no base64.
        StorageError: The user's cache cannot be written.
    """
    try:
        data = base64.b64decode(text.rsplit(",", 1)[-1])
    except ValueError as error:
        raise complaint(f"the photograph in it is no base64 ({error})") from error
    suffix = ".jpg" if data.startswith(b"\xff\xd8") else ".png"
    place = cache_folder("photographs") / f"{hashlib.sha256(data).hexdigest()}{suffix}"
    if not place.is_file():
        with whole_file(place) as scratch:
            scratch.write_bytes(data)
    return place.absolute()


def bits_of(text: str) -> Bits | None:
    """Returns the bitmap (H, W) of a PNG in base64, with or without "data:image/png;base64," before it."""
    try:
        pixels = decode(base64.b64decode(text.rsplit(",", 1)[-1]), name="a mask in an annotation")
    except (ValueError, ImageError):
        return None
    return np.asarray((pixels if pixels.ndim == 2 else pixels.max(axis=2)) > 0)


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

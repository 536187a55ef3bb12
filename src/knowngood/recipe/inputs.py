"""What is to be scored: one item a photograph, listed as it is needed, from wherever it lies."""

from __future__ import annotations

import glob
import hashlib
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from PIL import Image, ImageOps

from knowngood.data.budget import max_pixels
from knowngood.data.decoders import Pixels
from knowngood.data.images import decode, read_bytes
from knowngood.data.pages import file_of, pages_of
from knowngood.data.records import PassedOver
from knowngood.data.sources.masks import UNSCORED, masks_in
from knowngood.data.sources.walking import Found, Walker, text_of
from knowngood.data.tabular import is_table, located, open_table
from knowngood.errors import ConfigError, DataError, ImageError
from knowngood.progress import reporter
from knowngood.recipe.archives import is_archive, members
from knowngood.recipe.remote import is_url, remote_items, remote_reader

STDIN = "-"


@dataclass(frozen=True)
class Item:
    """One photograph that is to be scored.

    Attributes:
        name: In the row that it gets.
        read: Returns its bytes, or its pixels where it was given as pixels; raises `ImageError` where it cannot.
        place: Where it can be read again: a file, a URL, or the archive that it is in; empty where nowhere.
        member: How many photographs come before it in the archive; None for one that is in none.
    """

    name: str
    read: Callable[[], bytes | Pixels]
    place: str | Path = ""
    member: int | None = None


@dataclass(frozen=True)
class Stream:
    """Photographs to be scored.

    Attributes:
        items: Listed while they are taken; to be gone through once.
        total: How many there are, if that was cheap to know.
        passed_over: Files that are no photographs, by reason; complete when all items are taken.
    """

    items: Iterator[Item]
    total: int | None
    passed_over: PassedOver = field(default_factory=PassedOver)


def stream(places: str | Path | Sequence[str | Path], stdin: TextIO | None = None, *, contents: bool = True) -> Stream:
    """Lists photographs.

    Args:
        places: Files, folders (searched through), archives (.tar, .tar.gz, .zip ...), tables with a column image or
            path (.csv, .tsv, .txt, .parquet; paths relative to the table, or URLs), URLs that fsspec knows
            (s3://bucket/folder), and "-": a path or URL a line on standard input. A file that is named twice is
            scored once; each page of a multi-page TIFF file is a photograph. In folders and archives a file that could
            be a photograph of a kind that is not read is an item too, whose `read` raises; documents, masks and what a
            system hides are passed over.
        stdin: Instead of standard input.
        contents: Whether the items are to be read; without, archives are listed only.

    Raises:
        DataError: A place does not exist, or there is no photograph at all.
        MissingExtraError: A URL needs a package that is not installed.
    """
    wanted = [places] if isinstance(places, (str, Path)) else list(places)
    for place in wanted:
        if not is_url(place) and str(place) != STDIN and not file_of(place).exists():
            raise DataError(f"There is no {place}.", expected="image files or folders", fix="Check the path.")
    passed_over = PassedOver()
    found = _once(wanted, stdin or sys.stdin, contents, passed_over)
    first = next(found, None)
    if first is None:
        instead = " ".join(passed_over.sentences())
        raise DataError(
            f"No picture in {', '.join(map(str, wanted))}.{' ' + instead if instead else ''}",
            expected="files ending in .png, .jpg, .bmp, .tif ...",
            fix="Give a folder with photographs, or name the files.",
        )
    return Stream(_with(first, found), _total(wanted), passed_over)


def _with(first: Item, rest: Iterator[Item]) -> Iterator[Item]:
    yield first
    yield from rest


def _once(places: Sequence[str | Path], stdin: TextIO, contents: bool, passed_over: PassedOver) -> Iterator[Item]:
    """Yields the items of all places; in one folder, or below one URL, none comes twice, and nothing is remembered."""
    seen: set[bytes] = set()
    alone = len(places) == 1 and (is_url(places[0]) or Path(places[0]).is_dir())
    for place in places:
        for item in _items(place, stdin, contents, passed_over):
            if not alone:
                key = hashlib.blake2b(item.name.encode("utf-8", "surrogateescape"), digest_size=16).digest()
                if key in seen:
                    continue
                seen.add(key)
            yield item


def item_at(name: str, place: str | Path) -> Item:
    """Returns one photograph that is a file or at a URL."""
    if is_url(place):
        return Item(name, remote_reader(str(place)), place)
    return Item(name, lambda: read_bytes(place), place)


def _items(place: str | Path, stdin: TextIO, contents: bool, passed_over: PassedOver) -> Iterator[Item]:
    path = Path(place)
    if str(place) == STDIN:
        yield from chain.from_iterable(_of_file(line.rstrip("\r\n")) for line in stdin if line.strip())
    elif is_url(place):
        yield from (Item(name, read, name) for name, read in remote_items(str(place), passed_over))
    elif path.is_dir():
        yield from (_of_found(one) for one in photographs_in(path, passed_over))
    elif is_archive(path):
        for number, (name, read) in enumerate(members(path, contents=contents, passed_over=passed_over)):
            yield Item(name, read, path, number)
    elif is_table(path):
        yield from _listed(path)
    else:
        yield from _of_file(path)


def _of_file(path: str | Path) -> list[Item]:
    """Returns the item of a file or URL; of a TIFF file of several pages one a page."""
    pages = [] if is_url(path) else pages_of(Path(path))[0]
    return [item_at(text_of(one), one) for one in (pages if pages and pages[0] != Path(path) else [path])]


def _of_found(found: Found) -> Item:
    name = text_of(found.path)
    if found.problem is None:
        return item_at(name, found.path)
    return Item(name, partial(_refuse, name, found.problem), found.path)


def _refuse(name: str, problem: str) -> bytes:
    raise ImageError(f"{name!r} has {problem}.")


def photographs_in(folder: Path, passed_over: PassedOver) -> Iterator[Found]:
    """Yields the photographs in a folder and those that could be some; masks are passed over.

    Args:
        folder: Searched through.
        passed_over: Receives masks and files that are no photographs; complete when all are taken.
    """
    walker = Walker()
    walker.passed_over = passed_over
    masks = masks_in(folder)
    for found in walker.candidates(folder):
        if masks(found.path):
            passed_over.add(UNSCORED, text_of(found.path))
        else:
            yield found
    for note in walker.notes():
        reporter().say(note)


def _listed(path: Path) -> Iterator[Item]:
    """Yields the items that a table names.

    Raises:
        DataError: It cannot be read or has no such column.
    """
    table = open_table(path)
    column = table.needed("image")
    for row in table.rows:
        place = row[column]
        if place is not None:
            yield from _of_file(place if is_url(place) else _beside(place, path.parent))


def _beside(place: str, folder: Path) -> str:
    """Returns where a file that a table in `folder` names lies, by a path as short as the table's own."""
    plain = os.path.join(folder, place)
    return plain if "\\" not in place or os.path.lexists(plain) else os.path.relpath(located(place, folder.absolute()))


def _total(places: Iterable[str | Path]) -> int | None:
    """Returns how many photographs there are, where counting names is enough."""
    total = 0
    for place in places:
        path = Path(place)
        if str(place) == STDIN or is_url(place) or is_archive(path) or (path.is_file() and is_table(path)):
            return None
        total += sum(1 for _ in Walker(sniff=False).candidates(path)) if path.is_dir() else len(pages_of(path)[0])
    return total


_PNG = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")  # modes that PNG holds without loss


def items_from(images: Any, names: Sequence[str] | None = None) -> Iterator[Item]:
    """Yields an item a photograph, in order, each listed when it is taken.

    Args:
        images: As in `Recipe.predict`.
        names: What to call them; by default the path, or "image 0", "image 1" ...

    Raises:
        ConfigError: `names` are not as many as `images`.
        DataError: A folder, archive or table has no photograph in it, or cannot be read.
    """
    one = isinstance(images, (str, os.PathLike, bytes, bytearray, memoryview, Image.Image))
    if one or not isinstance(images, Iterable) or (isinstance(images, np.ndarray) and images.ndim in (2, 3)):
        images = [images]
    if names is None:
        for number, image in enumerate(images):
            yield from _items_of(image, number)
        return
    images = list(images)
    if len(images) != len(names):
        raise ConfigError(f"There are {len(names)} names for {len(images)} photographs.", expected="one name for each")
    for image, name in zip(images, names, strict=True):
        yield item_at(name, _place(image)) if isinstance(image, (str, os.PathLike)) else _in_memory(image, name)


def _items_of(image: Any, number: int) -> Iterator[Item]:
    if not isinstance(image, (str, os.PathLike)):
        yield _in_memory(image, f"image {number}")
        return
    if isinstance(image, str) and is_url(image):
        try:
            found_there = stream([image]).items
        except DataError as error:  # one address among many costs its row
            yield Item(image, _refusing(ImageError(error.what, expected=error.expected, fix=error.fix)), image)
            return
        yield from found_there
        return
    place, path = _place(image), Path(image)
    if not path.exists():
        found = sorted(glob.glob(os.fspath(image), recursive=True)) if glob.has_magic(os.fspath(image)) else []
        for match in found:
            yield from _items_of(match, number)
        if not found:  # a name that is no file gets its row, with the reason
            yield item_at(text_of(image), place)
    elif path.is_dir() or is_archive(path) or is_table(path):
        yield from stream([path]).items
    else:
        yield item_at(text_of(image), place)


def _place(image: str | os.PathLike[str]) -> str | Path:
    return image if isinstance(image, str) else Path(image)


def _in_memory(image: Any, name: str) -> Item:
    if isinstance(image, (bytes, bytearray, memoryview)):
        data = bytes(image)
        return Item(name, (lambda: data) if data else _refusing(ImageError(f"{name!r} is empty (0 bytes).")))
    try:
        if isinstance(image, Image.Image):
            return _in_memory(file_bytes(image, name), name)
        pixels = decode(image, name=name)  # an array is checked; anything else is refused
    except ImageError as error:
        return Item(name, _refusing(error))
    return Item(name, lambda: pixels)


def file_bytes(image: Image.Image, name: str) -> bytes:
    """Returns a PIL image as the bytes of a file without loss, so that it is read by the rules of every other file.

    Args:
        image: Of any mode; an EXIF orientation is applied.
        name: How messages call it.

    Raises:
        ImageError: It has no pixels, too many, or they cannot be read.
    """
    width, height = image.size
    if not 0 < width * height <= max_pixels():
        raise ImageError(f"{name!r} has {width} x {height} pixels.", expected=f"1 to {max_pixels():,} pixels")
    try:
        upright = ImageOps.exif_transpose(image)
        encoded = io.BytesIO()
        if upright.mode in _PNG:
            upright.save(encoded, "PNG", compress_level=0)
        else:
            upright.save(encoded, "TIFF")
    except Exception as error:  # decoders raise nearly anything on damaged bytes
        raise ImageError(f"{name!r} cannot be decoded: {str(error).strip() or type(error).__name__}.") from error
    return encoded.getvalue()


def _refusing(error: ImageError) -> Callable[[], bytes]:
    def refuse() -> bytes:
        raise error

    return refuse

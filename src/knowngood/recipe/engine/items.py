"""What is to be scored: one item a photograph, listed as it is needed, from wherever it lies."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TextIO

from knowngood.data.decoders import Pixels
from knowngood.data.images import read_bytes
from knowngood.data.pages import file_of, pages_of
from knowngood.data.records import PassedOver
from knowngood.data.sources.masks import UNSCORED, masks_in
from knowngood.data.sources.walking import Found, Walker, text_of
from knowngood.data.tabular import is_table, located, open_table
from knowngood.errors import DataError, ImageError
from knowngood.progress import reporter
from knowngood.recipe.engine.archives import is_archive, members
from knowngood.recipe.engine.remote import is_url, remote_items, remote_reader

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
        passed_over: Is told of masks and of files that are no photographs; complete when all are taken.
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

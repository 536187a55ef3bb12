"""What is to be scored: one item a photograph, listed as it is needed, from wherever it lies."""

from __future__ import annotations

import csv
import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TextIO

from knowngood.data.decoders import Pixels
from knowngood.data.images import read_bytes
from knowngood.data.pages import file_of, pages_of
from knowngood.data.sources.walking import Walker
from knowngood.errors import DataError
from knowngood.recipe.engine.archives import is_archive, members
from knowngood.recipe.engine.remote import is_url, remote_items, remote_reader

STDIN = "-"
TABLES = (".csv", ".tsv", ".parquet", ".pq")
_COLUMNS = ("image", "path")


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
    """

    items: Iterator[Item]
    total: int | None


def stream(places: str | Path | Sequence[str | Path], stdin: TextIO | None = None, *, contents: bool = True) -> Stream:
    """Lists photographs.

    Args:
        places: Files, folders (searched through), archives (.tar, .tar.gz, .zip ...), tables with a column image or
            path (.csv, .tsv, .parquet; paths relative to the table, or URLs), URLs that fsspec knows
            (s3://bucket/folder), and "-": a path or URL a line on standard input. A file that is named twice is
            scored once; each page of a multi-page TIFF file is a photograph.
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
    found = _once(wanted, stdin or sys.stdin, contents)
    first = next(found, None)
    if first is None:
        raise DataError(
            f"No picture in {', '.join(map(str, wanted))}.",
            expected="files ending in .png, .jpg, .bmp, .tif ...",
            fix="Give a folder with photographs, or name the files.",
        )
    return Stream(_with(first, found), _total(wanted))


def named(path: str | os.PathLike[str]) -> str:
    """Returns a path as text that any table can hold."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _with(first: Item, rest: Iterator[Item]) -> Iterator[Item]:
    yield first
    yield from rest


def _once(places: Sequence[str | Path], stdin: TextIO, contents: bool) -> Iterator[Item]:
    """Yields the items of all places; in one folder, or below one URL, none comes twice, and nothing is remembered."""
    seen: set[bytes] = set()
    alone = len(places) == 1 and (is_url(places[0]) or Path(places[0]).is_dir())
    for place in places:
        for item in _items(place, stdin, contents):
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


def _items(place: str | Path, stdin: TextIO, contents: bool) -> Iterator[Item]:
    path = Path(place)
    if str(place) == STDIN:
        yield from chain.from_iterable(_of_file(line.rstrip("\r\n")) for line in stdin if line.strip())
    elif is_url(place):
        yield from (Item(name, read, name) for name, read in remote_items(str(place)))
    elif path.is_dir():
        yield from (item_at(named(one), one) for one in Walker().images(path))
    elif is_archive(path):
        for number, (name, read) in enumerate(members(path, contents=contents)):
            yield Item(name, read, path, number)
    elif path.suffix.lower() in TABLES:
        yield from _listed(path)
    else:
        yield from _of_file(path)


def _of_file(path: str | Path) -> list[Item]:
    """Returns the item of a file or URL; of a TIFF file of several pages one a page."""
    pages = [] if is_url(path) else pages_of(Path(path))[0]
    return [item_at(named(one), one) for one in (pages if pages and pages[0] != Path(path) else [path])]


def _listed(path: Path) -> Iterator[Item]:
    """Yields the items that a table names.

    Raises:
        DataError: It cannot be read or has no such column.
    """
    rows = _rows(path)
    try:
        for row in rows:
            column = next((name for name in _COLUMNS if name in row), None)
            if column is None:
                raise DataError(
                    f"The table {path} has no column {' or '.join(_COLUMNS)}; it has {', '.join(map(str, row))}.",
                    fix="Rename the column with the paths.",
                )
            if row[column]:
                yield from _of_file(row[column] if is_url(row[column]) else os.path.join(path.parent, row[column]))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"The table {path} cannot be read: {error}.", fix="Check the file.") from error


def _rows(path: Path) -> Iterator[dict[str, str]]:
    if path.suffix.lower() in (".csv", ".tsv"):
        with path.open(newline="", encoding="utf-8-sig") as handle:
            yield from csv.DictReader(handle, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        return
    import polars as pl

    try:
        frame = pl.read_parquet(path)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"The table {path} cannot be read: {error}.", fix="Check the file.") from error
    yield from frame.iter_rows(named=True)


def _total(places: Iterable[str | Path]) -> int | None:
    """Returns how many photographs there are, where counting names is enough."""
    total = 0
    for place in places:
        path = Path(place)
        if str(place) == STDIN or is_url(place) or is_archive(path) or path.suffix.lower() in TABLES:
            return None
        total += sum(1 for _ in Walker().images(path)) if path.is_dir() else len(pages_of(path)[0])
    return total

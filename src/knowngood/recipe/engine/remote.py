"""Photographs behind URLs, through fsspec: s3://, gs://, http://, memory:// ..."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from knowngood.data.images import MAX_BYTES, SUFFIXES
from knowngood.data.pages import is_tiff, page_from, pages_in, split_page
from knowngood.errors import DataError, ImageError, MissingExtraError


def is_url(place: str | Path) -> bool:
    """Says whether a place is a URL."""
    return isinstance(place, str) and "://" in place


def remote_items(url: str) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yields name and reader of each photograph below a URL, or of the one that it names; each page of a TIFF is one.

    Listing goes folder by folder, so that memory holds one folder's names at a time.

    Raises:
        DataError: There is nothing, or it may not be listed.
        MissingExtraError: The protocol's package is not installed.
    """
    system, path = _opened(url)
    scheme = url.split("://", 1)[0]
    try:
        if split_page(url)[1] is not None or system.isfile(path):
            yield from _pages(system, path, url)
            return
        if not system.exists(path):
            raise DataError(f"There is no {url}.", expected="image files or folders", fix="Check the URL.")
        for folder, _, files in system.walk(path):
            for file in sorted(files):
                if PurePosixPath(file).suffix.lower() in SUFFIXES and not file.startswith("."):
                    inside = f"{folder}/{file}"
                    name = f"{scheme}://{inside.lstrip('/')}"
                    yield from _pages(system, inside, name)
    except OSError as error:
        raise DataError(f"{url} cannot be listed: {error}.", fix="Check the URL and your rights.") from error


def remote_reader(url: str) -> Callable[[], bytes]:
    """Returns the reader of one photograph; that it is not there is told when it is read.

    Raises:
        DataError: It is no URL that can be opened.
        MissingExtraError: The protocol's package is not installed.
    """
    system, path = _opened(url)
    return partial(_read, system, path, url)


def _pages(system: Any, path: str, name: str) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yields name and reader of a photograph, or of each page of a TIFF file, of which only directories are read."""
    if is_tiff(path):
        try:
            with system.open(path, "rb") as handle:
                found = pages_in(handle)
        except (OSError, ValueError):
            found = None  # whoever reads it says why it cannot be read
        if found is not None and not found.whole:
            for number in range(1, len(found.offsets) + 1):
                yield f"{name}#page={number}", partial(_read, system, f"{path}#page={number}", name)
            return
    yield name, partial(_read, system, path, name)


def _opened(url: str) -> tuple[Any, str]:
    try:
        import fsspec
    except ImportError as error:
        raise MissingExtraError(
            "URLs are read through fsspec, which is not installed.", fix="pip install fsspec"
        ) from error
    try:
        system, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise MissingExtraError(f"{url} needs a package that is not installed: {error}.") from error
    except ValueError as error:
        raise DataError(f"{url} cannot be opened: {error}.", fix="Check the URL.") from error
    return system, str(path)


def _read(system: Any, path: str, name: str) -> bytes:
    try:
        file, page = split_page(path)
        if page is not None and not system.isfile(path):
            with system.open(file, "rb") as handle:
                return page_from(handle, page, name)
        if (system.size(path) or 0) > MAX_BYTES:
            raise ImageError(f"{name!r} is absurdly large.", expected="at most 1 GiB")
        data = system.cat_file(path)
    except (OSError, ValueError) as error:
        raise ImageError(f"{name!r} cannot be read: {error}.") from error
    if not data:
        raise ImageError(f"{name!r} is empty (0 bytes).", fix="Copy it again from its origin.")
    return bytes(data)

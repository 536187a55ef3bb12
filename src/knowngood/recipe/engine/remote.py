"""Photographs behind URLs, through fsspec: s3://, gs://, http://, memory:// ..."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from knowngood.data.images import MAX_BYTES
from knowngood.data.records import PassedOver
from knowngood.data.sources.walking import HEAD, is_hidden, judged
from knowngood.errors import DataError, ImageError, MissingExtraError


def is_url(place: str | Path) -> bool:
    """Says whether a place is a URL."""
    return isinstance(place, str) and "://" in place


def remote_items(url: str, passed_over: PassedOver | None = None) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yields name and reader of each photograph below a URL, or of the one that it names.

    Listing goes folder by folder, so that memory holds one folder's names at a time.

    Args:
        url: Of a folder or of one photograph.
        passed_over: Is told of files that are no photographs.

    Raises:
        DataError: There is nothing, or it may not be listed.
        MissingExtraError: The protocol's package is not installed.
    """
    system, path = _opened(url)
    scheme = url.split("://", 1)[0]
    try:
        if system.isfile(path):
            yield url, partial(_read, system, path, url)
            return
        if not system.exists(path):
            raise DataError(f"There is no {url}.", expected="image files or folders", fix="Check the URL.")
        for folder, _, files in system.walk(path):
            if any(is_hidden(part, folder=True) for part in folder.removeprefix(path).split("/") if part):
                continue
            for file in sorted(files):
                inside = f"{folder}/{file}"
                name = f"{scheme}://{inside.lstrip('/')}"
                verdict = judged(file, partial(_head, system, inside))
                if verdict.taken == "photograph":
                    yield name, partial(_read, system, inside, name)
                elif verdict.taken == "unread":
                    yield name, partial(_refuse, name, verdict.reason)
                elif verdict.taken == "other" and passed_over is not None:
                    passed_over.add(verdict.reason, name)
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


def _head(system: Any, path: str) -> bytes:
    try:
        return bytes(system.cat_file(path, start=0, end=HEAD))
    except (ValueError, NotImplementedError) as error:
        raise OSError(str(error)) from error


def _refuse(name: str, reason: str) -> bytes:
    raise ImageError(f"{name!r} has {reason}.")


def _read(system: Any, path: str, name: str) -> bytes:
    try:
        if (system.size(path) or 0) > MAX_BYTES:
            raise ImageError(f"{name!r} is absurdly large.", expected="at most 1 GiB")
        data = system.cat_file(path)
    except (OSError, ValueError) as error:
        raise ImageError(f"{name!r} cannot be read: {error}.") from error
    if not data:
        raise ImageError(f"{name!r} is empty (0 bytes).", fix="Copy it again from its origin.")
    return bytes(data)

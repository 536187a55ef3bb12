"""Photographs behind URLs, through fsspec: http(s)://, s3://, gs://, az://, ftp://, sftp://, file://, memory://.

Only these: fsspec knows protocols that unpack, rewrite or chain others, and a row of a table is no reason to run them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from knowngood.data.images import MAX_BYTES
from knowngood.data.pages import is_tiff, page_from, pages_in, split_page
from knowngood.data.records import PassedOver
from knowngood.data.sources.walking import HEAD, classify_file, is_hidden
from knowngood.errors import DataError, ImageError, MissingExtraError

# Protocol to the package that fsspec needs for it; None where it needs no other.
PROTOCOLS: dict[str, str | None] = {
    "file": None,
    "memory": None,
    "http": "aiohttp",
    "https": "aiohttp",
    "ftp": None,
    "sftp": "paramiko",
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
}


def is_url(place: str | Path) -> bool:
    """Says whether a place is a URL."""
    return isinstance(place, str) and "://" in place


def check_url(url: str) -> None:
    """Looks whether a URL is of a protocol that is read here, without opening it.

    Raises:
        DataError: It is not, or chains several.
    """
    scheme = url.split("://", 1)[0].lower()
    if "::" in scheme or scheme not in PROTOCOLS or "::" in url.split("://", 1)[1].partition("?")[0]:
        raise DataError(
            f"{url} is of no protocol that is read here.",
            expected=", ".join(f"{name}://" for name in PROTOCOLS),
            fix="Check the URL, or copy the photographs to where one of these reaches them.",
        )


def remote_items(url: str, passed_over: PassedOver | None = None) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yields name and reader of each photograph below a URL, or of the one that it names; each page of a TIFF is one.

    Listing goes folder by folder, so that memory holds one folder's names at a time.

    Args:
        url: Of a folder or of one photograph.
        passed_over: Receives files that are no photographs.

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
            if any(is_hidden(part, folder=True) for part in folder.removeprefix(path).split("/") if part):
                continue
            for file in sorted(files):
                inside = f"{folder}/{file}"
                name = f"{scheme}://{inside.lstrip('/')}"
                file_kind = classify_file(file, partial(_head, system, inside))
                if file_kind.taken == "photograph":
                    yield from _pages(system, inside, name)
                elif file_kind.taken == "unread":
                    yield name, partial(_refuse, name, file_kind.reason)
                elif file_kind.taken == "other" and passed_over is not None:
                    passed_over.add(file_kind.reason, name)
    except DataError:
        raise
    except Exception as error:  # every protocol has its own
        raise DataError(f"{url} cannot be listed: {_line(error)}.", fix="Check the URL and your rights.") from error


def remote_reader(url: str) -> Callable[[], bytes]:
    """Returns the reader of one photograph; what is wrong with its URL is raised when it is read, as `ImageError`."""

    def read() -> bytes:
        try:
            system, path = _opened(url)
        except (DataError, MissingExtraError) as error:
            raise ImageError(error.what, expected=error.expected, fix=error.fix) from error
        return _read(system, path, url)

    return read


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
    """Returns the file system of a URL and the path in it.

    Raises:
        DataError: It is of a protocol that is not read here, or malformed.
        MissingExtraError: The protocol's package is not installed.
    """
    import fsspec

    check_url(url)
    try:
        system, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        package = PROTOCOLS[url.split("://", 1)[0].lower()] or error.name
        raise MissingExtraError(
            f"{url} needs the package {package}, which is not installed.", fix=f"pip install {package}"
        ) from error
    except Exception as error:  # every protocol has its own
        raise DataError(f"{url} cannot be opened: {_line(error)}.", fix="Check the URL and your rights.") from error
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
        file, page = split_page(path)
        if page is not None and not system.isfile(path):
            with system.open(file, "rb") as handle:
                return page_from(handle, page, name)
        if (system.size(path) or 0) > MAX_BYTES:
            raise ImageError(f"{name!r} is absurdly large.", expected="at most 1 GiB")
        data = system.cat_file(path)
    except ImageError:
        raise
    except Exception as error:  # a connection, a server and a protocol each have their own
        raise ImageError(f"{name!r} cannot be read: {_line(error)}.") from error
    if not data:
        raise ImageError(f"{name!r} is empty (0 bytes).", fix="Copy it again from its origin.")
    return bytes(data)


def _line(error: Exception) -> str:
    """Returns what an error says, in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__} {text}".strip().removesuffix(".")

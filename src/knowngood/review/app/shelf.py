"""Photographs on the disk, named by the hash of their bytes: no name that somebody sent becomes a path."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from knowngood.data.images import read_bytes
from knowngood.errors import DataError, ImageError
from knowngood.files import whole_file

_HASH = re.compile(r"[0-9a-f]{64}")


class Shelf:
    """A folder of photographs.

    Args:
        folder: Made when it is first needed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()

    def put(self, sha256: str, data: bytes) -> Path:
        """Keeps a photograph, whole or not at all, and returns where."""
        if not _HASH.fullmatch(sha256):
            raise DataError(f"{sha256!r} is no SHA-256.")
        place = self.folder / sha256[:2] / sha256
        if not place.exists():
            with whole_file(place) as scratch:
                scratch.write_bytes(data)
        return place


def bytes_at(place: str | None, sha256: str) -> bytes:
    """Returns the bytes of a photograph of the record.

    Raises:
        DataError: They were not kept, are gone, or are no longer what was inspected.
    """
    try:
        data = None if place is None else read_bytes(place)
    except ImageError:
        data = None
    if data is None:
        raise DataError("The photograph is not kept here.", fix="Put it back where it was, or serve with --keep all.")
    if hashlib.sha256(data).hexdigest() != sha256:
        raise DataError("The photograph has changed since it was inspected.", expected=f"SHA-256 {sha256}")
    return data

"""The photographs that a station keeps: a folder of files named after their SHA-256."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path

from knowngood.data.images import read_bytes
from knowngood.errors import DataError, ImageError, StorageError
from knowngood.files import whole_file

_HASH = re.compile(r"[0-9a-f]{64}")
_TRIAL = 1 << 18  # bytes that are written to see whether the disk takes them


class Shelf:
    """A folder of photographs by their hash.

    Args:
        folder: Created when it is first needed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()

    def put(self, sha256: str, data: bytes) -> Path:
        """Writes a photograph, whole or not at all, and returns its path.

        Raises:
            DataError: `sha256` is not a SHA-256 in hex.
            StorageError: The disk does not take it.
        """
        if not _HASH.fullmatch(sha256):
            raise DataError(f"{sha256!r} is no SHA-256.")
        place = self.folder / sha256[:2] / sha256
        try:
            if not place.exists():
                with whole_file(place) as scratch:
                    scratch.write_bytes(data)
        except OSError as error:
            raise StorageError(f"{place} cannot be written: {error.strerror}.", fix="Check the disk.") from error
        return place

    def check(self) -> None:
        """Checks that the disk takes a photograph, by writing a temporary file.

        Raises:
            StorageError: It does not.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder) as handle:
                handle.write(bytes(_TRIAL))
                handle.flush()
                os.fsync(handle.fileno())
        except OSError as error:
            raise StorageError(f"{self.folder} cannot be written: {error.strerror}.", fix="Check the disk.") from error


def bytes_at(place: str | None, sha256: str) -> bytes:
    """Returns the bytes of a photograph of the record.

    Raises:
        DataError: They were not kept, are gone, or are not the bytes that were inspected.
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

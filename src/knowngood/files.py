"""Writing so that nothing is lost: to a temporary name beside the target, flushed, then renamed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from knowngood.errors import StorageError


@contextlib.contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Yields a temporary path beside `target` that takes its place only when the block succeeds.

    Raises:
        StorageError: The disk is full, or the place may not be written.
    """
    target = Path(target)
    scratch = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield scratch
            with scratch.open("rb+") as handle:
                os.fsync(handle.fileno())
            os.replace(scratch, target)
        finally:
            scratch.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Yields a temporary folder beside `target` that replaces it only when the block succeeds."""
    target = Path(target)
    token = secrets.token_hex(4)
    scratch = target.with_name(f".{target.name}.{token}.tmp")
    with storage_errors(target):
        scratch.mkdir(parents=True)
        try:
            yield scratch
            if target.exists():
                old = target.with_name(f".{target.name}.{token}.old")
                os.replace(target, old)
                os.replace(scratch, target)
                shutil.rmtree(old)
            else:
                os.replace(scratch, target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def storage_errors(target: Path) -> Iterator[None]:
    """Turns the operating system's refusals to write into a `StorageError` that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise _full(target) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise StorageError(
                f"No permission to write {target}.", fix="Choose a writable place with --out."
            ) from error
        if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
            raise StorageError(
                f"{target} cannot be written: something else is in its place ({error.strerror}).",
                fix="Choose another place with --out.",
            ) from error
        raise
    except Exception as error:
        if any(sign in str(error) for sign in _SIGNS_OF_A_FULL_DISK):
            raise _full(target) from error
        raise


# Libraries that write by themselves wrap the system's error: safetensors and polars, then torch's checkpoints.
_SIGNS_OF_A_FULL_DISK = ("No space left on device", "os error 28", "os error 27", "inline_container.cc")


def _full(target: Path) -> StorageError:
    return StorageError(
        f"The disk is full: {target} was not written.",
        expected="what was there before is unchanged",
        fix=f"Free some space on the disk of {target.parent}, or choose another place with --out.",
    )


def cache_folder(kind: str) -> Path:
    """Returns where this user's knowngood keeps what it can make again: `KNOWNGOOD_CACHE`, else the user's cache."""
    base = os.environ.get("KNOWNGOOD_CACHE")
    if base is None:
        base = str(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "knowngood")
    return Path(base) / kind


def write_text(target: Path, text: str) -> None:
    """Writes UTF-8 text whole or not at all."""
    with whole_file(target) as scratch:
        scratch.write_text(text, encoding="utf-8")


def write_json(target: Path, document: Any) -> None:
    """Writes one JSON document whole or not at all; NaN is refused, as JSON has none."""
    write_text(target, json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def sha256_of(path: Path) -> str:
    """Returns the hex SHA-256 of a file's bytes, reading it in pieces."""
    with Path(path).open("rb") as handle:
        digest = hashlib.sha256()
        while piece := handle.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()

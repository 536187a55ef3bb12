"""Writing so that nothing is lost: to a temporary name beside the target, flushed, then renamed.

A temporary name says who writes: `.NAME.MACHINE-PROCESS-STARTED-TOKEN.tmp`, and `.old` for what a new folder is about
to replace. So what a killed process left is known as such, and the next one puts it back or away.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import stat
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from knowngood.errors import ConfigError, StorageError

_OURS = re.compile(r"\.(.+)\.([0-9a-f]{8})-([0-9]+)-([0-9]+)-([0-9a-f]{8})\.(tmp|old)", re.DOTALL)
_DAY, _MINUTE = 86_400.0, 60.0  # seconds untouched after which another machine's .tmp is left over, and its .old


@contextlib.contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Yields a temporary path beside `target` that takes its place only when the block succeeds.

    Raises:
        StorageError: The disk is full, or the place may not be written.
    """
    target = Path(target)
    with storage_errors(target):
        scratch = _beside(target, secrets.token_hex(4), "tmp")
        target.parent.mkdir(parents=True, exist_ok=True)
        _clean_once(os.path.abspath(target.parent))
        try:
            yield scratch
            with scratch.open("rb+") as handle:
                os.fsync(handle.fileno())
            os.replace(scratch, target)
        finally:
            scratch.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Yields a temporary folder beside `target` that replaces it only when the block succeeds.

    A process that is killed between the two renames leaves the old folder under a name of its own: `recover`, which
    this calls first, puts it back. A link is followed: what it points to is replaced.

    Raises:
        StorageError: The disk is full, or the place may not be written.
    """
    with storage_errors(Path(target)):
        target = Path(os.path.realpath(target))
        recover(target)
        if os.path.lexists(target) and not target.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(target))
    with scratch_folder(target) as scratch:
        yield scratch
        old = _beside(target, _token_of(scratch), "old")
        with contextlib.suppress(FileNotFoundError):
            os.replace(target, old)
        os.replace(scratch, target)
        shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def scratch_folder(target: Path) -> Iterator[Path]:
    """Yields a temporary folder beside `target` that is gone after the block, and after a kill at the next run.

    Raises:
        StorageError: The disk is full, or the place may not be written.
    """
    target = Path(target)
    with storage_errors(target):
        scratch = _beside(target, secrets.token_hex(4), "tmp")
        target.parent.mkdir(parents=True, exist_ok=True)
        clean(target.parent)
        scratch.mkdir()
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def scratch_file(target: Path) -> Path:
    """Returns a temporary name beside `target`; the caller writes and removes it, after a kill the next run does.

    Raises:
        StorageError: The target has no name, as a root folder has none.
    """
    with storage_errors(target):
        return _beside(Path(target), secrets.token_hex(4), "tmp")


def recover(target: Path) -> None:
    """Puts a folder back that a killed process had renamed to replace it; does nothing where the folder is there.

    A place that cannot be listed or written is left as it is.
    """
    target = Path(target)
    if os.path.lexists(target):
        return
    with contextlib.suppress(OSError):
        for place, found in _temporary(target.parent):
            if found[1] == target.name and found[6] == "old" and _left_over(place, found):
                os.rename(place, target)
                return


def clean(folder: Path) -> None:
    """Removes what killed processes of knowngood left half written in a folder, and puts back what they had renamed.

    Only names that knowngood gives are touched, and only when their writer is known to be gone: its process has ended
    on this machine, or another machine has not touched them for a day. What cannot be removed stays.
    """
    with contextlib.suppress(OSError):
        for place, found in _temporary(folder):
            if not _left_over(place, found):
                continue
            target = place.with_name(found[1])
            if found[6] == "old" and not os.path.lexists(target):
                os.rename(place, target)
            elif place.is_dir() and not place.is_symlink():
                shutil.rmtree(place, ignore_errors=True)
            else:
                place.unlink(missing_ok=True)


def check_writable(target: Path, *, folder: bool, flag: str = "--out") -> None:
    """Looks whether a file or folder can be made, or written where it is there, by doing so under a temporary name.

    Nothing is left behind, and nothing that is there is changed, but for what killed processes of knowngood left.

    Args:
        target: To be written later.
        folder: Whether it is to be a folder.
        flag: That names it, for the message.

    Raises:
        ConfigError: Something of another kind is there.
        StorageError: It cannot be written; the message says why and what to do.
    """
    target = Path(target)
    with storage_errors(target, flag):
        _check_kind(target, folder, flag)
        place = Path(os.path.abspath(target))
        names: list[str] = []
        while not (place.is_dir() if folder or names else False):
            if os.path.lexists(place) and names:  # a file, or a link that leads nowhere, where a folder is needed
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(place))
            names.insert(0, place.name)
            place = place.parent
        clean(place)
        probe = _beside(place / "probe", secrets.token_hex(4), "tmp")
        try:
            made = probe.joinpath(*names[:-1])  # the very names, since one may be too long
            made.mkdir(parents=True)
            made.joinpath(*names[-1:] or ["probe"]).write_bytes(b"x")
        finally:
            shutil.rmtree(probe, ignore_errors=True)


def _check_kind(target: Path, folder: bool, flag: str) -> None:
    """Raises `ConfigError` where something of another kind is in the way."""
    if not os.path.lexists(target):
        return
    mode = os.stat(target).st_mode  # of a link that leads nowhere it raises
    if folder and not stat.S_ISDIR(mode):
        raise ConfigError(f"{target} is a file.", expected="a folder, or none", fix=f"Choose another {flag}.")
    if not folder and not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "no regular file"
        raise ConfigError(f"{target} is {kind}.", expected="a file, or none", fix=f"Choose another {flag}.")


def _beside(target: Path, token: str, kind: str) -> Path:
    """Returns the temporary name beside a target that says who writes.

    Raises:
        OSError: The target is a root folder, which nothing lies beside.
    """
    target = target if target.name not in ("", "..") else Path(os.path.abspath(target))
    if not target.name:
        raise OSError(errno.EBUSY, "it is a root folder", str(target))
    writer = f"{_machine()}-{os.getpid()}-{_started(os.getpid()) or 0}"
    return target.with_name(f".{target.name}.{writer}-{token}.{kind}")


def _token_of(scratch: Path) -> str:
    found = _OURS.fullmatch(scratch.name)
    assert found is not None
    return found[5]


def _temporary(folder: Path) -> list[tuple[Path, re.Match[str]]]:
    """Returns what has a temporary name in a folder, with the match of that name, `.old` first."""
    with os.scandir(folder) as listed:
        names = [one.name for one in listed if one.name.startswith(".")]
    found = [(Path(folder, name), match) for name in sorted(names) if (match := _OURS.fullmatch(name))]
    return sorted(found, key=lambda one: one[1][6])


@cache
def _clean_once(folder: str) -> None:
    clean(Path(folder))


def _left_over(place: Path, found: re.Match[str]) -> bool:
    """Says whether the process named in a temporary name is known to be gone."""
    if found[2] != _machine():
        limit = _MINUTE if found[6] == "old" else _DAY
        with contextlib.suppress(OSError):
            newest = max(place.stat().st_mtime, place.lstat().st_ctime)
            inside = [one.lstat().st_mtime for one in place.iterdir()] if place.is_dir() else []
            return time.time() - max([newest, *inside]) > limit
        return False
    pid, started = int(found[3]), int(found[4])
    if os.name != "posix":
        return False  # there a signal of number 0 is no question
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        pass
    now = _started(pid)
    return started != 0 and now is not None and now != started  # the number belongs to another process by now


@cache
def _machine() -> str:
    """Returns 8 hex digits that name this machine and, in a container, its own numbering of processes."""
    try:
        numbering = os.readlink("/proc/self/ns/pid")
    except OSError:
        numbering = ""
    return hashlib.sha256(f"{socket.gethostname()} {numbering}".encode()).hexdigest()[:8]


def _started(pid: int) -> int | None:
    """Returns when a process began, in ticks since boot, 0 for one that has ended; None where the system hides it."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        state, *numbers = text.rpartition(")")[2].split()
        return 0 if state in "ZX" else int(numbers[18])
    except (OSError, ValueError, IndexError):
        return None


_FULL = ("ENOSPC", "EDQUOT", "EFBIG")
_FORBIDDEN = ("EACCES", "EPERM", "EROFS")
_IN_THE_WAY = ("ENOTDIR", "EEXIST", "EISDIR", "ENOTEMPTY")
_IMPOSSIBLE = (
    *("EINVAL", "ENAMETOOLONG", "ELOOP", "EBUSY", "EXDEV", "ENXIO"),
    *("ENODEV", "ENOTSUP", "EOPNOTSUPP", "ETXTBSY"),
)
_FAILING = ("EIO", "ESTALE", "ENOTCONN", "EHOSTDOWN", "ETIMEDOUT", "EREMOTEIO")


@contextlib.contextmanager
def storage_errors(target: Path, flag: str = "--out") -> Iterator[None]:
    """Turns the operating system's refusals to write into a `StorageError` that says what to do.

    Args:
        target: That is written, for the message.
        flag: That names it, for the message.
    """
    try:
        yield
    except OSError as error:
        refusal = _refusal(error, Path(target), flag)
        if refusal is None:
            raise
        raise refusal from error
    except Exception as error:
        if any(sign in str(error) for sign in _SIGNS_OF_A_FULL_DISK):
            raise _full(target) from error
        raise


def _refusal(error: OSError, target: Path, flag: str) -> StorageError | None:
    """Returns in words what the operating system refused, None where it is about something else than writing."""
    why, kind = error.strerror or str(error), errno.errorcode.get(error.errno or 0, "")
    elsewhere = f"Choose another place with {flag}."
    if kind in _FULL:
        return _full(target)
    if kind in _FORBIDDEN:
        return StorageError(f"No permission to write {target}.", fix=f"Choose a writable place with {flag}.")
    if kind in _IN_THE_WAY:
        return StorageError(f"{target} cannot be written: something else is in its place ({why}).", fix=elsewhere)
    if kind in _IMPOSSIBLE or (kind == "ENOENT" and _on_the_way(error.filename, target)):
        return StorageError(f"{target} cannot be written: {why}.", expected="a place that can be made", fix=elsewhere)
    if kind in _FAILING:
        return StorageError(
            f"The disk or the share of {target} fails: {why}.",
            expected="what was there before is unchanged",
            fix=f"Look after the disk or the connection, or choose another place with {flag}.",
        )
    return None


def _on_the_way(name: object, target: Path) -> bool:
    """Says whether a name lies in a folder that leads to the target; what is missing elsewhere was only to be read."""
    if not isinstance(name, (str, os.PathLike)):
        return False
    return Path(os.path.abspath(target)).is_relative_to(os.path.dirname(os.path.abspath(name)))


# Libraries that write by themselves wrap the system's error: safetensors, polars, torch's checkpoints, OpenVINO.
_SIGNS_OF_A_FULL_DISK = (
    *("No space left on device", "os error 28", "os error 27", "os error 122"),
    *("inline_container.cc", "iostream error"),
)


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


def cache_key(*decides: object) -> str:
    """Returns the name, 24 hex digits, under which something is kept that can be made again.

    Args:
        *decides: Everything that decides what is made, as JSON types; the order of the keys in dictionaries is no
            matter.
    """
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:24]


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

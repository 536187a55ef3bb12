"""Walking a data set's folders: what is a photograph, by its ending or its first bytes, and what is passed over."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from knowngood.data.images import SUFFIXES
from knowngood.data.pages import pages_of
from knowngood.data.records import PassedOver
from knowngood.errors import DataError

HEAD = 64  # bytes from which the kind of a file is found
_SYSTEM_FILES = frozenset(["thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r", "picasa.ini"])
_SYSTEM_FOLDERS = frozenset(["__macosx", "$recycle.bin", "system volume information", "lost+found", "@eadir"])
_UNFINISHED = frozenset([".tmp", ".temp", ".part", ".partial", ".crdownload", ".download", ".filepart"])
# What lies beside photographs and is none: it is counted, and gets no row.
_DOCUMENT_ENDINGS = """
.txt .csv .tsv .json .jsonl .ndjson .xml .md .rst .html .htm .css .js .pdf .doc .docx .odt .rtf .xls .xlsx .xlsm
.ods .ppt .pptx .yaml .yml .toml .ini .cfg .conf .names .log .py .ipynb .m .r .sh .bat .cmd .ps1 .exe .dll .so
.parquet .pq .feather .arrow .db .sqlite .sqlite3 .pt .pth .ckpt .onnx .h5 .hdf5 .pkl .safetensors .bib .tex .lnk
.url .md5 .sha1 .sha256 .xmp .aae .zip .tar .tgz .gz .bz2 .xz .7z .rar .mp4 .avi .mov .mkv .wmv .webm .mp3 .wav .bak
.license .journal .lock .sav .mdb .ttf .svg
"""
_DOCUMENTS = frozenset(_DOCUMENT_ENDINGS.split())
_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\0\0\0\x0cjP  \r\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
)
Taken: TypeAlias = Literal["photograph", "unread", "other", "hidden"]


@dataclass(frozen=True)
class FileKind:
    """Whether a file is taken as a photograph.

    Attributes:
        taken: "photograph"; "unread" for what could be one but is of no kind that is read; "other" for what is none;
            "hidden" for what the system put there and nobody counts.
        reason: Why it is passed over, without its name; for a photograph with an odd ending, what was found. Or empty.
    """

    taken: Taken
    reason: str = ""


def is_hidden(name: str, folder: bool = False) -> bool:
    """Returns whether an operating system made a file or folder of that name, or hides it: never part of a set."""
    if name.startswith("."):
        return True
    return name.lower() in (_SYSTEM_FOLDERS if folder else _SYSTEM_FILES)


def hidden_within(name: str) -> bool:
    """Says the same of a path in an archive or below a URL: one hidden part hides it."""
    *folders, last = name.replace("\\", "/").split("/")
    return is_hidden(last) or any(is_hidden(one, folder=True) for one in folders if one not in ("", ".", ".."))


def image_kind(head: bytes) -> str | None:
    """Returns the format of an image that is read here, by its first bytes (`HEAD` are enough), or None."""
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[:2] == b"BM" and head[6:10] == b"\0\0\0\0":
        return "BMP"
    if head[:1] == b"P" and head[1:2] in b"123456" and head[2:3] in (b" ", b"\t", b"\r", b"\n"):
        return "PNM"
    return None


def classify_file(name: str, head: Callable[[], bytes]) -> FileKind:
    """Decides on one file by its ending, and by its first bytes where the ending is none that is known.

    Args:
        name: Of the file, without its folder.
        head: Returns its first `HEAD` bytes; asked only when the ending does not decide. An `OSError` counts as none.
    """
    if is_hidden(name):
        return FileKind("hidden")
    ending = os.path.splitext(name)[1].lower()
    if ending in SUFFIXES:
        return FileKind("photograph")
    if ending in _UNFINISHED or name.endswith("~"):
        return FileKind("other", f"the ending {ending or '~'} of a file that is still being written")
    if ending in _DOCUMENTS:
        return FileKind("other", f"the ending {ending}, which photographs do not have")
    shown = _ending_words(ending)
    try:
        first = head()
    except OSError:
        return FileKind("unread", f"{shown}, and it cannot be opened")
    kind = image_kind(first)
    if kind is not None:
        return FileKind("photograph", f"{shown}, but it is a {kind} by its first bytes")
    if first[4:8] == b"ftyp":
        brand = first[8:12].decode("ascii", "replace")
        return FileKind(
            "unread", f"{shown}: {'AVIF' if brand.startswith('avi') else 'HEIC'} is not read (save it as PNG or JPEG)"
        )
    if not ending and first and _is_text(first):
        return FileKind("other", "text without an ending")
    return FileKind("unread", f"{shown}, which is not read (save it as PNG, TIFF or JPEG)")


def _ending_words(ending: str) -> str:
    return f"the ending {ending}" if ending else "no ending"


def _is_text(first: bytes) -> bool:
    try:
        text = first.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(first) - 3:
            return False
        text = first[: error.start].decode("utf-8")
    return all(c.isprintable() or c in "\r\n\t" for c in text)


@dataclass(frozen=True)
class Found:
    """A file that is a photograph, or could be one.

    Attributes:
        path: Of the file.
        problem: Why it is not read, for one that could be a photograph but is of no kind that is known; else None.
    """

    path: Path
    problem: str | None = None


class Walker:
    """Finds photographs and remembers what it passed over.

    Args:
        root: Names of passed-over files are given below it; by default below the folder that is walked.
        sniff: Look at the first bytes of files whose ending is not known; without, only known endings count.
        expected: Endings, in lower case, of files that belong beside the photographs and are not counted.

    Attributes:
        passed_over: How many files were passed over, by reason.
        odd: Photographs whose ending does not say so: what was found, with how many and examples.
    """

    def __init__(self, root: Path | None = None, *, sniff: bool = True, expected: tuple[str, ...] = ()) -> None:
        self.root, self.sniff, self.expected = root, sniff, expected
        self.passed_over = PassedOver()
        self.odd = PassedOver()

    def images(self, folder: Path, *, deep: bool = True) -> Iterator[Path]:
        """Yields the photographs in `folder` in sorted order, following links but never in circles.

        A TIFF file of several pages comes as one path a page, see `knowngood.data.pages`.

        Args:
            folder: Where to look.
            deep: Whether to look into nested folders.

        Raises:
            DataError: A folder may not be listed.
        """
        for found in self.candidates(folder, deep=deep):
            if found.problem is None:
                yield found.path
            else:
                self.passed_over.add(found.problem, relative_name(found.path, self.root or folder))

    def candidates(self, folder: Path, *, deep: bool = True) -> Iterator[Found]:
        """Yields what `images` does, and what could be a photograph but cannot be read, each with the reason.

        Raises:
            DataError: A folder may not be listed.
        """
        seen: set[str] = set()
        for here, folders, files in os.walk(folder, followlinks=True, onerror=_refuse):
            real = os.path.realpath(here)
            folders[:] = [] if real in seen or not deep else sorted(f for f in folders if not is_hidden(f, folder=True))
            if real in seen:
                continue
            seen.add(real)
            for file in sorted(files):
                path = Path(here, file)
                file_kind = classify_file(file, lambda path=path: head_of(path) if self.sniff else b"")  # type: ignore[misc]
                name = relative_name(path, self.root or folder)
                if file_kind.taken == "photograph":
                    if file_kind.reason:
                        self.odd.add(file_kind.reason, name)
                    pages, remark = pages_of(path)
                    if remark is not None:
                        self.passed_over.add(remark, name)
                    yield from map(Found, pages)
                elif file_kind.taken == "unread":
                    yield Found(path, file_kind.reason)
                elif file_kind.taken == "other" and not file.lower().endswith(self.expected):
                    self.passed_over.add(file_kind.reason, name)

    def notes(self) -> tuple[str, ...]:
        """Returns a sentence for each kind of photograph that was taken in spite of its ending."""
        return tuple(
            f"Taken as photographs, {reason}: {count} (such as {self.odd.examples[reason][0]})."
            for reason, count in self.odd.counts.items()
        )


def head_of(path: Path) -> bytes:
    """Returns the first bytes of a regular file; none of a pipe or a device.

    Raises:
        OSError: It cannot be read.
    """
    if not path.is_file():
        return b""
    with path.open("rb") as handle:
        return handle.read(HEAD)


def folders_in(path: Path) -> list[Path]:
    """Returns the visible folders right inside `path`, sorted by name; none when it cannot be listed."""
    try:
        with os.scandir(path) as entries:  # says what is a folder without a look at each file
            names = [entry.name for entry in entries if not is_hidden(entry.name, folder=True) and entry.is_dir()]
    except OSError:
        return []
    return [path / name for name in sorted(names)]


def text_of(path: str | os.PathLike[str]) -> str:
    """Returns a path as text that any table can hold: bytes that are not UTF-8 are written as "\\xe4"."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def relative_name(path: Path, root: Path) -> str:
    """Returns the name of an image within its set: the path below the root with "/" between the parts, as text."""
    return text_of(path.relative_to(root).as_posix())


def no_images(path: Path, layout: str, passed_over: PassedOver | None = None) -> DataError:
    """Returns the error for a layout that is there but holds no image.

    Args:
        path: Of the set.
        layout: Name of the source.
        passed_over: What was there instead.
    """
    instead = " ".join((passed_over or PassedOver()).sentences())
    return DataError(
        f"{str(path)!r} has the {layout} layout but holds no images.{' ' + instead if instead else ''}",
        expected="files ending in " + ", ".join(sorted(SUFFIXES)),
        fix="Copy the photographs into those folders.",
    )


def _refuse(error: OSError) -> None:
    raise DataError(
        f"The folder {error.filename!r} cannot be listed: {error.strerror}.",
        fix="Give yourself permission to read it (chmod u+rx).",
    )

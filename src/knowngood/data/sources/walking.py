"""Walking a data set's folders: what is an image, what is passed over, and what the folder names mean."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from knowngood.data.images import SUFFIXES
from knowngood.data.pages import pages_of
from knowngood.data.records import SPLITS
from knowngood.errors import DataError

_GOOD = re.compile(r"(good|ok|okay|pass|passed|normal)([ _-]?\d+)?", re.IGNORECASE)
_BAD = re.compile(r"(bad|ng|nok|defect|defects|defective|fail|failed|reject|rejected)([ _-]?\d+)?", re.IGNORECASE)
_MASKS = re.compile(r"masks?|ground[ _-]?truth", re.IGNORECASE)
_SPLIT_NAMES = {
    **{name: name for name in SPLITS},
    "training": "train",
    "valid": "val",
    "validation": "val",
    "calib": "calibration",
    "testing": "test",
}


def is_good_name(name: str) -> bool:
    """Says whether a folder of that name holds good units ("good", "OK", "pass", "good_0" ...)."""
    return _GOOD.fullmatch(name) is not None


def defect_of(name: str) -> str:
    """Returns the defect type that a folder name stands for; "bad" when it only says that units are bad."""
    return "bad" if _BAD.fullmatch(name) else name


def is_mask_name(name: str) -> bool:
    """Says whether a folder of that name holds masks."""
    return _MASKS.fullmatch(name) is not None


def split_of(name: str) -> str | None:
    """Returns the split that a folder or manifest value names, or None when it names none."""
    return _SPLIT_NAMES.get(name.strip().lower())


def folders_in(path: Path) -> list[Path]:
    """Returns the visible folders right inside `path`, sorted by name; none when it cannot be listed."""
    try:
        return sorted(p for p in path.iterdir() if not p.name.startswith(".") and p.is_dir())
    except OSError:
        return []


class Walker:
    """Finds images and remembers what it passed over.

    Attributes:
        skipped: How many files were passed over, by reason.
    """

    def __init__(self) -> None:
        self.skipped: Counter[str] = Counter()

    def images(self, folder: Path, *, deep: bool = True) -> Iterator[Path]:
        """Yields the image files in `folder` in sorted order, following links but never in circles.

        A TIFF file of several pages comes as one path a page, see `knowngood.data.pages`.

        Args:
            folder: Where to look.
            deep: Whether to look into nested folders.

        Raises:
            DataError: A folder may not be listed.
        """
        seen: set[str] = set()
        for here, folders, files in os.walk(folder, followlinks=True, onerror=_refuse):
            real = os.path.realpath(here)
            folders[:] = [] if real in seen or not deep else sorted(f for f in folders if not f.startswith("."))
            if real in seen:
                continue
            seen.add(real)
            for file in sorted(files):
                if self._wanted(file):
                    yield from self._pages(Path(here, file))

    def _pages(self, file: Path) -> list[Path]:
        pages, remark = pages_of(file)
        if remark is not None:
            self.skipped[remark] += 1
        return pages

    def _wanted(self, file: str) -> bool:
        suffix = os.path.splitext(file)[1].lower()
        if file.startswith(".") or file.lower() in ("thumbs.db", "desktop.ini"):
            self.skipped["hidden or system files"] += 1
        elif suffix not in SUFFIXES:
            self.skipped["files that are no images"] += 1
        elif not _is_text(file):
            self.skipped["files whose names are not valid UTF-8 (rename them to use them)"] += 1
        else:
            return True
        return False

    def notes(self) -> tuple[str, ...]:
        """Returns one sentence on what was passed over, or nothing."""
        if not self.skipped:
            return ()
        parts = [f"{count} {reason}" for reason, count in self.skipped.items()]
        return (f"Passed over: {', '.join(parts)}.",)


def relative_name(path: Path, root: Path) -> str:
    """Returns the name of an image within its set: the path below the root with "/" between the parts."""
    return path.relative_to(root).as_posix()


def no_images(path: Path, layout: str) -> DataError:
    """Returns the error for a layout that is there but holds no image."""
    return DataError(
        f"{str(path)!r} has the {layout} layout but holds no images.",
        expected="files ending in " + ", ".join(sorted(SUFFIXES)),
        fix="Copy the photographs into those folders.",
    )


def _refuse(error: OSError) -> None:
    raise DataError(
        f"The folder {error.filename!r} cannot be listed: {error.strerror}.",
        fix="Give yourself permission to read it (chmod u+rx).",
    )


def _is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True

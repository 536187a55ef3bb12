"""Data sources: each file here reads one layout into records; one line registers another."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from knowngood.data.words import LabelNames
from knowngood.errors import DataError
from knowngood.registry import Registry

if TYPE_CHECKING:
    import polars as pl

    from knowngood.data.records import FolderFact, PassedOver


def _nothing() -> PassedOver:
    from knowngood.data.records import PassedOver  # with polars: too heavy for a wrong path to wait for

    return PassedOver()


@dataclass(frozen=True)
class Listing:
    """What a source found, before any file was opened.

    Attributes:
        frame: Table of `knowngood.data.records.table`; sha256, width, height, mode, error still null.
        licence: Terms that the user must be shown, or None.
        notes: Sentences about the set that its reader should know.
        root: Where the set really lies, when that is not the path that was asked for.
        folders: What each folder, or each value of the label column, was taken for.
        passed_over: Files that were not taken as photographs, by reason.
    """

    frame: pl.DataFrame
    licence: str | None = None
    notes: tuple[str, ...] = ()
    root: Path | None = None
    folders: tuple[FolderFact, ...] = ()
    passed_over: PassedOver = field(default_factory=_nothing)


class Source(Protocol):
    """One layout of a data set on disk. Implementations are plain classes without arguments."""

    summary: str  # one line for `knowngood check --help` and the docs

    def recognises(self, path: Path) -> bool:
        """Returns whether this layout is at `path`, by names alone and within milliseconds."""
        ...

    def read(self, path: Path) -> Listing:
        """Lists the images at `path`; it opens only those that could be masks by their names.

        Raises:
            DataError: The layout is there but cannot be used.
        """
        ...


@runtime_checkable
class TakesNames(Protocol):
    """A source whose labels come from names, so that --good and --bad can say what a name means.

    Attributes:
        names: What --good and --bad say; empty by default.
    """

    names: LabelNames


# Asked in this order when no --source is given: the more particular layouts first.
SOURCES: Registry[type[Source]] = Registry(
    "data source",
    "knowngood.sources",
    {
        "elpv": "knowngood.data.sources.elpv:ElpvSource",
        "tape": "knowngood.lookalike.source:TapeSource",
        "manifest": "knowngood.data.sources.manifest:ManifestSource",
        "contest": "knowngood.data.sources.contest:ContestSource",
        "mvtec": "knowngood.data.sources.mvtec:MvtecSource",
        "cvat": "knowngood.data.sources.cvat:CvatSource",
        "coco": "knowngood.data.sources.coco:CocoSource",
        "label-studio": "knowngood.data.sources.label_studio:LabelStudioSource",
        "labelme": "knowngood.data.sources.labelme:LabelmeSource",
        "voc": "knowngood.data.sources.voc:VocSource",
        "yolo": "knowngood.data.sources.yolo:YoloSource",
        "folder": "knowngood.data.sources.folder:FolderSource",
    },
)


def check_data(data: str | Path, flag: str = "DATA") -> None:
    """Checks whether a data set is there, by its path or by the word that a source answers to, and opens nothing.

    Args:
        data: Folder, manifest file, or word.
        flag: That names it, for the message.

    Raises:
        DataError: It is not.
    """
    path = Path(data)
    with contextlib.suppress(OSError):  # a name that is too long, a link to itself: no such path
        if path.exists():
            return
    word = str(path).partition(":")[0]
    asked = [word] if word in SOURCES else SOURCES.added()
    if not any(SOURCES.get(name)().recognises(path) for name in asked):
        raise no_such(path, flag)


def no_such(path: Path, flag: str = "DATA") -> DataError:
    """Returns what to say of a data set that is not there."""
    near: list[str] = []
    with contextlib.suppress(OSError):
        near = get_close_matches(path.name, os.listdir(path.parent), 3, 0.7)
    try:
        here = f"you are in {os.getcwd()!r}"
    except OSError:
        here = "the folder that you are in is gone"
    meant = (
        f"did you mean {' or '.join(str(path.parent / name) for name in near)}? " if near else "Check the spelling; "
    )
    return DataError(
        f"There is no such path: {str(path)!r} ({flag}).",
        expected="a folder of images, a manifest file, or the name of a built-in set such as elpv",
        fix=f"{meant}{here[0].upper() + here[1:] if near else here}.",
    )

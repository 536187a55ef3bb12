"""Data sources: each file here reads one layout into records; one line registers another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import polars as pl

from knowngood.registry import Registry


@dataclass(frozen=True)
class Listing:
    """What a source found, before any file was opened.

    Attributes:
        frame: Table of `knowngood.data.records.table`; sha256, width, height, mode, error still null.
        licence: Terms that the user must be told of, or None.
        notes: Sentences about the set that its reader should know.
        root: Where the set really lies, when that is not the path that was asked for.
    """

    frame: pl.DataFrame
    licence: str | None = None
    notes: tuple[str, ...] = ()
    root: Path | None = None


class Source(Protocol):
    """One layout of a data set on disk. Implementations are plain classes without arguments."""

    summary: str  # one line for `knowngood check --help` and the docs

    def recognises(self, path: Path) -> bool:
        """Says whether this layout is at `path`, by names alone and within milliseconds."""
        ...

    def read(self, path: Path) -> Listing:
        """Lists the images at `path` without opening them.

        Raises:
            DataError: The layout is there but cannot be used.
        """
        ...


# Asked in this order when no --source is given: the more particular layouts first.
SOURCES: Registry[type[Source]] = Registry(
    "data source",
    "knowngood.sources",
    {
        "elpv": "knowngood.data.sources.elpv:ElpvSource",
        "tape": "knowngood.data.sources.tape:TapeSource",
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

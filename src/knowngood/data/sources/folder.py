"""The `folder` layout: `good/` beside any other folders, each of which is a defect type."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from knowngood.data.records import BAD, GOOD, table
from knowngood.data.sources import Listing
from knowngood.data.sources.masks import MaskIndex
from knowngood.data.sources.walking import (
    Walker,
    defect_of,
    folders_in,
    is_good_name,
    is_mask_name,
    no_images,
    relative_name,
    split_of,
)


@dataclass(frozen=True)
class _Found:
    file: Path
    kind: str | None  # name of the class folder; None where there is none
    within: str  # path below the class folder
    split: str | None


class FolderSource:
    """Reads `[train|val|test/]<good|defect>/...` with optional `masks/` beside the class folders."""

    summary = "good/ beside folders of bad images, each named after its defect; optional train|val|test, masks/"

    def recognises(self, path: Path) -> bool:
        """Says whether a good folder lies in `path` or in one of its split folders."""
        inside = folders_in(path)
        return any(is_good_name(p.name) for p in inside) or any(
            is_good_name(child.name) for p in inside if split_of(p.name) for child in folders_in(p)
        )

    def read(self, path: Path) -> Listing:
        """Lists the images; a folder right below a split or the root is a class.

        Raises:
            DataError: There is no good folder, or there are no images at all.
        """
        walker = Walker()
        rows: list[dict[str, object]] = []
        parts = [p for p in folders_in(path) if split_of(p.name)]
        rows += self._part(path, path, None, walker)
        for part in parts:
            rows += self._part(path, part, split_of(part.name), walker)
        if not rows:
            raise no_images(path, "folder")
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        return Listing(table(columns), notes=(*walker.notes(), *self._left_out(path)))

    def _part(self, root: Path, part: Path, split: str | None, walker: Walker) -> list[dict[str, object]]:
        inside = [p for p in folders_in(part) if part != root or not split_of(p.name)]
        classes = [p for p in inside if not is_mask_name(p.name)]
        found = [
            _Found(file, folder.name, relative_name(file, folder), split)
            for folder in classes
            for file in walker.images(folder)
        ]
        if split is not None:  # pictures straight below test/ are there to be scored: no label
            found += [_Found(file, None, file.name, split) for file in walker.images(part, deep=False)]
        masks = [MaskIndex(folder, Walker().images(folder)) for folder in inside if is_mask_name(folder.name)]
        for index in masks:
            for each in found:
                if each.kind is not None and not is_good_name(each.kind):
                    index.expect(each.within)
        return [_row(root, each, masks) for each in found]

    def _left_out(self, root: Path) -> tuple[str, ...]:
        count = sum(1 for _ in Walker().images(root, deep=False))
        if not count:
            return ()
        return (f"{count} images lie beside the class folders and were left out: no folder says what they are.",)


def _row(root: Path, found: _Found, masks: list[MaskIndex]) -> dict[str, object]:
    good = found.kind is not None and is_good_name(found.kind)
    bad = found.kind is not None and not good
    mask = next((m for i in masks if (m := i.find(found.kind or "", found.within))), None) if bad else None
    return {
        "image": relative_name(found.file, root),
        "path": str(found.file.absolute()),
        "label": GOOD if good else BAD if bad else None,
        "defect": defect_of(found.kind) if bad and found.kind is not None else None,
        "split": found.split,
        "mask": mask,
    }

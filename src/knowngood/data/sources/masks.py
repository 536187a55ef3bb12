"""Finding the mask that belongs to a bad image: the same file stem, with or without "_mask"."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from knowngood.data.pages import split_page


class MaskIndex:
    """Looks masks up by the path of their image below its class folder.

    Args:
        folder: The folder of masks.
        files: The image files in it.
    """

    def __init__(self, folder: Path, files: Iterable[Path]) -> None:
        self._by_key: dict[str, str] = {}
        self._asked: dict[str, int] = {}
        for file in files:
            self._by_key[_key(file.relative_to(folder).as_posix())] = str(file.absolute())

    def __len__(self) -> int:
        return len(self._by_key)

    def expect(self, within_class: str) -> None:
        """Counts one image that could use the mask of that bare name: an ambiguous one helps nobody."""
        key = _key(within_class)
        self._asked[key] = self._asked.get(key, 0) + 1

    def find(self, class_folder: str, within_class: str) -> str | None:
        """Returns the mask's absolute path: `<class>/<name>` first, then `<name>` if unambiguous."""
        exact = self._by_key.get(_key(f"{class_folder}/{within_class}"))
        if exact:
            return exact
        key = _key(within_class)
        return self._by_key.get(key) if self._asked.get(key, 0) <= 1 else None


def _key(name: str) -> str:
    file, page = split_page(name)
    path = PurePosixPath(file)
    key = (path.parent / path.stem.removesuffix("_mask")).as_posix()
    return key if page is None else f"{key}#page={page}"

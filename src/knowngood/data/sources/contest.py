"""The `contest` layout: `train/good_0`, `train/bad_1` and `test/all_tests` without labels, as on Kaggle."""

from __future__ import annotations

from pathlib import Path

from knowngood.data.records import BAD, GOOD, table
from knowngood.data.sources import Listing
from knowngood.data.sources.walking import Walker, no_images, relative_name


class ContestSource:
    """Reads the layout of the in-class contest that the study starts from."""

    summary = "train/good_0, train/bad_1 and unlabelled test/all_tests (the Kaggle contest)"

    def recognises(self, path: Path) -> bool:
        """Says whether both training folders are there."""
        return (path / "train" / "good_0").is_dir() and (path / "train" / "bad_1").is_dir()

    def read(self, path: Path) -> Listing:
        """Lists the labelled training images and the unlabelled test images.

        Raises:
            DataError: There are no images at all.
        """
        walker = Walker()
        places: list[tuple[Path, int | None, str]] = [
            (path / "train" / "good_0", GOOD, "train"),
            (path / "train" / "bad_1", BAD, "train"),
        ]
        test = path / "test" / "all_tests"
        if not test.is_dir():
            test = path / "test"
        if test.is_dir():
            places.append((test, None, "test"))
        rows = [
            (relative_name(file, path), str(file.absolute()), label, "bad" if label == BAD else None, split)
            for place, label, split in places
            for file in walker.images(place)
        ]
        if not rows:
            raise no_images(path, "contest")
        names = ("image", "path", "label", "defect", "split")
        columns: dict[str, list[object]] = {n: [row[i] for row in rows] for i, n in enumerate(names)}
        return Listing(table(columns), notes=walker.notes())

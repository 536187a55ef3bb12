"""The `contest` layout: `train/good_0`, `train/bad_1` and `test/all_tests` without labels, as on Kaggle."""

from __future__ import annotations

from pathlib import Path

from knowngood.data.records import BAD, GOOD, FolderFact, table
from knowngood.data.sources import Listing
from knowngood.data.sources.walking import Walker, folders_in, no_images, relative_name, text_of


class ContestSource:
    """Reads the layout of the in-class contest that the study starts from."""

    summary = "train/good_0, train/bad_1 and unlabelled test/all_tests (the Kaggle contest)"

    def recognises(self, path: Path) -> bool:
        """Returns whether both training folders are there."""
        return (path / "train" / "good_0").is_dir() and (path / "train" / "bad_1").is_dir()

    def read(self, path: Path) -> Listing:
        """Lists the labelled training images and the unlabelled test images.

        Raises:
            DataError: There are no images at all.
        """
        walker = Walker(path)
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
            (relative_name(file, path), text_of(file.absolute()), label, "bad" if label == BAD else None, split)
            for place, label, split in places
            for file in walker.images(place)
        ]
        if not rows:
            raise no_images(path, "contest", walker.passed_over)
        given = {place for place, _, _ in places}
        for folder in (p for part in (path, path / "train", path / "test") for p in folders_in(part)):
            within = given.intersection([folder, *folder.parents])
            if not within and folder not in (path / "train", path / "test"):
                others = list(walker.images(folder))
                if others:
                    reason = "photographs outside train/good_0, train/bad_1 and test, which the contest does not have"
                    walker.passed_over.add(reason, relative_name(others[0], path), len(others))
        facts = tuple(
            FolderFact(
                relative_name(place, path),
                "good" if label == GOOD else "bad: bad" if label == BAD else "unlabelled",
                sum(row[0].startswith(relative_name(place, path) + "/") for row in rows),
                0,
                "its name, in the layout of the contest",
            )
            for place, label, _ in places
        )
        names = ("image", "path", "label", "defect", "split")
        columns: dict[str, list[object]] = {n: [row[i] for row in rows] for i, n in enumerate(names)}
        notes = (*walker.notes(), *walker.passed_over.sentences())
        return Listing(table(columns), notes=notes, folders=facts, passed_over=walker.passed_over)

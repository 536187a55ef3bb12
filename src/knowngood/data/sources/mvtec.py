"""The `mvtec` layout of MVTec AD: good images to train on, defects in the test, masks in `ground_truth`."""

from __future__ import annotations

from pathlib import Path

from knowngood.data.records import BAD, GOOD, table
from knowngood.data.sources import Listing
from knowngood.data.sources.masks import MaskIndex
from knowngood.data.sources.walking import Walker, defect_of, folders_in, no_images, relative_name


class MvtecSource:
    """Reads `train/good`, `test/<defect>` and `ground_truth/<defect>/*_mask.png`."""

    summary = "train/good, test/<defect>, ground_truth/<defect>/*_mask.png (MVTec AD)"

    def recognises(self, path: Path) -> bool:
        """Says whether training is good only and the test holds defects beside `good`."""
        train, test = folders_in(path / "train"), folders_in(path / "test")
        has_defects = any(p.name != "good" for p in test)
        return [p.name for p in train] == ["good"] and has_defects and (path / "ground_truth").is_dir()

    def read(self, path: Path) -> Listing:
        """Lists the images and gives every bad one its mask.

        Raises:
            DataError: There are no images at all.
        """
        walker = Walker()
        truth = path / "ground_truth"
        masks = MaskIndex(truth, Walker().images(truth) if truth.is_dir() else ())
        rows: list[tuple[object, ...]] = []
        for split in ("train", "test"):
            for folder in folders_in(path / split):
                good = folder.name == "good"
                for file in walker.images(folder):
                    within = relative_name(file, folder)
                    rows.append(
                        (
                            relative_name(file, path),
                            str(file.absolute()),
                            GOOD if good else BAD,
                            None if good else defect_of(folder.name),
                            split,
                            None if good else masks.find(folder.name, within),
                        )
                    )
        if not rows:
            raise no_images(path, "mvtec")
        names = ("image", "path", "label", "defect", "split", "mask")
        columns: dict[str, list[object]] = {n: [row[i] for row in rows] for i, n in enumerate(names)}
        return Listing(table(columns), notes=walker.notes())

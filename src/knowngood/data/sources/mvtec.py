"""The `mvtec` layout of MVTec AD: good images to train on, defects in the test, masks in `ground_truth`."""

from __future__ import annotations

from pathlib import Path

from knowngood.data.records import BAD, GOOD, FolderFact, table
from knowngood.data.sources import Listing
from knowngood.data.sources.masks import Wanted, match_masks
from knowngood.data.sources.walking import Walker, folders_in, no_images, relative_name, text_of
from knowngood.data.words import defect_of, is_good_name, meaning_of, split_of

_NAMED = "its name, in the layout of MVTec AD"


class MvtecSource:
    """Reads `train/good`, `test/<defect>`, `ground_truth/<defect>/*_mask.png`; and `validation/good` of MVTec LOCO."""

    summary = "train/good, test/<defect>, ground_truth/<defect>/*_mask.png (MVTec AD)"

    def recognises(self, path: Path) -> bool:
        """Returns whether training is good only, the test holds defects, and masks lie in a folder of their own."""
        parts = _parts(path)
        train, test = folders_in(parts.get("train", path / "train")), folders_in(parts.get("test", path / "test"))
        only_good = len(train) == 1 and _is_good(train[0])
        return only_good and any(not _is_good(p) for p in test) and _truth(path) is not None

    def read(self, path: Path) -> Listing:
        """Lists the images and gives every bad one its mask.

        Raises:
            DataError: There are no images at all.
        """
        walker = Walker(path)
        parts, truth = _parts(path), _truth(path)
        rows: list[dict[str, object]] = []
        images: list[Wanted] = []
        classes: list[tuple[Path, str, list[int]]] = []
        for split in ("train", "val", "test"):
            for folder in folders_in(parts[split]) if split in parts else ():
                good = _is_good(folder)
                own = []
                for file in walker.images(folder):
                    own.append(len(rows))
                    images.append(Wanted(file, not good))
                    rows.append(
                        {
                            "image": relative_name(file, path),
                            "path": text_of(file.absolute()),
                            "label": GOOD if good else BAD,
                            "defect": None if good else defect_of(text_of(folder.name)),
                            "split": split,
                        }
                    )
                label = "good" if good else f"bad: {defect_of(text_of(folder.name))}"
                classes.append((folder, label, own))
        masks = [] if truth is None else list(walker.images(truth))
        if not rows:
            raise no_images(path, "mvtec", walker.passed_over)
        matched = match_masks(path, images, masks)
        for file, reason in matched.left:
            walker.passed_over.add(reason, relative_name(file, path))
        _count_others(path, {*parts.values(), *([truth] if truth else [])}, walker)
        facts = [
            FolderFact(relative_name(folder, path), label, len(own), sum(row in matched.of for row in own), _NAMED)
            for folder, label, own in classes
        ]
        if truth is not None:
            facts.append(FolderFact(truth.name, "masks", 0, len(matched.of), _NAMED))
        found = [matched.of.get(row) for row in range(len(rows))]
        columns: dict[str, list[object]] = {name: [row[name] for row in rows] for name in rows[0]}
        columns["mask"] = [None if mask is None else text_of(mask.absolute()) for mask in found]
        return Listing(
            table(columns),
            notes=(*walker.notes(), *walker.passed_over.sentences()),
            folders=tuple(facts),
            passed_over=walker.passed_over,
        )


def _is_good(folder: Path) -> bool:
    return is_good_name(folder.name) and meaning_of(folder.name).sure


def _parts(path: Path) -> dict[str, Path]:
    """Returns the folders of the splits, whatever the case of their names."""
    return {split: p for p in reversed(folders_in(path)) if (split := split_of(p.name)) in ("train", "val", "test")}


def _truth(path: Path) -> Path | None:
    named = [p for p in folders_in(path) if meaning_of(p.name).kind == "masks" and meaning_of(p.name).sure]
    return min(named, key=lambda p: p.name != "ground_truth") if named else None


def _count_others(path: Path, known: set[Path], walker: Walker) -> None:
    """Counts the photographs that lie outside the layout."""
    loose = list(walker.images(path, deep=False))
    for part in sorted(known):
        loose += list(walker.images(part, deep=False)) if meaning_of(part.name).kind != "masks" else []
    for folder in folders_in(path):
        if folder not in known:
            loose += list(walker.images(folder))
    if loose:
        reason = "photographs outside train/, test/ and ground_truth/, which the layout of MVTec AD does not have"
        walker.passed_over.add(reason, relative_name(loose[0], path), len(loose))

"""The `folder` layout: a folder of good units beside folders of bad ones, each named after its defect."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from knowngood.data.records import BAD, GOOD, FolderFact, table
from knowngood.data.sources import Listing
from knowngood.data.sources.masks import OTHER_SIZE, Look, Wanted, look_at, marked_core, match_masks
from knowngood.data.sources.walking import Walker, folders_in, no_images, relative_name, text_of
from knowngood.data.words import (
    LabelNames,
    Meaning,
    defect_of,
    folded,
    is_container,
    meaning_of,
    split_of,
)
from knowngood.errors import DataError

Use: TypeAlias = Literal["good", "bad", "unlabelled", "masks", "passed over"]
_OURS = (  # files that only a run of ours holds
    "recipe.json", "recipe/recipe.json", "metrics.json", "explained.json", "audit.json", "compare.json", "judge.json",
    "study.json", "classical.json", "tape.json", "about.json", "records.parquet",
)  # fmt: skip
_SAMPLE = 24  # images of a folder that are opened to distinguish photographs from masks
_MOSTLY = 0.9
_BESIDE = "photographs beside the class folders: no folder says what they are"


@dataclass(frozen=True)
class _Folder:
    """One folder of the set, and what it is taken for."""

    path: Path
    name: str  # below the root
    split: str | None
    use: Use
    defect: str | None
    decided: str


@dataclass(frozen=True)
class _File:
    path: Path
    folder: int  # place in the list of folders


class FolderSource:
    """Reads `[train|val|test/]<good|defect>/...` with masks beside the photographs or in folders of their own."""

    summary = "good/ (or ok, pass ...; --good) beside folders of defects; optional train|val|test, masks/, unlabelled/"

    def __init__(self) -> None:
        self.names = LabelNames()

    def recognises(self, path: Path) -> bool:
        """Returns whether a folder of good units lies in `path`, or in a folder of a split or of images in it.

        A folder of bad units that --bad names will do: a set of bads alone can be evaluated.
        """
        return any(self._known(child) for part in _parts(path) for child in folders_in(part))

    def _known(self, folder: Path) -> bool:
        return self.names.label_of(folder.name) is not None or meaning_of(folder.name).kind == "good"

    def read(self, path: Path) -> Listing:
        """Lists the photographs; a folder right below the root or a split is a class.

        Files that could be masks by their names, and a few of folders that could hold masks, are opened.

        Raises:
            DataError: No folder of good units is recognised, what a folder holds is doubtful, --good or --bad name
                no folder, or there are no images at all.
        """
        reading = _Reading(path, self.names)
        folders = reading.folders()
        unused = self.names.unused()
        if unused:
            raise _no_such_name(path, unused, folders)
        if not any(one.use == "good" for one in folders) and not _bads_alone(folders):
            raise no_good_folder(path)
        listing = reading.listing(folders)
        if not len(listing.frame):
            raise no_images(path, "folder", listing.passed_over)
        return listing


class _Reading:
    """One pass over a set."""

    def __init__(self, root: Path, names: LabelNames) -> None:
        self.root, self.names = root, names
        self.walker = Walker(root)
        self.doubts: list[tuple[str, str]] = []  # name and why
        self.like_splits: list[str] = []
        self._looks: dict[Path, Look] = {}

    def folders(self) -> list[_Folder]:
        """Returns all folders with what they are taken for.

        Raises:
            DataError: That is doubtful for some of them.
        """
        found = [one for part in _parts(self.root) for one in self._within(part)]
        if self.doubts:
            raise self._doubtful()
        return found

    def _within(self, part: Path) -> Iterator[_Folder]:
        split = next((s for name in reversed(part.relative_to(self.root).parts) if (s := split_of(name))), None)
        inner = _parts(self.root)
        for folder in folders_in(part):
            if folder in inner and not self.names.label_of(folder.name, self._name(folder)):
                continue
            one = self._judged(folder, split)
            if one is not None:
                yield one

    def _judged(self, folder: Path, split: str | None) -> _Folder | None:
        name = self._name(folder)
        given = _Folder(folder, name, split, "bad", None, "")
        label = self.names.label_of(folder.name, name)
        if label is not None:
            defect = defect_of(text_of(folder.name)) if label == "bad" else None
            return replace(given, use=label, defect=defect, decided=f"--{label}")
        if any((folder / file).is_file() for file in _OURS):
            return replace(given, use="passed over", decided="results of knowngood")
        meaning = meaning_of(folder.name)
        decided = "its name" if meaning.sure else f"guessed: {meaning.why}"
        if meaning.kind == "good":
            return replace(given, use="good", decided=decided)
        inside = [p.name for p in folders_in(folder) if meaning_of(p.name).kind == "good" and meaning_of(p.name).sure]
        if inside and meaning.kind is None:
            self.doubts.append((name, f"it holds {inside[0]}/ as a split would, and is named after no split"))
            self.like_splits.append(name)
            return None
        if meaning.kind == "doubtful":
            self.doubts.append((name, meaning.why))
            return None
        if meaning.kind == "bad":
            return replace(given, defect=defect_of(text_of(folder.name)), decided=decided)
        if meaning.kind == "unlabelled":
            return replace(given, use="unlabelled", decided=decided)
        if meaning.kind == "results":
            return replace(given, use="passed over", decided=decided + ", which results have")
        if meaning.kind == "masks":
            return self._perhaps_masks(given, meaning, decided)
        return replace(given, defect=text_of(folder.name), decided="its name, taken for a defect type")

    def _perhaps_masks(self, given: _Folder, meaning: Meaning, decided: str) -> _Folder | None:
        """Decides on a folder with a word for masks in its name; what is in it decides where the name does not."""
        masks = replace(given, use="masks", decided=decided)
        if meaning.generic:
            return masks
        images = list(Walker(self.root).images(given.path))
        if not images or self._mostly_masks(images):
            return masks
        if meaning.sure:
            self.doubts.append((given.name, f"{meaning.why} means masks, and its images look like photographs"))
            return None
        return replace(
            given,
            defect=text_of(given.path.name),
            decided=f"guessed: {meaning.why} means masks, but these are photographs",
        )

    def _mostly_masks(self, images: Sequence[Path]) -> bool:
        """Returns whether a folder's images look like masks, by a sample spread over them."""
        chosen = np.unique(np.linspace(0, len(images) - 1, min(_SAMPLE, len(images))).round().astype(int))
        return sum(self._look(images[place]).mask for place in chosen.tolist()) >= _MOSTLY * len(chosen)

    def _look(self, path: Path) -> Look:
        if path not in self._looks:
            self._looks[path] = look_at(path)
        return self._looks[path]

    def listing(self, folders: list[_Folder]) -> Listing:
        """Lists the photographs of all folders, gives them their masks and counts what is passed over."""
        folders = list(folders)
        files: list[_File] = []
        masks: list[_File] = []
        passed = self.walker.passed_over
        for number, one in enumerate(folders):
            if one.use == "passed over":
                results = list(Walker(self.root).images(one.path))
                if results:
                    passed.add("results, not photographs of parts", self._name(results[0]), len(results))
                continue
            found = [_File(path, number) for path in self.walker.images(one.path)]
            kept = masks if one.use == "masks" else files
            for file in found:
                (masks if self._in_mask_folder(file, one) else kept).append(file)
        self._loose(folders, files)
        files, beside, folders = self._masks_among(files, folders)
        masks += beside
        wanted = [Wanted(file.path, folders[file.folder].use != "good") for file in files]
        matched = match_masks(self.root, wanted, [file.path for file in masks])
        for path, reason in matched.left:
            passed.add(reason, self._name(path))
        rows = [
            _row(self.root, file, folders[file.folder], matched.of.get(number)) for number, file in enumerate(files)
        ]
        columns: dict[str, list[object]] = {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
        facts = self._facts(folders, files, masks, matched.of)
        notes = (
            *self.walker.notes(),
            *_guesses(facts),
            *self._told_of(beside),
            *_nearly_mvtec(folders),
            *passed.sentences(),
        )
        return Listing(table(columns), notes=notes, folders=facts, passed_over=passed)

    def _in_mask_folder(self, file: _File, folder: _Folder) -> bool:
        """Returns whether a file of a class lies in a folder of masks inside it (chip/masks/1.png)."""
        for name in file.path.relative_to(folder.path).parts[:-1]:
            meaning = meaning_of(name)
            if meaning.kind == "masks" and meaning.sure:
                return True
        return False

    def _loose(self, folders: list[_Folder], files: list[_File]) -> None:
        """Takes photographs straight below a split as unlabelled; those straight below the root are passed over."""
        for part in _parts(self.root):
            here = list(self.walker.images(part, deep=False))
            name = self._name(part)
            split = split_of(part.name) if part != self.root else None
            if split is not None and here:
                folders.append(_Folder(part, f"{name}/*", split, "unlabelled", None, "no folder says what they are"))
                files += [_File(path, len(folders) - 1) for path in here]
            elif here:
                self.walker.passed_over.add(_BESIDE, self._name(here[0]), len(here))

    def _masks_among(
        self, files: list[_File], folders: list[_Folder]
    ) -> tuple[list[_File], list[_File], list[_Folder]]:
        """Parts photographs from masks that lie among them: beside their photograph, or in a folder like a class."""
        by_name: dict[str, list[_File]] = {}
        for file in files:
            by_name.setdefault(folded(file.path.stem), []).append(file)
        masks: dict[Path, _File] = {}
        for number in self._mask_classes(files, folders, by_name):
            folders = [
                replace(one, use="masks", defect=None, decided="guessed: its images look like masks of others")
                if place == number else one
                for place, one in enumerate(folders)
            ]  # fmt: skip
            masks.update((file.path, file) for file in files if file.folder == number)
        dropped: set[Path] = set()
        for file in files:
            if file.path in masks:
                continue
            core = marked_core(file.path.stem)
            partners = [] if core is None else by_name.get(folded(core), [])
            twins = [
                other
                for other in by_name[folded(file.path.stem)]
                if other.path != file.path and other.path.parent == file.path.parent
            ]
            if core is None and not twins:
                continue
            own = self._look(file.path)
            if not own.mask or (core is None and all(self._look(other.path).mask for other in twins)):
                continue
            sizes = {self._look(other.path).size for other in (*partners, *twins)}
            if sizes and own.size not in sizes:
                self.walker.passed_over.add(OTHER_SIZE, self._name(file.path))
                dropped.add(file.path)
            else:
                masks[file.path] = file
        kept = [file for file in files if file.path not in masks and file.path not in dropped]
        return kept, list(masks.values()), folders

    def _mask_classes(
        self, files: list[_File], folders: list[_Folder], by_name: dict[str, list[_File]]
    ) -> Iterator[int]:
        """Yields the folders of bad units whose images have the names of others and look like their masks."""
        for number, one in enumerate(folders):
            own = [file for file in files if file.folder == number] if one.use == "bad" else []
            shared = [f for f in own if any(o.folder != number for o in by_name[folded(f.path.stem)])]
            if not shared or len(shared) < _MOSTLY * len(own) or one.decided.startswith("--"):
                continue
            if not self._mostly_masks([file.path for file in shared]):
                continue
            others = [o for f in shared for o in by_name[folded(f.path.stem)] if o.folder != number]
            if not self._mostly_masks([file.path for file in others[:_SAMPLE]]):
                yield number

    def _facts(
        self, folders: list[_Folder], files: list[_File], masks: list[_File], of: dict[int, Path]
    ) -> tuple[FolderFact, ...]:
        used = set(of.values())
        facts = []
        for number, one in enumerate(folders):
            own = [row for row, file in enumerate(files) if file.folder == number]
            images = len(own)
            having = sum(row in of for row in own)
            if one.use == "masks":
                images, having = 0, sum(file.folder == number and file.path in used for file in masks)
            label = f"bad: {one.defect}" if one.use == "bad" else one.use
            facts.append(FolderFact(text_of(one.name), label, images, having, one.decided))
        return tuple(facts)

    def _told_of(self, beside: list[_File]) -> Iterator[str]:
        """Yields the sentence on masks that lay among the photographs."""
        if beside:
            yield (
                f"{len(beside)} of the images in class folders look like masks (few grey levels, a photograph's name) "
                f"and are taken as masks (such as {self._name(beside[0].path)})."
            )

    def _name(self, path: Path) -> str:
        return relative_name(path, self.root)

    def _doubtful(self) -> DataError:
        listed = "; ".join(f"{name!r} ({why})" for name, why in self.doubts)
        first = self.doubts[0][0]
        say = f"Say it with --good {first!r} or --bad {first!r}, or rename or move the folder."
        if first in self.like_splits:
            say = f"Rename {first!r} to train, val, calibration or test, or move it elsewhere."
        return DataError(
            f"It is doubtful what {len(self.doubts)} of the folders in {str(self.root)!r} hold: {listed}.",
            expected="names that say one thing: good, a defect, unlabelled, masks, or a split (train, val, test)",
            fix=say,
        )


def _row(root: Path, file: _File, folder: _Folder, mask: Path | None) -> dict[str, object]:
    return {
        "image": relative_name(file.path, root),
        "path": text_of(file.path.absolute()),
        "label": {"good": GOOD, "bad": BAD}.get(folder.use),
        "defect": folder.defect,
        "split": folder.split,
        "mask": None if mask is None else text_of(mask.absolute()),
    }


def _parts(root: Path) -> list[Path]:
    """Returns the folders whose own folders are classes: the root, splits, and folders such as images/."""
    parts = [root]
    for child in folders_in(root):
        if split_of(child.name):
            parts.append(child)
        elif is_container(child.name):
            parts += [child, *(p for p in folders_in(child) if split_of(p.name))]
    return parts


def _bads_alone(folders: Sequence[_Folder]) -> bool:
    """Returns whether --bad names folders and no other folder is a defect type by nothing but its unknown name."""
    bads = [one for one in folders if one.use == "bad"]
    surely = [one for one in bads if one.decided == "--bad" or meaning_of(one.path.name).kind == "bad"]
    return any(one.decided == "--bad" for one in bads) and len(surely) == len(bads)


def _guesses(facts: Sequence[FolderFact]) -> Iterator[str]:
    for fact in facts:
        if fact.guessed:
            reason = fact.decided.removeprefix("guessed: ")
            yield f"{fact.name}/ is taken as {fact.label}, which is guessed ({reason}); --good or --bad says otherwise."


def _nearly_mvtec(folders: Sequence[_Folder]) -> Iterator[str]:
    train = {one.use for one in folders if one.split == "train"}
    test = {one.use for one in folders if one.split == "test"}
    if train != {"good"} or "bad" not in test:
        return
    missing = [] if any(one.use == "masks" for one in folders) else ["ground_truth/ (so there are no masks)"]
    missing += [] if "good" in test else ["test/good/"]
    if missing:
        yield f"This is nearly the layout of MVTec AD; missing: {', '.join(missing)}."


def no_good_folder(path: Path) -> DataError:
    """Returns the error for a folder of folders none of which is recognised as that of good units."""
    seen = [(p.name, sum(1 for _ in Walker().images(p))) for p in folders_in(path)]
    listed = ", ".join(f"{name!r} ({count} images)" for name, count in seen[:12])
    unknown = [name for name, count in seen if count and meaning_of(name).kind is None and not split_of(name)]
    example = (unknown or [name for name, _ in seen] or ["NAME"])[0]
    return DataError(
        f"No folder of good units is recognised in {str(path)!r}; it holds the folders {listed or 'none'}.",
        expected="one named good (or ok, pass, normal, io ...) beside folders named after defects",
        fix=f"Name the folders of good units, for example --good {example!r}; all others are then defects.",
    )


def _no_such_name(path: Path, unused: Sequence[str], folders: Sequence[_Folder]) -> DataError:
    there = ", ".join(repr(text_of(one.name)) for one in folders) or "none"
    return DataError(
        f"No folder in {str(path)!r} is called {unused[0]!r}, as --good or --bad says.",
        expected=f"one of {there}",
        fix="Check the spelling.",
    )


def sets_below(path: Path, depth: int = 3) -> list[Path]:
    """Returns folders below `path` that this source would read, for a hint to somebody who gave one too high."""
    found: list[Path] = []
    for child in folders_in(path):
        if len(found) >= _SAMPLE:
            break
        if FolderSource().recognises(child):
            found.append(child)
        elif depth > 1:
            found += sets_below(child, depth - 1)
    return found

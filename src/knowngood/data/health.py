"""What is wrong with a data set before anything is trained on it; nothing is changed or deleted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from knowngood.data.duplicates import Ids, Thumbnails, exact_clusters, near_clusters, thumbnails
from knowngood.data.images import read_mask
from knowngood.data.loading import loaded
from knowngood.data.pages import file_of
from knowngood.data.pixels import depth_advice, depth_of_set
from knowngood.data.records import BAD, GOOD, Records
from knowngood.data.units import groups_of, kept_together, suspicion, with_units
from knowngood.errors import ImageError
from knowngood.wording import counted

Severity: TypeAlias = Literal["error", "warning", "info"]
_RANK = {"error": 0, "warning": 1, "info": 2}
_EXAMPLES = 5
_TINY_SIDE = 32  # pixels: nothing can be inspected in less
_FEW = 20  # images of a class below which figures mean little
_IMBALANCE = 20
_LARGE = 50_000_000  # bytes
_ANEW = "Divide anew with --resplit, or leave the copies out."
_FULL = 0.95  # share of a photograph above which a mask is rather one of what is sound
_MEANT = ("not read", "beside the class", "outside", "masks that", "another size")  # files that a person would miss


@dataclass(frozen=True)
class Finding:
    """One kind of trouble.

    Attributes:
        severity: "error" spoils a training, "warning" may, "info" is good to know.
        code: Short name that scripts can rely on ("duplicate-across-splits").
        message: One sentence with what it means and what to do.
        count: How many images (or whatever the message counts).
        examples: Names of a few images that show it.
    """

    severity: Severity
    code: str
    message: str
    count: int
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Health:
    """The findings on a data set, the worst first.

    Attributes:
        records: What was read.
        findings: Empty when nothing was found.
    """

    records: Records
    findings: tuple[Finding, ...]

    @property
    def spoils_training(self) -> bool:
        """Whether some finding would make a training impossible or its figures untrue."""
        return any(finding.severity == "error" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Returns everything as plain JSON types."""
        return {
            "source": self.records.source,
            "root": str(self.records.root),
            "licence": self.records.licence,
            "notes": list(self.records.notes),
            "folders": [asdict(fact) for fact in self.records.folders],
            **self.records.passed_over.to_dict(),
            "images": len(self.records),
            "counts": self.records.counts(),
            "repeated_parts": None if self.records.repeated is None else self.records.repeated.to_dict(),
            "spoils_training": self.spoils_training,
            "findings": [{**asdict(f), "examples": list(f.examples)} for f in self.findings],
        }


@dataclass(frozen=True)
class _Set:
    """A set with everything that the checks look at, computed once."""

    records: Records
    thumbs: Thumbnails
    exact: Ids
    near: Ids
    groups: Ids

    @property
    def frame(self) -> pl.DataFrame:
        return self.records.frame

    def names(self, rows: Sequence[int] | npt.NDArray[Any]) -> tuple[str, ...]:
        return tuple(self.frame["image"][int(row)] for row in rows[:_EXAMPLES])

    def finding(
        self, severity: Severity, code: str, message: str, rows: Sequence[int] | npt.NDArray[Any]
    ) -> list[Finding]:
        """Returns one finding on those rows, or none when there are no rows."""
        return [Finding(severity, code, message, len(rows), self.names(rows))] if len(rows) else []


def check(
    data: str | Path | Records,
    source: str | None = None,
    *,
    good: Sequence[str] = (),
    bad: Sequence[str] = (),
    unit_from: str | None = None,
) -> Health:
    """Looks for whatever could spoil a training, decoding every image once.

    Args:
        data: A path as for `load`, or records that were loaded.
        source: As for `load`.
        good: Names of folders, or values of a label column, that mean good.
        bad: The same for bad.
        unit_from: What says which photographs show the same part, see `knowngood.data.units.with_units`.

    Returns:
        The findings, errors first.

    Raises:
        DataError: The data set cannot be read at all.
    """
    records = loaded(data, source, good=good, bad=bad, unit_from=unit_from)
    thumbs = thumbnails(records, detail=True)
    records = replace(with_units(records, unit_from, thumbs=thumbs), notes=records.notes)  # they are findings here
    a_set = _Set(records, thumbs, exact_clusters(records), near_clusters(records, thumbs=thumbs), groups_of(records))
    findings = [finding for one in CHECKS for finding in one(a_set)]
    return Health(records, tuple(sorted(findings, key=lambda f: _RANK[f.severity])))


def falsifying(records: Records, groups: Ids) -> tuple[Finding, ...]:
    """Returns those findings that make a figure untrue, without decoding an image again.

    Args:
        records: (N rows) as they came, with the splits that the source gave.
        groups: int64 (N,), what shows one part or belongs to one lot, from `groups_of`.
    """
    frame = records.frame
    readable = frame["error"].is_null().to_numpy()
    photographs = readable & ~frame["generated"].to_numpy()
    splits = [split if ok else None for split, ok in zip(frame["split"], photographs, strict=True)]
    exact, labels = exact_clusters(records), frame["label"].to_list()
    found: list[Finding] = []

    def add(severity: Severity, code: str, message: str, rows: Sequence[int]) -> None:
        if rows:
            names = tuple(frame["image"][row] for row in rows[:_EXAMPLES])
            found.append(Finding(severity, code, message, len(rows), names))

    equal = _divided(exact, splits)
    tested = [row for row in equal if splits[row] == "test"]
    whole = sum(split == "test" for split in splits)
    message = f"{_images(tested)} of the {whole} in the test split {_are(len(tested))} byte for byte in another split"
    if not tested:
        message = f"{_images(equal, 'is')} byte for byte in two of the splits that the data came with"
    add("error", "duplicates-across-splits", f"{message}: the figures are too good. {_ANEW}", equal)
    known = set(equal)
    parts = [row for row in _divided(groups, splits) if row not in known]
    tested = [row for row in parts if splits[row] == "test"]
    message = (
        f"{_images(parts, 'shows')} ({len(tested)} in the test) a part, or a lot, that is also in "
        f"another of the splits that the data came with: the figures are too good. {_ANEW}"
    )
    add("warning", "units-across-splits", message, parts)
    conflicting = _divided(exact, labels)
    message = f"{_images(conflicting)} with equal bytes but conflicting labels: one is wrong, and counts as a mistake."
    add("error", "exact-duplicates-conflicting-labels", message, conflicting)
    lost = [row for row in np.flatnonzero(~readable).tolist() if frame["split"][row] == "test"]
    message = f"{_images(lost)} of the test split cannot be read: the test figures are about the {whole} others."
    add("warning", "unreadable-test", message, lost)
    return tuple(found)


def _unreadable(a: _Set) -> list[Finding]:
    """Files that cannot be used, by reason; each costs one image, and all of them the training."""
    rows: dict[str, list[int]] = {
        "empty": [],
        "truncated": [],
        "damaged": [],
        "too-large": [],
        "missing": [],
        "unreadable": [],
    }
    for row, error in enumerate(a.thumbs.errors):
        if error:
            kinds = {"is empty": "empty", "runcated": "truncated", "damaged": "damaged", "large": "too-large"}
            kinds["no file"] = "missing"
            reason = error.replace(a.frame["path"][row], "")  # a name must not decide
            rows[next((kind for word, kind in kinds.items() if word in reason), "unreadable")].append(row)
    usable = len(a.records) - sum(map(len, rows.values()))
    severity: Severity = "warning" if usable else "error"
    found = []
    for code, which in rows.items():
        if which:
            first = a.thumbs.errors[which[0]]
            message = f"{_images(which)} cannot be used and {_are(len(which))} left out; the first: {first}"
            found += a.finding(severity, code, message, which)
    return found


def _folders(a: _Set) -> list[Finding]:
    """What was only guessed of the folders' names, and what of the files may have been meant to be in the set."""
    found = []
    guessed = [one for one in a.records.folders if one.guessed and one.label != "passed over"]
    if guessed:
        names = tuple(one.name for one in guessed[:_EXAMPLES])
        message = "What these folders or labels mean is guessed from their names; --good and --bad say it."
        found.append(Finding("info", "guessed-labels", message, len(guessed), names))
    for reason, count in a.records.passed_over.counts.items():
        if any(words in reason for words in _MEANT):
            names = tuple(a.records.passed_over.examples[reason])
            found.append(
                Finding(
                    "warning",
                    "passed-over",
                    f"{counted(count, 'file is', 'files are')} passed over: {reason}.",
                    count,
                    names,
                )
            )
    return found


def _sizes(a: _Set) -> list[Finding]:
    shapes = a.thumbs.shapes
    tiny = [i for i, s in enumerate(shapes) if s is not None and min(s[:2]) < _TINY_SIDE]
    large = [i for i, path in enumerate(a.frame["path"]) if shapes[i] and file_of(path).stat().st_size > _LARGE]
    kinds = Counter(s[:2] for s in shapes if s is not None)
    found = a.finding("warning", "tiny", f"{_images(tiny, 'has')} a side below {_TINY_SIDE} pixels.", tiny)
    found += a.finding(
        "warning", "large-file", f"{counted(len(large), 'file is', 'files are')} larger than 50 MB.", large
    )
    if len(kinds) > 1:
        (height, width), most = kinds.most_common(1)[0]
        others = [i for i, s in enumerate(shapes) if s is not None and s[:2] != (height, width)]
        message = (
            f"{len(kinds)} sizes: {counted(most, 'image is', 'images are')} {width} x {height}, "
            f"{len(others)} {_are(len(others))} not."
        )
        found += a.finding("info", "mixed-sizes", message, others)
    return found


def _modes(a: _Set) -> list[Finding]:
    modes = a.frame["mode"].to_list()
    odd = [i for i, mode in enumerate(modes) if mode not in (None, "L", "RGB")]
    shown = ", ".join(sorted({modes[i] for i in odd}))
    found = a.finding("info", "odd-modes", f"{_images(odd, 'is')} neither 8-bit grey nor RGB: {shown}.", odd)
    colour = [i for i, s in enumerate(a.thumbs.shapes) if s is not None and len(s) == 3]
    grey = [i for i, s in enumerate(a.thumbs.shapes) if s is not None and len(s) == 2]
    if colour and grey:
        fewer = min(colour, grey, key=len)
        message = f"{_images(grey, 'is')} grey and {len(colour)} in colour: a network may learn that difference."
        found += a.finding("warning", "mixed-colour", message, fewer)
    deep = [i for i, depth in enumerate(a.thumbs.depths) if depth is not None and depth > 8]
    bits = depth_of_set(a.thumbs.depths[i] for i in deep)  # of all: one dark picture says nothing
    if bits is not None and bits < 16:
        found += a.finding("warning", "dark-16-bit", f"{_images(deep)}: {depth_advice(bits)}", deep)
    return found


def _blank(a: _Set) -> list[Finding]:
    """Photographs that show nothing: they have a label all the same, and train with it."""
    rows = [i for i, why in enumerate(a.thumbs.blank) if why is not None]
    if not rows:
        return []
    message = (
        f"{_images(rows, 'shows')} nothing (the first: {a.thumbs.blank[rows[0]]}). "
        f"Leave {'it' if len(rows) == 1 else 'them'} out of the set, and look at camera and light."
    )
    return a.finding("warning", "blank", message, rows)


def _duplicates(a: _Set) -> list[Finding]:
    exact_rows = _repeated(a.exact)
    known = set(exact_rows)
    near_rows = [row for row in _repeated(a.near) if row not in known]
    found = a.finding("warning", "exact-duplicates", f"{_images(exact_rows)} with equal bytes.", exact_rows)
    message = (
        f"{counted(len(near_rows), 'image is nearly a copy', 'images are nearly copies')} of others "
        "(saved again, resized, or the same part)."
    )
    found += a.finding("info", "near-duplicates", message, near_rows)
    labels = a.frame["label"].to_list()
    equal = _divided(a.exact, labels)
    message = f"{_images(equal)} with equal bytes but conflicting labels: one of them is wrong."
    found += a.finding("error", "exact-duplicates-conflicting-labels", message, equal)
    known = set(equal)
    alike = [row for row in _divided(a.near, labels) if row not in known]
    message = (
        f"{counted(len(alike), 'image is a near copy', 'images are near copies')} with conflicting labels: "
        "look whether one of them is wrong."
    )
    return found + a.finding("warning", "near-duplicates-conflicting-labels", message, alike)


def _across_splits(a: _Set) -> list[Finding]:
    splits = a.frame["split"].to_list()
    rows = _divided(a.near, splits)
    message = (
        f"{_images(rows, 'has')} a copy or near copy in another split: the test figures would be too good. Divide anew."
    )
    exact = set(_divided(a.exact, splits))
    found = a.finding("error" if exact else "warning", "duplicates-across-splits", message, rows)
    found += a.finding("warning", "units-across-splits", *_across(a, [*rows]))
    lots = [None if lot is None else hash(lot) for lot in a.frame["lot"]]
    both = _divided(lots, splits)
    several = counted(len({lots[i] for i in both}), "lot is", "lots are")
    message = f"{several} in more than one split: the test figures would be too good."
    return found + a.finding("warning", "lots-across-splits", message, both)


def _across(a: _Set, known: list[int]) -> tuple[str, list[int]]:
    with_lot = a.frame["lot"].is_not_null().to_list()
    divided = _divided(a.groups, a.frame["split"].to_list())
    rows = [row for row in divided if row not in set(known) and not with_lot[row]]
    shown = _images(rows, "shows")
    return f"{shown} a part that is also in another split: the test figures would be too good.", rows


def _repeated_parts(a: _Set) -> list[Finding]:
    """Parts that were photographed several times: kept together, or only suspected."""
    repeated = a.records.repeated
    if repeated is None:
        return []
    found = []
    if sentence := kept_together(repeated):
        names = tuple(name for members in repeated.examples for name in members[:2])
        found.append(Finding("info", "repeated-parts", sentence, repeated.images, names[:_EXAMPLES]))
    if sentence := suspicion(repeated):
        names = tuple(name for members in repeated.suspected_examples for name in members[:2])
        found.append(
            Finding("warning", "repeated-parts-suspected", sentence, repeated.suspected_images, names[:_EXAMPLES])
        )
    return found


def _classes(a: _Set) -> list[Finding]:
    usable = a.records.usable()
    counts = usable.counts()
    good, bad = counts["good"], counts["bad"]
    found: list[Finding] = []
    if not good or not bad:
        if good:
            message = (
                f"There are no usable bad images ({good} good): train with --one-class; the escape rate stays unknown."
            )
            found.append(Finding("info", "one-class", message, good))
            if good < _FEW:
                message = (
                    f"Only {counted(good, 'good image')}: the figures will mean little, "
                    "and fewer than 3 cannot be divided."
                )
                found.append(Finding("warning" if good > 2 else "error", "few", message, good))
            return found
        message = f"There are no usable good images ({bad} bad); a classifier needs both."
        return [Finding("error", "one-class", message, bad)]
    if min(good, bad) < 4:
        message = f"{good} good and {bad} bad images cannot be divided; at least 4 of each are needed."
        return [Finding("error", "too-few", message, good + bad)]
    if min(good, bad) < _FEW:
        fewest = counted(min(good, bad), "image")
        message = f"Only {fewest} of a class ({good} good, {bad} bad): the figures will mean little."
        found.append(Finding("warning", "few", message, min(good, bad)))
    if max(good, bad) >= _IMBALANCE * min(good, bad):
        message = f"{good} good to {bad} bad images; the training balances them."
        found.append(Finding("info", "imbalance", message, min(good, bad)))
    kinds = Counter(d for d in usable.frame.filter(pl.col("label") == BAD)["defect"] if d is not None)
    small = {name: count for name, count in kinds.items() if count < _FEW}
    if small and len(kinds) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in sorted(small.items()))
        several = counted(len(small), "defect type has", "defect types have")
        message = f"{several} fewer than {_FEW} images: {listed}."
        found.append(Finding("info", "tiny-classes", message, len(small)))
    if counts["unlabelled"]:
        several = counted(counts["unlabelled"], "image has no label; it is", "images have no label; they are")
        message = f"{several} scored, and not used for training."
        found.append(Finding("info", "unlabelled", message, counts["unlabelled"]))
    return found


def _given_splits(a: _Set) -> list[Finding]:
    found = []
    usable = a.records.usable().labelled()
    there = usable.counts()
    for name in usable.frame["split"].drop_nulls().unique().sort():
        part = usable.of_split(name)
        counts = part.counts()
        for kind in ("good", "bad"):
            if not counts[kind] and there[kind]:
                severity: Severity = "error" if name == "train" and kind == "good" else "warning"
                message = f"The split {name} has no {kind} images; divide anew (--resplit) or add some."
                if kind == "bad":
                    message += " Or train with --one-class, which learns from good images alone."
                found.append(Finding(severity, "one-class-split", message, len(part)))
    return found


def _masks(a: _Set) -> list[Finding]:
    masks, labels = a.frame["mask"].to_list(), a.frame["label"].to_list()
    have = [i for i, mask in enumerate(masks) if mask is not None]
    if not have:
        return []
    without = [i for i, mask in enumerate(masks) if mask is None and labels[i] == BAD]
    found = a.finding(
        "info",
        "missing-masks",
        f"{counted(len(without), 'bad image has', 'bad images have')} no mask, others have.",
        without,
    )
    on_good = [i for i in have if labels[i] == GOOD]
    found += a.finding(
        "warning",
        "mask-on-good",
        f"{counted(len(on_good), 'good image has', 'good images have')} a defect mask.",
        on_good,
    )
    wrong: dict[str, list[int]] = {"unreadable-masks": [], "mask-size": [], "empty-masks": [], "full-masks": []}
    reasons: dict[str, str] = {}
    for row in have:
        shape = a.thumbs.shapes[row]
        if shape is None:
            continue
        try:
            marked = float(read_mask(masks[row], (shape[0], shape[1])).mean())
            kind = "empty-masks" if marked == 0 and labels[row] == BAD else "full-masks" if marked > _FULL else None
        except ImageError as error:
            kind = "mask-size" if "its photograph" in error.what else "unreadable-masks"
            reasons.setdefault(kind, error.what)
        if kind is not None:
            wrong[kind].append(row)
    phrases = {
        "unreadable-masks": "cannot be read; the first: ",
        "mask-size": "with another size than the image; the first: ",
        "empty-masks": "of bad images without a marked pixel.",
        "full-masks": f"with more than {_FULL:.0%} of the image marked: is the defect black?",
    }
    for kind, rows in wrong.items():
        found += a.finding(
            "warning", kind, f"{counted(len(rows), 'mask')} {phrases[kind]}{reasons.get(kind, '')}", rows
        )
    return found


def _images(rows: Sequence[int] | npt.NDArray[Any], verb: str = "") -> str:
    """Returns "1 image" or "3 images", with "is", "has" or "shows" in the right number."""
    several = {"": "", "is": " are", "has": " have", "shows": " show"}[verb]
    return counted(len(rows), f"image {verb}".strip(), f"images{several}")


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _repeated(ids: Ids) -> list[int]:
    return [int(row) for row in np.flatnonzero(np.bincount(ids)[ids] > 1)] if len(ids) else []


def _divided(ids: Ids | list[int | None], values: Sequence[object]) -> list[int]:
    """Returns the rows whose group holds more than one value, nulls aside."""
    seen: dict[object, set[object]] = {}
    for group, value in zip(ids, values, strict=True):
        if value is not None and group is not None:
            seen.setdefault(group, set()).add(value)
    return [
        row
        for row, (group, value) in enumerate(zip(ids, values, strict=True))
        if value is not None and group is not None and len(seen[group]) > 1
    ]


CHECKS: tuple[Callable[[_Set], list[Finding]], ...] = (
    _unreadable,
    _folders,
    _classes,
    _given_splits,
    _duplicates,
    _across_splits,
    _repeated_parts,
    _masks,
    _modes,
    _blank,
    _sizes,
)

"""Records: one validated table, a row an image, which is all that the floors above see of a data set."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from knowngood.errors import DataError

GOOD, BAD = 0, 1
SPLITS = ("train", "val", "calibration", "test")

SCHEMA: dict[str, pl.DataType] = {
    "image": pl.String(),  # unique name within the set: path below its root, "/" between parts
    "path": pl.String(),  # absolute path of the file
    "label": pl.UInt8(),  # 0 good, 1 bad; null where it is not known
    "defect": pl.String(),  # type of a bad unit; null for good ones
    "probability": pl.Float32(),  # annotators' probability that the unit is bad, where they gave one
    "split": pl.String(),  # one of SPLITS, or null before splitting
    "lot": pl.String(),
    "unit": pl.String(),  # the physical part that is shown; photographs of one unit are never divided
    "machine": pl.String(),
    "product": pl.String(),
    "mask": pl.String(),  # absolute path of the defect mask
    "box": pl.List(pl.List(pl.Float32())),  # defect boxes (x0, y0, x1, y1), pixels, half-open
    "generated": pl.Boolean(),  # made by an augmentation or a generator: never in val or test
    "made_from": pl.String(),  # the `image` that a generated one is a changed copy of: they stay on one side
    "also_from": pl.List(pl.String()),  # further images that a generated one shows parts of: it trains if all train
    "sha256": pl.String(),  # of the file's bytes; null when it cannot be read
    "width": pl.UInt32(),  # pixels, after EXIF rotation
    "height": pl.UInt32(),
    "mode": pl.String(),  # as in the file: "L", "RGB", "P", "I;16" ...
    "error": pl.String(),  # why the file cannot be used; null when it can
}


_EXAMPLES = 5  # names of passed-over files that are kept for each reason


@dataclass(frozen=True)
class FolderFact:
    """What a source made of one folder, or of one value of a label column.

    Attributes:
        name: The folder below the root, or the value as it stands in the table.
        label: "good", "bad: DEFECT", "unlabelled", "masks" or "passed over".
        images: Photographs that were taken from it.
        masks: Of these photographs, those that have a mask; in a folder of masks, the masks that fit one.
        decided: How the label was found: by the name, by a guess from a word in it, by --good or --bad.
    """

    name: str
    label: str
    images: int
    masks: int
    decided: str

    @property
    def guessed(self) -> bool:
        """Whether a person should look at the label."""
        return self.decided.startswith("guessed")


@dataclass
class PassedOver:
    """Files that were not taken as photographs: how many by reason, and a few names of each.

    Attributes:
        counts: Reason to number of files.
        examples: Reason to the first names.
    """

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.counts)

    def add(self, reason: str, name: str, count: int = 1) -> None:
        """Counts one file, or `count` of which `name` is the first."""
        self.counts[reason] = self.counts.get(reason, 0) + count
        shown = self.examples.setdefault(reason, [])
        if len(shown) < _EXAMPLES:
            shown.append(name)

    def update(self, other: PassedOver) -> None:
        """Adds what another has counted."""
        for reason, count in other.counts.items():
            self.counts[reason] = self.counts.get(reason, 0) + count
            shown = self.examples.setdefault(reason, [])
            shown += other.examples[reason][: _EXAMPLES - len(shown)]

    def sentences(self) -> list[str]:
        """Returns a sentence for each reason, with an example."""
        return [
            f"Passed over, {reason}: {count} (such as {self.examples[reason][0]})."
            for reason, count in self.counts.items()
        ]

    def to_dict(self) -> dict[str, dict[str, object]]:
        """Returns `passed_over` (reason to count) and `passed_over_examples` (reason to names) as JSON types."""
        return {
            "passed_over": dict(self.counts),
            "passed_over_examples": {k: list(v) for k, v in self.examples.items()},
        }


@dataclass(frozen=True)
class RepeatedParts:
    """What is known of photographs that show the same part; see `knowngood.data.units`.

    Attributes:
        status: "given" (a column or --unit-from names the units), "found" (the evidence is strong, so that they are
            kept together), "suspected" (weak evidence; nothing is kept together), "none", or "off".
        units: Units with two or more photographs that are kept together.
        images: Photographs of these units.
        evidence: "column", "regex", "names", "pixels" or "names, pixels"; empty where there are none.
        examples: Names of the photographs of a few of them.
        suspected_images: Photographs that may show a part which another photograph shows as well, and which are not
            kept together.
        suspected_examples: Names of the photographs of a few suspected units.
        flag: Option that keeps the suspected ones together; empty where there are none.
        suspected: Image to number of its suspected unit, for estimates; strong units are included.
    """

    status: Literal["given", "found", "suspected", "none", "off"] = "none"
    units: int = 0
    images: int = 0
    evidence: str = ""
    examples: tuple[tuple[str, ...], ...] = ()
    suspected_images: int = 0
    suspected_examples: tuple[tuple[str, ...], ...] = ()
    flag: str = ""
    suspected: dict[str, int] = field(default_factory=dict, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Returns everything but `suspected` as plain JSON types."""
        document = asdict(self)
        del document["suspected"]
        return document | {name: [list(e) for e in document[name]] for name in ("examples", "suspected_examples")}


@dataclass(frozen=True)
class Records:
    """A data set: the table, where it came from, and the terms under which it may be used.

    Attributes:
        frame: (N rows) with exactly the columns of `SCHEMA`.
        source: Name of the data source that read it.
        root: Folder or file that was read.
        licence: Terms that the user must be shown, or None.
        notes: Sentences that the reader of the set should know (for example how labels were made).
        repeated: What is known of photographs of the same part; None while nobody has looked.
        folders: What each folder, or each value of the label column, was taken for.
        passed_over: Files that were not taken as photographs, by reason.
    """

    frame: pl.DataFrame
    source: str
    root: Path
    licence: str | None = None
    notes: tuple[str, ...] = ()
    repeated: RepeatedParts | None = None
    folders: tuple[FolderFact, ...] = ()
    passed_over: PassedOver = field(default_factory=PassedOver)

    def __post_init__(self) -> None:
        validate(self.frame)

    def __len__(self) -> int:
        return self.frame.height

    def with_frame(self, frame: pl.DataFrame) -> Records:
        """Returns the same set with another table (filtered, split, relabelled)."""
        return replace(self, frame=table(frame))  # polars retypes an all-null list column on some operations

    def usable(self) -> Records:
        """Returns only the rows whose file can be read."""
        return self.with_frame(self.frame.filter(pl.col("error").is_null()))

    def labelled(self) -> Records:
        """Returns only the rows that have a label."""
        return self.with_frame(self.frame.filter(pl.col("label").is_not_null()))

    def of_split(self, *splits: str) -> Records:
        """Returns the rows of the named splits, in the table's order."""
        return self.with_frame(self.frame.filter(pl.col("split").is_in(list(splits))))

    def counts(self) -> dict[str, int]:
        """Returns how many rows are good, bad and unlabelled."""
        label = self.frame["label"]
        return {
            "good": int((label == GOOD).sum()),
            "bad": int((label == BAD).sum()),
            "unlabelled": int(label.null_count()),
        }


def table(columns: dict[str, list[object]] | pl.DataFrame) -> pl.DataFrame:
    """Returns a frame with exactly the columns of `SCHEMA`, missing ones filled with null.

    Raises:
        DataError: A column cannot be read as the type that `SCHEMA` gives it, or a text is no Unicode.
    """
    try:
        frame = columns if isinstance(columns, pl.DataFrame) else pl.DataFrame(columns, strict=False)
    except UnicodeEncodeError as error:
        raise DataError(
            f"A name holds {error.object[error.start : error.end]!a}, half of a character, which is no Unicode.",
            fix="Correct that name where the set is described.",
        ) from error
    height = frame.height
    parts = []
    for name, dtype in SCHEMA.items():
        if name in frame.columns:
            try:
                parts.append(frame[name].cast(dtype))
            except pl.exceptions.PolarsError as error:
                raise DataError(
                    f"Column {name!r} holds something that is not {dtype}: {error}",
                    fix="Correct that column of the manifest.",
                ) from error
        else:
            default = False if name == "generated" else None
            parts.append(pl.Series(name, [default] * height, dtype=dtype))
    return pl.DataFrame(parts).with_columns(pl.col("generated").fill_null(False))


def validate(frame: pl.DataFrame) -> None:
    """Checks the promises that everything above `data` relies on.

    Raises:
        DataError: Columns, label values, split names or uniqueness of `image` are off.
    """
    if dict(frame.schema) != SCHEMA:
        raise DataError(f"A records table has columns {list(frame.columns)}.", expected=", ".join(SCHEMA))
    if frame["image"].is_null().any() or frame["path"].is_null().any():
        raise DataError("A row of the records table names no image.", expected="image and path in every row")
    twice = frame.filter(pl.col("image").is_duplicated())["image"]
    if len(twice):
        raise DataError(
            f"The image {twice[0]!r} is listed {int((twice == twice[0]).sum())} times.",
            expected="one row an image",
            fix="Remove the repeated rows from the manifest.",
        )
    wrong = frame.filter(pl.col("label").is_not_null() & ~pl.col("label").is_in([GOOD, BAD]))
    if wrong.height:
        raise DataError(f"Label {wrong['label'][0]} of {wrong['image'][0]!r} is neither 0 nor 1.")
    stray = frame.filter(pl.col("split").is_not_null() & ~pl.col("split").is_in(SPLITS))
    if stray.height:
        raise DataError(
            f"Split {stray['split'][0]!r} of {stray['image'][0]!r} is not known.", expected=", ".join(SPLITS)
        )
    held_out = frame.filter(pl.col("generated") & (pl.col("split") != "train"))
    if held_out.height:
        raise DataError(
            f"The generated image {held_out['image'][0]!r} is in split {held_out['split'][0]!r}.",
            expected="generated images in train only",
        )


def source_rows(frame: pl.DataFrame) -> npt.NDArray[np.int64]:
    """Returns for each row (N,) the row that it is a generated copy of; -1 for photographs, and where that is gone."""
    place = {name: row for row, name in enumerate(frame["image"].to_list())}
    rows = [-1 if name is None else place.get(name, -1) for name in frame["made_from"].to_list()]
    return np.array(rows, np.int64)


def shows_held_out(frame: pl.DataFrame, splits: npt.NDArray[np.object_]) -> npt.NDArray[np.bool_]:
    """Returns which generated images (N,) show parts of an image that does not train, besides their source.

    Args:
        frame: With the columns of `SCHEMA`.
        splits: (N,) the split that each row gets, or None.
    """
    if frame["also_from"].null_count() == frame.height:
        return np.zeros(frame.height, bool)
    held_out = {name for name, part in zip(frame["image"].to_list(), splits, strict=True) if part != "train"}
    return np.array([bool(held_out.intersection(names or ())) for names in frame["also_from"].to_list()], bool)

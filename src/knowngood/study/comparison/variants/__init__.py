"""Variants of a training set: each file is one change, everything else stays; add one line to register another.

Joined with + they are made one after the other: "transforms+without-outliers". Only the training split and what is
done with it in training may change: every variant is measured on the same test images.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from knowngood.data.records import Records
from knowngood.registry import Registry


@dataclass(frozen=True)
class TrainingSet:
    """What a training is given.

    Attributes:
        records: Every split; a row an image.
        augment: Policy of the transforms on the fly.
        changes: One sentence for each change that was made.
    """

    records: Records
    augment: str = "none"
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class VariantOptions:
    """What the user chose that variants may need.

    Attributes:
        augment: Policy for transforms on the fly.
        generated: Folder or manifest of generated images.
        backbone: Pretrained network in whose features outliers are looked for.
        seed: Of everything drawn.
    """

    augment: str = "study"
    generated: Path | None = None
    backbone: str = "resnet50"
    seed: int = 0


class Variant(Protocol):
    """One change to a training set. Implementations are plain classes without arguments."""

    summary: str

    def check(self, options: VariantOptions) -> None:
        """Looks at the options before anything is read.

        Raises:
            KnownGoodError: Something is missing that `apply` will need.
        """
        ...

    def apply(self, given: TrainingSet, options: VariantOptions) -> TrainingSet:
        """Returns the changed set; rows of other splits than train stay as they are, new rows are marked generated."""
        ...


VARIANTS: Registry[type[Variant]] = Registry(
    "variant",
    "knowngood.variants",
    {
        "as-is": "knowngood.study.comparison.variants.as_is:AsIs",
        "transforms": "knowngood.study.comparison.variants.transforms:Transforms",
        "without-outliers": "knowngood.study.comparison.variants.without_outliers:WithoutOutliers",
        "generated": "knowngood.study.comparison.variants.generated:Generated",
        "transplant": "knowngood.study.comparison.variants.transplant:Transplant",
    },
)


def variant_named(name: str) -> tuple[Variant, ...]:
    """Returns the changes behind a name; "a+b" makes a, then b.

    Raises:
        UnknownNameError: No such variant; the nearest names are suggested.
    """
    return tuple(VARIANTS.get(part)() for part in name.split("+"))

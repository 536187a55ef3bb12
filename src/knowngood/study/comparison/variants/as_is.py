"""The training set as it is: every image as it was taken."""

from __future__ import annotations

from knowngood.study.comparison.variants import TrainingSet, VariantOptions


class AsIs:
    """Changes nothing."""

    summary = "the images as they are, without transforms"

    def check(self, options: VariantOptions) -> None:
        """Needs nothing."""

    def apply(self, given: TrainingSet, options: VariantOptions) -> TrainingSet:
        """Returns what was given."""
        return given

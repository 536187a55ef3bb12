"""The study's transforms, drawn anew for every image in every epoch."""

from __future__ import annotations

from dataclasses import replace

from knowngood.data.augmentations.policy import policy_named
from knowngood.study.comparison.variants import TrainingSet, VariantOptions


class Transforms:
    """Turns on transforms on the fly."""

    summary = "the study's transforms on the fly: small rotations, shifts, brightness, contrast, saturation"

    def check(self, options: VariantOptions) -> None:
        """Looks for the policy.

        Raises:
            UnknownNameError: There is no such policy.
        """
        policy_named(options.augment)

    def apply(self, given: TrainingSet, options: VariantOptions) -> TrainingSet:
        """Returns the same images with the policy."""
        change = f"transforms on the fly ({options.augment})"
        return replace(given, augment=options.augment, changes=(*given.changes, change))
